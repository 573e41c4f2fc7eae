package sparkplug

import (
	"slices"
	"strings"
	"testing"
	"time"

	"plantmesh/edge/source/sparkplug/payload"
	"plantmesh/proto/mesh"
	"plantmesh/proto/wire"
)

func TestBirth_NamesSignals(t *testing.T) {
	k := newKit(t, func(c *Config) {
		c.Ignore = []string{"plant/*/Diagnostics/*"}
		c.Signals = []SignalConfig{{Metric: "plant/filler/Speed", Name: "line3.filler.speed", Unit: "H98", Type: "double", MaxSilence: 60e9}}
	})
	d := k.node("filler")
	d.born(double("Speed", 1), long("Counters/Good parts", 7), double("Diagnostics/cpu", 3), payload.Metric{Name: []byte("Order"), Type: payload.String, Null: true})
	d.dborn("scale.1", double("Weight", 2.5))
	k.seal()
	want := []string{"line3.filler.speed", "plant.filler.Counters.Good%20parts", "plant.filler.Order", "plant.filler.scale%2E1.Weight"}
	if got := slices.Sorted(slices.Values(k.names())); !slices.Equal(got, want) {
		t.Fatalf("signals %v, want %v", got, want)
	}
	k.want(k.last("line3.filler.speed"), noon, mesh.StatusGood, mesh.Double(1))
	k.want(k.last("plant.filler.Counters.Good%20parts"), noon, mesh.StatusGood, mesh.Int(7))
	k.want(k.last("plant.filler.Order"), noon, mesh.StatusBadNoData, mesh.Value{})
	k.want(k.last("plant.filler.scale%2E1.Weight"), noon, mesh.StatusGood, mesh.Double(2.5))
	for _, s := range k.samples {
		if s.Flags != mesh.FlagInitial || s.Source != noon || s.Agent != noon {
			t.Errorf("%s: of a birth, with the sender's time", s)
		}
	}
	for _, rows := range k.rows {
		for _, r := range rows {
			if r.Name == "line3.filler.speed" && (r.Unit != "H98" || r.MaxSilence != 60e9 || r.Type != mesh.TypeDouble) {
				t.Errorf("the row is %+v", r)
			}
		}
	}
	if len(k.voids) > 0 {
		t.Errorf("voids %+v", k.voids)
	}
}

func TestData_ByNameAndByAlias(t *testing.T) {
	k := newKit(t, nil)
	d := k.node("filler")
	d.born(aliased(0, double("a", 1)), aliased(1<<64-1, long("b", 1)))
	d.dborn("dev", aliased(7, double("a", 1)))
	k.pass(time.Second)
	d.data(alone(aliased(0, double("", 2))), alone(aliased(1<<64-1, long("", -2))))
	d.ddata("dev", alone(aliased(7, double("", 3))), long("new", 1))
	d.data(alone(aliased(7, double("", 4)))) // the device's, not the node's
	k.pass(time.Second)
	k.seal()
	at := noon.Add(time.Second)
	k.want(k.last("plant.filler.a"), at, mesh.StatusGood, mesh.Double(2))
	k.want(k.last("plant.filler.b"), at, mesh.StatusGood, mesh.Int(-2))
	k.want(k.last("plant.filler.dev.a"), at, mesh.StatusGood, mesh.Double(3))
	if v := k.noted(errUnnamed.Error()); len(v) != 1 || v[0].Cause != mesh.CauseUnreadable || v[0].Parts[0].Count != 2 {
		t.Errorf("what the births do not name: %+v", k.voids)
	}
	if len(k.sent) != 1 || k.sent[0].topic != "spBv1.0/plant/NCMD/filler" {
		t.Errorf("asked %v", k.sent)
	}
}

// An alias that two metrics have names none of them.
func TestData_AnAliasOfTwo(t *testing.T) {
	k := newKit(t, nil)
	d := k.node("filler")
	d.born(aliased(1, double("a", 1)), aliased(1, double("b", 1)), double("a", 5), double("", 6))
	k.pass(time.Second)
	d.data(alone(aliased(1, double("", 2))))
	k.seal()
	k.want(k.last("plant.filler.a"), noon, mesh.StatusGood, mesh.Double(1))
	k.want(k.last("plant.filler.b"), noon, mesh.StatusGood, mesh.Double(1))
	for _, want := range []error{errUnnamed, errTwice, errNoName} {
		if len(k.noted(want.Error())) != 1 {
			t.Errorf("%v: said %d times in %+v", want, len(k.noted(want.Error())), k.voids)
		}
	}
}

func TestData_Status(t *testing.T) {
	k := newKit(t, nil)
	d := k.node("n")
	d.born(double("x", 1), payload.Metric{Name: []byte("i8"), Type: payload.Int8, Value: payload.Value{Kind: payload.InInt, Bits: 1}}, payload.Metric{Name: []byte("s"), Type: payload.String, Value: payload.Value{Kind: payload.InString}})
	wrong := long("x", 1)
	wrong.Type = payload.Unknown
	typed := double("i8", 1)
	null := double("x", 1)
	null.Null = true
	for i, c := range []struct {
		signal string
		m      payload.Metric
		status mesh.Status
		v      mesh.Value
	}{
		{"x", qualified(double("x", 2), 192), mesh.StatusGood, mesh.Double(2)},
		{"x", qualified(double("x", 3), 0), mesh.StatusBad, mesh.Double(3)},
		{"x", qualified(double("x", 4), 500), mesh.StatusUncertainLast, mesh.Double(4)},
		{"x", qualified(double("x", 5), 17), mesh.StatusUncertain, mesh.Double(5)},
		{"x", null, mesh.StatusBadNoData, mesh.Value{}},
		{"x", wrong, mesh.StatusBadTypeMismatch, mesh.Value{}},
		{"i8", typed, mesh.StatusBadTypeMismatch, mesh.Value{}},
		{"i8", payload.Metric{Name: []byte("i8"), Value: payload.Value{Kind: payload.InInt, Bits: 255}}, mesh.StatusGood, mesh.Int(-1)},
		{"i8", payload.Metric{Name: []byte("i8"), Value: payload.Value{Kind: payload.InInt, Bits: 300}}, mesh.StatusBadOutOfRange, mesh.Value{}},
		{"s", payload.Metric{Name: []byte("s"), Value: payload.Value{Kind: payload.InString, Bytes: []byte("\xff")}}, mesh.StatusBadDecodingError, mesh.Value{}},
		{"s", payload.Metric{Name: []byte("s"), Value: payload.Value{Kind: payload.InString, Bytes: make([]byte, 70_000)}}, mesh.StatusBadEncodingLimitsExceeded, mesh.Value{}},
	} {
		k.pass(time.Second)
		d.data(c.m)
		k.seal()
		k.want(k.last("plant.n."+c.signal), k.now.plant, c.status, c.v)
		if void := len(k.voids) > 0; void != (c.status == mesh.StatusBadTypeMismatch || c.status == mesh.StatusBadOutOfRange || c.status == mesh.StatusBadDecodingError || c.status == mesh.StatusBadEncodingLimitsExceeded) {
			t.Errorf("case %d: voids %+v", i, k.voids)
		}
		k.voids = nil
	}
}

func TestData_Times(t *testing.T) {
	k := newKit(t, nil)
	d := k.node("n")
	d.born(double("x", 0))
	at := func(ms uint64, m payload.Metric) payload.Metric {
		m.Timestamp = ms
		return m
	}
	k.pass(10 * time.Second)
	k.seal()
	now := k.ms()
	old := at(now-3_600_000, double("x", 2))
	old.Historical = true
	transient := double("x", 9)
	transient.Transient = true
	for i, c := range []struct {
		m     payload.Metric
		stamp uint64 // of the payload
		time  uint64
		flags uint32
	}{
		{at(now-5, double("x", 1)), now, now - 5, 0},
		{double("x", 1), now - 7, now - 7, 0},
		{double("x", 1), 0, now, mesh.FlagAgentTime},
		{double("x", 1), 1, now, mesh.FlagAgentTime}, // 1970
		{at(1, double("x", 1)), now - 7, now - 7, mesh.FlagSuspect},
		{at(1<<63, double("x", 1)), now - 7, now - 7, mesh.FlagSuspect},
		{at(now+300_000, double("x", 1)), now, now + 300_000, mesh.FlagSuspect},
		{double("x", 1), now + 300_000, now + 300_000, mesh.FlagSuspect},
		{old, now, now - 3_600_000, mesh.FlagHistorical},
	} {
		p := d.message(c.m, transient)
		p.Timestamp = c.stamp
		k.samples = nil
		k.say("plant/NDATA/n", p)
		k.seal()
		if len(k.samples) != 1 || k.samples[0].Time != mesh.Nanos(c.time*1e6) || k.samples[0].Flags != c.flags {
			t.Errorf("case %d: got %v, want time %d flags %x", i, k.samples, c.time, c.flags)
		}
	}
	if k.h.counters.transient != 9 {
		t.Errorf("%d transient values counted", k.h.counters.transient)
	}
	if to := k.through(); to > k.now.plant {
		t.Errorf("a suspect stamp proved through %s", to)
	}
}

func TestData_ArraysAndDataSets(t *testing.T) {
	k := newKit(t, nil)
	d := k.node("n")
	array := payload.Metric{Name: []byte("arr"), Type: payload.Int16Array, Value: payload.Value{Kind: payload.InBytes, Bytes: []byte{0xff, 0xff, 2, 0}}}
	set := payload.Metric{Name: []byte("set"), Type: payload.DataSetType, Value: payload.Value{Kind: payload.InDataSet}, DataSet: &payload.DataSet{
		Width: 2, Columns: [][]byte{[]byte("n"), []byte("\xff")}, Types: []payload.Type{payload.Int8, payload.String},
		Rows: []payload.Row{{Cells: []payload.Value{{Kind: payload.InInt, Bits: 255}, {Kind: payload.InString, Bytes: []byte("a")}}}, {Cells: []payload.Value{{}, {Kind: payload.InString}}}},
	}}
	d.born(array, set)
	k.pass(time.Second)
	other := set
	other.DataSet = &payload.DataSet{Columns: [][]byte{[]byte("n")}, Types: []payload.Type{payload.Int8}}
	d.data(payload.Metric{Name: []byte("arr"), Value: payload.Value{Kind: payload.InBytes, Bytes: []byte{1}}}, other)
	k.seal()
	item := func(name string) mesh.Item {
		first := k.of(name)[0]
		i, err := wire.ParseItem(first.Value.Bytes)
		if err != nil || first.Status != mesh.StatusGood {
			t.Fatalf("%s: %v %s", name, err, first)
		}
		return i
	}
	if i := item("plant.n.arr"); i.Of != mesh.TypeInt || len(i.Items) != 2 || i.Items[0].Value.Compare(mesh.Int(-1)) != 0 || i.Items[1].Value.Compare(mesh.Int(2)) != 0 {
		t.Errorf("array %+v", i)
	}
	rows := item("plant.n.set")
	if rows.Of != mesh.TypeStruct || len(rows.Items) != 2 || rows.Items[0].Items[0].Value.Compare(mesh.Int(-1)) != 0 || rows.Items[0].Items[1].Value.Compare(mesh.Text("a")) != 0 ||
		rows.Items[1].Items[0].Value.Type != mesh.TypeNone || rows.Items[1].Items[1].Value.Compare(mesh.Text("")) != 0 {
		t.Errorf("data set %+v", rows)
	}
	k.want(k.last("plant.n.arr"), k.now.plant, mesh.StatusBadDecodingError, mesh.Value{})
	k.want(k.last("plant.n.set"), k.now.plant, mesh.StatusBadTypeMismatch, mesh.Value{})
	for _, r := range k.rows {
		for _, row := range r {
			switch row.Name {
			case "plant.n.arr":
				if row.Type != mesh.TypeArray || len(row.Fields) != 1 || row.Fields[0].Type != mesh.TypeInt {
					t.Errorf("row %+v", row)
				}
			case "plant.n.set":
				if row.Type != mesh.TypeArray || len(row.Fields) != 1 || len(row.Fields[0].Fields) != 2 || row.Fields[0].Fields[0].Name != "n" || row.Fields[0].Fields[1].Type != mesh.TypeString {
					t.Errorf("row %+v", row)
				}
			}
		}
	}
}

func TestData_TemplatesAreFlattened(t *testing.T) {
	k := newKit(t, nil)
	d := k.node("n")
	template := func(definition bool, members ...payload.Metric) payload.Metric {
		return payload.Metric{Name: []byte("Pump"), Type: payload.TemplateType, Value: payload.Value{Kind: payload.InTemplate}, Template: &payload.Template{Definition: definition, Ref: []byte("T"), Metrics: members}}
	}
	definition := template(true, double("Flow", 0))
	definition.Name = []byte("_types_/T")
	full := template(false, double("Flow", 1), template(false, long("Hours/total", 5)))
	full.Template.Parameters = []payload.Parameter{{Name: []byte("Model"), Type: payload.String, Value: payload.Value{Kind: payload.InString, Bytes: []byte("X1")}}}
	d.born(definition, full)
	k.pass(time.Second)
	part := qualified(template(false, double("Flow", 2)), 500) // what is not in it has not changed
	part.Timestamp = k.ms() - 1
	d.data(part)
	k.pass(time.Second)
	null := payload.Metric{Name: []byte("Pump"), Null: true}
	d.data(null, payload.Metric{Name: []byte("_types_/T"), Null: true})
	d.data(template(false, double("Unknown", 1)))
	k.seal()
	flow, hours := k.of("plant.n.Pump.Flow"), k.of("plant.n.Pump.Pump.Hours.total")
	if len(flow) != 3 || len(hours) != 2 || len(k.names()) != 3 {
		t.Fatalf("samples %v", k.samples)
	}
	k.want(flow[0], noon, mesh.StatusGood, mesh.Double(1))
	k.want(flow[1], noon.Add(time.Second-time.Millisecond), mesh.StatusUncertainLast, mesh.Double(2))
	k.want(flow[2], noon.Add(2*time.Second), mesh.StatusBadNoData, mesh.Value{})
	k.want(hours[0], noon, mesh.StatusGood, mesh.Int(5))
	k.want(k.of("plant.n.Pump.Model")[0], noon, mesh.StatusGood, mesh.Text("X1"))
	if v := k.noted(errUnnamed.Error()); len(v) != 1 || !strings.Contains(v[0].Note, "Pump/Unknown") {
		t.Errorf("voids %+v", k.voids)
	}
}

// Two metrics whose names come out the same: the first one keeps it.
func TestBirth_NamesThatCollide(t *testing.T) {
	k := newKit(t, func(c *Config) { c.Name = "{node}.{metric}"; c.MaxSignals = 3 })
	d := k.node("n")
	d.born(double("dev", 1), double("odd", 1), payload.Metric{Name: []byte("what"), Type: 99})
	d.dborn("x", double("dev", 2))
	d.dborn("y", double("more", 2), double("toomany", 3))
	k.pass(time.Second)
	d.ddata("x", double("dev", 4))
	k.seal()
	k.want(k.last("n.dev"), noon, mesh.StatusGood, mesh.Double(1))
	if len(k.of("n.dev")) != 1 {
		t.Errorf("samples %v", k.samples)
	}
	for _, want := range []error{errNameTaken, errTooMany, errUnknownType} {
		if len(k.noted(want.Error())) != 1 {
			t.Errorf("%v: said %d times in %+v", want, len(k.noted(want.Error())), k.voids)
		}
	}
}

// A birth that says another type than the configuration.
func TestBirth_AnotherTypeThanConfigured(t *testing.T) {
	k := newKit(t, func(c *Config) { c.Signals = []SignalConfig{{Metric: "plant/n/x", Type: "int"}} })
	k.node("n").born(double("x", 1))
	k.seal()
	k.want(k.last("plant.n.x"), noon, mesh.StatusBadTypeMismatch, mesh.Value{})
	if len(k.noted(errConfigured.Error())) != 1 {
		t.Errorf("voids %+v", k.voids)
	}
}

func TestNodeDeath(t *testing.T) {
	k := newKit(t, nil)
	d := k.node("n")
	d.born(double("x", 1))
	d.dborn("dev", double("y", 1))
	k.pass(10 * time.Second)
	d.dies(7) // of another connection
	k.seal()
	if k.h.counters.deaths != 1 || len(k.samples) != 2 || k.h.nodes["plant/n"].phase != live {
		t.Fatalf("a death of another bdSeq: %v", k.samples)
	}
	d.dies(1)
	k.pass(time.Second)
	d.dies(1)
	k.seal()
	for _, name := range []string{"plant.n.x", "plant.n.dev.y"} {
		k.want(k.last(name), noon.Add(10*time.Second), mesh.StatusBadNoCommunication, mesh.Value{})
		if got := k.last(name); got.Flags != mesh.FlagAgentTime || len(k.of(name)) != 2 {
			t.Errorf("%s %v", name, k.of(name))
		}
	}
	d.data(double("x", 3)) // before its birth
	k.seal()
	if len(k.of("plant.n.x")) != 2 {
		t.Errorf("data of the dead: %v", k.samples)
	}
	d.bd++
	d.born(double("x", 4))
	k.seal()
	k.want(k.last("plant.n.x"), k.now.plant, mesh.StatusGood, mesh.Double(4))
}

func TestDeviceDeath(t *testing.T) {
	k := newKit(t, nil)
	d := k.node("n")
	d.born(double("x", 1))
	d.dborn("dev", double("y", 1))
	k.pass(10 * time.Second)
	p := d.message()
	p.Timestamp -= 2000
	k.say("plant/DDEATH/n/dev", p)
	k.seal()
	k.want(k.last("plant.n.dev.y"), noon.Add(8*time.Second), mesh.StatusBadNoCommunication, mesh.Value{})
	if len(k.of("plant.n.x")) != 1 {
		t.Errorf("the node died with it: %v", k.samples)
	}
	d.dborn("dev", double("y", 2))
	k.seal()
	k.want(k.last("plant.n.dev.y"), k.now.plant, mesh.StatusGood, mesh.Double(2))
}

// What a birth does not have any more, and a device that is not born again with its node.
func TestBirth_WhatIsGone(t *testing.T) {
	k := newKit(t, nil)
	d := k.node("n")
	d.born(double("x", 1), double("y", 1))
	d.dborn("dev", double("z", 1))
	d.dborn("stays", double("z", 1))
	k.pass(time.Minute)
	d.born(double("x", 2))
	d.dborn("stays", double("z", 1))
	k.seal()
	k.want(k.last("plant.n.y"), noon.Add(time.Minute), mesh.StatusBadNodeIDUnknown, mesh.Value{})
	k.want(k.last("plant.n.dev.z"), noon+1, mesh.StatusBadNoCommunication, mesh.Value{})
	if u := k.h.nodes["plant/n"].devices["dev"]; u.dead {
		t.Error("the device was given up too soon")
	}
	k.pass(birthGrace + 6*time.Second)
	k.seal()
	if u := k.h.nodes["plant/n"].devices["dev"]; !u.dead || len(k.of("plant.n.dev.z")) != 2 {
		t.Errorf("the device is not given up: %v", k.of("plant.n.dev.z"))
	}
	k.want(k.last("plant.n.stays.z"), noon.Add(time.Minute), mesh.StatusGood, mesh.Double(1))
}

// A value between two nodes of one name in two groups, and of devices of one name.
func TestNames_AreOfTheirNode(t *testing.T) {
	k := newKit(t, func(c *Config) { c.Nodes = []string{"*/*"} })
	for i, topic := range []string{"a/NBIRTH/n", "b/NBIRTH/n"} {
		k.say(topic, payload.Payload{Timestamp: k.ms(), HasSeq: true, Metrics: []payload.Metric{double("x", float64(i))}})
	}
	k.seal()
	k.want(k.last("a.n.x"), noon, mesh.StatusGood, mesh.Double(0))
	k.want(k.last("b.n.x"), noon, mesh.StatusGood, mesh.Double(1))
}

// A birth whose number follows shows that nothing was lost before it: only then does a
// device that is not born again have its value until the birth.
func TestBirth_InSequence(t *testing.T) {
	k := newKit(t, nil)
	d := k.node("n")
	d.born(double("x", 1))
	d.dborn("dev", double("z", 1))
	k.pass(time.Minute)
	p := d.message(double("x", 2), long("bdSeq", 1))
	k.say("plant/NBIRTH/n", p)
	k.pass(birthGrace + 6*time.Second)
	k.seal()
	if got := k.of("plant.n.x"); len(got) != 2 || got[1].Status != mesh.StatusGood {
		t.Errorf("samples %v", got)
	}
	k.want(k.last("plant.n.dev.z"), noon.Add(time.Minute), mesh.StatusBadNoCommunication, mesh.Value{})
}

func TestProof_IsOfTheSlowestThatLives(t *testing.T) {
	k := newKit(t, nil)
	fast, slow := k.node("fast"), k.node("slow")
	fast.born(double("x", 1))
	slow.born(double("x", 1))
	fast.runs(60, func(i int) payload.Metric { return double("x", float64(i)) })
	k.seal()
	if to := k.through(); to != 0 && to > noon {
		t.Errorf("proven through %s while a node that lives was not heard since %s", to, noon)
	}
	slow.data(double("x", 2))
	k.pass(time.Second)
	k.seal()
	if to, want := k.through(), noon.Add(55*time.Second); to != want {
		t.Errorf("proven through %s, want %s", to, want)
	}
	slow.dies(1)
	fast.runs(60, func(i int) payload.Metric { return double("x", float64(i)) })
	k.seal()
	if to, want := k.through(), k.now.plant.Add(-5*time.Second); to != want {
		t.Errorf("proven through %s, want %s: a dead node holds nothing up", to, want)
	}
	old := double("x", 9)
	old.Timestamp, old.Historical = uint64(noon/1e6)-3_600_000, true
	p := fast.message(old)
	p.Timestamp = old.Timestamp
	k.say("plant/NDATA/fast", p)
	k.seal()
	if n := k.h.nodes["plant/fast"]; n.last != k.now.plant {
		t.Errorf("what is of the past moved the present back to %s", n.last)
	}
}

func TestTake_WhatIsNotForUs(t *testing.T) {
	k := newKit(t, nil)
	d := k.node("n")
	d.born(double("x", 1))
	k.h.take(message{topic: "spBv1.0/plant/NDATA/n", payload: payload.Append(nil, &payload.Payload{Seq: 1, HasSeq: true, Metrics: []payload.Metric{double("x", 66)}}), retained: true}, k.now)
	k.say("other/NBIRTH/n", payload.Payload{HasSeq: true, Metrics: []payload.Metric{double("x", 66)}})
	k.say("plant/NCMD/n", payload.Payload{Metrics: []payload.Metric{double("x", 66)}})
	k.say("plant/DCMD/n/dev", payload.Payload{})
	d.data(double("x", 2))
	k.seal()
	if got := k.of("plant.n.x"); len(got) != 2 || len(k.names()) != 1 {
		t.Errorf("samples %v", k.samples)
	}
	if c := k.h.counters; c.retained != 1 || c.foreign != 1 || c.commands != 2 || len(k.h.nodes) != 1 {
		t.Errorf("counters %+v, nodes %d", c, len(k.h.nodes))
	}
	if v := k.noted("foreign node"); len(v) != 1 || v[0].Parts[0].Count != 1 {
		t.Errorf("voids %+v", k.voids)
	}
}
