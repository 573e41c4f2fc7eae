package agent

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"plantmesh/edge/source/opcua"
	"plantmesh/edge/source/opcua/trust"
	"plantmesh/edge/status"
	"plantmesh/proto/answer"
)

// endingEvery is how often the running agent looks at certificates.
const endingEvery = time.Hour

// warned are the days before its end at which a certificate is told: time to plan, time to
// act, and the last moment.
func warned() []int { return []int{30, 7, 1} }

// endingLevel is the nearest of those days that is reached, 0 once it has ended; false:
// there is time.
func endingLevel(daysLeft int) (level int, near bool) {
	if daysLeft < 0 {
		return 0, true
	}
	for _, days := range slices.Backward(warned()) {
		if daysLeft < days {
			return days, true
		}
	}
	return 0, false
}

// endings are the certificates of OPC UA that end within 30 days, or have: this gateway's,
// and of each server that of the newest end that is trusted there.
func (c *Config) endings(now time.Time) (out []status.Ending) {
	app := c.application()
	var of []*opcua.Config
	for i := range c.Sources {
		if o := c.Sources[i].OPCUA; o != nil && !o.Security.Insecure {
			of = append(of, o)
		}
	}
	if _, err := os.Stat(app.Store); err != nil || len(of) == 0 {
		return nil // no connection has certificates yet
	}
	store, err := trust.Open(app.Store)
	if err != nil {
		return nil // the connections say so
	}
	all, _ := store.List(now) // what can't be read cert list says
	cert := func(words ...string) string {
		return answer.Command(append([]string{"plantmesh-edge", "cert", "--config", c.path}, words...)...)
	}
	if i := slices.IndexFunc(all, func(e trust.Entry) bool { return e.Role == trust.Own }); i >= 0 {
		fix := cert("renew") + ", which says what to do then"
		if slices.ContainsFunc(all, func(e trust.Entry) bool { return e.Role == trust.Next }) {
			fix = cert("adopt") + ", once each server trusts the next one"
		}
		out = ends(out, "this gateway's certificate", &all[i], fix)
	}
	for _, o := range of {
		if e := trustedAt(all, o.Endpoint); e != nil {
			out = ends(out, "the certificate of "+o.Endpoint, e, "renew it on the server's side; then "+cert("trust", "SHA256:…", "--endpoint", o.Endpoint)+" with the new one")
		}
	}
	return out
}

// ends adds a certificate where its end is near.
func ends(out []status.Ending, what string, e *trust.Entry, fix string) []status.Ending {
	if _, near := endingLevel(e.DaysLeft); !near {
		return out
	}
	return append(out, status.Ending{What: what, Until: stamp(e.NotAfter), Days: e.DaysLeft, Fix: fix})
}

// trustedAt is the certificate of a server that is trusted at an endpoint, of several the
// one with the newest end.
func trustedAt(all []trust.Entry, endpoint string) (found *trust.Entry) {
	for i := range all {
		e := &all[i]
		here := slices.ContainsFunc(e.Endpoints, func(at string) bool {
			return strings.EqualFold(strings.TrimSuffix(at, "/"), strings.TrimSuffix(endpoint, "/"))
		})
		if e.Role == trust.Trusted && !e.CA && here && (found == nil || e.NotAfter.After(found.NotAfter)) {
			found = e
		}
	}
	return found
}

// expire tells certificates that end, at each of the days that warned names, until ctx
// ends.
func (a *agent) expire(ctx context.Context) error {
	told := map[string]int{}
	for next := time.Duration(0); ; next = endingEvery {
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(next):
		}
		for _, e := range a.endings() {
			level, _ := endingLevel(e.Days)
			if was, said := told[e.What]; !said || was != level {
				told[e.What] = level
				a.log.WarnContext(ctx, "a certificate of OPC UA ends", "which", e.What, "until", e.Until, "days_left", e.Days, "fix", e.Fix)
			}
		}
	}
}

func (a *agent) endings() []status.Ending {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.cfg.endings(time.Now())
}

// endingWords say how it stands with a certificate.
func endingWords(e *status.Ending) string {
	if e.Days < 0 {
		return fmt.Sprintf("%s ended at %s", e.What, e.Until)
	}
	return fmt.Sprintf("%s ends in %d days, at %s", e.What, e.Days, e.Until)
}
