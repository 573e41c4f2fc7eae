package agent

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"plantmesh/edge/forward"
	"plantmesh/proto/strict"
)

// files are a configuration that nothing is wrong with.
func files() map[string]string {
	return map[string]string{
		"edge.yaml":        "agent: gw-1\nsite: graz\ndata: data\nhub: {url: \"nats://127.0.0.1:1\", key: k, token: t}\nplant_clock: clock.json\nwindow: {latency: 4s}\n",
		"k":                "",
		"t":                "",
		"clock.json":       `{"plant_ns":1772341200000000000}`,
		"sources.d/a.yaml": "mqtt:\n  id: filler\n  url: mqtt://127.0.0.1:1883\n  username: u\n  password_file: secret\n  topics: [{filter: a/+, signal: \"a.{1}.{key}\"}]\n  heartbeat: {topic: a/h, every: 10s}\n  signals: [{name: a.b.c, type: int}]\n",
		"sources.d/b.yaml": "opcua:\n  id: press\n  endpoint: opc.tcp://127.0.0.1:4840\n  security: {insecure: true}\n  signals: [{name: a.b.d, type: int, node: \"ns=2;s=d\"}]\n  window: {latency: 1s}\n",
		"sources.d/secret": "pw\n",
		"rules.d/a.yaml":   "revision: 1\nrules:\n  - {id: hot, kind: range, signal: a.b.c, min: 1, max: 5}\n",
		"rules.d/b.yaml":   "revision: 1\nrules:\n  - {id: cold, kind: range, signal: a.b.c, min: 1}\n",
	}
}

func load(t *testing.T, f map[string]string) (Config, string, error) {
	t.Helper()
	dir := t.TempDir()
	for name, text := range f {
		p := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(p), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c, err := LoadConfig(filepath.Join(dir, "edge.yaml"))
	return c, dir, err
}

// What would only fail later, or never be noticed, is told when the files are read.
func TestLoadConfig_TellsWhatWouldFailLater(t *testing.T) {
	for name, c := range map[string]struct{ file, old, text, want string }{
		"no password file":   {"sources.d/secret", "", "", "sources.d/a.yaml:5: DIR/sources.d/secret: no such file"},
		"clock of garbage":   {"clock.json", "{", "hello", "edge.yaml:5: read the plant clock"},
		"clock of nothing":   {"clock.json", `{"plant_ns":1772341200000000000}`, "{}", "edge.yaml:5: the plant clock DIR/clock.json says no plant_ns"},
		"hub without scheme": {"edge.yaml", "nats://127.0.0.1:1", "nats//127.0.0.1", "edge.yaml:4: "},
		"hub by http":        {"edge.yaml", "nats://127", "http://127", "edge.yaml:4: "},
		"proxy of no kind":   {"edge.yaml", "key: k", "proxy: \"socks5://proxy\", key: k", "edge.yaml:4: no proxy such as http://proxy.example:3128"},
		"proxy's password":   {"edge.yaml", "key: k", "proxy: \"http://a:b@proxy\", key: k", "edge.yaml:4: a password doesn't belong here"},
		"its password file":  {"edge.yaml", "key: k", "proxy: \"http://a@proxy\", proxy_password_file: none, key: k", "edge.yaml:4: DIR/none: no such file"},
		"password of nobody": {"edge.yaml", "key: k", "proxy_password_file: k, key: k", "edge.yaml:4: a password without a proxy"},
		"no authority":       {"edge.yaml", "key: k", "ca: none.pem, key: k", "edge.yaml:4: DIR/none.pem: no such file"},
		"hub with password":  {"edge.yaml", "nats://127", "nats://a:b@127", "edge.yaml:4: "},
		"rule twice":         {"rules.d/b.yaml", "id: cold", "id: hot", `rules.d/b.yaml:3: rule "hot" stands in DIR/rules.d/a.yaml already`},
		"range upside down":  {"rules.d/a.yaml", "min: 1", "min: 7", "rules.d/a.yaml:3: min 7 is above max 5"},
		"range of no number": {"rules.d/a.yaml", "min: 1", "min: .nan", "rules.d/a.yaml:3: min and max must be numbers"},
		"second document":    {"rules.d/b.yaml", "revision: 1\n", "revision: 1\n---\nruels: 3\n", "rules.d/b.yaml:3: a second document begins here"},
		"window profile":     {"edge.yaml", "latency: 4s", "profile: fast", `edge.yaml:6: window.profile "fast" is neither latency (a commit each second) nor flash`},
		"a source's profile": {"sources.d/b.yaml", "latency: 1s", "profile: Flash", `sources.d/b.yaml:6: window.profile "Flash" is neither`},
		"source id":          {"sources.d/a.yaml", "id: filler", `id: "@rules"`, `sources.d/a.yaml:2: "@rules" is no source id`},
	} {
		t.Run(name, func(t *testing.T) {
			f := files()
			if c.old == "" {
				delete(f, c.file)
			} else {
				f[c.file] = strings.Replace(f[c.file], c.old, c.text, 1)
			}
			_, dir, err := load(t, f)
			want := dir + "/" + strings.ReplaceAll(c.want, "DIR", dir)
			if err == nil || !strings.HasPrefix(err.Error(), want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("got  %v\nwant %s", err, want)
			}
		})
	}
	f := files()
	f["sources.d/c.yml"] = "opcua: {}\n"
	if _, _, err := load(t, f); err == nil || !strings.Contains(err.Error(), "c.yml: is not read") {
		t.Errorf("a file that only looks like one: %v", err)
	}
}

func TestLoadConfig_ASourceWithoutAWindowTakesTheAgents(t *testing.T) {
	c, dir, err := load(t, files())
	if err != nil {
		t.Fatal(err)
	}
	if got := c.Sources[0].MQTT.Window.Latency; time.Duration(got) != 4*time.Second {
		t.Errorf("the source without a window closes after %s", time.Duration(got))
	}
	if got := c.Sources[1].OPCUA.Window.Latency; got != strict.Duration(time.Second) {
		t.Errorf("the source with a window closes after %s", time.Duration(got))
	}
	if got := c.Sources[0].MQTT.PasswordFile; got != filepath.Join(dir, "sources.d", "secret") {
		t.Errorf("the password is read from %s", got)
	}
}

// The way to the hub is as the file says; cred:NAME and paths count as those of the key do.
func TestLoadConfig_TheWayToTheHub(t *testing.T) {
	f := files()
	f["proxy.pass"] = "pw"
	f["edge.yaml"] = strings.Replace(f["edge.yaml"], "key: k", "proxy: \"http://anna@proxy:3128\", proxy_password_file: proxy.pass, ca: system, key: k", 1)
	c, dir, err := load(t, f)
	if err != nil {
		t.Fatal(err)
	}
	want := forward.Road{Proxy: "http://anna@proxy:3128", PasswordFile: filepath.Join(dir, "proxy.pass")}
	if got := c.dial("t"); got.Road != want || got.CA != forward.SystemCA {
		t.Errorf("%+v", got)
	}
	if at := c.byProxy(); at != "proxy:3128" {
		t.Errorf("status says the proxy is %s", at)
	}
	if err := c.mayName("../proxy.pass", filepath.Join(dir, "proxy.pass")); err == nil {
		t.Error("a configuration of the hub may name the proxy's password")
	}
}
