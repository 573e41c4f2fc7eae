package agent

import (
	"errors"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"plantmesh/edge/check"
	"plantmesh/edge/status"
)

func TestCompare(t *testing.T) {
	s := func(n float64) time.Duration { return time.Duration(n * float64(time.Second)) }
	for name, c := range map[string]struct {
		all  []reading
		kind check.Kind
		says string
	}{
		"nobody":              {nil, check.Ignored, "nobody says what time it is"},
		"all agree":           {[]reading{{"the hub", s(0.4)}, {"press", s(-1)}}, check.OK, "gateway–hub +0.4 s · gateway–press -1.0 s"},
		"a little":            {[]reading{{"the hub", s(3)}}, check.Warning, "the clock of the hub is 3.0 s ahead of this gateway's"},
		"the gateway":         {[]reading{{"the hub", s(90)}, {"press", s(91)}}, check.Error, "this gateway's clock is 1m31s behind: the hub and press agree"},
		"the gateway, ahead":  {[]reading{{"the hub", s(-90)}, {"press", s(-91)}}, check.Error, "this gateway's clock is 1m31s ahead: the hub and press agree"},
		"two":                 {[]reading{{"the hub", s(-90)}}, check.Error, "the clock of the hub is 1m30s behind this gateway's; which of both is wrong"},
		"the hub":             {[]reading{{"the hub", s(-90)}, {"press", 0}}, check.Error, "the hub's clock is 1m30s behind this gateway's"},
		"a device":            {[]reading{{"the hub", 0}, {"press", s(-3600)}}, check.Warning, "the clock of press is 1h0m0s behind this gateway's"},
		"a device, far ahead": {[]reading{{"the hub", 0}, {"press", s(3600)}}, check.Error, "the clock of press is 1h0m0s ahead of this gateway's: values that lie"},
		"no two agree":        {[]reading{{"the hub", s(90)}, {"press", s(-90)}}, check.Error, "the hub's clock is 1m30s ahead of this gateway's"},
	} {
		if r := compare(c.all); r.Kind != c.kind || !strings.HasPrefix(r.Message, c.says) {
			t.Errorf("%s: %s %s", name, r.Kind, r.Message)
		}
	}
}

// begun is a configuration in a folder of its own.
func begun(t *testing.T, files map[string]string) (path string) {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		at := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(at), 0o700), os.WriteFile(at, []byte(text), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	return filepath.Join(dir, "edge.yaml")
}

const (
	edgeYAML = "agent: gw-1\nsite: graz\ndata: data\nhub:\n  url: wss://hub.example.com\n  enroll: https://hub.example.com\n"
	aYAML    = "opcua:\n  id: press\n  endpoint: opc.tcp://192.168.10.21\n  signals:\n    - {name: line1.press.speed, type: double, node: \"ns=2;s=speed\"}\n"
	bYAML    = "sparkplug:\n  id: capper\n  url: mqtts://broker\n  mode: active\n  nodes: [plant/*]\n  name: \"{node}.{metric}\"\n  signals:\n    - {metric: plant/capper/Speed, type: double}\n"
)

func TestFirewall(t *testing.T) {
	got, err := Firewall(begun(t, map[string]string{"edge.yaml": edgeYAML, "sources.d/a.yaml": aYAML, "sources.d/b.yaml": bYAML}))
	want := `Direction  Proto  Port  Peer              Why
outbound   TCP    443   hub.example.com   data, confirmations, new tokens (WebSocket over TLS); begun by this gateway  REQUIRED
outbound   TCP    443   hub.example.com   being let in; another token once one has ended                               REQUIRED
outbound   TCP    4840  192.168.10.21     OPC UA read, source press                                                    from your config
outbound   TCP    8883  broker            Sparkplug B subscribe, source capper                                         from your config
outbound   UDP    53    your name server  the names above                                                              recommended
outbound   UDP    123   your time server  time                                                                         recommended
inbound    –      –     none              the agent opens no network port
Never: writes to PLCs. What is said to devices beside questions: capper asks nodes for their births (Node Control/Rebirth).
`
	if err != nil || got.Text() != want {
		t.Errorf("%v\n%s\nwant\n%s", err, got.Text(), want)
	}
	behind := strings.Replace(edgeYAML, "hub:\n", "hub:\n  proxy: http://anna@10.0.0.8:3128\n", 1)
	got, err = Firewall(begun(t, map[string]string{"edge.yaml": behind}))
	want = `Direction  Proto  Port  Peer              Why
outbound   TCP    3128  10.0.0.8          CONNECT hub.example.com:443 at this proxy: data, confirmations, new tokens (WebSocket over TLS); begun by this gateway  REQUIRED
outbound   TCP    3128  10.0.0.8          CONNECT hub.example.com:443 at this proxy: being let in; another token once one has ended                               REQUIRED
outbound   UDP    123   your time server  time                                                                                                                    recommended
inbound    –      –     none              the agent opens no network port
Never: writes to PLCs. What is said to devices beside questions: none.
`
	if err != nil || got.Text() != want {
		t.Errorf("%v\n%s\nwant\n%s", err, got.Text(), want)
	}
	if _, err := Firewall(begun(t, map[string]string{"edge.yaml": "agent: gw-1\nsite: graz\ndata: data\n"})); err == nil || !strings.Contains(err.Error(), "hub.url is missing") {
		t.Errorf("before it is enrolled: %v", err)
	}
	if _, err := Firewall(begun(t, map[string]string{"edge.yaml": edgeYAML, "sources.d/a.yaml": "opcua: {}\n"})); err == nil {
		t.Error("a card without a source that can't be read")
	}
}

// found runs the checks of some sections and gives what they found, by their ids.
func found(t *testing.T, path string, sections ...string) map[string]check.Outcome {
	t.Helper()
	up := NewCheckup(t.Context(), path, nil)
	r, err := check.Run(t.Context(), up.All(t.Context()), check.Selection{Sections: sections})
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]check.Outcome{}
	for _, o := range r.Checks {
		out[strings.TrimSpace(o.ID+" "+o.Source)] = o
	}
	return out
}

const (
	aRule = "revision: 1\nrules:\n  - {id: hot, kind: range, signal: \"*.*.temperature\", max: 120}\n"
	aTest = "tests:\n  - {name: cool, signal: line1.press.temperature, samples: [{value: 121}]}\n"
)

func TestCheckup_Configuration(t *testing.T) {
	twice := strings.NewReplacer("press\n", "filler\n", "10.21", "10.22").Replace(aYAML)
	secret := strings.Replace(aYAML, "  signals", "  security: {user: anna, password_file: anna.pass}\n  signals", 1)
	for name, c := range map[string]struct {
		files    map[string]string
		id, says string
		kind     check.Kind
		fix      string
	}{
		"two of a name":  {map[string]string{"sources.d/a.yaml": aYAML, "sources.d/b.yaml": twice}, "cfg-duplicates", "1 signals are read twice: line1.press.speed by press and filler", check.Warning, "rename"},
		"none":           {nil, "cfg-sources", "there are no sources", check.Warning, "plantmesh-edge source add"},
		"a broken one":   {map[string]string{"sources.d/a.yaml": "opcua: {}\n"}, "cfg-sources", "a.yaml:1: id is missing", check.Error, "change that line"},
		"a broken rule":  {map[string]string{"rules.d/a.yaml": "revision: one\n"}, "cfg-rules", "a.yaml:1: ", check.Error, "change that line"},
		"a good test":    {map[string]string{"rules.d/a.yaml": aRule, "rules.d/a_test.yaml": strings.Replace(aTest, "121", "119", 1)}, "cfg-rules-tests", "1 tests pass", check.OK, ""},
		"a failing test": {map[string]string{"rules.d/a.yaml": aRule, "rules.d/a_test.yaml": aTest}, "cfg-rules-tests", `1 of 1 tests fail: "cool" (`, check.Error, "plantmesh-edge rules test --config "},
		"a lonely test":  {map[string]string{"rules.d/a_test.yaml": aTest}, "cfg-rules-tests", "there is no such file", check.Error, ""},
		"a wrong key":    {map[string]string{"edge.yaml": edgeYAML + "bufer: {}\n"}, "cfg-parse", `unknown key "bufer"`, check.Fatal, `did you mean "buffer"?`},
		"no file":        {map[string]string{"edge.yaml": ""}, "cfg-parse", "edge.yaml:1: agent is missing", check.Fatal, "plantmesh-edge enroll --config "},
		"not let in":     {nil, "id-enrolled", "this gateway is not let in by a hub: ", check.Error, "plantmesh-edge enroll --config "},
		"writes":         {map[string]string{"sources.d/b.yaml": bYAML}, "cfg-readonly", "capper asks nodes for their births", check.OK, ""},
		"secrets of one": {map[string]string{"sources.d/a.yaml": secret, "sources.d/anna.pass": "x"}, "cfg-secrets", "1 files, none of them for everybody", check.OK, ""},
	} {
		files := map[string]string{"edge.yaml": edgeYAML}
		maps.Copy(files, c.files)
		o := found(t, begun(t, files), "configuration", "identity")[c.id]
		if o.Result != c.kind || !strings.Contains(o.Message, c.says) || !strings.Contains(o.Fix, c.fix) {
			t.Errorf("%s: %+v", name, o)
		}
	}
	path := begun(t, map[string]string{"edge.yaml": edgeYAML, "sources.d/a.yaml": secret, "sources.d/anna.pass": "x"})
	if err := os.Chmod(filepath.Join(filepath.Dir(path), "sources.d", "anna.pass"), 0o644); err != nil {
		t.Fatal(err)
	}
	if o := found(t, path, "configuration")["cfg-secrets"]; o.Result != check.Error || !strings.HasPrefix(o.Fix, "chmod 600 ") || !strings.Contains(o.Message, "anna.pass") {
		t.Errorf("%+v", o)
	}
}

func TestCheckup_Buffer(t *testing.T) {
	hours := func(h float64) *float64 { return &h }
	for name, c := range map[string]struct {
		got  check.Result
		kind check.Kind
		says string
		fix  string
	}{
		"damaged":      {bufOpen(status.Snapshot{Buffer: status.Buffer{Damages: 2}}), check.Error, "2 segments or records could not be read", ""},
		"lost":         {bufOpen(status.Snapshot{Buffer: status.Buffer{StateLost: []string{"a"}}}), check.Warning, "1 sources began anew", ""},
		"whole":        {bufOpen(status.Snapshot{}), check.OK, "", ""},
		"full":         {bufFill(status.Snapshot{Buffer: status.Buffer{Bytes: 95, MaxBytes: 100, Pending: 1}}), check.Error, "95 bytes of 100 bytes, 95 %; 1 records wait", ""},
		"full of old":  {bufFill(status.Snapshot{Buffer: status.Buffer{Bytes: 95, MaxBytes: 100}}), check.OK, "", ""},
		"early":        {bufAutonomy(status.Snapshot{}), check.Ignored, "too early", ""},
		"a short time": {bufAutonomy(status.Snapshot{Buffer: status.Buffer{AutonomyHours: hours(31), BytesPerHour: 1 << 27}}), check.Warning, "31 h without the hub at the present rate; 72 h are wanted", "set buffer.max_bytes to 9GiB"},
		"a long time":  {bufAutonomy(status.Snapshot{Buffer: status.Buffer{AutonomyHours: hours(100)}}), check.OK, "100 h", ""},
		"old":          {bufOldest(status.Snapshot{Buffer: status.Buffer{OldestPending: "2020-01-01T00:00:00Z"}}), check.Warning, "what waits begins at 2020", ""},
		"nothing":      {bufOldest(status.Snapshot{}), check.OK, "the hub has all", ""},
	} {
		if c.got.Kind != c.kind || !strings.HasPrefix(c.got.Message, c.says) || c.got.Fix != c.fix {
			t.Errorf("%s: %+v", name, c.got)
		}
	}
}

// Root makes no files that the service's user can't read.
func TestCheckup_AsRootBesideAnother(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("skipped: only root is root")
	}
	path := begun(t, map[string]string{"edge.yaml": edgeYAML, "sources.d/a.yaml": strings.Replace(aYAML, "192.168.10.21", "127.0.0.1:1", 1), "data/buffer/x": ""})
	data := filepath.Join(filepath.Dir(path), "data")
	if err := os.Chown(data, 65533, 65533); err != nil {
		t.Fatal(err)
	}
	up := NewCheckup(t.Context(), path, nil)
	all := up.All(t.Context())
	r, err := check.Run(t.Context(), all, check.Selection{Only: []string{"sys-user-perms", "src-trust", "src-auth", "src-nodes"}})
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range r.Checks {
		want := check.Skipped
		if o.ID == "sys-user-perms" {
			want = check.Warning
		}
		if o.Result != want || o.ID != "src-auth" && o.ID != "src-nodes" && !strings.Contains(o.Message+o.Fix, "sudo -u '#65533' plantmesh-edge check --config ") {
			t.Errorf("%+v", o)
		}
	}
	if left, err := os.ReadDir(data); err != nil || len(left) != 1 {
		t.Errorf("it leaves %v, %v", left, err)
	}
}
