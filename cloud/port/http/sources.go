package porthttp

import (
	"context"
	"fmt"
	"sync"
	"time"

	"plantmesh/proto/mesh"
)

// SourceEnd is how far one source of the site is known; 0: it was never heard.
type SourceEnd struct {
	Source  string
	Through mesh.Nanos
}

// sourceState is a source in the answer.
type sourceState struct {
	Source string `json:"source"`
	// HeardThrough is the end of what is known of it; null: nothing ever was.
	HeardThrough *string `json:"heard_through"`
	// Silent: it is further behind than the chain explains, and does not come nearer.
	Silent bool `json:"silent"`
}

const (
	// stillFor is how long a source that is behind may stand still before it is
	// silent: an outage's backlog moves many times in that time.
	stillFor = 15 * time.Second
	// lookEvery bounds how often a product's sources are read: readers of the
	// live feed ask with every commit.
	lookEvery = time.Second
	// watchEvery is how often the sources are looked at though nobody asks.
	watchEvery = stillFor / 3
)

// hearing remembers when each source last came nearer, of each product.
type hearing struct {
	mu sync.Mutex
	of map[string]*heardOf
}

type heardOf struct {
	looked time.Time
	ends   []SourceEnd
	moved  map[string]move
}

type move struct {
	through mesh.Nanos
	at      time.Time // by the machine's clock
}

// look reads where a product's sources are.
func (h *hearing) look(ctx context.Context, s *server, product string, now time.Time) (*heardOf, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	o := h.of[product]
	if o == nil {
		o = &heardOf{moved: map[string]move{}}
		if h.of == nil {
			h.of = map[string]*heardOf{}
		}
		h.of[product] = o
	}
	if !o.looked.IsZero() && now.Sub(o.looked) < lookEvery {
		return o.copy(), nil
	}
	ends, err := s.deps.Sources(ctx, product)
	if err != nil {
		return nil, fmt.Errorf("read the sources of %s: %w", product, err)
	}
	was := o.moved
	o.looked, o.ends, o.moved = now, ends, make(map[string]move, len(ends))
	for _, e := range ends {
		m, known := was[e.Source]
		if !known || m.through != e.Through {
			m = move{e.Through, now}
		}
		o.moved[e.Source] = m
	}
	return o.copy(), nil
}

// watch keeps up with the sources. What can't be read is told to who asks.
func (s *server) watch(ctx context.Context) {
	if s.deps.Sources == nil {
		return
	}
	for _, p := range s.deps.Catalogue {
		_, _ = s.heard.look(ctx, s, p.ID, time.Now()) // see above
	}
}

// copy is what may leave the lock: the map is replaced, never changed.
func (o *heardOf) copy() *heardOf { return &heardOf{ends: o.ends, moved: o.moved} }

// sources are a product's sources, and the end of those that are not silent; 0
// where all are.
func (s *server) sources(ctx context.Context, product string, lagging func(mesh.Nanos) bool) (out []sourceState, through mesh.Nanos, err error) {
	out = []sourceState{}
	if s.deps.Sources == nil {
		return out, 0, nil
	}
	now := time.Now()
	o, err := s.heard.look(ctx, s, product, now)
	if err != nil {
		return nil, 0, err
	}
	for _, e := range o.ends {
		silent := e.Through == 0 || lagging(e.Through) && now.Sub(o.moved[e.Source].at) >= stillFor
		if !silent && (through == 0 || e.Through < through) {
			through = e.Through
		}
		out = append(out, sourceState{Source: e.Source, HeardThrough: stamp(e.Through), Silent: silent})
	}
	return out, through, nil
}
