package runner

import (
	"context"
	"slices"

	"plantmesh/cloud/product"
	"plantmesh/proto/mesh"
)

// draft makes the states and rows of what a run folded, and compares them with
// those that stand.
func (r *Runner) draft(ctx context.Context, x *run, d *diff) error {
	d.final, d.end, d.hole = x.feed.final, x.upto, r.holed(x.feed)
	if err := x.cache(d); err != nil {
		return err
	}
	over := stretch{since: max(x.since, x.floor), stop: never, cut: never}
	if x.met || x.state.At < x.view.end {
		over.stop, over.cut = x.state.At, x.state.At
	}
	if err := r.remember(ctx, x, over.since, over.stop); err != nil {
		return err
	}
	drafts, left, err := r.drafts(ctx, x, &over)
	if err != nil {
		return err
	}
	d.compare(x.entity, over, drafts)
	x.stand(left)
	if over.stop != never {
		x.forgetRows(x.upto.Add(-keepRows))
	}
	return nil
}

// drafts are the rows of what a run folded; left is where the first one begins that
// must wait for more, never: none must.
func (r *Runner) drafts(ctx context.Context, x *run, over *stretch) (out []product.Draft, left mesh.Nanos, err error) {
	if r.def.Fold != product.FoldIntervals {
		return r.windows(ctx, x, *over)
	}
	over.cut, left = never, never
	if over.stop != never && x.state.Started() {
		over.stays = product.TimeText(x.state.From) // it goes on as it stands
		if !x.met {
			left = x.state.From
		}
	}
	return r.intervals(x), left, nil
}

// stand notes through where the rows of a run stand, the first of those left out
// begins at left. Those that begin before what was folded anew stand up to there.
func (x *run) stand(left mesh.Nanos) {
	switch {
	case left != never:
		x.stands = max(min(x.stands, x.since), left)
	case !x.met:
		x.stands = x.upto
	}
}

// cache has the states of a run stored, and drops those they take the place of.
func (x *run) cache(d *diff) error {
	gone := mesh.Span{From: x.since + 1, To: never}
	if x.anew {
		gone.From = always
	}
	if x.met {
		gone.To = x.state.At + 1
	}
	if !x.onward {
		d.stale = append(d.stale, mesh.Stale{Key: x.id, At: gone})
	}
	for i := range x.trace.Edges {
		b, err := x.trace.Edges[i].Encode()
		if err != nil {
			return err
		}
		d.states = append(d.states, mesh.FoldState{Key: x.id, At: x.trace.Edges[i].State.At, Bytes: b})
	}
	return nil
}

// intervals are those that ended, and the open one where the run came to the end
// of what is known.
func (r *Runner) intervals(x *run) (out []product.Draft) {
	draft := func(i product.Interval, open mesh.Nanos) {
		if p := x.feed.at(i.From); p != nil {
			out = append(out, r.def.IntervalDraft(p.site, p.eq, i, open))
		}
	}
	for _, i := range x.trace.Intervals {
		draft(i, 0)
	}
	if x.met || x.state.At < x.view.end {
		return out
	}
	if last := (product.Interval{Span: mesh.Span{From: x.state.From, To: x.state.At}, Tuple: x.state.Tuple}); x.state.Started() && !last.Empty() {
		open := x.state.At
		if x.ended {
			open = 0
		}
		draft(last, open)
	}
	return out
}

// windows are those of which a run folded anything. One that reaches over what is
// folded waits for the rest of it, and one that reaches over the tip for the tip.
func (r *Runner) windows(ctx context.Context, x *run, over stretch) (out []product.Draft, left mesh.Nanos, err error) {
	k0, _ := product.Extent(x.view.spans)
	if left = never; !x.state.Started() {
		return nil, left, nil
	}
	var all []product.Window
	meet := mesh.Span{From: max(min(over.since, x.upto-1), k0), To: min(over.stop, x.upto)}
	need := mesh.Span{From: never, To: always}
	for _, kind := range r.def.Windows {
		for _, w := range x.sites.Windows(kind, meet) {
			if x.upto < x.view.end && w.To > x.upto || x.tip == nil && w.To > r.lastEdge(x) {
				left = min(left, w.From)
				continue
			}
			all = append(all, w)
			need = mesh.Span{From: min(need.From, w.From), To: max(need.To, w.To)}
		}
	}
	if len(all) == 0 {
		return nil, left, nil
	}
	cells, err := r.cells(ctx, x, mesh.Span{From: max(need.From, k0), To: need.To})
	if err != nil {
		return nil, left, err
	}
	for _, w := range all {
		at, _ := slices.BinarySearchFunc(cells, w.From, func(c product.Cell, t mesh.Nanos) int {
			if c.From < t {
				return -1
			}
			return 1
		})
		if p := x.feed.at(w.From); p != nil {
			out = append(out, r.def.WindowDraft(p.site, p.eq, w, cells[at:], x.upto))
		}
	}
	return out, left, nil
}

// lastEdge is the end of the last finished cell before what is folded ends.
func (r *Runner) lastEdge(x *run) mesh.Nanos {
	return x.sites.CellBegin(x.upto)
}

// cells are the cells of an entity in a span, in time order: of the run, of what
// is held, and of what is stored.
func (r *Runner) cells(ctx context.Context, x *run, span mesh.Span) (out []product.Cell, err error) {
	at := span.To
	if x.tip != nil && x.tip.Started() {
		if open := x.sites.OpenCell(x.tip); span.To > open.From {
			out, at = append(out, open), open.From
		}
	}
	if len(out) == 0 {
		at = x.sites.CellEnd(span.To - 1)
	}
	for at > span.From {
		edge, err := r.edge(ctx, x, at)
		if err != nil {
			return nil, err
		}
		if edge == nil || edge.State.At != at || edge.Cell.To <= edge.Cell.From {
			break
		}
		out, at = append(out, edge.Cell), edge.Cell.From
	}
	slices.Reverse(out)
	for i := range out {
		if p := x.feed.at(out[i].From); p != nil {
			out[i].Ideal = p.eq.Ideal
		}
	}
	return out, nil
}

// edge is the newest edge at or before an instant, as it is once the pass is
// committed; nil: there is none.
func (r *Runner) edge(ctx context.Context, x *run, at mesh.Nanos) (*product.Edge, error) {
	last := func(edges []product.Edge) *product.Edge {
		if edges = edgesTo(edges, at); len(edges) > 0 {
			return &edges[len(edges)-1]
		}
		return nil
	}
	if e := last(x.mended); e != nil && e.State.At == at {
		return e, nil
	}
	if e := last(x.edges); e != nil {
		return e, nil
	}
	e, ok, err := r.stored(ctx, x.entity, at)
	if !ok {
		e = nil
	}
	return e, err
}
