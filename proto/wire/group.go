package wire

import (
	"cmp"
	"math/bits"
	"slices"

	"plantmesh/proto/mesh"
)

// grouping puts samples in order of signal without moving them, and looks at
// all of them once: most batches have nothing but times and values.
type grouping struct {
	order   []uint32 // indexes of samples, those of a signal in order of arrival
	columns []run    // of order; between two of them may be room nobody took
	slots   []slot   // by signal id
	room    int      // of all slots
	missed  int      // batches in a row that did not fit into them
	blind   int      // batches for which they are not tried

	from, to           mesh.Nanos // event times
	status, flags, seq bool       // some are not 0
	none, time         [clocks]bool
	times, bits        []uint64 // in order
}

// run is a stretch of the order that belongs to one signal.
type run struct {
	signal, from, to uint32
	kinds            kinds
}

// slot is where the samples of one signal go: the next one, and the end.
type slot struct {
	next, end uint32
	kinds     kinds
}

// kinds are the types among a signal's values, a bit for each. A type that no
// program of today knows has the last bit, and may be several.
type kinds uint32

const lastKind = 31

func (k kinds) with(t mesh.Type) kinds { return k | 1<<min(t, lastKind) }

// one is the only type there is, if so.
func (k kinds) one() (t mesh.Type, ok bool) {
	t = mesh.Type(bits.TrailingZeros32(uint32(k)))
	return t, k&(k-1) == 0 && t < lastKind
}

// mostBlind is how many batches are counted first, at most, after some whose
// signals came in other numbers than those of the batches before.
const mostBlind = 8

func (g *grouping) group(s []mesh.Sample) {
	g.columns = g.columns[:0]
	switch {
	case g.blind > 0:
		g.blind--
	case g.room > 0:
		if g.grow(g.room); g.scatter(s) {
			g.close()
			g.missed = 0
			return
		}
		g.blind = min(g.missed, mostBlind)
		g.missed++
	}
	if g.count(s) {
		g.grow(len(s))
		g.scatter(s)
		g.close()
		return
	}
	g.grow(len(s))
	g.look(s)
	g.sort(s)
}

func (g *grouping) grow(n int) {
	g.order, g.times, g.bits = grow(g.order, n), grow(g.times, n), grow(g.bits, n)
}

// count gives each signal a slot of just its size. It reports whether ids are
// places in a table, as they should be.
func (g *grouping) count(s []mesh.Sample) bool {
	most := uint32(4*len(s) + 4096)
	g.slots, g.room = g.slots[:0], 0
	for i := range s {
		id := s[i].Signal
		if id >= uint32(len(g.slots)) {
			if id >= most {
				return false
			}
			old := len(g.slots)
			g.slots = slices.Grow(g.slots, int(id)+1-old)[:id+1]
			clear(g.slots[old:])
		}
		g.slots[id].end++
	}
	at := uint32(0)
	for i := range g.slots {
		sl := &g.slots[i]
		sl.next, sl.end, sl.kinds = at, at+sl.end, 0
		at = sl.end
	}
	return true
}

// scatter puts each sample into its signal's slot. It reports whether all had
// room.
func (g *grouping) scatter(s []mesh.Sample) bool {
	slots, order := g.slots, g.order
	times, values := g.times[:len(order)], g.bits[:len(order)]
	from, to := s[0].Time, s[0].Time
	var source, off, other mesh.Nanos
	var beside uint64
	for i := range s {
		x := &s[i]
		if x.Signal >= uint32(len(slots)) {
			return false
		}
		sl := &slots[x.Signal]
		h := sl.next
		if h >= sl.end || h >= uint32(len(order)) {
			return false
		}
		sl.next = h + 1
		sl.kinds = sl.kinds.with(x.Value.Type)
		t := x.Time
		order[h], times[h], values[h] = uint32(i), uint64(t), x.Value.Bits
		from, to = min(from, t), max(to, t)
		source |= x.Source
		off |= x.Source ^ t
		other |= x.Server | x.Agent
		beside |= uint64(x.Status) | uint64(x.Flags) | x.Seq
	}
	g.from, g.to = from, to
	if beside != 0 || other != 0 || source != 0 && off != 0 {
		g.look(s)
		return true
	}
	g.status, g.flags, g.seq = false, false, false
	g.none, g.time = [clocks]bool{source == 0, true, true}, [clocks]bool{0: off == 0}
	return true
}

// close makes columns of the slots, and slots for the next batch: sources say
// much the same from one window to the next, so each signal gets what it took
// and a bit.
func (g *grouping) close() {
	began, at := uint32(0), uint32(0)
	for i := range g.slots {
		sl := &g.slots[i]
		n := sl.next - began
		if n > 0 {
			g.columns = append(g.columns, run{uint32(i), began, sl.next, sl.kinds})
		}
		began = sl.end
		sl.next, sl.end, sl.kinds = at, at+n+n/4+1, 0
		at = sl.end
	}
	g.room = int(at)
}

// look finds out what there is beside times and values.
func (g *grouping) look(s []mesh.Sample) {
	var status mesh.Status
	var flags uint32
	var seq uint64
	var some, off [clocks]mesh.Nanos // not 0 where a reading is not 0, or not the event time
	for i := range s {
		x := &s[i]
		status |= x.Status
		flags |= x.Flags
		seq |= x.Seq
		some[0] |= x.Source
		some[1] |= x.Server
		some[2] |= x.Agent
		off[0] |= x.Source ^ x.Time
		off[1] |= x.Server ^ x.Time
		off[2] |= x.Agent ^ x.Time
	}
	g.status, g.flags, g.seq = status != 0, flags != 0, seq != 0
	for k := range clocks {
		g.none[k], g.time[k] = some[k] == 0, off[k] == 0
	}
}

// sort is for ids that are no places in a table.
func (g *grouping) sort(s []mesh.Sample) {
	g.slots, g.room = g.slots[:0], 0
	g.from, g.to = s[0].Time, s[0].Time
	for i := range g.order {
		g.order[i] = uint32(i)
	}
	slices.SortStableFunc(g.order, func(a, b uint32) int { return cmp.Compare(s[a].Signal, s[b].Signal) })
	for h, i := range g.order {
		x := &s[i]
		g.from, g.to = min(g.from, x.Time), max(g.to, x.Time)
		g.times[h], g.bits[h] = uint64(x.Time), x.Value.Bits
		if n := len(g.columns); n == 0 || g.columns[n-1].signal != x.Signal {
			g.columns = append(g.columns, run{x.Signal, uint32(h), uint32(h), 0})
		}
		c := &g.columns[len(g.columns)-1]
		c.to++
		c.kinds = c.kinds.with(x.Value.Type)
	}
}
