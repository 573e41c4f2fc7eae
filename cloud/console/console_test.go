package console

import (
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
)

func ask(t *testing.T, method, path string) *httptest.ResponseRecorder {
	t.Helper()
	h, err := Handler()
	if err != nil {
		t.Fatal(err)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), method, path, http.NoBody))
	return w
}

func TestHandler_PageNamesOnlyWhatIsThere(t *testing.T) {
	page := ask(t, "GET", "/")
	if page.Code != 200 || !strings.Contains(page.Header().Get("Content-Security-Policy"), "script-src 'self'") {
		t.Fatalf("%d %v", page.Code, page.Header())
	}
	body := page.Body.String()
	if strings.Contains(body, "<style") || strings.Contains(body, "style=") || regexp.MustCompile(`<script[^>]*>[^<]`).MatchString(body) {
		t.Error("the page has inline scripts or styles, which its own policy forbids")
	}
	named := regexp.MustCompile(`(?:src|href)="\./([^"]+)"`).FindAllStringSubmatch(body, -1)
	if len(named) < 3 {
		t.Fatalf("the page names %d files: build web/ anew", len(named))
	}
	for _, n := range named {
		if w := ask(t, "GET", "/"+n[1]); w.Code != 200 {
			t.Errorf("%s: %d", n[1], w.Code)
		}
	}
}

func TestHandler_Refuses(t *testing.T) {
	for _, c := range []struct {
		method, path string
		code         int
	}{
		{"POST", "/", 405}, {"GET", "/assets/", 404}, {"GET", "/nothing", 404}, {"GET", "/../console.go", 404},
	} {
		if w := ask(t, c.method, c.path); w.Code != c.code {
			t.Errorf("%s %s: %d, want %d", c.method, c.path, w.Code, c.code)
		}
	}
}
