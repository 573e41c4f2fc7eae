package sim

import (
	"os"
	"strconv"
	"testing"
	"time"
)

func TestSmoke(t *testing.T) {
	k, err := shared()
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	bad := map[string]int{}
	n := 0
	most, _ := strconv.Atoi(os.Getenv("N"))
	for seed := uint64(1); seed <= uint64(max(500, most)); seed++ {
		w := newWorld(t.Context(), k, newPlan(seed), intact)
		v := w.run()
		n++
		if !v.ok() {
			if bad[v.kind()]++; bad[v.kind()] < 9 {
				s := v.String()
				t.Logf("seed %d: %s", seed, s[:min(len(s), 300)])
			}
		}
	}
	t.Logf("%d schedules, %v each, %v", n, time.Since(began)/time.Duration(n), bad)
}

func TestOne(t *testing.T) {
	k, err := shared()
	if err != nil {
		t.Fatal(err)
	}
	seed, err := strconv.ParseUint(os.Getenv("PLANTMESH_SIM_SEED"), 10, 64)
	if err != nil {
		t.Skip("no seed")
	}
	n, _ := strconv.Atoi(os.Getenv("PLANTMESH_SIM_CONTROL"))
	p := shrink(t.Context(), k, newPlan(seed), control(n))
	t.Log(tale(t.Context(), k, p, control(n)))
}

func TestFind(t *testing.T) {
	k, err := shared()
	if err != nil {
		t.Fatal(err)
	}
	most, err := strconv.Atoi(os.Getenv("PLANTMESH_SIM_FIND"))
	if err != nil {
		t.Skip("nothing to find")
	}
	only, _ := strconv.Atoi(os.Getenv("PLANTMESH_SIM_CONTROL"))
	for c := intact + 1; c < controls; c++ {
		if only > 0 && int(c) != only {
			continue
		}
		found := map[string]int{}
		var text string
		for seed := uint64(1); seed <= uint64(most) && len(text) == 0; seed++ {
			v, _ := play(t.Context(), k, newPlan(seed), c, nil)
			if v.ok() {
				continue
			}
			if v.kind() != c.kind() {
				found[v.kind()]++
				continue
			}
			if w, _ := play(t.Context(), k, newPlan(seed), intact, nil); w.ok() {
				found[v.kind()]++
				text = v.String()
				t.Logf("%d %s: caught by seed %d: %s %s; before %v", c, c, seed, v.kind(), text[:min(200, len(text))], found)
			}
		}
		if text == "" {
			t.Errorf("%d %s: not caught in %d, %v", c, c, most, found)
		}
	}
}
