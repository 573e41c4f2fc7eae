package product

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"plantmesh/proto/mesh"
)

// branches makes a log whose agent's disk was put back and cloned, over and over: records
// of all branches, in whatever order they come, as the hub accounts for them.
type branches struct {
	t      *testing.T
	rng    *rand.Rand
	acc    *mesh.Account
	wrote  map[mesh.Epoch]uint64 // so many records were written in an epoch
	stored map[mesh.Position]bool
	tell   func(e mesh.Entry, o mesh.Opening, v mesh.Void)
}

func (b *branches) at(e mesh.Epoch, seq uint64) mesh.Position {
	return mesh.Position{Log: b.acc.Log, Epoch: e, Seq: seq}
}

// add accounts for a position, and hands its entry on.
func (b *branches) add(at mesh.Position, h mesh.Header, o mesh.Opening, v mesh.Void) {
	b.stored[at] = true
	for _, r := range v.Lost {
		if err := b.acc.Add(r); err != nil {
			b.t.Fatal(err)
		}
	}
	if err := b.acc.Add(mesh.Range{Epoch: at.Epoch, First: at.Seq, Last: at.Seq}); err != nil {
		b.t.Fatal(err)
	}
	ord, _ := b.acc.Ordinal(at)
	b.tell(mesh.Entry{Of: at, Ord: ord, Through: b.acc.Through(), Header: h}, o, v)
}

// open begins an epoch somewhere on the chain. Records of it are written at once, and come
// when they come.
func (b *branches) open() {
	e := mesh.Epoch{byte(len(b.wrote) + 1)}
	o := mesh.Opening{}
	if n := len(b.acc.Chain); n > 0 {
		l := b.acc.Chain[max(0, n-1-b.rng.IntN(3))]
		if l.End == 0 && l.Epoch != b.acc.Chain[n-1].Epoch { // off the chain as a whole: nobody may follow it
			l = b.acc.Chain[n-1]
		}
		if o.Parent = b.at(l.Epoch, 1+b.rng.Uint64N(b.wrote[l.Epoch])); b.rng.IntN(20) == 0 {
			o.Parent = mesh.Position{} // a new disk
		}
	}
	was := uint64(0)
	switch b.acc.Judge(e, o) {
	case mesh.LineageFork:
		for _, l := range b.acc.Chain {
			if l.Epoch == o.Parent.Epoch {
				was = l.End
			}
		}
		if err := b.acc.Graft(e, o); err != nil {
			b.t.Fatal(err)
		}
		for seq := was + 1; seq <= o.Parent.Seq; seq++ { // what is stored counts again
			if b.stored[b.at(o.Parent.Epoch, seq)] {
				if err := b.acc.Add(mesh.Range{Epoch: o.Parent.Epoch, First: seq, Last: seq}); err != nil {
					b.t.Fatal(err)
				}
			}
		}
	default:
		if err := b.acc.Open(e, o); err != nil {
			b.t.Fatal(err)
		}
	}
	b.wrote[e] = 1 + b.rng.Uint64N(6)
	b.add(b.at(e, 1), mesh.Header{Kind: mesh.KindOpening}, o, mesh.Void{})
}

// record brings one that did not come yet, or gives some up.
func (b *branches) record() {
	l := b.acc.Chain[b.rng.IntN(len(b.acc.Chain))]
	if b.wrote[l.Epoch] < 2 {
		return
	}
	at := b.at(l.Epoch, 2+b.rng.Uint64N(b.wrote[l.Epoch]-1))
	if b.stored[at] {
		return
	}
	from := mesh.Nanos(b.rng.IntN(40))
	span := mesh.Span{From: from, To: from + 1 + mesh.Nanos(b.rng.IntN(10))}
	v := mesh.Void{Cause: mesh.CauseDamaged, Parts: []mesh.Part{{Times: span}}}
	if n := b.rng.IntN(20); n > 3 {
		if n > 4 { // else nobody can read it
			v = mesh.Void{}
		}
		b.add(at, mesh.Header{Kind: mesh.KindBatch, Proven: span, Complete: span.To}, mesh.Opening{}, v)
		return
	}
	if at.Seq > 2 {
		first := 2 + b.rng.Uint64N(at.Seq-2)
		v.Lost = []mesh.Range{{Epoch: at.Epoch, First: first, Last: at.Seq - 1}}
	}
	b.add(at, mesh.Header{Kind: mesh.KindVoid}, mesh.Opening{}, v)
}

// fold takes an entry as a product does; came are the batches of before.
func fold(k *Known, c *Chain, e mesh.Entry, o mesh.Opening, v mesh.Void, came map[mesh.Position]mesh.Entry) {
	if e.Header.Kind == mesh.KindOpening {
		c.Open(e.Of, e.Ord, o)
	}
	c.Take(e.Of, e.Ord, e.Through, v.Lost)
	ord := e.Ord
	if e.Header.Kind == mesh.KindBatch {
		k.Batch(e.Of, e.Ord, e.Header)
		ord++ // of what nobody can read in it
	}
	for _, p := range v.Parts {
		k.Void(e.Of, ord, v, p)
		k.GiveUp(ord, v.Lost)
	}
	for _, x := range came {
		if Within(v.Lost, x.Of) {
			k.Batch(x.Of, x.Ord, x.Header)
		}
	}
}

// What is known of a log depends on what came of it, in its order, and not on when it was
// weighed: who folds it again says the same.
func TestChain_WhenItIsWeighedDoesNotMatter(t *testing.T) {
	for seed := range uint64(5_000) {
		rng := rand.New(rand.NewPCG(seed, 4))
		var knowns [3]Known
		var chains [3]Chain
		came := map[mesh.Position]mesh.Entry{}
		var told []string
		b := &branches{t: t, rng: rng, acc: &mesh.Account{Log: "agent/x/y"}, wrote: map[mesh.Epoch]uint64{}, stored: map[mesh.Position]bool{}}
		b.tell = func(e mesh.Entry, o mesh.Opening, v mesh.Void) {
			told = append(told, fmt.Sprintf("%s follows %s, ordinal %x through %x: %v, void %v lost %v", e.Of, o.Parent, e.Ord, e.Through, e.Header.Proven, v.Parts, v.Lost))
			for i := range knowns {
				fold(&knowns[i], &chains[i], e, o, v, came)
			}
			if e.Header.Kind == mesh.KindBatch {
				came[e.Of] = e
			}
			knowns[0].Advance(&chains[0])
			if rng.IntN(3) == 0 {
				knowns[1].Advance(&chains[1])
			}
		}
		b.open()
		for range 10 + rng.IntN(50) {
			if rng.IntN(6) == 0 && len(b.wrote) < 12 {
				b.open()
			} else {
				b.record()
			}
		}
		for i := range knowns {
			knowns[i].Advance(&chains[i])
		}
		for i := range knowns {
			if !slices.Equal(knowns[i].Spans(), knowns[2].Spans()) || knowns[i].Watermark != knowns[2].Watermark {
				for _, line := range told {
					t.Log(line)
				}
				t.Logf("%+v", chains[i])
				t.Logf("%+v", knowns[i])
				t.Logf("%+v", knowns[2])
				t.Fatalf("seed %d: weighed often: known %v, complete through %d; once: %v, %d",
					seed, knowns[i].Spans(), knowns[i].Watermark, knowns[2].Spans(), knowns[2].Watermark)
			}
		}
	}
}
