package store

import (
	"cmp"
	"slices"
	"sort"

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
	clocks  [clocks]clock
	seq     column[uint64]
	status  column[mesh.Status]
	flags   column[uint32]
	text    column[uint32] // of texts, the place in texts
	texts   [][]byte       // each once for a batch, however many samples have it
	marks   []pileMark     // sorted by at
	ordered bool           // times rise strictly
	order   []uint32       // of folding, where it is another
	print   uint64         // the sum of the fingerprints
}

// pileMark is a rule's finding about a sample of a pile.
type pileMark struct {
	at     uint32
	rule   string
	action mesh.Action
}

// extend appends, doubling what there is: appending alone copies four times as
// much. A batch may have as many signals as samples: the first step is small.
func extend[T any](s, more []T) []T {
	if need := len(s) + len(more); need > cap(s) {
		s = append(make([]T, 0, max(need, 2*cap(s), 16)), s...)
	}
	return append(s, more...)
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
		more = make([]T, n)
	}
	*c = extend(*c, more)
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

// clock is a clock of the samples of a pile: one that gave nothing and one that
// is the event time need no column.
type clock struct {
	some, other bool // not 0 of all; not the event time of all
	readings    []mesh.Nanos
}

// add appends readings to those beside times; the times are in them already.
func (c *clock) add(was int, more, times []mesh.Nanos) {
	was0, was1 := c.some, c.other
	fresh := times[was:]
	if !c.some {
		c.some = slices.ContainsFunc(more, func(x mesh.Nanos) bool { return x != 0 })
	}
	if !c.other {
		c.other = !slices.Equal(more, fresh)
	}
	if !c.some || !c.other {
		return
	}
	if c.readings == nil {
		c.readings = make([]mesh.Nanos, was, 2*(was+len(more)))
		if was0 && !was1 { // it was the event time so far
			copy(c.readings, times)
		}
	}
	c.readings = extend(c.readings, more)
}

func (c *clock) at(i int, time mesh.Nanos) mesh.Nanos {
	switch {
	case c.readings != nil:
		return c.readings[i]
	case c.some:
		return time
	}
	return 0
}

func (c *clock) cut(n int) {
	if c.readings != nil {
		c.readings = c.readings[:n]
	}
}

// add appends a column of a batch.
func (p *pile) add(c *wire.Column, pr *printer) {
	was, n := len(p.times), len(c.Times)
	last := mesh.Nanos(-1 << 63)
	if was > 0 {
		last = p.times[was-1]
	}
	ordered := p.ordered
	for _, t := range c.Times {
		ordered = ordered && t > last
		last = t
	}
	p.ordered = ordered
	p.times = extend(p.times, c.Times)
	p.addTypes(c, was)
	for k := range clocks {
		p.clocks[k].add(was, c.Clocks[k], p.times)
	}
	p.seq.add(was, n, c.Seq)
	p.status.add(was, n, c.Status)
	p.flags.add(was, n, c.Flags)
	p.addValues(c, was)
	p.print += pr.prints(c)
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

// addValues keeps the texts as the decoder has them: those of a batch are one
// piece of memory that is nobody else's.
func (p *pile) addValues(c *wire.Column, was int) {
	if c.Types == nil && !c.Type.OnHeap() {
		p.bits = extend(p.bits, c.Bits)
		p.text.add(was, len(c.Bits), nil)
		return
	}
	text := make([]uint32, len(c.Bits))
	place := map[uint64]uint32{}
	for i, b := range c.Bits {
		if typeAt(c, i).OnHeap() {
			at, known := place[b]
			if !known {
				at = uint32(len(p.texts))
				place[b] = at
				p.texts = append(p.texts, c.Texts[b])
			}
			text[i], b = at, 0
		}
		p.bits = append(p.bits, b)
	}
	p.text.add(was, len(text), text)
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

// cut takes back what was added behind the first n, and texts behind the first.
func (p *pile) cut(n, texts int) {
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
	p.text.cut(n)
	p.texts = p.texts[:texts]
	p.marks = slices.DeleteFunc(p.marks, func(m pileMark) bool { return int(m.at) >= n })
}

// textAt is the text of the i-th sample in the order of arrival, nil where it is
// none. Samples with one text of one batch have the same piece of memory.
func (p *pile) textAt(i int) []byte {
	if len(p.texts) == 0 || !p.typeAt(i).OnHeap() {
		return nil
	}
	return p.texts[p.text.at(i)]
}

// marksAt are the findings about that sample.
func (p *pile) marksAt(i int) []pileMark {
	if len(p.marks) == 0 {
		return nil
	}
	from := sort.Search(len(p.marks), func(k int) bool { return int(p.marks[k].at) >= i })
	to := from
	for to < len(p.marks) && int(p.marks[to].at) == i {
		to++
	}
	return p.marks[from:to]
}

func (p *pile) sample(i int) mesh.Sample {
	t := p.times[i]
	s := mesh.Sample{
		Signal: p.signal, Time: t, Source: p.clocks[0].at(i, t), Server: p.clocks[1].at(i, t), Agent: p.clocks[2].at(i, t),
		Seq: p.seq.at(i), Status: p.status.at(i), Flags: p.flags.at(i), Value: mesh.Value{Type: p.typeAt(i), Bits: p.bits[i]},
	}
	if s.Value.Type.OnHeap() {
		s.Value.Bytes = p.texts[p.text.at(i)]
	}
	return s
}

// samples appends those from one place to another in the order of folding.
func (p *pile) samples(out []mesh.Sample, from, to int) []mesh.Sample {
	plain := p.order == nil && p.types == nil && !p.typ.OnHeap() && p.seq == nil && p.status == nil && p.flags == nil
	if !plain {
		for i := from; i < to; i++ {
			out = append(out, p.sample(p.index(i)))
		}
		return out
	}
	out = slices.Grow(out, to-from)
	bits := p.bits[from:to]
	for i, t := range p.times[from:to] {
		out = append(out, mesh.Sample{Signal: p.signal, Time: t, Value: mesh.Value{Type: p.typ, Bits: bits[i]}})
	}
	s := out[len(out)-(to-from):]
	for i := range s {
		s[i].Source = p.clocks[0].at(from+i, s[i].Time)
		s[i].Server = p.clocks[1].at(from+i, s[i].Time)
		s[i].Agent = p.clocks[2].at(from+i, s[i].Time)
	}
	return out
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
