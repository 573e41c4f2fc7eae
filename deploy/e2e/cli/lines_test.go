package cli

import (
	"bytes"
	"strings"
	"sync"
)

// lines is what a process writes, readable while it does.
type lines struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(b)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

// with is the last whole line that holds text.
func (l *lines) with(text string) (found string) {
	for line := range strings.Lines(l.String()) {
		if strings.HasSuffix(line, "\n") && strings.Contains(line, text) {
			found = strings.TrimSpace(line)
		}
	}
	return found
}
