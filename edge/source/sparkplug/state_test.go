package sparkplug

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"plantmesh/edge/source/sparkplug/payload"
	"plantmesh/proto/mesh"
)

// A restart with 50 nodes that live and speak by alias: nobody is asked for anything,
// and every metric has its name.
func TestRestart_AsksNobody(t *testing.T) {
	k := newKit(t, nil)
	var all []*device
	for i := range 50 {
		d := k.node(fmt.Sprintf("n%02d", i))
		d.born(aliased(1, double("x", 0)), aliased(2, payload.Metric{Name: []byte("t"), Type: payload.TemplateType, Value: payload.Value{Kind: payload.InTemplate}, Template: &payload.Template{
			Metrics: []payload.Metric{long("m", 1)},
		}}))
		d.dborn("dev", aliased(3, double("y", 0)), aliased(4, payload.Metric{Name: []byte("set"), Type: payload.DataSetType, Value: payload.Value{Kind: payload.InDataSet}, DataSet: &payload.DataSet{
			Columns: [][]byte{[]byte("c")}, Types: []payload.Type{payload.Int8},
		}}))
		all = append(all, d)
	}
	speak := func(v float64) {
		k.pass(time.Second)
		for _, d := range all {
			d.data(alone(aliased(1, double("", v))), payload.Metric{HasAlias: true, Alias: 2, Value: payload.Value{Kind: payload.InTemplate}, Template: &payload.Template{
				Metrics: []payload.Metric{{Name: []byte("m"), Value: payload.Value{Kind: payload.InLong, Bits: uint64(v)}}},
			}})
			d.ddata("dev", alone(aliased(3, double("", v))), payload.Metric{HasAlias: true, Alias: 4, Value: payload.Value{Kind: payload.InDataSet}, DataSet: &payload.DataSet{
				Columns: [][]byte{[]byte("c")}, Types: []payload.Type{payload.Int8},
			}})
		}
	}
	for i := range 20 {
		speak(float64(i))
	}
	k.seal()
	if len(k.kept) != 100 {
		t.Errorf("%d parts of the state are kept, want one for each node and device", len(k.kept))
	}
	before, ids := len(k.samples), map[string]uint32{}
	for _, s := range k.samples {
		ids[s.name] = s.Signal
	}
	through := k.through()
	k.restart(4 * time.Second)
	speak(100)
	speak(101)
	k.seal()
	if len(k.sent) != 0 || len(k.voids) != 0 || k.h.counters.unnamed != 0 {
		t.Errorf("asked %d times, voids %+v, %d without a name", len(k.sent), k.voids, k.h.counters.unnamed)
	}
	if got := len(k.samples) - before; got != 2*50*4 {
		t.Errorf("%d samples after the restart, want %d", got, 2*50*4)
	}
	for _, s := range k.samples {
		if ids[s.name] != s.Signal {
			t.Errorf("signal %s had id %d and has %d", s.name, ids[s.name], s.Signal)
		}
	}
	if p := k.proven[len(k.proven)-1]; p.From > through || k.through() != k.now.plant.Add(-5*time.Second) {
		t.Errorf("the proof was broken: %v", k.proven)
	}
	if len(k.state) > 50*40+400 {
		t.Errorf("the state of each commit has %d bytes", len(k.state))
	}
}

// What did not change is not written again.
func TestKept_OnlyWhatChanged(t *testing.T) {
	k := newKit(t, nil)
	d := k.node("n")
	d.born(double("x", 1))
	d.dborn("dev", double("y", 1))
	k.seal()
	was := len(k.kept)
	k.kept = map[string][]byte{}
	k.pass(time.Second)
	d.born(double("x", 2))
	d.dborn("dev", double("y", 2))
	k.seal()
	if was != 2 || len(k.kept) != 0 {
		t.Errorf("%d kept at first, %d again", was, len(k.kept))
	}
	d.born(aliased(1, double("x", 2)))
	d.dborn("dev", double("y", 2))
	k.seal()
	if len(k.kept) != 1 || k.kept["n/plant/n"] == nil {
		t.Errorf("kept %v", k.kept)
	}
}

func TestRestart_AfterDeaths(t *testing.T) {
	k := newKit(t, nil)
	d, gone := k.node("n"), k.node("gone")
	d.born(double("x", 1))
	d.dborn("dev", aliased(1, double("y", 1)))
	gone.born(double("x", 1))
	d.runs(30, func(i int) payload.Metric { return double("x", float64(i)) })
	d.ddies("dev")
	gone.dies(1)
	k.seal()
	k.restart(2 * time.Second)
	d.runs(30, func(i int) payload.Metric { return double("x", float64(i)) })
	k.seal()
	if to, want := k.through(), k.now.plant.Add(-5*time.Second); to != want || len(k.voids) != 0 {
		t.Errorf("proven through %s, want %s; voids %+v", to, want, k.voids)
	}
	d.ddata("dev", alone(aliased(1, double("", 2)))) // of the dead
	k.pass(time.Second)
	if len(k.sent) != 1 {
		t.Errorf("asked %d times for a device that is dead and speaks", len(k.sent))
	}
	gone.dies(1)
	gone.bd = 2
	gone.born(double("x", 2))
	k.seal()
	k.want(k.last("plant.gone.x"), k.now.plant, mesh.StatusGood, mesh.Double(2))
}

// The agent's disk lost records: the nodes went on since the state that is left.
func TestRestart_Doubted(t *testing.T) {
	k := newKit(t, nil)
	d := k.node("n")
	d.born(aliased(1, double("x", 1)))
	d.runs(60, func(i int) payload.Metric { return alone(aliased(1, double("", float64(i)))) })
	last := k.now.plant
	k.seal()
	k.restart(time.Second)
	k.h.doubted()
	d.runs(1, func(int) payload.Metric { return alone(aliased(1, double("", 1))) })
	k.pass(2 * time.Second)
	k.seal()
	k.want(k.last("plant.n.x"), last+1, mesh.StatusBadNoCommunication, mesh.Value{})
	if len(k.sent) != 1 {
		t.Errorf("asked %d times", len(k.sent))
	}
}

// With other names, or other nodes, the proof so far says nothing: what lies between is
// void, and what is not read any more is not kept.
func TestRestart_WithAnotherConfiguration(t *testing.T) {
	k := newKit(t, nil)
	d, other := k.node("n"), k.node("other")
	d.born(double("x", 1))
	other.born(double("x", 1))
	for i := range 30 {
		other.data(double("x", 1))
		d.runs(1, func(int) payload.Metric { return double("x", float64(i)) })
	}
	k.seal()
	proven := k.through()
	k.cfg = testConfig(t, func(c *Config) { c.Name, c.Nodes = "p.{node}.{metric}", []string{"plant/n"} })
	k.restart(time.Second)
	d.runs(30, func(i int) payload.Metric { return double("x", float64(i)) })
	k.seal()
	v := k.noted("the configuration names signals otherwise")
	if len(v) != 1 || v[0].Parts[0].Times.From != proven || v[0].Parts[0].Times.Empty() {
		t.Errorf("voids %+v", k.voids)
	}
	k.want(k.last("p.n.x"), k.now.plant, mesh.StatusGood, mesh.Double(29))
	if _, still := k.kept["n/plant/other"]; still || k.kept["n/plant/n"] == nil {
		t.Errorf("kept %d parts", len(k.kept))
	}
	if to, want := k.through(), k.now.plant.Add(-5*time.Second); to != want {
		t.Errorf("proven through %s, want %s", to, want)
	}
}

func TestRestart_StateThatIsNone(t *testing.T) {
	k := newKit(t, nil)
	k.node("n").born(double("x", 1))
	k.seal()
	for name, c := range map[string]struct {
		state []byte
		kept  map[string][]byte
	}{
		"no JSON":       {[]byte("x"), nil},
		"nodes cut off": {bytes.Replace(k.state, []byte(`"nodes":"`), []byte(`"nodes":"AQ==","was":"`), 1), k.kept},
	} {
		if _, err := newHost(k.cfg, c.state, c.kept, nil); err == nil || !strings.Contains(err.Error(), "committed state of source") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A window that grows signals has one table, and every sample finds its row there:
// want checks the rest.
func TestSeal_OneTableForAWindow(t *testing.T) {
	k := newKit(t, nil)
	for i := range 20 {
		k.node(fmt.Sprint("n", i)).born(double("x", 1))
		k.h.prove()
	}
	o, err := k.h.seal()
	if err != nil {
		t.Fatal(err)
	}
	if len(o.Descriptors) != 1 {
		t.Errorf("%d tables, want 1", len(o.Descriptors))
	}
}

// What a value's own time was ahead of its message is known after a restart too: a gap
// that is found then lies behind the value.
func TestRestart_AGapLiesBehindTheNewestValue(t *testing.T) {
	k := newKit(t, nil)
	d := k.node("n")
	d.born(double("x", 1))
	d.runs(30, func(i int) payload.Metric { return double("x", float64(i)) })
	ahead := double("x", 99)
	ahead.Timestamp = k.ms() + 500
	d.data(ahead)
	k.seal()
	k.restart(2 * time.Second)
	d.loses()
	d.runs(1, func(int) payload.Metric { return double("x", 100) })
	k.seal()
	got := k.of("plant.n.x")
	k.want(got[len(got)-3], mesh.Nanos(ahead.Timestamp*1e6), mesh.StatusGood, mesh.Double(99))
	k.want(got[len(got)-2], mesh.Nanos(ahead.Timestamp*1e6)+1, mesh.StatusBadNoCommunication, mesh.Value{})
	k.want(got[len(got)-1], k.now.plant, mesh.StatusGood, mesh.Double(100))
}
