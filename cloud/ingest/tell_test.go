package ingest

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"time"
)

func TestStep_ManyFaultsLeaveFewLines(t *testing.T) {
	var out bytes.Buffer
	now := time.Unix(1000, 0)
	g := New(Config{Now: func() time.Time { return now }}, nil, slog.New(slog.NewTextHandler(&out, nil)))
	for range 3 {
		s := newStep(g)
		for range 1000 {
			s.fault(t.Context(), "torn", "n", 1)
			s.fault(t.Context(), "foreign", "n", 1)
		}
		now = now.Add(tellEvery)
	}
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	if len(lines) != 6 || !strings.Contains(lines[5], "not_written_before=999") {
		t.Errorf("3000 faults of two kinds in three seconds leave %d lines, the last %q", len(lines), lines[len(lines)-1])
	}
}
