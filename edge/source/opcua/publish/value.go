package publish

import (
	"encoding/binary"
	"math"
)

// maxDepth is how many data values, variants and diagnostic infos may stand in
// each other; an item's data value is the first. OPC 10000-6, 5.2.2.12, wants a
// decoder to have such a bound, of at least 4.
const maxDepth = 16

// The mask of a Variant (OPC 10000-6, 5.2.2.16).
const (
	typeBits      = 0x3f
	hasDimensions = 0x40 // only beside hasElements
	hasElements   = 0x80
)

// The mask of a DataValue (OPC 10000-6, 5.2.2.17), in which the picoseconds of a
// time stamp follow it.
const (
	hasValue      = 0x01
	hasStatus     = 0x02
	hasSource     = 0x04
	hasServer     = 0x08
	hasSourcePico = 0x10
	hasServerPico = 0x20
)

// What a LocalizedText has (OPC 10000-6, 5.2.2.14).
const (
	hasLocale = 0x01
	hasText   = 0x02
)

// quickSize is the longest item that quick reads: handle, two masks, number,
// status, two time stamps.
const quickSize = 4 + 1 + 1 + 8 + 4 + 8 + 8

// quick reads an item that is a number, a boolean or a date, without picoseconds,
// and returns its size. It returns 0, and leaves v, where the item is something
// else or p is too short to be read without looking at each field.
func quick(p []byte, v *Value) int {
	if len(p) < quickSize {
		return 0
	}
	mask := p[4]
	if mask&^(hasStatus|hasSource|hasServer) != hasValue {
		return 0
	}
	t, bits, size := p[5], binary.LittleEndian.Uint64(p[6:14]), 14
	if t != TypeDouble {
		value, width := number(t, bits)
		if width == 0 {
			return 0
		}
		bits, size = value, 6+width
	}
	var status uint32
	var source, server int64
	if mask&hasStatus != 0 {
		status = binary.LittleEndian.Uint32(p[size:])
		size += 4
	}
	if mask&hasSource != 0 {
		source = int64(binary.LittleEndian.Uint64(p[size:]))
		size += 8
	}
	if mask&hasServer != 0 {
		server = int64(binary.LittleEndian.Uint64(p[size:]))
		size += 8
	}
	// Field by field: a whole Value would be made elsewhere and copied, at twice the time.
	v.Handle, v.Type, v.Array, v.Status = binary.LittleEndian.Uint32(p), t, false, status
	v.Source, v.Server, v.Bits = source, server, bits
	v.Bytes = nil
	return size
}

// number makes Value.Bits of the 8 bytes that begin with a number of that type,
// and returns the number's width. Of other types it is 0.
func number(t byte, raw uint64) (bits uint64, width int) {
	switch t {
	case TypeBoolean:
		if byte(raw) != 0 {
			return 1, 1
		}
		return 0, 1
	case TypeSByte:
		return uint64(int8(raw)), 1
	case TypeByte:
		return uint64(uint8(raw)), 1
	case TypeInt16:
		return uint64(int16(raw)), 2
	case TypeUInt16:
		return uint64(uint16(raw)), 2
	case TypeInt32:
		return uint64(int32(raw)), 4
	case TypeUInt32, TypeStatusCode:
		return uint64(uint32(raw)), 4
	case TypeFloat:
		return math.Float64bits(float64(math.Float32frombits(uint32(raw)))), 4
	case TypeInt64, TypeUInt64, TypeDouble, TypeDateTime:
		return raw, 8
	}
	return 0, 0
}

// item reads a MonitoredItemNotification (OPC 10000-4).
func (r *reader) item(v *Value) {
	*v = Value{}
	v.Handle = r.u32()
	r.dataValue(v)
}

// dataValue reads a DataValue (OPC 10000-6, 5.2.2.17).
func (r *reader) dataValue(v *Value) {
	mask := r.u8()
	if mask&hasValue != 0 {
		r.variant(v)
	}
	if mask&hasStatus != 0 {
		v.Status = r.u32()
	}
	if mask&hasSource != 0 {
		v.Source = int64(r.u64())
	}
	if mask&hasSourcePico != 0 {
		r.take(2)
	}
	if mask&hasServer != 0 {
		v.Server = int64(r.u64())
	}
	if mask&hasServerPico != 0 {
		r.take(2)
	}
}

// variant reads an item's Variant.
func (r *reader) variant(v *Value) {
	from := r.pos
	mask := r.u8()
	v.Type = mask & typeBits
	switch {
	case v.Type == TypeNull: // whatever the mask says beside, nothing follows
		return
	case mask&hasElements != 0:
		v.Array = true
		r.skipArray(mask, 3)
		v.Bytes = r.since(from)
		return
	}
	switch v.Type {
	case TypeString, TypeByteString, TypeXMLElement:
		v.Bytes = r.text()
	case TypeQualifiedName:
		r.take(2) // namespace
		v.Bytes = r.text()
	case TypeLocalizedText:
		v.Bytes = r.localizedText()
	case TypeGUID:
		v.Bytes = r.take(16)
	case TypeNodeID, TypeExpandedNodeID, TypeExtension, TypeDataValue, TypeVariant, TypeDiagnostic:
		r.skip(v.Type, 3)
		v.Bytes = r.since(from)
	default:
		v.Bits = r.number(v.Type)
	}
}

// number reads one of the types that function number knows.
func (r *reader) number(t byte) (bits uint64) {
	_, width := number(t, 0)
	if width == 0 {
		r.fail(ErrKind)
		return 0
	}
	var raw [8]byte
	copy(raw[:], r.take(width))
	bits, _ = number(t, binary.LittleEndian.Uint64(raw[:]))
	return bits
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
