package attack

import (
	"encoding/json"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"plantmesh/proto/enroll"
)

// asked is a gateway that asks to be let in, by its code.
func (r *rig) asked(t *testing.T, from, name string) (code string) {
	t.Helper()
	g := newGateway(t)
	if status, a := r.knock(t, from, g.request(t, name, "")); status != http.StatusOK || a.State != enroll.Pending {
		t.Fatalf("a gateway that asks is answered %d %+v", status, a)
	}
	return enroll.Code(g.pub)
}

// decide approves or refuses by the API.
func (r *rig) decide(t *testing.T, code, how, body string, p person) answer {
	t.Helper()
	return r.ask(t, "127.0.15.1", http.MethodPost, "/api/v1/inbox/"+code+"/"+how, body, func(q *http.Request) {
		q.Header.Set("Content-Type", "application/json")
		by(p)(q)
	})
}

// entries are the audit trail as the API gives it, a line each.
func (r *rig) entries(t *testing.T, p person) (out []map[string]any) {
	t.Helper()
	a := r.ask(t, "127.0.15.2", http.MethodGet, "/api/v1/audit?format=ndjson", "", by(p))
	if a.status != http.StatusOK {
		t.Fatalf("the trail is answered %d %.200s", a.status, a.body)
	}
	for line := range strings.Lines(a.body) {
		var e map[string]any
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatalf("%v: %q", err, line)
		}
		out = append(out, e)
	}
	return out
}

// TestAttack_C08: what somebody types is one entry of the trail, nobody takes one out, and
// where nothing can be recorded nothing is done.
func TestAttack_C08(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	ada, olga, vera := r.person(t, "admin"), r.person(t, "operator"), r.person(t, "viewer")
	code := r.asked(t, "127.0.15.3", "gw-1")
	before := len(r.entries(t, ada))
	why, err := json.Marshal(map[string]string{"why": "no\n{\"n\":1,\"who\":\"root\",\"hash\":\"0\"}\r\n\x1b[2J\x1b[31mall is well\x00"})
	check(t, err)
	if a := r.decide(t, code, "refuse", string(why), vera); a.status != http.StatusForbidden {
		t.Errorf("a viewer refuses: %d", a.status)
	}
	if a := r.decide(t, code, "refuse", string(why), olga); a.status != http.StatusOK {
		t.Fatalf("control: an operator refuses: %d %s", a.status, a.body)
	}
	if n := len(r.entries(t, ada)) - before; n != 1 {
		t.Errorf("a refusal has made %d entries", n)
	}
	config := filepath.Join(filepath.Dir(r.cfg.Data), "hub.yaml")
	said, err := exec.Command(filepath.Join(programs, "plantmesh"), "audit", "list", "--config", config).CombinedOutput()
	if err != nil || strings.ContainsAny(string(said), "\x1b\x00\r") || strings.Contains(string(said), "\n{\"n\":1") {
		t.Errorf("the list is %v %q", err, said)
	}
	for _, method := range []string{http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete} {
		for _, p := range []person{ada, olga, vera} {
			if a := r.ask(t, "127.0.15.4", method, "/api/v1/audit", "", by(p)); a.status < 400 {
				t.Errorf("%s by %s is answered %d", method, p.name, a.status)
			}
		}
	}
	for _, p := range []person{olga, vera} {
		if a := r.ask(t, "127.0.15.5", http.MethodGet, "/api/v1/audit", "", by(p)); a.status != http.StatusForbidden {
			t.Errorf("the trail is shown to %s: %d", p.name, a.status)
		}
	}
	second := r.asked(t, "127.0.15.6", "gw-2")
	trail := filepath.Join(r.cfg.Data, "audit")
	check(t, os.Rename(trail, trail+".away"))
	check(t, os.WriteFile(trail, nil, 0o600)) // as a disk that takes nothing
	if a := r.decide(t, second, "approve", "{}", olga); a.status < 500 {
		t.Errorf("what can't be recorded is answered %d %.200s", a.status, a.body)
	}
	if agents, err := r.reg.Agents(); err != nil || len(agents) != 0 {
		t.Errorf("what can't be recorded is done: %v %v", agents, err)
	}
	check(t, os.Remove(trail))
	check(t, os.Rename(trail+".away", trail))
	until(t, "what can be recorded again is done", func() bool { return r.decide(t, second, "approve", "{}", olga).status == http.StatusOK })
	if out, err := exec.Command(filepath.Join(programs, "plantmesh"), "audit", "verify", "--config", config).CombinedOutput(); err != nil {
		t.Errorf("the trail is broken: %v %s", err, out)
	}
}
