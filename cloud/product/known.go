package product

import (
	"encoding/json"
	"fmt"
	"slices"

	"plantmesh/proto/mesh"
)

// Bounds of what is kept of one source. Beyond them the oldest is forgotten
// for the cause of a gap, never for what is known.
const (
	maxVoids   = 4096
	maxPending = 4096
	maxAbsent  = 4096
)

// Known folds the proofs and voids of one source in one agent's log, in whatever
// order they arrive: an instant is known if the last proof of it stands behind
// the last void of it in that log. Records count by their place there (the
// ordinal), so live before backlog gives the same as the other way round.
//
// Data beats void whenever it comes: a batch whose position a void gave up
// counts as if it stood right behind that void. A proof beyond a hole of a
// branch that was left doesn't count, until the hole is filled.
//
// Not safe for concurrent use.
type Known struct {
	Through   mesh.Ordinal // nothing is missing up to here
	Watermark mesh.Nanos   // highest Complete at or before Through
	Spoke     bool         // a batch came; voids alone promise nothing
	Pieces    []Piece      // sorted, disjoint
	Pending   []Promise    // of batches that something may be missing before, by arrival
	Voids     []Lost       // by ordinal: the causes of gaps
	Absent    []Absent     // positions that voids gave up
}

// Piece is a stretch, the last proof and the last void of it, and the last
// proof that can't be taken back any more.
type Piece struct {
	From, To    mesh.Nanos
	Proof, Void mesh.Ordinal // 0: none
	Firm        mesh.Ordinal
}

// known: a proof and a void share an ordinal only where the data came after all.
func (p Piece) known() bool { return p.Proof != 0 && p.Proof >= p.Void }

// Promise is what a batch claims while something may be missing before it.
type Promise struct {
	Ord, As  mesh.Ordinal // its own, and what it counts as
	Complete mesh.Nanos
	Proven   mesh.Span
	Cut      bool // it doesn't count now: see Chain
}

// Lost is one stretch of one void.
type Lost struct {
	Ord      mesh.Ordinal
	From, To mesh.Nanos
	Cause    mesh.Cause
	Count    uint64
	Note     string
}

// Absent is a run of positions that the void at Ord gave up.
type Absent struct {
	mesh.Range

	Ord mesh.Ordinal
}

func (l Lost) span() mesh.Span { return mesh.Span{From: l.From, To: l.To} }

// settled is the ordinal of a proof in an epoch that isn't kept any more.
const settled = 1

// Batch takes what a batch at a position of its agent's log claims; ord is
// the ordinal of that position.
func (k *Known) Batch(at mesh.Position, ord mesh.Ordinal, h mesh.Header) {
	p := Promise{Ord: ord, As: ord, Complete: h.Complete, Proven: h.Proven}
	for _, a := range k.Absent {
		if Within([]mesh.Range{a.Range}, at) {
			p.As = max(p.As, a.Ord)
		}
	}
	k.Spoke = true
	if h.Complete > k.Watermark || !h.Proven.Empty() {
		k.Pending = append(k.Pending, p)
	}
	k.prove(p)
}

func (k *Known) prove(p Promise) {
	if !p.Proven.Empty() {
		k.split(p.Proven, func(x *Piece) { x.Proof = max(x.Proof, p.As) })
	}
}

// settle takes what a promise says for good.
func (k *Known) settle(p Promise) {
	k.Watermark = max(k.Watermark, p.Complete)
	if !p.Proven.Empty() {
		k.split(p.Proven, func(x *Piece) { x.Proof, x.Firm = max(x.Proof, p.As), max(x.Firm, p.As) })
	}
}

// Within reports whether a position lies in one of the ranges.
func Within(ranges []mesh.Range, at mesh.Position) bool {
	return slices.ContainsFunc(ranges, func(r mesh.Range) bool { return r.Epoch == at.Epoch && r.First <= at.Seq && at.Seq <= r.Last })
}

// GiveUp takes the positions that a void at ord gives up.
func (k *Known) GiveUp(ord mesh.Ordinal, lost []mesh.Range) {
	for _, r := range lost {
		k.Absent = append(k.Absent, Absent{r, ord})
	}
	if n := len(k.Absent); n > maxAbsent {
		k.Absent = slices.Delete(k.Absent, 0, n-maxAbsent)
	}
}

// Void takes one stretch of a void at a position of its agent's log, or of a batch there
// that nobody can read. One that comes after its position was given up takes back what was
// proven in its epoch at all: what stood before it there may have been settled without it.
func (k *Known) Void(at mesh.Position, ord mesh.Ordinal, v mesh.Void, part mesh.Part) {
	if part.Times.Empty() {
		return
	}
	for _, a := range k.Absent {
		if Within([]mesh.Range{a.Range}, at) {
			ord = max(ord, a.Ord|(1<<seqBits-1))
		}
	}
	k.Voids = append(k.Voids, Lost{Ord: ord, From: part.Times.From, To: part.Times.To, Cause: v.Cause, Count: part.Count, Note: v.Note})
	slices.SortStableFunc(k.Voids, func(x, y Lost) int { return compareOrdinals(x.Ord, y.Ord) })
	k.split(part.Times, func(p *Piece) { p.Void = max(p.Void, ord) })
}

// Advance weighs the proofs by what is known of their log, and tidies up: what
// no record to come can tell apart becomes one piece. A void of a branch that was
// left may still come: it takes back what was proven in its epoch and before, not
// what was proven in one behind it.
func (k *Known) Advance(c *Chain) {
	k.Through = max(k.Through, c.Through)
	k.weigh(c)
	out := k.Pieces[:0]
	for _, p := range k.Pieces {
		if max(p.Proof, p.Void) <= k.Through && p.Firm == p.Proof {
			if p.known() {
				p.Proof = c.rough(p.Proof)
				p.Void, p.Firm = 0, p.Proof
			} else {
				p.Proof, p.Firm = 0, 0
			}
		}
		if n := len(out); n > 0 && out[n-1].To == p.From && out[n-1].Proof == p.Proof && out[n-1].Void == p.Void && out[n-1].Firm == p.Firm {
			out[n-1].To = p.To
			continue
		}
		out = append(out, p)
	}
	k.Pieces = out
	k.forgetVoids()
}

// weigh settles promises, takes back those that don't count any more, and lets those
// count that do again.
func (k *Known) weigh(c *Chain) {
	turned := false
	out := k.Pending[:0]
	for _, p := range k.Pending {
		s := c.Standing(p.Ord)
		if s == StandingSettled {
			k.settle(p)
			continue
		}
		if cut := s == StandingCut; cut != p.Cut {
			p.Cut, turned = cut, true
		}
		out = append(out, p)
	}
	k.Pending = out
	for n := len(k.Pending) - maxPending; n > 0; n-- {
		if p := k.Pending[0]; !p.Cut { // it goes on counting, and can't be taken back
			p.Complete = 0
			k.settle(p)
		}
		k.Pending = slices.Delete(k.Pending, 0, 1)
	}
	if !turned {
		return
	}
	for i := range k.Pieces {
		k.Pieces[i].Proof = k.Pieces[i].Firm
	}
	for _, p := range k.Pending {
		if !p.Cut {
			k.prove(p)
		}
	}
}

// forgetVoids drops voids that can't be the cause of a gap any more.
func (k *Known) forgetVoids() {
	if len(k.Voids) == 0 {
		return
	}
	spans := k.Spans()
	k.Voids = slices.DeleteFunc(k.Voids, func(l Lost) bool {
		return l.Ord <= k.Through && slices.ContainsFunc(spans, func(s mesh.Span) bool { return s.From <= l.From && l.To <= s.To })
	})
	if n := len(k.Voids); n > maxVoids {
		k.Voids = slices.Delete(k.Voids, 0, n-maxVoids)
	}
}

// Spans is what is known: sorted, disjoint, none touching another.
func (k *Known) Spans() (out []mesh.Span) {
	for _, p := range k.Pieces {
		if !p.known() {
			continue
		}
		if n := len(out); n > 0 && out[n-1].To == p.From {
			out[n-1].To = p.To
			continue
		}
		out = append(out, mesh.Span{From: p.From, To: p.To})
	}
	return out
}

// split cuts the pieces at the edges of s, fills what is missing between, and
// changes every piece inside.
func (k *Known) split(s mesh.Span, change func(*Piece)) {
	out := make([]Piece, 0, len(k.Pieces)+2)
	at := s.From // the part of s before it is done
	for _, p := range k.Pieces {
		in := mesh.Span{From: p.From, To: p.To}.Meet(s)
		if in.Empty() {
			if p.From >= s.To && at < s.To {
				out, at = append(out, changed(Piece{From: at, To: s.To}, change)), s.To
			}
			out = append(out, p)
			continue
		}
		if at < in.From {
			out = append(out, changed(Piece{From: at, To: in.From}, change))
		}
		if p.From < in.From {
			out = append(out, Piece{p.From, in.From, p.Proof, p.Void, p.Firm})
		}
		out = append(out, changed(Piece{in.From, in.To, p.Proof, p.Void, p.Firm}, change))
		if in.To < p.To {
			out = append(out, Piece{in.To, p.To, p.Proof, p.Void, p.Firm})
		}
		at = in.To
	}
	if at < s.To {
		out = append(out, changed(Piece{From: at, To: s.To}, change))
	}
	k.Pieces = out
}

func changed(p Piece, change func(*Piece)) Piece {
	change(&p)
	return p
}

func compareOrdinals(x, y mesh.Ordinal) int {
	switch {
	case x < y:
		return -1
	case x > y:
		return 1
	}
	return 0
}

// Encode is the state as bytes: canonical JSON.
func (k *Known) Encode() ([]byte, error) {
	b, err := json.Marshal(k)
	if err != nil {
		return nil, fmt.Errorf("encode what is known: %w", err)
	}
	return b, nil
}

// DecodeKnown reads what Encode wrote.
func DecodeKnown(b []byte) (*Known, error) {
	var k Known
	if err := json.Unmarshal(b, &k); err != nil {
		return nil, fmt.Errorf("decode what is known: %w", err)
	}
	return &k, nil
}

// Extent is the first known instant and the end of what is known; both 0 where
// nothing is.
func Extent(known []mesh.Span) (first, end mesh.Nanos) {
	if len(known) == 0 {
		return 0, 0
	}
	return known[0].From, known[len(known)-1].To
}

// Difference is the least stretch outside of which two sets of spans are the
// same; empty where they are the same everywhere.
func Difference(a, b []mesh.Span) (out mesh.Span) {
	first, differs := FirstDifference(a, b)
	if !differs {
		return mesh.Span{}
	}
	for i := range max(len(a), len(b)) {
		x, y := len(a)-1-i, len(b)-1-i
		switch {
		case x < 0:
			return mesh.Span{From: first, To: b[y].To}
		case y < 0:
			return mesh.Span{From: first, To: a[x].To}
		case a[x].To != b[y].To:
			return mesh.Span{From: first, To: max(a[x].To, b[y].To)}
		case a[x].From != b[y].From:
			return mesh.Span{From: first, To: max(a[x].From, b[y].From)}
		}
	}
	return mesh.Span{}
}

// FirstDifference is the earliest instant that one set of spans has and the
// other has not; ok is false where they are the same.
func FirstDifference(a, b []mesh.Span) (at mesh.Nanos, ok bool) {
	for i := range max(len(a), len(b)) {
		switch {
		case i >= len(a):
			return b[i].From, true
		case i >= len(b):
			return a[i].From, true
		case a[i].From != b[i].From:
			return min(a[i].From, b[i].From), true
		case a[i].To != b[i].To:
			return min(a[i].To, b[i].To), true
		}
	}
	return 0, false
}
