package sparkplug

import (
	"slices"
	"time"

	"plantmesh/firmware-sim/plant"
)

// roomy is an empty line's room, in entries, that is given back.
const roomy = 1 << 14

// entry is an emission on its way.
type entry struct {
	metric  *metric // nil: nothing but the clock
	at      int64   // ms, plant: when it happened
	emitted int64   // ms, plant: when it left the machine
	status  uint32
	told    bool // the broker has it
	value   plant.Value
	sent    time.Duration // machine, since the server began
}

// of reports whether an entry is one of a device.
func (e *entry) of(d *device) bool { return e.metric != nil && e.metric.device == d }

// line is a queue of entries.
type line struct {
	all  []entry
	head int
}

func (l *line) len() int         { return len(l.all) - l.head }
func (l *line) get(i int) *entry { return &l.all[l.head+i] }
func (l *line) push(e entry)     { l.all = append(l.all, e) }

// skip takes n entries away in front.
func (l *line) skip(n int) {
	clear(l.all[l.head : l.head+n]) // they hold texts
	l.head += n
	switch {
	case l.head == len(l.all) && cap(l.all) > roomy:
		*l = line{}
	case l.head == len(l.all):
		l.all, l.head = l.all[:0], 0
	case l.head > 1024 && l.head > len(l.all)/2:
		l.all = slices.Delete(l.all, 0, l.head)
		l.head = 0
	}
}

// precede puts other's entries in front of l's, and empties it.
func (l *line) precede(other *line) {
	if other.len() > 0 {
		l.all = append(other.all[other.head:len(other.all):len(other.all)], l.all[l.head:]...)
		l.head = 0
	}
	*other = line{}
}
