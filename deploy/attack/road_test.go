package attack

import (
	"bufio"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// proxy is an HTTP proxy as plants have them: it gives way (CONNECT) to who logs in, and
// cuts what is open when it likes. Safe for concurrent use.
type proxy struct {
	at string // host:port

	mu      sync.Mutex
	login   string // user:password; empty: it wants none
	only    string // host:port that it gives way to; empty: all
	refuses int    // the status that it answers instead; 0: it doesn't
	asked   map[string]int
	open    map[net.Conn]bool
}

func newProxy(t *testing.T, login string) *proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	check(t, err)
	p := &proxy{at: l.Addr().String(), login: login, asked: map[string]int{}, open: map[net.Conn]bool{}}
	t.Cleanup(func() { l.Close(); p.cut() })
	go func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			go p.serve(in)
		}
	}()
	return p
}

func (p *proxy) serve(in net.Conn) {
	defer in.Close()
	r, err := http.ReadRequest(bufio.NewReader(in))
	if err != nil || r.Method != http.MethodConnect {
		return
	}
	p.mu.Lock()
	status, want := p.refuses, "Basic "+base64.StdEncoding.EncodeToString([]byte(p.login))
	if status == 0 && p.login != "" && r.Header.Get("Proxy-Authorization") != want {
		status = http.StatusProxyAuthRequired
	}
	if status == 0 && p.only != "" && r.Host != p.only {
		status = http.StatusForbidden
	}
	if status == 0 {
		p.asked[r.Host]++
	}
	p.mu.Unlock()
	if status != 0 {
		fmt.Fprintf(in, "HTTP/1.1 %d %s\r\nProxy-Authenticate: Basic realm=\"plant\"\r\nContent-Length: 0\r\n\r\n", status, http.StatusText(status))
		return
	}
	out, err := net.Dial("tcp", r.Host)
	if err != nil {
		fmt.Fprint(in, "HTTP/1.1 502 Bad Gateway\r\n\r\n")
		return
	}
	defer out.Close()
	fmt.Fprint(in, "HTTP/1.1 200 Connection established\r\n\r\n")
	p.mu.Lock()
	p.open[in], p.open[out] = true, true
	p.mu.Unlock()
	done := make(chan struct{})
	go func() {
		_, _ = io.Copy(out, in)
		out.Close()
		close(done)
	}()
	_, _ = io.Copy(in, out)
	in.Close()
	<-done
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.open, in)
	delete(p.open, out)
}

// cut resets what is open.
func (p *proxy) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.open {
		if tcp, ok := c.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0)
		}
		c.Close()
	}
}

func (p *proxy) set(login string, refuses int) {
	p.mu.Lock()
	p.login, p.refuses = login, refuses
	p.mu.Unlock()
	p.cut()
}

// ways is how often it gave way to host:port.
func (p *proxy) ways(to string) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.asked[to]
}

// says runs a command of the gateway.
func (f *field) command(args ...string) (code int, out string) {
	cmd := exec.Command(filepath.Join(programs, "plantmesh-edge"), append(args, "--config", f.edge)...)
	b, _ := cmd.Output() // how it ends its code says
	return cmd.ProcessState.ExitCode(), string(b)
}

// red is what check finds of the hub, by id.
func (f *field) red(t *testing.T) map[string]string {
	t.Helper()
	_, out := f.command("check", "--json", "--section", "cloud")
	var all struct {
		Data struct {
			Checks []struct{ ID, Result, Message string }
		}
	}
	check(t, json.Unmarshal([]byte(out), &all))
	if len(all.Data.Checks) == 0 {
		t.Fatalf("check says %s", out)
	}
	red := map[string]string{}
	for _, c := range all.Data.Checks {
		if c.Result != "ok" && c.Result != "skipped" && c.ID != "net-rtt" { // how slow this machine is
			red[c.ID] = c.Message
		}
	}
	return red
}

// TestRoad_ThroughAProxy: where nothing leads out but a proxy that wants a login, a gateway is
// let in, sends by WebSocket, has its token renewed, and says in words what the proxy refuses.
// Whatever is cut, each number is in the hub once.
func TestRoad_ThroughAProxy(t *testing.T) {
	t.Parallel()
	const secret = "eight brown bottles"
	r := newRig(t, "identity: {lifetime: 12s}")
	p := newProxy(t, "anna:"+secret)
	file := filepath.Join(t.TempDir(), "proxy.pass")
	check(t, os.WriteFile(file, []byte(secret+"\n"), 0o600))
	r.asks = []string{"--proxy", "http://anna@" + p.at, "--proxy-password-file", file}
	f := newField(t, r)
	hub, page := strings.TrimPrefix(r.ws, "wss://"), strings.TrimPrefix(r.page, "https://")
	text, err := os.ReadFile(f.edge)
	check(t, err)
	if s := string(text); !strings.Contains(s, `"`+r.ws+`"`) || !strings.Contains(s, "http://anna@"+p.at) || !strings.Contains(s, file) || strings.Contains(s, secret) {
		t.Errorf("edge.yaml is\n%s", s)
	}
	in := func() int { return f.says("state=connected") + f.says(`state="connected again"`) }
	until(t, "the agent is in", func() bool { return in() > 0 })
	for range 3 {
		f.tell(10)
		was := in()
		p.cut()
		f.tell(10)
		until(t, "the agent is in again", func() bool { return in() > was })
	}
	f.arrived()
	// A token that ends, as these do all the time, takes the connection with it for a moment.
	until(t, "status says how the hub is called", func() bool {
		code, out := f.command("status")
		return code == 0 && strings.Contains(out, "hub      "+r.ws+" through the proxy "+p.at+" connected")
	})
	until(t, "check finds nothing", func() bool { return len(f.red(t)) == 0 })
	_, port, err := net.SplitHostPort(p.at)
	check(t, err)
	if _, out := f.command("check", "--firewall"); strings.Count(out, "TCP    "+port) != 2 || !strings.Contains(out, "CONNECT "+hub+" at this proxy") || !strings.Contains(out, "CONNECT "+page+" at this proxy") {
		t.Errorf("the card is\n%s", out)
	}
	until(t, "the token is renewed", func() bool { return f.says("has renewed this agent's token") > 0 })
	if p.ways(hub) < 4 || p.ways(page) < 1 {
		t.Errorf("the proxy gave way %d times to the hub, %d to its page", p.ways(hub), p.ways(page))
	}

	for _, c := range []struct {
		login   string
		refuses int
		says    string
	}{
		{"anna:" + secret, http.StatusForbidden, "403 from proxy " + p.at + ": it lets nobody, or not this gateway, through to " + hub},
		{"anna:another", 0, "407 from proxy " + p.at + ": it does not take the login that it is given"},
		{"anna:" + secret, http.StatusBadGateway, "502 from proxy " + p.at + ": it does not reach " + hub},
	} {
		was := in()
		p.set(c.login, c.refuses)
		until(t, "status says "+c.says, func() bool { _, out := f.command("status"); return strings.Contains(out, c.says) })
		f.tell(3) // it collects as before
		if red := f.red(t); len(red) != 1 || !strings.Contains(red["net-proxy"], c.says) {
			t.Errorf("check finds %v", red)
		}
		p.set("anna:"+secret, 0)
		until(t, "the agent is in again", func() bool { return in() > was })
	}
	f.arrived()
	if strings.Contains(f.said.String(), secret) {
		t.Error("the log has the password")
	}
}

// TestRoad_OnePort: where a proxy lets nothing through but the hub's page, an agent sends there,
// too, and knows the hub by its authority, whatever certificate the page shows to people.
func TestRoad_OnePort(t *testing.T) {
	t.Parallel()
	r := newHub(t)
	cert, key := filepath.Join(t.TempDir(), "cert.pem"), filepath.Join(t.TempDir(), "key.pem")
	r.certify(t, cert, key, time.Now().Add(time.Hour))
	r.env = []string{"PLANTMESH_HUB_NATS__WEBSOCKET__ON_PAGE=true", "PLANTMESH_HUB_HTTP__CERT_FILE=" + cert, "PLANTMESH_HUB_HTTP__KEY_FILE=" + key}
	r.begins(t)
	p := newProxy(t, "")
	p.only = strings.TrimPrefix(r.page, "https://")
	r.asks = []string{"--proxy", "http://" + p.at}
	f := newField(t, r)
	text, err := os.ReadFile(f.edge)
	check(t, err)
	if want := `"wss://` + p.only + `/nats"`; !strings.Contains(string(text), want) {
		t.Errorf("edge.yaml lacks %s:\n%s", want, text)
	}
	in := func() int { return f.says("state=connected") + f.says(`state="connected again"`) }
	until(t, "the agent is in", func() bool { return in() > 0 })
	f.tell(10)
	was := in()
	p.cut()
	f.tell(10)
	until(t, "the agent is in again", func() bool { return in() > was })
	f.arrived()
	until(t, "check finds nothing", func() bool { return len(f.red(t)) == 0 })
	for origin, want := range map[string]int{"": http.StatusSwitchingProtocols, r.page: http.StatusSwitchingProtocols, "https://evil.example": http.StatusForbidden} {
		a := r.ask(t, "127.0.16.1", http.MethodGet, "/nats", "", func(q *http.Request) {
			for k, v := range map[string]string{"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==", "Sec-WebSocket-Version": "13", "Origin": origin} {
				if v != "" {
					q.Header.Set(k, v)
				}
			}
		})
		if a.status != want {
			t.Errorf("a page of %q is answered %d", origin, a.status)
		}
	}
	if a := r.ask(t, "127.0.16.1", http.MethodGet, "/nats", "", nil); a.status != http.StatusUpgradeRequired {
		t.Errorf("who wants no WebSocket is answered %d", a.status)
	}
}
