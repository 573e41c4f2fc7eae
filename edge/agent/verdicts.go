package agent

import (
	"maps"
	"slices"

	"plantmesh/edge/quality"
	"plantmesh/proto/mesh"
)

// Bounds of what is remembered of verdicts.
const (
	// maxFound bounds the verdicts in memory: where a rule marks every sample, an
	// hour of 5,000 a second makes 250 MB of them.
	maxFound = 16 << 20
	// maxStretch is about how many bytes of verdicts a stretch has.
	maxStretch = 4 << 20
	// maxStretches bounds the states in memory: one of 5,000 signals is half a
	// mebibyte.
	maxStretches = 24
)

// view is what judging goes on from: the rules and what they remember behind
// one record.
type view struct {
	at    mesh.Position
	rules *quality.Rules
	state quality.State
}

func (v view) clone() view {
	v.state.Last = maps.Clone(v.state.Last)
	return v
}

// stretch is a run of the log that was judged, and what was found in it. Those
// are let go where they are too many; from the view before the stretch it is
// then judged once more, with the same result.
type stretch struct {
	before view
	last   mesh.Position // the end, included
	found  map[mesh.Position][]byte
	size   int   // bytes in found
	gone   bool  // found was let go
	again  *view // judged once more through here; nil: not begun
	used   int   // when it was asked last
}

func newStretch(before view) *stretch {
	return &stretch{before: before.clone(), last: before.at, found: map[mesh.Position][]byte{}}
}

// note takes what was found in a record; nil: nothing.
func (s *stretch) note(at mesh.Position, sealed []byte) {
	if sealed != nil {
		s.found[at] = sealed
		s.size += len(sealed)
	}
}

// verdicts are the stretches of a log, one behind the other, in log order. The
// last one grows.
//
// Not safe for concurrent use.
type verdicts struct {
	all    []*stretch
	epochs []mesh.Epoch // as they came in the log
	clock  int          // counts what is asked
	most   int          // bytes of verdicts kept
	each   int          // and of one stretch
}

// begin begins behind a view; what was found before it comes along.
func (v *verdicts) begin(at view, found map[mesh.Position][]byte) {
	first := newStretch(at)
	for p, sealed := range found {
		first.found[p] = sealed
		first.size += len(sealed)
	}
	v.all = []*stretch{first}
	v.epochs = append(v.epochs, at.at.Epoch)
}

// open is the stretch that grows.
func (v *verdicts) open() *stretch { return v.all[len(v.all)-1] }

// add takes what was found in the next record of the log, and begins another
// stretch behind it where the last is long enough.
func (v *verdicts) add(now view, sealed []byte) {
	if !slices.Contains(v.epochs, now.at.Epoch) {
		v.epochs = append(v.epochs, now.at.Epoch)
	}
	s := v.open()
	s.last = now.at
	s.note(now.at, sealed)
	if s.size >= v.each {
		v.all = append(v.all, newStretch(now))
		v.spare(v.open())
	}
}

// before reports whether p stands before q in the log, or is it.
func (v *verdicts) before(p, q mesh.Position) bool {
	i, j := slices.Index(v.epochs, p.Epoch), slices.Index(v.epochs, q.Epoch)
	return i < j || i == j && p.Seq <= q.Seq
}

// holder is the stretch a record that was judged stands in; nil: it was not.
func (v *verdicts) holder(at mesh.Position) *stretch {
	if !slices.Contains(v.epochs, at.Epoch) {
		return nil
	}
	v.clock++
	for _, s := range v.all {
		if v.before(at, s.last) {
			s.used = v.clock
			return s
		}
	}
	return nil
}

// redone takes that a stretch was judged once more through s.again, or to its
// end. What is long enough becomes a stretch of its own.
func (v *verdicts) redone(s *stretch, end bool) {
	if !end && s.size < v.each {
		return
	}
	if !end {
		rest := newStretch(*s.again)
		rest.last, rest.gone, rest.found = s.last, true, nil
		v.all = slices.Insert(v.all, slices.Index(v.all, s)+1, rest)
		s.last = s.again.at
	}
	s.gone, s.again = false, nil
	v.spare(s)
}

// spare lets go of what was asked least, until the rest fits; never of what
// stands in one stretch, nor of what the log ends with.
func (v *verdicts) spare(one *stretch) {
	for v.size() > v.most {
		var least *stretch
		for _, s := range v.all[:len(v.all)-1] {
			if s != one && !s.gone && s.size > 0 && (least == nil || s.used < least.used) {
				least = s
			}
		}
		if least == nil {
			break
		}
		least.gone, least.found, least.size = true, nil, 0
	}
	for i := 0; len(v.all) > maxStretches && i+1 < len(v.all); i++ {
		if s, next := v.all[i], v.all[i+1]; s.gone && next.gone && next.again == nil {
			s.last = next.last
			v.all = slices.Delete(v.all, i+1, i+2)
		}
	}
}

func (v *verdicts) size() (n int) {
	for _, s := range v.all {
		n += s.size
	}
	return n
}

// forget drops what was found of records that are accounted for, and the
// stretches at the front of which nothing is left.
func (v *verdicts) forget(accounted func(mesh.Position) bool) (dropped bool) {
	for _, s := range v.all {
		for p, sealed := range s.found {
			if accounted(p) {
				delete(s.found, p)
				s.size -= len(sealed)
				dropped = true
			}
		}
	}
	for len(v.all) > 1 && !v.all[0].gone && len(v.all[0].found) == 0 {
		v.all = slices.Delete(v.all, 0, 1)
	}
	return dropped
}

// kept calls f with everything found that is in memory; whole is false where
// something of it was let go.
func (v *verdicts) kept(f func(mesh.Position, []byte)) (whole bool) {
	whole = true
	for _, s := range v.all {
		whole = whole && !s.gone
		for p, sealed := range s.found {
			f(p, sealed)
		}
	}
	return whole
}
