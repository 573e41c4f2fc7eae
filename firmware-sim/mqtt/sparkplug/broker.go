package sparkplug

import (
	"fmt"
	"log/slog"
	"math"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	mochi "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"

	"plantmesh/firmware-sim/mqtt/door"
)

// room is what a broker has for a subscriber.
type room struct {
	behind     int           // so many messages it may be behind before the broker stops reading from the nodes
	pending    int           // what is more than this is thrown away
	stuckAfter time.Duration // if it took nothing for so long it is waited for no more, until it takes something again
}

// leaveWithin bounds how long a connection may take to leave mochi's books.
const leaveWithin = 5 * time.Second

func plenty() room { return room{behind: 8192, pending: math.MaxUint16, stuckAfter: 5 * time.Second} }

// broker is the own broker: mochi, which lets everybody in, with a brake. mochi
// throws away what a subscriber has no room for; this one waits for it, as TCP
// would.
type broker struct {
	mochi.HookBase

	mqtt    *mochi.Server
	address string
	room    room
	log     *slog.Logger
	once    sync.Once
	dropped atomic.Int64

	mu     sync.Mutex // protects the fields below
	owed   map[*mochi.Client]*debt
	eased  chan struct{} // closed when some debt became smaller, or all ends
	closed bool
}

// debt is what a subscriber has not been sent yet.
type debt struct {
	messages int
	paid     uint64 // messages it was sent
	stuck    bool
}

func listen(address string, has room, log *slog.Logger) (*broker, error) {
	caps := mochi.NewDefaultServerCapabilities()
	caps.MaximumClientWritesPending = int32(has.pending)
	caps.MaximumInflight = math.MaxUint16
	caps.ReceiveMaximum = math.MaxUint16
	b := &broker{room: has, log: log, owed: map[*mochi.Client]*debt{}, eased: make(chan struct{})}
	b.mqtt = mochi.New(&mochi.Options{
		Capabilities:           caps,
		Logger:                 slog.New(slog.DiscardHandler), // one line per packet; what matters is logged here
		SysTopicResendInterval: math.MaxInt32,
	})
	if err := b.mqtt.AddHook(b, nil); err != nil {
		return nil, fmt.Errorf("start: %w", err)
	}
	tcp, err := door.Open(address, b.mqtt)
	if err != nil {
		return nil, err
	}
	if err := b.mqtt.AddListener(tcp); err != nil {
		return nil, fmt.Errorf("start: %w", err)
	}
	if err := b.mqtt.Serve(); err != nil {
		return nil, fmt.Errorf("start: %w", err)
	}
	b.address = tcp.Address()
	return b, nil
}

func (b *broker) close() {
	b.once.Do(func() {
		b.mu.Lock()
		b.closed = true
		close(b.eased)
		b.mu.Unlock()
		if err := b.mqtt.Close(); err != nil {
			b.log.Warn("close the broker", "error", err)
		}
	})
}

// ID names the hook.
func (b *broker) ID() string { return "brake" }

// Provides lists the events of mochi that are heard.
func (b *broker) Provides(event byte) bool {
	switch event {
	case mochi.OnConnectAuthenticate, mochi.OnACLCheck, mochi.OnSessionEstablish, mochi.OnSessionEstablished, mochi.OnPublish, mochi.OnPacketSent, mochi.OnPublishDropped, mochi.OnDisconnect:
		return true
	}
	return false
}

// OnConnectAuthenticate lets everybody in.
func (b *broker) OnConnectAuthenticate(*mochi.Client, packets.Packet) bool { return true }

// OnACLCheck lets everybody do everything.
func (b *broker) OnACLCheck(*mochi.Client, string, bool) bool { return true }

// OnSessionEstablish lets a client in when the connection before under its id has left
// mochi's books. mochi takes a connection out of them by its client id, after the other
// side has seen it end: who comes back at once would be taken out instead, and hear
// nothing for ever.
func (b *broker) OnSessionEstablish(cl *mochi.Client, _ packets.Packet) {
	before, ok := b.mqtt.Clients.Get(cl.ID)
	if !ok || !expires(before) {
		return
	}
	_ = b.mqtt.DisconnectClient(before, packets.ErrSessionTakenOver) // MQTT 5, 3.1.4-3; it may be gone already
	look := time.NewTicker(time.Millisecond)                         // mochi tells nobody
	defer look.Stop()
	for range int(leaveWithin / time.Millisecond) {
		if x, ok := b.mqtt.Clients.Get(cl.ID); !ok || x != before {
			return
		}
		<-look.C
	}
	b.log.Warn("a connection does not end: who comes under its client id may hear nothing", "client", cl.ID)
}

// OnSessionEstablished takes mochi's quota away, the brake is instead of it: where there is
// one mochi looks after each packet for what waits, with a read lock within a read lock,
// and with a message that comes between the two the subscriber is stuck for ever.
func (b *broker) OnSessionEstablished(cl *mochi.Client, _ packets.Packet) {
	cl.State.Inflight.ResetSendQuota(0)
}

// expires reports whether a session ends with its connection.
func expires(cl *mochi.Client) bool {
	if cl.Properties.ProtocolVersion < 5 {
		return cl.Properties.Clean
	}
	return cl.Properties.Props.SessionExpiryInterval == 0
}

// counted reports whether a message is one that the brake is for: births, data
// and deaths of devices, which are published and never a will.
func counted(topic string) bool {
	part := strings.SplitN(topic, "/", 4)
	if len(part) < 4 || part[0] != "spBv1.0" {
		return false
	}
	switch part[2] {
	case "NBIRTH", "DBIRTH", "NDATA", "DDATA", "DDEATH":
		return true
	}
	return false
}

// OnPublish runs where the publisher is read from: while it waits, TCP holds the
// node back.
func (b *broker) OnPublish(_ *mochi.Client, pk packets.Packet) (packets.Packet, error) {
	if counted(pk.TopicName) {
		for id := range b.mqtt.Topics.Subscribers(pk.TopicName).Subscriptions {
			if to, ok := b.mqtt.Clients.Get(id); ok {
				b.owe(to)
			}
		}
	}
	return pk, nil
}

// owe waits until to has room, and takes some of it.
func (b *broker) owe(to *mochi.Client) {
	for {
		b.mu.Lock()
		d := b.owed[to]
		if d == nil {
			d = &debt{}
			b.owed[to] = d
		}
		if to.Closed() {
			delete(b.owed, to)
			b.mu.Unlock()
			return
		}
		if d.messages < b.room.behind || d.stuck || b.closed {
			d.messages++
			b.mu.Unlock()
			return
		}
		eased, paid := b.eased, d.paid
		b.mu.Unlock()
		late := time.NewTimer(b.room.stuckAfter)
		select {
		case <-eased:
		case <-late.C:
			b.mu.Lock()
			if d.paid == paid && !d.stuck {
				d.stuck = true
				b.log.Warn("a subscriber takes nothing: what it has no room for is thrown away", "client", to.ID)
			}
			b.mu.Unlock()
		}
		late.Stop()
	}
}

// OnPacketSent pays a debt. A topic may have become a number on the way
// (MQTT 5, 3.3.2.3.4).
func (b *broker) OnPacketSent(cl *mochi.Client, pk packets.Packet, _ []byte) {
	if pk.FixedHeader.Type == packets.Publish && (pk.TopicName == "" || counted(pk.TopicName)) {
		b.pay(cl)
	}
}

// OnPublishDropped comes where there was no room.
func (b *broker) OnPublishDropped(cl *mochi.Client, pk packets.Packet) {
	if b.dropped.Add(1) == 1 {
		b.log.Warn("the broker threw a message away", "client", cl.ID, "topic", pk.TopicName)
	}
	if counted(pk.TopicName) {
		b.unpay(cl)
	}
}

func (b *broker) pay(cl *mochi.Client) {
	b.mu.Lock()
	defer b.mu.Unlock()
	d := b.owed[cl]
	if d == nil || d.messages == 0 {
		return
	}
	d.messages--
	d.paid++
	d.stuck = false
	if d.messages == b.room.behind/2 {
		b.ease()
	}
}

// unpay takes back a debt that nothing will pay.
func (b *broker) unpay(cl *mochi.Client) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if d := b.owed[cl]; d != nil {
		d.messages = max(0, d.messages-1)
	}
}

// ease wakes whoever waits.
func (b *broker) ease() {
	if !b.closed {
		close(b.eased)
		b.eased = make(chan struct{})
	}
}

// OnDisconnect forgives.
func (b *broker) OnDisconnect(cl *mochi.Client, _ error, _ bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.owed, cl)
	b.ease()
}
