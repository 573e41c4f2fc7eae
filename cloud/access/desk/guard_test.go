package desk

import (
	"crypto/tls"
	"html"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"plantmesh/cloud/access"
)

const good = "seven green bottles"

func check(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}

// stand is a desk with a page, something to change, and a user anna.
type stand struct {
	http.Handler

	t      *testing.T
	access *access.Access

	changed int
	secure  bool
}

func open(t *testing.T, grants ...string) *stand {
	t.Helper()
	s := &stand{t: t}
	var err error
	s.access, err = access.Open(access.Config{Dir: t.TempDir(), Now: time.Now, Cost: access.Cost{Memory: 8, Time: 1}})
	check(t, err)
	d, err := New(Config{Access: s.access, Site: "graz", Loopback: true, Names: []string{"hub.example"}}, time.Now, slog.New(slog.DiscardHandler))
	check(t, err)
	s.Handler = d.Guard([]Route{
		{Pattern: "/", Needs: access.ReadProducts, Page: true, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.WriteString(w, "hello "+access.CallerOf(r.Context()).User)
		})},
		{Pattern: "/api/", Needs: access.ReadProducts, Handler: http.NotFoundHandler()},
		{Pattern: "GET /api/things/{id}", Needs: access.ReadProducts, Handler: http.NotFoundHandler()},
		{Pattern: "DELETE /api/things/{id}", Needs: access.ReadProducts, Handler: http.NotFoundHandler()},
		{Pattern: "POST /api/things/{id}/end", Needs: access.ReadProducts, Handler: http.NotFoundHandler()},
		{Pattern: "/api/change", Needs: access.ApproveAgents, Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) { s.changed++ })},
		{Pattern: "/api/long", Needs: access.ReadProducts, Long: true, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			<-r.Context().Done()
			_, _ = io.WriteString(w, "ended")
		})},
	})
	if len(grants) > 0 {
		var g []access.Grant
		for _, text := range grants {
			one, err := access.ParseGrant(text)
			check(t, err)
			g = append(g, one)
		}
		_, link, err := s.access.AddUser(access.Caller{Via: access.ViaCLI}, "anna", g, "")
		check(t, err)
		_, err = s.access.SetPassword(t.Context(), access.Caller{}, link, good)
		check(t, err)
	}
	return s
}

// ask sends a request as a browser does that shows our own page; change may make it another.
func (s *stand) ask(method, target string, fields url.Values, change ...func(*http.Request)) *http.Response {
	s.t.Helper()
	r := httptest.NewRequestWithContext(s.t.Context(), method, target, strings.NewReader(fields.Encode()))
	r.Host = "localhost"
	if s.secure {
		r.TLS = &tls.ConnectionState{}
	}
	if method == http.MethodPost {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.Header.Set("Sec-Fetch-Site", "same-origin")
	}
	for _, c := range change {
		c(r)
	}
	w := httptest.NewRecorder()
	s.ServeHTTP(w, r)
	return w.Result()
}

func with(c *http.Cookie) func(*http.Request) { return func(r *http.Request) { r.AddCookie(c) } }

func body(t *testing.T, r *http.Response) string {
	t.Helper()
	b, err := io.ReadAll(r.Body)
	check(t, err)
	return html.UnescapeString(string(b))
}

func (s *stand) signIn() *http.Cookie {
	s.t.Helper()
	r := s.ask(http.MethodPost, "/login", url.Values{"user": {"Anna "}, "password": {good}, "next": {"/x?y=1"}})
	if r.StatusCode != http.StatusSeeOther || r.Header.Get("Location") != "/x?y=1" || len(r.Cookies()) != 1 {
		s.t.Fatalf("login: %s, %v, %s", r.Status, r.Header, body(s.t, r))
	}
	return r.Cookies()[0]
}

func (s *stand) formToken(c *http.Cookie) string {
	s.t.Helper()
	return regexp.MustCompile(`name="csrf" value="([^"]+)"`).FindStringSubmatch(body(s.t, s.ask(http.MethodGet, "/account", nil, with(c))))[1]
}

func TestCookie_Flags(t *testing.T) {
	s := open(t, "operator")
	for _, secure := range []bool{false, true} {
		s.secure = secure
		c := s.signIn()
		want := "plantmesh=" + c.Value + "; Path=/; HttpOnly; SameSite=Lax"
		if secure {
			want = "__Host-plantmesh=" + c.Value + "; Path=/; HttpOnly; Secure; SameSite=Lax"
		}
		if c.Raw != want || len(c.Value) != 43 {
			t.Errorf("secure %v: %s", secure, c.Raw)
		}
		r := s.ask(http.MethodGet, "/account", nil, with(c))
		if hsts := r.Header.Get("Strict-Transport-Security"); (hsts != "") != secure {
			t.Errorf("secure %v: HSTS %q", secure, hsts)
		}
		for name, want := range map[string]string{
			"Content-Security-Policy": "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
			"X-Content-Type-Options":  "nosniff", "Cache-Control": "no-store", "Referrer-Policy": "no-referrer",
		} {
			if got := r.Header.Get(name); got != want {
				t.Errorf("%s: %q", name, got)
			}
		}
	}
}

// A cookie that somebody put into the browser before the login is worth nothing after it.
func TestLogin_MakesANewSession(t *testing.T) {
	s := open(t, "operator")
	fixed := &http.Cookie{Name: "plantmesh", Value: strings.Repeat("x", 43)}
	r := s.ask(http.MethodPost, "/login", url.Values{"user": {"anna"}, "password": {good}}, with(fixed))
	first := r.Cookies()[0]
	if first.Value == fixed.Value || s.ask(http.MethodGet, "/", nil, with(fixed)).StatusCode != http.StatusSeeOther {
		t.Error("a session can be fixed")
	}
	second := s.ask(http.MethodPost, "/login", url.Values{"user": {"anna"}, "password": {good}}, with(first)).Cookies()[0]
	if second.Value == first.Value {
		t.Error("a login keeps the session of before")
	}
	for c, status := range map[*http.Cookie]int{first: http.StatusSeeOther, second: http.StatusOK} {
		if got := s.ask(http.MethodGet, "/", nil, with(c)).StatusCode; got != status {
			t.Errorf("%d, want %d", got, status)
		}
	}
}

func TestGuard_Forgery(t *testing.T) {
	s := open(t, "operator")
	c := s.signIn()
	token := s.formToken(c)
	if other := s.formToken(s.signIn()); other == token || strings.Contains(token, c.Value) {
		t.Error("the form token is not the session's own")
	}
	form := url.Values{"csrf": {token}}
	for name, try := range map[string]struct {
		fields url.Values
		change func(*http.Request)
		ok     bool
	}{
		"our own form":   {form, func(*http.Request) {}, true},
		"our own script": {nil, func(r *http.Request) { r.Header.Set("X-CSRF-Token", token); r.Header.Del("Content-Type") }, true},
		"an older browser": {form, func(r *http.Request) {
			r.Header.Del("Sec-Fetch-Site")
			r.Header.Set("Origin", "http://localhost")
		}, true},
		"no token":             {nil, func(*http.Request) {}, false},
		"another's token":      {url.Values{"csrf": {token[:42] + "x"}}, func(*http.Request) {}, false},
		"in the address":       {nil, func(r *http.Request) { r.URL.RawQuery = form.Encode() }, false},
		"from another site":    {form, func(r *http.Request) { r.Header.Set("Sec-Fetch-Site", "cross-site") }, false},
		"from a sibling":       {form, func(r *http.Request) { r.Header.Set("Sec-Fetch-Site", "same-site") }, false},
		"nobody says where":    {form, func(r *http.Request) { r.Header.Del("Sec-Fetch-Site") }, false},
		"from another origin":  {form, func(r *http.Request) { r.Header.Del("Sec-Fetch-Site"); r.Header.Set("Origin", "http://evil.example") }, false},
		"from another port":    {form, func(r *http.Request) { r.Header.Del("Sec-Fetch-Site"); r.Header.Set("Origin", "http://localhost:81") }, false},
		"from no origin":       {form, func(r *http.Request) { r.Header.Del("Sec-Fetch-Site"); r.Header.Set("Origin", "null") }, false},
		"a form without end":   {url.Values{"a": {strings.Repeat("x", maxForm)}, "csrf": {token}}, func(*http.Request) {}, false},
		"as text":              {form, func(r *http.Request) { r.Header.Set("Content-Type", "text/plain") }, false},
		"with another's login": {form, func(r *http.Request) { r.Header.Set("Authorization", "Basic YTpi") }, false},
	} {
		before := s.changed
		r := s.ask(http.MethodPost, "/api/change", try.fields, with(c), try.change)
		if (s.changed > before) != try.ok || (r.StatusCode == http.StatusOK) != try.ok {
			t.Errorf("%s: %s", name, r.Status)
		}
	}
	_, bearer, err := s.access.CreateToken(access.Caller{Via: access.ViaCLI}, "anna", []access.Grant{{Role: access.Operator}}, time.Hour, "")
	check(t, err)
	if r := s.ask(http.MethodPost, "/api/change", nil, func(r *http.Request) { // a program has no page
		r.Header = http.Header{"Authorization": {"Bearer " + bearer}}
	}); r.StatusCode != http.StatusOK {
		t.Errorf("a program: %s", r.Status)
	}
	if r := s.ask(http.MethodPost, "/login", url.Values{"user": {"anna"}, "password": {good}}, func(r *http.Request) { r.Header.Set("Sec-Fetch-Site", "cross-site") }); r.StatusCode != http.StatusForbidden {
		t.Errorf("a login from another page: %s", r.Status)
	}
}

func TestGuard_AnswersWhoIsNobody(t *testing.T) {
	s := open(t)
	if r := s.ask(http.MethodGet, "/", nil); r.StatusCode != http.StatusOK {
		t.Errorf("while nobody has an account: %s", r.Status)
	}
	for target, want := range map[string]string{"/api/change": "plantmesh users add", "/account": ""} {
		r := s.ask(http.MethodGet, target, nil)
		if want == "" && r.Header.Get("Location") != "/login" || want != "" && (r.StatusCode != http.StatusForbidden || !strings.Contains(body(t, r), want)) {
			t.Errorf("%s while nobody has an account: %s", target, r.Status)
		}
	}
	if said := body(t, s.ask(http.MethodGet, "/login", nil)); !strings.Contains(said, "plantmesh users add") {
		t.Errorf("the login while nobody has an account: %s", said)
	}
	s = open(t, "viewer@graz")
	if r := s.ask(http.MethodGet, "/machines?line=1", nil); r.StatusCode != http.StatusSeeOther || r.Header.Get("Location") != "/login?next=%2Fmachines%3Fline%3D1" {
		t.Errorf("a page: %s %s", r.Status, r.Header.Get("Location"))
	}
	r := s.ask(http.MethodGet, "/api/long", nil)
	if said := body(t, r); r.StatusCode != http.StatusUnauthorized || r.Header.Get("Content-Type") != "application/problem+json" || r.Header.Get("WWW-Authenticate") == "" || !strings.Contains(said, `"status":401`) {
		t.Errorf("the API: %s %s", r.Status, said)
	}
	if r := s.ask(http.MethodGet, "/api/change", nil, with(s.signIn())); r.StatusCode != http.StatusForbidden || !strings.Contains(body(t, r), "you may not approve agents") {
		t.Errorf("a viewer: %s", r.Status)
	}
	for host, status := range map[string]int{"localhost:8080": 303, "127.0.0.1": 303, "[::1]:80": 303, "hub.example": 303, "HUB.example.:443": 303, "evil.example": 421, "192.0.2.1": 421, "": 421} {
		if got := s.ask(http.MethodGet, "/", nil, func(r *http.Request) { r.Host = host }).StatusCode; got != status {
			t.Errorf("host %q: %d", host, got)
		}
	}
}

func TestLogin_SaysNothingOfWhoThereIs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t, "operator")
		for i := range 7 {
			wrong := s.ask(http.MethodPost, "/login", url.Values{"user": {"anna"}, "password": {"x"}})
			nobody := s.ask(http.MethodPost, "/login", url.Values{"user": {"bert"}, "password": {"x"}})
			if a, b := body(t, wrong), body(t, nobody); a != b || wrong.StatusCode != nobody.StatusCode || len(wrong.Cookies()) > 0 {
				t.Errorf("try %d: %s, %s", i, wrong.Status, nobody.Status)
			}
			if want := i >= 5; (wrong.StatusCode == http.StatusTooManyRequests) != want || (wrong.Header.Get("Retry-After") != "") != want {
				t.Errorf("try %d: %s", i, wrong.Status)
			}
		}
		time.Sleep(2 * time.Second) //nolint:forbidigo // synctest
		s.signIn()
	})
}

func TestLocal(t *testing.T) {
	for next, want := range map[string]string{
		"": "/", "/": "/", "/a?b=c": "/a?b=c", "//evil.example": "/", `/\evil.example`: "/", "https://evil.example": "/", "javascript:x": "/", "/a\r\nSet-Cookie: x": "/", "/\t/evil.example": "/",
	} {
		if got := local(next); got != want {
			t.Errorf("%q: %q", next, got)
		}
	}
}

// From the link to the end, by the pages alone.
func TestPages_FromTheLinkToTheEnd(t *testing.T) {
	s := open(t, "admin")
	_, link, err := s.access.AddUser(access.Caller{Via: access.ViaCLI}, "bert", []access.Grant{{Role: access.Operator, Location: "graz"}}, "")
	check(t, err)
	at := FirstPath(link)
	for range 2 { // to look at it uses nothing up
		if said := body(t, s.ask(http.MethodGet, at, nil)); !strings.Contains(said, "bert") {
			t.Fatalf("the link says %s", said)
		}
	}
	for name, c := range map[string]struct{ password, again, says string }{
		"short": {"short", "short", "at least 12"}, "two": {good, good + "x", "two different"}, "common": {"password1234", "password1234", "tried first"},
	} {
		if said := body(t, s.ask(http.MethodPost, at, url.Values{"password": {c.password}, "again": {c.again}})); !strings.Contains(said, c.says) || !strings.Contains(said, "bert") {
			t.Errorf("%s: %s", name, said)
		}
	}
	both := url.Values{"password": {good}, "again": {good}}
	if said := body(t, s.ask(http.MethodPost, at, both)); !strings.Contains(said, "Your password is set") {
		t.Fatal(said)
	}
	if said := body(t, s.ask(http.MethodPost, at, both)); !strings.Contains(said, "not good any more") || strings.Contains(said, "bert") {
		t.Errorf("the link again: %s", said)
	}
	in := func() *http.Cookie {
		t.Helper()
		r := s.ask(http.MethodPost, "/login", url.Values{"user": {"bert"}, "password": {good}})
		if len(r.Cookies()) != 1 {
			t.Fatal(body(t, r))
		}
		return r.Cookies()[0]
	}
	c, other := in(), in()
	act := func(path string, fields url.Values) *http.Response {
		t.Helper()
		fields.Set("csrf", s.formToken(c))
		return s.ask(http.MethodPost, path, fields, with(c))
	}
	said := body(t, s.ask(http.MethodGet, "/account", nil, with(c)))
	id := regexp.MustCompile(`/account/sessions/([0-9a-f]+)/end`).FindStringSubmatch(said)
	if len(id) == 0 || !strings.Contains(said, "operator at graz") {
		t.Fatal(said)
	}
	act("/account/sessions/"+id[1]+"/end", url.Values{})
	if s.ask(http.MethodGet, "/", nil, with(other)).StatusCode != http.StatusSeeOther {
		t.Error("a session goes on that was ended")
	}
	made := body(t, act("/account/tokens", url.Values{"grant": {"viewer@graz"}, "days": {"30"}, "note": {"<b>report</b>"}}))
	token := regexp.MustCompile(`pmt_[A-Za-z0-9_-]{43}`).FindString(made)
	bearer := func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+token) }
	if r := s.ask(http.MethodGet, "/", nil, bearer); body(t, r) != "hello bert" {
		t.Errorf("by the token: %s", r.Status)
	}
	if r := s.ask(http.MethodGet, "/account", nil, bearer); r.StatusCode != http.StatusForbidden {
		t.Errorf("a token has an account: %s", r.Status)
	}
	for _, fields := range []url.Values{{"grant": {"admin"}, "days": {"30"}}, {"grant": {"viewer@graz"}, "days": {"401"}}, {"grant": {"viewer@graz"}, "days": {"x"}}} {
		if r := act("/account/tokens", fields); r.StatusCode != http.StatusForbidden || strings.Contains(body(t, r), "pmt_") {
			t.Errorf("a token of %v: %s", fields, r.Status)
		}
	}
	said = body(t, s.ask(http.MethodGet, "/account", nil, with(c)))
	id = regexp.MustCompile(`/account/tokens/([0-9a-f]+)/end`).FindStringSubmatch(said)
	if strings.Contains(said, token) || len(id) == 0 {
		t.Fatal(said)
	}
	act("/account/tokens/"+id[1]+"/end", url.Values{})
	if r := s.ask(http.MethodGet, "/", nil, bearer); r.StatusCode != http.StatusUnauthorized && r.StatusCode != http.StatusSeeOther {
		t.Errorf("by a token that ended: %s", r.Status)
	}
	const next = "eight green bottles"
	if said := body(t, act("/account/password", url.Values{"old": {"x"}, "password": {next}, "again": {next}})); !strings.Contains(said, "don't belong together") {
		t.Error(said)
	}
	if said := body(t, act("/account/password", url.Values{"old": {good}, "password": {next}, "again": {next}})); !strings.Contains(said, "is changed") {
		t.Error(said)
	}
	if s.ask(http.MethodGet, "/", nil, with(c)).StatusCode != http.StatusSeeOther {
		t.Error("a session outlives its password")
	}
	c = s.ask(http.MethodPost, "/login", url.Values{"user": {"bert"}, "password": {next}}).Cookies()[0]
	if r := act("/logout", url.Values{}); r.Header.Get("Location") != "/login" || r.Cookies()[0].MaxAge >= 0 {
		t.Errorf("logout: %s %v", r.Status, r.Header)
	}
	if s.ask(http.MethodGet, "/", nil, with(c)).StatusCode != http.StatusSeeOther {
		t.Error("a session goes on behind a logout")
	}
}

// Who reads a long answer is cut off when they may no more.
func TestGuard_LongAnswersEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t, "operator")
		_, token, err := s.access.CreateToken(access.Caller{Via: access.ViaCLI}, "anna", []access.Grant{{Role: access.Viewer}}, time.Hour, "")
		check(t, err)
		tokens, err := s.access.Tokens()
		check(t, err)
		done := make(chan string)
		go func() {
			done <- body(t, s.ask(http.MethodGet, "/api/long", nil, func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+token) }))
		}()
		select {
		case said := <-done:
			t.Fatalf("it ends by itself: %s", said)
		case <-time.After(30 * time.Minute):
		}
		_, err = s.access.EndToken(access.Caller{Via: access.ViaCLI}, tokens[0].ID, "", "")
		check(t, err)
		select {
		case <-done:
		case <-time.After(2 * lookEvery):
			t.Error("a token that ended goes on reading")
			_, err := s.access.End(access.Caller{Via: access.ViaCLI}, "anna", "")
			check(t, err)
			<-done
		}
	})
}

// A path that something is at, by another method, says by which; strangers are told nothing.
func TestGuard_SaysWhichMethodsAPathTakes(t *testing.T) {
	s := open(t)
	for _, c := range []struct{ method, path, allow, says string }{
		{http.MethodPut, "/api/things/7", "GET, HEAD, DELETE", "/api/things/7 takes GET, HEAD, DELETE, and not PUT"},
		{http.MethodGet, "/api/things/7/end", "POST", "/api/things/7/end takes POST, and not GET"},
		{http.MethodDelete, "/api/nothing", "", ""},
		{http.MethodGet, "/api/things/7", "", ""},
	} {
		w := httptest.NewRecorder()
		s.ServeHTTP(w, httptest.NewRequest(c.method, "http://localhost"+c.path, nil))
		want := http.StatusNotFound
		if c.allow != "" {
			want = http.StatusMethodNotAllowed
		}
		if w.Code != want || w.Header().Get("Allow") != c.allow || !strings.Contains(w.Body.String(), c.says) {
			t.Errorf("%s %s: %d, allow %q, %s", c.method, c.path, w.Code, w.Header().Get("Allow"), w.Body)
		}
	}
	peopled := open(t, "viewer@graz")
	w := httptest.NewRecorder()
	peopled.ServeHTTP(w, httptest.NewRequest(http.MethodPut, "http://localhost/api/things/7", nil))
	if w.Code != http.StatusUnauthorized || w.Header().Get("Allow") != "" {
		t.Errorf("a stranger is told %d %s", w.Code, w.Body)
	}
}
