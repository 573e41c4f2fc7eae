package datatype

import (
	"fmt"
	"strings"
	"testing"

	"github.com/gopcua/opcua/id"
	"github.com/gopcua/opcua/ua"

	"plantmesh/proto/mesh"
)

// eventSpace has event types ns=1: 10 derives from BaseEventType, 11 from 10, 12 from 10.
func eventSpace() *space {
	s := newSpace()
	for n, base := range map[uint32]*ua.NodeID{10: zero(id.BaseEventType), 11: ua.NewNumericNodeID(1, 10), 12: ua.NewNumericNodeID(1, 10)} {
		s.link(base, id.HasSubtype, ua.NewNumericNodeID(1, n), fmt.Sprint("T", n))
	}
	s.link(zero(id.BaseEventType), id.HasProperty, s.variable("EventId", zero(id.ByteString), -1), "EventId")
	property := func(of uint32, name string, typ uint32, rank int32) {
		s.link(ua.NewNumericNodeID(1, of), id.HasProperty, s.variable(fmt.Sprint(of, name), zero(typ), rank), name)
	}
	property(10, "Line", id.UInt16, -1)
	property(10, "Place", id.String, -1)
	property(11, "Force", id.Float, -1)
	property(11, "Place", id.LocalizedText, -1) // says more of it
	property(11, "Forces", id.Float, 1)
	property(12, "Force", id.Double, -1)
	property(12, "Any", id.BaseDataType, -1)
	return s
}

func eventFields(t *testing.T, s *space, most int, types ...uint32) string {
	t.Helper()
	var nodes []*ua.NodeID
	for _, n := range types {
		nodes = append(nodes, ua.NewNumericNodeID(1, n))
	}
	fields, left, err := NewBook().EventFields(t.Context(), s, nodes, most)
	if err != nil {
		t.Fatal(err)
	}
	var text []string
	for _, f := range fields {
		text = append(text, fmt.Sprintf("%s.%s %s", f.Of, f.Name.Name, f.Kind))
	}
	return fmt.Sprintf("%s, %d left", strings.Join(text, ", "), left)
}

func TestBook_EventFields(t *testing.T) {
	s := eventSpace()
	for _, c := range []struct {
		types []uint32
		most  int
		want  string
	}{
		{[]uint32{10}, 32, "ns=1;i=10.Line uint, ns=1;i=10.Place string, 0 left"},
		{[]uint32{11}, 32, "ns=1;i=11.Force double, ns=1;i=11.Place string, ns=1;i=10.Line uint, 1 left"},
		{[]uint32{11, 12, 10, 11}, 32, "ns=1;i=11.Force double, ns=1;i=11.Place string, ns=1;i=10.Line uint, ns=1;i=12.Force double, 2 left"},
		{[]uint32{12}, 2, "ns=1;i=12.Force double, ns=1;i=10.Line uint, 2 left"},
		{[]uint32{99}, 2, ", 0 left"},
		{nil, 2, ", 0 left"},
	} {
		if got := eventFields(t, s, c.most, c.types...); got != c.want {
			t.Errorf("%v: got  %s\nwant %s", c.types, got, c.want)
		}
	}
	calls := s.calls
	if fields, _, err := NewBook().EventFields(t.Context(), s, []*ua.NodeID{zero(id.AlarmConditionType)}, 32); err != nil || len(fields) > 0 || s.calls != calls {
		t.Errorf("of the standard's types: %v, %v, after %d calls", fields, err, s.calls-calls)
	}
}

// TestBook_EventFieldsAreBounded: types without end, and types that derive from each other.
func TestBook_EventFieldsAreBounded(t *testing.T) {
	s := newSpace()
	for n := range uint32(maxEventTypes) {
		s.link(ua.NewNumericNodeID(1, n+2), id.HasSubtype, ua.NewNumericNodeID(1, n+1), "T")
		for k := range 10 {
			s.link(ua.NewNumericNodeID(1, n+1), id.HasProperty, s.variable(fmt.Sprint(n, " ", k), zero(id.Double), -1), fmt.Sprint(n, " ", k))
		}
	}
	if got := eventFields(t, s, 32, 1); !strings.HasSuffix(got, fmt.Sprintf(", %d left", 10*maxEventDepth-32)) {
		t.Errorf("%s", got)
	}
	s = newSpace()
	s.link(ua.NewNumericNodeID(1, 1), id.HasSubtype, ua.NewNumericNodeID(1, 2), "T")
	s.link(ua.NewNumericNodeID(1, 2), id.HasSubtype, ua.NewNumericNodeID(1, 1), "T")
	s.link(ua.NewNumericNodeID(1, 1), id.HasProperty, s.variable("x", zero(id.Double), -1), "x")
	if got := eventFields(t, s, 32, 1, 2); got != "ns=1;i=1.x "+mesh.TypeDouble.String()+", 0 left" {
		t.Errorf("in a circle: %s", got)
	}
}
