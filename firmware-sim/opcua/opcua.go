// Package opcua serves the emissions of one source as an OPC UA server that
// loses nothing: every change is queued with its plant time, a queue that runs
// over says so in the overflow bit, subscriptions outlive sessions, and what
// was sent is kept until it is acknowledged.
//
// The address space of namespace 0 comes from gopcua/server, the secure channel
// from gopcua/uasc. Connections, sessions, subscriptions and queues are our
// own: the library's server sends one value per publishing interval, hands out
// subscription ids twice and never closes a connection.
//
//	Push ──► store (until somebody listens)
//	     └─► queue of each subscription ──► sent, kept ──► acknowledged: received
//
// The server's clock is the plant clock as of the last Prove: publish times,
// the timestamps of response headers and Server_ServerStatus_CurrentTime.
// Publishing intervals, lifetimes and session timeouts are machine time.
//
// A forgetful server is a cheap PLC: it cannot transfer, republish or read
// history, and its queues die with the connection.
package opcua

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/gopcua/opcua/server"
	"github.com/gopcua/opcua/ua"
	"golang.org/x/sync/errgroup"

	"plantmesh/firmware-sim/plant"
)

// Config says what one server serves and where.
type Config struct {
	Source    string // name of the source whose signals are served
	Listen    string // "host:port"; port 0 picks a free one
	Forgetful bool   // no Transfer, Republish, HistoryRead; queues die with the connection
}

// Namespace is the namespace URI of every signal's node id; the identifier is
// the name of the signal.
const Namespace = "urn:plantmesh:firmware-sim"

// Server is one OPC UA server. Push never blocks on a client. Safe for
// concurrent use.
type Server struct {
	cfg      Config
	log      *slog.Logger
	listener *net.TCPListener
	url      string
	space    *space
	received plant.Received
	kick     chan struct{} // wakes the publishing loop; holds one

	mu        sync.Mutex // protects everything below
	nodes     map[string]*node
	store     fifo[*held] // pushed before anybody listened, in push order
	storeShut bool        // somebody listens: what is not monitored is not kept
	waiting   int         // emissions kept somewhere and not told received
	proved    time.Time   // the server's clock
	began     time.Time   // what it showed first
	conns     map[*conn]bool
	sessions  map[string]*session // by authentication token
	subs      []*subscription     // in order of age
	farewells []*outgoing         // to sessions whose subscription went to another
	lastID    uint32              // of subscriptions and monitored items
	closed    bool
}

var _ plant.Server = (*Server)(nil)

// Serve listens and prepares the address space of cfg.Source out of signals;
// nobody is answered before Run. received is called outside all locks.
func Serve(cfg Config, signals []plant.Signal, received plant.Received, log *slog.Logger) (*Server, error) {
	return serve(cfg, signals, zero(), received, log)
}

func serve(cfg Config, signals []plant.Signal, zero server.NameSpace, received plant.Received, log *slog.Logger) (*Server, error) {
	addr, err := net.ResolveTCPAddr("tcp", cfg.Listen)
	if err != nil {
		return nil, fmt.Errorf("serve %s over opc ua: %w", cfg.Source, err)
	}
	l, err := net.ListenTCP("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("serve %s over opc ua: %w", cfg.Source, err)
	}
	s := &Server{
		cfg:      cfg,
		log:      log.With("source", cfg.Source),
		listener: l,
		url:      "opc.tcp://" + l.Addr().String(),
		received: received,
		kick:     make(chan struct{}, 1),
		nodes:    map[string]*node{},
		conns:    map[*conn]bool{},
		sessions: map[string]*session{},
	}
	for _, sig := range signals {
		if sig.Source == cfg.Source {
			s.nodes[sig.Name] = &node{signal: sig}
		}
	}
	s.space = newSpace(s, zero, signals)
	return s, nil
}

// URL is the endpoint clients dial.
func (s *Server) URL() string { return s.url }

// Run answers clients until ctx ends or Close is called.
func (s *Server) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	g, ctx := errgroup.WithContext(ctx)
	stop := context.AfterFunc(ctx, s.shut)
	defer stop()
	g.Go(func() error { s.publish(ctx); return nil })
	g.Go(func() error {
		defer cancel()
		for {
			tcp, err := s.listener.AcceptTCP()
			switch {
			case errors.Is(err, net.ErrClosed):
				return nil
			case err != nil:
				s.log.Warn("connection not accepted", "err", err)
				continue
			}
			c := &conn{server: s, tcp: tcp}
			if !s.adopt(c) {
				return nil
			}
			g.Go(func() error { c.serve(ctx); return nil })
		}
	})
	if err := g.Wait(); err != nil {
		return fmt.Errorf("serve %s over opc ua: %w", s.cfg.Source, err)
	}
	return nil
}

// Close implements plant.Server. It cuts every connection; Run returns soon
// after.
func (s *Server) Close() error {
	s.shut()
	return nil
}

func (s *Server) shut() {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	if err := s.listener.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
		s.log.Warn("listener not closed", "err", err)
	}
	s.Cut()
}

// Cut drops every connection without a word, as a pulled cable does.
// Subscriptions stay, unless the server is forgetful.
func (s *Server) Cut() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		c.hangUp()
	}
}

// adopt counts c among the open connections, unless the server is closed.
func (s *Server) adopt(c *conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		c.hangUp()
		return false
	}
	s.conns[c] = true
	return true
}

// Push implements plant.Server.
func (s *Server) Push(e plant.Emission) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := s.nodes[e.Signal]
	if n == nil {
		return // of another source
	}
	h := &held{node: n, index: e.Index, at: e.Time.UnixNano(), emitted: e.Emitted.UnixNano(), status: e.Status, value: e.Value}
	n.remember(h, !s.cfg.Forgetful)
	for _, it := range n.items {
		s.enqueue(it, h)
	}
	if len(n.items) == 0 && !s.storeShut {
		s.keep(h)
	}
}

// Prove implements plant.Server. The clock never goes back.
func (s *Server) Prove(t time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if t.After(s.proved) {
		s.proved = t
	}
	if s.began.IsZero() {
		s.began = t
	}
}

// Waiting implements plant.Server. What died in a queue is not waited for.
func (s *Server) Waiting() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.waiting
}

// Connections is how many are open; of those that ended no request is left.
func (s *Server) Connections() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.conns)
}

// now is the server's clock.
func (s *Server) now() time.Time {
	_, now := s.times()
	return now
}

// times are what the server's clock showed first, and shows now.
func (s *Server) times() (began, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.began, s.proved
}

// wake makes the publishing loop look again.
func (s *Server) wake() {
	select {
	case s.kick <- struct{}{}:
	default:
	}
}

// header is a response header in plant time.
func (s *Server) header(req *ua.RequestHeader, code ua.StatusCode) *ua.ResponseHeader {
	return headerAt(s.now(), req, code)
}

func headerAt(now time.Time, req *ua.RequestHeader, code ua.StatusCode) *ua.ResponseHeader {
	return &ua.ResponseHeader{
		Timestamp:          now,
		RequestHandle:      req.RequestHandle,
		ServiceResult:      code,
		ServiceDiagnostics: &ua.DiagnosticInfo{},
		StringTable:        []string{},
		AdditionalHeader:   ua.NewExtensionObject(nil),
	}
}

// fault answers a request with a bad service result.
func (s *Server) fault(req *ua.RequestHeader, code ua.StatusCode) ua.Response {
	return &ua.ServiceFault{ResponseHeader: s.header(req, code)}
}
