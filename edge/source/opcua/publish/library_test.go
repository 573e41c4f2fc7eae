package publish

import (
	"bytes"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/gopcua/opcua/id"
	"github.com/gopcua/opcua/ua"

	"plantmesh/edge/source/opcua/measure"
)

// libraryPublish is a publish response as the library reads it. Where the library
// panics that is an error, and where it could take any memory: it makes room for whatever
// array dimensions say.
func libraryPublish(b []byte) (r *ua.PublishResponse, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("the library panics: %v", p)
		}
	}()
	b = slices.Concat([]byte{1, 0, 0x3d, 0x03}, b) // i=829
	if err := measure.Answer(b); err != nil {
		return nil, err
	}
	_, v, err := ua.DecodeService(b)
	if err != nil {
		return nil, err
	}
	return v.(*ua.PublishResponse), nil
}

// libraryRepublish is a republish response as the library reads it.
func libraryRepublish(b []byte) (r *ua.RepublishResponse, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("the library panics: %v", p)
		}
	}()
	b = slices.Concat([]byte{1, 0, 0x43, 0x03}, b) // i=835
	if err := measure.Answer(b); err != nil {
		return nil, err
	}
	_, v, err := ua.DecodeService(b)
	if err != nil {
		return nil, err
	}
	return v.(*ua.RepublishResponse), nil
}

// differs says how m differs from what the library read; it is "" where it does not.
func differs(m *Message, want *ua.PublishResponse) string {
	h := want.ResponseHeader
	switch {
	case m.Handle != h.RequestHandle || m.Result != uint32(h.ServiceResult):
		return fmt.Sprintf("header %d %x, want %d %x", m.Handle, m.Result, h.RequestHandle, h.ServiceResult)
	case !libraryTime(m.Sent).Equal(h.Timestamp):
		return fmt.Sprintf("sent %v, want %v", libraryTime(m.Sent), h.Timestamp)
	case m.Result&bad != 0: // the library reads on
		return ""
	case m.Subscription != want.SubscriptionID || m.More != want.MoreNotifications:
		return fmt.Sprintf("subscription %d, more %t, want %d, %t", m.Subscription, m.More, want.SubscriptionID, want.MoreNotifications)
	case !slices.Equal(m.Available, want.AvailableSequenceNumbers):
		return fmt.Sprintf("available %v, want %v", m.Available, want.AvailableSequenceNumbers)
	case !slices.Equal(m.Results, codes(want.Results)):
		return fmt.Sprintf("results %v, want %v", m.Results, want.Results)
	}
	return messageDiffers(m, want.NotificationMessage)
}

// republishDiffers is differs for republish responses.
func republishDiffers(m *Message, want *ua.RepublishResponse) string {
	return differs(m, &ua.PublishResponse{ResponseHeader: want.ResponseHeader, NotificationMessage: want.NotificationMessage})
}

func codes(from []ua.StatusCode) (out []uint32) {
	for _, c := range from {
		out = append(out, uint32(c))
	}
	return out
}

func messageDiffers(m *Message, want *ua.NotificationMessage) string {
	var items []*ua.MonitoredItemNotification
	var status []uint32
	var events []*ua.EventFieldList
	foreign := 0
	for _, n := range want.NotificationData {
		switch d := n.Value.(type) {
		case *ua.DataChangeNotification:
			items = append(items, d.MonitoredItems...)
		case *ua.StatusChangeNotification:
			status = append(status, uint32(d.Status))
		case *ua.EventNotificationList:
			events = append(events, d.Events...)
		default:
			foreign++
		}
	}
	switch {
	case m.Sequence != want.SequenceNumber || !libraryTime(m.Time).Equal(want.PublishTime):
		return fmt.Sprintf("message %d of %v, want %d of %v", m.Sequence, libraryTime(m.Time), want.SequenceNumber, want.PublishTime)
	case m.Data != len(want.NotificationData) || len(m.Events) != len(events) || m.Foreign != foreign:
		return fmt.Sprintf("%d notifications, %d events, %d foreign; want %d, %d, %d", m.Data, len(m.Events), m.Foreign, len(want.NotificationData), len(events), foreign)
	case !slices.Equal(m.Status, status):
		return fmt.Sprintf("status %x, want %x", m.Status, status)
	case len(m.Values) != len(items):
		return fmt.Sprintf("%d values, want %d", len(m.Values), len(items))
	}
	statuses, extensions := uint32(0), false
	for i := range items {
		if d := valueDiffers(&m.Values[i], items[i]); d != "" {
			return fmt.Sprintf("value %d: %s", i, d)
		}
		statuses |= m.Values[i].Status
		extensions = extensions || m.Values[i].Type >= TypeExtension
	}
	if m.Statuses != statuses || m.Extensions != extensions {
		return fmt.Sprintf("statuses %x, extensions %t; want %x, %t", m.Statuses, m.Extensions, statuses, extensions)
	}
	for i := range events {
		if d := eventDiffers(&m.Events[i], events[i]); d != "" {
			return fmt.Sprintf("event %d: %s", i, d)
		}
	}
	return ""
}

func eventDiffers(e *Event, want *ua.EventFieldList) string {
	if e.Handle != want.ClientHandle || e.Count != len(want.EventFields) {
		return fmt.Sprintf("handle %d, %d fields, want %d, %d", e.Handle, e.Count, want.ClientHandle, len(want.EventFields))
	}
	for i, v := range e.Read(make([]Value, e.Count+1)) {
		same := &ua.MonitoredItemNotification{ClientHandle: e.Handle, Value: &ua.DataValue{Value: want.EventFields[i]}}
		if d := valueDiffers(&v, same); d != "" {
			return fmt.Sprintf("field %d: %s", i, d)
		}
	}
	return ""
}

// libraryTime is ticks as the library makes a time of them: it does not look at
// what int64 nanoseconds can hold.
func libraryTime(ticks int64) time.Time {
	if ticks == 0 {
		return time.Time{}
	}
	return time.Unix(0, (ticks-unixEpoch)*100)
}

func valueDiffers(v *Value, item *ua.MonitoredItemNotification) string {
	d := item.Value
	array := d.Value.Has(ua.VariantArrayValues) && d.Value.Type() != ua.TypeIDNull
	switch {
	case v.Handle != item.ClientHandle || v.Status != uint32(d.Status):
		return fmt.Sprintf("handle %d, status %x, want %d, %x", v.Handle, v.Status, item.ClientHandle, d.Status)
	case !libraryTime(v.Source).Equal(d.SourceTimestamp) || !libraryTime(v.Server).Equal(d.ServerTimestamp):
		return fmt.Sprintf("times %v and %v, want %v and %v", libraryTime(v.Source), libraryTime(v.Server), d.SourceTimestamp, d.ServerTimestamp)
	case v.Type != byte(d.Value.Type()) || v.Array != array:
		return fmt.Sprintf("type %d, array %t, want %d, %t", v.Type, v.Array, d.Value.Type(), array)
	case array || raw(v.Type):
		return rawDiffers(v, d.Value)
	case !scalarEqual(v, d.Value.Value()):
		return fmt.Sprintf("type %d: bits %x, bytes %q, want %v", v.Type, v.Bits, v.Bytes, d.Value.Value())
	}
	return ""
}

// raw reports whether the type's single values stay encoded.
func raw(t byte) bool {
	return t == TypeNodeID || t == TypeExpandedNodeID || t >= TypeExtension
}

// rawDiffers looks whether the library reads all of the bytes as the same variant.
func rawDiffers(v *Value, want *ua.Variant) string {
	var got ua.Variant
	n, err := got.Decode(v.Bytes)
	switch {
	case err != nil || n != len(v.Bytes):
		return fmt.Sprintf("the library reads %d of %d bytes: %v", n, len(v.Bytes), err)
	case v.Bits != 0 || cap(v.Bytes) != len(v.Bytes):
		return fmt.Sprintf("bits %x, %d bytes of %d", v.Bits, len(v.Bytes), cap(v.Bytes))
	case !bytes.Equal(encoded(&got), encoded(want)):
		return fmt.Sprintf("%#v, want %#v", got.Value(), want.Value())
	}
	return ""
}

// encoded is v's encoding, nil where the library can't write what it read.
func encoded(v *ua.Variant) (b []byte) {
	defer func() { _ = recover() }()
	b, _ = v.Encode()
	return b
}

func scalarEqual(v *Value, want any) bool {
	bits, is := uint64(0), true
	switch w := want.(type) {
	case nil:
	case bool:
		if w {
			bits = 1
		}
	case int8:
		bits = uint64(w)
	case uint8:
		bits = uint64(w)
	case int16:
		bits = uint64(w)
	case uint16:
		bits = uint64(w)
	case int32:
		bits = uint64(w)
	case uint32:
		bits = uint64(w)
	case int64:
		bits = uint64(w)
	case uint64:
		bits = w
	case ua.StatusCode:
		bits = uint64(w)
	case float32:
		return v.Bytes == nil && floatEqual(v.Bits, float64(w))
	case float64:
		return v.Bytes == nil && floatEqual(v.Bits, w)
	case time.Time:
		return v.Bytes == nil && libraryTime(int64(v.Bits)).Equal(w)
	default:
		is = false
	}
	if is {
		return v.Bits == bits && v.Bytes == nil
	}
	return v.Bits == 0 && textEqual(v.Bytes, want)
}

// floatEqual compares bit by bit, but the library has one NaN only.
func floatEqual(bits uint64, want float64) bool {
	if got := math.Float64frombits(bits); math.IsNaN(got) {
		return math.IsNaN(want)
	}
	return bits == math.Float64bits(want)
}

// textEqual compares; the library has one value for null and empty.
func textEqual(got []byte, want any) bool {
	switch w := want.(type) {
	case string:
		return string(got) == w
	case ua.XMLElement:
		return string(got) == string(w)
	case []byte:
		return bytes.Equal(got, w)
	case *ua.QualifiedName:
		return string(got) == w.Name
	case *ua.LocalizedText:
		return string(got) == w.Text
	case *ua.GUID:
		b, err := w.Encode()
		return err == nil && bytes.Equal(got, b)
	}
	return false
}

// response is a publish response around notifications.
func response(data ...*ua.ExtensionObject) *ua.PublishResponse {
	return &ua.PublishResponse{
		ResponseHeader: &ua.ResponseHeader{
			Timestamp:          time.Date(2024, 2, 29, 12, 0, 0, 0, time.UTC),
			RequestHandle:      7,
			ServiceDiagnostics: &ua.DiagnosticInfo{},
			StringTable:        []string{},
			AdditionalHeader:   ua.NewExtensionObject(nil),
		},
		SubscriptionID:           5,
		AvailableSequenceNumbers: []uint32{8, 9},
		MoreNotifications:        true,
		NotificationMessage: &ua.NotificationMessage{
			SequenceNumber:   9,
			PublishTime:      time.Date(2024, 2, 29, 12, 0, 0, 123_456_700, time.UTC),
			NotificationData: data,
		},
		Results:         []ua.StatusCode{0, ua.StatusBadSequenceNumberUnknown},
		DiagnosticInfos: []*ua.DiagnosticInfo{},
	}
}

// object is a notification as an extension object.
func object(typeID uint16, v any) *ua.ExtensionObject {
	return &ua.ExtensionObject{EncodingMask: ua.ExtensionObjectBinary, TypeID: ua.NewFourByteExpandedNodeID(0, typeID), Value: v}
}

// change is a data change notification of values, whose handles count from 0.
func change(values ...*ua.DataValue) *ua.ExtensionObject {
	d := &ua.DataChangeNotification{}
	for i, v := range values {
		d.MonitoredItems = append(d.MonitoredItems, &ua.MonitoredItemNotification{ClientHandle: uint32(i), Value: v})
	}
	return object(id.DataChangeNotification_Encoding_DefaultBinary, d)
}

// plain is a data value without status or times.
func plain(v any) *ua.DataValue {
	return &ua.DataValue{EncodingMask: ua.DataValueValue, Value: ua.MustVariant(v)}
}

// encode is v's encoding by the library.
func encode(v any) []byte {
	b, err := ua.Encode(v)
	if err != nil {
		panic(err)
	}
	return b
}

// thousand is a message of 1000 values with status-less masks as servers send
// them, all double or of all usual kinds.
func thousand(mixed bool) []byte {
	dice := rand.New(rand.NewPCG(3, 3))
	now := time.Date(2024, 2, 29, 12, 0, 0, 0, time.UTC)
	var values []*ua.DataValue
	for k := range 1000 {
		var v any = math.Round((20+float64(k%97)+dice.Float64())*100) / 100
		if mixed {
			v = usual(dice)
		}
		d := plain(v)
		d.SourceTimestamp, d.ServerTimestamp = now, now
		d.EncodingMask |= ua.DataValueSourceTimestamp | ua.DataValueServerTimestamp
		if mixed && dice.IntN(4) == 0 {
			d.EncodingMask |= ua.DataValueStatusCode
			d.Status = 0x480
		}
		if mixed && dice.IntN(9) == 0 {
			d.EncodingMask &^= ua.DataValueServerTimestamp
		}
		values = append(values, d)
	}
	return encode(response(change(values...)))
}

// usual is a value as a machine has it.
func usual(dice *rand.Rand) any {
	switch dice.IntN(12) {
	case 0:
		return dice.IntN(2) == 0
	case 1:
		return int32(dice.Uint32())
	case 2:
		return uint16(dice.Uint32())
	case 3:
		return dice.Float32()
	case 4:
		return "state-" + string(rune('a'+dice.IntN(20)))
	case 5:
		return []float64{1, 2, 3}
	case 6:
		return int64(dice.Uint64())
	case 7:
		return int8(-3)
	case 8:
		return int16(-300)
	case 9:
		return time.Date(2024, 2, 29, 12, 0, 0, 0, time.UTC)
	}
	return dice.Float64()
}
