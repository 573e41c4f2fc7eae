package runner

import (
	"context"
	"errors"
	"math"
	"slices"
	"time"

	"plantmesh/cloud/product"
	"plantmesh/proto/mesh"
)

// What is read back at once, in plant time: it is doubled where there is little, and
// quartered where there is more than may be held.
const (
	firstReach = time.Hour
	leastReach = time.Minute
)

// bounds are what a pass may hold. All entities share them.
type bounds struct {
	bytes  int64 // sealed, of one read of one source
	events int   // that are read back for one piece
	read   int   // events that are read back in a pass: beyond it, it ends
	made   int   // states and intervals that a pass makes
}

func defaultBounds() bounds {
	return bounds{bytes: 32 << 20, events: 1 << 19, read: recallSamples, made: 1 << 14}
}

// run is one fold of one entity, under way.
//
//	          ├──── piece ────┼──── piece ────┼─ ·····► v.end
//	edge or tip               edge            edge: ends here where the state is
//	it begins at                              the stored one and no input differs
type run struct {
	*entity
	origin

	view    *outlook
	since   mesh.Nanos // where it began
	was     mesh.Nanos // what the state said then of its interval
	settled mesh.Nanos // from here on it may meet what is stored; never: it can't
	win     *window
	wants   mesh.Span // of what is read at the moment
	loaded  []product.Event
	read    bool // something was read back into win

	trace product.Trace
	met   bool // it met what is stored

	onward bool // it began at the tip
}

// pass folds entities side by side, piece by piece, so that what several need is
// read back once, and never more than a piece of it is held.
type pass struct {
	*Runner

	kept   mesh.Nanos
	reach  time.Duration
	diff   *diff
	active []*run
	done   []*run // in the order their rows are to be compared
	read   bool   // history was read
	events int    // that were read back
	made   int    // states and intervals
}

// add begins what an entity needs.
func (p *pass) add(ctx context.Context, e *entity, v *outlook) error {
	c := e.changed(v)
	e.waits = never
	switch {
	case c.late:
		return p.open(ctx, e, v, c.from, c.settled)
	case c.onward:
		return p.open(ctx, e, v, e.upto, never)
	}
	return nil
}

func (p *pass) open(ctx context.Context, e *entity, v *outlook, at, settled mesh.Nanos) error {
	o, err := p.begin(ctx, e, v, at, p.kept)
	if err != nil {
		return err
	}
	x := &run{entity: e, origin: o, view: v, since: o.state.At, was: o.state.At, settled: settled, win: &e.held}
	x.onward = o.state == e.tip
	if o.anew {
		x.settled = never
	}
	if o.state.Started() {
		x.was = o.state.From
	}
	if !e.held.reaches(x.since) {
		x.win = &window{Span: mesh.Span{From: x.since, To: x.since}}
	}
	p.active = append(p.active, x)
	return nil
}

// run folds until all are done, or there is as much as one commit may have.
func (p *pass) run(ctx context.Context) error {
	for len(p.active) > 0 {
		to, err := p.load(ctx)
		if err != nil {
			return err
		}
		for _, x := range slices.Clone(p.active) {
			if x.state.At >= to {
				continue
			}
			if err := p.push(ctx, x, to); err != nil {
				return err
			}
		}
		if p.events >= p.cfg.bounds.read || p.made >= p.cfg.bounds.made {
			p.rest()
		}
	}
	return nil
}

// push folds one entity on to an instant, or to the end of what is known.
func (p *pass) push(ctx context.Context, x *run, to mesh.Nanos) error {
	n := len(x.trace.Edges)
	t := x.sites.Fold(x.state, x.win.events, x.view.spans, min(to, x.view.end), x.feed.changes())
	x.trace.Edges, x.trace.Intervals = append(x.trace.Edges, t.Edges...), append(x.trace.Intervals, t.Intervals...)
	p.made += len(t.Edges) + len(t.Intervals)
	for ; n < len(x.trace.Edges); n++ {
		met, err := p.meets(ctx, x, &x.trace.Edges[n])
		if err != nil {
			return err
		}
		if met {
			x.meet(n)
			p.finish(x)
			if c := x.changed(x.view); c.onward {
				return p.open(ctx, x.entity, x.view, x.upto, never)
			}
			return nil
		}
	}
	if x.state.At >= x.view.end {
		x.reach(x.state.At, x.view.ended)
		p.finish(x)
		return nil
	}
	if x.state.At > always+mesh.Nanos(keepEvents) && x.win.To < never {
		x.win.begin(max(x.win.From, x.state.At.Add(-keepEvents)))
	}
	return nil
}

// finish takes a run that is done from those that are not.
func (p *pass) finish(x *run) {
	p.active = slices.DeleteFunc(p.active, func(o *run) bool { return o == x })
	p.done = append(p.done, x)
}

// meets reports whether a run came to a state that is stored, with nothing behind
// it that differs: all that was folded from there holds.
func (p *pass) meets(ctx context.Context, x *run, edge *product.Edge) (bool, error) {
	at := edge.State.At
	if at < x.settled || at > x.upto {
		return false, nil
	}
	if len(x.edges) > 0 && x.edges[0].State.At <= at {
		held := edgesTo(x.edges, at)
		return held[len(held)-1].State.Same(edge.State), nil
	}
	old, ok, err := p.stored(ctx, x.entity, at)
	return ok && old.State.Same(edge.State), err
}

// meet ends a run at an edge behind which what was folded before holds.
func (x *run) meet(n int) {
	at := x.trace.Edges[n].State.At
	x.met, x.state = true, x.trace.Edges[n].State.Clone()
	x.trace.Edges = x.trace.Edges[:n+1]
	x.trace.Intervals = slices.DeleteFunc(x.trace.Intervals, func(i product.Interval) bool { return i.To > at })
	if rest := x.edges[len(edgesTo(x.edges, at)):]; len(rest) < len(x.edges) {
		x.edges = slices.Concat(edgesTo(x.edges, x.since), x.trace.Edges, rest)
	}
	x.mended = x.trace.Edges
	if x.read && x.win == &x.held { // what lies behind was not folded
		x.held.end(at)
	}
	x.dirty, x.settled, x.entity.settled = never, never, always
	x.folded = mesh.Within(x.view.spans, mesh.Span{From: always, To: x.upto})
}

// reach ends a run at an instant behind which nothing that was folded before holds.
func (x *run) reach(to mesh.Nanos, ended bool) {
	x.edges = x.before
	x.edges = append(x.edges, x.trace.Edges...)
	x.tip, x.upto, x.ended, x.scratch = x.state, to, ended, false
	x.dirty, x.entity.settled = never, always
	x.folded = mesh.Within(x.view.spans, mesh.Span{From: always, To: to})
	if x.win != &x.held {
		x.held = *x.win
	}
	if x.held.From <= 0 && x.since <= 0 {
		x.held.From = always
	}
}

// rest ends the pass: runs stop at the last edge they came to and go on from there
// at the next step. One that stands within a cell goes on to its end, and one of
// which nothing was known yet to where something is.
func (p *pass) rest() {
	for _, x := range slices.Clone(p.active) {
		n := len(x.trace.Edges)
		switch {
		case n > 0 && x.trace.Edges[n-1].State.At == x.state.At:
			x.reach(x.state.At, false)
			p.finish(x)
		case n == 0 && x.state.At == x.since && len(p.done) > 0:
			x.waits, x.stands = x.since, min(x.stands, x.since)
			p.active = slices.DeleteFunc(p.active, func(o *run) bool { return o == x })
		}
	}
}

// load reads back what the hindmost runs need next, and says up to where they can
// go.
func (p *pass) load(ctx context.Context) (to mesh.Nanos, err error) {
	for {
		from := p.lacks()
		if from == never {
			return never, nil
		}
		to := p.piece(from)
		err := p.loadTo(ctx, to)
		if errors.Is(err, mesh.ErrLarge) {
			p.reach = to.Sub(from) / 4
			continue
		}
		return to, err
	}
}

// lacks is the first instant behind which events are missing; never: none are.
func (p *pass) lacks() mesh.Nanos {
	from := never
	for _, x := range p.active {
		if m := x.missing(never, p.recalled > 0); !m.Empty() {
			from = min(from, m.From)
		}
	}
	return from
}

// missing is what a run needs up to an instant and isn't held. Where more is soon
// to come, all that a piece has is read.
func (x *run) missing(to mesh.Nanos, exact bool) mesh.Span {
	m := mesh.Span{From: max(x.state.At, x.win.To), To: to}
	if exact || m.From >= x.view.end {
		m.To = min(to, x.view.end)
	}
	return m
}

// piece is the end of the piece that begins at an instant. An hour and more end
// where cells of all entities do.
func (p *pass) piece(from mesh.Nanos) mesh.Nanos {
	p.reach = max(leastReach, p.reach)
	to := from.Add(p.reach)
	if to < from { // the end of time
		return never
	}
	if p.reach >= firstReach {
		to = product.HourEnd(to - 1)
	}
	return to
}

// loadTo reads back what is missing up to an instant, once per source for all
// entities that need it; mesh.ErrLarge where that is more than may be held.
func (p *pass) loadTo(ctx context.Context, to mesh.Nanos) error {
	need := map[*entity]*run{}
	for _, x := range p.active {
		if m := x.missing(to, p.recalled > 0); !m.Empty() {
			need[x.entity], x.wants = x, m
		}
	}
	most := p.cfg.bounds
	if p.reach <= leastReach { // less can't be read
		most.bytes, most.events = 0, math.MaxInt
	}
	n := 0
	for name, span := range toRead(need) {
		more, err := p.readBack(ctx, name, span, need, most)
		if n += more; err == nil && n > most.events {
			err = mesh.ErrLarge
		}
		if err != nil {
			for _, x := range need {
				x.loaded = nil
			}
			return err
		}
	}
	for _, x := range need {
		x.win.extend(x.loaded, x.wants.To)
		x.loaded, x.read = nil, true
	}
	p.events += n
	if n < p.cfg.bounds.events/8 && p.reach < math.MaxInt64/2 {
		p.reach *= 2
	}
	return nil
}

// readBack reads a stretch of one source, and says how many events runs took of it.
func (p *pass) readBack(ctx context.Context, source string, span mesh.Span, need map[*entity]*run, most bounds) (n int, err error) {
	p.read = true
	err = p.tape.History(ctx, source, span, most.bytes, func(it *Item) error {
		if it.Table == nil {
			return nil
		}
		p.deal(it, func(e *entity, ev product.Event) {
			if x := need[e]; x != nil && x.wants.Has(ev.Time) {
				x.loaded = append(x.loaded, ev)
				n++
			}
		})
		if n > most.events {
			return mesh.ErrLarge
		}
		return nil
	})
	return n, err
}

// toRead are the stretches of sources in which what runs want lies.
func toRead(need map[*entity]*run) map[string]mesh.Span {
	spans := map[string]mesh.Span{}
	for e, x := range need {
		for _, part := range e.feed {
			s := x.wants.Meet(part.Span)
			if part.source == nil || s.Empty() {
				continue
			}
			if all, ok := spans[part.source.name]; ok {
				s = mesh.Span{From: min(s.From, all.From), To: max(s.To, all.To)}
			}
			spans[part.source.name] = s
		}
	}
	return spans
}
