package opcua

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"plantmesh/proto/strict"
)

// profile is what is known of a kind of servers: how much they take, whatever they
// say of themselves. A source's file and the server's own lower limits go first.
type profile struct {
	limits   Limits
	inFlight int
	filters  bool   // takes a deadband or a trigger
	sessions int    // of all clients together; 0: many
	quirk    string // what else a technician should know; empty: nothing
}

// Limits bound what is asked of a server. 0: as the profile says.
type Limits struct {
	Read      int `yaml:"read"`      // attributes in one call
	Translate int `yaml:"translate"` // paths looked up in one call
	Items     int `yaml:"items"`     // monitored items made in one call
	Signals   int `yaml:"signals"`   // monitored items in all
}

// profiles by their names. Figures of the S7 are those of Siemens' entry 109755846
// (system limits of OPC UA at S7-1200 and S7-1500) and of what their users report:
// at an S7-1200 calls for more than 200 items take fifty times as long. Kepware's
// sessions are its default; Ignition works on 64 requests of a session at a time;
// Prosys' simulation server stops answering to very large calls. What a server that
// is none of these must take at least is in OPC 10000-7.
func profiles() map[string]profile {
	return map[string]profile{
		"generic":  {limits: Limits{Read: 1000, Translate: 500, Items: itemsPerCall, Signals: mostSignals}, inFlight: defaultInFlight, filters: true},
		"s7-1200":  {limits: Limits{Read: 200, Translate: 100, Items: 100, Signals: 1000}, inFlight: 2, sessions: 10, quirk: "it takes no deadband: that is applied here"},
		"s7-1500":  {limits: Limits{Read: 500, Translate: 500, Items: 500, Signals: 10_000}, inFlight: defaultInFlight, filters: true, sessions: 32},
		"kepware":  {limits: Limits{Read: 1000, Translate: 1000, Items: 1000, Signals: mostSignals}, inFlight: defaultInFlight, filters: true, sessions: 128},
		"ignition": {limits: Limits{Read: 1000, Translate: 500, Items: 1000, Signals: mostSignals}, inFlight: defaultInFlight, filters: true},
		"prosys":   {limits: Limits{Read: 800, Translate: 800, Items: 800, Signals: mostSignals}, inFlight: defaultInFlight, filters: true},
	}
}

// mostSignals is what client handles can tell apart, beside events.
const mostSignals = maxSignals - maxEvents

// defaultProfile is that of a server of which nothing is known.
const defaultProfile = "generic"

// profiled fills in what the file leaves to the profile.
func (c *Config) profiled() error {
	set(&c.Profile, defaultProfile)
	p, ok := profiles()[c.Profile]
	if !ok {
		return strict.At("profile", "profile %q is none of %s", c.Profile, strings.Join(slices.Sorted(maps.Keys(profiles())), ", "))
	}
	set(&c.InFlight, p.inFlight)
	set(&c.Limits.Read, p.limits.Read)
	set(&c.Limits.Translate, p.limits.Translate)
	set(&c.Limits.Items, p.limits.Items)
	set(&c.Limits.Signals, p.limits.Signals)
	for key, n := range map[string]int{"read": c.Limits.Read, "translate": c.Limits.Translate, "items": c.Limits.Items, "signals": c.Limits.Signals} {
		if n < 1 || n > mostSignals {
			return strict.Under("limits", strict.At(key, "limits.%s must lie between 1 and %d", key, mostSignals))
		}
	}
	return nil
}

// tooMany says that there are more signals than the server takes.
func (c *Config) tooMany() error {
	if len(c.Signals) <= c.Limits.Signals {
		return nil
	}
	hint := ""
	if c.Profile != defaultProfile {
		hint = fmt.Sprintf(" (profile %s): leave some out, or raise limits.signals", c.Profile)
	}
	return strict.At("signals", "signals has %d entries, one source takes at most %d%s", len(c.Signals), c.Limits.Signals, hint)
}
