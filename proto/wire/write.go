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

	a, b []uint64
}

// batch writes the samples that are laid out and says what time they span.
func (w *writer) batch(samples int) mesh.Span {
	w.reset()
	w.extra, w.kinds, w.hows, w.step = w.extra[:0], w.kinds[:0], w.hows[:0], 0
	w.statuses.reset()
	w.statuses.place(0)
	w.texts.reset()
	for k := range w.clocks {
		w.clocks[k].choose(&w.grouping, k)
	}
	unit := w.divideTimes()
	w.a = slices.Grow(w.a[:0], samples)
	w.b = slices.Grow(w.b[:0], samples)
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
		w.column(c)
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

// divideTimes counts event times in the largest unit that divides all of them.
func (w *writer) divideTimes() (unit int) {
	each := units()
	for unit = len(each) - 1; unit > 0; unit-- {
		// A bit of jitter shows in the low bits.
		if w.all&(each[unit]&-each[unit]-1) == 0 && w.divide(each[unit]) {
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

func (w *writer) column(c run) {
	times := w.times[c.from:c.to]
	more := byte(0)
	status, flags, seq := w.has(c)
	at := len(w.kinds)
	w.kinds = append(w.kinds, c.kind)
	if len(times) > 1 && w.timeSteps(times) {
		w.kinds[at] |= kindStep
	}
	if status {
		w.kinds[at] |= kindStatus
	}
	more |= w.writeSides(c, status, flags, seq)
	if more != 0 {
		w.kinds[at] |= kindMore
		w.kinds = append(w.kinds, more)
	}
	w.values(c)
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
func (w *writer) writeSides(c run, status, flags, seq bool) (more byte) {
	a := w.a[:c.to-c.from]
	if status {
		for i, r := range w.rests[c.from:c.to] {
			a[i] = uint64(w.statuses.place(uint64(w.sides[r.side()].status)))
		}
		w.ints(a)
	}
	if flags {
		more |= moreFlags
		for i, r := range w.rests[c.from:c.to] {
			a[i] = uint64(w.sides[r.side()].flags)
		}
		w.ints(a)
	}
	if seq {
		more |= moreSeq
		for i, r := range w.rests[c.from:c.to] {
			a[i] = w.sides[r.side()].seq
		}
		w.ints(a)
	}
	for k := range w.clocks {
		if code := &w.clocks[k]; code.mode >= clockTable && code.take(a, w.rests, c) {
			more |= moreClock << k
			w.ints(a)
		}
	}
	return more
}

// has reports what a signal's samples have beside times and values.
func (w *writer) has(c run) (status, flags, seq bool) {
	if !w.status && !w.flags && !w.seq {
		return false, false, false
	}
	for _, r := range w.rests[c.from:c.to] {
		s := &w.sides[r.side()]
		status, flags, seq = status || s.status != 0, flags || s.flags != 0, seq || s.seq != 0
	}
	return status, flags, seq
}

func (w *writer) values(c run) {
	if c.kind != kindMixed {
		w.valuesOf(c.signal, w.bits[c.from:c.to], mesh.Type(c.kind))
		return
	}
	rests, bits := w.rests[c.from:c.to], w.bits[c.from:c.to]
	a := w.a[:len(rests)]
	for i, r := range rests {
		a[i] = uint64(r.kind())
	}
	w.ints(a)
	for len(rests) > 0 {
		n, kind := 1, rests[0].kind()
		for n < len(rests) && rests[n].kind() == kind {
			n++
		}
		w.valuesOf(c.signal, bits[:n], kind)
		rests, bits = rests[n:], bits[n:]
	}
}

func (w *writer) valuesOf(signal uint32, bits []uint64, t mesh.Type) {
	a := w.a[:len(bits)]
	switch t {
	case mesh.TypeNone:
		return
	case mesh.TypeBool, mesh.TypeInt, mesh.TypeUint:
		w.ints(bits)
		return
	case mesh.TypeDouble:
		likely := &w.likely[signal%uint32(len(w.likely))]
		*likely = scaled(a, bits, *likely)
		w.hows = append(w.hows, *likely)
		w.ints(a)
		return
	case mesh.TypeString, mesh.TypeBytes, mesh.TypeArray, mesh.TypeStruct, mesh.TypeEvent:
	}
	for i, at := range bits {
		a[i] = w.texts.place(w.bodies[at])
	}
	w.ints(a)
}
