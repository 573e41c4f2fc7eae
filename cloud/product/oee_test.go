package product

import (
	"slices"
	"testing"
)

func TestFold_OEE(t *testing.T) {
	hour := "hour/" + TimeText(clock(t, "06:00"))
	base := []sample{{"05:00", "state", 6}, {"05:00", "product", "a"}, {"05:00", "order", "o"}, {"05:00", "produced", 0}, {"05:00", "scrap", 0}}
	full := []string{"06:00", "07:00"}
	for name, c := range map[string]struct {
		in    []sample
		known []string
		want  want
	}{
		"ratios of sums": {[]sample{{"06:30", "produced", 3000}, {"06:30", "scrap", 300}, {"06:40", "state", 11}, {"06:50", "state", 9}, {"06:55", "mode", 3}}, full, want{
			"pbt_seconds": 3600, "apt_seconds": 2400, "adet_seconds": 900, "aust_seconds": 300, "adot_seconds": 0, "unknown_seconds": 0, "planned_stop_seconds": 0,
			"ideal_seconds": 1500, "ideal_good_seconds": 1350, "availability_ratio": 2400.0 / 3600, "effectiveness_ratio": 1500.0 / 2400, "quality_ratio": 0.9,
			"oee_ratio": 1350.0 / 3600, "nee_ratio": 2700.0 / 3600 * 1500 / 2400 * 0.9, "oee_reason": nil, "coverage_ratio": 1,
		}},
		"products of one instant count for the one that holds after it": {[]sample{{"06:30", "produced", 100}, {"06:30", "product", "b"}, {"06:40", "produced", 200}}, full, want{"ideal_seconds": 50, "produced_count": 200}},
		"too little is known": {nil, []string{"06:40", "07:00"}, want{"availability_ratio": nil, "availability_reason": "only 33 % of the window is known", "oee_reason": "only 33 % of the window is known", "unknown_seconds": 2400, "pbt_seconds": 1200}},
		"nothing ran":         {[]sample{{"06:00", "state", 9}}, full, want{"apt_seconds": 0, "availability_ratio": 0, "effectiveness_ratio": nil, "effectiveness_reason": "nothing ran", "nee_reason": "nothing ran", "quality_reason": "nothing produced", "oee_ratio": 0, "oee_reason": nil}},
		"nothing produced":    {nil, full, want{"effectiveness_ratio": 0, "quality_ratio": nil, "quality_reason": "nothing produced", "nee_reason": "nothing produced", "oee_ratio": 0, "oee_reason": nil}},
		"scrap of nothing": {[]sample{{"06:30", "scrap", 3}}, full, want{
			"availability_ratio": 1, "effectiveness_ratio": 0, "quality_ratio": nil, "quality_reason": "more scrap than produced",
			"oee_ratio": nil, "oee_reason": "more scrap than produced", "nee_reason": "more scrap than produced", "scrap_count": 3, "good_count": -3,
		}},
		"more scrap than produced": {[]sample{{"06:30", "produced", 10}, {"06:40", "scrap", 11}}, full, want{
			"availability_ratio": 1, "effectiveness_ratio": 5.0 / 3600, "quality_ratio": nil, "quality_reason": "more scrap than produced",
			"oee_ratio": nil, "oee_reason": "more scrap than produced", "nee_reason": "more scrap than produced", "good_count": -1,
		}},
		"more ideal time scrapped than produced": {[]sample{{"06:20", "produced", 2}, {"06:21", "scrap", 5}, {"06:30", "product", "b"}, {"06:40", "produced", 6}}, full, want{
			"good_count": 1, "ideal_good_seconds": -0.5, "quality_reason": "more scrap than produced", "oee_ratio": nil, "nee_ratio": nil,
		}},
		"more scrap, and no ideal rate": {[]sample{{"06:10", "product", "x"}, {"06:30", "produced", 1}, {"06:30", "scrap", 2}}, full, want{
			"quality_ratio": nil, "quality_reason": "more scrap than produced", "oee_reason": "no ideal rate for product x", "effectiveness_reason": "no ideal rate for product x",
		}},
		"a product without an ideal rate": {[]sample{{"06:10", "product", "x"}, {"06:30", "produced", 100}, {"06:30", "scrap", 10}}, full, want{
			"effectiveness_reason": "no ideal rate for product x", "oee_ratio": nil, "oee_reason": "no ideal rate for product x", "nee_reason": "no ideal rate for product x", "quality_ratio": 0.9, "availability_ratio": 1,
		}},
		"faster than ideal is kept and flagged": {[]sample{{"06:30", "produced", 9000}}, full, want{"effectiveness_ratio": 1.25, "oee_ratio": 1.25}},
		"state unknown counts as unknown":       {[]sample{{"06:30", "state", nil}, {"06:45", "state", 6}}, full, want{"unknown_seconds": 900, "apt_seconds": 2700, "coverage_ratio": 0.75}},
		"a known hour with no state at all":     {[]sample{{"06:00", "state", nil}}, full, want{"unknown_seconds": 3600, "coverage_ratio": 0, "oee_reason": "only 0 % of the window is known"}},
	} {
		t.Run(name, func(t *testing.T) {
			got := rows(t, definition(t, "oee"), site(t, testSite), events(t, slices.Concat(base, c.in)), spans(t, c.known...))
			check(t, hour, got[hour], c.want)
		})
	}
}

// What no counter counted is no perfect score: it has no number, and says why.
func TestFold_OEEWithoutACounter(t *testing.T) {
	hour := "hour/" + TimeText(clock(t, "06:00"))
	base := []sample{{"05:00", "state", 6}, {"05:00", "product", "a"}, {"05:00", "order", "o"}}
	for name, c := range map[string]struct {
		in   []sample
		want want
	}{
		"of scrap": {[]sample{{"05:00", "produced", 0}, {"06:30", "produced", 10}}, want{
			"availability_ratio": 1, "effectiveness_ratio": 5.0 / 3600, "quality_ratio": nil, "quality_reason": "no counter of scrap was heard",
			"oee_ratio": nil, "oee_reason": "no counter of scrap was heard", "nee_reason": "no counter of scrap was heard",
			"produced_count": 10, "scrap_count": nil, "good_count": nil,
		}},
		"of produced items": {[]sample{{"05:00", "scrap", 0}, {"06:30", "scrap", 1}}, want{
			"availability_ratio": 1, "effectiveness_reason": "no counter of produced items was heard", "quality_reason": "no counter of produced items was heard",
			"oee_ratio": nil, "oee_reason": "no counter of produced items was heard", "produced_count": nil, "scrap_count": 1, "good_count": nil,
		}},
		"that is only Bad": {[]sample{{"05:00", "produced", 0}, {"06:30", "produced", 10}, {"06:00", "scrap", nil}}, want{"quality_reason": "no counter of scrap was heard"}},
	} {
		t.Run(name, func(t *testing.T) {
			got := rows(t, definition(t, "oee"), site(t, testSite), events(t, slices.Concat(base, c.in)), spans(t, "06:00", "07:00"))
			check(t, hour, got[hour], c.want)
		})
	}
}

// A gateway that is switched off outside the one shift: what is not planned to be worked is a
// planned stop, heard or not, and takes nothing from what is known. Half of Friday's shift is
// missing, and that is told; on Saturday nothing was planned at all.
func TestFold_SwitchedOff(t *testing.T) {
	s := site(t, `site: graz
zone: Europe/Vienna
production_day_start: "06:00"
shifts: [{id: early, start: "06:00", end: "14:00", days: [mon-fri]}]
ideal_cycle_seconds: {filler: {a: 0.5}}
equipment: [{id: f, line: l, name: F, kind: filler, source: plc, signals_prefix: l.f.}]
`)
	in := events(t, []sample{
		{"2026-03-05T05:00:00Z", "state", 6},
		{"2026-03-05T05:00:00Z", "order", "o"},
		{"2026-03-05T05:00:00Z", "product", "a"},
		{"2026-03-05T05:00:00Z", "produced", 0},
		{"2026-03-05T05:00:00Z", "scrap", 0},
		{"2026-03-05T12:00:00Z", "produced", 14400},
	})
	known := spans(t, "2026-03-05T05:00:00Z", "2026-03-05T13:00:00Z", "2026-03-06T09:00:00Z", "2026-03-06T13:00:00Z", "2026-03-09T05:00:00Z", "2026-03-09T06:00:00Z")
	got := rows(t, definition(t, "oee"), s, in, known)
	for key, want := range map[string]want{
		"shift/2026-03-05T05:00:00.000Z": {"pbt_seconds": 28800, "planned_stop_seconds": 0, "unknown_seconds": 0, "coverage_ratio": 1, "oee_ratio": 0.25},
		"day/2026-03-05T05:00:00.000Z":   {"pbt_seconds": 28800, "planned_stop_seconds": 57600, "unknown_seconds": 0, "coverage_ratio": 1, "availability_ratio": 1, "oee_ratio": 0.25},
		"hour/2026-03-05T20:00:00.000Z":  {"pbt_seconds": 0, "planned_stop_seconds": 3600, "unknown_seconds": 0, "coverage_ratio": 1, "oee_reason": "no planned busy time in the window"},
		"hour/2026-03-06T07:00:00.000Z":  {"planned_stop_seconds": 0, "unknown_seconds": 3600, "coverage_ratio": 0, "oee_reason": "only 0 % of the window is known"},
		"day/2026-03-06T05:00:00.000Z":   {"pbt_seconds": 14400, "planned_stop_seconds": 57600, "unknown_seconds": 14400, "coverage_ratio": 0.5},
		"day/2026-03-07T05:00:00.000Z":   {"pbt_seconds": 0, "planned_stop_seconds": 86400, "unknown_seconds": 0, "coverage_ratio": 1, "oee_ratio": nil, "oee_reason": "no planned busy time in the window"},
	} {
		check(t, key, got[key], want)
	}
	// With a quarter of the shift known there is no OEE, whatever else of the day was planned.
	known[1].From = clock(t, "2026-03-06T11:00:00Z")
	got = rows(t, definition(t, "oee"), s, in, known)
	check(t, "a quarter", got["day/2026-03-06T05:00:00.000Z"], want{"coverage_ratio": 0.25, "oee_ratio": nil, "oee_reason": "only 25 % of what is planned to be worked is known"})
	rate := rows(t, definition(t, "production-rate"), s, in, known)
	check(t, "what was heard", rate["day/2026-03-05T05:00:00.000Z"], want{"coverage_ratio": 1.0 / 3, "rate_per_hour": 1800})
}
