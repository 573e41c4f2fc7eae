// Package measure looks over the bytes of an answer before the library decodes
// them. The library makes values by reflection and trusts what it reads: a
// megabyte of values in values overflows its stack, which nothing can recover
// from, and a byte of a list becomes a hundred in memory. Here the same bytes are
// read over by the same types, without making anything, against bounds.
package measure

import (
	"encoding/binary"
	"errors"
	"fmt"
	"reflect"
	"time"

	"github.com/gopcua/opcua/ua"
)

// Errors of an answer, with the byte they stand at.
var (
	ErrShort = errors.New("ends early")
	ErrCount = errors.New("a count that can't be")                // more elements than the bytes left can hold
	ErrKind  = errors.New("an encoding that is not known")        // of a node id, or a variant's type
	ErrDeep  = errors.New("values nested too deep")               // see Depth
	ErrLarge = errors.New("values that need too much of memory")  // see Bytes
	ErrForm  = errors.New("array dimensions of no possible size") // more of them than Dimensions, or not the array's
)

// Bounds of an answer.
const (
	// Depth is how many variants, data values, extension objects and diagnostic
	// infos may stand in each other (OPC 10000-6 §5.2.2.12 wants a bound, of at least
	// 4; events, whose fields hold structures, need some 6).
	Depth = 16
	// Bytes is how much memory an answer may take when it is decoded: of 100,000
	// references of a browse, each some 600 bytes. A worker has 256 MiB.
	Bytes = 64 << 20
	// Dimensions of an array: the library makes a type of each, for ever.
	Dimensions = 8
)

// Answer judges a message as ua.DecodeService would read it, from the type id on.
// A type that the library doesn't know is none of its concern.
func Answer(b []byte) error {
	w := walker{b: b, room: Bytes}
	w.expandedNodeID()
	if w.err == nil {
		if t := serviceType(b[:w.pos]); t != nil {
			w.pointed(t)
		}
	}
	if w.err != nil {
		return fmt.Errorf("%w at byte %d", w.err, w.pos)
	}
	return nil
}

// serviceType is the library's type of a service. Its register is its own, but of
// a message that ends after its type id it gives the empty value.
func serviceType(id []byte) reflect.Type {
	_, v, err := ua.DecodeService(id)
	if v == nil || err == nil && reflect.TypeOf(v).Elem().NumField() > 0 {
		return nil
	}
	return reflect.TypeOf(v)
}

// objectType is likewise the library's type of an extension object's body.
func objectType(id []byte) reflect.Type {
	var e ua.ExtensionObject
	probe := append(append(make([]byte, 0, len(id)+6), id...), ua.ExtensionObjectBinary, 1, 0, 0, 0, 0)
	_, _ = e.Decode(probe) // it ends early, and that is what is wanted
	if e.Value == nil {
		return nil
	}
	return reflect.TypeOf(e.Value)
}

// walker reads over bytes. After the first error it takes nothing.
type walker struct {
	b     []byte
	pos   int
	room  int // memory that is left
	depth int
	err   error
}

func (w *walker) fail(why error) {
	if w.err == nil {
		w.err = why
	}
}

func (w *walker) take(n int) []byte {
	if w.err != nil || n < 0 || n > len(w.b)-w.pos {
		w.fail(ErrShort)
		return nil
	}
	w.pos += n
	return w.b[w.pos-n : w.pos]
}

func (w *walker) u8() byte {
	if b := w.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (w *walker) u32() uint32 {
	if b := w.take(4); b != nil {
		return binary.LittleEndian.Uint32(b)
	}
	return 0
}

// spend counts memory that decoding takes.
func (w *walker) spend(n int) {
	if n < 0 || n > w.room {
		w.fail(ErrLarge)
		return
	}
	w.room -= n
}

// text reads over a String, ByteString or XmlElement, which is copied.
func (w *walker) text() {
	n := int32(w.u32())
	if n <= 0 {
		if n < -1 {
			w.fail(ErrCount)
		}
		return
	}
	w.take(int(n))
	w.spend(int(n))
}

// deeper goes a level down, and reports whether it may.
func (w *walker) deeper() bool {
	w.depth++
	if w.depth > Depth {
		w.fail(ErrDeep)
	}
	return w.err == nil
}

// pointed reads over what a pointer of type t shall point to.
func (w *walker) pointed(t reflect.Type) {
	w.spend(int(t.Elem().Size()))
	if w.err != nil || w.known(t) {
		return
	}
	if t.Implements(reflect.TypeFor[ua.BinaryDecoder]()) {
		w.fail(fmt.Errorf("%w: %s decodes itself", ErrKind, t))
		return
	}
	w.value(t.Elem())
}

// known reads over the types that the library decodes by hand.
func (w *walker) known(t reflect.Type) bool {
	switch t {
	case reflect.TypeFor[*ua.NodeID]():
		w.nodeID()
	case reflect.TypeFor[*ua.ExpandedNodeID]():
		w.expandedNodeID()
	case reflect.TypeFor[*ua.GUID]():
		w.take(16)
	case reflect.TypeFor[*ua.LocalizedText]():
		w.localizedText()
	case reflect.TypeFor[*ua.DiagnosticInfo]():
		w.diagnostic()
	case reflect.TypeFor[*ua.DataValue]():
		w.dataValue()
	case reflect.TypeFor[*ua.Variant]():
		w.variant()
	case reflect.TypeFor[*ua.ExtensionObject]():
		w.extension()
	default:
		return false
	}
	return true
}

// value reads over a value of type t.
func (w *walker) value(t reflect.Type) {
	if t == reflect.TypeFor[time.Time]() {
		w.take(8)
		return
	}
	switch t.Kind() {
	case reflect.Bool, reflect.Int8, reflect.Uint8, reflect.Int16, reflect.Uint16, reflect.Int32, reflect.Uint32,
		reflect.Int64, reflect.Uint64, reflect.Float32, reflect.Float64:
		w.take(int(t.Size()))
	case reflect.String:
		w.text()
	case reflect.Pointer:
		w.pointed(t)
	case reflect.Slice:
		w.list(t.Elem())
	case reflect.Struct:
		for i := 0; i < t.NumField() && w.err == nil; i++ {
			w.value(t.Field(i).Type)
		}
	default:
		w.fail(fmt.Errorf("%w: a %s", ErrKind, t))
	}
}

// list reads over an array of t (OPC 10000-6 §5.2.5).
func (w *walker) list(t reflect.Type) {
	if t.Kind() == reflect.Uint8 {
		w.text()
		return
	}
	n := int32(w.u32())
	if n == -1 {
		return
	}
	if n < -1 || int(n) > len(w.b)-w.pos {
		w.fail(ErrCount)
		return
	}
	w.spend(int(n) * int(t.Size()))
	for i := int32(0); i < n && w.err == nil; i++ {
		w.value(t)
	}
}

// nodeID reads over a NodeId and gives its first byte (OPC 10000-6 §5.2.2.9).
func (w *walker) nodeID() (form byte) {
	form = w.u8()
	switch ua.NodeIDType(form & 0xf) {
	case ua.NodeIDTypeTwoByte:
		w.take(1)
	case ua.NodeIDTypeFourByte:
		w.take(3)
	case ua.NodeIDTypeNumeric:
		w.take(6)
	case ua.NodeIDTypeGUID:
		w.take(18)
	case ua.NodeIDTypeString, ua.NodeIDTypeByteString:
		w.take(2)
		w.text()
	default:
		w.fail(ErrKind)
	}
	return form
}

// expandedNodeID reads over an ExpandedNodeId (OPC 10000-6 §5.2.2.10).
func (w *walker) expandedNodeID() {
	const hasURI, hasIndex = 0x80, 0x40
	w.spend(int(reflect.TypeFor[ua.NodeID]().Size()))
	form := w.nodeID()
	if form&hasURI != 0 {
		w.text()
	}
	if form&hasIndex != 0 {
		w.take(4)
	}
}
