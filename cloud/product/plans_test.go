package product

import (
	"cmp"
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"plantmesh/proto/mesh"
)

const plannedSite = `site: s
equipment:
  - {id: m1, line: l1, kind: k, source: src, signals_prefix: "m1."}
  - {id: m2, line: l2, kind: k, source: src, signals_prefix: "m2."}
  - {id: m3, line: l1, kind: k, source: src, signals_prefix: "m3."}
`

func anyCalendar(rng *rand.Rand) calendarFile {
	clock := func(minutes int) string { return clockTime(minutes % int(wholeDay)).String() }
	c := calendarFile{Zone: []string{"Europe/Vienna", "America/Santiago", "Asia/Kolkata"}[rng.IntN(3)], ProductionDayStart: clock(rng.IntN(24 * 60))}
	at := rng.IntN(24 * 60)
	for i := range rng.IntN(4) {
		to := at + 60 + rng.IntN(400)
		c.Shifts = append(c.Shifts, shiftFile{ID: fmt.Sprint("s", i), Start: clock(at), End: clock(to)})
		c.Breaks = append(c.Breaks, breakFile{Start: clock(at + 10), End: clock(at + 40)})
		at = to
	}
	return c
}

func asText(t *testing.T, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// inFile is a site file that has a calendar.
func (c calendarFile) inFile(t *testing.T) string {
	t.Helper()
	return fmt.Sprintf("%szone: %s\nproduction_day_start: %q\nshifts: %s\nbreaks: %s\nholidays: %s\nstops: %s\n", plannedSite, c.Zone, c.ProductionDayStart,
		asText(t, append([]shiftFile{}, c.Shifts...)), asText(t, append([]breakFile{}, c.Breaks...)), asText(t, append([]string{}, c.Holidays...)), asText(t, append([]stopFile{}, c.Stops...)))
}

// behind is a file with calendars in the register behind it.
func behind(t *testing.T, file string, all ...registeredCalendar) string {
	t.Helper()
	return file + registered + asText(t, map[string]any{"version": 1, "calendars": all}) + "\n"
}

// Wherever a machine's calendar stands, and whatever others have, its time is cut as if
// the site file had it; so it is along any changes.
func TestSites_AMachineHasTheWindowsOfItsCalendar(t *testing.T) {
	start := mesh.NanosOf(time.Date(2026, 3, 27, 0, 0, 0, 0, time.UTC))
	all := mesh.Span{From: start, To: start.Add(6 * 24 * time.Hour)}
	for seed := range uint64(12) {
		rng := rand.New(rand.NewPCG(seed, 11))
		var s *Sites
		want, from := map[string]*Sites{}, mesh.Nanos(math.MinInt64)
		for range 1 + rng.IntN(3) {
			site, line, machine := anyCalendar(rng), anyCalendar(rng), anyCalendar(rng)
			of := map[string]calendarFile{"m1": site, "m2": site, "m3": site}
			file, registered := site.inFile(t), []registeredCalendar{}
			if rng.IntN(2) == 0 {
				file, registered = plannedSite, append(registered, registeredCalendar{calendarFile: site, ID: "plant"})
			}
			if rng.IntN(3) > 0 {
				of["m1"], of["m3"] = line, line
				registered = append(registered, registeredCalendar{calendarFile: line, ID: "line", Lines: []string{"l1"}})
			}
			if rng.IntN(3) > 0 {
				of["m3"] = machine
				registered = append(registered, registeredCalendar{calendarFile: machine, ID: "a", Machines: []string{"m3"}})
			}
			s = with(t, s, from, behind(t, file, registered...))
			for id, c := range of {
				want[id] = with(t, want[id], from, c.inFile(t)+fmt.Sprintf("mapping_version: \"%d\"\n", from))
			}
			from = max(from, start) + 1 + mesh.Nanos(rng.Int64N(int64(48*time.Hour)))
		}
		cuts := s.Cuts()
		for id, w := range want {
			of := cmp.Or(cuts[id], s)
			for _, kind := range []WindowKind{WindowHour, WindowShift, WindowDay} {
				got, want := of.Windows(kind, all), w.Windows(kind, all)
				for i := range min(len(got), len(want)) {
					if got[i] != want[i] {
						t.Fatalf("seed %d: %s of %s is %+v, want %+v", seed, kind, id, got[i], want[i])
					}
				}
				if len(got) != len(want) {
					t.Fatalf("seed %d: %d of %s of %s, want %d", seed, len(got), kind, id, len(want))
				}
			}
			for range 40 {
				at := start.Add(time.Duration(rng.Int64N(int64(all.Duration()))))
				if got, want := fmt.Sprint(of.cell(at)), fmt.Sprint(w.cell(at)); got != want {
					t.Fatalf("seed %d: the cell of %s at %s is %s, want %s", seed, id, at, got, want)
				}
			}
		}
	}
}

func TestCalendars_NameTheFault(t *testing.T) {
	file := "zone: Europe/Vienna\nshifts: [{id: early, start: \"06:00\", end: \"14:00\"}]\n" + plannedSite
	zoned := "zone: Europe/Vienna\n" + plannedSite
	c := func(id, zone string, of ...string) registeredCalendar {
		x := registeredCalendar{calendarFile: calendarFile{Zone: zone}, ID: id}
		for _, name := range of {
			if strings.HasPrefix(name, "l") {
				x.Lines = append(x.Lines, name)
			} else {
				x.Machines = append(x.Machines, name)
			}
		}
		return x
	}
	late := c("late", "", "l1")
	late.Shifts = []shiftFile{{"a", "06:00", "14:00", nil}, {"b", "13:00", "20:00", nil}}
	for what, x := range map[string]struct {
		src  string
		want string
	}{
		"in both":         {behind(t, file, c("plant", "UTC")), "the site's calendar stands in the site file, and calendar \"plant\""},
		"two zones":       {behind(t, zoned, c("plant", "UTC")), "the site file has zone Europe/Vienna, and calendar \"plant\" has UTC"},
		"no zone":         {behind(t, plannedSite, c("plant", "")), "calendar \"plant\": \"\" is no IANA time zone"},
		"two of the site": {behind(t, zoned, c("a", ""), c("b", "")), "calendars \"a\" and \"b\" are both the site's"},
		"line twice":      {behind(t, file, c("a", "", "l1"), c("b", "", "l2", "l1")), "line l1 is of calendar \"a\" and of calendar \"b\""},
		"machine twice":   {behind(t, file, c("a", "", "m1"), c("b", "", "m1")), "machine m1 is of calendar"},
		"overlap":         {behind(t, file, late), "calendar \"late\": shift \"b\", 13:00 to 20:00, overlaps"},
		"a holiday":       {file + "holidays: [Christmas]\n", "site.yaml:8: \"Christmas\" is no date such as 2026-12-25"},
		"a stop":          {file + "stops: [{from: 2026-12-24T14:00, to: 2026-12-24T14:00}]\n", "site.yaml:8: a stop needs a from and a later to"},
		"holidays alone":  {plannedSite + "holidays: [2026-12-25]\n", "\"\" is no IANA time zone"},
		"shifts alone":    {"shifts: [{id: early, start: \"06:00\", end: \"14:00\"}]\n" + plannedSite, "\"\" is no IANA time zone"},
	} {
		if _, err := ParseSite("site.yaml", []byte(x.src)); err == nil || !strings.Contains(err.Error(), x.want) {
			t.Errorf("%s: %v, want %s", what, err, x.want)
		}
	}
	for what, src := range map[string]string{
		"none":                behind(t, plannedSite),
		"the same zone":       behind(t, zoned, c("plant", "Europe/Vienna")),
		"the file's zone":     behind(t, zoned, c("plant", "")),
		"of a line, a zone":   behind(t, file, c("other", "Asia/Kolkata", "l1")),
		"of what is not here": behind(t, file, c("other", "", "l9", "m9")),
	} {
		if _, err := ParseSite("site.yaml", []byte(src)); err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// A holiday is the whole production day, a stop its stretch: what is planned not to be
// worked is so once, whatever lies over it.
func TestCalendar_HolidaysAndStops(t *testing.T) {
	for seed := range uint64(8) {
		rng := rand.New(rand.NewPCG(seed, 21))
		x := anyCalendar(rng)
		var stops [][2]time.Time
		for range rng.IntN(4) {
			x.Holidays = append(x.Holidays, fmt.Sprintf("2026-03-%02d", 27+rng.IntN(4)))
			from := time.Date(2026, 3, 27, 0, rng.IntN(4*24*60), 0, 0, time.UTC)
			to := from.Add(time.Duration(1+rng.IntN(2000)) * time.Minute)
			stops, x.Stops = append(stops, [2]time.Time{from, to}), append(x.Stops, stopFile{from.Format(stopForm), to.Format(stopForm)})
		}
		s := site(t, x.inFile(t))
		plain := x
		plain.Holidays, plain.Stops = nil, nil
		daily := site(t, plain.inFile(t)).Calendar
		c, start := &s.Calendar, mesh.NanosOf(time.Date(2026, 3, 26, 0, 0, 0, 0, time.UTC))
		for minute := range 7 * 24 * 60 {
			at := start.Add(time.Duration(minute) * time.Minute)
			span := mesh.Span{From: at, To: at.Add(time.Minute)}
			all, every := c.cell(at), daily.cell(at)
			want := every.planned(span) > 0 || slices.Contains(x.Holidays, c.dayOf(at).String())
			for _, stop := range stops { // clocks of this stretch show no time twice
				want = want || c.instant(stop[0]) <= at && at < c.instant(stop[1])
			}
			if got := all.planned(span); got != map[bool]int64{true: int64(time.Minute)}[want] || all.Span != every.Span {
				t.Fatalf("seed %d: of the minute at %s %d ns are planned: %+v", seed, at, got, x)
			}
		}
	}
	hour := "hour/" + TimeText(clock(t, "06:00"))
	closed := site(t, testSite+"holidays: ["+clock(t, "06:00").Time().Format(dateForm)+"]\nstops: [{from: 2026-12-24T14:00, to: 2026-12-27T06:00}]\n")
	in := []sample{{"05:00", "state", 6}, {"05:00", "product", "a"}, {"05:00", "produced", 0}, {"06:30", "produced", 100}}
	got := rows(t, definition(t, "oee"), closed, events(t, in), spans(t, "06:00", "07:00"))
	check(t, hour, got[hour], want{"planned_stop_seconds": 3600, "pbt_seconds": 0, "unknown_seconds": 0, "produced_count": 100})
	if stops := closed.Calendar.Stops(); len(closed.Calendar.Holidays()) != 1 || fmt.Sprint(stops) != "[{ 2026-12-24T14:00 2026-12-27T06:00 []}]" {
		t.Errorf("%v %v", closed.Calendar.Holidays(), stops)
	}
}

// A machine's line of readiness says which calendar it is.
func TestReadiness_Calendar(t *testing.T) {
	two := registeredCalendar{calendarFile: calendarFile{Shifts: []shiftFile{{"a", "06:00", "14:00", nil}, {"b", "14:00", "22:00", nil}}}, ID: "two", Lines: []string{"l1"}}
	none := registeredCalendar{ID: "none", Machines: []string{"m3"}}
	s := site(t, behind(t, plannedSite, two, none))
	for i, want := range []string{"true 2 shifts, calendar two", "false the site has no shifts", "false no shifts, calendar none"} {
		for _, c := range s.Readiness(nil)[i].Checks {
			if c.Check == "calendar" && fmt.Sprint(c.OK, " ", c.Says) != want {
				t.Errorf("machine %d: %+v, want %s", i+1, c, want)
			}
		}
	}
	if own := s.CalendarOf("m1"); own.Zone() != time.UTC || s.CalendarID("m1") != "two" || s.CalendarID("m2") != "" {
		t.Errorf("%v, %q, %q", own.Zone(), s.CalendarID("m1"), s.CalendarID("m2"))
	}
}

// A machine of the site file is of a model of the register as a registered one is; what it
// says itself goes before.
func TestParseSite_AMachineOfTheFileIsOfARegisteredModel(t *testing.T) {
	file := strings.Replace(strings.Replace(plannedSite, "kind: k,", "model: old@1.0.0,", 1), "id: m2, line: l2, kind: k,", "id: m2, line: l2, model: old@1.0.0, states: {\"4\": 6}, ideal_cycle_seconds: {a: 9},", 1)
	model := map[string]any{"id": "old", "version": "1.0.0", "states": map[string]int{"1": 6}, "ideal_cycle_seconds": map[string]float64{"a": 2}, "properties": []map[string]any{{"name": "lamp", "kind": "measurement", "role": "state"}}}
	alone := site(t, file)
	if len(alone.Foreign()) != 2 || alone.Equipment[0].States != nil {
		t.Errorf("without the register: %v", alone.Foreign())
	}
	s := site(t, file+registered+asText(t, map[string]any{
		"version": 1, "models": []any{model}, "machines": []any{map[string]any{"id": "r", "model": "old@1.0.0", "source": "src", "signals_prefix": "r."}},
	})+"\n")
	first, second, registered := s.Find("m1"), s.Find("m2"), s.Find("r")
	if fmt.Sprint(first.States, first.Ideal) != fmt.Sprint(registered.States, registered.Ideal) || first.States[1] != 6 {
		t.Errorf("of the file %v %v, registered %v %v", first.States, first.Ideal, registered.States, registered.Ideal)
	}
	if second.States[4] != 6 || len(second.States) != 1 || second.Ideal["a"] != 9 {
		t.Errorf("what it says itself: %v %v", second.States, second.Ideal)
	}
	if alone.Equipment[0].States != nil {
		t.Error("the file alone has changed")
	}
	heard := Heard{"src": {{ID: 1, Name: "m1.state", Type: mesh.TypeInt}}}
	for _, c := range s.Readiness(heard)[0].Checks {
		if c.Check == "data" && !c.OK { // its model needs the state alone
			t.Errorf("%+v", c)
		}
	}
}
