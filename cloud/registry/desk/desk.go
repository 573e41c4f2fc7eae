// Package desk is where people decide which gateways are let in: a page for each that
// asks, and the same for programs. Who calls, and what they may, is told by the root.
package desk

import (
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"html/template"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"plantmesh/cloud/registry"
	"plantmesh/proto/enroll"
	"plantmesh/proto/revision"
)

// Permissions that the root is asked for.
const (
	Read    = "agents.read"
	Approve = "agents.approve"
	Revoke  = "agents.revoke"
	Rotate  = "signing-key.rotate"
)

// Book is the registry as the desk needs it. Safe for concurrent use; what it changed is
// recorded, on the disk and in force when it returns.
type Book interface {
	// Look gives the gateways that ask, and those that are in.
	Look() (asking []registry.Petition, in []registry.Agent, err error)
	Approve(shown, as string, by registry.Actor) (registry.Petition, error)
	Refuse(shown, why string, by registry.Actor) (registry.Petition, error)
	Revoke(site, agent, why string, by registry.Actor) (registry.Revocation, error)
}

// Keys are those that sign agents' tokens. Safe for concurrent use; what it changed is
// recorded and on the disk when it returns.
type Keys interface {
	// Rotate has another key sign; grace is for how long those of before are good. It
	// gives what is answered.
	Rotate(grace time.Duration, why string, by registry.Actor) (any, error)
}

// Config is what a desk needs of its root. Its funcs are safe for concurrent use.
type Config struct {
	Site     string
	Lifetime time.Duration // of tokens
	Book     Book
	Keys     Keys
	Invites  Invites
	Shelf    Shelf
	Readers  Readers
	// Carry answers a request that came in a file, and thereby approves it; at is where the
	// gateway is to send, empty: where this hub listens.
	Carry func(signed enroll.Signed, as, at string, by registry.Actor) (enroll.Answer, error)
	// Authority is the certificate by which the hub's listeners are known, in PEM.
	Authority func() string
	// Who is who calls, for the record.
	Who func(*http.Request) registry.Actor
	// Token is what a form must bring back as csrf; whether it did, the guard before the
	// desk sees. Empty: there is none.
	Token func(*http.Request) string
	// May is nil where who calls has a permission at a location; else it says why not.
	May func(r *http.Request, permission, location string) error
	Now func() time.Time
	Log *slog.Logger
}

// Desk is the pages and their handlers. Safe for concurrent use.
type Desk struct {
	cfg  Config
	page *template.Template
}

//go:embed pages
var files embed.FS

// policy lets a page show itself and send its form to where it came from; nothing else.
const policy = "default-src 'none'; style-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"

const (
	// StylePath is where the pages' style is.
	StylePath = enroll.Page + "desk.css"
	// RotatePath is where another key is made that signs agents' tokens.
	RotatePath = "/api/v1/signing-key/rotate"
	maxForm    = 16 << 10
	maxName    = 63
	maxWhy     = 500
	// quiet is how long one that waits may say nothing before the page says so.
	quiet = time.Minute
)

// New makes a desk.
func New(cfg Config) (*Desk, error) {
	t, err := template.New("").Funcs(template.FuncMap{"when": func(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 UTC") }}).ParseFS(files, "pages/*.html")
	if err != nil {
		return nil, fmt.Errorf("read the desk's pages: %w", err)
	}
	return &Desk{cfg: cfg, page: t}, nil
}

// Handlers are the desk's, by pattern of http.ServeMux.
func (d *Desk) Handlers() map[string]http.HandlerFunc {
	return map[string]http.HandlerFunc{
		"GET " + StylePath:                          d.style,
		"GET " + enroll.Page + "{code}":             d.show,
		"POST " + enroll.Page + "{code}":            d.decide,
		"GET /api/v1/inbox":                         d.inbox,
		"POST /api/v1/inbox":                        d.carry,
		"GET /api/v1/authority":                     d.authority,
		"POST /api/v1/inbox/{code}/approve":         d.approve,
		"POST /api/v1/inbox/{code}/refuse":          d.refuse,
		"POST /api/v1/agents/{site}/{agent}/revoke": d.revoke,
		"POST " + RotatePath:                        d.rotate,
		"GET " + keysPath:                           d.invites,
		"POST " + keysPath:                          d.invite,
		"POST " + keysPath + "/{id}/end":            d.endInvite,
		"GET " + readersPath:                        d.readers,
		"POST " + readersPath:                       d.addReader,
		"POST " + readersPath + "/{name}/renew":     d.renewReader,
		"POST " + readersPath + "/{name}/rewind":    d.rewindReader,
		"DELETE " + readersPath + "/{name}":         d.revokeReader,
		"GET " + configurationPath:                  d.configuration,
		"PUT " + configurationPath:                  d.configure,
		"GET " + rulesPath:                          d.modelRules,
	}
}

func (d *Desk) style(w http.ResponseWriter, _ *http.Request) {
	b, err := files.ReadFile("pages/desk.css")
	if err != nil {
		d.cfg.Log.Error("read the desk's style", "err", err)
	}
	w.Header().Set("Content-Type", "text/css; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	_, _ = w.Write(b) // who went away misses nothing
}

// view is what a page shows.
type view struct {
	Site, Title, Fault string
	Petition           *registry.Petition
	Groups             []string // of the fingerprint
	Code               string
	CSRF               string
	May                string // why who looks may not decide; empty: they may
	As                 string
	Waits              bool // nobody has decided, or it was refused
	Quiet              bool // it has not asked for a while
	Agent              *registry.Agent
	Days               int
}

func (d *Desk) show(w http.ResponseWriter, r *http.Request) { d.render(w, r, http.StatusOK, "") }

// render shows how a code stands, with what went wrong.
func (d *Desk) render(w http.ResponseWriter, r *http.Request, status int, fault string) {
	if err := d.cfg.May(r, Read, d.cfg.Site); err != nil {
		status, fault = http.StatusForbidden, err.Error()
		d.write(w, status, view{Site: d.cfg.Site, Title: "Not for you", Fault: fault})
		return
	}
	asking, in, err := d.cfg.Book.Look()
	if err != nil {
		d.cfg.Log.ErrorContext(r.Context(), "who asks to be let in can't be read", "err", err)
		d.write(w, http.StatusInternalServerError, view{Site: d.cfg.Site, Title: "This hub can't read who asks", Fault: "its log says why"})
		return
	}
	shown := r.PathValue("code")
	v := view{Site: d.cfg.Site, Fault: fault, Code: shown, CSRF: d.cfg.Token(r), Days: int(d.cfg.Lifetime / (24 * time.Hour))}
	p, err := registry.Find(asking, shown)
	switch {
	case err == nil:
		d.petition(r, &v, p)
	case errors.Is(err, registry.ErrTwoCodes):
		if v.Title = "Several gateways show this code"; fault == "" {
			status = http.StatusConflict
		}
	default:
		if v.Agent = letIn(in, shown); v.Agent != nil {
			v.Title = v.Agent.Name + " is let in"
			break
		}
		if v.Title = "No gateway shows this code"; fault == "" {
			status = http.StatusNotFound
		}
	}
	d.write(w, status, v)
}

// petition is the page of one that asks.
func (d *Desk) petition(r *http.Request, v *view, p registry.Petition) {
	v.Petition, v.Code, v.As = &p, p.Code, p.Request.Agent
	_, digits, _ := strings.Cut(p.Fingerprint, ":")
	for four := range slices.Chunk([]byte(digits), 4) {
		v.Groups = append(v.Groups, string(four))
	}
	v.Quiet = d.cfg.Now().Sub(p.Last) > quiet
	v.Waits = p.Decision == nil || p.Decision.State == enroll.Refused
	switch {
	case p.Decision == nil:
		v.Title = "A gateway asks to be let in"
	case v.Waits:
		v.Title = "This gateway was refused"
	default:
		v.Title = p.Decision.Name + " is approved"
	}
	if err := d.cfg.May(r, Approve, d.cfg.Site); err != nil {
		v.May = err.Error()
	}
}

// letIn is the agent whose key has a code or a fingerprint.
func letIn(in []registry.Agent, shown string) *registry.Agent {
	code, _ := enroll.ReadCode(shown)
	for _, a := range in {
		if enroll.Code(a.PublicKey) == code || strings.EqualFold(enroll.Fingerprint(a.PublicKey), shown) {
			return &a
		}
	}
	return nil
}

func (d *Desk) write(w http.ResponseWriter, status int, v view) {
	var b strings.Builder
	if err := d.page.ExecuteTemplate(&b, "page.html", v); err != nil {
		d.cfg.Log.Error("make a page", "err", err)
		status = http.StatusInternalServerError
	}
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Security-Policy", policy)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "same-origin") // else a form of it has no origin to show
	h.Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = io.WriteString(w, b.String()) // who went away misses nothing
}

// decide takes the page's form.
func (d *Desk) decide(w http.ResponseWriter, r *http.Request) {
	if !own(r) {
		d.render(w, r, http.StatusForbidden, "This came from another page: nothing was done.")
		return
	}
	if err := d.cfg.May(r, Approve, d.cfg.Site); err != nil {
		d.render(w, r, http.StatusForbidden, "Nothing was done: "+err.Error())
		return
	}
	r.Body = http.MaxBytesReader(w, r.Body, maxForm)
	if err := r.ParseForm(); err != nil {
		d.render(w, r, http.StatusBadRequest, "This form is too long, or can't be read: nothing was done.")
		return
	}
	shown, by := r.PathValue("code"), d.cfg.Who(r)
	var err error
	switch r.PostForm.Get("do") {
	case "approve":
		_, err = d.cfg.Book.Approve(shown, clean(r.PostForm.Get("as"), maxName), by)
	case "refuse":
		why := clean(r.PostForm.Get("why"), maxWhy)
		if why == "" {
			d.render(w, r, http.StatusBadRequest, "Say why it is refused: the gateway shows that.")
			return
		}
		_, err = d.cfg.Book.Refuse(shown, why, by)
	default:
		d.render(w, r, http.StatusBadRequest, "This form says neither approve nor refuse: nothing was done.")
		return
	}
	if err != nil {
		status := statusOf(err)
		if status == http.StatusServiceUnavailable {
			d.cfg.Log.ErrorContext(r.Context(), "a decision on a gateway is not made", "err", err)
		}
		d.render(w, r, status, "Nothing was done: "+err.Error())
		return
	}
	http.Redirect(w, r, enroll.Page+url.PathEscape(shown), http.StatusSeeOther)
}

// statusOf is an error of the registry for who calls.
func statusOf(err error) int {
	switch {
	case errors.Is(err, ErrBeyondRules):
		return http.StatusForbidden
	case errors.Is(err, registry.ErrCode), errors.Is(err, registry.ErrUnknown), errors.Is(err, registry.ErrNoRevision), errors.Is(err, registry.ErrNoKey), errors.Is(err, registry.ErrNoReader):
		return http.StatusNotFound
	case errors.Is(err, registry.ErrTwoCodes), errors.Is(err, registry.ErrDecided), errors.Is(err, registry.ErrTaken), errors.Is(err, registry.ErrRevoked), errors.Is(err, registry.ErrMoved), errors.Is(err, registry.ErrReaderThere):
		return http.StatusConflict
	case errors.Is(err, registry.ErrName), errors.Is(err, registry.ErrGrace), errors.Is(err, registry.ErrKey), errors.Is(err, registry.ErrForged), errors.Is(err, enroll.ErrRequest), errors.Is(err, registry.ErrReader), errors.Is(err, registry.ErrRewind), errors.Is(err, revision.ErrRevision):
		return http.StatusBadRequest
	}
	return http.StatusServiceUnavailable
}

// own says whether a request that changes something may come from where it comes: no
// page of elsewhere may have a browser send it.
func own(r *http.Request) bool {
	if site := r.Header.Get("Sec-Fetch-Site"); site != "" {
		return site == "same-origin"
	}
	origin := r.Header.Get("Origin")
	if origin == "" {
		return true // no browser
	}
	u, err := url.Parse(origin)
	return err == nil && u.Host != "" && strings.EqualFold(u.Host, r.Host)
}

// clean is a text in one line, bounded.
func clean(s string, most int) string {
	s = strings.Join(strings.Fields(strings.ToValidUTF8(s, "")), " ")
	for len(s) > most {
		s = strings.ToValidUTF8(s[:most], "")
	}
	return s
}

// body reads a small JSON object into v; none is the zero one.
func body(w http.ResponseWriter, r *http.Request, v any) error {
	b, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxForm))
	if err != nil || len(b) == 0 {
		return err
	}
	dec := json.NewDecoder(strings.NewReader(string(b)))
	dec.DisallowUnknownFields()
	if err := dec.Decode(v); err != nil {
		return err
	}
	if dec.More() {
		return errors.New("more than one object")
	}
	return nil
}
