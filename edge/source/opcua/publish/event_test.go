package publish

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/gopcua/opcua/id"
	"github.com/gopcua/opcua/ua"
)

func list(fields ...[]*ua.Variant) *ua.ExtensionObject {
	l := &ua.EventNotificationList{}
	for i, f := range fields {
		l.Events = append(l.Events, &ua.EventFieldList{ClientHandle: uint32(i), EventFields: f})
	}
	return object(id.EventNotificationList_Encoding_DefaultBinary, l)
}

// TestDecodePublish_EventsOfEveryType: each built-in type as a field, alone and as an
// array of one to three dimensions, beside values in the same message.
func TestDecodePublish_EventsOfEveryType(t *testing.T) {
	dice := newMaker(4)
	var m Message
	for of := byte(1); of <= 25; of++ {
		var all [][]*ua.Variant
		for dimensions := range 4 {
			all = append(all, []*ua.Variant{dice.variantOf(of, dimensions, 3), {}, dice.variantOf(of, dimensions, 3), ua.MustVariant(int32(of))})
		}
		agrees(t, &m, encode(response(list(all...), change(plain(int32(7))), list(all[:1]...))))
		if len(m.Events) != 5 || len(m.Values) != 1 {
			t.Fatalf("type %d: %d events, %d values", of, len(m.Events), len(m.Values))
		}
		for i := range m.Events {
			got := m.Events[i].Read(make([]Value, 4))
			if got[1].Type != 0 || int32(got[3].Bits) != int32(of) {
				t.Errorf("type %d: %+v", of, got)
			}
		}
	}
}

// TestEvent_Read gives as many fields as there is room for, and as there are.
func TestEvent_Read(t *testing.T) {
	var m Message
	if err := m.DecodePublish(encode(response(list([]*ua.Variant{ua.MustVariant("a"), {}, ua.MustVariant(int32(-1))}, nil)))); err != nil {
		t.Fatal(err)
	}
	room := make([]Value, 5)
	for n, want := range []int{0, 1, 2, 3, 3, 3} {
		room[0] = Value{Bytes: []byte("old")}
		if got := m.Events[0].Read(room[:n]); len(got) != want || want > 0 && string(got[0].Bytes) != "a" || want > 2 && int32(got[2].Bits) != -1 {
			t.Errorf("%d: %+v", n, got)
		}
	}
	if got := m.Events[1].Read(room); len(got) != 0 {
		t.Errorf("of an event without fields: %+v", got)
	}
}

// TestDecodePublish_EventLimits: nesting, types and ends of fields are looked at before an event counts.
func TestDecodePublish_EventLimits(t *testing.T) {
	event := func(fields ...byte) []byte {
		return encode(response(object(id.EventNotificationList_Encoding_DefaultBinary, written(slices.Concat(le32(1), le32(9), le32(1), fields)))))
	}
	for name, c := range map[string]struct {
		b   []byte
		err error
	}{
		"16 levels":   {event(append(bytes.Repeat([]byte{TypeVariant}, 14), TypeByte, 1)...), nil},
		"17 levels":   {event(append(bytes.Repeat([]byte{TypeVariant}, 15), TypeByte, 1)...), ErrDeep},
		"type 26":     {event(26, 0, 0, 0, 0), ErrKind},
		"ends early":  {event(TypeInt32, 1, 2), ErrShort},
		"too long":    {event(slices.Concat([]byte{TypeString}, le32(100))...), ErrShort},
		"no elements": {event(slices.Concat([]byte{TypeDouble | hasElements}, le32(-2))...), ErrCount},
	} {
		var m Message
		err := m.DecodePublish(c.b)
		if !errors.Is(err, c.err) || c.err != nil && !empty(&m) {
			t.Errorf("%s: %v, want %v: %+v", name, err, c.err, m)
		}
		if want := "publish response: notification 0: event 0: field 0: "; c.err != nil && !bytes.HasPrefix(fmt.Append(nil, err), []byte(want)) {
			t.Errorf("%s: %v, want %s", name, err, want)
		}
	}
}

// TestDecodePublish_EventsLetGo: a message of fewer events does not hold on to the bytes of the one before.
func TestDecodePublish_EventsLetGo(t *testing.T) {
	field := []*ua.Variant{ua.MustVariant("text")}
	var m Message
	if err := m.DecodePublish(encode(response(list(field, field, field)))); err != nil {
		t.Fatal(err)
	}
	all := m.Events
	if err := m.DecodePublish(encode(response(list(field)))); err != nil {
		t.Fatal(err)
	}
	for i := 1; i < len(all); i++ {
		if all[i].fields != nil {
			t.Errorf("event %d still has %q", i, all[i].fields)
		}
	}
}

// TestValue_DecodeData: a data value alone reads as that of an item.
func TestValue_DecodeData(t *testing.T) {
	dice := newMaker(6)
	for of := byte(1); of <= 25; of++ {
		for dimensions := range 4 {
			d := dice.dataValue(dice.variantOf(of, dimensions, 3))
			b := encode(d)
			var v Value
			if err := v.DecodeData(b); err != nil {
				t.Fatal(err)
			}
			read := new(ua.DataValue)
			if _, err := read.Decode(b); err != nil {
				t.Fatal(err)
			}
			if read.Value == nil {
				read.Value = &ua.Variant{}
			}
			if diff := valueDiffers(&v, &ua.MonitoredItemNotification{Value: read}); diff != "" {
				t.Errorf("type %d: %s", of, diff)
			}
			if err := v.DecodeData(b[:len(b)-1]); err == nil && len(b) > 1 || v.Bytes != nil || v.Type != 0 {
				t.Errorf("type %d, cut: %v, %+v", of, err, v)
			}
		}
	}
}
