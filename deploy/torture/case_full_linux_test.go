package torture

import (
	"slices"
	"strings"
	"time"
)

// d01 lets the agent's disk run full while there is no hub, and kills the agent
// on it: what the devices were told stays, the rest waits in them, and when the
// hub is back all of it goes through. Beside the load of the figures one source
// says text that nobody can make small, as fast as the agent takes it.
func d01(x *trial) {
	size, buffer, standing := int64(96<<20), "max_bytes: 4GiB, segment_bytes: 4MiB", 3*time.Second
	if x.full {
		size, buffer, standing = 1<<30, "", 30*time.Second
	}
	specs := append(x.noisySources(), x.bulky()[0])
	last := &specs[len(specs)-1]
	last.id, last.line = "s3", "line3"
	r := x.rig(options{held: true, plain: true, edgeData: x.disk(size).path("agent"), buffer: buffer, sources: specs, rules: spikeRule})
	m := r.meter()
	r.hub.kill()
	r.load.room = 8_000 // of that 1 MiB of text: what a device says at once the agent must hold
	now := time.Now()
	r.load.backlogUntil(now.Add(-time.Hour), now, 2*time.Second, r.held)
	x.note("the disk was full after %.0f s", time.Since(now).Seconds())
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
