package opcua

import (
	"strings"
	"testing"
	"time"

	"github.com/gopcua/opcua/ua"

	"plantmesh/proto/mesh"
	"plantmesh/proto/strict"
)

func read(every time.Duration) Config {
	cfg := pressed()
	cfg.Poll, cfg.Disorder = strict.Duration(every), strict.Duration(time.Second)
	return cfg
}

// now gives a cell a value a second later, and sends nothing.
func (p *plc) now(c *cell, value any) {
	p.edit(func() {
		p.clock = p.clock.Add(time.Second)
		c.value = p.stamped(value)
	})
}

func (r *running) provenTo(t *testing.T, to mesh.Nanos) {
	t.Helper()
	until(t, "it is proven to "+second(to), func() bool { r.mu.Lock(); defer r.mu.Unlock(); return r.proof == to })
}

func TestReader_PollsTakeWhatChanges(t *testing.T) {
	p := newPLC(t)
	p.most = 2 // in one call
	a, b, _ := p.plant()
	r := p.run(t, read(500*time.Millisecond), nil)
	r.says(t, "2@0 3")
	p.now(a, int32(11))
	r.says(t, "0@1 11")
	p.now(b, int32(12))
	p.pass(9 * time.Second)
	r.says(t, "1@2 12")
	r.provenTo(t, noon.Add(10*time.Second))
	p.edit(func() { a.value = p.stamped(int32(11)) }) // the same again, with another time stamp
	r.says(t, "0@11 11")
	p.edit(func() {
		bad := *a.value
		bad.Status = ua.StatusBadNoCommunication
		bad.UpdateMask()
		a.value = &bad
	})
	r.says(t, "0@11 11!BadNoCommunication")
	const want = "0@0 1, 1@0 2, 2@0 3, 0@1 11, 1@2 12, 0@11 11, 0@11 11!BadNoCommunication"
	if got := r.said(); got != want || len(r.voids) > 0 {
		t.Errorf("it kept %s, want %s; voids %v", got, want, r.voids)
	}
	if n := p.count("CreateSubscriptionRequest"); n != 0 || r.told() != "connected, read each 500ms" {
		t.Errorf("%d subscriptions; it says %s", n, r.told())
	}
}

func TestReader_WhatLiesBetweenDistantPollsIsVoid(t *testing.T) {
	p := newPLC(t)
	a, _, _ := p.plant()
	r := p.run(t, read(100*time.Millisecond), nil)
	r.says(t, "2@0 3")
	p.pass(10 * time.Second)
	r.provenTo(t, noon.Add(9*time.Second))
	p.edit(func() { p.refuse = func(ua.Request) error { return ua.StatusBadOutOfService } })
	until(t, "some rounds are missed", func() bool { return strings.Count(r.told(), "not connected") > 3 })
	p.now(a, int32(5))
	p.pass(9 * time.Second)
	p.edit(func() { p.refuse = nil })
	r.says(t, "0@11 5")
	p.pass(10 * time.Second)
	r.provenTo(t, noon.Add(29*time.Second))
	if got := r.said(); got != "0@0 1, 1@0 2, 2@0 3, 0@11 5" {
		t.Errorf("it kept %s", got)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.voids) != 1 || r.voids[0].Parts[0].Times != (mesh.Span{From: noon.Add(9 * time.Second), To: noon.Add(20 * time.Second)}) {
		t.Errorf("voids %+v", r.voids)
	}
}

func TestReader_PollsGoOnAfterARestart(t *testing.T) {
	p := newPLC(t)
	a, b, _ := p.plant()
	cfg := read(10 * time.Second) // so that a restart is no break
	r := p.run(t, cfg, nil)
	r.says(t, "2@0 3")
	r.stop()
	p.pass(8 * time.Second)
	r = p.run(t, cfg, r)
	r.provenTo(t, noon.Add(7*time.Second))
	r.stop()

	p.now(a, int32(4)) // meanwhile
	p.pass(3 * time.Second)
	before := r
	r = p.run(t, cfg, r)
	r.says(t, "0@9 4")
	r.stop()
	if got := before.said() + "; " + r.said(); got != "0@0 1, 1@0 2, 2@0 3; 0@9 4" && got != "; 0@9 4" || len(r.voids) > 0 {
		t.Errorf("it kept %s, voids %v", got, r.voids)
	}

	// A restart that takes longer than two rounds.
	p.now(b, int32(5))
	p.pass(60 * time.Second)
	r = p.run(t, cfg, r)
	r.says(t, "1@13 5")
	r.stop()
	if got := r.said(); got != "1@13 5" || len(r.voids) != 1 || r.voids[0].Parts[0].Times != (mesh.Span{From: noon.Add(11 * time.Second), To: noon.Add(73 * time.Second)}) {
		t.Errorf("it kept %s, voids %+v", got, r.voids)
	}

	// Another node behind the same path.
	p.pass(time.Second)
	p.add("ns=2;s=a2", "0:Objects/2:press/2:speed", int32(100))
	p.pass(5 * time.Second)
	r = p.run(t, cfg, r)
	r.says(t, "0@79 100")
}

func TestReader_AServerWithoutSubscriptionsIsPolled(t *testing.T) {
	p := newPLC(t)
	a, _, _ := p.plant()
	p.refuse = func(r ua.Request) error {
		if _, ok := r.(*ua.CreateSubscriptionRequest); ok {
			return ua.StatusBadServiceUnsupported
		}
		return nil
	}
	r := p.run(t, pressed(), nil)
	r.says(t, "2@0 3")
	until(t, "it is told", func() bool { return r.told() == "connected, read each 1s: the server has no subscriptions" })
	p.now(a, int32(5))
	r.says(t, "0@1 5")
}

func TestReader_PolledSignalsMoveToo(t *testing.T) {
	p := newPLC(t)
	a, _, _ := p.plant()
	r := p.run(t, read(500*time.Millisecond), nil)
	r.says(t, "2@0 3")
	p.pass(10 * time.Second)
	r.provenTo(t, noon.Add(9*time.Second))
	p.add("ns=2;s=a2", "", int32(100))
	p.cut()
	p.edit(func() {
		p.paths["0:Objects/2:press/2:speed"] = "ns=2;s=a2"
		a.value = p.stamped(int32(66))
		delete(p.cells, "ns=2;s=b")
	})
	r.says(t, "100")
	r.says(t, "1@9 !BadNodeIdUnknown")
	if got := r.said(); strings.Contains(got, "66") || !strings.Contains(got, "0@9 !BadConfigurationError") {
		t.Errorf("it kept %s", got)
	}
}
