package plant

// What happens to a machine: scripts of PackML states.

// Stop reasons, as the machines give them.
const (
	reasonBreak       = 900
	reasonService     = 800
	reasonChangeover  = 700
	reasonNoOrder     = 710
	reasonStarved     = 601
	reasonBlocked     = 602
	reasonBreakdown   = 500 // and up: which one
	reasonMicroStop   = 100 // and up: which one
	breakdowns        = 12
	microStops        = 20
	meanBreakdown     = 7 * hour
	meanMicroStop     = 14 * minute
	shareDeaf         = 5 // one breakdown in so many silences the controller
	shareCounterReset = 6 // one changeover in so many resets the counters
)

// interruption is what ends the present run within this tick, and when.
func (m *machine) interruption(now int64, pause span) (script []step, at int64) {
	at = now + m.between(1, tick)
	if script := m.call(now, pause); script != nil {
		return script, at
	}
	switch {
	case m.chance(meanBreakdown):
		return m.breakdown(), at
	case m.chance(meanMicroStop):
		return m.microStop(), at
	case m.line.waiting(m.place) == 0:
		return m.suspend(reasonStarved), at
	case m.line.space(m.place) <= 4:
		return m.suspend(reasonBlocked), at
	}
	return nil, 0
}

// call is what people ask of a running or waiting machine.
func (m *machine) call(now int64, pause span) []step {
	switch {
	case now >= pause.from+m.lateness(pause) && now < pause.to-minute:
		return m.takeBreak(now, pause)
	case m.line.due(m.place):
		return m.changeover(now)
	case now >= m.serviceAt:
		return m.service(now)
	}
	return nil
}

// lateness of the operator at a break: the same one however often asked.
func (m *machine) lateness(pause span) int64 {
	return (pause.from/minute*7919 + int64(m.place)*104729 + int64(m.line.machines[0].number)*31) % 40 * second
}

func (m *machine) takeBreak(now int64, pause span) []step {
	wait := pause.to - now + m.between(-20*second, 90*second)
	return []step{
		{state: stopping, mode: produce, reason: reasonBreak, last: m.between(1500, 5000)},
		{state: stopped, mode: produce, reason: reasonBreak, last: max(30*second, wait)},
		{state: resetting, mode: produce, reason: reasonBreak, last: m.between(4, 15) * second},
		{state: starting, mode: produce, last: m.between(5, 20) * second},
	}
}

func (m *machine) microStop() []step {
	reason := reasonMicroStop + 1 + m.luck.Int64N(microStops)
	return []step{
		{state: holding, mode: produce, reason: reason, last: m.between(400, 1500)},
		{state: held, mode: produce, reason: reason, last: m.between(10, 110) * second},
		{state: unholding, mode: produce, reason: reason, last: m.between(500, 2000)},
	}
}

func (m *machine) suspend(reason int64) []step {
	return []step{
		{state: suspending, mode: produce, reason: reason, last: m.between(500, 1500), begin: func(m *machine) {
			m.blocked, m.starved = reason == reasonBlocked, reason == reasonStarved
		}},
		{state: suspended, mode: produce, reason: reason, last: forEver},
	}
}

func (m *machine) breakdown() []step {
	reason := reasonBreakdown + 1 + m.luck.Int64N(breakdowns)
	down := m.between(50, 600) * second
	script := []step{
		{state: aborting, mode: produce, reason: reason, last: m.between(500, 2500)},
		{state: aborted, mode: produce, reason: reason, last: down},
		{state: clearing, mode: produce, reason: reason, last: m.between(20, 90) * second},
		{state: stopped, mode: produce, reason: reason, last: m.between(10, 60) * second},
		{state: resetting, mode: produce, reason: reason, last: m.between(5, 25) * second},
		{state: starting, mode: produce, last: m.between(5, 20) * second},
	}
	if m.luck.IntN(shareDeaf) == 0 {
		deaf := step{state: aborted, mode: produce, reason: reason, last: m.between(20, 90) * second, deaf: true}
		script = append(script[:2:2], append([]step{deaf}, script[1:]...)...)
	}
	return script
}

func (m *machine) service(now int64) []step {
	m.serviceAt = now + m.between(30*hour, 60*hour)
	work := m.between(25, 60) * minute
	newMeter := m.luck.IntN(3) == 0
	return []step{
		{state: stopping, mode: produce, reason: reasonService, last: m.between(1500, 5000)},
		{state: stopped, mode: maintenance, reason: reasonService, last: work, begin: func(m *machine) {
			if newMeter {
				m.sayCounters()
				m.energy = 0
			}
		}},
		{state: resetting, mode: maintenance, reason: reasonService, last: m.between(10, 60) * second},
		{state: resetting, mode: produce, last: m.between(5, 15) * second},
		{state: starting, mode: produce, last: m.between(5, 20) * second},
	}
}

// changeover takes the line's next order. Where there was none, the machine
// stands without an order until there is one again.
func (m *machine) changeover(now int64) []step {
	m.number = m.line.number
	order, product := m.line.order, m.line.product
	script := []step{
		{state: completing, mode: produce, last: m.between(3, 12) * second},
		{state: complete, mode: produce, reason: reasonChangeover, last: m.between(15, 60) * second},
	}
	if lull := m.line.startAt - now; lull > 2*minute {
		script = append(script, step{state: idle, mode: produce, reason: reasonNoOrder, last: lull, begin: func(m *machine) { m.order = "" }})
	}
	work := m.between(6, 14) * minute
	if m.place == 0 {
		work = m.between(10, 22) * minute
	}
	reset := m.luck.IntN(shareCounterReset) == 0
	return append(script,
		step{state: stopped, mode: manual, reason: reasonChangeover, last: work, begin: func(m *machine) {
			m.order, m.product = order, product
			if reset {
				m.resetCounters()
			}
		}},
		step{state: resetting, mode: produce, reason: reasonChangeover, last: m.between(10, 40) * second},
		step{state: starting, mode: produce, last: m.between(5, 20) * second},
	)
}

// resetCounters is somebody pressing the key. Not on a counter that shows a
// negative number: from there zero looks like two thousand million items.
func (m *machine) resetCounters() {
	if wrapped(m.produced) < 0 || wrapped(m.scrap) < 0 {
		return
	}
	m.sayCounters()
	m.speak(m.last + 1) // the final counts leave first
	m.produced, m.scrap = 0, 0
}
