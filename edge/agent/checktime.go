package agent

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"plantmesh/edge/check"
	"plantmesh/edge/source"
)

// Clocks that are compared.
const (
	clocksWarn = 2 * time.Second // an HTTP date has whole seconds
	clocksFail = 5 * time.Second
)

// reading is another's clock, side by side with this gateway's.
type reading struct {
	who   string
	ahead time.Duration // of this gateway's
}

// sysTime lays the clocks side by side: this gateway's, the hub's, and each server's.
func (c *Checkup) sysTime(looks map[string]*finding) check.Result {
	var all []reading
	if c.fault == nil && c.cfg.Hub.Enroll != "" {
		if p := c.page(); p.dated {
			all = append(all, reading{"the hub", p.ahead})
		}
	}
	plant := time.Duration(0) // a demo's servers live by a clock of their own
	if c.fault == nil && c.cfg.PlantClock != "" && c.cfg.Need(Clock) == nil {
		if now, err := plantNow(c.cfg.PlantClock); err == nil {
			plant = time.Until(now().Time())
		}
	}
	for _, id := range sortedKeys(looks) {
		if s, err := looks[id].survey(); err == nil && s.Clocked {
			all = append(all, reading{id, s.Behind - plant})
		}
	}
	return compare(all)
}

func sortedKeys[T any](m map[string]T) (out []string) {
	for k := range m {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}

// compare says whose clock is wrong: this gateway's, where all others agree that it is.
func compare(all []reading) check.Result {
	if len(all) == 0 {
		return check.None("nobody says what time it is: the hub does where edge.yaml names hub.enroll, and OPC UA servers that can be reached")
	}
	details := map[string]any{}
	var said, off, far []string
	least, most := all[0].ahead, all[0].ahead
	for _, r := range all {
		details[r.who] = map[string]any{"ahead_seconds": r.ahead.Seconds()}
		said = append(said, fmt.Sprintf("gateway–%s %+.1f s", strings.TrimPrefix(r.who, "the "), r.ahead.Seconds()))
		least, most = min(least, r.ahead), max(most, r.ahead)
		if r.ahead.Abs() > clocksFail {
			off = append(off, r.who)
		}
		if r.ahead > source.MaxAhead {
			far = append(far, r.who)
		}
	}
	r := check.Good("%s", strings.Join(said, " · "))
	worst := slices.MaxFunc(all, func(a, b reading) int { return cmp.Compare(a.ahead.Abs(), b.ahead.Abs()) })
	switch {
	case len(off) == len(all) && len(all) > 1 && most-least <= clocksFail:
		r = check.Fail("", "this gateway's clock is %s: %s agree with each other, and not with it", wrong(-worst.ahead), strings.Join(off, " and "))
	case len(off) == 1 && len(all) == 1:
		r = check.Fail("compare both with a third clock; on this gateway: timedatectl set-ntp true", "the clock of %s is %s this gateway's; which of both is wrong two clocks can't tell", off[0], away(worst.ahead))
	case slices.Contains(off, "the hub"):
		r = check.Fail("set the clock that is wrong; on the hub, and on this gateway: timedatectl set-ntp true", "the hub's clock is %s this gateway's: %s", away(all[0].ahead), strings.Join(said, " · "))
	case len(far) > 0:
		r = check.Fail("set the clock of "+far[0]+", or its time server", "the clock of %s is %s this gateway's: values that lie more than %s ahead prove nothing", far[0], away(worst.ahead), source.MaxAhead)
	case len(off) > 0:
		r = check.Warn("set the clock of "+worst.who+", or its time server", "the clock of %s is %s this gateway's: %s", worst.who, away(worst.ahead), strings.Join(said, " · "))
	case worst.ahead.Abs() > clocksWarn:
		r = check.Warn("", "the clock of %s is %s this gateway's: %s", worst.who, away(worst.ahead), strings.Join(said, " · "))
	}
	r.Details = details
	return r
}

func wrong(d time.Duration) string {
	if d < 0 {
		return fmt.Sprintf("%s behind", rounded(-d))
	}
	return fmt.Sprintf("%s ahead", rounded(d))
}

func away(d time.Duration) string {
	if d < 0 {
		return fmt.Sprintf("%s behind", rounded(-d))
	}
	return fmt.Sprintf("%s ahead of", rounded(d))
}
