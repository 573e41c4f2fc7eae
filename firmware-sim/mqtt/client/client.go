// Package client is one MQTT connection as a device has it: it shakes hands,
// writes packets as they are given, and pings where nothing comes. What is in
// the packets, and what a lost one means, is its user's affair.
package client

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"
)

const (
	// timeout is of the handshake, of one write, or of the rest of a packet.
	timeout = 10 * time.Second
	// largest is more than any packet a broker sends to a publisher.
	largest = 64 << 10
	// farewell is how long a connection may still write after Hasten.
	farewell = time.Second
)

// Hello says who connects, and how.
type Hello struct {
	Client    string
	Version   byte // 5, or 4 for MQTT 3.1.1
	Clean     bool // begin without the session of before
	KeepAlive time.Duration
	Expiry    time.Duration // MQTT 5: how long the session outlives the connection
	Will      *Will         // nil: none
}

// Will is what the broker publishes when the connection ends without a word.
type Will struct {
	Topic   string
	Payload []byte
	QoS     byte
}

// Welcome is what the broker answered.
type Welcome struct {
	Window  int  // it takes so many unacknowledged messages; 0: it does not say
	Present bool // it has the session of before
}

// Conn is a connection to a broker. Read belongs to one goroutine; the rest is
// safe for concurrent use.
type Conn struct {
	conn    net.Conn
	in      *bufio.Reader
	version byte
	quiet   time.Duration // after so long without a packet it pings
	end     atomic.Int64  // UnixNano; no write lasts longer; 0: no end

	mu    sync.Mutex // protects pings: they are numbered in the order they are written
	pings uint64
}

// Dial connects to a broker at host:port and shakes hands.
func Dial(ctx context.Context, address string, hello Hello) (*Conn, Welcome, error) {
	d := net.Dialer{Timeout: timeout}
	conn, err := d.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, Welcome{}, fmt.Errorf("connect to the broker: %w", err)
	}
	c := &Conn{conn: conn, in: bufio.NewReader(conn), version: hello.Version, quiet: hello.KeepAlive / 3}
	defer context.AfterFunc(ctx, c.Close)()
	w, err := c.connect(hello)
	if err != nil {
		c.Close()
		return nil, Welcome{}, err
	}
	return c, w, nil
}

func (c *Conn) connect(hello Hello) (w Welcome, err error) {
	p := packets.Packet{ProtocolVersion: hello.Version, FixedHeader: packets.FixedHeader{Type: packets.Connect}}
	p.Connect.ProtocolName = []byte("MQTT")
	p.Connect.ClientIdentifier = hello.Client
	p.Connect.Clean = hello.Clean
	p.Connect.Keepalive = uint16(hello.KeepAlive / time.Second)
	p.Properties.SessionExpiryInterval = uint32(hello.Expiry / time.Second)
	p.Properties.SessionExpiryIntervalFlag = hello.Expiry > 0
	if will := hello.Will; will != nil {
		p.Connect.WillFlag, p.Connect.WillTopic, p.Connect.WillPayload, p.Connect.WillQos = true, will.Topic, will.Payload, will.QoS
	}
	if err := c.send("connect", p.ConnectEncode); err != nil {
		return w, err
	}
	if err := c.conn.SetReadDeadline(time.Now().Add(timeout)); err != nil {
		return w, fmt.Errorf("wait for connack: %w", err)
	}
	head, body, err := c.packet()
	if err != nil || head>>4 != packets.Connack {
		return w, fmt.Errorf("wait for connack: %w", errors.Join(err, errors.New("the broker answered something else")))
	}
	ack := packets.Packet{ProtocolVersion: hello.Version, FixedHeader: packets.FixedHeader{Type: packets.Connack}}
	if err := ack.ConnackDecode(body); err != nil {
		return w, fmt.Errorf("decode connack: %w", err)
	}
	if ack.ReasonCode != 0 {
		return w, fmt.Errorf("broker refused the connection with reason 0x%02x", ack.ReasonCode)
	}
	return Welcome{Window: int(ack.Properties.ReceiveMaximum), Present: ack.SessionPresent}, nil
}

// Subscribe asks for filters; the answer comes among all other packets.
func (c *Conn) Subscribe(id uint16, qos byte, filters ...string) error {
	p := packets.Packet{ProtocolVersion: c.version, PacketID: id}
	p.FixedHeader.Type, p.FixedHeader.Qos = packets.Subscribe, 1
	for _, f := range filters {
		p.Filters = append(p.Filters, packets.Subscription{Filter: f, Qos: qos})
	}
	return c.send("subscribe", p.SubscribeEncode)
}

func (c *Conn) send(what string, encode func(*bytes.Buffer) error) error {
	var b bytes.Buffer
	if err := encode(&b); err != nil {
		return fmt.Errorf("encode %s: %w", what, err)
	}
	if err := c.Write(b.Bytes()); err != nil {
		return fmt.Errorf("send %s: %w", what, err)
	}
	return nil
}

// Read gives the next packet: its first byte and what follows its length. Where
// none comes for a third of the keep-alive it pings; after three of those it
// gives up.
func (c *Conn) Read() (head byte, body []byte, err error) {
	for tries := 0; ; tries++ {
		if err := c.conn.SetReadDeadline(time.Now().Add(c.quiet)); err != nil {
			return 0, nil, err
		}
		_, err = c.in.Peek(1)
		var late net.Error
		if err == nil || !errors.As(err, &late) || !late.Timeout() || tries == 2 {
			break
		}
		if _, err := c.Ping(); err != nil {
			return 0, nil, err
		}
	}
	if err != nil {
		return 0, nil, err
	}
	if err := c.conn.SetReadDeadline(time.Now().Add(timeout)); err != nil {
		return 0, nil, err
	}
	return c.packet()
}

func (c *Conn) packet() (head byte, body []byte, err error) {
	if head, err = c.in.ReadByte(); err != nil {
		return 0, nil, err
	}
	n, _, err := packets.DecodeLength(c.in)
	if err != nil || n > largest {
		return 0, nil, fmt.Errorf("packet of %d bytes: %w", n, errors.Join(err, errors.New("too large")))
	}
	body = make([]byte, n)
	_, err = io.ReadFull(c.in, body)
	return head, body, err
}

// Ping asks for a sign of life and says which ping it is, counting from 1. The
// standard does not say so, but brokers take a connection's packets one after
// the other: the nth PINGRESP says that all before the nth ping was taken.
func (c *Conn) Ping() (n uint64, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.pings++
	return c.pings, c.Write([]byte{packets.Pingreq << 4, 0})
}

// Write writes whole packets.
func (c *Conn) Write(frames []byte) error {
	by := time.Now().Add(timeout)
	if end := c.end.Load(); end != 0 && end < by.UnixNano() {
		by = time.Unix(0, end)
	}
	if err := c.conn.SetWriteDeadline(by); err != nil {
		return err
	}
	_, err := c.conn.Write(frames)
	return err
}

// Hasten leaves a second for last words, to a write that waits as well.
func (c *Conn) Hasten() {
	by := time.Now().Add(farewell)
	c.end.Store(by.UnixNano())
	_ = c.conn.SetWriteDeadline(by) // one that is closed has nothing to say
}

// Finish says that nothing more will be written, and leaves the broker a second
// to take what was and to close. Whoever reads sees the end.
func (c *Conn) Finish() {
	if half, ok := c.conn.(interface{ CloseWrite() error }); ok && half.CloseWrite() == nil {
		_ = c.conn.SetReadDeadline(time.Now().Add(farewell)) // one that is closed is finished
		return
	}
	c.Close()
}

// Close ends the connection without a word. It may be called more than once.
func (c *Conn) Close() { _ = c.conn.Close() } // it is given up anyway

// AppendPublish encodes a PUBLISH (MQTT 5, 3.3; without its empty property list
// in 3.1.1). A packet id goes with QoS 1, for which it must not be 0.
func AppendPublish(b []byte, m Message, version byte) []byte {
	const dup, qos1 = 0x08, 0x02
	head := packets.Publish << 4
	n := 2 + len(m.Topic) + len(m.Payload)
	if m.ID != 0 {
		head |= qos1
		n += 2
	}
	if m.Again {
		head |= dup
	}
	if version >= 5 {
		n++
	}
	b = append(b, head)
	b = binary.AppendUvarint(b, uint64(n)) // the same coding as MQTT's variable byte integer
	b = binary.BigEndian.AppendUint16(b, uint16(len(m.Topic)))
	b = append(b, m.Topic...)
	if m.ID != 0 {
		b = binary.BigEndian.AppendUint16(b, m.ID)
	}
	if version >= 5 {
		b = append(b, 0)
	}
	return append(b, m.Payload...)
}

// Message is what a PUBLISH carries.
type Message struct {
	Topic   string
	Payload []byte
	ID      uint16 // 0: QoS 0
	Again   bool   // it was sent before
}
