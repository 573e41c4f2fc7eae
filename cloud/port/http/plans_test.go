package porthttp

import (
	"strings"
	"testing"
)

// Who reads the site reads what is planned of it, too.
func TestMachines_SayWhatIsPlanned(t *testing.T) {
	h, _ := serve(t)
	body := strings.Join(strings.Fields(get(t, h, "/api/v1/machines").Body.String()), "")
	for _, want := range []string{
		`"site":"graz"`, `{"id":"night","start":"22:00","end":"06:00","days":["mon-fri"]}`, `"planned_through":"2026-03-09T00:00:00.000Z"`,
		`"plans":[{"zone":"Europe/Vienna","machines":["line1-filler"],"shifts":[{"from":"2026-03-02T05:00:00.000Z","to":"2026-03-02T13:00:00.000Z","shift_id":"2026-03-02-early"}],"stops":[{"from":"2026-03-02T09:00:00.000Z","to":"2026-03-02T09:30:00.000Z"}]}]`,
	} {
		if !strings.Contains(body, want) {
			t.Errorf("%s lacks %s", body, want)
		}
	}
}
