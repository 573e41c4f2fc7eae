// Package mqtt offers the plant over MQTT: JSON, QoS 1, many values a message,
// through a broker of its own or a given one.
//
// A machine's values of one event time become one message on
// plant/<line>/<machine>; plant/<line>/heartbeat says how far the line has
// told everything. Nothing is lost on this side: what nobody acknowledged is
// held, in order, and sent again in that order.
package mqtt

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"plantmesh/firmware-sim/mqtt/client"
	"plantmesh/firmware-sim/plant"
)

const (
	// maxUnacknowledged is where the publisher stops: brokers drop silently
	// beyond some number in flight (mochi 8,192, mosquitto 1,000 queued), a
	// device that cares stays below it.
	maxUnacknowledged = 4000
	// heartbeatPlant is the longest stretch of plant time without a heartbeat
	// while the plant is told.
	heartbeatPlant = 10 * time.Second
	// heartbeatMachine is how soon a proof that moved is said, in machine time.
	heartbeatMachine = 200 * time.Millisecond
	// heartbeatStanding is how often a plant that stands says that it is still
	// there, in machine time.
	heartbeatStanding = 5 * time.Second
	// writeBytes is how much is written to a connection at once.
	writeBytes = 64 << 10
)

// ErrDropped ends a run: a message was refused or thrown away, so what was
// emitted can't all be received any more.
var ErrDropped = errors.New("an mqtt message was dropped")

// Config says which source is offered where.
type Config struct {
	Source string // only its signals and emissions are taken
	Listen string // address of the own broker, such as 127.0.0.1:1883
	Broker string // URL of another broker, such as mqtt://127.0.0.1:1883, see dial for its limits; empty: the own one
}

// Server offers one source over MQTT. It implements plant.Server and is safe
// for concurrent use.
type Server struct {
	cfg      Config
	lines    []string
	received plant.Received
	log      *slog.Logger
	url      string
	broker   *broker // nil where another broker is given
	wake     chan struct{}
	report   chan struct{}
	shown    chan struct{} // there is something for onlookers
	failed   chan error
	once     sync.Once

	// Of a given broker: the count of dropped messages was subscribed to.
	subscribed chan struct{}
	drops      drops

	mu   sync.Mutex // protects the fields below
	out  courier
	said []client.Message // to be shown to onlookers
	link link             // nil: nobody to send to
	open []*bundle
	done []uint64 // emissions acknowledged and not yet reported

	waiting int
	proof   time.Time // plant time
	told    time.Time // proof of the last heartbeat
	toldAt  time.Time // machine time of the last heartbeat
}

var _ plant.Server = (*Server)(nil)

// link is a connection that takes encoded packets. Only Run's goroutine writes.
type link interface {
	write(frames []byte) error
	stop(reason error)
}

// Serve starts offering the signals of cfg.Source. The own broker listens when
// Serve returns, a given one is dialled by Run. received is told what the
// subscriber acknowledged (with a given broker: what the broker did).
func Serve(cfg Config, signals []plant.Signal, received plant.Received, log *slog.Logger) (*Server, error) {
	s := &Server{
		cfg: cfg, received: received, log: log.With("source", cfg.Source),
		wake: make(chan struct{}, 1), report: make(chan struct{}, 1), shown: make(chan struct{}, 1), failed: make(chan error, 1),
		url: cfg.Broker, toldAt: time.Now(), subscribed: make(chan struct{}, 1),
	}
	s.out.window = maxUnacknowledged
	seen := map[string]bool{}
	for _, sig := range signals {
		line, _, _, ok := split(sig.Name)
		switch {
		case sig.Source != cfg.Source:
		case !ok:
			return nil, fmt.Errorf("signal %q of source %q is no <line>.<machine>.<role>", sig.Name, cfg.Source)
		case !seen[line]:
			seen[line] = true
			s.lines = append(s.lines, line)
		}
	}
	if len(s.lines) == 0 {
		return nil, fmt.Errorf("source %q has no signals", cfg.Source)
	}
	if cfg.Broker != "" {
		return s, nil
	}
	b, err := listen(cfg.Listen, s)
	if err != nil {
		return nil, err
	}
	s.broker = b
	s.url = "mqtt://" + b.address
	return s, nil
}

// URL is where the broker listens: mqtt://host:port.
func (s *Server) URL() string { return s.url }

// Run sends until ctx ends, and closes the server then. It returns ErrDropped
// where something was lost on the way.
func (s *Server) Run(ctx context.Context) error {
	defer s.Close() //nolint:errcheck // Close never fails
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return s.deliver(ctx) })
	g.Go(func() error { return s.tell(ctx) })
	if s.broker != nil {
		g.Go(func() error { return s.show(ctx) })
	} else {
		g.Go(func() error { return s.dial(ctx) })
		g.Go(func() error { return s.warnUnseen(ctx) })
	}
	g.Go(func() error {
		select {
		case <-ctx.Done():
			return nil
		case err := <-s.failed:
			return err
		}
	})
	return g.Wait()
}

// Close stops serving. It may be called more than once.
func (s *Server) Close() error {
	s.once.Do(func() {
		if s.broker != nil {
			s.broker.close()
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.link != nil {
			s.link.stop(errors.New("server closed"))
		}
	})
	return nil
}

// Push implements plant.Server.
func (s *Server) Push(e plant.Emission) {
	line, machine, role, ok := split(e.Signal)
	if !ok || e.Source != s.cfg.Source {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.waiting++
	if len(s.open) > 0 && !s.open[0].emitted.Equal(e.Emitted) {
		s.closeBundles()
	}
	topic := "plant/" + line + "/" + machine
	for _, b := range s.open {
		if b.topic == topic && b.time.Equal(e.Time) && b.add(role, e) {
			return
		}
	}
	b := newBundle(topic, e)
	b.add(role, e)
	s.open = append(s.open, b)
}

// Prove implements plant.Server.
func (s *Server) Prove(t time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closeBundles()
	if t.After(s.proof) {
		s.proof = t
	}
	s.beat(false)
}

// Waiting implements plant.Server.
func (s *Server) Waiting() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.waiting
}

// Inject queues a payload as it is, behind everything pushed before: a device
// that says something no machine should. No emission belongs to it.
func (s *Server) Inject(topic string, payload []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closeBundles()
	s.send(&message{topic: topic, payload: payload})
}

// Cut closes the subscriber's connection without a word; its session lives on.
func (s *Server) Cut() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.link != nil {
		s.link.stop(errors.New("cut on command"))
	}
}

// closeBundles turns the open bundles into messages.
func (s *Server) closeBundles() {
	for _, b := range s.open {
		s.send(b.message())
	}
	s.open = s.open[:0]
}

// beat queues a heartbeat for each line where one is due. What it says was
// pushed before, so it goes behind it.
func (s *Server) beat(timer bool) {
	now := time.Now()
	standing := !s.proof.After(s.told)
	if s.proof.IsZero() || standing && (len(s.out.queue) > 0 || now.Sub(s.toldAt) < heartbeatStanding) {
		return
	}
	if !standing && !s.told.IsZero() && s.proof.Sub(s.told) < heartbeatPlant && now.Sub(s.toldAt) < heartbeatMachine {
		return
	}
	if timer {
		s.closeBundles()
	}
	for _, line := range s.lines {
		s.send(heartbeat(line, s.proof))
	}
	s.told, s.toldAt = s.proof, now
}

func (s *Server) send(m *message) {
	s.out.queue = append(s.out.queue, m)
	if s.broker != nil && s.broker.looks.Load() > 0 && len(s.said) < mostShown {
		s.said = append(s.said, client.Message{Topic: m.topic, Payload: m.payload})
		poke(s.shown)
	}
	poke(s.wake)
}

// deliver writes what is queued to whoever listens.
func (s *Server) deliver(ctx context.Context) error {
	tick := time.NewTicker(heartbeatMachine)
	defer tick.Stop()
	for {
		for s.deliverSome() {
		}
		select {
		case <-ctx.Done():
			return nil
		case <-s.wake:
		case <-tick.C:
			s.mu.Lock()
			s.closeBundles()
			s.beat(true)
			s.mu.Unlock()
		}
	}
}

// deliverSome writes one bunch of packets and reports whether there was any.
func (s *Server) deliverSome() bool {
	s.mu.Lock()
	l := s.link
	var frames []byte
	for l != nil && len(frames) < writeBytes {
		m, again, ok := s.out.next()
		if !ok {
			break
		}
		frames = client.AppendPublish(frames, client.Message{Topic: m.topic, Payload: m.payload, ID: m.id, Again: again}, s.out.version())
	}
	if n := s.out.takeUnwanted(); n > 0 {
		s.waiting -= n
		s.log.Warn("nobody subscribes to some emissions", "emissions", n)
	}
	s.mu.Unlock()
	if len(frames) == 0 {
		return false
	}
	if err := l.write(frames); err != nil {
		l.stop(err)
		s.detach(l)
	}
	return true
}

// attach makes l the connection of the listener: what is in flight is sent
// again first, in the order it was sent. No filters: it wants everything.
func (s *Server) attach(l link, window int, v5 bool, filters []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.link = l
	s.out.attach(min(window, maxUnacknowledged), v5, filters)
	poke(s.wake)
}

// widen lets l have more unacknowledged messages.
func (s *Server) widen(l link, window int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.link == l {
		s.out.window = window
		poke(s.wake)
	}
}

// forget begins a new session: what was in flight waits for it.
func (s *Server) forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.link = nil
	s.out.forget()
}

// detach forgets l if it still is the connection of the listener.
func (s *Server) detach(l link) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.link == l {
		s.link = nil
	}
}

// acked takes an acknowledgement from l.
func (s *Server) acked(l link, id uint16) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.link != l {
		return
	}
	if m := s.out.acked(id); m != nil {
		s.done = append(s.done, m.indexes...)
		poke(s.report)
		poke(s.wake)
	}
}

// tell hands acknowledged emissions to the ledger, in bunches: it may sync a disk.
func (s *Server) tell(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-s.report:
		}
		s.mu.Lock()
		done := s.done
		s.done = nil
		s.mu.Unlock()
		if len(done) == 0 {
			continue
		}
		s.received(s.cfg.Source, done)
		s.mu.Lock()
		s.waiting -= len(done)
		s.mu.Unlock()
	}
}

// fail ends Run.
func (s *Server) fail(err error) {
	s.log.Error("mqtt message dropped", "error", err)
	select {
	case s.failed <- err:
	default:
	}
}

func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
