package porthttp

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"plantmesh/proto/mesh"
)

// fake is a hub's store in memory with 48 h of rows that look like a plant's.
type fake struct {
	mu       sync.Mutex
	rows     map[string][]mesh.Row // by product, in (entity, from, key) order
	out      map[string][]mesh.Row
	changed  chan struct{}
	now      mesh.Nanos
	progress mesh.Nanos
	epoch    mesh.Epoch
	ready    bool // made; rows are put by key from here on
}

func fakeSite() SiteView {
	site := SiteView{
		Site: "graz", Zone: "Europe/Vienna",
		Shifts:  []Shift{{"early", "06:00", "14:00", nil}, {"late", "14:00", "22:00", nil}, {"night", "22:00", "06:00", []string{"mon-fri"}}},
		Breaks:  []Shift{{"", "10:00", "10:30", nil}, {"", "18:00", "18:30", nil}, {"", "02:00", "02:30", nil}},
		Reasons: map[string]string{"11": "label roll empty", "21": "bottle jam", "41": "motor protection tripped"},
	}
	for _, l := range []string{"line1", "line2", "line3"} {
		line := Line{ID: l}
		for _, k := range []string{"filler", "capper", "labeller", "palletiser"} {
			line.Machines = append(line.Machines, Machine{ID: l + "-" + k, Name: strings.ToUpper(k[:1]) + k[1:], Kind: k, Source: l + "-opcua"})
		}
		site.Lines = append(site.Lines, line)
	}
	return site
}

func fakePlans() Plans {
	stop := PlannedStop{"2026-03-02T09:00:00.000Z", "2026-03-02T09:30:00.000Z"}
	early := PlannedShift{PlannedStop{"2026-03-02T05:00:00.000Z", "2026-03-02T13:00:00.000Z"}, "2026-03-02-early"}
	return Plans{"2026-03-01T00:00:00.000Z", "2026-03-09T00:00:00.000Z", []Plan{{Zone: "Europe/Vienna", Machines: []string{"line1-filler"}, Shifts: []PlannedShift{early}, Stops: []PlannedStop{stop}}}}
}

func newFake(now time.Time) *fake {
	f := &fake{
		rows: map[string][]mesh.Row{}, out: map[string][]mesh.Row{}, changed: make(chan struct{}),
		now: mesh.NanosOf(now), progress: mesh.NanosOf(now), epoch: mesh.NewEpoch(),
	}
	zone, err := time.LoadLocation("Europe/Vienna")
	if err != nil {
		panic(err)
	}
	rng := rand.New(rand.NewPCG(1, 2))
	for _, l := range fakeSite().Lines {
		for i, m := range l.Machines {
			f.intervals(rng, l.ID, m.ID, i)
			f.windows(rng, l.ID, m, zone)
		}
		g := now.Add(-7 * time.Hour)
		f.put("coverage", mesh.Row{Entity: l.ID + "-opcua", Key: g.Format(time.RFC3339Nano), From: mesh.NanosOf(g), To: mesh.NanosOf(g.Add(3 * time.Minute)), State: mesh.RowFinal},
			map[string]any{"source": l.ID + "-opcua", "from": ts(g), "to": ts(g.Add(3 * time.Minute)), "seconds": 180.0, "cause": "died", "count": 0, "note": "the worker of this source stopped without notice"})
	}
	f.ready = true
	for p := range f.rows {
		slices.SortFunc(f.rows[p], func(a, b mesh.Row) int {
			return cmp.Or(cmp.Compare(a.Entity, b.Entity), cmp.Compare(a.From, b.From), cmp.Compare(a.Key, b.Key))
		})
	}
	return f
}

func ts(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000Z") }

// put adds a row, or replaces the one with its key, and writes the output log.
func (f *fake) put(product string, r mesh.Row, body map[string]any) {
	b, err := json.Marshal(body)
	if err != nil {
		panic(err)
	}
	r.Product, r.Body, r.Revision = product, b, max(1, r.Revision)
	r.Produced = mesh.NanosOf(time.Now())
	r.At = mesh.Position{Log: mesh.LogID("out/" + product + "/0"), Epoch: f.epoch, Seq: uint64(len(f.out[product]) + 1)}
	f.out[product] = append(f.out[product], r)
	if !f.ready { // every key is new
		f.rows[product] = append(f.rows[product], r)
		return
	}
	i := slices.IndexFunc(f.rows[product], func(o mesh.Row) bool { return o.Entity == r.Entity && o.Key == r.Key })
	if i >= 0 {
		f.rows[product][i] = r
		return
	}
	f.rows[product] = append(f.rows[product], r)
}

type tuple struct {
	packml         int
	name, state    string
	number         int
	cause, element string
	reason         any
	mode           string
	seconds        int
}

func tuples() []tuple {
	return []tuple{
		{6, "Execute", "executing", 3, "none", "APT", nil, "processing", 1500},
		{5, "Suspended", "not_executing", 2, "external", "ADET", nil, "processing", 60},
		{11, "Held", "not_executing", 2, "internal", "ADET", 21, "processing", 40},
		{9, "Aborted", "out_of_service", 1, "failure", "ADET", 41, "processing", 600},
		{15, "Resetting", "not_executing", 2, "changeover", "AUST", nil, "processing", 900},
		{4, "Idle", "not_executing", 2, "no_order", "ADOT", nil, "processing", 300},
		{2, "Stopped", "not_executing", 2, "maintenance", "ADET", nil, "maintenance", 1200},
	}
}

func stateBody(line, id string, from, to time.Time, k tuple, p time.Time) map[string]any {
	b := map[string]any{
		"equipment": id, "line": line, "from": ts(from), "to": nil, "duration_seconds": p.Sub(from).Seconds(),
		"state": k.state, "state_number": k.number, "mode": k.mode, "mode_number": 3, "packml_state": k.packml, "packml_name": k.name,
		"cause": k.cause, "element": k.element, "reason": k.reason,
	}
	if k.state == "not_available" {
		b["packml_state"], b["packml_name"], b["element"] = nil, nil, nil
	}
	if !to.IsZero() {
		b["to"], b["duration_seconds"] = ts(to), to.Sub(from).Seconds()
	}
	return b
}

func (f *fake) intervals(rng *rand.Rand, line, id string, i int) {
	end := f.now.Time()
	t := end.Add(-48 * time.Hour)
	gap := end.Add(-7 * time.Hour)
	for n := 0; t.Before(end); n++ {
		k := tuples()[0]
		if n%2 == 1 {
			w := []int{1, 1, 1, 2, 2, 2, 2, 3, 4, 5, 6}
			k = tuples()[w[rng.IntN(len(w))]]
		}
		if t.Equal(gap) {
			k = tuple{0, "", "not_available", 0, "unknown", "", nil, "none", 0}
		}
		to := t.Add(time.Duration(float64(k.seconds)*(0.3+rng.Float64())) * time.Second).Truncate(time.Millisecond)
		if t.Before(gap) && to.After(gap) {
			to = gap
		}
		if t.Equal(gap) {
			to = gap.Add(3 * time.Minute)
		}
		r := mesh.Row{Entity: id, Key: ts(t), From: mesh.NanosOf(t), To: mesh.NanosOf(to), State: mesh.RowFinal}
		if !to.Before(end) || end.Sub(to) < time.Duration(i+1)*time.Minute {
			to = time.Time{}
			r.To, r.State = 0, mesh.RowProvisional
			if id == "line1-labeller" {
				k = tuples()[3]
			}
			if id == "line3-filler" {
				k = tuple{0, "", "not_available", 0, "unknown", "", nil, "none", 0}
			}
		}
		f.put("equipment-state", r, stateBody(line, id, t, to, k, end))
		if to.IsZero() {
			return
		}
		t = to
	}
}

func (f *fake) windows(rng *rand.Rand, line string, m Machine, zone *time.Location) {
	end := f.now.Time()
	start := end.Add(-48 * time.Hour)
	day := func(t time.Time) time.Time {
		l := t.In(zone)
		d := time.Date(l.Year(), l.Month(), l.Day(), 6, 0, 0, 0, zone)
		if d.After(t) {
			d = d.AddDate(0, 0, -1)
		}
		return d
	}
	one := func(window string, from, to time.Time, shift any) {
		if !from.Before(end) || !to.After(start) {
			return
		}
		f.window(rng, line, m, window, from, to, shift, day(from).Format(time.DateOnly))
	}
	for d := day(start); d.Before(end); d = d.AddDate(0, 0, 1) {
		one("day", d, d.AddDate(0, 0, 1), nil)
		for i, s := range []string{"early", "late", "night"} {
			id := d.Format(time.DateOnly) + "-" + s
			from := d.Add(time.Duration(i) * 8 * time.Hour)
			one("shift", from, from.Add(8*time.Hour), id)
			for h := range 8 {
				one("hour", from.Add(time.Duration(h)*time.Hour), from.Add(time.Duration(h+1)*time.Hour), id)
			}
		}
	}
}

func (f *fake) window(rng *rand.Rand, line string, m Machine, window string, from, to time.Time, shift any, pday string) {
	end := f.now.Time()
	elapsed := min(to.Sub(from), end.Sub(from)).Seconds()
	unknown := max(0, end.Add(-48*time.Hour).Sub(from).Seconds())
	known := elapsed - unknown
	planned := 0.0
	if window != "hour" {
		planned = min(1800, known)
	} else if from.UTC().Hour() == 9 {
		planned = min(1800, known)
	}
	pbt := known - planned
	apt := pbt * (0.6 + 0.35*rng.Float64())
	aust := (pbt - apt) * 0.3
	adet := (pbt - apt) * 0.6
	adot := pbt - apt - aust - adet
	produced := float64(int(apt / 0.32))
	scrap := float64(int(produced * 0.012))
	row := mesh.Row{Entity: m.ID, Key: window + "/" + ts(from), From: mesh.NanosOf(from), To: mesh.NanosOf(to), State: mesh.RowFinal}
	if to.After(end) {
		row.State = mesh.RowProvisional
	}
	common := map[string]any{
		"equipment": m.ID, "line": line, "window": window, "from": ts(from), "to": ts(to), "shift_id": shift,
		"production_day": pday, "produced_count": produced, "good_count": produced - scrap, "scrap_count": scrap,
		"unknown_seconds": unknown, "coverage_ratio": 1 - unknown/elapsed, "mapping_version": "1",
	}
	oee := maps.Clone(common)
	oee["pbt_seconds"], oee["apt_seconds"], oee["aust_seconds"], oee["adet_seconds"], oee["adot_seconds"], oee["planned_stop_seconds"] = pbt, apt, aust, adet, adot, planned
	ideal, good := 0.30*produced, 0.30*(produced-scrap)
	oee["ideal_seconds"], oee["ideal_good_seconds"], oee["flags"] = ideal, good, []string{}
	ratio := func(name string, v float64) { oee[name+"_ratio"], oee[name+"_reason"] = v, nil }
	ratio("availability", apt/pbt)
	ratio("effectiveness", ideal/apt)
	ratio("quality", good/ideal)
	ratio("oee", good/pbt)
	ratio("nee", good/pbt*1.1)
	oee["coverage_reason"] = nil
	if pbt <= 0 || elapsed <= 0 || 1-unknown/elapsed < 0.5 {
		why := "no planned busy time in the window"
		if 1-unknown/elapsed < 0.5 {
			why = "only " + strconv.Itoa(int(100*(1-unknown/elapsed))) + " % of the window is known"
		}
		for _, n := range []string{"availability", "effectiveness", "quality", "oee", "nee"} {
			oee[n+"_ratio"], oee[n+"_reason"] = nil, why
		}
	}
	f.put("oee", row, oee)
	rate := maps.Clone(common)
	rate["items_count"], rate["energy_kwh"], rate["counter_resets_count"] = produced, 0.0031*produced, 0
	rate["rate_per_hour"], rate["ideal_rate_per_hour"] = nil, nil
	if known > 0 && produced > 0 {
		rate["rate_per_hour"], rate["ideal_rate_per_hour"] = produced/(known/3600), 12000.0
	}
	f.put("production-rate", row, rate)
}

var errFakeCursor = errors.New("no cursor of mine")

// Rows implements Rows; the cursor is the number of rows already given.
func (f *fake) Rows(_ context.Context, q mesh.RowQuery) (out []mesh.Row, next string, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	skip := 0
	if q.After != "" {
		if skip, err = strconv.Atoi(q.After); err != nil {
			return nil, "", errFakeCursor
		}
	}
	n := 0
	for _, r := range f.rows[q.Product] {
		if len(q.Entities) > 0 && !slices.Contains(q.Entities, r.Entity) || r.State == mesh.RowWithdrawn {
			continue
		}
		if !strings.HasPrefix(r.Key, q.Prefix) {
			continue
		}
		if q.Span != (mesh.Span{}) && (r.From >= q.Span.To || r.To != 0 && r.To <= q.Span.From) {
			continue
		}
		if n++; n <= skip {
			continue
		}
		if len(out) == q.Limit {
			return out, strconv.Itoa(n - 1), nil
		}
		out = append(out, r)
	}
	return out, "", nil
}

func (f *fake) Out(_ context.Context, product string, after mesh.Position, most int) ([]mesh.Row, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if after.Epoch != f.epoch && !after.IsZero() {
		return nil, mesh.ErrGone
	}
	rest := f.out[product][after.Seq:]
	return slices.Clone(rest[:min(most, len(rest))]), nil
}

func (f *fake) End(_ context.Context, product string) (mesh.Position, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if n := len(f.out[product]); n > 0 {
		return f.out[product][n-1].At, nil
	}
	return mesh.Position{}, nil
}

func (f *fake) Progress(context.Context, string) (mesh.Nanos, mesh.Nanos, mesh.Position, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.progress, f.progress.Add(-time.Minute), mesh.Position{Log: "hub/0", Epoch: f.epoch, Seq: 7}, nil
}

func (f *fake) Changed() <-chan struct{} {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.changed
}

// wake tells readers that something was committed. Call with mu held.
func (f *fake) wakeLocked() {
	close(f.changed)
	f.changed = make(chan struct{})
}

func (f *fake) deps() Deps {
	windows := []string{"hour", "shift", "day"}
	doc := func(id string) []byte { return fmt.Appendf(nil, "apiVersion: v1.0.0\nkind: DataProduct\nid: %s\n", id) }
	product := func(id, title string, windows []string) Product {
		return Product{ID: id, Title: title, Description: title, Version: "1.0.0", Domain: "production", ODPS: doc(id), ODCS: doc(id), Windows: windows}
	}
	return Deps{
		Catalogue: []Product{
			product("equipment-state", "Equipment state", nil), product("production-rate", "Production rate", windows),
			product("oee", "OEE", windows), product("coverage", "Coverage", nil),
		},
		Rows: f, Out: f, End: f.End, Site: fakeSite, Plans: fakePlans,
		BadCursor: func(err error) bool { return errors.Is(err, errFakeCursor) }, Changed: f.Changed,
		PlantNow: func() mesh.Nanos { f.mu.Lock(); defer f.mu.Unlock(); return f.now },
	}
}
