package wire

import (
	"math/bits"
	"slices"

	"plantmesh/proto/mesh"
)

// scattering puts samples into the places where the writer wants them.
type scattering struct {
	slots  []slot // by signal id
	room   int    // of all slots
	missed int    // batches in a row that did not fit into them
	blind  int    // batches for which they are not tried
}

// slot is where the samples of one signal go: the next one, and the end.
type slot struct {
	next, end uint32
	kinds     uint32 // types among its values, a bit for each
}

// mostBlind is how many batches are counted first, at most, after some whose
// signals came in other numbers than those of the batches before.
const mostBlind = 8

// kindOf is the only type there is, or kindMixed.
func kindOf(kinds uint32) byte {
	kind := bits.TrailingZeros32(kinds)
	if kinds&(kinds-1) != 0 || kind >= kindMixed {
		return kindMixed
	}
	return byte(kind)
}

// scatter lays out a batch that is there as a whole, without a Gather between. It takes
// those that have nothing but times and numbers, each signal of one type, and reports
// whether this is one.
func (w *grouping) scatter(sc *scattering, s []mesh.Sample) bool {
	w.columns = w.columns[:0]
	switch {
	case sc.blind > 0:
		sc.blind--
	case sc.room > 0:
		fit, plain := w.put(sc, s)
		if fit || !plain {
			sc.missed = 0
			return w.close(sc, plain, true)
		}
		sc.blind = min(sc.missed, mostBlind)
		sc.missed++
	}
	if !sc.count(len(s), func(i int) uint32 { return s[i].Signal }) {
		return false
	}
	_, plain := w.put(sc, s)
	return w.close(sc, plain, true)
}

// count gives each signal a slot of just its size. It reports whether ids are
// places in a table, as they should be.
func (sc *scattering) count(n int, signal func(i int) uint32) bool {
	most := uint32(4*n + 4096)
	sc.slots, sc.room = sc.slots[:0], 0
	for i := range n {
		id := signal(i)
		if id >= uint32(len(sc.slots)) {
			if id >= most {
				return false
			}
			old := len(sc.slots)
			sc.slots = slices.Grow(sc.slots, int(id)+1-old)[:id+1]
			clear(sc.slots[old:])
		}
		sc.slots[id].end++
	}
	at := uint32(0)
	for i := range sc.slots {
		sl := &sc.slots[i]
		sl.next, sl.end, sl.kinds = at, at+sl.end, 0
		at = sl.end
	}
	sc.room = n
	return true
}

// put puts each sample into its signal's slot. It reports whether all had room, and
// whether nothing stands beside times and values.
func (w *grouping) put(sc *scattering, s []mesh.Sample) (fit, plain bool) {
	w.times, w.bits = grow(w.times, sc.room), grow(w.bits, sc.room)
	slots, times, values := sc.slots, w.times, w.bits[:len(w.times)]
	from, to := s[0].Time, s[0].Time
	var source, off, other mesh.Nanos
	var beside uint64
	for i := range s {
		x := &s[i]
		if x.Signal >= uint32(len(slots)) {
			return false, true
		}
		sl := &slots[x.Signal]
		h := sl.next
		if h >= sl.end || h >= uint32(len(times)) {
			return false, true
		}
		sl.next = h + 1
		sl.kinds |= 1 << (x.Value.Type & 31)
		t := x.Time
		times[h], values[h] = uint64(t), x.Value.Bits
		from, to = min(from, t), max(to, t)
		source |= x.Source
		off |= x.Source ^ t
		other |= x.Server | x.Agent
		beside |= uint64(x.Status) | uint64(x.Flags) | x.Seq
	}
	w.from, w.to = from, to
	w.none, w.time, w.mixed = [clocks]bool{source == 0, true, true}, [clocks]bool{off == 0}, [clocks]bool{}
	w.status, w.flags, w.seq = false, false, false
	return true, beside == 0 && other == 0 && (source == 0 || off == 0)
}

// close makes columns of the slots, and slots for the next batch: sources say much the
// same from one window to the next, so each signal gets what it took and a bit. It
// reports whether the columns are good: where only numbers are, those of one type.
func (w *grouping) close(sc *scattering, plain, numbers bool) bool {
	began, at, all := uint32(0), uint32(0), uint64(0)
	for i := range sc.slots {
		sl := &sc.slots[i]
		n := sl.next - began
		if n > 0 && plain {
			kind := kindOf(sl.kinds)
			plain = !numbers || mesh.Type(kind) <= mesh.TypeDouble
			times := w.times[began:sl.next]
			for k := range times {
				times[k] -= uint64(w.from)
				all |= times[k]
			}
			w.columns = append(w.columns, run{uint32(i), began, sl.next, kind})
		}
		began = sl.end
		sl.next, sl.end, sl.kinds = at, at+n+n/4+1, 0
		at = sl.end
	}
	sc.room, w.all = int(at), all
	return plain
}
