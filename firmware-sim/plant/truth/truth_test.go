package truth

import (
	"encoding/json"
	"math"
	"testing"
	"time"

	"plantmesh/firmware-sim/plant"
)

const name = "line1-capper"

// feed is a hand-made history of line1.capper.
type feed []plant.Emission

func clock(t *testing.T, s string) time.Time {
	t.Helper()
	at, err := time.Parse(time.RFC3339Nano, s)
	if err != nil {
		t.Fatal(err)
	}
	return at
}

func (f *feed) say(t *testing.T, at, role string, value any) {
	t.Helper()
	e := plant.Emission{Source: plant.SourceLine1, Signal: "line1.capper." + role, Time: clock(t, at)}
	switch v := value.(type) {
	case nil:
		e.Status = plant.BadNoData
	case int:
		e.Value = plant.Value{Type: plant.Int, I: int64(v)}
	case float64:
		e.Value = plant.Value{Type: plant.Double, F: v}
	case string:
		e.Value = plant.Value{Type: plant.String, S: v}
	default:
		t.Fatalf("what is %v", value)
	}
	*f = append(*f, e)
}

func (f *feed) running(t *testing.T, at string) {
	t.Helper()
	f.say(t, at, plant.RoleState, 6)
	f.say(t, at, plant.RoleMode, 1)
	f.say(t, at, plant.RoleOrder, "A")
	f.say(t, at, plant.RoleProduct, "lager-05")
	f.say(t, at, plant.RoleStopReason, 0)
	f.say(t, at, plant.RoleProduced, 100)
	f.say(t, at, plant.RoleScrap, 10)
	f.say(t, at, plant.RoleEnergy, 5.0)
}

// rows as of the end of the last known stretch; edges are pairs.
func rows(t *testing.T, f feed, edges ...string) []Row {
	t.Helper()
	var known []Span
	for i := 0; i < len(edges); i += 2 {
		known = append(known, Span{clock(t, edges[i]).UnixNano(), clock(t, edges[i+1]).UnixNano()})
	}
	signals := []plant.Signal{{Source: plant.SourceLine1, Name: "line1.capper.state"}, {Source: plant.SourceLine2, Name: "line2.capper.state"}}
	out, err := Of(signals, f, map[string][]Span{plant.SourceLine1: known}, clock(t, edges[len(edges)-1]))
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func states(t *testing.T, all []Row) (out []map[string]any) {
	t.Helper()
	for _, r := range all {
		if r.Entity != name {
			t.Errorf("a row of %s, whose source is not known", r.Entity)
		}
		if r.Product == EquipmentState {
			out = append(out, r.Columns)
		}
	}
	return out
}

func window1(t *testing.T, all []Row, product, kind, from string) map[string]any {
	t.Helper()
	for _, r := range all {
		if r.Product == product && r.Columns["window"] == kind && r.Columns["from"] == from {
			return r.Columns
		}
	}
	t.Fatalf("no %s row of the %s from %s", product, kind, from)
	return nil
}

func demand(t *testing.T, c, want map[string]any) {
	t.Helper()
	for k, w := range want {
		got, ok := c[k]
		if f, isNumber := w.(float64); isNumber {
			if g, isNumber := got.(float64); isNumber && math.Abs(f-g) < 1e-9 {
				continue
			}
		}
		g, _ := json.Marshal(got)
		x, _ := json.Marshal(w)
		if !ok || string(g) != string(x) {
			t.Errorf("%s is %s, want %s", k, g, x)
		}
	}
}

func TestTruth_IntervalsAndGap(t *testing.T) {
	var f feed
	f.running(t, "2026-03-02T09:00:00Z")
	f.say(t, "2026-03-02T09:10:00Z", plant.RoleState, 11)
	f.say(t, "2026-03-02T09:10:00Z", plant.RoleStopReason, 105)
	f.say(t, "2026-03-02T09:10:00Z", plant.RoleProduced, 160)
	f.say(t, "2026-03-02T09:12:00Z", plant.RoleState, 6) // reason still there: not shown while running
	// gap 09:20 to 09:40: in it the order changes and the machine counts
	f.say(t, "2026-03-02T09:19:59Z", plant.RoleProduced, 170)
	f.say(t, "2026-03-02T09:20:00Z", plant.RoleProduced, 180)
	f.say(t, "2026-03-02T09:30:00Z", plant.RoleState, 15)
	f.say(t, "2026-03-02T09:30:00Z", plant.RoleOrder, "B")
	f.say(t, "2026-03-02T09:40:00Z", plant.RoleProduced, 500)
	f.say(t, "2026-03-02T09:41:00Z", plant.RoleState, nil)
	f.say(t, "2026-03-02T09:41:30Z", plant.RoleProduced, 501)
	f.say(t, "2026-03-02T09:42:00Z", plant.RoleState, 3)
	f.say(t, "2026-03-02T09:43:00Z", plant.RoleState, 6)
	f.say(t, "2026-03-02T09:44:00Z", plant.RoleState, 15)
	f.say(t, "2026-03-02T09:44:00Z", plant.RoleStopReason, 0)
	f.say(t, "2026-03-02T09:45:00Z", plant.RoleState, 2)
	f.say(t, "2026-03-02T09:46:00Z", plant.RoleOrder, "")
	f.say(t, "2026-03-02T09:47:00Z", plant.RoleState, 2) // after P: not there yet
	f = append(f, f[3], f[8])                            // twice is once
	all := rows(t, f, "2026-03-02T09:05:00Z", "2026-03-02T09:20:00Z", "2026-03-02T09:40:00Z", "2026-03-02T09:47:00Z")
	want := []struct {
		from, cause, element string
		packml               any
		reason               any
	}{
		{"09:05", "none", "APT", 6, nil},
		{"09:10", "internal", "ADET", 11, 105},
		{"09:12", "none", "APT", 6, nil},
		{"09:20", "unknown", "", nil, nil},
		{"09:40", "changeover", "AUST", 15, 105},
		{"09:41", "unknown", "", nil, nil},
		{"09:42", "changeover", "AUST", 3, 105},
		{"09:43", "none", "APT", 6, nil},
		{"09:44", "internal", "ADET", 15, nil},
		{"09:45", "operator", "ADET", 2, nil},
		{"09:46", "no_order", "ADOT", 2, nil},
	}
	got := states(t, all)
	if len(got) != len(want) {
		t.Fatalf("%d intervals, want %d: %v", len(got), len(want), got)
	}
	for i, w := range want {
		c := map[string]any{"from": "2026-03-02T" + w.from + ":00.000Z", "cause": w.cause, "element": w.element, "packml_state": w.packml, "reason": w.reason, "to": nil}
		if w.element == "" {
			c["element"], c["state"], c["mode"], c["packml_name"] = nil, "not_available", "none", nil
		}
		if i+1 < len(want) {
			c["to"] = "2026-03-02T" + want[i+1].from + ":00.000Z"
		}
		demand(t, got[i], c)
	}
	// 09:00-09:30 UTC is the planned break 10:00-10:30 in Vienna.
	hour := map[string]any{
		"to": "2026-03-02T10:00:00.000Z", "shift_id": "2026-03-02-early", "production_day": "2026-03-02",
		"produced_count": 60 + 10 + 1, "unknown_seconds": 300.0 + 1200 - 600 + 60, "planned_stop_seconds": 900.0 + 600,
		"apt_seconds": 60.0, "aust_seconds": 120.0, "adet_seconds": 120.0, "adot_seconds": 60.0, "pbt_seconds": 360.0,
		"ideal_seconds": 71 * 0.29, "coverage_ratio": 1 - 960.0/(2820-1500), "oee_ratio": nil, "oee_reason": "only 27 % of what is planned to be worked is known",
	}
	demand(t, window1(t, all, OEE, "hour", "2026-03-02T09:00:00.000Z"), hour)
	demand(t, window1(t, all, ProductionRate, "hour", "2026-03-02T09:00:00.000Z"), map[string]any{
		"unknown_seconds": 1500.0, "coverage_ratio": 1 - 1500.0/2820, "items_count": 71, "rate_per_hour": 71 / (1320.0 / 3600), "ideal_rate_per_hour": 3600 / 0.29,
	})
	demand(t, window1(t, all, OEE, "day", "2026-03-02T05:00:00.000Z"), map[string]any{
		"shift_id": nil, "to": "2026-03-03T05:00:00.000Z", "unknown_seconds": 4*3600.0 + 960, "produced_count": 71,
	})
}

func TestTruth_Counters(t *testing.T) {
	const top = 1<<31 - 1
	for what, c := range map[string]struct {
		values []int
		count  int
		resets int
		flags  []string
	}{
		"up":                 {[]int{100, 130, 131}, 31, 0, []string{}},
		"wrap":               {[]int{top - 5, -top - 1 + 4}, 10, 0, []string{}},
		"wrap of UInt32":     {[]int{2*top - 5, 3}, 10, 0, []string{}},
		"wrap, too far":      {[]int{top - 5, -top - 1 + 2_000_000}, 0, 0, []string{"counter_backwards"}},
		"too large to wrap":  {[]int{5_000_000_000, 3}, 3, 1, []string{"counter_reset"}},
		"reset":              {[]int{500, 520, 7}, 27, 1, []string{"counter_reset"}},
		"reset to below":     {[]int{500, -7}, 0, 0, []string{"counter_backwards"}},
		"one back":           {[]int{1_000_000, 999_999, 1_000_001}, 2, 0, []string{"counter_backwards"}},
		"half, then a reset": {[]int{10, 5, 2}, 2, 1, []string{"counter_reset", "counter_backwards"}},
	} {
		t.Run(what, func(t *testing.T) {
			var f feed
			at := clock(t, "2026-03-02T11:00:00Z")
			f.say(t, "2026-03-02T11:00:00Z", plant.RoleState, 6)
			f.say(t, "2026-03-02T11:00:00Z", plant.RoleProduct, "lager-05")
			for i, v := range c.values {
				f.say(t, at.Add(time.Duration(i)*time.Minute).Format(time.RFC3339), plant.RoleProduced, v)
			}
			f.say(t, "2026-03-02T11:00:00Z", plant.RoleEnergy, 3.5)
			f.say(t, "2026-03-02T11:01:00Z", plant.RoleEnergy, 4.75)
			all := rows(t, f, "2026-03-02T11:00:00Z", "2026-03-02T12:00:00Z")
			demand(t, window1(t, all, ProductionRate, "hour", "2026-03-02T11:00:00.000Z"), map[string]any{
				"produced_count": c.count, "counter_resets_count": c.resets, "energy_kwh": 1.25, "coverage_ratio": 1.0,
				"flags": c.flags,
			})
			demand(t, window1(t, all, OEE, "hour", "2026-03-02T11:00:00.000Z"), map[string]any{"flags": c.flags})
		})
	}
}

func TestTruth_EnergyFalls(t *testing.T) {
	var f feed
	f.running(t, "2026-03-02T11:00:00Z")
	f.say(t, "2026-03-02T11:01:00Z", plant.RoleEnergy, 4.75)
	f.say(t, "2026-03-02T11:02:00Z", plant.RoleEnergy, 5.25)
	f.say(t, "2026-03-02T11:03:00Z", plant.RoleEnergy, 1.0)
	all := rows(t, f, "2026-03-02T11:00:00Z", "2026-03-02T12:00:00Z")
	demand(t, window1(t, all, ProductionRate, "hour", "2026-03-02T11:00:00.000Z"), map[string]any{
		"energy_kwh": 1.5, "counter_resets_count": 1, "flags": []string{"counter_reset", "counter_backwards"},
	})
}

func TestTruth_ACounterThatIsNotHeard(t *testing.T) {
	var f feed
	f.say(t, "2026-03-02T11:00:00Z", plant.RoleState, 6)
	f.say(t, "2026-03-02T11:00:00Z", plant.RoleProduct, "pils-033")
	f.say(t, "2026-03-02T11:00:00Z", plant.RoleProduced, 10)
	f.say(t, "2026-03-02T11:30:00Z", plant.RoleProduced, 20)
	f.say(t, "2026-03-02T12:10:00Z", plant.RoleScrap, 3)
	all := rows(t, f, "2026-03-02T11:00:00Z", "2026-03-02T13:00:00Z")
	demand(t, window1(t, all, OEE, "hour", "2026-03-02T11:00:00.000Z"), map[string]any{
		"produced_count": 10, "scrap_count": nil, "good_count": nil, "quality_ratio": nil, "quality_reason": "no counter of scrap was heard", "oee_reason": "no counter of scrap was heard",
	})
	demand(t, window1(t, all, ProductionRate, "hour", "2026-03-02T11:00:00.000Z"), map[string]any{"produced_count": 10, "items_count": 10, "energy_kwh": nil})
	demand(t, window1(t, all, OEE, "hour", "2026-03-02T12:00:00.000Z"), map[string]any{"scrap_count": 0, "good_count": 0, "quality_reason": "nothing produced"})
}

func TestTruth_IdealRate(t *testing.T) {
	var f feed
	f.running(t, "2026-03-02T11:00:00Z")
	f.say(t, "2026-03-02T11:10:00Z", plant.RoleProduced, 200)
	f.say(t, "2026-03-02T12:10:00Z", plant.RoleProduced, 300)
	f.say(t, "2026-03-02T12:20:00Z", plant.RoleProduct, "water")
	f.say(t, "2026-03-02T12:30:00Z", plant.RoleProduced, 1200)
	all := rows(t, f, "2026-03-02T11:00:00Z", "2026-03-02T14:00:00Z")
	for from, w := range map[string]map[string]any{
		"11": {"ideal_rate_per_hour": 3600 / 0.29, "ideal_rate_reason": nil},
		"12": {"ideal_rate_per_hour": nil, "ideal_rate_reason": "no ideal rate for product water"},
		"13": {"ideal_rate_per_hour": nil, "ideal_rate_reason": "nothing produced"},
	} {
		demand(t, window1(t, all, ProductionRate, "hour", "2026-03-02T"+from+":00:00.000Z"), w)
	}
}

func TestTruth_Nulls(t *testing.T) {
	scrapped := func(t *testing.T, state, produced, scrap int, product, from string) map[string]any {
		t.Helper()
		var f feed
		at := clock(t, from)
		f.say(t, from, plant.RoleState, state)
		f.say(t, from, plant.RoleProduct, product)
		f.say(t, from, plant.RoleOrder, "A")
		f.say(t, from, plant.RoleProduced, 0)
		f.say(t, from, plant.RoleScrap, 0)
		f.say(t, at.Add(time.Minute).Format(time.RFC3339), plant.RoleProduced, produced)
		f.say(t, at.Add(time.Minute).Format(time.RFC3339), plant.RoleScrap, scrap)
		end := at.Add(20 * time.Minute).Format(time.RFC3339)
		return window1(t, rows(t, f, from, end), OEE, "hour", at.Format("2006-01-02T15:04:05.000Z"))
	}
	hour := func(t *testing.T, state, produced int, product, from string) map[string]any {
		t.Helper()
		return scrapped(t, state, produced, produced/4, product, from)
	}
	const noon, pause = "2026-03-02T11:00:00Z", "2026-03-02T17:00:00Z"
	for what, c := range map[string]struct{ got, want map[string]any }{
		"runs": {hour(t, 6, 400, "pils-033", noon), map[string]any{
			"availability_ratio": 1.0, "effectiveness_ratio": 92.0 / 1200, "quality_ratio": 0.75, "oee_ratio": 69.0 / 1200, "nee_ratio": 69.0 / 1200,
			"oee_reason": nil, "flags": []string{},
		}},
		"too fast": {hour(t, 6, 8000, "pils-033", noon), map[string]any{"effectiveness_ratio": 8000 * 0.23 / 1200, "flags": []string{"effectiveness_above_1"}}},
		"no ideal rate": {hour(t, 6, 400, "water", noon), map[string]any{
			"availability_ratio": 1.0, "quality_ratio": 0.75, "effectiveness_ratio": nil, "oee_ratio": nil, "nee_ratio": nil, "oee_reason": "no ideal rate for product water",
		}},
		"stood": {hour(t, 9, 0, "pils-033", noon), map[string]any{
			"availability_ratio": 0.0, "effectiveness_ratio": nil, "effectiveness_reason": "nothing ran", "quality_reason": "nothing produced",
			"oee_ratio": 0.0, "oee_reason": nil, "nee_ratio": nil, "nee_reason": "nothing ran",
		}},
		"ran for nothing": {hour(t, 6, 0, "pils-033", noon), map[string]any{
			"effectiveness_ratio": 0.0, "quality_ratio": nil, "quality_reason": "nothing produced", "nee_reason": "nothing produced", "oee_ratio": 0.0, "oee_reason": nil,
		}},
		"scrap of nothing": {scrapped(t, 6, 0, 3, "pils-033", noon), map[string]any{
			"availability_ratio": 1.0, "effectiveness_ratio": 0.0, "quality_reason": "more scrap than produced", "oee_ratio": nil, "oee_reason": "more scrap than produced", "nee_ratio": nil,
		}},
		"more scrap than produced": {scrapped(t, 6, 10, 11, "pils-033", noon), map[string]any{
			"effectiveness_ratio": 2.3 / 1200, "quality_reason": "more scrap than produced", "oee_ratio": nil, "oee_reason": "more scrap than produced", "nee_ratio": nil,
		}},
		"more scrap, no ideal rate": {scrapped(t, 6, 10, 11, "water", noon), map[string]any{
			"quality_reason": "more scrap than produced", "oee_reason": "no ideal rate for product water",
		}},
		"break": {hour(t, 2, 0, "pils-033", pause), map[string]any{
			"planned_stop_seconds": 1200.0, "pbt_seconds": 0.0, "oee_ratio": nil, "availability_reason": "no planned busy time in the window",
		}},
	} {
		t.Run(what, func(t *testing.T) { demand(t, c.got, c.want) })
	}
}

func TestTruth_ShiftsAcrossDaylightSaving(t *testing.T) {
	for what, c := range map[string]struct {
		from, to, night, day string
		nightHours, dayHours float64
		rests                float64 // of the night: the spring night skips its break
	}{
		"spring": {"2026-03-28T05:00:00Z", "2026-03-29T04:00:00Z", "2026-03-28T21:00:00.000Z", "2026-03-28T05:00:00.000Z", 7, 23, 0},
		"autumn": {"2026-10-24T04:00:00Z", "2026-10-25T05:00:00Z", "2026-10-24T20:00:00.000Z", "2026-10-24T04:00:00.000Z", 9, 25, 1},
	} {
		t.Run(what, func(t *testing.T) {
			var f feed
			f.running(t, c.from)
			all := rows(t, f, c.from, c.to)
			for kind, x := range map[string]struct {
				from  string
				hours float64
				rests float64
			}{"shift": {c.night, c.nightHours, c.rests}, "day": {c.day, c.dayHours, 2 + c.rests}} {
				row := window1(t, all, OEE, kind, x.from)
				demand(t, row, map[string]any{
					"to": clock(t, c.to).Format("2006-01-02T15:04:05.000Z"), "production_day": c.from[:10],
					"apt_seconds": 3600*x.hours - 1800*x.rests, "planned_stop_seconds": 1800 * x.rests, "unknown_seconds": 0.0,
				})
			}
			hours := 0
			for _, r := range all {
				if r.Product == ProductionRate && r.Columns["window"] == "hour" {
					hours++
				}
			}
			if hours != int(c.dayHours) {
				t.Errorf("%d hours in the day", hours)
			}
		})
	}
}

// Buckets plus unknown are the window, to the nanosecond, and nothing the
// plant does makes a window count less than nothing.
func TestTruth_OfThePlant(t *testing.T) {
	start := time.Date(2026, 3, 1, 4, 0, 0, 0, time.UTC)
	stop := start.Add(11 * time.Hour) // a whole shift lies inside
	p, err := plant.New(plant.Config{Seed: 3, Start: start, Stop: stop})
	if err != nil {
		t.Fatal(err)
	}
	samples := p.Until(stop.Add(plant.Disorder))
	a, b := start.UnixNano(), stop.UnixNano()
	gap := start.Add(7*time.Hour + 1234*time.Millisecond).UnixNano()
	known := map[string][]Span{}
	for _, s := range p.Signals() {
		known[s.Source] = []Span{{a, gap}, {gap + int64(90*time.Second), b}}
	}
	began := time.Now()
	all, err := Of(p.Signals(), samples, known, stop)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d rows in %s", len(all), time.Since(began))
	for _, r := range all {
		if r.Product != OEE {
			continue
		}
		c := r.Columns
		sum := 0.0
		for _, k := range []string{"pbt_seconds", "planned_stop_seconds", "unknown_seconds"} {
			sum += c[k].(float64)
		}
		from, to := clock(t, c["from"].(string)), clock(t, c["to"].(string))
		if to.After(stop) {
			to = stop
		}
		if math.Abs(sum-to.Sub(from).Seconds()) > 1e-6 {
			t.Errorf("%s %s %s: %f seconds in the buckets", r.Entity, c["window"], c["from"], sum)
		}
		if good := c["good_count"].(int64); good < 0 {
			t.Errorf("%s %s %s: %d good", r.Entity, c["window"], c["from"], good)
		}
		if c["window"] == "shift" {
			t.Logf("%s %s A %v E %v Q %v OEE %v %v", r.Entity, c["from"], c["availability_ratio"], c["effectiveness_ratio"], c["quality_ratio"], c["oee_ratio"], c["oee_reason"])
		}
	}
}
