package wire

import (
	"encoding/binary"
	"fmt"

	"plantmesh/proto/mesh"
)

// Limits of a body, checked before memory is taken.
const (
	MaxDepth = 16      // items inside items
	MaxItems = 1 << 14 // of one body, all depths together
)

// AppendItem appends the body of an array, a structure or an event, or one
// value inside of it:
//
//	type byte, then
//	none      nothing          bool    1 byte
//	int       varint           uint    uvarint
//	double    8 bytes          string, bytes  uvarint n, n bytes
//	array     type byte of its items, uvarint n, n items without their type byte
//	struct    uvarint n, n items; a field that is absent is a none
//	event     likewise
//
// An array's items are all of the type in Of.
func AppendItem(b []byte, i mesh.Item) []byte {
	return appendItem(append(b, byte(i.Value.Type)), i)
}

func appendItem(b []byte, i mesh.Item) []byte {
	v := i.Value
	switch v.Type {
	case mesh.TypeNone:
	case mesh.TypeBool:
		b = append(b, byte(v.Bits))
	case mesh.TypeInt:
		b = binary.AppendVarint(b, int64(v.Bits))
	case mesh.TypeUint:
		b = binary.AppendUvarint(b, v.Bits)
	case mesh.TypeDouble:
		b = binary.LittleEndian.AppendUint64(b, v.Bits)
	case mesh.TypeString, mesh.TypeBytes:
		b = appendPart(b, v.Bytes)
	case mesh.TypeArray:
		b = append(b, byte(i.Of))
		b = binary.AppendUvarint(b, uint64(len(i.Items)))
		for _, x := range i.Items {
			b = appendItem(b, x)
		}
	case mesh.TypeStruct, mesh.TypeEvent:
		b = binary.AppendUvarint(b, uint64(len(i.Items)))
		for _, x := range i.Items {
			b = AppendItem(b, x)
		}
	}
	return b
}

// ParseItem reads a body that fills b. Texts alias b.
func ParseItem(b []byte) (mesh.Item, error) {
	p := itemReader{reader: reader{b: b}, left: MaxItems}
	i := p.item(mesh.Type(p.byte()), MaxDepth)
	if p.err == nil && len(p.b) > 0 {
		p.err = ErrFormat
	}
	return i, p.err
}

type itemReader struct {
	reader

	left int // items that may still come
}

func (p *itemReader) item(t mesh.Type, depth int) (i mesh.Item) {
	if p.left--; p.left < 0 || depth == 0 {
		p.fail(fmt.Errorf("%w: a body of more than %d items, or nested deeper than %d", ErrLimit, MaxItems, MaxDepth))
		return i
	}
	i.Value.Type = t
	switch t {
	case mesh.TypeNone:
	case mesh.TypeBool:
		if i.Value.Bits = uint64(p.byte()); i.Value.Bits > 1 {
			p.fail(ErrFormat)
		}
	case mesh.TypeInt:
		i.Value.Bits = uint64(p.varint())
	case mesh.TypeUint:
		i.Value.Bits = p.uvarint()
	case mesh.TypeDouble:
		if b := p.take(8); b != nil {
			i.Value.Bits = binary.LittleEndian.Uint64(b)
		}
	case mesh.TypeString, mesh.TypeBytes:
		i.Value.Bytes = p.take(p.count(MaxText))
	case mesh.TypeArray:
		i.Of = mesh.Type(p.byte())
		for range p.count(uint64(max(p.left, 0))) {
			i.Items = append(i.Items, p.item(i.Of, depth-1))
			if p.err != nil {
				break
			}
		}
	case mesh.TypeStruct, mesh.TypeEvent:
		for range p.count(uint64(max(p.left, 0))) {
			i.Items = append(i.Items, p.item(mesh.Type(p.byte()), depth-1))
			if p.err != nil {
				break
			}
		}
	default:
		p.fail(ErrVersion)
	}
	return i
}
