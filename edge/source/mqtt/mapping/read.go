package mapping

import (
	"errors"
	"fmt"
	"strconv"

	"plantmesh/edge/source"
	"plantmesh/proto/mesh"
)

// maxFlaws bounds the flaws of one payload; the last counts the rest.
const maxFlaws = 64

var (
	errNoKey    = errors.New("element has no usable key")
	errNoObject = errors.New("value is no object")
	errNumber   = errors.New("sequence is no whole number")
)

// Reading is what one payload says. It is used again for the next.
type Reading struct {
	Samples []mesh.Sample
	Time    mesh.Nanos // of the payload, or the newest in it; 0: nothing tells it
	Unknown int        // values that are no signals
	Skipped int        // values, or messages, that a condition leaves out
	Flaws   []Flaw     // what could not be taken
	// Lost says that the payload said something and nobody knows what, or when: Blackout is
	// due. What was readable of it stands in Samples all the same.
	Lost bool
	Grew bool // the table has signals that it had not before
}

// Flaw is values of one payload that could not be taken, and why.
type Flaw struct {
	Fault error
	Count int
	Time  mesh.Nanos // 0: no stretch of time is lost with it
}

func (r *Reading) reset() {
	*r = Reading{Samples: r.Samples[:0], Flaws: r.Flaws[:0]}
}

func (r *Reading) flaw(f Flaw) {
	if n := len(r.Flaws); n == maxFlaws {
		r.Flaws[n-1].Count += f.Count
		return
	}
	r.Flaws = append(r.Flaws, f)
}

// reading is the walk through one payload.
type reading struct {
	*stream

	route *Route
	out   *Reading
	now   mesh.Nanos
	grew  bool
	walk  uint64
	nth   int // values told before

	stars [maxStars]spot // the way to the element: what [*] stands for
	steps [maxDepth]spot // the way from value to a leaf
	depth int            // of steps

	element element // of which values are told
}

// spot is a place in a container: an index, or a key where there is one.
type spot struct {
	index int
	key   span
}

// element is what is known of values beside them.
type element struct {
	time, stamp mesh.Nanos
	seq         uint64
	status      mesh.Status
	flags       uint32
	aside       [4]int // nodes that are no values: time, quality, sequence, key
	fault       error  // the values can be dated, and must not be taken
}

// Read reads one payload; now is the plant clock. Each value that can't be taken
// gives a flaw, and a sample that says so.
func (m *Mapper) Read(r *Route, payload []byte, now mesh.Nanos, out *Reading) {
	out.reset()
	if r.fault != nil {
		out.flaw(Flaw{Fault: r.fault, Count: 1})
		return
	}
	parsed := false
	for _, s := range r.streams {
		w := &m.read
		w.stream, w.route, w.out, w.now, w.grew, w.depth, w.nth = s, r, out, now, false, 0, 0
		switch {
		case s.plain:
			samples, flaws := len(out.Samples), len(out.Flaws)
			m.plainly(payload)
			if m.trace != nil {
				m.tell(0, nil, samples, flaws)
			}
			parsed = false
		case !parsed:
			if err := m.doc.parse(payload); err != nil {
				out.lose(err, 1)
				return
			}
			parsed = true
			fallthrough
		default:
			m.message()
		}
		out.Grew = out.Grew || w.grew
	}
	if !out.Lost || len(out.Samples) > 0 {
		r.dark = false
	}
}

// none notes a value that is no signal.
func (r *Reading) none(b *binding) {
	if b.fault != nil {
		r.flaw(Flaw{Fault: b.fault, Count: 1})
		return
	}
	r.Unknown++
}

// lose notes that nobody knows what was said.
func (r *Reading) lose(err error, count int) {
	r.flaw(Flaw{Fault: err, Count: count})
	r.Time, r.Lost = 0, true
}

// message reads a document by the stream at hand.
func (m *Mapper) message() {
	w := &m.read
	if w.byKey && len(w.value)+len(w.each) == 0 && m.doc.nodes[0].kind != object {
		w.out.lose(errNotJSON, 1)
		return
	}
	if !m.wanted() {
		return
	}
	w.element = element{time: w.now, flags: mesh.FlagAgentTime, aside: [4]int{none, none, none, none}}
	if err := m.beside(0, false); err != nil {
		w.out.lose(err, max(1, m.values()))
		return
	}
	if !w.timeIn {
		w.out.Time = max(w.out.Time, w.element.time)
	}
	if len(w.each) == 0 {
		m.told(0)
		return
	}
	whole := w.element
	m.elements(0, w.each, 0, &whole)
}

// wanted asks the condition of the topic.
func (m *Mapper) wanted() bool {
	w := &m.read
	if w.when == nil {
		return true
	}
	ok, err := m.passes(w.when, nil, "")
	switch {
	case err != nil:
		w.out.lose(err, 1)
	case !ok:
		w.out.Skipped++
	}
	return ok && err == nil
}

// values is how many values a message has that can't be dated.
func (m *Mapper) values() (n int) {
	root := &m.doc.nodes[0]
	for c := int32(1); c < root.next; c = m.doc.nodes[c].next {
		n++
	}
	return n - 1
}

// beside reads what stands beside the values: of the message, or of the element at a node.
func (m *Mapper) beside(at int, inElement bool) error {
	w := &m.read
	if len(w.time) > 0 && w.timeIn == inElement {
		if err := m.dated(at); err != nil {
			return err
		}
	}
	if len(w.quality) > 0 && w.qualityIn == inElement {
		m.graded(at)
	}
	if len(w.sequence) > 0 && w.numberIn == inElement {
		m.numbered(at)
	}
	return nil
}

func (m *Mapper) dated(at int) error {
	w, e := &m.read, &m.read.element
	found, err := m.doc.find(at, w.time)
	if err != nil {
		return fmt.Errorf("%w: its %w", ErrNoTime, err)
	}
	if e.stamp, err = m.doc.instant(found, &w.form, w.now); err != nil {
		return err
	}
	e.aside[0], e.time, e.flags = found, e.stamp, 0
	if source.Suspect(e.stamp, w.now) {
		e.flags = mesh.FlagSuspect
		return nil
	}
	w.route.last = max(w.route.last, e.stamp)
	return nil
}

func (m *Mapper) graded(at int) {
	w, e := &m.read, &m.read.element
	found, err := m.doc.find(at, w.quality)
	if err == nil && found >= 0 && m.doc.nodes[found].kind != null {
		e.status, err = w.grades.status(&m.doc, &m.doc.nodes[found])
	}
	if err != nil {
		e.fault = fmt.Errorf("quality: %w", err)
	}
	e.aside[1] = found
}

func (m *Mapper) numbered(at int) {
	w, e := &m.read, &m.read.element
	found, err := m.doc.find(at, w.sequence)
	if err == nil && found >= 0 {
		var v mesh.Value
		v, err = m.doc.take(&m.doc.nodes[found], mesh.TypeUint, true)
		e.seq = v.Bits
	}
	if err != nil {
		e.fault = fmt.Errorf("%w: %w", errNumber, err)
	}
	e.aside[2] = found
}

// elements finds the elements behind a path that ends with [*].
func (m *Mapper) elements(at int, p path, stars int, whole *element) {
	w := &m.read
	for i := range p {
		if p[i].star {
			n := &m.doc.nodes[at]
			if n.kind != array && n.kind != object {
				w.out.Unknown++
				return
			}
			for c, k := int32(at+1), 0; c < n.next; c, k = m.doc.nodes[c].next, k+1 {
				w.stars[stars] = spot{k, m.doc.nodes[c].key}
				if i+1 < len(p) {
					m.elements(int(c), p[i+1:], stars+1, whole)
					continue
				}
				w.element = *whole
				m.one(int(c))
			}
			return
		}
		var err error
		if at, err = m.doc.enter(at, &p[i]); err != nil {
			w.out.lose(err, 1)
			return
		} else if at < 0 {
			w.out.Unknown++
			return
		}
	}
}

// one reads the element at a node.
func (m *Mapper) one(at int) {
	w := &m.read
	if err := m.beside(at, true); err != nil {
		w.out.lose(err, 1)
		return
	}
	if w.timeIn && !w.out.Lost {
		w.out.Time = max(w.out.Time, w.element.time)
	}
	m.told(at)
}

// told reads the values of the element at a node, the message itself where there are none.
func (m *Mapper) told(at int) {
	w := &m.read
	w.walk++
	value, err := m.doc.find(at, w.value)
	if err != nil {
		w.out.lose(err, 1) // which of two is meant, nobody knows
		return
	}
	if w.named {
		if w.element.aside[3], err = m.named(at); err != nil {
			w.out.lose(err, 1)
			return
		}
	}
	switch {
	case value < 0 && (!w.named || w.byPath):
		w.out.Unknown++
	case w.byKey:
		m.members(value)
	case w.byPath:
		m.leaves(value)
	default:
		m.sample(value, m.compose(span{}))
	}
}

// named is the node of what names the element at a node.
func (m *Mapper) named(at int) (int, error) {
	if !m.read.keyIn {
		at = 0
	}
	found, err := m.doc.find(at, m.read.key)
	switch {
	case err != nil:
		return none, err
	case found < 0 || m.doc.nodes[found].kind != text && m.doc.nodes[found].kind != number:
		return none, errNoKey
	}
	return found, nil
}

// members reads the values of an object by their keys.
func (m *Mapper) members(at int) {
	w, nodes := &m.read, m.doc.nodes
	if nodes[at].kind != object {
		w.out.lose(errNoObject, 1)
		return
	}
	for c := int32(at + 1); c < nodes[at].next; c = nodes[c].next {
		if !w.element.beside(c, nodes[c].next) {
			m.sample(int(c), m.compose(nodes[c].key))
		}
	}
}

// leaves reads the numbers, texts and booleans of an object or array, however deep.
func (m *Mapper) leaves(at int) {
	w, nodes := &m.read, m.doc.nodes
	n := &nodes[at]
	if n.kind != object && n.kind != array {
		w.out.lose(errNoObject, 1)
		return
	}
	for c, k := int32(at+1), 0; c < n.next; c, k = nodes[c].next, k+1 {
		w.steps[w.depth] = spot{k, nodes[c].key}
		w.depth++
		switch in := nodes[c].kind; {
		case in == object || in == array:
			m.leaves(int(c))
		case !w.element.beside(c, c+1):
			m.sample(int(c), m.compose(span{}))
		}
		w.depth--
	}
}

// beside reports whether one of the nodes is no value, or holds what is none.
func (e *element) beside(from, to int32) bool {
	for _, a := range e.aside {
		if int32(a) >= from && int32(a) < to {
			return true
		}
	}
	return false
}

// compose is what fills the name of a value, as it stands in the payload. What is longer
// than maxRemembered is cut off behind that.
func (m *Mapper) compose(member span) []byte {
	w := &m.read
	if w.simple {
		return m.doc.raw(member)
	}
	out, parts := m.filled[:0], 0
	for i := range w.name {
		p := &w.name[i]
		if p.hole == fixed || len(out) > maxRemembered { // see Mapper.binding
			continue
		}
		if parts++; parts > 1 {
			out = append(out, nextPart...)
		}
		switch p.hole { //nolint:exhaustive // a topic has filled the others
		case place:
			out = m.spot(out, &w.stars[p.n])
		case key:
			if w.named {
				member = m.doc.nodes[w.element.aside[3]].at
			}
			out = append(out, m.doc.head(member)...)
		case leaf:
			out = m.way(out)
		}
	}
	m.filled = out
	return out
}

// way appends the way from value to a leaf.
func (m *Mapper) way(out []byte) []byte {
	w := &m.read
	for k := range w.depth {
		if len(out) > maxRemembered {
			break
		}
		if k > 0 {
			out = append(out, nextStep...)
		}
		out = m.spot(out, &w.steps[k])
	}
	return out
}

// spot appends a place as it stands.
func (m *Mapper) spot(out []byte, s *spot) []byte {
	if s.key.from == 0 { // an array begins before its first item: no key is at 0
		return strconv.AppendInt(out, int64(s.index), 10)
	}
	return append(out, m.doc.head(s.key)...)
}

// head is a part of the payload, of one that is too long to be a name its beginning: it
// is too long a name, too, and looked at once for each value in it.
func (d *document) head(s span) []byte { return d.src[s.from:min(s.to, s.from+maxRemembered+1)] }

// sample adds the value at a node; none: the device named the signal and gave no value.
func (m *Mapper) sample(at int, filled []byte) {
	samples, flaws := len(m.read.out.Samples), len(m.read.out.Flaws)
	m.give(at, filled)
	if m.trace != nil {
		m.tell(at, filled, samples, flaws)
	}
}

func (m *Mapper) give(at int, filled []byte) {
	w, e := &m.read, &m.read.element
	b := m.binding(w.stream, filled, w.nth)
	w.nth++
	if b.slot == nil {
		w.out.none(b)
		return
	}
	s := b.slot
	if s.walk == w.walk {
		m.twice(s)
		return
	}
	s.walk, s.at = w.walk, len(w.out.Samples)
	x := mesh.Sample{Signal: s.id, Time: e.time, Source: e.stamp, Agent: w.now, Seq: e.seq, Status: e.status, Flags: e.flags}
	var err error
	switch {
	case e.fault != nil:
		err = e.fault
	case at < 0 || m.doc.nodes[at].kind == null: // JSON's way to say that there is no value
		if !x.Status.IsBad() {
			x.Status = mesh.StatusBadNoData
		}
	case s.expr != nil || s.when != nil:
		var skip bool
		n := &m.doc.nodes[at]
		x.Value, skip, err = m.reckon(s, m.doc.operand(n, s.kind, w.quoted), func() (mesh.Value, error) { return m.doc.take(n, s.kind, w.quoted) })
		if skip {
			s.walk = 0
			w.out.Skipped++
			return
		}
	default:
		x.Value, err = m.doc.take(&m.doc.nodes[at], s.kind, w.quoted)
	}
	if err != nil {
		x.Value = mesh.Value{}
		if !x.Status.IsBad() || e.fault != nil { // a bad value may be anything
			x.Status = status(err)
			w.out.flaw(Flaw{Fault: fmt.Errorf("%s: %w", s.name, err), Count: 1, Time: e.time})
		}
	}
	w.out.Samples = append(w.out.Samples, x)
}
