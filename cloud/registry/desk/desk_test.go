package desk

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nkeys"

	"plantmesh/cloud/registry"
	"plantmesh/proto/enroll"
)

func noon() time.Time { return time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC) }

// book is a registry and its clock.
type book struct{ *registry.Registry }

func (b book) Look() (asking []registry.Petition, in []registry.Agent, err error) {
	if asking, err = b.Petitions(); err == nil {
		in, err = b.Agents()
	}
	return asking, in, err
}

func (b book) Approve(shown, as string, by registry.Actor) (registry.Petition, error) {
	return b.Registry.Approve(shown, "graz", as, by, noon())
}

func (b book) Refuse(shown, why string, by registry.Actor) (registry.Petition, error) {
	return b.Registry.Refuse(shown, why, by, noon())
}

func (b book) Revoke(site, agent, why string, by registry.Actor) (registry.Revocation, error) {
	return b.Registry.Revoke(site, agent, why, by, noon())
}

func (b book) EndInvite(id, why string, by registry.Actor) (registry.Invite, error) {
	return b.Registry.EndInvite(id, why, by, noon())
}

func (b book) Rotate(grace time.Duration, why string, by registry.Actor) (any, error) {
	return b.Registry.Rotate(grace, why, by, noon())
}

// rig is a desk over a real registry.
type rig struct {
	t    *testing.T
	book book
	mux  *http.ServeMux
	may  map[string]bool
	now  time.Time
	acts []registry.Act
	full bool
}

func newRig(t *testing.T) *rig {
	t.Helper()
	reg, err := registry.Open(t.TempDir())
	check(t, err)
	r := &rig{t: t, book: book{reg}, mux: http.NewServeMux(), may: map[string]bool{Read: true, Approve: true, Revoke: true, Rotate: true}, now: noon()}
	reg.Record = func(a registry.Act) error {
		if r.full {
			return errors.New("the disk is full")
		}
		r.acts = append(r.acts, a)
		return nil
	}
	d, err := New(Config{
		Site: "graz", Lifetime: 168 * time.Hour, Book: r.book, Keys: r.book, Invites: r.book, Now: func() time.Time { return r.now }, Log: slog.New(slog.DiscardHandler),
		Who: func(*http.Request) registry.Actor {
			return registry.Actor{Who: "anna", Via: "session", Address: "192.0.2.9"}
		},
		Token: func(*http.Request) string { return "form-token" },
		May: func(_ *http.Request, permission, location string) error {
			if !r.may[permission] || location != "graz" {
				return fmt.Errorf("needs %s on %s", permission, location)
			}
			return nil
		},
	})
	check(t, err)
	for pattern, h := range d.Handlers() {
		r.mux.HandleFunc(pattern, h)
	}
	return r
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// asks has a gateway ask.
func (r *rig) asks(name string) (code string, signed enroll.Signed) {
	r.t.Helper()
	kp, err := nkeys.CreateUser()
	check(r.t, err)
	pub, err := kp.PublicKey()
	check(r.t, err)
	b, err := json.Marshal(enroll.Request{Version: enroll.Version, PublicKey: pub, Agent: name, Host: enroll.Host{Name: `box<script>"'&`, System: "linux/arm64", Cores: 4, Version: "v1"}})
	check(r.t, err)
	sig, err := kp.Sign(b)
	check(r.t, err)
	signed = enroll.Signed{Request: b, Signature: sig}
	_, err = r.book.Ask(registry.Gate{Site: "graz", Lifetime: time.Hour}, signed, "192.0.2.7", r.now)
	check(r.t, err)
	return enroll.Code(pub), signed
}

// call sends a form, JSON, or nothing.
func (r *rig) call(method, target, body string, head ...string) *httptest.ResponseRecorder {
	r.t.Helper()
	q := httptest.NewRequestWithContext(r.t.Context(), method, target, strings.NewReader(body))
	q.Host = "hub.example.com"
	if strings.HasPrefix(target, "/e/") && method == http.MethodPost {
		q.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	for i := 0; i < len(head); i += 2 {
		q.Header.Set(head[i], head[i+1])
	}
	w := httptest.NewRecorder()
	r.mux.ServeHTTP(w, q)
	return w
}

func has(t *testing.T, w *httptest.ResponseRecorder, status int, words ...string) {
	t.Helper()
	if w.Code != status {
		t.Errorf("answered %d, want %d: %s", w.Code, status, w.Body)
	}
	for _, word := range words {
		if !strings.Contains(w.Body.String(), word) {
			t.Errorf("%q is missing in\n%s", word, w.Body)
		}
	}
}

func TestPage_FromAskingToRevoked(t *testing.T) {
	r := newRig(t)
	code, signed := r.asks("gw-7")
	w := r.call(http.MethodGet, "/e/"+strings.ToLower(code), "")
	q, err := signed.Parse()
	check(t, err)
	mark := strings.TrimPrefix(enroll.Fingerprint(q.PublicKey), "SHA256:")
	has(t, w, 200, "<span>"+mark[:4]+"</span>", "<span>"+mark[60:]+"</span>", "192.0.2.7", "linux/arm64", "2026-11-30 12:00:00 UTC", `value="gw-7"`, `value="form-token"`, "good for 7 days", "Approve", "Refuse", "box&lt;script&gt;")
	for name, want := range map[string]string{"X-Content-Type-Options": "nosniff", "Cache-Control": "no-store", "Content-Security-Policy": policy} {
		if got := w.Header().Get(name); got != want {
			t.Errorf("%s is %q", name, got)
		}
	}
	if strings.Contains(w.Body.String(), "<script") || strings.Contains(w.Body.String(), "while: is it still waiting") {
		t.Error(w.Body)
	}
	has(t, r.call(http.MethodPost, "/e/"+code, url.Values{"do": {"refuse"}, "why": {" who are\n you? "}}.Encode()), http.StatusSeeOther)
	has(t, r.call(http.MethodGet, "/e/"+code, ""), 200, "This gateway was refused", "anna refused it", "who are you?", "Approve")
	w = r.call(http.MethodPost, "/e/"+code, url.Values{"do": {"approve"}, "as": {"press-1"}}.Encode(), "Origin", "http://hub.example.com")
	has(t, w, http.StatusSeeOther)
	if to := w.Header().Get("Location"); to != "/e/"+code {
		t.Errorf("led to %q", to)
	}
	w = r.call(http.MethodGet, "/e/"+code, "")
	has(t, w, 200, "press-1 is approved", "anna let it in as <b>press-1</b>", "fetches its token by itself")
	if strings.Contains(w.Body.String(), "<form") {
		t.Error("there is something to decide")
	}
	has(t, r.call(http.MethodPost, "/e/"+code, url.Values{"do": {"refuse"}, "why": {"no"}}.Encode()), http.StatusConflict, "let in already")
	_, err = r.book.Ask(registry.Gate{Site: "graz", Lifetime: time.Hour}, signed, "192.0.2.7", r.now)
	check(t, err)
	has(t, r.call(http.MethodGet, "/e/"+code, ""), 200, "press-1 is let in", "nothing to decide")
	has(t, r.call(http.MethodPost, "/api/v1/agents/graz/press-1/revoke", `{"reason":"stolen"}`), 200, `"name":"press-1"`)
	has(t, r.call(http.MethodGet, "/e/"+code, ""), 200, "its key was revoked")
	last := r.acts[len(r.acts)-1]
	if len(r.acts) != 3 || last.Action != "agent.revoke" || last.Reason != "stolen" || last.Who != "anna" || last.Via != "session" || last.Address != "192.0.2.9" {
		t.Errorf("recorded %+v", r.acts)
	}
}

func TestPage_WhatCanNotBeDecided(t *testing.T) {
	r := newRig(t)
	code, _ := r.asks("gw-7")
	other, _ := r.asks("gw-8")
	has(t, r.call(http.MethodGet, "/e/KXQ7-2MPL", ""), 404, "No gateway shows this code", "forgotten 24 hours after", "plantmesh-edge enroll")
	has(t, r.call(http.MethodGet, "/e/<script>", ""), 404, "&lt;script&gt;")
	form := func(v ...string) string {
		q := url.Values{}
		for i := 0; i < len(v); i += 2 {
			q.Set(v[i], v[i+1])
		}
		return q.Encode()
	}
	has(t, r.call(http.MethodPost, "/e/"+other, form("do", "approve", "as", "gw-8")), http.StatusSeeOther)
	for name, c := range map[string]struct {
		target, body string
		head         []string
		status       int
		says         string
	}{
		"from another page":         {"/e/" + code, form("do", "approve"), []string{"Origin", "http://evil.example"}, 403, "another page"},
		"from another site":         {"/e/" + code, form("do", "approve"), []string{"Sec-Fetch-Site", "cross-site"}, 403, "another page"},
		"from nowhere":              {"/e/" + code, form("do", "approve"), []string{"Origin", "null"}, 403, "another page"},
		"nothing said":              {"/e/" + code, "", nil, 400, "neither approve nor refuse"},
		"no reason":                 {"/e/" + code, form("do", "refuse", "why", "  "), nil, 400, "Say why"},
		"too long":                  {"/e/" + code, form("do", "refuse", "why", strings.Repeat("x", 20<<10)), nil, 400, "too long"},
		"a name that is none":       {"/e/" + code, form("do", "approve", "as", "Gw 7"), nil, 400, "lower case"},
		"a code that nobody shows":  {"/e/KXQ7-2MPL", form("do", "approve"), nil, 404, "no gateway that asks"},
		"let in under another name": {"/e/" + other, form("do", "approve", "as", "gw-9"), nil, 409, "let in already"},
	} {
		t.Run(name, func(t *testing.T) {
			r.t = t
			has(t, r.call(http.MethodPost, c.target, c.body, c.head...), c.status, c.says)
		})
	}
	r.t, r.full = t, true
	has(t, r.call(http.MethodPost, "/e/"+code, form("do", "approve", "as", "gw-7")), 503, "Nothing was done", "not recorded")
	r.full, r.may[Approve] = false, false
	w := r.call(http.MethodGet, "/e/"+code, "")
	has(t, w, 200, "You can't decide on it: needs agents.approve on graz")
	if strings.Contains(w.Body.String(), "<form") {
		t.Error("who may not decide is shown a form")
	}
	has(t, r.call(http.MethodPost, "/e/"+code, form("do", "approve")), 403, "needs agents.approve")
	r.may[Read] = false
	if w := r.call(http.MethodGet, "/e/"+code, ""); w.Code != 403 || strings.Contains(w.Body.String(), "192.0.2.7") {
		t.Errorf("who may not read it: %d %s", w.Code, w.Body)
	}
	r.may[Read], r.now = true, noon().Add(3*time.Minute)
	has(t, r.call(http.MethodGet, "/e/"+code, ""), 200, "is it still waiting?")
	if len(r.acts) != 1 {
		t.Errorf("recorded %+v", r.acts)
	}
}

func TestAPI_Answers(t *testing.T) {
	r := newRig(t)
	code, _ := r.asks("gw-7")
	refused, _ := r.asks("gw-8")
	w := r.call(http.MethodGet, "/api/v1/inbox", "")
	has(t, w, 200, code, refused, `"fingerprint":"SHA256:`)
	for _, c := range []struct {
		target, body string
		head         []string
		status       int
	}{
		{"/api/v1/inbox/" + code + "/approve", `{"as":"gw-7","frob":1}`, nil, 400},
		{"/api/v1/inbox/" + code + "/approve", `{"as":"gw-7"} {}`, nil, 400},
		{"/api/v1/inbox/" + code + "/approve", strings.Repeat(" ", 20<<10), nil, 400},
		{"/api/v1/inbox/" + code + "/approve", `{"as":"GW"}`, nil, 400},
		{"/api/v1/inbox/" + code + "/approve", "", []string{"Origin", "http://evil.example"}, 403},
		{"/api/v1/inbox/KXQ7-2MPL/approve", "", nil, 404},
		{"/api/v1/inbox/" + code + "/refuse", "", nil, 400},
		{"/api/v1/inbox/" + refused + "/refuse", `{"why":"not ours"}`, nil, 200},
		{"/api/v1/inbox/" + code + "/approve", "", nil, 200},
		{"/api/v1/inbox/" + code + "/approve", "", nil, 200},
		{"/api/v1/inbox/" + code + "/refuse", `{"why":"no"}`, nil, 409},
		{"/api/v1/agents/graz/gw-9/revoke", "", nil, 404},
		{"/api/v1/agents/linz/gw-7/revoke", "", nil, 403},
		{RotatePath, "", nil, 400},
		{RotatePath, `{"grace":"1h"}`, nil, 400},
		{RotatePath, `{"grace":"721h","reason":"a drill"}`, nil, 400},
		{RotatePath, `{"grace":"1h","reason":"a drill"}`, []string{"Origin", "http://evil.example"}, 403},
	} {
		w := r.call(http.MethodPost, c.target, c.body, c.head...)
		if kind := w.Header().Get("Content-Type"); w.Code != c.status || w.Code != 200 && kind != "application/problem+json" {
			t.Errorf("%s %s is answered %d %s, want %d", c.target, c.body, w.Code, w.Body, c.status)
		}
		if w.Header().Get("Cache-Control") != "no-store" {
			t.Errorf("%s may be stored", c.target)
		}
	}
	has(t, r.call(http.MethodPost, RotatePath, `{"grace":"1h","reason":"a drill"}`), 200, `"key":"A`, `"until":"`)
	if last := r.acts[len(r.acts)-1]; last.Action != "signing-key.rotate" || last.Reason != "a drill" || last.Who != "anna" {
		t.Errorf("recorded %+v", last)
	}
	r.may = nil
	for _, target := range []string{"/api/v1/inbox/" + code + "/approve", "/api/v1/inbox/" + code + "/refuse", "/api/v1/agents/graz/gw-7/revoke", RotatePath} {
		has(t, r.call(http.MethodPost, target, ""), 403)
	}
	has(t, r.call(http.MethodGet, "/api/v1/inbox", ""), 403)
	if len(r.acts) != 3 {
		t.Errorf("recorded %+v", r.acts)
	}
	b, err := io.ReadAll(r.call(http.MethodGet, StylePath, "").Body)
	if err != nil || !strings.Contains(string(b), ".print") {
		t.Errorf("the style: %q, %v", b, err)
	}
}
