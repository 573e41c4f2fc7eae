package cli

import (
	"encoding/json"
	"net"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// oneLine checks an exit code and that stderr is one line with all of want.
func oneLine(t *testing.T, r result, code int, want ...string) {
	t.Helper()
	got := strings.TrimSuffix(r.err, "\n")
	if r.code != code || got == "" || strings.Contains(got, "\n") {
		t.Errorf("exit code %d, want %d and one line; stderr:\n%s", r.code, code, r.err)
	}
	for _, w := range want {
		if !strings.Contains(got, w) {
			t.Errorf("%q does not say %q", got, w)
		}
	}
}

// without is r less the line that says what comes next.
func without(r result, next string) result {
	r.err = strings.Replace(r.err, next+"\n", "", 1)
	return r
}

// taken is an address that somebody listens at.
func taken(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l.Addr().String()
}

func TestUsage_ExitsWithTwo(t *testing.T) {
	for name, c := range map[string]struct {
		program string
		args    []string
		want    string
	}{
		"edge: no command":        {"plantmesh-edge", nil, "expected one of"},
		"edge: unknown command":   {"plantmesh-edge", []string{"frob"}, "frob"},
		"edge: unknown flag":      {"plantmesh-edge", []string{"check", "--confg", "x"}, "--confg"},
		"edge: no config":         {"plantmesh-edge", []string{"run"}, "--config"},
		"edge: port of a server":  {"plantmesh-edge", []string{"browse", "--insecure", "opc.tcp://press:99999"}, "its port must be a number from 1 to 65535; write opc.tcp://press:4840"},
		"edge: server's scheme":   {"plantmesh-edge", []string{"browse", "--insecure", "opc.tpc://press"}, "its scheme must be opc.tcp://; write opc.tcp://press:4840"},
		"edge: no broker":         {"plantmesh-edge", []string{"source", "test", "mqtt://:1884", "--topic", "#"}, "the host is missing; write mqtt://host:1884"},
		"edge: a broker's user":   {"plantmesh-edge", []string{"source", "test", "mqtt://me:word@press:99999", "--topic", "#"}, "what stands behind the @ is no mqtt://host:port"},
		"hub: unknown command":    {"plantmesh", []string{"frob"}, "frob"},
		"hub: no key":             {"plantmesh", []string{"agents", "enroll", "--config", "x", "--site", "graz", "gw-1"}, "<key>"},
		"sim: unknown flag":       {"firmware-sim", []string{"run", "--frob"}, "--frob"},
		"demo: assert needs for":  {"plantmesh", []string{"demo", "--assert"}, "need --for"},
		"demo: fault needs for":   {"plantmesh", []string{"demo", "--fault", "kill-hub"}, "need --for"},
		"demo: unknown fault":     {"plantmesh", []string{"demo", "--for", "1h", "--fault", "kill-cat"}, "kill-cat"},
		"demo: speed needs for":   {"plantmesh", []string{"demo", "--speed", "60"}, "speed 1"},
		"demo: no speed":          {"plantmesh", []string{"demo", "--for", "1h", "--speed", "0"}, "--speed"},
		"demo: backwards":         {"plantmesh", []string{"demo", "--for=-1h"}, "--for"},
		"demo: future":            {"plantmesh", []string{"demo", "--start", "2999-01-01T00:00:00Z", "--for", "1h"}, "ahead of now"},
		"demo: no time":           {"plantmesh", []string{"demo", "--start", "yesterday"}, "yesterday"},
		"demo: for all":           {"plantmesh", []string{"demo", "--listen", "0.0.0.0:8080"}, "not loopback"},
		"demo: no port":           {"plantmesh", []string{"demo", "--listen", "8080"}, "no host:port"},
		"demo: folder with files": {"plantmesh", []string{"demo", "--listen", "127.0.0.1:0", "--dir", "/"}, "is not empty"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			oneLine(t, run(t, nil, c.program, c.args...), exitUsage, c.want)
		})
	}
}

func TestPort_InUseIsNamed(t *testing.T) {
	at := taken(t)
	for name, c := range map[string]struct {
		command         func(dir string) (string, []string)
		file, old, text string
	}{
		"hub http": {hubCommand, "hub.yaml", "http:\n  listen: 127.0.0.1:0", "http:\n  listen: " + at},
		"hub nats": {hubCommand, "hub.yaml", "nats:\n  listen: 127.0.0.1:0", "nats:\n  listen: " + at},
		"sim":      {simCommand, "sim.yaml", "listen: 127.0.0.1:0", "listen: " + at},
		"demo": {func(string) (string, []string) {
			return "plantmesh", []string{"demo", "--listen", at}
		}, "sim.yaml", "seed: 1", "seed: 1"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir, files := folder(t), good()
			spoil(t, files, c.file, c.old, c.text)
			write(t, dir, files)
			program, args := c.command(dir)
			r := run(t, nil, program, args...)
			if r.code != exitNetwork || !strings.Contains(r.last(), at) {
				t.Errorf("exit code %d, stderr:\n%s\nwant %d and the address %s", r.code, r.err, exitNetwork, at)
			}
		})
	}
}

// enrolled makes a folder with an agent that the hub has signed. Nothing runs.
func enrolled(t *testing.T) (dir string) {
	t.Helper()
	dir = folder(t)
	files := good()
	delete(files, "agent.nk")
	delete(files, "agent.jwt")
	for _, source := range []string{"a", "b", "c", "d"} {
		delete(files, "sources.d/"+source+".yaml")
	}
	write(t, dir, files)
	key := must(t, "plantmesh-edge", "keygen", filepath.Join(dir, "agent.nk"))
	token := must(t, "plantmesh", "agents", "enroll", "--config", filepath.Join(dir, "hub.yaml"), "--site", "graz", "gw-1", key)
	write(t, dir, map[string]string{"agent.jwt": token + "\n"})
	return dir
}

func TestAgents_EnrollAndList(t *testing.T) {
	t.Parallel()
	dir := enrolled(t)
	hub := filepath.Join(dir, "hub.yaml")
	key := must(t, "plantmesh-edge", "keygen", filepath.Join(dir, "agent.nk"))
	if !strings.HasPrefix(key, "U") || len(key) != 56 {
		t.Errorf("keygen printed %q", key)
	}
	must(t, "plantmesh", "agents", "enroll", "--config", hub, "--site", "graz", "gw-1", key) // the same again is no harm
	other := must(t, "plantmesh-edge", "keygen", filepath.Join(dir, "other.nk"))
	if other == key {
		t.Error("two gateways have one key")
	}
	oneLine(t, run(t, nil, "plantmesh", "agents", "enroll", "--config", hub, "--site", "graz", "gw-1", other), exitIdentity, "gw-1 at graz", "another key")
	oneLine(t, run(t, nil, "plantmesh", "agents", "enroll", "--config", hub, "--site", "graz", "GW 1", other), exitIdentity, "GW 1")
	oneLine(t, run(t, nil, "plantmesh", "agents", "enroll", "--config", hub, "--site", "graz", "gw-2", "UABC"), exitIdentity, "UABC")
	oneLine(t, run(t, nil, "plantmesh", "agents", "enroll", "--config", hub, "--site", "linz", "gw-2", other), exitIdentity, "this hub's site is graz; did you mean --site graz?")
	must(t, "plantmesh", "agents", "enroll", "--config", hub, "--site", "graz", "gw-2", other)
	list := strings.Split(must(t, "plantmesh", "agents", "list", "--config", hub), "\n")
	if len(list) != 2 || !strings.HasPrefix(list[0], "graz\tgw-1\tenrolled 2") || !strings.HasPrefix(list[1], "graz\tgw-2\t") {
		t.Errorf("agents list printed %q", list)
	}
	oneLine(t, run(t, nil, "plantmesh", "agents", "list", "--config", hub+"x"), exitConfig, "no such file")
}

func TestAgent_OneAtATime(t *testing.T) {
	t.Parallel()
	dir := enrolled(t)
	edge := filepath.Join(dir, "edge.yaml")
	oneLine(t, without(run(t, nil, "plantmesh-edge", "status", "--config", edge), "Next:  plantmesh-edge run --config '"+edge+"'"), exitState, "not running")
	agent := begin(t, t.TempDir(), nil, "plantmesh-edge", "run", "--config", edge)
	agent.says(agent.err, "agent is up", 20*time.Second)
	var s status
	until(t, 10*time.Second, "the agent answers", func() bool { return ask(t, edge, &s) })
	if s.Agent != "gw-1" || s.Site != "graz" || s.Hub.Connected {
		t.Errorf("status %+v", s)
	}
	if text := must(t, "plantmesh-edge", "status", "--config", edge); !strings.Contains(text, "agent    gw-1 at graz") {
		t.Errorf("status printed\n%s", text)
	}
	if text := must(t, "plantmesh-edge", "status", "-c", edge, "--watch", "--every", "100ms", "--for", "2s"); strings.Count(text, "agent    gw-1 at graz") < 2 {
		t.Errorf("watched, status printed\n%s", text)
	}
	asksForItsBuffer(t, dir, edge)
	r := run(t, nil, "plantmesh-edge", "run", "--config", edge)
	if r.code != exitState || !strings.Contains(r.last(), "another agent uses this directory") {
		t.Errorf("a second agent: exit code %d, stderr:\n%s", r.code, r.err)
	}
	agent.signal(interrupt)
	if code := agent.ends(10 * time.Second); code != 0 {
		t.Errorf("the agent ended with %d", code)
	}
	oneLine(t, without(run(t, nil, "plantmesh-edge", "status", "--config", edge), "Next:  plantmesh-edge run --config '"+edge+"'"), exitState, "; it last wrote at 2")
}

// asksForItsBuffer asks a running agent, whose hub isn't there, what it keeps.
func asksForItsBuffer(t *testing.T, dir, edge string) {
	t.Helper()
	if text := must(t, "plantmesh-edge", "buffer", "status", "--config", edge); !strings.Contains(text, "records the hub has not yet") {
		t.Errorf("buffer status printed\n%s", text)
	}
	text := must(t, "plantmesh-edge", "buffer", "verify", "--config", edge)
	if !strings.Contains(text, "all can be read") || strings.Contains(text, " 0 records: all") {
		t.Errorf("buffer verify printed\n%s", text)
	}
	file := filepath.Join(dir, "kept.frames")
	must(t, "plantmesh-edge", "buffer", "export", "--config", edge, file)
	if d := must(t, "plantmesh-edge", "dump", file); !strings.Contains(d, `"kind":"opening"`) {
		t.Errorf("the export holds\n%s", d)
	}
	oneLine(t, run(t, nil, "plantmesh-edge", "buffer", "export", "--config", edge, file), exitState, "there already")
	if text := must(t, "plantmesh-edge", "buffer", "compact", "--all", "--config", edge); !strings.Contains(text, "0.0 MiB given back") {
		t.Errorf("buffer compact printed\n%s", text)
	}
}

// interrupt is Ctrl-C.
const interrupt = syscall.SIGINT

// status is what this package reads of `plantmesh-edge status --json`.
type status struct {
	Agent string `json:"agent"`
	Site  string `json:"site"`
	Hub   struct {
		Connected bool `json:"connected"`
	} `json:"hub"`
	Sources []struct {
		Source   string `json:"source"`
		State    string `json:"state"`
		Restarts int    `json:"restarts"`
		Samples  uint64 `json:"samples"`
		Aside    *struct {
			Reason string `json:"reason"`
			Since  string `json:"since"`
			Next   string `json:"next"`
			Deaths int    `json:"deaths"`
		} `json:"aside"`
		Voids map[string]struct {
			Voids  uint64 `json:"voids"`
			Count  uint64 `json:"count"`
			Latest string `json:"latest"`
		} `json:"voids"`
	} `json:"sources"`
}

// ask asks the agent how it is; false: it does not answer yet.
func ask(t *testing.T, edge string, s *status) bool {
	t.Helper()
	r := run(t, nil, "plantmesh-edge", "status", "--config", edge, "--json")
	if r.code == exitState {
		return false
	}
	*s = status{}
	answer := struct{ Data *status }{s}
	if err := json.Unmarshal([]byte(r.out), &answer); err != nil {
		t.Fatalf("status --json: %v: %s%s", err, r.out, r.err)
	}
	return true
}
