package publish

import (
	"math"
	"math/rand/v2"
	"reflect"
	"slices"
	"time"

	"github.com/gopcua/opcua/id"
	"github.com/gopcua/opcua/ua"
)

// maker makes messages at random.
type maker struct{ *rand.Rand }

func newMaker(seed uint64) maker { return maker{rand.New(rand.NewPCG(seed, 1))} }

func (m maker) chance(of int) bool { return m.IntN(of) == 0 }

// time is now and then none, and may lie anywhere in int64 nanoseconds.
func (m maker) time() time.Time {
	switch m.IntN(4) {
	case 0:
		return time.Time{}
	case 1:
		return time.Unix(0, int64(m.Uint64())/100*100).UTC()
	}
	return time.Unix(1_700_000_000+int64(m.Uint32()>>4), int64(m.IntN(10_000_000))*100).UTC()
}

func (m maker) text() string {
	return [...]string{"", "a", "running", "läuft", "\xff\xfe no \xc3 UTF-8", "\x00", string(make([]byte, 300))}[m.IntN(7)]
}

func (m maker) float() float64 {
	return [...]float64{0, math.Copysign(0, -1), math.NaN(), math.Inf(1), math.Inf(-1), math.MaxFloat64, math.SmallestNonzeroFloat64, m.NormFloat64()}[m.IntN(8)]
}

func (m maker) nodeID() *ua.NodeID {
	switch m.IntN(6) {
	case 0:
		return ua.NewTwoByteNodeID(byte(m.Uint32()))
	case 1:
		return ua.NewFourByteNodeID(byte(m.Uint32()), uint16(m.Uint32()))
	case 2:
		return ua.NewNumericNodeID(uint16(m.Uint32()), m.Uint32())
	case 3:
		return ua.NewStringNodeID(uint16(m.Uint32()), m.text())
	case 4:
		return ua.NewByteStringNodeID(uint16(m.Uint32()), []byte(m.text()))
	}
	return ua.NewGUIDNodeID(uint16(m.Uint32()), "AAAABBBB-CCDD-EEFF-0011-223344556677")
}

func (m maker) expanded() *ua.ExpandedNodeID {
	e := ua.NewExpandedNodeID(m.nodeID(), "", 0)
	if m.chance(2) {
		e = ua.NewExpandedNodeID(m.nodeID(), "urn:machine", m.Uint32())
	}
	return e
}

func (m maker) diagnostic(depth int) *ua.DiagnosticInfo {
	d := &ua.DiagnosticInfo{
		EncodingMask: byte(m.IntN(0x40)),
		SymbolicID:   int32(m.Uint32()), NamespaceURI: int32(m.Uint32()), Locale: int32(m.Uint32()), LocalizedText: int32(m.Uint32()),
		AdditionalInfo: m.text(), InnerStatusCode: ua.StatusCode(m.Uint32()),
	}
	if depth > 0 && m.chance(2) {
		d.EncodingMask |= ua.DiagnosticInfoInnerDiagnosticInfo
		d.InnerDiagnosticInfo = m.diagnostic(depth - 1)
	}
	return d
}

func (m maker) diagnostics() []*ua.DiagnosticInfo {
	out := make([]*ua.DiagnosticInfo, m.IntN(3))
	for i := range out {
		out[i] = m.diagnostic(3)
	}
	return out
}

// extension is an extension object with a body that the library knows.
func (m maker) extension() *ua.ExtensionObject {
	switch m.IntN(3) {
	case 0:
		return ua.NewExtensionObject(nil)
	case 1:
		return object(id.EUInformation_Encoding_DefaultBinary, &ua.EUInformation{NamespaceURI: m.text(), UnitID: 3, DisplayName: &ua.LocalizedText{}, Description: &ua.LocalizedText{}})
	}
	return object(id.Range_Encoding_DefaultBinary, &ua.Range{Low: m.float(), High: m.float()})
}

// builtIn is a value of a built-in type 1 to 25.
func (m maker) builtIn(t byte, depth int) any {
	switch t {
	case TypeBoolean:
		return m.chance(2)
	case TypeSByte:
		return int8(m.Uint32())
	case TypeByte:
		return byte(m.Uint32())
	case TypeInt16:
		return int16(m.Uint32())
	case TypeUInt16:
		return uint16(m.Uint32())
	case TypeInt32:
		return int32(m.Uint32())
	case TypeUInt32:
		return m.Uint32()
	case TypeInt64:
		return int64(m.Uint64())
	case TypeUInt64:
		return m.Uint64()
	case TypeFloat:
		return float32(m.float())
	case TypeDouble:
		return m.float()
	case TypeString:
		return m.text()
	case TypeDateTime:
		return m.time()
	case TypeGUID:
		return ua.NewGUID("01020304-0506-0708-090A-0B0C0D0E0F10")
	case TypeByteString:
		return []byte(m.text())
	case TypeXMLElement:
		return ua.XMLElement(m.text())
	}
	return m.structured(t, depth)
}

func (m maker) structured(t byte, depth int) any {
	switch t {
	case TypeNodeID:
		return m.nodeID()
	case TypeExpandedNodeID:
		return m.expanded()
	case TypeStatusCode:
		return ua.StatusCode(m.Uint32())
	case TypeQualifiedName:
		return &ua.QualifiedName{NamespaceIndex: uint16(m.Uint32()), Name: m.text()}
	case TypeLocalizedText:
		return ua.NewLocalizedTextWithLocale(m.text(), m.text())
	case TypeExtension:
		return m.extension()
	case TypeDataValue:
		return m.dataValue(m.variant(depth - 1))
	case TypeVariant:
		return m.variant(depth - 1)
	default:
		return m.diagnostic(depth)
	}
}

// variant is a null, a single value or an array of up to three dimensions.
func (m maker) variant(depth int) *ua.Variant {
	if depth <= 0 || m.chance(10) {
		return &ua.Variant{}
	}
	return m.variantOf(byte(1+m.IntN(25)), m.IntN(6), depth)
}

// variantOf has so many dimensions, none from 4 on.
func (m maker) variantOf(t byte, dimensions, depth int) *ua.Variant {
	if dimensions == 0 || dimensions > 3 {
		return ua.MustVariant(m.builtIn(t, depth))
	}
	if t == TypeByteString { // the library can't write an array of these
		return ua.MustVariant(m.builtIn(t, depth))
	}
	return ua.MustVariant(m.array(t, dimensions, depth).Interface())
}

func (m maker) array(t byte, dimensions, depth int) reflect.Value {
	of := func() reflect.Value { return reflect.ValueOf(m.builtIn(t, depth)) }
	if dimensions > 1 {
		of = func() reflect.Value { return m.array(t, dimensions-1, depth) }
	}
	first := of()
	slice := reflect.SliceOf(first.Type())
	if t == TypeByte && dimensions == 1 {
		slice = reflect.TypeFor[ua.ByteArray]() // a []byte would be a ByteString
	}
	out := reflect.MakeSlice(slice, 0, 3)
	n := dimensions // each level has one size, or the library finds it unbalanced
	if dimensions == 1 {
		n = 2
	}
	out = reflect.Append(out, first)
	for range n - 1 {
		out = reflect.Append(out, of())
	}
	return out
}

// dataValue has any mask.
func (m maker) dataValue(v *ua.Variant) *ua.DataValue {
	d := &ua.DataValue{EncodingMask: byte(m.IntN(0x40)), Value: v, Status: ua.StatusCode(m.Uint32())}
	d.SourceTimestamp, d.ServerTimestamp = m.time(), m.time()
	d.SourcePicoseconds, d.ServerPicoseconds = uint16(m.Uint32()), uint16(m.Uint32())
	if m.chance(2) { // as most servers do
		d.EncodingMask = ua.DataValueValue | ua.DataValueSourceTimestamp | ua.DataValueServerTimestamp
	}
	return d
}

// notification is of any kind.
func (m maker) notification() *ua.ExtensionObject {
	switch m.IntN(8) {
	case 0:
		return object(id.StatusChangeNotification_Encoding_DefaultBinary, &ua.StatusChangeNotification{Status: ua.StatusCode(m.Uint32()), DiagnosticInfo: m.diagnostic(3)})
	case 1:
		list := &ua.EventNotificationList{}
		for range m.IntN(4) {
			list.Events = append(list.Events, &ua.EventFieldList{ClientHandle: m.Uint32(), EventFields: []*ua.Variant{m.variant(2), m.variant(2)}})
		}
		return object(id.EventNotificationList_Encoding_DefaultBinary, list)
	case 2:
		return m.extension()
	}
	d := &ua.DataChangeNotification{DiagnosticInfos: m.diagnostics()}
	for range m.IntN(40) {
		d.MonitoredItems = append(d.MonitoredItems, &ua.MonitoredItemNotification{ClientHandle: m.Uint32(), Value: m.dataValue(m.variant(3))})
	}
	n := object(id.DataChangeNotification_Encoding_DefaultBinary, d)
	if m.chance(3) {
		n.TypeID = ua.NewNumericExpandedNodeID(0, id.DataChangeNotification_Encoding_DefaultBinary)
	}
	return n
}

// response is a publish response with anything in it.
func (m maker) response() *ua.PublishResponse {
	var data []*ua.ExtensionObject
	for range m.IntN(4) {
		data = append(data, m.notification())
	}
	r := response(data...)
	r.ResponseHeader = m.header()
	r.SubscriptionID = m.Uint32()
	r.AvailableSequenceNumbers = slices.Repeat([]uint32{m.Uint32(), 1}, m.IntN(3))
	r.MoreNotifications = m.chance(2)
	r.NotificationMessage.SequenceNumber = m.Uint32()
	r.NotificationMessage.PublishTime = m.time()
	r.Results = slices.Repeat([]ua.StatusCode{ua.StatusCode(m.Uint32())}, m.IntN(3))
	r.DiagnosticInfos = m.diagnostics()
	return r
}

func (m maker) header() *ua.ResponseHeader {
	return &ua.ResponseHeader{
		Timestamp: m.time(), RequestHandle: m.Uint32(), ServiceResult: ua.StatusCode(m.Uint32() >> 1), // never bad
		ServiceDiagnostics: m.diagnostic(3), StringTable: slices.Repeat([]string{m.text()}, m.IntN(4)), AdditionalHeader: m.extension(),
	}
}
