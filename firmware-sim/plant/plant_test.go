package plant

import (
	"slices"
	"testing"
	"time"
)

func start() time.Time { return time.Date(2026, 3, 1, 4, 0, 0, 0, time.UTC) }

func open(t *testing.T, seed uint64, stop time.Duration) *Plant {
	t.Helper()
	cfg := Config{Seed: seed, Start: start()}
	if stop > 0 {
		cfg.Stop = start().Add(stop)
	}
	p, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestPlant_SameHoweverAsked(t *testing.T) {
	const long = 3 * time.Hour
	whole := open(t, 7, 0).Until(start().Add(long))
	p := open(t, 7, 0)
	var parts []Emission
	for at := time.Duration(0); at < long; at += 7321 * time.Millisecond {
		parts = append(parts, p.Until(start().Add(at))...)
	}
	parts = append(parts, p.Until(start().Add(long))...)
	if !slices.Equal(whole, parts) {
		t.Fatalf("%d emissions at once, %d in parts, or others", len(whole), len(parts))
	}
	other := open(t, 8, 0).Until(start().Add(long))
	if slices.Equal(whole, other) {
		t.Fatal("another seed gave the same plant")
	}
	// A stop takes away, it changes nothing.
	cut := open(t, 7, long/2).Until(start().Add(long))
	for _, e := range cut {
		if e.Time.After(start().Add(long / 2)) {
			t.Fatalf("%s happened at %s, after the stop", e.Signal, e.Time)
		}
	}
	index := map[string]int{}
	for _, e := range whole {
		if !e.Time.After(start().Add(long / 2)) {
			index[e.Source]++
		}
	}
	for _, e := range cut {
		index[e.Source]--
	}
	for s, n := range index {
		if n != 0 {
			t.Errorf("%s: the stop changed the number of emissions by %d", s, n)
		}
	}
}

// One long run serves both: a simulation of a day takes its time under -race.
func TestPlant_LongRun(t *testing.T) {
	const long = 26 * time.Hour
	began := time.Now()
	all := open(t, 1, long).Until(start().Add(long + Disorder))
	t.Logf("%d emissions in %s", len(all), time.Since(began))
	t.Run("keeps its promises", func(t *testing.T) { keepsItsPromises(t, all) })
	t.Run("is believable", func(t *testing.T) { isBelievable(t, all) })
}

func keepsItsPromises(t *testing.T, all []Emission) {
	t.Helper()
	// 48 h of history must stay below 1.2 M values.
	if len(all) > 600_000 || len(all) < 300_000 {
		t.Errorf("%d emissions: not about half a million", len(all))
	}
	type key struct {
		signal string
		at     time.Time
	}
	seen := map[key]Emission{}
	index := map[string]uint64{}
	first := map[string]bool{}
	var before Emission
	twice, late := 0, 0
	for _, e := range all {
		if e.Emitted.Before(before.Emitted) || e.Emitted.Before(e.Time) || e.Emitted.Sub(e.Time) > Disorder {
			t.Fatalf("emitted out of order or too late: %+v", e)
		}
		if e.Time.Nanosecond()%1e6 != 0 || e.Emitted.Nanosecond()%1e6 != 0 {
			t.Fatalf("not whole milliseconds: %+v", e)
		}
		if index[e.Source]++; e.Index != index[e.Source] {
			t.Fatalf("index %d of %s, want %d", e.Index, e.Source, index[e.Source])
		}
		if was, ok := seen[key{e.Signal, e.Time}]; ok {
			if twice++; was.Value != e.Value || was.Status != e.Status {
				t.Fatalf("two values at one time: %+v and %+v", was, e)
			}
		}
		if e.Emitted.After(e.Time) {
			late++
		}
		seen[key{e.Signal, e.Time}], before = e, e
		first[e.Signal] = first[e.Signal] || e.Time.Equal(start()) && e.Emitted.Equal(start())
	}
	if twice < 100 || late < 1000 {
		t.Errorf("%d duplicates, %d late: too few to be a test", twice, late)
	}
	for _, s := range open(t, 1, 0).Signals() {
		if !first[s.Name] {
			t.Errorf("%s said nothing at the start", s.Name)
		}
	}
}

// What the products are tested on must happen.
func isBelievable(t *testing.T, all []Emission) {
	t.Helper()
	states := map[int64]bool{}
	modes := map[int64]bool{}
	var wraps, resets, blocked, starved, bad, noOrder, energyResets int
	last := map[string]Value{}
	made := map[string]int64{}
	slices.SortStableFunc(all, func(a, b Emission) int { return a.Time.Compare(b.Time) })
	for _, e := range all {
		_, _, role, _ := Split(e.Signal)
		was, ok := last[e.Signal]
		last[e.Signal] = e.Value
		switch {
		case e.Status != Good:
			bad++
		case role == RoleState:
			states[e.Value.I] = true
		case role == RoleMode:
			modes[e.Value.I] = true
		case role == RoleBlocked && e.Value.B:
			blocked++
		case role == RoleStarved && e.Value.B:
			starved++
		case role == RoleOrder && e.Value.S == "":
			noOrder++
		case role == RoleEnergy && ok && e.Value.F < was.F:
			energyResets++
		case (role == RoleProduced || role == RoleScrap) && ok:
			d := e.Value.I - was.I
			switch {
			case d < 0 && d+1<<32 < 1_000_000:
				wraps++
				d += 1 << 32
			case d < 0:
				resets++
				d = 0
			}
			made[e.Signal] += d
			if d > 1000 {
				t.Errorf("%s jumped by %d at %s", e.Signal, d, e.Time)
			}
		}
	}
	for s := int64(1); s <= 17; s++ {
		if !states[s] {
			t.Errorf("state %d never happened", s)
		}
	}
	for m := int64(1); m <= 3; m++ {
		if !modes[m] {
			t.Errorf("mode %d never happened", m)
		}
	}
	t.Logf("wraps %d resets %d energy resets %d blocked %d starved %d bad %d no order %d", wraps, resets, energyResets, blocked, starved, bad, noOrder)
	if wraps == 0 || resets == 0 || blocked == 0 || starved == 0 || bad == 0 || noOrder == 0 {
		t.Error("something that must happen didn't")
	}
	for _, l := range Lines() {
		for _, m := range Machines() {
			n, s := made[l+"."+m+".produced"], made[l+"."+m+".scrap"]
			t.Logf("%s.%s made %d, scrap %d", l, m, n, s)
			if n < 60_000 || s <= 0 || s > n/20 {
				t.Errorf("%s.%s made %d items and %d scrap in 26 hours", l, m, n, s)
			}
		}
	}
}

func TestClock_SkippedOrShownTwice(t *testing.T) {
	for _, c := range []struct {
		zone       string
		month, day int
		clock      Clock
		want       string
	}{
		{"Europe/Vienna", 3, 28, 2 * 60, "2026-03-28T01:00:00Z"},
		{"Europe/Vienna", 3, 29, 2*60 + 15, "2026-03-29T01:00:00Z"},
		{"Europe/Vienna", 3, 29, 3 * 60, "2026-03-29T01:00:00Z"},
		{"Europe/Vienna", 10, 25, 2*60 + 15, "2026-10-25T00:15:00Z"},
		{"Europe/Vienna", 10, 25, 3 * 60, "2026-10-25T02:00:00Z"},
		{"Europe/Vienna", 10, 24 + 1, 6 * 60, "2026-10-25T05:00:00Z"},
		{"America/Santiago", 9, 6, 0, "2026-09-06T04:00:00Z"},
		{"America/Santiago", 9, 5, 23 * 60, "2026-09-06T03:00:00Z"},
		{"America/Havana", 11, 1, 30, "2026-11-01T04:30:00Z"},
	} {
		zone, err := time.LoadLocation(c.zone)
		if err != nil {
			t.Fatal(err)
		}
		if got := c.clock.At(2026, time.Month(c.month), c.day, zone).UTC().Format(time.RFC3339); got != c.want {
			t.Errorf("%s %d-%d at minute %d is %s, want %s", c.zone, c.month, c.day, c.clock, got, c.want)
		}
	}
}
