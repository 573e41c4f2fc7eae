package hub

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	porthttp "plantmesh/cloud/port/http"
	"plantmesh/cloud/registry"
	"plantmesh/cloud/registry/desk"
	"plantmesh/proto/report"
	"plantmesh/proto/revision"
	"plantmesh/proto/strict"
	"plantmesh/proto/subject"
)

// asked is what a hub answers an agent that has a revision.
func asked(t *testing.T, nc *nats.Conn, has revision.Ref) (a revision.Answer) {
	t.Helper()
	b, err := json.Marshal(revision.Ask{Has: has})
	check(t, err)
	m, err := nc.Request(subject.Configuration("graz", "gw-1"), b, 5*time.Second)
	check(t, err)
	a, err = revision.ReadAnswer(m.Data)
	check(t, err)
	return a
}

// An agent is told which revision is wanted, by a token from before there were any: what an
// agent may is not in its token but in the account. It has no other's, and is nudged.
func TestConfigure_AnAgentIsToldItsOwnAndNudged(t *testing.T) {
	h := opened(t)
	done := make(chan error, 1)
	go func() { done <- h.configure(t.Context()) }()
	t.Cleanup(func() { check(t, <-done) })
	nc, err := dial(h, "gw-1", enrol(t, h, "gw-1"))
	check(t, err)
	defer nc.Close()
	enrol(t, h, "gw-2")
	nudged, err := nc.SubscribeSync(subject.Nudge("graz", "gw-1"))
	check(t, err)
	check(t, nc.Flush())
	for late := time.After(20 * time.Second); ; { // until the hub listens; before that it is said at once that nobody does
		_, err := nc.Request(subject.Configuration("graz", "gw-1"), []byte("{}"), time.Second)
		if err == nil {
			break
		}
		select {
		case <-late:
			t.Fatal(err)
		case <-time.After(10 * time.Millisecond):
		}
	}
	if a := asked(t, nc, revision.Ref{}); !a.Desired.IsZero() || a.Revision != nil {
		t.Errorf("nothing is wanted, and it is told %+v", a)
	}
	v, err := Configure(h.cfg, registry.Wanted{Agent: "gw-1", Files: revision.Files{"sources.d/a.yaml": "a"}, Note: "first"}, time.Now())
	check(t, err)
	if _, err := nudged.NextMsg(5 * time.Second); err != nil {
		t.Errorf("a revision that another process made nudges nobody: %v", err)
	}
	if a := asked(t, nc, revision.Ref{}); a.Desired != v.Ref || a.Revision == nil || a.Revision.Files["sources.d/a.yaml"] != "a" || a.Revision.Note != "first" {
		t.Errorf("%+v", a)
	}
	if a := asked(t, nc, revision.Ref{}); a.Desired != v.Ref || a.Revision != nil {
		t.Errorf("it has it sent as often as it asks: %+v", a)
	}
	if a := asked(t, nc, v.Ref); a.Desired != v.Ref || a.Revision != nil {
		t.Errorf("it has it, and is told %+v", a)
	}
	// Another's it may neither ask for nor hear.
	if _, err := nc.Request(subject.Configuration("graz", "gw-2"), []byte("{}"), 300*time.Millisecond); err == nil {
		t.Error("it has another's configuration")
	}
	other, err := nc.SubscribeSync(subject.Nudge("graz", "gw-2"))
	check(t, err)
	check(t, h.conn.Publish(subject.Nudge("graz", "gw-2"), nil))
	check(t, h.conn.Flush())
	if _, err := other.NextMsg(300 * time.Millisecond); err == nil {
		t.Error("it hears another's nudges")
	}
}

// said takes a report of gw-1.
func (h *hub) said(t *testing.T, r revision.Reported) {
	t.Helper()
	b, err := json.Marshal(report.Report{Version: "v1", Sent: time.Now(), Configuration: &r})
	check(t, err)
	h.fleet.take(&nats.Msg{Subject: subject.Report("graz", "gw-1"), Data: b}, time.Now())
}

func TestConfigurationRoutes(t *testing.T) {
	h := opened(t)
	enrol(t, h, "gw-1")
	srv, err := h.web(porthttp.New(porthttp.Config{AnyHost: true}, h.deps(), h.log))
	check(t, err)
	const target = "/api/v1/agents/graz/gw-1/configuration"
	do := func(p person, method, target, body string) (int, string) {
		t.Helper()
		r := httptest.NewRequestWithContext(t.Context(), method, target, strings.NewReader(body))
		r.Host = "localhost"
		if p.token != "" {
			r.Header.Set("Authorization", "Bearer "+p.token)
		}
		w := httptest.NewRecorder()
		srv.Handler.ServeHTTP(w, r)
		return w.Code, w.Body.String()
	}
	const put = `{"files": {"sources.d/a.yaml": "secret: address"}, "note": "n"}`
	if code, said := do(person{}, http.MethodPut, target, put); code != http.StatusOK || !strings.Contains(said, `"revision":1`) {
		t.Errorf("from this machine, while nobody has an account: %d %s", code, said)
	}
	all := people(t, h.access, "viewer@graz", "technician@graz", "quality-engineer@graz", "operator@linz", "operator@graz/line1", "governor", "admin")
	for who, c := range map[string]struct {
		get, put int
		files    bool
	}{
		"viewer@graz": {200, 403, false}, "technician@graz": {200, 200, true}, "quality-engineer@graz": {200, 200, false}, "operator@linz": {403, 403, false},
		"operator@graz/line1": {403, 403, false}, "governor": {200, 403, false}, "admin": {200, 200, true},
	} {
		p := person{token: all[who].token}
		if code, said := do(p, http.MethodGet, target, ""); code != c.get || strings.Contains(said, "secret") != c.files {
			t.Errorf("%s reads: %d %s", who, code, said)
		}
		if code, said := do(p, http.MethodPut, target, put); code != c.put {
			t.Errorf("%s configures: %d %s", who, code, said)
		}
	}
	admin := person{token: all["admin"].token}
	for body, want := range map[string]int{
		"": 400, "[]": 400, "{}": 400, `{"files": {}, "revert_to": 1}`: 400, `{"files": {"edge.yaml": ""}}`: 400, `{"files": {"sources.d/../a.yaml": ""}}`: 400, `{"file": {}}`: 400,
		`{"files": {}} {}`: 400, `{"files": {}, "after": 1}`: 409, `{"revert_to": 99}`: 404, `{"files": {"sources.d/a.yaml": "` + strings.Repeat("a", 2<<20) + `"}}`: 413, `{"revert_to": 1}`: 200,
	} {
		if code, said := do(admin, http.MethodPut, target, body); code != want {
			t.Errorf("%.60s: %d, want %d: %s", body, code, want, said)
		}
	}
	for query, want := range map[string]int{"?revision=1": 200, "?revision=99": 404, "?revision=x": 400, "?revision=0": 400} {
		if code, said := do(admin, http.MethodGet, target+query, ""); code != want {
			t.Errorf("%s: %d %s", query, code, said)
		}
	}
	if code, _ := do(admin, http.MethodGet, "/api/v1/agents/graz/gw-9/configuration", ""); code != 404 {
		t.Errorf("of nobody: %d", code)
	}
	// What it says of it stands beside, and its number goes before a hub that was put back.
	h.said(t, revision.Reported{Ref: revision.Ref{Number: 40, Sum: "a"}, Desired: 40, State: revision.Current})
	_, said := do(admin, http.MethodGet, target, "")
	var c desk.Configuration
	check(t, json.Unmarshal([]byte(said), &c))
	if c.Status != revision.Pending || c.Reported == nil || c.Reported.Number != 40 || len(c.Revisions) == 0 {
		t.Errorf("%s", said)
	}
	if code, said := do(admin, http.MethodPut, target, put); code != 200 || !strings.Contains(said, `"revision":41`) {
		t.Errorf("%d %s", code, said)
	}
	h.said(t, revision.Reported{Ref: revision.Ref{Number: 40, Sum: "a"}, Desired: 41, State: revision.Reverted, Why: "the press did not come up"})
	agents, err := h.agents(t.Context())
	check(t, err)
	if a := agents[0]; a.Desired != 41 || a.Sync != revision.Reverted || a.Configuration.Why != "the press did not come up" {
		t.Errorf("%+v", a)
	}
}

func TestReadConfiguration(t *testing.T) {
	dir := t.TempDir()
	fault := func(want string) {
		t.Helper()
		_, err := ReadConfiguration(dir)
		if _, ok := errors.AsType[*strict.Fault](err); !ok || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
	put := func(name, text string) {
		t.Helper()
		check(t, os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o700))
		check(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600))
	}
	fault("neither sources.d nor rules.d")
	put("sources.d/a.yaml", "opcua:\n  id: press\n")
	put("sources.d/README", "left out")
	put("edge.yaml", "agent: gw-1\n")
	if f, err := ReadConfiguration(dir); err != nil || len(f) != 1 || f["sources.d/a.yaml"] == "" {
		t.Errorf("%v, %v", f, err)
	}
	put("rules.d/b.yaml", "a: [1\n")
	fault("b.yaml:")
	put("rules.d/b.yaml", "a: 1\n---\nb: 2\n")
	fault(": a second document")
	put("rules.d/b.yaml", "- {a: 1}\n")
	put("rules.d/c.yml", "")
	fault("rename it")
	check(t, os.Remove(filepath.Join(dir, "rules.d/c.yml")))
	put("rules.d/a b.yaml", "")
	fault("a b.yaml")
}
