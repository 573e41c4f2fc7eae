package runner

import (
	"slices"

	"plantmesh/cloud/product"
	"plantmesh/proto/mesh"
)

// entity is what a runner holds of one equipment, or of one source in product
// coverage.
//
//	             edges[0]  held.From            upto           held.To
//	─────────────────┴─────────┴──────┴──────┴──┴─────────────────┴──►
//	states are stored │ held   │ events are held  │ not folded yet │ in the log only
type entity struct {
	id    string
	feed  feed
	sites *product.Sites // as its calendars cut time

	fresh []product.Event // not merged yet
	held  window
	// Inputs from dirty on differ from those of the fold, up to settled or behind
	// upto only.
	dirty, settled mesh.Nanos

	edges  []product.Edge // the newest states at the ends of cells, without a hole
	upto   mesh.Nanos     // through here it is folded; always: it never was
	stands mesh.Nanos     // through here its rows say what is known: upto, but on the way of a fold of several passes
	waits  mesh.Nanos     // from here on it is to be folded again, at the next step; never: nothing is
	mended []product.Edge // edges further back that this pass makes anew
	tip    *product.State // at upto; nil: to be made from the last edge
	folded []mesh.Span    // what was known up to there at the last fold
	ended  bool           // as it was folded last: the site has it no more
	// floor: nothing before it is folded any more, because samples of before are
	// dropped; rows that begin before it stand as they are.
	floor mesh.Nanos
	// scratch says that stored states are of another mapping or definition: fold
	// from nothing.
	scratch bool

	rows     map[string]*kept
	rowsFrom mesh.Nanos // all rows that begin at or after it are in rows
	open     map[string]*kept
}

func newEntity(id string, f feed) *entity {
	return &entity{
		id: id, feed: f, held: nowhere(), dirty: never, settled: always, upto: always, stands: always, waits: never, floor: always,
		rows: map[string]*kept{}, rowsFrom: never, open: map[string]*kept{},
	}
}

// halfway reports whether something before the end of what is known is left for the
// next step.
func (e *entity) halfway(end mesh.Nanos) bool { return min(e.upto, e.waits) < end }

// differs notes that inputs of a stretch are others than those that were folded.
func (e *entity) differs(s mesh.Span) {
	e.dirty, e.settled = min(e.dirty, s.From), max(e.settled, s.To)
}

// merge takes the fresh events among the others, each once. What is at or behind
// the end of what is known was not folded; what is not held will be read back.
func (e *entity) merge(end mesh.Nanos) {
	if len(e.fresh) == 0 {
		return
	}
	note := func(ev product.Event) {
		if ev.Time < end {
			e.differs(mesh.Span{From: ev.Time, To: ev.Time + 1})
		}
	}
	fresh := sorted(e.fresh)
	all := window{Span: e.held.Span, events: fresh}
	from, to := all.from(e.held.From), all.from(e.held.To)
	for _, ev := range fresh[:from] {
		note(ev)
	}
	for _, ev := range fresh[to:] {
		note(ev)
	}
	e.held.put(fresh[from:to], note)
	e.fresh = e.fresh[:0]
}

// lose has the stretch of a batch that was compacted folded again, with events
// that are read back.
func (e *entity) lose(s mesh.Span) {
	e.differs(s)
	e.held.lose(s)
}

// edgesTo are the edges held up to an instant.
func edgesTo(edges []product.Edge, t mesh.Nanos) []product.Edge {
	n, _ := slices.BinarySearchFunc(edges, t, func(x product.Edge, t mesh.Nanos) int {
		if x.State.At <= t {
			return -1
		}
		return 1
	})
	return edges[:n]
}

// forget drops what late input is unlikely to need; it can be read back.
func (e *entity) forget() {
	if e.upto < always+mesh.Nanos(keepRows) || e.upto > never-mesh.Nanos(keepEvents) {
		return
	}
	if old := edgesTo(e.edges, e.upto.Add(-keepEvents)); len(old) > 0 {
		if cut := old[len(old)-1].State.At; cut.Sub(max(e.held.From, 0)) > keepEvents/4 {
			e.held.begin(cut)
			e.forgetRows(e.upto.Add(-keepRows))
		}
	}
	// A clock that jumps must not fill the memory either.
	if n := len(e.held.events); n > 0 && e.held.events[n-1].Time >= e.upto.Add(keepEvents) {
		e.held.end(e.upto.Add(keepEvents))
	}
	if n := len(edgesTo(e.edges, e.upto.Add(-keepRows))); n > 64 {
		e.edges = slices.Clone(e.edges[n:])
	}
}

func (e *entity) forgetRows(before mesh.Nanos) {
	for key, k := range e.rows {
		if k.state != mesh.RowProvisional && k.to != 0 && k.to < before {
			delete(e.rows, key)
			e.rowsFrom = max(e.rowsFrom, k.from+1)
		}
	}
}

// heldFrom is where the first row that ended and whose change is held back
// begins: after a restart it is folded again. One that is open is made from the
// last edge at any rate.
func (e *entity) heldFrom() mesh.Nanos {
	from := never
	for _, k := range e.open {
		if k.next != nil && k.ends(e.upto) {
			from = min(from, k.from)
		}
	}
	return from
}
