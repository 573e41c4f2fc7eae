package sparkplug

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"strings"
	"testing"
	"time"

	"plantmesh/edge/source/sparkplug/payload"
	"plantmesh/proto/mesh"
	"plantmesh/proto/wire"
)

// The node's own a/b and b of its device a have one place, and are two metrics: they must
// not become one signal.
func TestSignals_ANodesMetricIsNotItsDevices(t *testing.T) {
	k := newKit(t, nil)
	d := k.node("n")
	d.born(double("pump/speed", 1))
	d.dborn("pump", double("speed", 2))
	k.seal()
	for _, s := range k.of("plant.n.pump.speed") {
		if s.Value.Compare(mesh.Double(2)) == 0 {
			t.Errorf("a device's value stands under the node's name: %v", s)
		}
	}
	if len(k.noted("same signal name")) != 1 {
		t.Errorf("voids %+v", k.voids)
	}
}

// Of two metrics that make one name the first has it, also after a restart.
func TestRestart_ANameStaysWithItsMetric(t *testing.T) {
	k := newKit(t, func(c *Config) { c.Name = "{group}.{node}.{metric}" })
	d := k.node("n")
	d.born()
	d.dborn("z", double("x", 1))
	d.dborn("a", double("x", 2))
	d.runs(20, func(int) payload.Metric { return double("y", 1) })
	k.seal()
	k.restart(time.Second)
	k.pass(time.Second)
	d.ddata("z", double("x", 10))
	d.ddata("a", double("x", 20))
	k.seal()
	if got := k.last("plant.n.x"); got.Value.Compare(mesh.Double(10)) != 0 {
		t.Errorf("the signal has another metric's value: %v", got)
	}
}

// A node that died and speaks is born, and its birth was lost: it is asked for it.
func TestNodeDeath_ADeadNodeThatSpeaksIsAsked(t *testing.T) {
	k := newKit(t, nil)
	d := k.node("n")
	d.born(aliased(1, double("x", 1)))
	d.dies(1)
	k.pass(time.Minute)
	if len(k.sent) != 0 {
		t.Fatalf("the dead is asked: %v", k.sent)
	}
	d.seq = 0
	d.data(alone(aliased(1, double("", 2))))
	k.pass(5 * time.Second)
	if len(k.sent) != 1 {
		t.Errorf("it was asked %d times", len(k.sent))
	}
	k.pass(10 * time.Minute) // it was a last word
	asked := len(k.sent)
	k.pass(time.Hour)
	if len(k.sent) != asked {
		t.Error("the dead is asked for ever")
	}
}

// A node whose clock goes back behind its birth is still put in order.
func TestSequence_AClockThatGoesBack(t *testing.T) {
	k := newKit(t, nil)
	d := k.node("n")
	d.born(double("x", 0))
	k.pass(time.Minute)
	late := func(v float64) {
		p := d.message(double("x", v))
		p.Timestamp -= 3_600_000
		k.say("plant/NDATA/n", p)
	}
	late(1)
	d.loses()
	late(3)
	k.pass(10 * time.Second)
	late(4)
	k.seal()
	if got := k.of("plant.n.x"); len(k.noted("older than its node's birth")) != 0 || len(k.noted("1 of its messages did not come")) != 1 {
		t.Errorf("samples %v, voids %+v", got, k.voids)
	}
	if k.h.nodes["plant/n"].seq != byte(d.seq) {
		t.Error("it hangs behind what is missing")
	}
}

// Names that somebody makes up must not shut nodes out; nor must nodes that died long ago.
func TestNodes_ThoseThatAreNotAreForgotten(t *testing.T) {
	k := newKit(t, func(c *Config) { c.MaxNodes = 10 })
	for i := range 100 {
		k.say(fmt.Sprintf("plant/NDATA/made-up-%d", i), payload.Payload{Timestamp: k.ms(), HasSeq: true, Metrics: []payload.Metric{double("x", 1)}})
	}
	lives := k.node("lives")
	lives.born(double("x", 1))
	for i := range 100 { // each takes the place of one that died
		d := k.node(fmt.Sprint("short-", i))
		d.born(double("x", float64(i)))
		d.dborn("dev", double("y", 1))
		d.dies(1)
		k.pass(time.Second)
		lives.data(double("x", float64(i)))
		if i%7 == 0 {
			k.seal()
		}
	}
	k.seal()
	for i := range 100 {
		name := fmt.Sprintf("plant.short-%d.x", i)
		if got := k.of(name); len(got) != 2 || got[0].Value.Compare(mesh.Double(float64(i))) != 0 {
			t.Fatalf("%s: %v", name, got)
		}
	}
	if len(k.of("plant.lives.x")) != 101 {
		t.Error("the one that lives was forgotten")
	}
	if n := len(k.h.nodes); n != 10 || len(k.h.table.names) > 40 || len(k.kept) > 20 || k.h.used.units > 10 {
		t.Errorf("%d nodes, %d signals, %d parts of the state, %d devices are known", n, len(k.h.table.names), len(k.kept), k.h.used.units)
	}
	k.restart(time.Second)
	if n := len(k.h.nodes); n != 10 {
		t.Errorf("%d nodes after a restart", n)
	}
}

// A template's members have the names of all templates around them: a payload of a
// megabyte must not make names of gigabytes.
func TestBirth_LongNamesAroundManyMembers(t *testing.T) {
	many := payload.Template{Ref: []byte("t")}
	for i := range 9000 {
		many.Metrics = append(many.Metrics, double(fmt.Sprint("m", i), 1))
	}
	m := payload.Metric{Type: payload.TemplateType, Value: payload.Value{Kind: payload.InTemplate}, Template: &many}
	for i := range 10 {
		m.Name = []byte(strings.Repeat(string(rune('a'+i)), 60_000))
		if i < 9 {
			m = payload.Metric{Type: payload.TemplateType, Value: payload.Value{Kind: payload.InTemplate}, Template: &payload.Template{Ref: []byte("t"), Metrics: []payload.Metric{m}}}
		}
	}
	k := newKit(t, nil)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	k.node("n").born(m)
	runtime.ReadMemStats(&after)
	if grown := after.TotalAlloc - before.TotalAlloc; grown > 100<<20 {
		t.Errorf("%d MiB were taken for a birth of a megabyte", grown>>20)
	}
	k.seal()
	k.restart(time.Second)
}

// What can't be read again after a restart, or is not kept, costs a request, not the source.
func TestRestart_BirthsThatAreNotKept(t *testing.T) {
	wide := payload.Template{Ref: []byte("t")}
	for i := range payload.MaxMetrics + 10 { // parameters have another bound than metrics
		wide.Parameters = append(wide.Parameters, payload.Parameter{Name: fmt.Append(nil, "p", i), Type: payload.Int32, Value: payload.Value{Kind: payload.InInt, Bits: 1}})
	}
	for name, c := range map[string]struct {
		birth  payload.Metric
		change func(*Config, map[string][]byte)
	}{
		"too many":   {birth: payload.Metric{Name: []byte("t"), Type: payload.TemplateType, Value: payload.Value{Kind: payload.InTemplate}, Template: &wide}},
		"damaged":    {birth: double("x", 1), change: func(_ *Config, kept map[string][]byte) { kept["n/plant/n"] = []byte("\xff") }},
		"of before":  {birth: double("x", 1), change: func(_ *Config, kept map[string][]byte) { delete(kept, "n/plant/n") }},
		"max_metric": {birth: double("x", 1), change: func(c *Config, _ map[string][]byte) { c.MaxMetrics = 2 }},
	} {
		k := newKit(t, nil)
		d := k.node("n")
		d.born(c.birth)
		d.runs(20, func(int) payload.Metric { return double("bdSeq", 1) })
		k.seal()
		proven := k.through()
		if c.change != nil {
			c.change(k.cfg, k.kept)
		}
		k.restart(time.Second)
		if name == "max_metric" {
			if k.h.nodes["plant/n"] == nil {
				t.Errorf("%s: the node is forgotten", name)
			}
			continue
		}
		d.data(double("x", 2))
		k.pass(5 * time.Second)
		if len(k.sent) != 1 {
			t.Errorf("%s: asked %d times", name, len(k.sent))
		}
		d.born(c.birth)
		k.pass(10 * time.Second)
		d.data(double("bdSeq", 1))
		k.seal()
		if len(k.voids) == 0 || k.through() <= proven {
			t.Errorf("%s: proven through %s, and %s before; voids %+v", name, k.through(), proven, k.voids)
		}
	}
}

// Metrics that are no signals, and devices without any, take memory too.
func TestBudget_MetricsAndDevices(t *testing.T) {
	k := newKit(t, func(c *Config) { c.MaxSignals = 100; c.Ignore = []string{"plant/*/q*"} })
	for n := range 10 {
		d := k.node(fmt.Sprint("n", n))
		var all []payload.Metric
		for i := range 50 {
			all = append(all, double(fmt.Sprint("q", i), 1))
		}
		d.born(all...)
		d.data(all[49])
	}
	k.pass(5 * time.Second)
	k.seal()
	if n := k.h.used.metrics; n > 300 {
		t.Errorf("%d metrics are known of at most 300", n)
	}
	if len(k.noted("more metrics than there is room for")) == 0 || len(k.sent) != 0 {
		t.Errorf("asked %d times; voids %+v", len(k.sent), k.voids)
	}
	for n := range 10 { // what goes gives its room back
		k.node(fmt.Sprint("n", n)).born()
	}
	if n := k.h.used.metrics; n != 20 {
		t.Errorf("%d metrics are known of 10 nodes with two each", n)
	}
}

// A metric that is born with another type: what was said before keeps its own.
func TestBirth_AnotherTypeInOneWindow(t *testing.T) {
	k := newKit(t, nil)
	d := k.node("n")
	d.born(long("x", 1))
	d.data(long("x", 2))
	k.pass(time.Second)
	d.born(double("x", 2.5), double("y", 1))
	types := map[mesh.Type]int{}
	o, err := k.h.seal()
	if err != nil {
		t.Fatal(err)
	}
	rows := map[mesh.Hash]map[uint32]mesh.Signal{}
	for _, desc := range o.Descriptors {
		table, err := wire.Signals(desc)
		if err != nil {
			t.Fatal(err)
		}
		rows[desc.Hash()] = map[uint32]mesh.Signal{}
		for _, s := range table {
			rows[desc.Hash()][s.ID] = s
		}
	}
	dec, err := wire.NewDecoder()
	if err != nil {
		t.Fatal(err)
	}
	for _, sealed := range o.Sealed {
		if h, err := wire.ParseHeader(sealed); err != nil || h.Kind != mesh.KindBatch {
			continue
		}
		b, err := dec.Batch(sealed)
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range b.Samples {
			row, ok := rows[b.Table][s.Signal]
			if s.Value.Type == mesh.TypeNone {
				continue
			}
			if !ok || row.Type != s.Value.Type {
				t.Errorf("a value of type %v stands in a table that says %+v", s.Value.Type, row)
			}
			types[s.Value.Type]++
		}
	}
	if types[mesh.TypeInt] != 2 || types[mesh.TypeDouble] != 2 {
		t.Errorf("samples %v", types)
	}
}

// Where our clock went back nobody knows how long a break was: 256 messages fit into it.
func TestBridge_OurClockWentBack(t *testing.T) {
	k := newKit(t, nil)
	d := k.node("n")
	d.born(double("x", 0))
	d.runs(300, func(i int) payload.Metric { return double("x", float64(i)) })
	k.seal()
	k.now.plant = k.now.plant.Add(-time.Hour)
	for range 256 {
		d.loses()
	}
	k.restart(5 * time.Minute)
	d.data(double("x", 1000))
	k.seal()
	if len(k.voids) == 0 {
		t.Error("256 messages are lost, and nobody says so")
	}
}

// Whatever is made up, what is counted as used is what there is.
func TestBudget_IsKept(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	k := newKit(t, func(c *Config) { c.MaxNodes = 5; c.MaxSignals = 60 })
	for range 2000 {
		d := k.node(fmt.Sprint("n", rng.IntN(12)))
		d.bd = uint64(rng.IntN(3))
		d.seq = uint64(rng.IntN(4))
		var all []payload.Metric
		for i := range rng.IntN(20) {
			all = append(all, long(fmt.Sprint("m", i), 1))
		}
		switch rng.IntN(6) {
		case 0:
			d.born(all...)
		case 1:
			d.dies(d.bd)
		case 2:
			d.dborn(fmt.Sprint("d", rng.IntN(3)), all...)
		case 3:
			d.ddies(fmt.Sprint("d", rng.IntN(3)))
		case 4:
			d.data(all...)
		case 5:
			k.seal()
		}
		k.pass(100 * time.Millisecond)
	}
	k.seal()
	want := budget{}
	for _, n := range k.h.nodes {
		for u := range n.units {
			want.metrics, want.names = want.metrics+u.metricsAll, want.names+u.names
			if u.device != "" {
				want.units++
			}
		}
	}
	if k.h.used != want {
		t.Errorf("counted %+v, there are %+v", k.h.used, want)
	}
	k.restart(time.Second)
	k.seal()
}

// A node that calls its metrics otherwise at each birth does not fill the table up.
func TestBirth_NamesThatChangeEachTime(t *testing.T) {
	k := newKit(t, func(c *Config) { c.MaxSignals = 20 })
	d := k.node("n")
	for i := range 100 {
		d.born(double("x", 1), double(fmt.Sprint("order-", i), 1))
		k.pass(time.Second)
	}
	k.seal()
	if got := k.of("plant.n.order-99"); len(got) != 1 || len(k.of("plant.n.order-7")) != 3 {
		t.Errorf("the last order: %v, the seventh %v; voids %+v", got, k.of("plant.n.order-7"), k.voids)
	}
}

// A restart while a node says what it kept: it goes on, and nothing is lost.
func TestKeeper_ARestartWhileItTells(t *testing.T) {
	k, d := keeper(t)
	last := k.now.plant
	k.cut(20 * time.Second)
	d.bd++
	tells(k, d, last.Add(time.Second), last.Add(2*time.Second))
	k.restart(time.Second)
	m := alone(aliased(1, double("", 1002)))
	m.Timestamp, m.Historical = uint64(last.Add(3*time.Second)/1e6), true
	d.data(m)
	d.runs(300, func(i int) payload.Metric { return alone(aliased(1, double("", 600+float64(i)))) })
	k.seal()
	if len(k.noted("did not say")) != 0 || k.bad("plant.n.x") != 0 || k.through() < k.now.plant.Add(-time.Minute) {
		t.Errorf("proven through %s; voids %+v", k.through(), k.voids)
	}
}
