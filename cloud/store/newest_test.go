package store

import (
	"context"
	"database/sql"
	"fmt"
	"maps"
	"slices"
	"testing"

	"plantmesh/proto/mesh"
	"plantmesh/proto/wire"
)

// Whatever of it is compacted, and whoever asked before: the newest sample of
// every signal is the last in the order of folding among all there are.
func TestNewest_IsTheLastOfAll(t *testing.T) {
	for seed := range fewer(4) {
		sc := newScene(t, 100+seed)
		for round := range 4 {
			sc.say("a", 12)
			sc.say("b", 5)
			if round == 1 {
				sc.mustBeNewest(fmt.Sprintf("seed %d: staged", seed))
			}
			through := sc.end
			through.Seq -= uint64(sc.rng.IntN(10))
			want := sc.newestByHand()
			sc.compact(through, 0)
			if got := sc.newestNow(); !maps.Equal(got, want) {
				t.Fatalf("seed %d, round %d: %v, want %v", seed, round, got, want)
			}
			if round == 2 {
				sc.reopen()
				if got := sc.newestNow(); !maps.Equal(got, want) {
					t.Fatalf("seed %d: opened again: %v, want %v", seed, got, want)
				}
			}
		}
	}
}

// countingReads counts transactions that read.
type countingReads struct {
	base

	reads int
}

func (c *countingReads) read(ctx context.Context, do func(*sql.Tx) error) error {
	c.reads++
	return c.base.read(ctx, do)
}

// Much that is not compacted is found a page at a time, while others may read and
// ask; what is compacted between two pages is not missed.
func TestNewest_GoesOnByPages(t *testing.T) {
	sc := newScene(t, 7)
	sc.say("a", 3*newestPage)
	want := sc.newestByHand()
	c := &countingReads{base: sc.s.base}
	sc.s.base = c
	if got := sc.newestNow(); !maps.Equal(got, want) || c.reads < 4 {
		t.Errorf("%d signals in %d reads, want %d in 4 at least", len(got), c.reads, len(want))
	}
	sc.reopen()
	if _, more, err := sc.s.newestSoFar(t.Context(), "a", sc.now); err != nil || !more {
		t.Fatalf("after a page: more %v, %v", more, err)
	}
	sc.compact(sc.end, 0)
	if got := sc.newestNow(); !maps.Equal(got, want) {
		t.Errorf("compacted between two pages: %v, want %v", got, want)
	}
}

func (sc *scene) newestNow() map[string]string {
	sc.t.Helper()
	got, err := sc.s.Newest(sc.t.Context(), "a", sc.now)
	if err != nil {
		sc.t.Fatal(err)
	}
	out := map[string]string{}
	for _, n := range got {
		out[n.Signal.Name] = newestText(n)
	}
	return out
}

func newestText(n mesh.Newest) string {
	var marks []string
	for _, m := range n.Marks {
		marks = append(marks, fmt.Sprint(m.Rule, m.Action))
	}
	slices.Sort(marks)
	x := n.Sample
	return fmt.Sprint(x.Time, x.Seq, x.Status, x.Flags, x.Value, x.Server, slices.Compact(marks))
}

// newestByHand looks through the whole history.
func (sc *scene) newestByHand() map[string]string {
	sc.t.Helper()
	entries, err := sc.s.History(sc.t.Context(), "a", ever())
	if err != nil {
		sc.t.Fatal(err)
	}
	dec, err := wire.NewDecoder()
	if err != nil {
		sc.t.Fatal(err)
	}
	best := map[string]mesh.Newest{}
	for i := range entries {
		b, err := dec.Batch(entries[i].Sealed)
		if err != nil {
			sc.t.Fatal(err)
		}
		shift := slices.Index(sc.tables, b.Table)
		for k, x := range b.Samples {
			if x.Time > sc.now.Add(newestAhead) {
				continue
			}
			name := fmt.Sprintf("s%d", (int(x.Signal)+shift)%8)
			n := mesh.Newest{Signal: mesh.Signal{Name: name}, Sample: x}
			if v := entries[i].Verdict; v != nil {
				for _, m := range v.Marks {
					if m.Index == uint32(k) {
						n.Marks = append(n.Marks, m)
					}
				}
			}
			was, ok := best[name]
			switch {
			case !ok || compareNewest(was.Sample, x) < 0 && !was.Sample.Same(x):
				best[name] = n
			case was.Sample.Same(x):
				was.Marks = append(was.Marks, n.Marks...)
				was.Sample.Flags &= x.Flags
				was.Sample.Server = min(was.Sample.Server, x.Server)
				best[name] = was
			}
		}
	}
	out := map[string]string{}
	for name, n := range best {
		out[name] = newestText(n)
	}
	return out
}

func (sc *scene) mustBeNewest(when string) {
	sc.t.Helper()
	if got, want := sc.newestNow(), sc.newestByHand(); !maps.Equal(got, want) || len(want) == 0 {
		sc.t.Fatalf("%s: %v, want %v", when, got, want)
	}
}
