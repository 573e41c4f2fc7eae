package page

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"
)

// gateway is an agent that has something nasty in each text.
type gateway struct {
	checking chan struct{} // closed: checks go on
	asked    chan string   // patterns
}

const nasty = `<script>alert(1)</script>"'>`

func (g gateway) Look() Look {
	rows := []Row{{nasty, nasty, Bad}}
	return Look{
		Gateway: "gw-1" + nasty, Site: nasty, Version: nasty, Up: nasty, Config: nasty, Health: Warn, Says: []string{nasty},
		Boxes:   []Box{{Name: nasty, Health: Bad, Figure: nasty, Lines: []string{nasty}}},
		Sources: []Source{{Name: nasty, Protocol: nasty, Endpoint: nasty, Health: Warn, State: nasty, Rows: rows, Command: nasty}},
		Buffer:  Buffer{Health: OK, Percent: 12.34, Rows: rows, Aside: rows, Rules: rows},
	}
}

func (g gateway) Check(ctx context.Context) (Checks, error) {
	select {
	case <-g.checking:
	case <-ctx.Done():
		return Checks{}, ctx.Err()
	}
	return Checks{Summary: nasty, Sections: []Section{
		{nasty, []Checked{{nasty, nasty, nasty, nasty, nasty, Warn, nasty}, {nasty, nasty, nasty, nasty, nasty, OK, nasty}}},
		{nasty, []Checked{{nasty, nasty, nasty, nasty, nasty, Bad, nasty}}},
	}}, nil
}

func (g gateway) Listen(_ context.Context, pattern string, tell func([]Value) error) error {
	if pattern == "[" {
		return errors.New("no pattern")
	}
	g.asked <- pattern
	return tell([]Value{{Signal: nasty, Value: nasty, Quality: "bad"}})
}

// site is a page at a time of its own.
type site struct {
	*Page

	now time.Time
}

func open(t *testing.T) (*site, gateway) {
	t.Helper()
	g := gateway{checking: make(chan struct{}), asked: make(chan string, 1)}
	s := &site{now: time.Unix(1_800_000_000, 0)}
	var err error
	if s.Page, err = New(Config{Listen: "127.0.0.1:8088"}, g, func() time.Time { return s.now }); err != nil {
		t.Fatal(err)
	}
	return s, g
}

// ask asks as a browser does that was given a session.
func (s *site) ask(method, path, session string, set ...string) *http.Response {
	r := httptest.NewRequest(method, "http://127.0.0.1:8088"+path, nil)
	if session != "" {
		r.AddCookie(&http.Cookie{Name: cookie, Value: session})
	}
	for i := 0; i < len(set); i += 2 {
		if set[i] == "Host" {
			r.Host = set[i+1]
			continue
		}
		r.Header.Set(set[i], set[i+1])
	}
	w := httptest.NewRecorder()
	s.Handler().ServeHTTP(w, r)
	return w.Result()
}

func (s *site) key() string {
	link, _ := s.Invite()
	u, err := url.Parse(link)
	if err != nil || u.Host != "127.0.0.1:8088" {
		panic(link)
	}
	return u.RequestURI()
}

// come gives the session that a link leads to; empty: none.
func (s *site) come(t *testing.T, link string) string {
	t.Helper()
	r := s.ask("GET", link, "")
	for _, c := range r.Cookies() {
		if c.Name == cookie && r.StatusCode == http.StatusOK {
			if !c.HttpOnly || c.SameSite != http.SameSiteStrictMode || c.Path != "/" {
				t.Errorf("%+v", c)
			}
			return c.Value
		}
	}
	return ""
}

func text(t *testing.T, r *http.Response) string {
	t.Helper()
	var b strings.Builder
	if _, err := io.Copy(&b, r.Body); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestDoor_LinksLetOneBrowserInOnce(t *testing.T) {
	s, _ := open(t)
	for _, path := range []string{"/", "/sources", "/live", "/live/stream", "/buffer", "/checks", "/nothing"} {
		if r := s.ask("GET", path, ""); r.StatusCode != http.StatusUnauthorized || strings.Contains(text(t, r), "gw-1") {
			t.Errorf("%s without a session: %d", path, r.StatusCode)
		}
		if r := s.ask("GET", path, "guessed"); r.StatusCode != http.StatusUnauthorized {
			t.Errorf("%s with a guessed session: %d", path, r.StatusCode)
		}
	}
	link := s.key()
	session := s.come(t, link)
	if session == "" || s.ask("GET", "/", session).StatusCode != http.StatusOK {
		t.Fatal("the link lets nobody in")
	}
	if s.come(t, link) != "" {
		t.Error("the link lets somebody in twice")
	}
	late := s.key()
	s.now = s.now.Add(inviteFor + time.Second)
	if s.come(t, late) != "" {
		t.Error("a link of before lets somebody in")
	}
	if s.ask("GET", "/", session).StatusCode != http.StatusOK {
		t.Fatal("who looked a while ago is put out")
	}
	// Who looks stays in, but not for ever; who does not, leaves.
	for range 7 {
		s.now = s.now.Add(sessionIdle - time.Second)
		if s.ask("GET", "/", session).StatusCode != http.StatusOK {
			t.Fatal("who looks is put out")
		}
	}
	s.now = s.now.Add(sessionIdle)
	if s.ask("GET", "/", session).StatusCode == http.StatusOK {
		t.Error("a session has no end")
	}
	idle := s.come(t, s.key())
	s.now = s.now.Add(sessionIdle + time.Second)
	if s.ask("GET", "/", idle).StatusCode == http.StatusOK {
		t.Error("who does nothing stays")
	}
	gone := s.come(t, s.key())
	s.ask("POST", "/leave", gone)
	if s.ask("GET", "/", gone).StatusCode == http.StatusOK {
		t.Error("who left is still in")
	}
	first := s.come(t, s.key())
	for range maxSessions {
		s.now = s.now.Add(time.Second)
		s.come(t, s.key())
	}
	if len(s.doors.sessions) != maxSessions || s.ask("GET", "/", first).StatusCode == http.StatusOK {
		t.Errorf("%d sessions", len(s.doors.sessions))
	}
	for range 2 * maxInvites {
		s.key()
	}
	if len(s.doors.invites) != maxInvites {
		t.Errorf("%d links", len(s.doors.invites))
	}
}

// Another site's page must not read this one under a name of its own, nor press its button.
func TestPage_OtherSitesCanDoNothing(t *testing.T) {
	s, g := open(t)
	close(g.checking)
	session := s.come(t, s.key())
	for host, want := range map[string]int{
		"127.0.0.1:8088": 200, "localhost:9000": 200, "[::1]:8088": 200, "127.0.0.1": 200,
		"evil.example:8088": 421, "127.0.0.1.evil.example": 421, "localhost.evil.example": 421, "10.0.0.7:8088": 421, "": 421,
	} {
		r := s.ask("GET", "/", session, "Host", host)
		if r.StatusCode != want || want != 200 && strings.Contains(text(t, r), "gw-1") {
			t.Errorf("as %q: %d, want %d", host, r.StatusCode, want)
		}
	}
	for _, from := range [][]string{{"Origin", "http://evil.example"}, {"Sec-Fetch-Site", "cross-site"}, {"Sec-Fetch-Site", "same-site"}} {
		if r := s.ask("POST", "/checks", session, from...); r.StatusCode != http.StatusForbidden {
			t.Errorf("from %v: %d", from, r.StatusCode)
		}
	}
	if r := s.ask("POST", "/checks", session, "Sec-Fetch-Site", "same-origin"); r.StatusCode != http.StatusOK {
		t.Errorf("its own button: %d", r.StatusCode)
	}
	for _, method := range []string{"PUT", "DELETE", "POST"} {
		if r := s.ask(method, "/", session); r.StatusCode != http.StatusMethodNotAllowed {
			t.Errorf("%s: %d", method, r.StatusCode)
		}
	}
}

// What devices say is text, whatever it looks like; and nothing is fetched from elsewhere.
func TestPage_ShowsTextsAsTexts(t *testing.T) {
	s, g := open(t)
	session := s.come(t, s.key())
	close(g.checking)
	s.ask("POST", "/checks", session)
	nonces := map[string]bool{}
	for _, path := range []string{"/", "/sources", "/live", "/buffer", "/checks"} {
		r := s.ask("GET", path, session)
		body, policy := text(t, r), r.Header.Get("Content-Security-Policy")
		_, rest, _ := strings.Cut(policy, "script-src 'nonce-")
		nonce, _, _ := strings.Cut(rest, "'")
		if r.StatusCode != http.StatusOK || nonce == "" || nonces[nonce] || !strings.HasPrefix(policy, "default-src 'none'; ") || strings.Contains(policy, "unsafe") {
			t.Errorf("%s: %d, %s", path, r.StatusCode, policy)
		}
		nonces[nonce] = true
		if strings.Contains(body, "<script>") || strings.Contains(body, "alert(1)</script>") {
			t.Errorf("%s runs what a device says", path)
		}
		if strings.Count(body, "nonce=\""+nonce+"\"") < 1 || strings.Contains(body, "http://") || strings.Contains(body, "https://") || strings.Contains(body, "ZgotmplZ") {
			t.Errorf("%s:\n%s", path, body)
		}
		for h, want := range map[string]string{"X-Frame-Options": "DENY", "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer", "Cache-Control": "no-store"} {
			if r.Header.Get(h) != want {
				t.Errorf("%s: %s is %q", path, h, r.Header.Get(h))
			}
		}
	}
	r := s.ask("GET", "/live/stream?pattern=*.press", session)
	if body := text(t, r); <-g.asked != "*.press" || r.Header.Get("Content-Type") != "text/event-stream" || !strings.HasPrefix(body, "data: [{\"signal\":\"\\u003cscript") || !strings.HasSuffix(body, "\n\n") {
		t.Errorf("%s", body)
	}
	if r := s.ask("GET", "/live/stream?pattern=[", session); r.StatusCode != http.StatusConflict {
		t.Errorf("a pattern that is none: %d", r.StatusCode)
	}
}

// Who holds a phone sees first what is wrong, then what could be.
func TestChecks_WhatNeedsALookIsFirst(t *testing.T) {
	s, g := open(t)
	session := s.come(t, s.key())
	close(g.checking)
	body := text(t, s.ask("POST", "/checks", session))
	_, found, _ := strings.Cut(body, "What needs a look")
	found, rest, _ := strings.Cut(found, "<h2>")
	bad, warn := strings.Index(found, `class="bad"`), strings.Index(found, `class="warn"`)
	if bad < 0 || warn < bad || strings.Contains(found, `class="ok"`) {
		t.Errorf("what needs a look:\n%s", found)
	}
	if strings.Count(rest, `class="ok"`) != 1 || strings.Contains(rest, "what helps") {
		t.Errorf("all of it:\n%s", rest)
	}
}

func TestChecks_OneRunAtATime(t *testing.T) {
	s, g := open(t)
	session := s.come(t, s.key())
	done := make(chan string)
	go func() { done <- text(t, s.ask("POST", "/checks", session)) }()
	for {
		if _, busy := s.checks.state(); busy {
			break
		}
	}
	if body := text(t, s.ask("POST", "/checks", session)); !strings.Contains(body, "they run") {
		t.Error(body)
	}
	close(g.checking)
	if body := <-done; strings.Contains(body, "they run") || !strings.Contains(body, "Run the checks again") {
		t.Error(body)
	}
}

func TestConfig_IsOfThisMachineAlone(t *testing.T) {
	for listen, good := range map[string]bool{
		"": true, "127.0.0.1:8088": true, "localhost:8088": true, "[::1]:8088": true,
		"0.0.0.0:8088": false, ":8088": false, "192.168.1.7:8088": false, "gw-1:8088": false, "127.0.0.1": false, "127.0.0.1:0": false, "[::]:8088": false,
	} {
		if err := (&Config{Listen: listen}).Validate(); (err == nil) != good {
			t.Errorf("%q: %v", listen, err)
		}
	}
}
