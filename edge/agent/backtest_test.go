package agent

import (
	"bytes"
	"testing"

	"plantmesh/edge/quality"
	"plantmesh/proto/mesh"
	"plantmesh/proto/wire"
)

// A backtest finds in what was exported what the judge would have found, and counts it.
func TestBacktest_CountsWhatRulesWouldFind(t *testing.T) {
	log, table := tableOf(t)
	enc, err := wire.NewEncoder()
	if err != nil {
		t.Fatal(err)
	}
	var export bytes.Buffer
	for _, d := range log.descs {
		export.Write(wire.AppendDescriptor(nil, d))
	}
	for i := range 10 {
		b := mesh.Batch{Source: "s", Table: table}
		for j := range 10 {
			b.Samples = append(b.Samples, mesh.Sample{Signal: 1, Time: mesh.Nanos(1 + i*10 + j), Value: mesh.Int(int64(i))})
		}
		sealed, err := enc.Seal(&b)
		export.Write(wire.AppendRecord(nil, log.add(t, sealed, err)))
	}
	rules, err := quality.Parse("r.yaml", []byte("revision: 1\nrules:\n  - {id: low, kind: range, signal: a, min: 3, action: quarantine}\n  - {id: high, kind: range, signal: a, max: 30}\n"))
	if err != nil {
		t.Fatal(err)
	}
	var got Backtested
	if err := got.read(&export, "", rules); err != nil {
		t.Fatal(err)
	}
	if got.Records != 10 || got.Samples != 100 || got.Marked != 30 || len(got.Found) != 1 || len(got.Nothing) != 1 || got.Nothing[0] != "high" {
		t.Fatalf("%+v", got)
	}
	if f := got.Found[0]; f.Rule != "low" || f.Does != "quarantine" || f.Count != 30 || f.Last.Value != "2" || f.First != "1970-01-01T00:00:00.000000001Z" {
		t.Errorf("%+v", f)
	}
	if err := new(Backtested).read(bytes.NewReader([]byte("no frames at all")), "", rules); err == nil {
		t.Error("junk is read")
	}
}

// What rules found is counted once, however often it is judged, and in bounded memory.
func TestFindings_AreBounded(t *testing.T) {
	var f findings
	b := mesh.Batch{Source: "s"}
	var signals []mesh.Signal
	var marks []mesh.Mark
	for i := range 2 * maxFindings {
		b.Samples = append(b.Samples, mesh.Sample{Signal: uint32(i), Time: 1, Value: mesh.Int(1)})
		signals = append(signals, mesh.Signal{ID: uint32(i), Name: string(rune('a' + i))})
		marks = append(marks, mesh.Mark{Index: uint32(i), Rule: "r", Action: mesh.ActionAlert})
	}
	f.add(&b, signals, append(marks, mesh.Mark{Index: 1 << 20, Rule: "r"}))
	f.add(&b, signals, marks[:1])
	if told := f.told(); len(told) != maxFindings || f.more != maxFindings || told[0].Count != 2 || told[0].Does != "alert" {
		t.Errorf("%d told, %d more", len(told), f.more)
	}
}
