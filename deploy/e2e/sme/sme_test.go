// Package sme plays three real machines through the whole chain, as processes,
// and compares the products with the recording itself.
package sme

import (
	"fmt"
	"math"
	"testing"
	"time"
)

// lastDay is the recording's last; the products must have reached its end.
var lastDay = time.Date(2022, 9, 10, 0, 0, 0, 0, time.UTC)

// days are the UTC days the recording touches.
const days = 11

// mostKnown is the largest share of a day the recording speaks of.
const mostKnown = 0.22

func TestSME_EqualsTheRecording(t *testing.T) {
	path := recording(t)
	bin := binaries(t)
	for _, kind := range []string{"opcua", "mqtt"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			want := direct(t, path)
			c := run(t, bin, kind, path, lastDay.AddDate(0, 0, 1))
			if gaps := c.rows("coverage", ""); len(gaps) > 0 {
				t.Errorf("the source was not always known: %+v", gaps)
			}
			states(t, c, want)
			rates(t, c, want)
			oees(t, c, want)
		})
	}
}

// states compares the seconds per status, each interval taken for the day it
// starts in, as its segments are.
func states(t *testing.T, c *chain, want totals) {
	t.Helper()
	got := totals{}
	for _, r := range c.rows("equipment-state", "") {
		if r.Packml == nil {
			if r.Cause != "unknown" {
				t.Errorf("%s at %s: no state, and the cause is %q", r.Equipment, r.From, r.Cause)
			}
			continue
		}
		got.of(r.Equipment, r.From).seconds[doing{r.Mode, *r.Packml}] += r.Duration
	}
	if len(got) != len(want) {
		t.Errorf("states of %d days of machines, want %d", len(got), len(want))
	}
	for k, w := range want {
		for _, as := range doings() {
			if g := got[k]; g == nil || g.seconds[as] != w.seconds[as] {
				t.Errorf("%v: %v, want %v", k, g, w)
			}
		}
	}
}

// everyDay gives the rows of one product for every machine and day, in which
// the recording may say nothing.
func everyDay(t *testing.T, c *chain, product string, want totals, each func(string, row, *sums)) {
	t.Helper()
	rows := c.rows(product, "day")
	if len(rows) != 3*days {
		t.Errorf("%d rows of %s, want %d", len(rows), product, 3*days)
	}
	seen := map[machineDay]bool{}
	for _, r := range rows {
		k := machineDay{r.Equipment, r.Day}
		at := fmt.Sprintf("%s %s %s", product, k.machine, k.day)
		if seen[k] || !r.IsFinal || r.From.Format(time.DateOnly) != k.day {
			t.Errorf("%s: final %t, from %s, seen before: %t", at, r.IsFinal, r.From, seen[k])
		}
		seen[k] = true
		w := want[k]
		if w == nil {
			w = &sums{}
		}
		each(at, r, w)
	}
	for k := range want {
		if !seen[k] {
			t.Errorf("%s has no row of %v", product, k)
		}
	}
}

// rates compares items and energy.
func rates(t *testing.T, c *chain, want totals) {
	t.Helper()
	everyDay(t, c, "production-rate", want, func(at string, r row, w *sums) {
		if r.Items != w.items || r.EnergyKWh != float64(w.kj)/3600 || r.CounterResets != 0 {
			t.Errorf("%s: %d items, %v kWh, %d resets, want %d items, %v kWh", at, r.Items, r.EnergyKWh, r.CounterResets, w.items, float64(w.kj)/3600)
		}
	})
}

// oees compares the time elements, and that what nobody knows is called so.
func oees(t *testing.T, c *chain, want totals) {
	t.Helper()
	as := doings()
	const day = 24 * 60 * 60
	everyDay(t, c, "oee", want, func(at string, r row, w *sums) {
		if r.AUST != w.seconds[as["1.0"]] || r.APT != w.seconds[as["2.0"]] || r.ADET != w.seconds[as["3.0"]] {
			t.Errorf("%s: manual %v s, automatic %v s, alarm %v s, want %v", at, r.AUST, r.APT, r.ADET, w.seconds)
		}
		if r.PBT != w.known() || r.Unknown != day-w.known() {
			t.Errorf("%s: known for %v s, unknown for %v s, want %v s known", at, r.PBT, r.Unknown, w.known())
		}
		if r.Coverage > mostKnown || math.Abs(r.Coverage-w.known()/day) > 1e-12 {
			t.Errorf("%s: %v of it is known, want %v", at, r.Coverage, w.known()/day)
		}
		why := fmt.Sprintf("only %.0f %% of the window is known", 100*w.known()/day)
		for _, x := range []struct {
			value  *float64
			reason string
		}{
			{r.Availability, r.AvailabilityReason},
			{r.Effectiveness, r.EffectivenessReason},
			{r.Quality, r.QualityReason},
			{r.OEE, r.OEEReason},
			{r.NEE, r.NEEReason},
		} {
			if x.value != nil || x.reason != why {
				t.Errorf("%s: a ratio is %v because %q, want none because %q", at, x.value, x.reason, why)
			}
		}
	})
}
