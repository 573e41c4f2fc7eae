package stream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
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

func (l *logs) Out(_ context.Context, _ string, after mesh.Position, most int) ([]mesh.Row, error) {
	if !after.IsZero() && (after.Epoch != l.epoch || after.Seq < l.kept) {
		return nil, mesh.ErrGone
	}
	rest := l.rows[max(after.Seq, l.kept):]
	return rest[:min(most, len(rest))], nil
}

func (l *logs) PortPlace(_ context.Context, port, product string) (mesh.Position, error) {
	return l.places[port+product], nil
}

func (l *logs) AckPort(_ context.Context, port, product string, at mesh.Position) error {
	if l.ackErr != nil {
		return l.ackErr
	}
	l.places[port+product] = at
	return nil
}

// pipe keeps what was published once per id, and fails on command.
type pipe struct {
	ids      []string
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
			p.ids, p.subjects = append(p.ids, m.ID), append(p.subjects, m.Subject)
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
			s := New(config(), l, p, slog.New(slog.DiscardHandler))
			if _, err := s.Step(t.Context()); err != nil {
				l.ackErr = nil
				s = New(config(), l, p, slog.New(slog.DiscardHandler)) // as after a crash
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

func TestStream_PlaceGonePublishesWhatIsKept(t *testing.T) {
	l, p := newLogs(10), &pipe{}
	l.places["streamoee"] = mesh.Position{Log: "out/oee/0", Epoch: mesh.NewEpoch(), Seq: 99}
	l.kept = 6
	drain(t, New(config(), l, p, slog.New(slog.DiscardHandler)))
	if len(p.ids) != 4 {
		t.Errorf("%d rows published, want the 4 kept", len(p.ids))
	}
}

func TestStream_OverRealJetStream(t *testing.T) {
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
	l := newLogs(10)
	drain(t, New(config(), l, js, slog.New(slog.DiscardHandler)))
	delete(l.places, "streamoee") // as if the process had died before it kept the place
	l.add(2)
	drain(t, New(config(), l, js, slog.New(slog.DiscardHandler)))
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
