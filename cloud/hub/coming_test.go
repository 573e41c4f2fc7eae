package hub

import (
	"errors"
	"fmt"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"plantmesh/cloud/audit"
	"plantmesh/cloud/registry"
	"plantmesh/cloud/registry/desk"
	"plantmesh/cloud/registry/plant"
	"plantmesh/proto/mesh"
)

// december is an instant of December 2026; the 4th is a Friday.
func december(day, hour int) mesh.Nanos {
	return mesh.NanosOf(time.Date(2026, 12, day, hour, 0, 0, 0, time.UTC))
}

// planner is the log of a hub on Friday noon, whose calendars somebody plans.
type planner struct {
	*siteLog

	t    *testing.T
	time mesh.Nanos
	kept string
	path string
}

func plannerAt(t *testing.T, file string) *planner {
	t.Helper()
	folder := t.TempDir()
	p := &planner{t: t, time: december(4, 12), kept: t.TempDir(), path: folder + "/site.yaml"}
	p.siteLog = hubOf(t, folder, 0)
	p.now = func() mesh.Nanos { return p.time }
	var err error
	p.trail, err = audit.Open(p.kept, time.Now)
	check(t, err)
	check(t, os.WriteFile(p.path, []byte(file), 0o600))
	_, _, err = p.load(t.Context(), p.path)
	check(t, err)
	return p
}

// again starts the hub again.
func (p *planner) again() {
	p.t.Helper()
	p.siteLog = &siteLog{store: p.store, ingest: p.ingest, now: p.now, trail: p.trail, log: p.log}
	_, _, err := p.load(p.t.Context(), p.path)
	check(p.t, err)
}

func (p *planner) set(validFrom string, c plant.Calendar) desk.Changed {
	p.t.Helper()
	done, err := setCalendar(p.t, p.siteLog, validFrom, c)
	check(p.t, err)
	return done
}

func (p *planner) remove(validFrom, id string, may func(string) error) (desk.Changed, error) {
	return p.Change(p.t.Context(), desk.Change{
		Action: "calendar.remove", ValidFrom: validFrom, By: registry.Actor{Who: "anna", Via: "cli"}, May: may,
		Make: func(s plant.Scene) (plant.Delta, error) { return s.RemoveCalendar(id) },
	})
}

func anywhere(string) error { return nil }

// is says which shifts machine m has now, and what is still to come.
func (p *planner) is(want string, coming ...string) {
	p.t.Helper()
	is := p.current()
	var got []string
	for _, s := range is.site.CalendarOf("m").Shifts() {
		got = append(got, s.ID)
	}
	if strings.Join(got, " ") != want {
		p.t.Errorf("at %s the shifts are %q, want %q", p.time, got, want)
	}
	var registered []string
	for _, c := range is.register.Calendars {
		for _, s := range c.Shifts {
			registered = append(registered, s.ID)
		}
	}
	if len(is.register.Calendars) > 0 && !strings.Contains(strings.Join(registered, " "), want) {
		p.t.Errorf("at %s %q are registered, want %q", p.time, registered, want)
	}
	all, err := is.coming()
	check(p.t, err)
	var next []string
	for _, c := range all {
		says := fmt.Sprint(c.ID, " ", c.Begins, " ", c.Cuts)
		if c.Ends {
			says = fmt.Sprint(c.ID, " ends ", c.Begins)
		}
		next = append(next, says)
	}
	if !slices.Equal(next, coming) {
		p.t.Errorf("at %s there come %q, want %q", p.time, next, coming)
	}
}

// A calendar is entered on Friday and holds from Monday on, by itself, with or without a
// restart; until then all is as it was.
func TestSiteLog_ACalendarIsStillToCome(t *testing.T) {
	const monday = "2026-12-07T05:00:00Z" // 06:00 there
	for _, restarts := range []bool{false, true} {
		p := plannerAt(t, siteFile)
		p.set("", calendar("plant", "a 06:00 14:00"))
		done := p.set(monday, calendar("plant", "b 07:00 15:00"))
		if done.Version != 2 || done.ValidFrom != monday || done.Until != "" {
			t.Errorf("%+v", done)
		}
		p.is("a", "plant Mon 2026-12-07 06:00 [m]")
		if done := p.set(monday, calendar("plant", "b 07:00 15:00")); len(done.Calendars) != 0 {
			t.Errorf("the same again: %+v", done)
		}
		// A change of a machine doesn't wait, and is made for Monday, too.
		_, err := put(t, p.siteLog, "", plant.Machine{ID: "n", Line: "l", Source: "s", SignalsPrefix: "n."})
		check(t, err)
		p.is("a", "plant Mon 2026-12-07 06:00 [m n]")
		// What is changed until then leaves it as it is.
		today := calendar("plant", "a 06:00 14:00", "late 14:00 22:00")
		if done := p.set("", today); done.Until != monday || done.Version != 4 {
			t.Errorf("%+v", done)
		}
		p.is("a late", "plant Mon 2026-12-07 06:00 [m n]")
		if restarts {
			p.again()
			p.is("a late", "plant Mon 2026-12-07 06:00 [m n]")
		}
		p.time = december(7, 5) - 1
		p.is("a late", "plant Mon 2026-12-07 06:00 [m n]")
		told := p.current().site.Registered
		p.time = december(7, 5)
		if restarts {
			p.again()
		}
		p.is("b")
		if v := p.current(); v.register.Version != 4 || v.site.Registered != told || v.site.Find("n") == nil {
			t.Errorf("%d, told %d and %d before", v.register.Version, v.site.Registered, told)
		}
		p.set("", calendar("plant", "c 08:00 15:00"))
		p.is("c")
		p.again()
		p.is("c")
		sites := p.current().sites
		for at, want := range map[mesh.Nanos]string{december(4, 11): "[]", december(5, 0): "[{a 06:00 14:00 []} {late 14:00 22:00 []}]", december(7, 6): "[{c 08:00 15:00 []}]"} {
			if got := fmt.Sprint(sites.Revisions()[sites.Index(at)].Site.Calendar.Shifts()); got != want {
				t.Errorf("at %s it was %s, want %s", at, got, want)
			}
		}
		records, err := audit.Newest(t.Context(), p.kept, audit.Filter{}, 100)
		check(t, err)
		if !slices.ContainsFunc(records, func(r audit.Entry) bool {
			return r.Action == "calendar.set" && strings.Contains(r.After, ", from "+monday+": {")
		}) {
			t.Errorf("the trail says nothing of when it is to hold: %+v", records)
		}
	}
}

// What hasn't begun is taken out as what has; who takes out a calendar takes out what was
// to come of it, and may do so where that would have been.
func TestSiteLog_WhatHasNotBegunIsTakenOut(t *testing.T) {
	p := plannerAt(t, strings.Replace(siteFile, "equipment:\n", "equipment:\n  - {id: other, line: k, kind: k, source: s, signals_prefix: \"other.\"}\n", 1))
	hall := calendar("hall", "h 06:00 14:00")
	hall.Lines = []string{"l"}
	p.set("2026-12-08T05:00:00Z", hall)
	p.is("", "hall Tue 2026-12-08 06:00 [m]")
	if _, err := p.remove("2026-12-06T05:00:00Z", "hall", anywhere); !errors.Is(err, plant.ErrUnknown) {
		t.Errorf("from Sunday on: %v", err)
	}
	done, err := p.remove("", "hall", anywhere)
	if err != nil || done.ValidFrom != "2026-12-08T05:00:00Z" || !slices.Equal(done.Removed, []string{"hall"}) {
		t.Errorf("%+v %v", done, err)
	}
	p.is("")
	p.set("", hall)
	later := hall
	later.Lines, later.Shifts = []string{"k"}, calendar("", "k 06:00 14:00").Shifts
	p.set("2026-12-08T05:00:00Z", later)
	p.is("h", "hall Tue 2026-12-08 06:00 [other]")
	if _, err := p.remove("2026-12-09T05:00:00Z", "hall", anywhere); err != nil {
		t.Error(err)
	}
	p.is("h", "hall Tue 2026-12-08 06:00 [other]", "hall ends Wed 2026-12-09 06:00")
	lineL := func(location string) error {
		if location != "graz/l" {
			return errors.New("not at " + location)
		}
		return nil
	}
	if _, err := p.remove("", "hall", lineL); !errors.Is(err, desk.ErrMay) || !strings.Contains(err.Error(), "not at graz/k") {
		t.Errorf("who may at line l alone: %v", err)
	}
	_, err = p.remove("", "hall", anywhere)
	check(t, err)
	p.is("")
}

func TestSiteLog_WhatIsToComeIsRefusedInWords(t *testing.T) {
	p := plannerAt(t, siteFile)
	hall := calendar("hall", "h 06:00 14:00")
	hall.Lines = []string{"l"}
	p.set("2026-12-08T05:00:00Z", hall)
	other := hall
	other.ID = "other"
	_, err := put(t, p.siteLog, "2026-12-08T05:00:00Z", plant.Machine{ID: "n", Line: "l", Source: "s", SignalsPrefix: "n."})
	if err == nil || !strings.Contains(err.Error(), "is still to come, the plant's time is 2026-12-04T12:00:00Z: make the change then") {
		t.Errorf("a machine: %v", err)
	}
	for from, want := range map[string]string{
		"2027-12-06T12:00:00Z": "is more than 366 days ahead",
		"2026-12-07T05:00:00Z": "so the site will be from 2026-12-08T05:00:00Z on, as is registered already: change that first",
		"2026-12-08T05:00:00Z": "l is of calendar hall already",
	} {
		if _, err := setCalendar(t, p.siteLog, from, other); !errors.Is(err, plant.ErrRefused) || !strings.Contains(err.Error(), want) {
			t.Errorf("from %s: %v, want %s", from, err, want)
		}
	}
	p.set("2027-12-05T12:00:00Z", calendar("plant", "z 06:00 14:00"))
	p.is("", "hall Tue 2026-12-08 06:00 [m]", "plant Sun 2027-12-05 13:00 []")
}

// Who changes what was, too, may do so where that was: a calendar or a machine that is at
// one line now may have been at another one then.
func TestSiteLog_ThePastIsForThoseWhoMayThere(t *testing.T) {
	p := plannerAt(t, strings.Replace(siteFile, "equipment:\n", "equipment:\n  - {id: other, line: k, kind: k, source: s, signals_prefix: \"other.\"}\n", 1))
	lineL := func(location string) error {
		if location != "graz/l" && location != "graz/l/n" {
			return errors.New("not at " + location)
		}
		return nil
	}
	hall := calendar("hall", "k 06:00 14:00")
	hall.Lines = []string{"k"}
	p.set("", hall)
	_, err := put(t, p.siteLog, "", plant.Machine{ID: "n", Line: "k", Source: "s", SignalsPrefix: "n."})
	check(t, err)
	p.time = december(4, 13)
	hall.Lines = []string{"l"}
	p.set("", hall)
	moved := plant.Machine{ID: "n", Line: "l", Source: "s", SignalsPrefix: "n."}
	_, err = put(t, p.siteLog, "", moved)
	check(t, err)
	p.time = december(4, 14)
	longer := calendar("hall", "l 06:00 15:00")
	longer.Lines, moved.Name = []string{"l"}, "N"
	for _, c := range []struct {
		action string
		delta  plant.Delta
	}{
		{"calendar.set", plant.Delta{Calendars: []plant.Calendar{longer}}},
		{"machine.set", plant.Delta{Put: []plant.Machine{moved}}},
		{"machine.retire", plant.Delta{Retire: []string{"n"}}},
		{"calendar.remove", plant.Delta{Drop: []string{"hall"}}},
	} {
		version := p.current().register.Version
		change := desk.Change{
			Action: c.action, ValidFrom: "2026-12-04T12:30:00Z", By: registry.Actor{Who: "lena", Via: "cli"}, May: lineL,
			Make: func(plant.Scene) (plant.Delta, error) { return c.delta, nil },
		}
		if _, err := p.Change(t.Context(), change); !errors.Is(err, desk.ErrMay) || !strings.Contains(err.Error(), "not at graz/k") || p.current().register.Version != version {
			t.Errorf("%s from when it was at the other line: %v", c.action, err)
		}
		change.ValidFrom = "2026-12-04T13:30:00Z"
		if _, err := p.Change(t.Context(), change); err != nil {
			t.Errorf("%s from when it was here: %v", c.action, err)
		}
	}
}

// A calendar that is as it is asked for now may have been another one before, and is then
// made so from its instant on; what follows stays.
func TestSiteLog_ACalendarThatIsSoNowIsMadeSoBefore(t *testing.T) {
	p := plannerAt(t, siteFile)
	p.set("", calendar("plant", "a 06:00 14:00"))
	p.set("2026-12-07T05:00:00Z", calendar("plant", "b 07:00 15:00"))
	done := p.set("2026-12-01T05:00:00Z", calendar("plant", "a 06:00 14:00"))
	if done.Version != 3 || done.Until != "2026-12-07T05:00:00Z" || !slices.Equal(done.Calendars, []string{"plant"}) {
		t.Errorf("%+v", done)
	}
	p.is("a", "plant Mon 2026-12-07 06:00 [m]")
	for day, want := range map[int]int{0: 0, 2: 1, 4: 1} {
		at := p.current().sites
		if got := at.Revisions()[at.Index(december(day, 12))].Site.CalendarOf("m").Shifts(); len(got) != want || want > 0 && got[0].ID != "a" {
			t.Errorf("on December %d: %+v", day, got)
		}
	}
	for _, from := range []string{"2026-12-01T05:00:00Z", "2026-12-02T05:00:00Z", ""} {
		if done := p.set(from, calendar("plant", "a 06:00 14:00")); done.Version != 3 || len(done.Calendars) != 0 {
			t.Errorf("the same again from %q: %+v", from, done)
		}
	}
}

// A table that is as it is moves the begin of what it says back, and says of which machines.
func TestSiteLog_ATableThatIsSoNowIsMadeSoBefore(t *testing.T) {
	p := plannerAt(t, siteFile)
	var report plant.Report
	imported := func(validFrom, table string) desk.Changed {
		t.Helper()
		done, err := p.Change(t.Context(), desk.Change{
			Action: "machine.import", ValidFrom: validFrom, By: registry.Actor{Who: "anna", Via: "cli"}, May: anywhere,
			Make: func(s plant.Scene) (d plant.Delta, err error) {
				d, report = s.Import([]byte(table))
				return d, err
			},
		})
		check(t, err)
		report.Done(done.Put)
		return done
	}
	const old, both = "id,line,source,signals_prefix\no,l,s,o.\n", "id,line,source,signals_prefix\nn,l,s,n.\no,l,s,o.\n"
	imported("always", old)
	imported("", both)
	if done := imported("", both); done.Version != 2 || len(done.Put) != 0 || report.Same != 2 {
		t.Errorf("as it is: %+v, %+v", done, report)
	}
	done := imported("2026-12-04T10:00:00Z", both)
	if want := []plant.Edit{{ID: "n", Fields: []string{"valid_from"}}}; done.Version != 3 || !slices.Equal(done.Put, []string{"n"}) || report.Same != 1 || !reflect.DeepEqual(report.Change, want) {
		t.Errorf("from before: %+v, %+v", done, report)
	}
	entries, err := audit.Newest(t.Context(), p.kept, audit.Filter{Action: "machine.import"}, 2)
	check(t, err)
	if !strings.Contains(entries[0].After, ", from 2026-12-04T10:00:00Z: ") || strings.Contains(entries[1].After, ", from ") {
		t.Errorf("the trail says %q, then %q", entries[1].After, entries[0].After)
	}
	for hour, there := range map[int]bool{9: false, 10: true, 12: true} {
		if is := p.current().sites.Revisions()[p.current().sites.Index(december(4, hour))].Site.Find("n") != nil; is != there {
			t.Errorf("at %d it is there: %t", hour, is)
		}
	}
}

// So are a machine, and the version of its model; what is so at all times behind the instant
// is no change.
func TestSiteLog_AMachineThatIsSoNowIsMadeSoBefore(t *testing.T) {
	p := plannerAt(t, siteFile)
	models := []plant.Model{{ID: "saw", Version: "1.0.0", Properties: []plant.Property{{Name: "x", Kind: plant.Measurement}}}, {ID: "saw", Version: "1.1.0", Properties: []plant.Property{{Name: "y", Kind: plant.Measurement}}}}
	n := plant.Machine{ID: "n", Line: "l", Source: "s", SignalsPrefix: "n.", Model: "saw@1.0.0"}
	change := func(validFrom string, how func(plant.Scene) (plant.Delta, error)) desk.Changed {
		t.Helper()
		done, err := p.Change(t.Context(), desk.Change{Action: "machine.change", ValidFrom: validFrom, By: registry.Actor{Who: "anna", Via: "cli"}, May: anywhere, Make: how})
		check(t, err)
		return done
	}
	change("", func(plant.Scene) (plant.Delta, error) {
		return plant.Delta{Models: models, Put: []plant.Machine{n}}, nil
	})
	upgrade := func(s plant.Scene) (plant.Delta, error) { return s.Upgrade("saw", "1.1.0") }
	named := func(s plant.Scene) (plant.Delta, error) {
		m := *s.Register.Find("n")
		m.Name = "Saw"
		return s.Change(m)
	}
	at := func(hour int) string {
		e := p.current().sites.Revisions()[p.current().sites.Index(december(4, hour))].Site.Find("n")
		return e.Name + " " + e.Model
	}
	p.time = december(4, 14)
	change("", upgrade)
	p.time = december(4, 15)
	change("", named)
	if at(13) != " saw@1.0.0" || at(14) != " saw@1.1.0" || at(15) != "Saw saw@1.1.0" {
		t.Errorf("%s, %s, %s", at(13), at(14), at(15))
	}
	for what, how := range map[string]func(plant.Scene) (plant.Delta, error){"upgrade": upgrade, "change": named} {
		if done := change("2026-12-04T15:00:00Z", how); done.Version != 3 || len(done.Put) != 0 {
			t.Errorf("%s, as it is: %+v", what, done)
		}
	}
	if done := change("2026-12-04T13:00:00Z", upgrade); done.Version != 4 || len(done.Put) != 1 || at(13) != "Saw saw@1.1.0" || at(12) != " saw@1.0.0" {
		t.Errorf("%+v: %s, %s", done, at(12), at(13))
	}
	if done := change("2026-12-04T12:00:00Z", named); done.Version != 5 || at(12) != "Saw saw@1.1.0" {
		t.Errorf("%+v: %s", done, at(12))
	}
}
