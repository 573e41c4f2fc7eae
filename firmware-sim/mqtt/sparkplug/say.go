package sparkplug

import (
	"time"

	"github.com/mochi-mqtt/server/v2/packets"

	"plantmesh/firmware-sim/mqtt/client"
	"plantmesh/firmware-sim/mqtt/sparkplug/payload"
	"plantmesh/firmware-sim/plant"
)

const (
	// heartbeatPlant is the longest stretch of plant time without a message
	// while the plant is told.
	heartbeatPlant = 10 * time.Second
	// heartbeatMachine is how soon a clock that moved is said, in machine time.
	heartbeatMachine = time.Second
	// heartbeatStanding is how often a node whose clock stands says that it is
	// still there, in machine time.
	heartbeatStanding = 5 * time.Second
	// writeBytes is how much is written at once, ahead how many of those wait
	// for the broker's answer.
	writeBytes = 64 << 10
	ahead      = 2
	// bundle is how many values go into one message at most.
	bundle = 256
	// clockName is the metric of a heartbeat. It has the first alias.
	clockName = "Node Info/Clock"
)

// talk is room for what is about to be said. It belongs to the goroutine that
// writes.
type talk struct {
	frames []byte
	body   []byte
	about  []payload.Metric
	marks  uint64
}

// next is what to write now. fence: something in it must be asked about.
func (n *node) next() (frames []byte, fence bool, err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.frames = n.frames[:0]
	switch {
	case n.leave:
		n.depart()
		return n.frames, false, errLeave
	case !n.subscribed || n.proof == 0:
		return nil, false, nil
	case !n.born && n.s.cfg.Host != "" && !n.host.online:
		return nil, false, nil
	case !n.born || n.rebirth:
		n.bear()
	}
	n.commit()
	if len(n.fences) >= ahead {
		return n.frames, false, nil
	}
	before := n.count
	for len(n.frames) < writeBytes && n.queue.len() > 0 {
		if n.past > 0 {
			n.remember()
		} else {
			n.report()
		}
	}
	n.beat()
	n.prune()
	return n.frames, n.count > before, nil
}

// farewell is a node's last word.
func (n *node) farewell() []byte {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.frames = n.frames[:0]
	n.depart()
	return n.frames
}

// depart says the death and ends the connection: a DISCONNECT of MQTT 3.1.1
// takes the will away (payloads-ndeath-will-message-publisher-disconnect-mqtt311).
func (n *node) depart() {
	if n.born {
		n.frames = client.AppendPublish(n.frames, client.Message{Topic: n.topic("NDEATH", nil), Payload: n.death(n.bdSeq), ID: 2}, version)
	}
	n.frames = append(n.frames, packets.Disconnect<<4, 0)
}

// death is an NDEATH: bdSeq and nothing else, without a sequence number.
func (n *node) death(bdSeq uint8) []byte {
	p := payload.Payload{Timestamp: uint64(n.proof), Unordered: true, Metrics: []payload.Metric{bdSeqOf(bdSeq)}}
	return p.Append(nil)
}

func bdSeqOf(seq uint8) payload.Metric {
	return payload.Metric{Name: "bdSeq", Type: payload.Int64, Value: payload.Int(payload.Int64, int64(seq))}
}

// bear says the births. What was not said before them is historical from now on,
// and what may have been lost will be said again.
func (n *node) bear() {
	if n.s.cfg.StoreAndForward {
		since := n.ended
		if n.born {
			since = n.now()
		}
		n.outlive(since - n.s.cfg.Reach)
		n.queue.precede(&n.ring)
		n.fences, n.settled = nil, n.count
	}
	n.past = n.queue.len()
	n.born, n.once, n.rebirth, n.lossy = true, true, false, false
	n.seq, n.said, n.latest = 0, 0, n.proof
	n.about = append(n.about[:0], bdSeqOf(n.bdSeq),
		payload.Metric{Name: payload.RebirthName, Type: payload.Boolean, Value: payload.Bool(false)},
		payload.Metric{Name: clockName, Alias: n.alias(0), Timestamp: uint64(n.proof), Type: payload.DateTime, Value: payload.Int(payload.DateTime, n.proof)})
	n.say("NBIRTH", nil, n.proof)
	for _, d := range n.devices {
		if !d.away {
			n.bearDevice(d)
		}
	}
}

func (n *node) bearDevice(d *device) {
	n.about = n.about[:0]
	for _, m := range d.own {
		quality := payload.Quality(payload.Good)
		switch {
		case !m.known:
			quality = payload.Quality(payload.Stale)
		case m.last.status != plant.Good:
			quality = payload.Quality(payload.Bad)
		}
		about := n.metric(m, &m.last)
		about.Name, about.Type, about.Historical = m.name, m.typ, false
		about.Null = about.Null || !m.known
		about.Properties = payload.Properties{quality}
		if m.unit != "" {
			about.Properties = append(about.Properties, payload.Property{Key: "engUnit", Value: payload.Value{Type: payload.String, S: m.unit}})
		}
		n.about = append(n.about, about)
	}
	n.say("DBIRTH", d, n.proof)
}

// alias is the place's alias: from 1, turned by shift, so that a node that was
// told to give others gives each metric one that was another's.
func (n *node) alias(place int) uint64 {
	return uint64(1 + (place+n.shift)%(1+len(n.metrics)))
}

// metric is an entry as a message has it: by alias, without its type.
func (n *node) metric(m *metric, e *entry) payload.Metric {
	out := payload.Metric{Alias: n.alias(1 + m.place), Timestamp: uint64(e.at), Value: payload.Value{Type: m.typ}}
	v := e.value
	if e.status != plant.Good || v.Type == plant.None {
		out.Null = true
		out.Properties = payload.Properties{payload.Quality(payload.Bad)}
		return out
	}
	switch v.Type {
	case plant.Bool:
		out.Value.N = payload.Bool(v.B).N
	case plant.Int:
		out.Value.N, out.Value.F = uint64(v.I), float64(v.I)
	case plant.Double:
		out.Value.F = v.F
	case plant.String:
		out.Value.S = v.S
	case plant.None:
	}
	return out
}

// remember says what is historical: many values a message, a metric's in their
// order, with the stamps they always had.
func (n *node) remember() {
	run := min(n.past, bundle)
	for _, d := range n.devices {
		n.about = n.about[:0]
		for i := range run {
			e := n.queue.get(i)
			if !e.of(d) || d.away {
				continue
			}
			about := n.metric(e.metric, e)
			about.Historical = true
			n.about = append(n.about, about)
		}
		if len(n.about) > 0 {
			n.say("DDATA", d, n.proof)
		}
	}
	n.past -= run
	n.leaveBehind(run)
}

// report says what happens: a machine's values that left it together in one
// message, and a metric once in each.
func (n *node) report() {
	stamp, run := n.queue.get(0).emitted, 1
	if n.queue.get(0).metric == nil {
		n.queue.skip(1)
		n.sayClock(stamp)
		return
	}
	for run < min(n.queue.len(), bundle) && n.queue.get(run).emitted == stamp && n.queue.get(run).metric != nil {
		run++
	}
	n.said, n.saidAt = max(n.said, stamp), n.now()
	for _, d := range n.devices {
		n.about = n.about[:0]
		n.marks++
		for i := range run {
			e := n.queue.get(i)
			if !e.of(d) || d.away {
				continue
			}
			if e.metric.mark == n.marks {
				n.say("DDATA", d, n.said)
				n.about = n.about[:0]
				n.marks++
			}
			e.metric.mark = n.marks
			n.about = append(n.about, n.metric(e.metric, e))
		}
		if len(n.about) > 0 {
			n.say("DDATA", d, n.said)
		}
	}
	n.leaveBehind(run)
}

// leaveBehind moves what was said to ring, and what a dead device can't say out
// of the way.
func (n *node) leaveBehind(run int) {
	now := n.now()
	for i := range run {
		e := *n.queue.get(i)
		if e.metric == nil {
			continue // a clock of the past says nothing
		}
		switch d := e.metric.device; {
		case d.away && n.s.cfg.StoreAndForward:
			d.held.push(e)
			continue
		case d.away:
			n.s.waiting.Add(-1)
			n.s.forgotten.Add(1)
			continue
		}
		e.sent = now
		n.ring.push(e)
		n.count++
	}
	n.queue.skip(run)
}

// beat says the clock where nothing else did.
func (n *node) beat() {
	now := n.now()
	switch standing := n.proof <= n.said; {
	case n.queue.len() > 0, standing && now-n.saidAt < heartbeatStanding:
		return
	case !standing && n.said > 0 && n.proof-n.said < heartbeatPlant.Milliseconds() && now-n.saidAt < heartbeatMachine:
		return
	}
	n.sayClock(n.proof)
}

func (n *node) sayClock(stamp int64) {
	n.said, n.saidAt = max(stamp, n.said), n.now()
	n.about = append(n.about[:0], payload.Metric{Alias: n.alias(0), Timestamp: uint64(n.said), Value: payload.Int(payload.DateTime, n.said)})
	n.say("NDATA", nil, n.said)
}

// prune lets go of what no host can have missed.
func (n *node) prune() {
	if !n.s.cfg.StoreAndForward {
		n.outlive(n.now())
		return
	}
	n.outlive(n.now() - n.s.cfg.Reach)
}

// outlive lets go of what the broker has and was said before an instant.
func (n *node) outlive(since time.Duration) {
	i := 0
	for i < n.ring.len() && n.ring.get(i).told && n.ring.get(i).sent < since {
		i++
	}
	n.ring.skip(i)
}

// say sends what n.about holds.
func (n *node) say(verb string, d *device, stamp int64) {
	p := payload.Payload{Timestamp: uint64(stamp), Metrics: n.about, Seq: n.seq}
	n.seq++
	n.body = p.Append(n.body[:0])
	if n.drop > 0 {
		n.drop--
		return
	}
	m := client.Message{Topic: n.topic(verb, d), Payload: n.body}
	if n.swap {
		n.swap = false
		n.held = client.AppendPublish(n.held[:0], m, version)
		return
	}
	n.frames = client.AppendPublish(n.frames, m, version)
	n.frames = append(n.frames, n.held...)
	n.held = n.held[:0]
}
