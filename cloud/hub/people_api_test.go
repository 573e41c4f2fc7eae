package hub

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"plantmesh/cloud/access"
	"plantmesh/cloud/audit"
	porthttp "plantmesh/cloud/port/http"
	"plantmesh/proto/enroll"
)

// send sends JSON, and gives what is answered.
func (p person) send(t *testing.T, h http.Handler, method, target, body string) (status int, answer map[string]any) {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), method, target, strings.NewReader(body))
	r.Host = "localhost"
	r.Header.Set("Authorization", "Bearer "+p.token)
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	check(t, json.Unmarshal(w.Body.Bytes(), &answer))
	return w.Code, answer
}

// Whoever manages users at a place does by the API what they do by commands, there and
// nowhere else, and the trail has it.
func TestUsers_ByTheAPI(t *testing.T) {
	h := opened(t)
	srv, err := h.web(porthttp.New(porthttp.Config{AnyHost: true}, h.deps(), h.log))
	check(t, err)
	all := people(t, h.access, "admin", "admin@graz/line1", "operator")
	line := all["admin@graz/line1"]
	for _, c := range []struct {
		who          person
		target, body string
		want         int
	}{
		{line, "users", `{"name":"tina","roles":["technician@graz/line1"],"reason":"new here"}`, 201},
		{line, "users", `{"name":"tina","roles":["technician@graz/line1"]}`, 409},
		{line, "users", `{"name":"more","roles":["viewer@graz"]}`, 403},
		{line, "users", `{"name":"more","roles":["viewer@graz/line10"]}`, 403},
		{line, "users", `{"name":"more","roles":["viewer@graz/line1","viewer"]}`, 403},
		{line, "users", `{"name":"more","roles":["viewer@linz"]}`, 400},
		{line, "users", `{"name":"more","roles":[]}`, 400},
		{line, "users", `{"name":"More!","roles":["viewer@graz/line1"]}`, 400},
		{line, "users", `{"name":"more","role":"viewer"}`, 400},
		{line, "users", `{"name":"more"`, 400},
		{line, "users", `{} {}`, 400},
		{all["operator"], "users", `{"name":"more","roles":["viewer"]}`, 403},
		{line, "users/tina/grant", `{"role":"operator@graz/line1"}`, 200},
		{line, "users/tina/grant", `{"role":"operator@graz"}`, 403},
		{line, "users/user0/grant", `{"role":"viewer@graz/line1"}`, 200},
		{line, "users/user0/withdraw", `{"role":"admin"}`, 403},
		{line, "users/user0/reset", ``, 403},
		{line, "users/user0/end", ``, 403},
		{line, "users/none/reset", ``, 404},
		{line, "tokens", `{"user":"user0","roles":["viewer@graz/line1"],"for":"1h"}`, 403},
		{line, "tokens", `{"user":"tina","roles":["viewer@graz/line1"],"for":"soon"}`, 400},
		{line, "tokens", `{"user":"tina","roles":["operator@graz/line1"],"for":"1h","note":"a board"}`, 201},
		{line, "users/tina/withdraw", `{"role":"operator@graz/line1"}`, 200},
		{all["admin"], "users/user1/end", `{"reason":"gone"}`, 200},
		{line, "users/tina/reset", ``, 401},
	} {
		if got, answer := c.who.send(t, srv.Handler, http.MethodPost, "/api/v1/"+c.target, c.body); got != c.want {
			t.Errorf("%s %s: %d, want %d: %v", c.target, c.body, got, c.want, answer)
		}
	}
	_, answer := all["admin"].send(t, srv.Handler, http.MethodPost, "/api/v1/users/tina/reset", "")
	link, _ := answer["link"].(string)
	_, secret, _ := strings.Cut(link, "/first/")
	if _, err := h.access.SetPassword(t.Context(), access.Caller{}, secret, testPassword); err != nil {
		t.Errorf("by the link %q: %v", link, err)
	}
	entries, err := audit.Newest(t.Context(), TrailFolder(h.cfg), audit.Filter{}, 100)
	check(t, err)
	said, _ := json.Marshal(entries)
	for _, want := range []string{`"action":"user.add"`, `"action":"token.create"`, `"user tina"`, `"who":"user1"`, `"via":"token"`, `"reason":"gone"`} {
		if !strings.Contains(string(said), want) {
			t.Errorf("the trail lacks %s: %s", want, said)
		}
	}
	if strings.Contains(string(said), secret) {
		t.Error("the trail has a secret")
	}
}

// Who manages a line sees its users, and of others nothing.
func TestUsers_AreSeenByThoseWhoManageThem(t *testing.T) {
	h := opened(t)
	srv, err := h.web(porthttp.New(porthttp.Config{AnyHost: true}, h.deps(), h.log))
	check(t, err)
	all := people(t, h.access, "admin", "admin@graz/line1", "viewer@graz/line1", "viewer@graz/line2")
	g, err := access.ParseGrant("operator@graz/line2")
	check(t, err)
	_, err = h.access.Grant(root, "user2", g, "")
	check(t, err)
	for who, want := range map[string]string{"admin": "user0 user1 user2 user3", "admin@graz/line1": "user1 user2"} {
		_, answer := all[who].send(t, srv.Handler, http.MethodGet, "/api/v1/users", "")
		var names []string
		for _, u := range answer["data"].([]any) {
			names = append(names, u.(map[string]any)["name"].(string))
		}
		if got := strings.Join(names, " "); got != want {
			t.Errorf("%s sees %s", who, got)
		}
	}
	line := all["admin@graz/line1"]
	if _, u := line.send(t, srv.Handler, http.MethodGet, "/api/v1/users/user2", ""); u["more"] != true || len(u["roles"].([]any)) != 1 {
		t.Errorf("seen is %v", u)
	}
	if status, _ := line.send(t, srv.Handler, http.MethodGet, "/api/v1/users/user3", ""); status != http.StatusNotFound {
		t.Errorf("another's user: %d", status)
	}
	_, answer := line.send(t, srv.Handler, http.MethodGet, "/api/v1/tokens", "")
	for _, tok := range answer["data"].([]any) {
		if tok := tok.(map[string]any); tok["user"] != "user1" || tok["token"] != nil {
			t.Errorf("seen is %v", tok)
		}
	}
}

// A one-time key that was made by the API lets a gateway in; it is shown once, and ends.
func TestKeys_ByTheAPI(t *testing.T) {
	h := opened(t)
	srv, err := h.web(porthttp.New(porthttp.Config{AnyHost: true}, h.deps(), h.log))
	check(t, err)
	all := people(t, h.access, "operator@graz", "operator")
	operator := all["operator@graz"]
	at := "/api/v1/enrollment-keys"
	for _, body := range []string{`{"uses":0}`, `{"uses":1001}`, `{"for":"-1h"}`, `{"for":"9999h"}`, `{"for":"a day"}`, `{"prefix":"Gw!"}`, `{"use":1}`} {
		if status, answer := operator.send(t, srv.Handler, http.MethodPost, at, body); status != http.StatusBadRequest {
			t.Errorf("%s: %d %v", body, status, answer)
		}
	}
	status, answer := operator.send(t, srv.Handler, http.MethodPost, at, `{"uses":2,"for":"1h","prefix":"gw-","note":"line 1"}`)
	secret, _ := answer["key"].(string)
	if status != http.StatusCreated {
		t.Fatalf("%d %v", status, answer)
	}
	ask := func(name string) enroll.State {
		a, err := h.gate.Ask(signed(t, name, secret), "192.0.2.7", time.Now())
		if err != nil {
			return enroll.Refused
		}
		return a.State
	}
	if got := ask("gw-1"); got != enroll.Approved {
		t.Errorf("who comes with it is %s", got)
	}
	_, answer = operator.send(t, srv.Handler, http.MethodGet, at, "")
	listed, _ := json.Marshal(answer)
	if strings.Contains(string(listed), secret) || !strings.Contains(string(listed), `"gw-1"`) {
		t.Errorf("listed %s", listed)
	}
	id := answer["data"].([]any)[0].(map[string]any)["id"].(string)
	if status, answer := operator.send(t, srv.Handler, http.MethodPost, at+"/"+id+"/end", `{"reason":"lost"}`); status != http.StatusOK || answer["ended"] == nil {
		t.Errorf("%d %v", status, answer)
	}
	if got := ask("gw-2"); got == enroll.Approved {
		t.Error("an ended key lets in")
	}
	if status, _ := operator.send(t, srv.Handler, http.MethodPost, at+"/none/end", ""); status != http.StatusNotFound {
		t.Errorf("no such key: %d", status)
	}
	// A program that runs wild is slowed down, alone.
	for status = 0; status != http.StatusTooManyRequests; {
		if status, answer = operator.send(t, srv.Handler, http.MethodPost, at+"/none/end", ""); status != http.StatusNotFound && status != http.StatusTooManyRequests {
			t.Fatalf("%d %v", status, answer)
		}
	}
	if status, _ := operator.send(t, srv.Handler, http.MethodGet, at, ""); status != http.StatusOK {
		t.Errorf("reading is slowed down, too: %d", status)
	}
	if status, _ := all["operator"].send(t, srv.Handler, http.MethodPost, at+"/none/end", ""); status != http.StatusNotFound {
		t.Errorf("another is slowed down, too: %d", status)
	}
}
