package bench

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nkeys"
	"golang.org/x/sync/errgroup"

	"plantmesh/cloud/registry"
	"plantmesh/deploy/e2e/programs"
	"plantmesh/edge/forward"
	"plantmesh/proto/mesh"
	"plantmesh/proto/subject"
	"plantmesh/proto/wire"
)

const fleetSite = `site: graz
zone: Europe/Vienna
production_day_start: "06:00"
shifts:
  - {id: early, start: "06:00", end: "14:00"}
min_coverage: 0.5
energy_unit: kWh
equipment:
  - {id: line1-press, line: line1, name: Press, kind: press, source: press, signals_prefix: line1.press.}
`

// notes is the log of an agent that keeps nothing else: the fleet is about the hub.
type notes struct {
	mu      sync.Mutex
	desc    mesh.Descriptor
	records []mesh.Record
	changed chan struct{}
	through atomic.Uint64 // as the hub said last
}

func (n *notes) Peek(after mesh.Position, _ int) (out []mesh.Record, _ error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, r := range n.records {
		if r.At.Seq > after.Seq {
			out = append(out, r)
		}
	}
	return out, nil
}

func (n *notes) Ack(r mesh.Receipt) ([]mesh.Range, error) {
	n.through.Store(r.Have.Through.Seq)
	return nil, nil
}

func (n *notes) Outset() ([]mesh.Descriptor, []mesh.Record, mesh.Position, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return []mesh.Descriptor{n.desc}, n.records[:1], n.records[len(n.records)-1].At, nil
}

func (n *notes) Changed() <-chan struct{} {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.changed
}

// add appends a record and gives its number.
func (n *notes) add(sealed []byte) uint64 {
	n.mu.Lock()
	defer n.mu.Unlock()
	at := n.records[len(n.records)-1].At
	at.Seq++
	n.records = append(n.records, mesh.Record{At: at, Sealed: sealed})
	close(n.changed)
	n.changed = make(chan struct{})
	return at.Seq
}

// member is one agent: the real forward and the real connection.
type member struct {
	*notes

	link *forward.NATS
}

// fleet is a hub and its agents.
type fleet struct {
	t       *testing.T
	bin     string
	yaml    string
	cmd     *exec.Cmd
	said    *bytes.Buffer
	members []*member
}

// TestBench_Fleet has a thousand agents lose their hub, and find it again: until each is
// connected and has had a receipt for what it said meanwhile.
func TestBench_Fleet(t *testing.T) {
	measured(t)
	if !full() {
		t.Skip("skipped: a thousand agents take a minute; make bench has them")
	}
	f := newFleet(t, 1000)
	f.start()
	f.all("every agent's record is stored", func(m *member) bool { return m.through.Load() == 2 })
	grown := f.memory()
	enc, err := wire.NewEncoder()
	f.check(err)
	check(t, f.cmd.Process.Kill())
	_ = f.cmd.Wait()
	for _, m := range f.members {
		sealed, err := enc.Seal(&mesh.Batch{Source: "press", Table: m.desc.Hash(), Samples: []mesh.Sample{{Signal: 1, Time: mesh.NanosOf(time.Now()), Value: mesh.Double(2)}}})
		f.check(err)
		m.add(sealed)
	}
	f.all("every agent knows that it is gone", func(m *member) bool { return !m.link.Up() })
	began := time.Now()
	f.start()
	f.all("every agent is connected", func(m *member) bool { return m.link.Up() })
	connected := time.Since(began)
	f.all("every agent's next record is stored", func(m *member) bool { return m.through.Load() == 3 })
	report(t,
		row{name: "fleet_connected", value: connected.Seconds(), unit: "s", bar: 60, clock: true},
		row{name: "fleet_stored", value: time.Since(began).Seconds(), unit: "s", bar: 60, clock: true},
		row{name: "fleet_hub_memory", value: float64(max(grown, f.memory())) / (1 << 20), unit: "MiB", bar: 512},
	)
}

func (f *fleet) check(err error) { f.t.Helper(); check(f.t, err) }

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func newFleet(t *testing.T, n int) *fleet {
	t.Helper()
	f := &fleet{t: t, bin: t.TempDir(), said: &bytes.Buffer{}}
	f.check(programs.Into(t.Context(), f.bin, "plantmesh"))
	dir := t.TempDir()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	f.check(err)
	at := l.Addr().String()
	f.check(l.Close())
	f.yaml = filepath.Join(dir, "hub.yaml")
	f.check(os.WriteFile(filepath.Join(dir, "site.yaml"), []byte(fleetSite), 0o600))
	f.check(os.WriteFile(f.yaml, fmt.Appendf(nil, "data: hub\nsite_file: site.yaml\nnats: {listen: %q}\nhttp: {listen: \"127.0.0.1:0\"}\n", at), 0o600))
	reg, err := registry.Open(filepath.Join(dir, "hub", "registry"))
	f.check(err)
	ctx, cancel := context.WithCancel(t.Context())
	var g errgroup.Group
	t.Cleanup(func() {
		cancel()
		_ = g.Wait() // they end by being told to
		for _, m := range f.members {
			_ = m.link.Close()
		}
		if f.cmd != nil {
			_ = f.cmd.Process.Kill()
			_ = f.cmd.Wait()
		}
	})
	for i := range n {
		m, sending := f.member(reg, dir, "nats://"+at, fmt.Sprintf("gw-%d", i))
		f.members = append(f.members, m)
		g.Go(func() error { return sending.Run(ctx) })
		g.Go(func() error { return m.link.Run(ctx, sending) })
	}
	return f
}

// member enrols an agent and has it call.
func (f *fleet) member(reg *registry.Registry, dir, url, name string) (*member, *forward.Forward) {
	f.t.Helper()
	kp, err := nkeys.CreateUser()
	f.check(err)
	pub, err := kp.PublicKey()
	f.check(err)
	seed, err := kp.Seed()
	f.check(err)
	token, err := reg.Enroll("graz", name, pub, time.Hour, time.Now())
	f.check(err)
	token, err = reg.File(token)
	f.check(err)
	key, jwt := filepath.Join(dir, name+".nk"), filepath.Join(dir, name+".jwt")
	f.check(os.WriteFile(key, seed, 0o600))
	f.check(os.WriteFile(jwt, []byte(token), 0o600))
	desc, err := wire.DescribeSignals([]mesh.Signal{{ID: 1, Name: "line1.press." + name, Type: mesh.TypeDouble}})
	f.check(err)
	open, err := wire.SealOpening(mesh.Opening{})
	f.check(err)
	enc, err := wire.NewEncoder()
	f.check(err)
	sealed, err := enc.Seal(&mesh.Batch{Source: "press", Table: desc.Hash(), Samples: []mesh.Sample{{Signal: 1, Time: mesh.NanosOf(time.Now()), Value: mesh.Double(1)}}})
	f.check(err)
	at := mesh.Position{Log: mesh.LogID(subject.AgentLog("graz", name)), Epoch: mesh.NewEpoch(), Seq: 1}
	n := &notes{desc: desc, records: []mesh.Record{{At: at, Sealed: open}}, changed: make(chan struct{})}
	n.add(sealed)
	quiet := slog.New(slog.DiscardHandler)
	link, err := forward.Dial(f.t.Context(), forward.DialConfig{URL: url, Key: key, Token: jwt, Site: "graz", Agent: name}, quiet)
	f.check(err)
	verdict := func(context.Context, mesh.Record) ([]byte, error) { return nil, nil }
	return &member{n, link}, forward.New(forward.Config{Site: "graz", Agent: name}, n, link, verdict, time.Now, quiet)
}

// start runs the hub.
func (f *fleet) start() {
	f.t.Helper()
	f.cmd = exec.Command(filepath.Join(f.bin, "plantmesh"), "serve", "--config", f.yaml)
	f.cmd.Stderr = f.said
	f.check(f.cmd.Start())
}

// memory is what the hub has at most.
func (f *fleet) memory() uint64 {
	f.t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", f.cmd.Process.Pid))
	f.check(err)
	_, rest, _ := strings.Cut(string(b), "VmHWM:")
	var kib uint64
	_, err = fmt.Sscan(rest, &kib)
	f.check(err)
	return kib << 10
}

// all waits until something is so of every agent.
func (f *fleet) all(what string, ok func(*member) bool) {
	f.t.Helper()
	began := time.Now()
	for end := began.Add(3 * time.Minute); ; <-time.After(50 * time.Millisecond) {
		n := 0
		for _, m := range f.members {
			if ok(m) {
				n++
			}
		}
		if n == len(f.members) {
			f.t.Logf("%s after %s", what, time.Since(began).Round(10*time.Millisecond))
			return
		}
		if time.Now().After(end) {
			f.t.Fatalf("waited in vain until %s: %d of %d\n%.3000s", what, n, len(f.members), f.said)
		}
	}
}
