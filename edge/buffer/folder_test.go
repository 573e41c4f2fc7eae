package buffer

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

func TestOpen_AnotherAgentsFolderIsRefused(t *testing.T) {
	t.Parallel()
	cfg := testConfig(t.TempDir())
	b := mustOpen(t, cfg)
	fill(t, b, 2)
	was := len(positions(t, all(t, b)))
	mustClose(t, b)
	renamed := cfg
	renamed.Log = "agent/graz/gw-2"
	_, err := Open(renamed, quiet())
	if !errors.Is(err, ErrForeign) || !errors.Is(err, ErrFolder) {
		t.Fatalf("got %v", err)
	}
	for _, part := range []string{"belongs to agent/graz/gw-1", "agent/graz/gw-2", "give that name back or use another data folder"} {
		if !strings.Contains(err.Error(), part) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%q does not say %q in one line", err, part)
		}
	}
	b = mustOpen(t, cfg)
	if n := len(positions(t, all(t, b))); n != was {
		t.Errorf("%d of %d batches with the old name", n, was)
	}
}

func TestOpen_AnotherAgentsSegmentAmongOursIsLeftAlone(t *testing.T) {
	t.Parallel()
	cfg, other := testConfig(t.TempDir()), testConfig(t.TempDir())
	other.Log = "agent/graz/gw-2"
	b := mustOpen(t, cfg)
	fill(t, b, 2)
	was := len(positions(t, all(t, b)))
	o := mustOpen(t, other)
	fill(t, o, 5)
	mustClose(t, o)
	mustClose(t, b)
	file, err := os.ReadFile(segments(t, other.Dir)[4])
	check(t, err)
	stray := filepath.Join(cfg.Dir, filepath.Base(segments(t, other.Dir)[4]))
	check(t, os.WriteFile(stray, file, 0o600))
	b = mustOpen(t, cfg)
	rs := all(t, b)
	if n := len(positions(t, rs)); n != was || len(voidsOf(t, rs)) != 0 {
		t.Errorf("%d of %d batches, voids %+v", n, was, voidsOf(t, rs))
	}
	if _, err := os.Stat(stray); err != nil {
		t.Error(err)
	}
}

func TestOpen_FolderThatCannotBeUsed(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	check(t, os.WriteFile(file, nil, 0o600))
	used := mustOpen(t, testConfig(filepath.Join(dir, "used")))
	defer mustClose(t, used)
	cases := map[string]string{file: "is no folder", filepath.Join(file, "below"): "is no folder", filepath.Join(dir, "used"): "stop that one"}
	if os.Getuid() != 0 {
		closed := filepath.Join(dir, "closed")
		check(t, os.Mkdir(closed, 0o500))
		cases[closed] = "may not write"
	}
	for path, words := range cases {
		_, err := Open(testConfig(path), quiet())
		if !errors.Is(err, ErrFolder) || !strings.Contains(err.Error(), words) {
			t.Errorf("%s: %v, want %q", path, err, words)
		}
	}
}

func TestOpen_ReadOnlyFileSystem(t *testing.T) {
	t.Parallel()
	dir := tmpfs(t, "4m")
	cfg := testConfig(filepath.Join(dir, "buffer"))
	mustClose(t, mustOpen(t, cfg))
	check(t, syscall.Mount("", dir, "", syscall.MS_REMOUNT|syscall.MS_RDONLY, ""))
	_, err := Open(cfg, quiet())
	if !errors.Is(err, ErrFolder) || !strings.Contains(err.Error(), "read-only file system; mount it for writing") {
		t.Errorf("got %v", err)
	}
}
