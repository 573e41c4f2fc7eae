package wire

import (
	"slices"

	"plantmesh/proto/mesh"
)

// Gather holds the samples of a batch to come, by signal: 24 bytes for one, and what
// many have in common once. It keeps its room from batch to batch. Not safe for
// concurrent use.
type Gather struct {
	near    []column           // by signal id
	far     map[uint32]*column // of ids that are no places in a table
	touched []uint32           // ids of signals that have samples
	sides   []side             // in order of arrival; the last one is of the last sample
	texts   [][]byte
	count   int
	bytes   int // of texts
	room    int // of all signals, in entries

	from, to mesh.Nanos // event times
}

// column is what one signal has: the first n of room.
type column struct {
	room []entry
	n    int
}

// entry is one sample of a signal.
type entry struct {
	time mesh.Nanos
	bits uint64 // of what has bytes, its place among the texts
	rest rest
}

// rest is the place of a sample's side and, above it, the type of its value: one word,
// which is stored at once.
type rest uint64

func restOf(side uint32, kind mesh.Type) rest { return rest(side) | rest(kind)<<32 }
func (r rest) side() uint32                   { return uint32(r) }
func (r rest) kind() mesh.Type                { return mesh.Type(r >> 32) }

// side is what stands beside time and value.
type side struct {
	clock  [clocks]mesh.Nanos
	isTime [clocks]mesh.Nanos // all bits: the clock is each sample's event time, and clock is 0
	seq    uint64
	status mesh.Status
	flags  uint32
}

// at is the reading of clock k for a sample at an event time.
func (s *side) at(k int, time mesh.Nanos) mesh.Nanos { return s.clock[k] | time&s.isTime[k] }

const (
	// nearIDs are the ids of signals that are taken for places in a table.
	nearIDs = 1 << 16
	// mostRoom is how many entries are kept room for: two of the largest batches.
	mostRoom = 2 * MaxSamples
	// leastRoom is what a signal begins with.
	leastRoom = 4
)

// Len is the number of samples.
func (g *Gather) Len() int { return g.count }

// Bytes are those of texts and bodies.
func (g *Gather) Bytes() int { return g.bytes }

// Reset makes g empty.
func (g *Gather) Reset() {
	for _, id := range g.touched {
		g.column(id).n = 0
	}
	if g.room > mostRoom { // signals that have much now and then would each keep it
		clear(g.near)
		g.far, g.room = nil, 0
	}
	clear(g.texts)
	g.touched, g.sides, g.texts, g.count, g.bytes = g.touched[:0], g.sides[:0], g.texts[:0], 0, 0
	g.from, g.to = 0, 0
}

// Add takes a sample. Its bytes belong to g until Reset.
func (g *Gather) Add(x *mesh.Sample) {
	if n := len(g.sides); n == 0 || !g.sides[n-1].of(x) {
		g.turn(side{clock: [clocks]mesh.Nanos{x.Source, x.Server, x.Agent}, seq: x.Seq, status: x.Status, flags: x.Flags}, x.Time)
	}
	bits := x.Value.Bits
	if x.Value.Type > mesh.TypeDouble {
		bits = uint64(len(g.texts))
		g.texts = append(g.texts, x.Value.Bytes)
		g.bytes += len(x.Value.Bytes)
	}
	g.put(x.Signal, x.Time, bits, x.Value.Type)
}

// Number takes a good sample of a value without bytes, with no flags and no sequence
// number, whose source's clock is its event time.
func (g *Gather) Number(signal uint32, at, server, agent mesh.Nanos, kind mesh.Type, bits uint64) {
	n := len(g.sides)
	if n == 0 || !g.sides[n-1].plain(at, server, agent) {
		g.turn(side{clock: [clocks]mesh.Nanos{at, server, agent}}, at)
		n++
	}
	if signal < uint32(len(g.near)) {
		if c := &g.near[signal]; c.n > 0 && c.n < len(c.room) { // as put, of which a call is a third
			e := &c.room[c.n]
			c.n++
			e.time, e.bits, e.rest = at, bits, restOf(uint32(n-1), kind)
			g.from, g.to = min(g.from, at), max(g.to, at)
			g.count++
			return
		}
	}
	g.put(signal, at, bits, kind)
}

// of reports whether x has this side.
func (s *side) of(x *mesh.Sample) bool {
	clock := (s.at(0, x.Time) ^ x.Source) | (s.at(1, x.Time) ^ x.Server) | (s.at(2, x.Time) ^ x.Agent)
	return uint64(clock)|(s.seq^x.Seq)|uint64(s.status^x.Status)|uint64(s.flags^x.Flags) == 0
}

// plain reports whether this is the side of a Number.
func (s *side) plain(at, server, agent mesh.Nanos) bool {
	clock := (s.at(0, at) ^ at) | (s.at(1, at) ^ server) | (s.at(2, at) ^ agent)
	return uint64(clock)|s.seq|uint64(s.status)|uint64(s.flags) == 0
}

// turn begins another side, with the clocks' readings for a sample at a time.
func (g *Gather) turn(s side, at mesh.Nanos) {
	for k := range s.clock {
		if s.clock[k] == at && at != 0 {
			s.clock[k], s.isTime[k] = 0, -1
		}
	}
	g.sides = append(g.sides, s)
}

// addAll is Add of each, in half the time.
func (g *Gather) addAll(all []mesh.Sample) {
	for len(all) > 0 {
		g.Add(&all[0])
		all = all[g.follow(all[1:])+1:]
	}
}

// follow takes samples as long as nothing is new: the side of the sample before, no
// bytes, and a signal that has room. It says how many it took.
func (g *Gather) follow(all []mesh.Sample) int {
	near, place := g.near, uint32(len(g.sides)-1)
	s := &g.sides[place]
	// What side.of says, with all of it at hand.
	source, server, agent := s.clock[0], s.clock[1], s.clock[2]
	sourceIs, serverIs, agentIs := s.isTime[0], s.isTime[1], s.isTime[2]
	seq, status, flags := s.seq, s.status, s.flags
	from, to := g.from, g.to
	n := 0
	for ; n < len(all); n++ {
		x := &all[n]
		t := x.Time
		off := ((source | t&sourceIs) ^ x.Source) | ((server | t&serverIs) ^ x.Server) | ((agent | t&agentIs) ^ x.Agent)
		if uint64(off)|(seq^x.Seq)|uint64(status^x.Status)|uint64(flags^x.Flags) != 0 || x.Signal >= uint32(len(near)) || x.Value.Type > mesh.TypeDouble {
			break
		}
		c := &near[x.Signal]
		at := c.n
		if at == 0 || at >= len(c.room) {
			break
		}
		c.n = at + 1
		e := &c.room[at]
		e.time, e.bits, e.rest = t, x.Value.Bits, restOf(place, x.Value.Type)
		from, to = min(from, t), max(to, t)
	}
	g.from, g.to = from, to
	g.count += n
	return n
}

func (g *Gather) put(signal uint32, at mesh.Nanos, bits uint64, kind mesh.Type) {
	c := g.column(signal)
	if c.n == 0 {
		g.touched = append(g.touched, signal)
	}
	if c.n >= len(c.room) {
		g.room -= len(c.room)
		c.room = slices.Grow(c.room, max(len(c.room), leastRoom))
		c.room = c.room[:cap(c.room)]
		g.room += len(c.room)
	}
	e := &c.room[c.n]
	c.n++
	e.time, e.bits, e.rest = at, bits, restOf(uint32(len(g.sides)-1), kind)
	if g.count == 0 {
		g.from, g.to = at, at
	}
	g.from, g.to = min(g.from, at), max(g.to, at)
	g.count++
}

func (g *Gather) column(signal uint32) *column {
	if signal < uint32(len(g.near)) {
		return &g.near[signal]
	}
	return g.other(signal)
}

// other is the column of a signal that is new or far.
func (g *Gather) other(signal uint32) *column {
	if signal < nearIDs {
		n := len(g.near)
		g.near = slices.Grow(g.near, int(signal)+1-n)[:signal+1]
		clear(g.near[n:])
		return &g.near[signal]
	}
	if c := g.far[signal]; c != nil {
		return c
	}
	if g.far == nil {
		g.far = map[uint32]*column{}
	}
	c := &column{}
	g.far[signal] = c
	return c
}

// all are a signal's samples.
func (c *column) all() []entry { return c.room[:c.n] }

// Samples are all samples, by signal and in order of arrival within one.
func (g *Gather) Samples() []mesh.Sample {
	out := make([]mesh.Sample, 0, g.count)
	slices.Sort(g.touched)
	for _, id := range g.touched {
		for _, e := range g.column(id).all() {
			s, kind := &g.sides[e.rest.side()], e.rest.kind()
			x := mesh.Sample{
				Signal: id, Time: e.time, Source: s.at(0, e.time), Server: s.at(1, e.time), Agent: s.at(2, e.time),
				Seq: s.seq, Status: s.status, Flags: s.flags, Value: mesh.Value{Type: kind, Bits: e.bits},
			}
			if kind > mesh.TypeDouble {
				x.Value.Bits, x.Value.Bytes = 0, g.texts[e.bits]
			}
			out = append(out, x)
		}
	}
	return out
}

// grouping is what a Gather has, laid out for the writer.
type grouping struct {
	columns []run

	from, to           mesh.Nanos // event times
	status, flags, seq bool       // some are not 0
	none, time, mixed  [clocks]bool
	times              []uint64 // since the first, of all signals, one after the other
	all                uint64   // of times, or'ed
	bits               []uint64 // beside times, of what was scattered
	sides              []side
	bodies             [][]byte
}

// run is a stretch of the samples that belongs to one signal.
type run struct {
	signal, from, to uint32
	kind             byte    // of all its values, or kindMixed
	entries          []entry // of what was scattered, none
}

// group lays out what g has.
func (w *grouping) group(g *Gather) {
	if !slices.IsSorted(g.touched) {
		slices.Sort(g.touched)
	}
	w.columns, w.sides, w.bodies = w.columns[:0], g.sides, g.texts
	w.times, w.all = grow(w.times, g.count), 0
	w.from, w.to = g.from, g.to
	at := 0
	for _, id := range g.touched {
		c := g.column(id).all()
		kind := w.lay(c, w.times[at:][:len(c)])
		w.columns = append(w.columns, run{id, uint32(at), uint32(at + len(c)), kind, c})
		at += len(c)
	}
	w.look()
}

// lay copies a signal's times. It says of which type all its values are, or kindMixed.
func (w *grouping) lay(c []entry, times []uint64) (kind byte) {
	from, all := w.from, w.all
	first, other := c[0].rest, rest(0)
	times = times[:len(c)]
	for i := range c {
		e := &c[i]
		t := uint64(e.time - from)
		all |= t
		other |= e.rest ^ first
		times[i] = t
	}
	w.all = all
	if other.kind() != 0 || first.kind() > kindMixed {
		return kindMixed
	}
	return byte(first.kind())
}

// look finds out what there is beside times and values.
func (w *grouping) look() {
	w.status, w.flags, w.seq = false, false, false
	w.none, w.time, w.mixed = [clocks]bool{true, true, true}, [clocks]bool{true, true, true}, [clocks]bool{}
	for i := range w.sides {
		s := &w.sides[i]
		w.status, w.flags, w.seq = w.status || s.status != 0, w.flags || s.flags != 0, w.seq || s.seq != 0
		for k := range clocks {
			is := s.isTime[k] != 0
			w.mixed[k] = w.mixed[k] || is
			w.none[k], w.time[k] = w.none[k] && s.clock[k] == 0 && !is, w.time[k] && is
		}
	}
}
