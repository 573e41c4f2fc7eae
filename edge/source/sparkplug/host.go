package sparkplug

import (
	"errors"
	"math/rand/v2"
	"time"

	"plantmesh/edge/source"
	"plantmesh/edge/source/sparkplug/payload"
	"plantmesh/proto/fault"
	"plantmesh/proto/mesh"
	"plantmesh/proto/wire"
)

const (
	// Bounds of what is held for one node: messages that overtook another, and messages
	// that wait for a birth.
	maxHeld      = 64
	maxHeldBytes = 256 << 10
	// maxAllHeld bounds what is held for all nodes together.
	maxAllHeld = 16 << 20
	// maxDevices bounds the devices of one node.
	maxDevices = 1_000
	// holdFor is how long a message may wait for a birth.
	holdFor = 5 * time.Minute
	// maxColumns bounds those of a data set: they stand in the signal table.
	maxColumns = 1_000
	// birthGrace is how long a device may take to be born again after its node.
	birthGrace = 10 * time.Second
)

// moment is now, on both clocks.
type moment struct {
	plant   mesh.Nanos
	machine time.Time
}

// message is one PUBLISH as it came. Its payload is the host's until take returns.
type message struct {
	topic    string
	payload  []byte
	retained bool
	tooLarge bool // payload is only the first bytes
}

// host decides what becomes of each message: samples, a change of what is known of a
// node, or a reason. It has no clock, no connection and no goroutine.
//
// Memory is bounded: at most max_signals signals of some 800 bytes, max_nodes nodes of
// some 3 KiB, maxAllHeld bytes of messages that wait, what one payload takes
// (payload.Decoder), and what names take (budget).
//
// Not safe for concurrent use.
type host struct {
	cfg    *Config
	names  *namer
	table  *table
	sealer *source.Sealer
	dec    payload.Decoder
	redo   payload.Decoder // of messages that were held: what dec gave is still in use
	births payload.Decoder // of what is kept of births: by no limit but its own
	asks   asker

	nodes     map[string]*node
	strangers []*node // that were not born when they were heard first, in this order
	died      []*node // in this order; some of them live again
	used      budget
	fault     error    // the sealer refused the table
	later     []func() // what waits until all of what is kept has been read
	count     uint64   // nodes that ever were born: the number of the last one
	held      int      // bytes, of all nodes

	heard  mesh.Nanos // plant time at which the connection was known to live last
	listen mesh.Nanos // plant time at which this connection's filters were granted; 0: they are not
	linked bool
	conns  uint64                 // connections there were
	lit    map[*signal]mesh.Nanos // while what waited is taken: signals with a value of it, and its time
	fresh  bool                   // no proof yet
	was    mesh.Nanos
	set    uint64 // hash of what names signals, see settings

	text  []byte // room for texts of samples
	body  []byte // of the array at hand
	items []mesh.Item

	kept     map[string][]byte // changed since the last commit
	waiting  bool
	first    time.Time
	urgent   bool
	bad      refusals
	counters counters
	trace    *trace // nil: nobody looks
	ear      *trace // of who listens to what comes, as it came; nil: nobody ever does
}

// counters of one reader since its start.
type counters struct {
	messages, samples, retained, foreign, commands, deaths, again, late, transient, unreadable, unnamed, gaps, missing, asked uint64
}

// Why a message or a value of it could not be taken.
var (
	errNested   = errors.New("payload is compressed twice")
	errTopic    = errors.New("topic is none of Sparkplug B, or has a name of more than 128 bytes")
	errForeign  = errors.New("foreign node: `nodes` of the configuration does not name it")
	errNodes    = errors.New("there are more nodes than max_nodes")
	errDevices  = errors.New("the node has more than 1000 devices")
	errTooLarge = errors.New("message is larger than max_packet")
	errSeq      = errors.New("message has no sequence number from 0 to 255")
	errNumber   = errors.New("another message with the same sequence number waits already")
	errUnnamed  = errors.New("metric is not in the node's birth")
	errPassive  = errors.New("names not known: the node may have been born anew while nobody listened; passive mode cannot ask")
	errDropped  = errors.New("names not known: the node did not answer with its births while more messages came than are held")
	errNoName   = errors.New("metric of a birth has no name")
	errTwice    = errors.New("metric stands twice in one birth")
	errParted   = errors.New("names not known: the node's connection may have ended before it was born again")
	errOld      = errors.New("message is older than its node's birth, and out of sequence: it is of a connection before")
	errEarly    = errors.New("a device spoke of its birth or death before its node was born")
	errWide     = errors.New("data set has more than 1000 columns")
	errFull     = errors.New("births name more metrics than there is room for: three for each of max_signals, and 32 MiB of names")
	errUnits    = errors.New("there are more nodes and devices than 50000")
	errColumns  = errors.New("data set has other columns than its birth said")
)

func newHost(cfg *Config, resume []byte, kept map[string][]byte, rng *rand.Rand) (*host, error) {
	names, err := newNamer(cfg)
	if err != nil {
		return nil, err
	}
	sealer, err := source.NewSealer(cfg.Window, cfg.ID, nil)
	if err != nil {
		return nil, err
	}
	h := &host{
		cfg: cfg, names: names, table: newTable(cfg.MaxSignals), sealer: sealer, dec: payload.Decoder{MaxMetrics: cfg.MaxMetrics}, redo: payload.Decoder{MaxMetrics: cfg.MaxMetrics},
		asks: newAsker(cfg, rng), nodes: map[string]*node{}, fresh: true, set: cfg.settings(), kept: map[string][]byte{},
	}
	return h, h.resume(resume, kept)
}

// connected is told of each new connection.
func (h *host) connected() {
	h.linked, h.listen = true, 0
	h.conns++
	h.doubt()
}

// doubt is that nodes may have said something nobody heard.
func (h *host) doubt() {
	for _, n := range h.nodes {
		if n.phase == live {
			n.phase, n.away = doubtful, h.heard
			h.giveUp(n)
		}
		if !n.ripe.IsZero() { // a death that would have told whose it is may be missed now
			n.ripe = time.Time{}
			h.part(n, func(held) bool { return true })
		}
	}
}

// giveUp forgets what is held of a node to be put in order: what is missing before
// it does not come on another connection. It is said by whoever finds that the
// sequence is broken; what came is lost with it.
func (h *host) giveUp(n *node) {
	for _, x := range n.held {
		h.held -= len(x.payload)
	}
	n.held, n.since = nil, time.Time{}
}

// subscribed is told when the broker has granted the filters.
func (h *host) subscribed(now moment) { h.listen, h.heard = now.plant, now.plant }

// disconnected is told when a connection ended.
func (h *host) disconnected(now moment) {
	h.hearken("", nil, now.plant)
	for _, n := range h.nodes {
		if n.phase == live && len(n.held) > 0 {
			h.expire(n, now) // what came is kept, and what is missing named
		}
	}
	h.linked, h.listen = false, 0
}

// unheard says that the broker can't be reached, and why, and has it committed
// before anything can be proven behind it.
func (h *host) unheard(now mesh.Nanos, why string) {
	if h.sealer.Unheard(now, why) {
		h.urgent = true
	}
}

// hearken tells who listens, if somebody does, from here on of this message; of none where
// topic is empty.
func (h *host) hearken(topic string, payload []byte, now mesh.Nanos) {
	if h.ear != nil {
		h.trace = h.ear.listening(topic, payload, now)
	}
}

// take takes one message.
func (h *host) take(m message, now moment) {
	h.counters.messages++
	h.hearken(m.topic, m.payload, now.plant)
	h.trace.turn(h.counters.messages)
	h.heard, h.waiting = now.plant, true // a sequence number went on, whatever came of it
	fault.Point("source.received")
	t, ok := parseTopic(h.cfg.Namespace, m.topic)
	switch {
	case !ok:
		h.refuse(errTopic, m.topic, m.payload, now.plant, 1)
	case m.retained: // data must not be: said before we listened, perhaps long ago, perhaps never true
		h.counters.retained++
		h.trace.say("retained: said before we listened, so the agent leaves it out")
	case t.kind == ncmd || t.kind == dcmd:
		h.counters.commands++
		h.trace.say("a command of another host to the node: it is no value")
	case !h.cfg.allows(t.group, t.node):
		h.counters.foreign++
		h.refuse(errForeign, m.topic, m.payload, now.plant, 1)
	default:
		n := h.node(t, now.plant)
		if n == nil {
			h.counters.foreign++
			h.refuse(errNodes, m.topic, m.payload, now.plant, 1)
			return
		}
		h.hear(n, t, m, now)
	}
}

// node is the node of a message; nil where there are too many.
func (h *host) node(t topic, now mesh.Nanos) *node {
	id := t.group + "/" + t.node
	n := h.nodes[id]
	if n == nil && (len(h.nodes) < h.cfg.MaxNodes || h.makeRoom(now)) {
		n = &node{group: t.group, name: t.node, keeps: h.cfg.keeps(t.group, t.node)}
		h.nodes[id] = n
		h.strangers = append(h.strangers, n)
	}
	return n
}

// hear takes a message of a node.
func (h *host) hear(n *node, t topic, m message, now moment) {
	var p *payload.Payload
	err := errTooLarge
	if !m.tooLarge {
		p, err = h.decode(&m)
	}
	if err != nil { // of one in sequence the next one will show that it is missing
		h.refuse(err, m.topic, m.payload, now.plant, 1)
		if t.kind != ndeath {
			h.ask(n, now)
		}
		return
	}
	switch t.kind {
	case nbirth:
		h.nodeBirth(n, p, now)
	case ndeath:
		h.nodeDeath(n, p, now)
	default:
		h.sequenced(n, held{topic: t, payload: m.payload, at: now, time: h.stamp(p, now).time, seq: byte(p.Seq), metrics: len(p.Metrics), nth: h.counters.messages}, p)
	}
}

// decode reads the payload of a message; of one that is compressed the message has the
// other from then on.
func (h *host) decode(m *message) (*payload.Payload, error) {
	p, err := h.dec.Decode(m.payload)
	if err != nil || !p.Compressed() {
		return p, err
	}
	if m.payload, err = payload.Inflate(p); err != nil {
		return nil, err
	}
	if p, err = h.dec.Decode(m.payload); err == nil && p.Compressed() {
		err = errNested
	}
	return p, err
}

// refuse refuses a message.
func (h *host) refuse(err error, topic string, payload []byte, at mesh.Nanos, count int) {
	h.trace.refuse(err)
	h.note(err, topic, payload, at, count)
}

// note notes what could not be taken, for the window's voids.
func (h *host) note(err error, topic string, payload []byte, at mesh.Nanos, count int) {
	h.counters.unreadable += uint64(count)
	h.waiting = true
	h.bad.add(err.Error(), topic, payload, mesh.Part{Source: h.cfg.ID, Times: mesh.Span{From: at, To: at}, Count: uint64(count)})
}

// gone says in a void what was not heard of a node.
func (h *host) gone(n *node, span mesh.Span, count int, why string) {
	h.waiting = true
	h.bad.gap(mesh.Part{Source: h.cfg.ID, Times: mesh.Span{From: span.From, To: span.From}, Count: uint64(count)}, n.id(), span, why)
}

// tick does what time alone makes due.
func (h *host) tick(now moment) {
	h.hearken("", nil, now.plant)
	for _, n := range h.nodes {
		if n.phase == live && len(n.held) > 0 && now.machine.Sub(n.since) >= time.Duration(h.cfg.ReorderTimeout) {
			h.expire(n, now)
		}
		if n.phase == doubtful && h.listen != 0 {
			h.miss(n, now)
		}
		if n.phase == live {
			h.unbornDevices(n, now)
		}
		h.collect(n, now)
		if !n.ripe.IsZero() && !now.machine.Before(n.ripe) {
			h.ripen(n)
		}
		for len(n.queue) > 0 && now.machine.Sub(n.queue[0].at.machine) >= holdFor {
			h.dropFirst(n, errDropped)
		}
		if n.phase == dead && len(n.queue) == 0 {
			h.asks.settle(n) // what it said behind its death was its last word
		}
	}
	h.prove()
}

// prove moves the proof to where every node that lives was heard in sequence. A node
// that is dead, or whose names are not known, does not hold it up: its metrics say
// themselves that nothing is known of them. One that owes us what we missed does.
func (h *host) prove() {
	least, found := mesh.Nanos(0), false
	for _, n := range h.nodes {
		through := n.last
		switch {
		case n.owed.from != 0:
			through = n.owed.from
		case n.phase != live && n.phase != doubtful || n.last == 0:
			continue
		}
		if !found || through < least {
			least, found = through, true
		}
	}
	if !found {
		return
	}
	if h.fresh {
		h.begin(least)
	}
	h.sealer.Prove(least.Add(-time.Duration(h.cfg.Disorder)))
}

// begin starts the proof.
func (h *host) begin(at mesh.Nanos) {
	h.fresh = false
	if gap := (mesh.Span{From: h.was, To: at}); h.was != 0 && !gap.Empty() {
		h.sealer.Void(mesh.Void{
			Cause: mesh.CauseDisconnected,
			Parts: []mesh.Part{{Source: h.cfg.ID, Times: gap}},
			Note:  "the configuration names signals otherwise than before: what they were between is not known",
		})
	}
	h.was = 0
	h.sealer.Begin(at)
}

// keep copies bytes that stand in a message: a short text must not hold all of it.
func (h *host) keep(b []byte) []byte {
	if len(h.text)+len(b) > cap(h.text) {
		h.text = make([]byte, 0, wire.MaxText)
	}
	n := len(h.text)
	h.text = append(h.text, b...)
	return h.text[n:len(h.text):len(h.text)]
}
