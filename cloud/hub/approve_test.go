package hub

import (
	"net/http"
	"strings"
	"testing"

	porthttp "plantmesh/cloud/port/http"
)

// Who decides on gateways and reads the trail: told again here, as statuses. 404 is that
// of who may: there is no such gateway.
func TestPeopleRoutes_AreForThoseWhoMay(t *testing.T) {
	h := opened(t)
	srv, err := h.web(porthttp.New(porthttp.Config{AnyHost: true}, h.deps(), h.log))
	check(t, err)
	routes := []string{
		"GET /e/KXQ7-2MPL", "POST /e/KXQ7-2MPL", "GET /api/v1/inbox", "POST /api/v1/inbox/KXQ7-2MPL/approve", "POST /api/v1/inbox/KXQ7-2MPL/refuse",
		"POST /api/v1/agents/graz/gw-1/revoke", "GET /api/v1/audit",
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
	sweep("loopback while nobody has an account", person{}, 404, 400, 200, 404, 400, 404, 200)
	all := people(t, h.access, "viewer@graz", "operator@graz", "operator@linz", "operator@graz/line1", "governor", "admin")
	sweep("nobody", person{}, 303, 401, 401, 401, 401, 401, 401)
	sweep("a viewer", all["viewer@graz"], 404, 403, 200, 403, 403, 403, 403)
	sweep("an operator", person{token: all["operator@graz"].token}, 404, 400, 200, 404, 400, 404, 403)
	sweep("one of elsewhere", all["operator@linz"], 403, 403, 403, 403, 403, 403, 403)
	sweep("one of a line", all["operator@graz/line1"], 403, 403, 403, 403, 403, 403, 403)
	sweep("a governor", person{token: all["governor"].token}, 404, 403, 200, 403, 403, 403, 200)
	sweep("an admin", person{token: all["admin"].token}, 404, 400, 200, 404, 400, 404, 200)
	sweep("an admin's browser, without its form token", person{cookie: all["admin"].cookie}, 404, 403, 200, 403, 403, 403, 200)
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
