package ingest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"plantmesh/proto/mesh"
)

// outcome is what becomes of an arrival.
type outcome uint8

const (
	taken        outcome = iota // it is in the Take
	twice                       // its bytes are stored already
	regained                    // its bytes are stored already, and its position counts again
	clashed                     // its position is stored with other bytes
	held                        // its epoch forks the chain
	noOpening                   // left out: its opening hasn't come
	noDescriptor                // left out: a descriptor hasn't come
	noIsland                    // left out: it would open one island too many
)

// run accounts for the arrivals. What has to wait is tried again as long as
// anything else came through: an opening or a batch that fills a hole may have
// come behind what needs it, on the other road.
func (s *step) run(ctx context.Context) error {
	if err := s.resolve(ctx); err != nil {
		return err
	}
	if err := s.lookUp(ctx); err != nil {
		return err
	}
	waiting := s.arrivals
	var left [noIsland + 1]uint64
	for progress := true; progress && len(waiting) > 0; {
		progress = false
		var again []arrival
		left = [noIsland + 1]uint64{}
		for i := range waiting {
			o, err := s.one(ctx, &waiting[i])
			if err != nil {
				return err
			}
			switch o {
			case taken:
				s.stats.Taken++
				progress = true
			case twice:
				s.stats.Twice++
			case regained:
				s.stats.Twice++
				progress = true
			case clashed:
				s.stats.Clashed++
			case held, noOpening, noDescriptor, noIsland:
				left[o]++
				again = append(again, waiting[i])
			}
		}
		waiting = again
	}
	s.stats.Held += left[held]
	s.stats.NoOpening += left[noOpening]
	s.stats.NoDescriptor += left[noDescriptor]
	s.stats.NoIsland += left[noIsland]
	for log, n := range s.beyond {
		s.g.log.ErrorContext(ctx, "records beyond the end of their epoch: two logs claim one agent's name, or its disk went back; they are kept, and count after the agent's next start", "log", string(log), "records", n)
	}
	if len(waiting) > 0 {
		s.g.log.InfoContext(ctx, "records left out, they come again", "records", len(waiting), "no_opening", left[noOpening],
			"no_descriptor", left[noDescriptor], "no_island", left[noIsland], "held", left[held])
	}
	return nil
}

// lookUp asks once for all positions that may be stored.
func (s *step) lookUp(ctx context.Context) error {
	var of []mesh.Position
	for i := range s.arrivals {
		a := &s.arrivals[i]
		if acc := s.g.accounts[a.log]; acc != nil && mayBeStored(acc, a.at) && !s.asked[a.at] {
			s.asked[a.at] = true
			of = append(of, a.at)
		}
	}
	if len(of) == 0 {
		return nil
	}
	sums, err := s.g.store.Sums(ctx, of)
	maps.Copy(s.sums, sums)
	return err
}

// settled reports whether p is accounted for, or off the chain beyond the end
// of its epoch, where nothing is accounted for any more.
func settled(acc *mesh.Account, p mesh.Position) bool {
	return acc.Has(p) || beyond(acc, p)
}

// beyond reports whether p is off the chain beyond the end of its epoch.
func beyond(acc *mesh.Account, p mesh.Position) bool {
	i := slices.IndexFunc(acc.Chain, func(l mesh.Link) bool { return l.Epoch == p.Epoch })
	return i >= 0 && i < len(acc.Chain)-1 && p.Seq > acc.Chain[i].End
}

// mayBeStored reports whether p's bytes may be stored: it is settled, or a branch
// was taken in. That branch may go on where another had ended it, and what came
// of it beyond that end in between was stored without counting.
func mayBeStored(acc *mesh.Account, p mesh.Position) bool { return settled(acc, p) || acc.Forked() }

// one accounts for one arrival.
func (s *step) one(ctx context.Context, a *arrival) (outcome, error) {
	acc := s.account(a.log)
	was := settled(acc, a.at)
	if mayBeStored(acc, a.at) {
		o, known, err := s.again(ctx, a)
		if err == nil && o == twice && !was {
			o = s.regain(ctx, acc, a)
		}
		if err != nil || known {
			return o, err
		}
	}
	if ok, err := s.described(ctx, a); err != nil || !ok {
		return noDescriptor, err
	}
	if o := s.add(ctx, acc, a); o != taken {
		return o, nil
	}
	if err := s.regainFurther(ctx); err != nil {
		return 0, err
	}
	if was {
		// A void had covered it, or its epoch was ended before it. Data beats
		// void whenever it comes.
		s.stats.Filled++
		if beyond(acc, a.at) {
			s.beyond[a.log]++
		}
	}
	ord, _ := acc.Ordinal(a.at)
	s.entries = append(s.entries, mesh.Entry{Of: a.at, Ord: ord, Through: acc.Through(), Header: a.header, Sealed: a.sealed, Verdict: a.verdict})
	s.dirty[a.log] = true
	s.sums[a.at], s.asked[a.at] = a.sum, true
	if a.header.Kind == mesh.KindBatch {
		s.stats.Samples += uint64(a.header.Count)
	}
	return taken, nil
}

// regain accounts for a position whose bytes are stored.
func (s *step) regain(ctx context.Context, acc *mesh.Account, a *arrival) outcome {
	o := s.add(ctx, acc, a)
	if o != taken {
		return o
	}
	s.dirty[a.log] = true
	return regained
}

// again says what an arrival is that may be stored; known is false
// where its bytes are not stored.
func (s *step) again(ctx context.Context, a *arrival) (o outcome, known bool, err error) {
	if !s.asked[a.at] {
		sums, err := s.g.store.Sums(ctx, []mesh.Position{a.at})
		if err != nil {
			return 0, false, err
		}
		s.asked[a.at] = true
		maps.Copy(s.sums, sums)
	}
	sum, stored := s.sums[a.at]
	if !stored {
		return 0, false, nil
	}
	if sum == a.sum {
		return twice, true, nil
	}
	s.fault(ctx, "one position came with two contents: a cloned disk or damage, the first is kept", "at", a.at.String())
	return clashed, true, nil
}

// described reports whether everything the arrival needs is there, and notes
// what the receipt has to ask for. A verdict's rules are asked for, but don't
// hold up the batch: its marks say what was found without them.
func (s *step) described(ctx context.Context, a *arrival) (bool, error) {
	all := true
	for _, h := range a.header.Needs {
		ok, err := s.ready(ctx, h)
		if err != nil {
			return false, err
		}
		if !ok {
			s.lack(a.log, h)
			all = false
		}
	}
	if a.verdict != nil {
		ok, err := s.ready(ctx, a.verdict.Rules)
		if err != nil {
			return false, err
		}
		if !ok {
			s.lack(a.log, a.verdict.Rules)
		}
	}
	return all, nil
}

func (s *step) lack(log mesh.LogID, h mesh.Hash) {
	if s.lacks[log] == nil {
		s.lacks[log] = map[mesh.Hash]bool{}
	}
	if len(s.lacks[log]) < maxLacks {
		s.lacks[log][h] = true
	}
}

// add puts the arrival's position, and what else it accounts for, into the
// account; all of it or nothing.
func (s *step) add(ctx context.Context, acc *mesh.Account, a *arrival) outcome {
	trial := acc
	if a.header.Kind == mesh.KindOpening || len(a.lost) > 0 {
		trial = acc.Clone()
	}
	if a.header.Kind == mesh.KindOpening && a.at.Seq == 1 {
		if o := s.openEpoch(ctx, trial, a); o != taken {
			return o
		}
	}
	if !slices.ContainsFunc(trial.Chain, func(l mesh.Link) bool { return l.Epoch == a.at.Epoch }) {
		if s.forks[a.at.Epoch] || s.g.held[a.at.Epoch] {
			return held
		}
		return noOpening
	}
	own := mesh.Range{Epoch: a.at.Epoch, First: a.at.Seq, Last: a.at.Seq}
	err := s.addLost(trial, a)
	if err == nil {
		err = trial.Add(own)
	}
	switch {
	case errors.Is(err, mesh.ErrUnknownEpoch):
		return noOpening
	case errors.Is(err, mesh.ErrIslands):
		return noIsland
	case err != nil:
		// Only a bad range can be the cause: the record itself counts.
		s.stats.Damaged++
		s.fault(ctx, "void with impossible ranges: the record is kept, the ranges are not", "at", a.at.String(), "err", err)
		trial = acc.Clone()
		if trial.Add(own) != nil {
			return noIsland
		}
	}
	if trial != acc {
		*acc = *trial
	}
	return taken
}

// openEpoch puts an opening's epoch on the chain.
func (s *step) openEpoch(ctx context.Context, acc *mesh.Account, a *arrival) outcome {
	lineage := acc.Judge(a.at.Epoch, a.opening)
	if (lineage == mesh.LineageBack || lineage == mesh.LineageFork) && !s.silent(acc) {
		if !s.forks[a.at.Epoch] && !s.g.held[a.at.Epoch] {
			s.g.log.ErrorContext(ctx, "two logs claim one agent's name: the younger is held until the other is silent", "log", string(a.log), "epoch", a.at.Epoch.String(), "parent", a.opening.Parent.String())
		}
		s.forks[a.at.Epoch] = true
		return held
	}
	switch lineage {
	case mesh.LineageKnown, mesh.LineageFollows:
	case mesh.LineageBack:
		s.stats.RolledBack++
		s.g.log.ErrorContext(ctx, "agent's disk went back: its log goes on from before what it had sent", "log", string(a.log), "epoch", a.at.Epoch.String(), "parent", a.opening.Parent.String())
	case mesh.LineageFork:
		was := endOf(acc, a.opening.Parent.Epoch)
		if err := acc.Graft(a.at.Epoch, a.opening); err != nil {
			s.forks[a.at.Epoch] = true
			return held
		}
		s.stats.Grafted++
		s.further = append(s.further, further{was, a.opening.Parent})
		s.g.log.ErrorContext(ctx, "agent's disk was put back or begun anew: its log goes on, the other branch is silent", "log", string(a.log), "epoch", a.at.Epoch.String(), "parent", a.opening.Parent.String())
		return taken
	case mesh.LineageEarly:
		return noOpening
	}
	if err := acc.Open(a.at.Epoch, a.opening); err != nil {
		return noOpening
	}
	return taken
}

// endOf is where an epoch on the chain was ended; 0: it is not on the chain.
func endOf(acc *mesh.Account, e mesh.Epoch) uint64 {
	i := slices.IndexFunc(acc.Chain, func(l mesh.Link) bool { return l.Epoch == e })
	if i < 0 {
		return 0
	}
	return acc.Chain[i].End
}

// further is an epoch that was ended at a sequence, and goes on to a position.
type further struct {
	was uint64
	end mesh.Position
}

// Looked up at once, and at most, where a branch goes on further than another
// had ended it. Beyond that the agent is asked, as for anything that is missing.
const (
	regainBlock = 4096
	regainMost  = 1 << 20
	// regainIslands leaves room for the branch's own records.
	regainIslands = mesh.MaxIslands / 2
)

// regainFurther accounts for what is stored between where epochs were ended and
// where they end now. Its agent may have been told of it before another's
// opening ended its epoch, and have let it go.
func (s *step) regainFurther(ctx context.Context) error {
	for _, f := range s.further {
		if err := s.regainStored(ctx, f); err != nil {
			return err
		}
	}
	s.further = nil
	return nil
}

func (s *step) regainStored(ctx context.Context, f further) error {
	acc := s.account(f.end.Log)
	for from, most := f.was+1, min(f.end.Seq, f.was+regainMost); from <= most; from += regainBlock {
		var of []mesh.Position
		for seq := from; seq <= min(most, from+regainBlock-1); seq++ {
			of = append(of, mesh.Position{Log: acc.Log, Epoch: f.end.Epoch, Seq: seq})
		}
		sums, err := s.g.store.Sums(ctx, of)
		if err != nil {
			return err
		}
		for _, p := range of {
			if _, stored := sums[p]; !stored {
				continue
			}
			if len(acc.Set.Islands) >= regainIslands {
				return nil
			}
			if err := acc.Add(mesh.Range{Epoch: p.Epoch, First: p.Seq, Last: p.Seq}); err != nil {
				return fmt.Errorf("account for %s, which is stored: %w", p, err)
			}
		}
	}
	return nil
}

// tip is the epoch at the end of a chain.
func tip(acc *mesh.Account) (e mesh.Epoch) {
	if n := len(acc.Chain); n > 0 {
		e = acc.Chain[n-1].Epoch
	}
	return e
}

// silent reports whether nothing came of a chain's tip for so long that whoever
// wrote it is gone. A program that has just begun heard nothing yet: that is
// no silence.
func (s *step) silent(acc *mesh.Account) bool {
	last := s.g.began
	if p := s.g.spoke[acc.Log]; p.epoch == tip(acc) && p.at.After(last) {
		last = p.at
	}
	for i := range s.arrivals {
		if s.arrivals[i].log == acc.Log && s.arrivals[i].at.Epoch == tip(acc) {
			return false
		}
	}
	return s.now.Sub(last) >= s.g.cfg.ForkAfter
}

// addLost accounts for the positions a void says have no data. Only what lies
// before the void in its own log can be lost.
func (s *step) addLost(acc *mesh.Account, a *arrival) error {
	own, _ := acc.Ordinal(a.at)
	for _, r := range a.lost {
		last, ok := acc.Ordinal(mesh.Position{Log: a.log, Epoch: r.Epoch, Seq: r.Last})
		if !ok {
			return mesh.ErrUnknownEpoch
		}
		if r.First == 0 || r.Last < r.First || r.Last >= 1<<40 || last >= own {
			return fmt.Errorf("a void at %s about %d to %d of epoch %s", a.at, r.First, r.Last, r.Epoch)
		}
		if err := acc.Add(r); err != nil {
			return err
		}
	}
	return nil
}
