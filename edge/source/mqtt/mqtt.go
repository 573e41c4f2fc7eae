// Package mqtt reads machines that publish over MQTT 5: the session is persistent,
// a packet is acknowledged only after its samples are on disk, and one that comes
// twice is stored once.
package mqtt

import (
	"context"
	"errors"
	"log/slog"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"plantmesh/edge/source"
	"plantmesh/edge/source/mqtt/link"
	"plantmesh/proto/mesh"
)

const (
	// Waits between two tries to connect: soon first, because a broker that
	// restarts is back in moments; never so often that it is a burden.
	firstBackoff = 100 * time.Millisecond
	lastBackoff  = 30 * time.Second
	// healthy is how long a connection must have lived for the waits to begin anew.
	healthy = time.Second
	// mostAtOnce bounds the packets that are taken without looking up.
	mostAtOnce = 256
)

var errForgotten = errors.New("broker has forgotten our session")

// Reader reads one broker. It implements source.Reader.
type Reader struct {
	cfg Config
	now func() mesh.Nanos
	log *slog.Logger

	doubted bool
	kept    map[string][]byte
}

var (
	_ source.Reader  = (*Reader)(nil)
	_ source.Doubter = (*Reader)(nil)
	_ source.Keeper  = (*Reader)(nil)
)

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

// Keep implements source.Keeper: the in-flight table.
func (r *Reader) Keep(kept map[string][]byte) { r.kept = kept }

// desk is where what is heard becomes offers. The connection's goroutine and the
// clock's work at it, one at a time: while the log takes nothing, nobody reads.
type desk struct {
	r    *Reader
	out  source.Log
	acks *acks
	// trust says that the committed state counts on the broker's session.
	trust atomic.Bool

	mu    sync.Mutex // protects the fields below, and the order of offers
	in    *intake
	watch *watch
}

// Run implements source.Reader. It returns nil when ctx ends; a broker that
// can't be reached is tried for ever.
func (r *Reader) Run(ctx context.Context, resume []byte, log source.Log) error {
	in, err := newIntake(&r.cfg, resume, r.kept)
	if err != nil {
		return err
	}
	d := &desk{r: r, out: log, acks: &acks{log: r.log}, in: in, watch: newWatch(&r.cfg, in, time.Now())}
	d.trust.Store(!in.fresh)
	if r.doubted {
		in.doubt()
	}
	g, inner := errgroup.WithContext(ctx)
	g.Go(func() error { return d.stay(inner) })
	g.Go(func() error { return d.tick(inner) })
	g.Go(func() error { return d.acks.follow(inner, log) })
	if err := g.Wait(); err != nil && ctx.Err() == nil {
		return err
	}
	return nil
}

// logError marks what ends the run: the log is no more.
type logError struct{ error }

func (e logError) Unwrap() error { return e.error }

// stay keeps a connection until ctx ends.
func (d *desk) stay(ctx context.Context) error {
	wait := firstBackoff
	for {
		began := time.Now()
		why := d.session(ctx)
		if broken, ok := errors.AsType[logError](why); ok {
			return broken.error
		}
		if time.Since(began) > healthy {
			wait = firstBackoff
		}
		if ctx.Err() == nil {
			d.r.log.Warn("broker connection ended", "url", d.r.cfg.URL, "error", why, "retry_in", wait)
			if err := d.hear(ctx, func() { d.watch.lost(why.Error(), time.Now()) }); err != nil {
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

// hear does something at the desk, and makes an offer where one is due.
func (d *desk) hear(ctx context.Context, what func()) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	what()
	return d.look(ctx)
}

// session is one connection, from handshake to loss.
func (d *desk) session(ctx context.Context) error {
	cfg := &d.r.cfg
	l, present, err := link.Dial(ctx, &cfg.Config, link.Hello{
		ClientID: cfg.ClientID, Expiry: time.Duration(cfg.SessionExpiry), ReceiveMaximum: uint16(cfg.ReceiveMaximum),
	})
	if err != nil {
		return err
	}
	defer l.Close()
	defer context.AfterFunc(ctx, func() {
		if err := l.Leave(); err != nil {
			d.r.log.Debug("leave the broker", "error", err)
		}
		l.Close()
	})()
	if !present && d.trust.Load() {
		// Our arrival made a new session. If we died before the loss is
		// committed, the next one would take it for the old: end it at once, and
		// come again when the loss is on disk.
		if err := l.EndSession(); err != nil {
			return err
		}
		return errors.Join(errForgotten, d.hear(ctx, func() { d.in.connected(false) }))
	}
	d.r.log.Info("broker connected", "url", cfg.URL, "session_present", present)
	if err := d.hear(ctx, func() { d.in.connected(present); d.watch.connected(time.Now()) }); err != nil {
		return err
	}
	var subs []link.Subscription
	for _, f := range d.in.mapper.Filters() {
		subs = append(subs, link.Subscription{Filter: f, QoS: 1})
	}
	if err := l.Subscribe(subs...); err != nil {
		return err
	}
	for p := (link.Packet{}); ; {
		kind, err := l.Next(&p)
		if err != nil {
			return err
		}
		if err := d.take(ctx, l, kind, &p); err != nil {
			return err
		}
	}
}

// take takes what was read, and what else lies there.
func (d *desk) take(ctx context.Context, l *link.Link, kind link.Kind, p *link.Packet) (err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	now := d.r.now()
	d.in.machine = time.Now()
	for n := 0; ; n++ {
		switch kind {
		case link.Published:
			if after := d.in.take(p, now); p.QoS > 0 {
				d.acks.add(l, p.ID, after)
			}
		case link.Subscribed:
			d.in.subscribed()
			d.watch.subscribed()
		case link.Acknowledged: // we publish nothing
		}
		if n == mostAtOnce || d.in.full() || !l.Ready() {
			return d.look(ctx)
		}
		if kind, err = l.Next(p); err != nil {
			return errors.Join(err, d.look(ctx))
		}
	}
}

// tick looks at the clock until ctx ends.
func (d *desk) tick(ctx context.Context) error {
	tick := time.NewTicker(max(10*time.Millisecond, time.Duration(d.r.cfg.Window.Latency)/4))
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if err := d.hear(ctx, func() {}); err != nil {
			if broken, ok := errors.AsType[logError](err); ok {
				return broken.error
			}
			return err
		}
	}
}

// look tells how it goes, has a broker that stays away written down, and makes an
// offer where one is due. It runs with the lock held.
func (d *desk) look(ctx context.Context) error {
	now := time.Now()
	if d.watch.due(now) {
		d.in.unheard(d.r.now(), d.watch.word())
	}
	if text, news := d.watch.news(now); news {
		source.Tell(d.out, text)
	}
	if !d.in.due(now) {
		return nil
	}
	if n := len(d.in.bad.voids); n > 0 {
		d.r.log.Warn("payloads unreadable", "reasons", n, "first", d.in.bad.voids[0].Note, "count_since_start", d.in.counters.unreadable)
	}
	o, err := d.in.seal()
	if err != nil {
		return logError{err}
	}
	counted := !d.in.fresh
	d.acks.then(d.in.sealed, func() { d.trust.Store(counted) })
	if _, err := d.out.Append(ctx, o); err != nil {
		return logError{err}
	}
	return nil
}

// receiveMaximum is how many messages may be on their way to the disk: what comes in
// two windows at so many a second, as one waits for the disk while the next is filled.
func receiveMaximum(rate int, window time.Duration) int {
	return min(max(int(2*float64(rate)*window.Seconds()), leastReceiveMaximum), math.MaxUint16)
}
