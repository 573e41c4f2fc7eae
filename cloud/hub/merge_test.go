package hub

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"plantmesh/cloud/store"
	"plantmesh/proto/mesh"
	"plantmesh/proto/wire"
)

// lines keeps what is logged.
type lines struct {
	slog.Handler

	mu   sync.Mutex // protects said
	said []string
}

func (*lines) Enabled(context.Context, slog.Level) bool { return true }

func (l *lines) Handle(_ context.Context, r slog.Record) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.said = append(l.said, r.Message)
	return nil
}

// count is how many lines begin so.
func (l *lines) count(begin string) (n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, s := range l.said {
		if strings.HasPrefix(s, begin) {
			n++
		}
	}
	return n
}

// talk is a hub with a keeper, to which a source says something now and then.
type talk struct {
	t   *testing.T
	k   *keeper
	log *lines
	dir string

	enc   *wire.Encoder
	acc   *mesh.Account
	at    mesh.Position
	end   mesh.Position
	table mesh.Descriptor
	now   mesh.Nanos
}

func newTalk(t *testing.T) *talk {
	t.Helper()
	p := &talk{t: t, log: &lines{Handler: slog.DiscardHandler}, dir: t.TempDir(), now: mesh.NanosOf(time.Date(2026, 3, 1, 6, 0, 0, 0, time.UTC))}
	h := &hub{cfg: testConfig(t), log: slog.New(p.log), now: func() mesh.Nanos { return p.now }}
	var err error
	h.store, err = store.Open(t.Context(), filepath.Join(p.dir, "hub.db"), slog.New(p.log))
	check(t, err)
	t.Cleanup(func() { check(t, h.store.Close()) })
	check(t, h.products())
	o, err := h.store.OpenLog(t.Context(), 0)
	check(t, err)
	p.end = o.End
	p.table, err = wire.DescribeSignals([]mesh.Signal{{ID: 1, Name: "line1.press.speed"}})
	check(t, err)
	p.enc, err = wire.NewEncoder()
	check(t, err)
	p.acc, p.at = &mesh.Account{Log: "agent/graz/gw-1"}, mesh.Position{Log: "agent/graz/gw-1", Epoch: mesh.Epoch{5}}
	check(t, p.acc.Open(p.at.Epoch, mesh.Opening{}))
	p.k = &keeper{hub: h}
	return p
}

// minute has the source say something of the next minute.
func (p *talk) minute() {
	p.t.Helper()
	p.now += mesh.Nanos(time.Minute)
	b := mesh.Batch{Source: "press", Table: p.table.Hash(), Samples: []mesh.Sample{{Signal: 1, Time: p.now, Value: mesh.Int(int64(p.at.Seq))}}}
	sealed, err := p.enc.Seal(&b)
	check(p.t, err)
	h, err := wire.ParseHeader(sealed)
	check(p.t, err)
	p.at.Seq++
	p.end, err = p.k.store.Take(p.t.Context(), mesh.Take{After: p.end, Entries: []mesh.Entry{{Of: p.at, Header: h, Sealed: sealed}}, Accounts: []*mesh.Account{p.acc}, Descriptors: []mesh.Descriptor{p.table}})
	check(p.t, err)
}

// The compactor runs once a compact_after: a pass a minute makes chunks that many
// signals share.
func TestKeeper_CompactsByTheHour(t *testing.T) {
	p := newTalk(t)
	for range 4 * 60 {
		p.minute()
		check(t, p.k.set.Flush(t.Context()))
		check(t, p.k.step(t.Context(), p.now))
	}
	if n := p.log.count("history compacted"); n != 3 {
		t.Errorf("%d passes in four hours", n)
	}
}

// A day that is over is merged once; what keeps it from being is told once, and
// tried again an hour later.
func TestKeeper_MergesADayThatIsOver(t *testing.T) {
	p := newTalk(t)
	for range 40 {
		p.minute()
		_, err := p.k.store.Compact(t.Context(), store.Pass{Through: p.end, Now: p.now})
		check(t, err)
	}
	const merged, failed = "a day of the history is merged", "a day of the history is not merged"
	check(t, p.k.step(t.Context(), p.now))
	if n := p.log.count(merged); n != 0 {
		t.Error("a day is merged that is not over")
	}
	p.now = mesh.NanosOf(time.Date(2026, 3, 2, 3, 0, 0, 0, time.UTC))
	beside := filepath.Join(p.dir, "history", "2026-03-01.db.merging")
	check(t, os.MkdirAll(filepath.Join(beside, "full"), 0o700))
	for i, want := range []struct {
		after          time.Duration
		failed, merged int
	}{{0, 1, 0}, {time.Minute, 1, 0}, {2 * time.Hour, 1, 0}, {2*time.Hour + time.Minute, 1, 0}, {4 * time.Hour, 1, 1}, {5 * time.Hour, 1, 1}} {
		if i == 3 {
			check(t, os.RemoveAll(beside))
		}
		check(t, p.k.step(t.Context(), p.now.Add(want.after)))
		if f, m := p.log.count(failed), p.log.count(merged); f != want.failed || m != want.merged {
			t.Errorf("%s: %d told, %d merged: %v", fmt.Sprint(want.after), f, m, p.log.said)
		}
	}
	if err := p.k.well(t.Context()); err != nil {
		t.Error(err)
	}
}
