package buffer

import (
	"errors"
	"slices"

	"plantmesh/proto/mesh"
)

// Where the log ended. A segment in the middle that lacks records is betrayed by
// the one behind it; of the newest only the catalogue tells: that it was made,
// which epochs began in it, how far the reader had it. Where it is damaged, gone
// or put back, nobody knows how many records it held. All it can have held is
// said to be lost then, so that nothing goes without a word, and whatever of it
// the reader has all the same counts as before: data beats void.

// mostRecords is more than a segment can hold: one plan may fill the budget.
func (b *Buffer) mostRecords() uint64 {
	return uint64(max(b.cfg.MaxBytes, defaultMaxBytes)) / recordOverhead
}

// errMissing is why a segment that is not there can't be read.
var errMissing = errors.New("the file is not there")

// withMissing adds the newest segment that was made, where its file is gone.
func (b *Buffer) withMissing(all []found) []found {
	newest := found{missing: true, bad: errMissing, piece: &piece{}}
	if n := len(all); n > 0 {
		newest.number = all[n-1].number
	}
	have := newest.number
	for name := range b.notes.made() {
		if k, first, ok := parseName(name); ok && k > newest.number {
			newest.piece = &piece{name: name, number: k, first: first, last: first - 1}
		}
	}
	gone := b.notes.gone(func(mesh.Cause) bool { return true })
	if newest.number == have || len(overlap(stretch{newest.first, newest.first}, gone)) > 0 {
		return all
	}
	return append(all, newest)
}

// follow sets chain and end: the next epoch follows the newest position that may
// have been given. open says that nobody knows how many were given in truth.
func (b *Buffer) follow(newest snapshot, all []found) (open bool) {
	if newest.chain != nil {
		b.chain = newest.chain
	}
	if n := len(b.pieces); n > 0 {
		b.end = b.pieces[n-1].last
	}
	read := b.end
	b.chain.eras = slices.DeleteFunc(b.chain.eras, func(e era) bool { return e.first > read })
	sure := max(read, b.adopt())
	if len(b.chain.eras) == 0 {
		b.end = 0
		return false
	}
	if through, ok := b.chain.index(b.reader.noted); ok {
		sure = max(sure, through)
	}
	open = sure > read || len(all) == 0
	if n := len(all); n > 0 {
		last := all[n-1]
		sure = max(sure, last.first-1)
		open = open || last.bad != nil || last.back
		if f := b.notes.filled()[pieceName(last.number, last.first)]; f != nil && f.First == last.first {
			open = sure > f.Last
			sure = max(sure, f.Last)
		}
	}
	b.end = sure
	if open {
		b.end += b.mostRecords()
	}
	return open
}

// adopt adds the epochs that are noted and that the newest segment does not
// know, and returns the index of the last one's opening.
func (b *Buffer) adopt() (last uint64) {
	noted := b.notes.eras(b.cfg.Log)
	if k := len(b.chain.eras); k > 0 {
		newest := b.chain.eras[k-1].epoch
		noted = noted[slices.IndexFunc(noted, func(e era) bool { return e.epoch == newest })+1:]
	}
	for _, e := range noted {
		if k := len(b.chain.eras); e.first > 0 && (k == 0 || b.chain.eras[k-1].first < e.first) {
			b.chain.eras = append(b.chain.eras, e)
			last = e.first
		}
	}
	return last
}

// missing are the indexes up to end that no segment has and no note calls gone.
func (b *Buffer) missing(all []found) []stretch {
	if len(all) == 0 && b.end == 0 {
		return nil
	}
	have := b.notes.gone(func(mesh.Cause) bool { return true })
	lowest := b.end + 1
	for _, f := range all {
		lowest = min(lowest, f.first)
		if f.bad == nil && f.last >= f.first {
			have = append(have, stretch{f.first, f.last})
		}
	}
	for _, n := range b.notes.notes {
		if n.Filled != nil {
			lowest = min(lowest, n.Filled.First)
		}
		if n.Made != nil { // a kill may have come between taking it away and noting that
			if _, first, ok := parseName(n.Made.Segment); ok {
				lowest = min(lowest, first)
			}
		}
	}
	if len(all) == 0 {
		lowest = min(lowest, 1)
	}
	if lowest > b.end {
		return nil
	}
	return stretch{lowest, b.end}.without(join(have))
}

// reopen continues the newest segment if it is whole and neither full nor left.
func (b *Buffer) reopen(all []found) (segment, error) {
	n := len(all)
	if n == 0 || all[n-1].bad != nil || all[n-1].cut {
		return nil, nil //nolint:nilnil,nilerr // a bad segment was told and is voided; there is none to continue
	}
	last := &all[n-1]
	seg, err := b.disk.Open(last.name, modeAppend)
	switch {
	case errors.Is(err, errDamaged):
		b.log.Warn("segment is not continued", "segment", last.name, "err", err)
		last.back, last.hides = errors.Is(err, errBack), errors.Is(err, errEnd)
		return nil, nil //nolint:nilnil // what of it can't be read is told when it is
	case err == nil && last.bytes >= int64(b.cfg.SegmentBytes)*3/4:
		return nil, errors.Join(seg.Trim(), seg.Close())
	}
	return seg, err
}

// leaveOthers notes of the segments that are not continued what they hold, and
// since when: what is not noted is voided without its sources, and kept for no
// time at all.
func (b *Buffer) leaveOthers(all []found) {
	for i, f := range all {
		if f.bad != nil || f.cut || f.last < f.first || i == len(all)-1 && b.active != nil {
			continue
		}
		b.noteFilled(f.piece, nil)
	}
}

// partsOf are the sources of what is missing, and their stretches.
func (b *Buffer) partsOf(missing []stretch) map[string]tally {
	parts, d := b.notes.parts(missing), b.debt
	if !d.open {
		return parts
	}
	for source := range b.sources() {
		since := b.sinceKept(source).Times
		parts[source] = parts[source].plus(tally{From: since.From, To: since.To})
	}
	if d.hidden != nil {
		for source, t := range d.hidden.tallies {
			parts[source] = parts[source].plus(tally{From: t.From, To: t.To})
		}
	}
	return parts
}

// loseOpen is what says at an opening that stretches are missing. Where nobody
// knows how many records there were, a source's state is perhaps older than they.
func (b *Buffer) loseOpen(missing []stretch, parts map[string]tally) (*plan, error) {
	p, err := b.lose(missing, mesh.CauseDamaged, "a segment of the buffer could not be read", parts)
	if err == nil && b.debt.open {
		err = b.doubt(p, parts, mesh.CauseDamaged, true)
	}
	return p, err
}

// sources are all of which anything is kept.
func (b *Buffer) sources() map[string]bool {
	out := map[string]bool{}
	for _, p := range b.pieces {
		for source := range p.tallies {
			out[source] = true
		}
	}
	for _, f := range b.notes.filled() {
		for source := range f.Sources {
			out[source] = true
		}
	}
	for key := range b.states {
		if source := owner(key); source[0] != '@' {
			out[source] = true
		}
	}
	return out
}
