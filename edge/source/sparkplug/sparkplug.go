// Package sparkplug reads Sparkplug B 3.0 nodes from an MQTT 5 broker. Data is sent with
// QoS 0, so what is lost shows only in the nodes' sequence numbers: each gap becomes a
// record, and no value holds across it. A node that keeps what was not heard says it
// again, and then nothing was missed. Births are kept on disk, so that a restart asks no
// node for anything.
package sparkplug

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"plantmesh/edge/source"
	"plantmesh/edge/source/mqtt/link"
	"plantmesh/proto/mesh"
)

const (
	// lastWord is how long a broker may take to end a connection we said goodbye on.
	lastWord = time.Second
	// mostAtOnce bounds the packets that are taken before the clock is looked at.
	mostAtOnce = 256
	// echoWithin is how long a broker may take to tell a primary host what the host said
	// of itself: it is subscribed to that. mosquitto takes milliseconds.
	echoWithin = 10 * time.Second
)

// errDeaf is a connection that only looks like one: some brokers lose the subscriptions
// of a client that comes back at once.
var errDeaf = errors.New("the broker granted our subscriptions and delivers nothing, not even what we say of ourselves: the connection is made anew")

// Reader reads one broker. It implements source.Reader.
type Reader struct {
	cfg Config
	now func() mesh.Nanos
	rng *rand.Rand
	log *slog.Logger

	doubted bool
	kept    map[string][]byte
	echo    time.Duration // echoWithin
}

var _ source.Reader = (*Reader)(nil)

// New makes a reader from a configuration; now is the plant clock, rng spreads requests
// for births.
func New(cfg Config, now func() mesh.Nanos, rng *rand.Rand, log *slog.Logger) (*Reader, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	return &Reader{cfg: cfg, now: now, rng: rng, log: log.With("source", cfg.ID), echo: echoWithin}, nil
}

// Doubt implements source.Doubter: nodes have gone on since the state that is left.
func (r *Reader) Doubt() { r.doubted = true }

// Keep takes what is kept beside the state: the births.
func (r *Reader) Keep(kept map[string][]byte) { r.kept = kept }

// desk is where what is heard becomes offers. The connection's goroutine and the
// clock's work at it, one at a time: while the log takes nothing, nobody reads.
type desk struct {
	r   *Reader
	out source.Log

	mu    sync.Mutex // protects the fields below, and the order of offers
	h     *host
	watch *watch
	link  *link.Link // nil: nothing may be published
	since time.Time  // machine time at which a primary host said that it is there; zero: something was delivered since
	deaf  bool
}

// Run implements source.Reader. It returns nil when ctx ends; a broker that
// can't be reached is tried for ever.
func (r *Reader) Run(ctx context.Context, resume []byte, log source.Log) error {
	h, err := newHost(&r.cfg, resume, r.kept, r.rng)
	if err != nil {
		return err
	}
	r.kept = nil
	if r.doubted {
		h.doubted()
	}
	h.ear = newEar(source.TapsOf(log))
	d := &desk{r: r, out: log, h: h, watch: newWatch(h, time.Now())}
	g, inner := errgroup.WithContext(ctx)
	g.Go(func() error {
		return link.Keep(inner, r.cfg.URL, r.log, d.session, func(why error) error {
			return d.hear(inner, func(now moment) { d.lost(why.Error(), now) })
		})
	})
	g.Go(func() error { return d.tick(inner) })
	if err := g.Wait(); err != nil && ctx.Err() == nil {
		return err
	}
	return nil
}

func (d *desk) moment() moment { return moment{d.r.now(), time.Now()} }

func (d *desk) lost(why string, now moment) {
	d.link, d.since, d.deaf = nil, time.Time{}, false
	d.h.disconnected(now)
	d.watch.lost(why, now.machine)
}

// hear does something at the desk, and makes an offer where one is due.
func (d *desk) hear(ctx context.Context, what func(now moment)) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	what(d.moment())
	return d.look(ctx)
}

// presence is what a host says of itself: whether it is there, and since when (ms since
// 1970; specification, 6.4.25).
type presence struct {
	Online    bool   `json:"online"`
	Timestamp uint64 `json:"timestamp"`
}

// message is the STATE message that says it.
func (p presence) message(cfg *Config) (link.Message, error) {
	b, err := json.Marshal(p)
	return link.Message{Topic: cfg.stateTopic(), Payload: b, QoS: 1, Retain: true}, err
}

// hello is how a session begins: always a new one, and, of a primary host, with what the
// broker is to say when it is gone. since is the stamp of both.
func (d *desk) hello(since uint64) (link.Hello, error) {
	h := link.Hello{ClientID: d.r.cfg.ClientID, CleanStart: true}
	if d.r.cfg.Mode != Primary {
		return h, nil
	}
	will, err := presence{false, since}.message(&d.r.cfg)
	h.Will = &will
	return h, err
}

// session is one connection, from handshake to loss.
func (d *desk) session(ctx context.Context) error {
	cfg := &d.r.cfg
	since := uint64(d.r.now() / 1e6)
	hello, err := d.hello(since)
	if err != nil {
		return err
	}
	l, _, err := link.Dial(ctx, &cfg.Config, hello)
	if err != nil {
		return err
	}
	defer l.Close()
	ended := make(chan struct{})
	defer close(ended)
	defer context.AfterFunc(ctx, func() { d.leave(l, ended) })()
	d.r.log.Info("broker connected", "url", cfg.URL)
	if err := d.hear(ctx, func(now moment) { d.h.connected(); d.watch.connected(now.machine) }); err != nil {
		return err
	}
	var subs []link.Subscription
	if cfg.Mode == Primary { // before anything else: what is said of us in between counts
		subs = append(subs, link.Subscription{Filter: cfg.stateTopic(), QoS: 1})
	}
	for _, f := range cfg.filters() {
		subs = append(subs, link.Subscription{Filter: f, QoS: 1})
	}
	if err := l.Subscribe(subs...); err != nil {
		return err
	}
	for p := (link.Packet{}); ; {
		kind, err := l.Next(&p)
		if err != nil {
			return d.ended(err)
		}
		if ctx.Err() != nil {
			continue // see leave; the log takes nothing any more
		}
		if err := d.take(ctx, l, kind, &p, since); err != nil {
			return err
		}
	}
}

// leave ends a connection when the reader ends. What the broker answers meanwhile is
// still read: a connection that is closed before may be reset, and what was said last
// with it.
func (d *desk) leave(l *link.Link, ended <-chan struct{}) {
	defer l.Close()
	if err := d.farewell(l); err != nil {
		d.r.log.Debug("leave the broker", "error", err)
		return
	}
	if d.r.cfg.Mode == Primary {
		select {
		case <-ended:
		case <-time.After(lastWord):
		}
	}
}

// farewell says that a primary host is gone, and goodbye.
func (d *desk) farewell(l *link.Link) error {
	if d.r.cfg.Mode == Primary {
		m, err := presence{false, uint64(d.r.now() / 1e6)}.message(&d.r.cfg)
		if err != nil {
			return err
		}
		if _, err := l.Publish(m); err != nil {
			return err
		}
	}
	return l.Leave()
}

// take takes what was read, and what else lies there.
func (d *desk) take(ctx context.Context, l *link.Link, kind link.Kind, p *link.Packet, since uint64) (err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	now := d.moment()
	for n := 0; ; n++ {
		if err := d.packet(l, kind, p, since, now); err != nil {
			return errors.Join(err, d.look(ctx))
		}
		if n == mostAtOnce || !l.Ready() {
			return d.look(ctx)
		}
		if kind, err = l.Next(p); err != nil {
			return errors.Join(err, d.look(ctx))
		}
	}
}

func (d *desk) packet(l *link.Link, kind link.Kind, p *link.Packet, since uint64, now moment) error {
	switch kind {
	case link.Subscribed:
		d.h.subscribed(now)
		d.watch.subscribed()
		if d.r.cfg.Mode == Primary {
			d.since = now.machine
		}
		return d.online(l, since)
	case link.Published:
		d.since = time.Time{}
		if err := d.published(l, p, since, now); err != nil || p.QoS == 0 {
			return err
		}
		// Nothing is gained by waiting for the disk: the broker keeps no session.
		return l.Ack([]uint16{p.ID})
	case link.Acknowledged:
	}
	return nil
}

// online says that a primary host is there, before anything else is published.
func (d *desk) online(l *link.Link, since uint64) error {
	if d.r.cfg.Mode == Primary {
		m, err := presence{true, since}.message(&d.r.cfg)
		if err != nil {
			return err
		}
		if _, err := l.Publish(m); err != nil {
			return err
		}
	}
	d.link = l
	return nil
}

func (d *desk) published(l *link.Link, p *link.Packet, since uint64, now moment) error {
	if d.r.cfg.Mode == Primary && string(p.Topic) == d.r.cfg.stateTopic() {
		var said presence
		if err := json.Unmarshal(p.Payload, &said); err == nil && !said.Online && d.link != nil {
			return d.online(l, since) // somebody says that we are gone: the will of a connection before, mostly
		}
		return nil
	}
	d.h.take(message{string(p.Topic), p.Payload, p.Retained, p.TooLarge}, now)
	return nil
}

// tick looks at the clock until ctx ends.
func (d *desk) tick(ctx context.Context) error {
	every := min(time.Duration(d.r.cfg.Window.Latency), time.Duration(d.r.cfg.ReorderTimeout)) / 4
	tick := time.NewTicker(max(10*time.Millisecond, every))
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if err := d.hear(ctx, d.due); err != nil {
			return link.Ended(err)
		}
	}
}

// ended is why a connection ended.
func (d *desk) ended(err error) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.deaf {
		return errDeaf
	}
	return err
}

// due does what time alone makes due, and asks nodes for their births.
func (d *desk) due(now moment) {
	if !d.since.IsZero() && d.link != nil && now.machine.Sub(d.since) >= d.r.echo {
		d.since, d.deaf = time.Time{}, true
		d.link.Close()
	}
	d.h.tick(now)
	d.command(now)
}

// look tells how it goes, has a broker that stays away written down, and makes an
// offer where one is due. It runs with the lock held. Its errors are final: the log is
// no more.
func (d *desk) look(ctx context.Context) error {
	now := d.moment()
	if d.watch.due(now.machine) {
		d.h.unheard(now.plant, d.watch.word())
	}
	if text, news := d.watch.news(now.machine); news {
		source.Tell(d.out, text)
	}
	if !d.h.due(now.machine) {
		return nil
	}
	if !d.h.bad.empty() {
		d.r.log.Warn("not all could be taken", "first", d.h.bad.first(), "count_since_start", d.h.counters.unreadable, "gaps_since_start", d.h.counters.gaps)
	}
	o, err := d.h.seal()
	if err != nil {
		return link.FinalError{Err: err}
	}
	if _, err := d.out.Append(ctx, o); err != nil {
		return link.FinalError{Err: err}
	}
	return nil
}

// command publishes the requests that are due. One that is lost comes again.
func (d *desk) command(now moment) {
	if d.link == nil {
		return
	}
	for _, c := range d.h.commands(now) {
		if _, err := d.link.Publish(link.Message{Topic: c.topic, Payload: c.payload}); err != nil {
			d.r.log.Warn("a node could not be asked for its births", "topic", c.topic, "error", err.Error())
			return // the connection's goroutine will see why
		}
		d.r.log.Info("asked a node for its births", "topic", c.topic)
	}
}
