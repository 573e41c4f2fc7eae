package buffer

import (
	"bytes"
	"math/rand/v2"
	"os"
	"testing"
)

// Sectors are what a disk writes whole; pages are eight of them.
const sector = 512

// interrupted is the file of a commit that the power cut off between its two
// syncs: of what it wrote any sector may be there or not, but for the page that
// names the new root, which was not written yet.
func interrupted(r *rand.Rand, before, after []byte, share int) []byte {
	out := bytes.Clone(after)
	if len(after) > len(before) && r.IntN(2) == 0 {
		out = out[:len(before)] // nor was it made longer
	}
	for at := 0; at < len(out); at += sector {
		root := at < 2*pageBytes
		if !root && r.IntN(100) < share {
			continue // this sector made it
		}
		old := make([]byte, sector)
		if at < len(before) {
			copy(old, before[at:])
		}
		copy(out[at:min(len(out), at+sector)], old)
	}
	return out
}

// TestDisk_PowerCutBetweenTheSyncs: what was acknowledged before is all there
// and nothing else is, and the segment goes on.
func TestDisk_PowerCutBetweenTheSyncs(t *testing.T) {
	t.Parallel()
	seeds := uint64(3)
	if testing.Short() {
		seeds = 2
	}
	for seed := range seeds {
		f, r := testFolder(t), rand.New(rand.NewPCG(seed, 5))
		path := f.path("1.seg")
		check(t, mustSegment(t, f, modeCreate).Close())
		var want [][]byte
		for round := range 16 {
			before, err := os.ReadFile(path)
			check(t, err)
			next := noise(r, 1+r.IntN([]int{200, 4000, 20_000, 60_000}[r.IntN(4)]))
			put := func(s segment) {
				mustUpdate(t, s, func(x tx) error {
					if err := x.Put(spaceState, []byte("a"), next[:min(len(next), 300)]); err != nil {
						return err
					}
					return x.Put(spaceRecord, keyOf(uint64(len(want)+1)), next)
				})
			}
			s := mustSegment(t, f, modeAppend)
			put(s)
			check(t, s.Close())
			after, err := os.ReadFile(path)
			check(t, err)
			check(t, os.WriteFile(path, interrupted(r, before, after, []int{0, 30, 70, 100}[r.IntN(4)]), 0o600))

			s = mustSegment(t, f, modeAppend) // which looks at every page
			holds(t, s, want)
			put(s)
			want = append(want, next)
			holds(t, s, want)
			check(t, s.Close())
			if t.Failed() {
				t.Fatalf("seed %d, round %d", seed, round)
			}
		}
	}
}

// holds demands exactly these records of a segment.
func holds(t *testing.T, s segment, want [][]byte) {
	t.Helper()
	n := 0
	check(t, s.View(func(x tx) error {
		x.Scan(spaceRecord, nil, func(k, v []byte) bool {
			if n >= len(want) || indexOf(k) != uint64(n+1) || !bytes.Equal(v, want[n]) {
				t.Errorf("record %d of %d bytes is not what was put", indexOf(k), len(v))
				return false
			}
			n++
			return true
		})
		return nil
	}))
	if n != len(want) {
		t.Errorf("%d of %d records", n, len(want))
	}
}
