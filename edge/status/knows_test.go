package status

import (
	"errors"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"testing"
)

// An agent of before leaves out what it does not know: what it gives must not be taken for
// what was asked for.
func TestKnows_AnAgentOfBefore(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s.sock")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /buffer/peek", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "[]") })
	mux.HandleFunc("GET /buffer/export", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Trailer", recordsTrailer)
		_, _ = io.WriteString(w, "frames")
		w.Header().Set(recordsTrailer, "3")
	})
	mux.HandleFunc("GET /tap", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, `{"sample":{}}`+"\n") })
	srv := &http.Server{Handler: mux}
	done := make(chan error, 1)
	go func() { done <- srv.Serve(l) }()
	const at = "2026-03-01T06:00:00Z"
	if _, err := Peek(t.Context(), path, PeekQuery{Limit: 1}); err != nil {
		t.Error(err)
	}
	if _, err := Peek(t.Context(), path, PeekQuery{Limit: 1, From: at}); !errors.Is(err, ErrOlder) {
		t.Errorf("a window of an agent that knows none: %v", err)
	}
	if e, err := Export(t.Context(), path, io.Discard, ExportQuery{}); err != nil || e.Records != 3 {
		t.Errorf("%+v, %v", e, err)
	}
	if _, err := Export(t.Context(), path, io.Discard, ExportQuery{To: at}); !errors.Is(err, ErrOlder) {
		t.Errorf("a window of an agent that knows none: %v", err)
	}
	if err := Tap(t.Context(), path, TapQuery{Raw: true, Rate: 1}, func(Tapped) error { t.Error("what is stored is told as raw"); return nil }); !errors.Is(err, ErrOlder) {
		t.Errorf("raw values of an agent that knows none: %v", err)
	}
	if err := srv.Close(); err != nil {
		t.Error(err)
	}
	<-done
}

// An agent that ends in the middle has ended: half an export is no fault that nobody foresaw.
func TestExport_OfAnAgentThatEnds(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s.sock")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, "half of it")
		if r.URL.Query().Get("source") == "" {
			_ = http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		}
	})}
	done := make(chan error, 1)
	go func() { done <- srv.Serve(l) }()
	for _, source := range []string{"", "whose answer has no end"} {
		if _, err := Export(t.Context(), path, io.Discard, ExportQuery{Source: source}); !errors.Is(err, ErrEnded) {
			t.Errorf("%q: %v", source, err)
		}
	}
	if err := srv.Close(); err != nil {
		t.Error(err)
	}
	<-done
}
