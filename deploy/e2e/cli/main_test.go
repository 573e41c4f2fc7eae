// Package cli tests the three programs from outside, as people start them.
package cli

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	built "plantmesh/deploy/e2e/programs"
)

// Exit codes are a public contract; they are told again here on purpose.
const (
	exitUsage    = 2
	exitConfig   = 3
	exitNetwork  = 4
	exitIdentity = 5
	exitState    = 6
	exitFindings = 7
	exitEnded    = 8 // before it was done
)

// programs is the folder with the binaries. Its path has a space in it.
var programs string

func TestMain(m *testing.M) {
	flag.Parse()
	if err := flag.Set("test.parallel", "4"); err != nil { // they wait for programs most of the time
		panic(err)
	}
	os.Exit(withPrograms(m.Run))
}

func withPrograms(run func() int) int {
	dir, err := os.MkdirTemp("", "plantmesh cli ")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	if err := built.Into(context.Background(), dir, "plantmesh", "plantmesh-edge", "firmware-sim"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	programs = dir
	if token, err = sign(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return run()
}

// token is what a hub of site graz signed for the agent gw-1 with seed as key.
var token string

// seed is a key of nobody.
const seed = "SUACSSL3UAHUDXKFSNVUZRF5UHPMWZ6BFDTJ7M6USDXIEDNPPQYYYCU3VY\n"

func sign() (string, error) {
	dir, err := os.MkdirTemp("", "pm")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(dir)
	files := good()
	for _, name := range []string{"hub.yaml", "site.yaml", "agent.nk"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(files[name]), 0o600); err != nil {
			return "", err
		}
	}
	key, err := exec.Command(filepath.Join(programs, "plantmesh-edge"), "keygen", filepath.Join(dir, "agent.nk")).Output()
	if err != nil {
		return "", fmt.Errorf("make a key: %w", err)
	}
	out, err := exec.Command(filepath.Join(programs, "plantmesh"), "agents", "enroll", "--config", filepath.Join(dir, "hub.yaml"),
		"--site", "graz", "gw-1", strings.TrimSpace(string(key))).Output()
	if err != nil {
		return "", fmt.Errorf("sign an agent: %w", err)
	}
	return string(out), nil
}

// folder is an empty folder with a space in its path, and a short one: the
// status socket must fit into 107 bytes.
func folder(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "pm ") //nolint:usetesting // too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// write puts files, by their path in dir, on disk.
func write(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// result is how a program ended.
type result struct {
	code     int
	out, err string
}

// last is the last line of stderr.
func (r result) last() string {
	lines := strings.Split(strings.TrimSpace(r.err), "\n")
	return lines[len(lines)-1]
}

// run runs a program to its end. env is added to the environment.
func run(t *testing.T, env []string, program string, args ...string) result {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, filepath.Join(programs, program), args...)
	var out, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr, cmd.Dir = &out, &stderr, t.TempDir()
	cmd.Env = append(os.Environ(), env...)
	err := cmd.Run()
	if ctx.Err() != nil {
		t.Fatalf("%s %s did not end:\n%s%s", program, args, out.String(), stderr.String())
	}
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return result{cmd.ProcessState.ExitCode(), out.String(), stderr.String()}
}

// must is run for what should succeed; it returns the trimmed output.
func must(t *testing.T, program string, args ...string) string {
	t.Helper()
	r := run(t, nil, program, args...)
	if r.code != 0 {
		t.Fatalf("%s %s: exit code %d: %s", program, args, r.code, r.err)
	}
	return strings.TrimSpace(r.out)
}

// process is a program that runs on.
type process struct {
	t    *testing.T
	cmd  *exec.Cmd
	out  *lines
	err  *lines
	done chan struct{}
}

// begin starts a program in dir. It is killed when the test ends.
func begin(t *testing.T, dir string, env []string, program string, args ...string) *process {
	t.Helper()
	p := &process{t: t, out: &lines{}, err: &lines{}, done: make(chan struct{})}
	p.cmd = exec.Command(filepath.Join(programs, program), args...)
	p.cmd.Dir, p.cmd.Stdout, p.cmd.Stderr = dir, p.out, p.err
	p.cmd.Env = append(os.Environ(), env...)
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // a test's Ctrl-C is not its own
	p.cmd.WaitDelay = 20 * time.Second
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		p.cmd.Wait() // the code is asked for later
		close(p.done)
	}()
	t.Cleanup(func() {
		p.cmd.Process.Kill()
		<-p.done
		if t.Failed() {
			t.Logf("%s said:\n%s%s", program, p.out, p.err)
		}
	})
	return p
}

// signal sends a signal to the process alone.
func (p *process) signal(s os.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		p.t.Fatal(err)
	}
}

// ends waits for the end and gives the exit code.
func (p *process) ends(within time.Duration) int {
	p.t.Helper()
	select {
	case <-p.done:
	case <-time.After(within):
		p.t.Fatalf("it did not end within %s", within)
	}
	return p.cmd.ProcessState.ExitCode()
}

// says waits until a line of the output holds text, and gives the line.
func (p *process) says(from *lines, text string, within time.Duration) (line string) {
	p.t.Helper()
	until(p.t, within, "it says "+text, func() bool {
		line = from.with(text)
		select {
		case <-p.done:
			if line == "" {
				p.t.Fatalf("it ended before it said %q", text)
			}
		default:
		}
		return line != ""
	})
	return line
}

// until waits for a condition.
func until(t *testing.T, within time.Duration, what string, ok func() bool) {
	t.Helper()
	late := time.After(within)
	look := time.NewTicker(250 * time.Millisecond) // most look by starting a program
	defer look.Stop()
	for !ok() {
		select {
		case <-look.C:
		case <-late:
			t.Fatalf("waited %s in vain until %s", within, what)
		}
	}
}
