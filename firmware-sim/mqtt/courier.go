package mqtt

import (
	"encoding/json"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"plantmesh/firmware-sim/plant"
)

// message is one MQTT message and the emissions in it.
type message struct {
	topic   string
	payload []byte
	indexes []uint64
	id      uint16 // 0: not sent yet
}

// courier keeps the order of one subscriber's messages. mochi keeps them in a
// map, sends them again ordered by the second they were made in, and forgets
// those beyond the receive maximum once they are written, so the order and the
// promise of QoS 1 are kept here.
//
// Not safe for concurrent use.
type courier struct {
	queue  []*message // not sent yet
	flight []*message // sent once at least and not acknowledged, in the order of sending
	sent   int        // so many of flight were sent on this connection
	window int        // so many may be unacknowledged on this connection
	v5     bool
	last   uint16

	filters  []string // of the subscriber; none: everything
	unwanted int      // emissions that fell under no filter
}

// attach begins a new connection: everything in flight goes first, again.
func (c *courier) attach(window int, v5 bool, filters []string) {
	c.sent, c.window, c.v5, c.filters = 0, window, v5, slices.Clone(filters)
}

// version is the protocol of this connection, as MQTT numbers it.
func (c *courier) version() byte {
	if c.v5 {
		return 5
	}
	return 4
}

// takeUnwanted is how many emissions nobody subscribed to since the last call.
func (c *courier) takeUnwanted() (n int) {
	n, c.unwanted = c.unwanted, 0
	return n
}

func (c *courier) wanted(m *message) bool {
	return len(c.filters) == 0 || slices.ContainsFunc(c.filters, func(f string) bool { return matches(f, m.topic) })
}

// forget begins a new session: what was in flight is queued anew.
func (c *courier) forget() {
	for _, m := range c.flight {
		m.id = 0
	}
	c.queue = append(c.flight, c.queue...)
	c.flight, c.sent = nil, 0
}

// next is the message to send now; again says that it was sent before.
func (c *courier) next() (m *message, again, ok bool) {
	if c.sent >= c.window {
		return nil, false, false
	}
	if c.sent < len(c.flight) {
		c.sent++
		return c.flight[c.sent-1], true, true
	}
	for m == nil || !c.wanted(m) {
		if m != nil {
			c.unwanted += len(m.indexes)
		}
		if len(c.queue) == 0 {
			return nil, false, false
		}
		m, c.queue[0] = c.queue[0], nil
		c.queue = c.queue[1:]
	}
	m.id = c.freeID()
	c.flight = append(c.flight, m)
	c.sent++
	return m, false, true
}

// acked takes a message out of flight; nil where the id is not in flight on
// this connection.
func (c *courier) acked(id uint16) *message {
	for i, m := range c.flight[:c.sent] {
		if m.id == id {
			c.flight = slices.Delete(c.flight, i, i+1)
			c.sent--
			return m
		}
	}
	return nil
}

// freeID goes round all 65,535 ids, so that one comes again as late as can be.
func (c *courier) freeID() uint16 {
	for {
		c.last++
		if c.last != 0 && !slices.ContainsFunc(c.flight, func(m *message) bool { return m.id == c.last }) {
			return c.last
		}
	}
}

// bundle gathers what one machine emits at one moment with one event time.
type bundle struct {
	topic         string
	time, emitted time.Time
	roles         []string
	payload       []byte
	indexes       []uint64
}

func newBundle(topic string, e plant.Emission) *bundle {
	b := &bundle{topic: topic, time: e.Time, emitted: e.Emitted}
	b.payload = strconv.AppendInt([]byte(`{"ts":`), e.Time.UnixMilli(), 10)
	return b
}

// add takes one value; false where the bundle has the role already.
func (b *bundle) add(role string, e plant.Emission) bool {
	if slices.Contains(b.roles, role) {
		return false
	}
	b.roles = append(b.roles, role)
	b.indexes = append(b.indexes, e.Index)
	b.payload = append(b.payload, ',')
	b.payload = appendText(b.payload, role)
	b.payload = append(b.payload, ':')
	b.payload = appendValue(b.payload, e)
	return true
}

func (b *bundle) message() *message {
	return &message{topic: b.topic, payload: append(b.payload, '}'), indexes: b.indexes}
}

func heartbeat(line string, proof time.Time) *message {
	payload := strconv.AppendInt([]byte(`{"ts":`), proof.UnixMilli(), 10)
	return &message{topic: "plant/" + line + "/heartbeat", payload: append(payload, '}')}
}

// appendValue writes a value as JSON. JSON has no status and no NaN: null says
// that there is no value.
func appendValue(b []byte, e plant.Emission) []byte {
	v := e.Value
	if e.Status != plant.Good || v.Type == plant.Double && (math.IsNaN(v.F) || math.IsInf(v.F, 0)) {
		return append(b, "null"...)
	}
	switch v.Type {
	case plant.Bool:
		return strconv.AppendBool(b, v.B)
	case plant.Int:
		return strconv.AppendInt(b, v.I, 10)
	case plant.Double:
		return strconv.AppendFloat(b, v.F, 'g', -1, 64)
	case plant.String:
		return appendText(b, v.S)
	case plant.None:
	}
	return append(b, "null"...)
}

func appendText(b []byte, s string) []byte {
	text, err := json.Marshal(s)
	if err != nil { // a string always has a JSON form
		return append(b, "null"...)
	}
	return append(b, text...)
}

// split takes a signal's name apart. Dots inside the machine stay.
func split(name string) (line, machine, role string, ok bool) {
	first, last := strings.IndexByte(name, '.'), strings.LastIndexByte(name, '.')
	if first <= 0 || last <= first+1 || last == len(name)-1 {
		return "", "", "", false
	}
	return name[:first], name[first+1 : last], name[last+1:], true
}

// matches reports whether a topic falls under a filter (MQTT 5, 4.7).
func matches(filter, topic string) bool {
	f, t := strings.Split(filter, "/"), strings.Split(topic, "/")
	for i, level := range f {
		switch {
		case level == "#":
			return true
		case i >= len(t), level != "+" && level != t[i]:
			return false
		}
	}
	return len(f) == len(t)
}
