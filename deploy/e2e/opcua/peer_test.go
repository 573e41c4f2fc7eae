// Package opcua has the gateway's reader of OPC UA meet servers that others
// wrote: node-opcua above all, which keeps its queues and transfers
// subscriptions, and awcullen's, which does neither. What they give are counters
// that follow from the clock, so each value that is missing or comes twice is
// known by itself.
package opcua

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// full has the matrix run as it is meant to be: make matrix.
func full() bool { return os.Getenv("PLANTMESH_MATRIX") == "full" }

// lacking ends a test that misses something outside: it fails where the suite
// is required.
func lacking(t *testing.T, why string) {
	t.Helper()
	if slices.Contains(strings.Split(os.Getenv("PLANTMESH_REQUIRE"), ","), "interop") {
		t.Fatal(why)
	}
	t.Skip(why)
}

// errLacking means that something outside is not there.
var errLacking = errors.New("this machine has not what the suite needs")

// modules is the folder with node-opcua of package-lock.json. It is installed
// once for this lock and this user, 71 MB.
var modules = sync.OnceValues(func() (string, error) {
	for _, p := range []string{"node", "npm"} {
		if _, err := exec.LookPath(p); err != nil {
			return "", fmt.Errorf("%w: no %s here to run a server in JavaScript: install Node.js", errLacking, p)
		}
	}
	lock, err := os.ReadFile("testdata/package-lock.json")
	if err != nil {
		return "", err
	}
	base, err := os.UserCacheDir()
	if err != nil {
		base = os.TempDir()
	}
	sum := sha256.Sum256(lock)
	dir := filepath.Join(base, "plantmesh", "node-opcua-2.182.2-"+hex.EncodeToString(sum[:4]))
	out := filepath.Join(dir, "node_modules")
	if _, err := os.Stat(out); err == nil {
		return out, nil
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o700); err != nil {
		return "", err
	}
	making, err := os.MkdirTemp(filepath.Dir(dir), "making-") // half an install is never taken for one
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(making)
	for _, name := range []string{"package.json", "package-lock.json"} {
		b, err := os.ReadFile(filepath.Join("testdata", name))
		if err == nil {
			err = os.WriteFile(filepath.Join(making, name), b, 0o600)
		}
		if err != nil {
			return "", err
		}
	}
	install := exec.Command("npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts")
	install.Dir = making
	if said, err := install.CombinedOutput(); err != nil {
		return "", fmt.Errorf("%w: npm can't install node-opcua: %w\n%s", errLacking, err, said)
	}
	if err := os.Rename(making, dir); err != nil && !errors.Is(err, os.ErrExist) {
		if _, there := os.Stat(out); there != nil { // another run was faster
			return "", err
		}
	}
	return out, nil
})

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

// peer is a server process that takes orders.
type peer struct {
	t       *testing.T
	plan    plan
	command func(t *testing.T) *exec.Cmd

	mu    sync.Mutex // one order at a time
	cmd   *exec.Cmd
	in    io.WriteCloser
	lines chan []byte
}

// freePort is one that nobody listens at now.
func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// nodeOPCUA is the server in JavaScript.
func nodeOPCUA(t *testing.T) *exec.Cmd {
	t.Helper()
	where, err := modules()
	if errors.Is(err, errLacking) {
		lacking(t, err.Error())
	}
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("node", "testdata/server.js")
	cmd.Env = append(os.Environ(), "NODE_PATH="+where)
	return cmd
}

// serve starts a node-opcua server with so many counters.
func serve(t *testing.T, items int, period time.Duration, with ...func(*plan)) *peer {
	t.Helper()
	return serveBy(t, nodeOPCUA, items, period, with...)
}

func serveBy(t *testing.T, command func(*testing.T) *exec.Cmd, items int, period time.Duration, with ...func(*plan)) *peer {
	t.Helper()
	cert, key := newAuthority(t).server(t, nil)
	p := &peer{t: t, command: command, plan: plan{
		Port: freePort(t), Dir: t.TempDir(), URI: serverURI, Cert: cert, Key: key,
		Base: time.Now().UnixMilli(), Period: period.Milliseconds(), Items: items,
		Namespaces: []string{otherURI, plantURI}, Plant: plantURI,
	}}
	for _, f := range with {
		f(&p.plan)
	}
	p.start()
	t.Cleanup(p.kill)
	return p
}

// start runs the process and waits until it serves.
func (p *peer) start() {
	p.t.Helper()
	p.mu.Lock()
	p.cmd = p.command(p.t)
	own(p.cmd)
	in, err := p.cmd.StdinPipe()
	if err != nil {
		p.t.Fatal(err)
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		p.t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	p.in, p.lines = in, make(chan []byte, 1)
	go func(lines chan<- []byte) {
		defer close(lines)
		for s := bufio.NewScanner(out); s.Scan(); {
			if line, ok := bytes.CutPrefix(s.Bytes(), []byte(">")); ok {
				lines <- bytes.Clone(line)
			}
		}
	}(p.lines)
	p.mu.Unlock()
	p.tell(p.plan)
}

// tell gives one order and waits for its answer.
func (p *peer) tell(order any) (a answer) {
	p.t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	b, err := json.Marshal(order)
	if err != nil {
		p.t.Fatal(err)
	}
	if _, err := p.in.Write(append(b, '\n')); err != nil {
		p.t.Fatalf("the server has ended: %v", err)
	}
	select {
	case line, ok := <-p.lines:
		if !ok {
			p.t.Fatalf("the server ended at the order %s", b)
		}
		if err := json.Unmarshal(line, &a); err != nil {
			p.t.Fatalf("the server said %s: %v", line, err)
		}
	case <-time.After(time.Minute):
		p.t.Fatalf("the server does not answer the order %s", b)
	}
	if a.Error != "" {
		p.t.Fatalf("order %s: %s", b, a.Error)
	}
	return a
}

type order map[string]any

// stop has the server say goodbye, and waits for its end.
func (p *peer) stop() {
	p.t.Helper()
	p.tell(order{"do": "stop"})
	p.kill()
}

// kill ends it without a word.
func (p *peer) kill() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd == nil || p.cmd.Process == nil {
		return
	}
	_ = p.cmd.Process.Kill() // it may have ended
	for range p.lines {      // its pipe must be empty before Wait
	}
	_ = p.cmd.Wait() // killed
	p.cmd = nil
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
