package e2e

import (
	"context"
	"fmt"
	"maps"
	"strings"
	"sync"
	"testing"
	"time"

	edgemqtt "plantmesh/edge/source/mqtt"
	"plantmesh/edge/source/mqtt/link"
	simmqtt "plantmesh/firmware-sim/mqtt"
	"plantmesh/firmware-sim/plant"
	"plantmesh/proto/mesh"
	"plantmesh/proto/strict"
)

const mqttSource = "line3-mqtt"

// mqttPlant is a line served over MQTT, pushed by hand.
type mqttPlant struct {
	server  *simmqtt.Server
	signals []plant.Signal
	index   uint64
	clock   mesh.Nanos

	mu   sync.Mutex
	told map[uint64]int
}

func newMQTTPlant(t *testing.T) *mqttPlant {
	t.Helper()
	p := &mqttPlant{clock: start, told: map[uint64]int{}}
	for _, m := range []string{"filler", "capper", "labeller", "palletiser"} {
		for _, r := range []string{"produced", "scrap", "state"} {
			p.signals = append(p.signals, plant.Signal{Source: mqttSource, Name: "line3." + m + "." + r, Type: plant.Int})
		}
	}
	s, err := simmqtt.Serve(simmqtt.Config{Source: mqttSource, Listen: "127.0.0.1:0"}, p.signals, p.received, logger(t))
	if err != nil {
		t.Fatal(err)
	}
	p.server = s
	s.Prove(p.clock.Time())
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return p
}

func (p *mqttPlant) received(_ string, indexes []uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, i := range indexes {
		p.told[i]++
	}
}

// burst pushes n samples, one per millisecond of plant time.
func (p *mqttPlant) burst(n int) {
	for range n {
		p.index++
		p.clock = p.clock.Add(time.Millisecond)
		p.server.Push(plant.Emission{
			Source: mqttSource, Index: p.index, Signal: p.signals[p.index%uint64(len(p.signals))].Name,
			Time: p.clock.Time(), Emitted: p.clock.Time(), Value: plant.Value{Type: plant.Int, I: int64(p.index)},
		})
	}
	p.server.Prove(p.clock.Time())
}

func (p *mqttPlant) config(url string) edgemqtt.Config {
	c := edgemqtt.Config{
		ID: mqttSource, Config: link.Config{URL: url},
		Mapping: edgemqtt.Mapping{
			Topics:    []edgemqtt.Topic{{Filter: "plant/line3/+", Signal: "line3.{2}.{key}", Time: "ts"}},
			Heartbeat: edgemqtt.Heartbeat{Topic: "plant/line3/heartbeat"},
		},
	}
	for _, s := range p.signals {
		c.Signals = append(c.Signals, edgemqtt.SignalConfig{Name: s.Name, Type: "int"})
	}
	c.Window.Latency = strict.Duration(20 * time.Millisecond)
	return c
}

// mqttLife runs one reader until it is killed; what was not committed is lost.
func mqttLife(t *testing.T, d *diary, cfg edgemqtt.Config) (kill func()) {
	t.Helper()
	_, kill = mqttRun(t, d, cfg)
	return kill
}

// mqttRun is mqttLife, and gives the log as this run sees it.
func mqttRun(t *testing.T, d *diary, cfg edgemqtt.Config) (l *life, kill func()) {
	t.Helper()
	r, err := edgemqtt.New(cfg, func() mesh.Nanos { return start.Add(24 * time.Hour) }, logger(t))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	l = d.begin()
	d.mu.Lock()
	resume := d.state
	r.Keep(maps.Clone(d.kept))
	d.mu.Unlock()
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx, resume, l) }()
	var once sync.Once
	kill = func() {
		once.Do(func() {
			l.kill()
			cancel()
			if err := <-done; err != nil {
				t.Error(err)
			}
		})
	}
	t.Cleanup(kill)
	return l, kill
}

func TestMQTT_CutsAndKillsLoseAndDoubleNothing(t *testing.T) {
	p, d := newMQTTPlant(t), newDiary(t)
	c := newCable(t, strings.TrimPrefix(p.server.URL(), "mqtt://"))
	cfg := p.config("mqtt://" + c.l.Addr().String())
	kill := mqttLife(t, d, cfg)
	const rounds, each = 30, 1000
	for i := range rounds {
		p.burst(each)
		waitFor(t, "the reader is at work", func() bool {
			d.mu.Lock()
			defer d.mu.Unlock()
			return d.samples > i*each/2
		})
		if i%3 == 2 {
			kill()
			kill = mqttLife(t, d, cfg)
		} else {
			c.cut()
		}
	}
	p.clock = p.clock.Add(20 * time.Second)
	p.server.Prove(p.clock.Time())
	want := p.clock.Add(-disorder)
	waitFor(t, "everything is acknowledged and proven", func() bool {
		d.mu.Lock()
		defer d.mu.Unlock()
		return p.server.Waiting() == 0 && len(d.batches) > 0 && d.batches[len(d.batches)-1].Complete == want
	})
	kill()

	seen := map[string]int{}
	for _, b := range d.batches {
		for _, s := range b.Samples {
			seen[fmt.Sprint(s.Signal, s.Time, s.Value)]++
		}
	}
	if len(seen) != rounds*each || d.samples != rounds*each || len(p.told) != rounds*each {
		t.Errorf("%d samples, %d different, %d told received; want %d of each", d.samples, len(seen), len(p.told), rounds*each)
	}
	if len(d.voids) != 0 {
		t.Errorf("voids: %+v", d.voids)
	}
	end := start
	for _, b := range d.batches {
		if !b.Proven.Empty() && b.Proven.From != end {
			t.Errorf("proof breaks: %v after %v", b.Proven, end)
		}
		if !b.Proven.Empty() {
			end = b.Proven.To
		}
	}
}

func TestMQTT_RubbishStopsNothing(t *testing.T) {
	p, d := newMQTTPlant(t), newDiary(t)
	mqttLife(t, d, p.config(p.server.URL()))
	for _, payload := range []string{"hello", `{"ts":1750000000000,"state":NaN}`, `{"ts":1750000000000,"state":"` + strings.Repeat("x", 10<<20) + `"}`, `{"state":6}`} {
		p.server.Inject("plant/line3/filler", []byte(payload))
	}
	p.burst(100)
	waitFor(t, "all is acknowledged", func() bool { return p.server.Waiting() == 0 })
	d.mu.Lock()
	defer d.mu.Unlock()
	lost := uint64(0)
	for _, v := range d.voids {
		for _, part := range v.Parts {
			lost += part.Count
		}
	}
	good, bad := 0, map[uint32]bool{}
	for _, b := range d.batches {
		for _, s := range b.Samples {
			if s.Status.IsGood() {
				good++
			} else {
				bad[s.Signal] = true
			}
		}
	}
	if good != 100 || len(bad) != 3 || lost != 4 {
		t.Errorf("%d good samples, %d signals Bad, %d lost in %d voids", good, len(bad), lost, len(d.voids))
	}
}

// waitFor looks again and again until ok, at most half a minute.
func waitFor(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	end := time.After(30 * time.Second)
	for !ok() {
		select {
		case <-tick.C:
		case <-end:
			t.Fatalf("timed out: %s", what)
		}
	}
}
