package report

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"
)

func TestReport_GoldenBytes(t *testing.T) {
	at := time.Date(2026, 3, 1, 4, 0, 0, 0, time.UTC)
	hours := 71.5
	r := Report{Version: "v1.2.3", Sent: at, Since: at.Add(-time.Hour), Pending: 12, LagSeconds: 90.5, BufferBytes: 1 << 20, BufferMax: 1 << 30, AutonomyHours: &hours, Lost: 3, Sources: 2, Aside: 1}
	b, err := json.Marshal(r)
	const want = `{"version":"v1.2.3","sent":"2026-03-01T04:00:00Z","since":"2026-03-01T03:00:00Z","pending_records":12,"lag_seconds":90.5,"buffer_bytes":1048576,"buffer_max_bytes":1073741824,"autonomy_hours":71.5,"lost_values":3,"sources":2,"sources_aside":1}`
	if err != nil || string(b) != want {
		t.Errorf("%s, %v", b, err)
	}
	got, err := Parse(b)
	if err != nil || got.LagSeconds != 90.5 || *got.AutonomyHours != hours {
		t.Errorf("%+v, %v", got, err)
	}
	for _, bad := range []string{
		"", "{", "[]", `{"version":"v1"}`, `{"version":"` + strings.Repeat("v", 101) + `","sent":"2026-03-01T04:00:00Z"}`, `{"version":"\u001b[2J","sent":"2026-03-01T04:00:00Z"}`,
		`{"sent":"2026-03-01T04:00:00Z","buffer_bytes":-1}`, `{"sent":"2026-03-01T04:00:00Z","autonomy_hours":-1}`, `{"sent":"2026-03-01T04:00:00Z","lag_seconds":-1}`, strings.Repeat(" ", MaxBytes) + want,
	} {
		if _, err := Parse([]byte(bad)); !errors.Is(err, ErrReport) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(`{"version":"v1","sent":"2026-03-01T04:00:00Z","lag_seconds":1e9,"pending_records":1}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		if r, err := Parse(b); err == nil && r.LagSeconds < 0 {
			t.Errorf("%q lags %v", b, r.LagSeconds)
		}
	})
}
