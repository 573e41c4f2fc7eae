package porthttp

import (
	"context"
	"encoding/csv"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

func noon() time.Time { return time.Date(2026, 3, 3, 11, 20, 0, 0, time.UTC) }

func get(t *testing.T, h http.Handler, target string, header ...string) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, target, http.NoBody)
	r.Host = "127.0.0.1:8080"
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func serve(t *testing.T) (http.Handler, *fake) {
	t.Helper()
	f := newFake(noon())
	return New(Config{}, f.deps(), slog.New(slog.DiscardHandler)), f
}

type paged struct {
	Data []map[string]any `json:"data"`
	Next *string          `json:"next"`
}

func read(t *testing.T, w *httptest.ResponseRecorder) (a paged) {
	t.Helper()
	if w.Code != http.StatusOK {
		t.Fatalf("status %d: %s", w.Code, w.Body)
	}
	if err := json.Unmarshal(w.Body.Bytes(), &a); err != nil {
		t.Fatalf("%v in %s", err, w.Body)
	}
	return a
}

func TestPort_Problems(t *testing.T) {
	h, _ := serve(t)
	for _, c := range []struct {
		target, nearest, detail string
		code                    int
	}{
		{"/api/v1/products/oe/rows", "oee", "no product", 404},
		{"/api/v1/products/equipment-stat/rows", "equipment-state", "no product", 404},
		{"/api/v1/product", "/api/v1/products", "nothing is at", 404},
		{"/api/v1/products/oee/rows?equpment=line1-filler", "equipment", "no parameter", 400},
		{"/api/v1/products/oee/rows?equipment=line1-filer", "line1-filler", "no machine or line", 400},
		{"/api/v1/products/oee/rows?window=hours", "hour", "one of hour, shift, day", 400},
		{"/api/v1/products/equipment-state/rows?window=hour", "", "no windows", 400},
		{"/api/v1/products/oee/rows?limit=20000", "10000", "from 1 to 10000", 400},
		{"/api/v1/products/oee/rows?format=jsonl", "json", "one of json, ndjson, csv, parquet", 400},
		{"/api/v1/products/oee/rows?format=parquet", "csv", "not given as Parquet here", 406},
		{"/api/v1/products/oee/rows?from=yesterday", "2026-03-03T11:00:00Z", "must be an instant", 400},
		{"/api/v1/products/oee/rows?from=2026-03-02&to=2026-03-01", "", "before to", 400},
		{"/api/v1/products/oee/rows?fields=oee_ration", "oee_ratio", "no column", 400},
		{"/api/v1/products/oee/rows?cursor=made-up", "", "not one this product gave", 400},
		{"/api/v1/products/oee/rows?limit=1&limit=2", "", "twice", 400},
	} {
		w := get(t, h, c.target)
		var p struct {
			Status                int
			Detail, Nearest, Type string
		}
		if err := json.Unmarshal(w.Body.Bytes(), &p); err != nil {
			t.Fatalf("%s: %v: %s", c.target, err, w.Body)
		}
		if w.Code != c.code || p.Status != c.code || p.Nearest != c.nearest || !strings.Contains(p.Detail, c.detail) ||
			w.Header().Get("Content-Type") != "application/problem+json" {
			t.Errorf("%s: %d %s", c.target, w.Code, w.Body)
		}
	}
}

func TestPort_Guard(t *testing.T) {
	h, _ := serve(t)
	for _, c := range []struct {
		name, method, host, body string
		code                     int
	}{
		{"a foreign name that points here", "GET", "evil.example:8080", "", 421},
		{"a name that begins like ours", "GET", "localhost.evil.example", "", 421},
		{"no name", "GET", "", "", 421},
		{"localhost", "GET", "localhost:8080", "", 200},
		{"loopback v6", "GET", "[::1]:8080", "", 200},
		{"another loopback address", "GET", "127.8.8.8", "", 200},
		{"a write", "POST", "localhost", "", 405},
		{"a body", "GET", "localhost", "x", 413},
		{"head", "HEAD", "localhost", "", 200},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := httptest.NewRequestWithContext(t.Context(), c.method, "/api/v1/products", strings.NewReader(c.body))
			r.Host = c.host
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			if w.Code != c.code {
				t.Errorf("status %d, want %d: %s", w.Code, c.code, w.Body)
			}
			if w.Header().Get("X-Content-Type-Options") != "nosniff" || w.Header().Get("Content-Security-Policy") == "" {
				t.Error("security headers are missing")
			}
			if c.method == "HEAD" && w.Body.Len() > 0 {
				t.Error("an answer to HEAD has a body")
			}
		})
	}
}

func TestRows_CursorGivesEveryRowOnce(t *testing.T) {
	h, f := serve(t)
	seen := map[string]bool{}
	target := "/api/v1/products/equipment-state/rows?limit=97&cursor="
	for cursor := ""; ; {
		a := read(t, get(t, h, target+cursor))
		for _, r := range a.Data {
			key := r["equipment"].(string) + r["from"].(string)
			if seen[key] {
				t.Fatalf("row %s came twice", key)
			}
			seen[key] = true
		}
		if a.Next == nil {
			break
		}
		cursor = *a.Next
	}
	if len(seen) != len(f.rows["equipment-state"]) {
		t.Errorf("%d rows, want %d", len(seen), len(f.rows["equipment-state"]))
	}
}

func TestRows_WindowSpanEquipmentFields(t *testing.T) {
	h, _ := serve(t)
	a := read(t, get(t, h, "/api/v1/products/oee/rows?window=hour&equipment=line2&from=-2h&fields=equipment,from,oee_ratio,from_local"))
	// Hours that touch the last two: begun at 9, 10 and 11.
	if len(a.Data) != 4*3 {
		t.Errorf("%d rows, want 12: %v", len(a.Data), a.Data)
	}
	for _, r := range a.Data {
		if len(r) != 4 || !strings.HasPrefix(r["equipment"].(string), "line2-") || !strings.HasSuffix(r["from_local"].(string), "+01:00") {
			t.Errorf("row %v", r)
		}
	}
	for query, some := range map[string]bool{"from=9999-12-31T00:00:00Z": false, "from=9999999999999": false, "to=0001-01-02": false, "from=0001-01-02&to=9999-12-31": true} {
		if a := read(t, get(t, h, "/api/v1/products/oee/rows?window=day&"+query)); len(a.Data) > 0 != some {
			t.Errorf("%s: %d rows", query, len(a.Data))
		}
	}
	w := get(t, h, "/api/v1/products/oee/rows?window=day&limit=1&from=1772000000000")
	if w.Header().Get("Data-As-Of") != "2026-03-03T11:20:00.000Z" || !strings.Contains(w.Header().Get("Link"), "cursor=") {
		t.Errorf("headers %v", w.Header())
	}
	for _, name := range []string{"is_final", "revision", "produced_at", "contract_version", "from_local", "to_local"} {
		if _, ok := read(t, w).Data[0][name]; !ok {
			t.Errorf("the envelope lacks %s", name)
		}
	}
}

func TestRows_CSVAndNDJSONCarryAll(t *testing.T) {
	h, f := serve(t)
	all := len(f.rows["production-rate"])
	w := get(t, h, "/api/v1/products/production-rate/rows?format=csv")
	records, err := csv.NewReader(w.Body).ReadAll()
	if err != nil || len(records) != all+1 {
		t.Fatalf("%d records, want %d: %v", len(records), all+1, err)
	}
	for _, r := range records[1:] {
		if len(r) != len(records[0]) {
			t.Fatalf("a line has %d cells", len(r))
		}
	}
	w = get(t, h, "/api/v1/products/production-rate/rows", "Accept", "application/x-ndjson")
	n := 0
	for line := range strings.Lines(w.Body.String()) {
		if !json.Valid([]byte(line)) {
			t.Fatalf("line %q is no JSON", line)
		}
		n++
	}
	if n != all {
		t.Errorf("%d lines, want %d", n, all)
	}
}

func TestLatest_OneRowPerMachineAndWindow(t *testing.T) {
	h, _ := serve(t)
	if a := read(t, get(t, h, "/api/v1/products/equipment-state/latest")); len(a.Data) != 12 {
		t.Errorf("%d rows, want one per machine", len(a.Data))
	}
	a := read(t, get(t, h, "/api/v1/products/oee/latest?equipment=line1-filler"))
	if len(a.Data) != 3 {
		t.Errorf("%d rows, want one per window: %v", len(a.Data), a.Data)
	}
	if a := read(t, get(t, h, "/api/v1/products/coverage/latest")); len(a.Data) != 3 {
		t.Errorf("%d rows, want one per source", len(a.Data))
	}
}

func TestProduct_DocumentsAsJSONAndYAML(t *testing.T) {
	h, _ := serve(t)
	w := get(t, h, "/api/v1/products/oee")
	var doc map[string]any
	if err := json.Unmarshal(w.Body.Bytes(), &doc); err != nil || doc["id"] != "oee" {
		t.Errorf("%v %s", err, w.Body)
	}
	w = get(t, h, "/api/v1/products/oee/contract", "Accept", "application/yaml")
	if !strings.HasPrefix(w.Body.String(), "apiVersion:") || w.Header().Get("Content-Type") != "application/yaml" {
		t.Errorf("%v %s", w.Header(), w.Body)
	}
}

func TestStatus_SaysHowFarBehind(t *testing.T) {
	h, f := serve(t)
	status := func() (st state) {
		if err := json.Unmarshal(get(t, h, "/api/v1/products/oee/status").Body.Bytes(), &st); err != nil {
			t.Fatal(err)
		}
		return st
	}
	if st := status(); st.CatchingUp || st.LagSeconds != 0 || st.KnownFrom == nil {
		t.Errorf("at the plant's now: %+v", st)
	}
	f.mu.Lock()
	f.progress = f.now.Add(-17 * time.Hour)
	f.mu.Unlock()
	if st := status(); !st.CatchingUp || st.LagSeconds != 17*3600 {
		t.Errorf("17 h behind: %+v", st)
	}
}

func TestPort_HealthMetricsOpenAPI(t *testing.T) {
	f := newFake(noon())
	deps := f.deps()
	var broken error
	deps.Checks = []Check{{"store", func(context.Context) error { return broken }}}
	h := New(Config{}, deps, slog.New(slog.DiscardHandler))
	if w := get(t, h, "/readyz?verbose"); w.Code != 200 || !strings.Contains(w.Body.String(), "store: ok") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	broken = errors.New("the disk is full")
	if w := get(t, h, "/readyz"); w.Code != 503 || !strings.Contains(w.Body.String(), "the disk is full") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	if w := get(t, h, "/livez"); w.Code != 200 {
		t.Errorf("%d", w.Code)
	}
	if w := get(t, h, "/metrics"); !strings.Contains(w.Body.String(), `plantmesh_product_lag_seconds{product="oee"} 0`) ||
		!strings.Contains(w.Body.String(), `plantmesh_http_requests_total{code="503",route="/readyz"} 1`) {
		t.Errorf("%s", w.Body)
	}
	var doc struct{ Paths map[string]any }
	if err := json.Unmarshal(get(t, h, "/api/openapi.json").Body.Bytes(), &doc); err != nil {
		t.Fatal(err)
	}
	for _, p := range paths() {
		if doc.Paths[p] == nil {
			t.Errorf("openapi.json lacks %s", p)
		}
	}
}
