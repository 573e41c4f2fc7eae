package agent

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// Of a key that finds no space nothing is left: half of one would be in the way of the next
// try.
func TestKeygen_OnAFullDisk(t *testing.T) {
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=4k"); err != nil { // only root may
		if strings.Contains(os.Getenv("PLANTMESH_REQUIRE"), "root") {
			t.Fatalf("no disk can be mounted here: %v", err)
		}
		t.Skipf("skipped: no disk can be mounted here: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	fill, key := filepath.Join(dir, "fill"), filepath.Join(dir, "agent.nk")
	if err := os.WriteFile(fill, make([]byte, 4096), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := Keygen(key)
	if _, there := os.Stat(key); err == nil || !strings.Contains(err.Error(), "no space left") || !errors.Is(there, fs.ErrNotExist) {
		t.Errorf("on a full disk: %v, the key's file: %v", err, there)
	}
	if err := os.Remove(fill); err != nil {
		t.Fatal(err)
	}
	if _, err := Keygen(key); err != nil {
		t.Errorf("once there is space: %v", err)
	}
}
