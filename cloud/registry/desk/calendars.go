package desk

import (
	"fmt"
	"net/http"
	"slices"
	"time"

	"plantmesh/cloud/registry/plant"
)

// CalendarRow is a calendar, and whose windows it cuts.
type CalendarRow struct {
	plant.Calendar

	From string   `json:"from"` // file or register
	Cuts []string `json:"cuts"` // ids of machines that have no other

	// Of one that is registered and doesn't hold yet: from when it does, or has ended.
	ValidFrom string `json:"valid_from,omitempty"`
	Begins    string `json:"begins,omitempty"` // by its clock, as Mon 2026-12-07 06:00
	Ends      bool   `json:"ends,omitempty"`
}

// CalendarAt is the calendar of an id as it is where a change of it begins to hold: what is
// registered for Monday is what Monday's change is of. Before it begins, where no other one
// holds, it is the one that is to come. false: there is none then.
func CalendarAt(rows []CalendarRow, id, validFrom string) (is CalendarRow, ok bool) {
	at, err := time.Parse(time.RFC3339, validFrom)
	for _, x := range rows {
		if x.ID != id {
			continue
		}
		begins, coming := time.Parse(time.RFC3339, x.ValidFrom)
		if !ok || coming == nil && err == nil && !begins.After(at) {
			is, ok = x, true
		}
	}
	begins, coming := time.Parse(time.RFC3339, is.ValidFrom)
	if ok && is.Ends && coming == nil && err == nil && !begins.After(at) {
		return CalendarRow{}, false
	}
	return is, ok
}

// calendarRows are the calendars that who calls may see: the site's, and those of places
// that they may read; behind them those that are still to come.
func (d *Machines) calendarRows(w http.ResponseWriter, r *http.Request) (l Look, out []CalendarRow, ok bool) {
	if l, ok = d.look(w, r); !ok {
		return l, nil, false
	}
	out = []CalendarRow{}
	if f := l.Scene.FileCalendar; f != nil {
		out = append(out, CalendarRow{Calendar: *f, From: "file"})
	}
	seen := func(c *plant.Calendar) bool {
		return c.OfSite() || slices.ContainsFunc(l.Scene.Places(c), func(location string) bool { return d.May(r, ReadMachines, location) == nil })
	}
	for _, c := range l.Scene.Register.Calendars {
		if seen(&c) {
			out = append(out, CalendarRow{Calendar: c, From: "register"})
		}
	}
	for i := range out {
		out[i].Cuts = []string{}
		for _, x := range l.Rows {
			if x.Calendar == out[i].ID {
				out[i].Cuts = append(out[i].Cuts, x.ID)
			}
		}
	}
	for _, c := range l.Coming {
		if !seen(&c.Calendar) {
			continue
		}
		row := CalendarRow{Calendar: c.Calendar, From: "register", Cuts: []string{}, ValidFrom: c.ValidFrom, Begins: c.Begins, Ends: c.Ends}
		for _, x := range l.Rows { // those that who calls may see
			if slices.Contains(c.Cuts, x.ID) {
				row.Cuts = append(row.Cuts, x.ID)
			}
		}
		out = append(out, row)
	}
	return l, out, true
}

func (d *Machines) calendars(w http.ResponseWriter, r *http.Request) {
	if l, out, ok := d.calendarRows(w, r); ok {
		answer(w, map[string]any{"version": l.Scene.Register.Version, "data": out})
	}
}

func (d *Machines) calendar(w http.ResponseWriter, r *http.Request) {
	l, all, ok := d.calendarRows(w, r)
	if !ok {
		return
	}
	i := slices.IndexFunc(all, func(c CalendarRow) bool { return c.ID == r.PathValue("id") })
	if i < 0 {
		d.fail(w, r, fmt.Errorf("calendar %q is %w, nor in the site file", r.PathValue("id"), plant.ErrUnknown))
		return
	}
	answer(w, struct {
		CalendarRow

		Version int64 `json:"version"` // of the register
	}{all[i], l.Scene.Register.Version})
}

func (d *Machines) setCalendar(w http.ResponseWriter, r *http.Request) {
	var q struct {
		asked

		Calendar plant.Calendar `json:"calendar"`
	}
	if !d.read(w, r, &q) {
		return
	}
	if q.Calendar.ID == "" {
		q.Calendar.ID = r.PathValue("id")
	}
	if q.Calendar.ID != r.PathValue("id") {
		problem(w, http.StatusBadRequest, "a calendar keeps its id: register another one and remove this")
		return
	}
	d.change(w, r, "calendar.set", q.asked, func(s plant.Scene) (plant.Delta, error) { return s.SetCalendar(q.Calendar) })
}

func (d *Machines) removeCalendar(w http.ResponseWriter, r *http.Request) {
	var q asked
	if !d.read(w, r, &q) {
		return
	}
	d.change(w, r, "calendar.remove", q, func(s plant.Scene) (plant.Delta, error) { return s.RemoveCalendar(r.PathValue("id")) })
}
