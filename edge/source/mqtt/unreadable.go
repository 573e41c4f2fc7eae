package mqtt

import (
	"fmt"
	"time"

	"plantmesh/edge/source"
	"plantmesh/edge/source/mqtt/link"
	"plantmesh/edge/source/mqtt/mapping"
	"plantmesh/proto/mesh"
)

const (
	// maxParts bounds the parts of one void; the last counts the rest.
	maxParts = 64
	// maxReasons bounds the voids of one window; the last counts the rest.
	maxReasons = 8
	// quoted is how much of an unreadable payload the void's note shows.
	quoted = link.Quoted
)

// refusals are what could not be taken in one window: a void for each reason.
type refusals struct {
	reasons []string
	voids   []mesh.Void
	mixed   bool // the last void counts other reasons too
}

// add counts values that were refused at a place in time.
func (x *refusals) add(f mapping.Flaw, topic string, payload []byte, part mesh.Part) {
	v := x.of(f.Fault.Error(), topic, payload)
	part.Count = uint64(f.Count)
	for i := range v.Parts {
		o := &v.Parts[i]
		if o.Times == part.Times || o.Times.Empty() && part.Times.Empty() {
			o.Count += part.Count
			return
		}
	}
	if n := len(v.Parts); n == maxParts {
		// Where they lie is told by the samples; a stretch around all of them
		// would take good values with it.
		last := &v.Parts[n-1]
		last.Times.To = last.Times.From
		last.Count += part.Count
		return
	}
	v.Parts = append(v.Parts, part)
}

// of is the void for a reason.
func (x *refusals) of(reason, topic string, payload []byte) *mesh.Void {
	for i, r := range x.reasons {
		if r == reason {
			return &x.voids[i]
		}
	}
	if len(x.voids) == maxReasons {
		x.mixed = true
		return &x.voids[maxReasons-1]
	}
	x.reasons = append(x.reasons, reason)
	x.voids = append(x.voids, mesh.Void{
		Cause: mesh.CauseUnreadable,
		Note:  fmt.Sprintf("topic %.200q: %s: %q", topic, reason, payload[:min(len(payload), quoted)]),
	})
	return &x.voids[len(x.voids)-1]
}

// take empties x.
func (x *refusals) take() (out []mesh.Void) {
	out = x.voids
	if x.mixed {
		out[maxReasons-1].Note = "several reasons, the first: " + out[maxReasons-1].Note
	}
	*x = refusals{}
	return out
}

// unreadable notes what could not be taken of a payload, for the window's voids.
// A payload of which nobody knows what it said makes every signal of its topic Bad.
func (in *intake) unreadable(r *mapping.Route, got *mapping.Reading, p *link.Packet, now mesh.Nanos) {
	dark := mesh.Span{From: now, To: now}
	if got.Lost {
		samples, at := in.mapper.Blackout(r, got.Flaws[0].Fault, in.sealer.Proof(), now)
		for _, m := range samples {
			in.add(m)
		}
		dark = mesh.Span{From: at, To: at}
	}
	for _, f := range got.Flaws {
		part := mesh.Part{Source: in.cfg.ID, Times: dark}
		if f.Time != 0 && !source.Suspect(f.Time, now) && now.Sub(f.Time) <= source.MaxBehind {
			part.Times = mesh.Span{From: f.Time, To: f.Time.Add(time.Millisecond)}
		}
		in.counters.unreadable += uint64(f.Count)
		in.bad.add(f, string(p.Topic), p.Payload, part)
	}
}
