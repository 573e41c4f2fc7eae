package torture

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"plantmesh/deploy/torture/proxy"
)

const (
	site  = "graz"
	agent = "gw-1"
)

// options say what a rig is made of; the zero value is a hub, an agent and the
// default sources, with timers so short that nothing is waited for long.
type options struct {
	edgeData, hubData string       // folders of the data; empty: in the rig's own
	sources           []sourceSpec // nil: defaultSources
	faulty            bool         // programs with failpoints
	buffer            string       // of edge.yaml, in braces' inside: "max_bytes: 16MiB, policy: block"
	nats              string       // likewise of hub.yaml, beside listen: "sync_interval: 2m"
	disorder          time.Duration
	twice             int      // samples that the case says twice
	gaps              []string // causes of gaps there may be although nothing is lost; none: every source is bridged
	unreadable        bool     // the case says what can't be read
	held              bool     // the sources say nothing before load.hold(false)
	site              string   // site.yaml; empty: one machine for each source
	rules             string   // rules.d/torture.yaml
	receipts          string   // ingest of hub.yaml; empty: every second
	window            string   // of edge.yaml where plain
	plain             bool     // timers as the programs have them by themselves, not short ones
	listen            string   // address of the agent's link to the hub; empty: on loopback
	// serving is given what makes the sources, and calls it where their sockets
	// should be; nil: in the machine's own network.
	serving func(serve func())
}

// rig is one chain under torture. Its methods are for the case's goroutine.
type rig struct {
	*trial

	o                 options
	dir               string
	edgeData, hubData string
	nats, http        string // addresses of the hub
	hub, edge         *child
	link              *proxy.Proxy // between the agent and the hub
	load              *load
}

// rig makes a chain and starts all of it; it ends with the trial.
func (x *trial) rig(o options) *rig {
	x.Helper()
	r := x.assemble(o)
	r.hub.start()
	r.ready()
	r.edge.start()
	return r
}

// assemble makes a chain whose sources and link run, and whose programs don't.
func (x *trial) assemble(o options) *rig {
	x.Helper()
	dir, err := os.MkdirTemp("", "pmt-") // t.TempDir is too long for a socket
	if err != nil {
		x.Fatal(err)
	}
	x.Cleanup(func() {
		if x.Failed() {
			x.Logf("the files and logs of this run are kept in %s", dir)
			return
		}
		if err := os.RemoveAll(dir); err != nil {
			x.Error(err)
		}
	})
	if o.sources == nil {
		o.sources = defaultSources()
	}
	if o.disorder == 0 {
		o.disorder = 200 * time.Millisecond
	}
	r := &rig{trial: x, o: o, dir: dir, edgeData: o.edgeData, hubData: o.hubData, nats: x.address(), http: x.address()}
	if r.edgeData == "" {
		r.edgeData = filepath.Join(dir, "agent")
	}
	if r.hubData == "" {
		r.hubData = filepath.Join(dir, "hub")
	}
	bin := x.programs(o.faulty)
	r.hub = &child{t: x.T, name: "hub", path: filepath.Join(bin, "plantmesh"), args: []string{"serve", "--config", r.path("hub.yaml")}, dir: dir}
	r.edge = &child{t: x.T, name: "agent", path: filepath.Join(bin, "plantmesh-edge"), args: []string{"run", "--config", r.path("edge/edge.yaml"), "--verbose"}, dir: dir}
	serve := func() { r.load = newLoad(x.T, r.path("ledger.csv"), o.sources) }
	if o.serving == nil {
		serve()
	} else {
		o.serving(serve)
	}
	r.load.held = o.held
	if r.link, err = proxy.Listen(x.Context(), cmp.Or(o.listen, "127.0.0.1:0"), r.nats); err != nil {
		x.Fatal(err)
	}
	r.write()
	r.enrol()
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { r.link.Run(ctx) })
	wg.Go(func() { r.load.run(ctx) })
	x.Cleanup(func() {
		r.edge.kill()
		r.hub.kill()
		cancel()
		wg.Wait()
	})
	return r
}

func (r *rig) path(name string) string { return filepath.Join(r.dir, name) }

func (r *rig) put(name, text string) {
	r.Helper()
	p := r.path(name)
	if err := os.MkdirAll(filepath.Dir(p), 0o700); err != nil {
		r.Fatal(err)
	}
	if err := os.WriteFile(p, []byte(text), 0o600); err != nil {
		r.Fatal(err)
	}
}

// write writes all configuration.
func (r *rig) write() {
	r.Helper()
	if r.o.site == "" {
		r.o.site = r.site()
	}
	r.put("site.yaml", r.o.site)
	r.put("hub.yaml", r.hubYAML())
	r.put("edge/edge.yaml", r.edgeYAML())
	if r.o.rules != "" {
		r.put("edge/rules.d/torture.yaml", r.o.rules)
	}
	for _, f := range r.load.feeds {
		r.put("edge/sources.d/"+f.id+".yaml", r.source(f))
	}
}

func (r *rig) hubYAML() string {
	hub := fmt.Sprintf("data: %q\nsite_file: site.yaml\nhttp: {listen: %q}\n", r.hubData, r.http)
	if r.o.plain {
		return hub + fmt.Sprintf("nats: {listen: %q}\n", r.nats)
	}
	nats := ""
	if r.o.nats != "" {
		nats = ", " + r.o.nats
	}
	receipts := "receipt_every: 1s, purge_every: 1s, fork_after: 2s"
	if r.o.receipts != "" {
		receipts = r.o.receipts
	}
	return hub + fmt.Sprintf("nats: {listen: %q, ping: 1s, check_every: 2s%s}\ningest: {%s}\nwatch: {canary: 2s, stream: 2s}\n", r.nats, nats, receipts)
}

func (r *rig) edgeYAML() string {
	timers, short := "", "window: {"+r.o.window+"}\n"
	if !r.o.plain {
		timers = ", ping: 1s, timeout: 2s"
		short = "forward: {resend_after: 2s, resend_gap: 200ms, live_lag: 2s}\nwindow: {latency: 200ms}\nrevisions: {confirm_within: 40s, settle: 300ms}\n"
	}
	return fmt.Sprintf("agent: %s\nsite: %s\ndata: %q\nstatus: %q\nhub: {url: \"nats://%s\", key: agent.nk, token: agent.jwt%s}\n%sbuffer: {%s}\n",
		agent, site, r.edgeData, r.path("edge/status.sock"), r.link.Addr(), timers, short, r.o.buffer)
}

func (r *rig) site() string {
	var b strings.Builder
	fmt.Fprintf(&b, `site: %s
domain: production
zone: Europe/Vienna
mapping_version: "1.0.0"
production_day_start: "06:00"
shifts:
  - {id: day, start: "06:00", end: "18:00"}
  - {id: night, start: "18:00", end: "06:00"}
min_coverage: 0.5
ideal_cycle_seconds:
  press: {"a": 0.5}
energy_unit: kWh
equipment:
`, site)
	for _, s := range r.o.sources {
		fmt.Fprintf(&b, "  - {id: %s, line: %s, name: Press, kind: press, source: %s, signals_prefix: %s.%s.}\n", s.equipment(), s.line, s.id, s.line, machine)
	}
	return b.String()
}

func (r *rig) source(f *feed) string {
	var b strings.Builder
	if f.kind == "mqtt" {
		fmt.Fprintf(&b, "mqtt:\n  id: %s\n  url: %s\n  disorder: %s\n  receive_maximum: 2000\n", f.id, f.server.URL(), r.o.disorder)
		fmt.Fprintf(&b, "  topics:\n    - {filter: plant/%s/+, signal: \"%s.{2}.{key}\", time: ts, time_unit: ms}\n", f.line, f.line)
		fmt.Fprintf(&b, "  heartbeat: {topic: plant/%s/heartbeat, every: 10s}\n  signals:\n", f.line)
	} else {
		interval := "  publishing_interval: 50ms\n"
		if r.o.plain {
			interval = ""
		}
		fmt.Fprintf(&b, "opcua:\n  id: %s\n  endpoint: %s\n  disorder: %s\n%s  security: {insecure: true}\n  signals:\n", f.id, f.server.URL(), r.o.disorder, interval)
	}
	typ := "int"
	if f.text != nil {
		typ = "string"
	}
	for _, s := range f.table() {
		fmt.Fprintf(&b, "    - {name: %s, type: %s", s.Name, typ)
		if f.kind != "mqtt" {
			fmt.Fprintf(&b, ", node: \"nsu=urn:plantmesh:firmware-sim;s=%s\"", s.Name)
		}
		b.WriteString("}\n")
	}
	return b.String()
}

// enrol makes the agent's key and has the hub's registry sign it.
func (r *rig) enrol() {
	r.Helper()
	key, err := ask(r.edge.path, "keygen", r.path("edge/agent.nk"))
	if err != nil {
		r.Fatal(err)
	}
	token, err := ask(r.hub.path, "agents", "enroll", "--config", r.path("hub.yaml"), "--site", site, agent, strings.TrimSpace(key))
	if err != nil {
		r.Fatal(err)
	}
	r.put("edge/agent.jwt", token)
}

// await waits until ok; the trial is over where that takes longer than within.
func (r *rig) await(what string, within time.Duration, ok func() bool) {
	r.Helper()
	if !r.eventually(within, ok) {
		r.Fatalf("waited %s in vain until %s\nhub: %s\nagent: %s", within, what, r.hub.tail(8), r.edge.tail(8))
	}
}

func (r *rig) eventually(within time.Duration, ok func() bool) bool {
	for began := time.Now(); !ok(); {
		if time.Since(began) > within {
			return false
		}
		pause(10 * time.Millisecond)
	}
	return true
}

// address is a free one of its own, below what the system gives to others.
func (x *trial) address() string {
	x.Helper()
	for range 1000 {
		at := fmt.Sprintf("127.0.0.1:%d", x.ports.Add(1))
		l, err := net.Listen("tcp", at)
		if err == nil {
			if err := l.Close(); err != nil {
				x.Fatal(err)
			}
			return at
		}
	}
	x.Fatal("no free port")
	return ""
}
