// Package mqtt reads machines that publish over MQTT 5: the session is persistent,
// a packet is acknowledged only after its samples are on disk, and one that comes
// twice is stored once.
package mqtt

import (
	"context"
	"errors"
	"log/slog"
	"math"
	"time"

	"golang.org/x/sync/errgroup"

	"plantmesh/edge/source"
	"plantmesh/edge/source/mqtt/link"
	"plantmesh/proto/mesh"
)

// mostAtOnce bounds the packets that are taken without looking up.
const mostAtOnce = 256

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

// Run implements source.Reader. It returns nil when ctx ends; a broker that
// can't be reached is tried for ever.
func (r *Reader) Run(ctx context.Context, resume []byte, log source.Log) error {
	in, err := newIntake(&r.cfg, resume, r.kept)
	if err != nil {
		return err
	}
	in.taps = source.TapsOf(log)
	w := newWatch(&r.cfg, in, time.Now())
	d := newDesk(in, w, log, r.now, r.log)
	d.trust.Store(in.counted())
	s := &session{desk: d, cfg: &r.cfg, watch: w}
	if r.doubted {
		in.doubt()
	}
	g, inner := errgroup.WithContext(ctx)
	g.Go(func() error {
		return link.Keep(inner, r.cfg.URL, r.log, s.run, func(why error) error {
			return d.hear(inner, func() { w.lost(why.Error(), time.Now()) })
		})
	})
	g.Go(func() error { return d.tick(inner) })
	g.Go(func() error { return d.acks.follow(inner, log) })
	if err := g.Wait(); err != nil && ctx.Err() == nil {
		return err
	}
	return nil
}

// session is the connection to the broker, one after the other.
type session struct {
	*desk

	cfg   *Config
	watch *watch // of the desk, under its lock
}

// run is one connection, from handshake to loss.
func (s *session) run(ctx context.Context) error {
	cfg := s.cfg
	l, present, err := link.Dial(ctx, &cfg.Config, link.Hello{
		ClientID: cfg.ClientID, Expiry: time.Duration(cfg.SessionExpiry), ReceiveMaximum: uint16(cfg.ReceiveMaximum),
	})
	if err != nil {
		return err
	}
	defer l.Close()
	defer context.AfterFunc(ctx, func() {
		if err := l.Leave(); err != nil {
			s.log.Debug("leave the broker", "error", err)
		}
		l.Close()
	})()
	if !present && s.trust.Load() {
		// Our arrival made a new session. If we died before the loss is
		// committed, the next one would take it for the old: end it at once, and
		// come again when the loss is on disk.
		if err := l.EndSession(); err != nil {
			return err
		}
		return errors.Join(errForgotten, s.hear(ctx, func() { s.in.connected(false) }))
	}
	s.log.Info("broker connected", "url", cfg.URL, "session_present", present)
	var stale []string
	if err := s.hear(ctx, func() { s.in.connected(present); s.watch.connected(time.Now()); stale = s.in.stale }); err != nil {
		return err
	}
	if err := l.Unsubscribe(stale...); err != nil {
		return err
	}
	qos := byte(1)
	if cfg.AtMostOnce {
		qos = 0
	}
	var subs []link.Subscription
	for _, f := range s.in.mapper.Filters() {
		subs = append(subs, link.Subscription{Filter: f, QoS: qos})
	}
	if err := l.Subscribe(subs...); err != nil {
		return err
	}
	for p := (link.Packet{}); ; {
		kind, err := l.Next(&p)
		if err == nil {
			err = s.take(ctx, l, kind, &p)
		}
		if errors.Is(err, link.ErrTaken) { // what the other one acknowledged nobody here knows
			return errors.Join(err, s.hear(ctx, s.in.lose))
		}
		if err != nil {
			return err
		}
	}
}

// take takes what was read, and what else lies there.
func (s *session) take(ctx context.Context, l *link.Link, kind link.Kind, p *link.Packet) (err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now()
	s.in.machine = time.Now()
	for n := 0; ; n++ {
		switch kind {
		case link.Published:
			if after := s.in.take(p, "", now); p.QoS > 0 {
				s.acks.add(l, p.ID, after)
			}
		case link.Subscribed:
			s.in.subscribed()
			s.watch.subscribed()
		case link.Acknowledged: // we publish nothing
		}
		if n == mostAtOnce || s.in.full() || !l.Ready() {
			return s.look(ctx)
		}
		if kind, err = l.Next(p); err != nil {
			return errors.Join(err, s.look(ctx))
		}
	}
}

// receiveMaximum is how many messages may be on their way to the disk: what comes in
// two windows at so many a second, as one waits for the disk while the next is filled.
func receiveMaximum(rate int, window time.Duration) int {
	return min(max(int(2*float64(rate)*window.Seconds()), leastReceiveMaximum), math.MaxUint16)
}
