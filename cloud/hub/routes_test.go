package hub

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"plantmesh/cloud/access"
	"plantmesh/cloud/access/desk"
	porthttp "plantmesh/cloud/port/http"
)

const testPassword = "seven green bottles"

var root = access.Caller{User: "root", Via: access.ViaCLI}

// person is somebody who calls the hub: by a token, a cookie, or nothing.
type person struct{ token, cookie string }

func (p person) ask(t *testing.T, h http.Handler, method, target string) (status int, w *httptest.ResponseRecorder) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if strings.HasSuffix(target, "/live") {
		cancel() // a feed has no end; its head is enough
	}
	r := httptest.NewRequestWithContext(ctx, method, target, http.NoBody)
	r.Host = "localhost"
	if p.token != "" {
		r.Header.Set("Authorization", "Bearer "+p.token)
	}
	if p.cookie != "" {
		r.AddCookie(&http.Cookie{Name: "plantmesh", Value: p.cookie})
	}
	w = httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w.Code, w
}

// people are users of a hub, user0 and so on, one of each grant: with a token, and with a
// session where the grant is everywhere.
func people(t *testing.T, a *access.Access, grants ...string) map[string]person {
	t.Helper()
	out := map[string]person{}
	for i, text := range grants {
		g, err := access.ParseGrant(text)
		check(t, err)
		name := fmt.Sprintf("user%d", i)
		_, link, err := a.AddUser(root, name, []access.Grant{g}, "")
		check(t, err)
		_, token, err := a.CreateToken(root, name, []access.Grant{g}, time.Hour, "")
		check(t, err)
		p := person{token: token}
		if g.Location == access.Everywhere {
			_, err = a.SetPassword(t.Context(), access.Caller{}, link, testPassword)
			check(t, err)
			p.cookie, _, err = a.Login(t.Context(), access.Caller{}, name, testPassword, "")
			check(t, err)
		}
		out[text] = p
	}
	return out
}

// readable is who may read what, told again here on purpose: by pattern, the roles. One
// that is missing is nobody's.
func readable() map[string][]access.Role {
	all := access.Roles()
	return map[string][]access.Role{
		"/": all, "/readyz": all, "/metrics": all, "/api/": all, "/api/openapi.json": all, "/api/v1/products": all, "/api/v1/products/{id}": all,
		"/api/v1/products/{id}/contract": all, "/api/v1/products/{id}/status": all, "/api/v1/products/{id}/rows": all, "/api/v1/products/{id}/latest": all,
		"/api/v1/machines": all, "/api/v1/live": all, "/api/v1/agents": all, "/api/v1/agents/{site}/{agent}": all,
	}
}

// public are the patterns that look after themselves.
func public() []string { return []string{"/livez", "/api/v1/enrollments"} }

// What programs may call stands in openapi.json.
func TestRoutes_StandInOpenAPI(t *testing.T) {
	h := opened(t)
	port := porthttp.New(porthttp.Config{AnyHost: true}, h.deps(), h.log)
	w := httptest.NewRecorder()
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/api/openapi.json", http.NoBody)
	port.ServeHTTP(w, r)
	var doc struct {
		Paths map[string]map[string]any `json:"paths"`
	}
	check(t, json.Unmarshal(w.Body.Bytes(), &doc))
	decide, err := h.peopleRoutes()
	check(t, err)
	for _, r := range append(h.routes(nil, nil, nil), decide...) {
		method, pattern, found := strings.Cut(r.Pattern, " ")
		if !found {
			method, pattern = "", r.Pattern
		}
		if said := doc.Paths[pattern]; strings.HasPrefix(pattern, "/api/v") && (said == nil || found && said[strings.ToLower(method)] == nil) {
			t.Errorf("openapi.json lacks %s", r.Pattern)
		}
	}
}

// Every route by everybody: no access beyond the table, and none missing.
func TestRoutes_AreForThoseOfTheTable(t *testing.T) {
	h := opened(t)
	srv, err := h.web(porthttp.New(porthttp.Config{AnyHost: true}, h.deps(), h.log))
	check(t, err)
	routes := h.routes(nil, nil, nil)
	nobody := person{}
	sweep := func(who string, p person, may func(pattern string) bool) (yes int) {
		for _, r := range routes {
			method, pattern, found := strings.Cut(r.Pattern, " ")
			if !found {
				method, pattern = http.MethodGet, r.Pattern
			}
			target := strings.ReplaceAll(pattern, "{id}", "oee")
			status, w := p.ask(t, srv.Handler, method, target)
			got := status != http.StatusUnauthorized && status != http.StatusForbidden && (status != http.StatusSeeOther || !strings.HasPrefix(w.Header().Get("Location"), "/login"))
			want := slices.Contains(public(), pattern) || may(pattern)
			if got != want && (!slices.Contains(public(), pattern) || status == http.StatusUnauthorized) {
				t.Errorf("%s %s %s: %d %s", who, method, target, status, w.Body)
			} else if got {
				yes++
			}
		}
		return yes
	}
	never := func(string) bool { return false }
	// While nobody has an account, readers on this machine may read all.
	if n := sweep("loopback", nobody, func(string) bool { return true }); n != len(routes) {
		t.Errorf("%d of %d routes can be read while nobody has an account", n, len(routes))
	}
	var grants []string
	for _, r := range access.Roles() {
		grants = append(grants, string(r))
	}
	for _, at := range []string{"graz", "graz/line1", "graz/line1/line1-press", "linz", "graz/line2"} {
		grants = append(grants, "viewer@"+at, "admin@"+at) // what the others may where is tested in package access
	}
	all := people(t, h.access, grants...)
	anywhere := []string{"/", "/api/", "/api/openapi.json", "/api/v1/products", "/api/v1/products/{id}", "/api/v1/products/{id}/contract", "/api/v1/products/{id}/status", "/api/v1/machines"}
	narrowed := []string{"/api/v1/products/{id}/rows", "/api/v1/products/{id}/latest"}
	for _, g := range grants {
		role, at, _ := strings.Cut(g, "@")
		may := func(pattern string) bool {
			switch {
			case !slices.Contains(readable()[pattern], access.Role(role)):
				return false
			case at == "", at == "graz", slices.Contains(anywhere, pattern):
				return true
			}
			return strings.HasPrefix(at, "graz/line1") && slices.Contains(narrowed, pattern)
		}
		p := all[g]
		if n := sweep(g+" by token", person{token: p.token}, may); n < len(anywhere) {
			t.Errorf("%s may read %d routes", g, n)
		}
		if p.cookie != "" {
			sweep(g+" by cookie", person{cookie: p.cookie}, may)
		}
	}
	sweep("nobody", nobody, never)
	sweep("a guess", person{token: "pmt_" + strings.Repeat("A", 43)}, never)
	sweep("a guess by cookie", person{cookie: strings.Repeat("A", 43)}, never)
	sweep("a session as token", person{token: all["admin"].cookie}, never)
	sweep("a token as cookie", person{cookie: all["admin"].token}, never)
	// What has ended is nobody's at once.
	tokens, err := h.access.Tokens()
	check(t, err)
	for _, tok := range tokens {
		if tok.User == "user0" { // viewer
			_, err := h.access.EndToken(root, tok.ID, "", "")
			check(t, err)
		}
	}
	sweep("an ended token", person{token: all["viewer"].token}, never)
	_, err = h.access.End(root, "user0", "")
	check(t, err)
	sweep("an ended user", person{cookie: all["viewer"].cookie}, never)
	_, err = h.access.End(root, "user8", "") // the first behind the roles
	check(t, err)
	sweep("an ended user's token", person{token: all["viewer@graz"].token}, never)
	if n := sweep("another's", person{token: all["technician"].token}, func(p string) bool { return readable()[p] != nil }); n != len(routes) {
		t.Errorf("another may read %d routes", n)
	}
}

// A route that nobody put into the table keeps the hub from starting; one in it that
// names nobody is nobody's.
func TestRoutes_WhatIsNotInTheTableIsNobodys(t *testing.T) {
	h := opened(t)
	port := porthttp.New(porthttp.Config{AnyHost: true}, h.deps(), h.log)
	if len(port.Patterns()) < 10 {
		t.Errorf("the port has %q", port.Patterns())
	}
	for _, p := range port.Patterns() {
		if !slices.ContainsFunc(h.routes(nil, nil, nil), func(r desk.Route) bool { return r.Pattern == p }) {
			t.Errorf("nobody has said who may have %s", p)
		}
	}
	d, err := desk.New(desk.Config{Access: h.access, Site: "graz", Loopback: true}, time.Now, h.log)
	check(t, err)
	served := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) })
	guarded := d.Guard([]desk.Route{{Pattern: "/forgotten", Handler: served}, {Pattern: "/read", Needs: access.ReadProducts, Handler: served}, {Pattern: "/change", Needs: access.ApproveAgents, Handler: served}})
	admin := people(t, h.access, "admin")["admin"]
	for target, want := range map[string]int{"/forgotten": http.StatusForbidden, "/read": http.StatusTeapot, "/change": http.StatusTeapot, "/none": http.StatusNotFound} {
		if got, _ := (person{token: admin.token}).ask(t, guarded, http.MethodGet, target); got != want {
			t.Errorf("%s: %d", target, got)
		}
	}
}

// A reader of one machine gets its rows, whether they ask for them or for all, and no
// other's.
func TestNarrow(t *testing.T) {
	h := opened(t)
	for name, c := range map[string]struct {
		at, query, want string
		ok              bool
	}{
		"nothing asked":    {"graz/line1", "", "equipment=line1-press", true},
		"a machine":        {"graz/line1", "limit=1&equipment=line1-press", "limit=1&equipment=line1-press", true},
		"a source":         {"graz/line1", "equipment=press", "equipment=press", true},
		"a line":           {"graz/line1", "equipment=line1", "equipment=line1", true},
		"more than theirs": {"graz/line1/line1-press", "equipment=line1", "", false},
		"and another's":    {"graz/line1", "equipment=line1-press,line2-press", "", false},
		"or so":            {"graz/line1", "equipment=line1-press&equipment=line2", "", false},
		"nothing there":    {"graz/line2", "", "", false},
		"a broken query":   {"graz/line1", "equipment=%zz", "", false},
		"an empty name":    {"graz/line1", "equipment=", "", false},
	} {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/x?"+c.query, http.NoBody)
		got, ok := h.narrow(r, func(at string) bool { return at == c.at || strings.HasPrefix(at, c.at+"/") })
		if ok != c.ok || ok && got.URL.RawQuery != c.want {
			t.Errorf("%s: %v %q", name, ok, got.URL.RawQuery)
		}
	}
}

// Whoever listens to others must know somebody.
func TestMayListen(t *testing.T) {
	cfg := testConfig(t)
	check(t, MayListen(cfg))
	for _, change := range []func(*Config){func(c *Config) { c.HTTP.Listen = "0.0.0.0:8443" }, func(c *Config) { c.NATS.Listen = ":4222" }, func(c *Config) { c.NATS.WebSocket.Listen = "0.0.0.0:443" }} {
		c := cfg
		change(&c)
		err := Run(t.Context(), c, quiet())
		if err == nil || !strings.Contains(err.Error(), "plantmesh users add") {
			t.Errorf("without users: %v", err)
		}
	}
	a, err := Access(cfg)
	check(t, err)
	people(t, a, "admin")
	cfg.HTTP.Listen = "0.0.0.0:8443"
	check(t, MayListen(cfg))
	if info, err := os.Stat(filepath.Join(cfg.Data, accessName)); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
}
