package sparkplug

import (
	"plantmesh/edge/source/sparkplug/payload"
	"plantmesh/proto/mesh"
	"plantmesh/proto/wire"
)

// What is known of nodes is bounded, whatever births say: in memory, and in what is kept
// beside the state, all of which a worker gets when it begins.
const (
	// metricsPerSignal is how many metrics may be known for each of max_signals: those that
	// are ignored or can be no signals count too.
	metricsPerSignal = 3
	// maxNames bounds the bytes of their names.
	maxNames = 32 << 20
	// maxUnits bounds nodes and devices together.
	maxUnits = 50_000
	// maxPath bounds the name of a template's member with those of all templates around
	// it: longer ones make no signal.
	maxPath = wire.MaxName
)

// budget is what is used of that.
type budget struct{ metrics, names, units int }

// afford counts a metric of a unit, and reports whether there is room for it.
func (h *host) afford(u *unit, bytes int) bool {
	if h.used.metrics >= metricsPerSignal*h.cfg.MaxSignals || h.used.names+bytes > maxNames {
		u.partial = true
		return false
	}
	u.metricsAll, u.names = u.metricsAll+1, u.names+bytes
	h.used.metrics, h.used.names = h.used.metrics+1, h.used.names+bytes
	return true
}

// letGo takes what a unit used back.
func (h *host) letGo(u *unit) {
	if u != nil {
		h.used.metrics, h.used.names = h.used.metrics-u.metricsAll, h.used.names-u.names
		u.metricsAll, u.names = 0, 0
	}
}

// keepable reports whether what is kept of a unit can be read again.
func keepable(u *unit, b []byte) bool {
	return u.metricsAll <= payload.MaxMetrics && len(b) <= payload.MaxBytes
}

// makeRoom forgets a node for a new one: one that never was born, whoever made up its
// name, else the one that died longest ago. False: all live.
func (h *host) makeRoom(now mesh.Nanos) bool {
	for len(h.strangers) > 0 {
		n := h.strangers[0]
		h.strangers = h.strangers[1:]
		if n.phase == unborn && n.number == 0 {
			h.forget(n, now)
			return true
		}
	}
	for len(h.died) > 0 {
		n := h.died[0]
		h.died = h.died[1:]
		if n.mourned = false; n.phase == dead {
			h.forget(n, now)
			return true
		}
	}
	return false
}

// mourn notes a node that died.
func (h *host) mourn(n *node) {
	if !n.mourned {
		n.mourned = true
		h.died = append(h.died, n)
	}
}

// forget drops a node, its births and its signals.
func (h *host) forget(n *node, now mesh.Nanos) {
	for len(n.queue) > 0 {
		h.dropFirst(n, errNodes)
	}
	h.giveUp(n)
	h.asks.settle(n)
	if n.owed.from != 0 {
		h.gone(n, mesh.Span{From: n.owed.from, To: max(n.owed.from, now)}, n.owed.missing, n.owed.why+"; and it was forgotten, as there are more nodes than max_nodes")
	}
	for u := range n.units {
		h.letGo(u)
		u.signals(h.table.drop)
		if u.device != "" {
			h.used.units--
		}
		h.kept[keptName(n, u)] = nil
	}
	delete(h.nodes, n.id())
	h.retable()
}

// retable has what is said from here on refer to the table as it is now, and what was said
// before to the one it was made with: signals that are gone, or have another type.
func (h *host) retable() {
	if len(h.table.before) == 0 {
		return
	}
	err := h.sealer.Grow(h.table.were())
	if err == nil {
		err = h.sealer.Retable(h.table.rows())
	}
	if h.fault == nil {
		h.fault = err
	}
}
