// Package serve listens for devices that know no broker: MQTT 3.1.1 and 5, each
// device with credentials and topics of its own. It gives on what they publish and
// answers them when it is told to: nothing is acknowledged by itself.
//
// The protocol is spoken by a library that is made to be a broker. What it lacks for
// this is contained here: packets are checked before it sees them (guard), it never
// acknowledges (hook), and it has no storage: which sessions there are it is told.
package serve

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"time"

	mochi "github.com/mochi-mqtt/server/v2"
	"golang.org/x/sync/errgroup"

	"plantmesh/edge/source/mqtt/link"
)

// Session is one that devices count on: a client id whose packets may come again.
type Session struct {
	Client  string `json:"client"`
	User    string `json:"user"`
	Version byte   `json:"version"` // of the protocol: 4 or 5
	Expiry  uint32 `json:"expiry"`  // seconds, of version 5
}

// Taker is told what devices do. It is called by the goroutine of the device's
// connection, by many at once; while it doesn't return, that device is not read.
type Taker interface {
	// Publish gives one message; its bytes hold until it returns. What has QoS is
	// acknowledged through d when it is stored, in the order of the packets.
	Publish(d *Client, p *link.Packet)
	// Begin is told of a session that is kept from here on, End of one that is gone.
	Begin(s Session)
	End(client string)
	// Count is told how many devices are connected, and which one has come, if one has:
	// fresh says that it has no session of before.
	Count(connected int, came string, fresh bool)
}

// Witness may be implemented by a Taker: it is told of each caller, and of each message,
// that is refused, and why. Safe for concurrent use.
type Witness interface {
	Refused(who, why string)
}

// Server listens. Run is called once; what it starts ends with it.
type Server struct {
	cfg      Config
	log      *slog.Logger
	taker    Taker
	devices  map[string]*device
	tls      *tls.Config
	listener net.Listener
	mqtt     *mochi.Server
	hook     *hook
	slots    chan struct{}

	mu        sync.Mutex     // protects strangers
	strangers map[string]int // connections by address that have not said who they are
}

// device is one that may call.
type device struct {
	Device

	password [sha256.Size]byte // hash of the password
	has      bool              // it has one
}

// Listen begins to listen, with the sessions of before.
func Listen(ctx context.Context, cfg Config, sessions []Session, taker Taker, log *slog.Logger) (*Server, error) {
	s := &Server{cfg: cfg, log: log, taker: taker, devices: map[string]*device{}, slots: make(chan struct{}, cfg.MaxClients), strangers: map[string]int{}}
	for _, d := range cfg.Devices {
		known := &device{Device: d}
		if d.PasswordFile != "" {
			secret, err := password(d.PasswordFile)
			if err != nil {
				return nil, err
			}
			known.password, known.has = sha256.Sum256(secret), true
		}
		s.devices[d.User] = known
	}
	if err := s.certify(); err != nil {
		return nil, err
	}
	caps := mochi.NewDefaultServerCapabilities()
	caps.MaximumClients = int64(cfg.MaxClients)
	caps.MaximumPacketSize = uint32(cfg.MaxPacket) + 5
	caps.ReceiveMaximum, caps.MaximumInflight = math.MaxUint16, math.MaxUint16
	caps.TopicAliasMaximum, caps.RetainAvailable = 0, 1 // devices may ask for retain: it means nothing here
	caps.SharedSubAvailable, caps.WildcardSubAvailable, caps.SubIDAvailable = 0, 0, 0
	caps.MaximumSessionExpiryInterval = math.MaxUint32
	caps.MinimumProtocolVersion = 4
	s.mqtt = mochi.New(&mochi.Options{Capabilities: caps, Logger: slog.New(slog.DiscardHandler), SysTopicResendInterval: math.MaxInt32})
	s.hook = newHook(s, sessions)
	if err := s.mqtt.AddHook(s.hook, nil); err != nil {
		return nil, fmt.Errorf("start the listener: %w", err)
	}
	var err error
	if s.listener, err = (&net.ListenConfig{KeepAlive: 30 * time.Second}).Listen(ctx, "tcp", cfg.Listen); err != nil {
		return nil, fmt.Errorf("listen for devices on %s: %w", cfg.Listen, err)
	}
	return s, nil
}

func password(path string) ([]byte, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read password_file: %w", err)
	}
	b = []byte(strings.TrimRight(string(b), "\r\n"))
	if len(b) == 0 || len(b) > maxPassword {
		return nil, fmt.Errorf("password_file %s is empty, or longer than %d bytes", path, maxPassword)
	}
	return b, nil
}

func (s *Server) certify() error {
	if s.cfg.CertFile == "" {
		return nil
	}
	pair, err := tls.LoadX509KeyPair(s.cfg.CertFile, s.cfg.KeyFile)
	if err != nil {
		return fmt.Errorf("read cert_file and key_file: %w", err)
	}
	s.tls = &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{pair}}
	if s.cfg.CAFile == "" {
		return nil
	}
	pem, err := os.ReadFile(s.cfg.CAFile)
	if err != nil {
		return fmt.Errorf("read ca_file: %w", err)
	}
	s.tls.ClientCAs, s.tls.ClientAuth = x509.NewCertPool(), tls.VerifyClientCertIfGiven
	if !s.tls.ClientCAs.AppendCertsFromPEM(pem) {
		return fmt.Errorf("ca_file %s holds no certificate", s.cfg.CAFile)
	}
	return nil
}

// Address is where it listens.
func (s *Server) Address() string { return s.listener.Addr().String() }

// Run serves devices until ctx ends.
func (s *Server) Run(ctx context.Context) error {
	if err := s.mqtt.Serve(); err != nil {
		return fmt.Errorf("start the listener: %w", err)
	}
	g, inner := errgroup.WithContext(ctx)
	g.Go(func() error {
		<-inner.Done()
		err := s.listener.Close()
		s.hook.hangUp()
		return err
	})
	g.Go(func() error {
		for {
			c, err := s.listener.Accept()
			switch {
			case err != nil && inner.Err() != nil: // closed above
				return ctx.Err()
			case err != nil:
				return fmt.Errorf("listen for devices on %s: %w", s.cfg.Listen, err)
			}
			known, why := s.greet(c)
			if why != "" {
				s.hook.refuse(c.RemoteAddr().String(), why)
				_ = c.Close() // it was never taken
				continue
			}
			g.Go(func() error {
				defer func() { <-s.slots }()
				s.serve(inner, c, known)
				return nil
			})
		}
	})
	err := errors.Join(g.Wait(), s.mqtt.Close())
	if ctx.Err() == nil { // else it was asked to end
		return err
	}
	return nil
}

// greet takes a caller in; known is to be called once it is known who that is, or when it
// is gone. Or it says why not.
func (s *Server) greet(c net.Conn) (known func(), why string) {
	from := c.RemoteAddr().String()
	if at, err := netip.ParseAddrPort(from); err == nil {
		from = at.Addr().Unmap().String()
		if p, err := at.Addr().Prefix(64); at.Addr().Unmap().Is6() && err == nil { // what one subscriber has
			from = p.String()
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.strangers[from] >= mostStrangers {
		return nil, fmt.Sprintf("%d callers of its address have not said yet who they are", mostStrangers)
	}
	select {
	case s.slots <- struct{}{}:
	default:
		return nil, "as many as max_clients are connected"
	}
	s.strangers[from]++
	return sync.OnceFunc(func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.strangers[from]--; s.strangers[from] == 0 {
			delete(s.strangers, from)
		}
	}), ""
}

// serve is the life of one connection.
func (s *Server) serve(ctx context.Context, c net.Conn, known func()) {
	defer known()
	defer context.AfterFunc(ctx, func() { _ = c.Close() })() // it is given up anyway
	if err := c.SetDeadline(time.Now().Add(helloTimeout)); err != nil {
		return
	}
	name := "" // by certificate
	if s.tls != nil {
		t := tls.Server(c, s.tls)
		if err := t.HandshakeContext(ctx); err != nil {
			s.log.Debug("tls handshake failed", "remote", c.RemoteAddr().String(), "error", err)
			s.tell(ctx, c.RemoteAddr().String(), fmt.Sprintf("TLS: %v", err))
			_ = c.Close()
			return
		}
		if shown := t.ConnectionState().PeerCertificates; len(shown) > 0 {
			name = shown[0].Subject.CommonName
		}
		c = t
	}
	g := &caller{guard: newGuard(c, int(s.cfg.MaxPacket)), name: name}
	g.known = func() {
		g.in = true
		known()
	}
	g.told = func(fault error) { s.tell(ctx, c.RemoteAddr().String(), fault.Error()) }
	if err := s.mqtt.EstablishConnection("devices", g); err != nil {
		s.log.Debug("device connection ended", "remote", c.RemoteAddr().String(), "error", err)
	}
	_ = c.Close() // in any case
	if !g.in {
		select { // see strangerPause
		case <-ctx.Done():
		case <-time.After(strangerPause):
		}
	}
}

// tell tells a witness, if there is one, why somebody was refused. What ends with the
// server was not.
func (s *Server) tell(ctx context.Context, who, why string) {
	if w, ok := s.taker.(Witness); ok && ctx.Err() == nil {
		w.Refused(who, why)
	}
}

// caller is a connection with the name its certificate has.
type caller struct {
	*guard

	name  string
	known func() // called when it is known who that is
	in    bool   // it was; of the connection's own goroutine
}

// Client is one connected device. Safe for concurrent use.
type Client struct {
	ID   string
	User string

	c  *mochi.Client
	mu sync.Mutex // protects twice
	// twice are the packets of QoS 2 that are not answered yet.
	twice map[uint16]bool
}
