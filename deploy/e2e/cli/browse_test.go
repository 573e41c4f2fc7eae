package cli

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"plantmesh/edge/agent"
	"plantmesh/edge/source/opcua/browse"
)

// device starts the plant simulator with one OPC UA server, and gives its endpoint.
func device(t *testing.T, dir string) string {
	t.Helper()
	write(t, dir, map[string]string{
		"sim/sim.yaml": "seed: 3\nstart: 2026-03-02T06:00:00Z\nuntil: 2026-03-02T06:10:00Z\nclock: clock.json\nledger: ledger.csv\n" +
			"servers:\n  - {source: line1-opcua, kind: opcua, listen: \"127.0.0.1:0\"}\n",
		"sim/clock.json": fmt.Sprintf(`{"plant_ns":%d,"machine_ns":%d,"speed":1,"stop_ns":0}`, time.Date(2026, 3, 2, 6, 10, 0, 0, time.UTC).UnixNano(), time.Now().UnixNano()),
	})
	p := begin(t, dir, nil, "firmware-sim", "run", "--config", filepath.Join(dir, "sim", "sim.yaml"))
	var ready struct{ Servers map[string]string }
	if err := json.Unmarshal([]byte(p.says(p.out, `"event":"ready"`, 20*time.Second)), &ready); err != nil {
		t.Fatal(err)
	}
	return ready.Servers["line1-opcua"]
}

// browsed is what browse answers to --json.
type browsed struct {
	Summary  browse.Summary   `json:"summary"`
	Nodes    []browse.Node    `json:"nodes"`
	Machines []browse.Machine `json:"machines"`
	Source   string           `json:"source"`
	Preview  *browse.Preview  `json:"preview"`
}

func asked(t *testing.T, args ...string) (b browsed) {
	t.Helper()
	r := run(t, nil, "plantmesh-edge", append([]string{"--json", "browse"}, args...)...)
	e := answered(t, r.out)
	if r.code != 0 || !e.OK {
		t.Fatalf("exit code %d: %s%s", r.code, r.out, r.err)
	}
	if err := json.Unmarshal(e.Data, &b); err != nil {
		t.Fatal(err)
	}
	return b
}

// What is proposed for the plant of the demo is a file that the agent takes, and
// every field of the products is fed.
func TestBrowse_ProposesASourceFile(t *testing.T) {
	t.Parallel()
	dir, files := folder(t), good()
	delete(files, "sources.d/a.yaml")
	for _, source := range []string{"b", "c", "d"} {
		delete(files, "sources.d/"+source+".yaml")
	}
	write(t, dir, files)
	url := device(t, dir)
	b := asked(t, url, "--insecure", "--propose", "--measure", "1s", "--config", filepath.Join(dir, "edge.yaml"))
	var names []string
	for _, m := range b.Machines {
		names = append(names, m.Name)
		if m.Score < 90 || len(m.Empty)+len(m.Left) > 0 || !slices.Equal(m.Specs, []string{"Machinery", "PackML"}) {
			t.Errorf("%+v", m)
		}
	}
	slices.Sort(names)
	if !slices.Equal(names, []string{"line1-capper", "line1-filler", "line1-labeller", "line1-palletiser"}) {
		t.Errorf("machines %v", names)
	}
	for _, machine := range []string{"filler", "capper", "labeller", "palletiser"} {
		for _, role := range []string{"state", "mode", "produced", "scrap", "order", "product", "stop_reason", "energy", "speed", "blocked", "starved", "temperature", "vibration", "current"} {
			if want := "name: line1." + machine + "." + role + ", type"; !strings.Contains(b.Source, want) {
				t.Errorf("the file lacks %q", want)
			}
		}
	}
	p := b.Preview
	if p == nil || p.Items != 56 || p.Sessions != 1 || len(p.Empty) > 0 || len(p.Filled) != len(browse.Fields()) || p.BytesPerDay <= 0 || p.WrittenPerDay <= p.BytesPerDay || p.BufferHours == nil || p.BufferBytes != 64<<20 {
		t.Errorf("preview %+v", p)
	}
	out := filepath.Join(dir, "sources.d", "line1.yaml")
	if err := os.MkdirAll(filepath.Dir(out), 0o700); err != nil {
		t.Fatal(err)
	}
	wrote := run(t, nil, "plantmesh-edge", "browse", url, "--insecure", "--out", out, "--measure", "300ms", "--config", filepath.Join(dir, "edge.yaml"))
	if wrote.code != 0 || wrote.out != out+": a source with 56 signals\n" || !strings.Contains(wrote.last(), "plantmesh-edge source test '"+out+"' --config ") {
		t.Errorf("exit code %d: %s%s", wrote.code, wrote.out, wrote.err)
	}
	if again := run(t, nil, "plantmesh-edge", "browse", url, "--insecure", "--out", out, "--measure", "300ms"); again.code != exitState || !strings.Contains(again.err, "[file.exists]") {
		t.Errorf("exit code %d: %s", again.code, again.err)
	}
	if said := must(t, "plantmesh-edge", "check", "--config", filepath.Join(dir, "edge.yaml"), "--section", "configuration,identity,sources"); !strings.Contains(said, "✓ src-nodes          56 of 56 nodes are there") {
		t.Errorf("check says %q", said)
	}
	triedOnce(t, dir, b.Source)
	r := run(t, nil, "plantmesh-edge", "browse", url, "--insecure", "--propose", "--measure", "300ms", "--config", filepath.Join(dir, "edge.yaml"))
	if r.code != 0 || r.out == "" || !strings.Contains(r.err, "reads this server already: add the signals to "+filepath.Join(dir, "sources.d", "line1.yaml")) {
		t.Errorf("exit code %d: %s", r.code, r.err)
	}
	// As a source of the configuration it is called by its name, with its own security.
	id := browsedID(t, b.Source)
	if again := asked(t, id, "--config", filepath.Join(dir, "edge.yaml")); len(again.Nodes) != again.Summary.Nodes || again.Summary.Nodes != b.Summary.Nodes {
		t.Errorf("%d nodes, %d of them told, before %d", again.Summary.Nodes, len(again.Nodes), b.Summary.Nodes)
	}
}

// tried is what source test answers to --json.
func tried(t *testing.T, dir, file string) (code int, e envelope, got agent.Tested) {
	t.Helper()
	r := run(t, nil, "plantmesh-edge", "--json", "source", "test", "--config", filepath.Join(dir, "edge.yaml"), filepath.Join(dir, file))
	e = answered(t, r.out)
	if err := json.Unmarshal(e.Data, &got); err != nil {
		t.Fatalf("%v: %s%s", err, r.out, r.err)
	}
	return r.code, e, got
}

// triedOnce tries the proposed file, and one with faults in it. Nothing is written.
func triedOnce(t *testing.T, dir, file string) {
	t.Helper()
	before := listing(t, dir)
	code, _, got := tried(t, dir, "sources.d/line1.yaml")
	if code != 0 || got.Good != 56 || got.Signals != 56 || len(got.Journeys) != 56 {
		t.Errorf("exit code %d, %d of %d good", code, got.Good, got.Signals)
	}
	at := slices.IndexFunc(got.Journeys, func(j agent.Journey) bool { return j.Mapped.Name == "line1.filler.temperature" })
	j := got.Journeys[at]
	if j.Raw.Type != "Double" || j.Raw.Status != "Good" || j.Raw.Source == "" || j.Mapped.Unit != "CEL" || j.Mapped.Type != "double" || j.Mapped.Value != j.Raw.Value ||
		j.Mapped.Time != j.Raw.Source || j.Mapped.Clock != "source" || j.Mapped.Conversion != "Double becomes double" ||
		j.Send != (agent.SendPlace{Subject: "ingest.v1.graz.gw-1.live", Source: got.Source, Signal: "line1.filler.temperature"}) ||
		len(j.Rules) != 1 || j.Rules[0] != (agent.RuleLook{ID: "temperature-range", Says: "at most 120", Does: "annotate"}) {
		t.Errorf("%+v", j)
	}
	if after := listing(t, dir); !slices.Equal(after, before) {
		t.Errorf("files %v, before %v", after, before)
	}
	write(t, dir, map[string]string{"faulty.yaml": strings.Replace(file, "  signals:\n", "  events:\n    - {name: x.y.alarms}\n  signals:\n", 1) + `    - {name: x.y.gone, type: int, node: "nsu=urn:plantmesh:firmware-sim;s=nothing"}
    - {name: x.y.elsewhere, type: int, node: "nsu=urn:nowhere;s=nothing"}
    - {name: x.y.wrong, type: bool, node: "nsu=urn:plantmesh:firmware-sim;s=line1.filler.temperature"}
    - {name: x.y.temperature, type: double, node: "nsu=urn:plantmesh:firmware-sim;s=line1.filler.energy"}
`})
	code, e, got := tried(t, dir, "faulty.yaml")
	if code != exitFindings || e.Error == nil || e.Error.Code != "source.findings" || got.Good != 57 || got.Marked != 1 {
		t.Errorf("exit code %d, %+v: %d good, %d marked", code, e.Error, got.Good, got.Marked)
	}
	said := map[string]string{"x.y.gone": "does not exist", "x.y.elsewhere": "urn:nowhere", "x.y.wrong": "a double (45) where the configuration says bool", "x.y.temperature": "Double becomes double"}
	for _, j := range got.Journeys {
		if want, ok := said[j.Mapped.Name]; ok && !strings.Contains(j.Mapped.Conversion, want) {
			t.Errorf("%s: %q, want %q", j.Mapped.Name, j.Mapped.Conversion, want)
		}
		if j.Mapped.Name == "x.y.temperature" && (len(j.Rules) != 1 || !j.Rules[0].Finds) {
			t.Errorf("the rule says %+v", j.Rules)
		}
	}
	r := run(t, nil, "plantmesh-edge", "source", "test", "--config", filepath.Join(dir, "edge.yaml"), filepath.Join(dir, "faulty.yaml"), "--bad")
	if r.code != exitFindings || strings.Count(r.out, "\n  raw ") != 4 || !strings.Contains(r.out, "temperature-range (at most 120) marks it: annotate") || !strings.Contains(r.out, "nothing was sent") || !strings.Contains(r.out, "events of 1 notifiers") {
		t.Errorf("exit code %d: %s%s", r.code, r.out, r.err)
	}
}

// listing is what stands in a gateway's folder.
func listing(t *testing.T, dir string) (out []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Name() == "sim" {
			return filepath.SkipDir
		}
		out = append(out, path)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func browsedID(t *testing.T, file string) string {
	t.Helper()
	for line := range strings.Lines(file) {
		if id, ok := strings.CutPrefix(strings.TrimSpace(line), "id: "); ok {
			return strings.Trim(id, `"`)
		}
	}
	t.Fatalf("no id in\n%s", file)
	return ""
}

func TestBrowse_InWords(t *testing.T) {
	t.Parallel()
	dir := folder(t)
	url := device(t, dir)
	r := run(t, nil, "plantmesh-edge", "browse", url, "--insecure", "--values", "--filter", "^(temperature|StateCurrent)$", "--class", "variable")
	if r.code != 0 || !strings.Contains(r.err, "neither signed nor encrypted") {
		t.Fatalf("exit code %d: %s", r.code, r.err)
	}
	want := "PackMLObjects/line1-filler/Status/StateCurrent"
	lines := strings.Split(strings.TrimSpace(r.out), "\n")
	if len(lines) != 10 || !strings.Contains(r.out, want) || !strings.Contains(r.out, "CEL") || !strings.HasPrefix(lines[8], "server: ") || !strings.HasSuffix(lines[8], "namespaces of DI, Machinery, PackML") || !strings.Contains(lines[9], " nodes in ") {
		t.Errorf("%s", r.out)
	}
	r = run(t, nil, "plantmesh-edge", "browse", url, "--insecure", "--max-nodes", "10")
	if r.code != 0 || !strings.Contains(r.out, "stopped at 10 nodes: the cap --max-nodes") {
		t.Errorf("exit code %d: %s", r.code, r.out)
	}
	r = run(t, nil, "plantmesh-edge", "browse", url, "--insecure", "--watch", "--for", "300ms", "--every", "100ms", "--node", "nsu=urn:plantmesh:firmware-sim;s=line1.filler")
	if r.code != 0 || !strings.Contains(r.out, "  Monitoring/temperature = ") {
		t.Errorf("exit code %d: %s%s", r.code, r.out, r.err)
	}
	r = run(t, nil, "plantmesh-edge", "browse", url, "--insecure", "--propose", "--node", "nsu=urn:plantmesh:firmware-sim;s=line1.filler.Production")
	if r.code != exitFindings || !strings.Contains(r.err, "[opcua.no_machine]") || r.out != "" {
		t.Errorf("exit code %d: %s%s", r.code, r.out, r.err)
	}
}

// The fields that browse says are fed or stay empty are those of the products.
func TestBrowse_FieldsAreThoseOfTheProducts(t *testing.T) {
	for _, f := range browse.Fields() {
		contract, err := os.ReadFile(filepath.Join("..", "..", "..", "cloud", "product", "definitions", f.Product, f.Product+".odcs.yaml"))
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(contract), "\n      - name: "+f.Field+"\n") {
			t.Errorf("product %s has no field %s", f.Product, f.Field)
		}
	}
}
