package buffer

import (
	"encoding/binary"
	"slices"
	"testing"

	"go.etcd.io/bbolt"

	"plantmesh/proto/mesh"
)

// TestBuffer_ASkipThatIsDamagedSkipsNothing: else a good record would be passed
// over, and nobody would say so. Skips of before had no checksum: the catalogue
// must know of them too.
func TestBuffer_ASkipThatIsDamagedSkipsNothing(t *testing.T) {
	t.Parallel()
	for what, change := range map[string]func(key, value []byte) (k, v []byte){
		"nothing":               func(k, v []byte) ([]byte, []byte) { return k, v },
		"of before":             func(k, _ []byte) ([]byte, []byte) { return k, []byte{1} },
		"another bit":           func(k, v []byte) ([]byte, []byte) { k[7] ^= 1; return k, v },
		"of before, a bit more": func(k, _ []byte) ([]byte, []byte) { k[7] ^= 1; return k, []byte{1} },
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			cfg := testConfig(quickDir(t))
			b := mustOpen(t, cfg)
			var at []mesh.Position
			for i := range mesh.Nanos(6) {
				at = append(at, mustAppend(t, b, offer(t, "a", (i+1)<<30, 10)))
			}
			check(t, b.Quarantine(at[2], "the reader can't take it"))
			mustClose(t, b)
			hurt := false
			reskip(t, segments(t, cfg.Dir)[0], func(k, v []byte) ([]byte, []byte) {
				was := binary.BigEndian.Uint64(k)
				k, v = change(k, v)
				hurt = indexOf(k) != was
				return k, v
			})
			for range 2 {
				b = mustOpen(t, cfg)
				got := positions(t, all(t, b))
				for i, p := range at {
					if want := i != 2 || hurt; got[p] != want {
						t.Errorf("batch %d is read: %v, want %v", i, got[p], want)
					}
				}
				mustClose(t, b)
			}
		})
	}
}

// reskip changes the only skip of a segment.
func reskip(t *testing.T, path string, change func(key, value []byte) (k, v []byte)) {
	t.Helper()
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{NoFreelistSync: true})
	check(t, err)
	check(t, db.Update(func(x *bbolt.Tx) error {
		s := x.Bucket([]byte(spaceSkip))
		k, v := s.Cursor().First()
		k, v = slices.Clone(k), slices.Clone(v)
		if err := s.Delete(k); err != nil {
			return err
		}
		return s.Put(change(k, v))
	}))
	check(t, db.Close())
}
