package product

import (
	"encoding/json"
	"fmt"
	"slices"

	"plantmesh/proto/mesh"
)

// maxLinks is how many epochs of a log are kept, the newest: which records of
// older ones came is settled.
const maxLinks = 32

// seqBits are those of the sequence in an ordinal.
const seqBits = 40

// Chain is what a fold must know of one agent's log: how far nothing is
// missing, what came above that, and where epochs were ended. Ordinals of a
// branch that was left lie below those of the branch that goes on, though its
// holes will never be filled: they alone don't say what is settled.
//
// Not safe for concurrent use.
type Chain struct {
	Through mesh.Ordinal
	First   int     // place in the chain of Links[0]
	Links   []Link  // the newest epochs
	Above   []Stair // came, and not settled by Through alone; sorted, disjoint
}

// Link is one epoch. Beyond End it is off the chain.
type Link struct {
	Epoch mesh.Epoch
	End   uint64 // where it was ended; 0 while it is the tip, and where all of it is off the chain
	// Follows is the ordinal that its opening follows, wherever the chain went since; 0:
	// nothing, or its opening was not seen.
	Follows mesh.Ordinal `json:",omitempty"`
}

// Stair is a run of ordinals that came, both ends included.
type Stair struct{ First, Last mesh.Ordinal }

// Standing is what a proof in a log is worth.
type Standing uint8

// Standings of a proof.
const (
	StandingOpen    Standing = iota // it counts; something before it may still come
	StandingSettled                 // it counts for good: nothing is missing before it
	StandingCut                     // it doesn't count: beyond a hole of a branch that was left
)

// Take takes the record at a position: its ordinal, how far the log is
// accounted for, and what else the record accounts for.
func (c *Chain) Take(at mesh.Position, ord, through mesh.Ordinal, lost []mesh.Range) {
	place := int(ord>>seqBits) - 1
	c.reach(place, at.Epoch)
	c.came(Stair{ord, ord})
	for _, r := range lost {
		if i := c.index(r.Epoch); i >= 0 {
			c.came(Stair{c.ordinal(i, r.First), c.ordinal(i, r.Last)})
		}
	}
	c.Through = max(c.Through, through)
	c.tidy()
}

// Open takes the opening at a position: it ends what it follows where it says,
// and leaves every epoch between.
func (c *Chain) Open(at mesh.Position, ord mesh.Ordinal, o mesh.Opening) {
	place := int(ord>>seqBits) - 1
	if place < c.First || place < c.First+len(c.Links) && c.Links[place-c.First].Epoch == at.Epoch {
		return // it is on the chain already
	}
	parent := c.index(o.Parent.Epoch)
	for i := max(parent, 0); i < len(c.Links); i++ {
		l, end, was := &c.Links[i], uint64(0), c.Links[i].End
		if i == parent {
			end = o.Parent.Seq
		}
		if was == 0 || end < was {
			l.End = end
		}
		// What was accounted for beyond the end came, though Through goes on elsewhere.
		last := min(c.Through, c.ordinal(i+1, 0)-1)
		if was != 0 {
			last = min(last, c.ordinal(i, was))
		}
		if first := c.ordinal(i, end+1); first <= last && (was != 0 || i == len(c.Links)-1) {
			c.came(Stair{first, last})
		}
	}
	follows := mesh.Ordinal(0)
	if parent >= 0 {
		follows = c.ordinal(parent, o.Parent.Seq)
	}
	if i := c.reach(place, at.Epoch); i >= 0 {
		c.Links[i].Follows = follows
	}
}

// Standing is what a proof with this ordinal is worth.
func (c *Chain) Standing(ord mesh.Ordinal) Standing {
	i, seq := int(ord>>seqBits)-1-c.First, uint64(ord)&(1<<seqBits-1)
	switch {
	case i < 0:
		return StandingSettled
	case i < len(c.Links)-1 && seq > c.Links[i].End:
		return c.left(i, seq)
	case ord <= c.Through:
		return StandingSettled
	}
	return StandingOpen
}

// Holed reports whether records came above some that did not.
func (c *Chain) Holed() bool { return len(c.Above) > 0 && c.Above[len(c.Above)-1].First > c.Through }

// left is what a proof is worth that stands off the chain, at a position of epoch i. What
// stands before it is what its epoch's opening follows, and so on, whatever other branches
// were taken and left meanwhile: what is settled is so ever after.
func (c *Chain) left(i int, seq uint64) Standing {
	for i >= 0 {
		end := c.Links[i].End
		first, last := c.ordinal(i, end+1), c.ordinal(i, seq)
		if first <= last && !slices.ContainsFunc(c.Above, func(s Stair) bool { return s.First <= first && last <= s.Last }) {
			return StandingCut
		}
		if end != 0 { // here the branch begins
			if c.ordinal(i, min(seq, end)) > c.Through {
				return StandingOpen
			}
			return StandingSettled
		}
		follows := c.Links[i].Follows
		i, seq = int(follows>>seqBits)-1-c.First, uint64(follows)&(1<<seqBits-1)
	}
	return StandingSettled
}

func (c *Chain) index(e mesh.Epoch) int {
	return slices.IndexFunc(c.Links, func(l Link) bool { return l.Epoch == e })
}

func (c *Chain) ordinal(i int, seq uint64) mesh.Ordinal {
	return mesh.Ordinal(c.First+i+1)<<seqBits | mesh.Ordinal(seq)
}

// reach makes the chain long enough to hold an epoch at its place, and says where that
// is; below 0: it isn't kept. Epochs in between were not seen: nothing is known of them
// but their place.
func (c *Chain) reach(place int, e mesh.Epoch) (i int) {
	for c.First+len(c.Links) <= place {
		c.Links = append(c.Links, Link{})
		if len(c.Links) > maxLinks {
			c.Links, c.First = slices.Delete(c.Links, 0, 1), c.First+1
		}
	}
	if i = place - c.First; i >= 0 {
		c.Links[i].Epoch = e
	}
	return i
}

// rough is an ordinal that stands to those of records to come as that of a settled
// record does: they are of other epochs, or behind it in its own.
func (c *Chain) rough(ord mesh.Ordinal) mesh.Ordinal {
	if int(ord>>seqBits)-1 < c.First {
		return settled
	}
	return ord &^ (1<<seqBits - 1)
}

// came puts a run among the others.
func (c *Chain) came(s Stair) {
	at := 0
	for at < len(c.Above) && c.Above[at].Last+1 < s.First {
		at++
	}
	to := at
	for to < len(c.Above) && c.Above[to].First <= s.Last+1 {
		s.First, s.Last = min(s.First, c.Above[to].First), max(s.Last, c.Above[to].Last)
		to++
	}
	c.Above = slices.Replace(c.Above, at, to, s)
}

// tidy forgets what Through says by itself.
func (c *Chain) tidy() {
	out := c.Above[:0]
	for _, s := range c.Above {
		i := int(s.First>>seqBits) - 1 - c.First
		switch {
		case i < 0:
			continue
		case s.Last <= c.Through && (i >= len(c.Links)-1 || uint64(s.Last)&(1<<seqBits-1) <= c.Links[i].End):
			continue
		}
		out = append(out, s)
	}
	c.Above = out
}

// Encode is the chain as bytes: canonical JSON.
func (c *Chain) Encode() ([]byte, error) {
	b, err := json.Marshal(c)
	if err != nil {
		return nil, fmt.Errorf("encode a log's chain: %w", err)
	}
	return b, nil
}

// DecodeChain reads what Encode wrote.
func DecodeChain(b []byte) (*Chain, error) {
	var c Chain
	if err := json.Unmarshal(b, &c); err != nil {
		return nil, fmt.Errorf("decode a log's chain: %w", err)
	}
	return &c, nil
}
