package opcua

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"plantmesh/deploy/torture/proxy"
	edgeua "plantmesh/edge/source/opcua"
	"plantmesh/edge/source/opcua/trust"
	"plantmesh/proto/clock"
	"plantmesh/proto/strict"
)

const (
	// disorder is what the sources here declare: their stamps are right.
	disorder = 500 * time.Millisecond
	// slack is what a gap may be longer than outage and disorder: the time within
	// which data has to flow again.
	slack = 10 * time.Second
	// gatewayURI is the name of every gateway here.
	gatewayURI = "urn:plantmesh:matrix:gw-1"
)

// gateway is a reader, its ledger and its cable to a server.
type gateway struct {
	t      *testing.T
	l      *ledger
	cfg    edgeua.Config
	cable  *proxy.Proxy
	life   *life
	cancel context.CancelFunc
	done   chan error
}

func newCable(t *testing.T, target string) *proxy.Proxy {
	t.Helper()
	cable, err := proxy.Listen(t.Context(), "127.0.0.1:0", target)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		cable.Run(ctx)
		close(done)
	}()
	t.Cleanup(func() { cancel(); <-done })
	return cable
}

// identity is the folder of the certificate that every gateway here shows: making
// a key takes a second.
var identity = sync.OnceValues(func() (string, error) {
	dir := filepath.Join(built, "pki")
	store, err := trust.Open(dir)
	if err == nil {
		_, err = store.Own(gatewayURI, []string{"gw-1"}, time.Now())
	}
	return dir, err
})

// newStore is a copy of that folder: it trusts nobody yet.
func newStore(t *testing.T) string {
	t.Helper()
	from, err := identity()
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "pki")
	if err := os.CopyFS(dir, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(filepath.Join(dir, "own", "key.pem"), 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

// newGateway is one that trusts the server, and reads all of it once it is started.
func newGateway(t *testing.T, p *peer, name string) *gateway {
	t.Helper()
	cable := newCable(t, p.address())
	g := &gateway{t: t, l: newLedger(t, p.plan), cable: cable, cfg: edgeua.Config{
		ID: name, Endpoint: "opc.tcp://" + cable.Addr(), Disorder: strict.Duration(disorder),
		Application: edgeua.Application{Store: newStore(t), URI: gatewayURI, Hosts: []string{"gw-1"}},
	}}
	g.cfg.Window.Latency = strict.Duration(200 * time.Millisecond)
	for i := range p.plan.Items {
		g.cfg.Signals = append(g.cfg.Signals, edgeua.Signal{Name: fmt.Sprintf("line1.press.v%d", i), Node: fmt.Sprintf("nsu=%s;s=v%d", plantURI, i), Type: "double"})
	}
	g.trusts(p.plan.Cert)
	return g
}

// trusts is the explicit act of a person: the certificate in this file is trusted.
func (g *gateway) trusts(file string) {
	g.t.Helper()
	store, err := trust.Open(g.cfg.Application.Store)
	if err == nil {
		_, err = store.TrustFile(file, g.cfg.Endpoint)
	}
	if err != nil {
		g.t.Fatal(err)
	}
}

func logger(t *testing.T) *slog.Logger {
	t.Helper()
	if os.Getenv("PLANTMESH_TEST_LOG") == "" {
		return slog.New(slog.DiscardHandler)
	}
	return slog.New(slog.NewTextHandler(t.Output(), nil))
}

func (g *gateway) start() {
	g.t.Helper()
	r, err := edgeua.New(g.cfg, clock.Machine{}.Now, logger(g.t))
	if err != nil {
		g.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	g.l.mu.Lock()
	resume := g.l.state
	g.l.mu.Unlock()
	g.life, g.cancel, g.done = g.l.begin(), cancel, make(chan error, 1)
	go func(f *life, done chan<- error) { done <- r.Run(ctx, resume, f) }(g.life, g.done)
	g.t.Cleanup(g.kill)
}

// kill ends the reader; what it has not committed is lost.
func (g *gateway) kill() {
	if g.done == nil {
		return
	}
	g.life.kill()
	g.cancel()
	if err := <-g.done; err != nil && !errors.Is(err, context.Canceled) {
		g.t.Error(err)
	}
	g.done = nil
}

// flows waits until every item has come to where the server is now, and a bit
// more: nothing hangs behind.
func (g *gateway) flows(p *peer, but ...int) {
	g.t.Helper()
	defer func() {
		if g.t.Failed() {
			g.t.Logf("it told: %q", g.l.said())
		}
	}()
	to := p.tick() + max(1, 300/p.plan.Period)
	until(g.t, 30*time.Second, fmt.Sprintf("every item comes to tick %d", to), func() bool { return g.l.reached(to, but...) })
}

// settles waits until the reader is where the server is, and has proven it, and ends it.
func (g *gateway) settles(p *peer, but ...int) {
	g.t.Helper()
	g.proven(p, but...)
	g.kill()
}

// proven waits until the reader is where the server is, and has proven it.
func (g *gateway) proven(p *peer, but ...int) {
	g.t.Helper()
	g.flows(p, but...)
	at := g.l.at(p.tick())
	until(g.t, 20*time.Second, "it is proven until "+at.String(), func() bool {
		g.l.mu.Lock()
		defer g.l.mu.Unlock()
		n := len(g.l.proofs)
		return n > 0 && g.l.proofs[n-1].To >= at
	})
}

// words reports whether text has all the words.
func words(text string, all ...string) (missing string) {
	for _, w := range all {
		if !strings.Contains(text, w) {
			return w
		}
	}
	return ""
}
