package opcua

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"

	"plantmesh/edge/source"
	"plantmesh/proto/mesh"
)

// marks is a set of signals, one bit each: small enough for the state of every commit.
type marks []byte

func (m marks) has(i int) bool { return i/8 < len(m) && m[i/8]&(1<<(i%8)) != 0 }

// with is m and signal i, in m's own room.
func (m marks) with(i int) marks {
	if n := i/8 + 1 - len(m); n > 0 {
		m = append(m, make([]byte, n)...)
	}
	m[i/8] |= 1 << (i % 8)
	return m
}

// without is m less signal i, likewise.
func (m marks) without(i int) marks {
	if !m.has(i) {
		return m
	}
	m[i/8] &^= 1 << (i % 8)
	for n := len(m); n > 0 && m[n-1] == 0; n-- {
		m = m[:n-1]
	}
	return m
}

// sketch remembers which node each signal's values are of. It stands in the state of
// every commit, so it is small, however many they are. Of few signals it is the hash
// of each one's name and node. Of many it has rows of cells: each signal has one in
// every row, chosen by its name, and a cell is the exclusive or of the hashes of those
// in it. A signal is where it was if one of its cells is as it was; where so many have
// moved that all cells of one that has not are touched, that counts as moved too.
type sketch []byte

const (
	hashSize   = 4
	sketchRows = 4
	rowCells   = 48
	cellSize   = 3
	sketchSize = sketchRows * rowCells * cellSize
)

// tie is a signal's name and its node.
type tie struct{ name, node string }

func (t tie) hash() [sha256.Size]byte { return sha256.Sum256([]byte(t.name + "\x00" + t.node)) }

// cells are where a name's cells begin.
func (t tie) cells() (at [sketchRows]int) {
	sum := sha256.Sum256([]byte(t.name))
	for row := range at {
		at[row] = (row*rowCells + int(binary.LittleEndian.Uint32(sum[4*row:])%rowCells)) * cellSize
	}
	return at
}

// newSketch is that of these ties; one without a node is none.
func newSketch(ties []tie) sketch {
	if len(ties)*hashSize >= sketchSize {
		return rowsOf(ties)
	}
	var s sketch
	for _, t := range ties {
		var sum [sha256.Size]byte
		if t.node != "" {
			sum = t.hash()
		}
		s = append(s, sum[:hashSize]...)
	}
	return s
}

func rowsOf(ties []tie) sketch {
	s := make(sketch, sketchSize)
	for _, t := range ties {
		if t.node == "" {
			continue
		}
		sum := t.hash()
		for _, at := range t.cells() {
			for k := range cellSize {
				s[at+k] ^= sum[k]
			}
		}
	}
	return s
}

// moved are the places of those ties that s was not made of.
func (s sketch) moved(ties []tie) (out []int) {
	var same func(t tie) bool
	if len(s) == sketchSize {
		now := rowsOf(ties)
		same = func(t tie) bool {
			at := t.cells()
			return slices.ContainsFunc(at[:], func(at int) bool { return string(s[at:at+cellSize]) == string(now[at:at+cellSize]) })
		}
	} else {
		known := map[string]bool{}
		for h := range slices.Chunk(s, hashSize) {
			known[string(h)] = true
		}
		same = func(t tie) bool { sum := t.hash(); return known[string(sum[:hashSize])] }
	}
	for i, t := range ties {
		if t.node != "" && !same(t) {
			out = append(out, i)
		}
	}
	return out
}

// ties are the signals' names and the nodes that they have now.
func (r *Reader) ties() []tie {
	out := make([]tie, len(r.items))
	for i := range out {
		out[i] = tie{r.cfg.Signals[i].Name, r.whereabouts(i)}
	}
	return out
}

// whereabouts is the node of a signal, whatever index its namespace has; empty: it
// has none.
func (r *Reader) whereabouts(i int) string {
	if r.items[i].at == nil {
		return ""
	}
	return r.ears.spaces.name(r.items[i].at)
}

// note brings the state up to what it says of signals.
func (r *Reader) note() {
	r.state.Found, r.state.Last = 0, max(r.before, slices.Max(r.last))
	if len(r.state.Moved) > 0 {
		r.state.Found = r.foundAt
	}
	if !r.unnoted {
		return
	}
	r.unnoted = false
	kept := make([]tie, len(r.items))
	for i := range kept {
		kept[i] = tie{r.cfg.Signals[i].Name, r.items[i].kept}
	}
	r.state.Kept = newSketch(kept)
}

// keeps notes that a signal's values are of its node from here on; empty: of none.
func (r *Reader) keeps(i int, node string) {
	if i >= len(r.items) {
		return // a notifier
	}
	r.items[i].kept, r.unnoted = node, true
	r.state.Moved = r.state.Moved.without(i)
}

// moves notes that the first value of a signal is still to come, and says nothing of
// before. Nor does its node's history, as long as nothing is proven.
func (r *Reader) moves(i int) {
	r.keeps(i, "")
	r.items[i].moved, r.items[i].placed, r.foundAt = true, false, r.surveyed
	r.state.Moved = r.state.Moved.with(i)
	if r.state.Fresh {
		r.state.Apart = r.state.Apart.with(i)
	}
}

// part notes, where subscription or polls begin anew, which signals have another node
// than the one whose values were kept last, and says that they are unknown since.
func (r *Reader) part() {
	r.note()
	moved := r.elsewhere()
	var said marks // by a try before, of the same signals
	if r.state.Table == r.hash {
		said = r.state.Moved
	}
	r.state.Moved, r.state.Apart = nil, nil
	for i := range r.items {
		r.keeps(i, r.whereabouts(i))
	}
	var texts []string
	for _, i := range moved {
		r.moves(i)
		if said.has(i) {
			r.last[i] = max(r.last[i], r.sealer.Proof(), r.before)
			continue
		}
		r.unknown(i, statusMoved)
		texts = append(texts, fmt.Sprintf("%s (%s)", r.cfg.Signals[i].Name, r.items[i].where()))
	}
	if len(texts) == 0 {
		return
	}
	if more := len(texts) - maxNamed; more > 0 {
		texts = append(texts[:maxNamed], fmt.Sprintf("and %d more", more))
	}
	text := strings.Join(texts, ", ")
	r.log.Warn("signals are read from other nodes than before, or are new", "signals", text)
	r.remark(mesh.CauseUnreadable, "signals are read from other nodes than before, or are new, and what they were until their first value is not known: "+text)
}

// elsewhere are the signals whose node is not the one whose values were kept last.
func (r *Reader) elsewhere() []int {
	switch {
	case r.sealer.Proof() == 0:
		return nil // there is nothing before
	case len(r.state.Kept) > 0:
		return r.state.Kept.moved(r.ties())
	case r.sameFile && r.state.Nodes == r.fingerprint(func(i int) string { return r.items[i].where() }):
		return nil // of a program that had no sketch
	}
	return slices.DeleteFunc(r.every(), func(i int) bool { return r.items[i].at == nil })
}

// goesOn takes up, behind a restart, of which nodes the signals' values are.
func (r *Reader) goesOn() {
	for i := range r.items {
		switch {
		case r.state.Moved.has(i):
			r.items[i].moved, r.initial[i] = true, true
			r.last[i] = max(r.sealer.Proof(), r.before)
		case r.items[i].made != "":
			r.keeps(i, r.whereabouts(i))
			r.initial[i] = r.state.Seq == 0 // nothing came of this subscription yet
		}
	}
}

// arrives places the values of a node that is new to its signal. The first one stands at
// when that was found: it may be there since long, and another node's value counts till
// then. Those behind it follow it until the device's clock is beyond that: else the first
// would be the last. A bad one may only stand in for the first.
func (r *Reader) arrives(i int, s *mesh.Sample, is mesh.Status, now mesh.Nanos) {
	it := &r.items[i]
	if it.kept != "" {
		s.Flags &^= mesh.FlagInitial
	}
	least := r.last[i] + 1
	if !it.placed {
		found := r.foundAt
		if found == 0 || source.Suspect(found, now) || now.Sub(found) > source.MaxBehind {
			found = now
		}
		least = max(least, found)
	} else if s.Time == r.last[i] {
		least = s.Time
	}
	late := s.Time < least
	s.Time = max(s.Time, least)
	it.placed, it.moved = true, late || is.IsBad()
	r.initial[i] = it.moved
	if !is.IsBad() && it.kept == "" {
		r.keeps(i, r.whereabouts(i))
	}
}
