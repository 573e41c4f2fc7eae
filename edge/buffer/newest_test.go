package buffer

import (
	"encoding/binary"
	"os"
	"testing"

	"plantmesh/proto/mesh"
)

// TestBuffer_FlippedBitInTheNewest flips one bit of one record's key in the
// segment that is written; 200 were acknowledged.
func TestBuffer_FlippedBitInTheNewest(t *testing.T) {
	dir := quickDir(t)
	b, err := Open(testConfig(dir), quiet())
	check(t, err)
	for i := range 199 { // the opening is the first
		mustAppend(t, b, offer(t, "a", mesh.Nanos(i+1)*100000, 40))
	}
	end := b.End()
	check(t, b.Close())
	path := segments(t, dir)[0]
	rekey(t, path, 64, func(k []byte) { k[0] ^= 1 })
	b = mustOpen(t, testConfig(dir))
	rs := all(t, b)
	t.Logf("before: end %d; now: %d batches, %d voids, end %s, chain %v", end.Seq, len(positions(t, rs)), len(voidsOf(t, rs)), b.End(), b.chain.eras)
	have := &mesh.Account{Log: testLog}
	_, openings, _, err := b.Outset()
	check(t, err)
	for _, x := range append(openings, rs...) {
		add(t, have, x)
	}
	if n := len(positions(t, rs)); n < 198 {
		t.Errorf("%d of 199 acknowledged batches are read, %d voids tell of the others", n, len(voidsOf(t, rs)))
	}
}

// rekey changes the key of one record in a segment.
func rekey(t *testing.T, path string, index uint64, change func(key []byte)) {
	t.Helper()
	file, err := os.ReadFile(path)
	check(t, err)
	hurt := 0
	for _, page := range leaves(t, path, spaceRecord) {
		p := file[page*pageBytes:][:pageBytes]
		for i := range int(binary.NativeEndian.Uint16(p[10:])) {
			e := p[pageHeader+16*i:]
			d, n := binary.NativeEndian.Uint32(e[4:]), binary.NativeEndian.Uint32(e[8:])
			if k := e[d : d+n]; n == 8 && indexOf(k) == index {
				change(k)
				hurt++
			}
		}
	}
	if hurt != 1 {
		t.Fatal(hurt)
	}
	check(t, os.WriteFile(path, file, 0o600))
}
