package bench

import (
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// blocks are the bytes a file takes on disk: stat(2) counts in 512 bytes.
func blocks(info fs.FileInfo) int64 {
	if s, ok := info.Sys().(*syscall.Stat_t); ok {
		return s.Blocks * 512
	}
	return info.Size()
}

// device is a small disk of its own: an ext4 in a file behind a loop device,
// so that nothing else on the machine counts.
type device struct{ dir, stat string }

// newDevice makes and mounts one; it needs root.
func newDevice(t *testing.T, size int64) *device {
	t.Helper()
	giveUp := func(why string) {
		t.Helper()
		if requires("root") {
			t.Fatal(why)
		}
		t.Skip("skipped: " + why)
	}
	if _, err := os.Stat("/dev/loop-control"); err != nil {
		t.Skip("skipped: this kernel has no loop devices, and the disk whose counters this reads is one")
	}
	if os.Getuid() != 0 {
		giveUp("only root may set up the disk whose counters this reads")
	}
	for _, tool := range []string{"losetup", "mkfs.ext4", "mount", "umount"} {
		if _, err := exec.LookPath(tool); err != nil {
			giveUp("the disk whose counters this reads needs " + tool)
		}
	}
	dir := t.TempDir()
	image, mount := filepath.Join(dir, "image"), filepath.Join(dir, "mount")
	f, err := os.Create(image)
	if err == nil {
		err = f.Truncate(size)
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	run := func(name string, args ...string) (string, error) {
		out, err := exec.Command(name, args...).CombinedOutput()
		return strings.TrimSpace(string(out)), err
	}
	loop, err := run("losetup", "--find", "--show", image)
	if err != nil {
		giveUp("no loop device can be set up here: " + loop)
	}
	t.Cleanup(func() {
		if out, err := run("losetup", "--detach", loop); err != nil {
			t.Errorf("detach: %s, %v", out, err)
		}
	})
	// Tables written at once: else the kernel goes on writing them for minutes.
	if out, err := run("mkfs.ext4", "-q", "-E", "lazy_itable_init=0,lazy_journal_init=0", loop); err != nil {
		t.Fatalf("%s, %v", out, err)
	}
	if err := os.Mkdir(mount, 0o700); err != nil {
		t.Fatal(err)
	}
	// Without commit=600 the journal goes out every 5 s beside what is synced: then
	// the figure would say how slow the machine is.
	if out, err := run("mount", "-o", "commit=600", loop, mount); err != nil {
		giveUp("the disk can't be mounted here: " + out)
	}
	t.Cleanup(func() {
		if out, err := run("umount", mount); err != nil {
			t.Errorf("unmount: %s, %v", out, err)
		}
	})
	return &device{dir: mount, stat: filepath.Join("/sys/block", filepath.Base(loop), "stat")}
}

// written is what the device was given to write so far, in bytes, and how
// often it was asked to flush (Documentation/block/stat.rst: sectors of 512
// bytes, whatever the device's are).
func (d *device) written(t *testing.T) (bytes, flushes int64) {
	t.Helper()
	raw, err := os.ReadFile(d.stat)
	if err != nil {
		t.Fatal(err)
	}
	f := strings.Fields(string(raw))
	if len(f) < 16 {
		t.Fatalf("%s has %d fields", d.stat, len(f))
	}
	sectors, err := strconv.ParseInt(f[6], 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	if flushes, err = strconv.ParseInt(f[15], 10, 64); err != nil {
		t.Fatal(err)
	}
	return sectors * 512, flushes
}

// TestBench_BufferFlash: what the device is given to write per value, from the
// first byte of the folder on: what flash wears from. Windows of 1 s, committed
// without waiting for the second to pass. What the file system's own journal
// adds every five seconds is left out; edge/DESIGN.md 19 has it.
func TestBench_BufferFlash(t *testing.T) {
	seconds := 200
	if full() {
		seconds = 600
	}
	for _, c := range []struct {
		name    string
		signals int
		bar     float64
	}{{"buffer_flash_1k", 1000, 40}, {"buffer_flash_5k", 5000, 20}} {
		set := windows(synthetic(c.signals, seconds), 1)
		d := newDevice(t, 1<<30)
		was, flushed := d.written(t)
		r := newRig(t, filepath.Join(d.dir, "buffer"), c.signals, 64<<20)
		for i := range set {
			r.step(t, &set[i])
		}
		now, flushes := d.written(t)
		report(t, row{name: c.name, value: float64(now-was) / float64(r.values), unit: "B/value", bar: c.bar})
		t.Logf("%d commits, %.1f KiB and %.2f flushes each", len(set), float64(now-was)/float64(len(set))/1024, float64(flushes-flushed)/float64(len(set)))
	}
}
