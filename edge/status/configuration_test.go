package status

import (
	"context"
	"errors"
	"net/url"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"plantmesh/proto/revision"
)

// commands is a Commander that has nothing to confirm.
type commands struct{}

func (commands) Hold(_ context.Context, reason string, until time.Time) (revision.Reported, error) {
	return revision.Reported{State: revision.Held, Hold: &revision.Hold{Reason: reason, Until: until}}, nil
}

func (commands) Release(context.Context) (revision.Reported, error) {
	return revision.Reported{State: revision.Current}, nil
}

func (commands) Rollback(context.Context) (revision.Reported, error) {
	return revision.Reported{Ref: revision.Ref{Number: 6}, Desired: 7, State: revision.Reverted, Why: "by hand"}, nil
}

func (commands) Confirm(context.Context) (revision.Reported, error) {
	return revision.Reported{}, errors.New("nothing is on trial")
}

func TestCommand(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s.sock")
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- Serve(ctx, path, Answers{Snapshot: func() Snapshot { return Snapshot{} }, Commander: commands{}})
	}()
	for {
		if _, err := Ask(ctx, path); err == nil {
			break
		}
	}
	r, err := Command(ctx, path, "hold", url.Values{"reason": {"a & b"}, "until": {"2026-03-01T06:00:00Z"}})
	if err != nil || r.Hold == nil || r.Hold.Reason != "a & b" || r.Hold.Until.Hour() != 6 {
		t.Errorf("%+v, %v", r, err)
	}
	if r, err = Command(ctx, path, "rollback", nil); err != nil || r.Number != 6 || r.Why != "by hand" {
		t.Errorf("%+v, %v", r, err)
	}
	if _, err = Command(ctx, path, "release", nil); err != nil {
		t.Error(err)
	}
	for what, q := range map[string]url.Values{"confirm": nil, "hold": {"until": {"soon"}}, "anything": nil} {
		if _, err := Command(ctx, path, what, q); !errors.Is(err, ErrRefused) {
			t.Errorf("%s: %v", what, err)
		}
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestPrintConfiguration(t *testing.T) {
	at := time.Date(2026, 3, 1, 4, 0, 0, 0, time.UTC)
	for want, r := range map[string]revision.Reported{
		"config   revision 7 since 2026-03-01T04:00:00Z: current\n":                                      {Ref: revision.Ref{Number: 7}, Applied: at, Desired: 7, State: revision.Current},
		"config   this gateway's own files alone, the hub wants revision 7: rejected\n  why    line 3\n": {Desired: 7, State: revision.Rejected, Why: "line 3"},
		"config   revision 7: drift\n  drift  sources.d/a.yaml\n  held   since 2026-03-01T04:00:00Z until it is released: shift\n": {
			Ref: revision.Ref{Number: 7}, Desired: 7, State: revision.Drift, Drift: []string{"sources.d/a.yaml"}, Hold: &revision.Hold{Reason: "shift", Since: at},
		},
	} {
		var b strings.Builder
		if err := PrintConfiguration(&b, &r); err != nil || b.String() != want {
			t.Errorf("%q, %v\nwant %q", b.String(), err, want)
		}
	}
}
