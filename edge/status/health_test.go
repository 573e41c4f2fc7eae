package status

import (
	"strings"
	"testing"
	"time"

	"plantmesh/proto/answer"
)

// What was lost of late is told as lost, what needs somebody as that; a moment without a
// connection, and a loss that was told for a day, are neither.
func TestSnapshot_Judge(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	ago := func(d time.Duration) string { return now.Add(-d).Format(time.RFC3339) }
	void := func(cause, last string, count uint64) Buffer {
		return Buffer{Losses: []Loss{{Source: "press", Cause: cause, Count: count, Since: ago(48 * time.Hour), Last: last}}}
	}
	away := Hub{Since: ago(time.Hour)}
	on := Hub{Connected: true, Since: ago(time.Hour)}
	for name, c := range map[string]struct {
		s    Snapshot
		code answer.Code // empty: all is well
		says string
		fix  string
	}{
		"well":                     {Snapshot{Hub: on, Sources: []Source{{Source: "press", State: "running"}}}, "", "", ""},
		"of an agent of before":    {Snapshot{Sources: []Source{{Source: "press", State: "starting"}}}, "", "", ""},
		"lost":                     {Snapshot{Hub: on, Buffer: void("unreadable", ago(23*time.Hour), 6)}, answer.DataLost, "6 values of source press since 2026-02-27T12:00:00Z, the last at 2026-02-28T13:00:00Z, cause unreadable", "check --section sources"},
		"lost a day ago":           {Snapshot{Hub: on, Buffer: void("unreadable", ago(25*time.Hour), 6)}, "", "", ""},
		"lost for room":            {Snapshot{Hub: on, Buffer: void("disk_policy", ago(time.Hour), 70)}, answer.DataLost, "70 values of source press since 2026-02-27T12:00:00Z", "buffer status"},
		"lost, nobody knows what":  {Snapshot{Hub: on, Buffer: Buffer{Losses: []Loss{{Cause: "damaged", Since: ago(time.Hour), Last: ago(time.Hour)}}}}, answer.DataLost, "records since 2026-03-01T11:00:00Z", "buffer status"},
		"a void of unknown extent": {Snapshot{Hub: on, Sources: []Source{{Source: "press", State: "running", Voids: map[string]Voided{"died": {Voids: 2, Latest: "topic secret"}}}}}, "", "", ""},
		"damaged":                  {Snapshot{Hub: on, Since: ago(time.Hour), Buffer: Buffer{Damages: 2, Damaged: ago(time.Minute)}}, answer.DataLost, "2 segments or records on the disk could not be read", "buffer verify"},
		"damaged a day ago":        {Snapshot{Hub: on, Buffer: Buffer{Damages: 2, Damaged: ago(25 * time.Hour)}}, "", "", ""},
		"hub away":                 {Snapshot{Hub: away}, answer.Degraded, "the hub is not connected since 2026-03-01T11:00:00Z", "check --section identity,cloud"},
		"hub away for a moment":    {Snapshot{Hub: Hub{Since: ago(50 * time.Second)}}, "", "", ""},
		"source away":              {Snapshot{Hub: on, Sources: []Source{{Source: "press", State: "running", Says: "not connected: refused", Down: ago(2 * time.Minute)}}}, answer.Degraded, "source press is not read since 2026-03-01T11:58:00Z: not connected: refused", "check --section sources"},
		"source away for a moment": {Snapshot{Hub: on, Sources: []Source{{Source: "press", State: "running", Says: "not connected: refused", Down: ago(time.Second)}}}, "", "", ""},
		"source set aside":         {Snapshot{Hub: on, Sources: []Source{{Source: "press", Down: ago(time.Hour), Aside: &Aside{Reason: "panic: x", Since: ago(time.Minute), Resume: "plantmesh-edge source resume press --config e.yaml"}}}}, answer.Degraded, "source press is set aside since 2026-03-01T11:59:00Z: panic: x", "source resume press"},
		"buffer nearly full":       {Snapshot{Hub: on, Buffer: Buffer{Bytes: 95, MaxBytes: 100, Pending: 1}}, answer.Degraded, "the buffer is 95 % full", "check --section cloud,buffer"},
		"full of old":              {Snapshot{Hub: on, Buffer: Buffer{Bytes: 95, MaxBytes: 100}}, "", "", ""},
		"set aside":                {Snapshot{Hub: on, Buffer: Buffer{SetAside: 3}}, answer.Degraded, "3 records are set aside", "quarantine list"},
		"certificate near its end": {Snapshot{Hub: on, Endings: []Ending{{What: "it", Days: 2, Fix: "renew"}}}, "", "", ""},
		"certificate that ended":   {Snapshot{Hub: on, Endings: []Ending{{What: "this gateway's certificate", Days: -1, Until: ago(time.Hour), Fix: "plantmesh-edge cert renew --config e.yaml"}}}, answer.Degraded, "this gateway's certificate ended", "cert renew"},
	} {
		t.Run(name, func(t *testing.T) {
			got := c.s.Judge(now, "e.yaml")
			if c.code == "" {
				if len(got) > 0 {
					t.Errorf("%+v", got)
				}
				return
			}
			if len(got) != 1 || got[0].Code != c.code || !strings.HasPrefix(got[0].What, c.says) || !strings.HasPrefix(got[0].Fix, "plantmesh-edge "+c.fix) || !strings.HasSuffix(got[0].Fix, "--config e.yaml") {
				t.Errorf("%+v", got)
			}
			if len(got) == 1 && strings.Contains(got[0].What, "secret") {
				t.Error("it quotes what came")
			}
		})
	}
	s := Snapshot{Hub: away, Since: ago(time.Hour), Buffer: void("unreadable", ago(time.Hour), 6)}
	s.Findings = s.Judge(now, "e.yaml")
	var text strings.Builder
	if err := s.Print(&text); err != nil || len(s.Findings) != 2 || s.Findings[0].Code != answer.DataLost {
		t.Errorf("%v, %+v", err, s.Findings)
	}
	if !strings.Contains(text.String(), "\nlost     6 values") || !strings.Contains(text.String(), "\nwrong    the hub is not connected") {
		t.Errorf("it says\n%s", text.String())
	}
}
