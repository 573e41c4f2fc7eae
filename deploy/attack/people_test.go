package attack

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"plantmesh/cloud/access"
	"plantmesh/cloud/hub"
	"plantmesh/proto/enroll"
)

// s11: whoever is of one line sees nothing of another, by whatever route.
func s11(t *testing.T, r *rig) {
	t.Helper()
	lena, vera := r.person(t, "viewer@graz/line1"), r.person(t, "viewer")
	for _, product := range []string{"equipment-state", "production-rate", "oee", "coverage", "signals"} {
		for _, way := range []string{"rows", "latest"} {
			base := "/api/v1/products/" + product + "/" + way
			for _, query := range []string{"?equipment=line2-press", "?equipment=line1-press,line2-press", "?equipment=line2", "?equipment=line1-press&equipment=line2-press"} {
				if a := r.ask(t, "127.0.5.1", http.MethodGet, base+query, "", by(lena)); a.status != http.StatusForbidden {
					t.Errorf("%s%s is answered %d %.200s", base, query, a.status, a.body)
				}
			}
			for who, p := range map[string]person{"lena": lena, "vera": vera} {
				if a := r.ask(t, "127.0.5.1", http.MethodGet, base+"?equipment=line1-press", "", by(p)); a.status != http.StatusOK {
					t.Errorf("control: %s of her own line for %s is answered %d %.200s", base, who, a.status, a.body)
				}
			}
		}
	}
	for _, target := range []string{"/api/v1/agents", "/api/v1/live", "/metrics", "/readyz"} {
		if a := r.ask(t, "127.0.5.1", http.MethodGet, target, "", by(lena)); a.status != http.StatusForbidden {
			t.Errorf("%s of the whole site is answered %d", target, a.status)
		}
	}
}

// c01: a page elsewhere can have a browser send nothing that counts.
func c01(t *testing.T, r *rig) {
	t.Helper()
	ada := r.person(t, "admin")
	code := r.asked(t, "127.0.6.2", "c01-1")
	targets := []string{
		"/logout", "/account/password", "/account/tokens", "/account/tokens/x/end", "/account/sessions/x/end",
		enroll.Page + code, "/api/v1/inbox/" + code + "/approve", "/api/v1/inbox/" + code + "/refuse", "/api/v1/agents/graz/c01-1/revoke", "/api/v1/signing-key/rotate",
	}
	for _, target := range targets {
		for name, change := range map[string]func(*http.Request){
			"no origin": func(q *http.Request) { q.AddCookie(&http.Cookie{Name: "__Host-plantmesh", Value: ada.cookie}) },
			"foreign origin": func(q *http.Request) {
				with(ada)(q)
				q.Header.Del("Sec-Fetch-Site")
				q.Header.Set("Origin", "https://evil.example")
			},
			"null origin":   func(q *http.Request) { with(ada)(q); q.Header.Del("Sec-Fetch-Site"); q.Header.Set("Origin", "null") },
			"cross-site":    func(q *http.Request) { with(ada)(q); q.Header.Set("Sec-Fetch-Site", "cross-site") },
			"same-site":     func(q *http.Request) { with(ada)(q); q.Header.Set("Sec-Fetch-Site", "same-site") },
			"no form token": with(ada),
		} {
			if a := r.ask(t, "127.0.6.1", http.MethodPost, target, "x=1", form(change)); a.status != http.StatusForbidden {
				t.Errorf("%s: %s is answered %d", name, target, a.status)
			}
		}
		if a := r.ask(t, "127.0.6.1", http.MethodPost, target, "csrf=wrong", form(with(ada))); a.status != http.StatusForbidden {
			t.Errorf("a wrong form token: %s is answered %d", target, a.status)
		}
	}
	for _, change := range []func(*http.Request){func(*http.Request) {}, func(q *http.Request) { q.Header.Set("Origin", "https://evil.example") }} {
		if a := r.ask(t, "127.0.6.1", http.MethodPost, "/login", "user=ada&password=x", form(change)); a.status != http.StatusForbidden {
			t.Errorf("a login from elsewhere is answered %d", a.status)
		}
	}
	page := r.ask(t, "127.0.6.1", http.MethodGet, "/account", "", with(ada))
	_, rest, ok := strings.Cut(page.body, `name="csrf" value="`)
	token, _, _ := strings.Cut(rest, `"`)
	if !ok || page.status != http.StatusOK {
		t.Fatalf("control: the account is answered %d, and has no form token", page.status)
	}
	if a := r.ask(t, "127.0.6.1", http.MethodPost, "/logout", "csrf="+token, form(with(ada))); a.status != http.StatusSeeOther {
		t.Errorf("control: signing out is answered %d", a.status)
	}
	if a := r.ask(t, "127.0.6.1", http.MethodGet, "/account", "", with(ada)); a.status != http.StatusSeeOther {
		t.Errorf("a session that was signed out is answered %d", a.status)
	}
}

// c02: guessing passwords is slow, tells nothing, and a session can't be given to
// somebody.
func c02(t *testing.T, r *rig) {
	t.Helper()
	vera, olga, lena := r.person(t, "viewer"), r.person(t, "operator"), r.person(t, "viewer@graz/line1")
	attempt := func(from, name, word string) answer {
		return r.ask(t, from, http.MethodPost, "/login", "user="+name+"&password="+word, form(browser))
	}
	known, unknown := attempt("127.0.7.1", vera.name, "wrong+wrong+wrong"), attempt("127.0.7.2", "nobody", "wrong+wrong+wrong")
	strip := func(s string) string { return strings.NewReplacer(vera.name, "NAME", "nobody", "NAME").Replace(s) }
	if known.status != unknown.status || strip(known.body) != strip(unknown.body) {
		t.Errorf("a name that is known is told apart: %d, %d", known.status, unknown.status)
	}
	looked := 0
	for i := range 60 { // one account, from everywhere
		if a := attempt(fmt.Sprintf("127.0.7.%d", 10+i), olga.name, "guess"+strconv.Itoa(i)); a.status != http.StatusTooManyRequests {
			looked++
		} else if a.head.Get("Retry-After") == "" {
			t.Error("it is not said how long to wait")
		}
	}
	if looked > 12 {
		t.Errorf("of 60 guesses at one account %d were looked at", looked)
	}
	looked = 0
	for i := range 120 { // many accounts, from one address
		if a := attempt("127.0.7.100", "user"+strconv.Itoa(i), "guess"); a.status != http.StatusTooManyRequests {
			looked++
		}
	}
	if looked > 60 {
		t.Errorf("of 120 guesses of one address %d were looked at", looked)
	}
	// Fixation: a cookie that somebody brings is not the one they get.
	planted := "planted-by-somebody-else"
	a := r.ask(t, "127.0.7.150", http.MethodPost, "/login", credentials(lena.name), form(func(q *http.Request) {
		browser(q)
		q.AddCookie(&http.Cookie{Name: "__Host-plantmesh", Value: planted})
	}))
	set := a.head.Get("Set-Cookie")
	for _, want := range []string{"__Host-plantmesh=", "HttpOnly", "Secure", "SameSite=", "Path=/"} {
		if !strings.Contains(set, want) || strings.Contains(set, planted) || strings.Contains(set, "Domain") {
			t.Errorf("the cookie is %q, and lacks %s", set, want)
		}
	}
	if a := r.ask(t, "127.0.7.151", http.MethodGet, "/account", "", with(person{cookie: planted})); a.status == http.StatusOK {
		t.Error("a planted cookie is a session")
	}
}

// c03: every answer says what a browser may do with it, and no page runs what is in it.
func c03(t *testing.T, r *rig) {
	t.Helper()
	ada := r.person(t, "admin")
	for _, target := range []string{"/", "/login", "/account", "/first/x", "/desk.css", "/livez", "/readyz", "/metrics", "/api/v1/products", "/api/v1/agents", "/api/v1/inbox", "/api/v1/audit", enroll.Page + "KXQ7-2MPL", "/nothing", "/api/nothing", "/%2e%2e/etc/passwd"} {
		for _, p := range []func(*http.Request){nil, with(ada)} {
			a := r.ask(t, "127.0.9.1", http.MethodGet, target, "", p)
			if a.head.Get("X-Content-Type-Options") != "nosniff" || a.head.Get("Strict-Transport-Security") == "" || a.head.Get("Referrer-Policy") == "" {
				t.Errorf("%s %d: headers %v", target, a.status, a.head)
			}
			csp := a.head.Get("Content-Security-Policy")
			if html := strings.Contains(a.head.Get("Content-Type"), "html"); html && a.status < 300 && (!strings.Contains(csp, "frame-ancestors 'none'") || strings.Contains(csp, "unsafe-inline") && strings.Contains(csp, "script-src")) {
				t.Errorf("%s %d: policy %q", target, a.status, csp)
			}
		}
	}
}

// TestAttack_C04: who is slow, or sends too much, costs little and keeps nobody out.
func TestAttack_C04(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	vera := r.person(t, "viewer")
	host := strings.TrimPrefix(r.page, "https://")
	before := rss(t, r.cmd.Process.Pid)
	var slow []net.Conn
	for range 200 { // they say a line, and then nothing
		c, err := tls.Dial("tcp", host, &tls.Config{InsecureSkipVerify: true})
		check(t, err)
		_, err = io.WriteString(c, "GET / HTTP/1.1\r\nHost: localhost\r\nX-A: ")
		check(t, err)
		slow = append(slow, c)
	}
	t.Cleanup(func() {
		for _, c := range slow {
			_ = c.Close()
		}
	})
	if a := r.ask(t, "127.0.10.1", http.MethodGet, "/api/v1/products", "", by(vera)); a.status != http.StatusOK {
		t.Errorf("beside 200 slow ones: %d", a.status)
	}
	large := func(target, kind string) int {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, r.page+target, io.LimitReader(zeros{}, 1<<30))
		check(t, err)
		req.ContentLength = 1 << 30
		req.Header.Set("Content-Type", kind)
		browser(req)
		c := r.client("127.0.10.2")
		defer c.CloseIdleConnections()
		resp, err := c.Do(req)
		if err != nil {
			return 0 // it hung up
		}
		check(t, resp.Body.Close())
		return resp.StatusCode
	}
	for _, target := range []string{"/login", "/first/x"} {
		if got := large(target, "application/x-www-form-urlencoded"); got != 0 && got < 400 {
			t.Errorf("a GiB at %s is answered %d", target, got)
		}
	}
	for _, query := range []string{
		"?equipment=" + strings.Repeat("line1-press,", 2000), "?limit=100000000", "?limit=-1", "?limit=9999999999999999999", "?from=x", "?from=0001-01-01T00:00:00Z&to=9999-01-01T00:00:00Z",
		"?fields=" + strings.Repeat("a,", 3000), "?cursor=" + strings.Repeat("A", 6000), "?format=xml", "?" + strings.Repeat("a=1&", 3000),
	} {
		if a := r.ask(t, "127.0.10.3", http.MethodGet, "/api/v1/products/signals/rows"+query, "", by(vera)); a.status >= 500 && a.status != http.StatusServiceUnavailable {
			t.Errorf("%.60s is answered %d %.200s", query, a.status, a.body)
		}
	}
	if a := r.ask(t, "127.0.10.4", http.MethodGet, "/"+strings.Repeat("x", 60_000), "", by(vera)); a.status < 400 {
		t.Errorf("a long path is answered %d", a.status)
	}
	if grown := rss(t, r.cmd.Process.Pid) - before; grown > 150 {
		t.Errorf("the hub has grown by %d MiB", grown)
	}
	until(t, "the slow ones are hung up on", func() bool {
		check(t, slow[0].SetReadDeadline(time.Now().Add(100*time.Millisecond)))
		_, err := io.Copy(io.Discard, slow[0])
		return !errors.Is(err, os.ErrDeadlineExceeded)
	})
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) { clear(b); return len(b), nil }

// rss is what a process has in memory, in MiB.
func rss(t *testing.T, pid int) int {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Skip("no /proc here to look at a process's memory")
	}
	_, rest, _ := strings.Cut(string(b), "VmRSS:")
	kib, err := strconv.Atoi(strings.Fields(rest)[0])
	check(t, err)
	return kib >> 10
}

// c06: paths and headers lead nowhere else.
func c06(t *testing.T, r *rig) {
	t.Helper()
	ada := r.person(t, "admin")
	for _, target := range []string{
		"/../../../etc/passwd", "/%2e%2e/%2e%2e/hub/registry/keys.json", "/assets/../../hub/registry/keys.json", "/assets/%2e%2e%2f%2e%2e%2fkeys.json",
		"/api/v1/products/..%2f..%2fregistry/rows", "/api/v1/products/%00/rows", "/first/..%2f..%2fregistry%2fkeys",
	} {
		for _, p := range []func(*http.Request){nil, by(ada)} {
			if a := r.ask(t, "127.0.11.1", http.MethodGet, target, "", p); strings.Contains(a.body, "root:") || strings.Contains(a.body, "seed") {
				t.Errorf("%s gives %.200s", target, a.body)
			}
		}
	}
	if a := r.ask(t, "127.0.11.1", http.MethodGet, "/login", "", func(q *http.Request) { q.Host = "evil.example" }); a.status != http.StatusMisdirectedRequest {
		t.Errorf("under another name it is answered %d", a.status)
	}
	for _, next := range []string{"//evil.example", "https://evil.example", "/\\evil.example", "/%09/evil.example", "javascript:alert(1)"} {
		a := r.ask(t, "127.0.11.1", http.MethodPost, "/login", credentials(ada.name)+"&next="+next, form(browser))
		if to := a.head.Get("Location"); a.status != http.StatusSeeOther || to != "/" {
			t.Errorf("next %s leads to %d %q", next, a.status, to)
		}
	}
}

// c07: an event stream is for who may read it, and ends when they may no more.
func c07(t *testing.T, r *rig) {
	t.Helper()
	vera := r.person(t, "viewer")
	for name, change := range map[string]func(*http.Request){
		"nobody": nil, "a wrong token": by(person{token: access.TokenPrefix + strings.Repeat("A", 43)}), "a wrong cookie": with(person{cookie: "x"}),
	} {
		if a := r.ask(t, "127.0.12.1", http.MethodGet, "/api/v1/live", "", change); a.status != http.StatusUnauthorized {
			t.Errorf("%s: %d", name, a.status)
		}
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, r.page+"/api/v1/live", http.NoBody)
	check(t, err)
	by(vera)(req)
	c := r.client("127.0.12.2")
	c.Timeout = 0
	defer c.CloseIdleConnections()
	resp, err := c.Do(req)
	check(t, err)
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK || resp.Header.Get("Access-Control-Allow-Origin") != "" {
		t.Fatalf("control: %s %v", resp.Status, resp.Header)
	}
	a, err := hub.Access(r.cfg)
	check(t, err)
	_, err = a.End(access.Caller{User: "root", Via: access.ViaCLI}, vera.name, "")
	check(t, err)
	began := time.Now()
	ended := make(chan struct{})
	go func() { _, _ = io.Copy(io.Discard, resp.Body); close(ended) }()
	select {
	case <-ended:
		t.Logf("ended %s after its reader had", time.Since(began).Round(time.Millisecond))
	case <-time.After(10 * time.Second):
		t.Error("the stream goes on 10 s after its reader's account has ended")
	}
	if a := r.ask(t, "127.0.12.3", http.MethodGet, "/api/v1/products", "", by(vera)); a.status != http.StatusUnauthorized {
		t.Errorf("the token of one who has ended is answered %d", a.status)
	}
}

// hidden: nothing that was typed or made stands in the log, nor in a file, and what is kept of
// it nobody else reads.
func hidden(t *testing.T, r *rig) {
	t.Helper()
	log := r.said.String()
	for _, s := range r.secrets {
		if strings.Contains(log, s) {
			t.Errorf("the log says %.6s…", s)
		}
	}
	check(t, filepath.WalkDir(r.cfg.Data, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return nil //nolint:nilerr // it was removed meanwhile
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return nil //nolint:nilerr // it was removed meanwhile
		}
		for _, s := range r.secrets {
			if strings.Contains(string(b), s) {
				t.Errorf("%s holds %.6s…", path, s)
			}
		}
		if strings.Contains(path, "access") || strings.Contains(path, "registry") {
			if info.Mode().Perm()&0o077 != 0 {
				t.Errorf("%s has mode %s", path, info.Mode())
			}
		}
		return nil
	}))
}
