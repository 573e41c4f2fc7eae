package sme

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"plantmesh/deploy/e2e/programs"
	"plantmesh/proto/clock"
	"plantmesh/proto/mesh"
	"plantmesh/proto/meshtest"
)

// within bounds every wait; a run takes a fraction of it.
const within = 2 * time.Minute

// binaries are the three programs, built as make build builds them.
func binaries(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := programs.Into(t.Context(), dir, "plantmesh", "plantmesh-edge", "firmware-sim"); err != nil {
		t.Fatal(err)
	}
	return dir
}

// chain is device, agent and hub as processes, in one folder.
type chain struct {
	t         *testing.T
	bin, dir  string
	kind      string // of the source: opcua or mqtt
	web, nats string // host:port
	ended     chan string
}

// run plays the recording through a whole chain and returns when the hub's
// products have reached until.
func run(t *testing.T, bin, kind, recording string, until time.Time) *chain {
	t.Helper()
	c := &chain{t: t, bin: bin, dir: t.TempDir(), kind: kind, web: freePort(t), nats: freePort(t), ended: make(chan string, 3)}
	// The whole recording is history: the clock stands behind its end, far
	// enough for proof to pass until.
	stand := until.Add(5 * time.Second)
	if err := (clock.Plant{Plant: mesh.NanosOf(stand)}).Write(filepath.Join(c.dir, "clock.json")); err != nil {
		t.Fatal(err)
	}
	root := repo(t)
	c.write("sim.yaml", "until: %s\nclock: clock.json\nledger: ledger.csv\nservers:\n  - {source: sme, kind: %s, listen: \"127.0.0.1:0\"}\nreplay:\n  - {csv: %q, map: %q}\n",
		stand.Format(time.RFC3339), kind, recording, filepath.Join(root, "firmware-sim", "replay", "maps", "sme.yaml"))
	c.write("hub.yaml", "data: hub\nsite_file: %q\nplant_clock: clock.json\nnats: {listen: %q}\nhttp: {listen: %q}\n",
		filepath.Join(root, "deploy", "e2e", "sme", "testdata", "site.yaml"), c.nats, c.web)
	c.write("edge.yaml", "agent: gw-1\nsite: sme\ndata: edge\nplant_clock: clock.json\nhub: {url: \"nats://%s\", key: agent.nk, token: agent.jwt}\n", c.nats)

	c.start("plantmesh", nil, "serve", "--config", "hub.yaml")
	ready, received := make(chan string, 1), make(chan struct{})
	c.start("firmware-sim", func(e event) {
		switch e.Event {
		case "ready":
			ready <- e.Servers["sme"]
		case "history_received":
			close(received)
		case "fault":
			c.t.Errorf("firmware-sim: %s", e.What)
		}
	}, "run", "--config", "sim.yaml")
	c.write("sources.d/sme.yaml", "%s", sourceYAML(kind, await(c, ready, "the device to listen")))
	c.until("the hub to be ready", func() error { return c.get("/readyz", nil, io.Discard) })
	key := c.output("plantmesh-edge", "keygen", "agent.nk")
	c.write("agent.jwt", "%s", c.output("plantmesh", "agents", "enroll", "--config", "hub.yaml", "--site", "sme", "gw-1", strings.TrimSpace(key)))
	c.start("plantmesh-edge", nil, "run", "--config", "edge.yaml")
	await(c, received, "the recording to be received")
	for _, p := range []string{"equipment-state", "production-rate", "oee", "coverage"} {
		c.until(p+" to reach the end", func() error { return c.reached(p, until) })
	}
	return c
}

// sourceYAML is the source as a technician would write it.
func sourceYAML(kind, at string) string {
	var b strings.Builder
	if kind == "mqtt" {
		fmt.Fprintf(&b, "mqtt:\n  id: sme\n  url: %s\n  topics:\n    - {filter: plant/sme/+, signal: \"sme.{2}.{key}\", time: ts}\n  heartbeat: {topic: plant/sme/heartbeat}\n  signals:\n", at)
	} else {
		fmt.Fprintf(&b, "opcua:\n  id: sme\n  endpoint: %s\n  security: {insecure: true} # on this machine\n  signals:\n", at)
	}
	for machine := range 3 {
		for _, role := range []string{"state, type: int", "mode, type: int", "product, type: string", "produced, type: int, unit: C62", "energy_kj, type: int, unit: KJO"} {
			fmt.Fprintf(&b, "    - {name: sme.machine%d.%s", machine, role)
			if kind == "opcua" {
				name, _, _ := strings.Cut(role, ",")
				fmt.Fprintf(&b, ", node: \"nsu=urn:plantmesh:firmware-sim;s=sme.machine%d.%s\"", machine, name)
			}
			b.WriteString("}\n")
		}
	}
	return b.String()
}

func (c *chain) write(name, format string, args ...any) {
	c.t.Helper()
	path := filepath.Join(c.dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		c.t.Fatal(err)
	}
	if err := os.WriteFile(path, fmt.Appendf(nil, format, args...), 0o600); err != nil {
		c.t.Fatal(err)
	}
}

// event is what firmware-sim says on its standard output.
type event struct {
	Event   string            `json:"event"`
	Servers map[string]string `json:"servers"`
	What    string            `json:"what"`
}

// start runs a program until the test ends. What it narrates is shown when the
// test fails.
func (c *chain) start(name string, say func(event), args ...string) {
	c.t.Helper()
	cmd := exec.CommandContext(c.t.Context(), filepath.Join(c.bin, name), args...)
	cmd.Dir = c.dir
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 15 * time.Second
	own(cmd)
	narration, err := os.Create(filepath.Join(c.dir, name+".log"))
	if err != nil {
		c.t.Fatal(err)
	}
	cmd.Stderr = narration
	out, err := cmd.StdoutPipe()
	if err != nil {
		c.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		c.t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for s := bufio.NewScanner(out); s.Scan(); {
			var e event
			if say != nil && json.Unmarshal(s.Bytes(), &e) == nil {
				say(e)
			}
		}
		err := cmd.Wait()
		c.ended <- fmt.Sprintf("%s ended: %v", name, err)
	}()
	c.t.Cleanup(func() {
		<-done // the test's context has ended, so the program does
		narration.Close()
		if said, err := os.ReadFile(narration.Name()); err == nil && c.t.Failed() {
			c.t.Logf("%s said\n%s", name, said[max(0, len(said)-4000):])
		}
	})
}

func (c *chain) output(name string, args ...string) string {
	c.t.Helper()
	cmd := exec.CommandContext(c.t.Context(), filepath.Join(c.bin, name), args...)
	cmd.Dir = c.dir
	var said strings.Builder
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil {
		c.t.Fatalf("%s %s: %v\n%s", name, args[0], err, said.String())
	}
	return string(out)
}

// await waits for an event, and notices a program that ended by itself.
func await[T any](c *chain, ch <-chan T, what string) (v T) {
	c.t.Helper()
	select {
	case v = <-ch:
	case why := <-c.ended:
		c.t.Fatalf("waiting for %s: %s", what, why)
	case <-time.After(within):
		c.t.Fatalf("waited %s for %s", within, what)
	}
	return v
}

// until waits for ask to find nothing wrong.
func (c *chain) until(what string, ask func() error) {
	c.t.Helper()
	look := time.NewTicker(50 * time.Millisecond)
	defer look.Stop()
	late := time.After(within)
	for err := ask(); err != nil; err = ask() {
		select {
		case <-look.C:
		case why := <-c.ended:
			c.t.Fatalf("waiting for %s: %s", what, why)
		case <-late:
			c.t.Fatalf("waited %s for %s: %v", within, what, err)
		}
	}
}

// get copies one answer of the hub.
func (c *chain) get(path string, query url.Values, to io.Writer) error {
	u := url.URL{Scheme: "http", Host: c.web, Path: path, RawQuery: query.Encode()}
	req, err := http.NewRequestWithContext(c.t.Context(), http.MethodGet, u.String(), nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		said, _ := io.ReadAll(io.LimitReader(resp.Body, 1<<10)) // whatever it could say
		return fmt.Errorf("%s answers %s: %s", u.String(), resp.Status, said)
	}
	_, err = io.Copy(to, resp.Body)
	return err
}

// reached is nil when a product is known and complete through t.
func (c *chain) reached(product string, t time.Time) error {
	var b strings.Builder
	if err := c.get("/api/v1/products/"+product+"/status", nil, &b); err != nil {
		return err
	}
	var s struct {
		Progress *time.Time `json:"progress"`
	}
	if err := json.Unmarshal([]byte(b.String()), &s); err != nil {
		return err
	}
	if s.Progress == nil || s.Progress.Before(t) {
		return fmt.Errorf("%s is known through %v", product, s.Progress)
	}
	return nil
}

// row is a row of any of the products, with the columns that are compared.
type row struct {
	Equipment string     `json:"equipment"`
	From      time.Time  `json:"from"`
	To        *time.Time `json:"to"`
	Day       string     `json:"production_day"`
	IsFinal   bool       `json:"is_final"`
	Coverage  float64    `json:"coverage_ratio"`

	// equipment-state
	Mode     string  `json:"mode"`
	Packml   *int    `json:"packml_state"`
	Duration float64 `json:"duration_seconds"`
	Cause    string  `json:"cause"`

	// production-rate
	Items         int64   `json:"items_count"`
	EnergyKWh     float64 `json:"energy_kwh"`
	CounterResets int64   `json:"counter_resets_count"`

	// oee
	APT           float64  `json:"apt_seconds"`
	AUST          float64  `json:"aust_seconds"`
	ADET          float64  `json:"adet_seconds"`
	PBT           float64  `json:"pbt_seconds"`
	Unknown       float64  `json:"unknown_seconds"`
	Availability  *float64 `json:"availability_ratio"`
	Effectiveness *float64 `json:"effectiveness_ratio"`
	Quality       *float64 `json:"quality_ratio"`
	OEE           *float64 `json:"oee_ratio"`
	NEE           *float64 `json:"nee_ratio"`

	AvailabilityReason  string `json:"availability_reason"`
	EffectivenessReason string `json:"effectiveness_reason"`
	QualityReason       string `json:"quality_reason"`
	OEEReason           string `json:"oee_reason"`
	NEEReason           string `json:"nee_reason"`
}

// rows are all rows of a product, of one kind of window where there are such.
func (c *chain) rows(product, window string) (out []row) {
	c.t.Helper()
	q := url.Values{"format": {"ndjson"}}
	if window != "" {
		q.Set("window", window)
	}
	var b strings.Builder
	if err := c.get("/api/v1/products/"+product+"/rows", q, &b); err != nil {
		c.t.Fatal(err)
	}
	for d := json.NewDecoder(strings.NewReader(b.String())); d.More(); {
		var r row
		if err := d.Decode(&r); err != nil {
			c.t.Fatalf("read rows of %s: %v", product, err)
		}
		out = append(out, r)
	}
	return out
}

func freePort(t *testing.T) string {
	t.Helper()
	return meshtest.Vacant(t)
}
