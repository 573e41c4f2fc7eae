package store

import (
	"math/bits"

	"plantmesh/proto/mesh"
	"plantmesh/proto/wire"
)

// Odd numbers without a pattern: the fractional parts of roots of 2, 3, 5, 7.
const (
	mix1 = 0x6a09e667f3bcc909
	mix2 = 0xbb67ae8584caa73b
	mix3 = 0x3c6ef372fe94f82b
	mix4 = 0xa54ff53a5f1d36f1
)

func mix(a, b uint64) uint64 {
	hi, lo := bits.Mul64(a^mix1, b^mix2)
	return hi ^ lo
}

// fingerprint is a number that any difference of a sample changes. The sum
// over samples doesn't care for their order: two piles with the same sum and
// count have the same samples.
func fingerprint(c *wire.Column, i int) uint64 {
	typ, b := typeAt(c, i), c.Bits[i]
	if typ.OnHeap() {
		b = textPrint(c.Texts[b])
	}
	var seq, beside uint64
	if c.Seq != nil {
		seq = c.Seq[i]
	}
	if c.Status != nil {
		beside = uint64(c.Status[i]) << 32
	}
	if c.Flags != nil {
		beside |= uint64(c.Flags[i])
	}
	h := mix(uint64(c.Times[i]), b)
	h += mix(uint64(c.Clocks[0][i])^mix3, uint64(c.Clocks[1][i])^mix4)
	h += mix(uint64(c.Clocks[2][i])^mix4, seq^mix3)
	return mix(h, beside^uint64(typ)<<24)
}

// prints is the sum of a column's fingerprints.
func prints(c *wire.Column) (sum uint64) {
	if c.Types != nil || c.Type.OnHeap() || c.Seq != nil || c.Status != nil || c.Flags != nil {
		for i := range c.Times {
			sum += fingerprint(c, i)
		}
		return sum
	}
	n := len(c.Times)
	values, a, b, d := c.Bits[:n], c.Clocks[0][:n], c.Clocks[1][:n], c.Clocks[2][:n]
	typ, noSeq := uint64(c.Type)<<24, uint64(mix3)
	for i, t := range c.Times {
		h := mix(uint64(t), values[i])
		h += mix(uint64(a[i])^mix3, uint64(b[i])^mix4)
		h += mix(uint64(d[i])^mix4, noSeq)
		sum += mix(h, typ)
	}
	return sum
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
	return mix(sample, textPrint([]byte(rule))^uint64(action)<<56)
}
