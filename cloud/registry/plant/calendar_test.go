package plant

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
)

func TestParseCalendar_AsTheSiteFileHasIt(t *testing.T) {
	yaml := "zone: Europe/Vienna\nproduction_day_start: \"06:00\"\nshifts:\n  - {id: Früh, start: \"06:00\", end: \"14:00\", days: [mon-thu, sat]}\nbreaks:\n  - {start: \"10:00\", end: \"10:30\", days: [mon]}\nholidays: [2026-12-25]\nstops:\n  - {from: 2026-12-24T14:00, to: 2026-12-27T06:00}\nlines: [line6]\n"
	json := `{"zone": "Europe/Vienna", "production_day_start": "06:00", "shifts": [{"id": "Früh", "start": "06:00", "end": "14:00", "days": ["mon-thu", "sat"]}], "breaks": [{"start": "10:00", "end": "10:30", "days": ["mon"]}], "holidays": ["2026-12-25"], "stops": [{"from": "2026-12-24T14:00", "to": "2026-12-27T06:00"}], "lines": ["line6"]}`
	a, err := ParseCalendar("a.yaml", []byte(yaml))
	check(t, err)
	b, err := ParseCalendar("b.json", []byte(json))
	if err != nil || !reflect.DeepEqual(a, b) || a.Shifts[0].ID != "Früh" || a.Shifts[0].Days[1] != "sat" || a.Breaks[0].Days[0] != "mon" || a.Breaks[0].End != "10:30" || a.Holidays[0] != "2026-12-25" || a.Stops[0].To != "2026-12-27T06:00" || a.OfSite() {
		t.Errorf("%+v\n%+v %v", a, b, err)
	}
	if _, err := ParseCalendar("a.yaml", []byte("zone: Europe/Vienna\nshift: []\n")); err == nil || !strings.Contains(err.Error(), `a.yaml:2: unknown key "shift"; did you mean "shifts"?`) {
		t.Errorf("%v", err)
	}
}

func TestScene_SetCalendar(t *testing.T) {
	s := scene(t)
	s.Site = "graz"
	put := func(c Calendar) {
		t.Helper()
		d, err := s.SetCalendar(c)
		check(t, err)
		s.Register, err = s.Register.Apply(d, s.Register.Version+1)
		check(t, err)
	}
	put(Calendar{ID: "plant", Zone: "UTC"})
	put(Calendar{ID: "six", Shifts: []Shift{{ID: "a", Start: "06:00", End: "14:00", Days: []string{"mon-fri"}}}, Lines: []string{"line6"}, Machines: []string{"line1-press"}})
	if got := s.Places(s.Register.Calendar("six")); !slices.Equal(got, []string{"graz/line6", "graz/line1/line1-press"}) {
		t.Errorf("it is of %q", got)
	}
	text, err := Merge([]byte("site: graz\n"), s.Register)
	check(t, err)
	if _, again, err := Split(text); err != nil || !reflect.DeepEqual(again, s.Register) {
		t.Errorf("%+v %v", again, err)
	}
	for what, c := range map[string]struct {
		Calendar

		want string
	}{
		"a bad id":              {Calendar{ID: "Hall 6", Machines: []string{"line6-filler"}}, `"Hall 6" is no id of a calendar`},
		"another of the site":   {Calendar{ID: "b"}, "plant is the site's already"},
		"a line of another":     {Calendar{ID: "b", Lines: []string{"line6"}}, "line6 is of calendar six already"},
		"a machine of another":  {Calendar{ID: "b", Machines: []string{"line1-press"}}, "line1-press is of calendar six already"},
		"no such line":          {Calendar{ID: "b", Lines: []string{"lime6"}}, `no machine is on line "lime6"; did you mean "line6"?`},
		"no such machine":       {Calendar{ID: "b", Machines: []string{"line6-filer"}}, `there is no machine "line6-filer"; did you mean "line6-filler"?`},
		"a shift of two lines":  {Calendar{ID: "b", Machines: []string{"line6-filler"}, Shifts: []Shift{{ID: "a\nb"}}}, "more than one line"},
		"more shifts than fit":  {Calendar{ID: "b", Machines: []string{"line6-filler"}, Shifts: make([]Shift, maxShifts+1)}, "more than 48 shifts"},
		"a shift of no day":     {Calendar{ID: "b", Machines: []string{"line6-filler"}, Shifts: []Shift{{ID: "a", Days: []string{}}}}, "shifts: days has 0 entries"},
		"a break of many days":  {Calendar{ID: "b", Machines: []string{"line6-filler"}, Breaks: []Stretch{{Days: make([]string, maxDays+1)}}}, "breaks: days has 8 entries"},
		"the site's, of a line": {Calendar{ID: "plant", Lines: []string{"line6"}}, "line6 is of calendar six already"},
	} {
		if _, err := s.SetCalendar(c.Calendar); !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", what, err)
		}
	}
	s.FileCalendar = &Calendar{ID: FileCalendar}
	if _, err := s.RemoveCalendar(FileCalendar); !errors.Is(err, ErrRefused) {
		t.Errorf("the file's: %v", err)
	}
	if _, err := s.RemoveCalendar("none"); !errors.Is(err, ErrUnknown) {
		t.Errorf("none: %v", err)
	}
	d, err := s.RemoveCalendar("plant", "six")
	check(t, err)
	if r, err := s.Register.Apply(d, 9); err != nil || len(r.Calendars) != 0 || len(s.Register.Calendars) != 2 {
		t.Errorf("%+v %v", r, err)
	}
	var many Delta
	for i := range maxCalendars + 1 {
		many.Calendars = append(many.Calendars, Calendar{ID: fmt.Sprint("c", i)})
	}
	if _, err := s.Register.Apply(many, 9); !errors.Is(err, ErrRefused) {
		t.Errorf("too many: %v", err)
	}
}

// Each level may be left out; a row of another enterprise or site is none of this hub's.
func TestScene_Levels(t *testing.T) {
	for _, c := range []struct {
		enterprise, row, want string
	}{
		{"", "id\nm\n", ""},
		{"", "id,line\nm,l\n", ""},
		{"", "id,area\nm,Halle 1\n", ""},
		{"acme", "id,enterprise,site,area,line\nm,acme,graz,a,l\n", ""},
		{"acme", "id,enterprise,site\nm,,\n", ""},
		{"acme", "id,enterprise\nm,emca\n", `row 2, m, enterprise: is "emca", and this hub's is "acme"`},
		{"", "id,site\nm,linz\n", `row 2, m, site: is "linz", and this hub's is "graz"`},
		{"", "id,enterprise\nm,acme\n", `row 2, m, enterprise: is "acme", and the site file names no enterprise`},
	} {
		s := Scene{Enterprise: c.enterprise, Site: "graz"}
		d, r := s.Import([]byte(c.row))
		switch {
		case c.want == "" && (len(r.Faults) > 0 || len(d.Put) != 1):
			t.Errorf("%q: %v", c.row, r.Faults)
		case c.want != "" && (len(r.Faults) != 1 || !strings.HasPrefix(r.Faults[0].String(), c.want)):
			t.Errorf("%q: %v, want %s", c.row, r.Faults, c.want)
		}
	}
}

// A register has the models that the file's machines are of, each once.
func TestRegister_With(t *testing.T) {
	s := scene(t)
	r, missing := s.Register.With([]string{"counter-machine@1.1.0", "counter-machine@1.1.0"}, s.Models)
	if missing != "" || len(r.Models) != 1 || r.Models[0].Ref() != "counter-machine@1.1.0" || len(s.Register.Models) != 0 {
		t.Errorf("%v %q", refs(r.Models), missing)
	}
	if r, missing = r.With([]string{"counter-machine@1.1.0", "none@1.0.0"}, s.Models); missing != "none@1.0.0" || len(r.Models) != 1 {
		t.Errorf("%v %q", refs(r.Models), missing)
	}
	if text, err := Merge([]byte("site: graz\n"), Register{Models: r.Models}); err != nil || !strings.Contains(string(text), mark) {
		t.Errorf("%s %v", text, err)
	}
}
