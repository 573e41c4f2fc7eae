package agent

import (
	"strings"
	"testing"

	"plantmesh/proto/mesh"
	"plantmesh/proto/wire"
)

func TestInWords(t *testing.T) {
	leaf := func(v mesh.Value) mesh.Item { return mesh.Item{Value: v} }
	body := func(i mesh.Item) mesh.Value { return mesh.Value{Type: i.Value.Type, Bytes: wire.AppendItem(nil, i)} }
	var many []mesh.Item
	for i := range 100 {
		many = append(many, leaf(mesh.Int(int64(i))))
	}
	array := func(of mesh.Type, items []mesh.Item) mesh.Item {
		return mesh.Item{Value: mesh.Value{Type: mesh.TypeArray}, Of: of, Items: items}
	}
	count := mesh.Item{Value: mesh.Value{Type: mesh.TypeStruct}, Items: []mesh.Item{leaf(mesh.Text("good")), leaf(mesh.Int(7))}}
	fields := []mesh.Field{{Name: "Name", Type: mesh.TypeString}, {Name: "Count", Type: mesh.TypeInt}}
	for _, c := range []struct {
		v    mesh.Value
		s    mesh.Signal
		want string
	}{
		{mesh.Double(1.5), mesh.Signal{}, "1.5"},
		{mesh.Int(2), mesh.Signal{Choices: &mesh.Choices{List: []mesh.Choice{{Number: 1, Text: "Off"}, {Number: 2, Text: "On"}}}}, "2 (On)"},
		{mesh.Int(3), mesh.Signal{Choices: &mesh.Choices{List: []mesh.Choice{{Number: 1, Text: "Off"}}}}, "3"},
		{body(array(mesh.TypeInt, many[:2])), mesh.Signal{}, "[0, 1]"},
		{body(array(mesh.TypeInt, many)), mesh.Signal{}, "[0, 1, 2, 3, 4, 5, 6, 7, and 92 more]"},
		{body(count), mesh.Signal{Fields: fields}, "{Name: good, Count: 7}"},
		{body(count), mesh.Signal{}, "{good, 7}"},
		{body(array(mesh.TypeStruct, []mesh.Item{count})), mesh.Signal{Fields: []mesh.Field{{Type: mesh.TypeStruct, Fields: fields}}}, "[{Name: good, Count: 7}]"},
	} {
		if got := inWords(c.v, c.s); got != c.want {
			t.Errorf("%q, want %q", got, c.want)
		}
	}
	long := body(array(mesh.TypeString, []mesh.Item{leaf(mesh.Text(strings.Repeat("é", 5000)))}))
	if got := inWords(long, mesh.Signal{}); len(got) > maxShownText+len("…") {
		t.Errorf("%d bytes", len(got))
	}
}
