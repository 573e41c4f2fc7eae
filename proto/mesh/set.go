package mesh

import (
	"errors"
	"fmt"
	"slices"
)

// MaxIslands is how many runs of positions above holes a Set may hold. A
// record that would open one more is not accounted; the receipt then asks for
// the oldest hole.
const MaxIslands = 64

// ErrIslands is returned when an Add would open the 65th island.
var ErrIslands = errors.New("the set already holds 64 islands: fill the oldest hole first")

// ErrUnknownEpoch is returned when a position's opening is not accounted yet.
var ErrUnknownEpoch = errors.New("the epoch's opening is not accounted yet")

// Set is the positions a reader has accounted for: everything on the chain
// through one position, and at most MaxIslands runs above holes. Contiguous,
// never highest.
type Set struct {
	Through Position // zero: nothing yet
	Islands []Range  // sorted by chain order, disjoint, none touching another or Through
}

// Link is one epoch of a chain.
type Link struct {
	Epoch  Epoch
	Parent Position // zero for the first epoch
	End    uint64   // where the next opening ended this epoch; 0 while it is the tip, or off the chain as a whole
}

// Ordinal numbers positions along a chain: the epoch's place in the chain in
// the high 24 bits, the sequence in the low 40.
type Ordinal uint64

// ordinalBits of sequence in an epoch: 2^40 records at 1,000 a second last 34 years.
const ordinalBits = 40

// Account is what a reader keeps of one log: its chain of epochs and the set
// accounted for. It is a pure value: copy it with Clone, store it with the
// rows it speaks of, in one transaction.
//
// Not safe for concurrent use.
type Account struct {
	Log   LogID
	Chain []Link
	Set   Set
}

// Clone is a deep copy.
func (a *Account) Clone() *Account {
	return &Account{Log: a.Log, Chain: slices.Clone(a.Chain), Set: Set{a.Set.Through, slices.Clone(a.Set.Islands)}}
}

// Lineage is what an opening turns out to be.
type Lineage uint8

// Lineages of an opening.
const (
	LineageFollows Lineage = iota // it follows the tip: the normal case
	LineageKnown                  // this opening is already on the chain
	LineageBack                   // it follows a position before what we have: a rolled-back disk, if the branch is silent
	LineageFork                   // it follows an epoch that is not the tip: a rolled-back disk or a clone
	LineageEarly                  // its parent epoch is not known yet: its opening is still on its way
)

// Judge says what an opening of epoch e is to this account. It changes nothing.
func (a *Account) Judge(e Epoch, o Opening) Lineage {
	switch {
	case a.index(e) >= 0:
		return LineageKnown
	case len(a.Chain) == 0 && o.Parent.IsZero():
		return LineageFollows
	case o.Parent.IsZero():
		return LineageFork
	}
	parent := a.index(o.Parent.Epoch)
	switch {
	case parent < 0:
		return LineageEarly
	case parent < len(a.Chain)-1:
		return LineageFork
	case o.Parent.Seq < a.highest(o.Parent.Epoch):
		return LineageBack
	}
	return LineageFollows
}

// Open puts epoch e on the chain. Follows and Back end the tip where the
// opening says: what was accounted beyond that stays known but is off the
// chain, and its holes block nothing. The opening's own position (seq 1) still
// has to be added.
func (a *Account) Open(e Epoch, o Opening) error {
	switch l := a.Judge(e, o); l {
	case LineageKnown:
		return nil
	case LineageFollows, LineageBack:
		if n := len(a.Chain); n > 0 {
			a.Chain[n-1].End = o.Parent.Seq
			a.dropBeyond(a.Chain[n-1])
		}
		a.Chain = append(a.Chain, Link{Epoch: e, Parent: o.Parent})
		a.absorb()
		return nil
	case LineageFork:
		return fmt.Errorf("opening %s of %s forks the chain at %s", e, a.Log, o.Parent)
	case LineageEarly:
		return ErrUnknownEpoch
	}
	return nil
}

// Graft puts epoch e on the chain though it forks it: who has the log now went
// on from before the tip's epoch, or from nothing. What was accounted of the
// other branch stays, but it is off the chain: its holes block nothing. Where the
// other branch had ended the epoch both follow further back, what lies between is
// asked for. An
// epoch that follows a branch already off the chain is refused.
func (a *Account) Graft(e Epoch, o Opening) error {
	if a.Judge(e, o) != LineageFork {
		return fmt.Errorf("opening %s of %s is no fork", e, a.Log)
	}
	parent := a.index(o.Parent.Epoch)
	if parent >= 0 && a.dead(parent) {
		return fmt.Errorf("opening %s of %s follows %s, which is off the chain", e, a.Log, o.Parent)
	}
	for i := parent + 1; i < len(a.Chain); i++ {
		a.Chain[i].End = 0
	}
	a.Set.Islands = slices.DeleteFunc(a.Set.Islands, func(r Range) bool { return a.index(r.Epoch) > parent })
	if parent >= 0 {
		was := a.Chain[parent].End
		a.Chain[parent].End = o.Parent.Seq
		if o.Parent.Seq > was && a.index(a.Set.Through.Epoch) > parent {
			a.Set.Through = Position{a.Log, o.Parent.Epoch, was}
		}
		a.dropBeyond(a.Chain[parent])
	}
	a.Chain = append(a.Chain, Link{Epoch: e, Parent: o.Parent})
	a.absorb()
	return nil
}

// Forked reports whether a fork was ever taken in: see Graft.
func (a *Account) Forked() bool {
	for i := range a.Chain {
		if a.dead(i) {
			return true
		}
	}
	return false
}

// dead reports whether an epoch is off the chain as a whole: see Graft.
func (a *Account) dead(i int) bool { return i < len(a.Chain)-1 && a.Chain[i].End == 0 }

// Add accounts for a run of positions of an epoch on the chain.
func (a *Account) Add(r Range) error {
	if r.First == 0 || r.Last < r.First {
		return fmt.Errorf("range %d to %d of epoch %s is no range", r.First, r.Last, r.Epoch)
	}
	i := a.index(r.Epoch)
	if i < 0 {
		return ErrUnknownEpoch
	}
	if i < len(a.Chain)-1 { // of an epoch off the chain nothing is left
		r.Last = min(r.Last, a.Chain[i].End)
	}
	switch t := a.index(a.Set.Through.Epoch); {
	case i < t:
		return nil
	case i == t:
		r.First = max(r.First, a.Set.Through.Seq+1)
	}
	if r.Last < r.First {
		return nil
	}
	merged := a.insert(r)
	if len(a.fold(merged)) > MaxIslands {
		return ErrIslands
	}
	a.Set.Islands = merged
	a.absorb()
	return nil
}

// Has reports whether p is accounted for, or can't be any more because it is
// off the chain beyond where its epoch was ended.
func (a *Account) Has(p Position) bool {
	i := a.index(p.Epoch)
	if i < 0 {
		return false
	}
	if t := a.index(a.Set.Through.Epoch); t >= 0 && (i < t || i == t && p.Seq <= a.Set.Through.Seq) {
		return true
	}
	for _, r := range a.Set.Islands {
		if r.Epoch == p.Epoch && r.First <= p.Seq && p.Seq <= r.Last {
			return true
		}
	}
	return false
}

// Ordinal numbers p along the chain; ok is false where p's epoch is not on it.
func (a *Account) Ordinal(p Position) (o Ordinal, ok bool) {
	i := a.index(p.Epoch)
	if i < 0 {
		return 0, false
	}
	return Ordinal(i+1)<<ordinalBits | Ordinal(p.Seq), true
}

// Through is the ordinal of the contiguous end; 0 where nothing is accounted.
func (a *Account) Through() Ordinal {
	o, _ := a.Ordinal(a.Set.Through)
	return o
}

func (a *Account) index(e Epoch) int {
	return slices.IndexFunc(a.Chain, func(l Link) bool { return l.Epoch == e })
}

// highest is the last position of e accounted for.
func (a *Account) highest(e Epoch) (seq uint64) {
	if a.Set.Through.Epoch == e {
		seq = a.Set.Through.Seq
	}
	for _, r := range a.Set.Islands {
		if r.Epoch == e {
			seq = max(seq, r.Last)
		}
	}
	return seq
}

// dropBeyond forgets islands behind an epoch's end, and brings Through back to
// that end, so that holes there block nothing.
func (a *Account) dropBeyond(l Link) {
	if a.Set.Through.Epoch == l.Epoch && a.Set.Through.Seq > l.End {
		a.Set.Through.Seq = l.End
	}
	kept := a.Set.Islands[:0]
	for _, r := range a.Set.Islands {
		if r.Epoch == l.Epoch {
			r.Last = min(r.Last, l.End)
		}
		if r.First <= r.Last {
			kept = append(kept, r)
		}
	}
	a.Set.Islands = kept
}

// insert returns the islands with r merged in, in chain order.
func (a *Account) insert(r Range) []Range {
	out := make([]Range, 0, len(a.Set.Islands)+1)
	for _, o := range a.Set.Islands {
		if o.Epoch == r.Epoch && o.First <= r.Last+1 && r.First <= o.Last+1 {
			r.First, r.Last = min(r.First, o.First), max(r.Last, o.Last)
			continue
		}
		out = append(out, o)
	}
	out = append(out, r)
	slices.SortFunc(out, func(x, y Range) int {
		if d := a.index(x.Epoch) - a.index(y.Epoch); d != 0 {
			return d
		}
		if x.First < y.First {
			return -1
		}
		return 1
	})
	return out
}

// fold is what would stay of islands after Through has absorbed what touches it.
func (a *Account) fold(islands []Range) []Range {
	b := Account{Log: a.Log, Chain: a.Chain, Set: Set{a.Set.Through, slices.Clone(islands)}}
	b.absorb()
	return b.Set.Islands
}

// absorb moves Through over every island it now touches, and over the ends of
// epochs. Islands already behind Through are forgotten.
func (a *Account) absorb() {
	for {
		epoch, seq, ok := a.next()
		if !ok {
			return
		}
		i := slices.IndexFunc(a.Set.Islands, func(r Range) bool { return r.Epoch == epoch && r.First <= seq })
		if i < 0 {
			return
		}
		r := a.Set.Islands[i]
		a.Set.Islands = slices.Delete(a.Set.Islands, i, i+1)
		if r.Last >= seq {
			a.Set.Through = Position{a.Log, epoch, r.Last}
		}
	}
}

// next is the position after Through on the chain.
func (a *Account) next() (Epoch, uint64, bool) {
	if len(a.Chain) == 0 {
		return Epoch{}, 0, false
	}
	t := a.index(a.Set.Through.Epoch)
	if t >= 0 && (t == len(a.Chain)-1 || a.Set.Through.Seq < a.Chain[t].End) {
		return a.Set.Through.Epoch, a.Set.Through.Seq + 1, true
	}
	for t++; a.dead(t); t++ {
		continue
	}
	return a.Chain[t].Epoch, 1, true
}
