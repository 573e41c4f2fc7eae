package buffer

import (
	"bytes"
	"maps"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"testing"

	"plantmesh/proto/mesh"
)

// frugal fails where reading n bytes takes more than each byte's worth times
// over, or what the test itself and its neighbours take beside.
func frugal(t *testing.T, n, times int, do func()) {
	t.Helper()
	if took := allocated(do); took > uint64(times*n+1<<20) {
		t.Errorf("%d bytes of memory taken to read %d", took, n)
	}
}

// shelf is a transaction on nothing but memory.
type shelf map[space]map[string][]byte

func (s shelf) Put(sp space, key, value []byte) error {
	if s[sp] == nil {
		s[sp] = map[string][]byte{}
	}
	s[sp][string(key)] = bytes.Clone(value)
	return nil
}

func (s shelf) Get(sp space, key []byte) []byte { return s[sp][string(key)] }

func (s shelf) Scan(sp space, from []byte, fn func(k, v []byte) bool) {
	for _, k := range slices.Sorted(maps.Keys(s[sp])) {
		if k >= string(from) && !fn([]byte(k), s[sp][k]) {
			return
		}
	}
}

func (s shelf) Size() (n int64) {
	for _, of := range s {
		for k, v := range of {
			n += int64(len(k) + len(v) + leafElement)
		}
	}
	return n
}

// FuzzValue reads any bytes as the values of each space: what was put is got,
// under its own key and in its own space, and nothing else is believed.
func FuzzValue(f *testing.F) {
	d := table(f)
	h := d.Hash()
	f.Add(uint8(0), []byte("line1"), []byte(`{"subscription":7}`), []byte{1, 2, 3, 4, 5})
	f.Add(uint8(2), h[:], append([]byte{byte(d.Kind)}, d.Content...), []byte{})
	f.Add(uint8(3), []byte("line1"), encodeTally(tally{1, 2, 3}), []byte{0})
	f.Add(uint8(5), keyOf(7), []byte{1}, []byte{2})
	f.Add(uint8(6), placeKey(), place{testLog, 3, 400}.encode(), []byte{9})
	f.Add(uint8(6), chainKey(), seedChain(3).encode(), []byte{9})
	f.Add(uint8(6), placeKey(), place{testLog, 3, 1<<64 - 200}.encode(), []byte{9}) // behind all there can be
	f.Fuzz(func(t *testing.T, where uint8, key, value, raw []byte) {
		s, sp := shelf{}, spaces()[1:][int(where)%len(spaces()[1:])]
		check(t, put(s, sp, key, value))
		stored := s.Get(sp, key)
		if got, ok := checked(sp, key, stored); !ok || !bytes.Equal(got, value) {
			t.Fatalf("%x reads back as %x, %v", value, got, ok)
		}
		if _, ok := checked(sp, append([]byte{1}, key...), stored); ok {
			t.Error("a value is believed under another key")
		}
		if _, ok := checked(spaceRecord, key, stored); ok {
			t.Error("a value is believed in another space")
		}
		if len(raw) > 0 { // a flipped bit
			hurt := bytes.Clone(stored)
			hurt[int(raw[0])%len(hurt)] ^= 1 << (len(raw) % 8)
			if _, ok := checked(sp, key, hurt); ok {
				t.Error("a value with a flipped bit is believed")
			}
		}
		if v, ok := checked(sp, key, raw); ok {
			check(t, put(s, sp, key, v))
			if !bytes.Equal(s.Get(sp, key), raw) {
				t.Errorf("%x is written as %x", raw, s.Get(sp, key))
			}
		}
		if len(value) == tallyBytes && !bytes.Equal(encodeTally(decodeTally(value)), value) {
			t.Errorf("a tally %x reads back otherwise", value)
		}
		if p, err := decodePlace(value); err == nil && !bytes.Equal(p.encode(), value) {
			t.Errorf("a place %x reads back as %+v", value, p)
		}
		// As a segment: what it says of itself may be anything.
		check(t, put(s, spaceMeta, placeKey(), place{testLog, 1, 1}.encode()))
		check(t, put(s, spaceMeta, chainKey(), seedChain(2).encode()))
		check(t, put(s, sp, key, value))
		check(t, s.Put(spaceRecord, key, raw))
		check(t, s.Put(sp, raw, value))
		frugal(t, len(key)+len(value)+len(raw), 64, func() {
			x := found{piece: &piece{tallies: map[string]tally{}, names: map[mesh.Hash]bool{}}}
			if err := x.look(s); err != nil {
				return
			}
			if x.last > x.first+uint64(s.Size()) && x.first > 0 {
				t.Errorf("%d bytes hold the records %d to %d", s.Size(), x.first, x.last)
			}
		})
	})
}

// seedChain has n epochs, each ended by the next.
func seedChain(n int) *chain {
	c := &chain{log: testLog}
	for i := range n {
		c.begin(uint64(i) * 100)
	}
	return c
}

// FuzzChain reads bytes as a chain: it is written as it was read, positions and
// indexes are each other's, and no question has it go wrong.
func FuzzChain(f *testing.F) {
	for n := range 4 {
		f.Add(seedChain(n).encode(), uint64(50), uint64(260))
	}
	f.Fuzz(func(t *testing.T, b []byte, from, to uint64) {
		var c *chain
		var err error
		frugal(t, len(b), 16, func() { c, err = decodeChain(testLog, b) })
		if err != nil {
			return
		}
		if again := c.encode(); !bytes.Equal(again, b) {
			t.Fatalf("%x is written as %x", b, again)
		}
		if got, err := decodeChain(testLog, c.encode()); err != nil || !reflect.DeepEqual(got, c) {
			t.Fatalf("%+v reads back as %+v, %v", c, got, err)
		}
		ranges := c.ranges(from, to)
		_ = voids(c, []stretch{{from, to}}, mesh.CauseDamaged, "why", nil)
		at := c.at(from)
		_, _ = c.index(at)
		if !inOrder(c) || from > to {
			return
		}
		var n uint64
		for _, r := range ranges {
			n += r.Last - r.First + 1
			if first, ok := c.index(mesh.Position{Epoch: r.Epoch, Seq: r.First}); !ok || first < from || first > to {
				t.Errorf("%+v of %d to %d begins at %d", r, from, to, first)
			}
		}
		if first := c.eras[0].first; to >= first && n != to-max(from, first)+1 {
			t.Errorf("%d positions of the indexes %d to %d", n, from, to)
		}
		if i, ok := c.index(at); !at.IsZero() && (!ok || i != from) {
			t.Errorf("index %d is at %s, which has index %d", from, at, i)
		}
	})
}

// inOrder reports whether a chain is such as begin makes.
func inOrder(c *chain) bool {
	seen := map[mesh.Epoch]bool{}
	for i, e := range c.eras {
		if seen[e.epoch] || e.first == 0 || e.first > math.MaxInt64 || i > 0 && e.first <= c.eras[i-1].first {
			return false
		}
		seen[e.epoch] = true
	}
	return len(c.eras) > 0
}

// notes are of every kind there is.
func notes() []note {
	c := seedChain(2)
	return []note{
		noteEra(c.eras[0]), noteEra(c.eras[1]),
		{Made: &madeNote{Segment: pieceName(1, 1)}},
		{Filled: &filledNote{Segment: pieceName(1, 1), First: 1, Last: 80, At: 1_772_366_400, Sources: map[string]tally{"line1-opcua": {1000, 2000, 80}, "ü": {-5, 5, 1}}}},
		{Gone: &goneNote{First: 1, Last: 80}},
		{Gone: &goneNote{First: 90, Last: 120, Why: mesh.CauseDamaged, Void: 121}},
		{Reader: &readerNote{Log: "hub/0", Epoch: "0102030405060708090a0b0c0d0e0f10"}},
		{Through: &throughNote{Epoch: "0102030405060708090a0b0c0d0e0f10", Seq: 60}},
	}
}

// FuzzCatalogue reads bytes as the catalogue: each line is understood or left
// out, what was understood is written and read alike, and more can be noted.
func FuzzCatalogue(f *testing.F) {
	dir := f.TempDir()
	c, err := openCatalogue(dir)
	check(f, err)
	check(f, c.add(notes()...))
	whole, err := os.ReadFile(c.path)
	check(f, err)
	f.Add(whole)
	f.Add(whole[:len(whole)-9])
	for line := range bytes.Lines(whole) {
		f.Add(line)
	}
	f.Add([]byte(`{"gone":{"first":1,"last":18446744073709551615}}`))
	f.Add([]byte(`{"gone":{"first":5,"last":1}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		dir := t.TempDir()
		path := filepath.Join(dir, "catalogue.jsonl")
		check(t, os.WriteFile(path, b, 0o600))
		var c *catalogue
		var err error
		frugal(t, len(b), 256, func() {
			if c, err = openCatalogue(dir); err == nil {
				askCatalogue(t, c)
			}
		})
		check(t, err)
		more := notes()
		was := slices.Clone(c.notes)
		check(t, c.add(more...))
		sameNotes(t, dir, append(slices.Clone(was), more...), "added to")
		check(t, c.rewrite(false))
		sameNotes(t, dir, append(was, more...), "written anew")
	})
}

func sameNotes(t *testing.T, dir string, want []note, when string) {
	t.Helper()
	c, err := openCatalogue(dir)
	if err != nil || !reflect.DeepEqual(c.notes, want) {
		t.Fatalf("%s, the catalogue holds %d notes, want %d, %v", when, len(c.notes), len(want), err)
	}
}

// askCatalogue asks all that is asked of it.
func askCatalogue(t *testing.T, c *catalogue) {
	t.Helper()
	c.made()
	c.eras(testLog)
	(&reader{left: map[mesh.Epoch]left{}}).recall(c, testLog)
	all := stretch{1, 1000}
	gone := c.gone(func(mesh.Cause) bool { return true })
	for i, s := range gone {
		if s.first == 0 || s.last < s.first || i > 0 && s.first <= gone[i-1].last {
			t.Errorf("what is gone: %v", gone)
		}
	}
	rest := all.without(gone)
	for i, s := range rest {
		if s.first < 1 || s.last > 1000 || s.last < s.first || i > 0 && s.first <= rest[i-1].last || len(overlap(s, gone)) > 0 {
			t.Errorf("of %v less %v stays %v", all, gone, rest)
		}
	}
	c.carried([]stretch{all})
	c.parts([]stretch{all})
}
