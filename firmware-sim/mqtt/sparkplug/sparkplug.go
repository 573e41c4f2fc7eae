// Package sparkplug offers the plant as Sparkplug B 3.0 edge nodes, through a
// broker of its own or a given one: group plant, a node for each line, a device
// for each machine, a metric for each role.
//
// A node is born with everything it knows, by name, alias and data type, with
// unit (engUnit) and Quality; afterwards it says what changed, by alias. Stamps
// are plant time: a metric's is when it happened, a payload's is what the node's
// clock shows, and everything emitted before has been said by then. While
// nothing changes the node says "Node Info/Clock", at the latest 10 s of the
// plant or 5 s of the machine after the message before, so that silence can be
// told from absence.
//
// Data travel with QoS 0, so nobody is ever told "received" and the ledger marks
// nothing. What is safe, and what isn't:
//
//   - From node to broker nothing is lost. An emission waits until the broker
//     answered a ping that was written behind it; what has no answer when the
//     connection ends is said again.
//   - The own broker loses nothing either: it stops reading from its nodes while
//     a subscriber is behind, unless that one takes nothing at all for 5 s. A
//     given broker throws away what a slow subscriber can't take, as it likes.
//     Both show as a hole in seq, and Dropped counts the own broker's.
//   - With StoreAndForward a node keeps what it could not say, in order, while
//     the primary host is offline or the broker away, and says it as historical
//     behind its births, with the stamps it always had. A host's death is noticed
//     late, so what was said in the stretch Reach before a session ended is said
//     again too. A host that asks for a rebirth gets that stretch again as well:
//     it may have lost some of it. Receivers collapse what they have already.
//     Behind the last of it the first message that is not historical follows.
//     Not covered: a host that is away for longer before anybody notices, and
//     more than Keep values of one node, beyond which the oldest go (Forgotten).
//   - Without StoreAndForward what nobody could hear is gone; the next birth says
//     only the newest.
//   - The first values, those before a node's first birth, wait for it in any case.
//   - Nothing outlives the process; bdSeq begins at 0 with it.
package sparkplug

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"plantmesh/firmware-sim/plant"
)

const (
	// keepAlive is of the nodes' connections, and what hosts are taken to have.
	keepAlive = 30 * time.Second
	// margin is how much longer than 1.5 keep-alives, after which a broker calls
	// somebody dead (MQTT 3.1.1, 3.1.2.10), the rolling buffer reaches.
	margin = 10 * time.Second
	// keep is how many values a node keeps, about 90 bytes each.
	keep = 1 << 20
	// backoff is how long a node waits before it connects again.
	backoff = 500 * time.Millisecond
)

// Config says which source is offered where, and how.
type Config struct {
	Source string // only its signals and emissions are taken
	Listen string // address of the own broker, such as 127.0.0.1:1883
	Broker string // URL of another broker, such as mqtt://127.0.0.1:1883; empty: the own one
	Group  string // empty: plant
	Host   string // the primary host every node waits for; empty: nobody is waited for

	StoreAndForward bool
	KeepAlive       time.Duration // of the connections; a host's must not be longer; 0: 30 s; whole seconds
	Reach           time.Duration // what the rolling buffer holds, machine time; 0: 1.5 keep-alives and 10 s
	Keep            int           // values a node keeps at most; 0: 1,048,576
}

// Server offers one source as edge nodes. It implements plant.Server and is safe
// for concurrent use. It never calls a plant.Received: see the package.
//
// Faults are commands: Cut, Drop, Swap, Rebirth, Realias, ReplayDeath, Leave and
// Join. They name a node; no name means all of them, at once.
type Server struct {
	cfg     Config
	address string // host:port of the broker
	url     string
	log     *slog.Logger
	broker  *broker // nil where another broker is given
	nodes   []*node
	metrics map[string]*metric // by signal
	began   time.Time

	waiting   atomic.Int64
	forgotten atomic.Int64
}

var _ plant.Server = (*Server)(nil)

// Serve prepares the nodes of cfg.Source. The own broker listens when Serve
// returns; the nodes come with Run.
func Serve(cfg Config, signals []plant.Signal, log *slog.Logger) (*Server, error) {
	cfg.Group = cmp.Or(cfg.Group, "plant")
	cfg.KeepAlive = cmp.Or(cfg.KeepAlive, keepAlive)
	cfg.Reach = cmp.Or(cfg.Reach, cfg.KeepAlive*3/2+margin)
	cfg.Keep = cmp.Or(cfg.Keep, keep)
	s := &Server{cfg: cfg, url: cfg.Broker, log: log.With("source", cfg.Source), metrics: map[string]*metric{}, began: time.Now()}
	if err := s.know(signals); err != nil {
		return nil, err
	}
	if cfg.Broker != "" {
		u, err := url.Parse(cfg.Broker)
		if err != nil || u.Scheme != "mqtt" || u.Host == "" {
			return nil, fmt.Errorf("broker %q of source %q is no mqtt://host:port", cfg.Broker, cfg.Source)
		}
		s.address = u.Host
		return s, nil
	}
	b, err := listen(cfg.Listen, plenty(), s.log)
	if err != nil {
		return nil, fmt.Errorf("the broker of source %q: %w", cfg.Source, err)
	}
	s.broker, s.address, s.url = b, b.address, "mqtt://"+b.address
	return s, nil
}

// know makes nodes, devices and metrics of a source's signals.
func (s *Server) know(signals []plant.Signal) error {
	if err := id("group", s.cfg.Group); err != nil {
		return err
	}
	for _, sig := range signals {
		if sig.Source != s.cfg.Source {
			continue
		}
		first, last := strings.IndexByte(sig.Name, '.'), strings.LastIndexByte(sig.Name, '.')
		if first <= 0 || last <= first+1 || last == len(sig.Name)-1 {
			return fmt.Errorf("signal %q of source %q is no <line>.<machine>.<role>", sig.Name, sig.Source)
		}
		line, machine := sig.Name[:first], sig.Name[first+1:last]
		if err := errors.Join(id("node", line), id("device", machine)); err != nil {
			return err
		}
		n := s.node(line)
		if n == nil {
			n = newNode(s, line)
			s.nodes = append(s.nodes, n)
		}
		s.metrics[sig.Name] = n.know(machine, sig.Name[last+1:], sig)
	}
	if len(s.nodes) == 0 {
		return fmt.Errorf("source %q has no signals", s.cfg.Source)
	}
	return nil
}

// id checks a part of a topic (Sparkplug 3.0, 4.2.1).
func id(what, text string) error {
	if text == "" || strings.ContainsAny(text, "+/#") {
		return fmt.Errorf("%s %q can't be part of a Sparkplug topic: it must have a character, and none of + / #", what, text)
	}
	return nil
}

func (s *Server) node(name string) *node {
	i := slices.IndexFunc(s.nodes, func(n *node) bool { return n.name == name })
	if i < 0 {
		return nil
	}
	return s.nodes[i]
}

// URL is where the broker listens: mqtt://host:port.
func (s *Server) URL() string { return s.url }

// Nodes are the names of the edge nodes.
func (s *Server) Nodes() (names []string) {
	for _, n := range s.nodes {
		names = append(names, n.name)
	}
	return names
}

// Run lives all nodes until ctx ends; they say their deaths then, and the server
// is closed.
func (s *Server) Run(ctx context.Context) error {
	defer s.Close() //nolint:errcheck // Close never fails
	g, ctx := errgroup.WithContext(ctx)
	for _, n := range s.nodes {
		g.Go(func() error { return n.run(ctx) })
	}
	return g.Wait()
}

// Close stops serving. It may be called more than once.
func (s *Server) Close() error {
	if s.broker != nil {
		s.broker.close()
	}
	return nil
}

// Push implements plant.Server.
func (s *Server) Push(e plant.Emission) {
	if m := s.metrics[e.Signal]; m != nil && e.Source == s.cfg.Source {
		m.device.node.push(m, e)
	}
}

// Prove implements plant.Server.
func (s *Server) Prove(t time.Time) {
	for _, n := range s.nodes {
		n.prove(t.UnixMilli())
	}
}

// Waiting implements plant.Server: what the broker has not taken, see the package.
func (s *Server) Waiting() int { return int(s.waiting.Load()) }

// Forgotten is how many emissions no birth and no message will ever say: beyond
// Keep, or said to nobody without StoreAndForward.
func (s *Server) Forgotten() int { return int(s.forgotten.Load()) }

// Dropped is how many messages the own broker threw away.
func (s *Server) Dropped() int {
	if s.broker == nil {
		return 0
	}
	return int(s.broker.dropped.Load())
}
