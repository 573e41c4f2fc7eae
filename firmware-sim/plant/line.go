package plant

import (
	"fmt"
	"math/rand/v2"
)

const (
	second = int64(1000)
	minute = 60 * second
	hour   = 60 * minute
)

// A conveyor holds about two minutes of items.
const (
	conveyorItems = 400
	enough        = 120 // a starved machine starts again from here
	room          = 280 // a blocked machine starts again below here
	crowded       = 240 // above it the machine before runs slower
	relaxed       = 120 // below it the machine before runs at full speed again
)

// line is four machines and the three conveyors between them. An order runs
// down the line: the filler changes over first, each other machine when what
// the old order left before it is gone.
type line struct {
	plant    *Plant
	name     string
	luck     *rand.Rand
	machines []*machine
	conveyor [3]int // items on the conveyor behind machine i

	number   int // of the order the line shall make
	order    string
	product  string
	changeAt int64 // when the next order is called
	startAt  int64 // when there is something to do again after a lull; 0: no lull
}

func newLine(p *Plant, seed uint64, index int, name string) *line {
	l := &line{plant: p, name: name, luck: rand.New(rand.NewPCG(seed, uint64(1+index)))} //nolint:gosec // a simulation must be repeatable
	l.nextOrder(p.start)
	l.changeAt -= l.between(0, 2*hour) // some order was running already
	for i, kind := range Machines() {
		l.machines = append(l.machines, newMachine(l, seed, index, i, kind))
	}
	for i := range l.conveyor {
		l.conveyor[i] = conveyorItems / 3
	}
	return l
}

func (l *line) between(from, to int64) int64 { return from + l.luck.Int64N(to-from) }

// nextOrder calls another order with another product.
func (l *line) nextOrder(now int64) {
	choice := make([]string, 0, len(Products()))
	for _, p := range Products() {
		if p != l.product {
			choice = append(choice, p)
		}
	}
	l.number++
	l.product = choice[l.luck.IntN(len(choice))]
	l.order = fmt.Sprintf("FA-%s%05d", l.name[len(l.name)-1:], 10000*l.luck.IntN(9)+l.number)
	l.changeAt = now + l.between(3*hour, 6*hour)
	l.startAt = 0
	if l.luck.IntN(3) == 0 {
		l.startAt = now + l.between(15*minute, 50*minute)
	}
}

func (l *line) step(now, ticks int64, pause span) {
	if now >= l.changeAt && l.settled() {
		l.nextOrder(now)
	}
	for _, m := range l.machines {
		m.step(now, ticks, pause)
	}
}

// settled reports whether every machine makes the line's order.
func (l *line) settled() bool {
	for _, m := range l.machines {
		if m.number != l.number {
			return false
		}
	}
	return true
}

// waiting is what lies ready before machine i.
func (l *line) waiting(i int) int {
	if i == 0 {
		return conveyorItems // bottles never run out
	}
	return l.conveyor[i-1]
}

// worthwhile reports whether enough lies before machine i to start again: all
// that will come, where the machine before makes another order already.
func (l *line) worthwhile(i int) bool {
	n := l.waiting(i)
	return n >= enough || n > 0 && l.machines[i-1].number > l.machines[i].number
}

// space is how many items machine i can get rid of. While the next machine
// still works off an older order the conveyor takes nothing of the new one.
func (l *line) space(i int) int {
	if i == len(l.conveyor) {
		return conveyorItems // pallets always leave
	}
	if l.machines[i+1].number < l.machines[i].number {
		return 0
	}
	return conveyorItems - l.conveyor[i]
}

// load is how full the conveyor behind machine i is.
func (l *line) load(i int) int {
	if i == len(l.conveyor) {
		return 0
	}
	return l.conveyor[i]
}

// move takes items from before machine i and puts good ones behind it.
func (l *line) move(i, taken, good int) {
	if i > 0 {
		l.conveyor[i-1] -= taken
	}
	if i < len(l.conveyor) {
		l.conveyor[i] += good
	}
}

// due reports whether machine i shall change over to the line's next order.
func (l *line) due(i int) bool {
	m := l.machines[i]
	if i == 0 {
		return m.number < l.number
	}
	return m.number < l.machines[i-1].number && l.conveyor[i-1] == 0
}
