package sparkplug

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"plantmesh/edge/source/sparkplug/payload"
	"plantmesh/proto/mesh"
)

// A13: what a topic may hold. Nothing leaves the tokens it is put into, and what no
// level of a topic can be is refused.
func TestAttack_Topics(t *testing.T) {
	k := newKit(t, func(c *Config) { c.Nodes = []string{"*/*"} })
	birth := payload.Append(nil, &payload.Payload{Timestamp: k.ms(), HasSeq: true, Metrics: []payload.Metric{double("../*/>/ /\x00/x.y/😀/\xff", 1)}})
	for _, bad := range []string{
		"", "/", "spBv1.0", "spBv1.0/g/NBIRTH", "spBv1.0//NBIRTH/n", "spBv1.0/g/NBIRTH/", "spBv1.0/g/NBIRTH/+", "spBv1.0/g/NBIRTH/#", "spBv1.0/g/NBIRTH/n/d",
		"spBv1.0/g/DBIRTH/n", "spBv1.0/g/DBIRTH/n/d/e", "spBv1.0/g/nbirth/n", "spBv2.0/g/NBIRTH/n", "spBv1.0/g/STATE/n", "spBv1.0/g\x00/NBIRTH/n",
		"spBv1.0/g/NBIRTH/" + strings.Repeat("x", 64<<10), "spBv1.0/" + strings.Repeat("/", 64<<10), "spBv1.0/g/NBIRTH/" + strings.Repeat("x", maxID+1),
	} {
		k.h.take(message{topic: bad, payload: birth}, k.now)
	}
	if len(k.h.nodes) != 0 || k.h.counters.unreadable != 18 {
		t.Fatalf("%d nodes, %d refused", len(k.h.nodes), k.h.counters.unreadable)
	}
	for _, good := range []string{"..", "*", ">", " ", "a.b", "😀", "%", "\xff\xfe", strings.Repeat("x", maxID)} {
		k.h.take(message{topic: "spBv1.0/" + good + "/NBIRTH/" + good, payload: birth}, k.now)
	}
	k.seal()
	if len(k.names()) != 9 {
		t.Fatalf("signals %q", k.names())
	}
	for _, name := range k.names() {
		if tokens := strings.Split(name, "."); len(tokens) != 10 || slices.Contains(tokens, "") || strings.ContainsAny(name, "*> \x00/") {
			t.Errorf("signal %q", name)
		}
	}
}

// A14: births that are not the node's, data before a birth, aliases nobody knows, jumps
// of the sequence, deaths of the past.
func TestAttack_SpoofedNBIRTH(t *testing.T) {
	k := newKit(t, nil)
	d := k.node("n")
	d.born(aliased(1, double("temperature", 20)), aliased(2, double("pressure", 3)))
	d.dborn("dev", aliased(3, double("level", 5)))
	k.pass(time.Second)
	d.born(aliased(2, double("temperature", 20)), aliased(1, double("pressure", 3))) // swapped
	k.pass(time.Second)
	d.data(alone(aliased(1, double("", 4))), alone(aliased(3, double("", 66))))
	d.ddata("dev", alone(aliased(3, double("", 66)))) // of the map before
	k.pass(3 * time.Second)
	k.seal()
	k.want(k.last("plant.n.pressure"), noon.Add(2*time.Second), mesh.StatusGood, mesh.Double(4))
	for _, s := range k.samples {
		if s.Value.Compare(mesh.Double(66)) == 0 {
			t.Errorf("an alias of the birth before was used: %s", s)
		}
	}
	if len(k.sent) != 1 {
		t.Errorf("asked %d times, want once", len(k.sent))
	}
}

func TestAttack_ReplayedDeathAndData(t *testing.T) {
	k := newKit(t, nil)
	d := k.node("n")
	d.born(double("x", 1))
	old := d.message(double("x", 2))
	k.say("plant/NDATA/n", old)
	d.bd = 2
	k.pass(time.Minute)
	d.born(double("x", 3))
	for range 1000 {
		d.dies(1)
	}
	k.say("plant/NDATA/n", old) // in sequence by chance: its time stands where it stood
	k.seal()
	if n := k.h.nodes["plant/n"]; n.phase != live || k.h.counters.deaths != 1000 {
		t.Errorf("phase %d, deaths %d", n.phase, k.h.counters.deaths)
	}
	k.want(k.last("plant.n.x"), k.now.plant, mesh.StatusGood, mesh.Double(3))
}

func TestAttack_JumpsOfTheSequence(t *testing.T) {
	k := newKit(t, nil)
	d := k.node("n")
	d.born(double("x", 1))
	for i := range 5000 {
		k.pass(10 * time.Millisecond)
		k.say("plant/NDATA/n", payload.Payload{Timestamp: k.ms(), Seq: uint64(i*97) % 1000, HasSeq: true, Metrics: []payload.Metric{double("x", float64(i))}})
	}
	k.seal()
	if n := k.h.nodes["plant/n"]; len(n.held) > maxHeld || len(k.sent) > 6 {
		t.Errorf("held %d, asked %d times in 50 s", len(n.held), len(k.sent))
	}
	if len(k.voids) > maxGaps+maxReasons {
		t.Errorf("%d voids", len(k.voids))
	}
	if p := (payload.Payload{Metrics: []payload.Metric{double("x", 1)}}); true { // no sequence number at all
		k.say("plant/NDATA/n", p)
		k.seal()
		if len(k.noted(errSeq.Error())) == 0 {
			t.Errorf("voids %+v", k.voids)
		}
	}
}

// A15: 500 nodes gap at once. No second sees more requests than the budget, each node is
// asked once, and all recover.
func TestAttack_StormOfGaps(t *testing.T) {
	k := newKit(t, nil)
	var all []*device
	for i := range 500 {
		d := k.node(fmt.Sprint("n", i))
		d.born(aliased(1, double("x", 0)))
		all = append(all, d)
	}
	k.pass(time.Second)
	for _, d := range all {
		d.loses()
		d.data(alone(aliased(1, double("", 1))))
	}
	perSecond := map[int64]int{}
	asked := map[string]int{}
	var times []time.Time
	for range 1200 { // two minutes
		was := len(k.sent)
		k.pass(100 * time.Millisecond)
		for _, c := range k.sent[was:] {
			perSecond[k.now.machine.Unix()]++
			times = append(times, k.now.machine)
			asked[c.topic]++
			for _, d := range all { // it answers
				if c.topic == "spBv1.0/plant/NCMD/"+d.name {
					d.born(aliased(1, double("x", 2)))
				}
			}
		}
	}
	for i := range times {
		if i >= 10 && times[i].Sub(times[i-10]) < time.Second {
			t.Fatalf("request %d came %s after the tenth before it", i, times[i].Sub(times[i-10]))
		}
	}
	if len(asked) != 500 || len(k.sent) != 500 {
		t.Errorf("%d nodes were asked, with %d requests", len(asked), len(k.sent))
	}
	if took := times[len(times)-1].Sub(times[0]); took > time.Minute {
		t.Errorf("it took %s", took)
	}
	k.seal()
	for _, d := range all {
		if got := k.last("plant." + d.name + ".x"); got.Value.Compare(mesh.Double(2)) != 0 {
			t.Errorf("%s", got)
		}
	}
	if len(k.voids) != maxGaps || !strings.Contains(k.voids[maxGaps-1].Note, "437 nodes") {
		t.Errorf("%d voids, the last %q", len(k.voids), k.voids[len(k.voids)-1].Note)
	}
	count := uint64(0)
	for _, v := range k.voids {
		for _, p := range v.Parts {
			count += p.Count
		}
	}
	if count != 500 {
		t.Errorf("%d missing messages are said, want 500", count)
	}
}

// One node that never answers is asked less and less.
func TestAttack_NodeThatNeverAnswers(t *testing.T) {
	k := newKit(t, nil)
	k.node("n").data(alone(aliased(1, double("", 1))))
	var times []time.Time
	for range 3600 {
		was := len(k.sent)
		k.pass(time.Second)
		for range k.sent[was:] {
			times = append(times, k.now.machine)
		}
	}
	for i := 1; i < len(times); i++ {
		least := min(10*time.Second<<(i-1), 5*time.Minute)
		if got := times[i].Sub(times[i-1]); got < least || got > least+3*time.Second {
			t.Errorf("request %d came after %s, want about %s", i, got, least)
		}
	}
	if len(times) < 14 || len(times) > 17 {
		t.Errorf("asked %d times in an hour", len(times))
	}
}

// A16: retained data is of the past, whoever put it there.
func TestAttack_RetainedPoison(t *testing.T) {
	k := newKit(t, nil)
	d := k.node("n")
	d.born(double("x", 1))
	for _, kind := range []string{"NBIRTH", "NDATA", "NDEATH"} {
		for range 1000 {
			k.h.take(message{topic: "spBv1.0/plant/" + kind + "/n", retained: true, payload: payload.Append(nil, &payload.Payload{Seq: 1, HasSeq: true, Metrics: []payload.Metric{
				{Name: []byte("bdSeq"), Type: payload.Int64, Value: payload.Value{Kind: payload.InLong, Bits: 1}}, double("x", 66),
			}})}, k.now)
		}
	}
	d.data(double("x", 2))
	k.seal()
	if len(k.samples) != 2 || k.h.counters.retained != 3000 || len(k.sent) != 0 {
		t.Errorf("samples %v, %d retained", k.samples, k.h.counters.retained)
	}
}

// A17: payloads made to break a decoder. The sequence shows what was in them as missing.
func TestAttack_Payloads(t *testing.T) {
	k := newKit(t, nil)
	d := k.node("n")
	d.born(double("x", 1))
	deep := []byte{}
	for range 10_000 {
		deep = append(binary.AppendUvarint([]byte{18}, uint64(len(deep)+5)), append(binary.AppendUvarint([]byte{0x92, 1}, uint64(len(deep))), deep...)...)
		if len(deep) > 900<<10 {
			break
		}
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for _, bad := range [][]byte{
		bytes.Repeat([]byte{18, 0}, 500_000), deep, {8}, {18, 5}, {0xff}, bytes.Repeat([]byte{0xff}, 1000), bytes.Repeat([]byte{11}, 1000), make([]byte, 2<<20),
	} {
		k.h.take(message{topic: "spBv1.0/plant/NDATA/n", payload: bad}, k.now)
	}
	k.h.take(message{topic: "spBv1.0/plant/NBIRTH/n", payload: []byte{18}, tooLarge: true}, k.now)
	runtime.ReadMemStats(&after)
	if n := after.TotalAlloc - before.TotalAlloc; n > 64<<20 {
		t.Errorf("%d bytes were taken for them", n)
	}
	k.pass(time.Second)
	d.loses()
	d.data(double("x", 2))
	k.pass(6 * time.Second)
	k.seal()
	if k.h.counters.unreadable < 9 || len(k.noted("1 of its messages")) != 1 || len(k.sent) != 1 {
		t.Errorf("refused %d, voids %+v, asked %d", k.h.counters.unreadable, k.voids, len(k.sent))
	}
	k.want(k.last("plant.n.x"), k.now.plant.Add(-6*time.Second), mesh.StatusGood, mesh.Double(2))
}

// Numbers at the edge of what they can be.
func TestAttack_Numbers(t *testing.T) {
	k := newKit(t, nil)
	d := k.node("n")
	d.born(double("x", 1))
	for i, v := range []float64{math.NaN(), math.Inf(1), math.Inf(-1), math.Copysign(0, -1), math.MaxFloat64} {
		k.pass(time.Second)
		d.data(double("x", v))
		k.seal()
		if got := k.last("plant.n.x"); got.Value.Bits != math.Float64bits(v) || got.Status != mesh.StatusGood {
			t.Errorf("case %d: %s", i, got)
		}
	}
}

// What names nothing makes nothing: nodes, devices, signals and what is held are bounded.
func TestAttack_Floods(t *testing.T) {
	k := newKit(t, func(c *Config) { c.MaxNodes, c.MaxSignals, c.Nodes = 100, 2000, []string{"plant/*"} })
	big := payload.Metric{HasAlias: true, Value: payload.Value{Kind: payload.InBytes, Bytes: make([]byte, 100<<10)}}
	for i := range 300 {
		d := k.node(fmt.Sprint("n", i))
		for range 3 { // before any birth
			d.data(big)
		}
	}
	if len(k.h.nodes) != 100 || k.h.held > maxAllHeld {
		t.Errorf("%d nodes, %d bytes held", len(k.h.nodes), k.h.held)
	}
	d := k.node("n0")
	d.born()
	for i := range maxDevices + 10 {
		d.dborn(fmt.Sprint("d", i), double("a", 1), double("b", 1), double("c", 1))
	}
	k.seal()
	if len(k.names()) != 2000 || len(k.h.nodes["plant/n0"].devices) != maxDevices {
		t.Errorf("%d signals, %d devices", len(k.names()), len(k.h.nodes["plant/n0"].devices))
	}
	for _, want := range []error{errNodes, errDevices, errTooMany, errDropped} {
		if len(k.noted(want.Error())) != 1 {
			t.Errorf("%v is not said", want)
		}
	}
	if len(k.voids) > maxReasons {
		t.Errorf("%d voids", len(k.voids))
	}
}

// Names of a table that would not fit into a message.
func TestAttack_LongNames(t *testing.T) {
	k := newKit(t, nil)
	d := k.node("n")
	wide := payload.Metric{Name: []byte("set"), Type: payload.DataSetType, Value: payload.Value{Kind: payload.InDataSet}, DataSet: &payload.DataSet{}}
	for range maxColumns + 1 {
		wide.DataSet.Columns, wide.DataSet.Types = append(wide.DataSet.Columns, []byte("c")), append(wide.DataSet.Types, payload.Int8)
	}
	d.born(double(strings.Repeat("ü", 600), 1), wide, double("x", 1))
	for i := range 60 {
		var all []payload.Metric
		for n := range 150 {
			all = append(all, double(fmt.Sprint(i, n)+strings.Repeat("y", 900), 1))
		}
		d.dborn(fmt.Sprint("d", i), all...)
	}
	k.seal()
	for _, want := range []error{errNameLong, errWide, errTableFull} {
		if len(k.noted(want.Error())) != 1 {
			t.Errorf("%v is not said in %d voids", want, len(k.voids))
		}
	}
	k.want(k.last("plant.n.x"), noon, mesh.StatusGood, mesh.Double(1))
}
