package e2e

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	edgeua "plantmesh/edge/source/opcua"
	simua "plantmesh/firmware-sim/opcua"
	"plantmesh/firmware-sim/plant"
	"plantmesh/proto/mesh"
)

// start is the first instant of the plants in these tests.
const start = mesh.Nanos(1_750_000_000_000_000_000)

// disorder is what the sources here declare.
const disorder = 5 * time.Second

// plantUnderTest is a server with twelve signals, pushed by hand.
type plantUnderTest struct {
	t       *testing.T
	server  *simua.Server
	signals []plant.Signal
	index   uint64
	clock   mesh.Nanos
	pushed  map[string]int // what was pushed, and how often it came

	mu   sync.Mutex
	told map[uint64]bool
}

func newPlant(t *testing.T, forgetful bool) *plantUnderTest {
	t.Helper()
	p := &plantUnderTest{t: t, clock: start, pushed: map[string]int{}, told: map[uint64]bool{}}
	for i := range 12 {
		p.signals = append(p.signals, plant.Signal{Source: "s", Name: fmt.Sprintf("line1.filler.v%d", i), Type: plant.Int})
	}
	server, err := simua.Serve(simua.Config{Source: "s", Listen: "127.0.0.1:0", Forgetful: forgetful}, p.signals, p.received, logger(t))
	if err != nil {
		t.Fatal(err)
	}
	p.server = server
	server.Prove(p.clock.Time())
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- server.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return p
}

func (p *plantUnderTest) received(_ string, indexes []uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, i := range indexes {
		p.told[i] = true
	}
}

// burst pushes n samples, a millisecond of plant time apart, and proves them.
func (p *plantUnderTest) burst(n int) {
	for range n {
		p.index++
		p.clock = p.clock.Add(time.Millisecond)
		s := p.signals[rand.N(len(p.signals))]
		p.server.Push(plant.Emission{
			Source: "s", Index: p.index, Signal: s.Name, Time: p.clock.Time(), Emitted: p.clock.Time(),
			Value: plant.Value{Type: plant.Int, I: int64(p.index)},
		})
		p.pushed[fmt.Sprintf("%s %d %d", s.Name, p.clock, p.index)] = 0
	}
	p.server.Prove(p.clock.Time())
}

func (p *plantUnderTest) pass(d time.Duration) {
	p.clock = p.clock.Add(d)
	p.server.Prove(p.clock.Time())
}

func (p *plantUnderTest) config(url string) edgeua.Config {
	c := edgeua.Config{ID: "s", Endpoint: url, Security: edgeua.Security{Insecure: true}}
	for _, s := range p.signals {
		c.Signals = append(c.Signals, edgeua.Signal{Name: s.Name, Node: "nsu=" + simua.Namespace + ";s=" + s.Name, Type: "int"})
	}
	c.PublishingInterval, c.KeepAliveCount = 20_000_000, 5
	c.Window.Latency = 50_000_000
	return c
}

// agent runs readers one after the other over one diary.
type agent struct {
	t      *testing.T
	d      *diary
	cfg    edgeua.Config
	life   *life
	cancel context.CancelFunc
	done   chan error
}

func (a *agent) start() {
	r, err := edgeua.New(a.cfg, func() mesh.Nanos { return start.Add(24 * time.Hour) }, logger(a.t))
	if err != nil {
		a.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	a.life, a.cancel, a.done = a.d.begin(), cancel, make(chan error, 1)
	a.d.mu.Lock()
	resume := a.d.state
	a.d.mu.Unlock()
	go func(l *life, done chan<- error) { done <- r.Run(ctx, resume, l) }(a.life, a.done)
}

// kill ends the reader as a power cut would: what is not committed is gone.
func (a *agent) kill() {
	a.life.kill()
	a.cancel()
	if err := <-a.done; err != nil && !errors.Is(err, context.Canceled) {
		a.t.Error(err)
	}
}

// settled waits until everything pushed was acknowledged and is proven.
func (p *plantUnderTest) settled(d *diary) {
	p.t.Helper()
	wait(p.t, "everything pushed is acknowledged", func() bool { return p.server.Waiting() == 0 })
	p.pass(2 * disorder)
	wait(p.t, "everything is proven", func() bool {
		spans := d.proofs()
		return len(spans) > 0 && spans[len(spans)-1].To == p.clock.Add(-disorder)
	})
}

// compare counts what came against what was pushed. What came of a history too is
// the same sample, and counts once.
func (p *plantUnderTest) compare(d *diary) (lost, doubled, foreign int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	past := map[string]bool{}
	for _, b := range d.batches {
		for _, s := range b.Samples {
			if int(s.Signal) >= len(p.signals) {
				foreign++
				continue
			}
			key := fmt.Sprintf("%s %d %s", p.signals[s.Signal].Name, s.Time, s.Value)
			n, ok := p.pushed[key]
			switch {
			case !ok:
				foreign++
			case s.Flags&mesh.FlagHistorical == 0:
				p.pushed[key] = n + 1
			case past[key]:
				doubled++
			default:
				past[key] = true
			}
		}
	}
	for key := range past {
		p.pushed[key] = max(1, p.pushed[key])
	}
	for _, n := range p.pushed {
		switch {
		case n == 0:
			lost++
		case n > 1:
			doubled += n - 1
		}
	}
	return lost, doubled, foreign
}

func TestOPCUA_CutsAndRestartsLoseAndDoubleNothing(t *testing.T) {
	p := newPlant(t, false)
	c := newCable(t, strings.TrimPrefix(p.server.URL(), "opc.tcp://"))
	a := &agent{t: t, d: newDiary(t), cfg: p.config("opc.tcp://" + c.l.Addr().String())}
	p.burst(3000) // before anybody listens
	a.start()
	for i := range 25 {
		seen := a.d.count()
		p.burst(200 + rand.N(2000))
		if i%3 != 0 { // sometimes it is cut at once, sometimes after something came
			wait(t, "something came", func() bool { return a.d.count() > seen })
		}
		c.cut()
		p.burst(rand.N(500))
		if i%5 == 4 {
			a.kill()
			a.start()
		}
	}
	p.settled(a.d)
	a.kill()
	if lost, doubled, foreign := p.compare(a.d); lost+doubled+foreign > 0 {
		t.Errorf("of %d samples %d are lost, %d doubled, %d foreign", len(p.pushed), lost, doubled, foreign)
	}
	if spans := a.d.proofs(); len(spans) != 1 {
		t.Errorf("the proof broke: %v", spans)
	}
	if len(a.d.voids) != 0 {
		t.Errorf("voids without a loss: %+v", a.d.voids)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.told) != len(p.pushed) {
		t.Errorf("%d of %d samples were told received", len(p.told), len(p.pushed))
	}
}

func TestOPCUA_DeadLinkIsNoticed(t *testing.T) {
	p := newPlant(t, false)
	c := newCable(t, strings.TrimPrefix(p.server.URL(), "opc.tcp://"))
	a := &agent{t: t, d: newDiary(t), cfg: p.config("opc.tcp://" + c.l.Addr().String())}
	a.start()
	p.burst(100)
	wait(t, "something came", func() bool { return a.d.count() >= 100 })
	c.swallow(true)
	p.burst(100)
	began := time.Now()
	wait(t, "the connection is given up", func() bool { return time.Since(began) > 2500*time.Millisecond })
	c.swallow(false)
	p.settled(a.d)
	a.kill()
	if lost, doubled, foreign := p.compare(a.d); lost+doubled+foreign > 0 {
		t.Errorf("of %d samples %d are lost, %d doubled, %d foreign", len(p.pushed), lost, doubled, foreign)
	}
	if spans := a.d.proofs(); len(spans) != 1 || len(a.d.voids) != 0 {
		t.Errorf("proofs %v, voids %+v", spans, a.d.voids)
	}
}

func TestOPCUA_ForgetfulServerIsVoided(t *testing.T) {
	p := newPlant(t, true)
	c := newCable(t, strings.TrimPrefix(p.server.URL(), "opc.tcp://"))
	a := &agent{t: t, d: newDiary(t), cfg: p.config("opc.tcp://" + c.l.Addr().String())}
	a.start()
	p.burst(1000)
	wait(t, "something came", func() bool { return a.d.count() >= 1000 })
	p.pass(2 * disorder)
	wait(t, "it is proven", func() bool { s := a.d.proofs(); return len(s) > 0 && s[0].To == p.clock.Add(-disorder) })
	cutAt := p.clock
	c.cut()
	p.burst(1000) // nobody hears it
	wait(t, "the queues have died", func() bool { return p.server.Waiting() == 0 })
	p.pass(time.Minute)
	// The reader comes back by itself; what is pushed then is heard.
	wait(t, "the reader is back", func() bool { a.d.mu.Lock(); defer a.d.mu.Unlock(); return len(a.d.voids) > 0 })
	p.burst(500)
	p.settled(a.d)
	a.kill()
	spans := a.d.proofs()
	if len(spans) != 2 || spans[0].To != cutAt.Add(-disorder) || spans[1].From < cutAt || spans[1].To != p.clock.Add(-disorder) {
		t.Errorf("proofs %v, cut at %s", spans, cutAt)
	}
	if v := a.d.voids; len(v) != 1 || v[0].Cause != mesh.CauseDisconnected || v[0].Parts[0].Times != (mesh.Span{From: spans[0].To, To: spans[1].From}) {
		t.Errorf("voids %+v between %v", v, spans)
	}
}

func TestOPCUA_OverflowIsVoided(t *testing.T) {
	p := newPlant(t, false)
	c := newCable(t, strings.TrimPrefix(p.server.URL(), "opc.tcp://"))
	a := &agent{t: t, d: newDiary(t), cfg: p.config("opc.tcp://" + c.l.Addr().String())}
	a.cfg.QueueSize = 10
	a.start()
	p.burst(100)
	p.settled(a.d)
	known := a.d.proofs()[0].To
	a.kill()
	p.burst(5000)
	a.start()
	p.settled(a.d)
	a.kill()
	lost, doubled, foreign := p.compare(a.d)
	if lost < 4000 || doubled+foreign > 0 {
		t.Errorf("%d lost, %d doubled, %d foreign", lost, doubled, foreign)
	}
	for key, n := range p.pushed {
		var signal string
		var at mesh.Nanos
		if _, err := fmt.Sscanf(key, "%s %d", &signal, &at); err != nil {
			t.Fatal(err)
		}
		if n == 0 && a.d.knows(at) {
			t.Fatalf("%s is lost, and yet its instant is said to be known: %v, known until %s", key, a.d.proofs(), known)
		}
	}
	if len(a.d.voids) == 0 || a.d.voids[0].Cause != mesh.CauseOverflow {
		t.Errorf("voids %+v", a.d.voids)
	}
}

func TestOPCUA_BadNodeCostsOnlyItself(t *testing.T) {
	p := newPlant(t, false)
	a := &agent{t: t, d: newDiary(t), cfg: p.config(p.server.URL())}
	a.cfg.Signals = append(a.cfg.Signals,
		edgeua.Signal{Name: "gone", Node: "nsu=" + simua.Namespace + ";s=no.such.node", Type: "int"},
		edgeua.Signal{Name: "elsewhere", Node: "nsu=urn:no:such:namespace;s=x", Type: "int"})
	a.start()
	p.burst(500)
	p.settled(a.d)
	a.kill()
	if lost, doubled, foreign := p.compare(a.d); lost+doubled > 0 || foreign != 2 {
		t.Errorf("of %d samples %d are lost, %d doubled, %d foreign", len(p.pushed), lost, doubled, foreign)
	}
	// What was known of a node that is refused is not carried on.
	begin := a.d.proofs()[0].From
	for _, b := range a.d.batches {
		for _, s := range b.Samples {
			if int(s.Signal) >= len(p.signals) && (s.Status != mesh.StatusBadNodeIDUnknown || s.Time != begin || s.Value.Type != mesh.TypeNone) {
				t.Errorf("a refused signal says %+v, proven from %v", s, begin)
			}
		}
	}
}

// TestOPCUA_AnotherServerAtTheSamePlace: the device was exchanged or has lost
// its memory; the reader begins anew and says what it could not hear.
func TestOPCUA_AnotherServerAtTheSamePlace(t *testing.T) {
	p := newPlant(t, false)
	c := newCable(t, strings.TrimPrefix(p.server.URL(), "opc.tcp://"))
	a := &agent{t: t, d: newDiary(t), cfg: p.config("opc.tcp://" + c.l.Addr().String())}
	a.start()
	p.burst(500)
	p.settled(a.d)
	other := newPlant(t, false)
	other.clock, other.index = p.clock.Add(time.Hour), p.index
	other.server.Prove(other.clock.Time())
	c.plug(strings.TrimPrefix(other.server.URL(), "opc.tcp://"))
	c.cut()
	other.burst(500)
	other.settled(a.d)
	a.kill()
	spans := a.d.proofs()
	if len(spans) != 2 || spans[0].To != p.clock.Add(-disorder) || spans[1].From < p.clock.Add(time.Hour) {
		t.Errorf("proofs %v", spans)
	}
	if v := a.d.voids; len(v) != 1 || v[0].Cause != mesh.CauseDisconnected || v[0].Parts[0].Times.From != spans[0].To {
		t.Errorf("voids %+v", v)
	}
	if lost, doubled, _ := other.compare(a.d); lost+doubled > 0 {
		t.Errorf("%d lost, %d doubled after the exchange", lost, doubled)
	}
}
