package main

import (
	"testing"
	"time"
	_ "time/tzdata"
)

func TestHoldUntil(t *testing.T) {
	vienna, err := time.LoadLocation("Europe/Vienna")
	if err != nil {
		t.Fatal(err)
	}
	now := time.Date(2026, 3, 28, 22, 30, 0, 0, vienna) // the night has no 02:30
	for _, c := range []struct {
		until  string
		within time.Duration
		want   string // empty: refused
	}{
		{"06:00", 0, "2026-03-29T06:00:00+02:00"},
		{"22:31", 0, "2026-03-28T22:31:00+01:00"},
		{"22:30", 0, "2026-03-29T22:30:00+02:00"},
		{"2026-03-01T06:00:00Z", 0, "2026-03-01T06:00:00Z"},
		{"", 8 * time.Hour, "2026-03-29T07:30:00+02:00"},
		{"", 0, "0001-01-01T00:00:00Z"},
		{"06:00", time.Hour, ""},
		{"6 in the morning", 0, ""},
		{"25:00", 0, ""},
		{"", -time.Hour, ""},
	} {
		at, err := holdUntil(c.until, c.within, now)
		if got := at.Format(time.RFC3339); (err == nil) != (c.want != "") || err == nil && got != c.want {
			t.Errorf("%q, %s: %s, %v", c.until, c.within, got, err)
		}
	}
}
