package cli

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"plantmesh/proto/enroll"
)

const within = 30 * time.Second

// serving is a hub that runs, whose tokens are short.
func serving(t *testing.T, dir string) (config, page string, p *process) {
	t.Helper()
	files := good()
	files["hub.yaml"] += "identity:\n  lifetime: 12s\n"
	write(t, dir, map[string]string{"hub.yaml": files["hub.yaml"], "site.yaml": files["site.yaml"]})
	config = filepath.Join(dir, "hub.yaml")
	p = begin(t, dir, nil, "plantmesh", "serve", "--config", config)
	said := p.says(p.err, "hub is up", within)
	page = regexp.MustCompile(`page=(\S+)`).FindStringSubmatch(said)[1]
	return config, page, p
}

// A gateway that nobody knows: it asks, somebody approves it, and nobody has written a
// file. Its token is short; it renews it, whether the hub was away or not, until its key
// is revoked, and keeps collecting then.
func TestEnroll_FromNothingToRevoked(t *testing.T) {
	t.Parallel()
	dir := folder(t)
	hub, page, _ := serving(t, dir)
	config := filepath.Join(dir, "gw", "edge.yaml")
	asks := begin(t, dir, nil, "plantmesh-edge", "enroll", "--config", config, "--agent", "gw-7", page)
	code := strings.Fields(asks.says(asks.err, "code ", within))[1]
	inbox := must(t, "plantmesh", "agents", "inbox", "--config", hub)
	if !strings.HasPrefix(inbox, code+"\tgw-7\twaits\n") || !strings.Contains(inbox, strings.Fields(asks.err.with("fingerprint"))[1]) {
		t.Errorf("the inbox says %q", inbox)
	}
	must(t, "plantmesh", "agents", "approve", "--config", hub, strings.ToLower(code))
	if code := asks.ends(within); code != 0 {
		t.Fatalf("enroll ends with %d", code)
	}
	must(t, "plantmesh-edge", "check", "--config", config, "--skip", "id-cert-expiry") // which is short
	agent := begin(t, dir, nil, "plantmesh-edge", "run", "--config", config)
	connected := func(want string) func() bool {
		return func() bool {
			r := run(t, nil, "plantmesh-edge", "status", "--config", config)
			return r.code == 0 && strings.Contains(r.out, want)
		}
	}
	until(t, within, "the agent is connected", connected("connected"))
	agent.says(agent.err, "has renewed this agent's token", within)
	if info, err := os.Stat(filepath.Join(dir, "gw", "agent.jwt")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the token: %v, %v", info, err)
	}
	must(t, "plantmesh", "agents", "revoke", "--config", hub, "--site", "graz", "gw-7")
	agent.says(agent.err, "refuses this agent", within)
	if !connected("lost")() && agent.err.with("agent is down") != "" {
		t.Error("an agent that was revoked does not go on")
	}
	agent.signal(os.Interrupt)
	if code := agent.ends(within); code != 0 {
		t.Errorf("the agent ends with %d", code)
	}
}

// One whose token has ended while it was off is let in again: its key is known.
func TestEnroll_ATokenThatEnded(t *testing.T) {
	t.Parallel()
	dir := folder(t)
	hub, page, _ := serving(t, dir)
	config, key := filepath.Join(dir, "gw", "edge.yaml"), filepath.Join(dir, "key")
	write(t, dir, map[string]string{"key": must(t, "plantmesh", "agents", "keys", "create", "--config", hub) + "\n"})
	must(t, "plantmesh-edge", "enroll", "--config", config, "--agent", "gw-7", "--key-file", key, page)
	oneLine(t, run(t, nil, "plantmesh-edge", "enroll", "--config", filepath.Join(dir, "gw8", "edge.yaml"), "--agent", "gw-8", "--key-file", key, page),
		exitIdentity, "this one-time key is not accepted")
	if list := must(t, "plantmesh", "agents", "keys", "list", "--config", hub); !strings.Contains(list, "used 1 of 1") {
		t.Errorf("keys list says %q", list)
	}
	until(t, within, "the token has ended", func() bool {
		r := run(t, nil, "plantmesh-edge", "check", "--config", config, "--section", "identity")
		return r.code == exitFindings && strings.Contains(r.out, "the hub's token ended on ")
	})
	agent := begin(t, dir, nil, "plantmesh-edge", "run", "--config", config)
	agent.says(agent.err, "has renewed this agent's token", within)
	agent.says(agent.err, "state=connected", within)
}

// A data folder that takes no token, as on a full disk, keeps no agent from collecting and
// sending.
func TestEnroll_ATokenThatCanNotBeKept(t *testing.T) {
	t.Parallel()
	dir := folder(t)
	hub, page, _ := serving(t, dir)
	config, key := filepath.Join(dir, "gw", "edge.yaml"), filepath.Join(dir, "key")
	write(t, dir, map[string]string{"key": must(t, "plantmesh", "agents", "keys", "create", "--config", hub) + "\n"})
	must(t, "plantmesh-edge", "enroll", "--config", config, "--agent", "gw-7", "--key-file", key, page)
	write(t, dir, map[string]string{"gw/data/agent.jwt/in the way": ""})
	agent := begin(t, dir, nil, "plantmesh-edge", "run", "--config", config)
	agent.says(agent.err, "can't be kept in the data folder", within)
	agent.says(agent.err, "state=connected", within)
}

// Where no network leads to the hub, files do.
func TestEnroll_ByFiles(t *testing.T) {
	t.Parallel()
	dir := folder(t)
	files := good()
	write(t, dir, map[string]string{"hub.yaml": files["hub.yaml"], "site.yaml": files["site.yaml"]})
	hub, config, request := filepath.Join(dir, "hub.yaml"), filepath.Join(dir, "gw", "edge.yaml"), filepath.Join(dir, "request.json")
	must(t, "plantmesh-edge", "enroll", "request", "--config", config, "--agent", "gw-7", "--out", request)
	answer := must(t, "plantmesh", "agents", "approve", "--config", hub, "--request", request, "--nats", "nats://127.0.0.1:4222")
	write(t, dir, map[string]string{"answer.json": answer})
	must(t, "plantmesh-edge", "enroll", "complete", "--config", config, filepath.Join(dir, "answer.json"))
	must(t, "plantmesh-edge", "check", "--config", config, "--section", "configuration,identity")
	other := filepath.Join(dir, "other", "edge.yaml") // the answer is of no use to another key
	must(t, "plantmesh-edge", "enroll", "request", "--config", other, "--agent", "gw-8", "--out", filepath.Join(dir, "other.json"))
	oneLine(t, run(t, nil, "plantmesh-edge", "enroll", "complete", "--config", other, filepath.Join(dir, "answer.json")), exitIdentity, "no token for this gateway's key")
}

func TestEnroll_RefusedAndAskedOnce(t *testing.T) {
	t.Parallel()
	dir := folder(t)
	hub, page, _ := serving(t, dir)
	config := filepath.Join(dir, "gw", "edge.yaml")
	args := []string{"enroll", "--config", config, "--agent", "gw-7", "--wait", "0s", page}
	asked := run(t, nil, "plantmesh-edge", args...)
	oneLine(t, asked, exitState, "nobody has let this gateway in yet", "its code is ", "[enroll.pending]")
	stands := run(t, nil, "plantmesh-edge", "enroll", "status", "--config", config)
	oneLine(t, without(stands, stands.last()), exitState, "no hub has let this gateway in yet: its code is ", "[enroll.pending]")
	waited := run(t, nil, "plantmesh-edge", "enroll", "--config", config, "--agent", "gw-7", "--wait", "100ms", page)
	oneLine(t, waited, 8, "nobody has let this gateway in yet (waited 100ms)", "[wait.timeout]")
	code := regexp.MustCompile(`its code is (\S+),`).FindStringSubmatch(asked.err)[1]
	must(t, "plantmesh", "agents", "refuse", "--config", hub, "--why", "who are you?", code)
	oneLine(t, run(t, nil, "plantmesh-edge", args...), exitIdentity, "does not let this gateway in: who are you?")
	if _, err := os.Stat(config); err == nil {
		t.Error("a gateway that was refused has an edge.yaml")
	}
}

// What strangers send is answered, and is nobody's trouble.
func TestEnroll_Strangers(t *testing.T) {
	t.Parallel()
	dir := folder(t)
	_, page, p := serving(t, dir)
	forged, err := json.Marshal(enroll.Signed{Request: []byte(`{"version":1,"public_key":"UDXU4RCSJNZOIQHZNWXHXORDPRTGNJAHAHFRGZNEEJCPQTT2M7NLCNF4","agent":"gw-1"}`), Signature: bytes.Repeat([]byte{1}, 64)})
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		body   string
		origin string
		status int
	}{
		"junk":          {"\x00\x01", "", http.StatusBadRequest},
		"a forgery":     {string(forged), "", http.StatusBadRequest},
		"deep JSON":     {strings.Repeat("[", 10_000), "", http.StatusBadRequest},
		"a page's call": {string(forged), "http://evil.example", http.StatusForbidden},
	} {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, page+enroll.Path, strings.NewReader(c.body))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Content-Type", "application/json")
		if c.origin != "" {
			r.Header.Set("Origin", c.origin)
		}
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		said, err := io.ReadAll(resp.Body)
		if err != nil || resp.Body.Close() != nil || resp.StatusCode != c.status {
			t.Errorf("%s is answered %s %s %v", name, resp.Status, said, err)
		}
	}
	select {
	case <-p.done:
		t.Error("the hub has ended")
	default:
	}
}
