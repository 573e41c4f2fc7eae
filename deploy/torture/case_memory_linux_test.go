package torture

import (
	"slices"
	"strings"
	"time"
)

// m01 measures what the agent takes of the machine's memory while its disk runs
// full without a hub, while it is, when it is killed and begins anew on it, and
// while all of it goes through afterwards. So that the disk is full soon, another
// source says text that nobody can make small until it is: bytes are what fills
// it, whatever they say. From then on there is the load of the figures.
func m01(x *trial) {
	size, buffer, every, standing := int64(64<<20), "max_bytes: 4GiB, segment_bytes: 4MiB", 2*time.Second, 3*time.Second
	if x.full { // six segments of the default size
		size, buffer, every, standing = 512<<20, "", 500*time.Millisecond, 30*time.Second
	}
	specs := append(x.noisySources(), x.bulky()[0])
	last := &specs[len(specs)-1]
	last.id, last.line = "s3", "line3"
	r := x.rig(options{held: true, plain: true, edgeData: x.disk(size).path("agent"), buffer: buffer, sources: specs, rules: spikeRule})
	m := r.meter()
	r.hub.kill()
	r.load.room = 8_000 // of that 1 MiB of text: what a device says at once the agent must hold
	now := time.Now()
	r.load.backlogUntil(now.Add(-time.Hour), now, every, r.held)
	x.note("the disk was full after %.0f s", time.Since(now).Seconds())
	r.load.still(last.id)
	r.load.hold(false)
	m.read("pss_filling")
	pause(standing)
	if !r.held() {
		x.Error("the agent's disk is not full: nothing was tested")
	}
	m.read("pss_full")
	r.edge.kill()
	began := time.Now()
	r.edge.start()
	r.await("the agent is back on a full disk", time.Minute, func() bool {
		_, ok := r.status()
		return ok
	})
	x.note("up again after %.1f s", time.Since(began).Seconds())
	pause(standing)
	m.read("pss_restart")
	r.hub.start()
	r.ready()
	began = time.Now()
	r.await("samples of now are in the products", r.patience(), func() bool { return r.known().After(began) })
	x.healed(time.Since(began))
	r.await("the hub has what waited", r.patience(), func() bool { return r.pending() < 100 })
	m.read("pss_full_drain")
	r.settle()
}

// held reports whether the agent takes nothing more from a device.
func (r *rig) held() bool {
	s, ok := r.status()
	return ok && slices.ContainsFunc(s.Sources, func(s source) bool { return strings.HasPrefix(s.State, "held back") })
}
