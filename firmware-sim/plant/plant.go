// Package plant is a bottling plant that never was: three lines of four
// machines, a pure function of (seed, plant time). It says what happened as
// emissions; the folder truth computes from those what every product must say.
//
//	filler ─►(conveyor)─► capper ─►(conveyor)─► labeller ─►(conveyor)─► palletiser
//
// Conveyors are finite: a stopped capper fills the first one, which blocks the
// filler, and drains the second, which starves the labeller.
//
// Next: edge/source
package plant

import (
	"cmp"
	"errors"
	"math/rand/v2"
	"slices"
	"time"
)

// Config says which plant.
type Config struct {
	Seed  uint64
	Start time.Time // whole milliseconds; every signal's first value
	Stop  time.Time // nothing happens after it; zero: runs for ever
}

// tick is the step of the simulation. What happens inside one has its own
// millisecond.
const tick = int64(1000)

// Plant implements Feed. Not safe for concurrent use.
type Plant struct {
	start, stop int64 // ms; stop is 0 where none
	now         int64 // the next tick to simulate
	ticks       int64
	lines       []*line
	breaks      *breaks
	signals     []Signal
	pending     []queued
	made        uint64            // order of making, to break ties of Emitted
	index       map[string]uint64 // by source
}

// queued is an emission on its way out.
type queued struct {
	emitted int64
	made    uint64
	e       Emission
}

// New assembles a plant at its start.
func New(cfg Config) (*Plant, error) {
	if cfg.Start.Nanosecond()%int(time.Millisecond) != 0 || cfg.Stop.Nanosecond()%int(time.Millisecond) != 0 {
		return nil, errors.New("start the plant: start and stop must be whole milliseconds")
	}
	if !cfg.Stop.IsZero() && cfg.Stop.Before(cfg.Start) {
		return nil, errors.New("start the plant: it would stop before it starts")
	}
	b, err := newBreaks(cfg.Start)
	if err != nil {
		return nil, err
	}
	p := &Plant{start: cfg.Start.UnixMilli(), breaks: b, index: map[string]uint64{}}
	p.now = p.start
	if !cfg.Stop.IsZero() {
		p.stop = cfg.Stop.UnixMilli()
	}
	luck := rand.New(rand.NewPCG(cfg.Seed, 0)) //nolint:gosec // a simulation must be repeatable
	worn, stuck := luck.IntN(len(Lines())*len(Machines())), luck.IntN(len(Lines())*len(Machines()))
	for i, name := range Lines() {
		p.lines = append(p.lines, newLine(p, cfg.Seed, i, name))
	}
	for i, m := range p.machines() {
		m.worn, m.hasStuck = i == worn, i == stuck
		p.signals = append(p.signals, m.signals()...)
	}
	return p, nil
}

func (p *Plant) machines() (all []*machine) {
	for _, l := range p.lines {
		all = append(all, l.machines...)
	}
	return all
}

// Signals implements Feed.
func (p *Plant) Signals() []Signal { return slices.Clone(p.signals) }

// Until implements Feed.
func (p *Plant) Until(t time.Time) []Emission {
	until := t.UnixMilli()
	for p.now <= until && (p.stop == 0 || p.now <= p.stop) {
		p.step()
	}
	slices.SortFunc(p.pending, func(a, b queued) int {
		return cmp.Or(cmp.Compare(a.emitted, b.emitted), cmp.Compare(a.made, b.made))
	})
	n, _ := slices.BinarySearchFunc(p.pending, until+1, func(q queued, t int64) int { return cmp.Compare(q.emitted, t) })
	out := make([]Emission, n)
	for i := range out {
		out[i] = p.pending[i].e
		p.index[out[i].Source]++
		out[i].Index = p.index[out[i].Source]
	}
	p.pending = slices.Delete(p.pending, 0, n)
	return out
}

// step simulates one tick. Everything it makes is emitted at p.now or later,
// so what Until returned before stays what it was.
func (p *Plant) step() {
	pause := p.breaks.current(p.now)
	for _, l := range p.lines {
		l.step(p.now, p.ticks, pause)
	}
	p.now += tick
	p.ticks++
}

// emit queues one sample; what happens after the stop never happened.
func (p *Plant) emit(at, emitted int64, e Emission) {
	if p.stop != 0 && at > p.stop {
		return
	}
	e.Time, e.Emitted = time.UnixMilli(at).UTC(), time.UnixMilli(emitted).UTC()
	p.made++
	p.pending = append(p.pending, queued{emitted, p.made, e})
}
