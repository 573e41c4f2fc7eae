package torture

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// cable is a network of its own with one cable to this machine. While an end is
// down packets vanish, and nobody is told: no connection is reset by it.
type cable struct {
	x           *trial
	network     string // name of the namespace
	here, there string // names of the two ends; there lies in the namespace
	address     string // of this end
}

// cable lays one. Where this kernel can't, the case is skipped; where only a tool
// is missing, and PLANTMESH_REQUIRE names root, it fails.
func (x *trial) cable() *cable {
	x.Helper()
	if _, err := exec.LookPath("ip"); err != nil {
		if requires("root") {
			x.Fatal("ip is not installed (iproute2)")
		}
		x.note("ip is not installed")
		x.Skip("skipped: ip is not installed")
	}
	n := x.ports.Add(1)
	c := &cable{x: x, network: fmt.Sprintf("pmt-%d", n), here: fmt.Sprintf("pmt%da", n), there: fmt.Sprintf("pmt%db", n)}
	// Four addresses of 198.18.0.0/15, which is for tests of networks (RFC 2544).
	net := fmt.Sprintf("198.18.%d.", n>>6&255)
	low := int(n & 63 * 4)
	c.address = fmt.Sprint(net, low+1)
	x.Cleanup(func() {
		_, _ = tool("ip", "link", "del", c.here) // it goes with the namespace, if that was made
		if _, err := tool("ip", "netns", "del", c.network); err != nil && !strings.Contains(err.Error(), "No such file") {
			x.Error(err)
		}
	})
	for _, args := range []string{
		"netns add " + c.network,
		"link add " + c.here + " type veth peer name " + c.there + " netns " + c.network,
	} {
		said, err := tool("ip", strings.Fields(args)...)
		switch {
		case err == nil:
		case strings.Contains(said, "nknown device type"), strings.Contains(said, "not supported"), strings.Contains(said, "not permitted"):
			x.note("no network of its own: %s", said)
			x.Skipf("skipped: this kernel gives no network of its own: %v", err)
		default:
			x.Fatal(err)
		}
	}
	c.ip("addr add " + c.address + "/30 dev " + c.here)
	c.ip("link set " + c.here + " up")
	c.ip("-n " + c.network + " link set lo up")
	c.ip("-n " + c.network + " addr add " + fmt.Sprint(net, low+2) + "/30 dev " + c.there)
	c.ip("-n " + c.network + " link set " + c.there + " up")
	return c
}

func (c *cable) ip(args string) {
	c.x.Helper()
	if _, err := tool("ip", strings.Fields(args)...); err != nil {
		c.x.Fatal(err)
	}
}

// within does something on a thread that lives in the network: the sockets it
// opens stay there.
func (c *cable) within(do func()) {
	c.x.Helper()
	runtime.LockOSThread()
	was, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		c.x.Fatal(err)
	}
	defer was.Close()
	to, err := os.Open(filepath.Join("/run/netns", c.network))
	if err != nil {
		c.x.Fatal(err)
	}
	defer to.Close()
	if err := unix.Setns(int(to.Fd()), unix.CLONE_NEWNET); err != nil {
		c.x.Fatal(err)
	}
	do()
	if err := unix.Setns(int(was.Fd()), unix.CLONE_NEWNET); err != nil {
		c.x.Fatal(err) // and the thread ends with its goroutine
	}
	runtime.UnlockOSThread()
}

// pull takes an end down: this machine's, where the agent's packets vanish, or the
// agent's own, where there is no way out at all.
func (c *cable) pull(own bool) { c.set(own, "down") }

// plug takes it up again.
func (c *cable) plug(own bool) { c.set(own, "up") }

func (c *cable) set(own bool, state string) {
	c.x.Helper()
	if own {
		c.ip("-n " + c.network + " link set " + c.there + " " + state)
	} else {
		c.ip("link set " + c.here + " " + state)
	}
}

// bad makes the cable lose and delay packets, where this kernel has netem; else
// slow. what is empty where it has neither.
func (c *cable) bad() (what string) {
	if c.shape("netem loss 15% delay 50ms 20ms") {
		return "15 % of the packets lost, the others 50 ms late"
	}
	if c.shape("tbf rate 128kbit burst 1600 limit 3200") {
		return "128 kbit/s (this kernel has no netem)"
	}
	return ""
}

func (c *cable) shape(how string) bool {
	args := strings.Fields("dev " + c.here + " root " + how)
	if _, err := tool("tc", append([]string{"qdisc", "replace"}, args...)...); err != nil {
		return false
	}
	args[1] = c.there
	_, err := tool("tc", append([]string{"-n", c.network, "qdisc", "replace"}, args...)...)
	return err == nil
}

// good ends bad.
func (c *cable) good() {
	c.x.Helper()
	for _, args := range []string{"qdisc del dev " + c.here + " root", "-n " + c.network + " qdisc del dev " + c.there + " root"} {
		if _, err := tool("tc", strings.Fields(args)...); err != nil {
			c.x.Fatal(err)
		}
	}
}

// strained is how many packets the agent's end has thrown away, and how often one
// had to wait.
func (c *cable) strained() (dropped, waited int) {
	c.x.Helper()
	said, err := tool("tc", "-n", c.network, "-s", "qdisc", "show", "dev", c.there)
	_, after, _ := strings.Cut(said, "(dropped ")
	if err == nil {
		_, err = fmt.Sscanf(after, "%d, overlimits %d", &dropped, &waited)
	}
	if err != nil {
		c.x.Errorf("the cable's counts: %v: %s", err, said)
	}
	return dropped, waited
}

// n02 gives the agent and its sources a network of their own, and pulls its cable:
// until the agent has noticed by its pings, then on and off by the second, and
// then it is only bad. Which end is down goes by turns.
func n02(x *trial) {
	c := x.cable()
	r := x.assemble(options{listen: c.address + ":0", serving: c.within})
	agent := r.path("agent.sh")
	r.put("agent.sh", fmt.Sprintf("#!/bin/sh\nexec ip netns exec %s %s \"$@\"\n", c.network, r.edge.path))
	if err := os.Chmod(agent, 0o700); err != nil {
		x.Fatal(err)
	}
	r.edge.path = agent
	r.hub.start()
	r.ready()
	r.edge.start()
	r.flow()
	noticed := func() bool {
		s, ok := r.status()
		return ok && !s.Hub.Connected
	}
	pulls, longest := max(2, x.rounds), time.Duration(0)
	for n := range pulls {
		own := n%2 == 1
		began, dials := time.Now(), r.link.Dials()
		c.pull(own)
		r.await("the agent notices that nobody answers", 30*time.Second, noticed)
		longest = max(longest, time.Since(began))
		pause(x.between(time.Second, 3*time.Second))
		c.plug(own)
		r.mended(x)
		if r.link.Dials() == dials {
			x.Error("the agent never called anew: the cable was not down")
		}
	}
	x.note("%d pulls, noticed after %.1f s at most", pulls, longest.Seconds())
	for range 3 * x.rounds { // up and down before anybody notices
		own := x.luck.IntN(2) == 0
		c.pull(own)
		pause(time.Second)
		c.plug(own)
		pause(time.Second)
	}
	r.mended(x)
	if what := c.bad(); what == "" {
		x.note("not slow or lossy: this kernel has neither netem nor tbf")
	} else {
		for range x.rounds { // what it has kept meanwhile comes through a bad cable, and what is new beside it
			c.pull(false)
			r.await("the agent notices that nobody answers", 30*time.Second, noticed)
			c.plug(false)
			r.mended(x)
		}
		dropped, waited := c.strained()
		x.note("%s: %d packets dropped, %d waits", what, dropped, waited)
		if dropped+waited == 0 {
			x.Error("the cable was as good as ever: nothing was tested")
		}
		c.good()
	}
	r.settle()
}
