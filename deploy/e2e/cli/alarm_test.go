package cli

import (
	"bufio"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"plantmesh/cloud/port/parquet"
)

// pressServer is the server of ../opcua/testdata/alarms.js: a press whose temperature
// has an alarm. It takes orders, a line of JSON each.
type pressServer struct {
	t     *testing.T
	url   string
	in    io.Writer
	lines *bufio.Scanner
}

const pressURI = "urn:plantmesh:press"

func startPress(t *testing.T) *pressServer {
	t.Helper()
	cmd := exec.Command("node", filepath.Join("..", "opcua", "testdata", "alarms.js"))
	cmd.Stderr = os.Stderr
	in, out := started(t, cmd)
	port := freePort(t)
	p := &pressServer{t: t, url: "opc.tcp://127.0.0.1:" + port, in: in, lines: bufio.NewScanner(out)}
	late := time.AfterFunc(2*time.Minute, func() { cmd.Process.Kill() })
	t.Cleanup(func() { late.Stop() })
	p.ask(map[string]any{"port": json.Number(port), "dir": t.TempDir(), "plant": pressURI, "amnesic": true}, nil)
	return p
}

// ask gives an order, and reads its answer into into, if that is not nil.
func (p *pressServer) ask(order, into any) {
	p.t.Helper()
	b, err := json.Marshal(order)
	if err != nil {
		p.t.Fatal(err)
	}
	if _, err := p.in.Write(append(b, '\n')); err != nil {
		p.t.Fatal(err)
	}
	for p.lines.Scan() {
		line, ok := strings.CutPrefix(p.lines.Text(), ">")
		if !ok {
			continue
		}
		if strings.HasPrefix(line, `{"error"`) {
			p.t.Fatalf("order %s: %s", b, line)
		}
		if into != nil {
			if err := json.Unmarshal([]byte(line), into); err != nil {
				p.t.Fatal(err)
			}
		}
		return
	}
	p.t.Fatalf("the server ended at the order %s", b)
}

// event is a row of product signals of an event.
type event struct {
	Signal, Type, Key, Quality string
	Time                       time.Time
	Value                      json.RawMessage

	fields fields
}

// fields are those of an event that people look at.
type fields struct {
	Event        string `json:"event_id"`
	Type         string `json:"event_type"`
	Source       string `json:"source_name"`
	Message      string `json:"message"`
	Severity     int    `json:"severity"`
	Condition    string `json:"condition_id"`
	Name         string `json:"condition_name"`
	Branch       string `json:"branch_id"`
	Active       *bool  `json:"active"`
	Acknowledged *bool  `json:"acknowledged"`
}

// id tells a state of a condition from others, as the server does.
func (f *fields) id() string {
	return f.Event + " " + f.Branch[strings.LastIndexByte(f.Branch, ';')+1:]
}

// events are the rows that an address gives of them.
func events(t *testing.T, url string) (out []event) {
	t.Helper()
	for line := range strings.Lines(get(t, url)) {
		var e event
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		if e.Type != "event" {
			continue
		}
		if err := json.Unmarshal(e.Value, &e.fields); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		out = append(out, e)
	}
	return out
}

// TestAlarm_ReachesItsReader: a limit alarm of another vendor's server goes up, is
// acknowledged and goes down, through agent and hub: whoever reads product signals or
// an export finds each of its states once, and what it says by name.
func TestAlarm_ReachesItsReader(t *testing.T) {
	t.Parallel()
	press, dir := startPress(t), enrolled(t)
	began := time.Now().Truncate(time.Millisecond)
	nats, web := "127.0.0.1:"+freePort(t), "127.0.0.1:"+freePort(t)
	files := good()
	write(t, dir, map[string]string{
		"hub.yaml":  strings.Replace(strings.Replace(files["hub.yaml"], "127.0.0.1:0", nats, 1), "127.0.0.1:0", web, 1),
		"edge.yaml": strings.Replace(files["edge.yaml"], "nats://127.0.0.1:1", "nats://"+nats, 1),
		"sources.d/press.yaml": `opcua:
  id: press
  endpoint: ` + press.url + `
  security: {insecure: true}
  publishing_interval: 50ms
  window: {latency: 50ms}
  signals:
    - {name: line1.press.temp, type: double, node: "nsu=` + pressURI + `;s=temp"}
  events:
    - {name: line1.press.alarms}
`,
	})
	program, args := hubCommand(dir)
	hub := begin(t, dir, nil, program, args...)
	hub.says(hub.err, "hub is up", 20*time.Second)
	begin(t, t.TempDir(), nil, "plantmesh-edge", "run", "--config", filepath.Join(dir, "edge.yaml"))
	rows := "http://" + web + "/api/v1/products/signals/rows?format=ndjson&equipment=line1-press"
	until(t, 30*time.Second, "the press is heard", func() bool { return strings.Contains(get(t, rows), "line1.press.temp") })

	set := func(value float64) { press.ask(map[string]any{"do": "set", "value": value}, nil) }
	set(90)
	press.ask(map[string]any{"do": "acknowledge"}, nil)
	set(20)
	press.ask(map[string]any{"do": "raise", "message": "door open", "severity": 321}, nil)
	var said struct{ Raised []string }
	press.ask(map[string]any{"do": "raised"}, &said)
	slices.Sort(said.Raised)
	want := slices.Compact(said.Raised) // what a refresh gives again is the same event

	var got []event
	until(t, 30*time.Second, "all its states and the door are rows", func() bool {
		got = events(t, rows)
		has := func(is func(*fields) bool) bool {
			return slices.ContainsFunc(got, func(e event) bool { return is(&e.fields) })
		}
		return has(func(f *fields) bool { return f.Message == "door open" }) &&
			!slices.ContainsFunc(want, func(id string) bool { return !has(func(f *fields) bool { return f.id() == id }) })
	})
	var came, states []string
	keys, doors := map[string]bool{}, 0
	for _, e := range got {
		f := e.fields
		keys[e.Signal+e.Time.String()+e.Key] = true
		if e.Signal != "line1.press.alarms" || e.Quality != "good" || f.Event == "" || e.Time.Before(began) || e.Time.After(time.Now()) {
			t.Errorf("%+v", e)
		}
		switch {
		case f.Condition == "nsu="+pressURI+";s=hot" && f.Type == "i=9906" && f.Name == "too hot" && f.Source == "2:temp" && f.Message != "" && f.Active != nil && f.Acknowledged != nil && (f.Severity > 0) == *f.Active:
			came = append(came, f.id())
			states = append(states, map[bool]string{true: "active", false: "inactive"}[*f.Active]+map[bool]string{true: " acknowledged", false: ""}[*f.Acknowledged])
		case f.Condition != "" || f.Active != nil || f.Acknowledged != nil:
			t.Errorf("the alarm says %s", e.Value)
		case f.Message == "door open" && f.Severity == 321 && f.Type == "i=2041":
			doors++
		} // the server tells of the acknowledging too
	}
	slices.Sort(came)
	if !slices.Equal(came, want) || len(keys) != len(got) || doors != 1 {
		t.Errorf("the rows have, under %d keys of %d, %d doors and the events\n%q, the server raised\n%q", len(keys), len(got), doors, came, want)
	}
	if at := slices.Compact(states); !slices.Equal(at, []string{"active", "active acknowledged", "inactive acknowledged"}) {
		t.Errorf("its states are %q", at)
	}
	if latest := get(t, "http://"+web+"/api/v1/products/signals/latest?equipment=line1-press"); !strings.Contains(latest, `"message":"door open"`) {
		t.Errorf("the newest of each signal:\n%s", latest)
	}
	exports(t, dir, got)
}

// exports compares the days' files with the rows.
func exports(t *testing.T, dir string, rows []event) {
	t.Helper()
	first, last := rows[0].Time.UTC(), rows[len(rows)-1].Time.UTC()
	out := filepath.Join(dir, "files")
	must(t, "plantmesh", "export", "--config", filepath.Join(dir, "hub.yaml"), "--from", first.Format(time.DateOnly), "--to", last.Format(time.DateOnly), "--out", out)
	paths, err := filepath.Glob(filepath.Join(out, "product=signals", "date=*", "part-1.parquet"))
	if err != nil {
		t.Fatal(err)
	}
	var got, want []string
	for _, path := range paths {
		all, err := parquet.Read(path)
		if err != nil {
			t.Fatal(err)
		}
		for i := range all {
			if all[i].Type == "event" {
				got = append(got, time.Unix(0, all[i].TS).UTC().Format(time.RFC3339Nano)+" "+all[i].Tag+" "+all[i].Equipment+" "+all[i].JSON)
			}
		}
	}
	for _, e := range rows {
		want = append(want, e.Time.UTC().Format(time.RFC3339Nano)+" "+e.Signal+" line1-press "+string(e.Value))
	}
	if !slices.Equal(got, want) {
		t.Errorf("the files have\n%s\nthe rows are\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}
