package sparkplug

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"plantmesh/edge/source/mqtt/link"
	"plantmesh/edge/source/sparkplug/payload"
	"plantmesh/proto/mesh"
	"plantmesh/proto/wire"
)

const noon mesh.Nanos = 1_767_268_800e9 // 2026-01-01T12:00:00Z

// kit is a host in the hands of a test: the test is its clock, its broker and its log.
type kit struct {
	t    *testing.T
	cfg  *Config
	h    *host
	now  moment
	rows map[mesh.Hash]map[uint32]mesh.Signal

	state []byte
	kept  map[string][]byte

	samples []reading
	voids   []mesh.Void
	proven  []mesh.Span
	sent    []command
}

// reading is a sample with its signal's name.
type reading struct {
	mesh.Sample

	name string
}

func testConfig(t *testing.T, change func(*Config)) *Config {
	t.Helper()
	cfg := &Config{ID: "line3", Config: link.Config{URL: "mqtt://127.0.0.1:1883"}, Nodes: []string{"plant/*"}, Mode: Active}
	if change != nil {
		change(cfg)
	}
	if err := cfg.Validate(); err != nil {
		t.Fatalf("validate: %v", err)
	}
	return cfg
}

// newKit is a host that is connected and listens.
func newKit(t *testing.T, change func(*Config)) *kit {
	t.Helper()
	k := &kit{t: t, cfg: testConfig(t, change), now: moment{noon, time.Unix(1_000_000, 0)}, rows: map[mesh.Hash]map[uint32]mesh.Signal{}, kept: map[string][]byte{}}
	k.start()
	return k
}

func (k *kit) start() {
	k.t.Helper()
	h, err := newHost(k.cfg, k.state, k.kept, rand.New(rand.NewPCG(1, 2)))
	if err != nil {
		k.t.Fatalf("new host: %v", err)
	}
	k.h = h
	k.connect()
}

func (k *kit) connect() {
	k.h.connected()
	k.h.subscribed(k.now)
}

// cut is a connection that broke, and came again after d.
func (k *kit) cut(d time.Duration) {
	k.h.disconnected(k.now)
	k.pass(d)
	k.connect()
}

// restart is a process that died behind its last commit, and came again after d.
func (k *kit) restart(d time.Duration) {
	k.t.Helper()
	k.now.plant, k.now.machine = k.now.plant.Add(d), k.now.machine.Add(d)
	k.start()
}

// pass lets time go by, in steps, as the reader's tick does.
func (k *kit) pass(d time.Duration) {
	for d > 0 {
		step := min(d, 100*time.Millisecond)
		d -= step
		k.now.plant, k.now.machine = k.now.plant.Add(step), k.now.machine.Add(step)
		k.h.tick(k.now)
		if k.h.linked {
			k.sent = append(k.sent, k.h.commands(k.now)...)
		}
	}
}

// say gives a message to the host.
func (k *kit) say(topic string, p payload.Payload) {
	k.h.take(message{topic: "spBv1.0/" + topic, payload: payload.Append(nil, &p)}, k.now)
}

// ms is the host's clock as a payload has it.
func (k *kit) ms() uint64 { return uint64(k.now.plant / 1e6) }

// seal commits, and opens what was committed.
func (k *kit) seal() {
	k.t.Helper()
	o, err := k.h.seal()
	if err != nil {
		k.t.Fatalf("seal: %v", err)
	}
	for _, d := range o.Descriptors {
		table, err := wire.Signals(d)
		if err != nil {
			k.t.Fatalf("signal table: %v", err)
		}
		rows := map[uint32]mesh.Signal{}
		for _, s := range table {
			rows[s.ID] = s
		}
		k.rows[d.Hash()] = rows
	}
	dec, err := wire.NewDecoder()
	if err != nil {
		k.t.Fatal(err)
	}
	for _, sealed := range o.Sealed {
		h, err := wire.ParseHeader(sealed)
		if err != nil {
			k.t.Fatal(err)
		}
		if h.Kind == mesh.KindVoid {
			v, err := wire.OpenVoid(sealed)
			if err != nil {
				k.t.Fatal(err)
			}
			k.voids = append(k.voids, v)
			continue
		}
		b, err := dec.Batch(sealed)
		if err != nil {
			k.t.Fatal(err)
		}
		if !b.Proven.Empty() {
			k.proven = append(k.proven, b.Proven)
		}
		for _, s := range b.Samples {
			row, ok := k.rows[b.Table][s.Signal]
			if !ok {
				k.t.Fatalf("sample of signal %d, which its table does not have", s.Signal)
			}
			s.Value.Bytes = slices.Clone(s.Value.Bytes)
			k.samples = append(k.samples, reading{s, row.Name})
		}
	}
	k.state = o.State
	for _, x := range o.Kept {
		if len(x.Name) > mesh.MaxKeptName {
			k.t.Errorf("a part of the state has a name of %d bytes", len(x.Name))
		}
		if x.Bytes == nil {
			delete(k.kept, x.Name)
			continue
		}
		k.kept[x.Name] = x.Bytes
	}
}

// of are the samples of a signal, in the order of their times.
func (k *kit) of(name string) (out []reading) {
	for _, s := range k.samples {
		if s.name == name {
			out = append(out, s)
		}
	}
	slices.SortStableFunc(out, func(a, b reading) int { return a.Compare(b.Sample) })
	return out
}

// last is the newest sample of a signal.
func (k *kit) last(name string) reading {
	k.t.Helper()
	all := k.of(name)
	if len(all) == 0 {
		k.t.Fatalf("no sample of %s; there are %v", name, k.names())
	}
	return all[len(all)-1]
}

func (k *kit) names() (out []string) {
	for _, s := range k.samples {
		if !slices.Contains(out, s.name) {
			out = append(out, s.name)
		}
	}
	return out
}

// noted are the voids whose note holds a text.
func (k *kit) noted(text string) (out []mesh.Void) {
	for _, v := range k.voids {
		if strings.Contains(v.Note, text) {
			out = append(out, v)
		}
	}
	return out
}

// through is the end of what is proven.
func (k *kit) through() (to mesh.Nanos) {
	for _, p := range k.proven {
		to = max(to, p.To)
	}
	return to
}

// want checks a sample.
func (k *kit) want(got reading, at mesh.Nanos, status mesh.Status, v mesh.Value) {
	k.t.Helper()
	if got.Time != at || got.Status != status || got.Value.Compare(v) != 0 {
		k.t.Errorf("%s: got %v with status %08x at %s, want %v with %08x at %s", got.name, got.Value, uint32(got.Status), got.Time, v, uint32(status), at)
	}
}

// Metrics as nodes send them.
func double(name string, v float64) payload.Metric {
	return payload.Metric{Name: []byte(name), Type: payload.Double, Value: payload.Value{Kind: payload.InDouble, Bits: mesh.Double(v).Bits}}
}

func long(name string, v int64) payload.Metric {
	return payload.Metric{Name: []byte(name), Type: payload.Int64, Value: payload.Value{Kind: payload.InLong, Bits: uint64(v)}}
}

func aliased(alias uint64, m payload.Metric) payload.Metric {
	m.Alias, m.HasAlias = alias, true
	return m
}

// alone is a metric of a DATA message that only its alias names.
func alone(m payload.Metric) payload.Metric {
	m.Name, m.Type = nil, payload.Unknown
	return m
}

func qualified(m payload.Metric, q uint64) payload.Metric {
	m.Properties = &payload.PropertySet{Keys: [][]byte{[]byte("Quality")}, Values: []payload.Property{{Type: payload.Int32, Value: payload.Value{Kind: payload.InInt, Bits: q}}}}
	return m
}

// device is a Sparkplug node as a test plays it.
type device struct {
	k    *kit
	name string
	seq  uint64
	bd   uint64
}

func (k *kit) node(name string) *device { return &device{k: k, name: name, bd: 1} }

// born publishes an NBIRTH with these metrics.
func (d *device) born(metrics ...payload.Metric) {
	d.seq = 0
	all := append([]payload.Metric{
		{Name: []byte("bdSeq"), Type: payload.Int64, Value: payload.Value{Kind: payload.InLong, Bits: d.bd}},
		{Name: []byte(rebirthMetric), Type: payload.Boolean, Value: payload.Value{Kind: payload.InBoolean}},
	}, metrics...)
	d.k.say("plant/NBIRTH/"+d.name, payload.Payload{Timestamp: d.k.ms(), Seq: 0, HasSeq: true, Metrics: all})
}

// message is what this node sends next, in its sequence.
func (d *device) message(metrics ...payload.Metric) payload.Payload {
	d.seq = (d.seq + 1) % 256
	return payload.Payload{Timestamp: d.k.ms(), Seq: d.seq, HasSeq: true, Metrics: metrics}
}

func (d *device) data(metrics ...payload.Metric) {
	d.k.say("plant/NDATA/"+d.name, d.message(metrics...))
}

// loses is a message that nobody gets.
func (d *device) loses() { d.message() }

func (d *device) dborn(device string, metrics ...payload.Metric) {
	d.k.say("plant/DBIRTH/"+d.name+"/"+device, d.message(metrics...))
}

func (d *device) ddata(device string, metrics ...payload.Metric) {
	d.k.say("plant/DDATA/"+d.name+"/"+device, d.message(metrics...))
}

func (d *device) ddies(device string) { d.k.say("plant/DDEATH/"+d.name+"/"+device, d.message()) }

// dies is what the broker says of a node that is gone.
func (d *device) dies(bd uint64) {
	d.k.say("plant/NDEATH/"+d.name, payload.Payload{Timestamp: d.k.ms() - 60_000, Metrics: []payload.Metric{
		{Name: []byte("bdSeq"), Type: payload.Int64, Value: payload.Value{Kind: payload.InLong, Bits: bd}},
	}})
}

// runs has a node send a value each second.
func (d *device) runs(seconds int, m func(i int) payload.Metric) {
	for i := range seconds {
		d.k.pass(time.Second)
		d.data(m(i))
	}
}

func (r reading) String() string {
	return fmt.Sprintf("%s=%v %08x %s flags %x", r.name, r.Value, uint32(r.Status), r.Time, r.Flags)
}
