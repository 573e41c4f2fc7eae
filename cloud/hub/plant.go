package hub

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"plantmesh/cloud/product"
	"plantmesh/cloud/registry/desk"
	"plantmesh/cloud/registry/plant"
	"plantmesh/cloud/store"
	"plantmesh/proto/mesh"
	"plantmesh/proto/strict"
)

// site is the site as it is: another one after each change.
func (h *hub) site() *product.Site { return h.sites.current().site }

// Look implements desk.Plant.
func (l *siteLog) Look(ctx context.Context) (desk.Look, error) {
	heard, err := l.ear.listen(ctx, l.store)
	if err != nil {
		return desk.Look{}, err
	}
	is := l.current()
	out, err := lookAt(is.site, is.register, heard)
	if err != nil {
		return out, err
	}
	if out.Coming, err = is.coming(); err != nil {
		return out, err
	}
	rules, err := l.rules.rule(ctx, is, heard)
	rules.into(&out)
	return out, err
}

// ear keeps what has been heard for a while: to find it all tables of the history are
// looked at, and whoever may read may ask.
type ear struct {
	mu    sync.Mutex // one looks, the others wait for what it finds
	heard product.Heard
	until time.Time
}

// heardFor is how long it is kept at least; else ten times as long as it took.
const heardFor = time.Second

func (e *ear) listen(ctx context.Context, s *store.Store) (product.Heard, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	began := time.Now()
	if began.Before(e.until) {
		return e.heard, nil
	}
	heard, err := heardSignals(ctx, s)
	if err != nil {
		return nil, err
	}
	ended := time.Now()
	e.heard, e.until = heard, ended.Add(max(heardFor, 10*ended.Sub(began)))
	return heard, nil
}

// lookAt is what is registered, and what has been heard of it.
func lookAt(site *product.Site, register plant.Register, heard product.Heard) (out desk.Look, err error) {
	builtin, err := plant.Builtin()
	if err != nil {
		return out, err
	}
	out = desk.Look{Site: site.Name, Scene: sceneOf(site, register, builtin), Rows: []desk.Row{}, Inbox: []desk.Candidate{}}
	ready := map[string]product.Readiness{}
	for _, r := range site.Readiness(heard) {
		ready[r.Equipment] = r
	}
	for from, machines := range map[string][]plant.Machine{"file": out.Scene.File, "register": register.Machines} {
		for _, m := range machines {
			out.Rows = append(out.Rows, desk.Row{Machine: m, From: from, Enterprise: site.Enterprise, Site: site.Name, Calendar: calendarID(site, m.ID), Readiness: ready[m.ID]})
		}
	}
	slices.SortFunc(out.Rows, func(a, b desk.Row) int { return strings.Compare(a.ID, b.ID) })
	for _, c := range site.Unmapped(heard) {
		x := desk.Candidate{Source: c.Source, Prefix: c.Prefix, Signals: c.Signals, Roles: c.Roles, ID: c.ID, Line: c.Line, Name: c.Name, Kind: c.Kind, Planned: c.Planned}
		for _, sig := range heard[c.Source] {
			if name, ok := strings.CutPrefix(sig.Name, c.Prefix); ok && !strings.Contains(name, ".") {
				x.Heard = append(x.Heard, plant.Signal{Name: name, Type: modelType(sig.Type), Unit: sig.Unit})
			}
		}
		if best, ok := plant.Best(out.Scene.Models, x.Heard); ok {
			x.Model = &best
		}
		out.Inbox = append(out.Inbox, x)
	}
	enabled(&out)
	return out, nil
}

// modelType is a signal's type in the words of models.
func modelType(t mesh.Type) string {
	switch t {
	case mesh.TypeInt, mesh.TypeUint, mesh.TypeDouble:
		return "number"
	case mesh.TypeString:
		return "text"
	case mesh.TypeBool:
		return "bool"
	default:
		return t.String()
	}
}

// sceneOf is what a change is made in.
func sceneOf(site *product.Site, register plant.Register, builtin []plant.Model) plant.Scene {
	return plant.Scene{
		Register: register, File: fileMachines(site), FileCalendar: fileCalendar(site), Models: register.Known(builtin),
		Enterprise: site.Enterprise, Site: site.Name,
	}
}

// fileMachines are those of the site file, in the words of the register.
func fileMachines(site *product.Site) (out []plant.Machine) {
	for i := range site.Equipment {
		e := &site.Equipment[i]
		if e.Revision > 0 {
			continue
		}
		m := plant.Machine{
			ID: e.ID, Area: e.Area, Line: e.Line, Name: e.Name, Kind: e.Kind, Model: e.Model, Owner: e.Owner, Source: e.Source, SignalsPrefix: e.Prefix,
			ExternalIDs: e.ExternalIDs, Signals: e.Signals, IdealCycleSeconds: e.Ideal,
		}
		for raw, state := range e.States {
			if m.States == nil {
				m.States = map[string]int64{}
			}
			m.States[strconv.FormatInt(raw, 10)] = state
		}
		out = append(out, m)
	}
	return out
}

// Change implements desk.Plant: what changes is on record, then in the log, then in force.
func (l *siteLog) Change(ctx context.Context, c desk.Change) (out desk.Changed, err error) {
	from, err := l.since(c.ValidFrom, strings.HasPrefix(c.Action, "calendar."))
	if err != nil {
		return out, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	is := l.current()
	out = desk.Changed{Version: is.register.Version, ValidFrom: fromText(from)}
	if c.Version != nil && *c.Version != is.register.Version {
		return out, fmt.Errorf("%w: it is version %d, not %d", plant.ErrVersion, is.register.Version, *c.Version)
	}
	m, err := is.make(c, from)
	out.ValidFrom = fromText(m.from)
	if err != nil || m.delta.Empty() {
		return out, err
	}
	out.Version++
	m.tell(&out)
	pieces, err := is.from(m.from, func(at mesh.Nanos, file []byte, r plant.Register) ([]byte, error) {
		d := before(m.delta, m.until, at)
		// What it was then may have been somewhere else than what it is now.
		if err := mayChange(c, is.site.Name, plant.Scene{Register: r, File: m.scene.File, Site: m.scene.Site}, d); err != nil {
			return nil, err
		}
		next, err := r.Apply(d, out.Version)
		if err != nil {
			return nil, err
		}
		return plant.Merge(file, next)
	})
	if fault, ok := errors.AsType[*strict.Fault](err); ok {
		err = plant.Faults{{What: fault.What}}
	}
	if err != nil || c.Dry {
		return out, err
	}
	mark := textMark(pieces[len(pieces)-1].text)
	if c.ValidFrom != "" { // else from now on, which the entry's time says
		mark += ", from " + out.ValidFrom
	}
	act := actOf(c, m.is, m.delta, out.Version, mark)
	if _, err := l.trail.Append(act); err != nil {
		return out, fmt.Errorf("%s is not recorded, and so not done: %w", c.Action, err)
	}
	if err := l.record(ctx, is, pieces, c.By.Who); err != nil {
		act.Action, act.Reason = act.Action+".failed", err.Error()
		_, failed := l.trail.Append(act)
		return out, errors.Join(err, failed)
	}
	l.log.InfoContext(ctx, "the register has changed", "action", c.Action, "by", c.By.Who, "version", out.Version, "from", out.ValidFrom, "put", len(m.delta.Put), "retired", len(m.delta.Retire))
	return out, nil
}

// made is a change as it is to be done.
type made struct {
	is    *siteNow // the site that it is made in
	scene plant.Scene
	delta plant.Delta
	from  mesh.Nanos
	until map[string]mesh.Nanos // of calendars that others are registered to follow
}

// make makes a change, in the site as it is, or will be when the change holds.
func (is *siteNow) make(c desk.Change, from mesh.Nanos) (m made, err error) {
	m = made{from: from}
	builtin, err := plant.Builtin()
	if err != nil {
		return m, err
	}
	try := func(at *siteNow) error {
		m.is, m.scene = at, sceneOf(at.site, at.register, builtin)
		m.delta, err = c.Make(m.scene)
		return err
	}
	at := *is
	if from >= is.until {
		if err := at.at(from); err != nil {
			return m, err
		}
	}
	turns, err := is.turns(from)
	if err != nil {
		return m, err
	}
	err = try(&at)
	if c.Action == "calendar.remove" && c.ValidFrom == "" { // what has not begun is taken out from when it does
		for i := 0; i < len(turns) && errors.Is(err, plant.ErrUnknown); i++ {
			m.from = turns[i].from
			if err := at.at(m.from); err != nil {
				return m, err
			}
			err = try(&at)
		}
	}
	m.until = stays(turns, m.delta.Calendars)
	if err == nil {
		err = is.differs(&m.delta, m.from, m.until)
	}
	if err == nil {
		err = mayChange(c, is.site.Name, m.scene, m.delta)
	}
	if err == nil {
		err = noSuchProducts(m.delta.Models)
	}
	keepModels(&m.delta, m.scene)
	return m, err
}

// tell says what changes.
func (m *made) tell(out *desk.Changed) {
	for _, x := range m.delta.Put {
		out.Put = append(out.Put, x.ID)
	}
	for _, x := range m.delta.Models {
		out.Models = append(out.Models, x.Ref())
	}
	for _, c := range m.delta.Calendars {
		out.Calendars = append(out.Calendars, c.ID)
		if end, ends := m.until[c.ID]; ends {
			out.Until = fromText(end)
		}
	}
	out.Retired, out.Removed, out.Rules = m.delta.Retire, m.delta.Drop, m.scene.DiffRules(m.delta)
}

// since is the instant from which a change holds. ahead: it may be still to come.
func (l *siteLog) since(text string, ahead bool) (mesh.Nanos, error) {
	now := l.now()
	switch text {
	case "":
		return now, nil
	case desk.Always:
		return math.MinInt64, nil
	}
	at, err := time.Parse(time.RFC3339, text)
	if err != nil || at.Year() < 1971 || at.Year() > 2200 {
		return 0, plant.Faults{{Field: "valid_from", What: fmt.Sprintf("%q is no instant such as 2026-11-28T06:00:00Z, nor always", text)}}
	}
	from := mesh.NanosOf(at)
	switch {
	case from <= now:
	case ahead && from <= now.Add(mostAhead):
	case ahead:
		return 0, plant.Faults{{Field: "valid_from", What: fmt.Sprintf("%s is more than %d days ahead, the plant's time is %s", text, mostAhead/(24*time.Hour), now)}}
	default:
		return 0, plant.Faults{{Field: "valid_from", What: fmt.Sprintf("%s is still to come, the plant's time is %s: make the change then", text, now)}}
	}
	return from, nil
}

func fromText(from mesh.Nanos) string {
	if from == math.MinInt64 {
		return desk.Always
	}
	return from.Time().UTC().Format(time.RFC3339Nano)
}

// keepModels has the models that machines are of in the register: a built-in one may be
// another program's tomorrow.
func keepModels(d *plant.Delta, s plant.Scene) {
	for _, m := range d.Put {
		for _, model := range s.Models {
			has := func(o plant.Model) bool { return o.Ref() == model.Ref() }
			if model.Ref() == m.Model && !slices.ContainsFunc(s.Register.Models, has) && !slices.ContainsFunc(d.Models, has) {
				d.Models = append(d.Models, model)
			}
		}
	}
}
