package sparkplug

import (
	"testing"
	"time"

	"plantmesh/edge/source/sparkplug/payload"
	"plantmesh/proto/mesh"
	"plantmesh/proto/wire"
)

// values are the values of a signal on a disk, by its name; call it with the lock held.
func (d *disk) values(t *testing.T, name string) (out []mesh.Sample) {
	t.Helper()
	tables := map[mesh.Hash]uint32{}
	for _, o := range d.offers {
		for _, x := range o.Descriptors {
			rows, err := wire.Signals(x)
			if err != nil {
				t.Fatal(err)
			}
			for _, r := range rows {
				if r.Name == name {
					tables[x.Hash()] = r.ID
				}
			}
		}
		dec, err := wire.NewDecoder()
		if err != nil {
			t.Fatal(err)
		}
		for _, sealed := range o.Sealed {
			if h, err := wire.ParseHeader(sealed); err != nil || h.Kind == mesh.KindVoid {
				continue
			}
			b, err := dec.Batch(sealed)
			if err != nil {
				t.Fatal(err)
			}
			for _, s := range b.Samples {
				if id, ok := tables[b.Table]; ok && id == s.Signal {
					out = append(out, s)
				}
			}
		}
	}
	return out
}

// From the wire to the log, over a restart of the reader: by alias, and nobody is asked.
func TestReader_OverARestart(t *testing.T) {
	b, d := newBroker(t), newDisk()
	active := func(c *Config) { c.Mode, c.HostID = Active, "" }
	say := func(w *line, topic string, seq uint64, metrics ...payload.Metric) {
		w.publish("spBv1.0/plant/"+topic, payload.Append(nil, &payload.Payload{Timestamp: uint64(time.Now().UnixMilli()), Seq: seq, HasSeq: true, Metrics: metrics}))
	}
	r := b.read(d, active)
	w := b.next()
	if c := connect(w.want(kindConnect)); c.will {
		t.Errorf("a host that is not primary has a will: %+v", c)
	}
	w.want(kindSubscribe)
	say(w, "NBIRTH/n", 0, aliased(1, long("x", 0)))
	for i := range 20 {
		say(w, "NDATA/n", uint64(i+1), alone(aliased(1, long("", int64(i+1)))))
		d.until(t, "a value", func() bool { return len(d.values(t, "plant.n.x")) == i+2 })
	}
	r.stop()
	w.want(kindDisconnect) // and no publish before it
	r = b.read(d, active)
	w = b.next()
	w.want(kindSubscribe)
	say(w, "NDATA/n", 21, alone(aliased(1, long("", 21))))
	d.until(t, "the value after the restart", func() bool { return len(d.values(t, "plant.n.x")) == 22 })
	r.stop()
	w.want(kindDisconnect)
	d.mu.Lock()
	defer d.mu.Unlock()
	for i, s := range d.values(t, "plant.n.x") {
		if s.Value.Compare(mesh.Int(int64(i))) != 0 || s.Status != mesh.StatusGood {
			t.Errorf("value %d: %+v", i, s)
		}
	}
}

// A passive host says nothing at all, whatever happens.
func TestReader_PassiveSaysNothing(t *testing.T) {
	b, d := newBroker(t), newDisk()
	r := b.read(d, func(c *Config) { c.Mode, c.HostID = Passive, "" })
	w := b.next()
	w.want(kindSubscribe)
	w.publish("spBv1.0/plant/NDATA/n", payload.Append(nil, &payload.Payload{Seq: 7, HasSeq: true, Metrics: []payload.Metric{alone(aliased(1, long("", 1)))}}))
	w.publish("spBv1.0/plant/NBIRTH/n", payload.Append(nil, &payload.Payload{Seq: 0, HasSeq: true, Metrics: []payload.Metric{long("x", 1)}}))
	d.until(t, "the birth", func() bool { return len(d.values(t, "plant.n.x")) == 1 })
	r.stop()
	w.want(kindDisconnect)
}
