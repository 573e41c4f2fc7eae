package walk

import (
	"encoding/json"
	"slices"
	"strings"
	"time"

	"plantmesh/edge/source"
	"plantmesh/firmware-sim/plant"
	"plantmesh/proto/mesh"
)

// What a device puts into one message, and how many messages a reader takes at once.
const (
	noteItems = 400
	hearNotes = 6
	// batchWindow is a reader's commit window in samples: large commits make
	// more than one record.
	batchWindow = 4000
)

// manner is how a kind of device treats what nobody acknowledged.
type manner uint8

const (
	bridges manner = iota // keeps it, sends again what is asked for by number: OPC UA that transfers
	repeats               // keeps it, sends all of it again: MQTT QoS 1
	forgets               // loses it with the listener: OPC UA that can't transfer
)

// note is one message of a device.
type note struct {
	seq     uint32
	publish mesh.Nanos // the device's clock
	whole   bool       // nothing else waited at the device
	again   bool       // sent before
	items   []plant.Emission
}

// device is one simulated source. It keeps a queue until it was told that it
// is received.
type device struct {
	source string
	manner manner
	feed   []plant.Emission
	next   int
	at     mesh.Nanos // its own clock: everything up to here is emitted
	sub    uint32     // the subscription it knows; 0: nobody listens
	subs   uint32
	seq    uint32
	queue  []note // not acknowledged, in order
	heard  int    // of queue, since the listener came
	newest map[string]plant.Emission
	told   []bool // by index: the device was told it is received

	sure    mesh.Nanos  // everything emitted up to here is acknowledged
	dark    bool        // it forgot, and nobody listens again
	allowed []mesh.Span // what its forgetting may cost
}

func newDevice(name string, feed []plant.Emission) *device {
	d := &device{source: name, feed: feed, newest: map[string]plant.Emission{}, told: make([]bool, len(feed)+1)}
	switch name {
	case forgetful:
		d.manner = forgets
	case "line3-mqtt":
		d.manner = repeats
	}
	return d
}

// advance lets the device emit up to t.
func (d *device) advance(t mesh.Nanos) {
	from := d.next
	for d.next < len(d.feed) && mesh.NanosOf(d.feed[d.next].Emitted) <= t {
		e := d.feed[d.next]
		if was, ok := d.newest[e.Signal]; !ok || !e.Time.Before(was.Time) {
			d.newest[e.Signal] = e
		}
		d.next++
	}
	d.at = t
	if d.sub != 0 {
		d.push(d.feed[from:d.next])
	}
}

// push queues emissions as messages, the last of which says that it was all.
func (d *device) push(items []plant.Emission) {
	for len(items) > 0 {
		n := min(len(items), noteItems)
		d.seq++
		d.queue = append(d.queue, note{seq: d.seq, publish: d.at, whole: n == len(items), items: items[:n]})
		items = items[n:]
	}
}

// subscribe begins a subscription with the present value of every signal.
func (d *device) subscribe() uint32 {
	d.subs++
	d.sub, d.seq, d.queue, d.heard = d.subs, 0, nil, 0
	var all []plant.Emission
	for _, e := range d.newest {
		all = append(all, e)
	}
	slices.SortFunc(all, func(a, b plant.Emission) int { return int(a.Index) - int(b.Index) })
	if d.push(all); d.dark {
		d.dark = false
		from := mesh.NanosOf(d.feed[0].Time) // nothing was acknowledged yet
		if d.sure > 0 {
			from = d.sure.Add(-plant.Disorder)
		}
		d.allowed = append(d.allowed, mesh.Span{From: from, To: d.at})
	}
	return d.sub
}

// gone: the listener's connection is away.
func (d *device) gone() {
	d.heard = 0
	if d.manner == forgets {
		d.sub, d.queue, d.dark = 0, nil, true
		return
	}
	for i := range d.queue {
		d.queue[i].again = true
	}
}

// pull hands out the next message; at the end of the queue an empty one that
// shows the device's clock.
func (d *device) pull() (n note, fresh bool) {
	if d.heard < len(d.queue) {
		n = d.queue[d.heard]
		d.heard++
		return n, true
	}
	return note{seq: d.seq, publish: d.at, whole: true}, false
}

// ack tells the device that messages are received.
func (d *device) ack(seqs []uint32) {
	for _, seq := range seqs {
		i := slices.IndexFunc(d.queue, func(n note) bool { return n.seq == seq })
		if i < 0 {
			continue
		}
		n := d.queue[i]
		for j := range n.items {
			d.told[n.items[j].Index] = true
		}
		if n.whole {
			d.sure = max(d.sure, n.publish)
		}
		d.queue = slices.Delete(d.queue, i, i+1)
		if i < d.heard {
			d.heard--
		}
	}
}

// state is what a reader commits with its records.
type state struct {
	Sub   uint32      `json:"sub"`
	Fresh bool        `json:"fresh"`
	Seq   uint32      `json:"seq"`
	Proof mesh.Nanos  `json:"proof"`
	Holes []mesh.Span `json:"holes,omitempty"`
}

// pending is a sealed commit on its way to the log.
type pending struct {
	offer mesh.Offer
	seqs  []uint32
}

// reader is the test's reader of one device: what edge/source/opcua and mqtt
// do, without a protocol.
type reader struct {
	w       *walk
	dev     *device
	ids     map[string]uint32
	sealer  *source.Sealer
	state   state
	taken   []uint32
	sealed  []pending
	durable []uint32 // committed, and the device doesn't know

	committed uint32 // the last message that is durable
}

// newReader takes up where the log says the source was left.
func newReader(w *walk, d *device, resume []byte) *reader {
	r := &reader{w: w, dev: d, ids: map[string]uint32{}}
	table := w.tables[d.source]
	for _, s := range table {
		r.ids[s.Name] = s.ID
	}
	var err error
	r.sealer, err = source.NewSealer(source.Window{MaxSamples: batchWindow}, d.source, table)
	w.check(err)
	if resume != nil {
		w.check(json.Unmarshal(resume, &r.state))
	}
	r.committed = r.state.Seq
	r.sealer.Resume(r.state.Proof, r.state.Holes...)
	if r.state.Sub == 0 || r.state.Sub != d.sub {
		if w.lie == lieClaims && r.state.Sub != 0 {
			r.state = state{Sub: d.subscribe()} // as if nothing had been missed
			r.committed = 0
			return r
		}
		r.state, r.committed = state{Sub: d.subscribe(), Fresh: true}, 0
		r.seal()
	}
	return r
}

// hear takes some messages from the device.
func (r *reader) hear(most int) {
	for range most {
		n, more := r.dev.pull()
		if more && r.dev.manner != repeats && n.seq <= r.state.Seq {
			if n.seq <= r.committed {
				r.durable = append(r.durable, n.seq) // only the answer was lost
			}
			continue
		}
		if r.state.Fresh && (more || r.dev.at > 0) {
			r.begin(n.publish)
		}
		for i := range n.items {
			r.give(r.sample(&n.items[i]), &n.items[i])
		}
		if more {
			r.state.Seq = max(r.state.Seq, n.seq)
			r.taken = append(r.taken, n.seq)
		}
		if n.whole && !n.again {
			r.sealer.Prove(n.publish.Add(-plant.Disorder))
		}
		if r.w.lie == lieAcks && more {
			r.dev.ack([]uint32{n.seq})
		}
		if !more {
			return
		}
	}
}

// give takes one sample into the commit. A reader that lies begins with it at
// one emission.
func (r *reader) give(s mesh.Sample, e *plant.Emission) {
	const one = 2500
	switch {
	case r.w.lie == lieTwice && e.Index == one:
		s.Seq++
		r.sealer.Add(s)
		s.Seq++
	case r.w.lie == lieCount && e.Index >= one && strings.HasSuffix(e.Signal, ".produced"):
		s.Value.Bits++
	case r.w.lie == lieDrops && e.Index == one:
		return
	}
	r.sealer.Add(s)
}

// begin starts a proof; what lies between the one before and now was not heard.
func (r *reader) begin(at mesh.Nanos) {
	r.state.Fresh = false
	if proof := r.sealer.Proof(); proof > 0 && at > proof {
		r.sealer.Void(mesh.Void{Cause: mesh.CauseDisconnected, Parts: []mesh.Part{{Source: r.dev.source, Times: mesh.Span{From: proof, To: at}}}, Note: "the device has not kept what changed while nobody listened"})
	}
	r.sealer.Begin(at)
}

func (r *reader) sample(e *plant.Emission) mesh.Sample {
	at := mesh.NanosOf(e.Time)
	return mesh.Sample{
		Signal: r.ids[e.Signal], Time: at, Source: at, Server: mesh.NanosOf(e.Emitted), Agent: r.w.plant,
		Status: mesh.Status(e.Status), Value: valueOf(e.Value),
	}
}

func valueOf(v plant.Value) mesh.Value {
	switch v.Type {
	case plant.Bool:
		return mesh.Bool(v.B)
	case plant.Int:
		return mesh.Int(v.I)
	case plant.Double:
		return mesh.Double(v.F)
	case plant.String:
		return mesh.Text(v.S)
	case plant.None:
	}
	return mesh.Value{}
}

// seal closes the commit.
func (r *reader) seal() {
	s := r.state
	s.Proof, s.Holes = r.sealer.Proof(), r.sealer.Holes()
	b, err := json.Marshal(s)
	r.w.check(err)
	o, err := r.sealer.Seal(b)
	r.w.check(err)
	r.sealed = append(r.sealed, pending{o, r.taken})
	r.taken = nil
}

// due asks the sealer whether its window closes.
func (r *reader) due(now time.Time) bool { return r.sealer.Due(now) || len(r.taken) >= noteItems }

// commit brings what is sealed into the agent's log.
func (r *reader) commit() {
	if len(r.sealed) == 0 {
		return
	}
	offers := make([]mesh.Offer, 0, len(r.sealed)+1)
	for _, p := range r.sealed {
		offers = append(offers, p.offer)
		r.durable = append(r.durable, p.seqs...)
		for _, seq := range p.seqs {
			r.committed = max(r.committed, seq)
		}
	}
	r.w.check(r.w.agent.supervisors[r.dev.source].Take(r.w.ctx, offers))
	r.sealed = nil
}

// acknowledge tells the device what is durable.
func (r *reader) acknowledge() {
	r.dev.ack(r.durable)
	r.durable = nil
}
