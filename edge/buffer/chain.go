package buffer

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"slices"

	"plantmesh/proto/mesh"
)

// An index numbers the records along the chain, from 1 and without holes: the
// log's own order, which segments are keyed by. Positions are what leaves the
// room; indexes stay inside. Records on an abandoned branch have none.

// era is one epoch on the chain.
type era struct {
	epoch  mesh.Epoch
	parent mesh.Position
	first  uint64 // index of its opening
}

// chain translates between positions and indexes.
type chain struct {
	log  mesh.LogID
	eras []era
}

func (c *chain) find(e mesh.Epoch) int {
	return slices.IndexFunc(c.eras, func(x era) bool { return x.epoch == e })
}

// index of p, which may have sequence 0 (just before the epoch). A position
// beyond where the next opening ended its epoch counts as that end. ok is false
// where the epoch is not on the chain.
func (c *chain) index(p mesh.Position) (i uint64, ok bool) {
	n := c.find(p.Epoch)
	if n < 0 {
		return 0, false
	}
	i = c.eras[n].first + p.Seq - 1
	if n+1 < len(c.eras) {
		i = min(i, c.eras[n+1].first-1)
	}
	return i, true
}

// eraOf is the place in eras of the epoch that index i belongs to.
func (c *chain) eraOf(i uint64) int {
	n, found := slices.BinarySearchFunc(c.eras, i, func(e era, i uint64) int { return cmp.Compare(e.first, i) })
	if !found {
		n--
	}
	return n
}

// at is the position of index i; zero before the first.
func (c *chain) at(i uint64) mesh.Position {
	n := c.eraOf(i)
	if n < 0 {
		return mesh.Position{}
	}
	return mesh.Position{Log: c.log, Epoch: c.eras[n].epoch, Seq: i - c.eras[n].first + 1}
}

// ranges are the positions of the indexes from to to, both included.
func (c *chain) ranges(from, to uint64) (out []mesh.Range) {
	for n := max(c.eraOf(from), 0); n < len(c.eras) && c.eras[n].first <= to; n++ {
		e := c.eras[n]
		last := to
		if n+1 < len(c.eras) {
			last = min(last, c.eras[n+1].first-1)
		}
		if first := max(from, e.first); first <= last {
			out = append(out, mesh.Range{Epoch: e.epoch, First: first - e.first + 1, Last: last - e.first + 1})
		}
	}
	return out
}

// begin appends an epoch that follows index end.
func (c *chain) begin(end uint64) era {
	e := era{epoch: mesh.NewEpoch(), parent: c.at(end), first: end + 1}
	c.eras = append(c.eras, e)
	return e
}

// with is a copy of c with one more epoch.
func (c *chain) with(e era) *chain {
	return &chain{log: c.log, eras: append(slices.Clone(c.eras), e)}
}

// eraBytes is the size of one era as it is stored.
const eraBytes = 16 + 16 + 8 + 8

func (c *chain) encode() []byte {
	b := make([]byte, 0, len(c.eras)*eraBytes)
	for _, e := range c.eras {
		b = append(b, e.epoch[:]...)
		b = append(b, e.parent.Epoch[:]...)
		b = binary.BigEndian.AppendUint64(b, e.parent.Seq)
		b = binary.BigEndian.AppendUint64(b, e.first)
	}
	return b
}

func decodeChain(log mesh.LogID, b []byte) (*chain, error) {
	c := &chain{log: log}
	if len(b)%eraBytes != 0 {
		return nil, fmt.Errorf("%w: a chain of %d bytes", errDamaged, len(b))
	}
	for ; len(b) > 0; b = b[eraBytes:] {
		var e era
		copy(e.epoch[:], b)
		copy(e.parent.Epoch[:], b[16:])
		e.parent.Seq, e.first = binary.BigEndian.Uint64(b[32:]), binary.BigEndian.Uint64(b[40:])
		if !e.parent.IsZero() {
			e.parent.Log = log
		}
		c.eras = append(c.eras, e)
	}
	return c, nil
}

// stretch is a run of indexes, both ends included.
type stretch struct{ first, last uint64 }

// without is what of s none of cut covers, in order. cut is sorted and disjoint.
func (s stretch) without(cut []stretch) (out []stretch) {
	for _, c := range cut {
		if c.last < s.first || s.last < c.first {
			continue
		}
		if s.first < c.first {
			out = append(out, stretch{s.first, c.first - 1})
		}
		s.first = c.last + 1
	}
	if s.first <= s.last {
		out = append(out, s)
	}
	return out
}

// join sorts stretches and merges those that touch.
func join(in []stretch) (out []stretch) {
	in = slices.Clone(in)
	slices.SortFunc(in, func(x, y stretch) int { return cmp.Compare(x.first, y.first) })
	for _, s := range in {
		if n := len(out); n > 0 && s.first <= out[n-1].last+1 {
			out[n-1].last = max(out[n-1].last, s.last)
			continue
		}
		out = append(out, s)
	}
	return out
}
