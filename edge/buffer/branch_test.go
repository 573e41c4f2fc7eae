package buffer

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"testing"

	"go.etcd.io/bbolt"
)

// TestBuffer_BranchKey flips one bit of a branch's key, so that it still lies
// between its neighbours but is not its child's first any more. bbolt finds a
// child in its parent by that key.
func TestBuffer_BranchKey(t *testing.T) {
	unwatched(t)
	f := testFolder(t)
	r := rand.New(rand.NewPCG(1, 1))
	s := mustSegment(t, f, modeCreate)
	var keys [][]byte
	for range 300 {
		keys = append(keys, fmt.Appendf(nil, "%x", noise(r, 8)))
	}
	want := map[string][]byte{}
	write := func(s segment, k []byte) error {
		_, err := s.Update(func(x tx) error {
			v := noise(r, 100)
			want[string(k)] = v
			return x.Put(spaceState, k, v)
		})
		return err
	}
	for _, k := range keys {
		check(t, write(s, k))
	}
	var root uint64
	check(t, s.db.View(func(x *bbolt.Tx) error { root = uint64(x.Bucket([]byte(spaceState)).Root()); return nil }))
	check(t, s.Close())
	file, err := os.ReadFile(f.path("1.seg"))
	check(t, err)
	p := file[root*pageBytes:][:pageBytes]
	if flagsOf(p) != branchFlag {
		t.Fatal("no branch")
	}
	n := int(binary.NativeEndian.Uint16(p[10:]))
	passed := 0
	for i := range n {
		for at := range 16 {
			for bit := range 8 {
				hurt := bytes.Clone(file)
				p := hurt[root*pageBytes:][:pageBytes]
				e := p[pageHeader+16*i:]
				e[int(binary.NativeEndian.Uint32(e))+at] ^= 1 << bit
				check(t, os.WriteFile(f.path("1.seg"), hurt, 0o600))
				if f.walk(f.path("1.seg"), false) != nil {
					continue
				}
				passed++
				if passed%20 != 1 {
					continue
				}
				seg, err := f.Open("1.seg", modeAppend)
				check(t, err)
				for round := range 60 {
					if err := write(seg, keys[r.IntN(len(keys))]); err != nil {
						t.Errorf("child %d byte %d bit %d passed the walk: write %d: %v", i, at, bit, round, err)
						break
					}
				}
				check(t, seg.Close())
				if err := f.walk(f.path("1.seg"), false); err != nil {
					t.Errorf("child %d of %d, byte %d bit %d passed the walk; after 60 commits: %v", i, n, at, bit, err)
				}
			}
		}
	}
	t.Log(passed, "flips passed the walk")
}
