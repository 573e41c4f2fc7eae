package buffer

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// tmpfs is a small file system of its own.
func tmpfs(t *testing.T, size string) string {
	t.Helper()
	dir := t.TempDir()
	if os.Getuid() != 0 {
		if strings.Contains(os.Getenv("PLANTMESH_REQUIRE"), "root") {
			t.Fatal("only root may mount the small file system this needs, and PLANTMESH_REQUIRE asks for it")
		}
		t.Skip("skipped: only root may mount the small file system this needs")
	}
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size="+size); err != nil {
		t.Skipf("skipped: the small file system this needs can't be mounted here: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// stuff fills the file system to its last byte, and returns how to free it.
func stuff(t *testing.T, dir string) (free func()) {
	t.Helper()
	path := filepath.Join(dir, "others")
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	check(t, err)
	block := make([]byte, 64<<10)
	for len(block) > 0 {
		if _, err := f.Write(block); err != nil {
			if !errors.Is(err, syscall.ENOSPC) {
				t.Fatal(err)
			}
			block = block[:len(block)/2]
		}
	}
	check(t, f.Close())
	if n, _, err := diskBytes(dir); err != nil || n != 0 {
		t.Fatalf("%d bytes are free, %v", n, err)
	}
	return func() { check(t, os.Remove(path)) }
}

// TestBuffer_ComesUpOnAFullDisk: others have taken the last byte, and the agent
// is started again and again. What was received goes; what was not is sent.
func TestBuffer_ComesUpOnAFullDisk(t *testing.T) {
	unwatched(t)
	t.Parallel()
	for name, c := range map[string]struct {
		received, noReserve bool
		segments            int
	}{
		"all received":                 {received: true, segments: 3},
		"one segment, received":        {received: true, segments: 1},
		"nothing received":             {segments: 3},
		"one segment, not received":    {segments: 1},
		"nothing received, no reserve": {segments: 3, noReserve: true},
		"received, no reserve":         {received: true, segments: 3, noReserve: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := tmpfs(t, "12m")
			cfg := testConfig(filepath.Join(dir, "buffer"))
			b := mustOpen(t, cfg)
			fill(t, b, c.segments)
			h, hub := newHub(), account(t, all(t, b))
			want := positions(t, all(t, b))
			if c.received {
				mustAck(t, b, h.receipt(b.End()))
			}
			cutPower(t, b)
			if c.noReserve {
				check(t, os.Remove(filepath.Join(cfg.Dir, "reserve")))
			}
			free := stuff(t, dir)
			for range 12 {
				b = mustOpen(t, cfg)
				rs := all(t, b)
				got := positions(t, rs)
				for p := range want {
					if !c.received && !got[p] {
						t.Fatalf("%s is gone", p)
					}
				}
				for _, r := range rs {
					add(t, hub, r)
				}
				mustClose(t, b)
				stuff(t, dir) // what was given back, others take
			}
			b = mustOpen(t, cfg)
			for _, r := range all(t, b) {
				add(t, hub, r)
			}
			if hub.Set.Through != b.End() {
				t.Errorf("the hub ends at %s, the log at %s", hub.Set.Through, b.End())
			}
			mustAck(t, b, h.receipt(b.End()))
			free()
			p := mustAppend(t, b, offer(t, "a", 1<<44, 1000))
			if !positions(t, all(t, b))[p] {
				t.Error("the log does not go on")
			}
			mustAck(t, b, h.receipt(b.End()))
			if n := b.reserve.held(); n != b.reserve.size {
				t.Errorf("%d of %d bytes are held back again", n, b.reserve.size)
			}
			if v := voidsOf(t, all(t, b)); len(v) != 0 {
				t.Errorf("voids %+v", v)
			}
		})
	}
}
