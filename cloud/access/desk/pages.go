package desk

import (
	"bytes"
	"embed"
	"errors"
	"fmt"
	"html/template"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"plantmesh/cloud/access"
)

//go:embed pages
var files embed.FS

// policy lets a page load its look from here, and send its forms here; nothing runs.
const policy = "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"

// Paths of the pages.
const (
	loginPath   = "/login"
	firstPath   = "/first/"
	logoutPath  = "/logout"
	accountPath = "/account"
	stylePath   = "/desk.css"
)

// FirstPath is the path of a first link.
func FirstPath(secret string) string { return firstPath + secret }

// pages are the templates.
type pages struct {
	of    map[string]*template.Template
	style []byte
}

func newPages() (*pages, error) {
	p := &pages{of: map[string]*template.Template{}}
	var err error
	if p.style, err = files.ReadFile("pages/desk.css"); err != nil {
		return nil, fmt.Errorf("read the look of the pages: %w", err)
	}
	for _, name := range []string{"login", "first", "account", "secret"} {
		t := template.New("frame.html").Funcs(template.FuncMap{"when": func(t time.Time) string { return t.UTC().Format("2006-01-02 15:04 UTC") }})
		if p.of[name], err = t.ParseFS(files, "pages/frame.html", "pages/"+name+".html"); err != nil {
			return nil, fmt.Errorf("read page %s: %w", name, err)
		}
	}
	return p, nil
}

// page is what the templates show.
type page struct {
	Title   string
	Site    string
	Fault   string // what was wrong with a form
	Done    string // what was done
	CSRF    string
	Next    string
	Empty   bool // nobody has an account
	User    access.User
	Least   int // characters of a password
	Session string
	// Sessions and Tokens are the user's own.
	Sessions []access.Session
	Tokens   []access.Token
	Secret   string
}

func (d *Desk) routes() []Route {
	h := func(f func(http.ResponseWriter, *http.Request)) http.Handler { return http.HandlerFunc(f) }
	return []Route{
		{Pattern: "GET " + stylePath, Needs: Public, Handler: h(d.style)},
		{Pattern: "GET " + loginPath, Needs: Public, Page: true, Handler: h(d.showLogin)},
		{Pattern: "POST " + loginPath, Needs: Public, Page: true, Handler: h(d.login)},
		{Pattern: "GET " + firstPath + "{secret}", Needs: Public, Page: true, Handler: h(d.showFirst)},
		{Pattern: "POST " + firstPath + "{secret}", Needs: Public, Page: true, Handler: h(d.first)},
		{Pattern: "GET " + accountPath, Needs: Account, Page: true, Handler: h(d.showAccount)},
		{Pattern: "POST " + logoutPath, Needs: Account, Page: true, Handler: h(d.logout)},
		{Pattern: "POST " + accountPath + "/password", Needs: Account, Page: true, Handler: h(d.password)},
		{Pattern: "POST " + accountPath + "/sessions/{id}/end", Needs: Account, Page: true, Handler: h(d.endSession)},
		{Pattern: "POST " + accountPath + "/tokens", Needs: Account, Page: true, Handler: h(d.createToken)},
		{Pattern: "POST " + accountPath + "/tokens/{id}/end", Needs: Account, Page: true, Handler: h(d.endToken)},
	}
}

// show sends a page.
func (d *Desk) show(w http.ResponseWriter, r *http.Request, status int, name string, p page) {
	p.Site, p.CSRF, p.Least = d.cfg.Site, access.FormTokenOf(r.Context()), access.MinPassword
	var b bytes.Buffer
	if err := d.pages.of[name].Execute(&b, p); err != nil {
		d.log.ErrorContext(r.Context(), "make a page", "page", name, "err", err)
		d.deny(w, r, http.StatusInternalServerError, "internal", "this page can't be made; the hub's log says why")
		return
	}
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Security-Policy", policy)
	h.Set("Cache-Control", "no-store")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	w.WriteHeader(status)
	_, _ = w.Write(b.Bytes()) // who went away asks again
}

func (d *Desk) style(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/css; charset=utf-8")
	w.Header().Set("Cache-Control", "no-cache")
	_, _ = w.Write(d.pages.style) // who went away asks again
}

// said is what a page says of an error, and the status of its answer. What is no fault of
// whoever typed is logged.
func (d *Desk) said(w http.ResponseWriter, r *http.Request, err error) (status int, words string) {
	if wait, ok := errors.AsType[*access.WaitError](err); ok {
		seconds := int(wait.For/time.Second) + 1
		w.Header().Set("Retry-After", strconv.Itoa(seconds))
		return http.StatusTooManyRequests, fmt.Sprintf("Too many tries: wait %d seconds, then try again.", seconds)
	}
	for _, e := range []error{access.ErrLogin, access.ErrPassword, access.ErrLink, access.ErrRefused} {
		if errors.Is(err, e) {
			words = strings.TrimPrefix(err.Error(), access.ErrRefused.Error()+": ")
			words, _, _ = strings.Cut(words, "\n")
			return http.StatusForbidden, strings.ToUpper(words[:1]) + words[1:] + "."
		}
	}
	d.log.ErrorContext(r.Context(), "a form can't be taken", "path", r.Pattern, "err", err)
	return http.StatusServiceUnavailable, "This hub can't do it now; its log says why."
}

// form reads a form of a page that needs no session. The guard has read the others.
func form(w http.ResponseWriter, r *http.Request) bool {
	r.Body = http.MaxBytesReader(w, r.Body, maxForm)
	return r.ParseForm() == nil
}

// caller is who fills in a form of a page that needs no session.
func caller(r *http.Request) access.Caller { return access.Caller{Address: addressOf(r)} }

func (d *Desk) loginPage(r *http.Request) page {
	peopled, err := d.cfg.Access.Peopled()
	return page{Title: "Sign in", Next: local(r.FormValue("next")), Empty: err == nil && !peopled}
}

// local is a path of this hub; anything else is its page.
func local(next string) string {
	if !strings.HasPrefix(next, "/") || strings.HasPrefix(next, "//") || strings.ContainsAny(next, "\\\r\n\t") || len(next) > 1000 {
		return "/"
	}
	return next
}

func (d *Desk) showLogin(w http.ResponseWriter, r *http.Request) {
	if who, err := d.identify(r); err == nil && who.Caller.Via == access.ViaSession {
		http.Redirect(w, r, local(r.URL.Query().Get("next")), http.StatusSeeOther) //nolint:gosec // G710: local makes it a path of ours
		return
	}
	d.show(w, r, http.StatusOK, "login", d.loginPage(r))
}

func (d *Desk) login(w http.ResponseWriter, r *http.Request) {
	if !form(w, r) {
		d.deny(w, r, http.StatusBadRequest, "form", "this form is too long, or can't be read")
		return
	}
	name := strings.ToLower(strings.TrimSpace(r.PostForm.Get("user")))
	secret, _, err := d.cfg.Access.Login(r.Context(), caller(r), name, r.PostForm.Get("password"), r.UserAgent())
	if err != nil {
		p := d.loginPage(r)
		status, words := d.said(w, r, err)
		p.Fault = words
		d.show(w, r, status, "login", p)
		return
	}
	if old := sessionOf(r); old != "" { // whoever put it there knows it
		if who, err := d.cfg.Access.BySession(old, addressOf(r)); err == nil {
			_ = d.cfg.Access.Logout(who.Caller, old) // it ends by itself otherwise
		}
	}
	d.log.InfoContext(r.Context(), "somebody signed in", "user", name, "from", addressOf(r))
	setSession(w, r, secret)
	http.Redirect(w, r, local(r.PostForm.Get("next")), http.StatusSeeOther) //nolint:gosec // G710: local makes it a path of ours
}

func (d *Desk) showFirst(w http.ResponseWriter, r *http.Request) {
	u, err := d.cfg.Access.LinkedUser(caller(r), r.PathValue("secret"))
	p := page{Title: "Set your password", User: u}
	status := http.StatusOK
	if err != nil {
		status, p.Fault = d.said(w, r, err)
	}
	d.show(w, r, status, "first", p)
}

func (d *Desk) first(w http.ResponseWriter, r *http.Request) {
	if !form(w, r) {
		d.deny(w, r, http.StatusBadRequest, "form", "this form is too long, or can't be read")
		return
	}
	var err error
	password := r.PostForm.Get("password")
	if password != r.PostForm.Get("again") {
		err = fmt.Errorf("%w: you typed two different ones", access.ErrPassword)
	}
	var u access.User
	if err == nil {
		u, err = d.cfg.Access.SetPassword(r.Context(), caller(r), r.PathValue("secret"), password)
	}
	if errors.Is(err, access.ErrPassword) { // the link is still good
		u, _ = d.cfg.Access.LinkedUser(caller(r), r.PathValue("secret"))
	}
	if err != nil {
		status, words := d.said(w, r, err)
		d.show(w, r, status, "first", page{Title: "Set your password", User: u, Fault: words})
		return
	}
	p := d.loginPage(r)
	p.User, p.Next, p.Done = u, "/", "Your password is set. Sign in with it."
	d.show(w, r, http.StatusOK, "login", p)
}

func (d *Desk) logout(w http.ResponseWriter, r *http.Request) {
	if err := d.cfg.Access.Logout(access.CallerOf(r.Context()), sessionOf(r)); err != nil {
		status, words := d.said(w, r, err)
		d.account(w, r, status, page{Fault: words})
		return
	}
	setSession(w, r, "")
	w.Header().Set("Clear-Site-Data", `"cache", "storage"`)
	http.Redirect(w, r, loginPath, http.StatusSeeOther)
}

// account shows who is signed in what is theirs.
func (d *Desk) account(w http.ResponseWriter, r *http.Request, status int, p page) {
	who := access.Of(r.Context())
	p.Title, p.User = "My account", who.User
	if who.Session != nil {
		p.Session = who.Session.ID
	}
	var err, err2 error
	p.Sessions, err = d.cfg.Access.Sessions(who.User.Name)
	p.Tokens, err2 = d.cfg.Access.TokensOf(who.User.Name)
	if err := errors.Join(err, err2); err != nil {
		status, p.Fault = d.said(w, r, err)
	}
	now := d.now()
	p.Tokens = slices.DeleteFunc(p.Tokens, func(t access.Token) bool {
		return t.Ended != nil || !now.Before(t.Expires)
	})
	d.show(w, r, status, "account", p)
}

func (d *Desk) showAccount(w http.ResponseWriter, r *http.Request) {
	d.account(w, r, http.StatusOK, page{})
}

func (d *Desk) password(w http.ResponseWriter, r *http.Request) {
	var err error
	password := r.PostForm.Get("password")
	if password != r.PostForm.Get("again") {
		err = fmt.Errorf("%w: you typed two different ones", access.ErrPassword)
	}
	if err == nil {
		err = d.cfg.Access.ChangePassword(r.Context(), access.CallerOf(r.Context()), r.PostForm.Get("old"), password)
	}
	if err != nil {
		status, words := d.said(w, r, err)
		d.account(w, r, status, page{Fault: words})
		return
	}
	setSession(w, r, "")
	p := d.loginPage(r)
	p.User, p.Next, p.Done = access.Of(r.Context()).User, "/", "Your password is changed, and all your sessions have ended. Sign in with the new one."
	d.show(w, r, http.StatusOK, "login", p)
}

// then shows the account again behind a change: by a redirect, so that reloading it
// changes nothing.
func (d *Desk) then(w http.ResponseWriter, r *http.Request, err error) {
	if err != nil {
		status, words := d.said(w, r, err)
		d.account(w, r, status, page{Fault: words})
		return
	}
	http.Redirect(w, r, accountPath, http.StatusSeeOther)
}

func (d *Desk) endSession(w http.ResponseWriter, r *http.Request) {
	by := access.CallerOf(r.Context())
	d.then(w, r, d.cfg.Access.EndSession(by, by.User, r.PathValue("id")))
}

func (d *Desk) endToken(w http.ResponseWriter, r *http.Request) {
	by := access.CallerOf(r.Context())
	_, err := d.cfg.Access.EndToken(by, r.PathValue("id"), by.User, "")
	d.then(w, r, err)
}

func (d *Desk) createToken(w http.ResponseWriter, r *http.Request) {
	by := access.CallerOf(r.Context())
	g, err := access.ParseGrant(r.PostForm.Get("grant"))
	days, err2 := strconv.Atoi(r.PostForm.Get("days"))
	if err == nil && (err2 != nil || days < 1 || days > int(access.MaxToken/(24*time.Hour))) {
		err = fmt.Errorf("%w: a token is good for 1 to %d days", access.ErrRefused, access.MaxToken/(24*time.Hour))
	}
	var t access.Token
	var secret string
	if err == nil {
		t, secret, err = d.cfg.Access.CreateToken(by, by.User, []access.Grant{g}, time.Duration(days)*24*time.Hour, r.PostForm.Get("note"))
	}
	if err != nil {
		d.then(w, r, err)
		return
	}
	d.show(w, r, http.StatusOK, "secret", page{Title: "A new token", User: access.Of(r.Context()).User, Secret: secret, Tokens: []access.Token{t}})
}
