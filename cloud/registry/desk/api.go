package desk

import (
	"encoding/json"
	"maps"
	"net/http"
	"time"

	"plantmesh/proto/enroll"
)

// inbox lists the gateways that ask.
func (d *Desk) inbox(w http.ResponseWriter, r *http.Request) {
	if err := d.cfg.May(r, Read, d.cfg.Site); err != nil {
		problem(w, http.StatusForbidden, err.Error())
		return
	}
	asking, _, err := d.cfg.Book.Look()
	if err != nil {
		d.fail(w, r, err)
		return
	}
	answer(w, map[string]any{"data": asking})
}

func (d *Desk) approve(w http.ResponseWriter, r *http.Request) {
	var q struct {
		As string `json:"as"`
	}
	if !d.asked(w, r, Approve, d.cfg.Site, &q) {
		return
	}
	p, err := d.cfg.Book.Approve(r.PathValue("code"), q.As, d.cfg.Who(r))
	if err != nil {
		d.fail(w, r, err)
		return
	}
	answer(w, p)
}

// carry answers a request that came in a file; the answer is what goes back.
func (d *Desk) carry(w http.ResponseWriter, r *http.Request) {
	var q struct {
		Request enroll.Signed `json:"request"`
		As      string        `json:"as"`
		NATS    string        `json:"nats"`
	}
	if !d.asked(w, r, Approve, d.cfg.Site, &q) {
		return
	}
	a, err := d.cfg.Carry(q.Request, q.As, q.NATS, d.cfg.Who(r))
	if err != nil {
		d.fail(w, r, err)
		return
	}
	if a.State != enroll.Approved {
		problem(w, http.StatusConflict, a.Why)
		return
	}
	answer(w, a)
}

// authority gives what programs and browsers are to trust.
func (d *Desk) authority(w http.ResponseWriter, r *http.Request) {
	if err := d.cfg.May(r, Read, d.cfg.Site); err != nil {
		problem(w, http.StatusForbidden, err.Error())
		return
	}
	answer(w, map[string]string{"certificate": d.cfg.Authority()})
}

func (d *Desk) refuse(w http.ResponseWriter, r *http.Request) {
	var q struct {
		Why string `json:"why"`
	}
	if !d.asked(w, r, Approve, d.cfg.Site, &q) {
		return
	}
	why := clean(q.Why, maxWhy)
	if why == "" {
		problem(w, http.StatusBadRequest, "why is missing: the gateway shows it")
		return
	}
	p, err := d.cfg.Book.Refuse(r.PathValue("code"), why, d.cfg.Who(r))
	if err != nil {
		d.fail(w, r, err)
		return
	}
	answer(w, p)
}

func (d *Desk) revoke(w http.ResponseWriter, r *http.Request) {
	var q struct {
		Reason string `json:"reason"`
	}
	if !d.asked(w, r, Revoke, r.PathValue("site"), &q) {
		return
	}
	v, err := d.cfg.Book.Revoke(r.PathValue("site"), r.PathValue("agent"), clean(q.Reason, maxWhy), d.cfg.Who(r))
	if err != nil {
		d.fail(w, r, err)
		return
	}
	answer(w, v)
}

// rotate takes how long the key before is good, as 24h; 0s: not at all.
func (d *Desk) rotate(w http.ResponseWriter, r *http.Request) {
	var q struct {
		Grace  string `json:"grace"`
		Reason string `json:"reason"`
	}
	if !d.asked(w, r, Rotate, d.cfg.Site, &q) {
		return
	}
	grace, err := time.ParseDuration(q.Grace)
	why := clean(q.Reason, maxWhy)
	if err != nil || why == "" {
		problem(w, http.StatusBadRequest, `write for how long the key before is good and why there is another one: {"grace": "24h", "reason": "…"}; grace 0s ends it at once`)
		return
	}
	done, err := d.cfg.Keys.Rotate(grace, why, d.cfg.Who(r))
	if err != nil {
		d.fail(w, r, err)
		return
	}
	answer(w, done)
}

// asked sees that a call may be made, and reads its body.
func (d *Desk) asked(w http.ResponseWriter, r *http.Request, permission, location string, v any) bool {
	if !own(r) {
		problem(w, http.StatusForbidden, "this came from a page of elsewhere")
		return false
	}
	if err := d.cfg.May(r, permission, location); err != nil {
		problem(w, http.StatusForbidden, err.Error())
		return false
	}
	if err := body(w, r, v); err != nil {
		problem(w, http.StatusBadRequest, "the body is a small JSON object, or empty: "+err.Error())
		return false
	}
	return true
}

// fail answers what the registry did not do. What is this hub's own fault its log says,
// too.
func (d *Desk) fail(w http.ResponseWriter, r *http.Request, err error) {
	status := statusOf(err)
	if status == http.StatusServiceUnavailable {
		d.cfg.Log.ErrorContext(r.Context(), "the registry can't do what is asked", "path", r.URL.Path, "err", err)
	}
	problem(w, status, err.Error())
}

func answer(w http.ResponseWriter, v any) { answerWith(w, http.StatusOK, v) }

func answerWith(w http.ResponseWriter, status int, v any) {
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // who went away asks again
}

// problem is an error as RFC 9457 has it.
func problem(w http.ResponseWriter, status int, detail string) { problemWith(w, status, detail, nil) }

func problemWith(w http.ResponseWriter, status int, detail string, more map[string]any) {
	h := w.Header()
	h.Set("Content-Type", "application/problem+json")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	all := map[string]any{"title": http.StatusText(status), "status": status, "detail": detail}
	maps.Copy(all, more)
	_ = json.NewEncoder(w).Encode(all)
}
