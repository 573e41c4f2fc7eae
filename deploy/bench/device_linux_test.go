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

	"golang.org/x/sys/unix"
)

// blocks are the bytes a file takes on disk: stat(2) counts in 512 bytes.
func blocks(info fs.FileInfo) int64 {
	if s, ok := info.Sys().(*syscall.Stat_t); ok {
		return s.Blocks * 512
	}
	return info.Size()
}

// dataSync makes a file's bytes durable, and of what is said about it only what
// is needed to read them.
func dataSync(f *os.File) error { return unix.Fdatasync(int(f.Fd())) }

// device is a small disk of its own: an ext4 in a file behind a loop device,
// so that nothing else on the machine counts.
type device struct{ dir, stat string }

// newDevice makes and mounts one; it needs root. nil: root is asked for, and this
// kernel has no loop devices whoever asks.
func newDevice(t *testing.T, size int64) *device {
	t.Helper()
	giveUp := func(why string) {
		t.Helper()
		if requires("root") {
			t.Fatal(why + ", and PLANTMESH_REQUIRE asks for it")
		}
		t.Skip("skipped: " + why)
	}
	if _, err := os.Stat("/dev/loop-control"); err != nil {
		if requires("root") {
			return nil
		}
		giveUp("this kernel has no loop devices, and the disk whose counters this reads is one")
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
	measured(t)
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
		if d == nil {
			r := newRig(t, filepath.Join(t.TempDir(), "buffer"), c.signals, 64<<20)
			r.steps(t, set)
			report(t, row{name: c.name, value: float64(r.buffer.Stats().Commits.Written) / float64(r.values), unit: "B/value", bar: c.bar})
			t.Log("no loop devices here: counted by the buffer itself, so without what the file system adds")
			continue
		}
		was, flushed := d.written(t)
		r := newRig(t, filepath.Join(d.dir, "buffer"), c.signals, 64<<20)
		r.steps(t, set)
		now, flushes := d.written(t)
		grows, there := d.floor(t, r.frames(t), false), d.floor(t, r.frames(t), true)
		n := float64(r.values)
		report(t, row{name: c.name, value: float64(now-was) / n, unit: "B/value", bar: c.bar, floor: float64(min(grows, there)) / n})
		t.Logf("%d commits, %.1f KiB and %.2f flushes each; a plain file that grows takes %.1f KiB, one that is there %.1f KiB",
			len(set), float64(now-was)/float64(len(set))/1024, float64(flushes-flushed)/float64(len(set)), float64(grows)/float64(len(set))/1024, float64(there)/float64(len(set))/1024)
	}
}

// floor is what the device is given for the same commits behind one another in a
// plain file, each synced: one that grows, or one of zeros that is there before,
// which is written twice but spares the journal.
func (d *device) floor(t *testing.T, commits [][]byte, there bool) int64 {
	t.Helper()
	was, _ := d.written(t)
	p := newPlain(t, d.dir, commits, there)
	p.append(t, commits)
	now, _ := d.written(t)
	return now - was
}
