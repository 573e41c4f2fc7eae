package check

import (
	"context"
	"crypto/x509"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"plantmesh/cloud/registry"
	"plantmesh/edge/agent"
	"plantmesh/edge/check"
	"plantmesh/edge/source/mqtt/link"
)

const (
	open = "insecure: true"
	hot  = "line1.filler.temperature"
)

// well expects that nothing is red, and that these checks are in order.
func well(t *testing.T, all []outcome, ok ...string) {
	t.Helper()
	for _, o := range all {
		if o.red() {
			t.Errorf("%s %s is red: %s", o.ID, o.Source, o.Message)
		}
		if i := slices.Index(ok, o.ID); i >= 0 && o.Result == "ok" {
			ok = slices.Delete(ok, i, i+1)
		}
	}
	if len(ok) > 0 {
		t.Errorf("%q are not ok: %+v", ok, all)
	}
}

// red expects that this check alone is, that it says so, and names the fix.
func red(t *testing.T, all []outcome, id, says, fix string) {
	t.Helper()
	found := false
	for _, o := range all {
		switch {
		case o.ID == id && o.red():
			found = true
			if !strings.Contains(o.Message, says) || !strings.Contains(o.Fix, fix) || o.Why == "" || !strings.HasSuffix(o.Doc, "#"+id) {
				t.Errorf("%+v\nwant it to say %q and the fix %q", o, says, fix)
			}
			t.Logf("%s %s: %s\nwhy %s\nfix %s", o.ID, o.Source, o.Message, o.Why, o.Fix)
		case o.red():
			t.Errorf("%s %s is red, too: %s", o.ID, o.Source, o.Message)
		}
	}
	if !found {
		t.Errorf("%s is not red: %+v", id, all)
	}
}

// Without a fault nothing is red: a hub, a machine, a broker, with and without an agent
// that runs.
func TestCheck_Well(t *testing.T) {
	t.Parallel()
	g := newGateway(t, map[string]string{"filler": filler(machine(t), open, hot), "labeller": labeller(broker(t))})
	code, all := g.check()
	if code != 0 {
		t.Errorf("exit code %d", code)
	}
	well(t, all, "cfg-parse", "id-enrolled", "net-dns", "net-tcp", "net-tls", "net-nats", "net-rtt", "net-page", "sys-disk-space", "src-nodes", "src-mqtt")
	p := started(t, "plantmesh-edge", "run", "--config", g.path("edge.yaml"))
	until(t, "the agent is connected", func() bool {
		code, out, _ := g.run(nil, "status", "--config", g.path("edge.yaml"))
		return code == 0 && strings.Contains(out, "connected") && !strings.Contains(out, "not connected")
	})
	if code, all = g.check(); code != 0 {
		t.Errorf("exit code %d", code)
	}
	well(t, all, "sys-service", "net-nats", "src-nodes", "src-mqtt", "buf-open", "buf-fill", "buf-oldest")
	g.talks(p)
	g.bundles()
}

// bundles has what somebody needs who helps gathered, and looks that no secret is in it.
func (g *gateway) bundles() {
	g.t.Helper()
	file := g.path("bundle.tar.gz")
	if out := g.must("support-bundle", "--config", g.path("edge.yaml"), "--out", file); out != file+"\n" {
		g.t.Errorf("it says %q", out)
	}
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		g.t.Errorf("%v, %v", info, err)
	}
	all, err := exec.Command("tar", "-xOzf", file).Output()
	if err != nil {
		g.t.Fatal(err)
	}
	for _, want := range []string{"Not in it: values of signals", `"id": "net-nats"`, `"agent": "` + g.name + `"`, "id: labeller"} {
		if !strings.Contains(string(all), want) {
			g.t.Errorf("it lacks %s", want)
		}
	}
	for _, secret := range []string{"agent.nk", "agent.jwt"} {
		b, err := os.ReadFile(g.path(secret))
		if err != nil {
			g.t.Fatal(err)
		}
		for line := range strings.FieldsSeq(string(b)) {
			if len(line) > 40 && strings.Contains(string(all), line) {
				g.t.Errorf("%s is in it", secret)
			}
		}
	}
}

// talks has the agent that runs say everything, and no longer.
func (g *gateway) talks(p *process) {
	g.t.Helper()
	if strings.Contains(p.String(), "level=DEBUG") {
		g.t.Error("the agent says everything from the start")
	}
	if out := g.must("log", "debug", "--for", "5m", "--config", g.path("edge.yaml")); !strings.HasPrefix(out, "the agent says everything until 2") {
		g.t.Errorf("it says %q", out)
	}
	if out := g.must("status", "--config", g.path("edge.yaml")); !strings.Contains(out, "log      everything until 2") {
		g.t.Errorf("status says %q", out)
	}
	if out := g.must("log", "debug", "--for", "0s", "--config", g.path("edge.yaml")); out != "the agent says what it always says\n" {
		g.t.Errorf("it says %q", out)
	}
}

// A server that is trusted, and a proxy that lets through, are no faults.
func TestCheck_WellProtected(t *testing.T) {
	t.Parallel()
	shown := certificate(t, nil)
	g := newGateway(t, map[string]string{"press": press(protected(t, shown, "", 0))})
	g.trusts(shown)
	code, all := g.check()
	if code != 0 {
		t.Errorf("exit code %d", code)
	}
	well(t, all, "sys-time-3way", "src-tcp", "src-endpoints", "src-security", "src-trust", "src-auth", "src-nodes", "src-limits")
}

// faults are those of the plan's bar that are looked for by the program as it is.
var faults = map[string]struct {
	make func(t *testing.T) (*gateway, []string)
	id   string
	says string
	fix  string
}{
	"DNS": {func(t *testing.T) (*gateway, []string) {
		t.Helper()
		g := newGateway(t, nil)
		g.edit(g.hub.nats, "hub-that-is-not-there.invalid:4222")
		return g, nil
	}, "net-dns", "hub-that-is-not-there.invalid has no address", "check hub.url in edge.yaml, and the name server"},

	"proxy": {func(t *testing.T) (*gateway, []string) {
		t.Helper()
		g := newGateway(t, nil)
		g.edit(g.hub.page, "https://hub.example.invalid")
		return g, []string{"HTTPS_PROXY=" + wary(t, ""), "NO_PROXY="}
	}, "net-proxy", "407 from proxy 127.0.0.1:", "HTTPS_PROXY"},

	"TLS inspection behind a proxy": {func(t *testing.T) (*gateway, []string) {
		t.Helper()
		g := newGateway(t, nil)
		g.edit(g.hub.page, "https://example.com") // the proxy calls another
		s := httptest.NewTLSServer(http.NotFoundHandler())
		t.Cleanup(s.Close)
		s.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
		return g, []string{"HTTPS_PROXY=" + wary(t, s.Listener.Addr().String()), "NO_PROXY="}
	}, "net-page", `is signed by "O=Acme Co", which this gateway does not trust`, "exempt https://example.com from TLS inspection"},

	"a proxy on the way of data": {func(t *testing.T) (*gateway, []string) {
		t.Helper()
		g := newGateway(t, nil)
		g.edit("hub:\n", "hub:\n  proxy: "+wary(t, "")+"\n")
		return g, nil
	}, "net-proxy", "it wants a login (basic)", "hub.proxy: http://USER@127.0.0.1:"},

	"TLS inspection of a WebSocket": {func(t *testing.T) (*gateway, []string) {
		t.Helper()
		g := newGateway(t, nil)
		g.edit("nats://"+g.hub.nats, "wss://hub.plant.example") // which the proxy looks up
		g.edit("  enroll:", "  proxy: "+wary(t, opened(t))+"\n  #")
		return g, nil
	}, "net-tls", `TLS is re-signed by "ACME Proxy CA"`, "exempt hub.plant.example from TLS inspection"},

	"TLS inspection": {func(t *testing.T) (*gateway, []string) {
		t.Helper()
		g := newGateway(t, nil)
		g.edit(g.hub.nats, inspected(t, g.hub.nats))
		return g, nil
	}, "net-tls", `TLS is re-signed by "ACME Proxy CA"`, "exempt 127.0.0.1 from TLS inspection"},

	"gateway's clock 90 s behind": {func(t *testing.T) (*gateway, []string) {
		t.Helper()
		shown := certificate(t, nil)
		g := newGateway(t, map[string]string{"press": press(protected(t, shown, "", 90*time.Second))})
		g.trusts(shown)
		g.edit(g.hub.page, page(t, 90*time.Second))
		return g, nil
	}, "sys-time-3way", "this gateway's clock is 1m30s behind: the hub and press agree", "timedatectl set-ntp true"},

	"untrusted certificate": {func(t *testing.T) (*gateway, []string) {
		t.Helper()
		return newGateway(t, map[string]string{"press": press(protected(t, certificate(t, nil), "", 0))}), nil
	}, "src-trust", "Nobody has trusted it", "cert --config"},

	"URI mismatch": {func(t *testing.T) (*gateway, []string) {
		t.Helper()
		shown := certificate(t, nil)
		g := newGateway(t, map[string]string{"press": press(protected(t, shown, "urn:test:renamed", 0))})
		g.trusts(shown)
		return g, nil
	}, "src-trust", `is for the application URI "urn:test:press"; the server says it is "urn:test:renamed"`, "security.accept_uri_mismatch: true"},

	"host mismatch": {func(t *testing.T) (*gateway, []string) {
		t.Helper()
		other := certificate(t, func(c *x509.Certificate) {
			c.IPAddresses, c.DNSNames = []net.IP{net.IPv4(10, 1, 2, 3)}, []string{"plc-8"}
		})
		g := newGateway(t, map[string]string{"press": press(protected(t, other, "", 0))})
		g.trusts(other)
		return g, nil
	}, "src-trust", `is for plc-8, 10.1.2.3; this gateway calls it as "127.0.0.1"`, "security.accept_host_mismatch: true"},

	"missing node": {func(t *testing.T) (*gateway, []string) {
		t.Helper()
		return newGateway(t, map[string]string{"filler": filler(machine(t), open, "line1.filler.temperatur")}), nil
	}, "src-nodes", "closest is nsu=urn:plantmesh:firmware-sim;s=line1.filler.temperature", "correct the node in the source's file"},

	"disk full": {func(t *testing.T) (*gateway, []string) {
		t.Helper()
		g := newGateway(t, nil)
		fullDisk(t, g)
		return g, nil
	}, "sys-disk-space", "are free on the file system of", "free space on that file system"},

	"client id clash": {func(t *testing.T) (*gateway, []string) {
		t.Helper()
		url := broker(t)
		g := newGateway(t, map[string]string{"labeller": labeller(url)})
		clash(t, g, url)
		return g, nil
	}, "src-mqtt", `another client uses client id "gw7"`, "client_id: gw7-2"},

	"expired credentials": {func(t *testing.T) (*gateway, []string) {
		t.Helper()
		g := newGateway(t, nil)
		g.expire()
		return g, nil
	}, "id-cert-expiry", "the hub's token ended on 2026-", "it asks http://127.0.0.1:"},
}

// TestCheck_Faults: the right check is red, with its fix, and no other.
func TestCheck_Faults(t *testing.T) {
	t.Parallel()
	for name, f := range faults {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g, env := f.make(t)
			code, all := g.check(env...)
			if code != 7 {
				t.Errorf("exit code %d", code)
			}
			red(t, all, f.id, f.says, f.fix)
		})
	}
}

// A slow disk can't be had here: how the program makes a file durable is taken in its
// place, and all else is as it is.
func TestCheck_SlowDisk(t *testing.T) {
	t.Parallel()
	g := newGateway(t, nil)
	for _, c := range []struct {
		slow time.Duration
		want check.Kind
	}{{300 * time.Millisecond, check.Error}, {0, ""}} {
		writes := 0
		up := agent.NewCheckup(t.Context(), g.path("edge.yaml"), func(*os.File) error {
			if writes++; writes%10 == 0 {
				wait(t, c.slow)
			}
			return nil
		})
		r, err := check.Run(t.Context(), up.All(t.Context()), check.Selection{})
		if err != nil {
			t.Fatal(err)
		}
		var all []outcome
		for _, o := range r.Checks {
			all = append(all, outcome{o.ID, o.Source, string(o.Result), o.Message, o.Why, o.Fix, o.Doc})
		}
		if c.want == "" {
			well(t, all, "sys-disk-fsync", "net-nats")
			continue
		}
		red(t, all, "sys-disk-fsync", "at most 250.0 ms are wanted", "window.profile: flash")
	}
}

func wait(t *testing.T, d time.Duration) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	defer cancel()
	<-ctx.Done()
}

// fullDisk puts the data folder on a file system without a byte left; who may not mount
// one asks for a buffer larger than the disk.
func fullDisk(t *testing.T, g *gateway) {
	t.Helper()
	dir := g.data
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=1m,mode=0700"); err != nil {
		if strings.Contains(os.Getenv("PLANTMESH_REQUIRE"), "root") {
			t.Fatal(err)
		}
		t.Logf("no file system of its own can be mounted (%v): the buffer is larger than the disk instead", err)
		g.edit("8MiB", "1000000GiB")
		return
	}
	t.Cleanup(func() { _ = syscall.Unmount(dir, syscall.MNT_DETACH) })
	f, err := os.Create(filepath.Join(dir, "others"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for {
		if _, err := f.Write(make([]byte, 4<<10)); err != nil {
			if !errors.Is(err, syscall.ENOSPC) {
				t.Fatal(err)
			}
			return
		}
	}
}

// clash has another client throw the agent that runs out of its session.
func clash(t *testing.T, g *gateway, url string) {
	t.Helper()
	started(t, "plantmesh-edge", "run", "--config", g.path("edge.yaml"))
	status := func() string {
		_, out, _ := g.run(nil, "status", "--json", "--config", g.path("edge.yaml"))
		return out
	}
	until(t, "the agent hears the broker", func() bool { return strings.Contains(status(), `"says":"connected`) })
	cfg := link.Config{URL: url}
	if err := cfg.Validate(); err != nil {
		t.Fatal(err)
	}
	other, _, err := link.Dial(t.Context(), &cfg, link.Hello{ClientID: "gw7"})
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	until(t, "the agent was thrown out, and is connected again", func() bool {
		said := status()
		return strings.Contains(said, "another client came with the same client id") && strings.Contains(said, `"says":"connected`)
	})
}

// expire puts a token for the gateway's key in place that has ended.
func (g *gateway) expire() {
	g.t.Helper()
	r, err := registry.Open(g.t.TempDir())
	if err != nil {
		g.t.Fatal(err)
	}
	public := strings.TrimSpace(g.must("keygen", g.path("agent.nk"))) // it is there already
	token, err := r.Enroll("graz", g.name, public, time.Hour, time.Now().Add(-2*time.Hour))
	if err != nil {
		g.t.Fatal(err)
	}
	if token, err = r.File(token); err != nil {
		g.t.Fatal(err)
	}
	given, err := os.ReadFile(g.path("agent.jwt"))
	if err != nil {
		g.t.Fatal(err)
	}
	signed := regexp.MustCompile(`(?s)-----BEGIN NATS USER JWT-----.*END NATS USER JWT------`) // beside it stands the hub's authority
	g.write("agent.jwt", signed.ReplaceAllString(string(given), signed.FindString(token)))
}
