package sparkplug

import (
	"fmt"
	"slices"
	"time"

	"plantmesh/proto/mesh"
)

const (
	// maxParts bounds the parts of one void; the last counts the rest.
	maxParts = 64
	// maxReasons bounds the voids of one window that say what could not be taken; the
	// last counts the rest.
	maxReasons = 8
	// maxGaps bounds the voids of one window that say what was not heard of a node; the
	// last counts the rest.
	maxGaps = 64
	// quoted is how much of a message the void's note shows.
	quoted = 200
)

// refusals are what could not be taken in one window, a void for each reason, and what
// was not heard, a void for each node.
type refusals struct {
	reasons []string
	voids   []mesh.Void
	mixed   bool // the last void counts other reasons too
	gaps    []mesh.Void
	more    int // gaps that are counted in the last one
}

func (x *refusals) empty() bool { return len(x.voids) == 0 && len(x.gaps) == 0 }

// first is what is said first.
func (x *refusals) first() string {
	if len(x.gaps) > 0 {
		return x.gaps[0].Note
	}
	return x.voids[0].Note
}

// add counts values that were refused at an instant.
func (x *refusals) add(reason, topic string, payload []byte, part mesh.Part) {
	v := x.of(reason, topic, payload)
	for i := range v.Parts {
		if v.Parts[i].Times == part.Times {
			v.Parts[i].Count += part.Count
			return
		}
	}
	if n := len(v.Parts); n == maxParts {
		v.Parts[n-1].Count += part.Count
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
	note := fmt.Sprintf("%.300q: %s", topic, reason)
	if len(payload) > 0 {
		note += fmt.Sprintf(": %q", payload[:min(len(payload), quoted)])
	}
	x.voids = append(x.voids, mesh.Void{Cause: mesh.CauseUnreadable, Note: note})
	return &x.voids[len(x.voids)-1]
}

// gap notes that a node was not heard for a stretch. The stretch stands in the note: as
// one of the void it would make everybody's values unknown. Those of this node say
// themselves that they are.
func (x *refusals) gap(part mesh.Part, node string, span mesh.Span, why string) {
	if len(x.gaps) == maxGaps {
		last := &x.gaps[maxGaps-1]
		if x.more++; len(last.Parts) < maxParts {
			last.Parts = append(last.Parts, part)
			return
		}
		last.Parts[maxParts-1].Count += part.Count
		return
	}
	x.gaps = append(x.gaps, mesh.Void{
		Cause: mesh.CauseDisconnected, Parts: []mesh.Part{part},
		Note: fmt.Sprintf("node %.260q from %s to %s: %s", node, spell(span.From), spell(span.To), why),
	})
}

func spell(t mesh.Nanos) string {
	if t == 0 {
		return "its birth"
	}
	return t.Time().Format(time.RFC3339Nano)
}

// take empties x.
func (x *refusals) take() (out []mesh.Void) {
	if x.mixed {
		x.voids[maxReasons-1].Note = "several reasons, the first: " + x.voids[maxReasons-1].Note
	}
	if x.more > 0 {
		x.gaps[maxGaps-1].Note = fmt.Sprintf("%d nodes, the first: %s", x.more+1, x.gaps[maxGaps-1].Note)
	}
	out = slices.Concat(x.gaps, x.voids)
	*x = refusals{}
	return out
}
