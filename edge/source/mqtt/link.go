package mqtt

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/eclipse/paho.golang/packets"
)

const (
	// keepAlive is what the broker is told: silent half as long again, we are dead.
	keepAlive = 30 * time.Second
	// pingAfter silence in one direction a ping is sent; two without an answer
	// end the connection.
	pingAfter = keepAlive / 3
	// dialTimeout bounds connecting, the TLS handshake and the CONNACK.
	dialTimeout = 10 * time.Second
	// writeTimeout bounds one write. Acknowledgements are small: a broker that
	// takes none for so long is gone.
	writeTimeout = 10 * time.Second
	// restTimeout bounds a packet that has begun.
	restTimeout = time.Minute
	// maxPassword bounds the password file.
	maxPassword = 4 << 10
)

var (
	errFrame   = errors.New("broker sent what is no MQTT 5 packet")
	errRefused = errors.New("broker refused")
	errSilent  = errors.New("broker answers no ping")
	errMute    = errors.New("broker took the connection and said nothing")

	errForgotten = errors.New("broker has forgotten our session")
)

// link is one connection to the broker. One goroutine reads, any may write.
//
// paho's packets are used for the handshake, its client is not: it allocates
// what a packet's header claims (up to 256 MB), acknowledges on a timer, and
// owns goroutines that outlive the connection.
type link struct {
	conn net.Conn
	in   *bufio.Reader
	max  int // larger packets are only looked at

	mu     sync.Mutex // protects writing and the fields below
	wrote  time.Time
	fences []uint64 // per ping on the way: the last packet acknowledged before it; 0: none
}

// dial connects and shakes hands; present says that the broker still has the
// session of before.
func dial(ctx context.Context, cfg *Config) (l *link, present bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	conn, err := connect(ctx, cfg)
	if err != nil {
		return nil, false, fmt.Errorf("connect to %s: %w", cfg.URL, err)
	}
	l = &link{conn: conn, in: bufio.NewReaderSize(conn, 32<<10), max: int(cfg.MaxPacket)}
	stop := context.AfterFunc(ctx, l.close)
	present, err = l.hello(cfg)
	if !stop() { // closed under hello: its own error says only that
		err = context.Cause(ctx)
	}
	if err != nil {
		l.close()
		return nil, false, mute(cfg.URL, err)
	}
	return l, present, nil
}

// mute says in words that a broker took the connection and then said nothing.
func mute(url string, err error) error {
	var slow net.Error
	if errors.As(err, &slow) && slow.Timeout() { // the deadline of a context too
		return fmt.Errorf("%w within %s: is %s an MQTT broker?", errMute, dialTimeout, url)
	}
	return err
}

func connect(ctx context.Context, cfg *Config) (net.Conn, error) {
	u, err := url.Parse(cfg.URL)
	if err != nil {
		return nil, err
	}
	if u.Scheme != "mqtts" {
		return (&net.Dialer{}).DialContext(ctx, "tcp", address(u, "1883"))
	}
	t := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: u.Hostname()}
	if cfg.CAFile != "" {
		pem, err := os.ReadFile(cfg.CAFile)
		if err != nil {
			return nil, fmt.Errorf("read ca_file: %w", err)
		}
		t.RootCAs = x509.NewCertPool()
		if !t.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("ca_file %s holds no certificate", cfg.CAFile)
		}
	}
	return (&tls.Dialer{Config: t}).DialContext(ctx, "tcp", address(u, "8883"))
}

func address(u *url.URL, port string) string {
	if u.Port() != "" {
		port = u.Port()
	}
	return net.JoinHostPort(u.Hostname(), port)
}

// hello sends CONNECT and reads CONNACK.
func (l *link) hello(cfg *Config) (present bool, err error) {
	c := packets.NewControlPacket(packets.CONNECT)
	h, ok := c.Content.(*packets.Connect)
	if !ok {
		return false, errFrame
	}
	expiry, window := uint32(time.Duration(cfg.SessionExpiry)/time.Second), uint16(cfg.ReceiveMaximum)
	h.ClientID, h.KeepAlive = cfg.ClientID, uint16(keepAlive/time.Second)
	h.Properties.SessionExpiryInterval, h.Properties.ReceiveMaximum = &expiry, &window
	h.UsernameFlag, h.Username = cfg.Username != "", cfg.Username
	if cfg.PasswordFile != "" {
		if h.Password, err = password(cfg.PasswordFile); err != nil {
			return false, err
		}
		h.PasswordFlag = true
	}
	if err := l.send(c); err != nil {
		return false, fmt.Errorf("send connect: %w", err)
	}
	if err := l.conn.SetReadDeadline(time.Now().Add(dialTimeout)); err != nil {
		return false, err
	}
	head, n, err := l.header()
	if err == nil && head>>4 != packets.CONNACK {
		err = errFrame
	}
	if err != nil {
		return false, fmt.Errorf("wait for connack: %w", err)
	}
	got, err := l.control(head, n)
	if err != nil {
		return false, fmt.Errorf("wait for connack: %w", err)
	}
	ack, ok := got.Content.(*packets.Connack)
	if !ok {
		return false, errFrame
	}
	if ack.ReasonCode != packets.ConnackSuccess {
		return false, fmt.Errorf("%w the connection: %s", errRefused, words(ack.Reason(), ack.ReasonCode))
	}
	if q := ack.Properties.MaximumQOS; q != nil && *q == 0 {
		return false, fmt.Errorf("%w QoS 1: it forgets what is not acknowledged", errRefused)
	}
	return ack.SessionPresent, nil
}

func password(path string) ([]byte, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read password_file: %w", err)
	}
	b = bytes.TrimRight(b, "\r\n")
	if len(b) > maxPassword {
		return nil, fmt.Errorf("password_file %s is longer than %d bytes", path, maxPassword)
	}
	return b, nil
}

// subscribe asks for all filters in one packet; the answer comes through read.
func (l *link) subscribe(filters []string) error {
	c := packets.NewControlPacket(packets.SUBSCRIBE)
	s, ok := c.Content.(*packets.Subscribe)
	if !ok {
		return errFrame
	}
	s.PacketID = 1
	for _, f := range filters {
		// RetainHandling 2: nothing that was said before we listened.
		s.Subscriptions = append(s.Subscriptions, packets.SubOptions{Topic: f, QoS: 1, RetainHandling: 2})
	}
	if err := l.send(c); err != nil {
		return fmt.Errorf("send subscribe: %w", err)
	}
	return nil
}

// read gives what the broker says next.
func (l *link) read() (e event, err error) {
	if err := l.await(); err != nil {
		return event{}, err
	}
	head, n, err := l.header()
	if err != nil {
		return event{}, fmt.Errorf("read from the broker: %w", err)
	}
	if head>>4 == packets.PUBLISH {
		p, err := l.publish(head, n)
		return event{kind: published, link: l, packet: p}, err
	}
	got, err := l.control(head, n)
	if err != nil {
		return event{}, err
	}
	switch c := got.Content.(type) {
	case *packets.Pingresp:
		return event{kind: fenced, link: l, through: l.fence()}, nil
	case *packets.Suback:
		for i, reason := range c.Reasons {
			if reason != packets.SubackGrantedQoS1 {
				return event{}, fmt.Errorf("%w a subscription: %s", errRefused, words(c.Reason(i), reason))
			}
		}
		return event{kind: subscribed, link: l}, nil
	case *packets.Disconnect:
		return event{}, fmt.Errorf("%w to go on: %s", errRefused, words(c.Reason(), c.ReasonCode))
	}
	return event{}, fmt.Errorf("%w: type %d", errFrame, head>>4)
}

// fence is what the oldest ping on the way stands for. An answer without a
// ping stands for nothing.
func (l *link) fence() (through uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.fences) > 0 {
		through, l.fences = l.fences[0], l.fences[1:]
	}
	return through
}

// await waits for the first byte of a packet and pings where none comes, or
// where nothing was written for as long.
func (l *link) await() error {
	for tries := 0; ; tries++ {
		if l.in.Buffered() == 0 {
			if err := l.conn.SetReadDeadline(time.Now().Add(pingAfter)); err != nil {
				return err
			}
		}
		_, err := l.in.Peek(1)
		var slow net.Error
		switch {
		case err == nil:
			return l.pingAt(pingAfter)
		case !errors.As(err, &slow) || !slow.Timeout():
			return fmt.Errorf("read from the broker: %w", err)
		case tries == 2:
			return errSilent
		}
		if err := l.pingAt(0); err != nil {
			return err
		}
	}
}

// pingAt pings where nothing was written for so long.
func (l *link) pingAt(silence time.Duration) error {
	l.mu.Lock()
	due := time.Since(l.wrote) >= silence
	l.mu.Unlock()
	if !due {
		return nil
	}
	return l.ping(nil, 0)
}

// ping writes b and a ping behind it. The broker works in order: its answer
// says that it has seen b.
func (l *link) ping(b []byte, through uint64) error {
	l.mu.Lock()
	l.fences = append(l.fences, through)
	l.mu.Unlock()
	return l.write(append(b, packets.PINGREQ<<4, 0))
}

// header reads a fixed header (MQTT 5, 2.1): at most four bytes of length.
func (l *link) header() (head byte, n int, err error) {
	if l.in.Buffered() < 5 {
		if err := l.conn.SetReadDeadline(time.Now().Add(restTimeout)); err != nil {
			return 0, 0, err
		}
	}
	if head, err = l.in.ReadByte(); err != nil {
		return 0, 0, err
	}
	for shift := 0; shift < 28; shift += 7 {
		b, err := l.in.ReadByte()
		if err != nil {
			return 0, 0, err
		}
		n |= int(b&0x7F) << shift
		if b < 0x80 {
			if n > l.in.Buffered() {
				err = l.conn.SetReadDeadline(time.Now().Add(restTimeout))
			}
			return head, n, err
		}
	}
	return 0, 0, fmt.Errorf("%w: length of more than four bytes", errFrame)
}

// control reads any packet but PUBLISH.
func (l *link) control(head byte, n int) (p *packets.ControlPacket, err error) {
	if n > l.max {
		return nil, fmt.Errorf("%w: type %d with %d bytes", errFrame, head>>4, n)
	}
	b := make([]byte, 5, 5+n)
	b[0] = head
	b = b[:1+binary.PutUvarint(b[1:], uint64(n))] // the coding is MQTT's too
	from := len(b)
	b = b[:from+n]
	if _, err := io.ReadFull(l.in, b[from:]); err != nil {
		return nil, fmt.Errorf("read from the broker: %w", err)
	}
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("%w: decoder panicked: %v", errFrame, r)
		}
	}()
	if p, err = packets.ReadPacket(bytes.NewReader(b)); err != nil {
		return nil, fmt.Errorf("%w: %w", errFrame, err)
	}
	return p, nil
}

// publish reads a PUBLISH (MQTT 5, 3.3). Of one that is too large only the
// beginning is kept: refusing it would end the connection and bring it again
// for ever, and telling the broker a maximum would lose it without a trace.
func (l *link) publish(head byte, n int) (p packet, err error) {
	r := &rest{link: l, n: n}
	p = packet{qos: head >> 1 & 3, again: head&8 != 0, retained: head&1 != 0}
	p.topic = string(r.take(int(r.uint16())))
	if p.qos > 0 {
		p.id = r.uint16()
	}
	r.take(r.length()) // properties: nothing in them matters to a reader
	if r.err != nil || p.qos > 1 || p.qos == 1 && p.id == 0 {
		if r.err != nil && !errors.Is(r.err, errFrame) {
			return packet{}, fmt.Errorf("read from the broker: %w", r.err)
		}
		return packet{}, fmt.Errorf("%w: bad publish", errFrame)
	}
	p.hash = hashMore(hashMore(hashStart, []byte(p.topic)), []byte{0})
	if n > l.max {
		p.tooLarge = true
		p.payload = r.take(min(r.n, quoted))
		p.hash = r.skip(hashMore(p.hash, p.payload))
	} else {
		p.payload = r.take(r.n)
		p.hash = hashMore(p.hash, p.payload)
	}
	if r.err != nil {
		return packet{}, fmt.Errorf("read from the broker: %w", r.err)
	}
	return p, nil
}

// ack acknowledges packets in this order, in one write, with a ping behind
// them; through is the number of the last one.
func (l *link) ack(ids []uint16, through uint64) error {
	b := make([]byte, 0, 4*len(ids)+2)
	for _, id := range ids {
		b = append(b, packets.PUBACK<<4, 2, byte(id>>8), byte(id))
	}
	return l.ping(b, through)
}

func (l *link) send(c *packets.ControlPacket) error {
	var b bytes.Buffer
	if _, err := c.WriteTo(&b); err != nil {
		return err
	}
	return l.write(b.Bytes())
}

func (l *link) write(b []byte) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.wrote = time.Now()
	if err := l.conn.SetWriteDeadline(l.wrote.Add(writeTimeout)); err != nil {
		return err
	}
	_, err := l.conn.Write(b)
	return err
}

// leave says goodbye; the session stays with the broker.
func (l *link) leave() error { return l.write([]byte{packets.DISCONNECT << 4, 0}) }

// endSession says goodbye and ends the session: DISCONNECT with a session
// expiry of 0 (MQTT 5, 3.14.2.2.2).
func (l *link) endSession() error {
	return l.write([]byte{packets.DISCONNECT << 4, 7, 0, 5, packets.PropSessionExpiryInterval, 0, 0, 0, 0})
}

// close ends the connection without a word.
func (l *link) close() {
	_ = l.conn.Close() // it is given up anyway
}

func words(reason string, code byte) string {
	if reason == "" {
		return fmt.Sprintf("reason 0x%02x", code)
	}
	return strings.TrimSuffix(reason, ".")
}

// rest is what is left of a packet.
type rest struct {
	link *link
	n    int
	err  error
}

func (r *rest) take(n int) []byte {
	if r.err == nil && n > r.n {
		r.err = errFrame
	}
	if r.err != nil {
		return nil
	}
	r.n -= n
	b := make([]byte, n)
	_, r.err = io.ReadFull(r.link.in, b)
	return b
}

func (r *rest) uint16() uint16 {
	if b := r.take(2); len(b) == 2 {
		return binary.BigEndian.Uint16(b)
	}
	return 0
}

// length reads a variable byte integer.
func (r *rest) length() (n int) {
	for shift := 0; shift < 28; shift += 7 {
		b := r.take(1)
		if r.err != nil {
			return 0
		}
		n |= int(b[0]&0x7F) << shift
		if b[0] < 0x80 {
			return n
		}
	}
	r.err = errFrame
	return 0
}

// skip reads on to the end and keeps only the hash.
func (r *rest) skip(h uint64) uint64 {
	for r.n > 0 && r.err == nil {
		h = hashMore(h, r.take(min(r.n, 32<<10)))
		if r.err == nil {
			r.err = r.link.conn.SetReadDeadline(time.Now().Add(restTimeout))
		}
	}
	return h
}
