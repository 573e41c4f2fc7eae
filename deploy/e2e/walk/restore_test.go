package walk

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"testing"

	"plantmesh/cloud/store"
	"plantmesh/proto/mesh"
)

// restoreHub puts what the hub keeps back to a copy that was made before.
func (w *walk) restoreHub(folder string) {
	w.stopHub()
	for _, name := range []string{"hub.db", "hub.db-wal", "hub.db-shm", "history"} {
		w.check(os.RemoveAll(filepath.Join(w.dir, name)))
		if err := os.Rename(filepath.Join(folder, name), filepath.Join(w.dir, name)); !errors.Is(err, fs.ErrNotExist) {
			w.check(err)
		}
	}
	w.startHub()
	w.connect()
}

// putBackSometimes copies the hub at some events, and puts it back to the copy
// when it has gone on for a while.
func (w *walk) putBackSometimes() {
	const every, copies, restores = 250, 100, 240
	switch at := w.events % every; {
	case w.faults["put back"] == w.putBack:
	case at == copies:
		w.compact()
		w.copied = w.copyHub()
	case at == restores && w.copied != "":
		w.restoreHub(w.copied)
		w.copied = ""
		w.faults["put back"]++
	}
}

// copyHub copies what the hub keeps.
func (w *walk) copyHub() (folder string) {
	folder = w.t.TempDir()
	_, err := store.Copy(w.ctx, filepath.Join(w.dir, "hub.db"), folder, w.quiet)
	w.check(err)
	return folder
}

// content are the rows of a product as a consumer sees them, without what says
// when and as which revision they were made.
func (w *walk) content(product string) (out []mesh.Row) {
	for _, r := range w.rows(product) {
		r.At, r.Produced, r.Revision = mesh.Position{}, 0, 0
		out = append(out, r)
	}
	return out
}

// TestWalk_RestoredHub walks one plant twice, once with a hub that is put back to
// a copy, three times, with chunks in it: the rows are those of the plant, and the
// same to the bit.
func TestWalk_RestoredHub(t *testing.T) {
	whole(t)
	const seed = 3
	x := newWorld(t, seed, 3)
	var content [2]map[string][]mesh.Row
	for i, restored := range []bool{false, true} {
		t.Run("put back "+strconv.FormatBool(restored), func(t *testing.T) {
			p := plan{seed: seed}
			if restored {
				p.putBack = 3
			}
			w := newWalk(t, p, x)
			w.run()
			if f := w.compare(); !f.ok() || w.faults["put back"] != p.putBack {
				t.Errorf("%s; put back %d times of %d", f, w.faults["put back"], p.putBack)
			}
			content[i] = map[string][]mesh.Row{}
			for _, p := range []string{"equipment-state", "production-rate", "oee", "coverage"} {
				content[i][p] = w.content(p)
			}
		})
	}
	for p, rows := range content[0] {
		if len(rows) == 0 && p != "coverage" || !reflect.DeepEqual(rows, content[1][p]) {
			t.Errorf("%s: %d rows, and %d where the hub was put back", p, len(rows), len(content[1][p]))
		}
	}
}
