package stream

import (
	"log/slog"
	"testing"

	"plantmesh/proto/mesh"
	"plantmesh/proto/subject"
)

// A stream in another account, of a port that has no place there: every row comes, also
// one whose last change nobody keeps any more, then changes in their order.
func TestStream_WholeBeginsWithEveryRow(t *testing.T) {
	l, p := newLogs(0), &pipe{}
	cfg := config()
	cfg.Whole = true
	s := New(cfg, l, l, p, slog.New(slog.DiscardHandler))
	drain(t, s)
	if len(l.places) > 0 {
		t.Errorf("there is nothing yet, and the place is %v", l.places)
	}
	l.add(10)
	l.again(3, mesh.RowFinal)
	l.kept = 9 // rows 1 to 9 were pruned, and 3 stands again
	s = New(cfg, l, l, p, slog.New(slog.DiscardHandler))
	if _, err := s.Step(t.Context()); err != nil { // a first page
		t.Fatal(err)
	}
	l.add(1)
	drain(t, New(cfg, l, l, p, slog.New(slog.DiscardHandler))) // the process ended between
	l.add(1)
	l.again(1, mesh.RowFinal)
	drain(t, New(cfg, l, l, p, slog.New(slog.DiscardHandler)))
	last := map[string]string{}
	for i, key := range p.keys {
		last[key] = p.ids[i]
	}
	for key, r := range l.current() {
		if want := idOf(r); last[key] != want {
			t.Errorf("the last that went out of row %s is %q, want %s", key, last[key], want)
		}
	}
	if l.places["streamoee"].Seq != uint64(len(l.rows)) {
		t.Errorf("the place is %v", l.places)
	}
}

func TestLeave(t *testing.T) {
	js := realJetStream(t)
	for _, want := range []bool{true, false} {
		if was, err := Leave(t.Context(), js.js.Conn()); err != nil || was != want {
			t.Errorf("deleted: %t, %v", was, err)
		}
	}
	if _, err := js.js.Stream(t.Context(), subject.ProductStream); err == nil {
		t.Error("it is still there")
	}
}
