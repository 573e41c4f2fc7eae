package product

import (
	"maps"
	"slices"

	"plantmesh/proto/mesh"
)

// Voices is what is known of one source by every agent's log it was heard in:
// a gateway that was replaced leaves one behind. Positions of two logs can't be
// compared, so each is known for itself: an instant is known where any log
// proved it, and complete where every log that was heard says so, because what
// one agent still holds no other can know. An agent that never comes back is
// retired by a fact; until then what it may hold leaves rows provisional.
type Voices struct {
	Of map[mesh.LogID]*Known
	// Watermark never falls: a log that is heard for the first time can't make
	// open what was final.
	Watermark mesh.Nanos
}

// Log is what is known by one log.
func (v *Voices) Log(log mesh.LogID) *Known {
	if v.Of == nil {
		v.Of = map[mesh.LogID]*Known{}
	}
	k := v.Of[log]
	if k == nil {
		k = &Known{}
		v.Of[log] = k
	}
	return k
}

// Settle finds the watermark anew. retired says which logs are not waited for.
func (v *Voices) Settle(retired func(mesh.LogID) bool) {
	least, waited := mesh.Nanos(0), false
	for log, k := range v.Of {
		if !k.Spoke || retired(log) {
			continue
		}
		if !waited || k.Watermark < least {
			least, waited = k.Watermark, true
		}
	}
	if !waited { // all are retired: more than is known can't come
		_, least = Extent(v.Spans())
	}
	v.Watermark = max(v.Watermark, least)
}

// Spoke reports whether any log has a batch of the source.
func (v *Voices) Spoke() bool {
	for _, k := range v.Of {
		if k.Spoke {
			return true
		}
	}
	return false
}

// Spans is what is known: sorted, disjoint, none touching another.
func (v *Voices) Spans() []mesh.Span {
	var all []mesh.Span
	for _, k := range v.Of {
		all = append(all, k.Spans()...)
	}
	return mesh.Joined(all)
}

// cause is the last void that meets the gap: in one log the one with the
// highest position, of several logs the one that reaches furthest.
func (v *Voices) cause(gap mesh.Span) (why Lost, ok bool) {
	why = Lost{Cause: CauseUnproven}
	for _, log := range slices.Sorted(maps.Keys(v.Of)) {
		if l, found := v.Of[log].cause(gap); found && (!ok || l.To > why.To) {
			why, ok = l, true
		}
	}
	return why, ok
}

// lostSince is where the earliest void before an instant begins: a hub that lost
// everything is told so of what its agents keep no more. One that doesn't say
// since when names nothing.
func (v *Voices) lostSince(first mesh.Nanos) (from mesh.Nanos, ok bool) {
	for _, k := range v.Of {
		for _, l := range k.Voids {
			if l.From > 0 && l.From < first && (!ok || l.From < from) {
				from, ok = l.From, true
			}
		}
	}
	return from, ok
}
