package sim

import (
	"fmt"
	"maps"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// TestMain lets the garbage wait a little: a schedule makes much of it.
func TestMain(m *testing.M) {
	debug.SetGCPercent(400)
	os.Exit(m.Run())
}

func number(t *testing.T, name string, otherwise uint64) uint64 {
	t.Helper()
	s := os.Getenv(name)
	if s == "" {
		return otherwise
	}
	n, err := strconv.ParseUint(s, 10, 63)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return n
}

// tally is what a shard of schedules came to.
type tally struct {
	mu       sync.Mutex // protects all below
	ran      uint64
	events   uint64
	answered uint64
	hits     [faults]uint64
	met      [faults]uint64 // schedules in which it struck
	bad      map[string][]uint64
}

func (y *tally) take(w *world, v verdict) {
	y.mu.Lock()
	defer y.mu.Unlock()
	y.ran++
	y.events += uint64(len(w.events))
	y.answered += uint64(w.answered)
	for f, n := range w.hits {
		y.hits[f] += uint64(n)
		if n > 0 {
			y.met[f]++
		}
	}
	if !v.ok() {
		y.bad[v.kind()] = append(y.bad[v.kind()], w.seed)
	}
}

func (y *tally) String() string {
	var b strings.Builder
	for f := range faults {
		fmt.Fprintf(&b, "  %-34s %9d times in %8d schedules\n", f, y.hits[f], y.met[f])
	}
	return b.String()
}

// TestSimulate runs schedules, one seed each, on all cores.
// PLANTMESH_SIM=1000000 says how many, PLANTMESH_SIM_FROM the first seed.
func TestSimulate(t *testing.T) {
	many := uint64(10_000)
	if testing.Short() {
		many = 300
	}
	many = number(t, "PLANTMESH_SIM", many)
	from := number(t, "PLANTMESH_SIM_FROM", 1)
	y := &tally{bad: map[string][]uint64{}}
	began := time.Now()
	shards := uint64(runtime.GOMAXPROCS(0))
	t.Run("shards", func(t *testing.T) {
		for shard := range shards {
			t.Run(strconv.FormatUint(shard, 10), func(t *testing.T) {
				t.Parallel()
				k := newKit(t)
				for seed := from + shard; seed < from+many; seed += shards {
					v, w := play(t.Context(), k, newPlan(seed), intact, nil)
					y.take(w, v)
				}
			})
		}
	})
	took := time.Since(began)
	t.Logf("%d schedules of %d events in %s: %.0f a minute\n%s", y.ran, y.events/max(1, y.ran), took.Round(time.Second), float64(y.ran)/took.Minutes(), y)
	t.Logf("schedules %d 1000000", y.ran)
	t.Logf("schedules_per_minute %.0f 20000", float64(y.ran)/took.Minutes())
	t.Logf("violations %d 0", len(slices.Concat(slices.Collect(maps.Values(y.bad))...)))
	t.Logf("alarms_answered %d", y.answered)
	k := newKit(t)
	for kind, seeds := range y.bad {
		slices.Sort(seeds)
		t.Errorf("%d schedules are %s: seeds %v", len(seeds), kind, seeds[:min(8, len(seeds))])
		p := newPlan(seeds[0])
		t.Log(tale(t.Context(), k, shrink(t.Context(), k, p, intact), intact))
	}
	for f := range faults {
		if least := many / 1000; y.met[f] < least {
			t.Errorf("%s struck in %d of %d schedules, at least %d are wanted", f, y.met[f], y.ran, least)
		}
	}
}

// TestSimulate_Controls takes one mechanism away at a time: the seed that is
// known to show it must do so, and must be clean with it.
func TestSimulate_Controls(t *testing.T) {
	k := newKit(t)
	for c := intact + 1; c < controls; c++ {
		seed := c.seed()
		v, _ := play(t.Context(), k, newPlan(seed), c, nil)
		if v.kind() != c.kind() {
			t.Errorf("%s: seed %d is %s, not %s", c, seed, v.kind(), c.kind())
		}
		if w, _ := play(t.Context(), k, newPlan(seed), intact, nil); !w.ok() {
			t.Errorf("with %s seed %d is not clean: %s", c, seed, w)
		}
		t.Logf("%-48s seed %6d %-10s %s", c, seed, v.kind(), v.Report)
	}
}

// TestSimulate_ReplaysAndShrinks: the same seed is the same run, and what fails
// is shown by few events.
func TestSimulate_ReplaysAndShrinks(t *testing.T) {
	k := newKit(t)
	for seed := range uint64(150) {
		_, one := play(t.Context(), k, newPlan(seed), intact, nil)
		_, two := play(t.Context(), k, newPlan(seed), intact, nil)
		if one.trace != two.trace {
			t.Errorf("seed %d is two runs: %x and %x", seed, one.trace, two.trace)
		}
	}
	for _, c := range []control{fsyncOff, ackBeforeFsync, inFlightDropped} {
		p := shrink(t.Context(), k, newPlan(c.seed()), c)
		v, w := play(t.Context(), k, p, c, nil)
		if v.kind() != c.kind() || len(p.events) > 12 {
			t.Errorf("%s shrinks to %d events that are %s", c, len(p.events), v.kind())
		}
		if _, again := play(t.Context(), k, p, c, nil); again.trace != w.trace {
			t.Errorf("%s: what is left is two runs", c)
		}
		t.Log(tale(t.Context(), k, p, c))
	}
}

// TestSimulate_Seed tells one run: PLANTMESH_SIM_SEED, and PLANTMESH_SIM_CONTROL
// by its number.
func TestSimulate_Seed(t *testing.T) {
	seed := number(t, "PLANTMESH_SIM_SEED", 0)
	if seed == 0 {
		t.Skip("PLANTMESH_SIM_SEED names no seed")
	}
	k, c := newKit(t), control(number(t, "PLANTMESH_SIM_CONTROL", 0))
	p := newPlan(seed)
	if v, _ := play(t.Context(), k, p, c, nil); !v.ok() {
		p = shrink(t.Context(), k, p, c)
	}
	t.Log(tale(t.Context(), k, p, c))
}

// TestSimulate_Find looks for the seeds of TestSimulate_Controls, up to
// PLANTMESH_SIM_FIND: after a change of the schedules they are others.
func TestSimulate_Find(t *testing.T) {
	most := number(t, "PLANTMESH_SIM_FIND", 0)
	if most == 0 {
		t.Skip("PLANTMESH_SIM_FIND says nothing")
	}
	only := control(number(t, "PLANTMESH_SIM_CONTROL", 0))
	for c := intact + 1; c < controls; c++ {
		if only != intact && c != only {
			continue
		}
		t.Run(c.String(), func(t *testing.T) {
			t.Parallel()
			k := newKit(t)
			for seed := uint64(1); seed <= most; seed++ {
				if v, _ := play(t.Context(), k, newPlan(seed), c, nil); v.kind() != c.kind() {
					continue
				}
				if w, _ := play(t.Context(), k, newPlan(seed), intact, nil); w.ok() {
					t.Logf("%d: seed %d", c, seed)
					return
				}
			}
			t.Errorf("not caught by %d schedules", most)
		})
	}
}
