package opcua

import (
	"strings"
	"testing"
	"time"

	"plantmesh/proto/mesh"
	"plantmesh/proto/strict"
)

func config() Config {
	return Config{
		ID: "s1", Endpoint: "opc.tcp://127.0.0.1:4840", Security: Security{Insecure: true}, History: historyOff,
		Signals: []Signal{{Name: "a", Node: "nsu=urn:x;s=a", Type: "int"}, {Name: "b", Node: "ns=2;s=b", Type: "double"}},
	}
}

func TestConfig_Validate(t *testing.T) {
	for _, c := range []struct {
		name, want string
		edit       func(c *Config)
	}{
		{"good", "", func(*Config) {}},
		{"id", "id is missing", func(c *Config) { c.ID = "" }},
		{"endpoint", "is not opc.tcp://", func(c *Config) { c.Endpoint = "http://x" }},
		{"secure by itself", "", func(c *Config) { c.Security = Security{} }},
		{"no protection unsaid", "security.insecure", func(c *Config) { c.Security = Security{Mode: "None"} }},
		{"insecure and a policy", "security.insecure", func(c *Config) { c.Security.Policy = "Basic256Sha256" }},
		{"insecure and a login", "security.user", func(c *Config) { c.Security.User, c.Security.PasswordFile = "a", "b" }},
		{"broken policy", "security.policy", func(c *Config) { c.Security = Security{Policy: "Basic256"} }},
		{"no policy", "security.policy", func(c *Config) { c.Security = Security{Policy: "Rot13"} }},
		{"mode", "security.mode", func(c *Config) { c.Security = Security{Mode: "Encrypt"} }},
		{"user without password", "security.password_file", func(c *Config) { c.Security = Security{User: "a"} }},
		{"certificate without key", "security.user_key", func(c *Config) { c.Security = Security{UserCertificate: "a"} }},
		{"two logins", "security.user_certificate", func(c *Config) {
			c.Security = Security{User: "a", PasswordFile: "b", UserCertificate: "c", UserKey: "d"}
		}},
		{"interval", "publishing_interval", func(c *Config) { c.PublishingInterval = strict.Duration(time.Millisecond) }},
		{"lifetime", "lifetime", func(c *Config) { c.Lifetime = strict.Duration(time.Second) }},
		{"in flight", "in_flight", func(c *Config) { c.InFlight = 100 }},
		{"history", "history", func(c *Config) { c.History = "on" }},
		{"no signals", "signals is empty", func(c *Config) { c.Signals = nil }},
		{"type", `type "float"`, func(c *Config) { c.Signals[1].Type = "float" }},
		{"node", `node "foo"`, func(c *Config) { c.Signals[0].Node = "foo" }},
		{"node without id", `names no identifier`, func(c *Config) { c.Signals[0].Node = "nsu=urn:x" }},
		{"twice", `signal "a" stands twice`, func(c *Config) { c.Signals[1].Name = "a" }},
		{"window", "window.latency", func(c *Config) { c.Window.Latency = strict.Duration(time.Hour) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			cfg := config()
			c.edit(&cfg)
			err := cfg.Validate()
			if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("error %v, want %q", err, c.want)
			}
		})
	}
}

func TestConfig_YAML(t *testing.T) {
	const file = `
id: line1-opcua
endpoint: opc.tcp://127.0.0.1:4840
security:
  insecure: true
disorder: 5s
signals:
  - {name: line1.filler.state, node: "nsu=urn:plantmesh:firmware-sim;s=line1.filler.state", type: int, max_silence: 10m}
window:
  latency: 4s
`
	var c Config
	if _, err := strict.Parse("line1.yaml", []byte(file), &c); err != nil {
		t.Fatal(err)
	}
	if err := c.Validate(); err != nil {
		t.Fatal(err)
	}
	if c.QueueSize != defaultQueue || c.Window.MaxSamples == 0 || c.table()[0].MaxSilence != mesh.Nanos(10*time.Minute) {
		t.Errorf("read as %+v", c)
	}
}

func TestNode_Resolve(t *testing.T) {
	namespaces := namespaces{uris: []string{"http://opcfoundation.org/UA/", "urn:a;b", "urn:x"}}
	for in, want := range map[string]string{
		"nsu=urn:x;s=line1.filler.state": "ns=2;s=line1.filler.state",
		"nsu=urn:x;s=a;s=b":              "ns=2;s=a;s=b",
		"nsu=urn:x;i=7":                  "ns=2;i=7",
		"ns=3;s=x":                       "ns=3;s=x",
		"i=2255":                         "i=2255",
	} {
		n, err := parseNode(in)
		if err != nil {
			t.Errorf("%s: %v", in, err)
			continue
		}
		if id, err := n.node(namespaces); err != nil || id.String() != want {
			t.Errorf("%s became %v, %v; want %s", in, id, err, want)
		}
	}
	n, err := parseNode("nsu=urn:unknown;s=a")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := n.node(namespaces); err == nil {
		t.Error("an unknown namespace was resolved")
	}
}

func TestConfig_Server(t *testing.T) {
	for in, want := range map[string]string{
		"opc.tcp://PLC-1:4840/": "plc-1:4840", "opc.tcp://plc-1": "plc-1:4840", "opc.tcp://plc-1:4841/UA/Sim": "plc-1:4841/UA/Sim", "opc.tcp://[::1]:4840": "[::1]:4840",
	} {
		if got := (&Config{Endpoint: in}).Server(); got != want {
			t.Errorf("%s is %s, want %s", in, got, want)
		}
	}
}
