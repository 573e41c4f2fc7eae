package datatype

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"time"
	"unicode/utf8"

	"plantmesh/edge/source/opcua/publish"
	"plantmesh/proto/mesh"
	"plantmesh/proto/wire"
)

// The masks of a Variant and of a DataValue (OPC 10000-6 §5.2.2.16, §5.2.2.17), and
// what a LocalizedText and a DiagnosticInfo have (§5.2.2.14, §5.2.2.12).
const (
	typeBits      = 0x3f
	hasDimensions = 0x40
	hasElements   = 0x80

	hasValue      = 0x01
	hasStatus     = 0x02
	hasSource     = 0x04
	hasServerTime = 0x08
	hasSourcePico = 0x10
	hasServerPico = 0x20

	hasLocale = 0x01
	hasText   = 0x02

	hasNumbers    = 0x0f
	hasInfo       = 0x10
	hasInnerCode  = 0x20
	hasDiagnostic = 0x40
)

// Decoder makes items of values. An item holds until the next one is made, and its
// texts point into the bytes that were decoded. Not safe for concurrent use.
type Decoder struct {
	reader

	types *Book

	room    []mesh.Item // of the items made; its blocks are used again
	spare   []mesh.Item
	budget  int // items that may still be made
	deepest int
	telling bool // structures say their types themselves
}

// Use has values decoded by what b knows. The zero Decoder knows no structure.
func (d *Decoder) Use(b *Book) { d.types = b }

// Variant makes an item of a Variant's encoding, mask in front (publish.Value.Bytes),
// whose node has this shape. A DataValue or a Variant in it gives what is in there;
// status is that of a DataValue, 0 without one. A structure of a type that is not
// known is an UnknownError, what is more than a body holds ErrLimit.
func (d *Decoder) Variant(b []byte, s Shape) (i mesh.Item, status uint32, err error) {
	d.reader = reader{b: b}
	d.budget, d.deepest, d.telling = wire.MaxItems-1, 0, false
	if cap(d.spare) < cap(d.room) {
		d.spare = d.room
	}
	d.room = d.spare[:0]
	i, status = d.bare(s.Type, 1)
	if d.err == nil && d.pos != len(b) {
		d.fail(fmt.Errorf("%w: %d bytes behind the value", publish.ErrKind, d.left()))
	}
	return i, status, d.err
}

// bare is a Variant at the root: what wraps the value is taken off.
func (d *Decoder) bare(of *Type, level int) (i mesh.Item, status uint32) {
	if !d.enter(level) {
		return i, 0
	}
	mask := d.u8()
	t := mask & typeBits
	switch {
	case mask&hasElements != 0 || t != publish.TypeVariant && t != publish.TypeDataValue:
		return d.rest(mask, of, 1), 0
	case t == publish.TypeVariant:
		return d.bare(of, level+1)
	}
	mask = d.u8()
	if mask&hasValue != 0 {
		i, status = d.bare(of, level+1)
	}
	outer, _, _ := d.stamps(mask)
	if outer != 0 {
		status = outer
	}
	return i, status
}

// enter bounds how deep items, and what wraps them, stand in each other.
func (d *Decoder) enter(level int) bool {
	if level > wire.MaxDepth {
		d.fail(publish.ErrDeep)
	}
	d.deepest = max(d.deepest, level)
	return d.err == nil
}

// items makes n items; nil where that is too many, or none.
func (d *Decoder) items(n int) []mesh.Item {
	if n > d.budget {
		d.fail(fmt.Errorf("%w: more than %d items", ErrLimit, wire.MaxItems))
	}
	if d.err != nil || n == 0 {
		return nil
	}
	d.budget -= n
	if len(d.room)+n > cap(d.room) {
		d.room = make([]mesh.Item, 0, max(n, min(2*cap(d.room), wire.MaxItems), 64))
	}
	from := len(d.room)
	d.room = d.room[:from+n]
	out := d.room[from : from+n : from+n]
	clear(out)
	return out
}

// variant reads a Variant that stands in something else.
func (d *Decoder) variant(of *Type, level int) mesh.Item {
	if !d.enter(level) {
		return mesh.Item{}
	}
	return d.rest(d.u8(), of, level)
}

// rest reads a Variant behind its mask.
func (d *Decoder) rest(mask byte, of *Type, level int) mesh.Item {
	t := mask & typeBits
	switch {
	case t == publish.TypeNull:
		return mesh.Item{}
	case mask&hasElements == 0:
		return d.value(t, of, level)
	}
	n := d.count()
	flat := d.array(n, &field{of: typeOr(of, t), rank: -1}, level)
	if mask&hasDimensions == 0 || d.err != nil {
		return flat
	}
	dims, product := d.dimensions()
	if len(dims) > 0 && product != n {
		d.fail(fmt.Errorf("%w: %d elements in dimensions %d", publish.ErrCount, n, dims))
	}
	return d.nest(flat, dims)
}

// typeOr is the declared type where a value of built-in type t can have it, else
// the built-in type.
func typeOr(of *Type, t byte) *Type {
	if of != nil && of.builtin == t {
		return of
	}
	structure := t == publish.TypeExtension
	return &Type{builtin: t, structure: structure, abstract: structure}
}

// dimensions reads those of an array, and how many elements they make. -1: they
// can't be.
func (d *Decoder) dimensions() (dims []int, product int) {
	n := d.count()
	if n > wire.MaxDepth {
		d.fail(publish.ErrDeep)
		return nil, 0
	}
	product = min(n, 1) // without dimensions there is nothing
	for range n {
		x := int(int32(d.u32()))
		if d.err != nil {
			return nil, 0
		}
		if x <= 0 || product == 0 {
			x = 0
		}
		if product *= x; product > wire.MaxItems {
			d.fail(fmt.Errorf("%w: more than %d items", ErrLimit, wire.MaxItems))
			return nil, 0
		}
		dims = append(dims, x)
	}
	return dims, product
}

// nest makes arrays of arrays of one array: the last dimension lies together
// (OPC 10000-6 §5.2.2.16).
func (d *Decoder) nest(flat mesh.Item, dims []int) mesh.Item {
	if len(dims) < 2 || len(flat.Items) == 0 {
		return flat
	}
	if d.deepest += len(dims) - 1; d.deepest > wire.MaxDepth {
		d.fail(publish.ErrDeep)
	}
	for k := len(dims) - 1; k > 0 && d.err == nil; k-- {
		rows := d.items(len(flat.Items) / dims[k])
		for i := range rows {
			rows[i] = mesh.Item{Value: mesh.Value{Type: mesh.TypeArray}, Of: flat.Of, Items: flat.Items[i*dims[k] : (i+1)*dims[k]]}
		}
		flat = mesh.Item{Value: mesh.Value{Type: mesh.TypeArray}, Of: mesh.TypeArray, Items: rows}
	}
	return flat
}

// array reads n elements of a field of rank -1.
func (d *Decoder) array(n int, f *field, level int) mesh.Item {
	t := f.encoded()
	out := mesh.Item{Value: mesh.Value{Type: mesh.TypeArray}, Of: itemType(t)}
	if t == publish.TypeVariant {
		out.Of = mesh.TypeStruct
	}
	if !d.enter(level) {
		return out
	}
	if n > d.left() && (!f.inline() || len(f.of.fields) > 0) { // each takes a byte at least
		d.fail(publish.ErrCount)
		return out
	}
	out.Items = d.items(n)
	if d.numbers(t, out.Items) {
		d.deepest = max(d.deepest, level+1)
		return out
	}
	for i := range out.Items {
		if d.err != nil {
			return out
		}
		switch t {
		case publish.TypeVariant: // elements may differ, an array's items may not
			in := d.items(1)
			if in == nil {
				return out
			}
			in[0] = d.variant(f.of, level+2)
			out.Items[i] = mesh.Item{Value: mesh.Value{Type: mesh.TypeStruct}, Items: in}
		case publish.TypeExtension:
			out.Items[i] = d.element(f, level+1)
		default:
			out.Items[i] = d.value(t, f.of, level+1)
		}
	}
	return out
}

// numbers reads doubles and Int32s, which most arrays have, all at once.
func (d *Decoder) numbers(t byte, out []mesh.Item) bool {
	switch t {
	case publish.TypeDouble:
		b := d.take(8 * len(out))
		for i := range len(b) / 8 {
			v := &out[i].Value
			v.Type, v.Bits = mesh.TypeDouble, binary.LittleEndian.Uint64(b[8*i:])
		}
		return true
	case publish.TypeInt32:
		b := d.take(4 * len(out))
		for i := range len(b) / 4 {
			v := &out[i].Value
			v.Type, v.Bits = mesh.TypeInt, uint64(int32(binary.LittleEndian.Uint32(b[4*i:])))
		}
		return true
	}
	return false
}

// value reads a value of a built-in type.
func (d *Decoder) value(t byte, of *Type, level int) (i mesh.Item) {
	if !d.enter(level) {
		return i
	}
	switch t {
	case publish.TypeString, publish.TypeXMLElement:
		return d.string(d.text())
	case publish.TypeByteString:
		return mesh.Item{Value: mesh.Value{Type: mesh.TypeBytes, Bytes: d.text()}}
	case publish.TypeDateTime:
		return mesh.Item{Value: mesh.Text(Instant(int64(d.u64())).Format(time.RFC3339Nano))}
	case publish.TypeGUID:
		return mesh.Item{Value: mesh.Text(guidText(d.take(16)))}
	case publish.TypeNodeID, publish.TypeExpandedNodeID:
		k := d.nodeID()
		return d.string([]byte(k.String()))
	case publish.TypeQualifiedName:
		d.u16()
		return d.string(d.text())
	case publish.TypeLocalizedText:
		return d.string(d.localizedText())
	case publish.TypeExtension:
		return d.extension(of, level)
	case publish.TypeDataValue:
		return d.dataValue(of, level)
	case publish.TypeVariant:
		return d.variant(of, level+1)
	case publish.TypeDiagnostic:
		d.diagnostic(level)
		return i
	}
	i.Value = d.number(t)
	return i
}

// number reads a boolean or a number.
func (d *Decoder) number(t byte) mesh.Value {
	switch t {
	case publish.TypeBoolean:
		return mesh.Bool(d.u8() != 0)
	case publish.TypeSByte:
		return mesh.Int(int64(int8(d.u8())))
	case publish.TypeByte:
		return mesh.Uint(uint64(d.u8()))
	case publish.TypeInt16:
		return mesh.Int(int64(int16(d.u16())))
	case publish.TypeUInt16:
		return mesh.Uint(uint64(d.u16()))
	case publish.TypeInt32:
		return mesh.Int(int64(int32(d.u32())))
	case publish.TypeUInt32, publish.TypeStatusCode:
		return mesh.Uint(uint64(d.u32()))
	case publish.TypeInt64:
		return mesh.Int(int64(d.u64()))
	case publish.TypeUInt64:
		return mesh.Uint(d.u64())
	case publish.TypeFloat:
		return mesh.Double(float64(math.Float32frombits(d.u32())))
	case publish.TypeDouble:
		return mesh.Value{Type: mesh.TypeDouble, Bits: d.u64()}
	}
	d.fail(fmt.Errorf("%w: built-in type %d", publish.ErrKind, t))
	return mesh.Value{}
}

// string is a text. Servers send what their PLC holds: what is no UTF-8 would
// stop whoever reads it later.
func (d *Decoder) string(b []byte) mesh.Item {
	if !utf8.Valid(b) {
		b = bytes.ToValidUTF8(b, []byte("\uFFFD"))
	}
	return mesh.Item{Value: mesh.Value{Type: mesh.TypeString, Bytes: b}}
}

// localizedText reads a LocalizedText and returns its text.
func (r *reader) localizedText() (text []byte) {
	mask := r.u8()
	if mask&hasLocale != 0 {
		r.text()
	}
	if mask&hasText != 0 {
		text = r.text()
	}
	return text
}

// dataValue reads a DataValue that stands in something else: a structure of its
// value, status and time stamps, see dataValueFields.
func (d *Decoder) dataValue(of *Type, level int) mesh.Item {
	out := mesh.Item{Value: mesh.Value{Type: mesh.TypeStruct}, Items: d.items(len(dataValueFields()))}
	if out.Items == nil {
		return out
	}
	mask := d.u8()
	if mask&hasValue != 0 {
		out.Items[0] = d.variant(of, level+1)
	}
	status, source, server := d.stamps(mask)
	out.Items[1].Value = mesh.Uint(uint64(status))
	for i, ticks := range []int64{source, server} {
		if ticks != 0 {
			out.Items[2+i].Value = mesh.Text(Instant(ticks).Format(time.RFC3339Nano))
		}
	}
	return out
}

// stamps reads what a DataValue has behind its value.
func (r *reader) stamps(mask byte) (status uint32, source, server int64) {
	if mask&hasStatus != 0 {
		status = r.u32()
	}
	if mask&hasSource != 0 {
		source = int64(r.u64())
	}
	if mask&hasSourcePico != 0 {
		r.u16()
	}
	if mask&hasServerTime != 0 {
		server = int64(r.u64())
	}
	if mask&hasServerPico != 0 {
		r.u16()
	}
	return status, source, server
}

// diagnostic reads over a DiagnosticInfo: it is no value.
func (d *Decoder) diagnostic(level int) {
	for ; d.enter(level); level++ {
		mask := d.u8()
		for bits := mask & hasNumbers; bits != 0; bits &= bits - 1 {
			d.u32()
		}
		if mask&hasInfo != 0 {
			d.text()
		}
		if mask&hasInnerCode != 0 {
			d.u32()
		}
		if mask&hasDiagnostic == 0 {
			return
		}
	}
}

// Instant is a DateTime (OPC 10000-6 §5.2.2.5); 0, which is none, the zero Time.
func Instant(ticks int64) time.Time {
	const perSecond, from1601 = 10_000_000, 11_644_473_600
	if ticks == 0 {
		return time.Time{}
	}
	return time.Unix(ticks/perSecond-from1601, ticks%perSecond*100).UTC()
}

// Identifier is the text of a Guid of 16 bytes, or of a NodeId or ExpandedNodeId
// in a Variant, mask in front. Of a null one it is empty.
func Identifier(t byte, b []byte) (string, error) {
	if t == publish.TypeGUID {
		return guidText(b), nil
	}
	if len(b) == 0 {
		return "", nil
	}
	r := reader{b: b[1:]}
	k := r.nodeID()
	if r.err != nil {
		return "", fmt.Errorf("a node id that can't be read: %w", r.err)
	}
	return k.String(), nil
}

// Elements is how many values an array says it has, mask in front.
func Elements(b []byte) int {
	if len(b) < 5 {
		return 0
	}
	return max(0, int(int32(binary.LittleEndian.Uint32(b[1:]))))
}

// errXML: nobody reads such a body without its schema.
var errXML = errors.New("a structure in XML, which is not read: have the server send the binary encoding")
