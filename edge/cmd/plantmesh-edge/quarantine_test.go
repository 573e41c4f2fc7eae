package main

import (
	"testing"
	"time"

	"plantmesh/edge/status"
)

// What is listed is of the rule, the source and the time that were asked for.
func TestQuarantineList_LeavesWhatWasAskedFor(t *testing.T) {
	now := time.Date(2026, 3, 2, 12, 0, 0, 0, time.UTC)
	for name, c := range map[string]struct {
		cmd            quarantineListCmd
		records, rules int
	}{
		"all":          {quarantineListCmd{}, 2, 3},
		"a day":        {quarantineListCmd{Since: "24h"}, 1, 2},
		"since a time": {quarantineListCmd{Since: "2026-03-02T11:59:00Z"}, 0, 1},
		"of a source":  {quarantineListCmd{Source: "press", Since: "24h"}, 0, 1},
		"of a rule":    {quarantineListCmd{Rule: "hot", Since: "24h"}, 0, 1},
		"of none":      {quarantineListCmd{Rule: "cold"}, 0, 0},
	} {
		q := status.Quarantine{
			Records: []status.AsideRecord{{Source: "press", When: "2026-03-01T11:59:00Z"}, {Source: "filler", When: "2026-03-01T12:00:00Z"}},
			Rules: []status.RuleFound{
				{Rule: "hot", Source: "press", Last: status.Sample{Time: "2026-03-01T11:59:59.5Z"}},
				{Rule: "hot", Source: "press", Last: status.Sample{Time: "2026-03-02T11:59:00Z"}},
				{Rule: "fast", Source: "filler", Last: status.Sample{Time: "2026-03-02T11:58:00Z"}},
			},
		}
		since, err := c.cmd.since(now)
		if err != nil {
			t.Fatal(err)
		}
		if c.cmd.narrow(&q, since); len(q.Records) != c.records || len(q.Rules) != c.rules {
			t.Errorf("%s: %d records, %d rules: %+v", name, len(q.Records), len(q.Rules), q)
		}
	}
	for _, wrong := range []string{"yesterday", "-1h", "0s", "2026-03-01"} {
		if at, err := (&quarantineListCmd{Since: wrong}).since(now); err == nil {
			t.Errorf("%s is %s", wrong, at)
		}
	}
}

func TestReplay_Rate(t *testing.T) {
	for said, want := range map[string]int{"": 0, "500/s": 500, "20": 20, "1000000/s": 1000000, "0/s": -1, "-5": -1, "5/min": -1, "fast": -1, "1000001/s": -1, "0.5/s": -1} {
		if got, err := (&replayCmd{Rate: said}).rate(); (err != nil) != (want < 0) || err == nil && got != want {
			t.Errorf("%q is %d, %v", said, got, err)
		}
	}
	for got, want := range map[int]string{
		500: "10 records with 5000 samples (0.0 MiB) that the hub has are sent again, behind all that waits; it knows each by its position, and takes none twice\nat 500 samples a second that takes about 10s\n",
		0:   "10 records with 5000 samples (0.0 MiB) that the hub has are sent again, behind all that waits; it knows each by its position, and takes none twice\nthe agent that runs is of before --rate: it sends as much as the hub takes\n",
	} {
		if said := new(replayCmd).text(&status.Replayed{Records: 10, Samples: 5000, Connected: true, Rate: got}, 500); said != want {
			t.Errorf("it says\n%swant\n%s", said, want)
		}
	}
}
