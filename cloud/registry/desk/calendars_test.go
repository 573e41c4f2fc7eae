package desk

import (
	"testing"

	"plantmesh/cloud/registry/plant"
)

// A change that holds from Monday on is one of what is registered for Monday, not of what
// holds today.
func TestCalendarAt(t *testing.T) {
	row := func(id, line, from string, ends bool) CalendarRow {
		return CalendarRow{Calendar: plant.Calendar{ID: id, Lines: []string{line}}, ValidFrom: from, Ends: ends}
	}
	rows := []CalendarRow{
		row("site", "s", "", false), row("hall", "today", "", false),
		row("hall", "monday", "2026-12-07T05:00:00Z", false), row("new", "tuesday", "2026-12-08T05:00:00Z", false), row("hall", "monday", "2026-12-09T05:00:00Z", true),
	}
	for _, c := range []struct{ id, from, want string }{
		{"site", "2026-12-08T05:00:00Z", "s"},
		{"none", "", ""},
		{"hall", "", "today"},
		{"hall", "always", "today"},
		{"hall", "2026-12-07T04:59:59Z", "today"},
		{"hall", "2026-12-07T06:00:00+01:00", "monday"},
		{"hall", "2026-12-08T12:00:00Z", "monday"},
		{"hall", "2026-12-09T05:00:00Z", ""},
		{"new", "", "tuesday"},
		{"new", "2026-12-07T05:00:00Z", "tuesday"},
		{"new", "2026-12-10T05:00:00Z", "tuesday"},
	} {
		is, ok := CalendarAt(rows, c.id, c.from)
		if got := append(is.Lines, "")[0]; got != c.want || ok != (c.want != "") {
			t.Errorf("%s from %q: %q %v, want %q", c.id, c.from, got, ok, c.want)
		}
	}
}
