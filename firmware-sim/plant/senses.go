package plant

import "math"

// senses are what a machine feels: temperature, vibration, motor current,
// energy. Analog values move slowly and are said when they moved enough.
type senses struct {
	heat, shake, amps float64
	wear              float64 // mm/s on top, where the bearing wears
	stuck             span    // the temperature sensor is stuck
	lost              int64   // the temperature sensor is lost until then
}

// Ticks between looks. Counters: what a line controller typically polls.
const (
	everyCounter = 5
	everySense   = 8
	everyEnergy  = 16
)

// Deadbands, in the unit of the signal.
const (
	heatBand  = 0.2
	shakeBand = 0.12
	ampsBand  = 0.3
)

// feel begins the senses.
func (m *machine) feel(now int64) {
	m.heat, m.shake, m.amps = 45, 2, 14
	m.stuck.from = now + m.between(2*hour, 10*hour)
	m.stuck.to = m.stuck.from + m.between(3*hour, 8*hour)
}

// sense updates what is felt and reports what moved.
func (m *machine) sense(now, ticks int64) {
	m.energy += m.amps * 0.4 * 1.732 * 0.85 / 3600 // kWh in a second at 400 V, three phases, cos phi 0.85
	phase := ticks + int64(3*m.place)
	at := now + m.between(0, tick)
	if at <= m.last {
		return // the machine has just spoken; next time
	}
	if phase%everySense == 0 {
		m.drift(now)
	}
	if phase%everyCounter == 0 && m.state == execute {
		m.say(rProduced, Value{Type: Int, I: wrapped(m.produced)})
		m.say(rScrap, Value{Type: Int, I: wrapped(m.scrap)})
	}
	if phase%everyEnergy == 0 {
		m.wobble = 0.03 * (m.luck.Float64() - 0.5)
		m.say(rEnergy, number(m.energy, 1000))
		m.saySpeed()
	}
	m.speak(at)
}

// drift moves the analog values and says those beyond their deadband.
func (m *machine) drift(now int64) {
	heat, shake, amps := 26.0, 0.3, 2.5
	if m.state == execute {
		heat, shake, amps = 46, 2, 14
	}
	if m.worn {
		m.wear += 0.00025
		if m.state == execute {
			shake += m.wear
			heat += 2 * m.wear
		}
	}
	m.heat += (heat-m.heat)*0.02 + m.noise(0.12)
	m.shake += (shake-m.shake)*0.5 + m.noise(0.08)
	m.amps += (amps-m.amps)*0.6 + m.noise(0.2)
	m.shake, m.amps = math.Max(0.05, m.shake), math.Max(0.2, m.amps)
	m.sayHeat(now)
	m.sayIfMoved(rVibration, number(m.shake, 100), shakeBand)
	m.sayIfMoved(rCurrent, number(m.amps, 10), ampsBand)
}

func (m *machine) sayHeat(now int64) {
	switch {
	case m.hasStuck && now >= m.stuck.to:
		m.stuck.from = now + m.between(12*hour, 24*hour)
		m.stuck.to = m.stuck.from + m.between(3*hour, 8*hour)
	case m.hasStuck && now >= m.stuck.from, now < m.lost:
		return
	case m.luck.IntN(20_000) == 0:
		m.lost = now + m.between(1, 5)*minute
		m.sayWith(rTemperature, Value{}, BadNoData)
		return
	}
	m.sayIfMoved(rTemperature, number(m.heat, 10), heatBand)
}

func (m *machine) sayIfMoved(r role, v Value, band float64) {
	if s := &m.said[r]; s.status != Good || math.Abs(s.value.F-v.F) >= band {
		m.say(r, v)
	}
}

// noise is symmetric, with this standard deviation, near enough.
func (m *machine) noise(deviation float64) float64 {
	return deviation * 1.7 * (m.luck.Float64() + m.luck.Float64() - 1) * 1.44
}
