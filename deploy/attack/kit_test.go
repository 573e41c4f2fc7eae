// Package attack has strangers, agents and people try at a hub what they must not: the
// rows S and C of the fault cases, against a real hub over TLS. Each row has a control:
// what is allowed works in the same way.
package attack

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"

	"plantmesh/cloud/access"
	"plantmesh/cloud/hub"
	"plantmesh/cloud/registry"
	built "plantmesh/deploy/e2e/programs"
	"plantmesh/proto/enroll"
	"plantmesh/proto/subject"
)

// site has lines, so that somebody can be of one of them.
const site = `site: graz
zone: Europe/Vienna
production_day_start: "06:00"
shifts:
  - {id: early, start: "06:00", end: "14:00"}
min_coverage: 0.5
energy_unit: kWh
equipment:
  - {id: line1-press, line: line1, name: Press, kind: press, source: line1-press, signals_prefix: line1.press.}
  - {id: line2-press, line: line2, name: Press, kind: press, source: line2-press, signals_prefix: line2.press.}
  - {id: line3-press, line: line3, name: Press, kind: press, source: line3-press, signals_prefix: line3.press.}
`

const (
	within   = 30 * time.Second
	password = "seven green bottles"
)

var programs string

func TestMain(m *testing.M) { os.Exit(withPrograms(m.Run)) }

func withPrograms(run func() int) int {
	dir, err := os.MkdirTemp("", "pma")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	if err := built.Into(context.Background(), dir, "plantmesh", "plantmesh-edge"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	programs = dir
	return run()
}

func check(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}

func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(within); !ok(); <-time.After(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited %s in vain until %s", within, what)
		}
	}
}

// rig is a hub and what is known of it. Safe for use by tests beside each other.
type rig struct {
	cfg  hub.Config
	yaml string
	env  []string // of its process, beside this one's
	reg  *registry.Registry
	page string // https://host:port
	nats string
	ws   string   // its WebSocket, wss://host:port
	asks []string // flags of gateways that ask
	said *said
	cmd  *exec.Cmd

	mu      sync.Mutex
	secrets []string // that nobody may ever read
	people  int
}

// person is somebody with an account, who signed in and has a token.
type person struct{ name, cookie, token string }

// said is what a program says, line by line.
type said struct {
	mu  sync.Mutex
	all bytes.Buffer
}

func (s *said) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.all.Write(b)
}

func (s *said) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.all.String()
}

// newRig starts a hub that has an admin, with more lines in its hub.yaml.
func newRig(t *testing.T, more ...string) *rig {
	t.Helper()
	r := newHub(t, more...)
	r.begins(t, more...)
	return r
}

// newHub is one that does not run yet.
func newHub(t *testing.T, more ...string) *rig {
	t.Helper()
	dir := t.TempDir()
	check(t, os.WriteFile(filepath.Join(dir, "site.yaml"), []byte(site), 0o600))
	r := &rig{yaml: filepath.Join(dir, "hub.yaml"), said: &said{}, secrets: []string{password}}
	r.writes(t, "127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0", more...)
	var err error
	r.cfg, err = hub.LoadConfig(r.yaml)
	check(t, err)
	r.reg, err = registry.Open(filepath.Join(r.cfg.Data, "registry"))
	check(t, err)
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the hub said:\n%.8000s", r.said)
		}
	})
	return r
}

// begins starts it for the first time.
func (r *rig) begins(t *testing.T, more ...string) {
	t.Helper()
	page, nc, ws := r.starts(t)
	r.writes(t, nc, ws, strings.TrimPrefix(page, "https://"), more...) // where it is found when it starts again
	r.page, r.nats, r.ws = page, "tls://"+nc, "wss://"+ws
	r.person(t, "admin")
}

func (r *rig) writes(t *testing.T, nc, ws, page string, more ...string) {
	t.Helper()
	check(t, os.WriteFile(r.yaml, fmt.Appendf(nil, "data: hub\nsite_file: site.yaml\nnats: {listen: %q, websocket: {listen: %q}}\nhttp: {listen: %q, tls: true}\n%s\n", nc, ws, page, strings.Join(more, "\n")), 0o600))
}

// starts starts the hub's process, and says where it listens.
func (r *rig) starts(t *testing.T) (page, nc, ws string) {
	t.Helper()
	before := len(r.said.String())
	r.cmd = exec.Command(filepath.Join(programs, "plantmesh"), "serve", "--config", r.yaml)
	r.cmd.Stderr, r.cmd.Env = r.said, append(os.Environ(), r.env...)
	check(t, r.cmd.Start())
	t.Cleanup(func() {
		_ = r.cmd.Process.Kill()
		_ = r.cmd.Wait()
	})
	up := regexp.MustCompile(`msg="hub is up" page=(\S+) nats=(\S+) websocket=(\S+)`)
	until(t, "the hub is up", func() bool { return up.MatchString(r.said.String()[before:]) })
	m := up.FindStringSubmatch(r.said.String()[before:])
	return m[1], m[2], m[3]
}

// stops ends the hub's process.
func (r *rig) stops(t *testing.T) {
	t.Helper()
	check(t, r.cmd.Process.Signal(os.Interrupt))
	check(t, r.cmd.Wait())
}

// person makes an account with a role, a session and a token.
func (r *rig) person(t *testing.T, grant string) (p person) {
	t.Helper()
	g, err := access.ParseGrant(grant)
	check(t, err)
	a, err := hub.Access(r.cfg)
	check(t, err)
	r.mu.Lock()
	r.people++
	p.name = fmt.Sprintf("%s-%d", g.Role, r.people)
	from := fmt.Sprintf("127.0.1.%d", r.people)
	r.mu.Unlock()
	root := access.Caller{User: "root", Via: access.ViaCLI}
	_, link, err := a.AddUser(root, p.name, []access.Grant{g}, "")
	check(t, err)
	_, err = a.SetPassword(t.Context(), access.Caller{}, link, password)
	check(t, err)
	_, p.token, err = a.CreateToken(root, p.name, []access.Grant{g}, time.Hour, "")
	check(t, err)
	if p.cookie = r.login(t, p.name, from); p.cookie == "" {
		t.Fatalf("%s can't sign in", p.name)
	}
	r.keep(link, p.token, p.cookie)
	return p
}

// keep remembers secrets.
func (r *rig) keep(secrets ...string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.secrets = append(r.secrets, secrets...)
}

// client calls from an address of this machine: limits are of addresses.
func (r *rig) client(from string) *http.Client {
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM([]byte(r.reg.Authority()))
	d := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
	return &http.Client{
		Timeout:       within,
		Transport:     &http.Transport{DialContext: d.DialContext, TLSClientConfig: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// answer is what came back, read to its end.
type answer struct {
	status int
	head   http.Header
	body   string
}

// ask sends a request as change makes it.
func (r *rig) ask(t *testing.T, from, method, target, body string, change func(*http.Request)) answer {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, r.page+target, strings.NewReader(body))
	check(t, err)
	if change != nil {
		change(req)
	}
	c := r.client(from)
	defer c.CloseIdleConnections()
	resp, err := c.Do(req)
	check(t, err)
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	check(t, err)
	return answer{resp.StatusCode, resp.Header, string(b)}
}

// by is a request of a program with a token, with of a browser with a cookie.
func by(p person) func(*http.Request) {
	return func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+p.token) }
}

func with(p person) func(*http.Request) {
	return func(r *http.Request) {
		r.AddCookie(&http.Cookie{Name: "__Host-plantmesh", Value: p.cookie})
		r.Header.Set("Sec-Fetch-Site", "same-origin")
	}
}

// form makes a request one of a page's form.
func form(change func(*http.Request)) func(*http.Request) {
	return func(r *http.Request) {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		change(r)
	}
}

func browser(r *http.Request) { r.Header.Set("Sec-Fetch-Site", "same-origin") }

// login signs in and gives the cookie; empty: it was refused.
func (r *rig) login(t *testing.T, name, from string) string {
	t.Helper()
	a := r.ask(t, from, http.MethodPost, "/login", credentials(name), form(browser))
	resp := http.Response{Header: a.head}
	for _, c := range resp.Cookies() {
		if c.Name == "__Host-plantmesh" && c.Value != "" {
			return c.Value
		}
	}
	return ""
}

// credentials are what somebody types who has an account.
func credentials(name string) string {
	return url.Values{"user": {name}, "password": {password}}.Encode()
}

// gateway is a key that asks to be let in.
type gateway struct {
	pair nkeys.KeyPair
	pub  string
	seed string
}

func newGateway(t *testing.T) *gateway {
	t.Helper()
	kp, err := nkeys.CreateUser()
	check(t, err)
	pub, err := kp.PublicKey()
	check(t, err)
	seed, err := kp.Seed()
	check(t, err)
	return &gateway{kp, pub, string(seed)}
}

// request is what it asks, signed.
func (g *gateway) request(t *testing.T, agent, key string) string {
	t.Helper()
	q, err := json.Marshal(enroll.Request{Version: enroll.Version, PublicKey: g.pub, Agent: agent, Key: key})
	check(t, err)
	signature, err := g.pair.Sign(q)
	check(t, err)
	b, err := json.Marshal(enroll.Signed{Request: q, Signature: signature})
	check(t, err)
	return string(b)
}

// knock asks at the hub's door.
func (r *rig) knock(t *testing.T, from, request string) (status int, a enroll.Answer) {
	t.Helper()
	got := r.ask(t, from, http.MethodPost, enroll.Path, request, func(r *http.Request) { r.Header.Set("Content-Type", "application/json") })
	if got.status == http.StatusOK {
		check(t, json.Unmarshal([]byte(got.body), &a))
	}
	return got.status, a
}

// enrolled is an agent's identity.
func (r *rig) enrolled(t *testing.T, name string) (g *gateway, as nats.Option) {
	t.Helper()
	g = newGateway(t)
	token, err := r.reg.Enroll("graz", name, g.pub, time.Hour, time.Now())
	check(t, err)
	return g, nats.UserJWTAndSeed(token, g.seed)
}

// dial connects as an agent does.
func (r *rig) dial(t *testing.T, name string, as nats.Option, more ...nats.Option) (*nats.Conn, error) {
	t.Helper()
	return r.dialAt(t, r.nats, name, as, more...)
}

// dialAt is dial at one of the hub's listeners.
func (r *rig) dialAt(t *testing.T, url, name string, as nats.Option, more ...nats.Option) (*nats.Conn, error) {
	t.Helper()
	callers, err := r.reg.Callers()
	check(t, err)
	return nats.Connect(url, append(more, as, nats.Secure(callers), nats.CustomInboxPrefix(subject.Inbox(name)), nats.Timeout(within))...)
}
