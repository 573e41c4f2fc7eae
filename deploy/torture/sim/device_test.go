package sim

import (
	"context"
	"encoding/binary"
	"errors"
	"slices"
	"time"

	"plantmesh/cloud/product"
	"plantmesh/edge/buffer"
	"plantmesh/proto/mesh"
	"plantmesh/proto/wire"
)

const (
	window  = 6 // notes a device sends without an acknowledgement
	packets = 8 // packet ids it has
	stride  = time.Minute
)

// note is one message of a device: samples, in the order they came about.
type note struct {
	seq      uint64
	packet   int
	pub      mesh.Nanos // when it was sent, by the plant's clock
	complete mesh.Nanos // nothing older comes
	samples  []int      // by number: that is the value, and says the event time
	handed   bool       // it went out before
}

// device is a model of a machine with a queue: it keeps what is not
// acknowledged, and sends it again after a reconnect.
type device struct {
	w      *world
	source string
	start  mesh.Nanos
	next   int // sample
	seq    uint64
	held   []int // samples that come late
	notes  []*note
	sent   int // of notes, on this connection
}

// at is the event time of a sample.
func (d *device) at(sample int) mesh.Nanos {
	return d.start.Add(time.Duration(sample) * stride)
}

// emit makes the next note, if the window has room.
func (d *device) emit(l *luck) {
	if len(d.notes) >= window {
		return
	}
	n := &note{}
	for range 1 + l.below(3) {
		d.next++
		if l.below(12) == 0 {
			d.w.hit(faultLateData)
			d.held = append(d.held, d.next)
			continue
		}
		n.samples = append(n.samples, d.next)
	}
	for len(d.held) > 0 && l.below(4) == 0 {
		n.samples = append(n.samples, d.held[0])
		d.held = d.held[1:]
	}
	d.finish(n)
}

// flush sends what was held back.
func (d *device) flush() {
	if len(d.held) == 0 || len(d.notes) >= window {
		return
	}
	d.next++
	n := &note{samples: append(d.held, d.next)}
	d.held = nil
	d.finish(n)
}

func (d *device) finish(n *note) {
	n.packet = int(d.seq % packets)
	for slices.ContainsFunc(d.notes, func(o *note) bool { return o.packet == n.packet }) {
		n.packet = (n.packet + 1) % packets
	}
	d.seq++
	n.seq = d.seq
	n.pub = d.at(d.next).Add(time.Second)
	n.complete = n.pub
	for _, s := range d.held {
		n.complete = min(n.complete, d.at(s))
	}
	for _, s := range n.samples {
		d.w.ledger.emit(d, s, n.pub)
	}
	d.notes = append(d.notes, n)
}

// gone: the connection is. What is not acknowledged comes again.
func (d *device) gone() { d.sent = 0 }

// acknowledged takes a packet's acknowledgement.
func (d *device) acknowledged(packet int, seq uint64) {
	i := slices.IndexFunc(d.notes[:d.sent], func(n *note) bool { return n.packet == packet })
	if i < 0 || d.notes[i].seq != seq { // of a life before: the packet id is in use again
		return
	}
	for _, s := range d.notes[i].samples {
		d.w.ledger.told(d, s)
	}
	d.notes = slices.Delete(d.notes, i, i+1)
	d.sent--
}

// reader is a model of a source's worker: it takes notes, seals them, has them
// committed with its state, and only then acknowledges.
type reader struct {
	d     *device
	a     *agent
	state sourceState
	taken []*note
	acks  []*note
}

// sourceState is what a reader knows after a restart.
type sourceState struct {
	next   uint64 // note
	proven mesh.Nanos
	flight [packets]uint64 // by packet: the note that was committed
}

func (s *sourceState) encode() []byte {
	b := binary.LittleEndian.AppendUint64(nil, s.next)
	b = binary.LittleEndian.AppendUint64(b, uint64(s.proven))
	for _, f := range s.flight {
		b = binary.LittleEndian.AppendUint64(b, f)
	}
	return b
}

func (s *sourceState) decode(b []byte) {
	if len(b) != 16+8*packets {
		return
	}
	s.next, s.proven = binary.LittleEndian.Uint64(b), mesh.Nanos(binary.LittleEndian.Uint64(b[8:]))
	for i := range s.flight {
		s.flight[i] = binary.LittleEndian.Uint64(b[16+8*i:])
	}
}

// newReader is a new life of a worker: it goes on where the log says.
func newReader(a *agent, d *device) (*reader, error) {
	r := &reader{d: d, a: a}
	b, err := a.buf.State(d.source)
	if err != nil {
		return nil, err
	}
	r.state.decode(b)
	d.gone()
	return r, nil
}

// dropped: the connection to the device is gone.
func (r *reader) dropped() {
	r.taken, r.acks = nil, nil
	r.d.gone()
}

// take takes up to n notes.
func (r *reader) take(n int) {
	d := r.d
	for ; n > 0 && d.sent < len(d.notes); n-- {
		x := d.notes[d.sent]
		d.sent++
		again := x.handed
		x.handed = true
		if again && r.state.flight[x.packet] == x.seq { // it is in the log already
			d.w.hit(faultRedelivered)
			r.acks = append(r.acks, x)
			continue
		}
		r.taken = append(r.taken, x)
		if d.w.broken == ackBeforeFsync {
			r.acks = append(r.acks, x)
		}
	}
}

// commit seals what was taken, and has it committed with the state.
func (r *reader) commit(ctx context.Context) error {
	if len(r.taken) == 0 {
		return nil
	}
	w := r.d.w
	o := mesh.Offer{Source: r.d.source, Descriptors: []mesh.Descriptor{w.table}}
	next := r.state
	for i := 0; i < len(r.taken); {
		n := i + 1
		for n < len(r.taken) && r.taken[n].seq == r.taken[n-1].seq+1 {
			n++
		}
		sealed, err := r.seal(r.taken[i:n], &next)
		if err != nil {
			return err
		}
		o.Sealed = append(o.Sealed, sealed)
		i = n
	}
	o.State = next.encode()
	if _, err := r.a.buf.Append(ctx, []mesh.Offer{o}); err != nil {
		if errors.Is(err, buffer.ErrFull) {
			w.hit(faultBufferFull)
		}
		return err
	}
	r.state = next
	if w.broken != ackBeforeFsync {
		r.acks = append(r.acks, r.taken...)
	}
	r.taken = nil
	return nil
}

// seal makes one batch of notes without a break between them.
func (r *reader) seal(notes []*note, next *sourceState) ([]byte, error) {
	d, last := r.d, notes[len(notes)-1]
	b := mesh.Batch{Source: d.source, Table: d.w.table.Hash(), Complete: last.complete}
	b.Proven = mesh.Span{From: notes[0].pub, To: last.pub}
	if notes[0].seq == next.next { // nothing is missing since the last proof
		b.Proven.From = next.proven
	}
	if last.seq < next.next { // older than what is proven
		b.Proven, b.Complete = mesh.Span{}, 0
	} else {
		next.next, next.proven = last.seq+1, last.pub
	}
	var all []int
	for _, n := range notes {
		next.flight[n.packet] = n.seq
		for _, s := range n.samples {
			all = append(all, s)
			b.Samples = append(b.Samples, mesh.Sample{Signal: 1, Time: d.at(s), Source: d.at(s), Agent: n.pub, Value: mesh.Int(int64(s))})
		}
	}
	sealed, err := d.w.enc.Seal(&b)
	if err == nil {
		d.w.ledger.sealed(d, sealed, all)
	}
	return sealed, err
}

// acknowledge answers the device for what is committed; answers may be lost.
func (r *reader) acknowledge(l *luck, lossy bool) {
	for _, n := range r.acks {
		if r.d.w.broken == inFlightDropped && r.state.flight[n.packet] == n.seq {
			r.state.flight[n.packet] = 0
		}
		if lossy && l.below(4) == 0 {
			r.d.w.hit(faultDeviceAckLost)
			continue
		}
		r.d.acknowledged(n.packet, n.seq)
	}
	r.acks = nil
}

// kit is what every schedule shares: it does not change.
type kit struct {
	enc   *wire.Encoder
	table mesh.Descriptor
	site  mesh.Descriptor
	fact  []byte
	defs  []*product.Definition
	view  *product.Definition // of product signals
}
