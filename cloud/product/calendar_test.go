package product

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"plantmesh/proto/mesh"
)

// zones are those whose clocks do something of their own: skip midnight, change
// by half an hour, count quarters, change four times a year, or never.
func zones() []string {
	return []string{
		"Africa/Cairo", "Africa/Casablanca", "America/Havana", "America/Santiago", "America/St_Johns",
		"Asia/Beirut", "Asia/Kathmandu", "Atlantic/Azores", "Australia/Lord_Howe", "Europe/Vienna",
	}
}

// plan is what a day is cut into. Shifts follow each other from edge to edge,
// around the clock; open leaves the last one out.
type plan struct {
	start string
	edges []string
	open  bool
}

func plans() (out []plan) {
	for _, start := range []string{"00:00", "02:30", "06:00"} {
		out = append(out,
			plan{start, []string{"06:00", "14:00", "22:00"}, false},
			plan{start, []string{"00:00", "00:30", "12:00"}, false},
			plan{start, []string{"00:30", "02:15", "02:45", "23:30"}, false},
			plan{start, []string{"01:30", "14:00", "22:00"}, true},
		)
	}
	return out
}

func (p plan) calendar(t *testing.T, zone string) *Calendar {
	t.Helper()
	var src strings.Builder
	fmt.Fprintf(&src, "site: s\nzone: %s\nproduction_day_start: %q\nshifts:\n", zone, p.start)
	for i := range p.edges {
		if p.open && i == len(p.edges)-1 {
			break
		}
		fmt.Fprintf(&src, "  - {id: s%d, start: %q, end: %q}\n", i, p.edges[i], p.edges[(i+1)%len(p.edges)])
	}
	src.WriteString("breaks:\n")
	for _, b := range [][2]string{{"00:00", "00:30"}, {"01:45", "02:15"}, {"02:15", "02:45"}, {"10:00", "10:30"}, {"23:45", "00:00"}} {
		fmt.Fprintf(&src, "  - {start: %q, end: %q}\n", b[0], b[1])
	}
	return &site(t, src.String()).Calendar
}

// changes are the instants at which a zone's offset changes, in some years.
func changes(t *testing.T, zone string, from, to int) (out []mesh.Nanos) {
	t.Helper()
	in, err := time.LoadLocation(zone)
	if err != nil {
		t.Fatal(err)
	}
	for at := time.Date(from, 1, 1, 0, 0, 0, 0, in); ; {
		_, next := at.ZoneBounds()
		if next.IsZero() || next.Year() >= to {
			return out
		}
		out, at = append(out, mesh.NanosOf(next)), next
	}
}

// A clock time is the first instant at which the clock shows it or more, found
// here by looking at the clock every minute.
func TestCalendar_AClockTimeIsItsFirstInstant(t *testing.T) {
	for _, zone := range zones() {
		c := plans()[0].calendar(t, zone)
		for _, change := range changes(t, zone, 2020, 2036) {
			u := change.Add(-40 * time.Hour).Time().Truncate(time.Minute)
			wall := func() time.Time { // what the clock shows, as if it were in UTC
				_, offset := u.In(c.zone).Zone()
				return u.Add(time.Duration(offset) * time.Second)
			}
			y, m, d := wall().Date()
			for minute := range 48 * 60 {
				want := time.Date(y, m, d+1, 0, minute, 0, 0, time.UTC)
				for wall().Before(want) {
					u = u.Add(time.Minute)
				}
				wy, wm, wd := want.Date()
				if got := c.at(date{wy, wm, wd}, clockTime(minute%(24*60))); got != mesh.NanosOf(u) {
					t.Fatalf("%s: %s is %s, want %s", zone, want.Format(time.DateTime), got, u)
				}
			}
		}
	}
}

// Every instant lies in one day and, where the plan has no hole, in one shift,
// on every day of sixteen years.
func TestCalendar_DaysAndShiftsTileTime(t *testing.T) {
	first, last := date{2020, 1, 1}, date{2035, 12, 31}
	for _, zone := range zones() {
		for _, p := range plans() {
			c := p.calendar(t, zone)
			slices.SortFunc(c.shifts, func(x, y shift) int {
				return int((x.from-c.start+wholeDay)%wholeDay - (y.from-c.start+wholeDay)%wholeDay)
			})
			var before mesh.Nanos // where the shift before ended
			for d, day := first, c.daySpan(first); d != last; d = d.next(1) {
				if p.open { // once a start is enough
					if x, y := c.dayOf(day.From), c.dayOf(day.To-1); x != d || y != d {
						t.Fatalf("%s %v: day %s begins in day %s and ends in day %s", zone, p, d, x, y)
					}
				}
				for i, s := range c.shifts {
					is := c.span(d, s)
					if is.To < is.From || before != 0 && (is.From < before || is.From > before && !p.open) {
						t.Fatalf("%s %v: shift %d of %s is [%s, %s), the one before ended at %s", zone, p, i, d, is.From, is.To, before)
					}
					before = is.To
				}
				next := c.daySpan(d.next(1))
				if day.Empty() || day.To != next.From {
					t.Fatalf("%s %v: day %s is [%s, %s)", zone, p, d, day.From, day.To)
				}
				day = next
			}
		}
	}
}

// tiles demands that windows follow each other without a hole or an overlap
// over a stretch, and that the window of every instant of theirs is they.
func tiles(t *testing.T, c *Calendar, kind WindowKind, over mesh.Span, holes bool) {
	t.Helper()
	all := c.Windows(kind, over)
	if len(all) == 0 || !holes && (all[0].From > over.From || all[len(all)-1].To < over.To) {
		t.Fatalf("%d windows %s do not cover [%s, %s)", len(all), kind, over.From, over.To)
	}
	keys := map[string]bool{}
	for i, w := range all {
		if w.Empty() || keys[w.Key()] {
			t.Fatalf("%s %s stands twice or is empty", kind, w.Key())
		}
		keys[w.Key()] = true
		for _, at := range []mesh.Nanos{w.From, w.From + (w.To-w.From)/2, w.To - 1} {
			if x, ok := c.Window(kind, at); !ok || x != w {
				t.Fatalf("%s lies in %v, and in %v", at, w, x)
			}
		}
		if i == 0 || all[i-1].To == w.From {
			continue
		}
		if gap := (mesh.Span{From: all[i-1].To, To: w.From}); !holes || gap.Empty() {
			t.Fatalf("%s %s begins at %s, the one before ends at %s", kind, w.Key(), w.From, gap.From)
		}
		for _, at := range []mesh.Nanos{all[i-1].To, w.From - 1} {
			if x, ok := c.Window(kind, at); ok {
				t.Fatalf("%s lies in a hole of the plan, and in %v", at, x)
			}
		}
	}
}

// cellsFit demands that cells tile a stretch, that no window cuts one, and that
// the planned breaks in them are the breaks of its days.
func cellsFit(t *testing.T, c *Calendar, over mesh.Span) {
	t.Helper()
	var planned int64
	for at := over.From; at < over.To; {
		x := c.cell(at)
		if x.From > at || x.To <= at {
			t.Fatalf("the cell of %s is [%s, %s)", at, x.From, x.To)
		}
		for _, kind := range []WindowKind{WindowHour, WindowShift, WindowDay} {
			w, ok := c.Window(kind, at)
			v, also := c.Window(kind, x.To-1)
			if ok != also || ok && w != v {
				t.Fatalf("cell [%s, %s) begins in %v and ends in %v", x.From, x.To, w, v)
			}
		}
		for i, b := range x.breaks {
			if b.Empty() || i > 0 && x.breaks[i-1].To > b.From {
				t.Fatalf("breaks %v in cell [%s, %s)", x.breaks, x.From, x.To)
			}
		}
		planned += x.planned(over)
		at = x.To
	}
	var want int64
	for d := c.dayOf(over.From).next(-1); c.daySpan(d).From < over.To; d = d.next(1) {
		for _, b := range c.breaks {
			want += int64(c.span(d, b).Meet(over).Duration())
		}
	}
	if planned != want || want < 0 {
		t.Fatalf("%d ns planned in [%s, %s), want %d", planned, over.From, over.To, want)
	}
}

func TestCalendar_WindowsAroundEveryChange(t *testing.T) {
	for _, zone := range zones() {
		edges := changes(t, zone, 2026, 2027)
		if len(edges) == 0 { // it has none: any day is as good
			edges = []mesh.Nanos{clock(t, "06:00")}
		}
		for _, p := range plans() {
			t.Run(fmt.Sprintf("%s/%s-%s", zone, p.start, p.edges[0]), func(t *testing.T) {
				c := p.calendar(t, zone)
				for _, at := range edges {
					over := mesh.Span{From: at.Add(-26 * time.Hour), To: at.Add(26 * time.Hour)}
					tiles(t, c, WindowHour, over, false)
					tiles(t, c, WindowDay, over, false)
					tiles(t, c, WindowShift, over, p.open)
					cellsFit(t, c, over)
				}
			})
		}
	}
}

func TestCalendar_ClocksThatAreSkippedOrShownTwice(t *testing.T) {
	for name, c := range map[string]struct {
		zone, start string
		at          string // any instant in it
		kind        WindowKind
		id          string
		from, to    string
	}{
		"a day begins where midnight is skipped":     {"America/Santiago", "00:00", "2026-09-06T04:30:00Z", WindowDay, "2026-09-06", "2026-09-06T04:00:00Z", "2026-09-07T03:00:00Z"},
		"and the day before ends there":              {"America/Santiago", "00:00", "2026-09-06T03:30:00Z", WindowDay, "2026-09-05", "2026-09-05T04:00:00Z", "2026-09-06T04:00:00Z"},
		"a day begins at the first of two midnights": {"America/Havana", "00:00", "2026-11-01T04:30:00Z", WindowDay, "2026-11-01", "2026-11-01T04:00:00Z", "2026-11-02T05:00:00Z"},
		"a shift ends where its end is skipped":      {"Europe/Vienna", "06:00", "2026-03-29T00:30:00Z", WindowShift, "2026-03-28-a", "2026-03-28T21:00:00Z", "2026-03-29T01:00:00Z"},
		"a shift ends at the first of two":           {"Europe/Vienna", "06:00", "2026-10-24T23:30:00Z", WindowShift, "2026-10-24-a", "2026-10-24T20:00:00Z", "2026-10-25T00:30:00Z"},
		"the next has the hour that comes again":     {"Europe/Vienna", "06:00", "2026-10-25T01:15:00Z", WindowShift, "2026-10-24-b", "2026-10-25T00:30:00Z", "2026-10-25T05:00:00Z"},
	} {
		t.Run(name, func(t *testing.T) {
			s := site(t, fmt.Sprintf("site: s\nzone: %s\nproduction_day_start: %q\nshifts:\n  - {id: a, start: \"22:00\", end: \"02:30\"}\n  - {id: b, start: \"02:30\", end: \"06:00\"}\n", c.zone, c.start))
			w, ok := s.Calendar.Window(c.kind, clock(t, c.at))
			id := w.ShiftID
			if c.kind == WindowDay {
				id = w.Day
			}
			if !ok || id != c.id || w.From != clock(t, c.from) || w.To != clock(t, c.to) {
				t.Errorf("%s is [%s, %s)", id, w.From, w.To)
			}
		})
	}
}

// time.Location.ZoneBounds ends a leap year a day early; a walk along it would
// stand still there.
func TestCalendar_LastDayOfALeapYear(t *testing.T) {
	c := plans()[0].calendar(t, "Europe/Vienna")
	for year := 2040; year < 2240; year += 4 {
		d := date{year, 12, 31}
		if got, want := c.at(d, 0).Time(), time.Date(year, 12, 30, 23, 0, 0, 0, time.UTC); !got.Equal(want) {
			t.Errorf("%s begins at %s, want %s", d, got, want)
		}
		if got, want := c.at(date{year, 7, 1}, 0).Time(), time.Date(year, 6, 30, 22, 0, 0, 0, time.UTC); !got.Equal(want) {
			t.Errorf("July %d begins at %s, want %s", year, got, want)
		}
	}
}

// An hour that a production day begins in belongs to the day of its start,
// wherever a reader starts to look.
func TestCalendar_HourOfAHalfHourZone(t *testing.T) {
	c := plan{start: "06:00", edges: []string{"06:00", "14:00", "22:00"}}.calendar(t, "Asia/Kolkata")
	var days []string
	for _, at := range []string{"2026-03-02T00:00:00Z", "2026-03-02T00:45:00Z"} { // 05:30 and 06:15 there
		w, _ := c.Window(WindowHour, clock(t, at))
		days = append(days, w.Day+" "+w.ShiftID)
	}
	if want := "2026-03-01 2026-03-01-s2"; !slices.Equal(days, []string{want, want}) {
		t.Errorf("the hour is of %v", days)
	}
}

// Where the plan has no shift there is none: the hours stand, without one.
func TestCalendar_TimeOutsideTheShifts(t *testing.T) {
	s := site(t, `
site: test
zone: Europe/Vienna
production_day_start: "06:00"
shifts: [{id: early, start: "06:00", end: "14:00"}, {id: late, start: "15:30", end: "22:00"}]
equipment: [{id: l1-filler, line: l1, kind: filler, source: s1, signals_prefix: l1.filler.}]
`)
	in := events(t, []sample{{"2026-03-02T05:00:00Z", "state", 6}, {"2026-03-02T05:00:00Z", "produced", 0}, {"2026-03-02T13:45:00Z", "produced", 30}, {"2026-03-02T14:15:00Z", "produced", 50}})
	got := rows(t, definition(t, "production-rate"), s, in, spans(t, "2026-03-02T05:00:00Z", "2026-03-03T05:00:00Z"))
	if len(got) != 24+2+1 {
		t.Errorf("%d rows", len(got))
	}
	check(t, "between", got["hour/"+TimeText(clock(t, "13:00"))], want{"shift_id": nil, "production_day": "2026-03-02", "produced_count": 30})
	check(t, "night", got["hour/"+TimeText(clock(t, "2026-03-03T00:00:00Z"))], want{"shift_id": nil, "production_day": "2026-03-02"})
	check(t, "late", got["shift/"+TimeText(clock(t, "14:30"))], nil)
	check(t, "hour of two", got["hour/"+TimeText(clock(t, "14:00"))], want{"shift_id": nil, "produced_count": 20})
	check(t, "shift", got["shift/"+TimeText(clock(t, "14:30"))], want{"shift_id": "2026-03-02-late", "produced_count": 0})
	check(t, "day", got["day/"+TimeText(clock(t, "05:00"))], want{"produced_count": 50, "shift_id": nil})
}
