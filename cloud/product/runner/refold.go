package runner

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"plantmesh/cloud/product"
	"plantmesh/proto/mesh"
)

// errDropped has a product begin anew from the store.
var errDropped = errors.New("history was dropped while it was read")

// outlook is what is known of an equipment at the moment.
type outlook struct {
	spans []mesh.Span
	end   mesh.Nanos // up to which it is folded
	ended bool       // the site has it no more, and everybody is known beyond
}

// look finds what is known of an entity. One that the site has no more is
// folded to where it ended, proven or not.
func look(e *entity, horizon mesh.Nanos) (v outlook) {
	v.spans = since(e.feed.known(), e.floor)
	_, v.end = product.Extent(v.spans)
	if at, ended := e.feed.ends(horizon); ended && len(v.spans) > 0 {
		v.end, v.ended = max(v.end, at), true
	}
	return v
}

// horizon is the furthest instant anything is known of.
func (r *Runner) horizon() (t mesh.Nanos) {
	for _, s := range r.sources {
		t = max(t, s.end())
	}
	return t
}

// since are spans without what lies before an instant.
func since(spans []mesh.Span, from mesh.Nanos) []mesh.Span {
	if len(spans) == 0 || spans[0].From >= from {
		return spans
	}
	return mesh.Within(spans, mesh.Span{From: from, To: never})
}

// change is what of an entity must be folded again.
type change struct {
	late    bool       // something before upto, in a stretch: see the next two
	from    mesh.Nanos // where it begins
	settled mesh.Nanos // where it ends; never: nothing of what is stored behind it holds
	onward  bool       // what is behind upto
}

// changed finds what must be folded again of an entity.
func (e *entity) changed(v *outlook) (c change) {
	c.from, c.settled = e.dirty, e.settled
	if c.from != never {
		c.from = max(c.from, e.floor)
	}
	if d := product.Difference(e.folded, mesh.Within(v.spans, mesh.Span{From: always, To: e.upto})); !d.Empty() {
		c.from, c.settled = min(c.from, d.From), max(c.settled, d.To)
	}
	if e.scratch || v.end < e.upto {
		return change{late: true, from: min(c.from, v.end), settled: never}
	}
	c.late = c.from < e.upto
	c.onward = v.end > e.upto || e.tip == nil || v.ended != e.ended
	return c
}

// fold folds every entity that changed, and compares its rows.
func (r *Runner) fold(ctx context.Context, d *diff) error {
	if r.sites == nil {
		return nil
	}
	if r.def.Fold == product.FoldCoverage {
		return r.coverAll(ctx, d)
	}
	kept, err := r.kept(ctx)
	if err != nil {
		return err
	}
	p := &pass{Runner: r, kept: kept, reach: firstReach, diff: d}
	views, horizon := make([]outlook, len(r.entities)), r.horizon()
	for i, e := range r.entities {
		views[i] = look(e, horizon)
		e.merge(views[i].end)
		if err := p.add(ctx, e, &views[i]); err != nil {
			return err
		}
	}
	if err := p.run(ctx); err != nil {
		return err
	}
	// Days may have gone while they were read: rows of what was left would be
	// rows of nothing.
	if now, err := r.kept(ctx); err != nil || p.read && now > kept {
		return errors.Join(err, errDropped)
	}
	for _, x := range p.done {
		if err := r.draft(ctx, x, d); err != nil {
			return err
		}
	}
	for i, e := range r.entities {
		if e.halfway(views[i].end) { // it goes on at the next step
			d.more, d.through = true, min(d.through, e.stands)
		} else {
			e.stands = e.upto
			d.final, d.end, d.hole = e.feed.final, e.upto, r.holed(e.feed)
			d.sweep(e)
		}
		e.mended = nil
		e.forget()
	}
	r.drop(kept, d)
	return nil
}

// drop drops the states that no fold can begin at any more, because samples
// behind them are gone; those of the cells that a day which is kept may need stay.
func (r *Runner) drop(kept mesh.Nanos, d *diff) {
	if kept < always+mesh.Nanos(keepRows) || kept <= r.dropped {
		return
	}
	for _, e := range r.entities {
		d.stale = append(d.stale, mesh.Stale{Key: e.id, At: mesh.Span{From: always, To: kept.Add(-keepRows)}})
	}
	r.dropped = kept
}

// kept is the instant from which on no sample was dropped.
func (r *Runner) kept(ctx context.Context) (mesh.Nanos, error) {
	if r.cfg.Kept == nil {
		return always, nil
	}
	return r.cfg.Kept(ctx)
}

// origin is where a fold begins.
type origin struct {
	state  *product.State
	before []product.Edge // edges held up to there
	anew   bool           // of nothing: what is stored doesn't hold
}

// begin is start, unless what would be folded from there is dropped. Then it is
// the first edge behind that; where there is none the entity begins anew at the
// first instant that is kept and that no row reaches over.
func (r *Runner) begin(ctx context.Context, e *entity, v *outlook, at, kept mesh.Nanos) (origin, error) {
	whole := func(o origin) bool {
		return o.state.At >= kept || e.held.reaches(o.state.At) && e.held.To >= kept
	}
	o, err := r.start(ctx, e, at)
	if err != nil || whole(o) {
		return o, err
	}
	if !e.scratch { // cells are an hour at most, so an edge is behind kept by then
		was := e.edges
		e.edges = nil // those stored are asked
		if o, err = r.start(ctx, e, max(at, kept.Add(time.Hour))); err != nil || whole(o) {
			return o, err
		}
		e.edges = was
	}
	if e.floor, err = r.clear(ctx, e, kept); err != nil {
		return origin{}, err
	}
	v.spans = since(v.spans, e.floor)
	return origin{state: &product.State{}, anew: true}, nil
}

// clear is the first instant at or behind kept that no row of the entity
// reaches over. A row without an end is no obstacle: it is made anew.
func (r *Runner) clear(ctx context.Context, e *entity, kept mesh.Nanos) (mesh.Nanos, error) {
	rows, _, err := r.out.Rows(ctx, mesh.RowQuery{Product: r.def.ID, Entities: []string{e.id}, Span: mesh.Span{From: kept, To: kept + 1}, Limit: 1000})
	at := kept
	for i := range rows {
		if rows[i].From < kept {
			at = max(at, rows[i].To)
		}
	}
	return at, err
}

// holed reports whether a log of an entity's sources has a hole: what fills it may
// change any row before its end.
func (r *Runner) holed(f feed) bool {
	for _, p := range f {
		if p.source == nil {
			continue
		}
		for id := range p.source.voices.Of {
			if l := r.logs[id]; l != nil && l.chain.Holed() && !r.retired(id) {
				return true
			}
		}
	}
	return false
}

func (r *Runner) coverAll(ctx context.Context, d *diff) error {
	for _, name := range slices.Sorted(maps.Keys(r.sources)) {
		if err := r.cover(ctx, r.sources[name], d); err != nil {
			return err
		}
	}
	return nil
}

// start is the newest state at or before an instant: the tip, an edge held, an
// edge stored, or nothing.
func (r *Runner) start(ctx context.Context, e *entity, at mesh.Nanos) (origin, error) {
	if e.scratch {
		return origin{state: &product.State{}, anew: true}, nil
	}
	if e.tip != nil && e.tip.At <= at {
		return origin{state: e.tip, before: e.edges}, nil
	}
	if before := edgesTo(e.edges, at); len(before) > 0 {
		return origin{state: before[len(before)-1].State.Clone(), before: slices.Clip(before)}, nil
	}
	edge, ok, err := r.stored(ctx, e, at)
	if err != nil || !ok {
		return origin{state: &product.State{}}, err
	}
	if m := edgesTo(e.mended, edge.State.At); len(m) > 0 && m[len(m)-1].State.At == edge.State.At {
		edge = &m[len(m)-1] // with the cell as this pass made it
	}
	return origin{state: edge.State.Clone(), before: []product.Edge{*edge}}, nil
}

// stored is the newest stored edge at or before an instant.
func (r *Runner) stored(ctx context.Context, e *entity, at mesh.Nanos) (*product.Edge, bool, error) {
	st, ok, err := r.out.State(ctx, r.def.ID, e.id, at)
	if err != nil || !ok {
		return nil, false, err
	}
	edge, err := product.DecodeEdge(st.Bytes)
	if err != nil {
		return nil, false, mesh.Permanent(err)
	}
	return edge, true, nil
}
