package agent

import (
	"errors"
	"log/slog"
	"testing"

	"plantmesh/edge/buffer"
	"plantmesh/edge/quality"
	"plantmesh/proto/mesh"
	"plantmesh/proto/strict"
	"plantmesh/proto/wire"
)

// A full buffer must not keep an agent with new rules from starting: it would
// never drain.
func TestDeclare_OnAFullBuffer(t *testing.T) {
	t.Parallel()
	cfg := buffer.Config{Dir: t.TempDir(), Log: "agent/graz/gw-1", MaxBytes: 8 << 20, SegmentBytes: 1 << 20, Keep: new(strict.Duration)}
	b, err := buffer.Open(cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	e, err := wire.NewEncoder()
	if err != nil {
		t.Fatal(err)
	}
	table, err := wire.DescribeSignals([]mesh.Signal{{ID: 1, Name: "x.y", Type: mesh.TypeDouble}})
	if err != nil {
		t.Fatal(err)
	}
	x := uint64(1)
	for _, n := range []int{10000, 1} {
		for err = nil; err == nil; {
			batch := mesh.Batch{Source: "s", Table: table.Hash()}
			for i := range n {
				x = x*6364136223846793005 + 1442695040888963407
				batch.Samples = append(batch.Samples, mesh.Sample{Signal: 1, Time: mesh.Nanos(i), Value: mesh.Value{Type: mesh.TypeDouble, Bits: x}})
			}
			sealed, serr := e.Seal(&batch)
			if serr != nil {
				t.Fatal(serr)
			}
			_, err = b.Append(t.Context(), []mesh.Offer{{Source: "s", Sealed: [][]byte{sealed}, State: []byte{1}, Descriptors: []mesh.Descriptor{table}}})
		}
		if !errors.Is(err, buffer.ErrFull) {
			t.Fatal(err)
		}
	}
	rules, err := quality.Parse("r.yaml", []byte("revision: 2\nrules:\n  - {id: a, kind: range, signal: x.y, min: 0}\n"))
	if err != nil {
		t.Fatal(err)
	}
	if err := Declare(t.Context(), rules, b, 1); err != nil {
		t.Errorf("the rules can't be declared: %v", err)
	}
}
