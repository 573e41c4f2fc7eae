package mapping

import (
	"bytes"
	"fmt"
	"strings"
	"unicode/utf8"

	"plantmesh/proto/mesh"
)

// plainly reads a payload that is one value.
func (m *Mapper) plainly(payload []byte) {
	w := &m.read
	w.walk++
	w.out.Time = w.now
	m.doc.plain(payload)
	if !m.wanted() {
		return
	}
	b := m.binding(w.stream, nil, 0)
	if b.slot == nil {
		w.out.none(b)
		return
	}
	x := mesh.Sample{Signal: b.slot.id, Time: w.now, Agent: w.now, Flags: mesh.FlagAgentTime}
	v, skip, err := m.plain(payload, b.slot)
	if skip {
		w.out.Skipped++
		return
	}
	if x.Value = v; err != nil {
		x.Value, x.Status = mesh.Value{}, status(err)
		w.out.flaw(Flaw{Fault: fmt.Errorf("%s: %w", b.slot.name, err), Count: 1, Time: w.now})
	}
	w.out.Samples = append(w.out.Samples, x)
}

// plain has the document be one text: what expressions take for the message.
func (d *document) plain(payload []byte) {
	d.src, d.whole = payload, nil
	d.nodes = append(d.nodes[:0], node{kind: text, item: true, next: 1, at: span{0, int32(min(len(payload), maxText))}})
}

// plain is a payload as the value of a signal.
func (m *Mapper) plain(payload []byte, s *slot) (v mesh.Value, skip bool, err error) {
	if s.expr == nil && s.when == nil {
		v, err = m.word(payload, s.kind)
		return v, false, err
	}
	d := document{src: bytes.TrimSpace(payload)}
	n := node{kind: text, at: span{0, int32(min(len(d.src), maxText))}}
	return m.reckon(s, d.operand(&n, s.kind, true), func() (mesh.Value, error) { return m.word(payload, s.kind) })
}

// word is a payload as a value of type t: a text as it is; of the others without the
// blanks around it, a number as JSON writes it, or true, false, on, off, 1, 0.
func (m *Mapper) word(payload []byte, t mesh.Type) (mesh.Value, error) {
	if t == mesh.TypeString {
		switch {
		case len(payload) > maxText:
			return mesh.Value{}, errTooLong
		case !utf8.Valid(payload):
			return mesh.Value{}, errNotUTF8
		}
		return mesh.Value{Type: t, Bytes: bytes.Clone(payload)}, nil
	}
	word := bytes.TrimSpace(payload)
	if t == mesh.TypeBool && len(word) <= len("false") {
		switch strings.ToLower(string(word)) {
		case "true", "on", "1":
			return mesh.Bool(true), nil
		case "false", "off", "0":
			return mesh.Bool(false), nil
		}
	}
	m.doc.src = word
	defer func() { m.doc.src = payload }()
	n, ok := m.doc.digits(&node{kind: text, at: span{0, int32(min(len(word), maxRemembered))}})
	if !ok {
		return mesh.Value{}, errWrongType
	}
	return m.doc.number64(&n, t)
}
