package runner

import (
	"bytes"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"plantmesh/cloud/product"
	"plantmesh/proto/mesh"
)

// tight are bounds that a few hours go beyond.
func tight() bounds { return bounds{bytes: 1 << 10, events: 60, read: 150, made: 9} }

// Late data of any age, stops at any moment, compaction and bounds that cut every
// fold into pieces: the rows are those of one fold from the start that is never
// interrupted, to the bit.
func TestRunner_RestartsAndLateDataGiveTheRowsOfOneFold(t *testing.T) {
	unwatched(t)
	defs := definitions(t)
	rapid.Check(t, func(rt *rapid.T) {
		seed := rapid.Uint64Range(1, 1<<20).Draw(rt, "seed")
		hours := rapid.Float64Range(2, 14).Draw(rt, "hours")
		straight, other := newFakeLog(), newFakeLog()
		records := script(t, straight, seed, hours)
		straight.site(testSite)
		other.site(testSite)
		other.descriptors = straight.descriptors
		for _, r := range records {
			straight.arrive(r, nil)
		}
		want := newFakeOut()
		flushed(t, straight, want)

		rng := rand.New(rand.NewPCG(rapid.Uint64().Draw(rt, "road"), 3))
		late := rapid.IntRange(0, 30).Draw(rt, "late")
		var road, held []mesh.Record
		for _, r := range records {
			if late > 0 && rng.IntN(late) == 0 {
				held = append(held, r) // it comes at any time behind
			} else {
				road = append(road, r)
			}
		}
		for _, r := range held {
			at := rng.IntN(len(road) + 1)
			road = slices.Insert(road, at, r)
		}
		cfg := Config{Eager: rapid.Bool().Draw(rt, "eager")}
		if rapid.Bool().Draw(rt, "tight") {
			cfg.bounds = tight()
		}
		got, now := newFakeOut(), mesh.Nanos(1)
		restart, step := rapid.IntRange(1, 60).Draw(rt, "restart"), rapid.IntRange(1, 20).Draw(rt, "step")
		compacts := rapid.IntRange(0, 40).Draw(rt, "compacts")
		var set *Set
		for _, r := range road {
			other.arrive(r, nil)
			if compacts > 0 && rng.IntN(compacts) == 0 {
				other.compacted += rng.IntN(len(other.entries) - other.compacted + 1)
			}
			now += mesh.Nanos(rng.IntN(3)) * second
			if set == nil || rng.IntN(restart) == 0 {
				var err error
				if set, err = NewSetOf(defs, cfg, other, got, testClock(&now)); err != nil {
					rt.Fatal(err)
				}
			}
			if rng.IntN(step) == 0 {
				if _, err := set.Step(t.Context()); err != nil {
					rt.Fatal(err)
				}
			}
		}
		if err := set.Flush(t.Context()); err != nil {
			rt.Fatal(err)
		}
		for p, err := range set.Suspended() {
			rt.Fatalf("product %s is suspended: %v", p, err)
		}
		compare(rt, fmt.Sprintf("seed %d", seed), got, want)
		sameStates(rt, got, want)
	})
}

// sameStates: what is stored to fold again from is that of one fold too.
func sameStates(t interface {
	Errorf(string, ...any)
	Helper()
}, got, want *fakeOut,
) {
	t.Helper()
	for key, states := range want.states {
		if strings.Contains(key, "/@") {
			continue
		}
		order := func(x, y mesh.FoldState) int { return int(x.At - y.At) }
		slices.SortFunc(states, order)
		slices.SortFunc(got.states[key], order)
		if !slices.EqualFunc(states, got.states[key], func(x, y mesh.FoldState) bool { return x.At == y.At && bytes.Equal(x.Bytes, y.Bytes) }) {
			t.Errorf("%s: %d states, want %d", key, len(got.states[key]), len(states))
		}
	}
}

// A product that begins again reads what is behind the last edge, however long the
// history before is.
func TestRunner_ARestartReadsNoHistoryBeforeTheLastEdge(t *testing.T) {
	b := newBench(t, Config{Eager: true})
	for i := range 40 * 6 {
		at := time.Duration(i) * 10 * time.Minute
		b.hub.arrive(b.heard(at+10*time.Minute, b.sample(at, "state", mesh.Int(int64([]int{6, 11, 9, 2}[i%4]))), b.sample(at, "produced", mesh.Int(int64(100*i)))), nil)
		b.step()
	}
	n := len(b.out.log)
	b.open(Config{Eager: true})
	b.hub.asked, b.hub.most = nil, 0
	b.step()
	if len(b.hub.asked) == 0 {
		t.Fatal("nothing was read back")
	}
	for _, s := range b.hub.asked {
		if s.From < b.last.Add(-time.Hour) {
			t.Errorf("read %s back, %s after the last edge at most is needed", b.last.Sub(s.From), b.last.Sub(b.last-b.last%(3600*second)))
		}
	}
	if len(b.out.log) != n {
		t.Errorf("a restart wrote %d rows", len(b.out.log)-n)
	}
	// What was provisional is looked after, however old it is.
	b.hub.arrive(b.f.batch("s1", mesh.Span{}, 0, nil), nil)
	b.step()
}

// Late data are folded until they meet what stands, and no further.
func TestRunner_LateDataStopWhereTheyMeetWhatStands(t *testing.T) {
	for _, restarted := range []bool{false, true} {
		b := newBench(t, Config{Eager: true})
		for i := range 60 * 6 {
			at := time.Duration(i) * 10 * time.Minute
			b.hub.arrive(b.heard(at+10*time.Minute, b.sample(at, "state", mesh.Int(int64([]int{6, 11, 9, 2}[i%4]))), b.sample(at, "produced", mesh.Int(int64(100*i)))), nil)
			b.step()
		}
		if restarted {
			b.open(Config{Eager: true})
			b.step()
		}
		n := len(b.out.log)
		b.hub.asked = nil
		late := 5*time.Hour + 3*time.Minute
		b.hub.arrive(b.f.batch("s1", mesh.Span{}, 0, []mesh.Sample{b.sample(late, "state", mesh.Int(11)), b.sample(late, "produced", mesh.Int(3001))}), nil)
		b.step()
		for _, s := range b.hub.asked {
			if s.To > start().Add(late+3*time.Hour) && s.From < b.last.Add(-2*time.Hour) {
				t.Errorf("restarted %v: read %s to %s back for what came late at %s", restarted, s.From, s.To, start().Add(late))
			}
		}
		for _, r := range b.out.log[n:] {
			if r.From > start().Add(late) {
				t.Errorf("restarted %v: wrote %s %s again", restarted, r.Product, r.Key)
			}
		}
		if _, m := b.row("oee", "hour/"+at(late)[:14]+"00:00.000Z"); len(b.out.log) == n || m["produced_count"] == nil {
			t.Errorf("restarted %v: the hour of the late data is %v, %d rows written", restarted, m, len(b.out.log)-n)
		}
		other := newFakeOut()
		flushed(t, b.hub, other)
		compare(t, fmt.Sprintf("restarted %v", restarted), b.out, other)
		sameStates(t, b.out, other)
	}
}

// Rows that wait for the watermark when a hub stops become final after it, however
// far back they are.
func TestRunner_ProvisionalRowsOfBeforeARestartBecomeFinal(t *testing.T) {
	b := newBench(t, Config{Eager: true})
	b.hub.arrive(b.heard(10*time.Minute, b.sample(0, "state", mesh.Int(6))), nil)
	hole := b.heard(20 * time.Minute)
	for i := range 100 {
		at := time.Duration(i+1) * time.Hour
		b.hub.arrive(b.heard(at, b.sample(at-time.Minute, "state", mesh.Int(int64(6+5*(i%2))))), nil)
		b.step()
	}
	b.open(Config{Eager: true})
	b.step()
	b.hub.arrive(hole, nil)
	b.step()
	for _, p := range []string{"oee", "equipment-state"} {
		for key, r := range b.out.rows[p] {
			if r.State == mesh.RowProvisional && r.To != 0 && r.To < b.last.Add(-25*time.Hour) {
				t.Errorf("%s %s is not final", p, key)
			}
		}
	}
}

// A stamp of the far future, and one of long ago, in a log that is compacted: a
// product that begins anew reads it back in pieces all the same.
func TestRunner_OddStampsDontHaveAllHistoryReadAtOnce(t *testing.T) {
	unwatched(t)
	for name, odd := range map[string]mesh.Nanos{"2090": mesh.NanosOf(time.Date(2090, 1, 1, 0, 0, 0, 0, time.UTC)), "1971": mesh.NanosOf(time.Date(1971, 1, 1, 0, 0, 0, 0, time.UTC))} {
		b := newBench(t, Config{Eager: true})
		for i := range 30 * 24 {
			at := time.Duration(i) * 10 * time.Minute
			s := []mesh.Sample{b.sample(at, "state", mesh.Int(int64([]int{6, 11, 9, 2}[i%4]))), b.sample(at, "produced", mesh.Int(int64(100*i)))}
			if i == 10 {
				x := b.sample(0, "produced", mesh.Int(7))
				x.Time = odd
				b.hub.arrive(b.f.batch("s1", mesh.Span{}, 0, []mesh.Sample{x}), nil)
			}
			b.hub.arrive(b.heard(at+10*time.Minute, s...), nil)
		}
		want := newFakeOut()
		flushed(t, b.hub, want)
		b.hub.compacted = len(b.hub.entries)
		b.hub.asked, b.hub.most = nil, 0
		now := mesh.Nanos(1)
		got := newFakeOut()
		s, err := NewSet(Config{bounds: bounds{bytes: 4 << 10, events: 200, read: 400, made: 1 << 10}}, b.hub, got, testClock(&now))
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		compare(t, name, got, want)
		if b.hub.most > 200 {
			t.Errorf("%s: %d samples of %d were read at once", name, b.hub.most, 2*30*24)
		}
	}
}

// A stamp of the far future while the hub runs is not held for ever, and costs
// nothing at each commit.
func TestRunner_AFutureStampIsLetGo(t *testing.T) {
	b := newBench(t, Config{Eager: true})
	for i := range 200 {
		at := time.Duration(i) * 10 * time.Minute
		x := b.sample(at+1000*time.Hour, "produced", mesh.Int(int64(i)))
		b.hub.arrive(b.heard(at+10*time.Minute, x, b.sample(at, "state", mesh.Int(6+5*int64(i%2)))), nil)
		b.step()
	}
	for _, m := range b.set.members {
		for _, e := range m.entities {
			if n := len(e.held.events); n > 120 {
				t.Errorf("%s: %s holds %d events", m.def.ID, e.id, n)
			}
		}
	}
	if b.hub.histories > 3*60 {
		t.Errorf("history was read %d times in 200 steps", b.hub.histories)
	}
	other := newFakeOut()
	flushed(t, b.hub, other)
	compare(t, "future", b.out, other)
}

// States of another definition are not gone on from.
func TestRunner_AnotherDefinitionFoldsFromNothing(t *testing.T) {
	b := newBench(t, Config{Eager: true})
	b.producing()
	poisoned := 0
	for key, states := range b.out.states { // what was cached is of another arithmetic
		if !strings.Contains(key, "/@") {
			for i := range states {
				states[i].Bytes = bytes.ReplaceAll(states[i].Bytes, []byte(`"apt":`), []byte(`"aust":`))
				poisoned++
			}
		}
	}
	if poisoned == 0 {
		t.Fatal("nothing was cached")
	}
	late := 90 * time.Minute
	b.hub.arrive(b.f.batch("s1", mesh.Span{}, 0, []mesh.Sample{b.sample(late, "state", mesh.Int(9))}), nil)
	defs := definitions(t)
	for _, d := range defs {
		d.Version += ".1"
	}
	now := b.now
	for range 2 { // the second restart has the new states
		s, err := NewSetOf(defs, Config{bounds: tight()}, b.hub, b.out, testClock(&now))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Step(t.Context()); err != nil { // it stops on the way
			t.Fatal(err)
		}
	}
	s, err := NewSetOf(defs, Config{bounds: tight()}, b.hub, b.out, testClock(&now))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	want := newFakeOut()
	flushed(t, b.hub, want)
	compare(t, "another definition", b.out, want)
	sameStates(t, b.out, want)
}

// A fold that stops in the middle of an hour, where a shift ends, leaves the hours of
// before as they are.
func TestRunner_AnHourStandsWhereAFoldStopsWithinTheNext(t *testing.T) {
	b := newBench(t, Config{Eager: true})
	b.hub.entries = nil
	b.hub.site(otherSites()[0].Replace(testSite))
	for i := range 14 * 6 {
		at := time.Duration(i) * 10 * time.Minute
		b.hub.arrive(b.heard(at+10*time.Minute, b.sample(at, "state", mesh.Int(int64([]int{6, 11, 9, 2}[i%4]))), b.sample(at, "produced", mesh.Int(int64(100*i)))), nil)
	}
	want := newFakeOut()
	flushed(t, b.hub, want)
	b.hub.compacted = len(b.hub.entries)
	for _, most := range []int{3, 6, 12, 24} { // so many events are read back at once
		b.out = newFakeOut()
		b.open(Config{Eager: true, bounds: bounds{bytes: 32 << 20, events: most, read: most, made: 1 << 14}})
		b.step()
		compare(t, fmt.Sprint(most, " a piece"), b.out, want)
	}
}

// What an older program stored says nothing of how it was made: all of it is looked
// at once more, in pieces, and stands where it is right.
func TestRunner_WhatAnOlderProgramStoredIsFoldedOnceMore(t *testing.T) {
	b := newBench(t, Config{Eager: true})
	b.producing()
	for key := range b.out.states {
		if strings.HasSuffix(key, "/"+madeKey) || strings.HasSuffix(key, "/"+marksKey) {
			delete(b.out.states, key)
		}
	}
	hour := "l1-filler/hour/2026-03-02T05:00:00.000Z"
	r := b.out.rows["oee"][hour]
	r.Body = []byte(`{"wrong":true}`)
	b.out.rows["oee"][hour] = r
	n := len(b.out.log)
	b.open(Config{Eager: true, bounds: tight()})
	b.step()
	if got := b.written("oee", n); len(got) != 1 || !strings.Contains(got[0], "T05:") {
		t.Errorf("written: %v", got)
	}
	want := newFakeOut()
	flushed(t, b.hub, want)
	compare(t, "older", b.out, want)
	sameStates(t, b.out, want)
	b.open(Config{Eager: true})
	b.hub.asked = nil
	b.step()
	for _, s := range b.hub.asked {
		if s.From < b.last.Add(-time.Hour) {
			t.Errorf("at the next start it read from %s on", s.From)
		}
	}
}

// An older program's states are all there is of what was dropped: rows behind it are
// not made of nothing.
func TestKept_WhatAnOlderProgramStoredIsUsed(t *testing.T) {
	hub, out, _ := dropAll(t, 5, 6*time.Hour)
	all := out.told(func(mesh.Row) bool { return true })
	for key := range out.states {
		if strings.HasSuffix(key, "/"+madeKey) || strings.HasSuffix(key, "/"+marksKey) {
			delete(out.states, key)
		}
	}
	flushKept(t, hub, out)
	if got := out.told(func(mesh.Row) bool { return true }); !maps.Equal(got, all) {
		t.Errorf("%d of %d rows stand", same(got, all), len(all))
	}
}

// States are kept as long as the samples behind them, and the cells of a day more.
func TestKept_StatesGoWithTheSamples(t *testing.T) {
	b := newBench(t, Config{})
	for i := range 150 {
		b.hub.arrive(b.heard(time.Duration(i+1)*time.Hour, b.sample(time.Duration(i)*time.Hour, "state", mesh.Int(6))), nil)
	}
	flushed(t, b.hub, b.out)
	n := len(b.out.states["oee/l1-filler"])
	b.hub.compacted, b.hub.dropped = len(b.hub.entries), start().Add(100*time.Hour)
	b.hub.arrive(b.heard(151*time.Hour), nil)
	flushKept(t, b.hub, b.out)
	states := b.out.states["oee/l1-filler"]
	first := slices.MinFunc(states, func(x, y mesh.FoldState) int { return int(x.At - y.At) })
	if n < 150 || len(states) > 125 || first.At < b.hub.dropped.Add(-keepRows) || first.At > b.hub.dropped.Add(-keepRows+2*time.Hour) {
		t.Errorf("of %d states %d are left, the first at %s", n, len(states), first.At)
	}
}

func TestDifference(t *testing.T) {
	for _, c := range []struct{ a, b, want []mesh.Nanos }{
		{[]mesh.Nanos{1, 5}, []mesh.Nanos{1, 5}, []mesh.Nanos{0, 0}},
		{[]mesh.Nanos{1, 5}, []mesh.Nanos{1, 7}, []mesh.Nanos{5, 7}},
		{[]mesh.Nanos{1, 3, 5, 9}, []mesh.Nanos{1, 9}, []mesh.Nanos{3, 5}},
		{[]mesh.Nanos{1, 9}, nil, []mesh.Nanos{1, 9}},
		{[]mesh.Nanos{4, 9}, []mesh.Nanos{1, 2, 4, 9}, []mesh.Nanos{1, 2}},
		{[]mesh.Nanos{1, 2, 4, 9}, []mesh.Nanos{1, 2, 4, 6, 7, 9}, []mesh.Nanos{6, 7}},
	} {
		spans := func(x []mesh.Nanos) (out []mesh.Span) {
			for i := 0; i < len(x); i += 2 {
				out = append(out, mesh.Span{From: x[i], To: x[i+1]})
			}
			return out
		}
		for _, got := range []mesh.Span{product.Difference(spans(c.a), spans(c.b)), product.Difference(spans(c.b), spans(c.a))} {
			if got != spans(c.want)[0] {
				t.Errorf("%v and %v differ in %v, want %v", c.a, c.b, got, c.want)
			}
		}
	}
}
