package ingest

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"plantmesh/proto/mesh"
	"plantmesh/proto/subject"
	"plantmesh/proto/wire"
)

// words is a log that can be read while it is written.
type words struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (w *words) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.buf.Write(b)
}

func (w *words) has(text string) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return strings.Count(w.buf.String(), text)
}

func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	late := time.After(patience)
	look := time.NewTicker(5 * time.Millisecond)
	defer look.Stop()
	for !ok() {
		select {
		case <-look.C:
		case <-late:
			t.Fatalf("waited in vain until %s", what)
		}
	}
}

// TestIngest_DriftIsSetRight: whatever somebody changes at the running stream is
// changed back, told once and counted; agents notice nothing.
func TestIngest_DriftIsSetRight(t *testing.T) {
	srv, st := startServer(t, t.TempDir()), newMemory()
	var log words
	h := runHubWith(t, st, connect(t, srv), quick(), slog.New(slog.NewTextHandler(&log, nil)))
	f := newField(t, srv, "gw-1")
	f.publish(subject.Live, append(wire.AppendDescriptor(nil, f.table), frames(f.open())...))
	f.awaitAll()
	want := h.g.wanted()
	for name, change := range map[string]func(*jetstream.StreamConfig){
		"discard":              func(c *jetstream.StreamConfig) { c.Discard = jetstream.DiscardOld },
		"max_age":              func(c *jetstream.StreamConfig) { c.MaxAge = time.Hour },
		"max_bytes":            func(c *jetstream.StreamConfig) { c.MaxBytes = 1 << 20 },
		"max_msgs":             func(c *jetstream.StreamConfig) { c.MaxMsgs = 7 },
		"max_msgs_per_subject": func(c *jetstream.StreamConfig) { c.MaxMsgsPerSubject = 1 },
		"max_msg_size":         func(c *jetstream.StreamConfig) { c.MaxMsgSize = 1 << 20 },
		"subjects":             func(c *jetstream.StreamConfig) { c.Subjects = []string{"ingest.v1.linz.>"} },
		"allow_rollup_hdrs":    func(c *jetstream.StreamConfig) { c.AllowRollup = true },
		"no_ack":               func(c *jetstream.StreamConfig) { c.NoAck = true },
		"retention":            func(c *jetstream.StreamConfig) { c.Retention = jetstream.InterestPolicy },
		"republish": func(c *jetstream.StreamConfig) {
			c.RePublish = &jetstream.RePublish{Source: ">", Destination: "copy.>"}
		},
		"subject_transform": func(c *jetstream.StreamConfig) {
			c.SubjectTransform = &jetstream.SubjectTransformConfig{Source: "ingest.v1.graz.>", Destination: "ingest.v1.linz.>"}
		},
	} {
		t.Run(name, func(t *testing.T) {
			s, err := f.js.Stream(t.Context(), subject.IngestStream)
			if err != nil {
				t.Fatal(err)
			}
			cfg, before, told := s.CachedInfo().Config, h.g.Stats().Drifted, log.has(name+" is")
			change(&cfg)
			if _, err := f.js.UpdateStream(t.Context(), cfg); err != nil {
				t.Fatal(err)
			}
			until(t, "it is set right", func() bool {
				info, err := s.Info(t.Context())
				if err != nil {
					return false
				}
				all, _ := drift(info.Config, want)
				return len(all) == 0
			})
			if n := h.g.Stats().Drifted - before; n != 1 || log.has(name+" is") != told+1 {
				t.Errorf("counted %d times, told %d times", n, log.has(name+" is")-told)
			}
			f.publish(subject.Live, frames(f.batch(1)))
			f.awaitAll()
		})
	}
	until(t, "there is no trouble", func() bool { return h.g.Trouble() == nil }) // a look between a message and its delivery finds some
	h.end()
}

// TestIngest_DriftThatCantBeSetRightIsRefused says in words what to do, while it
// runs and when it begins.
func TestIngest_DriftThatCantBeSetRightIsRefused(t *testing.T) {
	for name, change := range map[string]func(*jetstream.StreamConfig){
		"deny_purge":    func(c *jetstream.StreamConfig) { c.DenyPurge = true },
		"sealed":        func(c *jetstream.StreamConfig) { c.Sealed = true },
		"allow_msg_ttl": func(c *jetstream.StreamConfig) { c.AllowMsgTTL = true },
	} {
		t.Run(name, func(t *testing.T) {
			srv, st := startServer(t, t.TempDir()), newMemory()
			h := runHub(t, st, connect(t, srv))
			f := newField(t, srv, "gw-1")
			f.publish(subject.Live, append(wire.AppendDescriptor(nil, f.table), frames(f.open())...))
			f.awaitAll()
			s, err := f.js.Stream(t.Context(), subject.IngestStream)
			if err != nil {
				t.Fatal(err)
			}
			cfg := s.CachedInfo().Config
			change(&cfg)
			if _, err := f.js.UpdateStream(t.Context(), cfg); err != nil {
				t.Fatal(err)
			}
			refused := func() bool {
				err := h.g.Trouble()
				return errors.Is(err, errRefused) && strings.Contains(err.Error(), name+" is true, not false")
			}
			until(t, "it is refused", refused)
			h.end()
			h = runHub(t, st, connect(t, srv))
			until(t, "a hub that begins refuses it", refused)
			if h.g.Stats().Drifted == 0 {
				t.Error("it is not counted")
			}
			// As it says: the stream goes, the agents send again.
			if err := f.js.DeleteStream(t.Context(), subject.IngestStream); err != nil {
				t.Fatal(err)
			}
			f.publish(subject.Live, frames(f.batch(1)))
			f.awaitAll()
			until(t, "all is well", func() bool { return h.g.Trouble() == nil })
			h.end()
		})
	}
	made := New(quick(), newMemory(), slog.New(slog.DiscardHandler)).wanted()
	for name, change := range map[string]func(*jetstream.StreamConfig){
		"storage is Memory, not File":            func(c *jetstream.StreamConfig) { c.Storage = jetstream.MemoryStorage },
		"persist_mode is Async, not Default":     func(c *jetstream.StreamConfig) { c.PersistMode = jetstream.AsyncPersistMode },
		"mirror is true, not false":              func(c *jetstream.StreamConfig) { c.Mirror = &jetstream.StreamSource{} },
		"allow_msg_schedules is true, not false": func(c *jetstream.StreamConfig) { c.AllowMsgSchedules = true },
		"allow_msg_counter is true, not false":   func(c *jetstream.StreamConfig) { c.AllowMsgCounter = true },
	} {
		is := made
		change(&is)
		if all, fixed := drift(is, made); len(all) != 1 || len(fixed) != 1 || fixed[0] != name {
			t.Errorf("%s: %v, %v", name, all, fixed)
		}
	}
}

// TestIngest_DeletedStreamIsTold: what an operator did by mistake is told in
// words, counted, and costs nothing.
func TestIngest_DeletedStreamIsTold(t *testing.T) {
	srv, st := startServer(t, t.TempDir()), newMemory()
	var log words
	h := runHubWith(t, st, connect(t, srv), quick(), slog.New(slog.NewTextHandler(&log, nil)))
	f := newField(t, srv, "gw-1")
	f.publish(subject.Live, append(wire.AppendDescriptor(nil, f.table), frames(f.open(), f.batch(3))...))
	f.awaitAll()
	if h.g.Stats().Renewed != 0 {
		t.Error("a stream made for the first time is counted")
	}
	deleted := time.Now()
	if err := f.js.DeleteStream(t.Context(), subject.IngestStream); err != nil {
		t.Fatal(err)
	}
	until(t, "it is told", func() bool {
		return log.has("the ingest stream was deleted and made anew: agents send again what is not accounted") == 1
	})
	made, err := f.js.Stream(t.Context(), subject.IngestStream)
	if err != nil {
		t.Fatal(err)
	}
	if after := made.CachedInfo().Created.Sub(deleted); after < settle {
		t.Errorf("it was made anew %v after the old one went, whose files may not be away yet", after)
	}
	f.publish(subject.Live, frames(f.batch(2)))
	f.awaitAll()
	if s := h.g.Stats(); s.Renewed != 1 || s.Regressed != 0 {
		t.Errorf("stats %+v", s)
	}
	h.end()
}

// TestIngest_FullStreamPushesBack: the hub's log can't be written, agents go on
// until the stream is full, and hold then. Nothing in it goes; once the log takes
// records again all is as before, without anybody's help.
func TestIngest_FullStreamPushesBack(t *testing.T) {
	srv := startServer(t, t.TempDir())
	st := &paused{Store: newMemory()}
	cfg := quick()
	cfg.MaxBytes = 1 << 20
	var log words
	h := runHubWith(t, st, connect(t, srv), cfg, slog.New(slog.NewTextHandler(&log, nil)))
	f := newField(t, srv, "gw-1")
	f.publish(subject.Live, append(wire.AppendDescriptor(nil, f.table), frames(f.open())...))
	f.awaitAll()
	st.pause()
	var held mesh.Record
	for n := 0; ; n++ {
		if n > 100_000 {
			t.Fatal("the stream never runs full")
		}
		held = f.batch(200)
		_, err := f.js.Publish(t.Context(), subject.Ingest("graz", "gw-1", subject.Live), frames(held), jetstream.WithRetryAttempts(0))
		if Full(err) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	s, err := f.js.Stream(t.Context(), subject.IngestStream)
	if err != nil {
		t.Fatal(err)
	}
	// The first message was stored before: it may be purged as soon as it is not the last.
	if info := s.CachedInfo(); info.State.FirstSeq > 2 || info.State.NumDeleted > 0 {
		t.Errorf("a full stream dropped something: %+v", info.State)
	}
	// Well below the end already agents were told how full it is, and keep their
	// backlog back.
	until(t, "somebody is told", func() bool { return errors.Is(h.g.Trouble(), errFull) && log.has(errFull.Error()) == 1 })
	if share := h.g.share.Load(); share < 95 {
		t.Errorf("receipts say that %d %% are in use", share)
	}
	st.goOn()
	f.await(func(r mesh.Receipt) bool { return r.Have.Through.Seq == held.At.Seq-1 })
	until(t, "there is room again", func() bool { return h.g.Trouble() == nil })
	f.publish(subject.Live, frames(held))
	f.awaitAll()
	if s := h.g.Stats(); s.RanFull != 1 || s.Reopened != 1 {
		t.Errorf("stats %+v", s)
	}
	h.end()
	r := &rig{t: t, store: st.Store.(*memory)} //nolint:forcetypeassert // it was made so above
	r.want(f.records...)
}

// paused is a store that can be made to wait.
type paused struct {
	Store

	mu sync.RWMutex // held while it waits
}

func (p *paused) pause() { p.mu.Lock() }
func (p *paused) goOn()  { p.mu.Unlock() }

func (p *paused) Take(ctx context.Context, t mesh.Take) (mesh.Position, error) {
	p.mu.RLock()
	defer p.mu.RUnlock()
	return p.Store.Take(ctx, t)
}

// TestIngest_CanaryIsAccountedForAndLeavesNoTrace: a message of the hub's own
// moves the place like any other, and is no record of anybody.
func TestIngest_CanaryIsAccountedForAndLeavesNoTrace(t *testing.T) {
	srv, st := startServer(t, t.TempDir()), newMemory()
	h := runHub(t, st, connect(t, srv))
	f := newField(t, srv, "gw-1")
	f.publish(subject.Live, append(wire.AppendDescriptor(nil, f.table), frames(f.open(), f.batch(3))...))
	f.awaitAll()
	for _, said := range []string{"a", "b", "c"} {
		_, _, next := h.g.Canary()
		if _, err := f.js.Publish(t.Context(), subject.Canary, []byte(said)); err != nil {
			t.Fatal(err)
		}
		<-next
		if got, _, _ := h.g.Canary(); got != said {
			t.Errorf("it said %q, not %q", got, said)
		}
	}
	place, err := h.g.Place(t.Context())
	if err != nil || place.Seq != 4 || st.place != place {
		t.Errorf("the place is %+v, in the store %+v, %v", place, st.place, err)
	}
	s, err := f.js.Stream(t.Context(), subject.IngestStream)
	if err != nil {
		t.Fatal(err)
	}
	until(t, "all but the last is purged", func() bool {
		info, err := s.Info(t.Context(), jetstream.WithSubjectFilter(subject.Canary))
		return err == nil && info.State.Subjects[subject.Canary] == 1
	})
	f.publish(subject.Live, frames(f.batch(1)))
	f.awaitAll()
	h.end()
	if s := h.g.Stats(); s.Messages != 2 || s.Foreign != 0 || s.Damaged != 0 {
		t.Errorf("stats %+v", s)
	}
	r := &rig{t: t, store: st}
	r.want(f.records...)
}

// TestIngest_RenewReadsOnThroughAnotherSession: nothing is lost or doubled, and
// what was asked before a session began doesn't end it.
func TestIngest_RenewReadsOnThroughAnotherSession(t *testing.T) {
	srv, st := startServer(t, t.TempDir()), newMemory()
	var log words
	h := runHubWith(t, st, connect(t, srv), quick(), slog.New(slog.NewTextHandler(&log, nil)))
	f := newField(t, srv, "gw-1")
	f.publish(subject.Live, append(wire.AppendDescriptor(nil, f.table), frames(f.open())...))
	f.awaitAll()
	for n := range 3 {
		h.g.Renew()
		h.g.Renew()
		f.publish(subject.Live, frames(f.batch(1)))
		until(t, "another session reads", func() bool { return log.has("reading the ingest stream") == n+2 })
		f.publish(subject.Live, frames(f.batch(1)))
		f.awaitAll()
	}
	h.end()
	r := &rig{t: t, store: st}
	r.want(f.records...)
}
