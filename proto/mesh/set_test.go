package mesh

import (
	"errors"
	"testing"

	"pgregory.net/rapid"
)

const log = LogID("agent/s/a")

func epoch(n byte) Epoch { return Epoch{n} }

func pos(e byte, seq uint64) Position { return Position{log, epoch(e), seq} }

// account is a log of epochs, each following the end of the one before.
func account(t interface{ Fatal(...any) }, ends ...uint64) *Account {
	a := &Account{Log: log}
	var parent Position
	for i, end := range ends {
		if err := a.Open(epoch(byte(i+1)), Opening{Parent: parent}); err != nil {
			t.Fatal(err)
		}
		parent = pos(byte(i+1), end)
	}
	return a
}

func TestAccount_ThroughIsContiguousNeverHighest(t *testing.T) {
	a := account(t, 3, 0)
	for _, step := range []struct {
		add  Range
		want Position
	}{
		{Range{epoch(1), 2, 2}, Position{}},
		{Range{epoch(2), 1, 5}, Position{}},
		{Range{epoch(1), 1, 1}, pos(1, 2)},
		{Range{epoch(1), 3, 3}, pos(2, 5)}, // over the end of the epoch into the next
		{Range{epoch(2), 7, 9}, pos(2, 5)},
		{Range{epoch(2), 6, 6}, pos(2, 9)},
	} {
		if err := a.Add(step.add); err != nil {
			t.Fatal(err)
		}
		if a.Set.Through != step.want {
			t.Fatalf("after %v: through %v, want %v", step.add, a.Set.Through, step.want)
		}
	}
	if len(a.Set.Islands) != 0 {
		t.Errorf("islands left: %v", a.Set.Islands)
	}
}

func TestAccount_RefusesThe65thIsland(t *testing.T) {
	a := account(t, 0)
	for i := range uint64(MaxIslands) {
		if err := a.Add(Range{epoch(1), 3 + 2*i, 3 + 2*i}); err != nil {
			t.Fatal(err)
		}
	}
	if err := a.Add(Range{epoch(1), 1000, 1000}); !errors.Is(err, ErrIslands) {
		t.Fatalf("the 65th island: %v", err)
	}
	if a.Has(pos(1, 1000)) || !a.Has(pos(1, 3)) {
		t.Error("a refused record changed the set")
	}
	if err := a.Add(Range{epoch(1), 1, 2}); err != nil { // the oldest hole
		t.Fatal(err)
	}
	if err := a.Add(Range{epoch(1), 1000, 1000}); err != nil {
		t.Errorf("after the oldest hole was filled: %v", err)
	}
}

func TestAccount_JudgesOpenings(t *testing.T) {
	a := account(t, 4, 0)
	for _, r := range []Range{{epoch(1), 1, 4}, {epoch(2), 1, 9}} {
		if err := a.Add(r); err != nil {
			t.Fatal(err)
		}
	}
	for name, c := range map[string]struct {
		e    Epoch
		o    Opening
		want Lineage
	}{
		"follows the tip":            {epoch(3), Opening{pos(2, 9)}, LineageFollows},
		"follows beyond what is had": {epoch(3), Opening{pos(2, 12)}, LineageFollows},
		"known":                      {epoch(2), Opening{pos(1, 4)}, LineageKnown},
		"rolled back in the tip":     {epoch(3), Opening{pos(2, 7)}, LineageBack},
		"forks an older epoch":       {epoch(3), Opening{pos(1, 4)}, LineageFork},
		"begins anew":                {epoch(3), Opening{}, LineageFork},
		"parent not known yet":       {epoch(9), Opening{pos(8, 1)}, LineageEarly},
	} {
		if got := a.Judge(c.e, c.o); got != c.want {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}

// Beyond where its opening ends it, a branch is off the chain: its holes block
// nothing, and what came of it stays known to whoever stored it.
func TestAccount_ARolledBackBranchBlocksNothing(t *testing.T) {
	a := account(t, 0)
	for _, r := range []Range{{epoch(1), 1, 5}, {epoch(1), 8, 9}} {
		if err := a.Add(r); err != nil {
			t.Fatal(err)
		}
	}
	if err := a.Open(epoch(2), Opening{pos(1, 5)}); err != nil {
		t.Fatal(err)
	}
	if err := a.Add(Range{epoch(2), 1, 2}); err != nil {
		t.Fatal(err)
	}
	if a.Set.Through != pos(2, 2) {
		t.Errorf("through %v", a.Set.Through)
	}
	if err := a.Add(Range{epoch(1), 6, 7}); err != nil || len(a.Set.Islands) != 0 {
		t.Errorf("a late record of the dead branch: %v %v", err, a.Set.Islands)
	}
}

// A log that goes on from an older disk, or from none, forks the chain. Once it
// is accepted nothing of the other branch stands in its way.
func TestAccount_AGraftedBranchGoesOn(t *testing.T) {
	for name, c := range map[string]struct {
		parent   Position
		had      []Range
		through  Position // after the graft
		fill     []Range
		complete Position
	}{
		"wiped":                      {Position{}, []Range{{epoch(1), 1, 4}, {epoch(2), 1, 5}, {epoch(2), 8, 9}}, pos(2, 5), nil, pos(3, 2)},
		"older disk":                 {pos(1, 3), []Range{{epoch(1), 1, 4}, {epoch(2), 1, 5}}, pos(2, 5), nil, pos(3, 2)},
		"older disk, tip never came": {pos(1, 3), []Range{{epoch(1), 1, 4}}, pos(1, 3), nil, pos(3, 2)},
		"a hole it can still fill":   {pos(1, 3), []Range{{epoch(1), 1, 1}, {epoch(1), 3, 4}, {epoch(2), 2, 5}}, pos(1, 1), []Range{{epoch(1), 2, 2}}, pos(3, 2)},
	} {
		a := account(t, 4, 0)
		for _, r := range c.had {
			if err := a.Add(r); err != nil {
				t.Fatal(err)
			}
		}
		if err := a.Graft(epoch(3), Opening{c.parent}); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if a.Set.Through != c.through {
			t.Errorf("%s: through %v, want %v", name, a.Set.Through, c.through)
		}
		for _, r := range append(c.fill, Range{epoch(2), 6, 7}, Range{epoch(3), 1, 2}) {
			if err := a.Add(r); err != nil {
				t.Errorf("%s: add %v: %v", name, r, err)
			}
		}
		if a.Set.Through != c.complete || len(a.Set.Islands) != 0 {
			t.Errorf("%s: %+v, want through %v", name, a.Set, c.complete)
		}
		if err := a.Graft(epoch(4), Opening{pos(2, 3)}); err == nil {
			t.Errorf("%s: an epoch behind the other branch was accepted", name)
		}
		if err := a.Open(epoch(5), Opening{pos(3, 2)}); err != nil || a.Add(Range{epoch(5), 1, 1}) != nil || a.Set.Through != pos(5, 1) {
			t.Errorf("%s: its next epoch: %v, through %v", name, err, a.Set.Through)
		}
	}
}

// Whatever the order and however often positions come, the set ends the same.
func TestAccount_OrderAndRepeatsDontMatter(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.Uint64Range(1, 40).Draw(t, "n")
		want := account(t, n, 0)
		var all []Range
		for e, last := range map[byte]uint64{1: n, 2: 20} {
			for s := uint64(1); s <= last; s++ {
				all = append(all, Range{epoch(e), s, s})
			}
		}
		shuffled := rapid.Permutation(all).Draw(t, "order")
		for _, r := range shuffled {
			for range rapid.IntRange(1, 2).Draw(t, "times") {
				if err := want.Add(r); err != nil {
					t.Fatal(err)
				}
			}
			if !want.Has(Position{log, r.Epoch, r.First}) {
				t.Fatalf("%v was added and is not had", r)
			}
		}
		if want.Set.Through != pos(2, 20) || len(want.Set.Islands) != 0 {
			t.Fatalf("ends at %v with %v", want.Set.Through, want.Set.Islands)
		}
	})
}

func TestSample_OrderIsTotalAndByContent(t *testing.T) {
	gen := rapid.Custom(func(t *rapid.T) Sample {
		return Sample{
			Signal: rapid.Uint32Range(0, 2).Draw(t, "signal"), Time: Nanos(rapid.Int64Range(0, 2).Draw(t, "time")),
			Seq: rapid.Uint64Range(0, 1).Draw(t, "seq"), Status: Status(rapid.Uint32Range(0, 1).Draw(t, "status")),
			Server: Nanos(rapid.Int64Range(0, 1).Draw(t, "server")), Value: Int(rapid.Int64Range(0, 2).Draw(t, "value")),
		}
	})
	rapid.Check(t, func(t *rapid.T) {
		a, b, c := gen.Draw(t, "a"), gen.Draw(t, "b"), gen.Draw(t, "c")
		if a.Compare(b) != -b.Compare(a) {
			t.Fatal("not antisymmetric")
		}
		if a.Compare(b) <= 0 && b.Compare(c) <= 0 && a.Compare(c) > 0 {
			t.Fatal("not transitive")
		}
		if a.Same(b) && a.Compare(b) != 0 && a.Server == b.Server {
			t.Fatal("the same, yet ordered")
		}
	})
}

// A clone's opening ends the epoch both follow early. When the agent's own is
// taken in, what it had there is asked for again.
func TestAccount_GraftFurtherOnAsksForWhatACloneCutOff(t *testing.T) {
	log := LogID("agent/graz/gw-1")
	both, clone, own := Epoch{1}, Epoch{2}, Epoch{3}
	a := Account{Log: log}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(a.Open(both, Opening{}))
	must(a.Add(Range{both, 1, 1}))
	must(a.Open(clone, Opening{Parent: Position{log, both, 1}}))
	must(a.Add(Range{clone, 1, 1}))
	if a.Forked() {
		t.Error("a clone that follows is no fork")
	}
	must(a.Graft(own, Opening{Parent: Position{log, both, 2}}))
	must(a.Add(Range{own, 1, 1}))
	if !a.Clone().Forked() {
		t.Error("a fork was taken in, and is forgotten")
	}
	if a.Has(Position{log, both, 2}) || a.Set.Through != (Position{log, both, 1}) {
		t.Errorf("nobody asks for record 2: %+v", a.Set)
	}
	must(a.Add(Range{both, 2, 2}))
	if a.Set.Through != (Position{log, own, 1}) || len(a.Set.Islands) != 0 {
		t.Errorf("all came, and the set is %+v", a.Set)
	}
}
