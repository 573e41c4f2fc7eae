package measure

import (
	"reflect"

	"github.com/gopcua/opcua/ua"
)

func (w *walker) localizedText() {
	mask := w.u8()
	if mask&ua.LocalizedTextLocale != 0 {
		w.text()
	}
	if mask&ua.LocalizedTextText != 0 {
		w.text()
	}
}

// diagnostic reads over a DiagnosticInfo and those in it (OPC 10000-6 §5.2.2.12).
func (w *walker) diagnostic() {
	outer := w.depth
	defer func() { w.depth = outer }()
	for w.deeper() {
		mask := w.u8()
		for _, bit := range []byte{ua.DiagnosticInfoSymbolicID, ua.DiagnosticInfoNamespaceURI, ua.DiagnosticInfoLocale, ua.DiagnosticInfoLocalizedText} {
			if mask&bit != 0 {
				w.take(4)
			}
		}
		if mask&ua.DiagnosticInfoAdditionalInfo != 0 {
			w.text()
		}
		if mask&ua.DiagnosticInfoInnerStatusCode != 0 {
			w.take(4)
		}
		if mask&ua.DiagnosticInfoInnerDiagnosticInfo == 0 {
			return
		}
		w.spend(int(reflect.TypeFor[ua.DiagnosticInfo]().Size()))
	}
}

// dataValue reads over a DataValue (OPC 10000-6 §5.2.2.17).
func (w *walker) dataValue() {
	w.spend(int(reflect.TypeFor[ua.Variant]().Size()))
	if w.deeper() {
		mask := w.u8()
		if mask&ua.DataValueValue != 0 {
			w.variant()
		}
		for _, f := range []struct {
			bit  byte
			size int
		}{
			{ua.DataValueStatusCode, 4},
			{ua.DataValueSourceTimestamp, 8},
			{ua.DataValueSourcePicoseconds, 2},
			{ua.DataValueServerTimestamp, 8},
			{ua.DataValueServerPicoseconds, 2},
		} {
			if mask&f.bit != 0 {
				w.take(f.size)
			}
		}
	}
	w.depth--
}

// variant reads over a Variant (OPC 10000-6 §5.2.2.16).
func (w *walker) variant() {
	if w.deeper() {
		mask := w.u8()
		t := ua.TypeID(mask & 0x3f)
		switch {
		case t == ua.TypeIDNull:
		case mask&ua.VariantArrayValues != 0:
			w.array(t, mask&ua.VariantArrayDimensions != 0)
		default:
			w.spend(boxed(t))
			w.element(t)
		}
	}
	w.depth--
}

// array reads over the elements of a variant, and its dimensions.
func (w *walker) array(t ua.TypeID, dimensions bool) {
	n := int32(w.u32())
	if n < -1 || int(n) > len(w.b)-w.pos {
		w.fail(ErrCount)
		return
	}
	w.spend(max(0, int(n)) * boxed(t))
	for i := int32(0); i < n && w.err == nil; i++ {
		w.element(t)
	}
	if !dimensions {
		return
	}
	k := int32(w.u32())
	if k < 0 || k > Dimensions {
		w.fail(ErrForm)
		return
	}
	product := int64(1)
	for range k {
		d := int64(int32(w.u32()))
		if d < 1 || d > int64(max(n, 0)) {
			w.fail(ErrForm)
			return
		}
		if product *= d; product > int64(n) {
			w.fail(ErrForm)
			return
		}
		w.spend(int(product) * int(reflect.TypeFor[[]any]().Size()))
	}
}

// boxed is about what the library takes of memory for a value of a built-in type,
// beside what it points to: it puts each into an interface first.
func boxed(t ua.TypeID) int {
	const box, pointer = 16, 8
	switch t {
	case ua.TypeIDGUID:
		return box + pointer + int(reflect.TypeFor[ua.GUID]().Size())
	case ua.TypeIDNodeID:
		return box + pointer + int(reflect.TypeFor[ua.NodeID]().Size())
	case ua.TypeIDExpandedNodeID:
		return box + pointer + int(reflect.TypeFor[ua.ExpandedNodeID]().Size())
	case ua.TypeIDQualifiedName:
		return box + pointer + int(reflect.TypeFor[ua.QualifiedName]().Size())
	case ua.TypeIDLocalizedText:
		return box + pointer + int(reflect.TypeFor[ua.LocalizedText]().Size())
	case ua.TypeIDExtensionObject:
		return box + pointer + int(reflect.TypeFor[ua.ExtensionObject]().Size())
	case ua.TypeIDDataValue:
		return box + pointer + int(reflect.TypeFor[ua.DataValue]().Size())
	case ua.TypeIDVariant:
		return box + pointer + int(reflect.TypeFor[ua.Variant]().Size())
	case ua.TypeIDDiagnosticInfo:
		return box + pointer + int(reflect.TypeFor[ua.DiagnosticInfo]().Size())
	default:
		return box + 24
	}
}

// element reads over a value of a built-in type (OPC 10000-6 §5.1.2, Table 1).
func (w *walker) element(t ua.TypeID) {
	switch t {
	case ua.TypeIDBoolean, ua.TypeIDSByte, ua.TypeIDByte:
		w.take(1)
	case ua.TypeIDInt16, ua.TypeIDUint16:
		w.take(2)
	case ua.TypeIDInt32, ua.TypeIDUint32, ua.TypeIDFloat, ua.TypeIDStatusCode:
		w.take(4)
	case ua.TypeIDInt64, ua.TypeIDUint64, ua.TypeIDDouble, ua.TypeIDDateTime:
		w.take(8)
	case ua.TypeIDString, ua.TypeIDByteString, ua.TypeIDXMLElement:
		w.text()
	case ua.TypeIDGUID:
		w.take(16)
	case ua.TypeIDNodeID:
		w.nodeID()
	case ua.TypeIDQualifiedName:
		w.take(2)
		w.text()
	default:
		w.compound(t)
	}
}

func (w *walker) compound(t ua.TypeID) {
	switch t {
	case ua.TypeIDExpandedNodeID:
		w.expandedNodeID()
	case ua.TypeIDLocalizedText:
		w.localizedText()
	case ua.TypeIDExtensionObject:
		w.extension()
	case ua.TypeIDDataValue:
		w.dataValue()
	case ua.TypeIDVariant:
		w.variant()
	case ua.TypeIDDiagnosticInfo:
		w.diagnostic()
	default:
		w.fail(ErrKind)
	}
}

// extension reads over an ExtensionObject (OPC 10000-6 §5.2.2.15): by the length
// it gives, and into a body that the library will decode. A body that ends early
// is the library's to refuse.
func (w *walker) extension() {
	w.spend(int(reflect.TypeFor[ua.ExpandedNodeID]().Size()))
	from := w.pos
	w.expandedNodeID()
	id := w.b[from:w.pos]
	encoding := w.u8()
	if w.err != nil || encoding == ua.ExtensionObjectEmpty {
		return
	}
	n := int32(w.u32())
	if n == 0 || n == -1 {
		return
	}
	body := w.take(int(n))
	if w.err != nil || encoding == ua.ExtensionObjectXML {
		w.spend(len(body))
		return
	}
	t := objectType(id)
	if t == nil {
		return
	}
	if w.deeper() {
		in := walker{b: body, room: w.room, depth: w.depth}
		in.pointed(t)
		w.room = in.room
		if in.err != nil {
			w.fail(in.err)
		}
	}
	w.depth--
}
