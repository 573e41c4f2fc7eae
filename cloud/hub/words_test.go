package hub

import (
	"bytes"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"

	"plantmesh/proto/meshtest"
)

// words is a log that can be read while it is written.
type words struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (w *words) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.buf.Write(b)
}

func (w *words) has(text string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return strings.Contains(w.buf.String(), text)
}

func (w *words) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.buf.String()
}

func loud(w io.Writer) *slog.Logger { return slog.New(slog.NewTextHandler(w, nil)) }

func freePort(t *testing.T) string {
	t.Helper()
	return meshtest.Vacant(t)
}

// ready is what /readyz says.
func ready(t *testing.T, cfg Config) (code int, said string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+cfg.HTTP.Listen+"/readyz?verbose", http.NoBody)
	check(t, err)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err.Error()
	}
	defer func() { check(t, resp.Body.Close()) }()
	var b bytes.Buffer
	_, err = b.ReadFrom(resp.Body)
	check(t, err)
	return resp.StatusCode, b.String()
}
