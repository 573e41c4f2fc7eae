package product

import (
	"math"
	"slices"

	"plantmesh/proto/mesh"
)

// maxWrap is the largest step over the end of a counter of 32 bits, signed or
// not, that still counts as a wrap; more is none.
const maxWrap = 1_000_000

// Interval is a maximal run of one tuple that has ended.
type Interval struct {
	mesh.Span

	Tuple Tuple
}

// Trace is what a fold left behind on its way.
type Trace struct {
	Intervals []Interval
	Edges     []Edge // at the end of every cell
}

// Fold takes st from st.At to until: it applies the events with
// st.At <= time < until, in the order of folding, in the light of what is
// known. Events outside are ignored. until is the end of what is known.
//
//	before          known                 gap          known
//	······K0━━━━━━━━━━━━━━━━━━━━━━━━━━━━━┄┄┄┄┄┄┄┄┄┄┄┄━━━━━━━━━━━━━P
//	silent │ baseline, tuple   counting  │ silent     │ baseline,   until
//	                                                    tuple anew
func (s *Site) Fold(st *State, events []Event, known []mesh.Span, until mesh.Nanos) Trace {
	f := folder{site: s, cellAt: s.Calendar.cell, st: st, known: known}
	f.begin(events)
	for f.step(until) {
	}
	return f.trace
}

// begin takes the events that are not in the state yet.
func (f *folder) begin(events []Event) {
	first, _ := slices.BinarySearchFunc(events, f.st.At, func(e Event, t mesh.Nanos) int {
		if e.Time < t {
			return -1
		}
		return 1
	})
	f.events = events[first:]
	f.span = firstAfter(f.known, f.st.At)
	if f.st.Phase != phaseBefore {
		f.cell = f.cellAt(f.st.At)
	}
}

func firstAfter(known []mesh.Span, t mesh.Nanos) int {
	i, _ := slices.BinarySearchFunc(known, t, func(s mesh.Span, t mesh.Nanos) int {
		if s.To <= t {
			return -1
		}
		return 1
	})
	return i
}

type folder struct {
	site   *Site
	cellAt func(mesh.Nanos) cell
	st     *State
	events []Event // those not applied yet
	known  []mesh.Span
	span   int  // the first known span that ends after st.At
	cell   cell // the open one; none before K0
	trace  Trace
}

// step goes to the next instant at which anything happens, and through it.
func (f *folder) step(until mesh.Nanos) bool {
	if f.st.At >= until {
		return false
	}
	if f.idle() {
		f.advance(min(until, f.next()))
		return true
	}
	n := 0
	for n < len(f.events) && f.events[n].Time == f.st.At {
		n++
	}
	now := f.events[:n]
	f.events = f.events[n:]
	f.instant(now)
	return true
}

// idle reports whether nothing is left to do at st.At.
func (f *folder) idle() bool {
	if len(f.events) > 0 && f.events[0].Time <= f.st.At {
		return false
	}
	return f.phase() == f.st.Phase
}

// phase is what st.At lies in.
func (f *folder) phase() phase {
	for f.span < len(f.known) && f.known[f.span].To <= f.st.At {
		f.span++
	}
	switch {
	case f.span < len(f.known) && f.known[f.span].Has(f.st.At):
		return phaseKnown
	case f.span == 0:
		return phaseBefore
	}
	return phaseGap
}

// next is the next instant at which anything can happen.
func (f *folder) next() mesh.Nanos {
	t := mesh.Nanos(math.MaxInt64)
	if len(f.events) > 0 {
		t = min(t, f.events[0].Time)
	}
	if f.span < len(f.known) {
		if k := f.known[f.span]; k.From > f.st.At {
			t = min(t, k.From)
		} else {
			t = min(t, k.To)
		}
	}
	if f.st.Phase != phaseBefore {
		t = min(t, f.cell.To)
	}
	return t
}

// advance accounts for the time up to t, in which nothing happens.
func (f *folder) advance(t mesh.Nanos) {
	st := f.st
	d, p := int64(t.Sub(st.At)), int64(0)
	if st.Phase != phaseBefore { // what is planned is known whether or not the machine is heard
		p = f.cell.planned(mesh.Span{From: st.At, To: t})
		st.Cell.Planned += p
	}
	if st.Phase == phaseKnown {
		st.Cell.Known += d
		st.Cell.Heard |= st.Regs.heard()
		if st.Tuple.Element != ElementNone {
			st.Cell.addTime(st.Tuple.Element, d-p)
		}
	}
	st.At = t
	if st.Phase != phaseBefore && t == f.cell.To {
		f.turn(t)
	}
}

// turn ends a cell and begins the next.
func (f *folder) turn(t mesh.Nanos) {
	done := Cell{From: f.cell.From, To: t, Totals: f.st.Cell.clone()}
	f.cell = f.cellAt(t)
	f.st.Cell, f.st.CellAt = Totals{}, f.cell.From
	f.trace.Edges = append(f.trace.Edges, Edge{State: f.st.Clone(), Cell: done})
}

// instant applies everything that happens at st.At together, then evaluates.
func (f *folder) instant(now []Event) {
	st, was := f.st, f.st.Phase
	st.Phase = f.phase()
	order, product := st.Regs.Order, st.Regs.Product
	switch {
	case was == phaseKnown && st.Phase == phaseKnown:
		f.count(now)
		st.Setup = st.Setup || order.changed(st.Regs.Order) || product.changed(st.Regs.Product)
		f.evaluate()
	case st.Phase == phaseKnown:
		f.silent(now)
		if was == phaseBefore {
			f.cell = f.cellAt(st.At)
			st.CellAt, st.From = f.cell.From, st.At
		} else {
			st.Setup = st.Setup || st.Order.changed(st.Regs.Order) || st.Product.changed(st.Regs.Product)
		}
		f.evaluate()
	case was == phaseKnown:
		st.Order, st.Product = order, product
		f.enter(unknownTuple())
		f.silent(now)
	default:
		f.silent(now)
	}
}

// forget drops what the registers hold: from here on other signals fill them.
func (f *folder) forget() {
	st := f.st
	st.Regs, st.Setup, st.Order, st.Product = registers{}, false, word{}, word{}
	if st.Phase == phaseKnown {
		f.evaluate()
	}
}

// evaluate makes the tuple from the registers.
func (f *folder) evaluate() {
	st := f.st
	if st.Regs.State.Has && st.Regs.State.int() == packmlExecute {
		st.Setup = false
	}
	in := inputs{
		packml: st.Regs.State.int(), hasPackml: st.Regs.State.Has, mode: packmlProduce,
		hasOrder: st.Regs.Order.Text != "", setup: st.Setup, reason: st.Regs.Reason.int(),
	}
	if st.Regs.Mode.Has {
		in.mode = st.Regs.Mode.int()
	}
	f.enter(in.tuple())
}

// enter begins a new interval where the tuple is another.
func (f *folder) enter(t Tuple) {
	st := f.st
	if t == st.Tuple {
		return
	}
	if st.From < st.At {
		f.trace.Intervals = append(f.trace.Intervals, Interval{mesh.Span{From: st.From, To: st.At}, st.Tuple})
	}
	st.Tuple, st.From = t, st.At
}

// silent updates the registers and nothing else: they become the baseline.
func (f *folder) silent(now []Event) {
	for i := range now {
		f.register(&now[i])
	}
}

// count updates the registers and counts what counters moved; all of one
// instant belongs to the product that holds after it.
func (f *folder) count(now []Event) {
	st, sum := f.st, Count{}
	for i := range now {
		e := &now[i]
		was := st.Regs
		if !f.register(e) {
			continue
		}
		switch e.Role {
		case RoleProduced:
			sum.Produced += f.moved(was.Produced, st.Regs.Produced)
		case RoleScrap:
			sum.Scrap += f.moved(was.Scrap, st.Regs.Scrap)
		case RoleEnergy:
			f.addEnergy(was.Energy, st.Regs.Energy)
		case RoleMode, RoleOrder, RoleProduct, RoleState, RoleStopReason, RoleOther:
		}
	}
	st.Cell.addCellCount(st.Regs.Product.Text, sum)
}

// moved is what a counter of 32 bits counted between two values: on, over its
// end, or from nothing after a reset.
func (f *folder) moved(was, now number) int64 {
	if !was.Has {
		return 0
	}
	prev, v := was.int(), now.int()
	if v >= prev {
		return v - prev
	}
	if w := v - prev + 1<<32; w >= 0 && w <= maxWrap {
		return w
	}
	if f.fell(v >= 0 && v < prev-v) {
		return v
	}
	return 0
}

// fell notes that a counter fell, and reports whether it began anew: it shows
// less than half of what it showed, and no negative number. From anything else,
// such as one item taken back, nothing can be said but where it goes on from.
func (f *folder) fell(anew bool) bool {
	if anew {
		f.st.Cell.Resets++
	} else {
		f.st.Cell.Backwards++
	}
	return anew
}

func (f *folder) addEnergy(was, now number) {
	if !was.Has {
		return
	}
	if f.site.EnergyInKJ {
		prev, v := was.int(), now.int()
		switch {
		case v >= prev:
			f.st.Cell.EnergyKJ += v - prev
		case f.fell(v >= 0 && v < prev-v):
			f.st.Cell.EnergyKJ += v
		}
		return
	}
	prev, v := was.float(), now.float()
	switch {
	case v >= prev:
		f.st.Cell.addEnergy(v - prev)
	case f.fell(v >= 0 && v < prev/2):
		f.st.Cell.addEnergy(v)
	}
}

// register keeps a value; it reports whether the register was written. A Bad
// state is no state; any other Bad value leaves its register as it was.
// Counters take Good values only: what an uncertain one hides, the next Good
// one shows, unless it is of another counter.
func (f *folder) register(e *Event) bool {
	r, v := &f.st.Regs, e.value()
	i, isInt := v.Int()
	switch e.Role {
	case RoleState:
		r.State = number{}
		if !e.Status.IsBad() && isInt {
			r.State = number{true, uint64(i)}
		}
		return true
	case RoleMode:
		return keep(&r.Mode, e, i, isInt)
	case RoleStopReason:
		return keep(&r.Reason, e, i, isInt)
	case RoleProduced:
		return counts(&r.Produced, e, i, isInt)
	case RoleScrap:
		return counts(&r.Scrap, e, i, isInt)
	case RoleEnergy:
		if f.site.EnergyInKJ {
			return counts(&r.Energy, e, i, isInt)
		}
		x, ok := v.Float()
		return counts(&r.Energy, e, int64(math.Float64bits(x)), ok && !math.IsNaN(x) && !math.IsInf(x, 0))
	case RoleOrder:
		return keepWord(&r.Order, e)
	case RoleProduct:
		return keepWord(&r.Product, e)
	case RoleOther:
	}
	return false
}

func keep(n *number, e *Event, bits int64, ok bool) bool {
	if !ok || e.Status.IsBad() {
		return false
	}
	*n = number{true, uint64(bits)}
	return true
}

// counts is keep for a counter. What says that other values come from here on makes the
// next one a baseline: what it shows more than the one before nobody made.
func counts(n *number, e *Event, bits int64, ok bool) bool {
	if e.Status&^statusInfo == mesh.StatusBadConfigurationError {
		*n = number{}
		return false
	}
	return e.Status.IsGood() && keep(n, e, bits, ok)
}

// statusInfo are the bits of a status that say how a value came (OPC 10000-4 §7.39.1).
const statusInfo = 0xFFFF

func keepWord(w *word, e *Event) bool {
	if e.Type != mesh.TypeString || e.Status.IsBad() {
		return false
	}
	*w = word{true, e.Text}
	return true
}
