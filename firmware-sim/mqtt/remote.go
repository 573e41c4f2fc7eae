package mqtt

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"
)

const (
	remoteKeepAlive = 30 * time.Second
	remoteTimeout   = 10 * time.Second       // of one write, or of the rest of a packet
	remoteBackoff   = 500 * time.Millisecond // before the next try
	remotePacket    = 64 << 10               // no packet a broker sends to a publisher is larger
)

// errNobody is the broker saying that no session wants the message (PUBACK
// reason 0x10): it would be lost, so it is kept and tried again.
var errNobody = errors.New("the broker has no subscriber yet")

// remote is a connection to a given broker.
type remote struct {
	conn net.Conn
	in   *bufio.Reader
}

// dial keeps a connection to the given broker until ctx ends. What the broker
// acknowledged counts as received, so it must keep it: its limits per
// subscriber have to hold what the plant says while the subscriber is away.
// mosquitto: max_queued_messages 0, max_queued_bytes 0, and max_inflight_messages
// 0 or at least the subscriber's receive maximum; its defaults (1,000 queued)
// throw messages away. A mosquitto that does is noticed and fails the run, up to
// its sys_interval (10 s) later.
func (s *Server) dial(ctx context.Context) error {
	u, err := url.Parse(s.cfg.Broker)
	if err != nil || u.Scheme != "mqtt" || u.Host == "" {
		return fmt.Errorf("broker %q of source %q is no mqtt://host:port", s.cfg.Broker, s.cfg.Source)
	}
	last := ""
	for {
		why := s.session(ctx, u.Host)
		if ctx.Err() == nil && why.Error() != last {
			last = why.Error()
			s.log.Warn("broker connection ended", "broker", s.cfg.Broker, "error", why)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(remoteBackoff):
		}
	}
}

// session is one connection: it sends one message until the broker took one
// for a subscriber, then as many as it may.
func (s *Server) session(ctx context.Context, address string) error {
	d := net.Dialer{Timeout: remoteTimeout}
	conn, err := d.DialContext(ctx, "tcp", address)
	if err != nil {
		return fmt.Errorf("connect to the broker: %w", err)
	}
	r := &remote{conn, bufio.NewReader(conn)}
	defer r.stop(nil)
	defer context.AfterFunc(ctx, func() { r.stop(nil) })()
	window, present, err := r.connect("firmware-sim-" + s.cfg.Source)
	if err != nil {
		return err
	}
	if !present {
		s.forget()
	}
	if err := r.watch(s.spareID()); err != nil {
		return err
	}
	s.attach(r, 1, true, nil)
	defer s.detach(r)
	for first := true; ; {
		head, body, err := r.read()
		if err != nil {
			return fmt.Errorf("read from the broker: %w", err)
		}
		switch kind := head >> 4; {
		case kind == packets.Suback:
			poke(s.subscribed)
			continue
		case kind == packets.Publish:
			if err := s.dropped(head, body); err != nil {
				return err
			}
			continue
		case kind != packets.Puback || len(body) < 2:
			continue
		}
		id, reason := pubackID(body)
		switch {
		case reason == packets.CodeNoMatchingSubscribers.Code:
			return errNobody
		case reason >= packets.ErrUnspecifiedError.Code:
			err := fmt.Errorf("broker refused a message with reason 0x%02x: %w", reason, ErrDropped)
			s.fail(err)
			return err
		}
		s.acked(r, id)
		if first {
			first = false
			s.widen(r, window)
		}
	}
}

// connect shakes hands. window is what the broker takes unacknowledged.
func (r *remote) connect(client string) (window int, present bool, err error) {
	hello := packets.Packet{ProtocolVersion: 5, FixedHeader: packets.FixedHeader{Type: packets.Connect}}
	hello.Connect.ProtocolName = []byte("MQTT")
	hello.Connect.ClientIdentifier = client
	hello.Connect.Keepalive = uint16(remoteKeepAlive / time.Second)
	hello.Properties.SessionExpiryInterval = uint32(sessionExpiry / time.Second)
	hello.Properties.SessionExpiryIntervalFlag = true
	var b bytes.Buffer
	if err := hello.ConnectEncode(&b); err != nil {
		return 0, false, fmt.Errorf("encode connect: %w", err)
	}
	if err := r.write(b.Bytes()); err != nil {
		return 0, false, fmt.Errorf("send connect: %w", err)
	}
	head, body, err := r.read()
	if err != nil || head>>4 != packets.Connack {
		return 0, false, fmt.Errorf("wait for connack: %w", errors.Join(err, errors.New("the broker answered something else")))
	}
	ack := packets.Packet{ProtocolVersion: 5, FixedHeader: packets.FixedHeader{Type: packets.Connack}}
	if err := ack.ConnackDecode(body); err != nil {
		return 0, false, fmt.Errorf("decode connack: %w", err)
	}
	if ack.ReasonCode != 0 {
		return 0, false, fmt.Errorf("broker refused the connection with reason 0x%02x", ack.ReasonCode)
	}
	window = maxUnacknowledged
	if m := int(ack.Properties.ReceiveMaximum); m > 0 {
		window = min(window, m)
	}
	return window, ack.SessionPresent, nil
}

// read gives the next packet, and pings where none comes.
func (r *remote) read() (head byte, body []byte, err error) {
	for tries := 0; ; tries++ {
		if err := r.conn.SetReadDeadline(time.Now().Add(remoteKeepAlive / 3)); err != nil {
			return 0, nil, err
		}
		_, err = r.in.Peek(1)
		var timeout net.Error
		if err == nil || !errors.As(err, &timeout) || !timeout.Timeout() || tries == 2 {
			break
		}
		if err := r.write([]byte{packets.Pingreq << 4, 0}); err != nil {
			return 0, nil, err
		}
	}
	if err != nil {
		return 0, nil, err
	}
	if err := r.conn.SetReadDeadline(time.Now().Add(remoteTimeout)); err != nil {
		return 0, nil, err
	}
	if head, err = r.in.ReadByte(); err != nil {
		return 0, nil, err
	}
	n, _, err := packets.DecodeLength(r.in)
	if err != nil || n > remotePacket {
		return 0, nil, fmt.Errorf("packet of %d bytes: %w", n, errors.Join(err, errors.New("too large")))
	}
	body = make([]byte, n)
	_, err = io.ReadFull(r.in, body)
	return head, body, err
}

func (r *remote) write(frames []byte) error {
	if err := r.conn.SetWriteDeadline(time.Now().Add(remoteTimeout)); err != nil {
		return err
	}
	_, err := r.conn.Write(frames)
	return err
}

func (r *remote) stop(error) {
	_ = r.conn.Close() // it is given up anyway
}
