package wire

import (
	"cmp"
	"slices"

	"plantmesh/proto/mesh"
)

// Gather holds the samples of a batch to come, in order of arrival: 24 bytes for one,
// and what stands beside time and value once, as long as it stays the same. It keeps
// its room from batch to batch. Not safe for concurrent use.
type Gather struct {
	log   []entry
	sides []side // in order of arrival; the last one is of the last sample
	texts [][]byte
	bytes int // of texts
}

// entry is one sample.
type entry struct {
	time mesh.Nanos
	bits uint64 // of what has bytes, its place among the texts
	rest rest
}

// rest is a sample's signal, the place of its side and the type of its value, in one
// word that is stored at once: 32, 24 and 8 bits.
type rest uint64

func restOf(signal, side uint32, kind mesh.Type) rest {
	return rest(signal)<<32 | rest(side)<<8 | rest(kind)
}
func (r rest) signal() uint32  { return uint32(r >> 32) }
func (r rest) side() uint32    { return uint32(r) >> 8 }
func (r rest) kind() mesh.Type { return mesh.Type(r) }

// side is what stands beside time and value. There are at most as many as samples, and
// more than 24 bits count no batch has.
type side struct {
	clock  [clocks]mesh.Nanos
	isTime [clocks]mesh.Nanos // all bits: the clock is each sample's event time, and clock is 0
	seq    uint64
	status mesh.Status
	flags  uint32
}

// at is the reading of clock k for a sample at an event time.
func (s *side) at(k int, time mesh.Nanos) mesh.Nanos { return s.clock[k] | time&s.isTime[k] }

// Len is the number of samples.
func (g *Gather) Len() int { return len(g.log) }

// Bytes are those of texts and bodies.
func (g *Gather) Bytes() int { return g.bytes }

// Reset makes g empty.
func (g *Gather) Reset() {
	clear(g.texts)
	g.log, g.sides, g.texts, g.bytes = g.log[:0], g.sides[:0], g.texts[:0], 0
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
	g.log = append(g.log, entry{x.Time, bits, restOf(x.Signal, uint32(len(g.sides)-1), x.Value.Type)})
}

// Number takes a good sample of a value without bytes, with no flags and no sequence
// number, whose source's clock is its event time.
func (g *Gather) Number(signal uint32, at, server, agent mesh.Nanos, kind mesh.Type, bits uint64) {
	n := len(g.sides)
	if n == 0 || !g.sides[n-1].plain(at, server, agent) {
		g.turn(side{clock: [clocks]mesh.Nanos{at, server, agent}}, at)
		n++
	}
	g.log = append(g.log, entry{at, bits, restOf(signal, uint32(n-1), kind)})
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

// Samples are all samples, in order of arrival.
func (g *Gather) Samples() []mesh.Sample {
	out := make([]mesh.Sample, len(g.log))
	for i, e := range g.log {
		s, kind := &g.sides[e.rest.side()], e.rest.kind()
		out[i] = mesh.Sample{
			Signal: e.rest.signal(), Time: e.time, Source: s.at(0, e.time), Server: s.at(1, e.time), Agent: s.at(2, e.time),
			Seq: s.seq, Status: s.status, Flags: s.flags, Value: mesh.Value{Type: kind, Bits: e.bits},
		}
		if kind > mesh.TypeDouble {
			out[i].Value.Bits, out[i].Value.Bytes = 0, g.texts[e.bits]
		}
	}
	return out
}

// grouping are samples laid out for the writer, by signal.
type grouping struct {
	columns []run

	from, to           mesh.Nanos // event times
	status, flags, seq bool       // some are not 0
	none, time, mixed  [clocks]bool
	times, bits        []uint64 // times since the first; those of a signal one after the other
	all                uint64   // of times, or'ed
	rests              []rest   // beside them, where a Gather was laid out
	sides              []side
	bodies             [][]byte
}

// run is a stretch of times that belongs to one signal. Between two of them may be
// room that nobody took.
type run struct {
	signal, from, to uint32
	kind             byte // of all its values, or kindMixed
}

// samples is how many there are.
func (w *grouping) samples() (n int) {
	for _, c := range w.columns {
		n += int(c.to - c.from)
	}
	return n
}

// group lays out what g has.
func (w *grouping) group(sc *scattering, g *Gather) {
	w.columns, w.sides, w.bodies = w.columns[:0], g.sides, g.texts
	w.look()
	switch {
	case sc.blind > 0:
		sc.blind--
	case sc.room > 0:
		if w.putAll(sc, g.log) {
			sc.missed = 0
			w.close(sc, true, false)
			return
		}
		sc.blind = min(sc.missed, mostBlind)
		sc.missed++
	}
	if sc.count(len(g.log), func(i int) uint32 { return g.log[i].rest.signal() }) {
		w.putAll(sc, g.log)
		w.close(sc, true, false)
		return
	}
	w.sort(sc, g.log)
}

// putAll puts each entry into its signal's slot, and reports whether all had room.
func (w *grouping) putAll(sc *scattering, log []entry) bool {
	w.times, w.bits, w.rests = grow(w.times, sc.room), grow(w.bits, sc.room), grow(w.rests, sc.room)
	slots, times := sc.slots, w.times
	values, rests := w.bits[:len(times)], w.rests[:len(times)]
	if len(log) == 0 {
		return true
	}
	from, to := log[0].time, log[0].time
	for i := range log {
		e := &log[i]
		signal := e.rest.signal()
		if signal >= uint32(len(slots)) {
			return false
		}
		sl := &slots[signal]
		h := sl.next
		if h >= sl.end || h >= uint32(len(times)) {
			return false
		}
		sl.next = h + 1
		sl.kinds |= 1 << (e.rest.kind() & 31)
		times[h], values[h], rests[h] = uint64(e.time), e.bits, e.rest
		from, to = min(from, e.time), max(to, e.time)
	}
	w.from, w.to = from, to
	return true
}

// sort is for ids that are no places in a table.
func (w *grouping) sort(sc *scattering, log []entry) {
	sc.slots, sc.room = sc.slots[:0], 0
	log = slices.Clone(log)
	slices.SortStableFunc(log, func(a, b entry) int { return cmp.Compare(a.rest.signal(), b.rest.signal()) })
	w.times, w.bits, w.rests = grow(w.times, len(log)), grow(w.bits, len(log)), grow(w.rests, len(log))
	w.from, w.to, w.all = log[0].time, log[0].time, 0
	for _, e := range log {
		w.from, w.to = min(w.from, e.time), max(w.to, e.time)
	}
	for h, e := range log {
		w.times[h], w.bits[h], w.rests[h] = uint64(e.time-w.from), e.bits, e.rest
		w.all |= w.times[h]
		if n := len(w.columns); n == 0 || w.columns[n-1].signal != e.rest.signal() {
			w.columns = append(w.columns, run{e.rest.signal(), uint32(h), uint32(h), byte(e.rest.kind())})
		}
		c := &w.columns[len(w.columns)-1]
		if c.to++; c.kind != byte(e.rest.kind()) {
			c.kind = kindMixed
		}
	}
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
