package link

import (
	"bytes"
	"errors"
	"fmt"
	"hash/crc32"
	"net"
	"time"

	"github.com/eclipse/paho.golang/packets"
)

const (
	// roomy is what the buffer of a connection holds: hundreds of small packets are
	// one read. One that is larger has it grow, to max_packet at most.
	roomy = 64 << 10
	// shrinkAfter small packets the buffer of a large one is given back.
	shrinkAfter = 1000
	// restTimeout bounds a packet that has begun, for each restBytes of it.
	restTimeout = time.Minute
	restBytes   = 64 << 10
	// maxControl bounds every packet but PUBLISH.
	maxControl = 64 << 10
	// Quoted is how much is kept of a message that is too large.
	Quoted = 200
)

// Kind says what Next has read.
type Kind uint8

// Kinds of what a broker says.
const (
	Published    Kind = iota + 1
	Subscribed        // every filter was granted
	Acknowledged      // what we published with QoS 1: Packet.ID
)

// Packet is one PUBLISH as it came. Its bytes lie in the connection's buffer and
// hold until the next call of Next.
type Packet struct {
	ID       uint16
	QoS      byte // 0 or 1
	Again    bool // DUP
	Retained bool
	Topic    []byte
	Payload  []byte
	Hash     uint32 // CRC-32C of the topic, a zero byte and the whole payload
	TooLarge bool   // Payload is only its first bytes
	Will     bool   // said for a device that is gone
	Reason   byte   // of Acknowledged: MQTT 5, 3.4.2.1; 0: all is well
}

// inbox is the buffer of what was read.
type inbox struct {
	conn  net.Conn
	buf   []byte
	r, w  int
	max   int
	small int          // packets since a large one
	ping  func() error // pings where it is time to; nil: not yet
}

func newInbox(conn net.Conn, limit int) inbox {
	return inbox{conn: conn, buf: make([]byte, roomy), max: limit}
}

// header reads a fixed header (MQTT 5, 2.1): size is its length, n that of what
// follows; size 0: it is not whole yet.
func header(b []byte) (size, n int, err error) {
	for i := 1; i < len(b); i++ {
		n |= int(b[i]&0x7F) << (7 * (i - 1))
		switch {
		case b[i] < 0x80 && i > 1 && b[i] == 0:
			return 0, 0, fmt.Errorf("%w: a length in more bytes than it needs", ErrFrame)
		case b[i] < 0x80:
			return i + 1, n, nil
		case i == 4:
			return 0, 0, fmt.Errorf("%w: length of more than four bytes", ErrFrame)
		}
	}
	return 0, 0, nil
}

// Ready reports whether Next has something to say without waiting.
func (l *Link) Ready() bool {
	in := &l.in
	size, n, err := header(in.buf[in.r:in.w])
	return err != nil || size > 0 && n <= in.max && in.w-in.r >= size+n
}

// Next gives what the broker says next, a PUBLISH in p. It pings where nothing
// comes, or where nothing was written for as long.
func (l *Link) Next(p *Packet) (Kind, error) {
	for {
		head, n, err := l.begin()
		if err != nil {
			return 0, err
		}
		if head>>4 == packets.PUBLISH {
			return Published, l.publish(p, head, n)
		}
		c, err := l.in.control(head, n, rest(n))
		if err != nil {
			return 0, err
		}
		switch c := c.Content.(type) {
		case *packets.Pingresp, *packets.Unsuback:
			continue // that something came is all that counts
		case *packets.Puback:
			p.ID, p.Reason = c.PacketID, c.ReasonCode
			return Acknowledged, nil
		case *packets.Suback:
			return Subscribed, l.granted(c)
		case *packets.Disconnect:
			if c.ReasonCode == packets.DisconnectSessionTakenOver {
				return 0, fmt.Errorf("%w to go on: %w: give each gateway a client_id of its own", ErrRefused, ErrTaken)
			}
			return 0, fmt.Errorf("%w to go on: %s", ErrRefused, words(c.Reason(), c.ReasonCode))
		}
		return 0, fmt.Errorf("%w: type %d", ErrFrame, head>>4)
	}
}

// granted checks that the broker grants what was asked for.
func (l *Link) granted(c *packets.Suback) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i, reason := range c.Reasons {
		if reason > packets.SubackGrantedQoS2 {
			return fmt.Errorf("%w a subscription: %s", ErrRefused, words(c.Reason(i), reason))
		}
		if i < len(l.asked) && reason < l.asked[i] {
			return fmt.Errorf("%w a subscription: it grants QoS %d where QoS %d was asked for", ErrRefused, reason, l.asked[i])
		}
	}
	return nil
}

// begin waits for the header of a packet and takes it.
func (l *Link) begin() (head byte, n int, err error) {
	in := &l.in
	for tries := 0; ; {
		size, n, err := header(in.buf[in.r:in.w])
		if err != nil {
			return 0, 0, err
		}
		if size > 0 {
			head := in.buf[in.r]
			in.r += size
			return head, n, l.pingAt(l.silence())
		}
		deadline := time.Now().Add(l.silence())
		if in.w > in.r {
			deadline = rest(0)
		}
		err = in.fill(deadline)
		var slow net.Error
		switch {
		case err == nil:
			continue
		case in.w > in.r || !errors.As(err, &slow) || !slow.Timeout():
			return 0, 0, fmt.Errorf("read from the broker: %w", err)
		case tries == 2:
			return 0, 0, ErrSilent
		}
		tries++
		if err := l.pingAt(0); err != nil {
			return 0, 0, err
		}
	}
}

// rest is until when n bytes of a packet that has begun must be here.
func rest(n int) time.Time {
	return time.Now().Add(restTimeout * time.Duration(1+n/restBytes))
}

// fill reads once.
func (in *inbox) fill(deadline time.Time) error {
	if in.r == in.w {
		in.r, in.w = 0, 0
	} else if in.w == len(in.buf) {
		in.w = copy(in.buf, in.buf[in.r:in.w])
		in.r = 0
	}
	if err := in.conn.SetReadDeadline(deadline); err != nil {
		return err
	}
	n, err := in.conn.Read(in.buf[in.w:])
	in.w += n
	if n > 0 {
		return nil // an error comes again
	}
	return err
}

// body waits until n bytes are here and takes them.
func (in *inbox) body(n int, deadline time.Time) ([]byte, error) {
	switch {
	case n > len(in.buf):
		grown := make([]byte, n)
		in.w = copy(grown, in.buf[in.r:in.w])
		in.r, in.buf, in.small = 0, grown, 0
	case len(in.buf) > roomy && n < roomy:
		if in.small++; in.small > shrinkAfter && in.w-in.r < roomy {
			room := make([]byte, roomy)
			in.w = copy(room, in.buf[in.r:in.w])
			in.r, in.buf = 0, room
		}
	}
	if n > len(in.buf)-in.r {
		in.w = copy(in.buf, in.buf[in.r:in.w])
		in.r = 0
	}
	for in.w-in.r < n {
		if err := in.more(deadline); err != nil {
			return nil, fmt.Errorf("read from the broker: %w", err)
		}
	}
	b := in.buf[in.r : in.r+n : in.r+n]
	in.r += n
	return b, nil
}

// more reads once. A large message over a slow line takes long, and the broker must hear
// of us meanwhile: it would end the connection else, and begin the message again for ever.
func (in *inbox) more(deadline time.Time) error {
	if in.ping == nil {
		return in.fill(deadline)
	}
	if err := in.ping(); err != nil {
		return err
	}
	soon := time.Now().Add(time.Second)
	if deadline.Before(soon) {
		return in.fill(deadline)
	}
	err := in.fill(soon)
	var slow net.Error
	if errors.As(err, &slow) && slow.Timeout() {
		return nil
	}
	return err
}

// control reads any packet but PUBLISH.
func (in *inbox) control(head byte, n int, deadline time.Time) (p *packets.ControlPacket, err error) {
	if n > maxControl {
		return nil, fmt.Errorf("%w: type %d with %d bytes", ErrFrame, head>>4, n)
	}
	if head&15 != 0 { // MQTT 5, 2.1.3: reserved in all that a broker sends us
		return nil, fmt.Errorf("%w: type %d with flags %d", ErrFrame, head>>4, head&15)
	}
	b, err := in.body(n, deadline)
	if err != nil {
		return nil, err
	}
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("%w: decoder panicked: %v", ErrFrame, r)
		}
	}()
	whole := append(frame(make([]byte, 0, n+5), head, n), b...)
	if p, err = packets.ReadPacket(bytes.NewReader(whole)); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrFrame, err)
	}
	return p, nil
}

// first reads the CONNACK.
func (in *inbox) first(deadline time.Time) (*packets.ControlPacket, error) {
	for {
		size, n, err := header(in.buf[in.r:in.w])
		if err != nil {
			return nil, err
		}
		if size > 0 {
			head := in.buf[in.r]
			if head>>4 != packets.CONNACK {
				return nil, ErrFrame
			}
			in.r += size
			return in.control(head, n, deadline)
		}
		if err := in.fill(deadline); err != nil {
			return nil, err
		}
	}
}

// Sum sets the packet's hash.
func (p *Packet) Sum() {
	p.Hash = crc32.Update(crc32.Update(crc32.Update(0, castagnoli(), p.Topic), castagnoli(), []byte{0}), castagnoli(), p.Payload)
}

func castagnoli() *crc32.Table { return crc32.MakeTable(crc32.Castagnoli) }

// publish reads a PUBLISH. Of one that is too large only the beginning is kept:
// refusing it would end the connection and bring it again for ever, and telling
// the broker a maximum would lose it without a trace.
func (l *Link) publish(p *Packet, head byte, n int) error {
	deadline := rest(n)
	begin := min(n, l.in.max)
	b, err := l.in.body(begin, deadline)
	if err != nil {
		return err
	}
	if err := Parse(p, head, b, FromBroker); err != nil {
		return err
	}
	p.Sum()
	if begin == n {
		return nil
	}
	p.TooLarge = true
	p.Topic, p.Payload = bytes.Clone(p.Topic), bytes.Clone(p.Payload[:min(len(p.Payload), Quoted)])
	for left := n - begin; left > 0; {
		b, err := l.in.body(min(left, roomy/2), deadline)
		if err != nil {
			return err
		}
		p.Hash = crc32.Update(p.Hash, castagnoli(), b)
		left -= len(b)
	}
	return nil
}
