package wire

import (
	"bytes"
	"errors"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"testing"

	"plantmesh/proto/mesh"
)

// goldens are frames that are read for ever: a change of their bytes is a new
// version. PLANTMESH_GOLDEN=write makes files that are missing.
func goldens(t *testing.T, e *Encoder) map[string][]byte {
	t.Helper()
	at := mesh.Nanos(1_772_337_600_000_000_000)
	table := []mesh.Signal{
		{ID: 1, Name: "line1.filler.temperature", Type: mesh.TypeDouble, Unit: "CEL", MaxSilence: 6e10},
		{ID: 2, Name: "line1.filler.event", Type: mesh.TypeEvent, Fields: []mesh.Field{{Name: "severity", Type: mesh.TypeUint}, {Name: "message", Type: mesh.TypeString}}},
	}
	d, err := DescribeSignals(table)
	if err != nil {
		t.Fatal(err)
	}
	states := &mesh.Choices{Name: "ServerState", List: []mesh.Choice{{Number: 0, Text: "Running"}, {Number: -1, Text: "?"}}}
	named, err := DescribeSignals([]mesh.Signal{
		{ID: 1, Name: "state", Type: mesh.TypeInt, Choices: states},
		{ID: 2, Name: "mode", Type: mesh.TypeUint, Choices: &mesh.Choices{Name: "Modes", Bits: true, List: []mesh.Choice{{Number: 0, Text: "Off"}, {Number: 3, Text: "Manual"}}}},
		{ID: 3, Name: "status", Type: mesh.TypeStruct, Fields: []mesh.Field{
			{Name: "State", Type: mesh.TypeInt, Choices: &mesh.Choices{Name: states.Name, List: states.List}},
			{Name: "Matrix", Type: mesh.TypeArray, Fields: []mesh.Field{{Type: mesh.TypeArray, Fields: []mesh.Field{{Type: mesh.TypeDouble, Unit: "CEL"}}}}},
		}},
	})
	if err != nil {
		t.Fatal(err)
	}
	seq := uint64(0)
	record := func(sealed []byte, err error) []byte {
		if err != nil {
			t.Fatal(err)
		}
		seq++
		return AppendRecord(nil, mesh.Record{At: mesh.Position{Log: "agent/graz/gw-1", Epoch: mesh.Epoch{1, 2, 3}, Seq: seq}, Sealed: sealed})
	}
	batch := func(s []mesh.Sample) []byte {
		return record(e.Seal(&mesh.Batch{Source: "line1-opcua", Table: d.Hash(), Proven: mesh.Span{From: at, To: at + 5e9}, Complete: at + 4e9, Samples: s}))
	}
	small := []mesh.Sample{
		{Signal: 1, Time: at, Source: at, Server: at + 1e6, Value: mesh.Int(6)},
		{Signal: 2, Time: at + 1e9, Source: at + 1e9, Value: mesh.Double(21.5)},
		{Signal: 2, Time: at + 2e9, Source: at + 2e9, Value: mesh.Double(math.Copysign(0, -1)), Status: mesh.StatusUncertainLast},
		{Signal: 3, Time: at + 3e9, Value: mesh.Text("pils-033"), Flags: mesh.FlagInitial},
		{Signal: 4, Time: at + 4e9, Status: mesh.StatusBadNoData, Seq: 7},
	}
	event := mesh.Item{Value: mesh.Value{Type: mesh.TypeEvent}, Items: []mesh.Item{{Value: mesh.Uint(700)}, {Value: mesh.Text("guard open")}}}
	row := func(of ...float64) mesh.Item {
		i := mesh.Item{Value: mesh.Value{Type: mesh.TypeArray}, Of: mesh.TypeDouble}
		for _, f := range of {
			i.Items = append(i.Items, mesh.Item{Value: mesh.Double(f)})
		}
		return i
	}
	matrix := mesh.Item{Value: mesh.Value{Type: mesh.TypeArray}, Of: mesh.TypeArray, Items: []mesh.Item{row(1, 2.5), row(-3, 4)}}
	status := mesh.Item{Value: mesh.Value{Type: mesh.TypeStruct}, Items: []mesh.Item{{Value: mesh.Int(-1)}, matrix, {}}}
	var all, near []mesh.Sample
	names := make([]string, 0, 32)
	for name := range kindsOfSeries() {
		names = append(names, name)
	}
	slices.Sort(names)
	for n, name := range names {
		count := 12
		if slices.Contains([]string{"counter", "decimal", "few steps", "state"}, name) {
			count = 150 // more than a block
		}
		for i := range count {
			on := at + mesh.Nanos(1e8*i+1e6*(i*i*7%5))
			x := mesh.Sample{Signal: uint32(2*n + 1), Time: on, Source: on, Agent: at + mesh.Nanos(i/10)*1e9, Value: kindsOfSeries()[name](i, math.Mod(float64(i)*0.6180339, 1))}
			if i%40 == 7 {
				x.Status, x.Flags = mesh.StatusUncertainLast, mesh.FlagSuspect
			}
			all = append(all, x)
		}
	}
	for i := range 300 {
		on := at + mesh.Nanos(i*i)*1e5
		x := mesh.Sample{Signal: uint32(i % 3), Time: on, Server: on - mesh.Nanos(i%5)*100, Agent: on + mesh.Nanos(i*1237), Seq: uint64(i), Value: mesh.Double(float64(i*i%91) / 8)}
		if i%7 != 0 {
			x.Source = on + mesh.Nanos(i)*1e3
		}
		near = append(near, x)
	}
	void := mesh.Void{Lost: []mesh.Range{{Epoch: mesh.Epoch{7}, First: 1, Last: 9}}, Cause: mesh.CauseDied, Note: "worker killed", Parts: []mesh.Part{{Source: "line1-opcua", Times: mesh.Span{From: at, To: at + 5e9}, Count: 2}}}
	verdict := mesh.Verdict{Of: mesh.Position{Log: "agent/graz/gw-1", Epoch: mesh.Epoch{1, 2, 3}, Seq: 1}, Revision: 4, Rules: mesh.HashOf([]byte("r")), Marks: []mesh.Mark{{Index: 3, Rule: "range", Action: mesh.ActionQuarantine}}}
	first, err := SealVerdict("line1-opcua", verdict)
	if err != nil {
		t.Fatal(err)
	}
	opening := record(SealOpening(mesh.Opening{Parent: mesh.Position{Log: "agent/graz/gw-1", Epoch: mesh.Epoch{9}, Seq: 12}}))
	receipt, err := EncodeReceipt(mesh.Receipt{
		By:     mesh.Position{Log: "hub/0", Epoch: mesh.Epoch{4}, Seq: 11},
		Have:   mesh.Set{Through: mesh.Position{Log: "agent/graz/gw-1", Epoch: mesh.Epoch{1, 2, 3}, Seq: 5}, Islands: []mesh.Range{{Epoch: mesh.Epoch{1, 2, 3}, First: 7, Last: 9}}},
		Lacks:  []mesh.Hash{d.Hash()},
		Limits: mesh.Limits{MaxBytes: 8 << 20, BacklogShare: 70},
		Chain:  []mesh.Link{{Epoch: mesh.Epoch{9}, End: 12}, {Epoch: mesh.Epoch{1, 2, 3}, Parent: mesh.Position{Log: "agent/graz/gw-1", Epoch: mesh.Epoch{9}, Seq: 12}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return map[string][]byte{
		"opening":    opening,
		"receipt":    receipt,
		"descriptor": AppendDescriptor(nil, d),
		"void":       record(SealVoid(void)),
		"verdict":    append(record(first, nil), AppendVerdict(nil, first)...),
		"fact":       record(SealFact(mesh.Fact{About: "site:graz", Valid: mesh.Span{From: at, To: math.MaxInt64}, Descriptor: d.Hash(), By: "hub"})),
		"silence":    batch(nil),
		"small":      batch(small),
		"event":      batch([]mesh.Sample{{Signal: 2, Time: at, Agent: at, Flags: mesh.FlagAgentTime, Value: mesh.Value{Type: mesh.TypeEvent, Bytes: AppendItem(nil, event)}}}),
		"choices":    AppendDescriptor(nil, named),
		"series":     batch(all),
		"clocks":     batch(near),
		"bodies": batch([]mesh.Sample{
			{Signal: 2, Time: at, Value: mesh.Value{Type: mesh.TypeArray, Bytes: AppendItem(nil, matrix)}},
			{Signal: 3, Time: at, Value: mesh.Value{Type: mesh.TypeStruct, Bytes: AppendItem(nil, status)}},
		}),
	}
}

func TestGolden_BytesBothWays(t *testing.T) {
	e, _ := codec(t)
	for name, frames := range goldens(t, e) {
		t.Run(name, func(t *testing.T) {
			if name == "receipt" { // it is a message of its own, not a frame
				file := filepath.Join("testdata", "v2", "receipt.pb")
				same(t, file, frames, func() {})
				old, err := os.ReadFile(file)
				if err != nil {
					t.Fatal(err)
				}
				want, err := DecodeReceipt(frames)
				got, gotErr := DecodeReceipt(old)
				if err = errors.Join(err, gotErr); err != nil || !reflect.DeepEqual(got, want) {
					t.Errorf("the file reads %+v, %v", got, err)
				}
				return
			}
			var text bytes.Buffer
			if err := Dump(&text, bytes.NewReader(frames)); err != nil {
				t.Fatal(err)
			}
			same(t, filepath.Join("testdata", "v2", name+".bin"), frames, func() {
				// What stands in the file must still be read, whatever is written today.
				file, err := os.ReadFile(filepath.Join("testdata", "v2", name+".bin"))
				var old bytes.Buffer
				if err == nil {
					err = Dump(&old, bytes.NewReader(file))
				}
				if err != nil || !bytes.Equal(old.Bytes(), text.Bytes()) {
					t.Errorf("and it is not read any more: %v", err)
				}
			})
			same(t, filepath.Join("testdata", "v2", name+".jsonl"), text.Bytes(), func() {})
		})
	}
}

// same compares with a file, and says what else is wrong when it differs.
func same(t *testing.T, path string, got []byte, differs func()) {
	t.Helper()
	want, err := os.ReadFile(path)
	if os.IsNotExist(err) && os.Getenv("PLANTMESH_GOLDEN") == "write" {
		if err := os.WriteFile(path, got, 0o600); err != nil {
			t.Fatal(err)
		}
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s: the bytes changed: %d bytes, were %d", path, len(got), len(want))
		differs()
	}
}
