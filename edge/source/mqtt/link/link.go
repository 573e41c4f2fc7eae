// Package link is a connection to an MQTT 5 broker: packets are read where they
// lie, acknowledged one by one on the connection they came from, and nothing is
// allocated because a header says so.
//
// Paho's packets are used for the handshake; its client is not: it allocates what a
// packet's header claims (up to 256 MB), acknowledges on a timer, and owns
// goroutines that outlive the connection.
package link

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/eclipse/paho.golang/packets"

	"plantmesh/proto/strict"
)

// Bounds of a connection.
const (
	// KeepAlive is what the broker is told: silent half as long again, we are dead.
	KeepAlive = 30 * time.Second
	// pingAfter silence in one direction a ping is sent; two without an answer
	// end the connection.
	pingAfter = KeepAlive / 3
	// DialTimeout bounds connecting, the TLS handshake and the CONNACK.
	DialTimeout = 10 * time.Second
	// writeTimeout bounds one write. What we write is small: a broker that takes
	// nothing for so long is gone.
	writeTimeout = 10 * time.Second

	defaultMaxPacket strict.Size = 1 << 20
	largestMaxPacket strict.Size = 64 << 20
	// maxPassword bounds the password file.
	maxPassword = 4 << 10
)

// Errors of a connection.
var (
	ErrFrame   = errors.New("broker sent what is no MQTT 5 packet")
	ErrRefused = errors.New("broker refused")
	ErrSilent  = errors.New("broker answers no ping")
	ErrMute    = errors.New("broker took the connection and said nothing")
	// ErrTaken is another client under our id: what it acknowledged does not come to us.
	ErrTaken = errors.New("another client came with the same client id, and takes the messages")
)

// Config says which broker, and who we are there.
type Config struct {
	URL      string `yaml:"url"`       // mqtt://host:1883, or mqtts://host:8883 for TLS
	CAFile   string `yaml:"ca_file"`   // PEM certificates that mqtts trusts; empty: those of the system
	CertFile string `yaml:"cert_file"` // PEM certificate that is shown to the broker, with key_file; mqtts only
	KeyFile  string `yaml:"key_file"`  // PEM key of cert_file

	Username     string `yaml:"username"`
	PasswordFile string `yaml:"password_file"` // file with the password alone in it

	MaxPacket strict.Size `yaml:"max_packet"` // a larger message is refused with a reason; 1KiB to 64MiB, default 1MiB
}

// Validate fills in the defaults and checks the rest.
func (c *Config) Validate() error {
	if c.MaxPacket == 0 {
		c.MaxPacket = defaultMaxPacket
	}
	u, err := url.Parse(c.URL)
	wrong := Misaddressed(c.URL)
	switch {
	case err == nil && u.User != nil && wrong != nil: // what stands there is not said again
		return strict.At("url", "url is no mqtt://host:port or mqtts://host:port%s", wrong)
	case err != nil || wrong != nil:
		return strict.At("url", "url %q is no mqtt://host:port or mqtts://host:port%s", c.URL, wrong)
	case u.User != nil:
		return strict.At("url", "url holds a user: write username and password_file instead, so that no password stands in a configuration")
	case c.MaxPacket < 1<<10 || c.MaxPacket > largestMaxPacket:
		return strict.At("max_packet", "max_packet must lie between 1KiB and 64MiB")
	case (c.CertFile == "") != (c.KeyFile == ""):
		return strict.At("cert_file", "cert_file and key_file belong together: one of them is missing")
	case u.Scheme == "mqtt" && (c.CAFile != "" || c.CertFile != ""):
		return strict.At("url", "url %q is not encrypted: ca_file and cert_file need mqtts://", c.URL)
	}
	return nil
}

// Misaddressed says why a text is no broker's address; nil: it is one.
func Misaddressed(broker string) *strict.AddressFault {
	return strict.Address(broker, strict.Scheme{Name: "mqtt", Port: "1883"}, strict.Scheme{Name: "mqtts", Port: "8883"})
}

// Files are the settings that name files, for who knows where they lie.
func (c *Config) Files() map[string]*string {
	return map[string]*string{"ca_file": &c.CAFile, "cert_file": &c.CertFile, "key_file": &c.KeyFile, "password_file": &c.PasswordFile}
}

// Message is one to be published.
type Message struct {
	Topic   string
	Payload []byte
	QoS     byte // 0 or 1
	Retain  bool
}

// Hello is how a session begins.
type Hello struct {
	ClientID       string
	CleanStart     bool          // forget the session of before
	Expiry         time.Duration // how long the broker keeps the session without us; 0: not at all
	ReceiveMaximum uint16        // QoS 1 messages taken and not yet acknowledged; 0: 65535
	Will           *Message      // what the broker publishes when we are gone without a word
}

// Link is one connection to a broker. One goroutine calls Next and Ready, any may
// call the rest.
type Link struct {
	conn   net.Conn
	in     inbox
	silent time.Duration // after which a ping is sent; 0: pingAfter

	mu     sync.Mutex // protects writing and the fields below
	wrote  time.Time
	lastID uint16 // of what we publish with QoS 1
	asked  []byte // QoS of each subscription of the last SUBSCRIBE
}

// Dial connects and shakes hands; present says that the broker still has the
// session of before.
func Dial(ctx context.Context, cfg *Config, hello Hello) (l *Link, present bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, DialTimeout)
	defer cancel()
	conn, err := connect(ctx, cfg)
	if err != nil {
		return nil, false, fmt.Errorf("connect to %s: %w", cfg.URL, err)
	}
	l = &Link{conn: conn, in: newInbox(conn, int(cfg.MaxPacket))}
	stop := context.AfterFunc(ctx, l.Close)
	present, err = l.hello(cfg, hello)
	if !stop() { // closed under hello: its own error says only that
		err = context.Cause(ctx)
	}
	if err != nil {
		l.Close()
		return nil, false, mute(cfg.URL, err)
	}
	l.in.ping = func() error { return l.pingAt(l.silence()) }
	return l, present, nil
}

// mute says in words that a broker took the connection and then said nothing.
func mute(url string, err error) error {
	var slow net.Error
	if errors.As(err, &slow) && slow.Timeout() { // the deadline of a context too
		return fmt.Errorf("%w within %s: is %s an MQTT broker?", ErrMute, DialTimeout, url)
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
	if cfg.CertFile != "" {
		pair, err := tls.LoadX509KeyPair(cfg.CertFile, cfg.KeyFile)
		if err != nil {
			return nil, fmt.Errorf("read cert_file and key_file: %w", err)
		}
		t.Certificates = []tls.Certificate{pair}
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
func (l *Link) hello(cfg *Config, hello Hello) (present bool, err error) {
	c := packets.NewControlPacket(packets.CONNECT)
	h, ok := c.Content.(*packets.Connect)
	if !ok {
		return false, ErrFrame
	}
	h.ClientID, h.KeepAlive, h.CleanStart = hello.ClientID, uint16(KeepAlive/time.Second), hello.CleanStart
	expiry := uint32(hello.Expiry / time.Second)
	h.Properties.SessionExpiryInterval = &expiry
	if hello.ReceiveMaximum > 0 {
		h.Properties.ReceiveMaximum = &hello.ReceiveMaximum
	}
	if w := hello.Will; w != nil {
		h.WillFlag, h.WillTopic, h.WillMessage, h.WillQOS, h.WillRetain = true, w.Topic, w.Payload, w.QoS, w.Retain
		h.WillProperties = &packets.Properties{}
	}
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
	got, err := l.in.first(time.Now().Add(DialTimeout))
	if err != nil {
		return false, fmt.Errorf("wait for connack: %w", err)
	}
	ack, ok := got.Content.(*packets.Connack)
	if !ok {
		return false, fmt.Errorf("wait for connack: %w", ErrFrame)
	}
	if ack.ReasonCode != packets.ConnackSuccess {
		return false, fmt.Errorf("%w the connection: %s", ErrRefused, words(ack.Reason(), ack.ReasonCode))
	}
	if q := ack.Properties.MaximumQOS; q != nil && *q == 0 {
		return false, fmt.Errorf("%w QoS 1: it forgets what is not acknowledged", ErrRefused)
	}
	if s := ack.Properties.ServerKeepAlive; s != nil && *s > 0 { // it goes before ours (MQTT 5, 3.2.2.3.14)
		l.silent = min(pingAfter, time.Duration(*s)*time.Second/3)
	}
	return ack.SessionPresent, nil
}

func password(path string) ([]byte, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read password_file: %w", err)
	}
	b = []byte(strings.TrimRight(string(b), "\r\n"))
	if len(b) > maxPassword {
		return nil, fmt.Errorf("password_file %s is longer than %d bytes", path, maxPassword)
	}
	return b, nil
}

// Close ends the connection without a word: the broker publishes the will.
func (l *Link) Close() {
	_ = l.conn.Close() // it is given up anyway
}

func words(reason string, code byte) string {
	if reason == "" {
		return fmt.Sprintf("reason 0x%02x", code)
	}
	return strings.TrimSuffix(reason, ".")
}
