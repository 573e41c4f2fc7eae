package buffer

import (
	"bytes"
	"os"
	"testing"
	"time"
)

// cached is a file whose last written page never reached the medium: reads are
// answered by the kernel, writes go to the medium.
type cached struct{ *os.File }

func (c cached) WriteAt(p []byte, at int64) (int, error) {
	medium, err := os.OpenFile(c.Name()+".medium", os.O_WRONLY, 0)
	if err != nil {
		return 0, err
	}
	n, err := medium.WriteAt(p, at)
	if err == nil {
		err = medium.Close()
	}
	return n, err
}

// TestDisk_WhatIsContinuedIsDurable: the page that names the root of the last
// commit, of which a sync failed, is written once more before anybody is told.
func TestDisk_WhatIsContinuedIsDurable(t *testing.T) {
	t.Parallel()
	f := testFolder(t)
	path := f.path("1.seg")
	s := mustSegment(t, f, modeCreate)
	for n := range uint64(4) { // the two pages take turns
		before, err := os.ReadFile(path)
		check(t, err)
		mustUpdate(t, s, func(x tx) error { return x.Put(spaceRecord, keyOf(n+1), []byte("told the device")) })
		after, err := os.ReadFile(path)
		check(t, err)
		medium := append(bytes.Clone(before[:2*pageBytes]), after[2*pageBytes:]...)
		check(t, os.WriteFile(path+".medium", medium, 0o600))
		if reads(t, f, "1.seg.medium", n+1) {
			t.Fatal("the commit is on the medium without the page that names its root")
		}
		file, err := os.Open(path)
		check(t, err)
		check(t, renew(s.db, cached{file}))
		check(t, file.Close())
		if !reads(t, f, "1.seg.medium", n+1) {
			t.Errorf("commit %d reads back, and a power loss would take it", n+1)
		}
	}
	check(t, s.Close())
	long := time.Unix(1_000_000_000, 0)
	for how, written := range map[mode]bool{modeRead: false, modeAppend: true} {
		check(t, os.Chtimes(path, long, long))
		check(t, mustSegment(t, f, how).Close())
		info, err := os.Stat(path)
		check(t, err)
		if info.ModTime().Equal(long) == written {
			t.Errorf("opened in mode %d the file was last written %v", how, info.ModTime())
		}
	}
}

// reads reports whether a record is there when the file is opened.
func reads(t *testing.T, f folder, name string, i uint64) (there bool) {
	t.Helper()
	s, err := f.Open(name, modeRead)
	check(t, err)
	check(t, s.View(func(x tx) error {
		there = x.Get(spaceRecord, keyOf(i)) != nil
		return nil
	}))
	check(t, s.Close())
	return there
}
