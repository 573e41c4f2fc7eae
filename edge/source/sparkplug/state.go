package sparkplug

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"plantmesh/edge/source/sparkplug/payload"
	"plantmesh/proto/mesh"
)

// state is what is committed with each offer: small, because it is written each time.
// What births said is kept beside it, and written when it changes.
type state struct {
	Proof    mesh.Nanos  `json:"proof_ns"`
	Holes    []mesh.Span `json:"holes,omitempty"`
	Fresh    bool        `json:"fresh,omitempty"`
	Was      mesh.Nanos  `json:"was_ns,omitempty"` // see host.was
	Heard    mesh.Nanos  `json:"heard_ns"`         // when the connection was known to live last
	Settings uint64      `json:"settings"`         // see Config.settings
	Next     uint32      `json:"next_signal"`
	Count    uint64      `json:"nodes_count"`
	Nodes    []byte      `json:"nodes,omitempty"` // see appendNode
}

var errState = errors.New("unknown form")

// seal closes the window.
func (h *host) seal() (mesh.Offer, error) {
	h.prove()
	for _, v := range h.bad.take() {
		h.sealer.Void(v)
	}
	if h.fault != nil {
		return mesh.Offer{}, fmt.Errorf("signals of source %q: %w", h.cfg.ID, h.fault)
	}
	if h.table.changed {
		if err := h.sealer.Grow(h.table.rows()); err != nil {
			return mesh.Offer{}, err
		}
	}
	s := state{
		Proof: h.sealer.Proof(), Holes: h.sealer.Holes(), Fresh: h.fresh, Was: h.was, Heard: h.heard, Settings: h.set, Next: h.table.next, Count: h.count,
	}
	for _, id := range slices.Sorted(maps.Keys(h.nodes)) {
		if n := h.nodes[id]; n.number != 0 {
			s.Nodes = appendNode(s.Nodes, n)
		}
	}
	b, err := json.Marshal(s)
	if err != nil {
		return mesh.Offer{}, fmt.Errorf("encode the state of source %q: %w", h.cfg.ID, err)
	}
	h.waiting, h.first, h.urgent = false, time.Time{}, false
	o, err := h.sealer.Seal(b)
	for _, name := range slices.Sorted(maps.Keys(h.kept)) {
		o.Kept = append(o.Kept, mesh.Kept{Name: name, Bytes: h.kept[name]})
	}
	clear(h.kept)
	return o, err
}

// due reports at machine time now whether the window should be sealed: it is full or
// old enough, or a void must be on disk before what is behind it.
func (h *host) due(now time.Time) bool {
	if h.waiting && h.first.IsZero() {
		h.first = now
	}
	old := h.waiting && now.Sub(h.first) >= time.Duration(h.cfg.Window.Latency)
	return h.urgent || old || h.sealer.Due(now)
}

// nodeState is how it stands with a node.
type nodeState struct {
	number uint64
	phase  phase
	seq    byte
	last   mesh.Nanos    // newest time in sequence
	newest mesh.Nanos    // newest time of a sample, where that is later
	pace   time.Duration // of 256 messages
	away   mesh.Nanos    // since when it may have been missed
	owed   mesh.Nanos    // since when it has to say what it kept
	saying bool          // it was born since, and says it
}

// appendNode appends it: phase and sequence number are a byte each, the others uvarint;
// saying is the lowest bit of owed.
func appendNode(b []byte, n *node) []byte {
	b = binary.AppendUvarint(b, n.number)
	b = append(b, byte(n.phase), n.seq)
	b = binary.AppendUvarint(b, uint64(n.last))
	b = binary.AppendUvarint(b, uint64(max(0, n.newest-n.last)))
	b = binary.AppendUvarint(b, uint64(n.span()))
	b = binary.AppendUvarint(b, uint64(n.away))
	owed := uint64(n.owed.from) << 1
	if owed != 0 && n.owed.born {
		owed |= 1
	}
	return binary.AppendUvarint(b, owed)
}

func takeNode(b []byte) (x nodeState, rest []byte, ok bool) {
	number := func() uint64 {
		v, n := binary.Uvarint(b)
		if n <= 0 {
			b, ok = nil, false
			return 0
		}
		b = b[n:]
		return v
	}
	ok = true
	x.number = number()
	if len(b) < 2 || phase(b[0]) > dead {
		return x, nil, false
	}
	x.phase, x.seq, b = phase(b[0]), b[1], b[2:]
	x.last = mesh.Nanos(number())
	x.newest, x.pace, x.away = x.last+mesh.Nanos(number()), time.Duration(number()), mesh.Nanos(number())
	owed := number()
	x.owed, x.saying = mesh.Nanos(owed>>1), owed&1 != 0
	return x, b, ok
}

// resume takes up what was committed: nodes and their births, and where the proof is.
func (h *host) resume(b []byte, kept map[string][]byte) error {
	if b == nil {
		return nil
	}
	var s state
	if err := json.Unmarshal(b, &s); err != nil {
		return fmt.Errorf("read the committed state of source %q: %w", h.cfg.ID, errors.Join(err, errState))
	}
	h.fresh, h.was, h.heard, h.table.next, h.count = s.Fresh, s.Was, s.Heard, s.Next, s.Count
	h.sealer.Resume(s.Proof, s.Holes...)
	whole, err := h.restore(kept, s.Nodes)
	if err != nil {
		return fmt.Errorf("read the committed state of source %q: %w", h.cfg.ID, err)
	}
	if (s.Settings != h.set || !whole) && !h.fresh { // other names, other nodes: the proof so far says nothing of them
		h.fresh, h.was = true, s.Proof
	}
	if h.table.changed {
		return h.sealer.Grow(h.table.rows())
	}
	return nil
}

// restore makes the nodes of their births: those of nodes first. whole is false where one
// is not there, or can't be read (by other limits, perhaps): the node is asked for it.
func (h *host) restore(kept map[string][]byte, states []byte) (whole bool, err error) {
	numbers, whole := h.restoreBirths(kept)
	for b := states; len(b) > 0; {
		var x nodeState
		var ok bool
		if x, b, ok = takeNode(b); !ok {
			return false, errState
		}
		n := numbers[x.number]
		if n == nil { // not to be read any more
			whole = whole && x.phase != live && x.phase != doubtful
			continue
		}
		n.phase, n.seq, n.last, n.newest, n.pace, n.away = x.phase, x.seq, x.last, x.newest, x.pace, x.away
		for u := range n.units { // what is said next of a signal is said behind what may have been said of it
			u.signals(func(s *signal) { s.time = n.newest })
		}
		switch n.phase {
		case live:
			n.phase, n.away = doubtful, h.heard
		case dead:
			h.mourn(n)
		case unborn, doubtful, strange:
		}
		if x.owed != 0 {
			n.owed = debt{from: x.owed, to: x.last, born: x.saying, why: "not heard without a break before a restart"}
		}
	}
	return whole, nil
}

// restoreBirths makes them of what is kept, and gives nodes by their numbers.
func (h *host) restoreBirths(kept map[string][]byte) (numbers map[uint64]*node, whole bool) {
	numbers, whole = map[uint64]*node{}, true
	for _, prefix := range []string{"n/", "d/"} {
		for _, name := range slices.Sorted(maps.Keys(kept)) {
			if !strings.HasPrefix(name, prefix) {
				continue
			}
			if err := h.restoreUnit(name, kept[name], numbers); err != nil {
				h.kept[name], whole = nil, false
			}
		}
	}
	for _, claim := range h.later {
		claim()
	}
	h.later = nil
	return numbers, whole
}

// doubted is that the state may be older than what the source was told is committed:
// no sequence number bridges that.
func (h *host) doubted() {
	for _, n := range h.nodes {
		n.away = 0
	}
}

// settings names what signals are called by: with other ones a proof says nothing.
func (c *Config) settings() uint64 {
	b := fmt.Appendf(nil, "%d %d\n", c.MaxNodes, c.MaxSignals)
	b = append(b, c.Name+"\n"+strings.Join(c.Nodes, "\n")+"\n\n"+strings.Join(c.Ignore, "\n")...)
	for _, s := range c.Signals {
		b = fmt.Appendf(b, "\n%q %q %q", s.Metric, s.Name, s.Type)
	}
	return hash(b)
}

// Names of what is kept: of a node, and of a device. No level has a slash in it.
func keptName(n *node, u *unit) string {
	if u.device == "" {
		return "n/" + n.id()
	}
	return "d/" + n.id() + "/" + u.device
}

// A unit is kept as a payload of its metrics: the number of its node for a timestamp,
// bdSeq for a sequence number, 1 in the body where it is dead; of each metric the name,
// alias and type, and the id of its signal and 1 for a timestamp. Templates and data sets keep
// their form and no values.
func (h *host) keepUnit(n *node, u *unit) {
	p := payload.Payload{Timestamp: n.number}
	if u.device == "" {
		p.Seq, p.HasSeq = n.bd, n.hasBd
	}
	if u.dead {
		p.Body = []byte{1}
	}
	p.Metrics = keptMetrics(u.metrics)
	b := payload.Append(nil, &p)
	if !keepable(u, b) {
		b = nil // it is asked for after a restart
	}
	if sum := hash(b); sum != u.kept {
		u.kept = sum
		h.kept[keptName(n, u)] = b
	}
}

func keptMetrics(all map[string]*metric) (out []payload.Metric) {
	for _, name := range slices.Sorted(maps.Keys(all)) {
		x := all[name]
		m := payload.Metric{Name: []byte(name), Alias: x.alias, HasAlias: x.aliased, Type: x.of, Transient: x.quiet}
		if x.sig != nil {
			m.Timestamp = uint64(x.sig.row.ID) + 1
		}
		switch {
		case x.members != nil:
			m.Value, m.Template = payload.Value{Kind: payload.InTemplate}, &payload.Template{Metrics: keptMetrics(x.members)}
		case x.columns != nil:
			m.Value, m.DataSet = payload.Value{Kind: payload.InDataSet}, &payload.DataSet{Types: x.types}
			for _, c := range x.columns {
				m.DataSet.Columns = append(m.DataSet.Columns, []byte(c))
			}
		}
		out = append(out, m)
	}
	return out
}

// restoreUnit makes a unit of what is kept of it. What the configuration does not name
// any more is dropped.
func (h *host) restoreUnit(name string, b []byte, numbers map[uint64]*node) error {
	at := strings.Split(name, "/")
	if len(at) != 3 && len(at) != 4 {
		return fmt.Errorf("%w: %q is kept", errState, name)
	}
	p, err := h.births.Decode(b)
	if err != nil {
		return fmt.Errorf("%q: %w", name, err)
	}
	t := topic{group: at[1], node: at[2]}
	u := &unit{born: len(p.Body) == 0, dead: len(p.Body) > 0, kept: hash(b)}
	if len(at) == 4 {
		u.device = at[3]
	}
	n := h.nodes[t.group+"/"+t.node]
	if n == nil && u.device == "" && h.cfg.allows(t.group, t.node) {
		n = h.node(t, 0)
	}
	if n == nil {
		h.kept[name] = nil
		return nil
	}
	if h.used.units >= maxUnits {
		return errUnits
	}
	if u.device == "" {
		n.number, n.bd, n.hasBd, n.own, n.aliases = p.Timestamp, p.Seq, p.HasSeq, u, map[uint64]*metric{}
		numbers[n.number] = n
	} else {
		if n.devices == nil {
			n.devices = map[string]*unit{}
		}
		n.devices[u.device] = u
		h.used.units++
	}
	u.metrics = h.restoreMetrics(n, u, "", p.Metrics)
	return nil
}

func (h *host) restoreMetrics(n *node, u *unit, prefix string, all []payload.Metric) map[string]*metric {
	out := make(map[string]*metric, len(all))
	for i := range all {
		m := &all[i]
		if !h.afford(u, len(m.Name)) {
			continue
		}
		if prefix != "" && len(prefix)+len(m.Name) > maxPath {
			out[string(m.Name)] = &metric{name: string(m.Name), unit: u, why: errNameLong}
			continue
		}
		x := &metric{name: prefix + string(m.Name), of: m.Type, quiet: m.Transient, unit: u}
		out[string(m.Name)] = x
		if prefix == "" && !u.dead {
			h.nameAlias(n, x, m)
		} else {
			x.alias, x.aliased = m.Alias, m.HasAlias
		}
		if m.Template != nil && m.Value.Kind == payload.InTemplate {
			x.members = h.restoreMetrics(n, u, x.name+"/", m.Template.Metrics)
			continue
		}
		h.restoreSignal(n, x, m)
	}
	return out
}

func (h *host) restoreSignal(n *node, x *metric, m *payload.Metric) {
	at := place(n.group, n.name, x.unit.device, x.name)
	if x.quiet = x.quiet || h.names.ignores(x.unit.device, x.name, at); x.quiet {
		return
	}
	row := mesh.Signal{Type: x.of.MeshType()}
	switch {
	case x.of == payload.DataSetType:
		row.Type = mesh.TypeArray
		if m.DataSet != nil {
			x.columns, x.types = columns(m.DataSet)
			row.Fields = tableFields(x)
		}
	case x.of == payload.TemplateType:
		return
	case row.Type == mesh.TypeNone:
		x.why = errUnknownType
		return
	case row.Type == mesh.TypeArray:
		row.Fields = []mesh.Field{{Type: x.of.Item()}}
	}
	var id *uint32
	if m.Timestamp > 0 {
		had := uint32(m.Timestamp - 1)
		id = &had
	}
	if id == nil { // of one that had a name of its own it must not take that
		h.later = append(h.later, func() { h.claim(n, x, at, row, nil) })
		return
	}
	h.claim(n, x, at, row, id)
}
