package runner

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"plantmesh/cloud/product"
	"plantmesh/proto/mesh"
)

// teller compares what each commit tells with one fold, never interrupted, of all
// that the product had read by then.
type teller struct {
	t    *rapid.T
	defs []*product.Definition
	hub  *fakeLog
	out  *fakeOut
	want map[uint64]*fakeOut // by the place in the log
	site *product.Site
	rest int // commits on the way of a fold
}

func (c *teller) at(place mesh.Position) *fakeOut {
	if w := c.want[place.Seq]; w != nil {
		return w
	}
	log := *c.hub
	log.entries, log.compacted = c.hub.entries[:place.Seq], 0
	w, now := newFakeOut(), mesh.Nanos(1)
	set, err := NewSetOf(c.defs, Config{}, &log, w, testClock(&now))
	if err != nil {
		c.t.Fatal(err)
	}
	if err := set.Flush(c.t.Context()); err != nil {
		c.t.Fatal(err)
	}
	c.want[place.Seq] = w
	return w
}

func (c *teller) committed(st mesh.Step) {
	want := c.at(st.Place)
	stands, err := Stands(c.t.Context(), c.out, st.Product)
	if err != nil {
		c.t.Fatal(err)
	}
	ends, err := Ends(c.t.Context(), c.out, st.Product, c.site)
	if err != nil {
		c.t.Fatal(err)
	}
	told := mesh.Nanos(0) // the most anybody is told, where the other source is silent
	for _, e := range ends {
		told = max(told, min(e.Through, stands))
	}
	if st.Progress > told {
		c.t.Errorf("%s: progress is %s, its sources and rows say %s", st.Product, st.Progress, told)
	}
	if stands != never {
		c.rest++
	}
	rows := want.rows[st.Product]
	for key, w := range rows {
		if w.State != mesh.RowWithdrawn && w.From < told {
			c.stands(st.Product, key, told, w)
		}
	}
	for key, g := range c.out.rows[st.Product] {
		if w := rows[key]; g.State != mesh.RowWithdrawn && g.From < told && (w.Key == "" || w.State == mesh.RowWithdrawn) {
			c.t.Errorf("%s is told known through %s, and has %s, which is none", st.Product, told, key)
		}
	}
	for _, r := range st.Rows {
		if w := rows[r.Entity+"/"+r.Key]; r.State == mesh.RowFinal && (w.State != mesh.RowFinal || !bytes.Equal(w.Body, r.Body)) {
			c.t.Errorf("%s: %s %s is called final with %s, it is %s", st.Product, r.Entity, r.Key, r.Body, w.Body)
		}
	}
}

// stands: a row that is told of stands, with all that is known of it through there.
func (c *teller) stands(p, key string, told mesh.Nanos, w mesh.Row) {
	g, ok := c.out.rows[p][key]
	switch {
	case !ok || g.State == mesh.RowWithdrawn:
		c.t.Errorf("%s is told known through %s, and has no row %s", p, told, key)
	case w.To != 0 && (w.To < told || w.To == told && p != "equipment-state"): // an interval may be open yet that ends there
		if !bytes.Equal(g.Body, w.Body) || g.To != w.To {
			c.t.Errorf("%s is told known through %s, and of %s it has\n%s, not\n%s", p, told, key, g.Body, w.Body)
		}
	case p == "equipment-state" || p == "oee": // the others don't say how much of a row's time is in it
		if has, should := covered(c.t, g), min(told.Sub(w.From), covered(c.t, w)); should > has {
			c.t.Errorf("%s is told known through %s, and of %s, of which that is %s, it has %s", p, told, key, should, has)
		}
	}
}

// covered is how much of its time a row says something of.
func covered(t *rapid.T, r mesh.Row) time.Duration {
	var m map[string]any
	if err := json.Unmarshal(r.Body, &m); err != nil {
		t.Fatal(err)
	}
	s := 0.0
	for _, c := range []string{"duration_seconds", "pbt_seconds", "planned_stop_seconds", "unknown_seconds"} {
		n, _ := m[c].(float64)
		s += n
	}
	return time.Duration(s*1e9) + time.Millisecond
}

// together is what two agents say, each of a source of its own, side by side.
func together(t *testing.T, hub *fakeLog, rng *rand.Rand, seed uint64, hours float64) (out []mesh.Record) {
	t.Helper()
	var a, b uint64
	s1 := tell(newFeeder(t, hub, "agent/test/gw", &a, signalNames()), rand.New(rand.NewPCG(seed, 1)), "s1", []string{"l1.filler", "l1.capper"}, hours)
	s2 := tell(newFeeder(t, hub, "agent/test/gw2", &b, signalNames()), rand.New(rand.NewPCG(seed, 2)), "s2", []string{"l2.filler"}, hours)
	for len(s1)+len(s2) > 0 {
		from := &s1
		if rng.IntN(len(s1)+len(s2)) >= len(s1) {
			from = &s2
		}
		out, *from = append(out, (*from)[0]), (*from)[1:]
	}
	return out
}

// However a fold is cut into pieces, whatever comes late and whenever the hub stops:
// nobody is told that a product stands where rows of before are yet to be made.
func TestRunner_WhatIsToldIsInTheRows(t *testing.T) {
	defs, most := definitions(t), 8.0
	if testing.Short() {
		most = 4
	}
	site, err := product.ParseSite("site", []byte(testSite))
	if err != nil {
		t.Fatal(err)
	}
	rested := 0
	rapid.Check(t, func(rt *rapid.T) {
		seed := rapid.Uint64Range(1, 1<<20).Draw(rt, "seed")
		hours := rapid.Float64Range(2, most).Draw(rt, "hours")
		hub, out, now := newFakeLog(), newFakeOut(), mesh.Nanos(1)
		rng := rand.New(rand.NewPCG(rapid.Uint64().Draw(rt, "road"), 3))
		records := together(t, hub, rng, seed, hours)
		hub.site(testSite)
		c := &teller{t: rt, defs: defs, hub: hub, out: out, want: map[uint64]*fakeOut{}, site: site}
		out.committed = c.committed
		for range rapid.IntRange(0, 12).Draw(rt, "late") {
			i := rng.IntN(len(records))
			r := records[i]
			records = slices.Delete(records, i, i+1)
			records = slices.Insert(records, i+rng.IntN(len(records)-i+1), r)
		}
		cfg := Config{Eager: true, bounds: bounds{bytes: 1 << 10, events: 60, read: rapid.IntRange(20, 300).Draw(rt, "read"), made: rapid.IntRange(2, 40).Draw(rt, "made")}}
		changes := []int{1 << 30, 20, 5}[rapid.IntRange(0, 2).Draw(rt, "changes")]
		var set *Set
		for len(records) > 0 {
			n := min(len(records), 1+rng.IntN(1+rng.IntN(60)))
			for _, r := range records[:n] {
				hub.arrive(r, nil)
			}
			records = records[n:]
			if now += second; rng.IntN(changes) == 0 {
				sites := otherSites()
				hub.siteFrom(start().Add(time.Duration(rng.IntN(int(hours*3600)))*time.Second), sites[rng.IntN(len(sites))].Replace(testSite))
			}
			if set == nil || rng.IntN(4) == 0 {
				var err error
				if set, err = NewSetOf(defs, cfg, hub, out, testClock(&now)); err != nil {
					rt.Fatal(err)
				}
			}
			for range rng.IntN(8) {
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
		compare(rt, fmt.Sprintf("seed %d", seed), out, c.at(mesh.Position{Seq: uint64(len(hub.entries))}))
		rested += c.rest
	})
	if rested == 0 {
		t.Error("no fold took several passes")
	}
}

// Late data that meet what stands, and behind it more than one pass folds: the day
// that holds both is not made of what was folded so far, which would be called final.
func TestRunner_ADayIsNotFinalBeforeItIsFolded(t *testing.T) {
	b := newBench(t, Config{Eager: true})
	hear := func(from, to int) (out []mesh.Record) {
		for i := from; i < to; i++ {
			at := time.Duration(i) * 10 * time.Minute
			out = append(out, b.heard(at+10*time.Minute, b.sample(at, "state", mesh.Int(int64([]int{6, 11, 9, 2}[i%4]))), b.sample(at, "produced", mesh.Int(int64(100*i)))))
		}
		return out
	}
	for _, r := range hear(0, 36) {
		b.hub.arrive(r, nil)
		b.step()
	}
	b.open(Config{Eager: true, bounds: bounds{bytes: 32 << 20, events: 1 << 19, read: 1 << 20, made: 12}})
	b.step()
	for _, r := range hear(36, 200) {
		b.hub.arrive(r, nil)
	}
	passes := 0
	b.out.committed = func(st mesh.Step) {
		if st.Product != "oee" {
			return
		}
		if passes++; passes == 2 {
			b.hub.arrive(b.f.batch("s1", mesh.Span{}, 0, []mesh.Sample{b.sample(2*time.Hour+time.Minute, "produced", mesh.Int(1201))}), nil)
		}
	}
	n := len(b.out.log)
	b.step()
	var finals []string
	for _, r := range b.out.log[n:] {
		if r.State != mesh.RowFinal || r.Key != "day/2026-03-02T05:00:00.000Z" {
			continue
		}
		if finals = append(finals, r.Product+" "+r.Entity); r.Revision > 1 {
			t.Errorf("%s of %s was called final before: %s", r.Key, r.Entity, r.Body)
		}
	}
	slices.Sort(finals)
	if fmt.Sprint(finals) != "[oee l1-capper oee l1-filler production-rate l1-capper production-rate l1-filler]" || passes < 4 {
		t.Errorf("in %d passes the day became final for %s", passes, finals)
	}
	want := newFakeOut()
	flushed(t, b.hub, want)
	compare(t, "late", b.out, want)
}
