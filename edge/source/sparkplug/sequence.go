package sparkplug

import (
	"bytes"
	"fmt"
	"time"

	"plantmesh/edge/source"
	"plantmesh/edge/source/sparkplug/payload"
	"plantmesh/proto/mesh"
)

// sequenced takes a message that has a place in its node's sequence: all but NBIRTH,
// which begins one, and NDEATH, which has none.
func (h *host) sequenced(n *node, x held, p *payload.Payload) {
	if !p.HasSeq || p.Seq > 255 {
		h.refuseOf(n, x, errSeq)
		h.ask(n, x.at)
		return
	}
	if n.phase == doubtful && !h.bridge(n, x) {
		h.estrange(n, x)
	}
	if n.phase == strange && len(n.aliases) == 0 { // each message says itself what its metrics are
		n.phase, n.seq, n.lost = live, x.seq-1, [4]uint64{}
	}
	if n.phase != live {
		h.stranger(n, x)
		return
	}
	switch ahead := x.seq - n.seq - 1; {
	case ahead == 0:
		h.next(n, x, p)
		h.catchUp(n, x.at)
	case x.seq == n.seq && hash(x.payload) == n.hash: // by two subscriptions, or over a bridge
		h.counters.again++
		h.trace.say("the same message once more: dropped")
	case ahead >= paced/2 && n.took(x.seq): // it was given up, and came all the same
		h.counters.late++
		st := h.stamp(p, x.at)
		st.late = true
		h.apply(n, x, p, st)
	default:
		h.hold(n, x)
	}
}

// next takes the message that is next in sequence.
func (h *host) next(n *node, x held, p *payload.Payload) {
	n.advance(x.seq)
	n.hash = hash(x.payload)
	if x.topic.kind == ndata || x.topic.kind == ddata {
		n.hear(x.at.plant)
	}
	stamp := h.stamp(p, x.at)
	h.apply(n, x, p, stamp)
	h.reach(n, stamp)
}

// apply does what a message says, whatever its place.
func (h *host) apply(n *node, x held, p *payload.Payload, stamp stamp) {
	switch x.topic.kind {
	case dbirth:
		h.deviceBirth(n, x, p, stamp)
	case ddeath:
		h.deviceDeath(n, x, stamp)
	case ndata, ddata:
		h.data(n, x, p, stamp)
	case nbirth, ndeath, ncmd, dcmd:
	}
}

// reach notes that a node was heard through a payload's time. A stamp that is ahead of
// the plant clock, or far behind it, proves nothing.
func (h *host) reach(n *node, t stamp) {
	if !source.Suspect(t.time, t.at.plant) && t.at.plant.Sub(t.time) <= source.MaxBehind {
		n.last = max(n.last, t.time)
	}
}

// hold keeps a message that came before one that is missing. The first one starts the
// time after which what is missing is given up. One that is older than a birth just now was
// overtaken by it: its aliases are others. Later on it is the node's clock that went back.
func (h *host) hold(n *node, x held) {
	if x.time < n.birth && x.at.machine.Sub(n.bornAt) < time.Duration(h.cfg.ReorderTimeout) {
		h.refuseOf(n, x, errOld)
		return
	}
	for _, o := range n.held {
		switch {
		case o.seq != x.seq:
		case bytes.Equal(o.payload, x.payload):
			h.counters.again++
			return
		default:
			h.refuseOf(n, x, errNumber)
			return
		}
	}
	if len(n.held) == 0 {
		n.since = x.at.machine
	}
	h.trace.say("it came before one that is missing, and waits for that (reorder_timeout)")
	x.payload = bytes.Clone(x.payload)
	n.held = append(n.held, x)
	h.held += len(x.payload)
	if len(n.held) > maxHeld || bytesOf(n.held) > maxHeldBytes || h.held > maxAllHeld {
		h.expire(n, x.at)
	}
}

func bytesOf(all []held) (n int) {
	for _, x := range all {
		n += len(x.payload)
	}
	return n
}

// catchUp takes what is held and is in sequence now. Where something is still missing
// its time begins anew.
func (h *host) catchUp(n *node, now moment) {
	for found := true; found && len(n.held) > 0; {
		found = false
		for i, x := range n.held {
			if x.seq != n.seq+1 {
				continue
			}
			n.held = append(n.held[:i], n.held[i+1:]...)
			h.held -= len(x.payload)
			h.again(n, x, h.next)
			n.since, found = now.machine, true
			break
		}
	}
	if len(n.held) == 0 {
		n.held, n.since = nil, time.Time{}
	}
}

// again reads a message that was held: it could be read before.
func (h *host) again(n *node, x held, take func(*node, held, *payload.Payload)) {
	at := h.trace.turn(x.nth)
	if p, err := h.redo.Decode(x.payload); err == nil {
		take(n, x, p)
	}
	h.trace.turn(at)
}

// expire gives up what is missing before what is held, and takes that.
func (h *host) expire(n *node, now moment) {
	for len(n.held) > 0 {
		first := n.held[0]
		for _, x := range n.held {
			if x.seq-n.seq < first.seq-n.seq {
				first = x
			}
		}
		missing := int(first.seq - n.seq - 1)
		at := h.trace.turn(first.nth)
		h.gap(n, mesh.Span{From: n.last, To: first.time}, missing, fmt.Sprintf("%d of its messages did not come (sequence numbers %d to %d): they are sent with QoS 0, which promises nothing", missing, n.seq+1, first.seq-1), now)
		h.trace.turn(at)
		for s := n.seq + 1; s != first.seq; s++ {
			n.lose(s)
		}
		n.seq = first.seq - 1
		h.catchUp(n, now)
	}
	h.ask(n, now)
}

// gap says that a node was not heard without a break: no value of it holds across
// that, until its next one.
func (h *host) gap(n *node, span mesh.Span, missing int, why string, now moment) {
	n.tail.broken = true
	h.counters.gaps++
	h.counters.missing += uint64(missing)
	h.trace.say("%s: %s", n.id(), why)
	if h.owes(n, debt{from: span.From, to: span.To, missing: missing, why: why, since: now.machine}) {
		return
	}
	h.gone(n, span, missing, why)
	at, flags := n.last+1, uint32(0)
	if n.last == 0 {
		at, flags = now.plant, mesh.FlagAgentTime
	}
	h.darkenAll(n, at, mesh.StatusBadNoCommunication, flags, now)
}

// bridge decides whether the sequence shows that nothing was missed while our
// connection was broken: the number is the next one, and the break was too short for
// 256 messages, after which it would be the same again.
func (h *host) bridge(n *node, x held) bool {
	until := x.at.plant
	if h.listen != 0 {
		until = min(until, h.listen)
	}
	broken := until.Sub(n.away) // less than nothing: our clock went back, and how long it was nobody knows
	if x.seq != n.seq+1 || broken < 0 || 2*broken >= n.span() {
		return false
	}
	n.phase, n.away = live, 0
	n.skip(broken)
	return true
}

// estrange is that messages of a node were missed, or may have been, while our
// connection was broken.
func (h *host) estrange(n *node, x held) {
	h.gap(n, mesh.Span{From: n.last, To: x.time}, 0, "our connection was broken, and its sequence numbers do not show that nothing was missed", x.at)
	h.giveUp(n)
	h.ask(n, x.at)
	n.phase, n.away = strange, 0
}

// stranger takes a message whose metrics have no names for now: it waits for a birth,
// or, where nobody may ask for one, is refused.
func (h *host) stranger(n *node, x held) {
	if !h.cfg.asks() {
		h.refuseOf(n, x, errPassive)
		return
	}
	h.ask(n, x.at)
	if h.held+len(x.payload) > maxAllHeld {
		h.refuseOf(n, x, errDropped)
		return
	}
	if t := n.tail; t.time != 0 && (t.broken || t.conn != h.conns || n.phase != live && x.seq != t.seq+1) {
		x.gap = t.time
	}
	x.conn = h.conns
	n.tail = tail{seq: x.seq, conn: h.conns, time: x.time}
	x.payload = bytes.Clone(x.payload)
	n.queue = append(n.queue, x)
	h.held += len(x.payload)
	for len(n.queue) > maxHeld || bytesOf(n.queue) > maxHeldBytes {
		h.dropFirst(n, errDropped)
	}
}

func (h *host) dropFirst(n *node, why error) {
	x := n.queue[0]
	n.queue = n.queue[1:]
	h.held -= len(x.payload)
	h.refuseOf(n, x, why)
}

// ripen takes what waited for a birth in another connection of the node than the one
// that was known: it may have been of the connection before that birth, but then its
// death would have come meanwhile.
func (h *host) ripen(n *node) {
	n.ripe = time.Time{}
	for u := range n.units {
		if u.born {
			h.release(n, u)
		}
	}
}

// release takes what waited for a birth: of the node itself, or of one of its devices.
// The birth's values are later ones, and stand already. Where messages were missed
// between, no value holds across; nor to the birth, as its number does not say what
// was before it.
func (h *host) release(n *node, u *unit) {
	if !n.ripe.IsZero() || len(n.queue) == 0 {
		return
	}
	waiting := n.queue
	n.queue = nil
	h.lit = map[*signal]mesh.Nanos{}
	for _, x := range waiting {
		if x.gap != 0 && n.owed.from == 0 {
			h.dim(x.gap, x.at)
		}
		if x.topic.device != u.device {
			n.queue = append(n.queue, x)
			continue
		}
		h.held -= len(x.payload)
		if x.topic.kind == dbirth || x.topic.kind == ddeath {
			h.refuseOf(n, x, errEarly)
			continue
		}
		h.again(n, x, func(n *node, x held, p *payload.Payload) {
			st := h.stamp(p, x.at)
			st.late = true
			h.apply(n, x, p, st)
		})
	}
	last := waiting[len(waiting)-1]
	if n.owed.from == 0 {
		h.dim(last.time, last.at)
	}
	h.lit = nil
}

// dim says of the signals that have a value of what waited that nothing is known of
// them behind a time, until what is known of them next.
func (h *host) dim(after mesh.Nanos, now moment) {
	for s, t := range h.lit {
		if at := max(after, t) + 1; at < s.time {
			h.sealer.Add(mesh.Sample{Signal: s.row.ID, Time: at, Agent: now.plant, Status: mesh.StatusBadNoCommunication})
			h.counters.samples++
		}
	}
	clear(h.lit)
}

// refuseOf refuses all metrics of a message.
func (h *host) refuseOf(n *node, x held, err error) {
	h.counters.unnamed += uint64(x.metrics)
	at := h.trace.turn(x.nth)
	h.trace.unnamed(x, err)
	h.refuse(err, n.id()+" "+x.topic.device, x.payload, x.at.plant, max(1, x.metrics))
	h.trace.turn(at)
}

// Patience with a node that was not heard since our connection came back: some of its
// own pace, within these limits.
const (
	leastPatience = 30 * time.Second
	mostPatience  = 10 * time.Minute
	pacesPatience = 16 // 256 messages' time divided by this is 16 messages' time
)

// miss asks after a node that was not heard since the connection came back, and gives
// it up where it stays silent: whether it died meanwhile, nobody has told us.
func (h *host) miss(n *node, now moment) {
	patience := min(max(n.span()/pacesPatience, leastPatience), mostPatience)
	silent := now.plant.Sub(h.listen)
	if silent < patience {
		return
	}
	h.ask(n, now)
	if silent < 2*patience && h.cfg.asks() {
		return
	}
	h.gap(n, mesh.Span{From: n.last, To: now.plant}, 0, fmt.Sprintf("not heard for %s since our connection came back: it may have died meanwhile", silent.Round(time.Second)), now)
	n.phase, n.away = strange, 0
}

// hash is FNV-1a, 64 bit (Fowler, Noll, Vo): it tells a message from the one before.
func hash(b []byte) uint64 {
	h := uint64(14695981039346656037)
	for _, c := range b {
		h = (h ^ uint64(c)) * 1099511628211
	}
	return h
}
