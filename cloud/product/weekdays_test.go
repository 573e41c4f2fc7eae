package product

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"plantmesh/proto/mesh"
)

// weeklyPlant works from Monday to Friday in three shifts, on Saturday in one.
const weeklyPlant = `site: test
zone: Europe/Vienna
production_day_start: "06:00"
shifts:
  - {id: early, start: "06:00", end: "14:00", days: [mon-fri]}
  - {id: late, start: "14:00", end: "22:00", days: [mon-fri]}
  - {id: night, start: "22:00", end: "06:00", days: [mon-thu, fri]}
  - {id: early, start: "06:00", end: "12:00", days: [sat]}
breaks:
  - {start: "10:00", end: "10:30"}
  - {start: "18:00", end: "18:30", days: [mon-fri]}
equipment: [{id: m, line: l, kind: filler, source: s1, signals_prefix: l1.filler.}]
`

// A shift is of the production day that it begins in, whatever the clock does while it
// lasts: 2026-03-28 and 2026-10-24 are Saturdays, and the night after them is the one in
// which the clock is changed.
func TestWeekdays_AShiftIsOfTheDayItBeginsIn(t *testing.T) {
	// As weeklyPlant, but somebody works in the nights of Saturday, too, and Sunday's early
	// shift begins before the day does.
	nights := strings.Replace(weeklyPlant, "[mon-thu, fri]", "[mon-thu, fri, sat]", 1)
	midnight := strings.Replace(weeklyPlant, `day_start: "06:00"`, `day_start: "00:00"`, 1)
	before := strings.Replace(weeklyPlant, `{id: early, start: "06:00", end: "12:00", days: [sat]}`, `{id: warm-up, start: "04:30", end: "06:00", days: [sun]}`, 1)
	for what, c := range map[string]struct {
		plant, at string
		id        string // empty: no shift is planned
		from, to  string
	}{
		"Friday's night is Friday's on Friday":         {weeklyPlant, "2026-03-06T22:30:00Z", "2026-03-06-night", "2026-03-06T21:00:00Z", "2026-03-07T05:00:00Z"},
		"and on Saturday morning":                      {weeklyPlant, "2026-03-07T04:59:00Z", "2026-03-06-night", "2026-03-06T21:00:00Z", "2026-03-07T05:00:00Z"},
		"so it is where days begin at midnight":        {midnight, "2026-03-07T04:59:00Z", "2026-03-06-night", "2026-03-06T21:00:00Z", "2026-03-07T05:00:00Z"},
		"Saturday's shift is the short one":            {weeklyPlant, "2026-03-07T05:00:00Z", "2026-03-07-early", "2026-03-07T05:00:00Z", "2026-03-07T11:00:00Z"},
		"and nothing comes behind it":                  {weeklyPlant, "2026-03-07T11:00:00Z", "", "", ""},
		"nor in its night":                             {weeklyPlant, "2026-03-07T22:00:00Z", "", "", ""},
		"nor on Sunday":                                {weeklyPlant, "2026-03-08T09:00:00Z", "", "", ""},
		"nor in the night to Monday":                   {weeklyPlant, "2026-03-09T04:59:00Z", "", "", ""},
		"Monday begins with the early shift":           {weeklyPlant, "2026-03-09T05:00:00Z", "2026-03-09-early", "2026-03-09T05:00:00Z", "2026-03-09T13:00:00Z"},
		"spring: the night of Saturday is 7 h":         {nights, "2026-03-29T02:30:00Z", "2026-03-28-night", "2026-03-28T21:00:00Z", "2026-03-29T04:00:00Z"},
		"spring: the night of Sunday isn't planned":    {nights, "2026-03-29T20:30:00Z", "", "", ""},
		"spring: the first Monday begins at 04:00 UTC": {nights, "2026-03-30T04:00:00Z", "2026-03-30-early", "2026-03-30T04:00:00Z", "2026-03-30T12:00:00Z"},
		"autumn: the night of Saturday is 9 h":         {nights, "2026-10-25T00:45:00Z", "2026-10-24-night", "2026-10-24T20:00:00Z", "2026-10-25T05:00:00Z"},
		"autumn: without it nothing is":                {weeklyPlant, "2026-10-25T00:45:00Z", "", "", ""},
		"autumn: the Monday after":                     {weeklyPlant, "2026-10-26T05:00:00Z", "2026-10-26-early", "2026-10-26T05:00:00Z", "2026-10-26T13:00:00Z"},
		"before the day begins it is Sunday's":         {before, "2026-03-09T04:00:00Z", "2026-03-08-warm-up", "2026-03-09T03:30:00Z", "2026-03-09T05:00:00Z"},
		"and not on Sunday morning":                    {before, "2026-03-08T04:00:00Z", "", "", ""},
	} {
		s := site(t, c.plant)
		w, ok := s.Calendar.Window(WindowShift, clock(t, c.at))
		if ok != (c.id != "") || ok && (w.ShiftID != c.id || w.From != clock(t, c.from) || w.To != clock(t, c.to)) {
			t.Errorf("%s: %s is in %q [%s, %s) %v", what, c.at, w.ShiftID, w.From, w.To, ok)
		}
	}
}

// A day without shifts is as a holiday: its windows are there, and all of it is a planned
// stop. So is what lies beside the shifts of a day with fewer of them.
func TestWeekdays_WhatLiesInNoShiftIsAPlannedStop(t *testing.T) {
	s := site(t, weeklyPlant+"ideal_cycle_seconds: {filler: {a: 1}}\n")
	at := func(text string) string { return TimeText(clock(t, text)) }
	in := events(t, []sample{
		{"2026-03-06T05:00:00Z", "state", 6},
		{"2026-03-06T05:00:00Z", "product", "a"},
		{"2026-03-06T05:00:00Z", "produced", 0},
		{"2026-03-06T05:00:00Z", "scrap", 0},
		{"2026-03-08T09:30:00Z", "produced", 40},
		{"2026-03-09T05:30:00Z", "produced", 60},
	})
	got := rows(t, definition(t, "oee"), s, in, spans(t, "2026-03-06T05:00:00Z", "2026-03-10T05:00:00Z"))
	for key, want := range map[string]want{
		"day/" + at("2026-03-06T05:00:00Z"):   {"production_day": "2026-03-06", "planned_stop_seconds": 3600, "pbt_seconds": 23 * 3600},
		"day/" + at("2026-03-07T05:00:00Z"):   {"production_day": "2026-03-07", "planned_stop_seconds": 18*3600 + 1800, "pbt_seconds": 6*3600 - 1800},
		"day/" + at("2026-03-08T05:00:00Z"):   {"production_day": "2026-03-08", "planned_stop_seconds": 24 * 3600, "pbt_seconds": 0, "unknown_seconds": 0, "produced_count": 40, "oee_ratio": nil, "oee_reason": "no planned busy time in the window"},
		"hour/" + at("2026-03-08T09:00:00Z"):  {"planned_stop_seconds": 3600, "pbt_seconds": 0, "produced_count": 40, "shift_id": nil},
		"hour/" + at("2026-03-07T04:00:00Z"):  {"planned_stop_seconds": 0, "pbt_seconds": 3600, "shift_id": "2026-03-06-night"},
		"hour/" + at("2026-03-06T17:00:00Z"):  {"planned_stop_seconds": 1800, "pbt_seconds": 1800},
		"shift/" + at("2026-03-07T05:00:00Z"): {"shift_id": "2026-03-07-early", "planned_stop_seconds": 1800, "pbt_seconds": 6*3600 - 1800},
	} {
		check(t, key, got[key], want)
	}
	rate := rows(t, definition(t, "production-rate"), s, in, spans(t, "2026-03-06T05:00:00Z", "2026-03-10T05:00:00Z"))
	sunday := "day/" + at("2026-03-08T05:00:00Z")
	check(t, "rate of Sunday", rate[sunday], want{"produced_count": 40, "shift_id": nil, "unknown_seconds": 0, "coverage_ratio": 1})
	var shifts int
	for key := range got {
		if strings.HasPrefix(key, "shift/") {
			shifts++
		}
	}
	if shifts != 3+1+3 {
		t.Errorf("%d shifts from Friday to Monday", shifts)
	}
	// A holiday says the same of the same day.
	closed := site(t, strings.Replace(weeklyPlant, "breaks:", "holidays: [2026-03-08]\nbreaks:", 1)+"ideal_cycle_seconds: {filler: {a: 1}}\n")
	again := rows(t, definition(t, "oee"), closed, in, spans(t, "2026-03-06T05:00:00Z", "2026-03-10T05:00:00Z"))
	for key, row := range got {
		if fmt.Sprint(row) != fmt.Sprint(again[key]) {
			t.Errorf("%s: %v, as a holiday %v", key, row, again[key])
		}
	}
}

// split says each shift and break of a calendar seven times, once for each day of the week.
func (c calendarFile) split() calendarFile {
	out := c
	out.Shifts, out.Breaks = nil, nil
	for _, day := range dayNames() {
		for _, s := range c.Shifts {
			s.Days = []string{day}
			out.Shifts = append(out.Shifts, s)
		}
		for _, b := range c.Breaks {
			b.Days = []string{day}
			out.Breaks = append(out.Breaks, b)
		}
	}
	return out
}

// A calendar without days, one that says all of them, and one that says each day by itself
// cut time alike; only what lies in no shift is busy time in the first two.
func TestWeekdays_EveryDayIsAsBefore(t *testing.T) {
	start := mesh.NanosOf(time.Date(2026, 3, 27, 0, 0, 0, 0, time.UTC))
	all := mesh.Span{From: start, To: start.Add(10 * 24 * time.Hour)}
	for seed := range uint64(40) {
		daily := anyCalendar(rand.New(rand.NewPCG(seed, 3)))
		week := daily
		week.Shifts, week.Breaks = slices.Clone(daily.Shifts), slices.Clone(daily.Breaks)
		for i := range week.Shifts {
			week.Shifts[i].Days, week.Breaks[i].Days = []string{"thu-wed"}, []string{"mon-thu", "fri", "sat-sun"}
		}
		a, b, c := site(t, daily.inFile(t)).Calendar, site(t, week.inFile(t)).Calendar, site(t, daily.split().inFile(t)).Calendar
		for _, kind := range []WindowKind{WindowHour, WindowShift, WindowDay} {
			want := a.Windows(kind, all)
			if !slices.Equal(b.Windows(kind, all), want) || !slices.Equal(c.Windows(kind, all), want) {
				t.Fatalf("seed %d: %s differ: %+v", seed, kind, daily)
			}
		}
		for at := all.From; at < all.To; {
			x, y, z := a.cell(at), b.cell(at), c.cell(at)
			if fmt.Sprint(x) != fmt.Sprint(y) || x.Span != z.Span {
				t.Fatalf("seed %d: the cell of %s is %v, %v, %v: %+v", seed, at, x, y, z, daily)
			}
			if _, ok := a.shiftAt(at); !ok && len(c.shifts) > 0 {
				x.breaks = []mesh.Span{x.Span}
			}
			if fmt.Sprint(x) != fmt.Sprint(z) {
				t.Fatalf("seed %d: day by day the cell of %s is %v, want %v: %+v", seed, at, z, x, daily)
			}
			at = x.To
		}
	}
}

// Found here minute by minute from the site's clock: in which shift and break an instant
// lies.
func TestWeekdays_EachMinuteIsWhereTheClockSays(t *testing.T) {
	for seed := range uint64(24) {
		rng := rand.New(rand.NewPCG(seed, 17))
		x, weekly := anyCalendar(rng), false
		x.Zone = "Europe/Vienna"
		for i := range x.Shifts {
			if rng.IntN(3) > 0 {
				x.Shifts[i].Days, weekly = []string{dayNames()[rng.IntN(5)], "sat"}, true
			}
			if rng.IntN(3) > 0 {
				x.Breaks[i].Days = []string{"fri-mon"}
			}
		}
		c := &site(t, x.inFile(t)).Calendar
		for _, from := range []time.Time{time.Date(2026, 3, 27, 0, 0, 0, 0, time.UTC), time.Date(2026, 10, 23, 0, 0, 0, 0, time.UTC)} {
			begin := mesh.NanosOf(from)
			if len(c.shifts) > 0 {
				tiles(t, c, WindowShift, mesh.Span{From: begin, To: begin.Add(7 * 24 * time.Hour)}, true)
			}
			for minute := 0; minute < 5*24*60; minute += 7 {
				at := begin.Add(time.Duration(minute) * time.Minute)
				local := at.Time().In(c.zone)
				wall := clockTime(local.Hour()*60 + local.Minute())
				if _, before := at.Add(-time.Hour).Time().In(c.zone).Zone(); before != offsetOf(local) {
					continue // the clock was changed a moment ago: TestCalendar looks at what it shows then
				}
				in := func(s shift) bool { // it began today or yesterday
					for _, begins := range []time.Time{local, local.AddDate(0, 0, -1)} {
						day := begins
						if s.from < c.start {
							day = begins.AddDate(0, 0, -1) // the production day before
						}
						y, m, d := day.Date()
						since := wall - s.from
						if begins != local {
							since += wholeDay
						}
						if s.days.has((int(day.Weekday())+6)%7) && s.days.on(date{y, m, d}) && since >= 0 && since < s.length() {
							return true
						}
					}
					return false
				}
				shift := slices.IndexFunc(c.shifts, in)
				w, ok := c.shiftAt(at)
				if ok != (shift >= 0) || ok && !strings.HasSuffix(w.ShiftID, "-"+c.shifts[shift].id) {
					t.Fatalf("seed %d: %s is in %q, want %d of %+v", seed, local, w.ShiftID, shift, x)
				}
				planned := slices.ContainsFunc(c.breaks, in) || weekly && !ok
				cell := c.cell(at)
				if got := cell.planned(mesh.Span{From: at, To: at + 1}) > 0; got != planned {
					t.Fatalf("seed %d: %s is planned not to be worked: %v, want %v of %+v", seed, local, got, planned, x)
				}
			}
		}
	}
}

func offsetOf(t time.Time) int {
	_, offset := t.Zone()
	return offset
}

func TestWeekdays_Words(t *testing.T) {
	for said, want := range map[string]string{
		"mon": "mon", "mon-fri": "mon-fri", "sat": "sat", "fri-mon": "mon fri-sun", "mon-thu fri": "mon-fri", "tue mon": "mon tue",
		"mon-sun": "", "wed-tue": "", "sat-sun mon-fri": "", "mon mon": "mon", "mon wed fri": "mon wed fri",
	} {
		days, err := readDays(strings.Fields(said))
		if got := strings.Join(days.words(), " "); err != nil || got != want {
			t.Errorf("%s: %q %v, want %q", said, got, err, want)
		}
	}
	for said, want := range map[string]string{
		"monday":  `"monday" is no day of the week, mon to sun, nor are two of them with a hyphen between, as mon-fri`,
		"Mon":     `did you mean "mon"?`,
		"mon-":    `"" is no day of the week`,
		"mon-fr":  `"fr" is no day`,
		"sat-sat": `"sat-sat" ends on the day that it begins with: write sat, or mon-sun`,
		"":        "days names no day",
	} {
		if _, err := readDays(append([]string{}, strings.Fields(said)...)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %s", said, err, want)
		}
	}
}

func TestWeekdays_OverlapsNameTheDay(t *testing.T) {
	plant := func(start string, shifts ...string) string {
		return fmt.Sprintf("site: s\nzone: Europe/Vienna\nproduction_day_start: %q\nshifts: [%s]\n", start, strings.Join(shifts, ", "))
	}
	friday := `{id: night, start: "22:00", end: "06:00", days: [mon-fri]}`
	for what, c := range map[string]struct{ src, want string }{
		"on one day":                {plant("06:00", `{id: a, start: "06:00", end: "14:00", days: [mon-fri]}`, `{id: b, start: "13:00", end: "15:00", days: [fri-sun]}`), `site.yaml:4: shift "b" of fri, 13:00 to 15:00, overlaps shift "a" of fri, 06:00 to 14:00`},
		"on none":                   {plant("06:00", `{id: a, start: "06:00", end: "14:00", days: [mon-fri]}`, `{id: b, start: "06:00", end: "14:00", days: [sat, sun]}`), ""},
		"over the end of the day":   {plant("00:00", friday, `{id: b, start: "05:00", end: "13:00", days: [sat]}`), `shift "b" of sat, 05:00 to 13:00, overlaps shift "night" of fri, 22:00 to 06:00`},
		"before the day begins":     {plant("06:00", friday, `{id: b, start: "05:00", end: "13:00", days: [sat]}`), ""},
		"over the end of the week":  {plant("06:00", `{id: a, start: "22:00", end: "07:00", days: [sun]}`, `{id: b, start: "06:00", end: "14:00", days: [mon]}`), `shift "b" of mon, 06:00 to 14:00, overlaps shift "a" of sun, 22:00 to 07:00`},
		"with one of every day":     {plant("06:00", `{id: a, start: "06:00", end: "14:00"}`, `{id: b, start: "13:00", end: "15:00", days: [wed]}`), `shift "b" of wed, 13:00 to 15:00, overlaps shift "a" of wed, 06:00 to 14:00`},
		"both of every day":         {plant("06:00", `{id: a, start: "06:00", end: "14:00"}`, `{id: b, start: "13:00", end: "15:00"}`), `shift "b", 13:00 to 15:00, overlaps shift "a", 06:00 to 14:00`},
		"one id on two days":        {plant("06:00", `{id: a, start: "06:00", end: "14:00", days: [mon-fri]}`, `{id: a, start: "06:00", end: "12:00", days: [sat]}`), ""},
		"one id twice on a day":     {plant("06:00", `{id: a, start: "06:00", end: "14:00", days: [mon-fri]}`, `{id: a, start: "15:00", end: "16:00", days: [thu-sat]}`), `shift "a" stands twice on thu, fri`},
		"one id twice on every day": {plant("06:00", `{id: a, start: "06:00", end: "14:00"}`, `{id: a, start: "15:00", end: "16:00", days: [mon-sun]}`), `shift "a" stands twice`},
		"no day":                    {plant("06:00", `{id: a, start: "06:00", end: "14:00", days: []}`), "site.yaml:4: days names no day"},
		"a slip":                    {plant("06:00", `{id: a, start: "06:00", end: "14:00", days: [mo-fri]}`), `site.yaml:4: "mo" is no day of the week`},
		"breaks":                    {plant("06:00") + "breaks: [{start: \"10:00\", end: \"10:30\", days: [tue]}, {start: \"10:15\", end: \"11:00\", days: [mon-fri]}]\n", `break of tue, 10:15 to 11:00, overlaps break of tue, 10:00 to 10:30`},
	} {
		_, err := ParseSite("site.yaml", []byte(c.src))
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: %v, want %s", what, err, c.want)
		}
	}
}

// What is planned not to be worked is told as rows count it, over any changes.
func TestSites_StopsAreWhatRowsCount(t *testing.T) {
	s := with(t, nil, -1<<63, weeklyPlant)
	s = with(t, s, clock(t, "2026-03-08T07:15:00Z"), strings.Replace(weeklyPlant, "days: [sat]", "days: [sat, sun]", 1))
	all := mesh.Span{From: clock(t, "2026-03-07T05:00:00Z"), To: clock(t, "2026-03-09T05:00:00Z")}
	var got []string
	for _, x := range s.Stops(all) {
		got = append(got, x.From.Time().Format("02 15:04")+" "+x.To.Time().Format("02 15:04"))
	}
	if want := "07 09:00 07 09:30, 07 11:00 08 08:00, 08 09:00 08 09:30, 08 11:00 09 05:00"; strings.Join(got, ", ") != want {
		t.Errorf("stops are %s, want %s", strings.Join(got, ", "), want)
	}
	for _, kind := range []WindowKind{WindowHour, WindowDay} {
		for _, w := range s.Windows(kind, all) {
			var planned, told int64
			for at := w.From; at < w.To; {
				c := s.cell(at)
				planned += c.planned(c.Span)
				at = c.To
			}
			for _, x := range s.Stops(w.Span) {
				told += int64(x.Duration())
			}
			if planned != told {
				t.Errorf("of %s %s %d ns are planned stops, and %d told", kind, w.Key(), planned, told)
			}
		}
	}
}

// What the site file says is shown as it is, and a registered calendar cuts as the file's.
func TestWeekdays_AreShown(t *testing.T) {
	c := site(t, weeklyPlant).Calendar
	if got := fmt.Sprint(c.Shifts(), c.Breaks()); got != "[{early 06:00 14:00 [mon-fri]} {late 14:00 22:00 [mon-fri]} {night 22:00 06:00 [mon-fri]} {early 06:00 12:00 [sat]}] [{ 10:00 10:30 []} { 18:00 18:30 [mon-fri]}]" {
		t.Error(got)
	}
}
