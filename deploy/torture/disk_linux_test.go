package torture

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
	"unsafe"
)

// disk is an ext4 of its own in a file behind a loop device.
type disk struct {
	x          *trial
	loop, root string
}

// disk makes and mounts one. The case needs root and loop.
func (x *trial) disk(size int64) *disk {
	x.Helper()
	parent := "/dev/shm" // memory: only what is broken on purpose breaks
	if _, err := os.Stat(parent); err != nil {
		parent = os.TempDir()
	}
	dir, err := os.MkdirTemp(parent, "pmt-disk-")
	if err != nil {
		x.Fatal(err)
	}
	d := &disk{x: x, root: filepath.Join(dir, "mount")}
	image := filepath.Join(dir, "image")
	if err := os.Mkdir(d.root, 0o700); err != nil {
		x.Fatal(err)
	}
	f, err := os.Create(image)
	if err == nil {
		err = f.Truncate(size)
	}
	if err != nil {
		x.Fatal(err)
	}
	if err := f.Close(); err != nil {
		x.Fatal(err)
	}
	if d.loop, err = tool("losetup", "--find", "--show", image); err != nil {
		x.Fatal(err)
	}
	x.Cleanup(func() {
		d.unmount()
		if _, err := tool("losetup", "--detach", d.loop); err != nil {
			x.Error(err)
		}
		if err := os.RemoveAll(dir); err != nil {
			x.Error(err)
		}
	})
	if _, err := tool("mkfs.ext4", "-q", "-E", "lazy_itable_init=0,lazy_journal_init=0", d.loop); err != nil {
		x.Fatal(err)
	}
	d.mount()
	return d
}

func tool(name string, args ...string) (string, error) {
	out, err := exec.Command(name, args...).CombinedOutput()
	said := strings.TrimSpace(string(out))
	if err != nil {
		return said, &exec.Error{Name: name + " " + strings.Join(args, " ") + ": " + said, Err: err}
	}
	return said, nil
}

// path is a folder on the disk.
func (d *disk) path(name string) string { return filepath.Join(d.root, name) }

func (d *disk) mount() {
	d.x.Helper()
	if _, err := tool("mount", d.loop, d.root); err != nil {
		d.x.Fatal(err)
	}
}

// unmount waits until nobody uses the disk any more.
func (d *disk) unmount() {
	d.x.Helper()
	d.x.untilNil("unmount the disk", func() error {
		_, err := tool("umount", d.root)
		return err
	})
}

const (
	fsIocShutdown = 0x8004587D // FS_IOC_SHUTDOWN, include/uapi/linux/fs.h
	noLogFlush    = 2          // FS_SHUTDOWN_FLAGS_NOLOGFLUSH
)

// cut is a power cut as the disk sees it: what was not synced is gone, and
// nothing is written any more.
func (d *disk) cut() {
	d.x.Helper()
	f, err := os.Open(d.root)
	if err != nil {
		d.x.Fatal(err)
	}
	defer f.Close()
	flags := uint32(noLogFlush)
	if _, _, errno := syscall.Syscall(syscall.SYS_IOCTL, f.Fd(), fsIocShutdown, uintptr(unsafe.Pointer(&flags))); errno != 0 {
		d.x.Fatalf("cut the power of the disk: %v", errno)
	}
}

// revive is the disk after the power came back. Nobody may use it meanwhile.
func (d *disk) revive() {
	d.x.Helper()
	d.unmount()
	d.mount()
}

const diskBytes = 512 << 20

// r06 cuts the power under the agent while everything flows.
func r06(x *trial) {
	d := x.disk(diskBytes)
	r := x.rig(options{edgeData: d.path("agent")})
	r.flow()
	for range x.rounds {
		pause(x.between(200*time.Millisecond, time.Second))
		d.cut()
		pause(x.between(time.Millisecond, 300*time.Millisecond)) // a commit meets the dead disk
		r.edge.kill()
		d.revive()
		r.edge.start()
		r.mended(x)
	}
	r.settle()
}

// r07 cuts the power under the hub. The agent lets go at once what the hub has
// received, so what the hub loses is lost.
func r07(x *trial) {
	d := x.disk(diskBytes)
	r := x.rig(options{hubData: d.path("hub"), sources: x.bulky(), buffer: shortMemory})
	r.flow()
	for range x.rounds {
		pause(x.between(200*time.Millisecond, time.Second))
		_, before, _ := r.stream()
		d.cut()
		pause(x.between(time.Millisecond, 300*time.Millisecond))
		r.hub.kill()
		d.revive()
		r.hub.start()
		r.ready()
		if _, after, _ := r.stream(); after < before {
			x.Errorf("the stream ends at %d after the power cut, it had acknowledged through %d", after, before)
		}
		r.mended(x)
	}
	r.settle()
}

// r08 shows that the power cut of r07 is one: a stream that does not sync loses
// what it acknowledged. The receipts rest on more than the stream, so nothing
// else is lost.
func r08(x *trial) {
	d := x.disk(diskBytes)
	r := x.rig(options{hubData: d.path("hub"), nats: "sync_interval: 2m"})
	r.flow()
	for range x.rounds {
		pause(x.between(time.Second, 2*time.Second))
		created, before, _ := r.stream()
		d.cut()
		r.hub.kill()
		d.revive()
		r.hub.start()
		r.ready()
		r.flow()
		again, after, _ := r.stream()
		switch {
		case !again.Equal(created):
			x.note("the stream was gone after %d messages", before)
		case after < before:
			x.note("the stream went back from %d to %d", before, after)
		default:
			x.Errorf("the stream lost nothing (%d, then %d): this power cut is none", before, after)
		}
		r.mended(x)
	}
	r.settle()
}

// r09 cuts the power under agent and hub at once.
func r09(x *trial) {
	d := x.disk(2 * diskBytes)
	r := x.rig(options{hubData: d.path("hub"), edgeData: d.path("agent")})
	r.flow()
	for range x.rounds {
		pause(x.between(200*time.Millisecond, time.Second))
		d.cut()
		pause(x.between(time.Millisecond, 300*time.Millisecond))
		r.edge.kill()
		r.hub.kill()
		d.revive()
		r.hub.start()
		r.edge.start()
		r.mended(x)
	}
	r.settle()
}
