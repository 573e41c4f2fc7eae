package runner

import (
	"slices"

	"plantmesh/cloud/product"
	"plantmesh/proto/mesh"
)

// entity is what a runner holds of one equipment, or of one source in product
// coverage.
//
//	        from            edges[0]         tip = end of what is known
//	─────────┴─────────────────┴──────┴──────┴──┴──────────────►
//	in the log only │ events are held             │ held, not folded yet
type entity struct {
	id   string
	feed feed

	fresh  []product.Event // not merged yet
	events []product.Event // in folding order; all there are from `from` on
	from   mesh.Nanos
	dirty  mesh.Nanos // the earliest event that was not folded

	edges  []product.Edge // sorted; those from saved on are not stored yet
	saved  int
	tip    *product.State
	folded []mesh.Span // what was known at the last fold
	ended  bool        // as it was folded last: the site has it no more
	// floor: nothing before it is folded any more, because samples of before are
	// dropped; rows that begin before it stand as they are.
	floor mesh.Nanos
	// scratch says that stored states are of another mapping: fold from nothing.
	scratch bool

	rows     map[string]*kept
	rowsFrom mesh.Nanos // all rows that touch what is at or after it are in rows
	open     map[string]*kept
}

func newEntity(id string, f feed) *entity {
	return &entity{id: id, feed: f, from: never, dirty: never, floor: always, rows: map[string]*kept{}, rowsFrom: never, open: map[string]*kept{}}
}

// merge takes the fresh events among the others, each once.
func (e *entity) merge() {
	if len(e.fresh) == 0 {
		return
	}
	slices.SortFunc(e.fresh, product.Event.Compare)
	fresh := slices.CompactFunc(e.fresh, func(x, y product.Event) bool { return x.Compare(y) == 0 })
	at, _ := slices.BinarySearchFunc(e.events, fresh[0], product.Event.Compare)
	if at == len(e.events) {
		e.dirty = min(e.dirty, fresh[0].Time)
		e.events = append(e.events, fresh...)
		e.fresh = e.fresh[:0]
		return
	}
	tail := slices.Clone(e.events[at:])
	e.events = e.events[:at]
	for len(tail) > 0 && len(fresh) > 0 {
		switch c := tail[0].Compare(fresh[0]); {
		case c < 0:
			e.events, tail = append(e.events, tail[0]), tail[1:]
		case c == 0:
			fresh = fresh[1:]
		default:
			e.dirty = min(e.dirty, fresh[0].Time)
			e.events, fresh = append(e.events, fresh[0]), fresh[1:]
		}
	}
	if len(fresh) > 0 {
		e.dirty = min(e.dirty, fresh[0].Time)
	}
	e.events = append(append(e.events, tail...), fresh...)
	e.fresh = e.fresh[:0]
}

// forget drops what late input is unlikely to need; it can be read back.
func (e *entity) forget(end mesh.Nanos) {
	n, _ := slices.BinarySearchFunc(e.edges, end.Add(-keepEvents), func(x product.Edge, t mesh.Nanos) int {
		if x.State.At <= t {
			return -1
		}
		return 1
	})
	if n > 0 {
		if cut := e.edges[n-1].State.At; cut.Sub(max(e.from, 0)) > keepEvents/4 {
			k, _ := slices.BinarySearchFunc(e.events, cut, func(x product.Event, t mesh.Nanos) int {
				if x.Time < t {
					return -1
				}
				return 1
			})
			e.events = slices.Clone(e.events[k:])
			e.from = cut
			e.forgetRows(end.Add(-keepRows))
		}
	}
	n, _ = slices.BinarySearchFunc(e.edges, end.Add(-keepRows), func(x product.Edge, t mesh.Nanos) int {
		if x.State.At <= t {
			return -1
		}
		return 1
	})
	if n > 64 {
		e.edges = slices.Clone(e.edges[n:])
		e.saved -= n
	}
}

func (e *entity) forgetRows(before mesh.Nanos) {
	for key, k := range e.rows {
		if k.state != mesh.RowProvisional && k.to != 0 && k.to < before {
			delete(e.rows, key)
			e.rowsFrom = max(e.rowsFrom, k.to+1)
		}
	}
}
