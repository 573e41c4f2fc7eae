package hub

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"plantmesh/cloud/access"
	"plantmesh/cloud/audit"
	porthttp "plantmesh/cloud/port/http"
	"plantmesh/cloud/registry"
	"plantmesh/proto/revision"
)

// entitled is who may call a route: told again here, on purpose.
type entitled struct {
	roles string // empty: all
	// anywhere: a role at any location is enough, as of which lines and machines is looked
	// at closer. Otherwise it must be one at the whole site.
	anywhere bool
}

// entitlement is the table of all routes by which somebody is let in, changed or told of.
func entitlement() map[string]entitled {
	const (
		operators = "operator admin"
		rules     = "technician operator quality-engineer admin"
	)
	all, readers := entitled{}, entitled{anywhere: true}
	operator, machines := entitled{roles: operators}, entitled{roles: operators, anywhere: true}
	owner := entitled{roles: "product-owner admin"}
	users := entitled{roles: "admin", anywhere: true}
	return map[string]entitled{
		"GET /api/v1/audit": {roles: "governor admin"},
		"GET /e/{code}":     all, "POST /e/{code}": operator,
		"POST /api/v1/inbox": operator, "GET /api/v1/authority": all, "GET /api/v1/rules": all,
		"GET /api/v1/inbox": all, "POST /api/v1/inbox/{code}/approve": operator, "POST /api/v1/inbox/{code}/refuse": operator,
		"POST /api/v1/agents/{site}/{agent}/revoke": operator, "POST /api/v1/signing-key/rotate": {roles: "admin"},
		"GET /api/v1/enrollment-keys": operator, "POST /api/v1/enrollment-keys": operator, "POST /api/v1/enrollment-keys/{id}/end": operator,
		"GET /api/v1/agents/{site}/{agent}/configuration": all, "PUT /api/v1/agents/{site}/{agent}/configuration": {roles: rules}, "GET /api/v1/agents/{site}/{agent}/rules": all,
		"GET /api/v1/readers": owner, "POST /api/v1/readers": owner, "POST /api/v1/readers/{name}/renew": owner, "POST /api/v1/readers/{name}/rewind": owner, "DELETE /api/v1/readers/{name}": owner,
		"GET /api/v1/users": users, "POST /api/v1/users": users, "GET /api/v1/users/{name}": users, "POST /api/v1/users/{name}/grant": users,
		"POST /api/v1/users/{name}/withdraw": users, "POST /api/v1/users/{name}/reset": users, "POST /api/v1/users/{name}/end": users,
		"GET /api/v1/tokens": users, "POST /api/v1/tokens": users, "POST /api/v1/tokens/{id}/end": users,
		"GET /api/v1/registry/machines": readers, "GET /api/v1/registry/machines/{id}": readers, "GET /api/v1/registry/machines.csv": readers, "GET /api/v1/registry/inbox": all,
		"GET /api/v1/registry/models": readers, "GET /api/v1/registry/models/{id}": readers, "GET /api/v1/registry/models/{id}/diff": readers,
		"GET /api/v1/registry/calendars": readers, "GET /api/v1/registry/calendars/{id}": readers,
		"POST /api/v1/registry/machines": machines, "PUT /api/v1/registry/machines/{id}": machines, "DELETE /api/v1/registry/machines/{id}": machines,
		"POST /api/v1/registry/machines/import": machines, "POST /api/v1/registry/machines/clone": machines, "POST /api/v1/registry/inbox/approve": machines,
		"POST /api/v1/registry/models": machines, "POST /api/v1/registry/models/{id}/upgrade": machines,
		"PUT /api/v1/registry/calendars/{id}": machines, "DELETE /api/v1/registry/calendars/{id}": machines,
	}
}

// Every route of those who decide, by every role at every kind of location: no access beyond
// the table, and none missing. What is read by all stands in routes_test.go.
func TestRoutes_EveryRoleAtEveryLocation(t *testing.T) {
	h := opened(t)
	srv, err := h.web(porthttp.New(porthttp.Config{AnyHost: true}, h.deps(), h.log))
	check(t, err)
	routes, err := h.peopleRoutes()
	check(t, err)
	table := entitlement()
	var patterns []string
	for _, r := range routes {
		pattern := r.Pattern
		if !strings.Contains(pattern, " ") {
			pattern = "GET " + pattern
		}
		patterns = append(patterns, pattern)
		if _, there := table[pattern]; !there && pattern != "GET /e/desk.css" { // which is public
			t.Errorf("nobody has said here who may call %s", pattern)
		}
	}
	for pattern := range table {
		if !slices.Contains(patterns, pattern) {
			t.Errorf("there is no %s", pattern)
		}
	}
	fill := strings.NewReplacer("{site}", "graz", "{agent}", "none", "{code}", "KXQ7-2MPL", "{id}", "none", "{name}", "none")
	places := []string{"", "graz", "graz/line1", "graz/line1/line1-press", "graz/line10", "linz"}
	for _, role := range access.Roles() {
		for i, at := range places {
			g := access.Grant{Role: role, Location: at}
			name := "of-" + string(role) + "-" + string(rune('a'+i))
			_, _, err := h.access.AddUser(root, name, []access.Grant{g}, "")
			check(t, err)
			_, token, err := h.access.CreateToken(root, name, []access.Grant{g}, time.Hour, "")
			check(t, err)
			for pattern, who := range table {
				want := (who.roles == "" || slices.Contains(strings.Fields(who.roles), string(role))) && (who.anywhere || at == "" || at == "graz")
				method, path, _ := strings.Cut(pattern, " ")
				status, w := (person{token: token}).ask(t, srv.Handler, method, fill.Replace(path))
				if got := status != http.StatusUnauthorized && status != http.StatusForbidden; got != want || status == http.StatusTooManyRequests || status >= 500 {
					t.Errorf("%s: %s: %d, want %t: %s", g, pattern, status, want, w.Body)
				}
			}
		}
	}
}

// Who may change rules alone gives a gateway rules, and nothing else: neither by all files,
// nor by going back, nor at another's revision that comes between. They see rules alone.
func TestConfigure_RulesAlone(t *testing.T) {
	h := opened(t)
	enrol(t, h, "gw-1")
	srv, err := h.web(porthttp.New(porthttp.Config{AnyHost: true}, h.deps(), h.log))
	check(t, err)
	const target = "/api/v1/agents/graz/gw-1/configuration"
	all := people(t, h.access, "quality-engineer@graz", "operator@graz")
	quality, operator := all["quality-engineer@graz"], all["operator@graz"]
	configure := func(files revision.Files) {
		t.Helper()
		_, err := Configure(h.cfg, registry.Wanted{Agent: "gw-1", Files: files}, time.Now())
		check(t, err)
	}
	// Of a gateway without a revision, too.
	if status, said := quality.send(t, srv.Handler, http.MethodPut, target, `{"files":{"sources.d/a.yaml":"a"}}`); status != http.StatusForbidden {
		t.Errorf("a source where there was none: %d %v", status, said)
	}
	if status, said := quality.send(t, srv.Handler, http.MethodPut, target, `{"rules":{"rules.d/a.yaml":"first"}}`); status != http.StatusOK {
		t.Errorf("a rule where there was nothing: %d %v", status, said)
	}
	configure(revision.Files{"sources.d/a.yaml": "password: x", "rules.d/a.yaml": "old"})
	for body, want := range map[string]string{
		`{"files":{"sources.d/a.yaml":"password: y","rules.d/a.yaml":"new"}}`: "sources.d/a.yaml changed",
		`{"files":{"rules.d/a.yaml":"new"}}`:                                  "sources.d/a.yaml removed",
		`{"files":{}}`:                                                        "sources.d/a.yaml removed",
		`{"files":{"sources.d/a.yaml":"password: x","sources.d/b.yaml":"b","rules.d/a.yaml":"new"}}`: "sources.d/b.yaml added",
		`{"revert_to":1}`: "sources.d/a.yaml removed",
	} {
		status, said := quality.send(t, srv.Handler, http.MethodPut, target, body)
		if detail, _ := said["detail"].(string); status != http.StatusForbidden || !strings.Contains(detail, want) || !strings.Contains(detail, "rules alone") {
			t.Errorf("%s: %d %v", body, status, said)
		}
	}
	for body, want := range map[string]int{
		`{"rules":{"sources.d/a.yaml":"a"}}`:                  400,
		`{"rules":{"rules.d/a.txt":"a"}}`:                     400,
		`{"rules":{},"files":{}}`:                             400,
		`{"rules":{},"revert_to":1}`:                          400,
		`{"rules":{"rules.d/a.yaml":"new"},"after":1}`:        409,
		`{"rules_from_models":true}`:                          400, // no model gives one
		`{"rules":{"rules.d/b.yaml":"new"},"note":"tighter"}`: 200,
	} {
		if status, said := quality.send(t, srv.Handler, http.MethodPut, target, body); status != want {
			t.Errorf("%s: %d, want %d: %v", body, status, want, said)
		}
	}
	newest, err := h.reg.Newest("graz", "gw-1")
	check(t, err)
	if f := newest.Files; len(f) != 2 || f["sources.d/a.yaml"] != "password: x" || f["rules.d/b.yaml"] != "new" || newest.By != "user0" {
		t.Errorf("the newest is %+v", newest)
	}
	_, said := quality.send(t, srv.Handler, http.MethodGet, target, "")
	if b, err := json.Marshal(said); err != nil || strings.Contains(string(b), "password") || !strings.Contains(string(b), "rules.d/b.yaml") {
		t.Errorf("it sees %s, %v", b, err)
	}
	// The same files, with other rules, are its own; going back over them alone, too.
	if status, said := quality.send(t, srv.Handler, http.MethodPut, target, `{"files":{"sources.d/a.yaml":"password: x"}}`); status != http.StatusOK {
		t.Errorf("rules taken out: %d %v", status, said)
	}
	if status, said := quality.send(t, srv.Handler, http.MethodPut, target, `{"revert_to":3}`); status != http.StatusOK {
		t.Errorf("back to its rules: %d %v", status, said)
	}
	// Others may send rules alone, too.
	if status, said := operator.send(t, srv.Handler, http.MethodPut, target, `{"rules":{}}`); status != http.StatusOK {
		t.Errorf("an operator: %d %v", status, said)
	}
	if newest, err = h.reg.Newest("graz", "gw-1"); err != nil || len(newest.Files) != 1 {
		t.Errorf("the newest is %+v, %v", newest, err)
	}
	entries, err := audit.Newest(t.Context(), TrailFolder(h.cfg), audit.Filter{Action: "agent.configure", Who: "user0"}, 10)
	if err != nil || len(entries) != 4 || entries[2].Reason != "tighter" {
		t.Errorf("the trail has %+v, %v", entries, err)
	}
}
