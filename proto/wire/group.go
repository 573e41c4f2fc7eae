package wire

import (
	"cmp"
	"slices"

	"plantmesh/proto/mesh"
)

// grouping puts samples in order of signal without moving them, and looks at
// all of them once: most batches have nothing but times and values.
type grouping struct {
	order   []uint32 // indexes of samples, those of a signal in order of arrival
	columns []run    // of order
	heads   []uint32 // of a counting sort

	from, to           mesh.Nanos // event times
	status, flags, seq bool       // some are not 0
	none, time         [clocks]bool
	times, bits        []uint64    // in order; times since from
	types              []mesh.Type // in order
}

// run is a stretch of the order that belongs to one signal.
type run struct{ signal, from, to uint32 }

func (g *grouping) group(s []mesh.Sample) {
	n := len(s)
	dense := g.look(s)
	g.order, g.columns = grow(g.order, n), g.columns[:0]
	g.times, g.bits, g.types = grow(g.times, n), grow(g.bits, n), grow(g.types, n)
	if dense {
		g.scatter(s)
	} else {
		g.sort(s)
	}
}

// look reads all samples once, and counts those of each signal. It reports
// whether ids are places in a table, as they should be.
func (g *grouping) look(s []mesh.Sample) (dense bool) {
	most := uint32(4*len(s) + 4096)
	g.heads = g.heads[:0]
	dense = true
	from, to := s[0].Time, s[0].Time
	var status mesh.Status
	var flags uint32
	var seq uint64
	var some, off [clocks]mesh.Nanos // not 0 where a reading is not 0, or not the event time
	for i := range s {
		x := &s[i]
		from, to = min(from, x.Time), max(to, x.Time)
		status |= x.Status
		flags |= x.Flags
		seq |= x.Seq
		some[0] |= x.Source
		some[1] |= x.Server
		some[2] |= x.Agent
		off[0] |= x.Source ^ x.Time
		off[1] |= x.Server ^ x.Time
		off[2] |= x.Agent ^ x.Time
		if x.Signal >= uint32(len(g.heads)) {
			if x.Signal >= most {
				dense = false
				continue
			}
			old := len(g.heads)
			g.heads = slices.Grow(g.heads, int(x.Signal)+1-old)[:x.Signal+1]
			clear(g.heads[old:])
		}
		g.heads[x.Signal]++
	}
	g.from, g.to, g.status, g.flags, g.seq = from, to, status != 0, flags != 0, seq != 0
	for k := range clocks {
		g.none[k], g.time[k] = some[k] == 0, off[k] == 0
	}
	return dense
}

// scatter is a counting sort behind look.
func (g *grouping) scatter(s []mesh.Sample) {
	at := uint32(0)
	for i, n := range g.heads {
		if n > 0 {
			g.columns = append(g.columns, run{uint32(i), at, at + n})
		}
		g.heads[i] = at
		at += n
	}
	for i := range s {
		x := &s[i]
		h := g.heads[x.Signal]
		g.heads[x.Signal]++
		g.order[h], g.times[h], g.bits[h], g.types[h] = uint32(i), uint64(x.Time-g.from), x.Value.Bits, x.Value.Type
	}
}

func (g *grouping) sort(s []mesh.Sample) {
	for i := range g.order {
		g.order[i] = uint32(i)
	}
	slices.SortStableFunc(g.order, func(a, b uint32) int { return cmp.Compare(s[a].Signal, s[b].Signal) })
	for h, i := range g.order {
		x := &s[i]
		g.times[h], g.bits[h], g.types[h] = uint64(x.Time-g.from), x.Value.Bits, x.Value.Type
		if n := len(g.columns); n == 0 || g.columns[n-1].signal != x.Signal {
			g.columns = append(g.columns, run{x.Signal, uint32(h), uint32(h)})
		}
		g.columns[len(g.columns)-1].to++
	}
}
