package product

import (
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"

	"plantmesh/proto/mesh"
)

// claim is a record as Known sees it.
type claim struct {
	seq    uint64
	proven mesh.Span
	void   bool
	done   mesh.Nanos
	lost   []mesh.Range
}

// arrive gives Known the claims in an order, with Through as ingest has it.
func arrive(t *testing.T, claims []claim, order []int, pages int) *Known {
	t.Helper()
	k, chain := &Known{}, &Chain{}
	a := &mesh.Account{Log: "agent/x/y"}
	if err := a.Open(mesh.Epoch{1}, mesh.Opening{}); err != nil {
		t.Fatal(err)
	}
	for n, i := range order {
		c := claims[i]
		at := mesh.Position{Log: a.Log, Epoch: mesh.Epoch{1}, Seq: c.seq}
		if err := a.Add(mesh.Range{Epoch: at.Epoch, First: c.seq, Last: c.seq}); err != nil {
			t.Fatal(err)
		}
		for _, r := range c.lost {
			if err := a.Add(r); err != nil {
				t.Fatal(err)
			}
		}
		ord, _ := a.Ordinal(at)
		chain.Take(at, ord, a.Through(), c.lost)
		if c.void {
			k.Void(at, ord, mesh.Void{Cause: mesh.CauseDied}, mesh.Part{Times: c.proven})
			k.GiveUp(ord, c.lost)
		} else {
			k.Batch(at, ord, mesh.Header{Proven: c.proven, Complete: c.done})
		}
		if n%pages == 0 {
			k.Advance(chain)
			b, err := k.Encode()
			if err != nil {
				t.Fatal(err)
			}
			if k, err = DecodeKnown(b); err != nil {
				t.Fatal(err)
			}
		}
	}
	k.Advance(chain)
	return k
}

// alone is a source that one log speaks of.
func alone(k *Known) *Voices { return &Voices{Of: map[mesh.LogID]*Known{"agent/x/y": k}} }

func TestKnown_IsTheSameInAnyOrder(t *testing.T) {
	seeds := uint64(300)
	if testing.Short() {
		seeds = 20
	}
	for seed := range seeds {
		rng := rand.New(rand.NewPCG(seed, 3))
		claims := make([]claim, 0, 40)
		last := make([]uint64, 100) // by instant: seq of the last proof, 0 where a void is later
		order := make([]int, 40)
		for i := range 40 {
			from := mesh.Nanos(rng.IntN(90))
			c := claim{seq: uint64(i + 1), proven: mesh.Span{From: from, To: from + mesh.Nanos(rng.IntN(12))}, void: rng.IntN(3) == 0, done: mesh.Nanos(i)}
			claims = append(claims, c)
			for x := c.proven.From; x < min(c.proven.To, 100); x++ {
				last[x] = c.seq
				if c.void {
					last[x] = 0
				}
			}
			order[i] = i
		}
		for i := range order { // records move a little; more than 64 islands can't be
			j := min(len(order)-1, i+rng.IntN(20))
			order[i], order[j] = order[j], order[i]
		}
		k := arrive(t, claims, order, 1+rng.IntN(7))
		spans := k.Spans()
		for x := range mesh.Nanos(100) {
			known := slices.ContainsFunc(spans, func(s mesh.Span) bool { return s.Has(x) })
			if known != (last[x] != 0) {
				t.Fatalf("seed %d: instant %d known is %v; %v", seed, x, known, spans)
			}
		}
		var highest mesh.Nanos
		for _, c := range claims {
			if !c.void {
				highest = max(highest, c.done)
			}
		}
		if k.Watermark != highest || len(k.Pending) != 0 {
			t.Fatalf("seed %d: watermark %d, want %d", seed, k.Watermark, highest)
		}
		straight := make([]int, 40)
		for i := range straight {
			straight[i] = i
		}
		d, other := definition(t, "coverage"), arrive(t, claims, straight, 1)
		if !slices.Equal(k.Pieces, other.Pieces) || !reflect.DeepEqual(d.CoverageDrafts("s", alone(k)), d.CoverageDrafts("s", alone(other))) {
			t.Fatalf("seed %d: another order gives\n%v\n%v", seed, k.Pieces, other.Pieces)
		}
	}
}

func TestKnown_WatermarkWaitsBehindAHole(t *testing.T) {
	claims := []claim{{seq: 1, done: 10, proven: mesh.Span{From: 0, To: 10}}, {seq: 2, done: 20, proven: mesh.Span{From: 10, To: 20}}, {seq: 3, done: 30, proven: mesh.Span{From: 20, To: 30}}}
	k := arrive(t, claims, []int{0, 2}, 1)
	if k.Watermark != 10 || len(k.Spans()) != 2 {
		t.Errorf("watermark %d behind a hole, known %v", k.Watermark, k.Spans())
	}
	if k = arrive(t, claims, []int{0, 2, 1}, 1); k.Watermark != 30 || len(k.Spans()) != 1 || len(k.Pieces) != 1 {
		t.Errorf("watermark %d when the hole is filled, pieces %v", k.Watermark, k.Pieces)
	}
}

func TestKnown_DataBeatsVoid(t *testing.T) {
	claims := []claim{
		{seq: 1, proven: mesh.Span{From: 0, To: 10}},
		{seq: 2, proven: mesh.Span{From: 10, To: 20}},
		{seq: 3, void: true, proven: mesh.Span{From: 10, To: 20}, lost: []mesh.Range{{Epoch: mesh.Epoch{1}, First: 2, Last: 2}}},
	}
	if k := arrive(t, claims, []int{0, 2}, 1); len(k.Spans()) != 1 || k.Spans()[0].To != 10 {
		t.Errorf("voided, but known %v", k.Spans())
	}
	for _, order := range [][]int{{0, 2, 1}, {0, 1, 2}} {
		k := arrive(t, claims, order, 1)
		if order[1] == 2 && (len(k.Spans()) != 1 || k.Spans()[0].To != 20) {
			t.Errorf("the data came, but known is %v", k.Spans())
		}
	}
}

func TestKnown_Difference(t *testing.T) {
	s := func(x ...mesh.Nanos) (out []mesh.Span) {
		for i := 0; i < len(x); i += 2 {
			out = append(out, mesh.Span{From: x[i], To: x[i+1]})
		}
		return out
	}
	for name, c := range map[string]struct {
		a, b []mesh.Span
		at   mesh.Nanos
		ok   bool
	}{
		"same":         {s(1, 5), s(1, 5), 0, false},
		"grown":        {s(1, 5), s(1, 7), 5, true},
		"shrunk":       {s(1, 5), s(1, 3), 3, true},
		"another":      {s(1, 5), s(1, 5, 7, 9), 7, true},
		"filled":       {s(1, 5, 7, 9), s(1, 9), 5, true},
		"begins later": {s(1, 5), s(2, 5), 1, true},
		"nothing":      {nil, s(2, 5), 2, true},
	} {
		if at, ok := FirstDifference(c.a, c.b); at != c.at || ok != c.ok {
			t.Errorf("%s: %d %v", name, at, ok)
		}
	}
}

// An opening ends its parent at position 4: of what the branch sent beyond, 5
// and 6 count and what stands behind the hole at 7 does not, whatever came
// first, and until the hole is filled.
func TestKnown_ProofsBeyondAHoleOfABranchThatWasLeftDoNotCount(t *testing.T) {
	epochs := []mesh.Epoch{{1}, {2}}
	type record struct {
		epoch int
		seq   uint64
	}
	var all []record
	for _, seq := range []uint64{2, 3, 4, 5, 6, 8, 9} {
		all = append(all, record{0, seq})
	}
	all = append(all, record{1, 2}, record{1, 3})
	span := func(r record) mesh.Span {
		from := mesh.Nanos(r.epoch*1000) + mesh.Nanos(r.seq*10)
		return mesh.Span{From: from, To: from + 10}
	}
	run := func(rng *rand.Rand, extra ...record) (*Known, *mesh.Account) {
		k, chain, a := &Known{}, &Chain{}, &mesh.Account{Log: "agent/x/y"}
		take := func(r record) {
			at := mesh.Position{Log: a.Log, Epoch: epochs[r.epoch], Seq: r.seq}
			o := mesh.Opening{}
			if r.epoch == 1 {
				o.Parent = mesh.Position{Log: a.Log, Epoch: epochs[0], Seq: 4}
			}
			if err := a.Open(at.Epoch, o); err != nil {
				t.Fatal(err)
			}
			if err := a.Add(mesh.Range{Epoch: at.Epoch, First: r.seq, Last: r.seq}); err != nil {
				t.Fatal(err)
			}
			ord, _ := a.Ordinal(at)
			if r.seq == 1 {
				chain.Open(at, ord, o)
			}
			chain.Take(at, ord, a.Through(), nil)
			if r.seq > 1 {
				k.Batch(at, ord, mesh.Header{Proven: span(r), Complete: span(r).To})
			}
			if rng.IntN(2) == 0 {
				k.Advance(chain)
			}
			b, err := k.Encode()
			if err != nil {
				t.Fatal(err)
			}
			if k, err = DecodeKnown(b); err != nil {
				t.Fatal(err)
			}
			if b, err = chain.Encode(); err != nil {
				t.Fatal(err)
			}
			if chain, err = DecodeChain(b); err != nil {
				t.Fatal(err)
			}
		}
		take(record{0, 1})
		rest := append(slices.Clone(all), extra...)
		rng.Shuffle(len(rest), func(i, j int) { rest[i], rest[j] = rest[j], rest[i] })
		opened, early := false, rng.IntN(len(rest))
		for i, r := range rest {
			if !opened && (r.epoch == 1 || i == early) {
				opened = true
				take(record{1, 1})
			}
			take(r)
		}
		k.Advance(chain)
		return k, a
	}
	for seed := range uint64(500) {
		rng := rand.New(rand.NewPCG(seed, 9))
		k, a := run(rng)
		if want := []mesh.Span{{From: 20, To: 70}, {From: 1020, To: 1040}}; !slices.Equal(k.Spans(), want) || k.Watermark != 1040 {
			t.Fatalf("seed %d: known %v through %s, want %v; watermark %d", seed, k.Spans(), a.Set.Through, want, k.Watermark)
		}
		if k, _ = run(rng, record{0, 7}); !slices.Equal(k.Spans(), []mesh.Span{{From: 20, To: 100}, {From: 1020, To: 1040}}) {
			t.Fatalf("seed %d: the hole is filled, known %v", seed, k.Spans())
		}
	}
}

// A branch that was left brings a void of what another epoch has proven since:
// whether that was settled meanwhile must not matter.
func TestKnown_AVoidOfABranchThatWasLeftComesLate(t *testing.T) {
	ord := func(place, seq int) mesh.Ordinal { return mesh.Ordinal(place)<<seqBits | mesh.Ordinal(seq) }
	for _, c := range []struct {
		proven mesh.Ordinal // of the stretch 10 to 20
		void   mesh.Ordinal // of the same
		known  bool
	}{
		{ord(3, 2), ord(2, 4), true},  // in an epoch behind it
		{ord(1, 2), ord(2, 4), false}, // in the one before
		{ord(2, 2), ord(2, 4), false}, // in its own, before it
		{ord(3, 2), ord(3, 3), false}, // on the chain
	} {
		for _, settled := range []bool{true, false} {
			k := &Known{}
			chain := &Chain{Through: ord(4, 9), Links: []Link{{End: 3}, {End: 3}, {End: 3}, {}}}
			k.Batch(mesh.Position{}, c.proven, mesh.Header{Proven: mesh.Span{From: 10, To: 20}, Complete: 20})
			k.Batch(mesh.Position{}, c.proven, mesh.Header{Proven: mesh.Span{From: 30, To: 40}, Complete: 40})
			if settled {
				k.Advance(chain)
			}
			k.Void(mesh.Position{}, c.void, mesh.Void{Cause: mesh.CauseDamaged}, mesh.Part{Times: mesh.Span{From: 10, To: 20}})
			k.Advance(chain)
			if got := len(k.Spans()) == 2; got != c.known {
				t.Errorf("proven by %x, void %x, settled before: %v: known %v", c.proven, c.void, settled, got)
			}
		}
	}
	// Epochs that are not kept are one: pieces don't grow with the age of a log.
	k, chain := &Known{}, &Chain{}
	for place := 1; place < 500; place++ {
		k.Batch(mesh.Position{}, ord(place, 2), mesh.Header{Proven: mesh.Span{From: mesh.Nanos(place), To: mesh.Nanos(place + 1)}, Complete: mesh.Nanos(place + 1)})
		chain.Take(mesh.Position{Epoch: mesh.Epoch{byte(place), byte(place >> 8)}, Seq: 2}, ord(place, 2), ord(place, 2), nil)
		k.Advance(chain)
	}
	if n := len(k.Pieces); n > maxLinks+1 {
		t.Errorf("%d pieces", n)
	}
}

// A disk that was put back twice: the second branch follows the first epoch
// further back, so the epoch between is off the chain as a whole.
func TestChain_ForkLeavesWholeEpochs(t *testing.T) {
	c, log := &Chain{}, mesh.LogID("agent/x/y")
	at := func(e byte, seq uint64) mesh.Position { return mesh.Position{Log: log, Epoch: mesh.Epoch{e}, Seq: seq} }
	ord := func(e, seq uint64) mesh.Ordinal { return mesh.Ordinal(e)<<seqBits | mesh.Ordinal(seq) }
	take := func(e byte, seq uint64, through mesh.Ordinal) { c.Take(at(e, seq), ord(uint64(e), seq), through, nil) }
	c.Open(at(1, 1), ord(1, 1), mesh.Opening{})
	for seq := range uint64(9) {
		take(1, seq+1, ord(1, seq+1))
	}
	c.Open(at(2, 1), ord(2, 1), mesh.Opening{Parent: at(1, 9)})
	take(2, 1, ord(2, 1))
	take(2, 2, ord(2, 2))
	take(2, 4, ord(2, 2)) // 3 never comes
	c.Open(at(3, 1), ord(3, 1), mesh.Opening{Parent: at(1, 5)})
	take(3, 1, ord(3, 1))
	take(3, 3, ord(3, 1))
	for _, x := range []struct {
		epoch, seq uint64
		want       Standing
	}{
		{1, 5, StandingSettled},
		{1, 9, StandingSettled},
		{2, 2, StandingSettled},
		{2, 4, StandingCut},
		{3, 1, StandingSettled},
		{3, 3, StandingOpen},
	} {
		if got := c.Standing(ord(x.epoch, x.seq)); got != x.want {
			t.Errorf("record %d of epoch %d stands at %d, want %d", x.seq, x.epoch, got, x.want)
		}
	}
}

func TestVoices_WaitForEveryLogUntilItIsRetired(t *testing.T) {
	v := &Voices{}
	speak := func(log mesh.LogID, from, to mesh.Nanos) {
		k := v.Log(log)
		k.Batch(mesh.Position{Log: log, Epoch: mesh.Epoch{1}, Seq: 2}, 1<<seqBits|2, mesh.Header{Proven: mesh.Span{From: from, To: to}, Complete: to})
		k.Advance(&Chain{Through: 1<<seqBits | 2, Links: []Link{{Epoch: mesh.Epoch{1}}}})
	}
	nobody := func(mesh.LogID) bool { return false }
	speak("agent/x/old", 0, 100)
	v.Settle(nobody)
	if v.Watermark != 100 {
		t.Fatalf("watermark %d", v.Watermark)
	}
	speak("agent/x/new", 80, 90)
	v.Settle(nobody)
	if v.Watermark != 100 {
		t.Errorf("the watermark fell to %d", v.Watermark)
	}
	speak("agent/x/new", 90, 300)
	v.Settle(nobody)
	if v.Watermark != 100 || len(v.Spans()) != 1 || v.Spans()[0].To != 300 {
		t.Errorf("while the old agent may hold something: watermark %d, known %v", v.Watermark, v.Spans())
	}
	v.Settle(func(log mesh.LogID) bool { return log == "agent/x/old" })
	if v.Watermark != 300 {
		t.Errorf("retired, watermark %d", v.Watermark)
	}
}
