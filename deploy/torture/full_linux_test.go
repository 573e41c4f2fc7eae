package torture

import (
	"errors"
	"os"
	"strings"
	"syscall"
	"time"

	"plantmesh/firmware-sim/plant"
)

// ballast is what others have on the disk: all that is free but so many bytes.
// free gives it back.
func (d *disk) ballast(name string, leave int64) (free func()) {
	d.x.Helper()
	path := d.path(name)
	f, err := os.OpenFile(path, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		d.x.Fatal(err)
	}
	written := int64(0)
	for size := 1 << 20; size > 0; { // the last byte is refused: the disk is full
		n, err := f.Write(make([]byte, size))
		written += int64(n)
		switch {
		case errors.Is(err, syscall.ENOSPC):
			size /= 2
		case err != nil:
			d.x.Fatal(err)
		}
	}
	if err := f.Truncate(max(0, written-leave)); err != nil {
		d.x.Fatal(err)
	}
	if err := f.Sync(); err != nil {
		d.x.Fatal(err)
	}
	if err := f.Close(); err != nil {
		d.x.Fatal(err)
	}
	return func() {
		if err := os.Remove(path); err != nil {
			d.x.Error(err)
		}
	}
}

const smallDisk = 64 << 20

// d01 has the agent run into the end of its disk while there is no hub, and has
// it begin anew there after others took what was left. It takes nothing more,
// says so, and gives all it has when the hub is back.
func d01(x *trial) {
	d := x.disk(smallDisk)
	r := x.rig(options{edgeData: d.path("agent"), sources: x.bulky(), buffer: "max_bytes: 64MiB, segment_bytes: 1MiB, min_free: 0KiB"})
	r.flow()
	for range x.rounds {
		r.link.Cut(true)
		free := d.ballast("others", 4<<20)
		r.saysFull("no space left; free some there, or bring the hub back")
		r.mustHold()
		r.edge.kill()
		more := d.ballast("more", 0)
		r.edge.start()
		r.saysFull("no space left; free some there, or bring the hub back")
		r.mustHold()
		pid := r.edge.pid()
		r.link.Cut(false)
		r.drained()
		if !r.edge.up() || r.edge.pid() != pid {
			x.Errorf("the agent ended on the full disk:\n%s", r.edge.tail(10))
		}
		more()
		free()
	}
	r.settle()
}

// saysFull waits until the agent's status says that it holds its sources back
// because the buffer is full, and names why.
func (r *rig) saysFull(why string) {
	r.Helper()
	said := ""
	if !r.eventually(time.Minute, func() bool {
		said, _ = ask(r.edge.path, "status", "--config", r.path("edge/edge.yaml"))
		return strings.Contains(said, "full") && strings.Contains(said, why)
	}) {
		r.Fatalf("the agent does not say that its buffer is full (%s):\n%s\n%s", why, said, r.edge.tail(10))
	}
}

// mustHold demands that devices are not told received any more, and that the
// agent stays.
func (r *rig) mustHold() {
	r.Helper()
	was := r.load.waiting()
	r.await("devices keep what they say", 20*time.Second, func() bool { return r.load.waiting() > was+100 })
	if !r.edge.up() {
		r.Errorf("the agent ended on the full disk:\n%s", r.edge.tail(10))
	}
}

// drained waits until the hub has all, and what is said now comes through.
func (r *rig) drained() {
	r.Helper()
	began := time.Now()
	r.await("the agent has nothing that the hub lacks", r.patience(), func() bool {
		s, ok := r.status()
		return ok && s.Buffer.Pending < 20 && r.load.waiting() < 1000
	})
	r.flow()
	r.healed(time.Since(began))
}

// d02 is a full disk under the policy that drops the oldest: what was dropped
// stands in a gap, and nothing newer is missing.
func d02(x *trial) {
	for range x.rounds {
		d := x.disk(smallDisk)
		bounds := "max_bytes: 64MiB, segment_bytes: 1MiB, policy: drop_oldest"
		leave := int64(12 << 20) // of which root's own, min_free and the file system's are a good part
		if x.luck.IntN(2) == 0 { // into the end of the disk itself
			bounds, leave = bounds+", min_free: 0KiB", 4<<20
		}
		x.note("%s", bounds)
		r := x.rig(options{edgeData: d.path("agent"), sources: x.bulky(), buffer: bounds})
		r.flow()
		r.link.Cut(true)
		free := d.ballast("others", leave)
		dropped := func() int { return strings.Count(r.edge.said(), "cause=disk_policy") }
		r.await("the agent drops the oldest", time.Minute, func() bool { return dropped() >= 3 })
		if !strings.Contains(r.edge.said(), "free space on the disk, raise buffer.max_bytes") {
			x.Errorf("the agent does not say what to do about it:\n%s", r.edge.tail(5))
		}
		if waiting := r.load.waiting(); waiting > 2000 {
			x.Errorf("%d samples wait although the policy is to drop", waiting)
		}
		free()
		was := dropped()
		oldest := r.oldestPending()
		r.link.Cut(false)
		r.drained()
		if n := dropped(); n != was {
			oldest = time.Now()
			x.note("%d more dropped after there was room", n-was)
		}
		r.settle("disk_policy")
		// One source's newest record in a segment is older than another's by a batch
		// and the disorder of its samples.
		r.mustMiss(func(e plant.Emission) bool { return e.Time.Before(oldest.Add(3 * time.Second)) })
		r.edge.stop()
		r.hub.stop()
	}
}

// oldestPending is the second at which the oldest segment that the hub lacks begins.
func (r *rig) oldestPending() time.Time {
	r.Helper()
	s, ok := r.status()
	at, err := time.Parse(time.RFC3339, s.Buffer.OldestPending)
	if !ok || err != nil {
		r.Fatalf("the agent does not say from when what it has is: %+v, %v", s, err)
	}
	return at
}

// d17 fills the hub's disk: agents keep what they have and are told why, the hub
// says why it is not ready, and goes on by itself when there is room.
func d17(x *trial) {
	d := x.disk(2 * smallDisk)
	r := x.rig(options{hubData: d.path("hub"), sources: x.bulky()})
	r.flow()
	pid := r.hub.pid()
	for range x.rounds {
		free := d.ballast("others", 0)
		said := ""
		if !r.eventually(time.Minute, func() bool {
			b, err := r.get("/readyz", nil)
			if err == nil {
				b.Close()
				return false
			}
			said = err.Error()
			return strings.Contains(said, "503") && strings.Contains(said, "no space left on device")
		}) {
			x.Errorf("the hub does not say that its disk is full: %s\n%s", said, r.hub.tail(10))
		}
		agent := ""
		if !r.eventually(time.Minute, func() bool {
			s, ok := r.status()
			agent = s.Hub.LastError
			return ok && strings.Contains(agent, "disk")
		}) {
			x.Errorf("the agent does not say why the hub takes nothing: %q", agent)
		}
		pause(x.between(time.Second, 4*time.Second))
		free()
		r.mended(x)
		r.ready()
		if !r.hub.up() || r.hub.pid() != pid {
			x.Errorf("the hub ended on the full disk:\n%s", r.hub.tail(10))
		}
	}
	r.settle()
}
