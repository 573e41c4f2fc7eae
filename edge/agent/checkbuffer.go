package agent

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"time"

	"plantmesh/edge/check"
	"plantmesh/edge/status"
)

// What a buffer should be able to.
const (
	autonomy   = 72 * time.Hour // a weekend
	almostFull = 0.9
	oldBacklog = time.Hour
)

func (c *Checkup) ofBuffer() []check.Check {
	of := func(f func(s status.Snapshot) check.Result) func() check.Result {
		return func() check.Result {
			if c.fault != nil || c.cfg.Data == "" {
				return check.None("where the agent's socket is says edge.yaml, which can't be read")
			}
			s, err := c.running()
			if errors.Is(err, fs.ErrPermission) {
				return check.None("this user may not ask the agent, see sys-service")
			}
			if errors.Is(err, ErrNotRunning) {
				return check.None("no agent runs, and nobody else opens its buffer; sys-disk-space looks at the disk")
			}
			if err != nil {
				return check.Warn("", "the agent does not say how its buffer is: %v", err)
			}
			return f(s)
		}
	}
	return []check.Check{
		{ID: "buf-open", Run: plain(of(bufOpen))},
		{ID: "buf-fill", Run: plain(of(bufFill))},
		{ID: "buf-autonomy", Run: plain(of(bufAutonomy))},
		{ID: "buf-oldest", Run: plain(of(bufOldest))},
	}
}

func bufOpen(s status.Snapshot) check.Result {
	b := s.Buffer
	switch {
	case b.Damages > 0:
		return check.Fail("", "%d segments or records could not be read since %s", b.Damages, s.Since)
	case len(b.StateLost) > 0:
		return check.Warn("", "%s", some(b.StateLost, "sources began anew, as what was kept of them was damaged"))
	}
	return check.Good("%d segments, log ends at %s", b.Segments, b.End)
}

func bufFill(s status.Snapshot) check.Result {
	b := s.Buffer
	share := float64(b.Bytes) / math.Max(1, float64(b.MaxBytes))
	text := fmt.Sprintf("%s of %s, %.0f %%; %d records wait for the hub", size(b.Bytes), size(b.MaxBytes), 100*share, b.Pending)
	r := check.Good("%s", text)
	if share > almostFull && b.Pending > 0 {
		r = check.Fail("", "%s", text)
	}
	r.Details = map[string]any{"bytes": b.Bytes, "max_bytes": b.MaxBytes, "pending_records": b.Pending}
	return r
}

func bufAutonomy(s status.Snapshot) check.Result {
	b := s.Buffer
	if b.AutonomyHours == nil {
		return check.None("too early to say how fast the buffer fills")
	}
	hours := *b.AutonomyHours
	r := check.Good("%.0f h without the hub at the present rate", hours)
	if hours < autonomy.Hours() {
		need := int64(math.Ceil(b.BytesPerHour * autonomy.Hours() / (1 << 30)))
		r = check.Warn(fmt.Sprintf("set buffer.max_bytes to %dGiB", need), "%.0f h without the hub at the present rate; %.0f h are wanted", hours, autonomy.Hours())
	}
	r.Details = map[string]any{"hours": hours, "wanted_hours": autonomy.Hours()}
	return r
}

func bufOldest(s status.Snapshot) check.Result {
	old := s.Buffer.OldestPending
	if old == "" {
		return check.Good("the hub has all")
	}
	at, err := time.Parse(time.RFC3339, old)
	if err == nil && time.Since(at) > oldBacklog {
		return check.Warn("", "what waits begins at %s", old)
	}
	return check.Good("what waits begins at %s", old)
}
