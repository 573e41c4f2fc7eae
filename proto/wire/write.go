package wire

import (
	"encoding/binary"
	"slices"

	"plantmesh/proto/mesh"
)

// A batch's body, see DESIGN.md for every byte:
//
//	extra    time unit, number of signals, clocks, statuses, texts
//	kinds    a byte or two for each signal
//	hows     a byte for each run of doubles
//	shape    layouts and sizes of all numbers
//	bits     the numbers
//
// The first four are compressed together. Numbers come in this order: ids,
// counts and first times of all signals; then signal by signal its other
// times, statuses, flags, sequence numbers, clocks, types and values.

// Bits of a signal's kind, above its type.
const (
	kindMixed  = 15     // in place of a type: the types follow
	kindStatus = 1 << 4 // not all Good
	kindStep   = 1 << 5 // its times have another step than those of the signal before
	kindMore   = 1 << 6 // a second byte follows
	kindLater  = 1 << 7 // of a later version
	moreFlags  = 1 << 0 // not all 0
	moreSeq    = 1 << 1 // likewise
	moreClock  = 1 << 2 // the source's, then the server's, the agent's: not all of code 0
	moreLater  = 7 << 5
)

// units of time: event times are whole multiples of one, counted from the
// earliest.
func units() []uint64 { return []uint64{1, 100, 1e3, 1e6, 1e9} }

// writer lays out a batch. It keeps its buffers.
type writer struct {
	grouping
	packer

	extra, kinds, hows []byte

	step     uint64
	likely   [1 << 10]byte // by signal, how its doubles were written the last time
	statuses table
	clocks   [clocks]clockCode
	texts    texts

	a, b     []uint64
	readings []mesh.Nanos
}

// batch writes samples and says what time they span.
func (w *writer) batch(s []mesh.Sample) mesh.Span {
	w.reset()
	w.extra, w.kinds, w.hows, w.step = w.extra[:0], w.kinds[:0], w.hows[:0], 0
	w.statuses.reset()
	w.statuses.place(0)
	w.texts.reset()
	w.group(s)
	unit := w.divideTimes()
	for k := range w.clocks {
		w.chooseClock(k, s)
	}
	w.a = slices.Grow(w.a[:0], len(s))
	w.b = slices.Grow(w.b[:0], len(s))
	n := len(w.columns)
	a := w.a[:n]
	for i, c := range w.columns {
		a[i] = uint64(c.signal)
	}
	w.ints(a)
	for i, c := range w.columns {
		a[i] = uint64(c.to - c.from)
	}
	w.ints(a)
	for i, c := range w.columns {
		a[i] = w.times[c.from]
	}
	w.ints(a)
	for _, c := range w.columns {
		w.column(s, c)
	}

	w.extra = append(w.extra, byte(unit))
	w.extra = binary.AppendUvarint(w.extra, uint64(n))
	for i := range w.clocks {
		w.extra = w.clocks[i].append(w.extra)
	}
	w.extra = w.statuses.append(w.extra)
	w.extra = w.texts.append(w.extra)
	return mesh.Span{From: w.from, To: w.to + 1}
}

// parts appends the part to be compressed; the bits alias the writer.
func (w *writer) parts(b []byte) (plain, bits []byte) {
	for _, p := range [][]byte{w.extra, w.kinds, w.hows} {
		b = appendPart(b, p)
	}
	return append(b, w.shape...), w.out.bytes()
}

// chooseClock gathers a clock's readings where they are worth a look.
func (w *writer) chooseClock(k int, s []mesh.Sample) {
	c := &w.clocks[k]
	switch {
	case w.none[k]:
		c.mode = clockNone
	case w.time[k]:
		c.mode = clockTime
	default:
		r := grow(w.readings, len(s))
		w.readings = r
		for i := range s {
			r[i] = [clocks]mesh.Nanos{s[i].Source, s[i].Server, s[i].Agent}[k]
		}
		c.choose(r, s, w.from)
	}
}

// divideTimes counts event times from the first, in the largest unit that
// divides all of them.
func (w *writer) divideTimes() (unit int) {
	var all uint64 // a bit of jitter shows in the low bits
	for _, c := range w.columns {
		t := w.times[c.from:c.to]
		for i := range t {
			t[i] -= uint64(w.from)
			all |= t[i]
		}
	}
	each := units()
	for unit = len(each) - 1; unit > 0; unit-- {
		if all&(each[unit]&-each[unit]-1) == 0 && w.divide(each[unit]) {
			return unit
		}
	}
	return 0
}

// divide divides all times, or none of them.
func (w *writer) divide(by uint64) bool {
	inverse := 1 / float64(by)
	for k, c := range w.columns {
		t := w.times[c.from:c.to]
		for i, x := range t {
			// Exact below maxWhole: the product is off by less than half.
			q := uint64(float64(x)*inverse + 0.5)
			if x >= maxWhole {
				q = x / by
			}
			if q*by != x {
				w.multiply(k, i, by)
				return false
			}
			t[i] = q
		}
	}
	return true
}

// multiply takes a division back, up to the i-th time of column k.
func (w *writer) multiply(k, i int, by uint64) {
	for _, c := range w.columns[:k] {
		t := w.times[c.from:c.to]
		for j := range t {
			t[j] *= by
		}
	}
	c := w.columns[k]
	for j := range w.times[c.from:][:i] {
		w.times[int(c.from)+j] *= by
	}
}

func (w *writer) column(s []mesh.Sample, c run) {
	order, times := w.order[c.from:c.to], w.times[c.from:c.to]
	kind, more := byte(kindMixed), byte(0)
	if t, ok := c.kinds.one(); ok {
		kind = byte(t)
	}
	status, flags, seq := w.sides(s, order)
	at := len(w.kinds)
	w.kinds = append(w.kinds, kind)
	if len(order) > 1 && w.timeSteps(times) {
		w.kinds[at] |= kindStep
	}
	if status {
		w.kinds[at] |= kindStatus
	}
	more |= w.writeSides(s, order, status, flags, seq)
	if more != 0 {
		w.kinds[at] |= kindMore
		w.kinds = append(w.kinds, more)
	}
	w.values(s, c, kind)
}

// timeSteps writes the times of a signal after its first as what they are off
// a straight line, so that jitter is not doubled. It reports whether the line
// has another slope than the one before.
func (w *writer) timeSteps(t []uint64) (fresh bool) {
	b := w.b[:len(t)-1]
	if wide := off(b, t, w.step); wide > 0 {
		var best uint64
		best, fresh = w.bestStep(b, t, wide)
		if fresh {
			w.step = best
			w.number(best)
		}
		off(b, t, best)
	}
	w.ints(b)
	return fresh
}

// bestStep looks for a slope whose line is nearer than wide. A new one costs a
// byte or two, once: few times must gain two bits each.
func (w *writer) bestStep(b, t []uint64, wide uint64) (best uint64, fresh bool) {
	best = w.step
	n := int64(len(t) - 1)
	mean := int64(t[n]-t[0]) / n
	if mean <= 0 { // a slope that falls gains nothing
		return best, false
	}
	width, short := widthOf(wide), n <= 16
	least := width
	for _, step := range [2]uint64{uint64(mean), round(uint64(mean))} {
		// Another slope brings the times no nearer than it leads away in all.
		away := max(step, w.step) - min(step, w.step)
		if away == 0 || short && away < 1<<32 && away*uint64(n) <= wide/2 {
			continue
		}
		if x := widthOf(off(b, t, step)); x < least && (x+1 < width || !short) {
			best, least, fresh = step, x, true
		}
	}
	return best, fresh
}

// off puts into b what times after the first are off a line, and says how far
// the ends of that lie apart, the first time among them.
func off(b, t []uint64, step uint64) uint64 {
	least, most, on := int64(0), int64(0), t[0]
	b = b[:len(t)-1]
	for i, x := range t[1:] {
		on += step
		d := int64(x - on)
		b[i] = uint64(d)
		least, most = min(least, d), max(most, d)
	}
	return uint64(most) - uint64(least)
}

// round rounds to two digits: what people configure.
func round(x uint64) uint64 {
	p := uint64(1)
	for x >= 100*p { // no overflow: x is below 2^63
		p *= 10
	}
	return (x + p/2) / p * p
}

// writeSides writes what stands beside times and values, and says what of it
// there is but statuses.
func (w *writer) writeSides(s []mesh.Sample, order []uint32, status, flags, seq bool) (more byte) {
	a := w.a[:len(order)]
	if status {
		for i, o := range order {
			a[i] = uint64(w.statuses.place(uint64(s[o].Status)))
		}
		w.ints(a)
	}
	if flags {
		more |= moreFlags
		for i, o := range order {
			a[i] = uint64(s[o].Flags)
		}
		w.ints(a)
	}
	if seq {
		more |= moreSeq
		for i, o := range order {
			a[i] = s[o].Seq
		}
		w.ints(a)
	}
	for k := range w.clocks {
		if c := &w.clocks[k]; c.mode >= clockTable && c.take(a, order) {
			more |= moreClock << k
			w.ints(a)
		}
	}
	return more
}

// sides reports what a signal's samples have beside times and values.
func (w *writer) sides(s []mesh.Sample, order []uint32) (status, flags, seq bool) {
	if !w.status && !w.flags && !w.seq {
		return false, false, false
	}
	for _, o := range order {
		status = status || s[o].Status != 0
		flags = flags || s[o].Flags != 0
		seq = seq || s[o].Seq != 0
	}
	return status, flags, seq
}

func (w *writer) values(s []mesh.Sample, c run, kind byte) {
	if kind != kindMixed {
		w.valuesOf(s, c, mesh.Type(kind))
		return
	}
	order := w.order[c.from:c.to]
	a := w.a[:len(order)]
	for i, o := range order {
		a[i] = uint64(s[o].Value.Type)
	}
	w.ints(a)
	for c.from < c.to {
		t, same := s[w.order[c.from]].Value.Type, c
		for same.to = c.from + 1; same.to < c.to && s[w.order[same.to]].Value.Type == t; same.to++ {
			continue
		}
		w.valuesOf(s, same, t)
		c.from = same.to
	}
}

func (w *writer) valuesOf(s []mesh.Sample, c run, t mesh.Type) {
	bits := w.bits[c.from:c.to]
	switch t {
	case mesh.TypeNone:
		return
	case mesh.TypeBool, mesh.TypeInt, mesh.TypeUint:
		w.ints(bits)
		return
	case mesh.TypeDouble:
		a := w.a[:len(bits)]
		likely := &w.likely[c.signal%uint32(len(w.likely))]
		*likely = scaled(a, bits, *likely)
		w.hows = append(w.hows, *likely)
		w.ints(a)
		return
	case mesh.TypeString, mesh.TypeBytes, mesh.TypeArray, mesh.TypeStruct, mesh.TypeEvent:
	}
	a := w.a[:len(bits)]
	for i, o := range w.order[c.from:c.to] {
		a[i] = w.texts.place(s[o].Value.Bytes)
	}
	w.ints(a)
}
