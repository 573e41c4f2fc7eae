package runner

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	"plantmesh/proto/mesh"
)

// dropAll is a hub whose first hours were made into rows, compacted, and
// dropped up to an instant; out holds the rows.
func dropAll(t *testing.T, seed uint64, after time.Duration) (hub *fakeLog, out *fakeOut, records []mesh.Record) {
	t.Helper()
	hub, out = newFakeLog(), newFakeOut()
	hub.dropped = 0
	hub.site(testSite)
	records = script(t, hub, seed, 12)
	for _, r := range records {
		hub.arrive(r, nil)
	}
	flushed(t, hub, out)
	hub.compacted, hub.dropped = len(hub.entries), start().Add(after)
	return hub, out, records
}

func flushKept(t *testing.T, hub *fakeLog, out *fakeOut) {
	t.Helper()
	now := mesh.Nanos(1)
	s, err := NewSet(Config{Kept: func(context.Context) (mesh.Nanos, error) { return hub.dropped, nil }}, hub, out, testClock(&now))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	for p, why := range s.Suspended() {
		t.Fatalf("product %s is suspended: %s", p, why)
	}
}

// told are the rows of products that fold samples, as text by key.
func (o *fakeOut) told(keep func(mesh.Row) bool) map[string]string {
	out := map[string]string{}
	for _, p := range []string{"equipment-state", "production-rate", "oee"} {
		for _, r := range o.rows[p] {
			if r.State != mesh.RowWithdrawn && keep(r) {
				out[p+" "+r.Entity+" "+r.Key] = fmt.Sprintf("%v %d %d %d %s", r.State, r.Revision, r.From, r.To, r.Body)
			}
		}
	}
	return out
}

func TestKept_RowsFromBeforeStand(t *testing.T) {
	for seed := range uint64(3) {
		hub, out, _ := dropAll(t, seed, 6*time.Hour)
		all := out.told(func(mesh.Row) bool { return true })

		// Late data of a dropped hour change nothing there.
		var seq uint64 = 1 << 20
		f := newFeeder(t, hub, "agent/test/gw", &seq, signalNames())
		late := start().Add(2 * time.Hour)
		hub.arrive(f.batch("s1", mesh.Span{}, 0, []mesh.Sample{{Signal: f.ids["l1.filler.state"], Time: late, Value: mesh.Int(11)}, {Signal: f.ids["l1.filler.produced"], Time: late, Value: mesh.Int(1)}}), nil)
		flushKept(t, hub, out)
		if got := out.told(func(mesh.Row) bool { return true }); !maps.Equal(got, all) {
			t.Errorf("seed %d: late data of a dropped hour changed rows: %d of %d are the same", seed, same(got, all), len(all))
		}

		// A machine that is mapped anew begins where samples are kept, and leaves
		// what was before.
		before := func(r mesh.Row) bool { return r.From < hub.dropped && r.To != 0 }
		stood := out.told(before)
		hub.site(strings.Replace(testSite, "signals_prefix: l1.capper.}", "signals_prefix: l1.filler.}", 1))
		hub.site(testSite)
		flushKept(t, hub, out)
		if got := out.told(before); !maps.Equal(got, stood) {
			t.Errorf("seed %d: a new mapping changed rows from before: %d of %d are the same", seed, same(got, stood), len(stood))
		}
		if n := len(out.told(func(r mesh.Row) bool { return r.Entity == "l1-capper" && r.From >= hub.dropped })); n == 0 {
			t.Errorf("seed %d: no rows behind", seed)
		}
		overlaps(t, out, seed)
	}
}

// A product that begins on what is left makes no rows of what is not.
func TestKept_ANewProductBeginsWhereSamplesAreKept(t *testing.T) {
	hub, was, _ := dropAll(t, 5, 6*time.Hour)
	out := newFakeOut()
	flushKept(t, hub, out)
	if n := len(out.told(func(r mesh.Row) bool { return r.From < hub.dropped })); n > 0 {
		t.Errorf("%d rows begin before what is kept", n)
	}
	// By the end every signal has spoken again.
	late := func(r mesh.Row) bool {
		return r.From >= hub.dropped.Add(5*time.Hour) && strings.HasPrefix(r.Key, "hour/")
	}
	got, want := out.told(late), was.told(late)
	if len(want) == 0 || len(got) != len(want) {
		t.Errorf("%d rows, want %d", len(got), len(want))
	}
	overlaps(t, out, 5)
}

func same(a, b map[string]string) (n int) {
	for k, v := range a {
		if b[k] == v {
			n++
		}
	}
	return n
}

// overlaps says which intervals of one equipment lie over each other.
func overlaps(t *testing.T, out *fakeOut, seed uint64) {
	t.Helper()
	for _, a := range out.rows["equipment-state"] {
		for _, b := range out.rows["equipment-state"] {
			if a.State == mesh.RowWithdrawn || b.State == mesh.RowWithdrawn || a.Entity != b.Entity || a.Key == b.Key {
				continue
			}
			if a.From <= b.From && (a.To == 0 || b.From < a.To) {
				t.Errorf("seed %d: %s: the interval from %s lies over that from %s", seed, a.Entity, a.From, b.From)
			}
		}
	}
}

// dropsLate is a hub whose retention drops hours just before they are read.
type dropsLate struct {
	*fakeLog

	drop mesh.Nanos
}

func (l *dropsLate) HistoryWithin(ctx context.Context, source string, span mesh.Span, most int64) ([]mesh.Entry, error) {
	l.dropped = max(l.dropped, l.drop)
	return l.fakeLog.HistoryWithin(ctx, source, span, most)
}

// flushDropped flushes while the first six hours go; products may begin anew.
func flushDropped(t *testing.T, hub *fakeLog, out *fakeOut) (drop mesh.Nanos) {
	t.Helper()
	now := mesh.Nanos(1)
	late := &dropsLate{hub, start().Add(6 * time.Hour)}
	s, err := NewSet(Config{Kept: func(context.Context) (mesh.Nanos, error) { return hub.dropped, nil }}, late, out, testClock(&now))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Flush(t.Context()); !errors.Is(err, errDropped) {
		t.Fatalf("history goes while it is read: %v", err)
	}
	if err := s.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	return late.drop
}

func TestRunner_HistoryThatGoesWhileItIsReadMakesNoRows(t *testing.T) {
	hub, was, _ := dropAll(t, 5, 0)
	hub.dropped = 0
	out := newFakeOut()
	drop := flushDropped(t, hub, out)
	gone := func(r mesh.Row) bool { return r.From < drop && r.To != 0 && r.To <= drop }
	want := was.told(gone)
	for k, v := range out.told(gone) {
		if want[k] != v {
			t.Errorf("a row of what is gone: %s %s, was %s", k, v, want[k])
		}
	}
}

func TestRunner_RowsStandWhereTheirDayGoesWhileLateDataAreFolded(t *testing.T) {
	hub, out, _ := dropAll(t, 5, 0)
	hub.dropped = 0
	was := out.told(func(mesh.Row) bool { return true })
	var seq uint64 = 1 << 20
	f := newFeeder(t, hub, "agent/test/gw", &seq, signalNames())
	at := start().Add(2 * time.Hour)
	hub.arrive(f.batch("s1", mesh.Span{}, 0, []mesh.Sample{{Signal: f.ids["l1.filler.state"], Time: at, Value: mesh.Int(11)}, {Signal: f.ids["l1.filler.produced"], Time: at, Value: mesh.Int(1)}}), nil)
	drop := flushDropped(t, hub, out)
	got := out.told(func(mesh.Row) bool { return true })
	for k, v := range was {
		if w, ok := got[k]; !ok {
			t.Errorf("a row is gone: %s %s", k, v)
		} else if w != v {
			t.Logf("changed: %s %s, was %s", k, w, v)
		}
	}
	if len(got) < len(was) || drop == 0 {
		t.Errorf("%d rows of %d stand", len(got), len(was))
	}
}

// Batches whose signal table can't be read are damaged, whether what was around
// them is compacted or not.
func TestKept_ATableThatCantBeRead(t *testing.T) {
	hub, _, _ := dropAll(t, 5, 0)
	hub.dropped = 0
	var seq uint64
	f := newFeeder(t, hub, "agent/test/other", &seq, signalNames()[:5])
	when := start().Add(3 * time.Hour)
	hub.arrive(f.batch("s1", mesh.Span{}, 0, []mesh.Sample{{Signal: 1, Time: when, Value: mesh.Int(11)}, {Signal: 3, Time: when.Add(time.Hour), Value: mesh.Int(1)}}), nil)
	hub.descriptors[f.table.Hash()] = mesh.Descriptor{Kind: mesh.DescribeSite, Content: []byte("x")}
	hub.compacted = len(hub.entries)
	if n := hub.compacted; hub.chunked(n-1) || !hub.chunked(n/2) {
		t.Fatal("either all is compacted or nothing")
	}
	all := func() map[string]string {
		out := newFakeOut()
		flushed(t, hub, out)
		rows := out.told(func(mesh.Row) bool { return true })
		for _, r := range out.rows["coverage"] {
			if r.State != mesh.RowWithdrawn {
				rows["coverage "+r.Entity+" "+r.Key] = string(r.Body)
			}
		}
		return rows
	}
	chunks := all()
	hub.compacted = 0
	batches := all()
	if !maps.Equal(chunks, batches) {
		t.Errorf("%d rows from batches, %d from chunks, %d the same", len(batches), len(chunks), same(batches, chunks))
	}
}
