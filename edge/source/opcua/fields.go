package opcua

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"plantmesh/edge/source/opcua/datatype"
	"plantmesh/edge/source/opcua/publish"
	"plantmesh/proto/mesh"
)

// maxOwn is how many fields a notifier's events have at most beside those of the
// standard's types: with those they fit a word of bits, and each text of them a body.
const maxOwn = 32

// declare asks which properties the types of a notifier's filter have of their own:
// what a vendor's events are about stands there. They become fields of its events, by
// their browse names. Types of the standard have none but those that are asked for anyway.
func (r *Reader) declare(ctx context.Context) error {
	book := r.types.book
	if book == nil {
		book = datatype.NewBook()
	}
	table := slices.Clone(r.table)
	for n := range r.cfg.Events {
		e := &r.cfg.Events[n]
		i := len(r.cfg.Signals) + n
		r.ears.clauses[n], table[i] = clauses(), e.row(i)
		_, types, err := r.notifier(e)
		if err != nil {
			continue // listenTo refuses it, and says why
		}
		fields, left, err := book.EventFields(ctx, &r.sess, types, maxOwn)
		if err != nil {
			return fmt.Errorf("ask for the fields of event types: %w", err)
		}
		if left > 0 {
			r.log.Warn("some fields of event types are not taken: arrays, structures, or too many", "signal", e.Name, "left_out", left, "most", maxOwn)
		}
		for k := range fields {
			c := clause{field: r.fieldName(n, fields[k].Name.Name), typ: fields[k].Kind, own: &fields[k]}
			r.ears.clauses[n] = append(r.ears.clauses[n], c)
			table[i].Fields = append(table[i].Fields, mesh.Field{Name: c.field, Type: c.typ, Choices: fields[k].Choices})
		}
	}
	if err := r.sealer.Retable(table); err != nil {
		return &fatalError{err}
	}
	r.table = table
	return nil
}

// fieldName is a name that no field of notifier n has yet.
func (r *Reader) fieldName(n int, name string) string {
	taken := func(name string) bool {
		return slices.ContainsFunc(r.ears.clauses[n], func(c clause) bool { return c.field == name })
	}
	name = strings.ToValidUTF8(name, "\uFFFD")
	out := name
	for k := 2; taken(out); k++ {
		out = fmt.Sprintf("%s_%d", name, k)
	}
	return out
}

// ownHash is a hash of the clauses that are not the standard's; "": there are none.
func ownHash(clauses []clause) string {
	if len(clauses) <= countClauses {
		return ""
	}
	var text []byte
	for _, c := range clauses[countClauses:] {
		text = fmt.Appendf(text, "%s %d:%q %q %d\n", c.own.Of, c.own.Name.NamespaceIndex, c.own.Name.Name, c.field, c.typ)
	}
	return fmt.Sprintf("%08x", fingerprint(string(text)))
}

// sameFields says where the items of notifiers were made for other fields than the
// event types have now: their events would be read wrongly.
func (r *Reader) sameFields() error {
	for n := range r.state.Events {
		st := &r.state.Events[n]
		if n < len(r.ears.clauses) && st.Clauses != 0 && st.Own != ownHash(r.ears.clauses[n]) {
			return fmt.Errorf("%w: the event types of %s have other fields than when it was made", errGone, r.cfg.Events[n].Name)
		}
	}
	return nil
}

// ownValue is a field of a vendor's as it stands in a body, where it is of the type
// that its event type declares, or of one that fits.
func ownValue(want mesh.Type, v *publish.Value) mesh.Value {
	var got mesh.Value
	switch v.Type {
	case publish.TypeBoolean:
		got = mesh.Value{Type: mesh.TypeBool, Bits: v.Bits}
	case publish.TypeSByte, publish.TypeInt16, publish.TypeInt32, publish.TypeInt64:
		got = mesh.Value{Type: mesh.TypeInt, Bits: v.Bits}
	case publish.TypeByte, publish.TypeUInt16, publish.TypeUInt32, publish.TypeUInt64, publish.TypeStatusCode:
		got = mesh.Value{Type: mesh.TypeUint, Bits: v.Bits}
	case publish.TypeFloat, publish.TypeDouble:
		got = mesh.Value{Type: mesh.TypeDouble, Bits: v.Bits}
	case publish.TypeString, publish.TypeXMLElement, publish.TypeQualifiedName, publish.TypeLocalizedText:
		if v.Bytes != nil {
			got = mesh.Value{Type: mesh.TypeString, Bytes: v.Bytes}
		}
	case publish.TypeDateTime:
		got = mesh.Text(datatype.Instant(int64(v.Bits)).Format(time.RFC3339Nano))
	case publish.TypeGUID, publish.TypeNodeID, publish.TypeExpandedNodeID:
		got, _ = identifier(v) // without one it is none
	}
	if got.Type == mesh.TypeNone {
		return got
	}
	fit, err := convert(got, want)
	if err != nil {
		return mesh.Value{}
	}
	return fit
}
