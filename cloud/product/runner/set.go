package runner

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"plantmesh/cloud/product"
	"plantmesh/proto/mesh"
)

// A product that failed is left alone for retryFirst, doubled each time up to
// retryMost: each try begins an epoch, and a damaged store must not grow by one
// every second.
const (
	retryFirst = time.Second
	retryMost  = time.Minute
)

// Set runs every built-in product over one tape. Each commits for itself; one
// that fails for good is suspended alone. Not safe for concurrent use, but for
// what Run is given, Suspended and Troubles.
type Set struct {
	members []*member
	cadence time.Duration
	now     func() mesh.Nanos
	log     *slog.Logger
}

type member struct {
	*Runner

	fails int        // in a row
	next  mesh.Nanos // Run doesn't try before, by the machine clock

	mu      sync.Mutex // protects what follows
	trouble *Trouble   // nil: it goes on
}

// errWaits: it is not time yet to try a product again.
var errWaits = errors.New("not tried yet")

// Trouble is what keeps a product from going on.
type Trouble struct {
	Product string
	Reason  string     // of the newest failure
	Since   mesh.Nanos // of the first in a row, by the machine clock
	// Suspended: it failed for good. Otherwise it is tried again.
	Suspended bool
}

// suspended is why it failed for good; nil: it didn't.
func (m *member) suspended() *Trouble {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.trouble != nil && m.trouble.Suspended {
		return m.trouble
	}
	return nil
}

// note keeps how a try ended.
func (m *member) note(err error, now mesh.Nanos) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err == nil {
		m.fails, m.next, m.trouble = 0, 0, nil
		return
	}
	t := &Trouble{Product: m.def.ID, Reason: err.Error(), Since: now, Suspended: errors.Is(err, mesh.ErrPermanent)}
	if m.trouble != nil {
		t.Since = m.trouble.Since
	}
	m.next = now.Add(min(retryMost, retryFirst<<min(m.fails, 10)))
	m.fails, m.trouble = m.fails+1, t
}

// NewSet assembles the runners of all built-in products.
func NewSet(cfg Config, log Log, out Output, clock Clock) (*Set, error) {
	defs, err := product.Definitions()
	if err != nil {
		return nil, err
	}
	return NewSetOf(defs, cfg, log, out, clock)
}

// NewSetOf is NewSet for the definitions given.
func NewSetOf(defs []*product.Definition, cfg Config, log Log, out Output, clock Clock) (*Set, error) {
	tape, err := NewTape(log)
	if err != nil {
		return nil, err
	}
	s := &Set{cadence: cfg.withDefaults().Cadence, now: clock.Now, log: clock.Log}
	for _, d := range defs {
		s.members = append(s.members, &member{Runner: New(cfg, d, tape, out, clock)})
	}
	return s, nil
}

// Step steps each product once. The error joins those that may pass; the
// products without one have gone on.
func (s *Set) Step(ctx context.Context) (worked bool, err error) {
	return s.each(ctx, func(m *member) (bool, error) { return m.Step(ctx) })
}

// Flush has every product read all there is and commit it now.
func (s *Set) Flush(ctx context.Context) error {
	_, err := s.each(ctx, func(m *member) (bool, error) { return false, m.Flush(ctx) })
	return err
}

func (s *Set) each(ctx context.Context, do func(*member) (bool, error)) (worked bool, err error) {
	for _, m := range s.members {
		if m.suspended() != nil {
			continue
		}
		w, e := do(m)
		worked = worked || w
		if errors.Is(e, errWaits) {
			continue
		}
		if e != nil && ctx.Err() != nil {
			return worked, errors.Join(err, e) // the end is no trouble
		}
		m.note(e, s.now())
		switch {
		case e == nil:
		case errors.Is(e, mesh.ErrPermanent):
			s.log.ErrorContext(ctx, "product suspended", "product", m.def.ID, "reason", e.Error())
		default:
			err = errors.Join(err, e)
		}
	}
	return worked, err
}

// Suspended are the products that failed for good, and why.
func (s *Set) Suspended() map[string]string {
	out := map[string]string{}
	for _, m := range s.members {
		if t := m.suspended(); t != nil {
			out[t.Product] = t.Reason
		}
	}
	return out
}

// Troubles are the products that don't go on now. Safe for concurrent use.
func (s *Set) Troubles() (out []Trouble) {
	for _, m := range s.members {
		m.mu.Lock()
		if m.trouble != nil {
			out = append(out, *m.trouble)
		}
		m.mu.Unlock()
	}
	return out
}

// Run steps until ctx is done. changed gives a channel that is closed at the
// next change of the hub's log. A product that failed waits its time; the
// others go on.
func (s *Set) Run(ctx context.Context, changed func() <-chan struct{}) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for ctx.Err() == nil {
		news := changed() // asked for first, so that nothing slips in between
		worked, err := s.each(ctx, func(m *member) (bool, error) {
			if s.now() < m.next {
				return false, errWaits
			}
			return m.Step(ctx)
		})
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			s.log.WarnContext(ctx, "products begin anew from the store", "reason", err.Error())
		}
		if worked {
			continue
		}
		timer.Reset(s.cadence)
		select {
		case <-ctx.Done():
		case <-news:
		case <-timer.C:
		}
	}
	return nil
}
