package sim

import (
	"slices"

	"plantmesh/edge/buffer"
	"plantmesh/edge/forward"
	"plantmesh/proto/mesh"
	"plantmesh/proto/wire"
)

// queueOf is the log as forward sees it; with a control, not quite that.
func (c control) queueOf(b *buffer.Buffer) forward.Queue {
	switch c {
	case deleteBeforeAccounted, highWaterMark, openingVoids:
		return &crookedQueue{b, c}
	case epochKept:
		return &oneEpoch{b}
	default:
		return b
	}
}

// crookedQueue hands on other receipts than came.
type crookedQueue struct {
	*buffer.Buffer

	c control
}

func (q *crookedQueue) Ack(r mesh.Receipt) ([]mesh.Range, error) {
	switch q.c {
	case deleteBeforeAccounted: // what the broker has acknowledged counts as received
		r.Have = mesh.Set{Through: q.End()}
	case highWaterMark: // the highest counts, not what is contiguous
		if n := len(r.Have.Islands); n > 0 {
			last := r.Have.Islands[n-1]
			r.Have = mesh.Set{Through: mesh.Position{Log: q.End().Log, Epoch: last.Epoch, Seq: last.Last}}
		}
	default: // an opening elsewhere voids the rest of this branch
		if n := len(r.Chain); n > 0 && q.ended(r.Chain) {
			r.Have = mesh.Set{Through: q.End()}
		}
	}
	return q.Buffer.Ack(r)
}

// ended reports whether another's opening ended an epoch of this log before
// where it really went on.
func (q *crookedQueue) ended(chain []mesh.Link) bool {
	_, mine, _, err := q.Outset()
	if err != nil {
		return false
	}
	own := map[mesh.Epoch]bool{}
	for _, o := range mine {
		own[o.At.Epoch] = true
	}
	return !own[chain[len(chain)-1].Epoch]
}

// oneEpoch shows a log of many epochs as one, numbered along the chain.
type oneEpoch struct{ *buffer.Buffer }

type epochAt struct {
	epoch mesh.Epoch
	first uint64 // index of its opening
}

func (q *oneEpoch) epochs() (out []epochAt) {
	_, openings, _, err := q.Buffer.Outset()
	if err != nil {
		return nil
	}
	for _, r := range openings {
		e := epochAt{epoch: r.At.Epoch, first: 1}
		if o, err := wire.OpenOpening(r.Sealed); err == nil {
			for _, x := range out {
				if x.epoch == o.Parent.Epoch {
					e.first = x.first + o.Parent.Seq
				}
			}
		}
		out = append(out, e)
	}
	return out
}

// flat is a position as if there had been one epoch.
func flat(all []epochAt, p mesh.Position) mesh.Position {
	for _, e := range all {
		if e.epoch == p.Epoch {
			return mesh.Position{Log: p.Log, Epoch: all[0].epoch, Seq: e.first + p.Seq - 1}
		}
	}
	return p
}

// deep is the other way round.
func deep(all []epochAt, p mesh.Position) mesh.Position {
	if len(all) == 0 || p.Epoch != all[0].epoch {
		return p
	}
	for _, e := range slices.Backward(all) {
		if p.Seq >= e.first {
			return mesh.Position{Log: p.Log, Epoch: e.epoch, Seq: p.Seq - e.first + 1}
		}
	}
	return p
}

func (q *oneEpoch) Peek(after mesh.Position, most int) ([]mesh.Record, error) {
	all := q.epochs()
	records, err := q.Buffer.Peek(deep(all, after), most)
	for i := range records {
		records[i].At = flat(all, records[i].At)
	}
	return records, err
}

func (q *oneEpoch) Outset() (descs []mesh.Descriptor, openings []mesh.Record, end mesh.Position, err error) {
	all := q.epochs()
	descs, openings, end, err = q.Buffer.Outset()
	return descs, openings[:min(1, len(openings))], flat(all, end), err
}

func (q *oneEpoch) Ack(r mesh.Receipt) ([]mesh.Range, error) {
	all := q.epochs()
	r.Have.Through = deep(all, r.Have.Through)
	var islands []mesh.Range
	for _, i := range r.Have.Islands {
		for s := i.First; s <= i.Last; s++ {
			p := deep(all, mesh.Position{Log: q.End().Log, Epoch: i.Epoch, Seq: s})
			islands = append(islands, mesh.Range{Epoch: p.Epoch, First: p.Seq, Last: p.Seq})
		}
	}
	r.Have.Islands = islands
	return q.Buffer.Ack(r)
}
