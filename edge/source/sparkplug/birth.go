package sparkplug

import (
	"errors"
	"time"

	"plantmesh/edge/source/sparkplug/payload"
	"plantmesh/proto/mesh"
)

// nodeBirth takes an NBIRTH: whatever was known of the node's metrics is known anew.
// Its sequence number may be any, counting begins there (the specification says both 0
// and any: sparkplug issue 178).
func (h *host) nodeBirth(n *node, p *payload.Payload, now moment) {
	st := h.stamp(p, now)
	bd, hasBd := session(p)
	if n.phase == live && len(n.held) > 0 {
		h.expire(n, now)
	}
	h.giveUp(n)
	same := n.number != 0 && n.hasBd == hasBd && n.bd == bd
	switch {
	case n.phase == doubtful:
		h.gap(n, mesh.Span{From: n.last, To: st.time}, 0, "born again after our connection was broken", now)
	case n.phase == live && !same:
		h.gap(n, mesh.Span{From: n.last, To: st.time}, 0, "it connected anew, and nobody said that it was gone", now)
	case n.phase == live && byte(p.Seq) != n.seq+1 && n.last != 0:
		// Nobody says that something was lost before it, nor that nothing was.
		if !h.owes(n, debt{from: n.last, to: st.time, why: "born again, which does not say what was before", since: now.machine}) {
			h.darkenAll(n, n.last+1, mesh.StatusBadNoCommunication, 0, now)
		}
	}
	n.owed.born = true
	if n.number == 0 {
		h.count++
		n.number = h.count
	}
	n.phase, n.away, n.bd, n.hasBd = live, 0, bd, hasBd
	n.seq, n.hash, n.lost, n.birth, n.bornAt = byte(p.Seq), 0, [4]uint64{}, st.time, now.machine
	n.ripe = time.Time{}
	if !same { // nor would anybody have told us of a death while we were not connected
		h.part(n, func(x held) bool { return x.conn != h.conns })
	}
	if len(n.queue) > 0 && !same {
		n.ripe = now.machine.Add(time.Duration(h.cfg.ReorderTimeout))
	}
	n.aliases = make(map[uint64]*metric, len(p.Metrics))
	for _, u := range n.devices {
		if u.born && !u.dead {
			u.born, u.waiting, u.birth = false, now.machine, st.time
		}
	}
	h.asks.settle(n)
	was := n.own
	n.own = &unit{born: true}
	if was != nil {
		n.own.kept = was.kept
	}
	h.define(n, n.own, was, p, st)
	h.reach(n, st)
	h.keepUnit(n, n.own)
	h.release(n, n.own)
}

// part refuses what waits for a birth and may be of a connection of the node that ended:
// the next birth is not its own.
func (h *host) part(n *node, ended func(held) bool) {
	for range len(n.queue) {
		if ended(n.queue[0]) {
			h.dropFirst(n, errParted)
			continue
		}
		n.queue = append(n.queue[1:], n.queue[0])
	}
}

// session is the bdSeq of an NBIRTH or an NDEATH.
func session(p *payload.Payload) (bd uint64, ok bool) {
	for i := range p.Metrics {
		m := &p.Metrics[i]
		if string(m.Name) == "bdSeq" && (m.Value.Kind == payload.InLong || m.Value.Kind == payload.InInt) {
			return m.Value.Bits, true
		}
	}
	return 0, false
}

// deviceBirth takes a DBIRTH.
func (h *host) deviceBirth(n *node, x held, p *payload.Payload, st stamp) {
	device := x.topic.device
	was := n.devices[device]
	switch {
	case was != nil:
	case len(n.devices) >= maxDevices:
		h.refuseOf(n, x, errDevices)
		return
	case h.used.units >= maxUnits:
		h.refuseOf(n, x, errUnits)
		return
	default:
		h.used.units++
	}
	if n.devices == nil {
		n.devices = map[string]*unit{}
	}
	for alias, m := range n.aliases {
		if m != nil && m.unit == was {
			delete(n.aliases, alias)
		}
	}
	u := &unit{device: device, born: true}
	if was != nil {
		u.kept = was.kept
	}
	n.devices[device] = u
	h.define(n, u, was, p, st)
	h.keepUnit(n, u)
	h.release(n, u)
}

// define makes a unit of its birth, and samples of the values in it. What was in the
// birth before and is not in this one has no value any more.
func (h *host) define(n *node, u, was *unit, p *payload.Payload, st stamp) {
	h.letGo(was)
	u.metrics = make(map[string]*metric, len(p.Metrics))
	c := carrier{node: n, unit: u, stamp: st, flags: mesh.FlagInitial}
	all := make([]*metric, len(p.Metrics))
	for i := range p.Metrics {
		m := &p.Metrics[i]
		name := string(m.Name)
		switch {
		case name == "":
			h.refuseMetric(&c, name, m, errNoName)
			continue
		case u.metrics[name] != nil:
			h.refuseMetric(&c, name, m, errTwice)
			continue
		}
		if all[i] = h.declare(n, u, name, m); all[i] == nil {
			h.refuseMetric(&c, name, m, errFull)
			continue
		}
		u.metrics[name] = all[i]
		h.nameAlias(n, all[i], m)
	}
	h.retable()
	for i, x := range all {
		if x != nil {
			h.sample(x, &p.Metrics[i], &c)
		}
	}
	if was == nil {
		return
	}
	stays := map[*signal]bool{}
	u.signals(func(s *signal) { stays[s] = true })
	was.signals(func(s *signal) {
		if !stays[s] {
			s.dark = false // whatever was said of it: now it is known that there is none
			h.darken(s, st.time, mesh.StatusBadNodeIDUnknown, st.flags(), st.at)
			if h.table.crowded() { // by names that nobody uses any more, perhaps
				h.table.drop(s)
			}
		}
	})
	h.retable()
}

// nameAlias notes an alias. One that two metrics have names none of them.
func (h *host) nameAlias(n *node, x *metric, m *payload.Metric) {
	if !m.HasAlias {
		return
	}
	x.alias, x.aliased = m.Alias, true
	if _, taken := n.aliases[m.Alias]; taken {
		n.aliases[m.Alias] = nil
		return
	}
	n.aliases[m.Alias] = x
}

// signals gives every signal of a unit.
func (u *unit) signals(yield func(*signal)) {
	for _, x := range u.metrics {
		x.signals(yield)
	}
}

func (x *metric) signals(yield func(*signal)) {
	if x.sig != nil {
		yield(x.sig)
	}
	for _, m := range x.members {
		m.signals(yield)
	}
}

// declare makes a metric of what a birth says of it; path is its name, that of a
// template's member with the template's name in front. nil: there is no room for it.
func (h *host) declare(n *node, u *unit, path string, m *payload.Metric) *metric {
	if !h.afford(u, len(path)) {
		return nil
	}
	x := &metric{name: path, of: m.Type, unit: u}
	at := place(n.group, n.name, u.device, path)
	if h.names.ignores(u.device, path, at) {
		x.quiet = true
		return x
	}
	if m.Type == payload.TemplateType {
		h.declareMembers(n, x, m)
		return x
	}
	kind, fields := m.Type.MeshType(), []mesh.Field(nil)
	switch {
	case m.Type == payload.DataSetType:
		kind = mesh.TypeArray
		if m.DataSet != nil {
			x.columns, x.types = columns(m.DataSet)
			for _, c := range x.columns {
				u.names, h.used.names = u.names+len(c), h.used.names+len(c)
			}
			fields = tableFields(x)
		}
	case kind == mesh.TypeNone:
		x.why = errUnknownType
		return x
	case kind == mesh.TypeArray:
		fields = []mesh.Field{{Type: m.Type.Item()}}
	}
	if len(x.columns) > maxColumns {
		x.columns, x.types, x.why = nil, nil, errWide
		return x
	}
	h.claim(n, x, at, mesh.Signal{Type: kind, Fields: fields}, nil)
	return x
}

// claim gives a metric its signal; id is what it had before a restart, nil: it is new.
func (h *host) claim(n *node, x *metric, at string, row mesh.Signal, id *uint32) {
	k := h.names.known[at]
	if row.Name = k.name; row.Name == "" {
		row.Name = h.names.name(n.group, n.name, x.unit.device, x.name)
	}
	row.Unit, row.MaxSilence = k.unit, k.silence
	if k.kind != mesh.TypeNone && k.kind != row.Type {
		row.Type, row.Fields, x.why = k.kind, nil, errConfigured
	}
	sig, err := h.table.claim(row, owner(n.group, n.name, x.unit.device, x.name), id)
	if x.sig = sig; err != nil {
		x.why = err
	}
}

// declareMembers makes signals of a template's members and parameters. A definition
// has no values.
func (h *host) declareMembers(n *node, x *metric, m *payload.Metric) {
	t := m.Template
	if t == nil || m.Value.Kind != payload.InTemplate {
		return
	}
	if t.Definition {
		x.quiet = true
		return
	}
	x.members = make(map[string]*metric, len(t.Metrics)+len(t.Parameters))
	for i := range t.Metrics {
		h.declareMember(n, x, string(t.Metrics[i].Name), &t.Metrics[i])
	}
	for i := range t.Parameters {
		h.declareMember(n, x, string(t.Parameters[i].Name), &payload.Metric{Type: t.Parameters[i].Type})
	}
}

func (h *host) declareMember(n *node, x *metric, name string, m *payload.Metric) {
	if name == "" || x.members[name] != nil {
		return
	}
	if len(x.name)+1+len(name) > maxPath {
		if h.afford(x.unit, len(name)) {
			x.members[name] = &metric{name: name, unit: x.unit, why: errNameLong}
		}
		return
	}
	if child := h.declare(n, x.unit, x.name+"/"+name, m); child != nil {
		x.members[name] = child
	}
}

// nodeDeath takes an NDEATH. One of another connection than the birth's is of the past:
// a broker may send it when the node is back already.
func (h *host) nodeDeath(n *node, p *payload.Payload, now moment) {
	h.part(n, func(held) bool { return true })
	n.ripe, n.tail = time.Time{}, tail{}
	bd, hasBd := session(p)
	if n.phase == unborn || n.phase == dead || hasBd != n.hasBd || bd != n.bd {
		h.counters.deaths++
		h.trace.say("the death of no connection that was heard to be born: nothing changes")
		return
	}
	if n.phase == live && len(n.held) > 0 {
		h.expire(n, now)
	}
	h.giveUp(n)
	h.asks.settle(n) // it can't answer
	n.phase, n.owed.born = dead, false
	h.mourn(n)
	if h.owes(n, debt{from: n.last, to: now.plant, why: "it lost its connection", since: now.machine}) {
		return
	}
	h.darkenAll(n, now.plant, mesh.StatusBadNoCommunication, mesh.FlagAgentTime, now)
}

// deviceDeath takes a DDEATH.
func (h *host) deviceDeath(n *node, x held, st stamp) {
	u := n.devices[x.topic.device]
	if u == nil || u.dead {
		h.trace.say("the death of a device that was not heard to be born: nothing changes")
		return
	}
	u.dead, u.born, u.waiting = true, false, time.Time{}
	t, flags := st.time, st.flags()
	if flags&mesh.FlagSuspect != 0 {
		t, flags = x.at.plant, mesh.FlagAgentTime
	}
	u.signals(func(s *signal) { h.darken(s, t, mesh.StatusBadNoCommunication, flags, x.at) })
	h.keepUnit(n, u)
}

// unbornDevices gives up devices that were not born again after their node.
func (h *host) unbornDevices(n *node, now moment) {
	for _, u := range n.devices {
		if u.waiting.IsZero() || now.machine.Sub(u.waiting) < birthGrace+time.Duration(h.cfg.ReorderTimeout) {
			continue
		}
		u.dead, u.waiting = true, time.Time{}
		u.signals(func(s *signal) { h.darken(s, u.birth, mesh.StatusBadNoCommunication, 0, now) })
		h.keepUnit(n, u)
		h.waiting = true
	}
}

// darkenAll says of all signals of a node that nothing is known of them from at on.
func (h *host) darkenAll(n *node, at mesh.Nanos, status mesh.Status, flags uint32, now moment) {
	for u := range n.units {
		if !u.dead {
			u.signals(func(s *signal) { h.darken(s, at, status, flags, now) })
		}
	}
}

// darken gives a signal a sample without a value: behind what was said of it last, so
// that it hides nothing that was known. One is enough until its next value.
func (h *host) darken(s *signal, at mesh.Nanos, status mesh.Status, flags uint32, now moment) {
	if s.dark {
		return
	}
	if s.time != 0 {
		at = max(at, s.time+1)
	}
	s.dark, s.time = true, at
	h.trace.darken(status)
	h.sealer.Add(mesh.Sample{Signal: s.row.ID, Time: at, Agent: now.plant, Status: status, Flags: flags})
	h.counters.samples++
	h.waiting = true
}

// errNoMembers: a template without a value says nothing of its members.
var errNoMembers = errors.New("template has no members in the node's birth")
