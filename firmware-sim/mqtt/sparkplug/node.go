package sparkplug

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"
	"golang.org/x/sync/errgroup"

	"plantmesh/firmware-sim/mqtt/client"
	"plantmesh/firmware-sim/mqtt/sparkplug/payload"
	"plantmesh/firmware-sim/plant"
)

// version is MQTT 3.1.1: every broker speaks it.
const version = 4

// errLeave ends a session in which the primary host went away (Sparkplug 3.0,
// message-flow-edge-node-birth-publish-phid-offline).
var errLeave = errors.New("the primary host is offline")

// node is an edge node. One goroutine writes, one reads; whoever pushes, proves
// or breaks something only leaves it behind.
type node struct {
	trouble // mu protects it too
	talk

	s       *Server
	name    string
	devices []*device
	metrics []*metric     // of all devices; aliases are given in this order
	wake    chan struct{} // there may be something to say

	mu     sync.Mutex // protects the fields below, and those of devices and metrics
	queue  line       // not said in this session
	past   int        // so many of queue are historical
	ring   line       // said in this session, or in the one that ended
	count  uint64     // entries that ever came to ring
	proof  int64      // ms, plant: the clock
	latest int64      // ms, plant: stamp of what was queued last
	host   host
	ended  time.Duration // when a session with births was seen to end, since the server began
	born   bool
	once   bool // it was born at some time
	lossy  bool // forgetting has been logged since the last birth
	bdSeq  uint8
	seq    uint8
	shift  int // of the aliases

	// Of this session.
	conn       *client.Conn
	subscribed bool
	rebirth    bool // somebody asked for one
	leave      bool
	said       int64 // ms, plant: stamp of the last message that is not historical
	saidAt     time.Duration
	fences     []fence
	settled    uint64 // entries of ring, as count counts them, that the broker has
	answered   uint64 // pings
}

// fence is a ping behind everything that had come to ring.
type fence struct{ ping, count uint64 }

// device is a machine.
type device struct {
	node *node
	id   string
	own  []*metric
	away bool // it is dead, on command
	held line // waits for its birth
}

// metric is a signal.
type metric struct {
	device *device
	name   string
	place  int // among the node's
	typ    payload.Type
	unit   string
	last   entry
	known  bool
	mark   uint64 // the message it was put in last
}

func newNode(s *Server, name string) *node {
	return &node{s: s, name: name, wake: make(chan struct{}, 1), bdSeq: 255}
}

// know takes a signal. Only before Run.
func (n *node) know(machine, role string, sig plant.Signal) *metric {
	i := slices.IndexFunc(n.devices, func(d *device) bool { return d.id == machine })
	if i < 0 {
		i = len(n.devices)
		n.devices = append(n.devices, &device{node: n, id: machine})
	}
	m := &metric{device: n.devices[i], name: role, typ: typeOf(role, sig.Type), unit: sig.Unit, place: len(n.metrics)}
	m.device.own, n.metrics = append(m.device.own, m), append(n.metrics, m)
	return m
}

func typeOf(role string, t plant.Type) payload.Type {
	switch t {
	case plant.Bool:
		return payload.Boolean
	case plant.Int:
		if slices.Contains([]string{plant.RoleState, plant.RoleMode, plant.RoleProduced, plant.RoleScrap, plant.RoleStopReason}, role) {
			return payload.Int32 // as PackML has them
		}
		return payload.Int64
	case plant.String:
		return payload.String
	default:
		return payload.Double
	}
}

func (n *node) topic(verb string, d *device) string {
	t := "spBv1.0/" + n.s.cfg.Group + "/" + verb + "/" + n.name
	if d != nil {
		t += "/" + d.id
	}
	return t
}

// now is machine time since the server began.
func (n *node) now() time.Duration { return time.Since(n.s.began) }

func (n *node) push(m *metric, e plant.Emission) {
	n.mu.Lock()
	defer n.mu.Unlock()
	in := entry{metric: m, at: e.Time.UnixMilli(), emitted: e.Emitted.UnixMilli(), status: e.Status, value: e.Value}
	m.last, m.known = in, true
	if n.once && !n.born && !n.s.cfg.StoreAndForward {
		n.s.forgotten.Add(1)
		return
	}
	n.s.waiting.Add(1)
	n.queue.push(in)
	n.latest = in.emitted
	n.bound()
	poke(n.wake)
}

// bound forgets the oldest beyond what a node may keep.
func (n *node) bound() {
	total := n.queue.len() + n.ring.len()
	for _, d := range n.devices {
		total += d.held.len()
	}
	for ; total > n.s.cfg.Keep; total-- {
		switch {
		case n.ring.len() > 0:
			n.forget(&n.ring)
		case n.queue.len() > 0:
			n.forget(&n.queue)
			n.past = max(0, n.past-1)
		default:
			for _, d := range n.devices {
				if d.held.len() > 0 {
					n.forget(&d.held)
					break
				}
			}
		}
	}
}

// forget takes away the oldest of l. What the broker has only leaves the stretch
// that could be said again.
func (n *node) forget(l *line) {
	if e := l.get(0); !e.told && e.metric != nil {
		n.s.waiting.Add(-1)
		n.s.forgotten.Add(1)
		if !n.lossy {
			n.lossy = true
			n.s.log.Error("an edge node keeps no more: its oldest values are lost", "node", n.name, "keep", n.s.cfg.Keep)
		}
	}
	l.skip(1)
}

func (n *node) prove(t int64) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.proof = max(n.proof, t)
	switch {
	case !n.born:
		poke(n.wake)
	case t-n.latest >= heartbeatPlant.Milliseconds(): // in its place among the values, however fast they come
		n.queue.push(entry{emitted: t})
		n.latest = t
		poke(n.wake)
	}
}

// run keeps a session until ctx ends.
func (n *node) run(ctx context.Context) error {
	last := ""
	for {
		why := n.session(ctx)
		if why != nil && ctx.Err() == nil && why.Error() != last {
			last = why.Error()
			n.s.log.Warn("a node's session ended", "node", n.name, "error", why)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(backoff):
		}
	}
}

// session is one connection.
func (n *node) session(ctx context.Context) error {
	conn, _, err := client.Dial(ctx, n.s.address, client.Hello{
		Client: "firmware-sim-" + n.s.cfg.Group + "-" + n.name, Version: version, Clean: true, KeepAlive: n.s.cfg.KeepAlive,
		Will: &client.Will{Topic: n.topic("NDEATH", nil), Payload: n.will(), QoS: 1},
	})
	if err != nil {
		return err
	}
	defer context.AfterFunc(ctx, conn.Hasten)()
	n.attach(conn)
	defer n.detach()
	filters := []string{n.topic("NCMD", nil), n.topic("DCMD", nil) + "/+"}
	if n.s.cfg.Host != "" {
		filters = append(filters, stateTopic(n.s.cfg.Host))
	}
	if err := conn.Subscribe(1, 1, filters...); err != nil {
		conn.Close()
		return err
	}
	g, talking := errgroup.WithContext(ctx)
	g.Go(func() error {
		err := n.speak(ctx, talking, conn)
		if errors.Is(err, errLeave) || ctx.Err() != nil {
			conn.Finish()
		} else {
			conn.Close()
		}
		return err
	})
	g.Go(func() error {
		defer conn.Close()
		return n.hear(conn)
	})
	return g.Wait()
}

// will is the NDEATH of the connection that is about to begin: each has the next
// bdSeq, from 0 (topics-nbirth-bdseq-increment).
func (n *node) will() []byte {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.bdSeq++
	return n.death(n.bdSeq)
}

func (n *node) attach(conn *client.Conn) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.conn, n.subscribed, n.rebirth, n.leave = conn, false, false, false
	n.fences, n.settled, n.answered, n.said = nil, n.count, 0, 0
	n.held, n.host.online = nil, false // the retained state says it again
}

func (n *node) detach() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.conn = nil
	if !n.born {
		return
	}
	n.born, n.ended = false, n.now()
	if n.s.cfg.StoreAndForward {
		return
	}
	for _, l := range []*line{&n.ring, &n.queue} {
		for l.len() > 0 {
			n.forget(l)
		}
	}
	n.past = 0
}

// speak says what there is to say until it can't, or must not.
func (n *node) speak(life, ctx context.Context, conn *client.Conn) error {
	tick := time.NewTicker(heartbeatMachine)
	defer tick.Stop()
	for {
		frames, fence, err := n.next()
		if len(frames) > 0 {
			if werr := conn.Write(frames); werr != nil {
				return fmt.Errorf("write to the broker: %w", werr)
			}
		}
		if err != nil {
			return err
		}
		if fence {
			ping, err := conn.Ping()
			if err != nil {
				return fmt.Errorf("write to the broker: %w", err)
			}
			n.fenced(ping)
		}
		if len(frames) > 0 {
			continue
		}
		select {
		case <-ctx.Done():
			if life.Err() != nil {
				_ = conn.Write(n.farewell()) // whoever does not hear it hears the will
			}
			return ctx.Err()
		case <-n.wake:
		case <-tick.C:
		}
	}
}

// hear takes what the broker sends: answers to pings, commands, the host's state.
func (n *node) hear(conn *client.Conn) error {
	for {
		head, body, err := conn.Read()
		if err != nil {
			return fmt.Errorf("read from the broker: %w", err)
		}
		switch head >> 4 {
		case packets.Pingresp:
			n.answer()
		case packets.Suback:
			if len(body) < 3 || slices.ContainsFunc(body[2:], func(code byte) bool { return code > 2 }) {
				return errors.New("the broker refused a subscription to commands or to the host's state")
			}
			n.mu.Lock()
			n.subscribed = true
			n.mu.Unlock()
			poke(n.wake)
		case packets.Publish:
			p := packets.Packet{ProtocolVersion: version, FixedHeader: packets.FixedHeader{Type: packets.Publish, Qos: head >> 1 & 3}}
			if err := p.PublishDecode(body); err != nil {
				return fmt.Errorf("decode what the broker sent: %w", err)
			}
			if p.FixedHeader.Qos > 0 {
				if err := conn.Write([]byte{packets.Puback << 4, 2, byte(p.PacketID >> 8), byte(p.PacketID)}); err != nil {
					return fmt.Errorf("write to the broker: %w", err)
				}
			}
			n.told(p.TopicName, p.Payload)
		}
	}
}

// told takes a message.
func (n *node) told(topic string, text []byte) {
	n.mu.Lock()
	defer n.mu.Unlock()
	switch topic {
	case n.topic("NCMD", nil):
		n.rebirth = n.rebirth || payload.Rebirth(text)
	case stateTopic(n.s.cfg.Host):
		if n.host.hear(text) && !n.host.online {
			n.leave = n.leave || n.born
		}
	}
	poke(n.wake)
}

// fenced says that the ping went out behind everything in ring.
func (n *node) fenced(ping uint64) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.fences = append(n.fences, fence{ping, n.count})
	n.settle()
}

func (n *node) answer() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.answered++
	n.settle()
	poke(n.wake)
}

// settle marks what the broker has.
func (n *node) settle() {
	for len(n.fences) > 0 && n.fences[0].ping <= n.answered {
		first := n.count - uint64(n.ring.len()) // of those that came to ring, the one at its head
		for i := max(n.settled, first); i < n.fences[0].count; i++ {
			if e := n.ring.get(int(i - first)); !e.told {
				e.told = true
				n.s.waiting.Add(-1)
			}
		}
		n.settled, n.fences = n.fences[0].count, n.fences[1:]
	}
}

func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
