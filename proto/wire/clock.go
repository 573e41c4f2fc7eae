package wire

import (
	"math"
	"slices"

	"plantmesh/proto/mesh"
)

// A clock of a batch is written in one of four ways.
const (
	clockNone  = 0 // it gave nothing
	clockTime  = 1 // it is the event time
	clockTable = 2 // it has few readings: places in a table of distances from the batch's first time
	clockNear  = 3 // it is near the event time: distances from it, in a unit
)

// Codes of a near clock.
const (
	nearTime = 0 // it is the event time
	nearNone = 1 // it gave nothing; all else is zigzag(distance) + 1, at least 2
)

// clocks are the source's, the server's and the agent's.
const clocks = 3

// clockCode turns one clock of a batch into codes, one a sample.
type clockCode struct {
	mode  byte
	unit  int
	table table
	codes []uint64
}

// choose looks at a clock's readings beside the event times.
func (c *clockCode) choose(readings []mesh.Nanos, s []mesh.Sample, base mesh.Nanos) {
	far := false
	for i, r := range readings {
		far = far || r-s[i].Time == math.MinInt64 // its code would be none's
	}
	switch {
	case far || c.fewOf(readings):
		c.mode = clockTable
		c.table.reset()
		c.codes = slices.Grow(c.codes[:0], len(s))[:len(s)]
		for i, r := range readings {
			if i > 0 && r == readings[i-1] { // as what came in one message has
				c.codes[i] = c.codes[i-1]
				continue
			}
			c.codes[i] = uint64(c.table.place(uint64(r - base)))
		}
	default:
		c.mode = clockNear
		c.near(readings, s)
	}
}

// fewOf reports whether a table of readings is far smaller than the readings.
func (c *clockCode) fewOf(readings []mesh.Nanos) bool {
	c.table.reset()
	most := 4 + len(readings)/32
	for i, r := range readings {
		if i > 0 && r == readings[i-1] {
			continue
		}
		if c.table.place(uint64(r)) >= most {
			return false
		}
	}
	return true
}

func (c *clockCode) near(readings []mesh.Nanos, s []mesh.Sample) {
	all := units()
	c.unit = len(all) - 1
	for i, r := range readings {
		if d := int64(r - s[i].Time); r != 0 {
			for c.unit > 0 && d%int64(all[c.unit]) != 0 {
				c.unit--
			}
		}
	}
	unit := int64(all[c.unit])
	c.codes = slices.Grow(c.codes[:0], len(s))[:len(s)]
	for i, r := range readings {
		switch d := int64(r - s[i].Time); {
		case d == 0:
			c.codes[i] = nearTime
		case r == 0:
			c.codes[i] = nearNone
		default:
			c.codes[i] = zigzag(d/unit) + 1
		}
	}
}

// take copies the codes of a signal's samples and reports whether any is not 0.
func (c *clockCode) take(out []uint64, order []uint32) bool {
	var all uint64
	for i, o := range order {
		out[i] = c.codes[o]
		all |= out[i]
	}
	return all != 0
}

// append writes what stands once in a batch.
func (c *clockCode) append(b []byte) []byte {
	b = append(b, c.mode)
	switch c.mode {
	case clockTable:
		b = c.table.append(b)
	case clockNear:
		b = append(b, byte(c.unit))
	}
	return b
}

// clockReader turns codes back into readings.
type clockReader struct {
	mode  byte
	unit  int64
	table []uint64
}

func (c *clockReader) read(r *reader, count int) {
	c.mode = r.byte()
	switch c.mode {
	case clockNone, clockTime:
	case clockTable:
		c.table = readTable(r, c.table[:0], count)
	case clockNear:
		c.unit = int64(unitOf(r))
	default:
		r.fail(ErrVersion)
	}
}

// readings turns the codes in place; nil codes are all 0.
func (c *clockReader) readings(out []mesh.Nanos, codes []uint64, times []mesh.Nanos, base mesh.Nanos) error {
	switch c.mode {
	case clockNone:
		clear(out)
	case clockTime:
		copy(out, times)
	case clockTable:
		for i := range out {
			place := uint64(0)
			if codes != nil {
				place = codes[i]
			}
			if place >= uint64(len(c.table)) {
				return ErrFormat
			}
			out[i] = base + mesh.Nanos(c.table[place])
		}
	case clockNear:
		copy(out, times)
		for i, code := range codes {
			switch code {
			case nearTime:
			case nearNone:
				out[i] = 0
			default:
				out[i] += mesh.Nanos(unzigzag(code-1) * c.unit)
			}
		}
	}
	return nil
}

func unitOf(r *reader) uint64 {
	u := int(r.byte())
	all := units()
	if u >= len(all) {
		r.fail(ErrVersion)
		return 1
	}
	return all[u]
}

// readTable reads what table.append wrote; there is no more in it than count.
func readTable(r *reader, out []uint64, count int) []uint64 {
	n := r.count(uint64(count))
	for range n {
		out = append(out, r.uvarint())
	}
	return out
}
