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

// clockCode turns one clock of a batch into codes.
type clockCode struct {
	mode  byte
	each  bool // codes has one for each sample, else one for each side
	unit  int
	table table
	codes []uint64
}

// choose looks at the readings of clock k beside the event times.
func (c *clockCode) choose(w *grouping, k int) {
	switch {
	case w.none[k]:
		c.mode = clockNone
	case w.time[k]:
		c.mode = clockTime
	case c.tabled(w, k, 4+w.samples()/32): // far smaller than the readings
		c.mode = clockTable
	case c.near(w, k):
		c.mode = clockNear
	default:
		c.mode = clockTable
		c.tabled(w, k, w.samples())
	}
}

// tabled gives each reading a place in a table, of at most so many. It reports
// whether they were no more.
func (c *clockCode) tabled(w *grouping, k, most int) bool {
	c.table.reset()
	c.codes = grow(c.codes, len(w.sides))
	for i := range w.sides {
		if s := &w.sides[i]; s.isTime[k] == 0 {
			at := c.table.place(uint64(s.clock[k] - w.from))
			if at >= most {
				return false
			}
			c.codes[i] = uint64(at)
		}
	}
	if c.each = w.mixed[k]; !c.each {
		return true
	}
	sides := slices.Clone(c.codes)
	c.codes = grow(c.codes, len(w.times))
	for _, of := range w.columns {
		for h := of.from; h < of.to; h++ {
			side := w.rests[h].side()
			c.codes[h] = sides[side]
			if w.sides[side].isTime[k] != 0 {
				at := c.table.place(w.times[h])
				if at >= most {
					return false
				}
				c.codes[h] = uint64(at)
			}
		}
	}
	return true
}

// near writes the readings as distances from the event times. It reports whether
// that can be done.
func (c *clockCode) near(w *grouping, k int) bool {
	all := units()
	c.unit, c.each = len(all)-1, true
	c.codes = grow(c.codes, len(w.times))
	for _, of := range w.columns {
		for h := of.from; h < of.to; h++ {
			t := w.from + mesh.Nanos(w.times[h])
			r := w.sides[w.rests[h].side()].at(k, t)
			d := int64(r - t)
			if d == math.MinInt64 { // its code would be none's
				return false
			}
			c.codes[h] = uint64(d)
			for r != 0 && c.unit > 0 && d%int64(all[c.unit]) != 0 {
				c.unit--
			}
		}
	}
	unit := int64(all[c.unit])
	for _, of := range w.columns {
		for h := of.from; h < of.to; h++ {
			t := w.from + mesh.Nanos(w.times[h])
			switch d := int64(c.codes[h]); {
			case d == 0:
				c.codes[h] = nearTime
			case w.sides[w.rests[h].side()].at(k, t) == 0:
				c.codes[h] = nearNone
			default:
				c.codes[h] = zigzag(d/unit) + 1
			}
		}
	}
	return true
}

// take copies the codes of a signal's samples and reports whether any is not 0.
func (c *clockCode) take(out []uint64, rests []rest, of run) bool {
	var all uint64
	if c.each {
		copy(out, c.codes[of.from:of.to])
		for _, code := range out {
			all |= code
		}
		return all != 0
	}
	for i, r := range rests[of.from:of.to] {
		out[i] = c.codes[r.side()]
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
