package agent

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"plantmesh/edge/source"
	"plantmesh/edge/source/opcua/browse"
	"plantmesh/edge/status"
	"plantmesh/proto/mesh"
)

func TestCost(t *testing.T) {
	table := []mesh.Signal{{ID: 0, Name: "a", Type: mesh.TypeDouble}}
	said := func(n int) (out []mesh.Sample) {
		for i := range n {
			at := mesh.Nanos(i) * mesh.Nanos(10*time.Second) / mesh.Nanos(max(n, 1))
			out = append(out, mesh.Sample{Time: at, Source: at, Server: at, Value: mesh.Double(float64(i*i) / 7)})
		}
		return out
	}
	last := 0.0
	for _, n := range []int{0, 100, 10_000} {
		f, err := Cost(t.Context(), nil, table, said(n), 10*time.Second)
		if err != nil {
			t.Fatal(err)
		}
		// A commit a second: 24 KiB beside the content of each.
		if f.WrittenPerDay < f.KeptPerDay+86_400*besideCommit || f.KeptPerDay <= last || f.BufferHours <= 0 || f.BufferBytes != 4<<30 {
			t.Errorf("%d values in 10 s: %+v", n, f)
		}
		last = f.KeptPerDay
	}
	// Of an agent that runs, its own figures count.
	cfg := Config{Status: filepath.Join(t.TempDir(), "s.sock")}
	cfg.Buffer.MaxBytes, cfg.Buffer.Dir, cfg.Buffer.Log = 1<<30, "-", "-"
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- status.Serve(ctx, cfg.Status, status.Answers{Snapshot: func() status.Snapshot {
			return status.Snapshot{
				Disk:   status.Disk{Since: "2026-03-02T06:00:00Z", ValuesPerSec: 100, WrittenPerDay: 100 * 86_400 * 30},
				Buffer: status.Buffer{BytesPerHour: 100 * 3600 * 5},
			}
		}})
	}()
	for {
		if _, err := status.Ask(ctx, cfg.Status); err == nil {
			break
		}
	}
	f, err := Cost(ctx, &cfg, table, said(100), 10*time.Second)
	if err != nil || f.KeptPerValue != 5 || f.KeptPerDay != 10*86_400*5 || f.WrittenPerDay != 10*86_400*30 || !strings.Contains(f.Basis, "running agent") {
		t.Errorf("%+v, %v", f, err)
	}
	if want := float64(1<<30) / (10 * 3600 * 5); f.BufferHours < want-1 || f.BufferHours > want+1 {
		t.Errorf("%f hours, want %f", f.BufferHours, want)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// Whatever a server calls its nodes, the proposed file is one that is taken, and says
// of each node what the server says.
func TestProposal_NamesCantBreakTheFile(t *testing.T) {
	nasty := []string{"x: {y", "a\n  security: {insecure: true}", "# no", "\"", "'\\x", "- &a *b", "ü✓", "}", "\u2028", "%", "tab\t"}
	m := browse.Machine{Name: "m\n- evil", Specs: []string{"DI"}, Why: []string{"a\nb"}, Left: []string{"c\n  d: e"}}
	for i, n := range nasty {
		m.Signals = append(m.Signals, browse.Signal{Name: fmt.Sprintf("l.m.s%d", i), Node: "nsu=urn:" + n + ";s=" + n, Type: "int", Unit: n, Role: "state", Why: n})
	}
	p := browse.Proposal{ID: "s", Endpoint: "opc.tcp://h:1/" + "a\"b", Machines: []browse.Machine{m}, Preview: &browse.Preview{Empty: []string{"x\ny"}}}
	s, err := ParseSource("proposed.yaml", []byte(p.YAML()), source.Window{})
	if err != nil {
		t.Fatalf("%v in\n%s", err, p.YAML())
	}
	if len(s.OPCUA.Signals) != len(nasty) || s.OPCUA.Security.Insecure || s.OPCUA.Endpoint != p.Endpoint {
		t.Fatalf("%+v", s.OPCUA)
	}
	for i, x := range s.OPCUA.Signals {
		if want := m.Signals[i]; x.Node != want.Node || x.Unit != want.Unit || x.Name != want.Name {
			t.Errorf("%+v, want %+v", x, want)
		}
	}
}
