package stream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"plantmesh/proto/mesh"
	"plantmesh/proto/subject"
)

// logs is an output log in memory with places.
type logs struct {
	epoch  mesh.Epoch
	rows   []mesh.Row
	places map[string]mesh.Position
	kept   uint64 // rows up to here were pruned
	ackErr error
}

func newLogs(n int) *logs {
	l := &logs{epoch: mesh.NewEpoch(), places: map[string]mesh.Position{}}
	l.add(n)
	return l
}

func (l *logs) add(n int) {
	for range n {
		i := len(l.rows) + 1
		l.rows = append(l.rows, mesh.Row{
			Product: "oee", Entity: "line1-filler", Key: strconv.Itoa(i), State: mesh.RowFinal, Revision: 1,
			At:   mesh.Position{Log: "out/oee/0", Epoch: l.epoch, Seq: uint64(i)},
			Body: fmt.Appendf(nil, `{"equipment":"line1-filler","n":%d}`, i),
		})
	}
}

// again is another revision of a row.
func (l *logs) again(n int, state mesh.RowState) {
	r := l.rows[n-1]
	r.At.Seq, r.Revision, r.State = uint64(len(l.rows)+1), r.Revision+1, state
	l.rows = append(l.rows, r)
}

func (l *logs) current() map[string]mesh.Row {
	current := map[string]mesh.Row{}
	for _, r := range l.rows {
		current[r.Key] = r
	}
	return current
}

func (l *logs) Out(_ context.Context, _ string, after mesh.Position, most int) ([]mesh.Row, error) {
	if !after.IsZero() && (after.Epoch != l.epoch || after.Seq < l.kept) {
		return nil, mesh.ErrGone
	}
	rest := l.rows[max(after.Seq, l.kept):]
	return rest[:min(most, len(rest))], nil
}

// Rows are current rows: of a key the newest revision.
func (l *logs) Rows(_ context.Context, q mesh.RowQuery) (out []mesh.Row, next string, err error) {
	current := l.current()
	for _, key := range slices.Sorted(maps.Keys(current)) {
		if key <= q.After || !q.Withdrawn && current[key].State == mesh.RowWithdrawn {
			continue
		}
		if len(out) == q.Limit {
			return out, out[len(out)-1].Key, nil
		}
		out = append(out, current[key])
	}
	return out, "", nil
}

func (l *logs) End(context.Context, string) (p mesh.Position, err error) {
	if n := len(l.rows); n > int(l.kept) {
		p = l.rows[n-1].At
	}
	return p, nil
}

func (l *logs) PortPlace(_ context.Context, port, product string) (mesh.Position, error) {
	return l.places[port+product], nil
}

func (l *logs) AckPort(_ context.Context, port, product string, was, at mesh.Position) error {
	if l.ackErr != nil {
		return l.ackErr
	}
	if l.places[port+product] != was {
		return mesh.ErrMoved
	}
	l.places[port+product] = at
	return nil
}

// pipe keeps what was published once per id, and fails on command.
type pipe struct {
	ids      []string
	keys     []string // of the rows, beside ids
	subjects []string
	calls    int
	failAt   int  // this call fails; 0: none
	happened bool // and the message was stored all the same
}

func (p *pipe) Publish(_ context.Context, messages []Message) (int, error) {
	for i, m := range messages {
		p.calls++
		fails := p.calls == p.failAt
		if (!fails || p.happened) && !slices.Contains(p.ids, m.ID) {
			if !json.Valid(m.Data) {
				return i, errors.New("the row is no JSON")
			}
			var row struct{ N int }
			if err := json.Unmarshal(m.Data, &row); err != nil {
				return i, err
			}
			p.ids, p.subjects, p.keys = append(p.ids, m.ID), append(p.subjects, m.Subject), append(p.keys, strconv.Itoa(row.N))
		}
		if fails {
			return i, errors.New("no answer")
		}
	}
	return len(messages), nil
}

func config() Config {
	return Config{
		Domain: "production", Site: "graz", Products: []Product{{ID: "oee", Version: "1.2.0"}}, Batch: 4,
		LineOf: func(string) string { return "line1" },
	}
}

func drain(t *testing.T, s *Stream) {
	t.Helper()
	for range 20 {
		worked, err := s.Step(t.Context())
		if !worked && err == nil {
			return
		}
	}
	t.Fatal("the stream has no end")
}

func TestStream_PublishesEachRowOnceInOrder(t *testing.T) {
	for _, c := range []struct {
		name string
		set  func(*logs, *pipe)
	}{
		{"nothing fails", func(*logs, *pipe) {}},
		{"a publish fails", func(_ *logs, p *pipe) { p.failAt = 3 }},
		{"a publish fails but happened", func(_ *logs, p *pipe) { p.failAt, p.happened = 3, true }},
		{"the place can't be kept", func(l *logs, _ *pipe) { l.ackErr = errors.New("disk full") }},
	} {
		t.Run(c.name, func(t *testing.T) {
			l, p := newLogs(10), &pipe{}
			c.set(l, p)
			s := New(config(), l, l, p, slog.New(slog.DiscardHandler))
			if _, err := s.Step(t.Context()); err != nil {
				l.ackErr = nil
				s = New(config(), l, l, p, slog.New(slog.DiscardHandler)) // as after a crash
			}
			drain(t, s)
			if len(p.ids) != 10 || l.places["streamoee"].Seq != 10 {
				t.Fatalf("%d rows published, place %v", len(p.ids), l.places)
			}
			for i, id := range p.ids {
				if want := fmt.Sprintf("out/oee/0/%x/%d", l.epoch[:], i+1); id != want {
					t.Errorf("id %s, want %s", id, want)
				}
			}
			if p.subjects[0] != "dp.v1.production.oee.v1.graz.line1.line1-filler" {
				t.Errorf("subject %s", p.subjects[0])
			}
		})
	}
}

// TestStream_GonePlaceSendsEveryRowAsItIs: the port was away for so long that
// changes it has not read were pruned, or its place is of a branch that is gone.
// What changed in between goes out too, and nothing that is out of date after it.
func TestStream_GonePlaceSendsEveryRowAsItIs(t *testing.T) {
	for name, place := range map[string]mesh.Position{
		"off the log":    {Log: "out/oee/0", Epoch: mesh.NewEpoch(), Seq: 99},
		"no longer kept": {Log: "out/oee/0", Seq: 2},
	} {
		t.Run(name, func(t *testing.T) {
			l, p := newLogs(10), &pipe{}
			if place.Epoch.IsZero() {
				place.Epoch = l.epoch
			}
			l.places["streamoee"] = place
			l.again(3, mesh.RowFinal)     // row 3 has a second revision
			l.again(5, mesh.RowWithdrawn) // row 5 is withdrawn
			l.kept = 11
			s := New(config(), l, l, p, slog.New(slog.DiscardHandler))
			if _, err := s.Step(t.Context()); err != nil { // a first page
				t.Fatal(err)
			}
			l.again(1, mesh.RowFinal) // sent already
			l.add(1)
			p.failAt = p.calls + 2
			if _, err := s.Step(t.Context()); err == nil {
				t.Fatal("a publish that fails is no error")
			}
			drain(t, s)
			last := map[string]string{}
			for i, key := range p.keys {
				last[key] = p.ids[i]
			}
			if len(last) != 11 {
				t.Errorf("%d rows went out", len(last))
			}
			for key, r := range l.current() {
				if want := fmt.Sprintf("out/oee/0/%x/%d", l.epoch[:], r.At.Seq); last[key] != want {
					t.Errorf("the last that went out of row %s is %s, want %s", key, last[key], want)
				}
			}
			if l.places["streamoee"].Seq != uint64(len(l.rows)) {
				t.Errorf("the place is %v", l.places)
			}
		})
	}
}

// TestStream_APlaceThatWentBackWithItsHubIsGoneOnFrom: the hub was restored under
// a port that goes on running. Its place is of a branch that is gone, the one
// that is kept is not: from there on in order, so that no reader ends on an old
// revision.
func TestStream_APlaceThatWentBackWithItsHubIsGoneOnFrom(t *testing.T) {
	l, p := newLogs(6), &pipe{}
	s := New(config(), l, l, p, slog.New(slog.DiscardHandler))
	drain(t, s)
	before := len(p.ids)
	*l = *newLogs(3)
	l.again(1, mesh.RowFinal)
	drain(t, s)
	if len(p.ids) != before+4 || l.places["streamoee"].Seq != 4 {
		t.Fatalf("%d rows published, want 4; place %v", len(p.ids)-before, l.places)
	}
	for i, id := range p.ids[before:] {
		if want := fmt.Sprintf("out/oee/0/%x/%d", l.epoch[:], i+1); id != want {
			t.Errorf("published %s, want %s", id, want)
		}
	}
}

// TestStream_APausedOneGoesOnWhereAnotherIs: it can't put the place back.
func TestStream_APausedOneGoesOnWhereAnotherIs(t *testing.T) {
	l, p := newLogs(4), &pipe{}
	paused := New(config(), l, l, p, slog.New(slog.DiscardHandler))
	drain(t, paused)
	l.add(8)
	drain(t, New(config(), l, l, p, slog.New(slog.DiscardHandler)))
	at := l.places["streamoee"]
	l.add(1)
	if _, err := paused.Step(t.Context()); !errors.Is(err, mesh.ErrMoved) || l.places["streamoee"] != at {
		t.Errorf("%v; the place is %v", err, l.places)
	}
	drain(t, paused)
	if l.places["streamoee"].Seq != 13 || len(p.ids) != 13 {
		t.Errorf("the place is %v, %d rows went out", l.places, len(p.ids))
	}
}

// TestStream_ADeletedStreamIsMadeAnew: without a restart.
func TestStream_ADeletedStreamIsMadeAnew(t *testing.T) {
	js := realJetStream(t)
	l := newLogs(3)
	cfg := config()
	s := New(cfg, l, l, js, slog.New(slog.DiscardHandler))
	drain(t, s)
	if err := js.js.DeleteStream(t.Context(), subject.ProductStream); err != nil {
		t.Fatal(err)
	}
	l.add(2)
	if _, err := s.Step(t.Context()); err == nil {
		t.Error("a publish into no stream is no error")
	}
	drain(t, s)
	str, err := js.js.Stream(t.Context(), subject.ProductStream)
	if err != nil {
		t.Fatal(err)
	}
	if n := str.CachedInfo().State.Msgs; n != 2 || l.places["streamoee"].Seq != 5 {
		t.Errorf("%d messages in the stream, place %v", n, l.places)
	}
}

// realJetStream is a publisher to a server of its own.
func realJetStream(t *testing.T) *JetStream {
	t.Helper()
	srv, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: -1, JetStream: true, StoreDir: t.TempDir(), NoSigs: true, NoLog: true})
	if err != nil {
		t.Fatal(err)
	}
	go srv.Start()
	t.Cleanup(func() { srv.Shutdown(); srv.WaitForShutdown() })
	if !srv.ReadyForConnections(10 * time.Second) {
		t.Fatal("the server does not come up")
	}
	nc, err := nats.Connect(srv.ClientURL())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	js, err := Open(t.Context(), nc, 64<<20)
	if err != nil {
		t.Fatal(err)
	}
	return js
}

func TestStream_OverRealJetStream(t *testing.T) {
	js := realJetStream(t)
	l := newLogs(10)
	drain(t, New(config(), l, l, js, slog.New(slog.DiscardHandler)))
	delete(l.places, "streamoee") // as if the process had died before it kept the place
	l.add(2)
	drain(t, New(config(), l, l, js, slog.New(slog.DiscardHandler)))
	str, err := js.js.Stream(t.Context(), subject.ProductStream)
	if err != nil {
		t.Fatal(err)
	}
	if n := str.CachedInfo().State.Msgs; n != 12 {
		t.Errorf("%d messages in the stream, want 12", n)
	}
	msg, err := str.GetLastMsgForSubject(t.Context(), "dp.v1.production.oee.*.graz.line1.line1-filler")
	if err != nil {
		t.Fatal(err)
	}
	var row map[string]any
	if err := json.Unmarshal(msg.Data, &row); err != nil || row["n"] != 12.0 || row["is_final"] != true {
		t.Errorf("%v %s", err, msg.Data)
	}
}
