package product

import (
	"encoding/json"
	"testing"

	"plantmesh/proto/mesh"
	"plantmesh/proto/wire"
)

// What a source sends as a body is read by name: fields, elements, what numbers are called.
func TestSignalDraft_BodiesAreRead(t *testing.T) {
	item := func(kind mesh.Type, items ...mesh.Item) mesh.Item {
		return mesh.Item{Value: mesh.Value{Type: kind}, Items: items}
	}
	leaf := func(v mesh.Value) mesh.Item { return mesh.Item{Value: v} }
	ints := item(mesh.TypeArray, leaf(mesh.Int(1)), leaf(mesh.Int(-2)))
	ints.Of = mesh.TypeInt
	body := func(i mesh.Item) mesh.Value {
		return mesh.Value{Type: i.Value.Type, Bytes: wire.AppendItem(nil, i)}
	}
	states := &mesh.Choices{Name: "State", List: []mesh.Choice{{Number: 0, Text: "Running"}, {Number: 5, Text: "läuft \"an\""}}}
	for _, c := range []struct {
		sig         mesh.Signal
		v           mesh.Value
		value, text string
	}{
		{mesh.Signal{Choices: states}, mesh.Int(5), `5`, `"läuft \"an\""`},
		{mesh.Signal{Choices: states}, mesh.Int(6), `6`, `null`},
		{mesh.Signal{Choices: &mesh.Choices{Bits: true, List: []mesh.Choice{{Number: 0, Text: "a"}, {Number: 1, Text: "b"}}}}, mesh.Uint(3), `3`, `"a, b"`},
		{mesh.Signal{}, mesh.Double(0.5), `0.5`, `null`},
		{mesh.Signal{Fields: []mesh.Field{{Type: mesh.TypeInt}}}, body(ints), `[1,-2]`, `null`},
		{
			mesh.Signal{Fields: []mesh.Field{{Name: "State", Choices: states}, {Name: "Gone"}, {Name: "In", Fields: []mesh.Field{{Name: "X"}}}, {Name: "List", Fields: []mesh.Field{{Fields: []mesh.Field{{Name: "Y"}}}}}}},
			body(item(mesh.TypeStruct, leaf(mesh.Int(0)), mesh.Item{}, item(mesh.TypeStruct, leaf(mesh.Text("q"))), func() mesh.Item {
				i := item(mesh.TypeArray, item(mesh.TypeStruct, leaf(mesh.Bool(true))))
				i.Of = mesh.TypeStruct
				return i
			}(), leaf(mesh.Uint(9)))),
			`{"State":0,"State_text":"Running","In":{"X":"q"},"List":[{"Y":true}],"5":9}`, `null`,
		},
		{mesh.Signal{}, mesh.Value{Type: mesh.TypeStruct, Bytes: []byte{8, 200}}, `null`, `null`}, // damaged
	} {
		d := &Definition{}
		r := ReadingOf(&c.sig, mesh.Sample{Value: c.v}, nil)
		draft := d.SignalDraft(&Site{}, &Equipment{}, &r)
		var row map[string]json.RawMessage
		if err := json.Unmarshal(draft.Body, &row); err != nil {
			t.Fatalf("%s: %v", draft.Body, err)
		}
		var text any
		_ = json.Unmarshal(row["text"], &text) // compared below
		want := c.text
		got, err := json.Marshal(text)
		if err != nil || string(row["value"]) != c.value || string(got) != want {
			t.Errorf("value %s, text %s; want %s, %s", row["value"], got, c.value, want)
		}
	}
}

// Events of one notifier and one instant are rows of their own, in the order of
// their keys, and one that came over two roads is one.
func TestSignalDraft_EventsOfOneInstant(t *testing.T) {
	sig := mesh.Signal{Name: "line1.press.alarms", Type: mesh.TypeEvent, Fields: []mesh.Field{{Name: "event_id", Type: mesh.TypeString}, {Name: "active", Type: mesh.TypeBool}}}
	event := func(id string, flags uint32) Reading {
		i := mesh.Item{Value: mesh.Value{Type: mesh.TypeEvent}, Items: []mesh.Item{{Value: mesh.Text(id)}, {Value: mesh.Bool(true)}}}
		return ReadingOf(&sig, mesh.Sample{Time: 5, Flags: flags, Value: mesh.Value{Type: mesh.TypeEvent, Bytes: wire.AppendItem(nil, i)}}, nil)
	}
	rows := Collapse([]Reading{event("00c2", 0), event("00b1", mesh.FlagInitial), event("00a3", 0), event("00b1", 0)})
	if len(rows) != 3 {
		t.Fatalf("%d rows", len(rows))
	}
	last := ""
	for i, id := range []string{"00a3", "00b1", "00c2"} {
		x := (&Definition{}).SignalDraft(&Site{}, &Equipment{}, &rows[i])
		var row struct {
			Value struct {
				ID     string `json:"event_id"`
				Active bool   `json:"active"`
			} `json:"value"`
			Type string `json:"type"`
		}
		if err := json.Unmarshal(x.Body, &row); err != nil || row.Value.ID != id || !row.Value.Active || row.Type != "event" {
			t.Errorf("row %d: %s, %v", i, x.Body, err)
		}
		if x.Key <= last {
			t.Errorf("key %q behind %q", x.Key, last)
		}
		last = x.Key
	}
}
