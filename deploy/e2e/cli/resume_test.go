package cli

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// workers are the processes that an agent has started.
func workers(t *testing.T, agent int) (pids []int) {
	t.Helper()
	all, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range all {
		b, _ := os.ReadFile(path) // it may be gone
		_, after, _ := strings.Cut(string(b), ") ")
		f := strings.Fields(after)
		if len(f) < 2 || f[1] != strconv.Itoa(agent) || f[0] == "Z" {
			continue
		}
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		if err != nil {
			t.Fatal(err)
		}
		pids = append(pids, pid)
	}
	return pids
}

// TestSource_ResumeWhatWasSetAside: a source whose worker dies of the same each time is
// set aside; status says why, since when and how it comes back; that command brings it
// back at once, with its file as it is now, and no other source notices.
func TestSource_ResumeWhatWasSetAside(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("skipped: workers are found in /proc")
	}
	t.Parallel()
	dir := enrolled(t)
	edge := filepath.Join(dir, "edge.yaml")
	source := func(endpoint, more string) string {
		return "opcua:\n  id: press\n  endpoint: " + endpoint + "\n  security: {insecure: true}\n  signals:\n" +
			"    - {name: line1.filler.temperature, type: double, node: \"nsu=urn:plantmesh:firmware-sim;s=line1.filler.temperature\"}\n" + more
	}
	write(t, dir, map[string]string{"sources.d/press.yaml": source("opc.tcp://127.0.0.1:1", "")})
	agent := begin(t, t.TempDir(), nil, "plantmesh-edge", "run", "--config", edge)
	resume := func() result { return run(t, nil, "plantmesh-edge", "source", "resume", "--config", edge, "press") }
	var s status
	until(t, 20*time.Second, "the source is tried", func() bool { return ask(t, edge, &s) && len(s.Sources) == 1 && s.Sources[0].State == "running" })
	if r := resume(); r.code != 0 || !strings.Contains(r.out, "press is running since ") || !strings.Contains(r.out, "was left alone") {
		t.Errorf("exit code %d: %s%s", r.code, r.out, r.err)
	}
	until(t, time.Minute, "the source is set aside", func() bool {
		for _, pid := range workers(t, agent.cmd.Process.Pid) {
			if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && err != syscall.ESRCH {
				t.Fatal(err)
			}
		}
		return ask(t, edge, &s) && s.Sources[0].State == "set aside"
	})
	a := s.Sources[0].Aside
	if a == nil || a.Deaths != 5 || a.Reason != "the worker is gone: signal: killed" {
		t.Fatalf("%+v", s.Sources[0])
	}
	since, err1 := time.Parse(time.RFC3339, a.Since)
	next, err2 := time.Parse(time.RFC3339, a.Next)
	if err1 != nil || err2 != nil || time.Since(since) > time.Minute || next.Sub(since) != 10*time.Minute {
		t.Errorf("%+v", a)
	}
	r := run(t, nil, "plantmesh-edge", "status", "--config", edge)
	if r.code != exitFindings || !strings.HasPrefix(r.err, "plantmesh-edge: it needs somebody: source press is set aside since "+a.Since) || !strings.Contains(r.err, " [status.degraded]\nNext:  plantmesh-edge source resume press ") {
		t.Errorf("status ends with %d: %s", r.code, r.err)
	}
	text := r.out
	command := regexp.MustCompile(`(?m)^  aside  since ` + a.Since + `, tried again at ` + a.Next + `; or at once by: (.*)$`).FindStringSubmatch(text)
	if command == nil || !strings.Contains(text, "  error  set aside: its worker died 5 times in a row of the same cause, and nothing came through: the worker is gone: signal: killed. It is tried again every 10m0s") {
		t.Fatalf("status says\n%s", text)
	}
	t.Log(text)
	oneLine(t, run(t, nil, "plantmesh-edge", "source", "resume", "--config", edge, "pres"), exitUsage, `the agent reads no "pres", but press`)
	// Somebody edits the file, first wrongly.
	write(t, dir, map[string]string{"sources.d/press.yaml": source(device(t, dir), "    - {name: line1.filler.speed, type: real, node: i=1}\n")})
	oneLine(t, resume(), exitConfig, "sources.d/press.yaml:7: type \"real\" is none of")
	if ask(t, edge, &s); s.Sources[0].State != "set aside" {
		t.Errorf("%+v", s.Sources[0])
	}
	write(t, dir, map[string]string{"sources.d/press.yaml": strings.ReplaceAll(contents(t, filepath.Join(dir, "sources.d", "press.yaml")), "    - {name: line1.filler.speed, type: real, node: i=1}\n", "")})
	cmd := exec.Command("sh", "-c", command[1]) // as it was told
	cmd.Env = append(os.Environ(), "PATH="+programs+":"+os.Getenv("PATH"))
	said, err := cmd.CombinedOutput()
	want := fmt.Sprintf("press is tried now. It was set aside since %s, after its worker died 5 times: the worker is gone: signal: killed\nIts file was changed meanwhile, and counts as it is now.\nNext:  plantmesh-edge status --config '%s'\n", a.Since, edge)
	if err != nil || string(said) != want {
		t.Errorf("%v: %s\nwant %s", err, said, want)
	}
	until(t, 20*time.Second, "its values are kept", func() bool {
		return ask(t, edge, &s) && s.Sources[0].State == "running" && s.Sources[0].Samples > 0 && s.Sources[0].Aside == nil
	})
	agent.signal(interrupt)
	if code := agent.ends(20 * time.Second); code != 0 {
		t.Errorf("the agent ended with %d", code)
	}
}
