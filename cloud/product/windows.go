package product

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"slices"

	"plantmesh/proto/mesh"
)

// sums are what one window of one equipment adds up to. Times in nanoseconds;
// what the elements and planned stops leave of elapsed is unknown. Planned stops are those of
// the calendar, also while nobody hears the machine.
type sums struct {
	Totals

	elapsed       int64
	energy        float64
	produced      int64
	scrap         int64
	ideal, good   float64 // seconds of ideal run time: of all, of the good part
	withoutIdeal  string
	missing       bool // a product without an ideal rate was counted
	sourceUnknown int64
}

// Sum adds up the cells of a window, in time order. end is the end of what is
// known.
func sum(e *Equipment, w Window, cells []Cell, end mesh.Nanos) *sums {
	s := &sums{elapsed: int64(mesh.Span{From: w.From, To: min(w.To, end)}.Duration())}
	s.Products = map[string]Count{}
	var rates rates
	for i := range cells {
		c := &cells[i]
		if c.From < w.From || c.To > w.To {
			continue
		}
		s.APT += c.Totals.APT
		s.AUST += c.Totals.AUST
		s.ADET += c.Totals.ADET
		s.ADOT += c.Totals.ADOT
		s.Planned += c.Totals.Planned
		s.Known += c.Totals.Known
		s.EnergyKJ += c.Totals.EnergyKJ
		s.Resets += c.Totals.Resets
		s.Backwards += c.Totals.Backwards
		s.Heard |= c.Totals.Heard
		s.energy += math.Float64frombits(c.Totals.Energy)
		for p, n := range c.Totals.Products {
			s.addCount(p, n)
		}
		rates.add(e, c)
	}
	if s.EnergyKJ != 0 {
		s.energy += float64(s.EnergyKJ) / 3600
	}
	for _, r := range rates {
		s.price(r)
	}
	s.sourceUnknown = s.elapsed - s.Known
	return s
}

// rated is what was counted while the ideal rates were the same.
type rated struct {
	Totals

	ideal map[string]float64
}

type rates []*rated

func (r *rates) add(e *Equipment, c *Cell) {
	ideal := c.Ideal
	if ideal == nil {
		ideal = e.Ideal
	}
	i := slices.IndexFunc(*r, func(x *rated) bool { return maps.Equal(x.ideal, ideal) })
	if i < 0 {
		i, *r = len(*r), append(*r, &rated{ideal: ideal})
	}
	for p, n := range c.Totals.Products {
		(*r)[i].addCount(p, n)
	}
}

// price adds up what was counted at the same ideal rates.
func (s *sums) price(r *rated) {
	for _, p := range slices.Sorted(maps.Keys(r.Products)) {
		n := r.Products[p]
		s.produced += n.Produced
		s.scrap += n.Scrap
		pri, ok := r.ideal[p]
		if !ok {
			if !s.missing && n != (Count{}) {
				s.withoutIdeal, s.missing = p, true
			}
			continue
		}
		s.ideal += pri * float64(n.Produced)
		s.good += pri * float64(n.Produced-n.Scrap)
	}
}

func (s *sums) busy() int64    { return s.APT + s.AUST + s.ADET + s.ADOT }
func (s *sums) unknown() int64 { return s.elapsed - s.busy() - s.Planned }

// coverage is the known share of what is planned to be worked: a gateway that is switched off
// for the weekend takes nothing away from it, one that is off for half a shift all of that.
func (s *sums) coverage() float64 {
	if due := s.elapsed - s.Planned; due > 0 {
		return 1 - float64(s.unknown())/float64(due)
	}
	return 1
}

func seconds(ns int64) float64 { return float64(ns) / 1e9 }

// WindowDraft is the row of one window: of product oee or production-rate, as
// the definition measures. cells are all of the window's, in time order.
func (d *Definition) WindowDraft(s *Site, e *Equipment, w Window, cells []Cell, end mesh.Nanos) Draft {
	b := newBody(d.columns)
	x := sum(e, w, cells, end)
	b.text("equipment", e.ID)
	b.text("line", e.Line)
	b.text("window", string(w.Kind))
	b.instant("from", w.From)
	b.instant("to", w.To)
	b.words("shift_id", w.ShiftID)
	b.text("production_day", w.Day)
	x.count(b, "produced_count", x.produced, heardProduced)
	x.count(b, "good_count", x.produced-x.scrap, heardProduced|heardScrap)
	x.count(b, "scrap_count", x.scrap, heardScrap)
	b.text("mapping_version", s.Mapping(e))
	if d.Measure == MeasureRate {
		x.rate(b)
	} else {
		x.oee(b, s.MinCoverage)
	}
	return Draft{Key: w.Key(), From: w.From, To: w.To, Body: b.bytes()}
}

// rate are the columns of production-rate alone. Its unknown time is that of
// the source: while only the state is unknown, counters go on counting.
func (s *sums) rate(b *body) {
	s.count(b, "items_count", s.produced, heardProduced)
	if s.Known == 0 || !s.Heard.has(heardProduced) {
		b.null("rate_per_hour")
	} else {
		b.number("rate_per_hour", float64(s.produced)/(seconds(s.Known)/3600))
	}
	switch { // never of a part of what was produced
	case !s.Heard.has(heardProduced):
		b.null("ideal_rate_per_hour")
		b.text("ideal_rate_reason", noProduced)
	case s.missing:
		b.null("ideal_rate_per_hour")
		b.text("ideal_rate_reason", "no ideal rate for product "+s.withoutIdeal)
	case s.ideal == 0:
		b.null("ideal_rate_per_hour")
		b.text("ideal_rate_reason", nothingProduced)
	default:
		b.number("ideal_rate_per_hour", float64(s.produced)*3600/s.ideal)
		b.null("ideal_rate_reason")
	}
	if s.Heard.has(heardEnergy) {
		b.number("energy_kwh", s.energy)
	} else {
		b.null("energy_kwh")
	}
	b.integer("counter_resets_count", s.Resets)
	b.seconds("unknown_seconds", s.sourceUnknown)
	b.number("coverage_ratio", 1-float64(s.sourceUnknown)/float64(s.elapsed))
	b.list("flags", s.counterFlags())
}

// Reasons why a ratio of items can't be given.
const (
	nothingProduced = "nothing produced"
	noProduced      = "no counter of produced items was heard"
	noScrap         = "no counter of scrap was heard"
)

// count is a count, null where its counters were not heard.
func (s *sums) count(b *body, key string, n int64, by heard) {
	if s.Heard.has(by) {
		b.integer(key, n)
		return
	}
	b.null(key)
}

// counterFlags say what a reader of counts should know.
func (s *sums) counterFlags() (flags []string) {
	if s.Resets > 0 {
		flags = append(flags, "counter_reset")
	}
	if s.Backwards > 0 {
		flags = append(flags, "counter_backwards")
	}
	return flags
}

// oee are the columns of oee alone (ISO 22400-2): ratios of sums only, never a
// default for a missing factor, performance above 1 kept and flagged.
func (s *sums) oee(b *body, minCoverage float64) {
	b.seconds("pbt_seconds", s.busy())
	b.seconds("apt_seconds", s.APT)
	b.seconds("aust_seconds", s.AUST)
	b.seconds("adet_seconds", s.ADET)
	b.seconds("adot_seconds", s.ADOT)
	b.seconds("planned_stop_seconds", s.Planned)
	b.seconds("unknown_seconds", s.unknown())
	b.number("ideal_seconds", s.ideal)
	b.number("ideal_good_seconds", s.good)
	coverage := s.coverage()
	b.number("coverage_ratio", coverage)

	r := s.ratios(coverage, minCoverage)
	b.ratio("availability", r.availability.value, r.availability.reason)
	b.ratio("effectiveness", r.effectiveness.value, r.effectiveness.reason)
	b.ratio("quality", r.quality.value, r.quality.reason)
	b.ratio("oee", r.oee.value, r.oee.reason)
	b.ratio("nee", r.nee.value, r.nee.reason)
	flags := s.counterFlags()
	if r.effectiveness.reason == "" && r.effectiveness.value > 1 {
		flags = append(flags, "effectiveness_above_1")
	}
	b.list("flags", flags)
}

// ratio is a number, or the reason why there is none.
type ratio struct {
	value  float64
	reason string
}

type ratios struct{ availability, effectiveness, quality, oee, nee ratio }

// ratios makes the five ratios; where one can't be given, the first reason
// that holds stands in its place.
func (s *sums) ratios(coverage, minCoverage float64) ratios {
	none := func(why string) ratios {
		x := ratio{reason: why}
		return ratios{x, x, x, x, x}
	}
	switch {
	case coverage < minCoverage:
		of := "the window"
		if s.Planned > 0 {
			of = "what is planned to be worked"
		}
		return none(fmt.Sprintf("only %.0f %% of %s is known", 100*coverage, of))
	case s.busy() == 0:
		return none("no planned busy time in the window")
	}
	if !s.Heard.has(heardProduced) {
		r := none(noProduced)
		r.availability = ratio{value: float64(s.APT) / float64(s.busy())}
		return r
	}
	pbt, apt := seconds(s.busy()), seconds(s.APT)
	r := ratios{
		availability:  ratio{value: float64(s.APT) / float64(s.busy())},
		effectiveness: ratio{value: s.ideal / apt},
		quality:       ratio{value: s.good / s.ideal},
		oee:           ratio{value: s.good / pbt},
	}
	r.nee.value = float64(s.APT+s.AUST) / float64(s.busy()) * r.effectiveness.value * r.quality.value
	if s.APT == 0 {
		r.effectiveness.reason, r.nee.reason = "nothing ran", "nothing ran"
	}
	if s.missing {
		why := "no ideal rate for product " + s.withoutIdeal
		r.effectiveness.reason, r.oee.reason, r.nee.reason = why, why, why
		r.quality.value = float64(s.produced-s.scrap) / float64(s.produced)
	}
	if why := s.noQuality(); why != "" {
		r.quality.reason, r.nee.reason = why, cmp.Or(r.nee.reason, why)
		if why != nothingProduced { // an hour of nothing is an OEE of 0, whatever its quality would have been
			r.oee.reason = cmp.Or(r.oee.reason, why)
		}
	}
	return r
}

// noQuality is why no share of what was produced can be called good: there is
// nothing, or scrap of what was produced before the window outweighs it.
func (s *sums) noQuality() string {
	switch {
	case !s.Heard.has(heardScrap):
		return noScrap
	case s.scrap > s.produced || !s.missing && s.good < 0:
		return "more scrap than produced"
	case s.produced == 0:
		return nothingProduced
	}
	return ""
}
