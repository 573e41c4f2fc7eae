package opcua

import (
	"cmp"
	"strings"

	"plantmesh/edge/source"
	"plantmesh/edge/source/opcua/channel"
	"plantmesh/edge/source/opcua/publish"
	"plantmesh/proto/mesh"
)

// tellRaw tells who listens what stands in a notification, as it came.
func (r *Reader) tellRaw(in *channel.Answer, now mesh.Nanos) {
	for k := range in.Values {
		v := &in.Values[k]
		if i, again, ours := r.state.signal(v.Handle); ours && i < len(r.items) && again == r.again[i] {
			r.tellValue(i, v, now)
		}
	}
	for k := range in.Events {
		e := &in.Events[k]
		i, again, ours := r.state.signal(e.Handle)
		if n := i - len(r.cfg.Signals); ours && again == 0 && n >= 0 && n < len(r.state.Events) && i < len(r.table) {
			r.tellEvent(i, n, e, now)
		}
	}
}

// tellValue tells a value of signal i.
func (r *Reader) tellValue(i int, v *publish.Value, now mesh.Nanos, notes ...string) {
	if r.initial[i] {
		notes = append(notes, "initial")
	}
	r.taps.Tell(r.table[i].Name, cmp.Or(r.items[i].where(), r.where(i)), mesh.Status(v.Status), func() source.Raw {
		raw := rawOf(v)
		if raw.Array {
			raw.Type += " array"
		}
		return source.Raw{Heard: now, Type: raw.Type, Value: raw.Text, Source: raw.Source, Server: raw.Server, Notes: notes}
	})
}

// tellEvent tells an event of notifier n, with the fields that it has.
func (r *Reader) tellEvent(i, n int, e *publish.Event, now mesh.Nanos) {
	r.taps.Tell(r.table[i].Name, r.where(i), mesh.StatusGood, func() source.Raw {
		values := r.ears.spread(e, n, r.state.Events[n].Clauses)
		var fields []string
		for place, c := range r.ears.clauses[n] {
			if raw := rawOf(&values[place]); raw.Type != "" {
				fields = append(fields, c.called()+" "+raw.Text)
			}
		}
		return source.Raw{Heard: now, Type: "event", Value: strings.Join(fields, ", "), Source: moment(&values[atTime]), Server: moment(&values[atReceived])}
	})
}
