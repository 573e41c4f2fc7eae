package opcua

import (
	"strings"
	"testing"
	"time"

	"plantmesh/proto/mesh"
	"plantmesh/proto/strict"
)

func expecting() Config {
	cfg := heated()
	for i := range cfg.Signals {
		cfg.Signals[i].MaxSilence = strict.Duration(time.Second)
	}
	cfg.Signals[1].Deadband = "0.5"
	return cfg
}

func TestReader_ASubscriptionThatTellsNothingIsMadeAnew(t *testing.T) {
	p := newPLC(t)
	temp, level, _ := p.heat()
	r := p.run(t, expecting(), nil)
	r.says(t, "2@0 3")
	p.pass(10 * time.Second)
	r.provenTo(t, noon.Add(5*time.Second))
	until(t, "it is probed", func() bool { return p.reads() > 2 }) // nothing has changed: silence is right
	p.edit(func() { level.value = p.stamped(7.9) })                // within its deadband
	until(t, "it is probed", func() bool { return p.reads() > 4 })
	if n := p.count("CreateSubscriptionRequest"); n != 1 {
		t.Errorf("%d subscriptions were made", n)
	}
	p.now(temp, 30.5) // and the subscription does not tell
	p.pass(9 * time.Second)
	r.says(t, "0@11 30.5")
	if n := p.count("CreateSubscriptionRequest"); n != 2 {
		t.Errorf("%d subscriptions were made", n)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.voids) == 0 || r.voids[0].Parts[0].Times != (mesh.Span{From: noon.Add(11 * time.Second), To: noon.Add(20 * time.Second)}) || !strings.Contains(r.voids[0].Note, "another value of temp than it told") {
		t.Errorf("voids %+v", r.voids)
	}
}

// reads counts the probes.
func (p *plc) reads() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.probes
}

func TestReader_ANodeThatComesLaterIsFound(t *testing.T) {
	p := newPLC(t)
	p.plant()
	var back *cell
	p.edit(func() { back = p.cells["ns=2;s=b"]; delete(p.cells, "ns=2;s=b") })
	r := p.run(t, pressed(), nil, func(r *Reader) { r.seekEvery = 500 * time.Millisecond })
	r.says(t, "2@0 3")
	p.edit(func() { p.cells["ns=2;s=b"] = back })
	r.says(t, "1@0 2")
	p.set(back, int32(8))
	r.says(t, "1@1 8")
	if n := p.count("CreateSubscriptionRequest"); n != 1 || strings.Contains(r.told(), "not connected") {
		t.Errorf("%d subscriptions were made; it says %s", n, r.told())
	}
}
