// Package check injects one fault after the other into a gateway, its hub and its
// devices, and looks whether plantmesh-edge check names that one, with what helps, and
// no other.
package check

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"plantmesh/deploy/e2e/programs"
)

// bin is the folder with the programs; TestMain takes it away.
var bin string

func TestMain(m *testing.M) { os.Exit(withPrograms(m.Run)) }

func withPrograms(run func() int) int {
	dir, err := os.MkdirTemp("", "plantmesh check ")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	if err := programs.Into(context.Background(), dir, "plantmesh", "plantmesh-edge", "firmware-sim"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	bin = dir
	defer func() {
		if h, err := theHub(); err == nil {
			_ = h.cmd.Process.Kill()
			_ = h.cmd.Wait()
		}
	}()
	return run()
}

const within = 30 * time.Second

// process is a program that runs on.
type process struct {
	cmd *exec.Cmd
	mu  sync.Mutex
	out bytes.Buffer
}

func (p *process) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.out.Write(b)
}

func (p *process) String() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.out.String()
}

func begin(program string, args ...string) (*process, error) {
	p := &process{cmd: exec.Command(filepath.Join(bin, program), args...)}
	p.cmd.Stdout, p.cmd.Stderr, p.cmd.WaitDelay = p, p, within
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	return p, p.cmd.Start()
}

// says waits until the program has said what the pattern finds, and gives its groups.
func (p *process) says(pattern string) ([]string, error) {
	re := regexp.MustCompile(pattern)
	late := time.After(within)
	look := time.NewTicker(20 * time.Millisecond)
	defer look.Stop()
	for {
		if m := re.FindStringSubmatch(p.String()); m != nil {
			return m, nil
		}
		select {
		case <-look.C:
		case <-late:
			return nil, fmt.Errorf("it does not say %s:\n%s", pattern, p)
		}
	}
}

// started is begin for a test, which ends it.
func started(t *testing.T, program string, args ...string) *process {
	t.Helper()
	p, err := begin(program, args...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill()
		_ = p.cmd.Wait()
		if t.Failed() {
			t.Logf("%s said:\n%s", program, p)
		}
	})
	return p
}

func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	late := time.After(within)
	look := time.NewTicker(20 * time.Millisecond)
	defer look.Stop()
	for !ok() {
		select {
		case <-look.C:
		case <-late:
			t.Fatalf("waited in vain until %s", what)
		}
	}
}

// hub is the one hub of this suite.
type hub struct {
	*process

	page, nats string
	key        string // file of a one-time key that lets many in
}

var theHub = sync.OnceValues(func() (*hub, error) {
	dir := filepath.Join(bin, "hub")
	config := filepath.Join(dir, "hub.yaml")
	files := map[string]string{
		"hub.yaml": "data: data\nsite_file: site.yaml\nnats:\n  listen: 127.0.0.1:0\n  max_store: 1GiB\nhttp:\n  listen: 127.0.0.1:0\n",
		"site.yaml": "site: graz\nzone: Europe/Vienna\nproduction_day_start: \"06:00\"\nshifts:\n  - {id: early, start: \"06:00\", end: \"14:00\"}\nmin_coverage: 0.5\nenergy_unit: kWh\n" +
			"equipment:\n  - {id: line1-press, line: line1, name: Press, kind: press, source: press, signals_prefix: line1.press.}\n",
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			return nil, err
		}
	}
	p, err := begin("plantmesh", "serve", "--config", config)
	if err != nil {
		return nil, err
	}
	up, err := p.says(`hub is up" page=(\S+) nats=(\S+)`)
	if err != nil {
		return nil, errors.Join(err, p.cmd.Process.Kill())
	}
	key, err := exec.Command(filepath.Join(bin, "plantmesh"), "agents", "keys", "create", "--config", config, "--uses", "100").Output()
	if err != nil {
		return nil, errors.Join(err, p.cmd.Process.Kill())
	}
	h := &hub{process: p, page: up[1], nats: up[2], key: filepath.Join(dir, "key")}
	return h, os.WriteFile(h.key, key, 0o600)
})

// gateway is one that the hub has let in.
type gateway struct {
	t    *testing.T
	dir  string
	data string
	hub  *hub
	name string
}

// newGateway has one let in, with sources.
func newGateway(t *testing.T, sources map[string]string) *gateway {
	t.Helper()
	h, err := theHub()
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "pm ") //nolint:usetesting // too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	name := "gw-" + strings.ToLower(regexp.MustCompile(`[^A-Za-z0-9]+`).ReplaceAllString(t.Name(), "-"))
	g := &gateway{t: t, dir: dir, hub: h, name: name[:min(len(name), 60)]}
	// What another program does with the disk is no fault here: data lies in memory, where that can be.
	data, err := os.MkdirTemp("/dev/shm", "pm") //nolint:usetesting // in memory
	if err != nil {
		data = g.path("data")
	}
	t.Cleanup(func() { os.RemoveAll(data) })
	g.data = data
	g.must("enroll", "--config", g.path("edge.yaml"), "--agent", g.name, "--key-file", h.key, "--data", data, h.page)
	g.edit(`max_bytes: "4GiB"`, "max_bytes: 8MiB")
	for id, text := range sources {
		g.write("sources.d/"+id+".yaml", text)
	}
	return g
}

func (g *gateway) path(name string) string { return filepath.Join(g.dir, filepath.FromSlash(name)) }

func (g *gateway) write(name, text string) {
	g.t.Helper()
	if err := errors.Join(os.MkdirAll(filepath.Dir(g.path(name)), 0o700), os.WriteFile(g.path(name), []byte(text), 0o600)); err != nil {
		g.t.Fatal(err)
	}
}

// edit changes edge.yaml.
func (g *gateway) edit(old, text string) {
	g.t.Helper()
	b, err := os.ReadFile(g.path("edge.yaml"))
	if err != nil || strings.Count(string(b), old) != 1 {
		g.t.Fatalf("%q stands not once in %s, %v", old, b, err)
	}
	g.write("edge.yaml", strings.Replace(string(b), old, text, 1))
}

func (g *gateway) must(args ...string) string {
	g.t.Helper()
	code, out, said := g.run(nil, args...)
	if code != 0 {
		g.t.Fatalf("%q: exit code %d: %s%s", args, code, out, said)
	}
	return out
}

func (g *gateway) run(env []string, args ...string) (code int, out, said string) {
	g.t.Helper()
	ctx, cancel := context.WithTimeout(g.t.Context(), 2*within)
	defer cancel()
	cmd := exec.CommandContext(ctx, filepath.Join(bin, "plantmesh-edge"), args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr, cmd.Env = &stdout, &stderr, append(os.Environ(), env...)
	if err := cmd.Run(); err != nil && !errors.As(err, new(*exec.ExitError)) {
		g.t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), stdout.String(), stderr.String()
}

// outcome is one check of a report.
type outcome struct {
	ID, Source, Result, Message, Why, Fix, Doc string
}

func (o outcome) red() bool { return o.Result == "error" || o.Result == "fatal" }

// check runs all checks; env is added to the environment.
func (g *gateway) check(env ...string) (code int, all []outcome) {
	g.t.Helper()
	code, out, said := g.run(env, "check", "--json", "--config", g.path("edge.yaml"))
	var e struct {
		Data struct{ Checks []outcome }
	}
	if err := json.Unmarshal([]byte(out), &e); err != nil || len(e.Data.Checks) == 0 {
		g.t.Fatalf("%v: exit code %d: %s%s", err, code, out, said)
	}
	return code, e.Data.Checks
}
