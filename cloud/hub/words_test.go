package hub

import (
	"bytes"
	"io"
	"log/slog"
	"strings"
	"sync"
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
