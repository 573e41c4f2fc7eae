package torture

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// stopWithin is how long a program may take to end after a request to.
const stopWithin = 10 * time.Second

// child is one of the programs. It dies with the tests.
type child struct {
	t    *testing.T
	name string
	path string
	args []string
	dir  string   // where its log goes
	env  []string // beside what all get; for the next start
	// under is what starts it, and leaves it its own place: strace -D.
	under []string

	mu   sync.Mutex // protects the fields below
	cmd  *exec.Cmd
	done chan struct{} // closed when cmd has ended
	err  error
}

// command is a program that reads only its files: variables meant for an agent
// or a hub of this machine stay away.
func command(path string, args ...string) *exec.Cmd {
	cmd := exec.Command(path, args...)
	cmd.Env = slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "PLANTMESH_") })
	own(cmd)
	return cmd
}

// start runs the program. It must not be running.
func (c *child) start() {
	c.t.Helper()
	log, err := os.OpenFile(c.log(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		c.t.Fatal(err)
	}
	defer log.Close()
	line := append(append(slices.Clone(c.under), c.path), c.args...)
	cmd := command(line[0], line[1:]...)
	cmd.Env = append(cmd.Env, c.env...)
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		c.t.Fatalf("start %s: %v", c.name, err)
	}
	done := make(chan struct{})
	c.mu.Lock()
	c.cmd, c.done, c.err = cmd, done, nil
	c.mu.Unlock()
	go func() {
		defer close(done)
		err := cmd.Wait()
		c.mu.Lock()
		c.err = err
		c.mu.Unlock()
	}()
}

func (c *child) log() string { return filepath.Join(c.dir, c.name+".log") }

func (c *child) running() (cmd *exec.Cmd, done chan struct{}) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.cmd, c.done
}

// up reports whether it runs.
func (c *child) up() bool {
	_, done := c.running()
	if done == nil {
		return false
	}
	select {
	case <-done:
		return false
	default:
		return true
	}
}

func (c *child) pid() int {
	cmd, _ := c.running()
	return cmd.Process.Pid
}

// signal sends sig and does not wait.
func (c *child) signal(sig syscall.Signal) {
	cmd, _ := c.running()
	if cmd != nil {
		_ = cmd.Process.Signal(sig) // it may have ended already
	}
}

// kill ends it without notice and waits until it is gone.
func (c *child) kill() {
	c.signal(syscall.SIGKILL)
	if _, done := c.running(); done != nil {
		<-done
	}
}

// stop asks it to end, and waits; it must end well.
func (c *child) stop() {
	c.t.Helper()
	c.signal(syscall.SIGTERM)
	if code := c.wait(stopWithin); code != 0 {
		c.t.Errorf("the %s ended with %d after a request to\n%s", c.name, code, c.tail(5))
	}
}

// wait waits for its end and gives the exit code; 128 + n where signal n ended it.
func (c *child) wait(within time.Duration) int {
	c.t.Helper()
	_, done := c.running()
	select {
	case <-done:
	case <-time.After(within):
		c.t.Fatalf("the %s did not end within %s\n%s", c.name, within, c.tail(20))
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	exit, ok := errors.AsType[*exec.ExitError](c.err)
	if !ok {
		return 0
	}
	if s, ok := exit.Sys().(syscall.WaitStatus); ok && s.Signaled() {
		return 128 + int(s.Signal())
	}
	return exit.ExitCode()
}

// said is all it has written so far.
func (c *child) said() string {
	b, err := os.ReadFile(c.log())
	if err != nil {
		return err.Error()
	}
	return string(b)
}

// tail is its last n lines.
func (c *child) tail(n int) string {
	lines := strings.Split(strings.TrimSpace(c.said()), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}

// findings is the exit code of a command that found something: its answer is there.
const findings = 7

// asked is ask, of a command whose findings are an answer.
func asked(path string, args ...string) (string, error) {
	out, err := ask(path, args...)
	if exit, ok := errors.AsType[*exec.ExitError](err); ok && exit.ExitCode() == findings {
		return out, nil
	}
	return out, err
}

// ask runs a program to its end and gives its stdout.
func ask(path string, args ...string) (string, error) {
	out, err := command(path, args...).Output()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return string(out), fmt.Errorf("%s %s: %w: %s", filepath.Base(path), strings.Join(args, " "), err, strings.TrimSpace(string(exit.Stderr)))
	}
	return string(out), err
}
