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
