package demo

import (
	_ "embed"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// site.yaml is the demo plant's calendar, ideal rates and mapping.
//
//go:embed site.yaml
var siteYAML []byte

//go:embed rules.yaml
var rulesYAML []byte

// Names of the demo plant. They are the plant's, told again here because the
// demo knows its devices only from outside.
const (
	siteName  = "graz"
	agentName = "gw-1"
	// forgetful is the one source that can't be bridged, on purpose.
	forgetful = "line2-palletiser"
	// disorder is how late the demo plant's samples may be; the plant clock
	// runs on that much after the plant stands, so that proof can follow.
	disorder = 5 * time.Second
	// history is emitted before the plant clock starts to run, at most and by default.
	history      = 48 * time.Hour
	leastHistory = 24 * time.Hour
)

func machines() []string { return []string{"filler", "capper", "labeller", "palletiser"} }

// sourceSpec is one device of the demo.
type sourceSpec struct {
	name, kind, line string
	machines         []string
}

func sources() []sourceSpec {
	m := machines()
	return []sourceSpec{
		{"line1-opcua", "opcua", "line1", m},
		{"line2-opcua", "opcua", "line2", m[:3]},
		{forgetful, "opcua", "line2", m[3:]},
		{"line3-mqtt", "mqtt", "line3", m},
	}
}

// role is one signal of every machine.
type role struct{ name, typ, unit string }

func roles() []role {
	return []role{
		{"state", "int", ""},
		{"mode", "int", ""},
		{"produced", "int", "C62"},
		{"scrap", "int", "C62"},
		{"speed", "double", "1/min"},
		{"order", "string", ""},
		{"product", "string", ""},
		{"stop_reason", "int", ""},
		{"blocked", "bool", ""},
		{"starved", "bool", ""},
		{"temperature", "double", "CEL"},
		{"vibration", "double", "C16"},
		{"current", "double", "AMP"},
		{"energy", "double", "KWH"},
	}
}

// layout is where the demo keeps its files; one folder, removed at the end
// unless somebody asked to keep it.
type layout struct{ dir string }

func (l layout) path(name string) string { return filepath.Join(l.dir, name) }
func (l layout) clock() string           { return l.path("plant-clock.json") }
func (l layout) edgeClock() string       { return l.path("plant-clock-of-agent.json") }
func (l layout) hubClock() string        { return l.path("plant-clock-of-hub.json") }
func (l layout) ledger() string          { return l.path("ledger.csv") }
func (l layout) simConfig() string       { return l.path("sim.yaml") }
func (l layout) hubConfig() string       { return l.path("hub.yaml") }
func (l layout) edgeConfig() string      { return l.path("edge/edge.yaml") }
func (l layout) agentKey() string        { return l.path("edge/agent.nk") }

func (l layout) write(name, text string) error {
	p := l.path(name)
	if err := os.MkdirAll(filepath.Dir(p), 0o700); err != nil {
		return fmt.Errorf("make the demo's folder: %w", err)
	}
	if err := os.WriteFile(p, []byte(text), 0o600); err != nil {
		return fmt.Errorf("write the demo's %s: %w", name, err)
	}
	return nil
}

// quote makes any path a YAML string.
func quote(s string) string { return strconv.Quote(s) }

func (l layout) writeSim(p plan) error {
	var b strings.Builder
	fmt.Fprintf(&b, "seed: %d\nstart: %s\nuntil: %s\n", p.seed, stamp(p.start), stamp(p.h))
	if p.bounded() {
		fmt.Fprintf(&b, "stop: %s\n", stamp(p.a))
	}
	fmt.Fprintf(&b, "clock: %s\nledger: %s\nservers:\n", quote(l.clock()), quote(l.ledger()))
	for _, s := range sources() {
		fmt.Fprintf(&b, "  - {source: %s, kind: %s, listen: \"127.0.0.1:0\", forgetful: %t}\n", s.name, s.kind, s.name == forgetful)
	}
	if late := p.late(); len(late) > 0 {
		b.WriteString("late:\n")
		for _, x := range late {
			fmt.Fprintf(&b, "  - {prefix: %s, from: %q, to: %q, until: %q}\n", x.machine, stamp(x.from), stamp(x.to), stamp(x.until))
		}
	}
	return l.write("sim.yaml", b.String())
}

func (l layout) writeHub(p plan, nats string) error {
	if err := l.write("site.yaml", string(siteYAML)); err != nil {
		return err
	}
	return l.write("hub.yaml", fmt.Sprintf("data: hub\nsite_file: site.yaml\nplant_clock: %s\nnats: {listen: %q}\nhttp: {listen: %q}\n",
		quote(l.hubClock()), nats, p.listen))
}

func (l layout) writeEdge(link string, urls map[string]string) error {
	if err := l.write("edge/rules.d/plant.yaml", string(rulesYAML)); err != nil {
		return err
	}
	err := l.write("edge/edge.yaml", fmt.Sprintf(
		"agent: %s\nsite: %s\ndata: data\nplant_clock: %s\nhub:\n  url: nats://%s\n  key: agent.nk\n  token: agent.jwt\n",
		agentName, siteName, quote(l.edgeClock()), link))
	for _, s := range sources() {
		if err == nil {
			err = l.write("edge/sources.d/"+s.name+".yaml", sourceYAML(s, urls[s.name]))
		}
	}
	return err
}

// sourceYAML is a source's file as a technician would write it.
func sourceYAML(s sourceSpec, url string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s:\n  id: %s\n", s.kind, s.name)
	if s.kind == "mqtt" {
		fmt.Fprintf(&b, "  url: %s\n  client_id: %s-%s\n  disorder: %s\n", url, agentName, s.name, disorder)
		fmt.Fprintf(&b, "  topics:\n    - {filter: plant/%s/+, signal: \"%s.{2}.{key}\", time: ts, time_unit: ms}\n", s.line, s.line)
		fmt.Fprintf(&b, "  heartbeat: {topic: plant/%s/heartbeat, every: 10s}\n  signals:\n", s.line)
	} else {
		fmt.Fprintf(&b, "  endpoint: %s\n  disorder: %s\n  security: {insecure: true} # a simulator on this machine\n", url, disorder)
		if s.name == forgetful {
			b.WriteString("  # What this server forgets is gone: commit often, so that little is at stake.\n  keep_alive_count: 5\n  window: {latency: 250ms}\n")
		}
		b.WriteString("  signals:\n")
	}
	for _, m := range s.machines {
		for _, r := range roles() {
			name := s.line + "." + m + "." + r.name
			fmt.Fprintf(&b, "    - {name: %s, type: %s", name, r.typ)
			if r.unit != "" {
				fmt.Fprintf(&b, ", unit: %q", r.unit)
			}
			if s.kind == "opcua" {
				fmt.Fprintf(&b, ", node: \"nsu=urn:plantmesh:firmware-sim;s=%s\"", name)
			}
			b.WriteString("}\n")
		}
	}
	return b.String()
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339Nano) }
