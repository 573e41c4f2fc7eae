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

// change is the earliest instant from which the fold may differ from the last.
func (e *entity) change(v outlook) (at mesh.Nanos, ok bool) {
	if at = e.dirty; at != never {
		at = max(at, e.floor)
	}
	if d, differs := product.FirstDifference(e.folded, v.spans); differs {
		at = min(at, d)
	}
	if e.tip == nil || e.scratch {
		return min(at, v.end), true
	}
	if v.end > e.tip.At {
		at = min(at, e.tip.At)
	}
	if v.ended != e.ended {
		return min(at, v.end), true
	}
	return at, at < max(v.end, e.tip.At)
}

// fold folds every entity that changed, and compares its rows.
func (r *Runner) fold(ctx context.Context, d *diff) error {
	if r.sites == nil {
		return nil
	}
	if r.def.Fold == product.FoldCoverage {
		return r.coverAll(ctx, d)
	}
	views, starts := make([]outlook, len(r.entities)), make([]*product.State, len(r.entities))
	need, horizon := map[*entity]mesh.Nanos{}, r.horizon()
	kept, err := r.kept(ctx)
	if err != nil {
		return err
	}
	for i, e := range r.entities {
		e.merge()
		views[i] = look(e, horizon)
		at, ok := e.change(views[i])
		if !ok {
			continue
		}
		st, err := r.begin(ctx, e, &views[i], at, kept)
		if err != nil {
			return err
		}
		starts[i] = st
		if st.At < e.from {
			need[e] = st.At
		}
	}
	if err := r.load(ctx, need); err != nil {
		return err
	}
	// Days may have gone while they were read: rows of what was left would be
	// rows of nothing.
	if now, err := r.kept(ctx); err != nil || len(need) > 0 && now > kept {
		return errors.Join(err, errDropped)
	}
	for i, e := range r.entities {
		d.final, d.end = e.feed.final, views[i].end
		if starts[i] != nil {
			if err := r.refold(ctx, e, views[i], starts[i], d); err != nil {
				return err
			}
		}
		d.sweep(e)
		e.forget(d.end)
	}
	return nil
}

// kept is the instant from which on no sample was dropped.
func (r *Runner) kept(ctx context.Context) (mesh.Nanos, error) {
	if r.cfg.Kept == nil {
		return always, nil
	}
	return r.cfg.Kept(ctx)
}

// begin is start, unless what would be folded from there is dropped. Then it is
// the first edge behind that; where there is none the entity begins anew at the
// first instant that is kept and that no row reaches over.
func (r *Runner) begin(ctx context.Context, e *entity, v *outlook, at, kept mesh.Nanos) (*product.State, error) {
	whole := func(st *product.State) bool { return st.At >= kept || st.At >= e.from }
	st, err := r.start(ctx, e, at)
	if err != nil || whole(st) {
		return st, err
	}
	if !e.scratch { // cells are an hour at most, so an edge is behind kept by then
		e.edges = nil // those stored are asked
		if st, err = r.start(ctx, e, max(at, kept.Add(time.Hour))); err != nil || whole(st) {
			return st, err
		}
	}
	if e.floor, err = r.clear(ctx, e, kept); err != nil {
		return nil, err
	}
	v.spans = since(v.spans, e.floor)
	e.edges, e.saved = []product.Edge{{State: &product.State{}}}, 0
	return &product.State{}, nil
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

// since are spans without what lies before an instant.
func since(spans []mesh.Span, from mesh.Nanos) []mesh.Span {
	if len(spans) == 0 || spans[0].From >= from {
		return spans
	}
	var out []mesh.Span
	for _, s := range spans {
		if s = s.Meet(mesh.Span{From: from, To: never}); !s.Empty() {
			out = append(out, s)
		}
	}
	return out
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
// edge stored, or nothing. Edges behind it are dropped.
func (r *Runner) start(ctx context.Context, e *entity, at mesh.Nanos) (*product.State, error) {
	if e.scratch {
		e.edges, e.saved = []product.Edge{{State: &product.State{}}}, 0
		return &product.State{}, nil
	}
	if e.tip != nil && e.tip.At <= at {
		return e.tip, nil
	}
	n, _ := slices.BinarySearchFunc(e.edges, at, func(x product.Edge, t mesh.Nanos) int {
		if x.State.At <= t {
			return -1
		}
		return 1
	})
	if n > 0 {
		e.edges = e.edges[:n]
		e.saved = min(e.saved, n-1)
		return e.edges[n-1].State.Clone(), nil
	}
	edge, ok, err := r.stored(ctx, e, at)
	if err != nil {
		return nil, err
	}
	if !ok {
		edge = &product.Edge{State: &product.State{}}
	}
	// Written again, it drops the stored ones behind it.
	e.edges, e.saved = []product.Edge{*edge}, 0
	return edge.State.Clone(), nil
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

// toRead are the stretches of sources in which what entities need lies.
func toRead(need map[*entity]mesh.Nanos) map[string]mesh.Span {
	spans := map[string]mesh.Span{}
	for e, from := range need {
		for _, p := range e.feed {
			s := (mesh.Span{From: from, To: e.from}).Meet(p.Span)
			if p.source == nil || s.Empty() {
				continue
			}
			if all, ok := spans[p.source.name]; ok {
				s = mesh.Span{From: min(s.From, all.From), To: max(s.To, all.To)}
			}
			spans[p.source.name] = s
		}
	}
	return spans
}

// load reads events back that are not held any more, once per source for all
// entities that need them from an instant on.
func (r *Runner) load(ctx context.Context, need map[*entity]mesh.Nanos) error {
	spans := toRead(need)
	for _, name := range slices.Sorted(maps.Keys(spans)) {
		err := r.tape.History(ctx, name, spans[name], func(it *Item) error {
			if it.Table != nil {
				r.deal(it, func(e *entity, ev product.Event) {
					if from, ok := need[e]; ok && from <= ev.Time && ev.Time < e.from {
						e.fresh = append(e.fresh, ev)
					}
				})
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	for e, from := range need {
		e.merge()
		if e.from = from; from <= 0 {
			e.from = always
		}
	}
	return nil
}

// refold folds an entity from a state to the end of what is known.
func (r *Runner) refold(ctx context.Context, e *entity, v outlook, st *product.State, d *diff) error {
	since := max(st.At, e.floor)
	trace := r.sites.Fold(st, e.events, v.spans, v.end, e.feed.changes())
	e.edges = append(e.edges, trace.Edges...)
	e.tip, e.folded, e.ended, e.dirty, e.scratch = st, slices.Clone(v.spans), v.ended, never, false
	for i := e.saved; i < len(e.edges); i++ {
		b, err := e.edges[i].Encode()
		if err != nil {
			return err
		}
		d.states = append(d.states, mesh.FoldState{Key: e.id, At: e.edges[i].State.At, Bytes: b})
	}
	e.saved = len(e.edges)
	if err := r.remember(ctx, e, since); err != nil {
		return err
	}
	if r.def.Fold == product.FoldIntervals {
		d.compare(e, since, r.intervals(e, trace))
		return nil
	}
	drafts, err := r.windows(ctx, e, v, since)
	if err != nil {
		return err
	}
	d.compare(e, since, drafts)
	return nil
}

func (r *Runner) intervals(e *entity, trace product.Trace) (out []product.Draft) {
	draft := func(i product.Interval, open mesh.Nanos) {
		if p := e.feed.at(i.From); p != nil {
			out = append(out, r.def.IntervalDraft(p.site, p.eq, i, open))
		}
	}
	for _, i := range trace.Intervals {
		draft(i, 0)
	}
	if last := (product.Interval{Span: mesh.Span{From: e.tip.From, To: e.tip.At}, Tuple: e.tip.Tuple}); e.tip.Started() && !last.Empty() {
		open := e.tip.At
		if e.ended {
			open = 0
		}
		draft(last, open)
	}
	return out
}

func (r *Runner) windows(ctx context.Context, e *entity, v outlook, since mesh.Nanos) (out []product.Draft, err error) {
	k0, _ := product.Extent(v.spans)
	end := v.end
	if !e.tip.Started() {
		return nil, nil
	}
	var all []product.Window
	first := never
	for _, kind := range r.def.Windows {
		for _, w := range r.sites.Windows(kind, mesh.Span{From: max(min(since, end-1), k0), To: end}) {
			all, first = append(all, w), min(first, w.From)
		}
	}
	cells, err := r.cells(ctx, e, max(first, k0))
	if err != nil {
		return nil, err
	}
	for _, w := range all {
		at, _ := slices.BinarySearchFunc(cells, w.From, func(c product.Cell, t mesh.Nanos) int {
			if c.From < t {
				return -1
			}
			return 1
		})
		if p := e.feed.at(w.From); p != nil {
			out = append(out, r.def.WindowDraft(p.site, p.eq, w, cells[at:], end))
		}
	}
	return out, nil
}

// cells are the cells of an entity from the one that holds an instant on; what
// is not held is read back from the stored states.
func (r *Runner) cells(ctx context.Context, e *entity, from mesh.Nanos) (out []product.Cell, err error) {
	for len(e.edges) > 0 && e.edges[0].Cell.From > from {
		edge, ok, err := r.stored(ctx, e, e.edges[0].Cell.From)
		if err != nil {
			return nil, err
		}
		if !ok || edge.State.At != e.edges[0].Cell.From {
			break
		}
		e.edges = slices.Insert(e.edges, 0, *edge)
		e.saved++
	}
	for i := range e.edges {
		if c := e.edges[i].Cell; c.To > c.From {
			out = append(out, c)
		}
	}
	out = append(out, r.sites.OpenCell(e.tip))
	for i := range out {
		if p := e.feed.at(out[i].From); p != nil {
			out[i].Ideal = p.eq.Ideal
		}
	}
	return out, nil
}
