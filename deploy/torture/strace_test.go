package torture

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// inject has system calls of a running program fail, until stop: what says it
// as strace does, "fdatasync:error=EIO:when=3" or "pwrite64:error=ENOSPC:when=5+".
// Only calls on files below a folder count, where one is named: sockets and the
// pipes to workers stay whole. The counting begins now, in each thread apart.
// The case needs root and strace.
func (c *child) inject(what, below string) (stop func()) {
	c.t.Helper()
	call, _, _ := strings.Cut(what, ":")
	args := []string{"-f", "-qq", "-o", c.log() + ".strace", "-e", "trace=" + call, "-e", "inject=" + what, "-p", strconv.Itoa(c.pid())}
	if below != "" {
		files, err := filepath.Glob(filepath.Join(below, "*"))
		if err != nil {
			c.t.Fatal(err)
		}
		for _, f := range files {
			args = append(args, "-P", f)
		}
	}
	cmd := command("strace", args...)
	var said lockedBuffer
	cmd.Stderr = &said
	if err := cmd.Start(); err != nil {
		c.t.Fatal(err)
	}
	attached := func() bool {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", c.pid()))
		return err == nil && !bytes.Contains(b, []byte("TracerPid:\t0\n"))
	}
	for began := time.Now(); !attached(); pause(time.Millisecond) {
		if time.Since(began) > 10*time.Second {
			c.t.Fatalf("strace did not attach to the %s: %s", c.name, said.String())
		}
	}
	var once sync.Once
	stop = func() {
		once.Do(func() {
			_ = cmd.Process.Signal(syscall.SIGTERM) // it detaches, and the program goes on
			_ = cmd.Wait()                          // it ends by that signal
		})
	}
	c.t.Cleanup(stop)
	return stop
}

// injected is how many calls were made to fail so far.
func (c *child) injected() int {
	b, err := os.ReadFile(c.log() + ".strace")
	if err != nil {
		return 0
	}
	return bytes.Count(b, []byte("(INJECTED)"))
}

// lockedBuffer is a buffer that a process fills while it is read.
type lockedBuffer struct {
	mu sync.Mutex // protects b
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// d05 has every thread's second fdatasync of the agent fail: such a commit does
// not count, whatever reads back.
func d05(x *trial) {
	r := x.rig(options{})
	r.flow()
	for range x.rounds {
		stop := r.edge.inject("fdatasync:error=EIO:when=2", "")
		r.await("a sync failed", 30*time.Second, func() bool { return r.edge.injected() > 0 })
		pause(2 * time.Second)
		stop()
		r.mended(x)
	}
	x.note("%d syncs failed", r.edge.injected())
	if r.edge.injected() == 0 {
		x.Error("no sync failed: nothing was tested")
	}
	r.settle()
}

// d04 has just the nth write of a thread of the agent find no space, n anywhere in
// 1 to 200, and then the first allocation of a new life: nothing is told that is
// not on the disk, and what is there can be read.
func d04(x *trial) {
	r := x.rig(options{sources: x.bulky(), buffer: smallSegments})
	r.flow()
	pid := r.edge.pid()
	refused := 0
	for round := range x.rounds {
		n := 1 + x.luck.IntN(10)
		if round%2 == 1 {
			n = 1 + x.luck.IntN(200)
		}
		stop := r.edge.inject(fmt.Sprintf("pwrite64:error=ENOSPC:when=%d", n), "")
		r.await(fmt.Sprintf("write %d finds no space", n), 90*time.Second, func() bool { return r.edge.injected() > 0 })
		pause(x.between(0, time.Second))
		refused += r.edge.injected()
		stop()
		r.mended(x)
		r.whole()
		x.note("at write %d", n)
	}
	if !r.edge.up() || r.edge.pid() != pid {
		x.Errorf("the agent ended:\n%s", r.edge.tail(10))
	}
	r.edge.kill()
	r.edge.under = []string{"strace", "-D", "-f", "-qq", "-o", r.edge.log() + ".strace", "-e", "trace=fallocate", "-e", "inject=fallocate:error=ENOSPC:when=1"}
	if err := os.Remove(filepath.Join(r.edgeData, "buffer", "reserve")); err != nil { // so that it has to be held back anew
		x.Error(err)
	}
	r.edge.start()
	r.await("an allocation finds no space", 30*time.Second, func() bool { return r.edge.injected() > 0 })
	refused += r.edge.injected()
	r.mended(x)
	r.edge.under = nil
	r.edge.stop()
	r.edge.start()
	r.mended(x)
	r.whole()
	x.note("%d calls refused", refused)
	r.settle()
}

// whole demands that all the agent keeps can be read.
func (r *rig) whole() {
	r.Helper()
	if _, err := ask(r.edge.path, "buffer", "verify", "--config", r.path("edge/edge.yaml")); err != nil {
		r.Error(err)
	}
}
