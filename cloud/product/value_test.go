package product

import (
	"encoding/json"
	"strings"
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

// Events of one notifier and one instant are rows of their own, however long the part
// is that their ids share, and one that came over two roads is one.
func TestSignalDraft_EventsOfOneInstant(t *testing.T) {
	sig := mesh.Signal{Name: "line1.press.alarms", Type: mesh.TypeEvent, Fields: []mesh.Field{{Name: "event_id", Type: mesh.TypeString}, {Name: "active", Type: mesh.TypeBool}}}
	event := func(id string, flags uint32) Reading {
		i := mesh.Item{Value: mesh.Value{Type: mesh.TypeEvent}, Items: []mesh.Item{{Value: mesh.Text(id)}, {Value: mesh.Bool(true)}}}
		return ReadingOf(&sig, mesh.Sample{Time: 5, Flags: flags, Value: mesh.Value{Type: mesh.TypeEvent, Bytes: wire.AppendItem(nil, i)}}, nil)
	}
	long := strings.Repeat("00", 60)
	rows := Collapse([]Reading{event(long+"c2", 0), event(long+"b1", mesh.FlagInitial), event(long+"a3", 0), event(long+"b1", 0)})
	if len(rows) != 3 {
		t.Fatalf("%d rows", len(rows))
	}
	keys := map[string]bool{}
	for i, id := range []string{"a3", "b1", "c2"} {
		x := (&Definition{}).SignalDraft(&Site{}, &Equipment{}, &rows[i])
		var row struct {
			Value struct {
				ID     string `json:"event_id"`
				Active bool   `json:"active"`
			} `json:"value"`
			Type string `json:"type"`
		}
		if err := json.Unmarshal(x.Body, &row); err != nil || row.Value.ID != long+id || !row.Value.Active || row.Type != "event" {
			t.Errorf("row %d: %s, %v", i, x.Body, err)
		}
		keys[x.Key] = true
	}
	if len(keys) != 3 {
		t.Errorf("the keys are %v", keys)
	}
}

// Whatever makes a sample one of its own makes its key one; the road it came makes none.
func TestSignalDraft_EverySampleHasItsKey(t *testing.T) {
	plain := mesh.Sample{Time: 5_000_000, Value: mesh.Int(1)}
	key := func(change func(*Reading)) string {
		r := Reading{Name: "line1.press.temp", Sample: plain}
		change(&r)
		return (&Definition{}).SignalDraft(&Site{}, &Equipment{}, &r).Key
	}
	was := key(func(*Reading) {})
	seen := map[string]bool{was: true}
	for what, change := range map[string]func(*Reading){
		"time":   func(r *Reading) { r.Sample.Time += 100 },
		"signal": func(r *Reading) { r.Name += "s" },
		"seq":    func(r *Reading) { r.Sample.Seq = 1 },
		"status": func(r *Reading) { r.Sample.Status = mesh.StatusBadNoData },
		"value":  func(r *Reading) { r.Sample.Value = mesh.Int(2) },
		"type":   func(r *Reading) { r.Sample.Value = mesh.Uint(1) },
		"text":   func(r *Reading) { r.Sample.Value = mesh.Text("\x01") },
	} {
		if k := key(change); seen[k] {
			t.Errorf("another %s has the key %q of another sample", what, k)
		} else {
			seen[k] = true
		}
	}
	for what, change := range map[string]func(*Reading){
		"agent":  func(r *Reading) { r.Sample.Agent = 7 },
		"server": func(r *Reading) { r.Sample.Server = 7 },
		"flags":  func(r *Reading) { r.Sample.Flags = mesh.FlagHistorical },
		"marks":  func(r *Reading) { r.Marks = []mesh.Mark{{Rule: "x"}} },
	} {
		if k := key(change); k != was {
			t.Errorf("by its %s the sample has the key %q, not %q", what, k, was)
		}
	}
}
