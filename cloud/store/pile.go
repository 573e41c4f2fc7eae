package store

import (
	"cmp"
	"math/bits"
	"slices"

	"plantmesh/proto/mesh"
	"plantmesh/proto/wire"
)

// kind is what the samples of a chunk have in common.
type kind struct {
	source   string
	table    mesh.Hash
	judged   bool
	revision uint64
	rules    mesh.Hash
}

// clocks are the source's, the server's and the agent's, as in wire.Column.
const clocks = 3

// pile is what a pass has gathered of one signal, column by column: a sample
// takes some 30 bytes in it, three times less than as mesh.Sample.
type pile struct {
	signal  uint32
	times   []mesh.Nanos
	bits    []uint64
	typ     mesh.Type // of all, while types is nil
	types   []mesh.Type
	clocks  [clocks]column[mesh.Nanos]
	seq     column[uint64]
	status  column[mesh.Status]
	flags   column[uint32]
	texts   column[string]
	marks   []pileMark
	ordered bool     // times rise strictly
	order   []uint32 // of folding, where it is another
	print   uint64   // the sum of the fingerprints
}

// pileMark is a rule's finding about a sample of a pile.
type pileMark struct {
	at     uint32
	rule   string
	action mesh.Action
}

// column is one property of the samples of a pile; nil while it is zero of all.
type column[T comparable] []T

// add appends n values behind the first was; nil ones are zero.
func (c *column[T]) add(was, n int, more []T) {
	var zero T
	if *c == nil {
		if !slices.ContainsFunc(more, func(x T) bool { return x != zero }) {
			return
		}
		*c = make([]T, was, 2*(was+n))
	}
	if more == nil {
		*c = append(*c, make([]T, n)...)
		return
	}
	*c = append(*c, more...)
}

func (c column[T]) at(i int) (x T) {
	if c != nil {
		x = c[i]
	}
	return x
}

func (c *column[T]) cut(n int) {
	if *c != nil {
		*c = (*c)[:n]
	}
}

// add appends a column of a batch.
func (p *pile) add(c *wire.Column) {
	was, n := len(p.times), len(c.Times)
	last := mesh.Nanos(-1 << 63)
	if was > 0 {
		last = p.times[was-1]
	}
	for _, t := range c.Times {
		p.ordered = p.ordered && t > last
		last = t
	}
	p.times = append(p.times, c.Times...)
	p.addTypes(c, was)
	for k := range clocks {
		p.clocks[k].add(was, n, c.Clocks[k])
	}
	p.seq.add(was, n, c.Seq)
	p.status.add(was, n, c.Status)
	p.flags.add(was, n, c.Flags)
	p.addValues(c, was)
	for i := range c.Times {
		p.print += fingerprint(c, i)
	}
}

func (p *pile) addTypes(c *wire.Column, was int) {
	if c.Types == nil && p.types == nil && (was == 0 || p.typ == c.Type) {
		p.typ = c.Type
		return
	}
	if p.types == nil {
		p.types = slices.Repeat([]mesh.Type{p.typ}, was)
	}
	if c.Types == nil {
		p.types = append(p.types, slices.Repeat([]mesh.Type{c.Type}, len(c.Times))...)
		return
	}
	p.types = append(p.types, c.Types...)
}

func (p *pile) addValues(c *wire.Column, was int) {
	if c.Types == nil && !c.Type.OnHeap() {
		p.bits = append(p.bits, c.Bits...)
		p.texts.add(was, len(c.Bits), nil)
		return
	}
	texts := make([]string, len(c.Bits))
	for i, b := range c.Bits {
		if typeAt(c, i).OnHeap() {
			texts[i], b = string(c.Texts[b]), 0
		}
		p.bits = append(p.bits, b)
	}
	p.texts.add(was, len(texts), texts)
}

func typeAt(c *wire.Column, i int) mesh.Type {
	if c.Types != nil {
		return c.Types[i]
	}
	return c.Type
}

func (p *pile) typeAt(i int) mesh.Type {
	if p.types != nil {
		return p.types[i]
	}
	return p.typ
}

// cut takes back what was added behind the first n.
func (p *pile) cut(n int) {
	p.times, p.bits = p.times[:n], p.bits[:n]
	if p.types != nil {
		p.types = p.types[:n]
	}
	for k := range clocks {
		p.clocks[k].cut(n)
	}
	p.seq.cut(n)
	p.status.cut(n)
	p.flags.cut(n)
	p.texts.cut(n)
	p.marks = slices.DeleteFunc(p.marks, func(m pileMark) bool { return int(m.at) >= n })
}

func (p *pile) sample(i int) mesh.Sample {
	s := mesh.Sample{
		Signal: p.signal, Time: p.times[i], Source: p.clocks[0].at(i), Server: p.clocks[1].at(i), Agent: p.clocks[2].at(i),
		Seq: p.seq.at(i), Status: p.status.at(i), Flags: p.flags.at(i), Value: mesh.Value{Type: p.typeAt(i), Bits: p.bits[i]},
	}
	if s.Value.Type.OnHeap() {
		s.Value.Bytes = []byte(p.texts.at(i))
	}
	return s
}

// sort finds the order of folding; samples that are alike in it keep theirs.
func (p *pile) sort() {
	if p.ordered || p.order != nil {
		return
	}
	p.order = make([]uint32, len(p.times))
	for i := range p.order {
		p.order[i] = uint32(i)
	}
	slices.SortStableFunc(p.order, func(a, b uint32) int {
		if c := cmp.Compare(p.times[a], p.times[b]); c != 0 {
			return c
		}
		return p.sample(int(a)).Compare(p.sample(int(b)))
	})
}

// index is where the i-th sample in the order of folding lies.
func (p *pile) index(i int) int {
	if p.order == nil {
		return i
	}
	return int(p.order[i])
}

// time is the event time of the i-th sample in the order of folding.
func (p *pile) time(i int) mesh.Nanos { return p.times[p.index(i)] }

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
	h ^= mix(uint64(c.Clocks[0][i])^mix3, uint64(c.Clocks[1][i])^mix4)
	h ^= mix(uint64(c.Clocks[2][i])^mix4, seq^mix3)
	return mix(h^mix3, beside^uint64(typ)<<24^mix4)
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
