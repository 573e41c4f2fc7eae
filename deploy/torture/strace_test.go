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
