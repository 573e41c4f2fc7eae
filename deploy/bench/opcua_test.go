package bench

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"plantmesh/edge/source"
	"plantmesh/proto/clock"
	"plantmesh/proto/mesh"
	"plantmesh/proto/wire"
)

// counting is an agent's log that only counts: its own costs are other rows'.
type counting struct{ values, bytes atomic.Int64 }

func (c *counting) State(string) ([]byte, error) { return nil, nil }

func (c *counting) Kept(string) (map[string][]byte, error) { return nil, nil }

func (c *counting) Append(_ context.Context, offers []mesh.Offer) ([]mesh.Position, error) {
	for _, o := range offers {
		for _, b := range o.Sealed {
			h, err := wire.ParseHeader(b)
			if err != nil {
				return nil, err
			}
			c.bytes.Add(int64(len(b)))
			if h.Kind == mesh.KindBatch {
				c.values.Add(int64(h.Count))
			}
		}
	}
	return make([]mesh.Position, len(offers)), nil
}

// built builds a program, here or in another module.
func built(t *testing.T, dir, pkg string) string {
	t.Helper()
	out := filepath.Join(t.TempDir(), filepath.Base(pkg))
	cmd := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-ldflags=-s -w", "-o", out, pkg)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), "CGO_ENABLED=0")
	if said, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build %s: %v\n%s", pkg, err, said)
	}
	return out
}

// TestBench_OPCUA reads the synthetic server with a worker process: all of that
// process's processor time counts, with sealing and the pipe to the agent.
func TestBench_OPCUA(t *testing.T) {
	if !full() {
		t.Skip("skipped: it has a server and a worker run for half a minute; make bench runs it")
	}
	perf := filepath.Join(shared(), "perf", "opcua")
	if _, err := os.Stat(perf); err != nil {
		if strings.Contains(os.Getenv("PLANTMESH_REQUIRE"), "shared") {
			t.Fatal("the synthetic server is not beside the project")
		}
		t.Skip("skipped: the synthetic server is not beside the project")
	}
	server, library, worker := built(t, perf, "./srv"), built(t, perf, "./cli"), built(t, ".", "plantmesh/edge/cmd/plantmesh-edge")
	// known is what the library's client takes on the machine that the bars were set for.
	for _, c := range []struct {
		name           string
		n              int
		hz, bar, known float64
	}{{"opcua_client_cpu", 1000, 0, 0.12, 1.06}, {"opcua_client_10hz", 5000, 10, 0.2, 1.5}} {
		port := 24840 + c.n%1000 + os.Getpid()%500
		srv := exec.CommandContext(t.Context(), server, "-port", strconv.Itoa(port), "-n", strconv.Itoa(c.n), "-hz", fmt.Sprint(c.hz))
		if err := srv.Start(); err != nil {
			t.Fatal(err)
		}
		endpoint := fmt.Sprintf("opc.tcp://127.0.0.1:%d", port)
		ours := costs(t, c.name, c.bar, c.n, worker, map[string]any{"file": "s1.yaml", "raw": sourceFile(endpoint, "insecure: true", c.n)})
		theirs := libraryCosts(t, library, endpoint, c.n)
		t.Logf("%s: the library's client takes %.2f s/M values, %.2f on the machine that the bar was set for", c.name, theirs, c.known)
		report(t, row{name: c.name + "_share", value: ours / theirs, unit: "of library", bar: math.Round(c.bar/c.known*1000) / 1000})
		if err := srv.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = srv.Wait() // killed
	}
	const n = 1000
	endpoint, app := encrypting(t, n)
	_ = costs(t, "opcua_client_encrypted", 0.25, n, worker, map[string]any{
		"file": "s1.yaml", "raw": sourceFile(endpoint, "policy: Basic256Sha256, mode: SignAndEncrypt", n), "application": app,
	})
}

// libraryCosts is what a bare client of the library spends, in seconds for a million
// values: the median that it prints behind the second bar.
func libraryCosts(t *testing.T, client, endpoint string, n int) float64 {
	t.Helper()
	said, err := exec.CommandContext(t.Context(), client, "-ep", endpoint, "-n", strconv.Itoa(n)).Output()
	if err != nil {
		t.Fatalf("the library's client: %v", err)
	}
	cells := strings.Split(string(said), "|")
	if len(cells) < 4 {
		t.Fatalf("the library's client said %q", said)
	}
	var cost float64
	if _, err := fmt.Sscan(cells[3], &cost); err != nil || !(cost > 0) {
		t.Fatalf("the library's client said %q: %v", said, err)
	}
	return cost
}

// costs reports what a worker with these orders spends for a value of n nodes: seconds for
// a million.
func costs(t *testing.T, name string, bar float64, n int, worker string, orders map[string]any) float64 {
	t.Helper()
	cost, values, size := reading(t, worker, orders, n)
	each := cost.Seconds() / values * 1e6
	report(t, row{name: name, value: each, unit: "s/M values", bar: bar, clock: true})
	t.Logf("%s: %.3g values/s at %.2f of a core, %.2f bytes a value into the pipe", name, values/span.Seconds(), cost.Seconds()/span.Seconds(), size/values)
	return each
}

// sourceFile is a source's file with n nodes of the synthetic server.
func sourceFile(endpoint, security string, n int) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "opcua:\n  id: s1\n  endpoint: %s\n  security: {%s}\n  signals:\n", endpoint, security)
	for i := range n {
		fmt.Fprintf(&b, "    - {name: s%05d, node: \"nsu=perf;s=s%05d\", type: double}\n", i, i)
	}
	return b.Bytes()
}

// span is how long is measured.
const span = 8 * time.Second

// reading has a worker with these orders read n nodes for a while: its processor
// time, the values it gave in that time, and their bytes.
func reading(t *testing.T, worker string, orders map[string]any, n int) (cost time.Duration, values, size float64) {
	t.Helper()
	job, err := json.Marshal(orders)
	if err != nil {
		t.Fatal(err)
	}
	var said bytes.Buffer
	spawn := func(context.Context) (source.Process, error) {
		return source.Exec(worker, []string{"worker"}, nil, &said)
	}
	log := &counting{}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	s := source.NewSupervisor(source.Config{ID: "s1", Worker: job}, spawn, log, clock.Machine{}.Now, slog.New(slog.DiscardHandler))
	go func() { ended <- s.Run(ctx) }()
	for limit := time.Now().Add(30 * time.Second); log.values.Load() < int64(3*n); {
		if time.Now().After(limit) {
			t.Fatalf("the worker reads nothing: %s", said.String())
		}
		wait(50 * time.Millisecond)
	}
	wait(2 * time.Second)
	pid := childOf(t, worker)
	from, had, sent := spent(t, pid), log.values.Load(), log.bytes.Load()
	wait(span)
	cost = spent(t, pid) - from
	values, size = float64(log.values.Load()-had), float64(log.bytes.Load()-sent)
	cancel()
	<-ended
	return cost, values, size
}

// childOf is the process of this one that runs a program.
func childOf(t *testing.T, program string) string {
	t.Helper()
	all, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		t.Fatal(err)
	}
	for _, dir := range all {
		if exe, err := os.Readlink(filepath.Join(dir, "exe")); err == nil && exe == program {
			return dir
		}
	}
	t.Fatalf("no process runs %s", program)
	return ""
}

// spent is the processor time of a process's threads (/proc/PID/task/TID/schedstat,
// nanoseconds: Documentation/scheduler/sched-stats.rst). The ticks of proc(5) are
// counted where the clock finds the processor busy, which a program that wakes by the
// same clock may escape or not.
func spent(t *testing.T, dir string) (all time.Duration) {
	t.Helper()
	threads, err := filepath.Glob(filepath.Join(dir, "task", "*", "schedstat"))
	if err != nil || len(threads) == 0 {
		t.Fatalf("no threads in %s (%v)", dir, err)
	}
	for _, path := range threads {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		on, _, _ := strings.Cut(string(b), " ")
		ns, err := strconv.ParseInt(on, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		all += time.Duration(ns)
	}
	return all
}

// wait lets others work: this is time that is measured, not a condition.
func wait(d time.Duration) { <-time.After(d) }
