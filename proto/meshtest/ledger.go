// Package meshtest holds what the tests of every hop share: the ledger of what
// a source emitted and was told, kept outside of everything that is broken, and
// one suite of faults, see Hop and Suite.
//
//	Suite ── Write ──► writer's log ══ between ══► reader's log ── Read ──► Ledger
//	      ── Inflict ──►   any of the three                                   │
//	      ── Settle ──►    until nothing waits          lost, duplicated, ◄───┘
//	                                                    phantom, reordered, unmarked
package meshtest

import (
	"fmt"

	"plantmesh/proto/mesh"
)

// Sample is a sample as its source numbers it, from 1.
type Sample struct {
	Source string
	N      int
}

// Fate is what the ledger knows of a sample.
type Fate struct {
	Sent mesh.Nanos // when the source sent it, by the plant's clock
	At   mesh.Nanos // its event time
	Told bool       // the source was told that it is received
	Got  int        // how often it arrived
}

// Ledger is the truth of a run. Not safe for concurrent use.
type Ledger struct {
	of       map[string][]Fate // by source, sample 1 first
	phantom  int
	disorder int
}

// Emit writes down that a source sent a sample. Numbers are given in order.
func (l *Ledger) Emit(s Sample, at, sent mesh.Nanos) {
	if l.of == nil {
		l.of = map[string][]Fate{}
	}
	all := l.of[s.Source]
	for len(all) < s.N {
		all = append(all, Fate{})
	}
	all[s.N-1] = Fate{Sent: sent, At: at}
	l.of[s.Source] = all
}

// Tell writes down that the source was told it is received.
func (l *Ledger) Tell(s Sample) { l.of[s.Source][s.N-1].Told = true }

// Get writes down that it arrived, from this time of its own.
func (l *Ledger) Get(s Sample, at mesh.Nanos) {
	if all := l.of[s.Source]; s.N < 1 || s.N > len(all) || all[s.N-1].Sent == 0 || all[s.N-1].At != at {
		l.phantom++
		return
	}
	l.of[s.Source][s.N-1].Got++
}

// Disorder writes down that one of those that arrived stands in another order, or
// was folded to something else by it.
func (l *Ledger) Disorder() { l.disorder++ }

// Told is how many samples sources were told of.
func (l *Ledger) Told() (n int) {
	for _, all := range l.of {
		for i := range all {
			if all[i].Told {
				n++
			}
		}
	}
	return n
}

// Report is what is wrong. All zero: nothing is.
type Report struct {
	Lost       int // told, not there, and nothing excuses it
	Duplicated int // there more than once
	Phantom    int // there, and never sent as it is
	Reordered  int // there in another order, or folded to something else by it
	Unmarked   int // told, not there, and the product claims to know the time
}

// OK says that nothing is wrong.
func (r Report) OK() bool { return r == Report{} }

func (r Report) String() string {
	return fmt.Sprintf("lost=%d duplicated=%d phantom=%d reordered=%d unmarked=%d", r.Lost, r.Duplicated, r.Phantom, r.Reordered, r.Unmarked)
}

// Missing says how the absence of a told sample is judged.
type Missing func(s Sample, f Fate) Absence

// Absence is what the absence of a told sample is.
type Absence uint8

// Kinds of absence.
const (
	AbsenceLost     Absence = iota // nothing excuses it
	AbsenceUnmarked                // it may be gone, but nothing says so
	AbsenceMarked                  // it may be gone, and a gap or a void says so
	AbsenceWaiting                 // it is still where it can come from
)

// Compare counts what is wrong; samples that arrived more often than once only
// where that is asked for.
func (l *Ledger) Compare(missing Missing, duplicates bool) (r Report) {
	r.Phantom, r.Reordered = l.phantom, l.disorder
	for source, all := range l.of {
		for i, f := range all {
			switch {
			case f.Got > 1 && duplicates:
				r.Duplicated += f.Got - 1
			case f.Got > 0, !f.Told:
			default:
				switch missing(Sample{source, i + 1}, f) {
				case AbsenceLost:
					r.Lost++
				case AbsenceUnmarked:
					r.Unmarked++
				case AbsenceMarked, AbsenceWaiting:
				}
			}
		}
	}
	return r
}

// Recount forgets what arrived, to count another place.
func (l *Ledger) Recount() {
	for _, all := range l.of {
		for i := range all {
			all[i].Got = 0
		}
	}
	l.phantom, l.disorder = 0, 0
}

// Each calls fn for every sample of a source, in the order of their numbers.
func (l *Ledger) Each(source string, fn func(n int, f Fate)) {
	for i, f := range l.of[source] {
		fn(i+1, f)
	}
}
