package browser

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"
	"time"

	"plantmesh/cloud/console"
)

// hub is a hub that says what a test wants said: the page is the real one, the
// rows are made up. Safe for concurrent use.
type hub struct {
	trail string // what the record of changes answers; set before it is served
	began time.Time

	mu      sync.Mutex // protects the fields below
	site    map[string]any
	rows    map[string][]any // by product
	sources []source         // of the progress; nil: a hub that tells none
	behind  time.Duration    // how far progress lies behind
	unbegun string           // product that knows of no source yet
	broken  string           // product whose rows can't be read
	gone    bool             // nothing answers
	refuses int              // the status for whoever may not; 0: who looks may
	slow    chan struct{}    // closed: the site may be told
	changed chan struct{}
}

type object = map[string]any

// noon is when the made-up plant is looked at; local time is 12:47.
var noon = time.Date(2026, 3, 2, 11, 47, 0, 0, time.UTC)

func stamp(at time.Time) string { return at.UTC().Format("2006-01-02T15:04:05.000Z") }

// ago is an instant of the made-up plant.
func ago(d time.Duration) string { return stamp(noon.Add(-d)) }

// kinds are the machines of the made-up lines.
var kinds = []string{"filler", "capper", "labeller", "palletiser"}

func newHub() *hub {
	h := &hub{began: time.Now(), rows: map[string][]any{}, changed: make(chan struct{}), slow: make(chan struct{})}
	close(h.slow)
	var lines []any
	for _, l := range []string{"line1", "line2", "line3"} {
		var machines []any
		for _, k := range kinds {
			machines = append(machines, object{"id": l + "-" + k, "name": l[4:] + k, "kind": k, "source": l + "-opcua"})
			h.state(l+"-"+k, ago(49*time.Hour), nil, "none")
			for _, w := range []string{"hour", "shift", "day"} {
				h.oee(l+"-"+k, w, nil)
			}
		}
		lines = append(lines, object{"id": l, "machines": machines})
	}
	h.site = object{
		"site": "graz", "zone": "Europe/Vienna", "lines": lines, "reasons": object{},
		"planned_through": stamp(noon.Add(8 * 24 * time.Hour)), "plans": []any{everyDay("Europe/Vienna", nil)},
	}
	return h
}

// stretch is a part of a plan.
func stretch(from, to time.Time, shift string) object {
	return object{"from": stamp(from), "to": stamp(to), "shift_id": from.Format("2006-01-02-") + shift}
}

// everyDay is a plan of two shifts and a break a day, of some machines.
func everyDay(zone string, machines []any) object {
	var shifts, stops []any
	for day := -3; day < 8; day++ {
		local := func(h, m int) time.Time { return time.Date(2026, 3, 2+day, h-1, m, 0, 0, time.UTC) }
		shifts = append(shifts, stretch(local(6, 0), local(14, 0), "early"), stretch(local(14, 0), local(22, 0), "late"))
		stops = append(stops, stretch(local(10, 0), local(10, 30), ""))
	}
	return object{"zone": zone, "machines": machines, "shifts": shifts, "stops": stops}
}

// put adds a row in place of the one with its key.
func (h *hub) put(product string, row object) {
	h.mu.Lock()
	defer h.mu.Unlock()
	same := func(o any) bool {
		was := o.(object)
		return was["equipment"] == row["equipment"] && was["window"] == row["window"] && (row["window"] != nil || was["from"] == row["from"])
	}
	row["is_final"], row["revision"], row["produced_at"] = false, 1, stamp(time.Now())
	h.rows[product] = append(slices.DeleteFunc(h.rows[product], same), row)
}

// state says what a machine did from an instant on, in place of what it was
// said to do then; to is nil while it goes on.
func (h *hub) state(machine, from string, to any, cause string) {
	h.mu.Lock()
	h.rows["equipment-state"] = slices.DeleteFunc(h.rows["equipment-state"], func(o any) bool {
		was := o.(object)
		if was["equipment"] == machine && was["to"] == nil {
			was["to"] = from
		}
		return was["equipment"] == machine && was["from"].(string) >= from
	})
	h.mu.Unlock()
	h.put("equipment-state", object{
		"equipment": machine, "line": machine[:5], "from": from, "to": to, "cause": cause, "state": "executing", "mode": "processing",
		"packml_state": nil, "packml_name": nil, "element": nil, "reason": nil,
	})
}

// oee puts the row of a window that is open at noon, with its rate; with says
// what is otherwise.
func (h *hub) oee(machine, window string, with object) {
	from, to := noon.Add(-47*time.Minute), noon.Add(13*time.Minute)
	switch window {
	case "shift":
		from, to = noon.Add(-407*time.Minute), noon.Add(73*time.Minute)
	case "day":
		from, to = noon.Add(-407*time.Minute), noon.Add(1033*time.Minute)
	}
	row := object{
		"equipment": machine, "line": machine[:5], "window": window, "from": stamp(from), "to": stamp(to), "shift_id": nil, "production_day": "2026-03-02",
		"produced_count": 2600, "good_count": 2600, "scrap_count": 0, "unknown_seconds": 0, "coverage_ratio": 1, "flags": []any{},
		"pbt_seconds": 1200, "apt_seconds": 1000, "aust_seconds": 0, "adet_seconds": 200, "adot_seconds": 0, "planned_stop_seconds": 1620,
		"rate_per_hour": 3319, "ideal_rate_per_hour": 12000, "energy_kwh": 1, "counter_resets_count": 0,
	}
	if window == "shift" {
		row["shift_id"] = "2026-03-02-early"
	}
	for _, f := range []string{"oee", "availability", "effectiveness", "quality"} {
		row[f+"_ratio"], row[f+"_reason"] = 0.65, nil
	}
	maps.Copy(row, with)
	h.put("oee", row)
	h.put("production-rate", row)
}

// set changes what the hub says next, and tells it.
func (h *hub) set(change func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	change()
	close(h.changed)
	h.changed = make(chan struct{})
}

// serve opens the hub and gives the page's address.
func (h *hub) serve(t *testing.T) string {
	t.Helper()
	page, err := console.Handler()
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.Handle("/", page)
	mux.HandleFunc("/api/v1/machines", func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-h.slow:
		case <-r.Context().Done():
		}
		h.mu.Lock()
		defer h.mu.Unlock()
		h.answer(t, w, h.site)
	})
	mux.HandleFunc("/api/v1/products/{id}/{what}", h.product(t))
	mux.HandleFunc("/api/v1/live", h.live)
	mux.HandleFunc("/api/v1/audit", func(w http.ResponseWriter, _ *http.Request) {
		if h.trail == "" { // who looks may not read it
			http.Error(w, "{}", http.StatusForbidden)
			return
		}
		_, _ = io.WriteString(w, h.trail)
	})
	s := httptest.NewUnstartedServer(mux)
	s.Config.ErrorLog = nil
	s.Start()
	t.Cleanup(func() {
		h.set(func() { h.gone = true })
		s.CloseClientConnections()
		s.Close()
	})
	return s.URL + "/"
}

// answer writes JSON. Call with mu held.
func (h *hub) answer(t *testing.T, w http.ResponseWriter, v any) {
	t.Helper()
	if h.refuses != 0 {
		w.WriteHeader(h.refuses)
		return
	}
	if h.gone {
		http.Error(w, "gone", http.StatusServiceUnavailable)
		return
	}
	if err := json.NewEncoder(w).Encode(v); err != nil {
		t.Log(err) // the page went away
	}
}

func (h *hub) product(t *testing.T) http.HandlerFunc {
	t.Helper()
	return func(w http.ResponseWriter, r *http.Request) {
		h.mu.Lock()
		defer h.mu.Unlock()
		q, id := r.URL.Query(), r.PathValue("id")
		if h.broken == id && q.Get("equipment") != "" {
			w.WriteHeader(http.StatusInternalServerError)
			h.answer(t, w, object{"detail": "the disk of the hub is full"})
			return
		}
		out := []any{}
		for _, o := range h.rows[id] {
			row := o.(object)
			if (q.Get("equipment") == "" || q.Get("equipment") == row["equipment"]) && (q.Get("window") == "" || q.Get("window") == row["window"]) {
				out = append(out, row)
			}
		}
		if m := q.Get("equipment"); m != "" && len(out) == 0 {
			w.WriteHeader(http.StatusBadRequest)
			h.answer(t, w, object{"detail": "there is no equipment " + m})
			return
		}
		h.answer(t, w, object{"data": out, "next": nil})
	}
}

// live says four times a second where the hub is, and after each change that
// all is to be asked anew.
func (h *hub) live(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/event-stream")
	tick := time.NewTicker(250 * time.Millisecond)
	defer tick.Stop()
	for {
		h.mu.Lock()
		changed, gone, told, refuses := h.changed, h.gone, h.told(), h.refuses
		h.mu.Unlock()
		if refuses != 0 {
			w.WriteHeader(refuses) // without effect where the feed has begun
			return
		}
		if gone {
			return
		}
		fmt.Fprintf(w, "event: progress\ndata: %s\n\n", told)
		_ = http.NewResponseController(w).Flush() // a page that went away ends the request
		select {
		case <-r.Context().Done():
			return
		case <-tick.C:
		case <-changed:
			fmt.Fprint(w, "event: resync\ndata: {}\n\n")
		}
	}
}

// told is the progress event. Call with mu held.
func (h *hub) told() []byte {
	now := noon.Add(time.Since(h.began))
	var products []any
	for _, id := range []string{"equipment-state", "production-rate", "oee", "coverage"} {
		p := object{
			"id": id, "known_from": ago(50 * time.Hour), "progress": stamp(now.Add(-h.behind)), "watermark": nil,
			"lag_seconds": h.behind.Seconds(), "catching_up": h.behind > time.Minute,
		}
		if h.sources != nil {
			var all []any
			for _, s := range h.sources {
				if id == h.unbegun {
					all = append(all, object{"source": s.id, "heard_through": nil, "silent": true})
					continue
				}
				all = append(all, s.told(now))
			}
			p["sources"] = all
		}
		products = append(products, p)
	}
	b, err := json.Marshal(object{"plant_now": stamp(now), "plant_speed": 1, "products": products})
	if err != nil {
		panic(err) // only plain values are in it
	}
	return b
}

// source is how far a connection was heard: of one that is silent heard counts
// back from noon, of another from now.
type source struct {
	id     string
	heard  time.Duration
	silent bool
}

func (s source) told(now time.Time) any {
	if s.silent {
		now = noon
	}
	return object{"source": s.id, "heard_through": stamp(now.Add(-s.heard)), "silent": s.silent}
}
