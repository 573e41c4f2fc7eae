package publish

import (
	"encoding/binary"
	"reflect"
	"testing"

	"github.com/gopcua/opcua/ua"
)

// What is read comes as what is notified does: each value of random notifications,
// and of the golden ones, is the same in a ReadResponse.
func TestDecodeRead_AsNotified(t *testing.T) {
	n := 0
	for seed := range uint64(300) {
		p := newMaker(seed).response()
		var notified Message
		if err := notified.DecodePublish(encode(p)); err != nil {
			t.Fatal(err)
		}
		r := &ua.ReadResponse{ResponseHeader: p.ResponseHeader, Results: []*ua.DataValue{}}
		for _, d := range p.NotificationMessage.NotificationData {
			if c, ok := d.Value.(*ua.DataChangeNotification); ok {
				for _, item := range c.MonitoredItems {
					r.Results = append(r.Results, item.Value)
				}
			}
		}
		if notified.Result&bad != 0 {
			continue
		}
		b := encode(r)
		var m Message
		if err := m.DecodeRead(b); err != nil {
			t.Fatal(err)
		}
		if len(m.Values) != len(notified.Values) {
			t.Fatalf("%d values read, %d notified", len(m.Values), len(notified.Values))
		}
		for i := range m.Values {
			want := notified.Values[i]
			want.Handle = 0
			if n++; !reflect.DeepEqual(m.Values[i], want) {
				t.Fatalf("read %+v, notified %+v", m.Values[i], want)
			}
		}
		for cut := range min(len(b), 2000) {
			if seed < 20 && m.DecodeRead(b[:cut]) == nil {
				t.Fatalf("%d of %d bytes were read without an error", cut, len(b))
			}
		}
	}
	if n < 300 {
		t.Fatalf("only %d values", n)
	}
}

func TestDecodeRead_ACountThatCantBe(t *testing.T) {
	b := encode(&ua.ReadResponse{ResponseHeader: &ua.ResponseHeader{ServiceDiagnostics: &ua.DiagnosticInfo{}, AdditionalHeader: ua.NewExtensionObject(nil)}})
	binary.LittleEndian.PutUint32(b[len(b)-8:], 1<<30)
	var m Message
	if err := m.DecodeRead(b); err == nil || cap(m.Values) > 1000 {
		t.Errorf("%v, room for %d values", err, cap(m.Values))
	}
}
