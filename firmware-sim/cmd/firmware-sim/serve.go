package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"plantmesh/firmware-sim/ledger"
	"plantmesh/firmware-sim/mqtt"
	"plantmesh/firmware-sim/mqtt/sparkplug"
	"plantmesh/firmware-sim/opcua"
	"plantmesh/firmware-sim/plant"
	"plantmesh/proto/clock"
)

// Errors that have a slug of their own.
var (
	errNetwork = errors.New("the network refused")
	errInUse   = errors.New("the address is in use by another program")
)

// server is a plant.Server with its own company: Run is called once and blocks
// until ctx ends, the rest is safe for concurrent use. Close frees what Run has
// not.
type server interface {
	plant.Server
	Run(ctx context.Context) error
	URL() string
}

// syncEvery bounds how long a received mark waits for the disk: the demo kills
// whatever it likes, and a promise it may hold us to must be in the book.
const syncEvery = 100 * time.Millisecond

// serve runs the devices until ctx ends:
//
//	feed ─► generator ─► ledger (synced) ─► a pump per source ─► server ═► listener
//	                        ▲                                      │
//	                        └────────────── received ◄─────────────┘
func serve(ctx context.Context, cfg *config, ev *events, log *slog.Logger) (err error) {
	f, err := openFeed(cfg)
	if err != nil {
		return err
	}
	if err := cfg.serves(f.Signals()); err != nil {
		return err
	}
	file, err := clock.Open(cfg.Clock)
	if err != nil {
		return cfg.doc.Fault("$.clock", "%v", err)
	}
	book, err := ledger.Open(cfg.Ledger)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, book.Close()) }()
	d := &drive{cfg: cfg, clock: file, events: ev, log: log, gen: newGenerator(f, book, cfg.Servers)}
	defer func() { err = errors.Join(err, d.close()) }()
	if err := d.open(f.Signals(), book); err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	for _, p := range d.pumps {
		g.Go(func() error { return d.watch(ctx, p) })
	}
	g.Go(func() error { return every(ctx, syncEvery, book.Sync) })
	g.Go(func() error { return every(ctx, time.Second, d.progress) })
	g.Go(func() error { return d.run(ctx) })
	if err := g.Wait(); !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

// open makes every source's server listen and says where.
func (d *drive) open(signals []plant.Signal, book *ledger.Ledger) error {
	at := map[string]string{}
	for _, c := range d.cfg.Servers {
		p := &pump{source: c.Source}
		received := func(source string, indexes []uint64) {
			book.Received(source, indexes)
			p.received.Add(uint64(len(indexes)))
		}
		s, err := listen(c, signals, received, d.log)
		if errors.Is(err, syscall.EADDRINUSE) {
			return fmt.Errorf("serve %s at %s: %w", c.Source, c.Listen, errInUse)
		}
		if err != nil {
			return fmt.Errorf("%w: serve %s at %s: %w", errNetwork, c.Source, c.Listen, err)
		}
		p.server = s
		d.pumps = append(d.pumps, p)
		at[c.Source] = s.URL()
	}
	return d.events.say(ready{"ready", at})
}

func listen(c serverConfig, signals []plant.Signal, received plant.Received, log *slog.Logger) (server, error) {
	switch c.Kind {
	case "mqtt":
		return mqtt.Serve(mqtt.Config{Source: c.Source, Listen: c.Listen, Broker: c.Broker}, signals, received, log)
	case "sparkplug":
		return sparkplug.Serve(sparkplug.Config{
			Source: c.Source, Listen: c.Listen, Broker: c.Broker, Group: c.Group,
			Host: c.Host, StoreAndForward: c.StoreAndForward, KeepAlive: time.Duration(c.KeepAlive),
		}, signals, log)
	}
	return opcua.Serve(opcua.Config{Source: c.Source, Listen: c.Listen, Forgetful: c.Forgetful}, signals, received, log)
}

// watch keeps a server's company; one that gives up is a fault of the run.
func (d *drive) watch(ctx context.Context, p *pump) error {
	err := p.server.Run(ctx)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err == nil {
		err = errors.New("the server stopped by itself")
	}
	err = fmt.Errorf("serve %s: %w", p.source, err)
	return errors.Join(err, d.events.say(happened{"fault", err.Error()}))
}

func (d *drive) close() (err error) {
	for _, p := range d.pumps {
		err = errors.Join(err, p.server.Close())
	}
	return err
}

// every calls do until ctx ends.
func every(ctx context.Context, d time.Duration, do func() error) error {
	tick := time.NewTicker(d)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
			if err := do(); err != nil {
				return err
			}
		}
	}
}
