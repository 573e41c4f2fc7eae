package sim

import (
	"errors"
	"slices"
	"time"

	"plantmesh/cloud/ingest"
	"plantmesh/edge/buffer"
	"plantmesh/proto/mesh"
)

// run lets a schedule happen, then takes all faults away and waits.
func (w *world) run() verdict {
	for i, e := range w.events {
		w.at = i
		w.tell("%3d %s", i, e)
		w.guard(func() { w.happen(e) })
		w.clock = w.clock.Add(300 * time.Millisecond)
		w.note()
	}
	w.at = len(w.events)
	return w.settle()
}

// note puts where everything stands into the trace.
func (w *world) note() {
	w.mix(w.stream.seq)
	w.mix(uint64(len(w.store.now.entries)))
	for _, a := range w.agents {
		w.mix(a.d.seq)
		w.mix(uint64(len(a.d.notes)))
		if a.up() {
			end := a.buf.End()
			w.mix(end.Seq)
		}
	}
	w.mix(uint64(len(w.port.order)))
	w.mix(uint64(w.clock.UnixNano()))
}

// one is the agent an event is about: the clone, where there is one, now and then.
func (w *world) one(l *luck) *agent {
	if len(w.agents) > 1 && l.below(3) == 0 {
		return w.agents[1]
	}
	return w.agents[0]
}

func (w *world) happen(e event) {
	l := luck(e.n)
	w.stream.luck = luck(e.n ^ 0x5555)
	w.port.luck = luck(e.n ^ 0x3333)
	if e.op < opDropDevice {
		w.ordinary(e.op, &l)
		return
	}
	if e.op <= opStopClone {
		w.breakAgent(e.op, &l)
		return
	}
	w.breakHub(e.op, &l)
}

func (w *world) ordinary(o op, l *luck) {
	a := w.one(l)
	switch o {
	case opEmit:
		for range 1 + l.below(2) {
			a.d.emit(l)
		}
	case opTake:
		if a.up() {
			a.reader.take(1 + l.below(3))
		}
	case opCommit:
		w.commit(a)
	case opAcknowledge:
		if a.up() {
			a.reader.acknowledge(l, true)
		}
	case opSend:
		w.send(a, 1+l.below(4))
	case opReceive:
		w.receipts(a, 1+l.below(3))
	case opDeliver:
		w.deliver(w.hub, 1+l.below(6))
	case opRemind:
		w.remind(w.hub)
	case opLook:
		w.look(w.hub)
	case opPurge:
		w.purge()
	case opAssemble:
		w.assemble(w.hub)
	case opPort:
		w.publish(w.hub)
	default:
		w.clock = w.clock.Add(time.Duration(1+l.below(20)) * time.Second)
		if l.below(6) == 0 {
			w.clock = w.clock.Add(2 * time.Minute)
		}
	}
}

func (w *world) commit(a *agent) {
	if !a.up() {
		return
	}
	if err := a.reader.commit(w.ctx); err == nil {
		w.tell("    the agent's log ends at %s", a.buf.End())
	} else {
		w.tell("    not committed: %v", err)
	}
}

func (w *world) send(a *agent, most int) (worked bool) {
	for range most {
		if !a.up() {
			return worked
		}
		did, err := a.fwd.Step(w.ctx)
		if err != nil {
			w.tell("    not sent: %v", err)
			w.alarmed = errors.Is(err, buffer.ErrStale)
		}
		if !did {
			return worked
		}
		worked = true
	}
	return worked
}

// moved: somebody else was given the hub's log. A process that learns that ends.
func (w *world) moved(h *hub, err error) bool {
	if !errors.Is(err, mesh.ErrMoved) {
		return false
	}
	if h == w.hub {
		w.stopHub()
	} else {
		w.zombie = nil
	}
	return true
}

func (w *world) receipts(a *agent, most int) {
	for range most {
		b := a.link.arrived()
		if b == nil || !a.up() {
			return
		}
		w.receive(a, b)
	}
}

// deliver gives ingest what the stream has, as a session of its does: it begins
// anew where the stream is another, or where it went back behind the place.
func (w *world) deliver(h *hub, most int) (n int) {
	if h == nil {
		return 0
	}
	place, err := h.ingest.Place(w.ctx)
	if err != nil {
		w.tell("    no place: %v", err)
		w.moved(h, err)
		return 0
	}
	if h.stream != w.stream.id {
		h.stream, h.next = w.stream.id, 1
		if place.Stream == w.stream.id && place.Seq <= w.stream.seq {
			h.next = place.Seq + 1
		} else if err := h.begin(w, place); err != nil {
			w.moved(h, err)
			return 0
		}
	}
	msgs := w.stream.from(h.next-1, most)
	if len(msgs) == 0 {
		return 0
	}
	answers, err := h.ingest.Step(w.ctx, msgs)
	if err != nil {
		w.tell("    not taken: %v", err)
		w.refusal = err.Error()
		h.stream = ""
		w.moved(h, err)
		return 0
	}
	h.next = msgs[len(msgs)-1].Place.Seq + 1
	w.tell("    taken: %d messages up to %d, the hub has %s", len(msgs), h.next-1, w.hubThrough())
	w.answer(answers)
	return len(msgs)
}

// begin tells ingest that the stream is another.
func (h *hub) begin(w *world, was mesh.Place) error {
	if was.Stream == "" || was.Stream == w.stream.id {
		return nil
	}
	err := h.ingest.Begin(w.ctx, w.stream.id)
	if err != nil {
		w.tell("    not begun: %v", err)
		h.stream = ""
	}
	return err
}

func (w *world) answer(answers []ingest.Answer) {
	for _, x := range answers {
		for _, a := range w.agents {
			a.link.answer(x.Receipt)
		}
	}
}

func (w *world) remind(h *hub) {
	if h == nil {
		return
	}
	answers, err := h.ingest.Receipts(w.ctx)
	if err != nil {
		w.tell("    no receipts: %v", err)
		w.moved(h, err)
		return
	}
	w.answer(answers)
}

// look notices a stream that went back behind the place.
func (w *world) look(h *hub) {
	if h == nil {
		return
	}
	place, err := h.ingest.Place(w.ctx)
	if err == nil && place.Stream == w.stream.id && place.Seq > w.stream.seq {
		h.stream = ""
	}
}

// purge takes away what is stored, but for the last message.
func (w *world) purge() {
	if w.hub == nil {
		return
	}
	place, err := w.hub.ingest.Place(w.ctx)
	if err != nil || place.Stream != w.stream.id {
		return
	}
	w.stream.msgs = slices.DeleteFunc(slices.Clone(w.stream.msgs), func(m ingest.Message) bool {
		return m.Place.Seq <= place.Seq && m.Place.Seq < w.stream.seq
	})
}

func (w *world) assemble(h *hub) {
	if h == nil {
		return
	}
	if _, err := h.set.Step(w.ctx); err != nil {
		w.tell("    products begin anew: %v", err)
	}
}

func (w *world) publish(h *hub) (worked bool) {
	if h == nil {
		return false
	}
	w.port.w = w
	worked, err := h.port.Step(w.ctx)
	if err != nil {
		w.tell("    not published: %v", err)
	}
	return worked || errors.Is(err, mesh.ErrMoved) // it looks where it stands, and goes on
}

// hubThrough is how far the hub has the agent's log without a hole.
func (w *world) hubThrough() mesh.Position {
	if a := w.store.now.accounts[agentLog]; a != nil {
		return a.Set.Through
	}
	return mesh.Position{}
}
