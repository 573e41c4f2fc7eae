package product

import (
	"fmt"
	"math"
	"slices"
	"time"

	"plantmesh/proto/mesh"
)

// WindowKind is a sort of window.
type WindowKind string

// Sorts of windows: UTC hours, the site's shifts, and its production days.
const (
	WindowHour  WindowKind = "hour"
	WindowShift WindowKind = "shift"
	WindowDay   WindowKind = "day"
)

// Calendar cuts time at a site. Clock times are local. One that the day skips is
// the end of the skipped stretch, and one that the day has twice is the first,
// so that a later clock time is never an earlier instant. Durations are
// differences of instants, always.
type Calendar struct {
	zone    *time.Location
	offsets []offset  // of the zone, in time order
	start   clockTime // of a production day
	shifts  []shift
	breaks  []shift
	// weekly says that some shift is not of every day: then what lies in no shift is
	// planned not to be worked.
	weekly bool
	// Planned stops that come once: production days by the date of their start, and
	// stretches.
	holidays map[date]bool
	stops    []mesh.Span
}

// clockTime is a local time of day in minutes.
type clockTime int

const wholeDay clockTime = 24 * 60

// shift is a shift, or a break, which has no id.
type shift struct {
	id       string
	from, to clockTime // to before from: ends on the next date
	days     weekdays  // by the date of the production day that it begins in
}

// length is how long it is by the clock.
func (s shift) length() clockTime { return (s.to - s.from + wholeDay) % wholeDay }

func (s shift) String() string {
	if s.id == "" {
		return "break"
	}
	return fmt.Sprintf("shift %q", s.id)
}

// Window is one window of time.
type Window struct {
	mesh.Span

	Kind    WindowKind
	ShiftID string // the shift it is or lies in; empty for days, and where no shift is planned
	Day     string // production day, by the local date of its start
}

// Key names the window among those of its product and entity.
func (w Window) Key() string { return string(w.Kind) + "/" + TimeText(w.From) }

func parseClock(s string) (clockTime, error) {
	t, err := time.Parse("15:04", s)
	if err != nil {
		return 0, fmt.Errorf("%q is no clock time such as 06:00", s)
	}
	return clockTime(t.Hour()*60 + t.Minute()), nil
}

func clocks(from, to string) (f, t clockTime, err error) {
	if f, err = parseClock(from); err != nil {
		return 0, 0, err
	}
	t, err = parseClock(to)
	return f, t, err
}

// Zone is the site's time zone.
func (c *Calendar) Zone() *time.Location { return c.zone }

// date is a local calendar date.
type date struct {
	year  int
	month time.Month
	day   int
}

func (d date) next(n int) date {
	y, m, day := time.Date(d.year, d.month, d.day+n, 12, 0, 0, 0, time.UTC).Date()
	return date{y, m, day}
}

func (d date) String() string { return fmt.Sprintf("%04d-%02d-%02d", d.year, d.month, d.day) }

// offset is how far the clock of a zone is ahead of UTC from an instant on.
type offset struct{ from, ahead mesh.Nanos }

// offsets are those of a zone for all of time, kept in a table because looking
// one up in a time.Location parses the zone's rule each time.
func offsets(zone *time.Location) (out []offset) {
	for at := mesh.Nanos(math.MinInt64).Time().In(zone); at.Before(mesh.Nanos(math.MaxInt64).Time()); {
		_, seconds := at.Zone()
		ahead := mesh.Nanos(seconds) * mesh.Nanos(time.Second)
		from, to := at.ZoneBounds()
		switch {
		case len(out) == 0:
			out = append(out, offset{math.MinInt64, ahead})
		case out[len(out)-1].ahead != ahead:
			out = append(out, offset{mesh.NanosOf(from), ahead})
		}
		if to.IsZero() {
			break
		}
		if !to.After(at) { // ZoneBounds ends a leap year a day early, so its last day has no end
			to = at.Add(24 * time.Hour)
		}
		at = to
	}
	return out
}

// offsetAt is the place of the offset that holds at t.
func (c *Calendar) offsetAt(t mesh.Nanos) int {
	i, _ := slices.BinarySearchFunc(c.offsets, t, func(o offset, t mesh.Nanos) int {
		if o.from <= t {
			return -1
		}
		return 1
	})
	return max(i-1, 0)
}

// at is the first instant at which the clock of the zone shows t on date d, or
// more. time.Date names another around a change of the clock: where midnight is
// skipped, one of the day before.
func (c *Calendar) at(d date, t clockTime) mesh.Nanos {
	wall := mesh.NanosOf(time.Date(d.year, d.month, d.day, 0, int(t), 0, 0, time.UTC))
	i := c.offsetAt(wall.Add(-24 * time.Hour)) // no clock is a day ahead
	for i+1 < len(c.offsets) && wall-c.offsets[i].ahead >= c.offsets[i+1].from {
		i++
	}
	return max(wall-c.offsets[i].ahead, c.offsets[i].from)
}

// dayOf is the production day t lies in: the last one that has begun.
func (c *Calendar) dayOf(t mesh.Nanos) date {
	y, m, day := (t + c.offsets[c.offsetAt(t)].ahead).Time().Date()
	d := date{y, m, day}.next(1)
	for t < c.at(d, c.start) {
		d = d.next(-1)
	}
	return d
}

func (c *Calendar) daySpan(d date) mesh.Span {
	return mesh.Span{From: c.at(d, c.start), To: c.at(d.next(1), c.start)}
}

// span is when a shift or break of production day d is; empty on a day whose
// clock skips all of it.
func (c *Calendar) span(d date, s shift) mesh.Span {
	if s.from < c.start {
		d = d.next(1)
	}
	end := d
	if s.to < s.from {
		end = d.next(1)
	}
	return mesh.Span{From: c.at(d, s.from), To: c.at(end, s.to)}
}

// shiftAt is the shift t lies in; ok is false where none is planned.
func (c *Calendar) shiftAt(t mesh.Nanos) (w Window, ok bool) {
	day := c.dayOf(t)
	for _, d := range []date{day, day.next(-1), day.next(1)} {
		for _, s := range c.shifts {
			if span := c.span(d, s); span.Has(t) && s.days.on(d) {
				return Window{Kind: WindowShift, Span: span, ShiftID: d.String() + "-" + s.id, Day: d.String()}, true
			}
		}
	}
	return Window{}, false
}

func hourSpan(t mesh.Nanos) mesh.Span {
	const hour = mesh.Nanos(time.Hour)
	from := t - t%hour
	if t < 0 && t%hour != 0 {
		from -= hour
	}
	return mesh.Span{From: from, To: from + hour}
}

// Window is the window of a kind that t lies in; ok is false where there is
// none, which happens to shifts only.
func (c *Calendar) Window(kind WindowKind, t mesh.Nanos) (w Window, ok bool) {
	switch kind {
	case WindowShift:
		return c.shiftAt(t)
	case WindowDay:
		d := c.dayOf(t)
		return Window{Kind: kind, Span: c.daySpan(d), Day: d.String()}, true
	case WindowHour:
	}
	w = Window{Kind: WindowHour, Span: hourSpan(t)}
	w.Day = c.dayOf(w.From).String() // not of t: in zones of a half hour a day begins inside
	if s, ok := c.shiftAt(w.From); ok {
		w.ShiftID = s.ShiftID
	}
	return w, true
}

// Windows are the windows of a kind that meet span, in time order.
func (c *Calendar) Windows(kind WindowKind, span mesh.Span) (out []Window) {
	for t := span.From; t < span.To; {
		w, ok := c.Window(kind, t)
		if ok && w.Has(t) {
			out = append(out, w)
			t = w.To
			continue
		}
		t = c.cell(t).To // which is after t, whatever the zone does
	}
	return out
}

// cell is a stretch that no edge of any window cuts, and the planned breaks in it.
type cell struct {
	mesh.Span

	breaks []mesh.Span
}

// cell is the cell t lies in.
func (c *Calendar) cell(t mesh.Nanos) cell {
	out := cell{Span: hourSpan(t)}
	cut := func(edge mesh.Nanos) {
		if edge <= t {
			out.From = max(out.From, edge)
		} else {
			out.To = min(out.To, edge)
		}
	}
	day, worked := c.dayOf(t), false
	for _, d := range []date{day.next(-1), day, day.next(1)} {
		cut(c.at(d, c.start))
		for _, s := range c.shifts {
			if !s.days.on(d) {
				continue
			}
			span := c.span(d, s)
			worked = worked || span.Has(t)
			cut(span.From)
			cut(span.To)
		}
	}
	if c.weekly && !worked { // cells end where shifts begin, so it is so in all of this one
		out.breaks = []mesh.Span{out.Span}
		return out
	}
	out.breaks = c.stopsIn(out.Span, day)
	return out
}

// stopsIn is what of a stretch, which is no longer than an hour and lies at a production
// day, is planned not to be worked, by breaks, holidays and stops.
func (c *Calendar) stopsIn(s mesh.Span, day date) (out []mesh.Span) {
	for _, d := range []date{day.next(-1), day, day.next(1)} {
		for _, b := range c.breaks {
			if part := c.span(d, b).Meet(s); !part.Empty() && b.days.on(d) {
				out = append(out, part)
			}
		}
		if part := c.daySpan(d).Meet(s); c.holidays[d] && !part.Empty() {
			out = append(out, part)
		}
	}
	for _, stop := range c.stops {
		if part := stop.Meet(s); !part.Empty() {
			out = append(out, part)
		}
	}
	return mesh.Joined(out) // time that is planned twice not to be worked is so once
}

// planned is how much of s lies in planned breaks, which don't overlap.
func (c *cell) planned(s mesh.Span) (ns int64) {
	for _, b := range c.breaks {
		ns += int64(b.Meet(s).Duration())
	}
	return ns
}
