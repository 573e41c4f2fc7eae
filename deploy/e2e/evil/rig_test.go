// Package evil runs an agent as it is shipped against a server that means harm,
// beside a good one: the worker may die, the agent and the other source don't notice.
package evil

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"plantmesh/deploy/e2e/programs"
	"plantmesh/edge/status"
	simua "plantmesh/firmware-sim/opcua"
	"plantmesh/firmware-sim/plant"
)

// mostMemory is what a worker may have at most, in KiB.
const mostMemory = 256 << 10

// program is plantmesh-edge as it is shipped.
var program string

// whole skips where only the race detector's short form is asked for: the programs
// that are attacked are built without it.
func whole(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("skipped: it runs without -short")
	}
}

func TestMain(m *testing.M) { os.Exit(built(m.Run)) }

func built(run func() int) int {
	dir, err := os.MkdirTemp("", "pm")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	program = filepath.Join(dir, "plantmesh-edge")
	if err := programs.Into(context.Background(), dir, "plantmesh-edge"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return run()
}

// rig is an agent with sources, of which "good" is one.
type rig struct {
	*testing.T

	dir  string
	cmd  *exec.Cmd
	said lines
	gone chan struct{}

	most map[int]int64 // by process: the most memory it had, in KiB
}

// lines are what a process says.
type lines struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// newRig starts an agent with the good source and those given, by their files.
func newRig(t *testing.T, sources map[string]string) *rig {
	t.Helper()
	if runtime.GOOS != "linux" {
		t.Skip("skipped: memory is read from /proc")
	}
	dir, err := os.MkdirTemp("", "pm") //nolint:usetesting // its own would be too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	r := &rig{T: t, dir: dir, gone: make(chan struct{}), most: map[int]int64{}}
	files := map[string]string{
		"edge.yaml": "agent: gw-1\nsite: graz\ndata: data\nhub:\n  url: nats://127.0.0.1:1\n  key: agent.nk\n  token: agent.jwt\nbuffer:\n  max_bytes: 64MiB\nwindow:\n  latency: 200ms\n",
		"agent.jwt": "none", "rules.d/none": "",
		"sources.d/good.yaml": fmt.Sprintf("opcua:\n  id: good\n  endpoint: %s\n  security: {insecure: true}\n  publishing_interval: 50ms\n  keep_alive_count: 60\n  signals:\n    - {name: line1.good.v, type: int, node: \"nsu=%s;s=line1.good.v\"}\n", r.good(), simua.Namespace),
	}
	for name, content := range sources {
		files["sources.d/"+name+".yaml"] = content
	}
	for name, content := range files {
		path := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte(content), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	if said, err := exec.Command(program, "keygen", filepath.Join(dir, "agent.nk")).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, said)
	}
	r.cmd = exec.Command(program, "run", "--config", filepath.Join(dir, "edge.yaml"))
	r.cmd.Stdout, r.cmd.Stderr = &r.said, &r.said
	r.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := r.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		r.cmd.Wait() // it is killed
		close(r.gone)
	}()
	t.Cleanup(func() {
		r.cmd.Process.Kill()
		<-r.gone
		if t.Failed() {
			said := r.said.String()
			t.Logf("the agent said:\n%s", said[max(0, len(said)-20_000):])
		}
	})
	r.await("the good source is read", 30*time.Second, func() bool { return r.status("good").Samples > 0 })
	return r
}

// good is a server that gives a value each 20 ms.
func (r *rig) good() string {
	s := plant.Signal{Source: "good", Name: "line1.good.v", Type: plant.Int}
	server, err := simua.Serve(simua.Config{Source: "good", Listen: "127.0.0.1:0"}, []plant.Signal{s}, func(string, []uint64) {}, slog.New(slog.DiscardHandler))
	if err != nil {
		r.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := server.Run(ctx); err != nil {
			r.Error(err)
		}
	})
	wg.Go(func() {
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for n := uint64(1); ; n++ {
			select {
			case now := <-tick.C:
				server.Push(plant.Emission{Source: "good", Index: n, Signal: s.Name, Time: now, Emitted: now, Value: plant.Value{Type: plant.Int, I: int64(n)}})
				server.Prove(now)
			case <-ctx.Done():
				return
			}
		}
	})
	r.Cleanup(func() { cancel(); wg.Wait() })
	return server.URL()
}

// await waits until something is so.
func (r *rig) await(what string, within time.Duration, ok func() bool) {
	r.Helper()
	if !r.comes(within, ok) {
		r.Fatalf("waited %s in vain until %s; the sources: %+v", within, what, r.all())
	}
}

func (r *rig) comes(within time.Duration, ok func() bool) bool {
	late := time.After(within)
	look := time.NewTicker(50 * time.Millisecond)
	defer look.Stop()
	for !ok() {
		select {
		case <-look.C:
			r.weigh()
		case <-r.gone:
			r.Fatal("the agent is gone")
		case <-late:
			return false
		}
	}
	r.weigh()
	return true
}

func (r *rig) all() []status.Source {
	s, err := status.Ask(r.Context(), filepath.Join(r.dir, "data", "status.sock"))
	if err != nil {
		return nil // it is not up yet, or busy
	}
	return s.Sources
}

func (r *rig) status(source string) status.Source {
	for _, s := range r.all() {
		if s.Source == source {
			return s
		}
	}
	return status.Source{}
}

// weigh notes how much memory each worker has had.
func (r *rig) weigh() {
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		r.Fatal(err)
	}
	for _, path := range stats {
		b, err := os.ReadFile(path)
		if err != nil {
			continue // it is gone
		}
		_, rest, _ := strings.Cut(string(b), ") ")
		f := strings.Fields(rest)
		if len(f) < 2 || f[1] != strconv.Itoa(r.cmd.Process.Pid) {
			continue
		}
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		if err != nil {
			continue
		}
		r.most[pid] = max(r.most[pid], peak(pid))
	}
}

// peak is the most memory a process has had, in KiB.
func peak(pid int) int64 {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0
	}
	_, rest, _ := strings.Cut(string(b), "VmHWM:")
	f := strings.Fields(rest)
	if len(f) == 0 {
		return 0
	}
	n, err := strconv.ParseInt(f[0], 10, 64)
	if err != nil {
		return 0
	}
	return n
}

// heaviest is the most any worker has had.
func (r *rig) heaviest() (most int64) {
	for _, n := range r.most {
		most = max(most, n)
	}
	return most
}

// unharmed checks that the good source did not notice anything.
func (r *rig) unharmed() {
	r.Helper()
	was := r.status("good")
	r.await("the good source goes on", 20*time.Second, func() bool {
		s := r.status("good")
		return s.Samples > was.Samples+10 && s.ProvenTo > was.ProvenTo
	})
	s := r.status("good")
	if s.Restarts != 0 || s.State != "running" || len(s.Voids) != 0 || s.Says != "connected" {
		r.Errorf("the good source noticed: %+v", s)
	}
	if most := r.heaviest(); most == 0 || most > mostMemory {
		r.Errorf("a worker had %d KiB", most)
	}
}
