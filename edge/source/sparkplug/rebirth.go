package sparkplug

import (
	"math/rand/v2"
	"slices"
	"time"

	"plantmesh/edge/source/sparkplug/payload"
)

// rebirthMetric is what a node listens to: the one metric that is commanded by its
// name, because its alias is what is not known (specification, 6.4.22).
const rebirthMetric = "Node Control/Rebirth"

// ask is how it stands with asking one node for its births.
type ask struct {
	wanted bool
	due    time.Time
	last   time.Time
	wait   time.Duration // until the next one after last
}

// asker asks nodes for their births within a budget: a request has a node send all it
// has, and a broker's thousand nodes must not do that at once. Not safe for
// concurrent use.
type asker struct {
	cfg   *Rebirth
	rng   *rand.Rand
	queue []*node
	sent  []time.Time // when the latest were, as a ring: as many as may be in one second
	at    int
}

func newAsker(cfg *Config, rng *rand.Rand) asker {
	return asker{cfg: &cfg.Rebirth, rng: rng, sent: make([]time.Time, cfg.Rebirth.PerSecond)}
}

// want has a node asked as soon as its time has come.
func (a *asker) want(n *node, now time.Time) {
	if n.ask.wanted {
		return
	}
	if n.ask.wait == 0 {
		n.ask.wait = time.Duration(a.cfg.Every)
	}
	n.ask.wanted, n.ask.due = true, now
	if next := n.ask.last.Add(n.ask.wait); !n.ask.last.IsZero() && next.After(now) {
		n.ask.due = next
	}
	n.ask.due = n.ask.due.Add(a.jitter())
	a.queue = append(a.queue, n)
}

// jitter keeps gateways that saw the same loss from asking at the same moment.
func (a *asker) jitter() time.Duration {
	return time.Duration(a.rng.Int64N(int64(time.Duration(a.cfg.Every)/10) + 1))
}

// settle is that a node was born, or can't answer.
func (a *asker) settle(n *node) {
	n.ask.wait = time.Duration(a.cfg.Every)
	if n.ask.wanted {
		n.ask.wanted = false
		a.queue = slices.DeleteFunc(a.queue, func(o *node) bool { return o == n })
	}
}

// take gives the nodes to ask now, those that wait longest first. Each is asked again
// until it is born, after twice the time.
func (a *asker) take(now time.Time) (out []*node) {
	for range len(a.queue) {
		n := a.queue[0]
		if oldest := a.sent[a.at]; !oldest.IsZero() && now.Sub(oldest) < time.Second {
			return out
		}
		a.queue = append(a.queue[1:], n)
		if n.ask.due.After(now) {
			continue
		}
		a.sent[a.at] = now
		a.at = (a.at + 1) % len(a.sent)
		n.ask.last = now
		n.ask.due = now.Add(n.ask.wait + a.jitter())
		n.ask.wait = min(2*n.ask.wait, time.Duration(a.cfg.Longest))
		out = append(out, n)
	}
	return out
}

// command is a message to be published, with QoS 0 and not retained.
type command struct {
	topic   string
	payload []byte
}

// ask has a node asked for its births, where this host may.
func (h *host) ask(n *node, now moment) {
	if h.cfg.asks() {
		h.asks.want(n, now.machine)
	}
}

// commands are the requests to be published now. There must be a connection.
func (h *host) commands(now moment) (out []command) {
	for _, n := range h.asks.take(now.machine) {
		h.counters.asked++
		out = append(out, command{h.cfg.commandTopic(n.group, n.name), rebirth(uint64(now.plant / 1e6))})
	}
	return out
}

// rebirth is the payload of a request for births: no sequence number, and nothing else
// in it.
func rebirth(ms uint64) []byte {
	return payload.Append(nil, &payload.Payload{Timestamp: ms, Metrics: []payload.Metric{
		{Name: []byte(rebirthMetric), Timestamp: ms, Type: payload.Boolean, Value: payload.Value{Kind: payload.InBoolean, Bits: 1}},
	}})
}
