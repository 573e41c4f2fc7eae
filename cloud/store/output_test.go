package store

import (
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"reflect"
	"testing"

	"plantmesh/proto/mesh"
)

const product = "oee"

// rig is a product that commits one step after another.
type rig struct {
	t          testing.TB
	s          *Store
	end, place mesh.Position
	stale      []mesh.Stale // of the next step
}

func newRig(t *testing.T, s *Store) *rig {
	t.Helper()
	r := &rig{t: t, s: s}
	var err error
	if r.end, r.place, err = s.Resume(t.Context(), product, 0); err != nil {
		t.Fatal(err)
	}
	return r
}

func (r *rig) commit(rows []mesh.Row, states ...mesh.FoldState) {
	r.t.Helper()
	next := mesh.Position{Log: "hub/0", Epoch: mesh.Epoch{1}, Seq: r.place.Seq + 1}
	end, err := r.s.Commit(r.t.Context(), mesh.Step{
		Product: product, After: r.end, PlaceWas: r.place, Place: next, Rows: rows, Stale: r.stale, States: states,
		Progress: mesh.Nanos(next.Seq * 100), Watermark: mesh.Nanos(next.Seq * 10),
	})
	if err != nil {
		r.t.Fatal(err)
	}
	r.end, r.place, r.stale = end, next, nil
}

func row(entity, key string, from, to mesh.Nanos, state mesh.RowState, revision uint32) mesh.Row {
	return mesh.Row{Product: product, Entity: entity, Key: key, From: from, To: to, State: state, Revision: revision, Produced: 5, Body: fmt.Appendf(nil, `{"r":%d}`, revision)}
}

func (r *rig) rows(q mesh.RowQuery) []mesh.Row {
	r.t.Helper()
	q.Product = product
	rows, _, err := r.s.Rows(r.t.Context(), q)
	if err != nil {
		r.t.Fatal(err)
	}
	return rows
}

func TestStore_CommitThenResume(t *testing.T) {
	s := newStore(t)
	r := newRig(t, s)
	if !r.place.IsZero() || r.end.Seq != 1 || r.end.Log != "out/oee/0" {
		t.Fatalf("a new product resumes at %s, %s", r.end, r.place)
	}
	changed := s.ChangedOut()
	r.commit([]mesh.Row{row("m1", "a", 0, 10, mesh.RowProvisional, 1), row("m2", "a", 0, 0, mesh.RowFinal, 1)})
	<-changed
	if r.end.Seq != 3 {
		t.Fatalf("end %s", r.end)
	}
	p, w, place, err := s.Progress(t.Context(), product)
	if err != nil || p != 100 || w != 10 || place != r.place {
		t.Fatalf("progress %d %d %s %v", p, w, place, err)
	}
	if p, w, place, err = s.Progress(t.Context(), "nobody"); err != nil || p != 0 || w != 0 || !place.IsZero() {
		t.Fatalf("progress of nobody %d %d %s %v", p, w, place, err)
	}
	rows := r.rows(mesh.RowQuery{})
	want := row("m2", "a", 0, 0, mesh.RowFinal, 1)
	want.At = r.end
	if len(rows) != 2 || !reflect.DeepEqual(rows[1], want) {
		t.Fatalf("rows %+v, want %+v", rows, want)
	}
	old, again := *r, newRig(t, s)
	if again.place != old.place || again.end.Epoch == old.end.Epoch {
		t.Fatalf("resumed at %s, %s", again.end, again.place)
	}
	_, err = s.Commit(t.Context(), mesh.Step{Product: product, After: old.end, PlaceWas: old.place, Place: old.place})
	if !errors.Is(err, mesh.ErrMoved) {
		t.Fatalf("the first writer still writes: %v", err)
	}
	_, err = s.Commit(t.Context(), mesh.Step{Product: product, After: again.end, PlaceWas: mesh.Position{}, Place: old.place, Rows: rows})
	if !errors.Is(err, mesh.ErrMoved) {
		t.Fatalf("a step from another place: %v", err)
	}
	again.commit([]mesh.Row{row("m1", "a", 0, 10, mesh.RowFinal, 2)})
}

func TestStore_RevisionsAndWithdrawal(t *testing.T) {
	s := newStore(t)
	r := newRig(t, s)
	r.commit([]mesh.Row{row("m1", "a", 0, 10, mesh.RowFinal, 1), row("m1", "b", 10, 20, mesh.RowFinal, 1)})
	start := r.end
	r.commit([]mesh.Row{row("m1", "a", 0, 20, mesh.RowFinal, 2), row("m1", "b", 10, 20, mesh.RowWithdrawn, 2)})
	if rows := r.rows(mesh.RowQuery{}); len(rows) != 1 || rows[0].Revision != 2 || rows[0].To != 20 {
		t.Fatalf("rows %+v", rows)
	}
	if rows := r.rows(mesh.RowQuery{Withdrawn: true}); len(rows) != 2 || rows[1].State != mesh.RowWithdrawn {
		t.Fatalf("rows with withdrawn ones %+v", rows)
	}
	out, err := s.Out(t.Context(), product, start, 10)
	if err != nil || len(out) != 2 || out[1].State != mesh.RowWithdrawn || out[1].At != r.end {
		t.Fatalf("output %+v, %v", out, err)
	}
	all, err := s.Out(t.Context(), product, mesh.Position{}, 10)
	if err != nil || len(all) != 4 || all[0].Revision != 1 || string(all[0].Body) != `{"r":1}` {
		t.Fatalf("output %+v, %v", all, err)
	}
	n, err := s.Counts(t.Context(), product)
	if err != nil || n[mesh.RowFinal] != 1 || n[mesh.RowWithdrawn] != 1 {
		t.Fatalf("counts %v, %v", n, err)
	}
}

func TestStore_RowsByQuery(t *testing.T) {
	s := newStore(t)
	r := newRig(t, s)
	var all []mesh.Row
	for _, e := range []string{"m2", "m1", "m10"} {
		for i := range mesh.Nanos(4) {
			all = append(all, row(e, fmt.Sprintf("hour/%d", i), i*10, i*10+10, mesh.RowFinal, 1))
		}
		all = append(all, row(e, "day/0", 0, 40, mesh.RowProvisional, 1), row(e, "open", 40, 0, mesh.RowProvisional, 1), row(e, "point", 20, 20, mesh.RowFinal, 1))
	}
	r.commit(all)
	for name, c := range map[string]struct {
		q    mesh.RowQuery
		want int
	}{
		"all":                       {mesh.RowQuery{}, 21},
		"one entity":                {mesh.RowQuery{Entities: []string{"m1"}}, 7},
		"two, one twice":            {mesh.RowQuery{Entities: []string{"m2", "m1", "m2"}}, 14},
		"nobody":                    {mesh.RowQuery{Entities: []string{"m3"}}, 0},
		"hours":                     {mesh.RowQuery{Prefix: "hour/"}, 12},
		"hours that touch":          {mesh.RowQuery{Prefix: "hour/", Span: mesh.Span{From: 10, To: 21}}, 6},
		"what touches, with points": {mesh.RowQuery{Span: mesh.Span{From: 20, To: 30}}, 9},
		"an open row has no end":    {mesh.RowQuery{Span: mesh.Span{From: 1000, To: 2000}}, 3},
		"before all":                {mesh.RowQuery{Span: mesh.Span{From: -10, To: 0}}, 0},
	} {
		whole := r.rows(c.q)
		if len(whole) != c.want {
			t.Errorf("%s: %d rows, want %d", name, len(whole), c.want)
		}
		c.q.Product, c.q.Limit = product, 2
		var paged []mesh.Row
		for {
			page, next, err := s.Rows(t.Context(), c.q)
			if err != nil {
				t.Fatal(err)
			}
			paged = append(paged, page...)
			if c.q.After = next; next == "" {
				break
			}
		}
		if !reflect.DeepEqual(paged, whole) {
			t.Errorf("%s: pages give %d rows in another order than the whole", name, len(paged))
		}
	}
	if _, _, err := s.Rows(t.Context(), mesh.RowQuery{Product: product, After: "?"}); !errors.Is(err, ErrCursor) {
		t.Errorf("a made-up cursor: %v", err)
	}
	latest, err := s.Latest(t.Context(), mesh.RowQuery{Product: product, Prefix: "hour/"})
	if err != nil || len(latest) != 3 || latest[0].Entity != "m1" || latest[0].Key != "hour/3" {
		t.Errorf("latest %+v, %v", latest, err)
	}
	if latest, err = s.Latest(t.Context(), mesh.RowQuery{Product: product, Entities: []string{"m2"}}); err != nil || len(latest) != 1 || latest[0].Key != "open" {
		t.Errorf("latest of one %+v, %v", latest, err)
	}
}

func TestStore_StaleStatesGoAndNoOthers(t *testing.T) {
	s := newStore(t)
	r := newRig(t, s)
	f := func(key string, at mesh.Nanos, b string) mesh.FoldState {
		return mesh.FoldState{Key: key, At: at, Bytes: []byte(b)}
	}
	r.commit(nil, f("m1", 30, "c"), f("m1", 10, "a"), f("m1", 20, "b"), f("m2", 20, "x"))
	for at, want := range map[mesh.Nanos]string{9: "", 10: "a", 19: "a", 20: "b", 1000: "c"} {
		got, ok, err := s.State(t.Context(), product, "m1", at)
		if err != nil || ok != (want != "") || string(got.Bytes) != want {
			t.Errorf("state at %d: %+v %v %v", at, got, ok, err)
		}
	}
	r.stale = []mesh.Stale{{Key: "m1", At: mesh.Span{From: 11, To: 30}}}
	r.commit(nil, f("m1", 15, "B"))
	got, err := s.States(t.Context(), product, "m1", mesh.Span{From: 0, To: 100})
	if want := []mesh.FoldState{f("m1", 10, "a"), f("m1", 15, "B"), f("m1", 30, "c")}; err != nil || !reflect.DeepEqual(got, want) {
		t.Fatalf("states %+v, %v", got, err)
	}
	if other, ok, err := s.State(t.Context(), product, "m2", 20); err != nil || !ok || string(other.Bytes) != "x" {
		t.Fatalf("another key's state %+v %v %v", other, ok, err)
	}
}

func TestStore_OutputIsPruned(t *testing.T) {
	s := newStore(t)
	s.Keep(8)
	r := newRig(t, s)
	var places []mesh.Position
	for i := range uint32(25) {
		if i == 13 {
			r = newRig(t, s)
		}
		r.commit([]mesh.Row{row("m1", "a", 0, 10, mesh.RowFinal, i+1)})
		places = append(places, r.end)
	}
	out, err := s.Out(t.Context(), product, mesh.Position{}, 100)
	if err != nil || len(out) < 8 || len(out) > 10 || out[len(out)-1].Revision != 25 {
		t.Fatalf("%d kept, %v", len(out), err)
	}
	for i, p := range places {
		got, err := s.Out(t.Context(), product, p, 100)
		if left := 24 - i; left <= len(out) {
			if err != nil || len(got) != left {
				t.Errorf("behind %d: %d records, %v", i, len(got), err)
			}
		} else if !errors.Is(err, mesh.ErrGone) {
			t.Errorf("behind pruned %d: %v", i, err)
		}
	}
	if _, err := s.Out(t.Context(), product, mesh.Position{Log: "out/oee/0", Epoch: mesh.NewEpoch(), Seq: 1}, 1); !errors.Is(err, mesh.ErrGone) {
		t.Errorf("a place of nobody: %v", err)
	}
}

func TestStore_PortPlace(t *testing.T) {
	s := newStore(t)
	if p, err := s.PortPlace(t.Context(), "stream", product); err != nil || !p.IsZero() {
		t.Fatalf("place %s, %v", p, err)
	}
	was := mesh.Position{}
	for seq := range uint64(3) {
		want := mesh.Position{Log: "out/oee/0", Epoch: mesh.Epoch{7}, Seq: seq + 1}
		// One that was paused meanwhile starts from where another has gone on.
		for _, from := range []mesh.Position{{Log: "out/oee/0", Epoch: mesh.Epoch{8}, Seq: 1}, want} {
			if err := s.AckPort(t.Context(), "stream", product, from, want); !errors.Is(err, mesh.ErrMoved) {
				t.Errorf("from %s: %v", from, err)
			}
		}
		if err := s.AckPort(t.Context(), "stream", product, was, want); err != nil {
			t.Fatal(err)
		}
		was = want
		if p, err := s.PortPlace(t.Context(), "stream", product); err != nil || p != want {
			t.Fatalf("place %s, %v", p, err)
		}
	}
}

func BenchmarkStore_Commit100(b *testing.B) {
	s, err := Open(b.Context(), filepath.Join(b.TempDir(), "hub.db"), slog.New(slog.DiscardHandler))
	if err != nil {
		b.Fatal(err)
	}
	defer func() {
		if err := s.Close(); err != nil {
			b.Error(err)
		}
	}()
	r := &rig{t: b, s: s}
	if r.end, r.place, err = s.Resume(b.Context(), product, 0); err != nil {
		b.Fatal(err)
	}
	body := make([]byte, 600)
	for i := 0; b.Loop(); i++ {
		rows := make([]mesh.Row, 100)
		for k := range rows {
			rows[k] = row(fmt.Sprintf("m%d", k%12), fmt.Sprintf("hour/%d", i+k/12), mesh.Nanos(i+k/12), 0, mesh.RowFinal, 1)
			rows[k].Body = body
		}
		r.commit(rows, mesh.FoldState{Key: "m1", At: mesh.Nanos(i), Bytes: body})
	}
}
