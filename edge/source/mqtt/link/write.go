package link

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/eclipse/paho.golang/packets"
)

// Subscription is one filter.
type Subscription struct {
	Filter string
	QoS    byte
	// Retained asks for what was said before we listened; else only what is new comes.
	Retained bool
}

// Packet ids of our one SUBSCRIBE and our one UNSUBSCRIBE. They share their numbers with
// what we publish, which has those before. High ones, because some brokers (mochi) take
// an id for in use where a message of their own has it that we have not acknowledged; and
// brokers begin with 1.
const (
	subscribeID   = 0xFFFE
	unsubscribeID = 0xFFFF
)

// Subscribe asks for all filters in one packet; the answer comes as Subscribed.
func (l *Link) Subscribe(subs ...Subscription) error {
	c := packets.NewControlPacket(packets.SUBSCRIBE)
	s, ok := c.Content.(*packets.Subscribe)
	if !ok {
		return ErrFrame
	}
	s.PacketID = subscribeID
	l.mu.Lock()
	l.asked = l.asked[:0]
	for _, x := range subs {
		l.asked = append(l.asked, x.QoS)
	}
	l.mu.Unlock()
	for _, x := range subs {
		// RetainHandling (MQTT 5, 3.8.3.1): 0 sends what is retained, 2 does not.
		o := packets.SubOptions{Topic: x.Filter, QoS: x.QoS, RetainHandling: 2}
		if x.Retained {
			o.RetainHandling = 0
		}
		s.Subscriptions = append(s.Subscriptions, o)
	}
	if err := l.send(c); err != nil {
		return fmt.Errorf("send subscribe: %w", err)
	}
	return nil
}

// Unsubscribe ends subscriptions of the session; of none it does nothing. Its answer says
// nothing that matters: what was not subscribed to is none afterwards either.
func (l *Link) Unsubscribe(filters ...string) error {
	if len(filters) == 0 {
		return nil
	}
	c := packets.NewControlPacket(packets.UNSUBSCRIBE)
	u, ok := c.Content.(*packets.Unsubscribe)
	if !ok {
		return ErrFrame
	}
	u.PacketID, u.Topics = unsubscribeID, filters
	if err := l.send(c); err != nil {
		return fmt.Errorf("send unsubscribe: %w", err)
	}
	return nil
}

// Ack acknowledges packets in this order, in one write.
func (l *Link) Ack(ids []uint16) error {
	b := make([]byte, 0, 4*len(ids))
	for _, id := range ids {
		b = append(b, packets.PUBACK<<4, 2, byte(id>>8), byte(id))
	}
	return l.write(b)
}

// Publish sends a message. Of QoS 1 the answer comes as Acknowledged, with this id;
// of QoS 0 none comes, and the id is 0.
func (l *Link) Publish(m Message) (id uint16, err error) {
	if len(m.Topic) > 0xFFFF || m.QoS > 1 {
		return 0, errors.New("publish: the topic is longer than 64 KiB, or QoS is neither 0 nor 1")
	}
	n := 2 + len(m.Topic) + 1 + len(m.Payload)
	if m.QoS == 1 {
		n += 2
		id = l.nextID()
	}
	head := packets.PUBLISH<<4 | m.QoS<<1
	if m.Retain {
		head |= 1
	}
	b := append(make([]byte, 0, n+5), head)
	b = binary.AppendUvarint(b, uint64(n)) // the coding is MQTT's too
	b = binary.BigEndian.AppendUint16(b, uint16(len(m.Topic)))
	b = append(b, m.Topic...)
	if m.QoS == 1 {
		b = binary.BigEndian.AppendUint16(b, id)
	}
	b = append(b, 0) // no properties
	return id, l.write(append(b, m.Payload...))
}

func (l *Link) nextID() uint16 {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.lastID++; l.lastID >= subscribeID {
		l.lastID = 1
	}
	return l.lastID
}

// Leave says goodbye; the session stays with the broker as long as was agreed.
func (l *Link) Leave() error { return l.write([]byte{packets.DISCONNECT << 4, 0}) }

// EndSession says goodbye and ends the session: DISCONNECT with a session
// expiry of 0 (MQTT 5, 3.14.2.2.2).
func (l *Link) EndSession() error {
	return l.write([]byte{packets.DISCONNECT << 4, 7, 0, 5, packets.PropSessionExpiryInterval, 0, 0, 0, 0})
}

// silence is after how long a ping is sent.
func (l *Link) silence() time.Duration { return cmp.Or(l.silent, pingAfter) }

// pingAt pings where nothing was written for so long.
func (l *Link) pingAt(silence time.Duration) error {
	l.mu.Lock()
	due := time.Since(l.wrote) >= silence
	l.mu.Unlock()
	if !due {
		return nil
	}
	return l.write([]byte{packets.PINGREQ << 4, 0})
}

func (l *Link) send(c *packets.ControlPacket) error {
	var b bytes.Buffer
	if _, err := c.WriteTo(&b); err != nil {
		return err
	}
	return l.write(b.Bytes())
}

func (l *Link) write(b []byte) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.wrote = time.Now()
	if err := l.conn.SetWriteDeadline(l.wrote.Add(writeTimeout)); err != nil {
		return err
	}
	_, err := l.conn.Write(b)
	return err
}
