package mqtt

import (
	"errors"
	"fmt"
	"log/slog"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	mochi "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"

	"plantmesh/firmware-sim/mqtt/door"
)

// broker is the own broker: mochi speaks the protocol, the courier keeps the
// messages. It feeds one persistent session, the listener; a second one is
// refused, and who has none may look on. Anybody may connect: it is a simulator on loopback.
type broker struct {
	mochi.HookBase

	server  *Server
	mqtt    *mochi.Server
	address string
	once    sync.Once

	mu       sync.Mutex // protects the fields below; taken before Server.mu
	listener string     // client id of the persistent session; empty: none yet
	filters  []string
	attached *subscriber

	onlookers map[*mochi.Client][]string // filters of who only looks on
	looks     atomic.Int32               // so many of them: nothing is kept for nobody
}

// subscriber is a connection to the listener.
type subscriber struct{ c *mochi.Client }

// sessionExpiry bounds a session without a connection: a week, as agents ask for.
const sessionExpiry = 7 * 24 * time.Hour

func listen(address string, s *Server) (*broker, error) {
	caps := mochi.NewDefaultServerCapabilities()
	caps.MaximumInflight = math.MaxUint16
	caps.MaximumClientWritesPending = math.MaxUint16
	caps.ReceiveMaximum = math.MaxUint16
	caps.MaximumSessionExpiryInterval = uint32(sessionExpiry / time.Second)
	caps.MaximumMessageExpiryInterval = 0
	b := &broker{server: s, onlookers: map[*mochi.Client][]string{}}
	b.mqtt = mochi.New(&mochi.Options{
		Capabilities:           caps,
		Logger:                 slog.New(slog.DiscardHandler), // one line per packet; what matters is logged here
		SysTopicResendInterval: math.MaxInt32,
	})
	if err := b.mqtt.AddHook(b, nil); err != nil {
		return nil, fmt.Errorf("start the broker of source %q: %w", s.cfg.Source, err)
	}
	tcp, err := door.Open(address, b.mqtt)
	if err != nil {
		return nil, fmt.Errorf("the broker of source %q: %w", s.cfg.Source, err)
	}
	if err := b.mqtt.AddListener(tcp); err != nil {
		return nil, fmt.Errorf("start the broker of source %q: %w", s.cfg.Source, err)
	}
	if err := b.mqtt.Serve(); err != nil {
		return nil, fmt.Errorf("start the broker of source %q: %w", s.cfg.Source, err)
	}
	b.address = tcp.Address()
	return b, nil
}

func (b *broker) close() {
	b.once.Do(func() {
		if err := b.mqtt.Close(); err != nil {
			b.server.log.Warn("close the broker", "error", err)
		}
	})
}

// ID names the hook.
func (b *broker) ID() string { return "courier" }

// Provides lists the events of mochi that are heard.
func (b *broker) Provides(event byte) bool {
	return slices.Contains([]byte{
		mochi.OnConnectAuthenticate, mochi.OnACLCheck, mochi.OnSessionEstablish, mochi.OnSessionEstablished,
		mochi.OnSubscribed, mochi.OnUnsubscribed, mochi.OnDisconnect, mochi.OnClientExpired, mochi.OnPacketRead, mochi.OnPacketSent,
		mochi.OnPublish, mochi.OnPublishDropped, mochi.OnQosDropped,
	}, event)
}

// OnConnectAuthenticate lets everybody in.
func (b *broker) OnConnectAuthenticate(*mochi.Client, packets.Packet) bool { return true }

// OnACLCheck lets everybody publish and look on, and one persistent session subscribe.
func (b *broker) OnACLCheck(cl *mochi.Client, topic string, write bool) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if write || b.listener == cl.ID || b.listener == "" || !persistent(cl) {
		return true
	}
	b.server.log.Warn("subscriber refused: this broker feeds one persistent session",
		"client", cl.ID, "filter", topic, "listener", b.listener)
	return false
}

func persistent(cl *mochi.Client) bool {
	if cl.Properties.ProtocolVersion >= 5 {
		return cl.Properties.Props.SessionExpiryInterval > 0
	}
	return !cl.Properties.Clean
}

// OnSessionEstablish comes before mochi looks for the old session: a clean
// start ends it.
func (b *broker) OnSessionEstablish(cl *mochi.Client, pk packets.Packet) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.listener == cl.ID && pk.Connect.Clean {
		b.forget("clean start")
	}
}

// OnSessionEstablished comes behind the CONNACK.
func (b *broker) OnSessionEstablished(cl *mochi.Client, _ packets.Packet) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.listener == cl.ID && len(b.filters) > 0 {
		b.attach(cl)
	}
}

// OnSubscribed makes the first persistent subscriber the listener, and others onlookers.
func (b *broker) OnSubscribed(cl *mochi.Client, pk packets.Packet, reasons []byte) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for i, sub := range pk.Filters {
		switch {
		case i >= len(reasons) || reasons[i] > packets.CodeGrantedQos2.Code:
		case !persistent(cl):
			b.look(cl, sub.Filter)
		case reasons[i] != packets.CodeGrantedQos0.Code:
			b.listen(cl, sub.Filter)
		}
	}
}

// listen makes a client the listener, or gives it one filter more. The caller holds mu.
func (b *broker) listen(cl *mochi.Client, filter string) {
	if b.listener == "" {
		b.listener = cl.ID
		b.server.log.Info("subscriber came", "client", cl.ID)
	}
	if b.listener == cl.ID && !slices.Contains(b.filters, filter) {
		b.filters = append(b.filters, filter)
	}
}

// OnPacketSent begins to deliver when the SUBACK is out: a listener can't know
// before which filters it has, and mochi tells of the subscription first.
func (b *broker) OnPacketSent(cl *mochi.Client, pk packets.Packet, _ []byte) {
	if pk.FixedHeader.Type != packets.Suback {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.listener == cl.ID && len(b.filters) > 0 && (b.attached == nil || b.attached.c != cl) {
		b.attach(cl)
	}
}

// OnUnsubscribed takes filters away.
func (b *broker) OnUnsubscribed(cl *mochi.Client, pk packets.Packet) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, sub := range pk.Filters {
		b.unlook(cl, sub.Filter)
	}
	if b.listener != cl.ID || cl.IsTakenOver() || cl.Closed() {
		return
	}
	for _, sub := range pk.Filters {
		b.filters = slices.DeleteFunc(b.filters, func(f string) bool { return f == sub.Filter })
	}
}

// OnDisconnect comes when a connection has ended, perhaps after the session
// was taken over by another.
func (b *broker) OnDisconnect(cl *mochi.Client, _ error, expire bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.onlookers, cl)
	b.looks.Store(int32(len(b.onlookers)))
	if b.attached != nil && b.attached.c == cl {
		b.server.detach(b.attached)
		b.attached = nil
		if expire {
			b.forget("session expired")
		}
	}
}

// OnClientExpired comes when a session without a connection grew too old.
func (b *broker) OnClientExpired(cl *mochi.Client) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.listener == cl.ID && b.attached == nil {
		b.forget("session expired")
	}
}

// OnPacketRead hears the acknowledgements; mochi knows nothing of them.
func (b *broker) OnPacketRead(cl *mochi.Client, pk packets.Packet) (packets.Packet, error) {
	if pk.FixedHeader.Type != packets.Puback {
		return pk, nil
	}
	b.mu.Lock()
	l := b.attached
	b.mu.Unlock()
	if l == nil || l.c != cl {
		return pk, nil
	}
	if pk.ReasonCode >= packets.ErrUnspecifiedError.Code {
		b.server.fail(fmt.Errorf("subscriber refused a message with reason 0x%02x: %w", pk.ReasonCode, ErrDropped))
		return pk, nil
	}
	b.server.acked(l, pk.PacketID)
	return pk, nil
}

// OnPublish takes what somebody else publishes into the same order.
func (b *broker) OnPublish(cl *mochi.Client, pk packets.Packet) (packets.Packet, error) {
	if !cl.Net.Inline {
		b.server.Inject(pk.TopicName, slices.Clone(pk.Payload))
	}
	pk.Ignore = true
	return pk, nil
}

// OnPublishDropped and OnQosDropped can't come while the courier keeps the
// messages; if they do, the run is worth nothing.
func (b *broker) OnPublishDropped(_ *mochi.Client, pk packets.Packet) { b.dropped(pk) }

// OnQosDropped see OnPublishDropped.
func (b *broker) OnQosDropped(_ *mochi.Client, pk packets.Packet) { b.dropped(pk) }

func (b *broker) dropped(pk packets.Packet) {
	b.server.fail(fmt.Errorf("topic %q, packet %d: %w", pk.TopicName, pk.PacketID, ErrDropped))
}

// attach and forget run with the lock held.
func (b *broker) attach(cl *mochi.Client) {
	b.attached = &subscriber{cl}
	window := int(cl.Properties.Props.ReceiveMaximum)
	if window == 0 {
		window = math.MaxUint16 // MQTT 5, 3.1.2.11.3
	}
	b.server.attach(b.attached, window, cl.Properties.ProtocolVersion >= 5, b.filters)
}

func (b *broker) forget(why string) {
	b.server.log.Warn("session ended; its messages wait for the next", "client", b.listener, "reason", why)
	if b.attached != nil {
		b.server.detach(b.attached)
	}
	b.server.forget()
	b.listener, b.filters, b.attached = "", nil, nil
}

// write shares mochi's lock for writing, so packets never mix.
func (c *subscriber) write(frames []byte) error {
	c.c.Lock()
	defer c.c.Unlock()
	if c.c.Closed() {
		return errors.New("connection closed")
	}
	_, err := c.c.Net.Conn.Write(frames)
	return err
}

func (c *subscriber) stop(reason error) { c.c.Stop(reason) }
