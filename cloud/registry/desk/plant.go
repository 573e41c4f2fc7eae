package desk

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"plantmesh/cloud/registry"
	"plantmesh/cloud/registry/plant"
)

// Permissions that the root is asked for.
const (
	ReadMachines   = "machines.read"
	ManageMachines = "machines.manage"
)

// PlantPath is where the register is read and changed.
const PlantPath = "/api/v1/registry/"

// Always is the valid_from of what has always been so.
const Always = "always"

const maxDescription = 256 << 10

// Row is a machine with what is known of it.
type Row struct {
	plant.Machine

	From       string    `json:"from"` // file or register
	Enterprise string    `json:"enterprise,omitempty"`
	Site       string    `json:"site,omitempty"`
	Calendar   string    `json:"calendar,omitempty"` // by whose shifts and days its windows are cut
	Readiness  any       `json:"readiness,omitempty"`
	Rules      *Standing `json:"rules,omitempty"` // of its model, at its gateway; nil: nobody knows
}

// Candidate are signals that no machine has.
type Candidate struct {
	Source  string       `json:"source"`
	Prefix  string       `json:"signals_prefix"`
	Signals int          `json:"signals_count"`
	Roles   []string     `json:"roles"`
	ID      string       `json:"id"` // that it would get
	Line    string       `json:"line"`
	Name    string       `json:"name"`
	Kind    string       `json:"kind"`
	Planned bool         `json:"planned"`         // ID is a machine that was planned
	Model   *plant.Match `json:"model,omitempty"` // that fits best; none: no model fits
	// Heard are its signals, as models look at them.
	Heard []plant.Signal `json:"-"`
}

// Look is all that the register is at an instant.
type Look struct {
	Site  string
	Scene plant.Scene
	Rows  []Row
	Inbox []Candidate
	// Coming are calendars that are registered and don't hold yet, in time order.
	Coming []Coming
	// Gateways are those for which models give rules, or that have some.
	Gateways []GatewayRules
}

// Coming is a calendar that begins to hold, as it will be then, or ends.
type Coming struct {
	plant.Calendar

	ValidFrom string // RFC 3339
	Begins    string // the same by its clock, as Mon 2026-12-07 06:00
	Ends      bool
	Cuts      []string
}

// Change is what somebody asks for.
type Change struct {
	By        registry.Actor
	Action    string // as machine.add
	Reason    string
	Version   *int64 // of the register that it is a change of; nil: whichever it is
	ValidFrom string // RFC 3339 or Always; empty: now; of a calendar alone it may be still to come
	Dry       bool   // only say whether it could be done
	// Make says what changes. What is refused changes nothing.
	Make func(plant.Scene) (plant.Delta, error)
	// May is asked for each location of what changes.
	May func(location string) error
}

// Changed is the register after a change.
type Changed struct {
	Version   int64    `json:"version"`
	ValidFrom string   `json:"valid_from"`
	Until     string   `json:"until,omitempty"` // when another calendar of its id is registered to begin
	Put       []string `json:"put,omitempty"`   // ids of machines
	Retired   []string `json:"retired,omitempty"`
	Models    []string `json:"models,omitempty"`
	Calendars []string `json:"calendars,omitempty"`
	Removed   []string `json:"removed,omitempty"` // calendars
	// Rules are those that models give otherwise from now on: gateways have them once they
	// are sent.
	Rules []plant.Change `json:"rules,omitempty"`
}

// Plant is the register as the desk needs it. Safe for concurrent use; what a change did
// is recorded, on the disk and in force when it returns.
type Plant interface {
	Look(ctx context.Context) (Look, error)
	Change(ctx context.Context, c Change) (Changed, error)
}

// Machines answers for the register of machines. Safe for concurrent use.
type Machines struct {
	Plant Plant
	Who   func(*http.Request) registry.Actor
	May   func(r *http.Request, permission, location string) error
	// Anywhere is nil where who calls has a permission at any location at all.
	Anywhere func(r *http.Request, permission string) error
	Log      *slog.Logger
}

// Handlers are the desk's, by pattern of http.ServeMux.
func (d *Machines) Handlers() map[string]http.HandlerFunc {
	return map[string]http.HandlerFunc{
		"GET " + PlantPath + "machines":             d.list,
		"POST " + PlantPath + "machines":            d.add,
		"GET " + PlantPath + "machines/{id}":        d.show,
		"PUT " + PlantPath + "machines/{id}":        d.put,
		"DELETE " + PlantPath + "machines/{id}":     d.retire,
		"GET " + PlantPath + "machines.csv":         d.export,
		"POST " + PlantPath + "machines/import":     d.importTable,
		"POST " + PlantPath + "machines/clone":      d.clone,
		"GET /api/v1/rules":                         d.rules,
		"GET " + PlantPath + "inbox":                d.inbox,
		"POST " + PlantPath + "inbox/approve":       d.approve,
		"GET " + PlantPath + "models":               d.models,
		"POST " + PlantPath + "models":              d.addModel,
		"GET " + PlantPath + "models/{id}":          d.model,
		"GET " + PlantPath + "models/{id}/diff":     d.diff,
		"POST " + PlantPath + "models/{id}/upgrade": d.upgrade,
		"GET " + PlantPath + "calendars":            d.calendars,
		"GET " + PlantPath + "calendars/{id}":       d.calendar,
		"PUT " + PlantPath + "calendars/{id}":       d.setCalendar,
		"DELETE " + PlantPath + "calendars/{id}":    d.removeCalendar,
	}
}

// look reads the register; rows are those that who calls may see.
func (d *Machines) look(w http.ResponseWriter, r *http.Request) (l Look, ok bool) {
	l, err := d.Plant.Look(r.Context())
	if err != nil {
		d.fail(w, r, err)
		return l, false
	}
	seen := func(m plant.Machine) bool { return d.May(r, ReadMachines, m.Location(l.Site)) == nil }
	l.Rows = slices.DeleteFunc(l.Rows, func(x Row) bool { return !seen(x.Machine) })
	w.Header().Set("ETag", `"`+strconv.FormatInt(l.Scene.Register.Version, 10)+`"`)
	return l, true
}

func (d *Machines) list(w http.ResponseWriter, r *http.Request) {
	if l, ok := d.look(w, r); ok {
		answer(w, map[string]any{"version": l.Scene.Register.Version, "data": levelsOf(r).of(l.Rows)})
	}
}

func (d *Machines) show(w http.ResponseWriter, r *http.Request) {
	l, ok := d.look(w, r)
	if !ok {
		return
	}
	i := slices.IndexFunc(l.Rows, func(x Row) bool { return x.ID == r.PathValue("id") })
	if i < 0 {
		d.fail(w, r, fmt.Errorf("machine %q is %w, nor in the site file", r.PathValue("id"), plant.ErrUnknown))
		return
	}
	answer(w, struct {
		Row

		Version int64 `json:"version"` // of the register
	}{l.Rows[i], l.Scene.Register.Version})
}

func (d *Machines) export(w http.ResponseWriter, r *http.Request) {
	l, ok := d.look(w, r)
	if !ok {
		return
	}
	var machines []plant.Machine
	for _, x := range levelsOf(r).of(l.Rows) {
		if x.From == "register" || r.URL.Query().Get("all") == "true" {
			machines = append(machines, x.Machine)
		}
	}
	b, err := l.Scene.Table(machines)
	if err != nil {
		d.fail(w, r, err)
		return
	}
	h := w.Header()
	h.Set("Content-Type", "text/csv; charset=utf-8")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cache-Control", "no-store")
	_, _ = w.Write(b) // who went away asks again
}

// asked is what every change may say beside what it is.
type asked struct {
	Version   *int64 `json:"version"`
	ValidFrom string `json:"valid_from"`
	Reason    string `json:"reason"`
}

// sender sees that a change comes from who may make one somewhere; of which places, is
// asked when it is known what changes.
func (d *Machines) sender(w http.ResponseWriter, r *http.Request) bool {
	if !own(r) {
		problem(w, http.StatusForbidden, "this came from a page of elsewhere")
		return false
	}
	if err := d.Anywhere(r, ManageMachines); err != nil {
		problem(w, http.StatusForbidden, err.Error())
		return false
	}
	return true
}

// read reads the body of a change.
func (d *Machines) read(w http.ResponseWriter, r *http.Request, v any) bool {
	if !d.sender(w, r) {
		return false
	}
	dec := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxDescription))
	dec.DisallowUnknownFields()
	if err := dec.Decode(v); err != nil && !errors.Is(err, io.EOF) {
		problem(w, http.StatusBadRequest, fmt.Sprintf("the body is a JSON object of at most %d KiB: %v", maxDescription>>10, err))
		return false
	}
	return true
}

// change makes a change and answers it. What depends on is the register's version that was
// read: If-Match, or version in the body.
func (d *Machines) change(w http.ResponseWriter, r *http.Request, action string, a asked, how func(plant.Scene) (plant.Delta, error)) {
	c := d.changeOf(r, action, a)
	c.Make = how
	if !condition(w, "If-Match", r.Header.Get("If-Match"), &c) {
		return
	}
	done, err := d.Plant.Change(r.Context(), c)
	if err != nil {
		d.fail(w, r, err)
		return
	}
	w.Header().Set("ETag", `"`+strconv.FormatInt(done.Version, 10)+`"`)
	answer(w, done)
}

// condition has a change be of the version that a text names; false: it is answered.
func condition(w http.ResponseWriter, what, text string, c *Change) bool {
	if text == "" || text == "*" {
		return true
	}
	n, err := strconv.ParseInt(strings.Trim(text, `"`), 10, 64)
	if err != nil {
		problem(w, http.StatusBadRequest, what+" is no version of the register, as it is in the ETag")
		return false
	}
	c.Version = &n
	return true
}

func (d *Machines) changeOf(r *http.Request, action string, a asked) Change {
	return Change{
		By: d.Who(r), Action: action, Reason: clean(a.Reason, maxWhy), Version: a.Version, ValidFrom: a.ValidFrom,
		Dry: r.URL.Query().Get("dry_run") == "true", May: func(location string) error { return d.May(r, ManageMachines, location) },
	}
}

func (d *Machines) add(w http.ResponseWriter, r *http.Request) {
	var q struct {
		asked

		Machines []plant.Machine `json:"machines"`
	}
	if !d.read(w, r, &q) {
		return
	}
	if len(q.Machines) == 0 {
		problem(w, http.StatusBadRequest, "machines is missing: a list of machines, each with id, line, source and signals_prefix")
		return
	}
	d.change(w, r, "machine.add", q.asked, func(s plant.Scene) (plant.Delta, error) { return s.Add(q.Machines...) })
}

func (d *Machines) put(w http.ResponseWriter, r *http.Request) {
	var q struct {
		asked

		Machine plant.Machine `json:"machine"`
	}
	if !d.read(w, r, &q) {
		return
	}
	if q.Machine.ID == "" {
		q.Machine.ID = r.PathValue("id")
	}
	if q.Machine.ID != r.PathValue("id") {
		problem(w, http.StatusBadRequest, "a machine keeps its id: clone it and retire this one")
		return
	}
	d.change(w, r, "machine.change", q.asked, func(s plant.Scene) (plant.Delta, error) { return s.Change(q.Machine) })
}

func (d *Machines) retire(w http.ResponseWriter, r *http.Request) {
	var q asked
	if !d.read(w, r, &q) {
		return
	}
	d.change(w, r, "machine.retire", q, func(s plant.Scene) (plant.Delta, error) { return s.Retire(r.PathValue("id")) })
}

func (d *Machines) clone(w http.ResponseWriter, r *http.Request) {
	var q struct {
		asked
		plant.Cloning
	}
	if !d.read(w, r, &q) {
		return
	}
	d.change(w, r, "machine.clone", q.asked, func(s plant.Scene) (plant.Delta, error) { return s.Clone(q.Cloning) })
}

// importTable takes a table, or says what taking it would do.
func (d *Machines) importTable(w http.ResponseWriter, r *http.Request) {
	if !d.sender(w, r) {
		return
	}
	table, err := io.ReadAll(http.MaxBytesReader(w, r.Body, plant.MaxTable))
	if err != nil {
		problem(w, http.StatusRequestEntityTooLarge, fmt.Sprintf("a table has at most %d KiB: import it in parts", plant.MaxTable>>10))
		return
	}
	q := r.URL.Query()
	c := d.changeOf(r, "machine.import", asked{ValidFrom: q.Get("valid_from"), Reason: q.Get("reason")})
	if !condition(w, "version", q.Get("version"), &c) || !condition(w, "If-Match", r.Header.Get("If-Match"), &c) {
		return
	}
	var report plant.Report
	c.Make = func(s plant.Scene) (delta plant.Delta, err error) {
		delta, report = s.Import(table)
		if len(report.Faults) > 0 {
			return delta, report.Faults
		}
		return delta, nil
	}
	done, err := d.Plant.Change(r.Context(), c)
	if faults, ok := errors.AsType[plant.Faults](err); ok && c.Dry {
		if len(report.Faults) == 0 { // of what the rows are together
			report.Faults = faults
		}
		err = nil
	}
	if err != nil {
		d.fail(w, r, err)
		return
	}
	report.Done(done.Put)
	answer(w, map[string]any{"dry_run": c.Dry, "report": report, "version": done.Version, "valid_from": done.ValidFrom})
}

// ErrMay is returned where who calls may not change what they would.
var ErrMay = errors.New("nothing was done")

// fail answers what was not done.
func (d *Machines) fail(w http.ResponseWriter, r *http.Request, err error) {
	status := http.StatusServiceUnavailable
	switch {
	case errors.Is(err, ErrMay):
		status = http.StatusForbidden
	case errors.Is(err, plant.ErrUnknown), errors.Is(err, plant.ErrNotIn):
		status = http.StatusNotFound
	case errors.Is(err, plant.ErrVersion):
		status = http.StatusConflict
	case errors.Is(err, plant.ErrRefused):
		status = http.StatusUnprocessableEntity
	default:
		d.Log.ErrorContext(r.Context(), "the register can't do what is asked", "path", r.URL.Path, "err", err)
	}
	more := map[string]any{}
	if faults, ok := errors.AsType[plant.Faults](err); ok {
		more["faults"] = faults
	}
	problemWith(w, status, err.Error(), more)
}
