package plant

import (
	"math"
	"math/rand/v2"
)

// PackML states (ISA-TR88.00.02) the machines go through.
const (
	clearing     = 1
	stopped      = 2
	starting     = 3
	idle         = 4
	suspended    = 5
	execute      = 6
	stopping     = 7
	aborting     = 8
	aborted      = 9
	holding      = 10
	held         = 11
	unholding    = 12
	suspending   = 13
	unsuspending = 14
	resetting    = 15
	completing   = 16
	complete     = 17
)

// PackML unit modes.
const (
	produce     = 1
	maintenance = 2
	manual      = 3
)

// forEver is the end of a step that ends by a condition, not by time.
const forEver = math.MaxInt64

// machine is one machine of a line. Its luck is its own, drawn in the order of
// its own ticks, so that nothing depends on how the plant is asked.
type machine struct {
	voice
	senses

	line  *line
	place int // in the line
	kind  string
	luck  *rand.Rand

	source string
	names  [roles]string

	state, mode, reason int64
	blocked, starved    bool
	script              []step // what follows the present step; after the last: execute
	stepEnd             int64
	number              int // of the order it makes
	order, product      string

	produced, scrap int64   // since the counter's zero, not wrapped
	energy          float64 // kWh since the counter's zero
	carry           float64 // the item in work
	skill           float64 // its best speed as a share of the ideal one
	slow            bool    // the conveyor behind is crowded
	wobble          float64 // of the speed just now

	serviceAt int64
	worn      bool // its bearing wears
	hasStuck  bool // its temperature sensor sticks now and then
}

// step is one PackML state of a script.
type step struct {
	state, mode, reason int64
	last                int64 // ms; forEver: until a condition
	deaf                bool  // the controller doesn't answer: its state is Bad
	begin               func(m *machine)
}

func newMachine(l *line, seed uint64, lineIndex, place int, kind string) *machine {
	m := &machine{line: l, place: place, kind: kind, source: SourceOf(l.name, kind)}
	m.luck = rand.New(rand.NewPCG(seed, uint64(100+10*lineIndex+place))) //nolint:gosec // a simulation must be repeatable
	for r, info := range roleTable() {
		m.names[r] = l.name + "." + kind + "." + info.name
	}
	m.state, m.mode, m.stepEnd = execute, produce, forEver
	m.number, m.order, m.product = l.number, l.order, l.product
	m.produced, m.scrap = m.between(1000, 5_000_000), m.between(10, 50_000)
	switch (place + lineIndex) % 4 { // some counters wrap in the first hours
	case 1:
		m.produced = math.MaxInt32 - m.between(1500, 40_000)
	case 2:
		if lineIndex == 0 {
			m.scrap = math.MaxInt32 - m.between(20, 400)
		}
	}
	m.energy = float64(m.between(1000, 900_000))
	m.skill = 0.93 + 0.1*m.luck.Float64()
	m.serviceAt = l.plant.start + m.between(4*hour, 40*hour)
	m.last = l.plant.start - 1
	m.feel(l.plant.start)
	m.sayAll()
	m.speak(l.plant.start)
	return m
}

func (m *machine) signals() (out []Signal) {
	for r, info := range roleTable() {
		out = append(out, Signal{Source: m.source, Name: m.names[r], Type: info.typ, Unit: info.unit})
	}
	return out
}

func (m *machine) between(from, to int64) int64 { return from + m.luck.Int64N(to-from) }

// chance is true once per mean, asked once a tick.
func (m *machine) chance(mean int64) bool { return m.luck.Int64N(mean/tick) == 0 }

// step simulates one tick from now.
func (m *machine) step(now, ticks int64, pause span) {
	switch m.state {
	case execute:
		if next, at := m.interruption(now, pause); next != nil {
			m.run(at - now)
			m.play(next, at)
		} else {
			m.run(tick)
		}
	case suspended:
		m.suspendedStep(now, pause)
	}
	for m.stepEnd < now+tick {
		m.advance(max(m.stepEnd, now))
	}
	m.sense(now, ticks)
}

// advance begins the next step of the script at an instant.
func (m *machine) advance(at int64) {
	s := step{state: execute, mode: produce, last: forEver}
	if len(m.script) > 0 {
		s, m.script = m.script[0], m.script[1:]
	}
	m.state, m.mode, m.reason = s.state, s.mode, s.reason
	if s.state != suspended && s.state != suspending {
		m.blocked, m.starved = false, false
	}
	if s.begin != nil {
		s.begin(m)
	}
	at = m.speak(max(at, m.last+1)) // what was heard before, at its own instant
	m.deaf = s.deaf
	m.sayState()
	m.sayCounters()
	at = m.speak(at)
	m.stepEnd = forEver
	if s.last != forEver {
		m.stepEnd = at + max(1, s.last)
	}
}

// play drops what was going on and begins a script at an instant.
func (m *machine) play(script []step, at int64) {
	m.script = script
	m.advance(at)
}

// suspendedStep waits for the reason to go away, at least three seconds.
func (m *machine) suspendedStep(now int64, pause span) {
	if now < m.said[rState].at+3*second {
		return
	}
	at := now + m.between(0, tick)
	if next := m.call(now, pause); next != nil {
		m.play(next, at)
		return
	}
	if m.blocked && m.line.space(m.place) >= conveyorItems-room || m.starved && m.line.worthwhile(m.place) {
		m.play([]step{{state: unsuspending, mode: produce, last: m.between(800, 2500)}}, at)
	}
}

// rate is items per second just now.
func (m *machine) rate() float64 {
	ideal, _ := IdealCycle(m.kind, m.product)
	switch load := m.line.load(m.place); {
	case load >= crowded:
		m.slow = true
	case load <= relaxed:
		m.slow = false
	}
	r := m.skill * (1 + m.wobble) / ideal
	if m.slow {
		r *= 0.8
	}
	return r
}

// run works for some milliseconds with what is there.
func (m *machine) run(ms int64) {
	m.carry += m.rate() * float64(ms) / float64(second)
	items := min(int(m.carry), m.line.waiting(m.place), m.line.space(m.place))
	m.carry = math.Min(m.carry-float64(items), 1)
	bad := 0
	if m.luck.Float64() < 0.012*float64(items) {
		bad = min(items, 1)
	}
	m.produced += int64(items)
	m.scrap += int64(bad)
	m.line.move(m.place, items, items-bad)
}

// Int32 counters wrap (2^31-1 is followed by -2^31).
func wrapped(total int64) int64 { return int64(int32(uint32(uint64(total)))) }
