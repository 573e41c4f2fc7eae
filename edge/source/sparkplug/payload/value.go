package payload

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"time"
	"unicode/utf8"

	"plantmesh/proto/mesh"
	"plantmesh/proto/wire"
)

// Errors of making a value of its data type. They are about that value alone.
var (
	ErrType  = errors.New("value has another type than its metric")
	ErrRange = errors.New("value is outside of its type")
	ErrText  = errors.New("text is no valid UTF-8")
	ErrArray = errors.New("bytes are no array of this type")
)

// MeshType is what values of t are in the mesh; TypeNone where that depends on more
// than the type, as with data sets and templates.
func (t Type) MeshType() mesh.Type {
	switch t {
	case Int8, Int16, Int32, Int64:
		return mesh.TypeInt
	case UInt8, UInt16, UInt32, UInt64:
		return mesh.TypeUint
	case Float, Double:
		return mesh.TypeDouble
	case Boolean:
		return mesh.TypeBool
	case String, Text, UUID, DateTime:
		return mesh.TypeString
	case Bytes, File:
		return mesh.TypeBytes
	default:
		if t.Array() {
			return mesh.TypeArray
		}
		return mesh.TypeNone
	}
}

// item is the type of an array's elements.
func (t Type) item() Type {
	switch {
	case t >= Int8Array && t <= StringArray:
		return t - Int8Array + Int8
	case t == DateTimeArray:
		return DateTime
	}
	return Unknown
}

// Item is the mesh's type of an array's elements; TypeNone where t is no array.
func (t Type) Item() mesh.Type { return t.item().MeshType() }

// bits is the width of an integer type, 0 of others.
func (t Type) bits() int {
	switch t {
	case Int8, UInt8:
		return 8
	case Int16, UInt16:
		return 16
	case Int32, UInt32:
		return 32
	case Int64, UInt64, DateTime:
		return 64
	default:
		return 0
	}
}

func (t Type) signed() bool { return t >= Int8 && t <= Int64 }

// Scalar makes a value of type t of what was sent. It is what the sender meant or an
// error: never a number that is near it. Bytes of texts are those of v. A DateTime is
// a text, RFC 3339 in UTC, as dates from other protocols are. Data sets and templates
// are no scalars.
//
// Signed integers travel as two's complement in an unsigned field: in Int8 both 255
// and 4294967295 are -1. Types of up to 32 bits are taken from int_value and from
// long_value: implementations differ on UInt32.
func (t Type) Scalar(v Value) (mesh.Value, error) {
	switch t {
	case Int8, Int16, Int32, Int64, UInt8, UInt16, UInt32, UInt64:
		return t.integer(v)
	case Float:
		if v.Kind == InFloat {
			return mesh.Double(float64(math.Float32frombits(uint32(v.Bits)))), nil
		}
	case Double:
		if v.Kind == InDouble {
			return mesh.Value{Type: mesh.TypeDouble, Bits: v.Bits}, nil
		}
	case Boolean:
		if v.Kind == InBoolean {
			return mesh.Value{Type: mesh.TypeBool, Bits: v.Bits}, nil
		}
	case String, Text, UUID:
		if v.Kind == InString {
			return text(v.Bytes)
		}
	case DateTime:
		if v.Kind == InLong {
			return instant(v.Bits)
		}
	case Bytes, File:
		if v.Kind == InBytes {
			return sized(mesh.Value{Type: mesh.TypeBytes, Bytes: v.Bytes})
		}
	default:
	}
	return mesh.Value{}, fmt.Errorf("%w: %s, and what came is %s", ErrType, t, v.Kind)
}

func (k Kind) String() string {
	names := [...]string{"nothing", "an int", "a long", "a float", "a double", "a boolean", "a text", "bytes", "a data set", "a template", "properties", "a list of properties", "an extension"}
	if int(k) < len(names) {
		return names[k]
	}
	return "nothing"
}

func (t Type) integer(v Value) (mesh.Value, error) {
	w := t.bits()
	if v.Kind != InLong && (v.Kind != InInt || w == 64) {
		return mesh.Value{}, fmt.Errorf("%w: %s, and what came is %s", ErrType, t, v.Kind)
	}
	u := v.Bits
	if w == 64 {
		if t.signed() {
			return mesh.Int(int64(u)), nil
		}
		return mesh.Uint(u), nil
	}
	if !t.signed() {
		if u >= 1<<w {
			return mesh.Value{}, fmt.Errorf("%w: %d is no %s", ErrRange, u, t)
		}
		return mesh.Uint(u), nil
	}
	least := -int64(1) << (w - 1)
	switch wide := int64(int32(uint32(u))); {
	case u < 1<<w: // as wide as its type
		return mesh.Int(int64(u<<(64-w)) >> (64 - w)), nil
	case u < 1<<32 && wide >= least && wide < 0: // as wide as int_value
		return mesh.Int(wide), nil
	case int64(u) >= least && int64(u) < 0: // as wide as long_value
		return mesh.Int(int64(u)), nil
	}
	return mesh.Value{}, fmt.Errorf("%w: %d is no %s", ErrRange, u, t)
}

func text(b []byte) (mesh.Value, error) {
	if !utf8.Valid(b) {
		return mesh.Value{}, ErrText
	}
	return sized(mesh.Value{Type: mesh.TypeString, Bytes: b})
}

func sized(v mesh.Value) (mesh.Value, error) {
	if len(v.Bytes) > wire.MaxText {
		return mesh.Value{}, fmt.Errorf("%w: %d bytes in one value, at most %d are stored", ErrLimit, len(v.Bytes), wire.MaxText)
	}
	return v, nil
}

// lastInstant is the end of the year 9999 in ms since 1970: RFC 3339 has no more.
const lastInstant = 253_402_300_799_999

func instant(ms uint64) (mesh.Value, error) {
	if ms > lastInstant {
		return mesh.Value{}, fmt.Errorf("%w: %d ms since 1970 is no time", ErrRange, ms)
	}
	return mesh.Value{Type: mesh.TypeString, Bytes: time.UnixMilli(int64(ms)).UTC().AppendFormat(nil, time.RFC3339Nano)}, nil
}

// Elements appends the elements of an array to out. An array travels as bytes: numbers
// little endian, one behind the other; booleans a count of four bytes and then bits,
// the first one in the highest; texts each with a zero behind it.
func (t Type) Elements(out []mesh.Item, v Value) ([]mesh.Item, error) {
	if v.Kind != InBytes {
		return out, fmt.Errorf("%w: %s, and what came is %s", ErrType, t, v.Kind)
	}
	switch t {
	case BooleanArray:
		return booleans(out, v.Bytes)
	case StringArray:
		return texts(out, v.Bytes)
	default:
	}
	width := t.width()
	if width == 0 || len(v.Bytes)%width != 0 {
		return out, fmt.Errorf("%w: %d bytes in a %s", ErrArray, len(v.Bytes), t)
	}
	if n := len(v.Bytes) / width; n > MaxElements {
		return out, tooMany(uint64(n))
	}
	for b := v.Bytes; len(b) > 0; b = b[width:] {
		x, err := t.element(b[:width])
		if err != nil {
			return out, err
		}
		out = append(out, mesh.Item{Value: x})
	}
	return out, nil
}

func tooMany(n uint64) error {
	return fmt.Errorf("%w: an array of %d values, at most %d are taken", ErrLimit, n, MaxElements)
}

// width is the size of an array's elements in bytes; 0 where they have none.
func (t Type) width() int {
	switch t {
	case FloatArray:
		return 4
	case DoubleArray:
		return 8
	default:
		return t.item().bits() / 8
	}
}

func (t Type) element(b []byte) (mesh.Value, error) {
	var wide [8]byte
	copy(wide[:], b)
	u := binary.LittleEndian.Uint64(wide[:])
	switch t {
	case FloatArray:
		return mesh.Double(float64(math.Float32frombits(uint32(u)))), nil
	case DoubleArray:
		return mesh.Value{Type: mesh.TypeDouble, Bits: u}, nil
	case DateTimeArray:
		return instant(u)
	default:
		return t.item().integer(Value{Kind: InLong, Bits: u})
	}
}

func booleans(out []mesh.Item, b []byte) ([]mesh.Item, error) {
	if len(b) < 4 {
		return out, fmt.Errorf("%w: %d bytes in a BooleanArray", ErrArray, len(b))
	}
	n := binary.LittleEndian.Uint32(b)
	if b = b[4:]; n > MaxElements {
		return out, tooMany(uint64(n))
	}
	if len(b) != int(n+7)/8 {
		return out, fmt.Errorf("%w: %d booleans in %d bytes", ErrArray, n, len(b))
	}
	for i := range int(n) {
		out = append(out, mesh.Item{Value: mesh.Bool(b[i/8]>>(7-i%8)&1 != 0)})
	}
	return out, nil
}

func texts(out []mesh.Item, b []byte) ([]mesh.Item, error) {
	if n := bytes.Count(b, []byte{0}); n > MaxElements {
		return out, tooMany(uint64(n))
	}
	for len(b) > 0 {
		one, rest, ended := bytes.Cut(b, []byte{0})
		if !ended {
			return out, fmt.Errorf("%w: no zero behind the last text", ErrArray)
		}
		v, err := text(one)
		if err != nil {
			return out, err
		}
		out, b = append(out, mesh.Item{Value: v}), rest
	}
	return out, nil
}
