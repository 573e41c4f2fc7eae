package plant

import (
	"math"
	"slices"
)

// voice is how a machine reports: by exception, all that changed at one
// instant together.
type voice struct {
	last int64 // ms; each instant is later than the one before it
	said [roles]saying
	now  []utterance
	deaf bool
}

// saying is the last a signal said.
type saying struct {
	value  Value
	status uint32
	at     int64
	ever   bool
}

type utterance struct {
	role   role
	value  Value
	status uint32
}

// Lateness of samples: some instants and some single samples are late, a few
// samples come twice. Never by more than Disorder.
const (
	oneInstantLate = 90
	oneSampleLate  = 110
	oneSampleTwice = 400
)

func (m *machine) say(r role, v Value) { m.sayWith(r, v, Good) }

func (m *machine) sayWith(r role, v Value, status uint32) {
	m.now = slices.DeleteFunc(m.now, func(u utterance) bool { return u.role == r })
	if s := &m.said[r]; s.ever && s.value == v && s.status == status {
		return
	}
	m.now = append(m.now, utterance{r, v, status})
}

// speak emits what was said at an instant, at the earliest after the one
// before, and returns that instant.
func (m *machine) speak(at int64) int64 {
	if len(m.now) == 0 {
		return at
	}
	at = max(at, m.last+1, m.line.plant.now)
	m.last = at
	var all int64
	first := at == m.line.plant.start
	if !first && m.luck.IntN(oneInstantLate) == 0 {
		all = m.lateBy()
	}
	for _, u := range m.now {
		m.said[u.role] = saying{u.value, u.status, at, true}
		late := all
		if !first && m.luck.IntN(oneSampleLate) == 0 {
			late = m.lateBy()
		}
		e := Emission{Source: m.source, Signal: m.names[u.role], Status: u.status, Value: u.value}
		m.line.plant.emit(at, at+late, e)
		if !first && m.luck.IntN(oneSampleTwice) == 0 {
			m.line.plant.emit(at, at+m.between(late, Disorder.Milliseconds()), e)
		}
	}
	m.now = m.now[:0]
	return at
}

func (m *machine) lateBy() int64 { return m.between(20, Disorder.Milliseconds()) }

func (m *machine) sayAll() {
	m.sayState()
	m.sayCounters()
	m.say(rTemperature, number(m.heat, 10))
	m.say(rVibration, number(m.shake, 100))
	m.say(rCurrent, number(m.amps, 10))
}

func (m *machine) sayState() {
	if m.deaf {
		m.sayWith(rState, Value{}, BadNoData)
	} else {
		m.say(rState, Value{Type: Int, I: m.state})
	}
	m.say(rMode, Value{Type: Int, I: m.mode})
	m.say(rReason, Value{Type: Int, I: m.reason})
	m.say(rOrder, Value{Type: String, S: m.order})
	m.say(rProduct, Value{Type: String, S: m.product})
	m.say(rBlocked, Value{Type: Bool, B: m.blocked})
	m.say(rStarved, Value{Type: Bool, B: m.starved})
	m.saySpeed()
}

func (m *machine) saySpeed() {
	speed := 0.0
	if m.state == execute {
		speed = 60 * m.rate()
	}
	m.say(rSpeed, number(speed, 10))
}

func (m *machine) sayCounters() {
	m.say(rProduced, Value{Type: Int, I: wrapped(m.produced)})
	m.say(rScrap, Value{Type: Int, I: wrapped(m.scrap)})
	m.say(rEnergy, number(m.energy, 1000))
}

// number is a value as a device rounds it: to one part in so many.
func number(v, parts float64) Value {
	return Value{Type: Double, F: math.Round(v*parts) / parts}
}
