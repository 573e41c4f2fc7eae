// Package demo runs the whole chain as real processes: a plant, an agent, a
// hub. It starts its sibling binaries by path, breaks them on request, and
// compares the products with the plant's own truth.
package demo

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"plantmesh/deploy/torture/proxy"
	"plantmesh/proto/clock"
	"plantmesh/proto/mesh"
)

// Options are the flags of `plantmesh demo`.
type Options struct {
	Seed  uint64
	Start time.Time     // zero: counted back from now
	Speed float64       // plant seconds a second
	For   time.Duration // plant time after the history; 0: until interrupted
	// History is the plant time before: 24 h to 48 h, so that a shift and a day are
	// final; 0: 48 h.
	History time.Duration
	Faults  []string
	Assert  bool
	Listen  string // host:port of the page
	Dir     string // keep everything here; empty: a folder that is removed at the end
}

// Errors of the demo, each with its exit code in `plantmesh demo`.
var (
	// ErrUsage is returned for options that contradict each other.
	ErrUsage = errors.New("these options don't fit together")
	// ErrInUse is returned when the page's address is taken.
	ErrInUse = errors.New("the address is in use by another program")
	// ErrFindings is returned when the products are not what the truth says.
	ErrFindings = errors.New("the products are not what the plant's truth says")
)

// FaultNames are the faults the demo knows.
func FaultNames() []string {
	return []string{"kill-agent", "kill-worker", "kill-hub", "restore-hub", "outage", "skew", "late"}
}

// plan is Options made definite.
type plan struct {
	Options

	seed        uint64
	start, h, a time.Time // history begins; plant clock begins; plant stands
	listen      string
}

func (p plan) bounded() bool { return p.For > 0 }

func (o Options) plan(now time.Time) (p plan, err error) {
	p = plan{Options: o, seed: o.Seed, listen: o.Listen}
	for _, f := range o.Faults {
		if !slices.Contains(FaultNames(), f) {
			return p, fmt.Errorf("%w: fault %q is none of %s", ErrUsage, f, strings.Join(FaultNames(), ", "))
		}
	}
	past := cmp.Or(o.History, history)
	switch {
	case past < leastHistory || past > history:
		return p, fmt.Errorf("%w: --history must lie between %s and %s", ErrUsage, leastHistory, history)
	case o.For < 0:
		return p, fmt.Errorf("%w: --for must be above 0", ErrUsage)
	case o.For%time.Millisecond != 0:
		return p, fmt.Errorf("%w: --for %s: the plant counts in whole milliseconds", ErrUsage, o.For)
	case !(o.Speed > 0) || math.IsInf(o.Speed, 0): // NaN is not above 0 either
		return p, fmt.Errorf("%w: --speed %v must be a number above 0", ErrUsage, o.Speed)
	case !p.bounded() && (o.Assert || len(o.Faults) > 0):
		return p, fmt.Errorf("%w: --assert and --fault need --for", ErrUsage)
	case !p.bounded() && o.Speed != 1 && o.Start.IsZero():
		return p, fmt.Errorf("%w: without --for or --start the plant runs at speed 1: plant time never runs ahead of now", ErrUsage)
	}
	now = now.UTC().Truncate(time.Second)
	p.start = o.Start.UTC()
	if o.Start.IsZero() {
		p.start = now.Add(-o.For - past)
	}
	p.h = p.start.Add(past)
	p.a = p.h.Add(o.For)
	if p.a.Add(disorder).After(now.Add(disorder)) {
		return p, fmt.Errorf("%w: the demo would end at %s, and plant time never runs ahead of now", ErrUsage, stamp(p.a))
	}
	return p, nil
}

// demo is one running demo.
type demo struct {
	plan
	layout

	out, err       io.Writer
	hub, sim, edge *child
	link           *proxy.Proxy
	sourceURLs     chan map[string]string
	historyDone    chan struct{}
	standing       chan struct{}
	faultEvents    chan string
	downs          []down
	backups        int
	clocks         clock.Plant   // as the plant has it
	skew           time.Duration // how far the agent's is ahead of that, and the hub's behind
	outcome        Outcome
}

// down is a stretch in which a process was away on purpose.
type down struct {
	fault string
	took  time.Duration
}

// Outcome is how a demo went, for programs.
type Outcome struct {
	Page string `json:"page"`
	Seed uint64 `json:"seed"`
	// Verdict is the comparison with the truth; nil without --assert.
	Verdict *Verdict `json:"verdict,omitempty"`
}

// Verdict is the demo's last line.
type Verdict struct {
	Products   int     `json:"products"`
	Rows       int     `json:"rows"`
	Mismatched int     `json:"mismatched"`
	Lost       int     `json:"lost"`
	Duplicated int     `json:"duplicated"`
	Unmarked   int     `json:"unmarked"`
	GapSeconds float64 `json:"gap_seconds"`
	Allowed    float64 `json:"allowed_seconds"`
}

// Run runs the demo until it is over or ctx ends. Results go to out,
// narration to narrate.
func Run(ctx context.Context, o Options, out, narrate io.Writer) (Outcome, error) {
	signal.Ignore(syscall.SIGPIPE) // a reader that went away is a failed write, not our death: the folder must go too
	ctx, gone := context.WithCancel(ctx)
	defer gone()
	out, narrate = told{out, gone}, told{narrate, gone}
	p, err := o.plan(time.Now())
	if err != nil {
		return Outcome{}, err
	}
	if p.listen, err = free(ctx, o.Listen); err != nil {
		return Outcome{}, err
	}
	d := &demo{
		plan: p, out: out, err: narrate, sourceURLs: make(chan map[string]string, 1),
		historyDone: make(chan struct{}), standing: make(chan struct{}), faultEvents: make(chan string, 16),
	}
	d.outcome = Outcome{Page: "http://" + d.listen, Seed: d.seed}
	remove, err := d.makeFolder()
	if err != nil {
		return d.outcome, err
	}
	keep := false
	defer func() {
		if !keep {
			remove()
		}
	}()
	inner, cancel := context.WithCancel(ctx)
	defer cancel()
	defer d.stopAll()
	if err = d.launch(inner); err == nil {
		err = d.drive(inner)
	}
	if ctx.Err() != nil && !errors.Is(err, ErrFindings) { // we were asked to end: what broke on the way is no fault
		return d.outcome, ctx.Err()
	}
	if keep = err != nil; keep {
		d.say("the files and logs of this run are kept in %s", d.dir)
	}
	return d.outcome, err
}

// told is where the demo speaks. When nobody listens any more, at the end of
// `demo | head` or of a terminal, the demo ends as after a Ctrl-C.
type told struct {
	to   io.Writer
	gone context.CancelFunc
}

func (t told) Write(b []byte) (int, error) {
	n, err := t.to.Write(b)
	if err != nil {
		t.gone()
	}
	return n, err
}

// free checks that the page may be served at listen, before anything starts;
// port 0 becomes a free one.
func free(ctx context.Context, listen string) (string, error) {
	host, port, err := net.SplitHostPort(listen)
	if err != nil {
		return "", fmt.Errorf("%w: --listen %q is no host:port such as 127.0.0.1:8080", ErrUsage, listen)
	}
	if ip := net.ParseIP(host); host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return "", fmt.Errorf("%w: --listen %q is not loopback: a demo's hub has no users, so only 127.0.0.1 may listen", ErrUsage, listen)
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		return "", fmt.Errorf("%w: --listen %q: port %q is no number from 0 to 65535", ErrUsage, listen, port)
	}
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", listen)
	if errors.Is(err, syscall.EADDRINUSE) {
		return "", fmt.Errorf("listen on %s: %w", listen, errors.Join(ErrInUse, err))
	}
	if err != nil {
		return "", fmt.Errorf("listen for the page: %w", err)
	}
	defer l.Close() //nolint:errcheck // only its number was wanted
	return l.Addr().String(), nil
}

func (d *demo) makeFolder() (remove func(), err error) {
	if d.Dir != "" {
		abs, err := filepath.Abs(d.Dir)
		if err != nil {
			return nil, fmt.Errorf("make the demo's folder: %w", err)
		}
		d.layout = layout{abs}
		if err := os.MkdirAll(abs, 0o700); err != nil {
			return nil, fmt.Errorf("make the demo's folder: %w", err)
		}
		if entries, err := os.ReadDir(abs); err != nil || len(entries) > 0 {
			return nil, fmt.Errorf("%w: %s is not empty; a demo begins with an empty folder", ErrUsage, abs)
		}
		return func() {}, nil
	}
	dir, err := os.MkdirTemp("", "plantmesh-demo-")
	if err != nil {
		return nil, fmt.Errorf("make the demo's folder: %w", err)
	}
	d.layout = layout{dir}
	return func() { _ = os.RemoveAll(dir) }, nil // a temporary folder: the system removes what is left
}

// binaries are the siblings of the running program.
func binaries() (hub, edge, sim string, err error) {
	self, err := os.Executable()
	if err != nil {
		return "", "", "", fmt.Errorf("where is this program? %w", err)
	}
	dir := filepath.Dir(self)
	hub, edge, sim = self, filepath.Join(dir, "plantmesh-edge"), filepath.Join(dir, "firmware-sim")
	for _, p := range []string{edge, sim} {
		if _, err := os.Stat(p); err != nil {
			return "", "", "", fmt.Errorf("%w: %s is not beside this program; make build puts all three into bin/", ErrUsage, filepath.Base(p))
		}
	}
	return hub, edge, sim, nil
}

func (d *demo) launch(ctx context.Context) error {
	hubPath, edgePath, simPath, err := binaries()
	if err != nil {
		return err
	}
	if err := d.setClocks(clock.Plant{Plant: mesh.NanosOf(d.h)}); err != nil {
		return err
	}
	nats, err := free(ctx, "127.0.0.1:0")
	if err != nil {
		return err
	}
	if d.link, err = proxy.Listen(ctx, "127.0.0.1:0", nats); err != nil {
		return err
	}
	go d.link.Run(ctx)
	if err := errors.Join(d.writeSim(d.plan), d.writeHub(d.plan, nats)); err != nil {
		return err
	}
	d.hub = &child{name: "hub", path: hubPath, args: []string{"serve", "--config", d.hubConfig()}, dir: d.dir}
	d.sim = &child{name: "firmware-sim", path: simPath, args: []string{"run", "--config", d.simConfig()}, dir: d.dir, event: d.onSim}
	d.edge = &child{name: "agent", path: edgePath, args: []string{"run", "--config", d.edgeConfig()}, dir: d.dir}
	if err := errors.Join(d.hub.start(ctx), d.sim.start(ctx)); err != nil {
		return err
	}
	var urls map[string]string
	select {
	case urls = <-d.sourceURLs:
	case <-d.sim.ended():
		return errors.New(d.sim.why())
	case <-d.hub.ended():
		return errors.New(d.hub.why())
	case <-ctx.Done():
		return ctx.Err()
	}
	if err := d.writeEdge(d.link.Addr(), urls); err != nil {
		return err
	}
	if err := d.waitHub(ctx); err != nil {
		return err
	}
	if err := d.enroll(ctx, hubPath, edgePath); err != nil {
		return err
	}
	return d.edge.start(ctx)
}

// enroll makes the agent's key on the agent's side and has the hub sign it.
func (d *demo) enroll(ctx context.Context, hubPath, edgePath string) error {
	key, err := command(ctx, edgePath, "keygen", d.agentKey()).Output()
	if err != nil {
		return fmt.Errorf("make the agent's key: %w", explain(err))
	}
	token, err := command(ctx, hubPath, "agents", "enroll", "--config", d.hubConfig(), "--site", siteName, agentName, strings.TrimSpace(string(key))).Output()
	if err != nil {
		return fmt.Errorf("enrol the agent: %w", explain(err))
	}
	return d.write("edge/agent.jwt", string(token))
}

// explain adds what a command said before it failed.
func explain(err error) error {
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return fmt.Errorf("%w: %s", err, strings.TrimSpace(string(exit.Stderr)))
	}
	return err
}

func (d *demo) stopAll() {
	for _, c := range []*child{d.edge, d.sim, d.hub} {
		if c != nil {
			c.stop()
		}
	}
}

// onSim handles the simulator's events.
func (d *demo) onSim(e map[string]any) {
	switch e["event"] {
	case "ready":
		urls := map[string]string{}
		servers, _ := e["servers"].(map[string]any)
		for name, u := range servers {
			urls[name], _ = u.(string)
		}
		d.sourceURLs <- urls
	case "history_received":
		close(d.historyDone)
	case "stopped":
		close(d.standing)
	case "fault":
		d.faultEvents <- fmt.Sprint(e["what"])
	}
}

func (d *demo) say(format string, args ...any) { _, _ = fmt.Fprintf(d.err, format+"\n", args...) }
