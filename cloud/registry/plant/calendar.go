package plant

import (
	"fmt"
	"slices"
	"strings"

	"plantmesh/proto/strict"
)

// Calendar is a calendar of the register, in the words of the site file. Without lines and
// machines it is the site's: of all that have no other. One of lines or machines has the
// site's zone and beginning of days where it says none.
type Calendar struct {
	ID                 string    `json:"id" yaml:"id"`
	Zone               string    `json:"zone,omitempty" yaml:"zone"`
	ProductionDayStart string    `json:"production_day_start,omitempty" yaml:"production_day_start"`
	Shifts             []Shift   `json:"shifts,omitempty" yaml:"shifts"`
	Breaks             []Stretch `json:"breaks,omitempty" yaml:"breaks"`     // planned stops
	Holidays           []string  `json:"holidays,omitempty" yaml:"holidays"` // production days, as 2026-12-25
	Stops              []Stop    `json:"stops,omitempty" yaml:"stops"`       // planned, once
	Lines              []string  `json:"lines,omitempty" yaml:"lines"`
	Machines           []string  `json:"machines,omitempty" yaml:"machines"` // they go before lines
}

// Shift is a shift, by local clock times. Days are those of the week, or ranges of them, of
// the production day that it begins in: mon, mon-fri; nil: it is of every day.
type Shift struct {
	ID    string   `json:"id" yaml:"id"`
	Start string   `json:"start" yaml:"start"`
	End   string   `json:"end" yaml:"end"`
	Days  []string `json:"days,omitempty" yaml:"days"`
}

// Stretch is a part of each day, or of some days as those of a shift, by local clock times.
type Stretch struct {
	Start string   `json:"start" yaml:"start"`
	End   string   `json:"end" yaml:"end"`
	Days  []string `json:"days,omitempty" yaml:"days"`
}

// Stop is a stretch of time, by local date and clock: 2026-12-24T14:00.
type Stop struct {
	From string `json:"from" yaml:"from"`
	To   string `json:"to" yaml:"to"`
}

// FileCalendar is the id by which the calendar of the site file is shown.
const FileCalendar = "site"

const (
	maxCalendars = 100
	maxShifts    = 48 // of a calendar, and as many breaks
	maxStops     = 500
	maxDays      = 7 // of a shift or break
)

// OfSite says whether it is of all that have no other.
func (c *Calendar) OfSite() bool { return len(c.Lines)+len(c.Machines) == 0 }

// ParseCalendar reads a calendar's file, YAML or JSON, as the site file has it; faults
// name file and line.
func ParseCalendar(file string, src []byte) (c Calendar, err error) {
	_, err = strict.Parse(file, src, &c)
	return c, err
}

// Calendar is the calendar of an id; nil where there is none.
func (r *Register) Calendar(id string) *Calendar {
	for i := range r.Calendars {
		if r.Calendars[i].ID == id {
			return &r.Calendars[i]
		}
	}
	return nil
}

// SetCalendar registers a calendar, or puts it in the place of the one with its id.
func (s *Scene) SetCalendar(c Calendar) (d Delta, err error) {
	return Delta{Calendars: []Calendar{c}}, append(s.checkCalendar(&c), s.claims(&c)...).err()
}

// RemoveCalendar takes calendars out.
func (s *Scene) RemoveCalendar(ids ...string) (d Delta, err error) {
	for _, id := range ids {
		if s.Register.Calendar(id) != nil {
			continue
		}
		if id == FileCalendar && s.FileCalendar != nil {
			return d, Faults{{ID: id, Field: "id", What: "is that of the site file: change it there"}}
		}
		return d, fmt.Errorf("calendar %q is %w", id, ErrUnknown)
	}
	return Delta{Drop: ids}, nil
}

// Places are the locations that a calendar is of.
func (s *Scene) Places(c *Calendar) (out []string) {
	if c.OfSite() {
		return []string{s.Site}
	}
	for _, line := range c.Lines {
		out = append(out, s.Site+"/"+line)
	}
	for _, id := range c.Machines {
		m := &Machine{ID: id}
		for _, all := range [][]Machine{s.File, s.Register.Machines} {
			if i := slices.IndexFunc(all, func(o Machine) bool { return o.ID == id }); i >= 0 {
				m = &all[i]
			}
		}
		out = append(out, m.Location(s.Site))
	}
	return out
}

func (s *Scene) checkCalendar(c *Calendar) (out Faults) {
	fault := func(field, format string, args ...any) {
		out = append(out, Fault{ID: c.ID, Field: field, What: fmt.Sprintf(format, args...)})
	}
	if !Name(c.ID) {
		fault("id", "%q is no id of a calendar: small letters, digits, - and _, at most 63", c.ID)
	}
	if len(c.Shifts) > maxShifts || len(c.Breaks) > maxShifts || len(c.Holidays)+len(c.Stops) > maxStops || len(c.Lines) > MaxMachines || len(c.Machines) > MaxMachines {
		fault("", "has more than %d shifts, %d breaks, %d holidays and stops, or %d lines or machines", maxShifts, maxShifts, maxStops, MaxMachines)
		return out
	}
	for _, x := range c.Shifts {
		if !text(x.ID) {
			fault("shifts", "%q is longer than %d bytes, or has more than one line", x.ID, maxText)
		}
		badDays(fault, "shifts", x.Days)
	}
	for _, x := range c.Breaks {
		badDays(fault, "breaks", x.Days)
	}
	var lines, machines []string
	for _, m := range slices.Concat(s.File, s.Register.Machines) {
		machines = append(machines, m.ID)
		if m.Line != "" {
			lines = append(lines, m.Line)
		}
	}
	slices.Sort(lines)
	for _, x := range []struct {
		field, what string
		said, are   []string
	}{{"lines", "no machine is on line %q", c.Lines, slices.Compact(lines)}, {"machines", "there is no machine %q", c.Machines, machines}} {
		for _, name := range x.said {
			if slices.Contains(x.are, name) {
				continue
			}
			what := fmt.Sprintf(x.what, name)
			if near := strict.Nearest(name, x.are); near != "" {
				what += fmt.Sprintf("; did you mean %q?", near)
			}
			fault(x.field, "%s", what)
		}
	}
	return out
}

// badDays says whether there are too many days, or none: that would be lost on the way, as
// if every day had been said. Their words are read with the rest of the site.
func badDays(fault func(field, format string, args ...any), field string, said []string) {
	if said != nil && len(said) == 0 || len(said) > maxDays {
		fault(field, "days has %d entries: name one to %d, as mon or mon-fri, or leave it out for every day", len(said), maxDays)
	}
}

// claims says what of a calendar's another one has.
func (s *Scene) claims(c *Calendar) (out Faults) {
	fault := func(field, format string, args ...any) {
		out = append(out, Fault{ID: c.ID, Field: field, What: fmt.Sprintf(format, args...)})
	}
	if f := s.FileCalendar; f != nil {
		switch {
		case c.OfSite():
			fault("", "the site's calendar stands in the site file: take production_day_start, shifts, breaks, holidays and stops out there, or say of which lines or machines this one is")
		case c.ID == FileCalendar:
			fault("id", "is that of the site file: call it otherwise")
		}
	}
	for i := range s.Register.Calendars {
		o := &s.Register.Calendars[i]
		switch {
		case o.ID == c.ID:
			continue
		case o.OfSite() && c.OfSite():
			fault("", "%s is the site's already: say of which lines or machines this one is, or remove that one", o.ID)
		}
		for _, x := range []struct {
			field     string
			has, want []string
		}{{"lines", o.Lines, c.Lines}, {"machines", o.Machines, c.Machines}} {
			for _, name := range x.want {
				if slices.Contains(x.has, name) {
					fault(x.field, "%s is of calendar %s already: take it out there first", name, o.ID)
				}
			}
		}
	}
	return out
}

// applyCalendars puts what a change has of calendars into a register.
func (d *Delta) applyCalendars(r *Register) {
	for _, c := range d.Calendars {
		r.Calendars = slices.DeleteFunc(r.Calendars, func(o Calendar) bool { return o.ID == c.ID })
		r.Calendars = append(r.Calendars, c)
	}
	r.Calendars = slices.DeleteFunc(r.Calendars, func(o Calendar) bool { return slices.Contains(d.Drop, o.ID) })
	slices.SortFunc(r.Calendars, func(a, b Calendar) int { return strings.Compare(a.ID, b.ID) })
}
