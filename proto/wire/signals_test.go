package wire

import (
	"errors"
	"reflect"
	"testing"

	"google.golang.org/protobuf/proto"

	"plantmesh/proto/mesh"
	"plantmesh/proto/wire/internal/pb"
)

func TestSignals_ChoicesStandOnceAndComeBackWithEachField(t *testing.T) {
	of := func() *mesh.Choices {
		return &mesh.Choices{Name: "State", List: []mesh.Choice{{Number: 1, Text: "on"}, {Number: 2, Text: "off"}}}
	}
	want := []mesh.Signal{
		{ID: 1, Name: "a", Type: mesh.TypeInt, Choices: of()},
		{ID: 2, Name: "b", Type: mesh.TypeArray, Fields: []mesh.Field{{Type: mesh.TypeInt, Choices: of()}}},
		{ID: 3, Name: "c", Type: mesh.TypeInt},
	}
	d, err := DescribeSignals(want)
	if err != nil {
		t.Fatal(err)
	}
	got, err := Signals(d)
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("reads %+v, %v", got, err)
	}
	var m pb.SignalTable
	if err := unmarshal(d.Content, &m); err != nil || len(m.GetChoices()) != 1 {
		t.Errorf("%d choices in the table, %v", len(m.GetChoices()), err)
	}
}

func TestSignals_RefusesAPlaceThatIsNotThere(t *testing.T) {
	for name, m := range map[string]*pb.SignalTable{
		"signal": {Signals: []*pb.Signal{{Choices: 1}}},
		"field":  {Signals: []*pb.Signal{{Fields: []*pb.Field{{Choices: 9}}}}},
	} {
		b, err := proto.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Signals(mesh.Descriptor{Kind: mesh.DescribeSignals, Content: b}); !errors.Is(err, ErrFormat) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
