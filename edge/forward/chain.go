package forward

import (
	"fmt"
	"slices"

	"plantmesh/proto/mesh"
	"plantmesh/proto/wire"
)

// refresh learns the log's chain and what goes first.
func (f *Forward) refresh() (end mesh.Position, err error) {
	descs, openings, end, err := f.queue.Outset()
	if err != nil {
		return end, fmt.Errorf("ask the log for its chain: %w", err)
	}
	chain := make([]mesh.Link, 0, len(openings))
	for _, r := range openings {
		o, err := wire.OpenOpening(r.Sealed)
		if err != nil {
			return end, fmt.Errorf("read the opening %s: %w", r.At, err)
		}
		if n := len(chain); n > 0 {
			chain[n-1].End = o.Parent.Seq
		}
		chain = append(chain, mesh.Link{Epoch: r.At.Epoch, Parent: o.Parent})
	}
	f.chain, f.outset, f.descs = chain, openings, descs
	f.account.Chain = chain
	return end, nil
}

// rank is an epoch's place on the chain; -1 before all, also for one that is not on it.
func (f *Forward) rank(e mesh.Epoch) int {
	return slices.IndexFunc(f.chain, func(l mesh.Link) bool { return l.Epoch == e })
}

// compare orders positions along the chain.
func (f *Forward) compare(p, q mesh.Position) int {
	i, j := f.rank(p.Epoch), f.rank(q.Epoch)
	switch {
	case i < j || i == j && p.Seq < q.Seq:
		return -1
	case i == j && p.Seq == q.Seq:
		return 0
	}
	return 1
}

// through is the hub's contiguous end on our chain; zero where it has none.
func (f *Forward) through() mesh.Position {
	if t := f.account.Set.Through; f.rank(t.Epoch) >= 0 {
		return t
	}
	return mesh.Position{}
}
