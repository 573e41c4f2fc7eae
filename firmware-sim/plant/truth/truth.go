// Package truth says what the rows of the products must be, from what the
// plant emitted and the stretches in which its sources were known. It is
// written straight from the arithmetic of the products and shares no code with
// the assembly that it judges. It prefers being plain to being fast.
package truth

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"time"

	"plantmesh/firmware-sim/plant"
)

// Span is a stretch of time [From, To) in nanoseconds since 1970 UTC.
type Span struct{ From, To int64 }

// Row is one row of a product: its key and its columns, as they must appear.
type Row struct {
	Product string         `json:"product"`
	Entity  string         `json:"entity"`
	Columns map[string]any `json:"columns"`
}

// Products the truth knows.
const (
	EquipmentState = "equipment-state"
	ProductionRate = "production-rate"
	OEE            = "oee"
)

// Of is every row as of an instant: known holds for each source the stretches
// in which it is known. A source that isn't named is not known at all and has
// no rows. Samples may come in any order, and twice.
func Of(signals []plant.Signal, samples []plant.Emission, known map[string][]Span, at time.Time) ([]Row, error) {
	zone, err := time.LoadLocation(plant.Zone)
	if err != nil {
		return nil, fmt.Errorf("load the site's zone: %w", err)
	}
	var machines []*equipment
	byName := map[string]*equipment{}
	for _, s := range signals {
		line, machine, _, ok := plant.Split(s.Name)
		if !ok {
			return nil, fmt.Errorf("signal %q is not <line>.<machine>.<role>", s.Name)
		}
		if name := line + "-" + machine; byName[name] == nil {
			e := &equipment{line: line, machine: machine, known: tidy(known[s.Source], at.UnixNano())}
			byName[name], machines = e, append(machines, e)
		}
	}
	for _, e := range samples {
		line, machine, role, _ := plant.Split(e.Signal)
		m := byName[line+"-"+machine]
		if m == nil {
			return nil, fmt.Errorf("signal %q is not in the list", e.Signal)
		}
		m.samples = append(m.samples, sample{at: e.Time.UnixNano(), role: role, status: e.Status, value: e.Value})
	}
	slices.SortFunc(machines, func(a, b *equipment) int { return cmp.Compare(a.name(), b.name()) })
	var states, rates, oees []Row
	for _, m := range machines {
		if len(m.known) == 0 {
			continue
		}
		m.order()
		f := fold(m)
		states = append(states, f.stateRows()...)
		for _, w := range windows(f.k0, f.p, zone) {
			sum := f.sum(w, zone)
			rates = append(rates, Row{ProductionRate, m.name(), sum.rate(m, w)})
			oees = append(oees, Row{OEE, m.name(), sum.oee(m, w)})
		}
	}
	return slices.Concat(states, rates, oees), nil
}

// tidy sorts and joins stretches and cuts them at an instant.
func tidy(spans []Span, at int64) (out []Span) {
	spans = slices.Clone(spans)
	slices.SortFunc(spans, func(a, b Span) int { return cmp.Compare(a.From, b.From) })
	for _, s := range spans {
		s.To = min(s.To, at)
		switch last := len(out) - 1; {
		case s.To <= s.From:
		case last >= 0 && s.From <= out[last].To:
			out[last].To = max(out[last].To, s.To)
		default:
			out = append(out, s)
		}
	}
	return out
}

// equipment is one machine with its samples.
type equipment struct {
	line, machine string
	known         []Span
	samples       []sample
}

type sample struct {
	at     int64
	role   string
	status uint32
	value  plant.Value
}

func (e *equipment) name() string { return e.line + "-" + e.machine }

// order brings the samples in folding order and drops those that came twice.
// Only the names matter, since the rest of a name is the same for all.
func (e *equipment) order() {
	slices.SortFunc(e.samples, func(a, b sample) int {
		return cmp.Or(
			cmp.Compare(a.at, b.at), cmp.Compare(a.role, b.role), cmp.Compare(a.status, b.status),
			cmp.Compare(a.value.I, b.value.I), cmp.Compare(math.Float64bits(a.value.F), math.Float64bits(b.value.F)), cmp.Compare(a.value.S, b.value.S))
	})
	e.samples = slices.Compact(e.samples)
}
