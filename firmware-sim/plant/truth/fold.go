package truth

import (
	"sort"
	"time"

	"plantmesh/firmware-sim/plant"
)

// tuple is what an interval of equipment-state is about. The zero tuple with
// cause "unknown" is the unknown.
type tuple struct {
	state, mode int // MachineryItemState, MachineryOperationMode (OPC 40001-1)
	packml      int64
	known       bool // packml holds
	cause       string
	element     string // ISO 22400 time element
	reason      int64
}

func unknown() tuple { return tuple{cause: "unknown"} }

type interval struct {
	Span
	tuple
}

// cell is what was counted in one UTC hour. Edges of shifts and production
// days are full hours at the site, so a cell never lies across one.
type cell struct {
	produced, scrap map[string]int64 // by product
	energy          float64
	resets          int64
	backwards       int64
}

// registers are the last values of the roles.
type registers struct {
	state       int64
	stateKnown  bool
	mode        int64
	order       string
	product     string
	hasOrder    bool
	hasProduct  bool
	reason      int64
	produced    int64
	scrap       int64
	energy      float64
	hasProduced bool
	hasScrap    bool
	hasEnergy   bool
}

// folded is one equipment's history.
type folded struct {
	of        *equipment
	k0, p     int64 // first known instant; end of the last known stretch
	intervals []interval
	cells     map[int64]*cell // by the hour's start

	heard     map[string]int64 // when a counter showed its first value
	reg       registers
	beforeGap registers
	setup     bool // something was set up for and hasn't run yet
}

// fold walks a machine's samples by event time.
func fold(e *equipment) *folded {
	f := &folded{of: e, k0: e.known[0].From, p: e.known[len(e.known)-1].To, cells: map[int64]*cell{}, heard: map[string]int64{}}
	f.reg.mode = 1
	next := 0
	upTo := func(t int64) []sample { // the samples of instant t, where it is the next one
		first := next
		for next < len(e.samples) && e.samples[next].at == t {
			next++
		}
		return e.samples[first:next]
	}
	silently := func(before int64) {
		for next < len(e.samples) && e.samples[next].at < before {
			f.learn(upTo(e.samples[next].at))
		}
	}
	for i, stretch := range e.known {
		silently(stretch.From)
		f.learn(upTo(stretch.From)) // the baseline
		if i > 0 {
			f.afterGap()
		}
		f.evaluate(stretch.From)
		for next < len(e.samples) && e.samples[next].at < stretch.To {
			t := e.samples[next].at
			f.live(upTo(t))
			f.evaluate(t)
		}
		if i < len(e.known)-1 {
			f.beforeGap = f.reg
			f.become(stretch.To, unknown())
		}
	}
	f.intervals[len(f.intervals)-1].To = f.p
	return f
}

// learn lets samples update the registers, and nothing else.
func (f *folded) learn(samples []sample) {
	for _, s := range samples {
		f.register(s)
	}
}

func bad(status uint32) bool  { return status&0x80000000 != 0 }
func good(status uint32) bool { return status&0xC0000000 == 0 }

func (f *folded) register(s sample) {
	r := &f.reg
	if s.role == plant.RoleState {
		r.state, r.stateKnown = s.value.I, !bad(s.status)
		return
	}
	if bad(s.status) {
		return
	}
	if _, known := f.heard[s.role]; !known && good(s.status) {
		f.heard[s.role] = s.at
	}
	switch s.role {
	case plant.RoleMode:
		r.mode = s.value.I
	case plant.RoleOrder:
		r.order, r.hasOrder = s.value.S, true
	case plant.RoleProduct:
		r.product, r.hasProduct = s.value.S, true
	case plant.RoleStopReason:
		r.reason = s.value.I
	case plant.RoleProduced:
		r.produced, r.hasProduced = s.value.I, true
	case plant.RoleScrap:
		r.scrap, r.hasScrap = s.value.I, true
	case plant.RoleEnergy:
		r.energy, r.hasEnergy = s.value.F, true
	}
}

// live applies the samples of one known instant.
func (f *folded) live(samples []sample) {
	was := f.reg
	f.learn(samples)
	c := f.cell(samples[0].at)
	for _, s := range samples {
		var d step
		switch {
		case !good(s.status):
		case s.role == plant.RoleProduced && was.hasProduced:
			d = increment(was.produced, s.value.I)
			c.produced[f.reg.product] += d.items
		case s.role == plant.RoleScrap && was.hasScrap:
			d = increment(was.scrap, s.value.I)
			c.scrap[f.reg.product] += d.items
		case s.role == plant.RoleEnergy && was.hasEnergy:
			d = consumption(was.energy, s.value.F)
			c.energy += d.kwh
		}
		c.resets, c.backwards = c.resets+d.resets, c.backwards+d.backwards
	}
	f.setup = f.setup || changed(was, f.reg)
	f.ran()
}

// changed reports whether order or product got another value than before.
func changed(was, is registers) bool {
	return was.hasOrder && was.order != is.order || was.hasProduct && was.product != is.product
}

func (f *folded) afterGap() {
	f.setup = f.setup || changed(f.beforeGap, f.reg)
	f.ran()
}

// ran clears the setup once the machine executes.
func (f *folded) ran() {
	if f.reg.stateKnown && f.reg.state == 6 {
		f.setup = false
	}
}

func (f *folded) cell(t int64) *cell {
	hour := t - t%int64(time.Hour)
	if f.cells[hour] == nil {
		f.cells[hour] = &cell{produced: map[string]int64{}, scrap: map[string]int64{}}
	}
	return f.cells[hour]
}

// step is what a counter counted from one value to the next, and what else
// there is to say of it.
type step struct {
	items, resets, backwards int64
	kwh                      float64
}

// increment of a counter of 32 bits. Falling to less than half is a reset and
// counts from 0; falling otherwise counts nothing.
func increment(prev, v int64) step {
	around := v + 1<<32 - prev
	switch {
	case v >= prev:
		return step{items: v - prev}
	case 0 <= around && around <= 1_000_000:
		return step{items: around}
	case 0 <= v && 2*v < prev:
		return step{items: v, resets: 1}
	}
	return step{backwards: 1}
}

// consumption is increment for a counter that doesn't wrap.
func consumption(prev, v float64) step {
	switch {
	case v >= prev:
		return step{kwh: v - prev}
	case 0 <= v && 2*v < prev:
		return step{kwh: v, resets: 1}
	}
	return step{backwards: 1}
}

// evaluate derives the tuple from the registers.
func (f *folded) evaluate(t int64) { f.become(t, f.tuple()) }

func (f *folded) become(t int64, is tuple) {
	if n := len(f.intervals); n > 0 {
		last := &f.intervals[n-1]
		if last.tuple == is {
			return
		}
		last.To = t
		if last.From == t {
			f.intervals = f.intervals[:n-1]
			f.become(t, is)
			return
		}
	}
	f.intervals = append(f.intervals, interval{Span{From: t}, is})
}

func (f *folded) tuple() tuple {
	r := f.reg
	t := tuple{packml: r.state, known: true}
	if !r.stateKnown {
		return unknown()
	}
	switch {
	case r.state == 6 || r.state == 16:
		t.state = 3
	case r.state == 1 || r.state == 8 || r.state == 9:
		t.state = 1
	case r.state >= 2 && r.state <= 17:
		t.state = 2
	default:
		return unknown()
	}
	switch r.mode {
	case 1:
		t.mode = 3
	case 2:
		t.mode = 1
	case 3:
		t.mode = 2
	}
	t.element, t.cause = f.attribute()
	if t.element != "APT" {
		t.reason = r.reason
	}
	return t
}

// attribute says which time element and cause the registers mean.
func (f *folded) attribute() (element, cause string) {
	switch f.reg.mode {
	case 2:
		return "ADET", "maintenance"
	case 3:
		return "AUST", "changeover"
	}
	switch f.reg.state {
	case 6, 16:
		return "APT", "none"
	case 3, 15:
		if f.setup {
			return "AUST", "changeover"
		}
		return "ADET", "internal"
	case 5, 13, 14:
		return "ADET", "external"
	case 10, 11, 12:
		return "ADET", "internal"
	case 1, 8, 9:
		return "ADET", "failure"
	}
	if f.reg.order == "" { // 2, 4, 7, 17
		return "ADOT", "no_order"
	}
	return "ADET", "operator"
}

// stateRows are the rows of equipment-state; the last one is open.
func (f *folded) stateRows() (rows []Row) {
	for i, v := range f.intervals {
		c := map[string]any{
			"equipment": f.of.name(), "line": f.of.line,
			"from": stamp(v.From), "to": stamp(v.To), "duration_seconds": seconds(v.To - v.From),
			"state": stateName(v.state), "state_number": v.state,
			"mode": modeName(v.mode), "mode_number": v.mode,
			"packml_state": nil, "packml_name": nil,
			"cause": v.cause, "element": nil, "reason": nil,
		}
		if i == len(f.intervals)-1 {
			c["to"] = nil
		}
		if v.known {
			c["packml_state"], c["packml_name"], c["element"] = v.packml, packmlName(v.packml), v.element
		}
		if v.reason != 0 {
			c["reason"] = v.reason
		}
		rows = append(rows, Row{EquipmentState, f.of.name(), c})
	}
	return rows
}

// during are the intervals that touch a stretch.
func (f *folded) during(s Span) []interval {
	first := sort.Search(len(f.intervals), func(i int) bool { return f.intervals[i].To > s.From })
	last := sort.Search(len(f.intervals), func(i int) bool { return f.intervals[i].From >= s.To })
	return f.intervals[first:max(first, last)]
}

func stamp(t int64) string {
	return time.Unix(0, t).UTC().Format("2006-01-02T15:04:05.000Z")
}

func seconds(ns int64) float64 { return float64(ns) / 1e9 }

func stateName(n int) string {
	return [...]string{"not_available", "out_of_service", "not_executing", "executing"}[n]
}

func modeName(n int) string {
	return [...]string{"none", "maintenance", "setup", "processing"}[n]
}

func packmlName(n int64) string {
	return [...]string{
		"Undefined", "Clearing", "Stopped", "Starting", "Idle", "Suspended", "Execute", "Stopping", "Aborting",
		"Aborted", "Holding", "Held", "Unholding", "Suspending", "Unsuspending", "Resetting", "Completing", "Complete",
	}[n]
}
