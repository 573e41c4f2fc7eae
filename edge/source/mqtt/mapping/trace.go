package mapping

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"plantmesh/proto/mesh"
)

// Told is what became of one value of a payload, for a person who looks.
type Told struct {
	Topic  string
	Place  string // a path in the payload; empty: the payload itself
	Raw    string // as it stands there; empty: it is not there
	Kind   string // null, boolean, number, text, array or object
	Name   string // of the signal that it is, or would be
	Signal mesh.Signal
	Known  bool        // there is a signal of that name
	Sample mesh.Sample // where it is known
	Why    error       // it was not taken as it stands; nil: it was, or nobody asked for it

	place int // of Sample in the reading; none: it has none
}

// Explain is Read for a person: it tells of each value what became of it. Behind a Read of
// the same payload it changes nothing.
func (m *Mapper) Explain(r *Route, payload []byte, now mesh.Nanos) (out Reading, all []Told) {
	m.trace = &all
	m.Read(r, payload, now, &out)
	m.trace = nil
	for i := range all {
		if at := all[i].place; at >= 0 { // what comes later may take it back
			all[i].Sample = out.Samples[at]
		}
	}
	return out, all
}

// Declare is the line of a file that would have the value kept; empty: nobody can tell its type.
func (t *Told) Declare() string {
	is := wider("", *t)
	if t.Name == "" || is == "" {
		return ""
	}
	return fmt.Sprintf("- {name: %s, type: %s}", quote(t.Name), is)
}

// tell notes what became of the value at a node; samples and flaws were so many before.
func (m *Mapper) tell(at int, filled []byte, samples, flaws int) {
	w := &m.read
	t := Told{Topic: w.topic, place: none}
	if at >= 0 {
		n := &m.doc.nodes[at]
		t.Place, t.Raw, t.Kind = m.doc.where(at), string(m.doc.raw(n.at)), n.kind.String()
	}
	t.Name, t.Why = w.name.name(filled)
	if s, ok := m.signals[t.Name]; ok {
		t.Known = true
		if at, ok := slices.BinarySearchFunc(m.table, s.id, func(row mesh.Signal, id uint32) int { return cmp.Compare(row.ID, id) }); ok {
			t.Signal = m.table[at]
		}
	}
	if n := len(w.out.Samples); n > samples {
		t.place = n - 1
	}
	if n := len(w.out.Flaws); n > flaws {
		t.Why = w.out.Flaws[n-1].Fault
	}
	*m.trace = append(*m.trace, t)
}

func (k kind) String() string {
	switch k {
	case truth, falsity:
		return "boolean"
	case number:
		return "number"
	case text:
		return "text"
	case array:
		return "array"
	case object:
		return "object"
	case null:
	}
	return "null"
}

// where is the path to a node.
func (d *document) where(at int) string {
	var b strings.Builder
	for in := 0; in < at; {
		k := 0
		for c := in + 1; c <= at; c = int(d.nodes[c].next) {
			if at < int(d.nodes[c].next) {
				writeStep(&b, d, &d.nodes[c], k)
				in = c
				break
			}
			k++
		}
	}
	return b.String()
}

func writeStep(b *strings.Builder, d *document, n *node, index int) {
	if n.item {
		fmt.Fprintf(b, "[%d]", index)
		return
	}
	key := string(unescape(nil, d.raw(n.key)))
	switch {
	case key == "" || key == "*" || strings.ContainsAny(key, ".[]\"'") || b.Len() == 0 && key[0] == '$':
		fmt.Fprintf(b, "[%s]", strconv.Quote(key))
	case b.Len() > 0:
		b.WriteString("." + key)
	default:
		b.WriteString(key)
	}
}
