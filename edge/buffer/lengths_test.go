package buffer

import (
	"encoding/binary"
	"os"
	"testing"

	"go.etcd.io/bbolt"

	"plantmesh/proto/mesh"
)

// TestDisk_LengthsOfADamagedPageAreNotCopied: a length in a page is four bytes,
// and one bit of it may ask for gigabytes. Not parallel: memory is counted.
func TestDisk_LengthsOfADamagedPageAreNotCopied(t *testing.T) {
	for name, c := range map[string]struct {
		bit    int // place in an element
		spaces []space
		aside  int
	}{
		"key":    {11, []space{spaceRecord, spaceWide}, 1}, // where the value begins is not known either
		"value":  {15, []space{spaceRecord, spaceWide}, 0},
		"bucket": {15, nil, 1},
	} {
		cfg := testConfig(quickDir(t))
		b := mustOpen(t, cfg)
		for i := range mesh.Nanos(3) {
			o := offer(t, "a", i<<30, 2000)
			o.State = make([]byte, 3000)
			mustAppend(t, b, o)
		}
		end := b.End()
		mustClose(t, b)
		path := segments(t, cfg.Dir)[0]
		file, err := os.ReadFile(path)
		check(t, err)
		pages := []uint64{rootOf(t, path)}
		if c.spaces != nil {
			pages = nil
		}
		for _, s := range c.spaces {
			pages = append(pages, leaves(t, path, s)...)
		}
		for _, page := range pages {
			p := file[page*pageBytes:][:pageBytes]
			for i := range int(binary.NativeEndian.Uint16(p[10:])) {
				p[pageHeader+leafElement*i+c.bit] ^= 0x30
			}
		}
		check(t, os.WriteFile(path, file, 0o600))
		took := allocated(func() {
			b = mustOpen(t, cfg)
			if rs := all(t, b); positions(t, rs)[end] {
				t.Errorf("%s: a record with such a length is read", name)
			}
		})
		if n := asideCount(t, cfg.Dir); n != c.aside {
			t.Errorf("%s: %d segments are set aside, want %d", name, n, c.aside)
		}
		if took > 32<<20 {
			t.Errorf("%s: reading it takes %d MiB", name, took>>20)
		}
	}
}

// rootOf is the page that names the spaces.
func rootOf(t *testing.T, path string) (id uint64) {
	t.Helper()
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{ReadOnly: true})
	check(t, err)
	check(t, db.View(func(x *bbolt.Tx) error {
		id = uint64(x.Cursor().Bucket().Root())
		return nil
	}))
	check(t, db.Close())
	return id
}
