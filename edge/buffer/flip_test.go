package buffer

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"go.etcd.io/bbolt"

	"plantmesh/proto/mesh"
)

// leaves are the numbers of the leaf pages of a space.
func leaves(t *testing.T, path string, s space) (out []uint64) {
	t.Helper()
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{ReadOnly: true})
	check(t, err)
	file, err := os.ReadFile(path)
	check(t, err)
	check(t, db.View(func(x *bbolt.Tx) error {
		var down func(id uint64)
		down = func(id uint64) {
			p := file[id*pageBytes:][:pageBytes]
			if flagsOf(p) == leafFlag {
				out = append(out, id)
				return
			}
			for i := range int(binary.NativeEndian.Uint16(p[10:])) {
				down(binary.NativeEndian.Uint64(p[pageHeader+16*i+8:]))
			}
		}
		down(uint64(x.Bucket([]byte(s)).Root()))
		return nil
	}))
	check(t, db.Close())
	return out
}

func copyDir(t *testing.T, from string) string {
	t.Helper()
	to := quickDir(t)
	check(t, os.CopyFS(to, os.DirFS(from)))
	return to
}

// TestBuffer_FlippedBitIsTold flips one bit of a leaf of records, in a filled
// segment and in the one that is written. Each record is then read as it was, or
// is said to be lost.
func TestBuffer_FlippedBitIsTold(t *testing.T) {
	unwatched(t)
	t.Parallel()
	dir := quickDir(t)
	b, err := Open(testConfig(dir), quiet())
	check(t, err)
	want := map[mesh.Position]string{}
	for i := range 460 {
		o := offer(t, "a", mesh.Nanos(i+1)*100000, 400)
		want[mustAppend(t, b, o)] = string(o.Sealed[0])
	}
	check(t, b.Close())
	names := segments(t, dir)
	if len(names) != 2 {
		t.Fatal(names)
	}
	for i, rounds := range []int{10, 8} { // the filled one, and the newest
		pages := leaves(t, names[i], spaceRecord)
		r := rand.New(rand.NewPCG(7, 7))
		for round := range rounds {
			trial := copyDir(t, dir)
			where := flipInLeaf(t, r, filepath.Join(trial, filepath.Base(names[i])), pages[r.IntN(len(pages))], round%4)
			mustTell(t, trial, where, want)
			check(t, os.RemoveAll(trial))
		}
	}
}

// flipInLeaf flips one bit of a leaf: of a key, of an element, or of the head.
func flipInLeaf(t *testing.T, r *rand.Rand, path string, page uint64, what int) (where string) {
	t.Helper()
	file, err := os.ReadFile(path)
	check(t, err)
	p := file[page*pageBytes:][:pageBytes]
	n := int(binary.NativeEndian.Uint16(p[10:]))
	i := r.IntN(n)
	e := p[pageHeader+16*i:]
	distance, key := int(binary.NativeEndian.Uint32(e[4:])), int(binary.NativeEndian.Uint32(e[8:]))
	of, at := e[distance:][:key], r.IntN(key)
	switch what {
	case 2:
		of, at = e, r.IntN(16)
	case 3:
		of, at = p, r.IntN(16)
	}
	bit := r.IntN(8)
	of[at] ^= 1 << bit
	check(t, os.WriteFile(path, file, 0o600))
	return fmt.Sprintf("%s page %d, %s, element %d of %d: byte %d, bit %d", filepath.Base(path), page, []string{"key", "key", "element", "head"}[what], i, n, at, bit)
}

// mustTell demands that each record of a folder is read as it was, once, or is
// said to be lost.
func mustTell(t *testing.T, dir, where string, want map[mesh.Position]string) {
	t.Helper()
	b, err := Open(testConfig(dir), quiet())
	if err != nil {
		t.Errorf("%s: it does not open: %v", where, err)
		return
	}
	defer mustClose(t, b)
	rs := all(t, b)
	have := &mesh.Account{Log: testLog}
	_, openings, _, err := b.Outset()
	check(t, err)
	for _, x := range openings {
		add(t, have, x)
	}
	seen := map[mesh.Position]bool{}
	for _, x := range rs {
		if s, ok := want[x.At]; ok && s != string(x.Sealed) {
			t.Errorf("%s: %s is read otherwise", where, x.At)
		}
		if seen[x.At] {
			t.Errorf("%s: %s is read twice", where, x.At)
		}
		seen[x.At] = true
		add(t, have, x)
	}
	if have.Set.Through != b.End() || len(have.Set.Islands) > 0 {
		t.Errorf("%s: told through %s, islands %v, end %s; %d of %d batches read", where, have.Set.Through, have.Set.Islands, b.End(), len(positions(t, rs)), len(want))
	}
	for at := range want {
		if !seen[at] && !have.Has(at) {
			t.Errorf("%s: %s was confirmed and is neither read nor said to be lost", where, at)
		}
	}
}
