package main

import (
	"encoding/json"
	"fmt"
	"io"
	"sync"
)

// events tells whoever started us what happened, one JSON document a line.
// Safe for concurrent use.
type events struct {
	mu sync.Mutex // protects out
	to *json.Encoder
}

func newEvents(w io.Writer) *events { return &events{to: json.NewEncoder(w)} }

// ready: every server listens at its URL.
type ready struct {
	Event   string            `json:"event"`
	Servers map[string]string `json:"servers"`
}

// progress: so far so good.
type progress struct {
	Event    string `json:"event"`
	Frontier string `json:"frontier"` // everything up to here has left every device
	Emitted  uint64 `json:"emitted"`
	Received uint64 `json:"received"`
}

// happened: history_received, stopped, or fault with what.
type happened struct {
	Event string `json:"event"`
	What  string `json:"what,omitempty"`
}

func (e *events) say(v any) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if err := e.to.Encode(v); err != nil {
		return fmt.Errorf("say what happened: %w", err)
	}
	return nil
}
