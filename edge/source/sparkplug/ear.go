package sparkplug

import (
	"fmt"

	"plantmesh/edge/source"
	"plantmesh/edge/source/mqtt/link"
	"plantmesh/edge/source/sparkplug/payload"
	"plantmesh/proto/mesh"
)

// ear tells who listens what messages say, as they came.
type ear struct {
	taps  *source.Taps
	now   mesh.Nanos
	topic string // of the message at hand; empty: there is none
	begin []byte // of its payload
}

// newEar is a trace that keeps nothing, and tells who listens; nil where nobody ever does.
func newEar(taps *source.Taps) *trace {
	if taps == nil {
		return nil
	}
	return &trace{ear: &ear{taps: taps}}
}

// listening is the trace itself for a message, if somebody listens. An empty topic is none.
func (t *trace) listening(topic string, payload []byte, now mesh.Nanos) *trace {
	if !t.ear.taps.Open() {
		return nil
	}
	t.ear.topic, t.ear.begin, t.ear.now = topic, append(t.ear.begin[:0], payload[:min(len(payload), link.Quoted)]...), now
	return t
}

// message tells the message at hand, and what is special about it.
func (e *ear) message(why string) {
	if e.topic == "" {
		return // of none: the status says it
	}
	e.taps.Tell("", e.topic, mesh.StatusGood, func() source.Raw {
		return source.Raw{Heard: e.now, Type: "payload", Value: fmt.Sprintf("%q", e.begin), Notes: []string{why}}
	})
}

// metric tells a metric.
func (e *ear) metric(x *Told, m *payload.Metric, is payload.Type) {
	e.taps.Tell(x.Signal.Name, x.Place, x.Sample.Status, func() source.Raw {
		x.sent(m, is)
		raw := source.Raw{Heard: e.now, Type: x.Type, Value: x.Raw, Quality: x.Quality, Source: x.Stamp}
		if len(m.Name) == 0 {
			raw.Notes = append(raw.Notes, "sent as "+x.Called)
		}
		if m.Historical {
			raw.Notes = append(raw.Notes, "from a history")
		}
		if x.Why != nil {
			raw.Notes = append(raw.Notes, x.Why.Error())
		}
		return raw
	})
}
