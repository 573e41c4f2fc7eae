package opcua

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/gopcua/opcua/ua"

	"plantmesh/edge/source/opcua/channel"
	"plantmesh/edge/source/opcua/datatype"
	"plantmesh/edge/source/opcua/publish"
	"plantmesh/proto/mesh"
	"plantmesh/proto/wire"
)

// owned is listener, whose notifier's types have fields of their own.
func owned(t *testing.T) (*Reader, *spool) {
	t.Helper()
	r, log := listener(t, nil)
	for _, f := range []datatype.EventField{
		{Of: ua.NewNumericNodeID(2, 77), Name: &ua.QualifiedName{NamespaceIndex: 2, Name: "Jam"}, Kind: mesh.TypeUint},
		{Of: ua.NewNumericNodeID(2, 77), Name: &ua.QualifiedName{NamespaceIndex: 2, Name: "severity"}, Kind: mesh.TypeString},
		{Of: ua.NewNumericNodeID(2, 78), Name: &ua.QualifiedName{NamespaceIndex: 2, Name: "Jam"}, Kind: mesh.TypeDouble},
	} {
		r.ears.clauses[0] = append(r.ears.clauses[0], clause{field: r.fieldName(0, f.Name.Name), typ: f.Kind, own: &f})
	}
	r.state.Events[0] = eventState{Clauses: 1<<len(r.ears.clauses[0]) - 1, Own: ownHash(r.ears.clauses[0])}
	return r, log
}

// TestReader_OwnFieldsOfEvents stand behind those of the standard, each under a name of
// its own.
func TestReader_OwnFieldsOfEvents(t *testing.T) {
	r, log := owned(t)
	var got []string
	log.told = func(t *testing.T, x mesh.Sample) string {
		t.Helper()
		i, err := wire.ParseItem(x.Value.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		k := 0
		for _, c := range r.ears.clauses[0] {
			if c.field == "" {
				continue
			}
			if v := i.Items[k].Value; c.own != nil && v.Type != mesh.TypeNone {
				got = append(got, c.field+"="+v.String())
			}
			k++
		}
		return ""
	}
	fields := append(alarm{id: "e1", at: 3, severity: 500}.fields(), ua.MustVariant(uint16(7)), ua.MustVariant("high"), ua.MustVariant(2.5))
	odd := append(alarm{id: "e2", at: 4, severity: 500}.fields(), ua.MustVariant("none"), ua.MustVariant([]string{"x"}), ua.MustVariant(int32(3)))
	n := r.events(t, 1, 3)
	in := &channel.Answer{}
	if err := in.DecodeRepublish(encoded(t, r, fields, odd)); err != nil {
		t.Fatal(err)
	}
	n.in = in
	r.step(t, n)
	if text := strings.Join(got, " "); text != "Jam=7 severity_2=high Jam_2=2.5 Jam_2=3" {
		t.Errorf("got %s", text)
	}
}

// encoded is a message with events of these fields.
func encoded(t *testing.T, r *Reader, events ...[]*ua.Variant) []byte {
	t.Helper()
	l := &ua.EventNotificationList{}
	for _, fields := range events {
		l.Events = append(l.Events, &ua.EventFieldList{ClientHandle: r.state.handle(1, 0), EventFields: fields})
	}
	b, err := ua.Encode(&ua.RepublishResponse{
		ResponseHeader:      &ua.ResponseHeader{ServiceDiagnostics: &ua.DiagnosticInfo{}, AdditionalHeader: ua.NewExtensionObject(nil)},
		NotificationMessage: &ua.NotificationMessage{SequenceNumber: 1, PublishTime: noon.Add(3 * time.Second).Time(), NotificationData: []*ua.ExtensionObject{ua.NewExtensionObject(l)}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestReader_OtherFieldsThanBefore: items that were made for other fields are not read.
func TestReader_OtherFieldsThanBefore(t *testing.T) {
	r, _ := owned(t)
	if err := r.sameFields(); err != nil {
		t.Error(err)
	}
	r.ears.clauses[0][countClauses].typ = mesh.TypeInt
	if err := r.sameFields(); !errors.Is(err, errGone) || !strings.Contains(err.Error(), "the event types of c have other fields") {
		t.Errorf("a field of another type: %v", err)
	}
	r.ears.clauses[0] = clauses()
	if err := r.sameFields(); !errors.Is(err, errGone) {
		t.Errorf("no fields any more: %v", err)
	}
}

// TestOwnValue: what fits the declared type is kept, and nothing else.
func TestOwnValue(t *testing.T) {
	text := func(s string, typ byte) publish.Value { return publish.Value{Type: typ, Bytes: []byte(s)} }
	for _, c := range []struct {
		want mesh.Type
		v    publish.Value
		says string
	}{
		{mesh.TypeBool, publish.Value{Type: publish.TypeBoolean, Bits: 1}, "true"},
		{mesh.TypeInt, publish.Value{Type: publish.TypeInt32, Bits: ^uint64(0)}, "-1"},
		{mesh.TypeUint, publish.Value{Type: publish.TypeInt32, Bits: ^uint64(0)}, ""},
		{mesh.TypeUint, publish.Value{Type: publish.TypeUInt64, Bits: 9}, "9"},
		{mesh.TypeDouble, publish.Value{Type: publish.TypeUInt16, Bits: 9}, "9"},
		{mesh.TypeString, text("a", publish.TypeString), "a"},
		{mesh.TypeString, text("b", publish.TypeLocalizedText), "b"},
		{mesh.TypeString, publish.Value{Type: publish.TypeString}, ""},
		{mesh.TypeString, publish.Value{Type: publish.TypeDateTime, Bits: 116_444_736_000_000_000}, "1970-01-01T00:00:00Z"},
		{mesh.TypeString, text(strings.Repeat("x", 16), publish.TypeGUID), "78787878-7878-7878-7878-787878787878"},
		{mesh.TypeString, publish.Value{Type: publish.TypeInt32, Bits: 4}, ""},
		{mesh.TypeInt, text("x", publish.TypeVariant), ""},
	} {
		got := ownValue(c.want, &c.v)
		if said := got.String(); got.Type != mesh.TypeNone && got.Type != c.want || got.Type != mesh.TypeNone && !strings.EqualFold(said, c.says) || got.Type == mesh.TypeNone && c.says != "" {
			t.Errorf("%+v as %s is %s %q, want %q", c.v, c.want, got.Type, said, c.says)
		}
	}
}
