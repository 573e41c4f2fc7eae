package hub

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	porthttp "plantmesh/cloud/port/http"
	"plantmesh/cloud/product"
	"plantmesh/cloud/registry/desk"
	"plantmesh/cloud/registry/plant"
	"plantmesh/proto/revision"
)

// What models say goes to the gateway that is heard with their machines, beside what it has,
// and until it is in force there the machine says so.
func TestModelRules_GoToTheGatewayAndAreSeenThere(t *testing.T) {
	h := opened(t)
	ask := asks(t, h)
	const at = "/api/v1/agents/graz/gw-1/"
	from := time.Now().UTC().Truncate(time.Hour).Add(-3 * time.Hour)
	tell(t, h, "line2.saw.", from, from.Add(2*time.Hour))
	until(t, 10*time.Second, "the saw is in the inbox", func() bool {
		l, err := h.sites.Look(t.Context())
		check(t, err)
		return len(l.Inbox) == 1
	})
	ask(http.MethodPut, at+"configuration", `{"rules_from_models": true}`, http.StatusBadRequest, nil) // no machine has a model
	ask(http.MethodPost, "/api/v1/registry/models", `{"model": {"id": "saw", "version": "1.0.0", "enables": ["oee", "signals"], "properties": [{"name": "state", "kind": "measurement", "role": "state"}, {"name": "produced", "kind": "measurement", "role": "produced", "min": 0, "max": 50, "rules": ["backwards off"]}]}}`, http.StatusOK, nil)
	ask(http.MethodPost, "/api/v1/registry/inbox/approve", `{"source": "saw", "signals_prefix": "line2.saw.", "model": "saw"}`, http.StatusOK, nil)

	ask(http.MethodPost, "/api/v1/registry/models", `{"model": {"id": "other", "version": "1.0.0", "enables": ["oeee"], "properties": [{"name": "state", "kind": "measurement"}]}}`, http.StatusUnprocessableEntity, nil)

	says := func() string {
		t.Helper()
		h.sites.rules.mu.Lock()
		h.sites.rules.of = nil // else it is kept for as long as what was heard
		h.sites.rules.mu.Unlock()
		l, err := h.sites.Look(t.Context())
		check(t, err)
		for _, row := range l.Rows {
			if row.ID == "line2-saw" && row.Rules != nil {
				return fmt.Sprint(row.Rules.OK, " ", row.Rules.Says)
			}
		}
		return ""
	}
	soon := func(want string) {
		t.Helper()
		until(t, 10*time.Second, "it says "+want, func() bool { return says() == want })
	}
	soon("false rules of model saw@1.0.0 not on gw-1 yet")
	var row desk.Row
	ask(http.MethodGet, "/api/v1/registry/machines/line2-saw", "", http.StatusOK, &row)
	if said := fmt.Sprint(row.Readiness); !strings.Contains(said, "check:rules ok:false") || !strings.Contains(said, "check:products ok:false says:its model is for oee, signals: oee partial]") {
		t.Errorf("%s", said)
	}
	var g desk.GatewayRules
	ask(http.MethodGet, at+"rules", "", http.StatusOK, &g)
	if len(g.Rules) != 2 || g.Rules[1].ID != "line2-saw.produced.range" || g.Sent || !strings.Contains(g.File, "revision: 1\n") || len(g.Differs) != 1 || g.Differs[0] != "rules of model saw@1.0.0 not on gw-1 yet: line2-saw" {
		t.Fatalf("%+v", g)
	}

	ask(http.MethodPut, at+"configuration", `{"files": {"rules.d/own.yaml": "revision: 1\nrules: []\n"}}`, http.StatusOK, nil)
	ask(http.MethodPut, at+"configuration", `{"rules_from_models": true, "revert_to": 1}`, http.StatusBadRequest, nil)
	ask(http.MethodPut, at+"configuration", `{"rules_from_models": true, "after": 7}`, http.StatusConflict, nil)
	var made revision.Revision
	ask(http.MethodPut, at+"configuration", `{"rules_from_models": true}`, http.StatusOK, &made)
	v, err := h.reg.Newest("graz", "gw-1")
	check(t, err)
	if v.Ref != made.Ref || made.Note != "rules of model saw@1.0.0" || len(v.Files) != 2 || v.Files["rules.d/own.yaml"] == "" || !strings.Contains(v.Files[plant.RulesFile], "revision: 2\n") {
		t.Fatalf("%+v", v)
	}
	soon("false rules of model saw@1.0.0 not on gw-1 yet (revision 2 has them, and it has said nothing since the hub began)")
	h.said(t, revision.Reported{Ref: v.Ref, Desired: v.Number, State: revision.Current})
	soon("true 2 of model saw@1.0.0 on gw-1")
	// Once more is the same file, and no other revision number in it.
	ask(http.MethodGet, at+"rules", "", http.StatusOK, &g)
	if !g.Sent || g.File != v.Files[plant.RulesFile] || len(g.Differs) > 0 {
		t.Errorf("%+v", g)
	}
	h.said(t, revision.Reported{Ref: v.Ref, Desired: v.Number, State: revision.Drift, Drift: []string{plant.RulesFile}})
	soon("false rules of model saw@1.0.0 not on gw-1 yet (it has a rules.d/models.yaml of its own, which goes before)")
	h.said(t, revision.Reported{Ref: v.Ref, Desired: v.Number, State: revision.Current})

	// Another version gives other rules: the upgrade says which, and that they are not there.
	ask(http.MethodPost, "/api/v1/registry/models", `{"model": {"id": "saw", "version": "1.1.0", "properties": [{"name": "state", "kind": "measurement", "role": "state"}, {"name": "produced", "kind": "measurement", "role": "produced", "min": 0, "max": 60, "rules": ["backwards off"]}]}}`, http.StatusOK, nil)
	var done desk.Changed
	ask(http.MethodPost, "/api/v1/registry/models/saw/upgrade", `{"to": "1.1.0"}`, http.StatusOK, &done)
	if len(done.Rules) != 1 || done.Rules[0] != (plant.Change{What: "rule produced.range", From: "min 0, max 50", To: "min 0, max 60"}) {
		t.Errorf("%+v", done)
	}
	soon("false rules of model saw@1.1.0 not on gw-1 yet")
	ask(http.MethodPut, at+"configuration", `{"rules_from_models": true}`, http.StatusOK, &made)
	h.said(t, revision.Reported{Ref: v.Ref, Desired: made.Number, State: revision.Reverted, Why: "no"})
	soon("false rules of model saw@1.1.0 not on gw-1 yet (revision 3, which has them, is reverted)")
	h.said(t, revision.Reported{Ref: made.Ref, Desired: made.Number, State: revision.Current})
	soon("true 2 of model saw@1.1.0 on gw-1")

	// A machine that is retired leaves rules behind until they are taken out.
	ask(http.MethodDelete, "/api/v1/registry/machines/line2-saw", "", http.StatusOK, nil)
	ask(http.MethodGet, at+"rules", "", http.StatusOK, &g)
	if len(g.Rules) > 0 || g.File != "" || len(g.Differs) != 1 || g.Differs[0] != "gw-1 still has rules that no model gives: line2-saw" {
		t.Errorf("%+v", g)
	}
	ask(http.MethodPut, at+"configuration", `{"rules_from_models": true}`, http.StatusOK, &made)
	if v, err = h.reg.Newest("graz", "gw-1"); err != nil || len(v.Files) != 1 || made.Note != "no rules of models any more" {
		t.Errorf("%+v %v", v, err)
	}
	ask(http.MethodGet, "/api/v1/agents/graz/gw-9/rules", "", http.StatusNotFound, nil)
}

// Who sees agents at the site sees their rules; who configures them sends them.
func TestModelRules_OfWhom(t *testing.T) {
	h := opened(t)
	enrol(t, h, "gw-1")
	srv, err := h.web(porthttp.New(porthttp.Config{AnyHost: true}, h.deps(), h.log))
	check(t, err)
	for who, p := range people(t, h.access, "viewer@graz", "technician@graz", "operator@linz", "operator@graz/line1", "admin") {
		want := map[string][2]int{"viewer@graz": {200, 403}, "technician@graz": {200, 400}, "operator@linz": {403, 403}, "operator@graz/line1": {403, 403}, "admin": {200, 400}}[who]
		for i, method := range []string{http.MethodGet, http.MethodPut} {
			target := "/api/v1/agents/graz/gw-1/" + []string{"rules", "configuration"}[i]
			r := httptest.NewRequestWithContext(t.Context(), method, target, strings.NewReader(`{"rules_from_models": true}`))
			r.Host = "localhost"
			r.Header.Set("Authorization", "Bearer "+p.token)
			w := httptest.NewRecorder()
			srv.Handler.ServeHTTP(w, r)
			if w.Code != want[i] { // 400: it may, and no model gives any
				t.Errorf("%s, %s %s: %d %s", who, method, target, w.Code, w.Body)
			}
		}
	}
}

// A machine of the site file has the rules of a model that stands there, too.
func TestModelsOf_TheSiteFileToo(t *testing.T) {
	const models = `models:
  - {id: own, version: "1.0.0", properties: [{name: temperature, kind: measurement, max: 90, every: 10s}]}
`
	text, err := plant.Merge([]byte(siteFile+models), plant.Register{Version: 1, Models: []plant.Model{{ID: "saw", Version: "2.0.0", States: map[string]int64{"1": 6}}}})
	check(t, err)
	site, err := product.ParseSite("site", text)
	check(t, err)
	got, err := modelsOf(site)
	check(t, err)
	if len(got) != 2 || got[0].Ref() != "own@1.0.0" || *got[0].Properties[0].Max != 90 || got[0].Properties[0].Every != "10s" || got[1].States["1"] != 6 {
		t.Errorf("%+v", got)
	}
}
