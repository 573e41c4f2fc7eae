package cli

import (
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"net/http"
	"net/http/cookiejar"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"plantmesh/proto/meshtest"
)

// TestLook_WhatIsStoredAndWaits: a technician listens to values, looks into the buffer, asks
// what rules found and what could be sent again, and opens the page, all of one agent whose
// hub is away.
func TestLook_WhatIsStoredAndWaits(t *testing.T) {
	t.Parallel()
	address, dir := simulated(t), enrolled(t)
	edge, page := filepath.Join(dir, "edge.yaml"), free(t)
	files := good()
	write(t, dir, map[string]string{
		"edge.yaml":      files["edge.yaml"] + "page: {listen: \"" + page + "\"}\n",
		"rules.d/r.yaml": "revision: 1\nrules:\n  - {id: too-fast, kind: range, signal: \"*.*.speed\", max: 100, action: quarantine}\n",
		"sources.d/line3.yaml": `mqtt:
  id: line3
  url: mqtt://` + address + `
  topics:
    - {filter: plant/line3/+, signal: "line3.{2}.{key}", time: ts}
  heartbeat: {topic: plant/line3/heartbeat}
  window: {latency: 50ms}
  signals:
    - {name: line3.filler.speed, type: double}
`,
	})
	agent := begin(t, t.TempDir(), nil, "plantmesh-edge", "run", "--config", edge)
	at, speed := time.Now().UnixMilli(), 1
	say := func() {
		at, speed = at+1, speed+1
		publish(t, address, "plant/line3/filler", `{"ts":`+strconv.FormatInt(at, 10)+`,"speed":`+strconv.Itoa(speed*50)+`}`)
	}
	var s status
	until(t, 20*time.Second, "the agent hears the machine", func() bool {
		say()
		return ask(t, edge, &s) && len(s.Sources) == 1 && s.Sources[0].Samples > 0
	})
	tap := begin(t, t.TempDir(), nil, "plantmesh-edge", "tap", "--config", edge, "--jsonl", "--limit", "3", "filler.speed")
	until(t, 20*time.Second, "the tap tells three values", func() bool {
		say()
		return strings.Count(tap.out.String(), "\n") >= 3
	})
	if code := tap.ends(10 * time.Second); code != 0 {
		t.Errorf("tap ended with %d: %s", code, tap.err.String())
	}
	line, _, _ := strings.Cut(tap.out.String(), "\n")
	var told struct{ Signal, Value, Quality, Source string }
	if err := json.Unmarshal([]byte(line), &told); err != nil || told.Signal != "line3.filler.speed" || told.Quality != "good" || told.Source != "line3" || told.Value == "" {
		t.Errorf("%s: %v", line, err)
	}
	raw := begin(t, t.TempDir(), nil, "plantmesh-edge", "tap", "--config", edge, "--raw", "--limit", "2", "plant/line3/*")
	until(t, 20*time.Second, "the raw tap tells two values", func() bool {
		say()
		return strings.Count(raw.out.String(), "\n") >= 2
	})
	if code := raw.ends(10 * time.Second); code != 0 || !strings.Contains(raw.out.String(), "  line3.filler.speed  plant/line3/filler speed = ") || !strings.Contains(raw.out.String(), " (number)  Good  source 2") {
		t.Errorf("the raw tap ended with %d: %s%s", code, raw.out.String(), raw.err.String())
	}
	if r := run(t, nil, "plantmesh-edge", "tap", "--config", edge, "--for", "200ms", "--json", "nobody"); r.code != 0 || !answered(t, r.out).OK {
		t.Errorf("a tap of nobody: %+v", r)
	}
	for _, c := range []struct {
		args []string
		want []string
	}{
		{[]string{"buffer", "peek", "--limit", "20"}, []string{"batch of line3", "waits", "line3.filler.speed = 100  Good"}},
		{[]string{"buffer", "peek", "--last", "--limit", "1", "--source", "line3"}, []string{"batch of line3"}},
		{[]string{"buffer", "peek", "--from", "2020-01-01T00:00:00Z", "--source", "line3"}, []string{"batch of line3", "line3.filler.speed = 100  Good"}},
		{[]string{"buffer", "peek", "--to", "2020-01-01T00:00:00Z"}, []string{"no record that is kept here touches the window"}},
		{[]string{"rules", "show", "too-fast"}, []string{"range (rules.d/r.yaml:3)", "told      max: at most 100", "severity  quarantine: ", "the running agent judges by it as it stands here (rule set revision 1)", "line3.filler.speed of line3", "test      none"}},
		{[]string{"quarantine", "list"}, []string{"0 records are set aside", "quarantine  too-fast in line3.filler.speed of line3: ", "counts in no product"}},
		{[]string{"quarantine", "list", "--since", "1h"}, []string{"0 records are set aside", "quarantine  too-fast in line3.filler.speed of line3: "}},
		{[]string{"quarantine", "list", "--since", "2100-01-01T00:00:00Z"}, []string{"0 records are set aside", "no rule found anything since 2100-01-01T00:00:00Z"}},
		{[]string{"replay", "--last", "1h", "--rate", "500/s", "--dry-run"}, []string{"nothing is sent again: ", "wait for the hub, and go by themselves", "kept here is what was from "}},
		{[]string{"replay", "--from", "2020-01-01T00:00:00Z", "--source", "nobody"}, []string{"nothing of it is kept here"}},
		{[]string{"source", "list"}, []string{"line3  mqtt  mqtt://" + address, "running"}},
		{[]string{"rules", "explain", "line3.filler.speed"}, []string{"is read by line3", "too-fast looks at it: at most 100", "counts in no product (rules.d/r.yaml:3)"}},
	} {
		r := run(t, nil, "plantmesh-edge", append(c.args, "--config", edge)...)
		for _, want := range c.want {
			if r.code != 0 || !strings.Contains(r.out, want) {
				t.Errorf("%v: exit code %d, want %q in\n%s%s", c.args, r.code, want, r.out, r.err)
			}
		}
	}
	carries(t, dir, edge)
	oneLine(t, run(t, nil, "plantmesh-edge", "quarantine", "release", "--config", edge, "0a1b2c3d-9"), exitUsage, "there is none at all")
	opens(t, strings.TrimSpace(must(t, "plantmesh-edge", "ui", "--config", edge)))
	agent.signal(interrupt)
	if code := agent.ends(10 * time.Second); code != 0 {
		t.Errorf("the agent ended with %d", code)
	}
}

// carries takes what the agent keeps away on a stick: the samples of an hour as a table, and the
// records, of which a backtest and a dump need no agent.
func carries(t *testing.T, dir, edge string) {
	t.Helper()
	table, records := filepath.Join(dir, "usb.csv"), filepath.Join(dir, "usb.frames")
	said := must(t, "plantmesh-edge", "buffer", "export", "--config", edge, "--last", "1h", "--format", "csv", table)
	if !strings.HasPrefix(said, "usb.csv: ") || !strings.Contains(said, " samples, from 2") || !strings.Contains(said, "of what was before 2") {
		t.Errorf("the export says\n%s", said)
	}
	text := contents(t, table)
	if !strings.HasPrefix(text, "time,source,signal,type,value,") || !strings.Contains(text, ",line3,line3.filler.speed,double,100,,,good,Good,") {
		t.Errorf("the table is\n%s", text)
	}
	must(t, "plantmesh-edge", "buffer", "export", "--config", edge, "--from", "2020-01-01T00:00:00Z", records)
	if said := must(t, "plantmesh-edge", "rules", "backtest", "--config", edge, "--input", records); !strings.Contains(said, "too-fast in line3.filler.speed of line3: ") {
		t.Errorf("the backtest of a file says\n%s", said)
	}
	if said := must(t, "plantmesh-edge", "dump", records); !strings.Contains(said, `"about":"line3"`) {
		t.Errorf("the file holds\n%s", said)
	}
	if said := must(t, "plantmesh-edge", "dump", table); said+"\n" != text {
		t.Errorf("the table is printed as\n%s", said)
	}
	if said := must(t, "plantmesh-edge", "dump", "--last", "1h", "--format", "csv", records); said+"\n" != text {
		t.Errorf("made of the records the table is\n%s\nwant\n%s", said, text)
	}
	nothing := filepath.Join(dir, "nothing.jsonl")
	said = must(t, "plantmesh-edge", "buffer", "export", "--config", edge, "--to", "2020-01-01T00:00:00Z", "--format", "jsonl", nothing)
	if _, err := os.Stat(nothing); !strings.HasPrefix(said, "no file is written: ") || !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("of nothing: %v, %s", err, said)
	}
}

// free is an address where nobody listens.
func free(t *testing.T) string {
	t.Helper()
	return meshtest.Vacant(t)
}

// opens opens the page by its link, as a browser does.
func opens(t *testing.T, link string) {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	browser := &http.Client{Jar: jar, Timeout: 10 * time.Second}
	get := func(url string) (int, string) {
		r, err := browser.Get(url)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Body.Close()
		b, err := io.ReadAll(r.Body)
		if err != nil {
			t.Fatal(err)
		}
		return r.StatusCode, string(b)
	}
	base, _, _ := strings.Cut(link, "/enter")
	if code, body := get(base + "/"); code != http.StatusUnauthorized || strings.Contains(body, "gw-1") {
		t.Errorf("without a link: %d\n%s", code, body)
	}
	if code, _ := get(link); code != http.StatusOK {
		t.Errorf("the link: %d", code)
	}
	for path, want := range map[string]string{"/": "not connected", "/sources": "line3", "/buffer": "too-fast", "/checks": "Run the checks", "/live": "EventSource"} {
		if code, body := get(base + path); code != http.StatusOK || !strings.Contains(body, "gw-1") || !strings.Contains(body, want) {
			t.Errorf("%s: %d\n%s", path, code, body)
		}
	}
	if code, _ := get(link); code != http.StatusUnauthorized {
		t.Errorf("the link a second time: %d", code)
	}
}
