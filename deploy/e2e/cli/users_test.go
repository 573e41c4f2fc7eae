package cli

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// browser is somebody at a hub that listens to all: it trusts the hub's authority alone.
type browser struct {
	t    *testing.T
	at   string
	http *http.Client
}

func (b *browser) do(method, path string, fields url.Values, token string) (*http.Response, string) {
	b.t.Helper()
	r, err := http.NewRequestWithContext(b.t.Context(), method, b.at+path, strings.NewReader(fields.Encode()))
	if err != nil {
		b.t.Fatal(err)
	}
	if method == http.MethodPost {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.Header.Set("Origin", b.at)
	} else {
		r.Body, r.ContentLength = http.NoBody, 0
	}
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := b.http.Do(r)
	if err != nil {
		b.t.Fatal(err)
	}
	defer resp.Body.Close()
	said, err := io.ReadAll(resp.Body)
	if err != nil {
		b.t.Fatal(err)
	}
	return resp, string(said)
}

// answers is do, and a status.
func (b *browser) answers(status int, path, token string) {
	b.t.Helper()
	if resp, said := b.do(http.MethodGet, path, nil, token); resp.StatusCode != status {
		b.t.Errorf("%s is answered %s %s, want %d", path, resp.Status, said, status)
	}
}

// A hub that listens to all, from nobody to the end of a user: people by link, password and
// session, programs by token.
func TestUsers_FromNobodyToTheEnd(t *testing.T) {
	t.Parallel()
	dir, files := folder(t), good()
	config := filepath.Join(dir, "hub.yaml")
	write(t, dir, map[string]string{"site.yaml": files["site.yaml"], "hub.yaml": strings.ReplaceAll(files["hub.yaml"], "127.0.0.1:0", "0.0.0.0:0")})
	oneLine(t, run(t, nil, "plantmesh", "serve", "--config", config), exitState, "nobody has an account at this hub yet", "plantmesh users add")
	link := must(t, "plantmesh", "users", "add", "--config", config, "--role", "operator@graz", "anna@plant.example")
	must(t, "plantmesh", "users", "add", "--config", config, "--role", "admin", "root")
	must(t, "plantmesh", "check", "--config", config)

	p := begin(t, dir, nil, "plantmesh", "serve", "--config", config)
	page, err := url.Parse(regexp.MustCompile(`page=(\S+)`).FindStringSubmatch(p.says(p.err, "hub is up", within))[1])
	if err != nil || page.Scheme != "https" {
		t.Fatalf("the page is at %s, %v", page, err)
	}
	trust := x509.NewCertPool()
	trust.AppendCertsFromPEM([]byte(must(t, "plantmesh", "authority", "--config", config)))
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: trust}}
	defer transport.CloseIdleConnections()
	b := &browser{t, "https://" + net.JoinHostPort("127.0.0.1", page.Port()), &http.Client{
		Transport: transport, Jar: jar, Timeout: within, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
	b.answers(http.StatusUnauthorized, "/api/v1/products", "")
	b.answers(http.StatusUnauthorized, "/metrics", "")
	b.answers(http.StatusOK, "/livez", "")
	if resp, _ := b.do(http.MethodGet, "/", nil, ""); resp.Header.Get("Location") != "/login" || resp.Header.Get("Strict-Transport-Security") == "" {
		t.Errorf("the page: %s %v", resp.Status, resp.Header)
	}
	if resp, err := http.DefaultClient.Get("http://" + strings.TrimPrefix(b.at, "https://")); err != nil || resp.StatusCode != http.StatusBadRequest {
		t.Errorf("without TLS: %v, %v", resp, err)
	} else {
		resp.Body.Close()
	}
	gatewayJoins(t, dir, config, b.at)
	b.signIn(link)
	b.answers(http.StatusOK, "/api/v1/products", "")
	b.answers(http.StatusOK, "/api/v1/products/oee/rows", "")
	b.answers(http.StatusOK, "/", "")

	token := must(t, "plantmesh", "tokens", "create", "--config", config, "--user", "anna@plant.example", "--role", "viewer@graz", "--for", "1h", "--note", "report")
	b.http.Jar = nil
	b.answers(http.StatusOK, "/api/v1/products", token)
	b.answers(http.StatusUnauthorized, "/api/v1/products", token+"x")
	live := b.live(token)
	if shown := must(t, "plantmesh", "users", "show", "--config", config, "anna@plant.example"); !strings.Contains(shown, "session ") || !strings.Contains(shown, "last used ") || strings.Contains(shown, token) {
		t.Errorf("users show says %q", shown)
	}
	must(t, "plantmesh", "users", "end", "--config", config, "--why", "has left", "anna@plant.example")
	b.answers(http.StatusUnauthorized, "/api/v1/products", token)
	b.http.Jar = jar
	b.answers(http.StatusUnauthorized, "/api/v1/products", "")
	select {
	case <-live:
	case <-time.After(within):
		t.Error("who was ended goes on reading the live feed")
	}
	oneLine(t, run(t, nil, "plantmesh", "users", "end", "--config", config, "root"), exitIdentity, "root is the last admin")
	for _, secret := range []string{token, filepath.Base(link), "seven green bottles"} {
		if strings.Contains(p.err.String(), secret) {
			t.Error("a secret is in the log")
		}
	}
}

// gatewayJoins lets a gateway in over HTTPS: it knows the hub by its authority alone.
func gatewayJoins(t *testing.T, dir, hub, at string) {
	t.Helper()
	key, ca, config := filepath.Join(dir, "key"), filepath.Join(dir, "ca.pem"), filepath.Join(dir, "gw", "edge.yaml")
	write(t, dir, map[string]string{"key": must(t, "plantmesh", "agents", "keys", "create", "--config", hub) + "\n", "ca.pem": must(t, "plantmesh", "authority", "--config", hub) + "\n"})
	args := []string{"enroll", "--config", config, "--agent", "gw-7", "--key-file", key}
	oneLine(t, run(t, nil, "plantmesh-edge", append(args, at)...), exitNetwork, "nobody whom this gateway trusts", "plantmesh authority", "--ca")
	must(t, "plantmesh-edge", append(args, "--ca", ca, at)...)
	must(t, "plantmesh-edge", "check", "--config", config, "--only", "net-page,net-tls")
	agent := begin(t, dir, nil, "plantmesh-edge", "run", "--config", config)
	agent.says(agent.err, "state=connected", within)
}

// signIn sets a password by a link, and signs in.
func (b *browser) signIn(link string) {
	b.t.Helper()
	u, err := url.Parse(link)
	if err != nil || u.Scheme != "https" {
		b.t.Fatalf("the link is %q, %v", link, err)
	}
	const password = "seven green bottles"
	if resp, said := b.do(http.MethodPost, u.Path, url.Values{"password": {password}, "again": {password}}, ""); resp.StatusCode != http.StatusOK || !strings.Contains(said, "Your password is set") {
		b.t.Fatalf("the link: %s %s", resp.Status, said)
	}
	resp, said := b.do(http.MethodPost, "/login", url.Values{"user": {"anna@plant.example"}, "password": {password}}, "")
	if cookie := resp.Header.Get("Set-Cookie"); resp.StatusCode != http.StatusSeeOther || !strings.HasPrefix(cookie, "__Host-plantmesh=") || !strings.Contains(cookie, "; Secure") || !strings.Contains(cookie, "; HttpOnly") {
		b.t.Fatalf("the login: %s %q %s", resp.Status, cookie, said)
	}
}

// live reads the live feed until it ends.
func (b *browser) live(token string) (ended chan error) {
	b.t.Helper()
	r, err := http.NewRequestWithContext(b.t.Context(), http.MethodGet, b.at+"/api/v1/live", http.NoBody)
	if err != nil {
		b.t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+token)
	client := *b.http
	client.Timeout = 0
	resp, err := client.Do(r)
	if err != nil || resp.StatusCode != http.StatusOK {
		b.t.Fatalf("the live feed: %v, %v", resp, err)
	}
	ended = make(chan error, 1)
	go func() {
		_, err := io.Copy(io.Discard, resp.Body)
		ended <- errors.Join(err, resp.Body.Close())
	}()
	return ended
}

// What --json says of users and tokens holds no hash, and its secret once.
func TestUsers_JSON(t *testing.T) {
	t.Parallel()
	dir, files := folder(t), good()
	config := filepath.Join(dir, "hub.yaml")
	write(t, dir, map[string]string{"site.yaml": files["site.yaml"], "hub.yaml": files["hub.yaml"]})
	args := func(words ...string) []string { return append(words, "--config", config, "--json") }
	said := must(t, "plantmesh", args("users", "add", "anna", "--role", "operator@graz/line1", "--role", "viewer")...)
	said += must(t, "plantmesh", args("users", "role", "grant", "anna", "admin", "--why", "holiday")...)
	said += must(t, "plantmesh", args("users", "role", "withdraw", "anna", "operator@graz/line1")...)
	said += must(t, "plantmesh", args("users", "reset", "anna")...)
	made := must(t, "plantmesh", args("tokens", "create", "--user", "anna", "--role", "viewer", "--for", "24h")...)
	var e struct {
		Data struct {
			Token string
			Is    struct{ ID string }
		}
	}
	if err := json.Unmarshal([]byte(made), &e); err != nil || !strings.HasPrefix(e.Data.Token, "pmt_") {
		t.Fatalf("%s: %v", made, err)
	}
	said += must(t, "plantmesh", args("users", "list")...) + must(t, "plantmesh", args("users", "show", "anna")...) + must(t, "plantmesh", args("tokens", "list")...)
	said += must(t, "plantmesh", args("tokens", "end", e.Data.Is.ID)...)
	if n := strings.Count(said, "/first/"); n != 2 || strings.Contains(said, e.Data.Token) || strings.Contains(said, "argon2") || !strings.Contains(said, `"roles":["admin","viewer"]`) {
		t.Errorf("%d links in %s", n, said)
	}
	oneLine(t, run(t, nil, "plantmesh", "tokens", "create", "--config", config, "--user", "anna", "--role", "viewer", "--for", "9601h"), exitIdentity, fmt.Sprint("at most ", 400, " days"))
}
