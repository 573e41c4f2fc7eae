package buffer

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"plantmesh/proto/mesh"
	"plantmesh/proto/wire"
)

func voidOf(tb testing.TB, v mesh.Void) mesh.Offer {
	tb.Helper()
	s, err := wire.SealVoid(v)
	check(tb, err)
	return mesh.Offer{Source: v.Parts[0].Source, Sealed: [][]byte{s}}
}

// What was written off is known after a restart, whoever wrote the void, for a day; it costs
// no commit of its own. What waits in quarantine, and what nobody knows the extent of, is none.
func TestBuffer_LossesSurviveARestart(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	cfg := testConfig(quickDir(t))
	cfg.Policy = PolicyDropOldest
	cfg.Now = func() time.Time { return now }
	b := mustOpen(t, cfg)
	said := func() string {
		var out []string
		for _, l := range b.Losses() {
			out = append(out, fmt.Sprintf("%s %s %d %s %s", l.Source, l.Cause, l.Count, time.Unix(l.Since, 0).Sub(now).Round(time.Hour), time.Unix(l.Last, 0).Sub(now).Round(time.Hour)))
		}
		return strings.Join(out, ", ")
	}
	before := b.Stats().Commits.Count
	mustAppend(t, b, voidOf(t, mesh.Void{Cause: mesh.CauseOverflow, Parts: []mesh.Part{{Source: "press", Times: mesh.Span{From: 1, To: 2}, Count: 5}}}))
	if n := b.Stats().Commits.Count - before; n != 1 {
		t.Errorf("%d commits for a void", n)
	}
	now = now.Add(time.Hour)
	mustAppend(t, b,
		voidOf(t, mesh.Void{Cause: mesh.CauseOverflow, Parts: []mesh.Part{{Source: "press", Times: mesh.Span{From: 3, To: 4}, Count: 2}}}),
		voidOf(t, mesh.Void{Cause: mesh.CauseDied, Parts: []mesh.Part{{Source: "press", Times: mesh.Span{From: 3, To: 4}}}}))
	at := mustAppend(t, b, offer(t, "saw", 1<<30, 10))
	check(t, b.Quarantine(at, "nobody can read it"))
	if got := said(); got != "press overflow 7 -1h0m0s 0s" {
		t.Errorf("it says %s", got)
	}
	var dropped uint64
	for i := range mesh.Nanos(20) { // more than the budget: the oldest go
		mustAppend(t, b, offer(t, "saw", (i+2)<<30, 60_000))
	}
	for _, l := range b.Losses() {
		if l.Cause == mesh.CauseDiskPolicy && l.Source == "saw" {
			dropped = l.Count
		}
	}
	if dropped < 60_000 {
		t.Fatalf("%d values were dropped by policy: %s", dropped, said())
	}
	want := said()
	mustClose(t, b)
	b = mustOpen(t, cfg)
	if got := said(); got != want {
		t.Errorf("after a restart it says %s, want %s", got, want)
	}
	now = now.Add(LostWithin + time.Second)
	if got := said(); got != "" {
		t.Errorf("a day later it says %s", got)
	}
}

// However many sources lose something, the state stays small, and no value is left out.
func TestAddLost_Bounded(t *testing.T) {
	var all []Loss
	for i := range 1000 {
		all = addLost(all, mesh.Void{Cause: mesh.CauseOverflow, Parts: []mesh.Part{{Source: fmt.Sprintf("source-%d", i), Count: 2}}}, 100)
	}
	all = addLost(all, mesh.Void{Cause: mesh.CauseDamaged, Lost: []mesh.Range{{First: 1, Last: 2}}}, 101)
	sum := uint64(0)
	for _, l := range all {
		sum += l.Count
	}
	if len(all) > mostLosses+2 || sum != 2000 || all[len(all)-1] != (Loss{Cause: mesh.CauseDamaged, Since: 101, Last: 101}) {
		t.Errorf("%d entries of %d values, the last %+v", len(all), sum, all[len(all)-1])
	}
	if got := readLosses([]byte("{")); got != nil {
		t.Errorf("%+v", got)
	}
}
