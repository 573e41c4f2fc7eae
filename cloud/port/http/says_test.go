package porthttp

import (
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestReadyz_SaysMoreWhereAsked(t *testing.T) {
	f := newFake(noon())
	deps := f.deps()
	deps.Checks = []Check{{"store", func(context.Context) error { return nil }}}
	deps.Says = map[string]func() string{"store": func() string { return "with room" }}
	h := New(Config{}, deps, slog.New(slog.DiscardHandler))
	if w := get(t, h, "/readyz?verbose"); w.Code != http.StatusOK || !strings.Contains(w.Body.String(), "store: ok, with room\n") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	if w := get(t, h, "/readyz"); w.Body.String() != "ok\n" {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

func TestAgents_OneOrAll(t *testing.T) {
	f := newFake(noon())
	deps := f.deps()
	deps.Agents = func(context.Context) ([]Agent, error) {
		return []Agent{{Site: "graz", Name: "gw-1", State: "online"}}, nil
	}
	h := New(Config{}, deps, slog.New(slog.DiscardHandler))
	if w := get(t, h, "/api/v1/agents/graz/gw-1"); w.Code != http.StatusOK || !strings.Contains(w.Body.String(), `"state":"online"`) || strings.Contains(w.Body.String(), "lag_s") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	for _, at := range []string{"/api/v1/agents/graz/gw-2", "/api/v1/agents/linz/gw-1"} {
		if w := get(t, h, at); w.Code != http.StatusNotFound || !strings.Contains(w.Body.String(), "no agent") {
			t.Errorf("%s: %d %s", at, w.Code, w.Body)
		}
	}
}

// Where nothing is, that is told, and not by which method it would be had.
func TestPort_NothingIsThereByAnyMethod(t *testing.T) {
	h, _ := serve(t)
	for _, c := range []struct {
		method, path string
		want         int
		says         string
	}{
		{http.MethodPut, "/api/v1/inbox/AJYB-RWYM", http.StatusNotFound, "nothing is at /api/v1/inbox/AJYB-RWYM"},
		{http.MethodPost, "/api/v1/agents", http.StatusMethodNotAllowed, "/api/v1/agents is read only: use GET, not POST"},
		{http.MethodGet, "/api/v1/inbox", http.StatusNotFound, "nothing is at"},
	} {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest(c.method, "http://localhost"+c.path, strings.NewReader("{}")))
		if w.Code != c.want || !strings.Contains(w.Body.String(), c.says) {
			t.Errorf("%s %s: %d %s", c.method, c.path, w.Code, w.Body)
		}
	}
}
