package host

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"
)

func TestReadMemory(t *testing.T) {
	dir := t.TempDir()
	put := func(path, text string) {
		t.Helper()
		if err := errors.Join(os.MkdirAll(filepath.Dir(filepath.Join(dir, path)), 0o700), os.WriteFile(filepath.Join(dir, path), []byte(text), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	put("proc/meminfo", "MemTotal:  1000 kB\nMemFree: 1 kB\nMemAvailable:  800 kB\nHugePages_Total: 0\n")
	for _, c := range []struct {
		name, cgroup, most string
		left               int64
	}{
		{"no control groups", "", "", 800 << 10},
		{"the first version of them", "3:memory:/x\n", "", 800 << 10},
		{"without a bound", "0::/unit\n", "max\n", 800 << 10},
		{"with a bound", "0::/unit\n", "102400\n", 102400 - 2400},
	} {
		if c.cgroup != "" {
			put("proc/self/cgroup", c.cgroup)
			put("groups/unit/memory.max", c.most)
			put("groups/unit/memory.current", "2400\n")
		}
		m, err := readMemory(filepath.Join(dir, "proc"), filepath.Join(dir, "groups"))
		if err != nil || m.Left() != c.left {
			t.Errorf("%s: %+v, %d left, %v", c.name, m, m.Left(), err)
		}
	}
	if _, err := readMemory(dir, dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("without /proc: %v", err)
	}
}

func TestSyncs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir, n := t.TempDir(), 0
		took, err := Syncs(t.Context(), dir, 50, func(*os.File) error {
			if n++; n == 7 {
				<-time.After(time.Second)
			}
			return nil
		})
		if err != nil || len(took) != 50 || took[49] != time.Second || took[48] != 0 {
			t.Errorf("%v, %v", took, err)
		}
		if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
			t.Errorf("it leaves %v, %v", left, err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 3500*time.Millisecond)
		defer cancel()
		took, err = Syncs(ctx, dir, 50, func(*os.File) error { <-time.After(time.Second); return nil })
		if err != nil || len(took) != 4 {
			t.Errorf("a slow disk: %v, %v", took, err)
		}
	})
	if _, err := Syncs(t.Context(), filepath.Join(t.TempDir(), "none"), 1, nil); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no folder: %v", err)
	}
}

func TestOfThisMachine(t *testing.T) {
	dir := t.TempDir()
	d, err := ReadDisk(Existing(filepath.Join(dir, "a", "b")))
	if errors.Is(err, errors.ErrUnsupported) {
		t.Skip("not of this system")
	}
	if err != nil || d.Size <= 0 || d.Free <= 0 || d.Free > d.Size || d.ReadOnly {
		t.Errorf("%+v, %v", d, err)
	}
	if uid, err := Owner(dir); err != nil || int(uid) != os.Getuid() {
		t.Errorf("%d, %v", uid, err)
	}
	if m, err := ReadMemory(); err != nil || m.Left() <= 0 || m.Left() > m.Total {
		t.Errorf("%+v, %v", m, err)
	}
	if n, err := Files(); err != nil || n == 0 {
		t.Errorf("%d, %v", n, err)
	}
	if _, err := ReadClock(); err != nil {
		t.Error(err)
	}
	file := filepath.Join(dir, "f")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if m, err := Open(file); err != nil || m != 0 {
		t.Errorf("%v, %v", m, err)
	}
	if err := os.Chmod(file, 0o644); err != nil {
		t.Fatal(err)
	}
	if m, err := Open(file); err != nil || m != 0o044 {
		t.Errorf("%v, %v", m, err)
	}
}

// Nobody is led elsewhere: a link, or another name of a file, is left alone.
func TestShut(t *testing.T) {
	dir := t.TempDir()
	in := func(name string) string { return filepath.Join(dir, name) }
	err := errors.Join(os.WriteFile(in("plain"), nil, 0o600), os.WriteFile(in("target"), nil, 0o600), os.WriteFile(in("twin"), nil, 0o600), os.Mkdir(in("folder"), 0o700),
		os.Symlink(in("target"), in("link")), os.Link(in("twin"), in("other")), os.Symlink(in("folder"), in("way")), os.WriteFile(in("folder/inner"), nil, 0o600), os.Chmod(in("folder/inner"), 0o755))
	for _, name := range []string{"plain", "target", "twin", "folder"} {
		err = errors.Join(err, os.Chmod(in(name), 0o755))
	}
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]fs.FileMode{"plain": 0o750, "folder": 0o750, "link": 0o755, "other": 0o755, "none": 0, "way/inner": 0o755} {
		err := Shut(in(name))
		if (err == nil) != (want == 0o750) {
			t.Errorf("%s: %v", name, err)
		}
		if info, err := os.Stat(in(name)); want != 0 && (err != nil || info.Mode().Perm() != want) {
			t.Errorf("%s: %v, %v, want %o", name, info.Mode(), err, want)
		}
	}
}
