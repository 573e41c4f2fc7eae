package status

import (
	"context"
	"path/filepath"
	"testing"
)

// replays is a Replayer that keeps what it was asked for.
type replays struct{ asked chan ReplayQuery }

func (r replays) Replay(_ context.Context, q ReplayQuery) (Replayed, error) {
	r.asked <- q
	return Replayed{DryRun: q.DryRun, Rate: q.Rate}, nil
}

// What is asked for is what the agent hears.
func TestReplay(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s.sock")
	ctx, cancel := context.WithCancel(t.Context())
	done, asked := make(chan error, 1), make(chan ReplayQuery, 2)
	go func() {
		done <- Serve(ctx, path, Answers{Snapshot: func() Snapshot { return Snapshot{} }, Replayer: replays{asked}})
	}()
	for {
		if _, err := Ask(ctx, path); err == nil {
			break
		}
	}
	for _, want := range []ReplayQuery{{From: "a", To: "b", Source: "press 1", Rate: 500, DryRun: true}, {From: "a"}} {
		r, err := Replay(ctx, path, want)
		if err != nil || r.Rate != want.Rate || r.DryRun != want.DryRun {
			t.Errorf("%+v, %v", r, err)
		} else if got := <-asked; got != want {
			t.Errorf("it hears %+v", got)
		}
	}
	if _, err := Replay(ctx, path, ReplayQuery{Rate: -1}); err != nil { // none is not said
		t.Error(err)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
