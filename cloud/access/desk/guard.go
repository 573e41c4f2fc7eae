// Package desk is where people and programs show who they are: the guard that every
// request passes, and the pages on which somebody signs in.
package desk

import (
	"context"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"log/slog"
	"mime"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"plantmesh/cloud/access"
)

// What a route needs beside the permissions of package access.
const (
	// Public is for everybody, and has to look after itself.
	Public access.Permission = "public"
	// Account is for everybody who signed in, about their own account.
	Account access.Permission = "own account"
)

const (
	// maxForm bounds a form, maxBody any other request.
	maxForm = 64 << 10
	maxBody = 1 << 20
	// bodyWithin bounds the time in which a request's body comes.
	bodyWithin = 30 * time.Second
	// lookEvery is how often it is looked whether who reads a long answer still may.
	lookEvery = 2 * time.Second
	// hsts is two years (OWASP ASVS 5.0 3.4.1 wants one at least); other ports of the
	// same name are not ours to speak for, so without subdomains.
	hsts = "max-age=63072000"
)

// Route is one entry of the table of all that a hub serves. A zero Needs is nobody's.
type Route struct {
	Pattern string // of http.ServeMux
	Needs   access.Permission
	// Anywhere: a permission at any location is enough, as the handler or Narrow looks
	// closer. Otherwise it must be that of the whole site.
	Anywhere bool
	// Narrow makes of a request one that asks for no more than who calls may see; false:
	// it asks for something else. Only asked where they may not see the whole site.
	Narrow func(r *http.Request, may func(location string) bool) (*http.Request, bool)
	// Page: people look at it, so who isn't signed in is led there.
	Page bool
	// Long: its answers go on, and end when who reads them may no more.
	Long bool
	// AnyHost: whatever name it is called by.
	AnyHost bool
	Handler http.Handler
}

// Config is what a desk must know of its hub.
type Config struct {
	Access *access.Access
	// Site is the location of all that has no narrower one.
	Site string
	// Loopback: nobody else reaches the listener, so its readers need no account while
	// there is none.
	Loopback bool
	// Names that requests may be sent to, beside localhost and addresses: a page
	// elsewhere could have its own name point here (DNS rebinding).
	Names []string
}

// Desk is the guard and its pages. Safe for concurrent use.
type Desk struct {
	cfg Config
	log *slog.Logger
	now func() time.Time

	pages *pages
}

// New makes a desk. now is the machine's clock.
func New(cfg Config, now func() time.Time, log *slog.Logger) (*Desk, error) {
	p, err := newPages()
	if err != nil {
		return nil, err
	}
	return &Desk{cfg: cfg, log: log, now: now, pages: p}, nil
}

// Guard serves routes, and each only to those who may. What is no route is nobody's.
func (d *Desk) Guard(routes []Route) http.Handler {
	mux := http.NewServeMux()
	for _, r := range append(slices.Clip(routes), d.routes()...) {
		if strings.HasSuffix(r.Pattern, "/") {
			r.Handler = wrongMethod(mux, r.Handler)
		}
		mux.Handle(r.Pattern, d.guard(r))
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		if r.TLS != nil {
			h.Set("Strict-Transport-Security", hsts)
		}
		if r.Body != nil && r.Body != http.NoBody {
			r.Body = http.MaxBytesReader(w, r.Body, maxBody)
			// One that knows no deadline is no connection, but a test.
			_ = http.NewResponseController(w).SetReadDeadline(d.now().Add(bodyWithin))
		}
		mux.ServeHTTP(w, r)
	})
}

// wrongMethod stands before what takes all paths that nothing else does: where something is
// at the very path, by other methods, it says which.
func wrongMethod(mux *http.ServeMux, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var allow []string
		for _, method := range []string{http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete} {
			as := *r
			as.Method = method
			if _, pattern := mux.Handler(&as); method != r.Method && strings.Contains(pattern, " ") {
				allow = append(allow, method)
			}
		}
		if len(allow) == 0 {
			next.ServeHTTP(w, r)
			return
		}
		w.Header().Set("Allow", strings.Join(allow, ", "))
		_ = say(w, http.StatusMethodNotAllowed, "method", r.URL.Path+" takes "+strings.Join(allow, ", ")+", and not "+r.Method) // a problem of texts is always encoded
	})
}

// guard is what stands before one route.
func (d *Desk) guard(route Route) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !route.AnyHost && !d.named(r.Host) {
			d.deny(w, r, http.StatusMisdirectedRequest, "host", "this hub answers to addresses and the names in http.names of hub.yaml only, not to "+r.Host)
			return
		}
		if route.Needs == Public {
			if route.Page && !safe(r) && !sameOrigin(r) {
				d.deny(w, r, http.StatusForbidden, "origin", "this comes from another page: open the hub's own, and try there")
				return
			}
			route.Handler.ServeHTTP(w, r)
			return
		}
		w.Header().Set("Cache-Control", "no-store")
		who, err := d.identify(r)
		if err != nil {
			d.unknown(w, r, route, err)
			return
		}
		if slug, why := d.forged(r, who); slug != "" {
			d.deny(w, r, http.StatusForbidden, slug, why)
			return
		}
		asked, ok := d.allowed(route, r, who)
		if !ok {
			d.forbid(w, r, route, who)
			return
		}
		asked = asked.WithContext(access.With(r.Context(), who))
		if !route.Long {
			route.Handler.ServeHTTP(w, asked)
			return
		}
		d.long(route, w, asked)
	})
}

// identify is who sends a request: by a token, by a cookie, or as a reader on this
// machine while nobody has an account. A token that is no good is not looked over.
func (d *Desk) identify(r *http.Request) (access.Identity, error) {
	from := addressOf(r)
	if shown := r.Header.Values("Authorization"); len(shown) > 0 {
		secret, ok := strings.CutPrefix(shown[0], "Bearer ")
		if !ok || len(shown) > 1 || len(secret) > 200 {
			return access.Identity{}, access.ErrNobody
		}
		return d.cfg.Access.ByToken(secret, from)
	}
	if secret := sessionOf(r); secret != "" {
		who, err := d.cfg.Access.BySession(secret, from)
		if !errors.Is(err, access.ErrNobody) {
			return who, err
		}
	}
	if !d.cfg.Loopback {
		return access.Identity{}, access.ErrNobody
	}
	peopled, err := d.cfg.Access.Peopled()
	if err != nil {
		return access.Identity{}, err
	}
	if peopled {
		return access.Identity{}, access.ErrNobody
	}
	return access.Loopback(from), nil
}

// allowed says whether somebody may have a route, and gives what they may ask of it.
func (d *Desk) allowed(route Route, r *http.Request, who access.Identity) (*http.Request, bool) {
	switch {
	case route.Needs == "":
		return r, false
	case route.Needs == Account:
		return r, who.Caller.Via == access.ViaSession
	case who.May(route.Needs, d.cfg.Site):
		return r, true
	case route.Narrow != nil:
		return route.Narrow(r, func(location string) bool { return who.May(route.Needs, location) })
	}
	return r, route.Anywhere && who.MayAnywhere(route.Needs)
}

// long serves a route as long as who reads may.
func (d *Desk) long(route Route, w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithCancel(r.Context())
	var g errgroup.Group
	g.Go(func() error {
		t := time.NewTicker(lookEvery)
		defer t.Stop()
		for {
			select {
			case <-ctx.Done():
				return nil
			case <-t.C:
			}
			who, err := d.identify(r)
			if err == nil {
				_, ok := d.allowed(route, r, who)
				if ok {
					continue
				}
			}
			cancel()
			return nil
		}
	})
	defer func() { // a handler that gives up by panic, too
		cancel()
		_ = g.Wait() // it has no error
	}()
	route.Handler.ServeHTTP(w, r.WithContext(ctx))
}

// forged says why a request that changes something is not taken: a page elsewhere can
// have a browser send it, with its cookie, but not from here and not with the session's
// form token (OWASP ASVS 5.0 3.5.1).
func (d *Desk) forged(r *http.Request, who access.Identity) (slug, why string) {
	if safe(r) || who.Caller.Via != access.ViaSession {
		return "", ""
	}
	if !sameOrigin(r) {
		return "origin", "this comes from another page: open the hub's own, and try there"
	}
	token := r.Header.Get("X-CSRF-Token")
	if kind, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type")); token == "" && kind == "application/x-www-form-urlencoded" {
		r.Body = http.MaxBytesReader(nil, r.Body, maxForm)
		if r.ParseForm() != nil {
			return "form", "this form is too long, or can't be read"
		}
		token = r.PostForm.Get("csrf")
	}
	want := access.FormTokenOf(access.With(r.Context(), who))
	if want == "" || subtle.ConstantTimeCompare([]byte(token), []byte(want)) != 1 {
		return "csrf", "this form is of another session: open the page again"
	}
	return "", ""
}

func safe(r *http.Request) bool {
	return r.Method == http.MethodGet || r.Method == http.MethodHead || r.Method == http.MethodOptions
}

// sameOrigin says whether a browser sends a request from one of our own pages. One that
// says nothing of it is no browser of today, and has no business with cookies.
func sameOrigin(r *http.Request) bool {
	if site := r.Header.Get("Sec-Fetch-Site"); site != "" {
		return site == "same-origin"
	}
	o, err := url.Parse(r.Header.Get("Origin"))
	scheme := "http"
	if r.TLS != nil {
		scheme = "https"
	}
	return err == nil && o.Scheme == scheme && o.Host != "" && strings.EqualFold(o.Host, r.Host)
}

// named says whether a request may be sent to a name. Addresses can't be rebound.
func (d *Desk) named(host string) bool {
	name := host
	if h, _, err := net.SplitHostPort(host); err == nil {
		name = h
	}
	name = strings.TrimSuffix(strings.ToLower(strings.Trim(name, "[]")), ".")
	ip := net.ParseIP(name)
	return name == "localhost" || slices.Contains(d.cfg.Names, name) || ip != nil && (ip.IsLoopback() || !d.cfg.Loopback)
}

// unknown answers who did not say who they are.
func (d *Desk) unknown(w http.ResponseWriter, r *http.Request, route Route, err error) {
	wait, waits := errors.AsType[*access.WaitError](err)
	switch {
	case waits:
		w.Header().Set("Retry-After", strconv.Itoa(int(wait.For/time.Second)+1))
		d.deny(w, r, http.StatusTooManyRequests, "tries", wait.Error())
	case !errors.Is(err, access.ErrNobody):
		d.log.ErrorContext(r.Context(), "who calls can't be read", "err", err)
		d.deny(w, r, http.StatusServiceUnavailable, "access", "this hub can't read who may do what; its log says why")
	case route.Page && safe(r):
		to := "/login"
		if r.URL.Path != "/" {
			to += "?next=" + url.QueryEscape(r.URL.RequestURI())
		}
		http.Redirect(w, r, to, http.StatusSeeOther)
	default:
		w.Header().Set("WWW-Authenticate", `Bearer realm="plantmesh"`)
		d.deny(w, r, http.StatusUnauthorized, "unauthorized", "say who you are: sign in at /login, or send a token that is good (plantmesh tokens create) as Authorization: Bearer")
	}
}

// forbid answers who may not.
func (d *Desk) forbid(w http.ResponseWriter, r *http.Request, route Route, who access.Identity) {
	why := "you may not " + string(route.Needs) + " here: an admin can give you a role that may"
	switch {
	case route.Needs == "":
		why = "nobody may have this"
	case who.Caller.Via == access.ViaLoopback && route.Page:
		http.Redirect(w, r, "/login", http.StatusSeeOther)
		return
	case who.Caller.Via == access.ViaLoopback:
		why = "nobody has an account at this hub yet, so nothing can be changed here: plantmesh users add makes the first one"
	case route.Needs == Account:
		why = "this is for people who signed in, not for tokens"
	}
	d.deny(w, r, http.StatusForbidden, "forbidden", why)
}

// deny is an answer that says what is wrong: a problem as RFC 9457 has it.
func (d *Desk) deny(w http.ResponseWriter, r *http.Request, status int, slug, detail string) {
	if err := say(w, status, slug, detail); err != nil {
		d.log.ErrorContext(r.Context(), "encode a problem", "err", err)
	}
}

func say(w http.ResponseWriter, status int, slug, detail string) error {
	b, err := json.Marshal(struct {
		Type   string `json:"type"`
		Title  string `json:"title"`
		Status int    `json:"status"`
		Detail string `json:"detail"`
	}{"urn:plantmesh:problem:" + slug, http.StatusText(status), status, detail})
	h := w.Header()
	h.Set("Content-Type", "application/problem+json")
	h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'")
	h.Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = w.Write(b) // who went away misses nothing
	return err
}

// addressOf is where a request comes from. Headers of proxies are not believed: anybody
// can send them.
func addressOf(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return ""
	}
	return host
}
