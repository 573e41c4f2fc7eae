package agent

import (
	"encoding/json"
	"testing"
	"time"

	"plantmesh/edge/status"
	"plantmesh/proto/report"
)

func TestReportOf(t *testing.T) {
	now := time.Date(2026, 3, 1, 4, 0, 0, 0, time.UTC)
	hours := 12.5
	s := status.Snapshot{
		Buffer:  status.Buffer{Bytes: 10, MaxBytes: 100, Pending: 3, OldestPending: "2026-03-01T03:59:00Z", AutonomyHours: &hours, Losses: []status.Loss{{Source: "a", Cause: "unreadable", Count: 5}, {Source: "a", Cause: "disk_policy", Count: 2}}},
		Sources: []status.Source{{Source: "a"}, {Source: "b", Aside: &status.Aside{}}},
	}
	b, err := json.Marshal(reportOf(&s, "v1", now.Add(-time.Hour), now, now.Add(time.Second)))
	if err != nil {
		t.Fatal(err)
	}
	r, err := report.Parse(b)
	if err != nil || r.LagSeconds != 61 || r.Lost != 7 || r.Sources != 2 || r.Aside != 1 || *r.AutonomyHours != hours || r.Version != "v1" {
		t.Errorf("%+v, %v", r, err)
	}
}
