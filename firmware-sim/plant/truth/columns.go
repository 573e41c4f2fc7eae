package truth

import (
	"fmt"
	"maps"
	"slices"

	"plantmesh/firmware-sim/plant"
)

// leastCoverage is the share of a window that must be known before a ratio is
// said.
const leastCoverage = 0.5

func total(of map[string]int64) (n int64) {
	for _, v := range of {
		n += v
	}
	return n
}

// ideal is the ideal run time of what was produced, and of the good part of
// it; without names the first product that has no ideal rate.
func (s *sums) ideal(machine string) (all, good float64, without string, ok bool) {
	names := map[string]bool{}
	for p, n := range s.produced {
		names[p] = names[p] || n != 0
	}
	for p, n := range s.scrap {
		names[p] = names[p] || n != 0
	}
	ok = true
	for _, p := range slices.Sorted(maps.Keys(names)) {
		pri, known := plant.IdealCycle(machine, p)
		if !known {
			if names[p] && ok {
				without, ok = p, false
			}
			continue
		}
		all += pri * float64(s.produced[p])
		good += pri * float64(s.produced[p]-s.scrap[p])
	}
	return all, good, without, ok
}

func (w window) key(e *equipment) map[string]any {
	c := map[string]any{
		"equipment": e.name(), "line": e.line, "window": w.kind,
		"from": stamp(w.From), "to": stamp(w.To), "shift_id": nil, "production_day": w.day,
	}
	if w.shift != "" {
		c["shift_id"] = w.shift
	}
	return c
}

// rate are the columns of production-rate.
func (s *sums) rate(e *equipment, w window) map[string]any {
	c := w.key(e)
	produced, scrap := total(s.produced), total(s.scrap)
	ideal, _, without, ok := s.ideal(e.machine)
	s.counts(c, produced, scrap)
	c["items_count"] = c["produced_count"]
	c["rate_per_hour"], c["ideal_rate_per_hour"] = nil, nil
	if known := seconds(s.elapsed - s.sourceUnknown); known > 0 && s.heard[plant.RoleProduced] {
		c["rate_per_hour"] = float64(produced) / (known / 3600)
	}
	c["ideal_rate_reason"] = nil
	switch {
	case !s.heard[plant.RoleProduced]:
		c["ideal_rate_reason"] = unheardProduced
	case !ok:
		c["ideal_rate_reason"] = "no ideal rate for product " + without
	case produced == 0:
		c["ideal_rate_reason"] = "nothing produced"
	default:
		c["ideal_rate_per_hour"] = float64(produced) * 3600 / ideal
	}
	c["energy_kwh"], c["counter_resets_count"] = nil, s.resets
	if s.heard[plant.RoleEnergy] {
		c["energy_kwh"] = s.energy
	}
	c["unknown_seconds"] = seconds(s.sourceUnknown)
	c["coverage_ratio"] = 1 - float64(s.sourceUnknown)/float64(s.elapsed)
	c["flags"] = s.flags()
	return c
}

const (
	unheardProduced = "no counter of produced items was heard"
	unheardScrap    = "no counter of scrap was heard"
)

// counts are null where what counts them was never heard.
func (s *sums) counts(c map[string]any, produced, scrap int64) {
	c["produced_count"], c["scrap_count"], c["good_count"] = nil, nil, nil
	p, q := s.heard[plant.RoleProduced], s.heard[plant.RoleScrap]
	if p {
		c["produced_count"] = produced
	}
	if q {
		c["scrap_count"] = scrap
	}
	if p && q {
		c["good_count"] = produced - scrap
	}
}

// flags are those that counters raise.
func (s *sums) flags() []string {
	flags := []string{}
	if s.resets > 0 {
		flags = append(flags, "counter_reset")
	}
	if s.backwards > 0 {
		flags = append(flags, "counter_backwards")
	}
	return flags
}

// oee are the columns of oee.
func (s *sums) oee(e *equipment, w window) map[string]any {
	c := w.key(e)
	produced, scrap := total(s.produced), total(s.scrap)
	apt, aust, adet, adot := s.element["APT"], s.element["AUST"], s.element["ADET"], s.element["ADOT"]
	pbt := apt + aust + adet + adot
	ideal, idealGood, without, ok := s.ideal(e.machine)
	coverage, of := 1.0, "the window"
	if due := s.elapsed - s.planned; due > 0 {
		coverage = 1 - float64(s.unknown)/float64(due)
	}
	if s.planned > 0 {
		of = "what is planned to be worked"
	}
	for name, ns := range map[string]int64{
		"pbt": pbt, "apt": apt, "aust": aust, "adet": adet, "adot": adot, "planned_stop": s.planned, "unknown": s.unknown,
	} {
		c[name+"_seconds"] = seconds(ns)
	}
	s.counts(c, produced, scrap)
	c["ideal_seconds"], c["ideal_good_seconds"], c["coverage_ratio"] = ideal, idealGood, coverage

	r := ratios{}
	for _, name := range []string{"availability", "effectiveness", "quality", "oee", "nee"} {
		r[name] = answer{}
	}
	switch {
	case coverage < leastCoverage:
		r.none(fmt.Sprintf("only %.0f %% of %s is known", 100*coverage, of), "availability", "effectiveness", "quality", "oee", "nee")
	case pbt == 0:
		r.none("no planned busy time in the window", "availability", "effectiveness", "quality", "oee", "nee")
	default:
		if !s.heard[plant.RoleProduced] {
			r.none(unheardProduced, "effectiveness", "quality", "oee", "nee")
		}
		if !ok {
			r.none("no ideal rate for product "+without, "effectiveness", "oee", "nee")
		}
		if apt == 0 {
			r.none("nothing ran", "effectiveness", "nee")
		}
		switch {
		case !s.heard[plant.RoleScrap]:
			r.none(unheardScrap, "quality", "oee", "nee")
		case scrap > produced || ok && idealGood < 0:
			r.none("more scrap than produced", "quality", "oee", "nee")
		case produced == 0: // all that was good, over the planned time, is still a number: 0
			r.none("nothing produced", "quality", "nee")
		case !ok:
			r.is("quality", float64(produced-scrap)/float64(produced))
		}
		r.is("availability", float64(apt)/float64(pbt))
		r.is("effectiveness", ideal/seconds(apt))
		r.is("quality", idealGood/ideal)
		r.is("oee", idealGood/seconds(pbt))
		r.is("nee", float64(apt+aust)/float64(pbt)*(ideal/seconds(apt))*(idealGood/ideal))
	}
	r.into(c)
	flags := s.flags()
	if v, isNumber := c["effectiveness_ratio"].(float64); isNumber && v > 1 {
		flags = append(flags, "effectiveness_above_1")
	}
	c["flags"] = flags
	return c
}

// answer is a number or the reason why there is none. The first answer stands.
type answer struct {
	given  bool
	value  float64
	reason string
}

type ratios map[string]answer

func (r ratios) none(reason string, names ...string) {
	for _, n := range names {
		if !r[n].given {
			r[n] = answer{given: true, reason: reason}
		}
	}
}

func (r ratios) is(name string, value float64) {
	if !r[name].given {
		r[name] = answer{given: true, value: value}
	}
}

func (r ratios) into(c map[string]any) {
	for name, a := range r {
		c[name+"_ratio"], c[name+"_reason"] = nil, nil
		if a.reason != "" {
			c[name+"_reason"] = a.reason
		} else {
			c[name+"_ratio"] = a.value
		}
	}
}
