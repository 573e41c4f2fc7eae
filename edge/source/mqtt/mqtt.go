// Package mqtt reads machines that publish JSON over MQTT 5 with QoS 1: the
// session is persistent, a packet is acknowledged only after its samples are
// on disk, and one that comes twice is stored once.
package mqtt

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"plantmesh/edge/source"
	"plantmesh/proto/mesh"
)

const (
	// Waits between two tries to connect: soon first, because a broker that
	// restarts is back in moments; never so often that it is a burden.
	firstBackoff = 100 * time.Millisecond
	lastBackoff  = 30 * time.Second
	// healthy is how long a connection must have lived for the waits to begin anew.
	healthy = time.Second
	// maxHeard bounds the packets read and not looked at yet; behind them the
	// connection pushes back.
	maxHeard = 256
)

// Reader reads one broker. It implements source.Reader.
type Reader struct {
	cfg Config
	now func() mesh.Nanos
	log *slog.Logger

	doubted bool
}

var _ source.Reader = (*Reader)(nil)

// New makes a reader from a configuration; now is the plant clock.
func New(cfg Config, now func() mesh.Nanos, log *slog.Logger) (*Reader, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	return &Reader{cfg: cfg, now: now, log: log.With("source", cfg.ID)}, nil
}

// Doubt implements source.Doubter: packets have no number that would show that
// some are missing.
func (r *Reader) Doubt() { r.doubted = true }

// event is what the connection's goroutine hears.
type event struct {
	kind    eventKind
	link    *link
	present bool   // with connected: the broker had our session
	packet  packet // with published
	through uint64 // with fenced: the broker has the acknowledgements up to this packet
	why     string // with lost: in words
}

type eventKind uint8

const (
	connected eventKind = iota
	forgotten           // the broker has no session, and we committed to one
	subscribed
	published
	fenced
	lost // the connection, or the try to make one
)

// Run implements source.Reader. It returns nil when ctx ends; a broker that
// can't be reached is tried for ever.
func (r *Reader) Run(ctx context.Context, resume []byte, log source.Log) error {
	in, err := newIntake(&r.cfg, resume)
	if err != nil {
		return err
	}
	trusted := !in.fresh
	if r.doubted {
		in.doubt()
	}
	acks := &acks{log: r.log}
	trust := &atomic.Bool{}
	trust.Store(trusted)
	events := make(chan event, maxHeard)
	g, inner := errgroup.WithContext(ctx)
	g.Go(func() error { return r.stay(inner, events, trust) })
	g.Go(func() error { return r.gather(inner, in, events, acks, trust, log) })
	g.Go(func() error { return acks.follow(inner, log) })
	if err := g.Wait(); err != nil && ctx.Err() == nil {
		return err
	}
	return nil
}

// stay keeps a connection until ctx ends. trust says that the committed state
// counts on the broker's session.
func (r *Reader) stay(ctx context.Context, events chan<- event, trust *atomic.Bool) error {
	wait := firstBackoff
	for {
		began := time.Now()
		why := r.session(ctx, events, trust)
		if time.Since(began) > healthy {
			wait = firstBackoff
		}
		if ctx.Err() == nil {
			r.log.Warn("broker connection ended", "url", r.cfg.URL, "error", why, "retry_in", wait)
			if err := put(ctx, events, event{kind: lost, why: why.Error()}); err != nil {
				return err
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(wait):
		}
		wait = min(2*wait, lastBackoff)
	}
}

// session is one connection, from handshake to loss.
func (r *Reader) session(ctx context.Context, events chan<- event, trust *atomic.Bool) error {
	l, present, err := dial(ctx, &r.cfg)
	if err != nil {
		return err
	}
	defer l.close()
	defer context.AfterFunc(ctx, func() {
		if err := l.leave(); err != nil {
			r.log.Debug("leave the broker", "error", err)
		}
		l.close()
	})()
	if !present && trust.Load() {
		// Our arrival made a new session. If we died before the loss is
		// committed, the next one would take it for the old: end it at once, and
		// come again when the loss is on disk.
		if err := l.endSession(); err != nil {
			return err
		}
		return errors.Join(errForgotten, put(ctx, events, event{kind: forgotten}))
	}
	r.log.Info("broker connected", "url", r.cfg.URL, "session_present", present)
	e := event{kind: connected, link: l, present: present}
	if err := put(ctx, events, e); err != nil {
		return err
	}
	if err := l.subscribe(r.cfg.filters()); err != nil {
		return err
	}
	for {
		e, err := l.read()
		if err != nil {
			return err
		}
		if err := put(ctx, events, e); err != nil {
			return err
		}
	}
}

func put(ctx context.Context, events chan<- event, e event) error {
	select {
	case events <- e:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// gather turns packets into offers. It is the only goroutine that touches in.
func (r *Reader) gather(ctx context.Context, in *intake, events <-chan event, acks *acks, trust *atomic.Bool, log source.Log) error {
	tick := time.NewTicker(max(10*time.Millisecond, time.Duration(r.cfg.Window.Latency)/4))
	defer tick.Stop()
	w := newWatch(&r.cfg, in, time.Now())
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		case e := <-events:
			w.hear(e, time.Now())
			r.hear(in, e, acks)
		}
		r.look(in, w, log)
		if !in.due(time.Now()) {
			continue
		}
		if n := len(in.bad.voids); n > 0 {
			r.log.Warn("payloads unreadable", "reasons", n, "first", in.bad.voids[0].Note, "count_since_start", in.counters.unreadable)
		}
		o, err := in.seal()
		if err != nil {
			return err
		}
		counted := !in.fresh
		acks.add(ack{then: func() { trust.Store(counted) }, after: in.sealed})
		if _, err := log.Append(ctx, o); err != nil {
			return err
		}
	}
}

func (r *Reader) hear(in *intake, e event, acks *acks) {
	switch e.kind {
	case connected:
		in.connected(e.present)
	case forgotten:
		in.connected(false)
	case subscribed:
		in.subscribed()
	case fenced:
		in.fenced(e.through)
	case lost:
	case published:
		if after := in.take(e.packet, r.now()); e.packet.qos > 0 {
			acks.add(ack{link: e.link, id: e.packet.id, number: in.number, after: after})
		}
	}
}

// look tells how it goes, and has a broker that stays away written down.
func (r *Reader) look(in *intake, w *watch, log source.Log) {
	now := time.Now()
	if w.due(now) {
		in.unheard(r.now(), w.word())
	}
	if text, news := w.news(now); news {
		source.Tell(log, text)
	}
}
