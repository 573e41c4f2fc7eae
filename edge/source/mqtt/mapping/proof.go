package mapping

import (
	"fmt"
	"slices"

	"plantmesh/proto/mesh"
)

// Proof is the time of a heartbeat; now is the plant clock.
func (m *Mapper) Proof(payload []byte, now mesh.Nanos) (mesh.Nanos, error) {
	if err := m.doc.parse(payload); err != nil {
		return 0, err
	}
	if m.doc.nodes[0].kind != object {
		return 0, errNotJSON
	}
	at, err := m.doc.find(0, m.heartbeat.time)
	if err != nil {
		return 0, fmt.Errorf("%w: its %w", ErrNoTime, err)
	}
	return m.doc.instant(at, &m.heartbeat.form, now)
}

// Blackout gives each signal that a topic can carry a sample without a value: a
// payload of it said something, nobody knows what. It is dated behind what this
// topic said last and behind the proof, so that it hides nothing that was
// known; what the topic says next lies behind it. One is enough until then.
func (m *Mapper) Blackout(r *Route, fault error, proof, now mesh.Nanos) (out []mesh.Sample, at mesh.Nanos) {
	at = now
	flags := mesh.FlagAgentTime
	stamped := slices.ContainsFunc(r.streams, func(s *stream) bool { return len(s.time) > 0 })
	if stamped && max(r.last, proof) != 0 {
		at, flags = max(r.last+1, proof), 0
	}
	if r.dark {
		return nil, at
	}
	for _, row := range m.table {
		if m.carries(r, &row) {
			out = append(out, mesh.Sample{Signal: row.ID, Time: at, Agent: now, Status: status(fault), Flags: flags})
		}
	}
	r.dark = len(out) > 0
	return out, at
}

// carries reports whether a topic can give a signal, as far as anybody knows.
func (m *Mapper) carries(r *Route, row *mesh.Signal) bool {
	owner := m.signals[row.Name].owner
	return slices.ContainsFunc(r.streams, func(s *stream) bool {
		if owner != nil {
			return owner.plan == s.plan && owner.topic == s.topic
		}
		if s.match == nil {
			s.match = s.name.pattern()
		}
		return s.match.MatchString(row.Name)
	})
}
