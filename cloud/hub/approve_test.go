package hub

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nkeys"

	"plantmesh/cloud/audit"
	porthttp "plantmesh/cloud/port/http"
	"plantmesh/proto/enroll"
)

// Who decides on gateways and reads the trail: told again here, as statuses. 404 is that
// of who may: there is no such gateway.
func TestPeopleRoutes_AreForThoseWhoMay(t *testing.T) {
	h := opened(t)
	srv, err := h.web(porthttp.New(porthttp.Config{AnyHost: true}, h.deps(), h.log))
	check(t, err)
	routes := []string{
		"GET /e/KXQ7-2MPL", "POST /e/KXQ7-2MPL", "GET /api/v1/inbox", "POST /api/v1/inbox/KXQ7-2MPL/approve", "POST /api/v1/inbox/KXQ7-2MPL/refuse",
		"POST /api/v1/agents/graz/gw-1/revoke", "GET /api/v1/audit", "POST /api/v1/signing-key/rotate",
		"GET /api/v1/enrollment-keys", "POST /api/v1/enrollment-keys", "POST /api/v1/enrollment-keys/none/end",
		"GET /api/v1/users", "GET /api/v1/users/none", "POST /api/v1/users", "POST /api/v1/users/none/grant", "POST /api/v1/users/none/withdraw", "POST /api/v1/users/none/reset", "POST /api/v1/users/none/end",
		"GET /api/v1/tokens", "POST /api/v1/tokens", "POST /api/v1/tokens/none/end",
	}
	sweep := func(who string, p person, want ...int) {
		t.Helper()
		for i, route := range routes {
			method, target, _ := strings.Cut(route, " ")
			if got, w := p.ask(t, srv.Handler, method, target); got != want[i] {
				t.Errorf("%s %s: %d, want %d: %s", who, route, got, want[i], w.Body)
			}
		}
	}
	sweep("loopback while nobody has an account", person{}, 404, 400, 200, 404, 400, 404, 200, 403, 403, 403, 403, 403, 403, 403, 403, 403, 403, 403, 403, 403, 403)
	all := people(t, h.access, "viewer@graz", "operator@graz", "operator@linz", "operator@graz/line1", "governor", "admin")
	sweep("nobody", person{}, 303, 401, 401, 401, 401, 401, 401, 401, 401, 401, 401, 401, 401, 401, 401, 401, 401, 401, 401, 401, 401)
	sweep("a viewer", all["viewer@graz"], 404, 403, 200, 403, 403, 403, 403, 403, 403, 403, 403, 403, 403, 403, 403, 403, 403, 403, 403, 403, 403)
	sweep("an operator", person{token: all["operator@graz"].token}, 404, 400, 200, 404, 400, 404, 403, 403, 200, 201, 404, 403, 403, 403, 403, 403, 403, 403, 403, 403, 403)
	sweep("one of elsewhere", all["operator@linz"], 403, 403, 403, 403, 403, 403, 403, 403, 403, 403, 403, 403, 403, 403, 403, 403, 403, 403, 403, 403, 403)
	sweep("one of a line", all["operator@graz/line1"], 403, 403, 403, 403, 403, 403, 403, 403, 403, 403, 403, 403, 403, 403, 403, 403, 403, 403, 403, 403, 403)
	sweep("a governor", person{token: all["governor"].token}, 404, 403, 200, 403, 403, 403, 200, 403, 403, 403, 403, 403, 403, 403, 403, 403, 403, 403, 403, 403, 403)
	sweep("an admin", person{token: all["admin"].token}, 404, 400, 200, 404, 400, 404, 200, 400, 200, 201, 404, 200, 404, 400, 400, 400, 404, 404, 200, 400, 404)
	sweep("an admin's browser, without its form token", person{cookie: all["admin"].cookie}, 404, 403, 200, 403, 403, 403, 200, 403, 200, 403, 403, 200, 404, 403, 403, 403, 403, 403, 200, 403, 403)
	if n := strings.Count(h.seal(t), "\n"); n > 0 {
		t.Error("a seal has lines")
	}
	if _, w := (person{token: all["admin"].token}).ask(t, srv.Handler, http.MethodGet, "/readyz?verbose"); !strings.Contains(w.Body.String(), "audit: ok, newest entry "+h.seal(t)) {
		t.Errorf("readyz says %s", w.Body)
	}
}

func (h *hub) seal(t *testing.T) string {
	t.Helper()
	s, err := h.trail.Seal()
	check(t, err)
	return s.String()
}

// signed is what a gateway sends that asks to be let in.
func signed(t *testing.T, name, key string) enroll.Signed {
	t.Helper()
	kp, err := nkeys.CreateUser()
	check(t, err)
	pub, err := kp.PublicKey()
	check(t, err)
	request, err := json.Marshal(enroll.Request{Version: enroll.Version, PublicKey: pub, Agent: name, Key: key})
	check(t, err)
	signature, err := kp.Sign(request)
	check(t, err)
	return enroll.Signed{Request: request, Signature: signature}
}

// A person who is signed in presses the button: the page's own form is good, one of
// another session, or sent by another page, is not; the trail has their name.
func TestApprove_BySomebodySignedIn(t *testing.T) {
	h := opened(t)
	srv, err := h.web(porthttp.New(porthttp.Config{AnyHost: true}, h.deps(), h.log))
	check(t, err)
	request := signed(t, "gw-7", "")
	_, err = h.gate.Ask(request, "192.0.2.7", time.Now())
	check(t, err)
	asked, err := request.Parse()
	check(t, err)
	all := people(t, h.access, "admin", "operator")
	at := enroll.Page + enroll.Code(asked.PublicKey)
	press := func(p person, csrf string, head ...string) int {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, at, strings.NewReader(url.Values{"do": {"approve"}, "as": {"press-7"}, "csrf": {csrf}}.Encode()))
		r.Host = "localhost"
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		for i := 0; i < len(head); i += 2 {
			r.Header.Set(head[i], head[i+1])
		}
		r.AddCookie(&http.Cookie{Name: "plantmesh", Value: p.cookie})
		w := httptest.NewRecorder()
		srv.Handler.ServeHTTP(w, r)
		return w.Code
	}
	token := func(p person) string {
		_, w := p.ask(t, srv.Handler, http.MethodGet, at)
		found := regexp.MustCompile(`name="csrf" value="([^"]+)"`).FindStringSubmatch(w.Body.String())
		if found == nil {
			t.Fatalf("no form token in %s", w.Body)
		}
		return found[1]
	}
	operator, admin := person{cookie: all["operator"].cookie}, person{cookie: all["admin"].cookie}
	own := []string{"Sec-Fetch-Site", "same-origin"}
	for name, got := range map[string]int{
		"without a form token": press(operator, "", own...), "by another's": press(operator, token(admin), own...),
		"from another page": press(operator, token(operator), "Sec-Fetch-Site", "cross-site"),
	} {
		if got != http.StatusForbidden {
			t.Errorf("%s: %d", name, got)
		}
	}
	before := len(actions(t, h.cfg))
	if got := press(operator, token(operator), own...); got != http.StatusSeeOther {
		t.Errorf("by the page's own form: %d", got)
	}
	entries, err := audit.Newest(t.Context(), TrailFolder(h.cfg), audit.Filter{}, 1)
	check(t, err)
	if e := entries[0]; len(actions(t, h.cfg)) != before+1 || e.Action != "agent.approve" || e.Object != "graz/press-7" || e.Who != "user1" || e.Via != audit.Session {
		t.Errorf("recorded %+v", e)
	}
}

// A request that came in a file is answered by the API, as by the command: the answer is the
// file that goes back, by which the gateway gets in.
func TestApprove_AFileByTheAPI(t *testing.T) {
	h := opened(t)
	srv, err := h.web(porthttp.New(porthttp.Config{AnyHost: true}, h.deps(), h.log))
	check(t, err)
	operator := people(t, h.access, "operator@graz")["operator@graz"]
	body := func(s enroll.Signed) string {
		b, err := json.Marshal(map[string]any{"request": s, "as": "press-8"})
		check(t, err)
		return string(b)
	}
	asks := signed(t, "gw-8", "")
	forged := asks
	forged.Signature = signed(t, "gw-8", "").Signature
	if status, answer := operator.send(t, srv.Handler, http.MethodPost, "/api/v1/inbox", body(forged)); status != http.StatusBadRequest {
		t.Errorf("signed by another: %d %v", status, answer)
	}
	status, answer := operator.send(t, srv.Handler, http.MethodPost, "/api/v1/inbox", body(asks))
	if token, _ := answer["token"].(string); status != http.StatusOK || answer["agent"] != "press-8" || answer["nats"] == "" || token == "" {
		t.Errorf("%d %v", status, answer)
	}
	if status, answer := operator.send(t, srv.Handler, http.MethodPost, "/api/v1/inbox", body(signed(t, "gw-8", ""))); status != http.StatusConflict {
		t.Errorf("another key by a name that is taken: %d %v", status, answer)
	}
	if a := acts(t, h.cfg, "agent.approve"); len(a) != 1 || a[0].Who != "user0" || a[0].Object != "graz/press-8" {
		t.Errorf("the trail has %+v", a)
	}
	if _, answer = operator.send(t, srv.Handler, http.MethodGet, "/api/v1/authority", ""); answer["certificate"] != h.reg.Authority() {
		t.Errorf("the authority is %v", answer)
	}
	if status, answer = operator.send(t, srv.Handler, http.MethodGet, "/api/v1/rules", ""); status != http.StatusOK || answer["data"] == nil {
		t.Errorf("rules: %d %v", status, answer)
	}
}
