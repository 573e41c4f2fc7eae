package product

import (
	"fmt"

	"plantmesh/proto/mesh"
)

// IntervalDraft is the row of product equipment-state for one interval. open
// is the end of what is known for the last interval, else 0.
func (d *Definition) IntervalDraft(s *Site, e *Equipment, i Interval, open mesh.Nanos) Draft {
	b := newBody(d.columns)
	t := i.Tuple
	to, length := i.To, i.Duration()
	if open != 0 {
		to, length = 0, mesh.Span{From: i.From, To: open}.Duration()
	}
	b.text("equipment", e.ID)
	b.text("line", e.Line)
	b.instant("from", i.From)
	b.instant("to", to)
	b.seconds("duration_seconds", int64(length))
	b.text("state", StateName(t.State))
	b.integer("state_number", int64(t.State))
	b.text("mode", ModeName(t.Mode))
	b.integer("mode_number", int64(t.Mode))
	if t.Packml == packmlNone {
		b.null("packml_state")
	} else {
		b.integer("packml_state", int64(t.Packml))
	}
	b.words("packml_name", PackmlName(t.Packml))
	b.text("cause", t.Cause)
	b.words("element", string(t.Element))
	if t.Reason == 0 {
		b.null("reason")
	} else {
		b.integer("reason", t.Reason)
	}
	b.words("reason_text", s.Reasons[t.Reason])
	b.text("mapping_version", s.Mapping(e))
	return Draft{Key: TimeText(i.From), From: i.From, To: to, Body: b.bytes(), Shape: fmt.Sprint(t)}
}
