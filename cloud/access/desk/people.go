package desk

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"time"

	"plantmesh/cloud/access"
)

// People is how users and tokens are managed by programs, as plantmesh users and tokens do it;
// each as far as who calls manages users. Safe for concurrent use.
type People struct {
	Access *access.Access
	// Grants reads roles, and sees that they are of this hub's site.
	Grants func(texts []string) ([]access.Grant, error)
	// Address is where people reach the hub, as https://hub:8443.
	Address string
	Log     *slog.Logger
}

// Handlers are by pattern of http.ServeMux. All are for who manages users somewhere.
func (p People) Handlers() map[string]http.HandlerFunc {
	return map[string]http.HandlerFunc{
		"GET /api/v1/users":                  p.list,
		"POST /api/v1/users":                 p.add,
		"GET /api/v1/users/{name}":           p.show,
		"POST /api/v1/users/{name}/grant":    p.grant,
		"POST /api/v1/users/{name}/withdraw": p.withdraw,
		"POST /api/v1/users/{name}/reset":    p.reset,
		"POST /api/v1/users/{name}/end":      p.end,
		"GET /api/v1/tokens":                 p.tokens,
		"POST /api/v1/tokens":                p.createToken,
		"POST /api/v1/tokens/{id}/end":       p.endToken,
	}
}

// userShown is a user as who manages some of their roles sees one.
type userShown struct {
	Name        string     `json:"name"`
	Roles       []string   `json:"roles"` // those that who calls manages
	More        bool       `json:"more"`  // they have others
	Created     time.Time  `json:"created"`
	By          string     `json:"by"`
	PasswordSet *time.Time `json:"password_set"`
	Ended       *time.Time `json:"ended"`
}

// tokenShown is a token, but for its secret.
type tokenShown struct {
	ID       string       `json:"id"`
	User     string       `json:"user"`
	Roles    []string     `json:"roles"`
	Created  time.Time    `json:"created"`
	Expires  time.Time    `json:"expires"`
	By       string       `json:"by"`
	Note     string       `json:"note"`
	Ended    *time.Time   `json:"ended"`
	LastUsed *access.Used `json:"last_used"`
}

// shown is what who calls sees of a user; false: nothing.
func shown(who access.Identity, u access.User) (userShown, bool) {
	s := userShown{Name: u.Name, Roles: []string{}, Created: u.Created, By: u.By, PasswordSet: u.Set, Ended: u.Ended}
	for _, g := range u.Grants {
		if who.Manages(g) {
			s.Roles = append(s.Roles, g.String())
		}
	}
	s.More = len(s.Roles) < len(u.Grants)
	return s, len(s.Roles) > 0 || who.ManagesAll(u)
}

func tokenOf(t access.Token) tokenShown {
	s := tokenShown{ID: t.ID, User: t.User, Roles: []string{}, Created: t.Created, Expires: t.Expires, By: t.By, Note: t.Note, Ended: t.Ended, LastUsed: t.Used}
	for _, g := range t.Grants {
		s.Roles = append(s.Roles, g.String())
	}
	return s
}

func (p People) list(w http.ResponseWriter, r *http.Request) {
	all, err := p.Access.Users()
	who, out := access.Of(r.Context()), []userShown{}
	for _, u := range all {
		if s, ok := shown(who, u); ok {
			out = append(out, s)
		}
	}
	p.answer(w, r, http.StatusOK, map[string]any{"data": out}, err)
}

func (p People) show(w http.ResponseWriter, r *http.Request) {
	u, err := p.Access.User(r.PathValue("name"))
	p.user(w, r, u, err)
}

// user answers how a user is now.
func (p People) user(w http.ResponseWriter, r *http.Request, u access.User, err error) {
	s, ok := shown(access.Of(r.Context()), u)
	if err == nil && !ok && r.Method == http.MethodGet {
		err = fmt.Errorf("user %q: %w", r.PathValue("name"), access.ErrUnknown)
	}
	p.answer(w, r, http.StatusOK, s, err)
}

// asked is a call that changes something, read; false: it is answered.
func (p People) asked(w http.ResponseWriter, r *http.Request, v any) bool {
	dec := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxForm))
	dec.DisallowUnknownFields()
	err := dec.Decode(v)
	if errors.Is(err, io.EOF) {
		return true // none is an empty one
	}
	if _, end := dec.Token(); err == nil && !errors.Is(end, io.EOF) {
		err = errors.New("more than one object")
	}
	if err != nil {
		p.say(w, r, http.StatusBadRequest, "body", "the body is one small JSON object: "+err.Error())
	}
	return err == nil
}

func (p People) say(w http.ResponseWriter, r *http.Request, status int, slug, detail string) {
	if err := say(w, status, slug, detail); err != nil {
		p.Log.ErrorContext(r.Context(), "encode a problem", "err", err)
	}
}

func (p People) add(w http.ResponseWriter, r *http.Request) {
	var q struct {
		Name   string   `json:"name"`
		Roles  []string `json:"roles"`
		Reason string   `json:"reason"`
	}
	if !p.asked(w, r, &q) {
		return
	}
	grants, err := p.Grants(q.Roles)
	var u access.User
	var secret string
	if err == nil {
		u, secret, err = p.Access.AddUser(access.Of(r.Context()).Bound(), q.Name, grants, q.Reason)
	}
	p.linked(w, r, http.StatusCreated, u, secret, err)
}

func (p People) reset(w http.ResponseWriter, r *http.Request) {
	var q struct {
		Reason string `json:"reason"`
	}
	if !p.asked(w, r, &q) {
		return
	}
	u, secret, err := p.Access.Reset(access.Of(r.Context()).Bound(), r.PathValue("name"), q.Reason)
	p.linked(w, r, http.StatusOK, u, secret, err)
}

// linked answers with a link, which is told here and nowhere else.
func (p People) linked(w http.ResponseWriter, r *http.Request, status int, u access.User, secret string, err error) {
	s, _ := shown(access.Of(r.Context()), u)
	p.answer(w, r, status, map[string]any{"user": s, "link": p.Address + FirstPath(secret)}, err)
}

func (p People) grant(w http.ResponseWriter, r *http.Request)    { p.role(w, r, p.Access.Grant) }
func (p People) withdraw(w http.ResponseWriter, r *http.Request) { p.role(w, r, p.Access.Withdraw) }

func (p People) role(w http.ResponseWriter, r *http.Request, do func(by access.Caller, name string, g access.Grant, reason string) (access.User, error)) {
	var q struct {
		Role   string `json:"role"`
		Reason string `json:"reason"`
	}
	if !p.asked(w, r, &q) {
		return
	}
	grants, err := p.Grants([]string{q.Role})
	var u access.User
	if err == nil {
		u, err = do(access.Of(r.Context()).Bound(), r.PathValue("name"), grants[0], q.Reason)
	}
	p.user(w, r, u, err)
}

func (p People) end(w http.ResponseWriter, r *http.Request) {
	var q struct {
		Reason string `json:"reason"`
	}
	if !p.asked(w, r, &q) {
		return
	}
	u, err := p.Access.End(access.Of(r.Context()).Bound(), r.PathValue("name"), q.Reason)
	p.user(w, r, u, err)
}

// tokens lists those of users with whom who calls may do as they like.
func (p People) tokens(w http.ResponseWriter, r *http.Request) {
	who, out := access.Of(r.Context()), []tokenShown{}
	users, err := p.Access.Users()
	users = slices.DeleteFunc(users, func(u access.User) bool { return !who.ManagesAll(u) })
	all, err2 := p.Access.Tokens()
	for _, t := range all {
		if slices.ContainsFunc(users, func(u access.User) bool { return u.Name == t.User }) {
			out = append(out, tokenOf(t))
		}
	}
	p.answer(w, r, http.StatusOK, map[string]any{"data": out}, errors.Join(err, err2))
}

func (p People) createToken(w http.ResponseWriter, r *http.Request) {
	var q struct {
		User  string   `json:"user"`
		Roles []string `json:"roles"`
		For   string   `json:"for"`
		Note  string   `json:"note"`
	}
	if !p.asked(w, r, &q) {
		return
	}
	life, err := time.ParseDuration(q.For)
	if err != nil {
		err = fmt.Errorf("%w: write for how long it is good, as 720h: %w", access.ErrRefused, err)
	}
	var grants []access.Grant
	if err == nil {
		grants, err = p.Grants(q.Roles)
	}
	var t access.Token
	var secret string
	if err == nil {
		t, secret, err = p.Access.CreateToken(access.Of(r.Context()).Bound(), q.User, grants, life, q.Note)
	}
	p.answer(w, r, http.StatusCreated, map[string]any{"token": secret, "is": tokenOf(t)}, err)
}

func (p People) endToken(w http.ResponseWriter, r *http.Request) {
	var q struct {
		Reason string `json:"reason"`
	}
	if !p.asked(w, r, &q) {
		return
	}
	t, err := p.Access.EndToken(access.Of(r.Context()).Bound(), r.PathValue("id"), "", q.Reason)
	p.answer(w, r, http.StatusOK, tokenOf(t), err)
}

// answer sends v, or what is wrong.
func (p People) answer(w http.ResponseWriter, r *http.Request, status int, v any, err error) {
	if err == nil {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(v) // who went away asks again
		return
	}
	switch {
	case errors.Is(err, access.ErrBeyond):
		p.say(w, r, http.StatusForbidden, "beyond", err.Error())
	case errors.Is(err, access.ErrUnknown):
		p.say(w, r, http.StatusNotFound, "unknown", err.Error())
	case errors.Is(err, access.ErrTaken):
		p.say(w, r, http.StatusConflict, "taken", err.Error())
	case errors.Is(err, access.ErrRefused):
		p.say(w, r, http.StatusBadRequest, "refused", err.Error())
	default:
		p.Log.ErrorContext(r.Context(), "users can't be managed", "path", r.URL.Path, "err", err)
		p.say(w, r, http.StatusServiceUnavailable, "access", "this hub can't do it now; its log says why")
	}
}
