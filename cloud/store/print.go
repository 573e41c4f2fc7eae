package store

import (
	"plantmesh/proto/mesh"
	"plantmesh/proto/wire"
)

// Odd numbers without a pattern: the fractional parts of the roots of 2, 3, 5, 7,
// 11, 13, 17, 19.
const (
	mix1 = 0x6a09e667f3bcc909
	mix2 = 0xbb67ae8584caa73b
	mix3 = 0x3c6ef372fe94f82b
	mix4 = 0xa54ff53a5f1d36f1
	mix5 = 0x510e527fade682d1
	mix6 = 0x9b05688c2b3e6c1f
	mix7 = 0x1f83d9abfb41bd6b
	mix8 = 0x5be0cd19137e2179
)

// spread brings the upper half of a number into the lower one, so that no two
// fields can cancel out in their highest bits.
func spread(x uint64) uint64 { return x ^ x>>32 }

// finish mixes the sum of a sample's fields: no two sums give the same, and sums
// over samples don't see which field of which sample was what.
func finish(h uint64) uint64 {
	h = (h ^ h>>33) * mix6
	h = (h ^ h>>29) * mix3
	return h ^ h>>32
}

// printer makes fingerprints. It hashes a text of a batch once, however many
// samples have it.
type printer struct {
	first *[]byte // of the texts at hand
	texts []uint64
}

// fingerprint is a number that a difference in any one field of a sample
// changes, and one in several but by a chance of 2^-64. The sum over samples
// doesn't care for their order: two piles with the same sum and count have the
// same samples.
func (p *printer) fingerprint(c *wire.Column, i int) uint64 {
	typ, b := typeAt(c, i), c.Bits[i]
	if typ.OnHeap() {
		b = p.text(c, b)
	}
	h := spread(uint64(c.Times[i]))*mix1 + spread(b)*mix2 + spread(uint64(c.Clocks[0][i]))*mix3 +
		spread(uint64(c.Clocks[1][i]))*mix4 + spread(uint64(c.Clocks[2][i]))*mix5 + uint64(typ)*mix8
	if c.Seq != nil {
		h += spread(c.Seq[i]) * mix6
	}
	var beside uint64
	if c.Status != nil {
		beside = uint64(c.Status[i]) << 32
	}
	if c.Flags != nil {
		beside |= uint64(c.Flags[i])
	}
	return finish(h + spread(beside)*mix7)
}

// prints is the sum of a column's fingerprints.
func (p *printer) prints(c *wire.Column) (sum uint64) {
	if c.Types != nil || c.Type.OnHeap() || c.Seq != nil || c.Status != nil || c.Flags != nil {
		for i := range c.Times {
			sum += p.fingerprint(c, i)
		}
		return sum
	}
	n := len(c.Times)
	values, a, b, d := c.Bits[:n], c.Clocks[0][:n], c.Clocks[1][:n], c.Clocks[2][:n]
	typ := uint64(c.Type) * mix8
	for i, t := range c.Times {
		sum += finish(spread(uint64(t))*mix1 + spread(values[i])*mix2 + spread(uint64(a[i]))*mix3 +
			spread(uint64(b[i]))*mix4 + spread(uint64(d[i]))*mix5 + typ)
	}
	return sum
}

// text is the fingerprint of a text of a batch.
func (p *printer) text(c *wire.Column, i uint64) uint64 {
	if p.first != &c.Texts[0] {
		p.first = &c.Texts[0]
		p.texts = append(p.texts[:0], make([]uint64, len(c.Texts))...)
	}
	if p.texts[i] == 0 {
		p.texts[i] = textPrint(c.Texts[i])
	}
	return p.texts[i]
}

func textPrint(b []byte) uint64 {
	h := uint64(len(b)) ^ mix3
	for _, x := range b {
		h = (h ^ uint64(x)) * mix1
		h ^= h >> 29
	}
	return h
}

// markPrint is fingerprint for a finding about a sample.
func markPrint(sample uint64, rule string, action mesh.Action) uint64 {
	return finish(spread(sample)*mix1 + spread(textPrint([]byte(rule)))*mix2 + uint64(action)*mix8)
}
