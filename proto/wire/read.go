package wire

import (
	"slices"

	"plantmesh/proto/mesh"
)

// Column is the samples of one signal of a batch, in order of arrival.
type Column struct {
	Signal uint32
	Times  []mesh.Nanos
	Clocks [clocks][]mesh.Nanos // the source's, the server's, the agent's; 0 where one gave nothing
	Seq    []uint64             // nil: all 0
	Status []mesh.Status        // nil: all Good
	Flags  []uint32             // nil: all 0
	Types  []mesh.Type          // nil: all Type
	Type   mesh.Type
	Bits   []uint64 // of numbers; of texts the place in Texts
	Texts  [][]byte
}

// columnReader takes a batch apart, signal by signal.
type columnReader struct {
	Column

	unpacker

	kinds, hows reader
	base        mesh.Nanos
	unit, step  uint64
	clocks      [clocks]clockReader
	status      []uint64
	total       int

	ids, counts, firsts []uint64
	at                  int
	scratch             []uint64

	// what Column's slices point to
	times    []mesh.Nanos
	readings [clocks][]mesh.Nanos
	seq      []uint64
	statuses []mesh.Status
	flags    []uint32
	types    []mesh.Type
	bits     []uint64
}

func (c *columnReader) begin(h mesh.Header, plain, bits []byte) error {
	n := int(h.Count)
	c.shape, c.unpacker.bits = reader{}, bitReader{b: bits}
	c.ids, c.counts, c.firsts, c.at = c.ids[:0], c.counts[:0], c.firsts[:0], 0
	if n == 0 {
		if len(plain)+len(bits) > 0 {
			return ErrFormat
		}
		return nil
	}
	c.base, c.step, c.total = h.Times.From, 0, n
	r := reader{b: plain}
	extra := reader{b: r.take(r.count(MaxRaw))}
	c.kinds = reader{b: r.take(r.count(MaxRaw))}
	c.hows = reader{b: r.take(r.count(MaxRaw))}
	c.shape = reader{b: r.b, err: r.err}

	c.unit = unitOf(&extra)
	columns := extra.count(uint64(n))
	for i := range c.clocks {
		c.clocks[i].read(&extra, n)
	}
	c.status = readTable(&extra, c.status[:0], n+1)
	c.readTexts(&extra, n)
	if extra.err != nil || len(extra.b) > 0 || columns == 0 {
		c.shape.fail(first(extra.err, ErrFormat))
	}
	if c.shape.err != nil {
		return c.shape.err
	}
	c.ids, c.counts, c.firsts = grow(c.ids, columns), grow(c.counts, columns), grow(c.firsts, columns)
	c.ints(c.ids)
	c.ints(c.counts)
	c.ints(c.firsts)
	left := uint64(n)
	for i, k := range c.counts {
		if k == 0 || k > left || i > 0 && c.ids[i] <= c.ids[i-1] || c.ids[i] > 1<<32-1 {
			c.shape.fail(ErrFormat)
			break
		}
		left -= k
	}
	if left > 0 {
		c.shape.fail(ErrFormat)
	}
	return c.shape.err
}

// readTexts copies the texts of a batch: they outlive it.
func (c *columnReader) readTexts(r *reader, count int) {
	c.Texts = nil
	n := r.count(uint64(count))
	if n == 0 || r.err != nil {
		return
	}
	all := slices.Clone(r.b)
	own := reader{b: all}
	for range n {
		c.Texts = append(c.Texts, own.take(own.count(MaxText)))
	}
	r.b, r.err = own.b, own.err
}

func first(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

func grow[T any](b []T, n int) []T { return slices.Grow(b[:0], n)[:n] }

func (c *columnReader) err() error {
	if c.shape.err != nil || c.at < len(c.ids) {
		return first(c.shape.err, ErrFormat)
	}
	if len(c.shape.b)+len(c.kinds.b)+len(c.hows.b) > 0 && len(c.ids) > 0 {
		return ErrFormat
	}
	return nil
}

// next reads the next signal into Column.
func (c *columnReader) next() bool {
	if c.at == len(c.ids) || c.shape.err != nil {
		return false
	}
	n := int(c.counts[c.at])
	kind, more := c.kinds.byte(), byte(0)
	if kind&kindMore != 0 {
		more = c.kinds.byte()
	}
	if kind&kindLater != 0 || more&moreLater != 0 || c.kinds.err != nil {
		c.shape.fail(first(c.kinds.err, ErrVersion))
		return false
	}
	c.Signal = uint32(c.ids[c.at])
	c.scratch = grow(c.scratch, n)
	c.readTimes(n, kind&kindStep != 0)
	c.readSides(n, kind, more)
	c.readValues(n, kind&15)
	c.at++
	return c.shape.err == nil
}

func (c *columnReader) readTimes(n int, fresh bool) {
	c.times = grow(c.times, n)
	c.Times = c.times
	from := c.firsts[c.at]
	c.times[0] = c.base + mesh.Nanos(from*c.unit)
	if n == 1 {
		return
	}
	if fresh {
		c.step = c.number()
	}
	b := c.scratch[:n-1]
	c.ints(b)
	on := from
	for i, x := range b {
		on += c.step
		c.times[i+1] = c.base + mesh.Nanos((on+x)*c.unit)
	}
}

// readSides reads what stands beside the values, in most batches nothing.
func (c *columnReader) readSides(n int, kind, more byte) {
	a := c.scratch[:n]
	c.Status, c.Flags, c.Seq = nil, nil, nil
	if kind&kindStatus != 0 {
		c.ints(a)
		c.statuses = grow(c.statuses, n)
		for i, place := range a {
			if place >= uint64(len(c.status)) {
				c.shape.fail(ErrFormat)
				return
			}
			c.statuses[i] = mesh.Status(c.status[place])
		}
		c.Status = c.statuses
	}
	if more&moreFlags != 0 {
		c.ints(a)
		c.flags = grow(c.flags, n)
		for i, f := range a {
			c.flags[i] = uint32(f)
		}
		c.Flags = c.flags
	}
	if more&moreSeq != 0 {
		c.seq = grow(c.seq, n)
		c.ints(c.seq)
		c.Seq = c.seq
	}
	for i := range c.clocks {
		var codes []uint64
		if more&(moreClock<<i) != 0 {
			c.ints(a)
			codes = a
		}
		c.readings[i] = grow(c.readings[i], n)
		c.Clocks[i] = c.readings[i]
		if err := c.clocks[i].readings(c.readings[i], codes, c.Times, c.base); err != nil {
			c.shape.fail(err)
		}
	}
}

func (c *columnReader) readValues(n int, kind byte) {
	c.bits = grow(c.bits, n)
	c.Bits, c.Types, c.Type = c.bits, nil, mesh.Type(kind)
	if kind != kindMixed {
		c.readValuesOf(c.Bits, c.Type)
		return
	}
	a := c.scratch[:n]
	c.ints(a)
	c.types = grow(c.types, n)
	for i, t := range a {
		if t >= kindMixed {
			c.shape.fail(ErrVersion)
			return
		}
		c.types[i] = mesh.Type(t)
	}
	c.Types = c.types
	for i := 0; i < n && c.shape.err == nil; {
		j := i + 1
		for j < n && c.types[j] == c.types[i] {
			j++
		}
		c.readValuesOf(c.Bits[i:j], c.types[i])
		i = j
	}
}

func (c *columnReader) readValuesOf(out []uint64, t mesh.Type) {
	if t == mesh.TypeNone {
		clear(out)
		return
	}
	c.ints(out)
	switch t {
	case mesh.TypeDouble:
		if err := unscale(out, c.hows.byte()); err != nil || c.hows.err != nil {
			c.shape.fail(first(c.hows.err, err))
		}
	case mesh.TypeString, mesh.TypeBytes, mesh.TypeArray, mesh.TypeStruct, mesh.TypeEvent:
		for _, place := range out {
			if place >= uint64(len(c.Texts)) {
				c.shape.fail(ErrFormat)
				return
			}
		}
	case mesh.TypeNone, mesh.TypeBool, mesh.TypeInt, mesh.TypeUint:
	default:
		c.shape.fail(ErrVersion)
	}
}

// samples appends the column as samples.
func (c *columnReader) samples(out []mesh.Sample) []mesh.Sample {
	from := len(out)
	out = out[:from+len(c.Times)]
	s := out[from:]
	for i := range s {
		s[i] = mesh.Sample{Signal: c.Signal, Time: c.Times[i], Source: c.Clocks[0][i], Server: c.Clocks[1][i], Agent: c.Clocks[2][i], Value: mesh.Value{Type: c.Type, Bits: c.Bits[i]}}
	}
	if c.Types != nil {
		for i := range s {
			s[i].Value.Type = c.Types[i]
		}
	}
	if c.Status != nil {
		for i := range s {
			s[i].Status = c.Status[i]
		}
	}
	if c.Flags != nil {
		for i := range s {
			s[i].Flags = c.Flags[i]
		}
	}
	if c.Seq != nil {
		for i := range s {
			s[i].Seq = c.Seq[i]
		}
	}
	if c.Type.OnHeap() || c.Types != nil {
		for i := range s {
			if v := &s[i].Value; v.Type.OnHeap() {
				v.Bytes, v.Bits = c.Texts[v.Bits], 0
			}
		}
	}
	return out
}
