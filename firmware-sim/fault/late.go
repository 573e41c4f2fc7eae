// Package fault breaks the devices on command. Faults are part of a
// simulator's configuration, so the same file is the same plant for ever.
package fault

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"plantmesh/firmware-sim/plant"
)

// Late is a stretch in which a device can't get rid of what it has to say and
// keeps it: what the signals under Prefix say at From or later and before To
// leaves at Until at the earliest, much later than any listener was told to
// wait for. The device itself is heard all the while.
type Late struct {
	Prefix          string
	From, To, Until time.Time
}

// late is a feed some of whose emissions leave late.
type late struct {
	feed   plant.Feed
	faults []Late
	held   []plant.Emission // in order of Emitted
	index  map[string]uint64
}

// Delay is f with some of its emissions late. Those that leave at one instant
// keep their order. It owns f.
func Delay(f plant.Feed, faults []Late) plant.Feed {
	if len(faults) == 0 {
		return f
	}
	return &late{feed: f, faults: faults, index: map[string]uint64{}}
}

// Signals implements plant.Feed.
func (l *late) Signals() []plant.Signal { return l.feed.Signals() }

// Until implements plant.Feed.
func (l *late) Until(t time.Time) []plant.Emission {
	all := slices.Concat(l.held, l.feed.Until(t))
	for i := range all {
		all[i].Emitted = l.leaves(&all[i])
	}
	slices.SortStableFunc(all, func(a, b plant.Emission) int { return cmp.Compare(a.Emitted.UnixNano(), b.Emitted.UnixNano()) })
	n, _ := slices.BinarySearchFunc(all, t, func(e plant.Emission, t time.Time) int {
		if e.Emitted.After(t) {
			return 1
		}
		return -1
	})
	l.held = slices.Clone(all[n:])
	for i := range all[:n] {
		l.index[all[i].Source]++
		all[i].Index = l.index[all[i].Source]
	}
	return all[:n:n]
}

func (l *late) leaves(e *plant.Emission) time.Time {
	at := e.Emitted
	for _, f := range l.faults {
		if strings.HasPrefix(e.Signal, f.Prefix) && !e.Time.Before(f.From) && e.Time.Before(f.To) && f.Until.After(at) {
			at = f.Until
		}
	}
	return at
}
