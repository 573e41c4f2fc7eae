package e2e

import (
	"strings"
	"testing"
	"time"

	edgeua "plantmesh/edge/source/opcua"
	simua "plantmesh/firmware-sim/opcua"
	"plantmesh/proto/mesh"
)

// gapped is a plant whose values of some seconds nobody has heard: the agent's file
// was changed while it stood, so its subscription is given up with what it kept.
func gapped(t *testing.T, edit func(c *edgeua.Config), extra ...string) (*plantUnderTest, *agent) {
	t.Helper()
	p := newPlant(t, false)
	a := &agent{t: t, d: newDiary(t), cfg: p.config(p.server.URL())}
	for _, x := range extra {
		a.cfg.Signals = append(a.cfg.Signals, edgeua.Signal{Name: x, Node: "nsu=" + simua.Namespace + ";s=" + x, Type: "string"})
	}
	a.cfg.Signals = append(a.cfg.Signals, edgeua.Signal{Name: "gone", Node: "nsu=" + simua.Namespace + ";s=no.such.node", Type: "int"})
	a.start()
	p.burst(1000)
	p.settled(a.d)
	a.kill()
	p.burst(3000)
	a.cfg.Signals = a.cfg.Signals[:len(p.signals)+len(extra)]
	edit(&a.cfg)
	a.start()
	wait(t, "it is read again", func() bool { return a.d.count() >= 1000+1+len(a.cfg.Signals)+len(extra) })
	p.burst(500)
	p.settled(a.d)
	a.kill()
	return p, a
}

// TestOPCUA_HistoryFillsAGap: what the subscription did not keep the server's history
// has. Nothing is lost, and there is no gap.
func TestOPCUA_HistoryFillsAGap(t *testing.T) {
	p, a := gapped(t, func(*edgeua.Config) {})
	lost, doubled, _ := p.compare(a.d)
	if lost+doubled > 0 {
		t.Errorf("of %d samples %d are lost, %d doubled", len(p.pushed), lost, doubled)
	}
	if spans := a.d.proofs(); len(spans) != 1 || len(a.d.voids) != 0 {
		t.Errorf("proofs %v, voids %+v", spans, a.d.voids)
	}
	past := 0
	for _, b := range a.d.batches {
		for _, s := range b.Samples {
			if s.Flags&mesh.FlagHistorical != 0 {
				past++
			}
		}
	}
	if past < 2999 { // what stands at the end of the gap comes as the first value
		t.Errorf("%d samples are said to be of the history", past)
	}
}

// TestOPCUA_WithoutHistoryTheGapStays: the same plant, and the history is not asked.
func TestOPCUA_WithoutHistoryTheGapStays(t *testing.T) {
	p, a := gapped(t, func(c *edgeua.Config) { c.History = "off" })
	if lost, _, _ := p.compare(a.d); lost < 2500 {
		t.Errorf("only %d are lost: this tests nothing", lost)
	}
	if spans := a.d.proofs(); len(spans) != 2 || len(a.d.voids) != 1 || a.d.voids[0].Parts[0].Times != (mesh.Span{From: spans[0].To, To: spans[1].From}) {
		t.Errorf("proofs %v, voids %+v", spans, a.d.voids)
	}
}

// vendor is a node that has no history.
const vendor = "line1.filler.Identification.Manufacturer"

// TestOPCUA_HistoryOfAnotherNode: what a node was in the gap is not what the signal
// was that is read from it since. That signal alone is unknown, and so is a new one.
func TestOPCUA_HistoryOfAnotherNode(t *testing.T) {
	p, a := gapped(t, func(c *edgeua.Config) {
		c.Signals[0].Node = c.Signals[1].Node
		c.Signals = append(c.Signals, edgeua.Signal{Name: "new", Node: c.Signals[2].Node, Type: "int"})
	})
	p.compare(a.d)
	for key, n := range p.pushed {
		if name, _, _ := strings.Cut(key, " "); name != p.signals[0].Name && n != 1 {
			t.Errorf("%s came %d times", key, n)
		}
	}
	if spans := a.d.proofs(); len(spans) != 1 {
		t.Errorf("proofs %v", spans)
	}
	for _, v := range a.d.voids {
		if !v.Parts[0].Times.Empty() {
			t.Errorf("void %+v", v)
		}
	}
	restart := p.clock.Add(-2*disorder - 500*time.Millisecond) // the bursts since, and what settled takes
	var unknown, early int
	for _, b := range a.d.batches {
		for _, s := range b.Samples {
			switch {
			case s.Signal != 0 && s.Signal != uint32(len(p.signals)):
			case s.Status == mesh.StatusBadConfigurationError:
				unknown++
			case s.Time > start.Add(time.Second) && s.Time < restart:
				early++
			}
		}
	}
	if unknown < 2 || early > 0 {
		t.Errorf("%d samples say that nothing is known, and %d have a value in the gap", unknown, early)
	}
}

// TestOPCUA_GapOfASignalWithoutHistory stays one, named, and has the others' values.
func TestOPCUA_GapOfASignalWithoutHistory(t *testing.T) {
	p, a := gapped(t, func(*edgeua.Config) {}, vendor)
	if lost, doubled, _ := p.compare(a.d); lost+doubled > 0 {
		t.Errorf("of %d samples %d are lost, %d doubled", len(p.pushed), lost, doubled)
	}
	spans := a.d.proofs()
	if len(spans) != 2 || len(a.d.voids) != 1 {
		t.Fatalf("proofs %v, voids %+v", spans, a.d.voids)
	}
	if v := a.d.voids[0]; v.Parts[0].Times != (mesh.Span{From: spans[0].To, To: spans[1].From}) || !strings.Contains(v.Note, "it offers no history of "+vendor) {
		t.Errorf("void %+v between %v", v, spans)
	}
}

// TestOPCUA_HistoryThatBeginsInTheGap: a node keeps its last 10,000 values; from where
// all have some on, the gap is filled.
func TestOPCUA_HistoryThatBeginsInTheGap(t *testing.T) {
	p := newPlant(t, false)
	p.signals = p.signals[:1] // the others have a history from before
	a := &agent{t: t, d: newDiary(t), cfg: p.config(p.server.URL())}
	a.start()
	p.burst(100)
	p.settled(a.d)
	a.kill()
	p.burst(30_000)
	a.cfg.Signals = append(a.cfg.Signals, edgeua.Signal{Name: "gone", Node: "nsu=" + simua.Namespace + ";s=no.such.node", Type: "int"})
	a.start()
	wait(t, "the gap is named", func() bool { a.d.mu.Lock(); defer a.d.mu.Unlock(); return len(a.d.voids) > 0 })
	p.settled(a.d)
	a.kill()
	spans := a.d.proofs()
	if len(spans) != 2 || len(a.d.voids) != 1 || a.d.voids[0].Parts[0].Times != (mesh.Span{From: spans[0].To, To: spans[1].From}) {
		t.Fatalf("proofs %v, voids %+v", spans, a.d.voids)
	}
	if v := a.d.voids[0]; !strings.Contains(v.Note, "its history of line1.filler.v0 begins at ") {
		t.Errorf("void %+v", v)
	}
	lost, _, _ := p.compare(a.d)
	if first := p.clock.Add(-2*disorder - 9_999_000_000); spans[1].From != first || lost != 20_000 {
		t.Errorf("proven from %v, and the history begins at %v; %d lost", spans[1].From, first, lost)
	}
}
