package demo

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// stopWithin is how long a child may take to end after a request to: three in
// a row must not try anybody's patience, and what is killed loses nothing.
const stopWithin = 4 * time.Second

// child is one process of the demo. It is started by path, never by import.
type child struct {
	name string
	path string
	args []string
	dir  string // where its log goes
	// event is called with every JSON line of the child's stdout; may be nil.
	event func(map[string]any)

	mu   sync.Mutex // protects the fields below
	cmd  *exec.Cmd
	done chan struct{} // closed when cmd has ended
	err  error
	want bool // it should be running: an end is a failure
	tail []string
}

// start runs the child. It must not be running.
func (c *child) start(ctx context.Context) error {
	logFile, err := os.OpenFile(filepath.Join(c.dir, c.name+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("open the log of %s: %w", c.name, err)
	}
	cmd := command(context.WithoutCancel(ctx), c.path, c.args...) // stopped by stop, in order
	cmd.Stderr = io.MultiWriter(logFile, lines(c.remember))
	out, err := cmd.StdoutPipe()
	if err != nil {
		return fmt.Errorf("start %s: %w", c.name, err)
	}
	c.mu.Lock()
	c.tail = nil // before it can say anything
	c.mu.Unlock()
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start %s: %w", c.name, errors.Join(err, logFile.Close()))
	}
	done := make(chan struct{})
	c.mu.Lock()
	c.cmd, c.done, c.want, c.err = cmd, done, true, nil
	c.mu.Unlock()
	go func() {
		defer close(done)
		c.read(out, logFile)
		err := cmd.Wait()
		_ = logFile.Close() // the child's last words are in it; a full disk shows elsewhere
		c.mu.Lock()
		c.err = err
		c.mu.Unlock()
	}()
	return nil
}

// command is a child that dies with the demo. The demo's files are all it
// reads: variables meant for an agent or a hub of this machine stay away.
func command(ctx context.Context, path string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, path, args...) //nolint:gosec // the demo's own siblings
	cmd.Env = slices.DeleteFunc(os.Environ(), func(v string) bool {
		return strings.HasPrefix(v, "PLANTMESH_EDGE_") || strings.HasPrefix(v, "PLANTMESH_HUB_")
	})
	own(cmd)
	return cmd
}

// read hands the JSON lines of stdout on and puts everything into the log.
func (c *child) read(out io.Reader, logFile io.Writer) {
	s := bufio.NewScanner(out)
	s.Buffer(nil, 1<<20)
	for s.Scan() {
		var e map[string]any
		if c.event != nil && json.Unmarshal(s.Bytes(), &e) == nil {
			c.event(e)
			continue
		}
		_, _ = fmt.Fprintln(logFile, s.Text()) // narration only
	}
}

// remember keeps the last lines that may say why a child ended: errors, and
// what carries no level, such as a panic.
func (c *child) remember(line string) {
	_, rest, leveled := strings.Cut(line, "level=")
	if leveled && !strings.HasPrefix(rest, "ERROR") || strings.HasPrefix(line, "Next:") {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.tail = append(c.tail, line)
	c.tail = c.tail[max(0, len(c.tail)-5):]
}

// ended is closed when the child has ended.
func (c *child) ended() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.done
}

// why says how the child ended, with the last errors it told.
func (c *child) why() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	how := "ended"
	if c.err != nil {
		how = c.err.Error()
	}
	said := append([]string{"the " + c.name + " ended by itself: " + how}, c.tail...)
	return strings.Join(append(said, "its log: "+filepath.Join(c.dir, c.name+".log")), "\n")
}

func (c *child) pid() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.cmd == nil || c.cmd.Process == nil {
		return 0
	}
	return c.cmd.Process.Pid
}

// wanted reports whether the child should be running.
func (c *child) wanted() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.want
}

// signal sends sig and waits for the end; after a while it kills.
func (c *child) signal(sig os.Signal) {
	c.mu.Lock()
	cmd, done := c.cmd, c.done
	c.want = false
	c.mu.Unlock()
	if cmd == nil {
		return
	}
	_ = cmd.Process.Signal(sig) // it may have ended already
	select {
	case <-done:
	case <-time.After(stopWithin):
		_ = cmd.Process.Kill()
		<-done
	}
}

// stop asks the child to end and waits for it.
func (c *child) stop() { c.signal(os.Interrupt) }

// kill ends the child without notice and waits for it.
func (c *child) kill() { c.signal(os.Kill) }

// lines turns writes into calls per line.
func lines(f func(string)) io.Writer { return &lineWriter{f: f} }

type lineWriter struct {
	f    func(string)
	part []byte
}

func (w *lineWriter) Write(b []byte) (int, error) {
	w.part = append(w.part, b...)
	for {
		line, rest, ok := strings.Cut(string(w.part), "\n")
		if !ok {
			return len(b), nil
		}
		w.f(line)
		w.part = []byte(rest)
	}
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
		_, after, ok := strings.Cut(string(b[max(0, strings.LastIndexByte(string(b), ')')):]), ") ")
		fields := strings.Fields(after)
		if !ok || len(fields) < 2 || fields[1] != strconv.Itoa(pid) {
			continue
		}
		if p, err := strconv.Atoi(filepath.Base(filepath.Dir(f))); err == nil {
			out = append(out, p)
		}
	}
	return out
}
