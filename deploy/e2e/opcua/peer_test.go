// Package opcua has the gateway's reader of OPC UA meet servers that others
// wrote: node-opcua above all, which keeps its queues and transfers
// subscriptions, and awcullen's, which does neither. What they give are counters
// that follow from the clock, so each value that is missing or comes twice is
// known by itself.
package opcua

import (
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"plantmesh/proto/meshtest"
)

// full has the matrix run as it is meant to be: make matrix.
func full() bool { return os.Getenv("PLANTMESH_MATRIX") == "full" }

// beside lets a test run beside others, but where the matrix is run as it is meant to be.
func beside(t *testing.T) {
	t.Helper()
	if !full() {
		t.Parallel()
	}
}

// lacking ends a test that misses something outside: it fails where the suite
// is required.
func lacking(t *testing.T, why string) {
	t.Helper()
	if slices.Contains(strings.Split(os.Getenv("PLANTMESH_REQUIRE"), ","), "interop") {
		t.Fatal(why)
	}
	t.Skip(why)
}

// plan is what a server is, in testdata/server.js's words.
type plan struct {
	Port       int      `json:"port"`
	Dir        string   `json:"dir"` // its own
	URI        string   `json:"uri"`
	Cert       string   `json:"cert"`
	Key        string   `json:"key"`
	Base       int64    `json:"base"`   // ms since 1970 of tick 0
	Period     int64    `json:"period"` // ms a tick
	Items      int      `json:"items"`
	Namespaces []string `json:"namespaces"`
	Plant      string   `json:"plant"`           // of them: that of the counters
	Wary       bool     `json:"wary,omitempty"`  // trusts no client by itself
	Token      int64    `json:"token,omitempty"` // ms a security token lives
	Users      []byte   `json:"users,omitempty"` // the certificate that may log in, DER
}

const (
	plantURI  = "urn:plantmesh:matrix:plant"
	otherURI  = "urn:plantmesh:matrix:other"
	serverURI = "urn:plantmesh:matrix:server"
)

// answer is what a server says to an order.
type answer struct {
	Tick       int64          `json:"tick"`
	Namespaces []string       `json:"namespaces"`
	Counts     map[string]int `json:"counts"`
	Sessions   []string       `json:"sessions"`
	Error      string         `json:"error"`
}

// peer is a server with counters.
type peer struct {
	*servant

	plan    plan
	command func(t *testing.T) *exec.Cmd
}

// freePort is one that nobody listens at now.
func freePort(t *testing.T) int {
	t.Helper()
	return meshtest.VacantPort(t)
}

// nodeOPCUA is the server in JavaScript.
func nodeOPCUA(t *testing.T) *exec.Cmd {
	t.Helper()
	return script(t, "testdata/server.js")
}

// serve starts a node-opcua server with so many counters.
func serve(t *testing.T, items int, period time.Duration, with ...func(*plan)) *peer {
	t.Helper()
	return serveBy(t, nodeOPCUA, items, period, with...)
}

func serveBy(t *testing.T, command func(*testing.T) *exec.Cmd, items int, period time.Duration, with ...func(*plan)) *peer {
	t.Helper()
	cert, key := newAuthority(t).server(t, nil)
	p := &peer{servant: &servant{t: t}, command: command, plan: plan{
		Port: freePort(t), Dir: t.TempDir(), URI: serverURI, Cert: cert, Key: key,
		Base: time.Now().UnixMilli(), Period: period.Milliseconds(), Items: items,
		Namespaces: []string{otherURI, plantURI}, Plant: plantURI,
	}}
	for _, f := range with {
		f(&p.plan)
	}
	p.start()
	return p
}

// start runs the process and waits until it serves.
func (p *peer) start() {
	p.t.Helper()
	p.run(p.command(p.t))
	p.tell(p.plan)
}

// tell gives one order and waits for its answer.
func (p *peer) tell(order any) (a answer) {
	p.t.Helper()
	p.ask(order, &a)
	return a
}

type order map[string]any

// stop has the server say goodbye, and waits for its end.
func (p *peer) stop() {
	p.t.Helper()
	p.tell(order{"do": "stop"})
	p.kill()
}

func (p *peer) address() string { return fmt.Sprintf("127.0.0.1:%d", p.plan.Port) }

// tick is the tick that the counters have reached.
func (p *peer) tick() int64 {
	p.t.Helper()
	return p.tell(order{"do": "tick"}).Tick
}

// until waits for a condition.
func until(t *testing.T, within time.Duration, what string, ok func() bool) {
	t.Helper()
	late := time.After(within)
	look := time.NewTicker(10 * time.Millisecond)
	defer look.Stop()
	for !ok() {
		select {
		case <-look.C:
		case <-late:
			t.Fatalf("waited %s in vain until %s", within, what)
		}
	}
}

// pass lets time go by: a cable is out for so long, that is all there is to wait for.
func pass(t *testing.T, d time.Duration) {
	t.Helper()
	select {
	case <-time.After(d):
	case <-t.Context().Done():
		t.Fatal(t.Context().Err())
	}
}
