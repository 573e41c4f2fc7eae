package agent

import (
	"context"
	"encoding/json"
	"time"

	"plantmesh/edge/status"
	"plantmesh/proto/answer"
	"plantmesh/proto/report"
)

// reports says to the hub how this agent is: when it is connected, and each minute. What
// goes wrong with that is nobody's trouble.
func (a *agent) reports(ctx context.Context) error {
	t := time.NewTicker(lookEvery)
	defer t.Stop()
	var last time.Time // zero: not since the connection came
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		case <-a.rev.tell:
			last = time.Time{}
		}
		switch now := time.Now(); {
		case !a.link.Up():
			last = time.Time{}
		case now.Sub(last) >= report.Every:
			s := a.snapshot()
			r := reportOf(&s, answer.Build().Version, a.began, now, a.now().Time())
			c := a.said(now)
			r.Configuration = &c
			b, err := json.Marshal(r)
			if err == nil {
				err = a.link.Report(b)
			}
			if err != nil {
				a.log.Debug("the hub is not told how this agent is", "err", err)
			}
			last = now
		}
	}
}

// reportOf is what of a status goes to the hub. plant is now by the clock of event times.
func reportOf(s *status.Snapshot, version string, began, now, plant time.Time) report.Report {
	r := report.Report{
		Version: version, Sent: now.UTC(), Since: began.UTC().Truncate(time.Second), Pending: s.Buffer.Pending,
		BufferBytes: s.Buffer.Bytes, BufferMax: s.Buffer.MaxBytes, AutonomyHours: s.Buffer.AutonomyHours, Sources: len(s.Sources),
	}
	if at, err := time.Parse(time.RFC3339, s.Buffer.OldestPending); err == nil && r.Pending > 0 {
		r.LagSeconds = max(0, plant.Sub(at).Seconds())
	}
	for _, src := range s.Sources {
		if src.Aside != nil {
			r.Aside++
		}
	}
	for _, l := range s.Buffer.Losses {
		r.Lost += l.Count
	}
	return r
}
