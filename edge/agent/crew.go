package agent

import (
	"bytes"
	"context"
	"os"
	"slices"

	"golang.org/x/sync/errgroup"

	"plantmesh/edge/quality"
	"plantmesh/edge/source"
)

// crew is what runs the sources. Only Run and the loop of revisions use it.
type crew struct {
	group *errgroup.Group
	ends  map[string]func() // by source: ends it, and waits until it has
}

// supervisor is the one of a source, which does not run yet.
func (a *agent) supervisor(s SourceFile) (*source.Supervisor, error) {
	orders, err := a.orders(s)
	if err != nil {
		return nil, err
	}
	spawn := func(context.Context) (source.Process, error) {
		return source.Exec(a.self, []string{"worker"}, nil, os.Stderr)
	}
	return source.NewSupervisor(source.Config{ID: s.ID(), Worker: orders, Listeners: a.taps.raw}, spawn, a.buffer, a.now, a.log), nil
}

// begin runs a source, until ctx ends or ends is called.
func (c *crew) begin(ctx context.Context, id string, s *source.Supervisor) {
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan struct{})
	c.group.Go(func() error {
		defer close(ended)
		return s.Run(ctx)
	})
	c.ends[id] = func() {
		cancel()
		<-ended
	}
}

// apply makes sources and rules those of next. Sources that stay as they are go on: neither
// their workers nor the buffer nor the connection to the hub notice.
func (a *agent) apply(ctx context.Context, next *Config) error {
	was, running := a.running()
	kept := map[string]*source.Supervisor{}
	for i, s := range was.Sources {
		if n := next.source(s.ID()); n != nil && same(&s, n) {
			kept[s.ID()] = running[i]
		}
	}
	made := make([]*source.Supervisor, len(next.Sources))
	for i, s := range next.Sources {
		if made[i] = kept[s.ID()]; made[i] != nil {
			continue
		}
		var err error
		if made[i], err = a.supervisor(s); err != nil {
			return err
		}
	}
	for _, s := range was.Sources {
		if kept[s.ID()] == nil {
			a.crew.ends[s.ID()]()
			delete(a.crew.ends, s.ID())
		}
	}
	a.mu.Lock()
	a.cfg.Sources, a.cfg.applied, a.cfg.drift, a.sources = next.Sources, next.applied, next.drift, made
	a.mu.Unlock()
	for i, s := range next.Sources {
		if kept[s.ID()] == nil {
			a.crew.begin(ctx, s.ID(), made[i])
		}
	}
	return a.declare(ctx, next.Rules)
}

// source is the file of a source; nil: there is none.
func (c *Config) source(id string) *SourceFile {
	for i := range c.Sources {
		if c.Sources[i].ID() == id {
			return &c.Sources[i]
		}
	}
	return nil
}

// same says whether two files make the same source.
func same(a, b *SourceFile) bool {
	return bytes.Equal(a.Raw, b.Raw) && a.origin.base == b.origin.base
}

// declare makes rules the active ones. nil: those that could not be written yet.
func (a *agent) declare(ctx context.Context, rules *quality.Rules) error {
	a.declaring.Lock()
	defer a.declaring.Unlock()
	if rules == nil && !a.undeclared {
		return nil
	}
	if rules != nil {
		a.cfg.Rules, a.undeclared = rules, true
	}
	if err := Declare(ctx, a.cfg.Rules, a.buffer, a.now()); err != nil {
		return err
	}
	a.undeclared = false
	return nil
}

// crewed are the sources as they are now.
func (a *agent) crewed() []*source.Supervisor {
	_, all := a.running()
	return all
}

// running is the configuration as it is now, and what runs each of its sources.
func (a *agent) running() (Config, []*source.Supervisor) {
	a.mu.Lock()
	defer a.mu.Unlock()
	c := a.cfg
	c.Sources = slices.Clone(c.Sources)
	return c, a.sources
}
