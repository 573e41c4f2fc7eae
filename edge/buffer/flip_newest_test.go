package buffer

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"plantmesh/proto/mesh"
)

// TestBuffer_FlippedBitInTheNewestIsTold flips one bit of a leaf of records in the active
// segment. Each record is then read as it was, or is said to be lost.
func TestBuffer_FlippedBitInTheNewestIsTold(t *testing.T) {
	dir := t.TempDir()
	b, err := Open(testConfig(dir), quiet())
	check(t, err)
	want := map[mesh.Position]string{}
	for i := range 460 {
		o := offer(t, "a", mesh.Nanos(i+1)*100000, 400)
		want[mustAppend(t, b, o)] = string(o.Sealed[0])
	}
	check(t, b.Close())
	names := segments(t, dir)
	if len(names) < 2 {
		t.Fatal(names)
	}
	pages := leaves(t, names[len(names)-1], spaceRecord)
	r := rand.New(rand.NewPCG(7, 7))
	kinds := map[string]int{}
	for round := range 8 {
		trial := copyDir(t, dir)
		path := filepath.Join(trial, filepath.Base(names[len(names)-1]))
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
		gone := 0
		for at := range want {
			if !seen[at] && !have.Has(at) {
				gone++
			}
		}
		through, islands := have.Set.Through, have.Set.Islands
		if gone > 0 {
			kinds[[]string{"key", "key", "element", "head"}[round%4]]++
			t.Errorf("%s: %d acknowledged batches are neither read nor said to be lost; told through %d, islands %v, end %d; %d of %d batches read", where, gone, through.Seq, islands, b.End().Seq, len(positions(t, out)), len(want))
		}
		check(t, b.Close())
		os.RemoveAll(trial)
	}
	t.Log(kinds)
}
