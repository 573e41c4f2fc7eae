package desk

import (
	"fmt"
	"net/http"
	"time"

	"plantmesh/cloud/registry"
)

// ManageReaders is the permission for readers of products, which the root is asked for. It
// is one at the whole site: a reader has rows of all its lines.
const ManageReaders = "readers.manage"

// readersPath is where readers of products are.
const readersPath = "/api/v1/readers"

// Credentials are those of readers. What gives some keeps none.
type Credentials interface {
	// AddReader lets one of a name and a note read products, or all where none is named.
	AddReader(want registry.Reader, products []string, lifetime time.Duration, by registry.Actor) (is registry.Reader, credentials string, err error)
	RenewReader(name string, lifetime time.Duration, by registry.Actor) (is registry.Reader, credentials string, err error)
}

// Readers are who may read products over NATS. Safe for concurrent use; what it changed is
// recorded and on the disk when it returns.
type Readers interface {
	Credentials
	Readers() ([]registry.Reader, error)
	// RewindReader has one read again what was published since; nil: all.
	RewindReader(name string, from *time.Time, why string, by registry.Actor) (registry.Reader, error)
	RevokeReader(name, why string, by registry.Actor) (registry.Reader, error)
}

// readers lists them, and those that were revoked.
func (d *Desk) readers(w http.ResponseWriter, r *http.Request) {
	if err := d.cfg.May(r, ManageReaders, d.cfg.Site); err != nil {
		problem(w, http.StatusForbidden, err.Error())
		return
	}
	all, err := d.cfg.Readers.Readers()
	if err != nil {
		d.fail(w, r, err)
		return
	}
	answer(w, map[string]any{"data": all})
}

// defaultReader is how long credentials are good where nobody says it.
const defaultReader = "2160h"

// addReader makes one. Its credentials are told here and nowhere else.
func (d *Desk) addReader(w http.ResponseWriter, r *http.Request) {
	q := struct {
		Name     string   `json:"name"`
		Products []string `json:"products"`
		For      string   `json:"for"`
		Note     string   `json:"note"`
	}{For: defaultReader}
	if !d.asked(w, r, ManageReaders, d.cfg.Site, &q) {
		return
	}
	life, ok := lifetime(w, q.For)
	if !ok {
		return
	}
	is, credentials, err := d.cfg.Readers.AddReader(registry.Reader{Name: q.Name, Note: clean(q.Note, maxWhy)}, q.Products, life, d.cfg.Who(r))
	d.lent(w, r, http.StatusCreated, is, credentials, err)
}

// renewReader gives one other credentials, once.
func (d *Desk) renewReader(w http.ResponseWriter, r *http.Request) {
	q := struct {
		For string `json:"for"`
	}{For: defaultReader}
	if !d.asked(w, r, ManageReaders, d.cfg.Site, &q) {
		return
	}
	life, ok := lifetime(w, q.For)
	if !ok {
		return
	}
	is, credentials, err := d.cfg.Readers.RenewReader(r.PathValue("name"), life, d.cfg.Who(r))
	d.lent(w, r, http.StatusOK, is, credentials, err)
}

// rewindReader has one read again: from an instant, or all.
func (d *Desk) rewindReader(w http.ResponseWriter, r *http.Request) {
	var q struct {
		From   *time.Time `json:"from"`
		All    bool       `json:"all"`
		Reason string     `json:"reason"`
	}
	if !d.asked(w, r, ManageReaders, d.cfg.Site, &q) {
		return
	}
	if q.All == (q.From != nil) {
		problem(w, http.StatusBadRequest, `write from where: {"from": "2026-03-01T06:00:00Z"}, or {"all": true}`)
		return
	}
	is, err := d.cfg.Readers.RewindReader(r.PathValue("name"), q.From, clean(q.Reason, maxWhy), d.cfg.Who(r))
	if err != nil {
		d.fail(w, r, err)
		return
	}
	answer(w, is)
}

// revokeReader ends what one may.
func (d *Desk) revokeReader(w http.ResponseWriter, r *http.Request) {
	var q struct {
		Reason string `json:"reason"`
	}
	if !d.asked(w, r, ManageReaders, d.cfg.Site, &q) {
		return
	}
	is, err := d.cfg.Readers.RevokeReader(r.PathValue("name"), clean(q.Reason, maxWhy), d.cfg.Who(r))
	if err != nil {
		d.fail(w, r, err)
		return
	}
	answer(w, is)
}

// lifetime is for how long credentials are asked; false: it is answered.
func lifetime(w http.ResponseWriter, text string) (time.Duration, bool) {
	life, err := time.ParseDuration(text)
	if err != nil {
		problem(w, http.StatusBadRequest, fmt.Sprintf(`write for how long the credentials are good, as {"for": "720h"}: %v`, err))
	}
	return life, err == nil
}

// lent answers with credentials, once.
func (d *Desk) lent(w http.ResponseWriter, r *http.Request, status int, is registry.Reader, credentials string, err error) {
	if err != nil {
		d.fail(w, r, err)
		return
	}
	answerWith(w, status, map[string]any{"credentials": credentials, "reader": is})
}
