package audit

import (
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestDesk_Answers(t *testing.T) {
	dir := t.TempDir()
	trail := grown(t, dir, 30)
	s, err := trail.Seal()
	if err != nil {
		t.Fatal(err)
	}
	refused := false
	d := &Desk{Trail: trail, Log: slog.New(slog.DiscardHandler), May: func(_ *http.Request, permission, location string) error {
		if refused || permission != "audit.read" || location != "" {
			return errors.New("needs audit.read")
		}
		return nil
	}}
	ask := func(method, query string) *httptest.ResponseRecorder {
		w := httptest.NewRecorder()
		d.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), method, Path+query, nil))
		return w
	}
	for query, want := range map[string]int{
		"": 200, "?limit=5": 200, "?format=ndjson": 200, "?order=newest&limit=3": 200, "?who=anna&action=agent.&object=graz/&from=2026-03-01T00:00:00Z&to=2026-04-01T00:00:00Z": 200,
		"?limit=0": 400, "?limit=1001": 400, "?limit=x": 400, "?after=x": 400, "?after=-1": 400, "?from=yesterday": 400, "?format=csv": 400,
		"?order=up": 400, "?order=newest&after=3": 400, "?frob=1": 400, "?who=a&who=b": 400,
	} {
		if w := ask(http.MethodGet, query); w.Code != want || w.Code != 200 && w.Header().Get("Content-Type") != "application/problem+json" {
			t.Errorf("%q is answered %d %s", query, w.Code, w.Body)
		}
	}
	if w := ask(http.MethodPost, ""); w.Code != http.StatusMethodNotAllowed || w.Header().Get("Allow") == "" {
		t.Errorf("POST is answered %d", w.Code)
	}
	var p page
	next, got := "", 0
	for more := true; more; more = next != "" {
		if err := json.Unmarshal(ask(http.MethodGet, "?limit=7&after="+next).Body.Bytes(), &p); err != nil || p.Seal != s.String() {
			t.Fatalf("%+v, %v", p, err)
		}
		got += len(p.Data)
		next, p.Next = p.Next, ""
	}
	if got != 31 {
		t.Errorf("%d entries by cursor", got)
	}
	for query, want := range map[string]int{"?format=ndjson": 31, "?format=ndjson&after=30": 1, "?format=ndjson&limit=4": 4, "?format=ndjson&who=hub": 1} {
		if n := strings.Count(ask(http.MethodGet, query).Body.String(), "\n"); n != want {
			t.Errorf("%s gives %d lines, want %d", query, n, want)
		}
	}
	refused = true
	if w := ask(http.MethodGet, ""); w.Code != http.StatusForbidden || strings.Contains(w.Body.String(), "anna") {
		t.Errorf("who may not read it is answered %d %s", w.Code, w.Body)
	}
	refused = false
	if err := os.WriteFile(filepath.Join(dir, nameOf(1)), []byte("{}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if w := ask(http.MethodGet, ""); w.Code != http.StatusInternalServerError || !strings.Contains(w.Body.String(), "entry 1") {
		t.Errorf("a broken trail is answered %d %s", w.Code, w.Body)
	}
}
