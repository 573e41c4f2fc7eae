package product

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"reflect"
	"slices"
	"testing"
	"time"

	"plantmesh/proto/mesh"
)

const testSite = `
site: test
zone: Europe/Vienna
production_day_start: "06:00"
shifts:
  - {id: early, start: "06:00", end: "14:00"}
  - {id: late, start: "14:00", end: "22:00"}
  - {id: night, start: "22:00", end: "06:00"}
breaks:
  - {start: "10:00", end: "10:30"}
  - {start: "18:00", end: "18:30"}
  - {start: "02:00", end: "02:30"}
ideal_cycle_seconds:
  filler: {a: 0.5, b: 0.25}
equipment:
  - {id: l1-filler, line: l1, name: Filler, kind: filler, source: s1, signals_prefix: l1.filler.}
  - {id: l1-capper, line: l1, name: Capper, kind: capper, source: s2, signals_prefix: l1.capper.}
reasons: {101: bottle fallen}
`

func site(t *testing.T, src string) *Site {
	t.Helper()
	s, err := ParseSite("site.yaml", []byte(src))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func definition(t *testing.T, id string) *Definition {
	t.Helper()
	all, err := Definitions()
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(all, func(d *Definition) bool { return d.ID == id })
	if i < 0 {
		t.Fatalf("no product %s", id)
	}
	return all[i]
}

// clock is an instant of the test day, Monday 2 March 2026, local 07:00 = 06:00Z.
func clock(t *testing.T, s string) mesh.Nanos {
	t.Helper()
	for _, layout := range []string{"15:04", "15:04:05", "15:04:05.000"} {
		if c, err := time.Parse("2006-01-02 "+layout, "2026-03-02 "+s); err == nil {
			return mesh.NanosOf(c)
		}
	}
	c, err := time.Parse(time.RFC3339, s)
	if err != nil {
		t.Fatal(err)
	}
	return mesh.NanosOf(c)
}

// sample is one line of a hand-made feed; times are UTC.
type sample struct {
	at   string
	role string
	v    any
}

func events(t *testing.T, in []sample) (out []Event) {
	t.Helper()
	for _, x := range in {
		s := mesh.Sample{Time: clock(t, x.at)}
		switch v := x.v.(type) {
		case int:
			s.Value = mesh.Int(int64(v))
		case float64:
			s.Value = mesh.Double(v)
		case string:
			s.Value = mesh.Text(v)
		case mesh.Status:
			s.Status = v
		case nil:
			s.Status = mesh.StatusBadNoData
		}
		out = append(out, EventOf(roleNames()[x.role], &s))
	}
	slices.SortFunc(out, Event.Compare)
	return out
}

func spans(t *testing.T, edges ...string) (out []mesh.Span) {
	t.Helper()
	for i := 0; i < len(edges); i += 2 {
		out = append(out, mesh.Span{From: clock(t, edges[i]), To: clock(t, edges[i+1])})
	}
	return out
}

// rows folds a feed in one go and gives the bodies by key.
func rows(t *testing.T, d *Definition, s *Site, in []Event, known []mesh.Span) map[string]map[string]any {
	t.Helper()
	st := &State{}
	k0, end := Extent(known)
	trace := s.Fold(st, in, known, end)
	return bodies(t, d, s, trace, st, mesh.Span{From: k0, To: end})
}

func bodies(t *testing.T, d *Definition, s *Site, trace Trace, st *State, known mesh.Span) map[string]map[string]any {
	t.Helper()
	out := map[string]map[string]any{}
	keep := func(x Draft) {
		var m map[string]any
		if err := json.Unmarshal(x.Body, &m); err != nil {
			t.Fatalf("%s: %v", x.Body, err)
		}
		if _, twice := out[x.Key]; twice {
			t.Errorf("row %s stands twice", x.Key)
		}
		out[x.Key] = m
	}
	e := &s.Equipment[0]
	if d.Fold == FoldIntervals {
		for _, i := range trace.Intervals {
			keep(d.IntervalDraft(s, e, i, 0))
		}
		keep(d.IntervalDraft(s, e, Interval{mesh.Span{From: st.From}, st.Tuple}, known.To))
		return out
	}
	cells := make([]Cell, 0, len(trace.Edges)+1)
	for _, edge := range trace.Edges {
		cells = append(cells, edge.Cell)
	}
	cells = append(cells, Cell{From: st.CellAt, To: s.Calendar.cell(st.CellAt).To, Totals: st.Cell})
	for _, kind := range d.Windows {
		for _, w := range s.Calendar.Windows(kind, known) {
			keep(d.WindowDraft(s, e, w, cells, known.To))
		}
	}
	return out
}

func near(a any, b float64) bool {
	f, ok := a.(float64)
	return ok && math.Abs(f-b) <= 1e-9*max(1, math.Abs(b))
}

// check compares the columns named in want; nil wants null, lists are text.
func check(t *testing.T, what string, got, want map[string]any) {
	t.Helper()
	if got == nil {
		t.Errorf("%s: no such row", what)
		return
	}
	for k, w := range want {
		g, ok := got[k]
		if !ok {
			t.Errorf("%s: no column %s", what, k)
			continue
		}
		switch w := w.(type) {
		case int:
			ok = near(g, float64(w))
		case float64:
			ok = near(g, w)
		default:
			if list, isList := g.([]any); isList {
				g = fmt.Sprint(list)
			}
			ok = g == w
		}
		if !ok {
			t.Errorf("%s: %s is %v, want %v", what, k, g, w)
		}
	}
}

type want = map[string]any

// intervals is one case of product equipment-state: what was said, what is
// known, and the rows by their beginning.
type intervals struct {
	in    []sample
	known []string
	want  map[string]want
}

func (c intervals) check(t *testing.T) {
	got := rows(t, definition(t, "equipment-state"), site(t, testSite), events(t, c.in), spans(t, c.known...))
	if len(got) != len(c.want) {
		t.Errorf("%d rows, want %d: %v", len(got), len(c.want), got)
	}
	for k, w := range c.want {
		check(t, k, got[k], w)
	}
}

func TestFold_Intervals(t *testing.T) {
	key := func(s string) string { return TimeText(clock(t, s)) }
	for name, c := range map[string]intervals{
		"runs of one tuple, the last one open": {
			[]sample{{"06:00", "state", 6}, {"06:10", "state", 6}, {"06:20", "state", 11}, {"06:20", "stop_reason", 101}, {"06:25", "state", 6}, {"06:25", "stop_reason", 0}},
			[]string{"06:00", "07:00"},
			map[string]want{
				key("06:00"): {"state": "executing", "state_number": 3, "mode": "processing", "packml_state": 6, "packml_name": "Execute", "cause": "none", "element": "APT", "reason": nil, "to": key("06:20"), "duration_seconds": 1200},
				key("06:20"): {"state": "not_executing", "cause": "internal", "element": "ADET", "reason": 101, "reason_text": "bottle fallen", "duration_seconds": 300},
				key("06:25"): {"to": nil, "duration_seconds": 2100, "reason": nil},
			},
		},
		"nothing before the first known instant": {
			[]sample{{"05:00", "state", 11}, {"05:30", "state", 6}, {"06:30", "state", 9}},
			[]string{"06:00", "07:00"},
			map[string]want{key("06:00"): {"packml_state": 6}, key("06:30"): {"cause": "failure", "state": "out_of_service", "to": nil}},
		},
		"a gap is unknown; at its end the last values hold": {
			[]sample{{"06:00", "state", 6}, {"06:20", "state", 11}, {"06:30", "state", 9}},
			[]string{"06:00", "06:10", "06:30", "07:00"},
			map[string]want{
				key("06:00"): {"to": key("06:10")},
				key("06:10"): {"state": "not_available", "mode": "none", "packml_state": nil, "packml_name": nil, "cause": "unknown", "element": nil, "reason": nil, "to": key("06:30")},
				key("06:30"): {"packml_state": 9, "to": nil},
			},
		},
		"a bad state is unknown until the next good one": {
			[]sample{{"06:00", "state", 6}, {"06:20", "state", nil}, {"06:25", "mode", 1}, {"06:40", "state", 6}},
			[]string{"06:00", "07:00"},
			map[string]want{key("06:00"): {}, key("06:20"): {"cause": "unknown", "duration_seconds": 1200}, key("06:40"): {"cause": "none"}},
		},
		"no state yet is unknown, and runs into a gap as one interval": {
			[]sample{{"06:40", "state", 6}},
			[]string{"06:00", "06:10", "06:20", "07:00"},
			map[string]want{key("06:00"): {"cause": "unknown", "to": key("06:40")}, key("06:40"): {"packml_state": 6}},
		},
		"what happens in one instant is one change": {
			[]sample{{"06:00", "state", 6}, {"06:10", "mode", 3}, {"06:10", "order", "o"}, {"06:10", "state", 15}},
			[]string{"06:00", "07:00"},
			map[string]want{key("06:00"): {}, key("06:10"): {"mode": "setup", "packml_state": 15}},
		},
	} {
		t.Run(name, c.check)
	}
}

func TestFold_Causes(t *testing.T) {
	key := func(s string) string { return TimeText(clock(t, s)) }
	for name, c := range map[string]intervals{
		"starting is changeover after another product, internal without": {
			[]sample{{"06:00", "state", 6}, {"06:00", "product", "a"}, {"06:05", "state", 3}, {"06:10", "state", 6}, {"06:20", "product", "b"}, {"06:21", "state", 15}, {"06:22", "state", 6}, {"06:23", "state", 3}},
			[]string{"06:00", "07:00"},
			map[string]want{
				key("06:00"): {}, key("06:05"): {"cause": "internal", "element": "ADET"}, key("06:10"): {},
				key("06:22"): {}, key("06:23"): {"cause": "internal"},
				key("06:21"): {"cause": "internal"}, // cleared at 06:20: it was executing
			},
		},
		"setup is pending until the next execute": {
			[]sample{{"06:00", "state", 2}, {"06:00", "order", "o1"}, {"06:01", "order", "o2"}, {"06:05", "state", 15}, {"06:10", "state", 2}, {"06:15", "state", 3}, {"06:20", "state", 6}, {"06:25", "state", 3}},
			[]string{"06:00", "07:00"},
			map[string]want{
				key("06:00"): {"cause": "operator"}, key("06:05"): {"cause": "changeover", "element": "AUST"}, key("06:10"): {"cause": "operator"},
				key("06:15"): {"cause": "changeover"}, key("06:20"): {}, key("06:25"): {"cause": "internal"},
			},
		},
		"another order found behind a gap is a setup": {
			[]sample{{"06:00", "state", 2}, {"06:00", "order", "o1"}, {"06:15", "order", "o2"}, {"06:20", "state", 3}},
			[]string{"06:00", "06:10", "06:20", "07:00"},
			map[string]want{key("06:00"): {}, key("06:10"): {"cause": "unknown"}, key("06:20"): {"cause": "changeover"}},
		},
		"modes and the order decide": {
			[]sample{{"06:00", "state", 2}, {"06:10", "mode", 2}, {"06:20", "mode", 3}, {"06:30", "mode", 1}, {"06:40", "order", "o"}, {"06:50", "mode", 7}, {"06:55", "state", 5}},
			[]string{"06:00", "07:00"},
			map[string]want{
				key("06:00"): {"cause": "no_order", "element": "ADOT"}, key("06:10"): {"cause": "maintenance", "mode": "maintenance", "element": "ADET"},
				key("06:20"): {"cause": "changeover", "mode": "setup", "element": "AUST"}, key("06:30"): {"cause": "no_order"},
				key("06:40"): {"cause": "operator", "element": "ADET"}, key("06:50"): {"mode": "none"}, key("06:55"): {"cause": "external"},
			},
		},
	} {
		t.Run(name, c.check)
	}
}

func TestFold_Counts(t *testing.T) {
	hour := "hour/" + TimeText(clock(t, "06:00"))
	base := []sample{{"06:00", "state", 6}, {"06:00", "product", "a"}}
	for name, c := range map[string]struct {
		in    []sample
		known []string
		want  want
	}{
		"the first value is the baseline":                    {[]sample{{"06:10", "produced", 100}, {"06:20", "produced", 150}}, []string{"06:00", "07:00"}, want{"produced_count": 50, "counter_resets_count": 0}},
		"the baseline stands before the first known instant": {[]sample{{"05:50", "produced", 100}, {"06:20", "produced", 150}}, []string{"06:00", "07:00"}, want{"produced_count": 50}},
		"what could not be read the next value shows":        {[]sample{{"06:10", "produced", 5000}, {"06:20", "produced", nil}, {"06:30", "produced", 7000}}, []string{"06:00", "07:00"}, want{"produced_count": 2000}},
		"another counter from here on begins anew": {
			[]sample{{"06:10", "produced", 5000}, {"06:10", "scrap", 90}, {"06:20", "produced", mesh.StatusBadConfigurationError}, {"06:20", "scrap", mesh.StatusBadConfigurationError | 0x480}, {"06:30", "produced", 7000}, {"06:30", "scrap", 10}, {"06:40", "produced", 7010}, {"06:40", "scrap", 12}},
			[]string{"06:00", "07:00"},
			want{"produced_count": 10, "scrap_count": 2, "counter_resets_count": 0},
		},
		"a value at the first known instant is baseline": {[]sample{{"05:50", "produced", 100}, {"06:00", "produced", 150}, {"06:20", "produced", 155}}, []string{"06:00", "07:00"}, want{"produced_count": 5}},
		"wrap of an Int32":                       {[]sample{{"06:10", "produced", 2147483640}, {"06:20", "produced", -2147483648 + 9}}, []string{"06:00", "07:00"}, want{"produced_count": 17, "counter_resets_count": 0}},
		"reset to zero":                          {[]sample{{"06:10", "produced", 500}, {"06:20", "produced", 0}, {"06:30", "produced", 7}}, []string{"06:00", "07:00"}, want{"produced_count": 7, "counter_resets_count": 1}},
		"reset to more than zero counts it":      {[]sample{{"06:10", "produced", 500}, {"06:20", "produced", 3}, {"06:20", "scrap", 5}, {"06:30", "scrap", 1}}, []string{"06:00", "07:00"}, want{"produced_count": 3, "scrap_count": 1, "good_count": 2, "counter_resets_count": 2}},
		"one item back is no reset":              {[]sample{{"06:10", "produced", 1000000}, {"06:20", "produced", 999999}, {"06:30", "produced", 1000001}}, []string{"06:00", "07:00"}, want{"produced_count": 2, "counter_resets_count": 0, "flags": "[counter_backwards]"}},
		"half is no reset, less is":              {[]sample{{"06:10", "produced", 10}, {"06:20", "produced", 5}, {"06:30", "scrap", 11}, {"06:40", "scrap", 5}}, []string{"06:00", "07:00"}, want{"produced_count": 0, "scrap_count": 5, "counter_resets_count": 1, "flags": "[counter_reset counter_backwards]"}},
		"a negative number is no reset":          {[]sample{{"06:10", "produced", 500}, {"06:20", "produced", -7}, {"06:30", "produced", -9}, {"06:40", "produced", -4}}, []string{"06:00", "07:00"}, want{"produced_count": 5, "counter_resets_count": 0, "flags": "[counter_backwards]"}},
		"wrap of an UInt32":                      {[]sample{{"06:10", "produced", 4294967290}, {"06:20", "produced", 4}}, []string{"06:00", "07:00"}, want{"produced_count": 10, "counter_resets_count": 0, "flags": "[]"}},
		"a counter of 64 bits does not wrap":     {[]sample{{"06:10", "produced", 5000000000}, {"06:20", "produced", 3}}, []string{"06:00", "07:00"}, want{"produced_count": 3, "counter_resets_count": 1}},
		"an Int32 that falls too far for a wrap": {[]sample{{"06:10", "produced", 2147483640}, {"06:20", "produced", -2147483648 + 2000000}}, []string{"06:00", "07:00"}, want{"produced_count": 0, "counter_resets_count": 0, "flags": "[counter_backwards]"}},
		"energy that falls a little":             {[]sample{{"06:05", "energy", 10.5}, {"06:06", "energy", 10.25}, {"06:15", "energy", 11.25}}, []string{"06:00", "07:00"}, want{"energy_kwh": 1.0, "counter_resets_count": 0, "flags": "[counter_backwards]"}},
		"no ideal rate from a part": {
			[]sample{{"06:05", "produced", 0}, {"06:10", "produced", 100}, {"06:20", "product", "x"}, {"06:30", "produced", 1000}},
			[]string{"06:00", "07:00"},
			want{"produced_count": 1000, "ideal_rate_per_hour": nil, "ideal_rate_reason": "no ideal rate for product x"},
		},
		"nothing is counted across or in a gap": {
			[]sample{{"06:05", "produced", 100}, {"06:08", "produced", 110}, {"06:15", "produced", 150}, {"06:20", "produced", 160}, {"06:30", "produced", 161}},
			[]string{"06:00", "06:10", "06:20", "07:00"},
			want{"produced_count": 11, "unknown_seconds": 600, "coverage_ratio": 1 - 600.0/3600, "rate_per_hour": 11 / (3000.0 / 3600)},
		},
		"a bad sample leaves the register":     {[]sample{{"06:05", "produced", 100}, {"06:08", "produced", nil}, {"06:15", "produced", 150}}, []string{"06:00", "07:00"}, want{"produced_count": 50}},
		"counted while the state is not known": {[]sample{{"06:05", "produced", 100}, {"06:06", "state", nil}, {"06:15", "produced", 150}}, []string{"06:00", "07:00"}, want{"produced_count": 50, "unknown_seconds": 0}},
		"energy and its reset":                 {[]sample{{"06:05", "energy", 10.5}, {"06:06", "energy", 11.25}, {"06:15", "energy", 0.25}}, []string{"06:00", "07:00"}, want{"energy_kwh": 1.0, "counter_resets_count": 1}},
		"nothing at or after the end of what is known": {
			[]sample{{"06:05", "produced", 1}, {"06:29:59.999", "produced", 2}, {"06:30", "produced", 5}},
			[]string{"06:00", "06:30"},
			want{"produced_count": 1, "coverage_ratio": 1, "rate_per_hour": 2, "ideal_rate_per_hour": 7200, "ideal_rate_reason": nil, "flags": "[]"},
		},
		"before the first known instant is unknown": {nil, []string{"06:45", "07:00"}, want{
			"unknown_seconds": 2700, "coverage_ratio": 0.25, "ideal_rate_per_hour": nil, "ideal_rate_reason": "no counter of produced items was heard", "rate_per_hour": nil,
			"produced_count": nil, "good_count": nil, "scrap_count": nil, "items_count": nil, "energy_kwh": nil,
		}},
		"only what was counted is a number": {[]sample{{"05:50", "produced", 7}}, []string{"06:45", "07:00"}, want{
			"produced_count": 0, "items_count": 0, "rate_per_hour": 0, "good_count": nil, "scrap_count": nil, "energy_kwh": nil, "ideal_rate_reason": "nothing produced",
		}},
	} {
		t.Run(name, func(t *testing.T) {
			got := rows(t, definition(t, "production-rate"), site(t, testSite), events(t, slices.Concat(base, c.in)), spans(t, c.known...))
			check(t, hour, got[hour], c.want)
		})
	}
}

func TestFold_PlannedBreakIsOutsideBusyTime(t *testing.T) {
	hour := "hour/" + TimeText(clock(t, "09:00"))
	in := events(t, []sample{{"08:00", "state", 6}, {"09:20", "state", 11}})
	got := rows(t, definition(t, "oee"), site(t, testSite), in, spans(t, "08:00", "10:00"))
	check(t, hour, got[hour], want{"planned_stop_seconds": 1800, "pbt_seconds": 1800, "adet_seconds": 1800, "apt_seconds": 0, "shift_id": "2026-03-02-early", "production_day": "2026-03-02"})
	got = rows(t, definition(t, "oee"), site(t, testSite), in, spans(t, "08:00", "09:30"))
	check(t, hour, got[hour], want{"oee_reason": "no planned busy time in the window", "planned_stop_seconds": 1800, "coverage_ratio": 1})
}

func TestFold_DaysOfDaylightSaving(t *testing.T) {
	s, d := site(t, testSite), definition(t, "oee")
	for name, c := range map[string]struct {
		from, to, day, night string
		seconds, rest        int // rest: the night's break, which the spring night skips
	}{
		"spring": {"2026-03-28T05:00:00Z", "2026-03-29T04:00:00Z", "2026-03-28", "2026-03-28T21:00:00Z", 23 * 3600, 0},
		"autumn": {"2026-10-24T04:00:00Z", "2026-10-25T05:00:00Z", "2026-10-24", "2026-10-24T20:00:00Z", 25 * 3600, 1800},
	} {
		t.Run(name, func(t *testing.T) {
			got := rows(t, d, s, events(t, []sample{{c.from, "state", 6}}), spans(t, c.from, c.to))
			check(t, "day", got["day/"+TimeText(clock(t, c.from))], want{"production_day": c.day, "apt_seconds": c.seconds - 3600 - c.rest, "planned_stop_seconds": 3600 + c.rest, "to": TimeText(clock(t, c.to))})
			check(t, "night", got["shift/"+TimeText(clock(t, c.night))], want{"shift_id": c.day + "-night", "apt_seconds": c.seconds - 16*3600 - c.rest})
			if len(got) != c.seconds/3600+4 {
				t.Errorf("%d rows", len(got))
			}
		})
	}
}

func TestSite_DemoLoads(t *testing.T) {
	src, err := os.ReadFile("../../deploy/demo/site.yaml")
	if err != nil {
		t.Fatal(err)
	}
	s := site(t, string(src))
	if len(s.Equipment) != 12 || len(s.Sources()) != 4 || s.Reasons[101] == "" {
		t.Errorf("%d machines, %v", len(s.Equipment), s.Sources())
	}
	if e, r := s.Signal("line2-opcua", "line2.labeller.energy"); e != 6 || r != RoleEnergy {
		t.Errorf("got %d %v", e, r)
	}
}

func TestFold_EnergyInKilojouleIsSummedAsIntegers(t *testing.T) {
	s := site(t, testSite+"energy_unit: kJ\nroles: {energy: energy_kj}\n")
	if e, r := s.Signal("s1", "l1.filler.energy_kj"); e != 0 || r != RoleEnergy || s.RoleName(&s.Equipment[0], "l1.filler.energy_kj") != "energy" {
		t.Errorf("energy_kj is role %d of %d", r, e)
	}
	in := events(t, []sample{{"06:00", "state", 6}, {"06:00", "energy", 0}, {"06:10", "energy", 7}, {"06:20", "energy", 18}, {"06:30", "energy", 5}, {"06:40", "energy", 4}, {"06:50", "energy", 6}})
	got := rows(t, definition(t, "production-rate"), s, in, spans(t, "06:00", "07:00"))
	hour := "hour/" + TimeText(clock(t, "06:00"))
	check(t, hour, got[hour], want{"energy_kwh": 25.0 / 3600, "counter_resets_count": 1, "flags": "[counter_reset counter_backwards]"})
}

// Folding on from any instant is folding in one go: states are the whole of
// what a fold knows, written out and read back.
func TestFold_GoesOnFromAnyState(t *testing.T) {
	s := site(t, testSite)
	in := events(t, []sample{
		{"05:50", "product", "a"},
		{"05:55", "produced", 5},
		{"06:00", "state", 6},
		{"06:05", "produced", 50},
		{"06:10", "energy", 0.1},
		{"06:20", "energy", 0.3},
		{"06:30", "state", 3},
		{"06:30", "order", "x"},
		{"06:40", "produced", 60},
		{"06:50", "order", "y"},
		{"06:55", "state", 15},
		{"07:30", "state", 6},
		{"07:40", "produced", 2},
		{"07:45", "energy", 0.7},
		{"07:50", "energy", 0.6},
	})
	known := spans(t, "06:01", "06:35", "06:45", "08:00")
	_, end := Extent(known)
	whole := &State{}
	trace := s.Fold(whole, in, known, end)
	for cut := clock(t, "05:30"); cut < end; cut += mesh.Nanos(5 * time.Minute) {
		st := &State{}
		first := s.Fold(st, in, known, cut)
		b, err := (&Edge{State: st}).Encode()
		if err != nil {
			t.Fatal(err)
		}
		edge, err := DecodeEdge(b)
		if err != nil {
			t.Fatal(err)
		}
		second := s.Fold(edge.State, in, known, end)
		if !reflect.DeepEqual(edge.State, whole) {
			t.Errorf("cut at %s: state %+v, want %+v", cut, edge.State, whole)
		}
		if !reflect.DeepEqual(append(first.Intervals, second.Intervals...), trace.Intervals) {
			t.Errorf("cut at %s: other intervals", cut)
		}
		if !reflect.DeepEqual(append(first.Edges, second.Edges...), trace.Edges) {
			t.Errorf("cut at %s: other cells", cut)
		}
	}
}
