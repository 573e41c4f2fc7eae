package e2e

import (
	"strings"
	"testing"
	"time"

	edgeua "plantmesh/edge/source/opcua"
	"plantmesh/proto/mesh"
)

// overwritten is a plant whose queues hold one value, through an outage in which all
// but two signals change more often than that.
func overwritten(t *testing.T, edit func(c *edgeua.Config)) (*plantUnderTest, *agent) {
	t.Helper()
	p := newPlant(t, false)
	c := newCable(t, strings.TrimPrefix(p.server.URL(), "opc.tcp://"))
	a := &agent{t: t, d: newDiary(t), cfg: p.config("opc.tcp://" + c.l.Addr().String())}
	a.cfg.QueueSize = 1
	edit(&a.cfg)
	p.burst(100) // before anybody listens
	a.start()
	p.settled(a.d)
	hear := c.to
	c.plug("127.0.0.1:1")
	p.server.Cut()
	wait(t, "the server has nothing to answer to", func() bool { return p.server.Connections() == 0 })
	p.pass(time.Second)
	all := p.signals
	p.signals = all[2:]
	p.burst(3000)
	p.signals = all
	c.plug(hear)
	p.settled(a.d)
	a.kill()
	return p, a
}

// TestOPCUA_OverwrittenInAQueueOfOne: what the server doesn't say that it lost is not
// claimed either.
func TestOPCUA_OverwrittenInAQueueOfOne(t *testing.T) {
	p, a := overwritten(t, func(c *edgeua.Config) { c.History = "off" })
	if lost, doubled, foreign := p.compare(a.d); lost != 3000-10 || doubled+foreign > 0 {
		t.Errorf("%d are lost, %d doubled, %d foreign", lost, doubled, foreign)
	}
	spans := a.d.proofs()
	if len(spans) != 2 || len(a.d.voids) != 1 || a.d.voids[0].Parts[0].Times != (mesh.Span{From: spans[0].To, To: spans[1].From}) {
		t.Fatalf("proofs %v, voids %+v", spans, a.d.voids)
	}
	if v := a.d.voids[0]; v.Cause != mesh.CauseOverflow || !strings.HasPrefix(v.Note, "the server keeps one value of line1.filler.v2, ") || !strings.Contains(v.Note, " and 2 more: ") {
		t.Errorf("void %+v", v)
	}
	if outage := p.clock.Add(-2*disorder - 3*time.Second); spans[0].To != outage.Add(-time.Second-disorder) || spans[1].From < outage.Add(2*time.Second) {
		t.Errorf("proofs %v, and the outage began at %v", spans, outage)
	}
}

// TestOPCUA_HistoryOfAQueueOfOne: what was overwritten the history has.
func TestOPCUA_HistoryOfAQueueOfOne(t *testing.T) {
	p, a := overwritten(t, func(*edgeua.Config) {})
	if lost, doubled, foreign := p.compare(a.d); lost+doubled+foreign > 0 {
		t.Errorf("%d are lost, %d doubled, %d foreign", lost, doubled, foreign)
	}
	if spans := a.d.proofs(); len(spans) != 1 || len(a.d.voids) > 0 {
		t.Errorf("proofs %v, voids %+v", spans, a.d.voids)
	}
	for _, b := range a.d.batches {
		for _, s := range b.Samples {
			if s.Flags&mesh.FlagHistorical != 0 && s.Signal < 2 {
				t.Fatalf("the history of %s was read, of which nothing was lost", p.signals[s.Signal].Name)
			}
		}
	}
}
