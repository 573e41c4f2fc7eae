package store

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"plantmesh/proto/mesh"
)

// smallDisk is a file system of its own.
func smallDisk(t *testing.T, size string) string {
	t.Helper()
	dir := t.TempDir()
	err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size="+size)
	if err != nil && strings.Contains(os.Getenv("PLANTMESH_REQUIRE"), "root") {
		t.Fatalf("the small file system this needs can't be mounted, and PLANTMESH_REQUIRE asks for it: %v", err)
	} else if err != nil {
		t.Skipf("skipped: the small file system this needs can't be mounted here: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// Others have taken the last byte: days are dropped all the same, and then the
// hub takes again.
func TestRetain_OnAFullDisk(t *testing.T) {
	dir := smallDisk(t, "24m")
	sc := newScene(t, 1)
	sc.path, sc.m = filepath.Join(dir, "hub.db"), newMaker(t)
	sc.reopen()
	sc.end = take(t, sc.s, openLog(t, sc.s).End, sc.m, sc.m.opening())
	for i := range mesh.Nanos(9) {
		sc.now = noon + i*mesh.Nanos(dayNanos)
		sc.stamped(sc.now)
		sc.compact(sc.end, 0)
	}
	sc.retain(Retention{Keep: 8 * 24 * time.Hour, Least: 24 * time.Hour})
	fill(t, dir)
	if _, err := sc.s.Take(t.Context(), mesh.Take{After: sc.end, Entries: []mesh.Entry{sc.m.batch("a", noon)}}); err == nil {
		t.Fatal("the disk is not full")
	}
	sc.m.at.Seq-- // nothing was taken
	sc.reopen()
	if got := sc.retain(Retention{Keep: 3 * 24 * time.Hour, Least: 24 * time.Hour}); len(got.Days) < 4 {
		t.Errorf("%+v", got)
	}
	sc.stamped(sc.now + 5)
	sc.compact(sc.end, 0)
	if got := sc.history("a", mesh.Span{From: sc.now, To: sc.now + 9}); len(got) != 2 {
		t.Errorf("%d samples", len(got))
	}
}

// fill takes the last byte of a file system.
func fill(t *testing.T, dir string) {
	t.Helper()
	others, err := os.Create(filepath.Join(dir, "others"))
	if err != nil {
		t.Fatal(err)
	}
	for block := make([]byte, 64<<10); len(block) > 0; {
		if _, err := others.Write(block); errors.Is(err, syscall.ENOSPC) {
			block = block[:len(block)/2]
		} else if err != nil {
			t.Fatal(err)
		}
	}
	if err := others.Close(); err != nil {
		t.Fatal(err)
	}
}

// A day is not merged where the disk has too little space, or runs full
// meanwhile: it stays, nothing lies beside it, and it is merged later.
func TestMerge_OnAFullDisk(t *testing.T) {
	for _, meanwhile := range []bool{false, true} {
		dir := smallDisk(t, "100m")
		sc := newScene(t, 1)
		sc.path, sc.m, sc.of = filepath.Join(dir, "hub.db"), newMaker(t), nil
		sc.reopen()
		sc.end = take(t, sc.s, openLog(t, sc.s).End, sc.m, sc.m.opening())
		sc.passes(fewPasses + 4)
		want := sc.snapshot(sc.someSpans())
		if meanwhile {
			sc.s.halt = func(stage string) error {
				if stage == "merge listed" {
					fill(t, dir)
				}
				return nil
			}
		} else {
			fill(t, dir)
		}
		for range 2 {
			_, err := sc.s.Merge(t.Context(), sc.now+mesh.Nanos(3*dayNanos))
			if !meanwhile && !errors.Is(err, ErrNoSpace) || meanwhile && codeOf(err) != codeFull {
				t.Fatalf("meanwhile %v: %v", meanwhile, err)
			}
			sc.mustHaveNothingBeside()
			sc.mustBe(want, "on a full disk")
			if !meanwhile {
				continue
			}
			if err := os.Remove(filepath.Join(dir, "others")); err != nil {
				t.Fatal(err)
			}
		}
		sc.s.halt = nil
		if err := os.Remove(filepath.Join(dir, "others")); err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
		if days := sc.merge(); len(days) == 0 {
			t.Error("it is never merged")
		}
		sc.mustBe(want, "merged")
	}
}
