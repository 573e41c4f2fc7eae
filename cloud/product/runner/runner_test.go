package runner

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"plantmesh/cloud/product"
	"plantmesh/proto/mesh"
)

const testSite = `
site: test
zone: Europe/Vienna
production_day_start: "06:00"
shifts:
  - {id: early, start: "06:00", end: "14:00"}
  - {id: late, start: "14:00", end: "22:00"}
  - {id: night, start: "22:00", end: "06:00"}
breaks:
  - {start: "10:00", end: "10:30"}
ideal_cycle_seconds:
  filler: {a: 0.5, b: 0.25}
equipment:
  - {id: l1-filler, line: l1, name: Filler, kind: filler, source: s1, signals_prefix: l1.filler.}
  - {id: l1-capper, line: l1, name: Capper, kind: filler, source: s1, signals_prefix: l1.capper.}
  - {id: l2-filler, line: l2, name: Filler, kind: filler, source: s2, signals_prefix: l2.filler.}
`

const second = mesh.Nanos(time.Second)

func start() mesh.Nanos { return mesh.NanosOf(time.Date(2026, 3, 2, 3, 40, 0, 0, time.UTC)) }

func signalNames() (out []string) {
	for _, m := range []string{"l1.filler", "l1.capper", "l2.filler"} {
		for _, r := range []string{"state", "mode", "produced", "scrap", "order", "product", "stop_reason", "energy", "temperature"} {
			out = append(out, m+"."+r)
		}
	}
	return out
}

// tell makes records of a source from a seed: the same samples whatever the cuts.
func tell(f *feeder, rng *rand.Rand, source string, machines []string, hours float64) (out []mesh.Record) {
	type emission struct {
		out mesh.Nanos
		s   mesh.Sample
	}
	var all []emission
	emit := func(at mesh.Nanos, name string, v mesh.Value, status mesh.Status) {
		e := emission{at + mesh.Nanos(rng.IntN(5000))*second/1000, mesh.Sample{Signal: f.ids[name], Time: at, Value: v, Status: status, Agent: at}}
		all = append(all, e)
		if rng.IntN(20) == 0 {
			e.out += second
			e.s.Agent++
			all = append(all, e)
		}
	}
	end := start() + mesh.Nanos(hours*3600)*second
	for _, m := range machines {
		produced, energy := int64(2147483000), 0.1
		states := []int64{6, 6, 6, 11, 5, 9, 2, 15, 3, 6, 16, 4}
		emit(start(), m+".order", mesh.Text("o1"), 0)
		emit(start(), m+".product", mesh.Text("a"), 0)
		for t := start(); t < end; t += mesh.Nanos(1+rng.IntN(240)) * second {
			switch rng.IntN(9) {
			case 0, 1, 2:
				emit(t, m+".state", mesh.Int(states[rng.IntN(len(states))]), 0)
			case 3:
				if rng.IntN(4) == 0 {
					emit(t, m+".state", mesh.Value{}, mesh.StatusBadNoData)
				}
			case 4, 5:
				produced += int64(rng.IntN(300))
				if rng.IntN(30) == 0 {
					produced = 0
				}
				emit(t, m+".produced", mesh.Int(int64(int32(uint32(uint64(produced))))), 0)
				emit(t, m+".temperature", mesh.Double(20), 0)
			case 6:
				energy += rng.Float64()
				emit(t, m+".energy", mesh.Double(energy), 0)
			case 7:
				emit(t, m+".product", mesh.Text([]string{"a", "b", "c"}[rng.IntN(3)]), 0)
			case 8:
				emit(t, m+".mode", mesh.Int(int64(1+rng.IntN(3))), 0)
			}
		}
	}
	slices.SortStableFunc(all, func(x, y emission) int { return int(x.out.Sub(y.out)) })
	proof := start()
	for at := start(); at < end; {
		at = min(end, at+mesh.Nanos(30+rng.IntN(900))*second)
		var samples []mesh.Sample
		for len(all) > 0 && all[0].out <= at {
			samples, all = append(samples, all[0].s), all[1:]
		}
		q := at - 6*second
		out = append(out, f.batch(source, mesh.Span{From: proof, To: max(proof, q)}, q, samples))
		proof = max(proof, q)
		if rng.IntN(12) == 0 { // the worker dies for a while
			back := at + mesh.Nanos(rng.IntN(1800))*second
			out = append(out, f.void(mesh.Void{Cause: mesh.CauseDied, Parts: []mesh.Part{{Source: source, Times: mesh.Span{From: proof, To: back}}}, Note: "died"}))
			if rng.IntN(2) == 0 {
				for len(all) > 0 && all[0].out <= back {
					all = all[1:] // nobody heard it
				}
				proof = back
			}
			at = back
		}
	}
	return append(out, f.batch(source, mesh.Span{From: proof, To: max(proof, end)}, end, nil))
}

// script is both sources in one agent's log.
func script(t *testing.T, hub *fakeLog, seed uint64, hours float64) []mesh.Record {
	t.Helper()
	rng := rand.New(rand.NewPCG(seed, 1))
	var seq uint64
	f := newFeeder(t, hub, "agent/test/gw", &seq, signalNames())
	return append(tell(f, rng, "s1", []string{"l1.filler", "l1.capper"}, hours), tell(f, rng, "s2", []string{"l2.filler"}, hours)...)
}

func flushed(t *testing.T, hub *fakeLog, out *fakeOut) {
	t.Helper()
	now := mesh.Nanos(1)
	s, err := NewSet(Config{}, hub, out, testClock(&now))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	for p, err := range s.Suspended() {
		t.Fatalf("product %s is suspended: %v", p, err)
	}
}

func compare(t interface {
	Errorf(string, ...any)
	Helper()
}, what string, got, want *fakeOut,
) {
	t.Helper()
	for _, p := range []string{"equipment-state", "production-rate", "oee", "coverage"} {
		g, w := got.current(p), want.current(p)
		if slices.Equal(g, w) {
			if len(w) == 0 && p != "coverage" {
				t.Errorf("%s: no rows of %s", what, p)
			}
			continue
		}
		t.Errorf("%s: %s has %d rows, want %d", what, p, len(g), len(w))
		shown := 0
		for _, r := range w {
			if !slices.Contains(g, r) && shown < 3 {
				t.Errorf("  want %s", r)
				shown++
			}
		}
		for _, r := range g {
			if !slices.Contains(w, r) && shown < 6 {
				t.Errorf("  got  %s", r)
				shown++
			}
		}
		if got.progress[p] != want.progress[p] || got.watermark[p] != want.watermark[p] {
			t.Errorf("%s: %s progress and watermark differ", what, p)
		}
	}
}

// In any order of arrival, with repeats, cut into any steps, stopped and begun
// anew at any of them, compacted at any of them whoever has read it, the rows
// are the same to the bit.
func TestRunner_AnyRoadGivesTheSameRows(t *testing.T) {
	unwatched(t)
	defs := definitions(t)
	rapid.Check(t, func(rt *rapid.T) {
		seed := rapid.Uint64Range(1, 1<<20).Draw(rt, "seed")
		straight, other := newFakeLog(), newFakeLog()
		records := script(t, straight, seed, 2)
		other.descriptors = straight.descriptors
		straight.site(testSite)
		for _, r := range records {
			straight.arrive(r, nil)
		}
		want := newFakeOut()
		flushed(t, straight, want)

		// Another road: records move by up to `reach` places, some come twice.
		rng := rand.New(rand.NewPCG(rapid.Uint64().Draw(rt, "road"), 2))
		reach := rapid.IntRange(1, 40).Draw(rt, "reach")
		type moved struct {
			at int
			r  mesh.Record
		}
		var road []moved
		for i, r := range records {
			road = append(road, moved{i + rng.IntN(reach), r})
			if rng.IntN(10) == 0 {
				road = append(road, moved{i + rng.IntN(3*reach), r})
			}
		}
		slices.SortStableFunc(road, func(x, y moved) int { return x.at - y.at })
		siteAt := rng.IntN(len(road)/2 + 1)
		if rng.IntN(2) == 0 {
			siteAt = 0
		}
		got, now := newFakeOut(), mesh.Nanos(1)
		eager := rapid.Bool().Draw(rt, "eager")
		restart := rapid.IntRange(0, 30).Draw(rt, "restart")
		var set *Set
		compacts := rapid.IntRange(0, 20).Draw(rt, "compacts")
		for i, m := range road {
			if i == siteAt {
				other.site(testSite)
			}
			other.arrive(m.r, nil)
			if compacts > 0 && rng.IntN(compacts) == 0 {
				other.compacted += rng.IntN(len(other.entries) - other.compacted + 1)
			}
			now += mesh.Nanos(rng.IntN(400)) * second / 1000
			if set == nil || restart > 0 && rng.IntN(restart) == 0 {
				var err error
				if set, err = NewSetOf(defs, Config{Eager: eager}, other, got, testClock(&now)); err != nil {
					rt.Fatal(err)
				}
			}
			if rng.IntN(3) == 0 {
				continue
			}
			if rng.IntN(40) == 0 {
				got.fail = mesh.ErrMoved
			}
			if _, err := set.Step(t.Context()); err != nil && got.fail != nil {
				rt.Fatal(err)
			}
			for p, err := range set.Suspended() {
				rt.Fatalf("product %s is suspended: %v", p, err)
			}
		}
		got.fail = nil
		if err := set.Flush(t.Context()); err != nil {
			rt.Fatal(err)
		}
		for p, err := range set.Suspended() {
			rt.Fatalf("product %s is suspended: %v", p, err)
		}
		compare(rt, fmt.Sprintf("seed %d", seed), got, want)
	})
}

// A product that begins when all there is was compacted makes the same rows.
func TestRunner_BeginsOnCompactedHistory(t *testing.T) {
	for seed := range uint64(3) {
		hub, want, got := newFakeLog(), newFakeOut(), newFakeOut()
		records := script(t, hub, seed, 6)
		for i, r := range records {
			if i == len(records)/3 {
				hub.site(testSite)
			}
			hub.arrive(r, nil)
		}
		flushed(t, hub, want)
		hub.compacted = len(hub.entries) - int(seed)*5
		flushed(t, hub, got)
		compare(t, fmt.Sprintf("seed %d", seed), got, want)
	}
}

// The runner's rows are those of one pure fold over all events.
func TestRunner_RowsAreThoseOfThePureFold(t *testing.T) {
	for seed := range uint64(3) {
		hub, out := newFakeLog(), newFakeOut()
		hub.site(testSite)
		for _, r := range script(t, hub, seed, 27) {
			hub.arrive(r, nil)
		}
		flushed(t, hub, out)
		site, err := product.ParseSite("site", []byte(testSite))
		if err != nil {
			t.Fatal(err)
		}
		want := newFakeOut()
		for i := range site.Equipment {
			pure(t, hub, site, &site.Equipment[i], i, want)
		}
		for _, p := range []string{"equipment-state", "production-rate", "oee"} {
			g, w := bodies(out, p), bodies(want, p)
			if !slices.Equal(g, w) {
				t.Errorf("seed %d: %s: %d rows, want %d", seed, p, len(g), len(w))
				for i := range min(len(g), len(w)) {
					if g[i] != w[i] {
						t.Fatalf("got  %s\nwant %s", g[i], w[i])
					}
				}
			}
		}
	}
}

func bodies(o *fakeOut, p string) (out []string) {
	for _, r := range o.rows[p] {
		if r.State != mesh.RowWithdrawn {
			out = append(out, r.Entity+" "+r.Key+" "+string(r.Body))
		}
	}
	slices.Sort(out)
	return out
}

// pure folds one equipment in one go.
func pure(t *testing.T, hub *fakeLog, site *product.Site, e *product.Equipment, index int, want *fakeOut) {
	t.Helper()
	tape, err := NewTape(hub)
	if err != nil {
		t.Fatal(err)
	}
	var events []product.Event
	known := &product.Known{}
	for i := range hub.entries {
		it, err := tape.open(t.Context(), &hub.entries[i])
		if err != nil {
			t.Fatal(err)
		}
		x := &it.Entry
		switch {
		case x.Header.Kind == mesh.KindBatch && x.Header.About == e.Source:
			known.Batch(x.Of, x.Ord, x.Header)
		case x.Header.Kind == mesh.KindVoid && x.Header.About == e.Source:
			known.Void(x.Of, x.Ord, it.Void, it.Void.Parts[0])
		}
		for k := range it.Samples {
			s := &it.Samples[k]
			if q, role := site.Signal(e.Source, it.Table.Signals[it.Table.index(s.Signal)].Name); q == index && role != product.RoleOther {
				events = append(events, product.EventOf(role, s))
			}
		}
	}
	slices.SortFunc(events, product.Event.Compare)
	events = slices.CompactFunc(events, func(x, y product.Event) bool { return x.Compare(y) == 0 })
	spans := known.Spans()
	k0, end := product.Extent(spans)
	st := &product.State{}
	trace := site.Fold(st, events, spans, end)
	var cells []product.Cell
	for _, x := range trace.Edges {
		cells = append(cells, x.Cell)
	}
	cells = append(cells, product.NewSites(site).OpenCell(st))
	put := func(p string, d product.Draft) {
		if want.rows[p] == nil {
			want.rows[p] = map[string]mesh.Row{}
		}
		want.rows[p][e.ID+"/"+d.Key] = mesh.Row{Entity: e.ID, Key: d.Key, Body: d.Body}
	}
	for _, d := range definitions(t) {
		switch d.Fold {
		case product.FoldIntervals:
			for _, i := range trace.Intervals {
				put(d.ID, d.IntervalDraft(site, e, i, 0))
			}
			put(d.ID, d.IntervalDraft(site, e, product.Interval{Span: mesh.Span{From: st.From}, Tuple: st.Tuple}, end))
		case product.FoldWindows:
			for _, kind := range d.Windows {
				for _, w := range site.Calendar.Windows(kind, mesh.Span{From: k0, To: end}) {
					put(d.ID, d.WindowDraft(site, e, w, cells, end))
				}
			}
		case product.FoldCoverage, product.FoldSamples:
		}
	}
}
