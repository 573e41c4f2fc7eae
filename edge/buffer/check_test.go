package buffer

import (
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"os"
	"testing"

	"go.etcd.io/bbolt"
)

// sample is a segment with branches, inline buckets and old pages.
func sampleSegment(t testing.TB, f folder) (file []byte) {
	t.Helper()
	r := rand.New(rand.NewPCG(1, 1))
	s := mustSegment(t, f, modeCreate)
	for i := range uint64(120) {
		mustUpdate(t, s, func(t tx) error {
			return errors.Join(t.Put(spaceState, []byte("a"), noise(r, 400)), t.Put(spaceRecord, keyOf(i+1), noise(r, 3900)))
		})
	}
	check(t, s.Trim())
	check(t, s.Close())
	check(t, f.walk(f.path("1.seg"), false))
	file, err := os.ReadFile(f.path("1.seg"))
	check(t, err)
	return file
}

// TestDisk_DamagedPagesEndNoProcess: bbolt reads a file that is to be continued
// in a goroutine nobody guards. Whatever bytes are wrong, such a file is
// refused, or it is one that can be continued and read.
func TestDisk_DamagedPagesEndNoProcess(t *testing.T) {
	t.Parallel()
	f := testFolder(t)
	file := sampleSegment(t, f)
	r := rand.New(rand.NewPCG(2, 2))
	rounds, refused := 300, 0
	if testing.Short() {
		rounds = 60
	}
	for round := range rounds {
		hurt := append([]byte(nil), file...)
		page := hurt[r.IntN(len(hurt)/pageBytes)*pageBytes:][:pageBytes]
		switch at := r.IntN(200); round % 5 {
		case 0:
			page[at] ^= 1 << r.IntN(8)
		case 1:
			page[at] = byte(r.Uint32())
		case 2: // a child, or what looks like one: another page, perhaps its own ancestor
			binary.NativeEndian.PutUint64(page[pageHeader+8+16*r.IntN(4):], uint64(r.IntN(len(hurt)/pageBytes)))
		case 3:
			copy(page, hurt[r.IntN(len(hurt)/pageBytes)*pageBytes:][:pageBytes])
		case 4:
			clear(page)
		}
		check(t, os.WriteFile(f.path("1.seg"), hurt, 0o600))
		s, err := f.Open("1.seg", modeAppend)
		if err != nil {
			if !errors.Is(err, errDamaged) {
				t.Fatalf("round %d: %v", round, err)
			}
			refused++
			continue
		}
		err = s.View(func(x tx) error {
			x.Scan(spaceRecord, nil, func(_, _ []byte) bool { return true })
			return nil
		})
		if err != nil && !errors.Is(err, errDamaged) {
			t.Errorf("round %d: %v", round, err)
		}
		if err == nil {
			check(t, s.Close())
		}
	}
	if refused == 0 || refused == rounds {
		t.Errorf("%d of %d damaged files were refused", refused, rounds)
	}
}

// TestDisk_RootInACircleIsRefused: bbolt would walk it until the stack ends.
func TestDisk_RootInACircleIsRefused(t *testing.T) {
	t.Parallel()
	f := testFolder(t)
	file := sampleSegment(t, f)
	var root uint64
	s := mustSegment(t, f, modeRead)
	check(t, s.db.View(func(x *bbolt.Tx) error {
		root = uint64(x.Bucket([]byte(spaceRecord)).Root())
		return nil
	}))
	check(t, s.Close())
	branch := file[root*pageBytes:][:pageBytes]
	if flagsOf(branch) != branchFlag {
		t.Fatal("the records have no branch")
	}
	binary.NativeEndian.PutUint64(branch[pageHeader+8:], root)
	check(t, os.WriteFile(f.path("1.seg"), file, 0o600))
	if _, err := f.Open("1.seg", modeAppend); !errors.Is(err, errDamaged) {
		t.Errorf("it is opened: %v", err)
	}
}
