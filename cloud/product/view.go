package product

import (
	"fmt"
	"slices"
)

// Stretch is a part of a day, local clock times, for people to read. Days are those of
// the week that it begins in, as mon-fri; nil: it is of every day.
type Stretch struct {
	ID, Start, End string
	Days           []string
}

func (c clockTime) String() string { return fmt.Sprintf("%02d:%02d", c/60%24, c%60) }

// Shifts are the site's shifts as its file says them.
func (c *Calendar) Shifts() (out []Stretch) { return stretches(c.shifts) }

// Breaks are the site's planned breaks.
func (c *Calendar) Breaks() (out []Stretch) { return stretches(c.breaks) }

// Start is when a production day starts.
func (c *Calendar) Start() string { return c.start.String() }

// Holidays are the production days that are planned stops, in order.
func (c *Calendar) Holidays() (out []string) {
	for d := range c.holidays {
		out = append(out, d.String())
	}
	slices.Sort(out)
	return out
}

// Stops are the planned stops that come once, by local date and clock.
func (c *Calendar) Stops() (out []Stretch) {
	for _, s := range c.stops {
		out = append(out, Stretch{Start: s.From.Time().In(c.zone).Format(stopForm), End: s.To.Time().In(c.zone).Format(stopForm)})
	}
	return out
}

// FileCalendar says whether the site file has shifts, breaks or a beginning of days.
func (s *Site) FileCalendar() bool { return s.wrote.rest }

// CalendarID is the registered calendar that an equipment has; empty: it has none, or that
// of the site file.
func (s *Site) CalendarID(equipment string) string {
	if c := s.own[equipment]; c != nil {
		return c.id
	}
	return s.siteCalendar
}

// Foreign are the models that machines of the site file are of and that it hasn't, by
// machine.
func (s *Site) Foreign() map[string]string {
	out := map[string]string{}
	for i := range s.foreign {
		out[s.Equipment[i].ID] = s.Equipment[i].Model
	}
	return out
}

func stretches(in []shift) (out []Stretch) {
	for _, s := range in {
		out = append(out, Stretch{ID: s.id, Start: s.from.String(), End: s.to.String(), Days: s.days.words()})
	}
	return out
}
