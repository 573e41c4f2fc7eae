package torture

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// r03 kills the hub at seeded instants.
func r03(x *trial) {
	r := x.rig(options{})
	r.flow()
	for range x.rounds {
		pause(x.between(50*time.Millisecond, 900*time.Millisecond))
		r.hub.kill()
		r.hub.start()
	}
	r.mended(x)
	r.settle()
}

// r04 kills agent and hub together.
func r04(x *trial) {
	r := x.rig(options{})
	r.flow()
	for range x.rounds {
		pause(x.between(50*time.Millisecond, 900*time.Millisecond))
		r.hub.kill()
		r.edge.kill()
		r.hub.start()
		r.edge.start()
	}
	r.mended(x)
	r.settle()
}

// stopFor is longer than any timer of a rig.
const stopFor = 6 * time.Second

// r13 has the agent stand still, and go on as if nothing had been.
func r13(x *trial) { x.stopped(func(r *rig) *child { return r.edge }) }

// r14 has the hub stand still.
func r14(x *trial) { x.stopped(func(r *rig) *child { return r.hub }) }

func (x *trial) stopped(which func(*rig) *child) {
	x.Helper()
	r := x.rig(options{})
	r.flow()
	for range x.rounds {
		c := which(r)
		c.signal(syscall.SIGSTOP)
		pause(stopFor)
		c.signal(syscall.SIGCONT)
		r.mended(x)
		if !c.up() {
			x.Fatalf("the %s ended after it stood still:\n%s", c.name, c.tail(10))
		}
	}
	r.settle()
}

// r15 has one worker stand still: its agent must notice, end it and begin
// another, and the other sources go on meanwhile.
func r15(x *trial) {
	r := x.rig(options{})
	r.flow()
	workers := childrenOf(r.edge.pid())
	if len(workers) != len(r.o.sources) {
		x.Fatalf("the agent has %d workers for %d sources", len(workers), len(r.o.sources))
	}
	p, err := os.FindProcess(workers[0])
	if err == nil {
		err = p.Signal(syscall.SIGSTOP)
	}
	if err != nil {
		x.Fatal(err)
	}
	began := time.Now()
	r.await("the agent ends a worker that says nothing", time.Minute, func() bool { return strings.Contains(r.edge.said(), "and was killed") })
	r.flow()
	x.healed(time.Since(began))
	r.settle()
}

// childrenOf are the processes whose parent is pid.
func childrenOf(pid int) (out []int) {
	stats, _ := filepath.Glob("/proc/[0-9]*/stat") // the pattern is valid
	for _, f := range stats {
		b, err := os.ReadFile(f)
		if err != nil {
			continue // it ended meanwhile
		}
		// pid (name) state ppid ...; a name may hold spaces and brackets.
		fields := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
		if len(fields) < 2 || fields[1] != strconv.Itoa(pid) {
			continue
		}
		if p, err := strconv.Atoi(filepath.Base(filepath.Dir(f))); err == nil {
			out = append(out, p)
		}
	}
	return out
}

// r17 asks the agent to end while the hub can't be reached: it does, soon and
// well, and has everything afterwards.
func r17(x *trial) {
	r := x.rig(options{})
	r.flow()
	r.link.Cut(true)
	pause(3 * time.Second)
	began := time.Now()
	r.edge.stop()
	x.note("ended after %.1f s", time.Since(began).Seconds())
	r.edge.start()
	pause(time.Second)
	r.link.Cut(false)
	r.mended(x)
	r.settle()
}
