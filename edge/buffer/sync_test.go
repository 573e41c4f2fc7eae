package buffer

import (
	"os"
	"path/filepath"
	"runtime"
	"testing"
)

// unsyncable is a directory that can't be synced: who doesn't try, doesn't
// notice. /dev/null is such a file.
const unsyncable = "/proc"

// TestDisk_SegmentsSync: bbolt syncs each commit unless it is told not to.
func TestDisk_SegmentsSync(t *testing.T) {
	f := folder{dir: t.TempDir(), size: 1 << 20}
	for _, how := range []mode{modeCreate, modeAppend} {
		s, err := f.Open("1.seg", how)
		if err != nil {
			t.Fatal(err)
		}
		if db := s.(*boltSegment).db; db.NoSync || db.NoGrowSync { //nolint:forcetypeassert // folder has no others
			t.Errorf("mode %d: NoSync %t, NoGrowSync %t: a commit is not durable", how, db.NoSync, db.NoGrowSync)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if o := f.options(false); o.NoSync || o.NoGrowSync {
		t.Error("a new segment is made without a sync")
	}
}

// TestDisk_SaysWhatItCouldNotSync: every change of names is synced before the
// call returns, so it fails where nothing can be synced.
func TestDisk_SaysWhatItCouldNotSync(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("needs /proc, a directory that can't be synced")
	}
	if err := syncDir(unsyncable); err == nil {
		t.Error("syncDir does not sync")
	}
	f := folder{dir: unsyncable, size: 1 << 20}
	if err := f.Remove("9.seg"); err == nil {
		t.Error("Remove does not sync the directory")
	}
	if err := f.SetAside("9.seg"); err == nil {
		t.Error("SetAside does not sync the directory")
	}
	elsewhere, err := filepath.Rel(unsyncable, filepath.Join(t.TempDir(), "9.seg"))
	if err != nil {
		t.Fatal(err)
	}
	if s, err := f.Open(elsewhere, modeCreate); err == nil {
		t.Error("Open does not sync the directory of a new segment")
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
	if err := writeSynced(os.DevNull, os.O_WRONLY, []byte("note\n")); err == nil {
		t.Error("writeSynced does not sync")
	}
}
