package torture

import (
	"path/filepath"
	"strings"
	"time"
)

// Bars of healing, on a machine that does nothing else.
const (
	agentHeals = 2 * time.Second
	hubHeals   = 5 * time.Second
)

// healing measures, with nothing beside it: from the start of a killed agent to
// its first message, from the start of a killed hub to samples of now in the
// products.
func healing(x *trial) {
	r := x.rig(options{})
	r.flow()
	var agent, hub time.Duration
	for range x.rounds {
		r.edge.kill()
		pause(200 * time.Millisecond) // what it had sent has gone by
		sent, end := r.publishes()
		began := time.Now()
		r.edge.start()
		r.await("the agent sends", 30*time.Second, func() bool { return sent() > 0 })
		agent = max(agent, time.Since(began))
		end()
		r.flow()
		r.hub.kill()
		pause(time.Second) // while it is away the agent tries in vain
		began = time.Now()
		r.hub.start()
		r.await("samples of now are in the products", 60*time.Second, func() bool { return r.known().After(began) })
		hub = max(hub, time.Since(began))
	}
	x.healed(max(agent, hub))
	x.note("agent sends after %.2f s, hub is current after %.2f s", agent.Seconds(), hub.Seconds())
	if agent >= agentHeals {
		x.Errorf("the agent sent %s after its start, the bar is %s", agent, agentHeals)
	}
	if hub >= hubHeals {
		x.Errorf("the products were current %s after the hub's start, the bar is %s", hub, hubHeals)
	}
	r.settle()
}

// r01 kills the agent at seeded instants, most of them before it is up.
func r01(x *trial) {
	r := x.rig(options{})
	r.flow()
	for range x.rounds {
		pause(x.between(50*time.Millisecond, 500*time.Millisecond))
		r.edge.kill()
		r.edge.start()
	}
	r.settle()
}

// r11old is r11 where the agent has let go of what the hub has lost: that is
// missing, and each sample of it stands in a gap that says why.
func r11old(x *trial) {
	r := x.rig(options{sources: x.bulky(), buffer: shortMemory})
	r.flow()
	r.hub.stop()
	copied := r.path("copy")
	copyTree(x, r.hubData, copied)
	r.forgotten(x, copied)
}

// r11none is r11old with a copy from before the agent ever called: what is
// missing lies before all that the hub then knows.
func r11none(x *trial) {
	r := x.assemble(options{sources: x.bulky(), buffer: shortMemory})
	copied := r.path("copy")
	copyTree(x, r.hubData, copied) // the registry alone
	r.hub.start()
	r.ready()
	r.edge.start()
	r.flow()
	r.hub.stop()
	r.forgotten(x, copied)
}

// forgotten starts the hub, puts the copy in its place once the agent has let
// go of what came since, and compares.
func (r *rig) forgotten(x *trial, copied string) {
	x.Helper()
	gone := func() int { return strings.Count(r.edge.said(), "segment deleted") }
	was := gone()
	r.hub.start()
	r.ready()
	r.await("the agent lets segments go", time.Minute, func() bool { return gone() >= was+4 })
	r.hub.kill()
	replace(x, copied, r.hubData)
	began := time.Now()
	r.hub.start()
	r.await("samples of now are in the products", settleWithin, func() bool { return r.known().After(began) })
	x.healed(time.Since(began))
	if r.settle("not_kept"); x.gap == 0 {
		x.Error("nothing is missing: nothing was tested")
	}
}

// r11 puts an older copy of the hub's folder back: the agent still has what the
// hub has lost, and gives it again.
func r11(x *trial) {
	r := x.rig(options{})
	r.flow()
	r.hub.stop()
	copied := r.path("copy")
	copyTree(x, r.hubData, copied)
	r.hub.start()
	r.ready()
	r.flow()
	pause(2 * time.Second) // so that there is something to lose
	r.hub.kill()
	replace(x, copied, r.hubData)
	began := time.Now()
	r.hub.start()
	r.await("samples of now are in the products", settleWithin, func() bool { return r.known().After(began) })
	x.healed(time.Since(began))
	r.settle()
}

// r12 has an operator delete the stream, with what the hub has not read yet.
func r12(x *trial) {
	r := x.rig(options{})
	r.flow()
	for range x.rounds {
		pause(x.between(100*time.Millisecond, 900*time.Millisecond))
		began := time.Now()
		r.deleteStream()
		r.await("samples of now are in the products", settleWithin, func() bool { return r.known().After(began) })
		x.healed(time.Since(began))
	}
	if !strings.Contains(r.hub.said(), "level=WARN") {
		x.Error("the hub says nothing of a stream that is gone")
	}
	r.settle()
}

// r19 starts a second agent on the folder of the first, and then one on a copy
// of it: a clone of the identity, which is held as long as the first one speaks.
func r19(x *trial) {
	r := x.rig(options{})
	r.flow()
	second := r.twin("second", r.edgeData, r.path("edge/second.sock"))
	second.start()
	if code := second.wait(10 * time.Second); code == 0 || !strings.Contains(second.said(), "in use") && !strings.Contains(second.said(), "another agent") {
		x.Errorf("a second agent on one folder ended with %d and said:\n%s", code, second.tail(3))
	}
	r.edge.stop()
	copyTree(x, r.edgeData, r.path("cloned"))
	r.edge.start()
	r.flow()
	clone := r.twin("clone", r.path("cloned"), r.path("edge/clone.sock"))
	clone.start()
	defer clone.kill()
	r.await("the hub says that two logs claim one name", 20*time.Second, func() bool {
		return strings.Contains(r.hub.said(), "two logs claim one agent's name")
	})
	r.flow()
	pause(3 * time.Second) // longer than a silent branch needs to be given up
	r.flow()
	if !clone.up() {
		x.Errorf("the clone ended instead of keeping what it has:\n%s", clone.tail(5))
	}
	clone.kill()
	r.settle()
}

// twin is another agent without sources: another folder of data, the same
// identity.
func (r *rig) twin(name, data, socket string) *child {
	r.Helper()
	edge := strings.Replace(r.read("edge/edge.yaml"), quoted(r.edgeData), quoted(data), 1)
	edge = strings.Replace(edge, quoted(r.path("edge/status.sock")), quoted(socket), 1)
	for _, f := range []string{"agent.nk", "agent.jwt"} {
		r.put(filepath.Join(name, f), r.read(filepath.Join("edge", f)))
	}
	r.put(filepath.Join(name, "edge.yaml"), edge)
	return &child{t: r.T, name: name, path: r.edge.path, args: []string{"run", "--config", r.path(filepath.Join(name, "edge.yaml"))}, dir: r.dir}
}
