package buffer

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"plantmesh/proto/mesh"
)

// Which files of the folder are the log's. A file's name alone proves nothing:
// people copy and rename. A segment says itself which log it belongs to and
// where it stands; a file that does not is only believed where the catalogue
// knows its name. All others are left alone.

// place is where a segment stands, as it says itself.
type place struct {
	log           mesh.LogID
	number, first uint64
}

func placeKey() []byte { return []byte("place") }

func (p place) encode() []byte {
	b := binary.BigEndian.AppendUint64(nil, p.number)
	return append(binary.BigEndian.AppendUint64(b, p.first), p.log...)
}

func decodePlace(b []byte) (p place, err error) {
	if len(b) < 16 {
		return p, fmt.Errorf("%w: a place of %d bytes", errDamaged, len(b))
	}
	p = place{number: binary.BigEndian.Uint64(b), first: binary.BigEndian.Uint64(b[8:]), log: mesh.LogID(b[16:])}
	if p.first == 0 || p.first > math.MaxInt64 {
		return p, fmt.Errorf("%w: a place at index %d", errDamaged, p.first)
	}
	return p, nil
}

func pieceName(number, first uint64) string {
	return fmt.Sprintf("%08x-%016x%s", number, first, segmentSuffix)
}

// parseName accepts exactly what pieceName gives.
func parseName(name string) (number, first uint64, ok bool) {
	n, f, ok := strings.Cut(strings.TrimSuffix(name, segmentSuffix), "-")
	if !ok {
		return 0, 0, false
	}
	number, err1 := strconv.ParseUint(n, 16, 64)
	first, err2 := strconv.ParseUint(f, 16, 64)
	ok = err1 == nil && err2 == nil && first > 0 && pieceName(number, first) == name
	return number, first, ok
}

// found is a segment file at opening.
type found struct {
	*piece

	log   mesh.LogID // as it says itself
	s     snapshot
	blank bool  // it was made and never written: its first commit was under way
	bad   error // it can't be read; number and first are its name's
	cut   bool  // it is not continued: it was filled, or more stands in it than counts

	missing bool // it was made and is not there
	back    bool // its last commits may be gone
	hides   bool // its last records or states may be there and can't be seen
}

// belonging are the files of all that are this log's, by number. ErrForeign
// where the folder is another log's.
func (b *Buffer) belonging(all []found) ([]found, error) {
	ours := func(f found) bool { return f.bad == nil && f.log == b.cfg.Log }
	if !slices.ContainsFunc(all, ours) {
		for _, f := range all {
			if f.bad == nil {
				return nil, foreign(b.cfg.Dir, f.log, b.cfg.Log)
			}
		}
	}
	slices.SortStableFunc(all, func(x, y found) int {
		return cmp.Or(cmp.Compare(x.number, y.number), compare(x.bad != nil, y.bad != nil),
			compare(x.name != pieceName(x.number, x.first), y.name != pieceName(y.number, y.first)))
	})
	birth, made := b.birth(all), b.notes.made()
	var out []found
	for _, f := range all {
		why := ""
		switch n := len(out); {
		case n > 0 && out[n-1].number == f.number:
			why = "it is a copy of " + out[n-1].name
		case f.bad == nil && f.log != b.cfg.Log:
			why = "it belongs to " + string(f.log)
		case f.bad == nil && f.s.chain.eras[0].epoch != birth:
			why = "it belongs to an earlier life of this log"
		case f.bad != nil && !made[f.name] && (n == 0 || out[n-1].last+1 != f.first || out[n-1].number+1 != f.number):
			why = "it can't be read, and this buffer never made it"
		}
		if why != "" {
			b.log.Error("file left alone", "file", f.name, "why", why)
			continue
		}
		out = append(out, f)
	}
	return b.onOneBranch(out), nil
}

func compare(x, y bool) int {
	switch {
	case x == y:
		return 0
	case y:
		return -1
	}
	return 1
}

// birth is the first epoch of the log, which all its segments share.
func (b *Buffer) birth(all []found) mesh.Epoch {
	for _, e := range b.notes.eras(b.cfg.Log) {
		if e.parent.IsZero() { // the first line may be damaged
			return e.epoch
		}
	}
	for _, f := range all {
		if f.bad == nil && f.log == b.cfg.Log {
			return f.s.chain.eras[0].epoch
		}
	}
	return mesh.Epoch{}
}

// onOneBranch leaves alone the segments that begin where a later one begins or
// behind it: the log went on without them. To cut them to nothing would be to
// delete them.
func (b *Buffer) onOneBranch(all []found) []found {
	floor := uint64(1<<64 - 1)
	var out []found
	for _, f := range slices.Backward(all) {
		if f.bad == nil {
			if f.first >= floor {
				b.log.Error("file left alone", "file", f.name, "why", "the log went on without it")
				continue
			}
			floor = f.first
		}
		out = append(out, f)
	}
	slices.Reverse(out)
	return out
}

// arrange keeps the good segments, each cut where it was left or where the next
// one begins: what stands beyond is a commit that failed and does not count.
func (b *Buffer) arrange(all []found) {
	filled := b.notes.filled()
	next := uint64(0)
	for i := len(all) - 1; i >= 0; i-- {
		f := &all[i]
		if f.bad != nil {
			continue
		}
		if next > 0 {
			f.last = min(f.last, next-1)
		}
		if n := filled[pieceName(f.number, f.first)]; n != nil && n.First == f.first {
			f.last, f.filled, f.cut = min(f.last, n.Last), n.At, true
		}
		next = f.first
		b.pieces = append(b.pieces, f.piece)
	}
	slices.Reverse(b.pieces)
}

// nextNumber is above every number this log has given or a file in the
// directory has, so that one whose removal failed is never met again.
func (b *Buffer) nextNumber() (n uint64) {
	n = 1
	for name := range b.notes.made() {
		if k, _, ok := parseName(name); ok {
			n = max(n, k+1)
		}
	}
	for _, p := range b.pieces {
		n = max(n, p.number+1)
	}
	names, err := b.disk.Names()
	if err != nil {
		return n
	}
	for _, name := range names {
		if k, _, ok := parseName(name); ok && k < 1<<62 {
			n = max(n, k+1)
		}
	}
	return n
}
