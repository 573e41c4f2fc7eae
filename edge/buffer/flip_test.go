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
	to := t.TempDir()
	check(t, os.CopyFS(to, os.DirFS(from)))
	return to
}

// TestBuffer_FlippedBitIsTold flips one bit of a leaf of records in a filled
// segment. Each record is then read as it was, or is said to be lost.
func TestBuffer_FlippedBitIsTold(t *testing.T) {
	dir := t.TempDir()
	b, err := Open(testConfig(dir), quiet())
	check(t, err)
	want := map[mesh.Position]string{}
	for i := range 420 {
		o := offer(t, "a", mesh.Nanos(i+1)*100000, 400)
		want[mustAppend(t, b, o)] = string(o.Sealed[0])
	}
	check(t, b.Close())
	names := segments(t, dir)
	if len(names) < 2 {
		t.Fatal(names)
	}
	pages := leaves(t, names[0], spaceRecord)
	r := rand.New(rand.NewPCG(7, 7))
	kinds := map[string]int{}
	for round := range 10 {
		trial := copyDir(t, dir)
		path := filepath.Join(trial, filepath.Base(names[0]))
		file, err := os.ReadFile(path)
		check(t, err)
		page := pages[r.IntN(len(pages))]
		p := file[page*pageBytes:][:pageBytes]
		n := int(binary.NativeEndian.Uint16(p[10:]))
		i := r.IntN(n)
		e := p[pageHeader+16*i:]
		distance, key := binary.NativeEndian.Uint32(e[4:]), int(binary.NativeEndian.Uint32(e[8:]))
		bit := r.IntN(8)
		where := ""
		switch round % 4 {
		case 0, 1:
			at := r.IntN(key)
			e[int(distance)+at] ^= 1 << bit
			where = fmt.Sprintf("page %d, key %d of %d (%d bytes): byte %d, bit %d", page, i, n, key, at, bit)
		case 2:
			at := r.IntN(16)
			e[at] ^= 1 << bit
			where = fmt.Sprintf("page %d, element %d of %d: byte %d, bit %d", page, i, n, at, bit)
		case 3:
			at := r.IntN(16)
			p[at] ^= 1 << bit
			where = fmt.Sprintf("page %d, head: byte %d, bit %d", page, at, bit)
		}
		check(t, os.WriteFile(path, file, 0o600))
		b, err := Open(testConfig(trial), quiet())
		if err != nil {
			t.Errorf("%s: it does not open: %v", where, err)
			continue
		}
		var out []mesh.Record
		var after mesh.Position
		for range 10000 {
			rs, err := b.Peek(after, 100<<10)
			if err != nil {
				t.Errorf("%s: peek: %v", where, err)
				break
			}
			if len(rs) == 0 {
				break
			}
			out = append(out, rs...)
			after = rs[len(rs)-1].At
		}
		have := &mesh.Account{Log: testLog}
		_, openings, _, err := b.Outset()
		check(t, err)
		for _, x := range openings {
			add(t, have, x)
		}
		seen := map[mesh.Position]bool{}
		for _, x := range out {
			if s, ok := want[x.At]; ok && s != string(x.Sealed) {
				t.Errorf("%s: %s is read otherwise", where, x.At)
			}
			if seen[x.At] {
				t.Errorf("%s: %s is read twice", where, x.At)
			}
			seen[x.At] = true
			add(t, have, x)
		}
		through, islands := have.Set.Through, have.Set.Islands
		if through != b.End() || len(islands) > 0 {
			kinds[[]string{"key", "key", "element", "head"}[round%4]]++
			t.Errorf("%s: told through %d, islands %v, end %d; %d of %d batches read", where, through.Seq, islands, b.End().Seq, len(positions(t, out)), len(want))
		}
		check(t, b.Close())
		os.RemoveAll(trial)
	}
	t.Log(kinds)
}
