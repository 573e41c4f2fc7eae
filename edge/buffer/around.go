package buffer

import (
	"maps"
	"slices"

	"plantmesh/proto/mesh"
	"plantmesh/proto/wire"
)

// mostAround bounds how many records are read on each side of one that can't be.
const mostAround = 4096

// around is what a record that can't be read may have held. Each source's records
// prove one stretch behind the other: whose proof has a hole there, it is. Where
// none has, it may be any source's that can't be told. The times reach from what
// the record before it proved, since nothing older was to come, to the end of the
// record behind it, in which more may be proven than stands in it.
func (b *Buffer) around(p *piece, i uint64) []mesh.Part {
	b.mu.Lock()
	tallies := maps.Clone(p.tallies)
	b.mu.Unlock()
	before, behind := b.neighbours(p, i, min(mostAround, 64+4*uint64(len(tallies))))
	var sure, perhaps, others []mesh.Part
	for _, source := range slices.Sorted(maps.Keys(tallies)) {
		t := tallies[source]
		part := mesh.Part{Source: source, Times: mesh.Span{From: t.From, To: t.To}}
		x, is := before[source]
		y, will := behind[source]
		proven := !x.Proven.Empty() && !y.Proven.Empty()
		switch {
		case !x.Proven.Empty():
			part.Times.From = x.Proven.To
		case is:
			part.Times.From = x.Times.From
		}
		if will {
			part.Times.To = max(y.Times.To, y.Proven.To)
		}
		switch {
		case part.Times.Empty():
		case !proven:
			perhaps = append(perhaps, part)
		case x.Proven.To < y.Proven.From:
			sure = append(sure, part)
		default:
			others = append(others, part)
		}
	}
	if len(sure)+len(perhaps) == 0 {
		return others
	}
	return append(sure, perhaps...)
}

// neighbours are, by source, the headers of the last batch before index i and of
// the first behind it, among so many records of p on each side.
func (b *Buffer) neighbours(p *piece, i, reach uint64) (before, behind map[string]mesh.Header) {
	before, behind = map[string]mesh.Header{}, map[string]mesh.Header{}
	seg, last, _, err := b.handle(p)
	if err != nil {
		return before, behind
	}
	first := p.first
	if i > reach {
		first = max(first, i-reach)
	}
	err = seg.View(func(t tx) error {
		t.Scan(spaceRecord, keyOf(first), func(k, v []byte) bool {
			at := indexOf(k)
			if at > min(last, i+reach) {
				return false
			}
			r, err := parse(v)
			if err != nil {
				return true
			}
			h, err := wire.ParseHeader(r.Sealed)
			if _, has := behind[h.About]; err == nil && h.Kind == mesh.KindBatch {
				switch {
				case at < i:
					before[h.About] = h
				case at > i && !has:
					behind[h.About] = h
				}
			}
			return true
		})
		return nil
	})
	if err != nil { // what was found stands; the rest are the segment's bounds
		b.log.Warn("the records beside a damaged one can't all be read", "segment", p.name, "err", err)
	}
	return before, behind
}
