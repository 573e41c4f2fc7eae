package release

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"plantmesh/deploy/e2e/nodejs"
	"plantmesh/deploy/e2e/programs"
)

// Bars of the way from nothing to a value in the hub.
const (
	mostCommands = 6
	mostTime     = 5 * time.Minute
)

// elsewhere is a hub on another machine: here outside the box, where its plant was planned
// already.
type elsewhere struct {
	*testing.T

	dir, yaml, page string
}

func newElsewhere(t *testing.T) *elsewhere {
	t.Helper()
	h := &elsewhere{T: t, dir: t.TempDir()}
	h.yaml = filepath.Join(h.dir, "hub.yaml")
	if err := programs.Into(t.Context(), h.dir, "plantmesh", "firmware-sim"); err != nil {
		t.Fatal(err)
	}
	_, port := free(t)
	h.page = "http://127.0.0.1:" + port["8080"]
	h.write("hub.yaml", fmt.Sprintf("data: hub\nsite_file: site.yaml\nnats: {listen: \"127.0.0.1:%s\"}\nhttp: {listen: \"127.0.0.1:%s\"}\n", port["4222"], port["8080"]))
	h.write("site.yaml", `site: graz
zone: Europe/Vienna
production_day_start: "06:00"
shifts:
  - {id: early, start: "06:00", end: "14:00"}
min_coverage: 0.5
energy_unit: kWh
equipment:
  - {id: line1-filler, line: line1, name: Filler, kind: filler, source: machine, signals_prefix: line1.filler.}
  - {id: hall2-press, line: hall2, name: Press, kind: press, source: machine, signals_prefix: hall2.press.}
`)
	h.runs("plantmesh", "serve", "--config", h.yaml)
	until(t, time.Minute, "the hub is up", func() bool { return h.get("/livez") != "" })
	return h
}

func (h *elsewhere) write(name, text string) {
	h.Helper()
	if err := os.WriteFile(filepath.Join(h.dir, name), []byte(text), 0o600); err != nil {
		h.Fatal(err)
	}
}

// runs starts a program that ends with the test, and gives what it says.
func (h *elsewhere) runs(program string, args ...string) io.Reader {
	h.Helper()
	cmd := exec.Command(filepath.Join(h.dir, program), args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := cmd.StdoutPipe()
	if err != nil {
		h.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		h.Fatal(err)
	}
	h.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return out
}

// says is what a command of the hub's machine says.
func (h *elsewhere) says(args ...string) string {
	h.Helper()
	return do(h.T, h.dir, filepath.Join(h.dir, "plantmesh"), args...)
}

func (h *elsewhere) get(path string) string {
	r, err := http.Get(h.page + path)
	if err != nil {
		return ""
	}
	defer r.Body.Close()
	said, err := io.ReadAll(r.Body)
	if err != nil || r.StatusCode != http.StatusOK {
		return ""
	}
	return string(said)
}

// simulator is the plant of firmware-sim, as it is now.
func simulator(h *elsewhere) (endpoint string) {
	h.Helper()
	now := time.Now()
	h.write("sim.yaml", fmt.Sprintf("seed: 3\nstart: %s\nuntil: %s\nclock: clock.json\nledger: ledger.csv\nservers:\n  - {source: line1-opcua, kind: opcua, listen: \"127.0.0.1:0\"}\n",
		now.Add(-time.Minute).UTC().Format(time.RFC3339), now.Add(time.Hour).UTC().Format(time.RFC3339)))
	h.write("clock.json", fmt.Sprintf(`{"plant_ns":%d,"machine_ns":%d,"speed":1,"stop_ns":0}`, now.UnixNano(), now.UnixNano()))
	for lines := bufio.NewScanner(h.runs("firmware-sim", "run", "--config", filepath.Join(h.dir, "sim.yaml"))); lines.Scan(); {
		var ready struct{ Servers map[string]string }
		if strings.Contains(lines.Text(), `"event":"ready"`) && json.Unmarshal(lines.Bytes(), &ready) == nil {
			return ready.Servers["line1-opcua"]
		}
	}
	h.Fatal("the simulator is not ready")
	return ""
}

// stranger is a server of node-opcua with a certificate that nobody knows.
func stranger(h *elsewhere) (endpoint string) {
	h.Helper()
	tests := filepath.Join(root, "deploy", "e2e")
	modules, err := nodejs.Modules(h.Context(), filepath.Join(tests, "opcua", "testdata"), "node-opcua-2.182.2")
	if err != nil {
		h.Skip(err)
	}
	_, port := free(h.T)
	cmd := exec.Command("node", filepath.Join(tests, "cli", "testdata", "node-opcua", "plant.js"))
	cmd.Env = append(os.Environ(), "NODE_PATH="+modules, "PORT="+port["4840"], "SPECS=yes", "DIR="+h.TempDir())
	in, err := cmd.StdinPipe() // the server ends with it
	if err != nil {
		h.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		h.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		h.Fatal(err)
	}
	h.Cleanup(func() {
		_ = in.Close()
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	for lines := bufio.NewScanner(out); lines.Scan(); {
		if url, ok := strings.CutPrefix(lines.Text(), "ready "); ok {
			return url
		}
	}
	h.Fatal("node-opcua is not ready")
	return ""
}

// technician types at the gateway, and counts.
type technician struct {
	*box

	commands []string
}

func (p *technician) types(words ...string) string {
	p.Helper()
	p.commands = append(p.commands, strings.Join(words, " "))
	return p.run(words...)
}

// From a machine with nothing on it to a value in the hub: how many commands, and how
// long. Nobody edits a file.
func TestRelease_FirstValue(t *testing.T) {
	full(t)
	deb := file(t, packages(t, clone(t, "here"), "amd64"), "plantmesh-edge", "amd64", ".deb")
	bare := clean(t)
	for name, c := range map[string]struct {
		server    func(*elsewhere) string
		protected bool
		equipment string
	}{
		"the simulator": {simulator, false, "line1-filler"},
		"node-opcua, whose certificate nobody knows": {stranger, true, "hall2-press"},
	} {
		t.Run(name, func(t *testing.T) {
			h := newElsewhere(t)
			endpoint := c.server(h)
			root := filepath.Join(t.TempDir(), "debian")
			do(t, ".", "cp", "--archive", bare, root)
			p := &technician{box: debian(t, root)}
			p.bring(deb, "root/edge.deb")
			began := time.Now()
			p.installsAndEnrols(h)
			p.readsTheMachine(endpoint, c.protected)
			p.types("systemctl", "restart", "plantmesh-edge")
			var rows string
			until(t, time.Minute, "a value is in the hub", func() bool {
				rows = h.get("/api/v1/products/signals/rows?format=csv&limit=3&equipment=" + c.equipment)
				return strings.Count(rows, "\n") > 1
			})
			took := time.Since(began)
			t.Logf("%d commands, %s:\n%s\n%s", len(p.commands), took.Round(100*time.Millisecond), strings.Join(p.commands, "\n"), rows)
			if len(p.commands) > mostCommands || took > mostTime {
				t.Errorf("%d commands and %s, at most %d and %s are allowed", len(p.commands), took, mostCommands, mostTime)
			}
		})
	}
}

// installsAndEnrols: the gateway asks, and somebody lets it in where the hub is; that
// counts as a command, too.
func (p *technician) installsAndEnrols(h *elsewhere) {
	p.Helper()
	p.types("dpkg", "--install", "/root/edge.deb")
	enrolled := make(chan string, 1)
	p.commands = append(p.commands, "plantmesh-edge enroll "+h.page)
	go func() {
		said, err := p.try("plantmesh-edge", "enroll", "--agent", "gw-1", h.page)
		enrolled <- fmt.Sprintf("%v\n%s", err, said)
	}()
	code := ""
	until(p.T, time.Minute, "the gateway asks", func() bool {
		code, _, _ = strings.Cut(h.says("agents", "inbox", "--config", h.yaml), "\t")
		return regexp.MustCompile(`^[0-9A-Z]{4}-[0-9A-Z]{4}$`).MatchString(code)
	})
	h.says("agents", "approve", "--config", h.yaml, code)
	p.commands = append(p.commands, "(at the hub) plantmesh agents approve --config hub.yaml "+code)
	if said := <-enrolled; !strings.HasPrefix(said, "<nil>") {
		p.Fatalf("enroll: %s", said)
	}
}

// readsTheMachine looks what the server offers, and has a source of it. What it shows as
// fingerprint somebody compares with the machine's own display.
func (p *technician) readsTheMachine(endpoint string, protected bool) {
	p.Helper()
	host, _, _ := strings.Cut(strings.TrimPrefix(endpoint, "opc.tcp://"), "/")
	offers := p.types("plantmesh-edge", "browse", host)
	how := []string{"--insecure"}
	if protected {
		shown := regexp.MustCompile(`SHA256:[0-9A-Za-z:+/=]+`).FindString(offers)
		if shown == "" {
			p.Fatalf("no fingerprint is shown:\n%s", offers)
		}
		how = []string{"--trust", shown, "--accept-host-mismatch"}
	}
	said := p.types(append([]string{"plantmesh-edge", "source", "add", endpoint, "--id", "machine"}, how...)...)
	p.Log(said)
}
