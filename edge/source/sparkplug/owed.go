package sparkplug

import (
	"time"

	"plantmesh/edge/source/sparkplug/payload"
	"plantmesh/proto/mesh"
)

// collectFor is how long a node that keeps what we did not hear may take to say it,
// in machine time. Until then it holds up what is proven.
const collectFor = 2 * time.Minute

// owes notes what was not heard of a node that keeps it, and reports whether this is
// one. What is owed already reaches farther back.
func (h *host) owes(n *node, d debt) bool {
	if d.from == 0 || !n.keeps {
		return false
	}
	if n.owed.from != 0 {
		d.from, d.missing, d.since = n.owed.from, d.missing+n.owed.missing, n.owed.since
		n.owed = d
		return true
	}
	n.owed = d
	for u := range n.units {
		u.signals(func(s *signal) {
			if s.before, s.gone = s.value, 0; s.dark {
				s.before = worth{}
			}
		})
	}
	return true
}

// settled ends a debt: behind its births a node says what it kept, as historical, and
// then what is now.
func (h *host) settled(n *node, p *payload.Payload, st stamp) {
	if !n.owed.born || st.late || n.phase != live || allHistorical(p) {
		return
	}
	n.owed = debt{}
	for u := range n.units {
		u.signals(func(s *signal) {
			if s.gone != 0 && s.before.value.Type != mesh.TypeNone {
				// It was given up, and now the node has said all there was: it held until then.
				h.sealer.Add(mesh.Sample{
					Signal: s.row.ID, Time: s.gone + 1, Agent: st.at.plant, Status: s.before.status, Value: s.before.value, Flags: mesh.FlagHistorical,
				})
				h.counters.samples++
			}
			s.before, s.gone = worth{}, 0
		})
	}
}

func allHistorical(p *payload.Payload) bool {
	for i := range p.Metrics {
		if !p.Metrics[i].Historical {
			return false
		}
	}
	return true
}

// collect gives up what a node owes and does not say.
func (h *host) collect(n *node, now moment) {
	d := &n.owed
	if d.from == 0 {
		return
	}
	if d.since.IsZero() {
		d.since = now.machine
	}
	if now.machine.Sub(d.since) < collectFor {
		return
	}
	h.gone(n, mesh.Span{From: d.from, To: d.to}, d.missing, d.why+"; and it did not say what it kept")
	for u := range n.units {
		u.signals(func(s *signal) {
			// What was said of it since is of later times.
			h.sealer.Add(mesh.Sample{Signal: s.row.ID, Time: d.from + 1, Agent: now.plant, Status: mesh.StatusBadNoCommunication})
			h.counters.samples++
			s.gone = d.from + 1
			if s.time <= d.from {
				s.dark, s.time = true, d.from+1
			}
		})
	}
	n.owed = debt{}
}
