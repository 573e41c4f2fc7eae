package main

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"plantmesh/firmware-sim/plant"
	"plantmesh/proto/clock"
)

const (
	// stride is how far a source's own clock jumps while it tells its history:
	// the heartbeat every listener expects.
	stride = 10 * time.Second
	// chunk is how much plant time is made and synced at once in history.
	chunk = 10 * time.Minute
	// liveEvery is how often, in machine time, a running plant is looked at.
	liveEvery = 50 * time.Millisecond
	// patience is how often a full source is asked whether there is room.
	patience = 5 * time.Millisecond
	// longWait is when waiting for a listener is worth a line.
	longWait = 10 * time.Second
)

// generator makes emissions ahead of the pumps that need them. What it hands
// out is in the ledger, synced. Safe for concurrent use.
type generator struct {
	mu    sync.Mutex // protects the fields below
	feed  plant.Feed
	book  book
	until time.Time                   // made up to here
	ready map[string][]plant.Emission // by served source
}

// book makes emissions durable before it returns; the batch belongs to the
// caller again then. Safe for concurrent use.
type book interface {
	Emitted(batch []plant.Emission) error
}

func newGenerator(f plant.Feed, b book, served []serverConfig) *generator {
	g := &generator{feed: f, book: b, ready: map[string][]plant.Emission{}}
	for _, s := range served {
		g.ready[s.Source] = nil
	}
	return g
}

// take is what a source emits up to t and was not handed out yet. More is made
// at once, up to ahead, where something must be made.
func (g *generator) take(source string, t, ahead time.Time) ([]plant.Emission, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if t.After(g.until) {
		made := slices.DeleteFunc(g.feed.Until(ahead), func(e plant.Emission) bool {
			_, served := g.ready[e.Source]
			return !served // nobody can hear it
		})
		if err := g.book.Emitted(made); err != nil {
			return nil, err
		}
		for _, e := range made {
			g.ready[e.Source] = append(g.ready[e.Source], e)
		}
		g.until = ahead
	}
	mine := g.ready[source]
	n := 0
	for n < len(mine) && !mine[n].Emitted.After(t) {
		n++
	}
	g.ready[source] = mine[n:]
	return mine[:n], nil
}

// pump is one source on its way through time.
type pump struct {
	source   string
	server   server
	at       time.Time // everything up to here has been pushed
	emitted  atomic.Uint64
	received atomic.Uint64
	frontier atomic.Int64 // at, for whoever else looks; UnixMilli
}

// drive is the whole plant on its way through time.
type drive struct {
	cfg    *config
	clock  *clock.File
	events *events
	log    *slog.Logger
	gen    *generator
	pumps  []*pump
}

// step pushes what a source emits up to t and moves its own clock there.
func (d *drive) step(p *pump, t, ahead time.Time) error {
	mine, err := d.gen.take(p.source, t, ahead)
	if err != nil {
		return err
	}
	for _, e := range mine {
		p.server.Push(e)
	}
	p.emitted.Add(uint64(len(mine)))
	p.server.Prove(t)
	p.at = t
	p.frontier.Store(t.UnixMilli())
	return nil
}

// run tells the history, waits until it is received, and follows the clock.
func (d *drive) run(ctx context.Context) error {
	g, gctx := errgroup.WithContext(ctx)
	for _, p := range d.pumps {
		g.Go(func() error { return d.history(gctx, p) })
	}
	if err := g.Wait(); err != nil {
		return err
	}
	d.log.Info("history received", "until", d.cfg.until)
	if err := d.events.say(happened{Event: "history_received"}); err != nil {
		return err
	}
	return d.live(ctx)
}

// history tells a source's past. It begins with the first values alone and
// waits for somebody to take them, so that a listener hears a source from its
// very first instant.
func (d *drive) history(ctx context.Context, p *pump) error {
	if err := d.step(p, d.cfg.start, d.cfg.start); err != nil {
		return err
	}
	if first := p.server.Waiting(); first > 0 {
		if err := d.wait(ctx, p, func() bool { return p.server.Waiting() < first }); err != nil {
			return err
		}
	}
	for p.at.Before(d.cfg.until) {
		if err := d.wait(ctx, p, func() bool { return p.server.Waiting() <= d.cfg.MaxWaiting }); err != nil {
			return err
		}
		t := earlier(p.at.Add(stride), d.cfg.until)
		if err := d.step(p, t, earlier(p.at.Add(chunk), d.cfg.until)); err != nil {
			return err
		}
	}
	return d.wait(ctx, p, func() bool { return p.server.Waiting() == 0 })
}

// wait until something is true of a source, or ctx ends.
func (d *drive) wait(ctx context.Context, p *pump, until func() bool) error {
	if until() {
		return ctx.Err()
	}
	began, said := time.Now(), false
	enough := errors.New("enough")
	err := every(ctx, patience, func() error {
		if until() {
			return enough
		}
		if !said && time.Since(began) > longWait {
			said = true
			d.log.Info("waiting for the listener", "source", p.source, "waiting", p.server.Waiting(), "frontier", p.at)
		}
		return nil
	})
	if errors.Is(err, enough) {
		return nil
	}
	return err
}

// live follows the plant clock. At its end the servers go on proving that
// nothing happens.
func (d *drive) live(ctx context.Context) error {
	stopped := false
	return every(ctx, liveEvery, func() error {
		now := d.clock.Now().Time().Truncate(time.Millisecond)
		for _, p := range d.pumps {
			for at := p.at; at.Before(now); at = p.at {
				if err := d.step(p, earlier(at.Add(stride), now), now); err != nil {
					return err
				}
			}
			p.server.Prove(p.at)
		}
		if stopped || d.cfg.stop.IsZero() || now.Before(d.cfg.stop.Add(plant.Disorder)) {
			return nil
		}
		stopped = true
		d.log.Info("plant stands still", "at", now)
		return d.events.say(happened{Event: "stopped"})
	})
}

func (d *drive) progress() error {
	say := progress{Event: "progress"}
	var least int64
	for i, p := range d.pumps {
		if at := p.frontier.Load(); i == 0 || at < least {
			least = at
		}
		say.Emitted += p.emitted.Load()
		say.Received += p.received.Load()
	}
	say.Frontier = time.UnixMilli(least).UTC().Format(time.RFC3339Nano)
	return d.events.say(say)
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}
