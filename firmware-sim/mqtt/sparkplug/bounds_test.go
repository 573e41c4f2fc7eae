package sparkplug

import (
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"plantmesh/firmware-sim/plant"
)

func TestServer_KeepsNoMoreThanItMay(t *testing.T) {
	s, _ := serve(t, Config{Host: "gw-1", StoreAndForward: true, Keep: 100})
	e := listenTo(t, s, "spBv1.0/#")
	for i := range 250 {
		s.Push(emission(i))
	}
	s.Prove(start.Add(250 * time.Second))
	if s.Waiting() != 100 || s.Forgotten() != 150 {
		t.Errorf("%d wait, %d forgotten", s.Waiting(), s.Forgotten())
	}
	e.state("gw-1", true, 1)
	all := e.until("the clock", is("NDATA"))
	if v, _ := counts(aliases(all), "produced", all); len(v) != 100 || v[0] != 150-5 {
		t.Errorf("%d values", len(v))
	}
	for i := range 1000 { // the buffer of what was said is bounded too
		s.Push(emission(250 + i))
		s.Prove(start.Add(time.Duration(251+i) * time.Second))
	}
	eventually(t, "the broker has all", func() bool { return s.Waiting() == 0 })
	n := s.nodes[0]
	n.mu.Lock()
	defer n.mu.Unlock()
	if kept := n.ring.len() + n.queue.len(); kept > 100 {
		t.Errorf("%d values are kept", kept)
	}
}

// TestServer_GivenBroker: the nodes of one server through the broker of another.
func TestServer_GivenBroker(t *testing.T) {
	t.Parallel()
	with, _ := serve(t, Config{Host: "nobody"})
	s, _ := serve(t, Config{Broker: with.URL(), Group: "mill", StoreAndForward: true, KeepAlive: 3 * time.Second}, "line7")
	e := listenTo(t, with, "spBv1.0/mill/#")
	for i := range 1000 {
		at := start.Add(time.Duration(i) * time.Second)
		s.Push(plant.Emission{Source: src, Signal: "line7.capper.speed", Time: at, Emitted: at, Value: plant.Value{Type: plant.Double, F: float64(i)}})
	}
	s.Prove(start.Add(1000 * time.Second))
	e.until("the last", func(m said) bool {
		return m.device == "capper" && slices.ContainsFunc(m.metrics, func(x metricSaid) bool { return double(x.bits) == 999 })
	})
	eventually(t, "the broker has all", func() bool { return s.Waiting() == 0 })
	if s.URL() != with.URL() || s.Dropped() != 0 {
		t.Errorf("%s, %d dropped", s.URL(), s.Dropped())
	}
	e.until("the clock", is("NDATA"))
	for _, m := range e.until("the clock again", is("NDATA")) { // longer than 1.5 keep-alives later
		if m.verb == "NDEATH" || m.verb == "NBIRTH" {
			t.Errorf("the broker ended an idle connection: %v", m)
		}
	}
}

func TestServer_EndsWithADeath(t *testing.T) {
	with, _ := serve(t, Config{Host: "nobody"})
	s, stop := serve(t, Config{Broker: with.URL(), Group: "mill"}, "line3", "line4")
	e := listenTo(t, with, "spBv1.0/+/NDEATH/+")
	births := listenTo(t, with, "spBv1.0/+/NBIRTH/+")
	s.Prove(start)
	s.Rebirth("")
	born := map[string]bool{}
	births.until("the birth of both", func(m said) bool {
		born[m.node] = true
		return len(born) == len(s.Nodes())
	})
	stop()
	e.until("a death", is("NDEATH"))
	e.until("another", is("NDEATH"))
}

// TestServer_ManyNodes: five hundred in one process.
func TestServer_ManyNodes(t *testing.T) {
	t.Parallel()
	var lines []string
	for i := range 500 {
		lines = append(lines, fmt.Sprintf("node%03d", i))
	}
	s, stop := serve(t, Config{Host: "gw-1", StoreAndForward: true}, lines...)
	e := listenTo(t, s, "spBv1.0/+/NBIRTH/+")
	s.Prove(start)
	for round := range 2 {
		e.state("gw-1", true, int64(10*round+1))
		born := map[string]bool{}
		began := time.Now()
		for len(born) < len(lines) {
			for _, m := range e.until("a birth", is("NBIRTH")) {
				born[m.node] = true
			}
		}
		t.Logf("500 nodes are born in %s", time.Since(began).Round(time.Millisecond))
		e.state("gw-1", false, int64(10*round+2))
	}
	stop()
}

func TestServe_Faults(t *testing.T) {
	quiet := slog.New(slog.DiscardHandler)
	s, _ := serve(t, Config{})
	for name, c := range map[string]struct {
		cfg  Config
		sigs []plant.Signal
		want string
	}{
		"address": {Config{Source: src, Listen: s.address}, signals("line3"), s.address},
		"broker":  {Config{Source: src, Broker: "http://x"}, signals("line3"), "is no mqtt://host:port"},
		"source":  {Config{Source: "nobody"}, signals("line3"), "has no signals"},
		"topic":   {Config{Source: src}, []plant.Signal{{Source: src, Name: "a.b+c.d"}}, `device "b+c"`},
		"name":    {Config{Source: src}, []plant.Signal{{Source: src, Name: "a.b"}}, "is no <line>.<machine>.<role>"},
	} {
		if _, err := Serve(c.cfg, c.sigs, quiet); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestHost_Hear(t *testing.T) {
	var h host
	for i, c := range []struct {
		text          string
		counts, state bool
	}{
		{`{"online":true,"timestamp":5}`, true, true},
		{`{"online":false,"timestamp":4}`, false, true},
		{`{"online":false}`, false, true},
		{`OFFLINE`, false, true},
		{`{"online":false,"timestamp":5}`, true, false},
		{`{"online":true,"timestamp":4}`, false, false},
		{`{"online":true,"timestamp":5}`, true, true},
	} {
		if got := h.hear([]byte(c.text)); got != c.counts || h.online != c.state {
			t.Errorf("%d: %s counts %t, online %t", i, c.text, got, h.online)
		}
	}
}
