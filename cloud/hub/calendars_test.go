package hub

import (
	"errors"
	"fmt"
	"math"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"plantmesh/cloud/audit"
	porthttp "plantmesh/cloud/port/http"
	"plantmesh/cloud/product"
	"plantmesh/cloud/registry"
	"plantmesh/cloud/registry/desk"
	"plantmesh/cloud/registry/plant"
	"plantmesh/proto/mesh"
)

func calendar(id string, shifts ...string) plant.Calendar {
	c := plant.Calendar{ID: id, ProductionDayStart: "06:00"}
	for _, s := range shifts {
		part := strings.Split(s, " ")
		c.Shifts = append(c.Shifts, plant.Shift{ID: part[0], Start: part[1], End: part[2]})
	}
	return c
}

// setCalendar registers a calendar as somebody who may.
func setCalendar(t *testing.T, l *siteLog, validFrom string, c plant.Calendar) (desk.Changed, error) {
	t.Helper()
	return l.Change(t.Context(), desk.Change{
		By: registry.Actor{Who: "anna", Via: "cli"}, Action: "calendar.set", ValidFrom: validFrom, May: func(string) error { return nil },
		Make: func(s plant.Scene) (plant.Delta, error) { return s.SetCalendar(c) },
	})
}

// A calendar holds from its instant on, in each revision behind it; readiness follows at
// once, the trail has it, and a hub that starts again finds it. With the site file's own
// it doesn't go together, whoever comes second.
func TestSiteLog_ACalendarIsRegistered(t *testing.T) {
	folder := t.TempDir()
	path := folder + "/site.yaml"
	own := siteFile + "shifts: [{id: early, start: \"06:00\", end: \"14:00\"}]\n"
	write := func(text string) { check(t, os.WriteFile(path, []byte(text), 0o600)) }
	day := func(n int) mesh.Nanos { return mesh.NanosOf(time.Date(2026, 11, n, 0, 0, 0, 0, time.UTC)) }
	now := day(2)
	l := hubOf(t, folder, 0)
	l.now = func() mesh.Nanos { return now }
	kept := t.TempDir()
	var err error
	l.trail, err = audit.Open(kept, time.Now)
	check(t, err)
	write(own)
	_, _, err = l.load(t.Context(), path)
	check(t, err)
	if _, err := setCalendar(t, l, "", calendar("plant", "a 06:00 18:00")); !errors.Is(err, plant.ErrRefused) || !strings.Contains(err.Error(), "the site's calendar stands in the site file") {
		t.Errorf("beside the file's: %v", err)
	}
	says := func(want string) {
		t.Helper()
		is := l.is.Load()
		for _, c := range is.site.Readiness(product.Heard{})[0].Checks {
			if c.Check == "calendar" && c.Says != want {
				t.Errorf("the calendar's line says %q, want %q", c.Says, want)
			}
		}
	}
	says("1 shifts")
	now = day(5)
	write(siteFile)
	_, _, err = l.load(t.Context(), path)
	check(t, err)
	says("the site has no shifts")
	// Before, the file had one.
	if _, err := setCalendar(t, l, desk.Always, calendar("plant", "a 06:00 18:00")); !errors.Is(err, plant.ErrRefused) || !strings.Contains(err.Error(), "so the site was until 2026-11-05T00:00:00Z: let the change hold from then on") {
		t.Errorf("while the file's held: %v", err)
	}
	now = day(20)
	done, err := setCalendar(t, l, "2026-11-05T00:00:00Z", calendar("plant", "a 06:00 18:00"))
	if err != nil || done.Version != 1 || done.Calendars[0] != "plant" {
		t.Fatalf("%+v %v", done, err)
	}
	says("1 shifts")
	line := calendar("hall", "a 06:00 14:00", "b 14:00 22:00")
	line.Lines = []string{"l"}
	_, err = setCalendar(t, l, "2026-11-10T00:00:00Z", line)
	check(t, err)
	says("2 shifts, calendar hall")
	if done, err := setCalendar(t, l, "", line); err != nil || done.Version != 2 || len(done.Calendars) != 0 {
		t.Errorf("the same again: %+v %v", done, err)
	}
	want := func(l *siteLog) {
		t.Helper()
		sites := l.is.Load().sites
		for n, want := range map[int]string{3: "early 06:00", 6: "a 06:00", 12: "a 06:00 b 14:00", 20: "a 06:00 b 14:00"} {
			site := sites.Revisions()[sites.Index(day(n))].Site
			var got []string
			for _, s := range site.CalendarOf("m").Shifts() {
				got = append(got, s.ID+" "+s.Start)
			}
			if got := strings.Join(got, " "); got != want || site.Mapping(site.Find("m")) != "1.0.0" {
				t.Errorf("on day %d: %q, want %q", n, got, want)
			}
		}
	}
	want(l)
	l = &siteLog{store: l.store, ingest: l.ingest, now: l.now, trail: l.trail, log: l.log}
	_, _, err = l.load(t.Context(), path)
	check(t, err)
	want(l)
	write(own)
	if _, _, err := l.load(t.Context(), path); err == nil || !strings.Contains(err.Error(), `and calendar "plant" is registered as the site's, too`) || !strings.Contains(err.Error(), path) {
		t.Errorf("a file that has one again: %v", err)
	}
	_, err = l.Change(t.Context(), desk.Change{Action: "calendar.remove", By: registry.Actor{Who: "anna", Via: "cli"}, May: func(string) error { return nil }, Make: func(s plant.Scene) (plant.Delta, error) { return s.RemoveCalendar("plant", "hall") }})
	check(t, err)
	says("the site has no shifts")
	var trail []string
	records, err := audit.Newest(t.Context(), kept, audit.Filter{}, 100)
	check(t, err)
	for _, r := range records {
		trail = append(trail, r.Action+" "+r.Object+" "+r.After)
	}
	if all := strings.Join(trail, "\n"); !strings.Contains(all, "calendar.set graz/calendars/plant register 1") || !strings.Contains(all, `"shifts":[{"id":"a"`) || !strings.Contains(all, "calendar.remove graz/calendars/hall") {
		t.Errorf("the trail has\n%s", all)
	}
}

// The page is told what is planned of each machine by the cuts of its rows: along changes,
// holidays, days without a shift, and in its calendar's zone.
func TestHub_Plans(t *testing.T) {
	folder := t.TempDir()
	path := folder + "/site.yaml"
	now := mesh.NanosOf(time.Date(2026, 12, 4, 12, 0, 0, 0, time.UTC)) // a Friday
	l := hubOf(t, folder, now)
	var err error
	l.trail, err = audit.Open(t.TempDir(), time.Now)
	check(t, err)
	check(t, os.WriteFile(path, []byte(siteFile+"  - {id: n, line: l, kind: k, source: s, signals_prefix: \"n.\"}\nshifts: [{id: early, start: \"06:00\", end: \"14:00\"}]\nholidays: [2026-12-08]\n"), 0o600))
	_, _, err = l.load(t.Context(), path)
	check(t, err)
	c := calendar("five", "a 06:00 18:00")
	c.Zone, c.Machines, c.Shifts[0].Days = "Asia/Kolkata", []string{"n"}, []string{"mon-fri"}
	_, err = setCalendar(t, l, "2026-12-03T00:30:00Z", c)
	check(t, err)
	h := &hub{sites: l}
	got := h.plansAt(now)
	if len(got.Plans) != 2 || got.From != "2026-12-02T10:00:00.000Z" || got.Through != "2026-12-12T12:00:00.000Z" {
		t.Fatalf("%+v", got)
	}
	site, own := got.Plans[0], got.Plans[1]
	if fmt.Sprint(site.Machines, own.Machines) != "[m] [n]" || site.Zone != "Europe/Vienna" || own.Zone != "Asia/Kolkata" || own.Calendar != "five" {
		t.Errorf("%+v", got)
	}
	if want := "[{2026-12-07T23:00:00.000Z 2026-12-08T23:00:00.000Z}]"; fmt.Sprint(site.Stops) != want {
		t.Errorf("the site stops %v, want %s", site.Stops, want)
	}
	if len(site.Shifts) != 11 || site.Shifts[0].ShiftID != "2026-12-02-early" || site.Shifts[10].ShiftID != "2026-12-12-early" {
		t.Errorf("the site's shifts are %+v", site.Shifts)
	}
	var shifts []string
	for _, s := range own.Shifts {
		shifts = append(shifts, s.ShiftID[5:])
	}
	// Until Thursday it had the site's; on Friday evening its weekend begins.
	if want := "12-02-early 12-03-a 12-04-a 12-07-a 12-08-a 12-09-a 12-10-a 12-11-a"; strings.Join(shifts, " ") != want {
		t.Errorf("its own shifts are %s, want %s", strings.Join(shifts, " "), want)
	}
	if !slices.Contains(own.Stops, porthttp.PlannedStop{From: "2026-12-04T12:30:00.000Z", To: "2026-12-07T00:30:00.000Z"}) {
		t.Errorf("its own stops are %v", own.Stops)
	}
}

// The site file's calendar is shown in the words of the register.
func TestFileCalendar_SaysItsDays(t *testing.T) {
	site, err := product.ParseSite("site.yaml", []byte("site: graz\nzone: UTC\nshifts: [{id: a, start: \"06:00\", end: \"14:00\", days: [mon, tue-fri]}, {id: b, start: \"14:00\", end: \"22:00\"}]\nbreaks: [{start: \"10:00\", end: \"10:30\", days: [sat]}]\n"))
	check(t, err)
	c := fileCalendar(site)
	if got := fmt.Sprint(c.Shifts, c.Breaks); got != "[{a 06:00 14:00 [mon-fri]} {b 14:00 22:00 []}] [{10:00 10:30 [sat]}]" {
		t.Error(got)
	}
}

// A machine of the site file is of a model that every hub knows; one that nobody knows is a
// fault in words.
func TestSiteLog_AMachineOfTheFileIsOfABuiltInModel(t *testing.T) {
	folder := t.TempDir()
	path := folder + "/site.yaml"
	of := func(model string) string { return strings.Replace(siteFile, "kind: k", "model: "+model, 1) }
	l := hubOf(t, folder, mesh.NanosOf(time.Date(2026, 11, 10, 0, 0, 0, 0, time.UTC)))
	check(t, os.WriteFile(path, []byte(of("counter-machin@1.1.0")), 0o600))
	if _, _, err := l.load(t.Context(), path); err == nil || !strings.Contains(err.Error(), `equipment "m": there is no model "counter-machin@1.1.0"; there are `) || !strings.Contains(err.Error(), `did you mean "counter-machine@1.1.0"?`) {
		t.Fatalf("%v", err)
	}
	check(t, os.WriteFile(path, []byte(of("counter-machine@1.1.0")), 0o600))
	site, _, err := l.load(t.Context(), path)
	check(t, err)
	if m := site.Find("m"); fmt.Sprint(m.States) != "map[0:2 1:6 2:5 3:9]" || site.Registered != 0 || site.Mapping(m) != "1.0.0" {
		t.Errorf("%+v", m)
	}
	n := len(recordedFrom(t, l))
	_, err = put(t, l, "", plant.Machine{ID: "r", Model: "counter-machine@1.1.0", Source: "s", SignalsPrefix: "r."})
	check(t, err)
	is := l.is.Load()
	if a, b := is.site.Find("m"), is.site.Find("r"); fmt.Sprint(a.States) != fmt.Sprint(b.States) {
		t.Errorf("of the file %v, registered %v", a.States, b.States)
	}
	again := &siteLog{store: l.store, ingest: l.ingest, now: l.now, trail: l.trail, log: l.log}
	if _, _, err := again.load(t.Context(), path); err != nil || len(recordedFrom(t, l)) != n+1 {
		t.Errorf("started again: %v, %d facts", err, len(recordedFrom(t, l)))
	}
}

// Calendars are for those who may at the places that they are of.
func TestRegister_CalendarsAreForThoseWhoMay(t *testing.T) {
	h := opened(t)
	srv, err := h.web(porthttp.New(porthttp.Config{AnyHost: true}, h.deps(), h.log))
	check(t, err)
	all := people(t, h.access, "viewer@graz", "operator@graz/line1", "operator@graz", "viewer@graz/line7")
	ask := func(who, method, id, body string) (int, string) {
		r := httptest.NewRequestWithContext(t.Context(), method, "/api/v1/registry/calendars"+id, strings.NewReader(body))
		r.Host = "localhost"
		r.Header.Set("Authorization", "Bearer "+all[who].token)
		w := httptest.NewRecorder()
		srv.Handler.ServeHTTP(w, r)
		return w.Code, w.Body.String()
	}
	line, machine, wrong := `{"calendar": {"lines": ["line1"]}}`, `{"calendar": {"machines": ["line1-press"]}}`, `{"calendar": {"lines": ["lime1"]}}`
	for _, c := range []struct {
		who, method, id, body string
		want                  int
		says                  string
	}{
		{"viewer@graz", http.MethodPut, "/two", line, 403, ""},
		{"operator@graz/line1", http.MethodPut, "/two?dry_run=true", line, 200, `"version":1`},
		{"operator@graz/line1", http.MethodGet, "/two", "", 404, "not in the register"},
		{"operator@graz/line1", http.MethodPut, "/two", line, 200, ""},
		{"operator@graz/line1", http.MethodPut, "/own", machine, 200, ""},
		{"operator@graz/line1", http.MethodPut, "/two", `{"calendar": {}}`, 422, "stands in the site file"},
		{"operator@graz/line1", http.MethodPut, "/site", line, 422, "is that of the site file"},
		{"operator@graz", http.MethodPut, "/other", line, 422, "line1 is of calendar two already"},
		{"operator@graz", http.MethodPut, "/other", wrong, 422, "did you mean"},
		{"operator@graz", http.MethodPut, "/other", `{"calendar": {"id": "else"}}`, 400, "keeps its id"},
		{"operator@graz", http.MethodPut, "/other", `{"calendar": {"lines": ["line1"]}, "version": 1}`, 409, "it is version 2"},
		{"operator@graz", http.MethodDelete, "/site", "", 422, "is that of the site file"},
		{"operator@graz", http.MethodDelete, "/none", "", 404, ""},
		{"viewer@graz", http.MethodGet, "/two", "", 200, `"cuts":[]`},
		{"viewer@graz", http.MethodGet, "/own", "", 200, `"cuts":["line1-press"]`},
		{"viewer@graz/line7", http.MethodGet, "/own", "", 404, ""},
		{"viewer@graz/line7", http.MethodGet, "", "", 200, `"data":[{"id":"site"`},
		{"viewer@graz", http.MethodDelete, "/own", "", 403, ""},
		{"operator@graz/line1", http.MethodDelete, "/own", "", 200, `"removed":["own"]`},
	} {
		if code, body := ask(c.who, c.method, c.id, c.body); code != c.want || !strings.Contains(strings.ReplaceAll(body, " ", ""), strings.ReplaceAll(c.says, " ", "")) {
			t.Errorf("%s %s %s %s: %d %s", c.who, c.method, c.id, c.body, code, body)
		}
	}
	if code, body := ask("operator@graz", http.MethodPut, "/own", `{"calendar": {"machines": ["line1-press"], "breaks": [{"start": "12:00", "end": "12:30"}]}}`); code != 200 || fmt.Sprint(h.view().Lines[0].Machines[0].Breaks, h.view().Breaks) != "[{ 12:00 12:30 []}] []" {
		t.Errorf("%s; the page sees %+v", body, h.view())
	}
	if is := h.sites.is.Load(); is.register.Version != 4 || is.sites.Revisions()[0].From != math.MinInt64 {
		t.Errorf("%+v", is.register)
	}
}

// The version that somebody read is held, also 0, of a register in which nothing is yet: of
// two who read that the second is told.
func TestRegister_AVersionThatWasReadIsHeld(t *testing.T) {
	h := opened(t)
	srv, err := h.web(porthttp.New(porthttp.Config{AnyHost: true}, h.deps(), h.log))
	check(t, err)
	const set, table = `{"calendar": {"lines": ["line1"]}}`, "id,line\npress-9,line9\n"
	for _, c := range []struct {
		method, at, match, body string
		want                    int
	}{
		{http.MethodPut, "calendars/two", `"0"`, set, 200},
		{http.MethodPut, "calendars/two", `"0"`, `{"calendar": {"lines": ["line2"]}}`, 409},
		{http.MethodPut, "calendars/two", "", `{"calendar": {"lines": ["line2"]}, "version": 0}`, 409},
		{http.MethodDelete, "calendars/two", `"0"`, "", 409},
		{http.MethodDelete, "calendars/two", "two", "", 400},
		{http.MethodPost, "machines/import?version=0", "", table, 409},
		{http.MethodPost, "machines/import?version=first", "", table, 400},
		{http.MethodPost, "machines/import", `"0"`, table, 409},
		{http.MethodPost, "machines/import?version=1", "", table, 200},
		{http.MethodPut, "calendars/two", `"2"`, `{"calendar": {"lines": ["line1"], "zone": "UTC"}}`, 200},
		{http.MethodDelete, "calendars/two", "*", "", 200},
	} {
		r := httptest.NewRequestWithContext(t.Context(), c.method, "/api/v1/registry/"+c.at, strings.NewReader(c.body))
		r.Host = "localhost"
		r.Header.Set("If-Match", c.match)
		w := httptest.NewRecorder()
		if srv.Handler.ServeHTTP(w, r); w.Code != c.want {
			t.Errorf("%s %s %s %s: %d %s, want %d", c.method, c.at, c.match, c.body, w.Code, w.Body, c.want)
		}
	}
}
