package status

import (
	"context"
	"path/filepath"
	"testing"
	"time"
)

// talks notes for how long it was to say everything.
type talks chan time.Duration

func (t talks) Debug(d time.Duration) time.Time {
	t <- d
	if d == 0 {
		return time.Time{}
	}
	return time.Unix(0, 0).Add(d)
}

func TestDebug(t *testing.T) {
	path, talker := filepath.Join(t.TempDir(), "s.sock"), make(talks, 1)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- Serve(ctx, path, Answers{Snapshot: func() Snapshot { return Snapshot{} }, Talker: talker})
	}()
	for {
		if _, err := Ask(ctx, path); err == nil {
			break
		}
	}
	if got, err := Debug(ctx, path, time.Minute); err != nil || got.DebugUntil != "1970-01-01T00:01:00Z" || <-talker != time.Minute {
		t.Errorf("%+v, %v", got, err)
	}
	if got, err := Debug(ctx, path, 0); err != nil || got.DebugUntil != "" || <-talker != 0 {
		t.Errorf("%+v, %v", got, err)
	}
	if _, err := Debug(ctx, path, MaxDebug+1); err == nil || len(talker) > 0 {
		t.Errorf("for too long: %v", err)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
