package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"plantmesh/firmware-sim/ledger"
	"plantmesh/firmware-sim/plant"
	"plantmesh/proto/answer"
	"plantmesh/proto/clock"
	"plantmesh/proto/mesh"
)

const goodConfig = `seed: 4
start: 2026-03-01T04:00:00Z
until: 2026-03-01T05:00:00Z
stop: 2026-03-01T05:01:00Z
clock: clock.json
ledger: ledger.txt
servers:
  - {source: line1-opcua, kind: opcua, listen: "127.0.0.1:0"}
  - {source: line3-mqtt, kind: mqtt, listen: "127.0.0.1:0"}
`

// code is the exit code of an error.
func code(err error) int {
	p := &answer.Printer{Program: "firmware-sim", Out: io.Discard, Err: io.Discard}
	return p.Fail(err, rules())
}

func writeConfig(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "sim.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestConfig_FaultsAreOneLine(t *testing.T) {
	for name, c := range map[string]struct{ from, to, want string }{
		"unknown key":    {"seed:", "sed:", `sim.yaml:1: unknown key "sed"; did you mean "seed"?`},
		"no instant":     {"until: 2026-03-01T05:00:00Z", "until: tomorrow", `sim.yaml:3: "tomorrow" is no instant: write one such as 2026-03-01T04:00:00Z, in whole milliseconds`},
		"backwards":      {"until: 2026-03-01T05:00:00Z", "until: 2026-03-01T03:00:00Z", "sim.yaml:3: until is before start"},
		"missing start":  {"start: 2026-03-01T04:00:00Z\n", "", "sim.yaml:1: start is missing: write an instant such as 2026-03-01T04:00:00Z"},
		"kind":           {"kind: mqtt", "kind: mqt", `sim.yaml:9: kind is "mqt": write opcua, mqtt or sparkplug`},
		"host":           {`kind: mqtt, listen: "127.0.0.1:0"`, `kind: mqtt, listen: "127.0.0.1:0", host: gw-1`, "sim.yaml:9: only kind sparkplug has a host"},
		"host's topic":   {`kind: mqtt, listen: "127.0.0.1:0"`, `kind: sparkplug, listen: "127.0.0.1:0", host: a/b`, `sim.yaml:9: host "a/b" can't be part of a topic: leave out + / #`},
		"keep-alive":     {`kind: mqtt, listen: "127.0.0.1:0"`, `kind: sparkplug, listen: "127.0.0.1:0", keep_alive: 1500ms`, "sim.yaml:9: keep_alive must be whole seconds, from 1s to 65535s"},
		"unknown source": {"source: line3-mqtt", "source: line3-mqt", `sim.yaml:9: there is no source "line3-mqt" to serve; did you mean "line3-mqtt"?`},
		"no ledger":      {"ledger: ledger.txt\n", "", "sim.yaml:1: ledger is missing: write the path of a file to keep it in"},
		"no clock file":  {"", "", "sim.yaml:5: read the plant clock: open "},
	} {
		t.Run(name, func(t *testing.T) {
			path := writeConfig(t, strings.Replace(goodConfig, c.from, c.to, 1))
			cfg, err := loadConfig(path)
			if err == nil {
				err = serve(t.Context(), cfg, newEvents(&bytes.Buffer{}), slog.New(slog.DiscardHandler))
			}
			if err == nil || !strings.HasPrefix(strings.TrimPrefix(err.Error(), filepath.Dir(path)+"/"), c.want) {
				t.Fatalf("got  %v\nwant %s", err, c.want)
			}
			if code(err) != answer.Config.Exit() {
				t.Errorf("exit code %d", code(err))
			}
		})
	}
}

func TestServe_SaysWhichPortIsTaken(t *testing.T) {
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	path := writeConfig(t, strings.Replace(goodConfig, "127.0.0.1:0", l.Addr().String(), 1))
	if err := (clock.Plant{Plant: mesh.NanosOf(time.Now())}).Write(filepath.Join(filepath.Dir(path), "clock.json")); err != nil {
		t.Fatal(err)
	}
	cfg, err := loadConfig(path)
	if err != nil {
		t.Fatal(err)
	}
	err = serve(t.Context(), cfg, newEvents(&bytes.Buffer{}), slog.New(slog.DiscardHandler))
	if err == nil || !strings.Contains(err.Error(), l.Addr().String()) || code(err) != answer.InUse.Exit() {
		t.Errorf("exit code %d: %v", code(err), err)
	}
}

// listener is a server whose listener acknowledges whatever lies there when
// the test says so.
type listener struct {
	mu       sync.Mutex // protects the fields below
	source   string
	waiting  []uint64
	all      []plant.Emission
	proved   time.Time
	most     int
	early    int // emitted after a proof that says everything was
	received plant.Received
}

func (l *listener) Push(e plant.Emission) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !e.Emitted.After(l.proved) {
		l.early++
	}
	l.all = append(l.all, e)
	l.waiting = append(l.waiting, e.Index)
	l.most = max(l.most, len(l.waiting))
}

func (l *listener) Prove(t time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.proved = t
}

func (l *listener) Waiting() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.waiting)
}

func (l *listener) Close() error { return nil }
func (l *listener) URL() string  { return "test://" + l.source }

// Run acknowledges all every millisecond.
func (l *listener) Run(ctx context.Context) error {
	return every(ctx, time.Millisecond, func() error {
		l.mu.Lock()
		got := l.waiting
		l.waiting = nil
		l.mu.Unlock()
		if len(got) > 0 {
			l.received(l.source, got)
		}
		return nil
	})
}

type lines struct {
	bytes.Buffer

	mu sync.Mutex // protects the buffer
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.Buffer.Write(b)
}

func (l *lines) has(event string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Contains(l.String(), `"event":"`+event+`"`)
}

func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := every(ctx, 5*time.Millisecond, func() error {
		if ok() {
			return os.ErrExist
		}
		return nil
	}); !os.IsExist(err) {
		t.Fatalf("never: %s", what)
	}
}

func TestDrive_HistoryThenClock(t *testing.T) {
	path := writeConfig(t, goodConfig+"max_waiting: 300\n")
	cfg, err := loadConfig(path)
	if err != nil {
		t.Fatal(err)
	}
	h := mesh.NanosOf(cfg.until)
	if err := (clock.Plant{Plant: h}).Write(cfg.Clock); err != nil {
		t.Fatal(err)
	}
	file, err := clock.Open(cfg.Clock)
	if err != nil {
		t.Fatal(err)
	}
	book, err := ledger.Open(cfg.Ledger)
	if err != nil {
		t.Fatal(err)
	}
	feed, err := openFeed(cfg)
	if err != nil {
		t.Fatal(err)
	}
	out := &lines{}
	d := &drive{cfg: cfg, clock: file, events: newEvents(out), log: slog.New(slog.DiscardHandler), gen: newGenerator(feed, book, cfg.Servers)}
	var all []*listener
	for _, s := range cfg.Servers {
		l := &listener{source: s.Source, received: book.Received}
		all = append(all, l)
		d.pumps = append(d.pumps, &pump{source: s.Source, server: l})
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- d.run(ctx) }()
	first := all[1]
	until(t, "first values alone", func() bool { return first.Waiting() == 14*4 })
	if out.has("history_received") {
		t.Error("the history is received, and nobody listened")
	}
	for _, l := range all {
		go func() { _ = l.Run(ctx) }()
	}
	until(t, "history received", func() bool { return out.has("history_received") })
	if err := (clock.Plant{Plant: h, Machine: mesh.NanosOf(time.Now()), Speed: 120, Stop: mesh.NanosOf(cfg.stop.Add(plant.Disorder))}).Write(cfg.Clock); err != nil {
		t.Fatal(err)
	}
	until(t, "stopped", func() bool { return out.has("stopped") })
	until(t, "everything received", func() bool { return first.Waiting() == 0 && all[0].Waiting() == 0 })
	cancel()
	<-done
	if err := book.Close(); err != nil {
		t.Fatal(err)
	}
	said, err := ledger.Read(cfg.Ledger)
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range all {
		if l.early != 0 || l.most > 300+200 {
			t.Errorf("%s: %d pushed after their proof, %d waited at most", l.source, l.early, l.most)
		}
		if !l.proved.Equal(cfg.stop.Add(plant.Disorder)) {
			t.Errorf("%s proved until %s", l.source, l.proved)
		}
		if len(said.Emitted[l.source]) != len(l.all) || len(l.all) < 1000 {
			t.Errorf("%s emitted %d, the ledger knows %d", l.source, len(l.all), len(said.Emitted[l.source]))
		}
		if r := said.Received[l.source]; len(r) != 1 || r[0] != (ledger.Range{First: 1, Last: uint64(len(l.all))}) {
			t.Errorf("%s: the ledger received %v", l.source, r)
		}
	}
}

func TestTruth_Rows(t *testing.T) {
	path := writeConfig(t, goodConfig)
	known := filepath.Join(filepath.Dir(path), "known.json")
	if err := os.WriteFile(known, []byte(`{"line1-opcua":[[1772337600000000000,1772341200000000000]]}`), 0o600); err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(filepath.Dir(path), "truth.ndjson")
	if err := (&truthCmd{Config: path, Known: known, At: "2026-03-01T05:00:00Z", Out: out}).Run(&answer.Printer{Out: io.Discard, Err: io.Discard}); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	products := map[string]int{}
	for dec := json.NewDecoder(bytes.NewReader(b)); dec.More(); {
		var row struct {
			Product, Entity string
			Columns         map[string]any
		}
		if err := dec.Decode(&row); err != nil {
			t.Fatal(err)
		}
		products[row.Product]++
		if row.Columns["equipment"] != row.Entity || !strings.HasPrefix(row.Entity, "line1-") {
			t.Errorf("a row of %s", row.Entity)
		}
	}
	if products["oee"] != 12 || products["production-rate"] != 12 || products["equipment-state"] < 4 {
		t.Errorf("rows: %v", products) // an hour, a shift and a day of four machines
	}
}

const recording = `ts,asset,items,status,status_time,power_avg,product
2022-08-31 22:00:10+00:00,0,4,2,10,2,7
2022-08-31 22:00:25+00:00,0,3,1,5,2,7
`

const recordingMap = `asset_column: asset
end_column: ts
end_layout: "2006-01-02 15:04:05-07:00"
seconds_column: status_time
status_column: status
product_column: product
counters:
  - {role: produced, column: items, unit: C62}
statuses:
  - {status: 1, state: 6, mode: 3}
  - {status: 2, state: 6, mode: 1}
assets:
  - {asset: 0, source: sme, line: sme, machine: machine0}
`

func TestFeed_PlaysARecording(t *testing.T) {
	path := writeConfig(t, "clock: c\nledger: l\nreplay:\n  - {source: sme, csv: a.csv, map: a.yaml}\nservers:\n  - {source: sme, kind: opcua, listen: \"127.0.0.1:0\"}\n")
	for name, text := range map[string]string{"a.csv": recording, "a.yaml": recordingMap} {
		if err := os.WriteFile(filepath.Join(filepath.Dir(path), name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cfg, err := loadConfig(path)
	if err != nil {
		t.Fatal(err)
	}
	f, err := openFeed(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := cfg.serves(f.Signals()); err != nil {
		t.Error(err)
	}
	begin := time.Date(2022, 8, 31, 22, 0, 0, 0, time.UTC)
	if !cfg.start.Equal(begin.Add(-time.Millisecond)) || !cfg.until.Equal(begin.Add(25*time.Second)) {
		t.Errorf("from %s until %s", cfg.start, cfg.until)
	}
	got := f.Until(cfg.until)
	if last := got[len(got)-1]; len(got) != 11 || last.Status != plant.BadNoData || !last.Time.Equal(cfg.until) {
		t.Errorf("%d emissions, the last %+v", len(got), last)
	}
}
