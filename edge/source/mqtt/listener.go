package mqtt

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"plantmesh/edge/source"
	"plantmesh/edge/source/mqtt/link"
	"plantmesh/edge/source/mqtt/serve"
	"plantmesh/proto/mesh"
	"plantmesh/proto/strict"
)

// ListenerConfig describes a listener for devices that know no broker.
type ListenerConfig struct {
	Server  `yaml:",inline"` // where devices call, and who may
	Mapping `yaml:",inline"` // what becomes of what they publish; its filters choose, nothing is subscribed to

	ID string `yaml:"id"` // name of the source, unique on the gateway

	Rate     int             `yaml:"rate"`     // messages a second of all devices; more is faster on a slow disk; default 10000
	Disorder strict.Duration `yaml:"disorder"` // how late a value may come behind its time stamp; default 5s

	Window source.Window `yaml:"window"` // when a commit closes: a device waits so long for its acknowledgement
}

// Server says where devices call, see package serve.
type Server = serve.Config

// Validate fills in the defaults and checks the rest.
func (c *ListenerConfig) Validate() error {
	if c.ID == "" {
		return strict.At("id", "id is missing")
	}
	if err := c.Server.Validate(); err != nil {
		return err
	}
	if err := c.Window.Validate(); err != nil {
		return strict.Under("window", err)
	}
	setIfZero(&c.Rate, defaultRate)
	setIfZero(&c.Disorder, defaultDisorder)
	if c.Rate < 1 || c.Rate > mostRate {
		return strict.At("rate", "rate must lie between 1 and %d messages a second", mostRate)
	}
	return c.Mapping.Validate()
}

// intake is the configuration of what becomes of packets.
func (c *ListenerConfig) intake() *Config {
	return &Config{
		ID: c.ID, Disorder: c.Disorder, Mapping: c.Mapping, Window: c.Window,
		ReceiveMaximum: receiveMaximum(c.Rate, time.Duration(c.Window.Latency)),
	}
}

// Listener is a source that devices call. It implements source.Reader.
type Listener struct {
	cfg ListenerConfig
	now func() mesh.Nanos
	log *slog.Logger

	doubted bool
	kept    map[string][]byte
	ready   func(address string) // of tests
}

var (
	_ source.Reader  = (*Listener)(nil)
	_ source.Doubter = (*Listener)(nil)
	_ source.Keeper  = (*Listener)(nil)
)

// NewListener makes a listener from a configuration; now is the plant clock.
func NewListener(cfg ListenerConfig, now func() mesh.Nanos, log *slog.Logger) (*Listener, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	return &Listener{cfg: cfg, now: now, log: log.With("source", cfg.ID), ready: func(string) {}}, nil
}

// Doubt implements source.Doubter, as for a broker.
func (l *Listener) Doubt() { l.doubted = true }

// Keep implements source.Keeper: sessions, and what of each is stored.
func (l *Listener) Keep(kept map[string][]byte) { l.kept = kept }

// keptSession begins the names of sessions; the client id follows.
const keptSession = "session/"

// sessions are those of before.
func sessions(kept map[string][]byte) (out []serve.Session, err error) {
	for name, b := range kept {
		if !strings.HasPrefix(name, keptSession) {
			continue
		}
		var s serve.Session
		if err := json.Unmarshal(b, &s); err != nil {
			return nil, fmt.Errorf("read what is kept of a device's session: %w", err)
		}
		out = append(out, s)
	}
	return out, nil
}

// Run implements source.Reader. It returns nil when ctx ends.
func (l *Listener) Run(ctx context.Context, resume []byte, log source.Log) error {
	in, err := newIntake(l.cfg.intake(), resume, l.kept)
	if err != nil {
		return err
	}
	if l.doubted {
		in.doubt()
	}
	in.subscribed()        // devices publish without being asked
	if len(in.lossy) > 0 { // what they said meanwhile with QoS 0 nobody heard
		in.lose()
		clear(in.lossy)
	}
	before, err := sessions(l.kept)
	if err != nil {
		return err
	}
	in.taps = source.TapsOf(log)
	there := &attendance{in: in}
	d := newDesk(in, there, log, l.now, l.log)
	g, inner := errgroup.WithContext(ctx)
	c := &counter{desk: d, broken: make(chan error, 1), look: func() error { return d.look(inner) }, lasting: map[string]bool{}, there: there}
	for _, s := range before {
		c.lasting[s.Client] = true
		in.keep(s.Client) // also where nothing of it was stored yet
	}
	for name := range in.known {
		if !c.lasting[name] {
			in.end(name)
		}
	}
	server, err := serve.Listen(ctx, l.cfg.Server, before, c, l.log)
	if err != nil {
		return err
	}
	l.log.Info("listening for devices", "address", server.Address(), "sessions", len(before))
	there.refused = server.Refused
	c.there.address = server.Address()
	l.ready(server.Address())
	g.Go(func() error { return server.Run(inner) })
	g.Go(func() error { return d.tick(inner) })
	g.Go(func() error { return d.acks.follow(inner, log) })
	g.Go(func() error {
		select {
		case err := <-c.broken:
			return err
		case <-inner.Done():
			return nil
		}
	})
	if err := g.Wait(); err != nil && ctx.Err() == nil {
		return err
	}
	return nil
}

// counter is where devices' messages are taken. It implements serve.Taker.
type counter struct {
	*desk

	look    func() error // under the desk's lock
	broken  chan error
	lasting map[string]bool // sessions that are kept; under the desk's lock
	there   *attendance     // what the desk says
}

var _ serve.Taker = (*counter)(nil)

// Publish implements serve.Taker.
func (c *counter) Publish(client *serve.Client, p *link.Packet) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.in.machine = time.Now()
	c.in.arrive(client.ID, client)
	if after := c.in.take(p, client.ID, c.now()); p.QoS > 0 {
		c.acks.add(client, p.ID, after)
	}
	c.offer()
}

// offer makes an offer where one is due. It runs with the lock held.
func (c *counter) offer() {
	if err := c.look(); err != nil {
		select {
		case c.broken <- err:
		default: // it was told before
		}
	}
}

// Begin implements serve.Taker.
func (c *counter) Begin(s serve.Session) {
	b, err := json.Marshal(s)
	if err != nil {
		return // texts and numbers always have a JSON form
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.in.keep(s.Client)
	c.lasting[s.Client] = true
	c.in.kept = append(c.in.kept, mesh.Kept{Name: keptSession + s.Client, Bytes: b})
	c.in.urgent = true
	c.offer()
}

// End implements serve.Taker.
func (c *counter) End(client string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.in.end(client)
	if c.lasting[client] {
		delete(c.lasting, client)
		c.in.kept = append(c.in.kept, mesh.Kept{Name: keptSession + client})
		c.in.urgent = true
	}
	c.offer()
}

// Count implements serve.Taker. What a device without a session sent and nobody stored
// is lost: a heartbeat after that proves nothing of before. So is what one with a session
// sent with QoS 0 since it was heard last.
func (c *counter) Count(connected int, came string, fresh bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.there.connected = connected
	if fresh && c.in.vigil == nil {
		c.in.lose()
	}
	c.in.missed(came, c.now())
	c.offer()
}

// missed says what may be missing of a device whose messages nobody would know to be.
func (in *intake) missed(client string, now mesh.Nanos) {
	since, lossy := in.lossy[client]
	if !lossy {
		return
	}
	delete(in.lossy, client)
	in.say(mesh.Void{
		Cause: mesh.CauseDisconnected, Parts: []mesh.Part{{Source: in.cfg.ID, Times: mesh.Span{From: since, To: max(since, now)}}},
		Note: fmt.Sprintf("device %.128q connected anew: what it sent meanwhile with QoS 0, without a number, nobody kept", client),
	})
	in.waiting++
}

// attendance puts into words who is there. It implements teller.
type attendance struct {
	in        *intake
	address   string
	connected int
	refused   func() uint64 // callers and messages, since the start
	said      string
	at        time.Time
}

func (*attendance) due(time.Time) bool { return false }

func (a *attendance) word() string {
	return fmt.Sprintf("listening on %s, %d devices connected", a.address, a.connected)
}

func (a *attendance) news(now time.Time) (text string, news bool) {
	if a.address == "" || now.Sub(a.at) < tellEvery {
		return "", false
	}
	a.at = now
	text = a.word()
	if !a.in.cfg.Provable() {
		text += ", heard, but unproven: no heartbeat or max_silence declared"
	}
	text += a.in.counters.leftOut()
	if n := a.refused(); n > 0 {
		text += fmt.Sprintf("; refused %d callers or messages", n)
	}
	if text == a.said {
		return "", false
	}
	a.said = text
	return text, true
}
