package mqtt

import (
	"slices"
	"strings"

	"plantmesh/edge/source"
	"plantmesh/edge/source/mqtt/link"
	"plantmesh/edge/source/mqtt/mapping"
	"plantmesh/proto/mesh"
)

// tellRaw tells who listens what a packet says, behind what was made of it: each value where
// it stands in the payload, or the payload where it has none. It reads the payload once more,
// which changes nothing.
func (in *intake) tellRaw(r *mapping.Route, p *link.Packet, session string, now mesh.Nanos) {
	switch {
	case p.Retained:
		in.tellPayload(p, session, now, "retained: said before we listened, so it is left out")
		return
	case r == nil:
		in.tellPayload(p, session, now, "no filter of topics has this topic")
		return
	case p.TooLarge:
		in.tellPayload(p, session, now, mapping.ErrTooLarge.Error())
		return
	case r.Heartbeat():
		in.tellPayload(p, session, now, "heartbeat: it is no value")
		return
	}
	got, all := in.mapper.Explain(r, p.Payload, now)
	if len(all) == 0 {
		why := "nothing stands where value leads"
		if len(got.Flaws) > 0 {
			why = got.Flaws[0].Fault.Error()
		}
		in.tellPayload(p, session, now, why)
		return
	}
	notes := notesOf(p, session)
	for i := range all {
		x := &all[i]
		name, own := x.Name, notes
		switch {
		case !x.Known:
			name, own = "", append(slices.Clip(own), "no signal has the name "+x.Name)
		case x.Why != nil:
			own = append(slices.Clip(own), x.Why.Error())
		case x.Sample.Agent == 0:
			own = append(slices.Clip(own), "left out by a condition (when)")
		}
		in.taps.Tell(name, strings.TrimSpace(x.Topic+" "+x.Place), x.Sample.Status, func() source.Raw {
			return source.Raw{Heard: now, Type: x.Kind, Value: x.Raw, Source: x.Sample.Source, Notes: own}
		})
	}
}

// tellPayload tells who listens, if somebody does, the payload of a packet that has no values, and why.
func (in *intake) tellPayload(p *link.Packet, session string, now mesh.Nanos, why string) {
	if !in.taps.Open() {
		return
	}
	in.taps.Tell("", string(p.Topic), mesh.StatusGood, func() source.Raw {
		return source.Raw{Heard: now, Type: "payload", Value: string(p.Payload[:min(len(p.Payload), link.Quoted)]), Notes: append(notesOf(p, session), why)}
	})
}

// notesOf are what is special about a packet.
func notesOf(p *link.Packet, session string) (notes []string) {
	if session != "" {
		notes = append(notes, "from "+session)
	}
	if p.Will {
		notes = append(notes, "said for a device that is gone")
	}
	return notes
}
