package fault

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"plantmesh/firmware-sim/plant"
)

func feed(t *testing.T, start time.Time) plant.Feed {
	t.Helper()
	p, err := plant.New(plant.Config{Seed: 3, Start: start, Stop: start.Add(2 * time.Hour)})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// Everything is said once, only later, whatever the steps it is asked in; each
// source counts without a hole, and time of emission never runs back.
func TestDelay_KeepsEverythingAndItsOrder(t *testing.T) {
	start := time.Date(2026, 3, 1, 4, 0, 0, 0, time.UTC)
	const prefix = "line1.filler."
	f := Late{prefix, start.Add(20 * time.Minute), start.Add(30 * time.Minute), start.Add(50 * time.Minute)}
	name := func(e plant.Emission) string {
		return fmt.Sprintf("%s %d %v %d", e.Signal, e.Time.UnixMilli(), e.Value, e.Status)
	}
	end := start.Add(2*time.Hour + plant.Disorder)
	want := map[string]int{}
	for _, e := range feed(t, start).Until(end) {
		want[name(e)]++
	}
	var traces []string
	for _, step := range []time.Duration{700 * time.Millisecond, 10 * time.Minute, 3 * time.Hour} {
		d := Delay(feed(t, start), []Late{f})
		got, index, held := map[string]int{}, map[string]uint64{}, 0
		var trace strings.Builder
		last := start
		for at := start; ; at = at.Add(step) {
			if at.After(end) {
				at = end
			}
			for _, e := range d.Until(at) {
				got[name(e)]++
				if index[e.Source]++; e.Index != index[e.Source] {
					t.Fatalf("%s has index %d, want %d", name(e), e.Index, index[e.Source])
				}
				if e.Emitted.Before(last) || e.Emitted.After(at) {
					t.Fatalf("%s leaves at %s after %s, asked up to %s", name(e), e.Emitted, last, at)
				}
				last = e.Emitted
				inside := strings.HasPrefix(e.Signal, prefix) && !e.Time.Before(f.From) && e.Time.Before(f.To)
				if inside && e.Emitted.Before(f.Until) || !inside && e.Emitted.Sub(e.Time) > plant.Disorder {
					t.Fatalf("%s leaves at %s", name(e), e.Emitted)
				}
				if inside {
					held++
				}
				fmt.Fprintln(&trace, name(e), e.Index)
			}
			if at.Equal(end) {
				break
			}
		}
		if held == 0 {
			t.Fatal("nothing was held")
		}
		for n, k := range want {
			if got[n] != k {
				t.Fatalf("%s is said %d times, want %d", n, got[n], k)
			}
		}
		if len(got) != len(want) {
			t.Fatalf("%d samples, want %d", len(got), len(want))
		}
		traces = append(traces, trace.String())
	}
	for i := range traces {
		if traces[i] != traces[0] {
			t.Errorf("asked in other steps it is another plant")
		}
	}
}
