package agent

import (
	"context"
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"plantmesh/edge/quality"
	"plantmesh/edge/status"
)

// A rule is shown with what it is told, the signals it looks at, its tests, and whether the
// agent that runs judges by it.
func TestShowRule_TellsWhatIsKnownOfIt(t *testing.T) {
	f := files()
	f["rules.d/a.yaml"] = "revision: 1\nrules:\n  - {id: hot, kind: range, signal: \"a.b.*\", min: 1, max: 5, action: quarantine, dimension: accuracy}\n  - {id: quiet, kind: stale, signal: a.b.c, max_silence: 90s}\n  - {id: rises, kind: backwards, signal: a.b.c}\n"
	f["rules.d/a_test.yaml"] = "tests:\n  - {name: too hot, signal: a.b.c, samples: [{value: 9, finds: [hot]}]}\n  - {name: elsewhere, signal: a.x.c, samples: [{value: 9}]}\n  - {name: wrong, signal: a.b.d, samples: [{value: 3, finds: [hot]}]}\n"
	c, dir, err := load(t, f)
	if err != nil {
		t.Fatal(err)
	}
	s, err := c.ShowRule(t.Context(), "hot")
	if err != nil {
		t.Fatal(err)
	}
	if s.File != filepath.Join(dir, "rules.d", "a.yaml") || s.Line != 3 || s.Does != "quarantine" || s.Dimension != "accuracy" || strings.Join(s.Parameters, "; ") != "min: at least 1, in the signal's unit; max: at most 5, in the signal's unit" {
		t.Errorf("%+v", s)
	}
	if len(s.Signals) != 2 || s.Signals[0] != (SignalOf{"a.b.c", "filler"}) || s.Signals[1] != (SignalOf{"a.b.d", "press"}) {
		t.Errorf("it looks at %+v", s.Signals)
	}
	if len(s.Tests) != 2 || !s.Tests[0].Passed || s.Tests[0].Line != 2 || s.Tests[1].Passed || s.Tests[1].Rules[0] != "hot" {
		t.Errorf("its tests are %+v", s.Tests)
	}
	if s.InForce.State != "not_known" {
		t.Errorf("nobody runs: %+v", s.InForce)
	}
	if _, err := c.ShowRule(t.Context(), "hott"); !errors.Is(err, ErrNoRule) || !strings.Contains(err.Error(), "did you mean hot?") {
		t.Error(err)
	}
	for id, want := range map[string]string{"quiet": "more than 1m30s", "rises": "more than 1000000 between two samples"} {
		if s, err := c.ShowRule(t.Context(), id); err != nil || !strings.Contains(strings.Join(s.Parameters, "; "), want) {
			t.Errorf("%s: %+v, %v", id, s, err)
		}
	}
	inForce(t, &c)
}

// inForce compares the files with what an agent says it judges by.
func inForce(t *testing.T, c *Config) {
	t.Helper()
	c.Status = filepath.Join(t.TempDir(), "s.sock")
	running, err := quality.Parse("r.yaml", []byte("revision: 7\nrules:\n  - {id: hot, kind: range, signal: \"a.b.*\", min: 1, max: 5, action: quarantine, dimension: accuracy}\n  - {id: quiet, kind: stale, signal: a.b.c, max_silence: 60s}\n"))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- status.Serve(ctx, c.Status, status.Answers{Snapshot: func() status.Snapshot { return status.Snapshot{} }, Rules: func() []byte { return running.Descriptor().Content }})
	}()
	for {
		if _, err := status.Ask(ctx, c.Status); err == nil {
			break
		}
	}
	for id, want := range map[string]string{"hot": "as_here", "quiet": "otherwise", "rises": "not_yet"} {
		if s, err := c.ShowRule(t.Context(), id); err != nil || s.InForce.State != want {
			t.Errorf("%s: %+v, %v, want %s", id, s.InForce, err, want)
		}
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
