package sparkplug

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"

	"plantmesh/edge/source"
	"plantmesh/edge/source/sparkplug/payload"
	"plantmesh/proto/mesh"
	"plantmesh/proto/wire"
)

// Stamps outside of these years are no times at all.
const (
	earliest = 631_152_000_000   // 1990-01-01, ms since 1970
	latest   = 4_102_444_800_000 // 2100-01-01
)

// stamp is the time of a payload.
type stamp struct {
	time  mesh.Nanos // the sender's, else when it came
	given bool       // it is the sender's
	late  bool       // it was overtaken by others, or waited: what it says was so, and need not be so now
	at    moment     // when it came
}

func (s stamp) flags() (f uint32) {
	if !s.given {
		f = mesh.FlagAgentTime
	}
	if source.Suspect(s.time, s.at.plant) {
		f |= mesh.FlagSuspect
	}
	return f
}

func (h *host) stamp(p *payload.Payload, at moment) stamp {
	if p.Timestamp < earliest || p.Timestamp > latest {
		return stamp{time: at.plant, at: at}
	}
	return stamp{time: mesh.Nanos(p.Timestamp * 1e6), given: true, at: at}
}

// carrier is the message a value came in.
type carrier struct {
	node  *node
	unit  *unit
	stamp stamp
	flags uint32
}

// statusOf is what a signal gets instead of a value that could not be taken
// (OPC 10000-6 A.2): the value before does not hold any more.
func statusOf(err error) mesh.Status {
	switch {
	case errors.Is(err, payload.ErrType), errors.Is(err, errColumns), errors.Is(err, errConfigured):
		return mesh.StatusBadTypeMismatch
	case errors.Is(err, payload.ErrRange):
		return mesh.StatusBadOutOfRange
	case errors.Is(err, payload.ErrLimit):
		return mesh.StatusBadEncodingLimitsExceeded
	}
	return mesh.StatusBadDecodingError
}

// quality is the status that a metric's Quality property says: 0 is Bad, 192 Good, 500
// stale (specification, 6.4.7); what else it may be is not Good.
func quality(m *payload.Metric) mesh.Status {
	q := m.Property("Quality")
	if q == nil || q.Null || q.Value.Kind != payload.InInt && q.Value.Kind != payload.InLong {
		return mesh.StatusGood
	}
	switch q.Value.Bits {
	case 0:
		return mesh.StatusBad
	case 192:
		return mesh.StatusGood
	case 500:
		return mesh.StatusUncertainLast
	}
	return mesh.StatusUncertain
}

// data takes the metrics of an NDATA or a DDATA.
func (h *host) data(n *node, x held, p *payload.Payload, st stamp) {
	u := n.unit(x.topic.device)
	if u == nil || !u.born {
		h.stranger(n, x)
		return
	}
	c := carrier{node: n, unit: u, stamp: st}
	defer h.settled(n, p, st)
	for i := range p.Metrics {
		m := &p.Metrics[i]
		if found := h.find(n, u, m); found != nil {
			h.sample(found, m, &c)
			continue
		}
		h.unnamed(&c, called(m), m)
	}
}

// unnamed notes a metric that no birth has named, and has its node asked.
func (h *host) unnamed(c *carrier, name string, m *payload.Metric) {
	h.counters.unnamed++
	if c.unit.partial { // it may have been, and its name could not be remembered
		h.refuseMetric(c, name, m, errFull)
		return
	}
	h.refuseMetric(c, name, m, errUnnamed)
	h.ask(c.node, c.stamp.at)
}

// called is what a metric of a message is called there.
func called(m *payload.Metric) string {
	if len(m.Name) > 0 || !m.HasAlias {
		return string(m.Name)
	}
	return fmt.Sprintf("alias %d", m.Alias)
}

// find is the metric that a message means; nil where it is not known.
func (h *host) find(n *node, u *unit, m *payload.Metric) *metric {
	if len(m.Name) > 0 {
		return u.metrics[string(m.Name)]
	}
	if x := n.aliases[m.Alias]; m.HasAlias && x != nil && x.unit == u {
		return x
	}
	return nil
}

// refuseMetric refuses one metric: it has no signal.
func (h *host) refuseMetric(c *carrier, name string, m *payload.Metric, err error) {
	name = clip(name)
	h.trace.metric(c, name, m, err)
	h.noteMetric(c, name, err)
}

// noteMetric notes one metric whose value could not be taken.
func (h *host) noteMetric(c *carrier, name string, err error) {
	name = clip(name)
	at := c.stamp.time
	if source.Suspect(at, c.stamp.at.plant) {
		at = c.stamp.at.plant
	}
	h.note(err, place(c.node.group, c.node.name, c.unit.device, name), nil, at, 1)
}

// clip is the beginning of a name: as much as a void's note shows. Names may be of any
// length, and one message may have the same long one before ten thousand others.
func clip[T ~string | ~[]byte](name T) T { return name[:min(len(name), maxPath)] }

// sample makes a sample of a metric. One whose value can't be taken has none, and a
// status that says why.
func (h *host) sample(x *metric, m *payload.Metric, c *carrier) {
	switch {
	case x.quiet:
		h.trace.leave(c, x, m, errQuiet)
		return
	case m.Transient: // not meant to be kept
		h.counters.transient++
		h.trace.leave(c, x, m, errTransient)
		return
	case x.of == payload.TemplateType:
		h.members(x, m, c)
		return
	case x.sig == nil:
		h.refuseMetric(c, x.name, m, x.why)
		return
	}
	s := mesh.Sample{Signal: x.sig.row.ID, Agent: c.stamp.at.plant, Flags: c.flags, Status: quality(m)}
	date(&s, m, c)
	var fault error
	if m.Null {
		s.Status = mesh.StatusBadNoData
	} else if v, err := h.value(x, m); err != nil {
		h.noteMetric(c, x.name, err)
		s.Status, fault = statusOf(err), err
	} else {
		s.Value = v
	}
	current := s.Flags&(mesh.FlagHistorical|mesh.FlagSuspect) == 0 && s.Value.Type != mesh.TypeNone
	if current && x.sig.dark && !c.stamp.late && s.Time <= x.sig.time {
		// It came after what said that nothing is known: a death has our clock's time,
		// and that may be ahead of the node's; and a value of long ago is known now.
		s.Time = max(c.stamp.time, x.sig.time+1)
	}
	h.sealer.Add(s)
	h.counters.samples++
	if h.trace != nil {
		h.trace.sample(c, x, m, s, fault)
	}
	if h.lit != nil && current {
		h.lit[x.sig] = max(h.lit[x.sig], s.Time)
	}
	if s.Flags&(mesh.FlagHistorical|mesh.FlagSuspect) == 0 && s.Time >= x.sig.time {
		x.sig.time = s.Time
		c.node.newest = max(c.node.newest, s.Time)
		if c.node.keeps {
			x.sig.value = worth{s.Value, s.Status}
			x.sig.value.value.Bytes = bytes.Clone(s.Value.Bytes) // else it would hold all that came with it
		}
		x.sig.dark = x.sig.dark && s.Value.Type == mesh.TypeNone
	}
}

// date gives a sample its event time: the metric's own, else the payload's, else when
// it came.
func date(s *mesh.Sample, m *payload.Metric, c *carrier) {
	switch t := m.Timestamp; {
	case t >= earliest && t <= latest:
		s.Time = mesh.Nanos(t * 1e6)
		s.Source = s.Time
	case c.stamp.given:
		s.Time, s.Source = c.stamp.time, c.stamp.time
	default:
		s.Time = c.stamp.time
		s.Flags |= mesh.FlagAgentTime
	}
	if source.Suspect(s.Time, s.Agent) || m.Timestamp != 0 && (m.Timestamp < earliest || m.Timestamp > latest) {
		s.Flags |= mesh.FlagSuspect
	}
	if m.Historical {
		s.Flags |= mesh.FlagHistorical
	}
}

// members takes a template's members and parameters. What a message leaves out of a
// template has not changed. Time, quality and flags of the template are those of its
// members that have none of their own.
func (h *host) members(x *metric, m *payload.Metric, c *carrier) {
	if m.Null || m.Value.Kind != payload.InTemplate || m.Template == nil {
		for _, child := range x.members { // a value of another kind is said of each
			none := payload.Metric{Null: m.Null, Timestamp: m.Timestamp, Historical: m.Historical, Properties: m.Properties, Value: m.Value}
			h.sample(child, &none, c)
		}
		if len(x.members) == 0 && !m.Null {
			h.refuseMetric(c, x.name, m, errNoMembers)
		}
		return
	}
	for i := range m.Template.Metrics {
		h.member(x, m, m.Template.Metrics[i], c)
	}
	for i := range m.Template.Parameters {
		p := &m.Template.Parameters[i]
		if x.members[string(p.Name)] != nil && isMember(m.Template, p.Name) {
			continue // a member has that name
		}
		h.member(x, m, payload.Metric{Name: p.Name, Type: p.Type, Value: p.Value}, c)
	}
}

func isMember(t *payload.Template, name []byte) bool {
	return slices.ContainsFunc(t.Metrics, func(m payload.Metric) bool { return string(m.Name) == string(name) })
}

func (h *host) member(x *metric, m *payload.Metric, child payload.Metric, c *carrier) {
	found := x.members[string(child.Name)]
	if found == nil {
		h.unnamed(c, clip(x.name)+"/"+string(clip(child.Name)), &child)
		return
	}
	if child.Timestamp == 0 {
		child.Timestamp = m.Timestamp
	}
	if child.Properties == nil {
		child.Properties = m.Properties
	}
	child.Historical = child.Historical || m.Historical
	h.sample(found, &child, c)
}

// value is a metric's value. Its bytes are copied.
func (h *host) value(x *metric, m *payload.Metric) (mesh.Value, error) {
	switch {
	case x.why != nil:
		return mesh.Value{}, x.why
	case m.Type != payload.Unknown && m.Type != x.of:
		return mesh.Value{}, fmt.Errorf("%w: %s, and its birth says %s", payload.ErrType, m.Type, x.of)
	case x.of == payload.DataSetType:
		return h.dataSet(x, m)
	case x.of.Array():
		items, err := x.of.Elements(h.items[:0], m.Value)
		if h.items = items[:0]; err != nil {
			return mesh.Value{}, err
		}
		return h.bodyOf(mesh.Item{Value: mesh.Value{Type: mesh.TypeArray}, Of: x.of.Item(), Items: items})
	}
	v, err := x.of.Scalar(m.Value)
	if err == nil && v.Type.OnHeap() {
		v.Bytes = h.keep(v.Bytes)
	}
	return v, err
}

// bodyOf is the value of an array.
func (h *host) bodyOf(i mesh.Item) (mesh.Value, error) {
	h.body = wire.AppendItem(h.body[:0], i)
	if n := len(h.body); n > wire.MaxText {
		return mesh.Value{}, fmt.Errorf("%w: an array of %d bytes, at most %d are stored", payload.ErrLimit, n, wire.MaxText)
	}
	return mesh.Value{Type: i.Value.Type, Bytes: h.keep(h.body)}, nil
}

// columns are the names and types of a data set's columns.
func columns(d *payload.DataSet) (names []string, types []payload.Type) {
	for _, c := range d.Columns {
		names = append(names, string(c))
	}
	return names, slices.Clone(d.Types)
}

// tableFields describe a data set: an array of structures, one for each row.
func tableFields(x *metric) []mesh.Field {
	row := mesh.Field{Type: mesh.TypeStruct}
	for i, name := range x.columns {
		f := mesh.Field{Name: strings.ToValidUTF8(name, "\uFFFD")} // else the whole table could not be written
		if i < len(x.types) {
			f.Type = x.types[i].MeshType()
		}
		row.Fields = append(row.Fields, f)
	}
	return []mesh.Field{row}
}

// dataSet makes an array of structures of a data set.
func (h *host) dataSet(x *metric, m *payload.Metric) (mesh.Value, error) {
	d := m.DataSet
	if m.Value.Kind != payload.InDataSet || d == nil {
		return mesh.Value{}, fmt.Errorf("%w: %s, and what came is %s", payload.ErrType, x.of, m.Value.Kind)
	}
	names, width := x.columns, len(d.Types)
	if names != nil && (len(d.Columns) != len(names) || !slices.Equal(d.Types, x.types) || !slices.EqualFunc(names, d.Columns, func(a string, b []byte) bool { return a == string(b) })) {
		return mesh.Value{}, errColumns
	}
	if width != len(d.Columns) {
		return mesh.Value{}, fmt.Errorf("%w: a data set of %d columns has %d types", payload.ErrForm, len(d.Columns), width)
	}
	n := len(d.Rows) * (1 + width)
	if n >= wire.MaxItems {
		return mesh.Value{}, fmt.Errorf("%w: a data set of %d rows and cells, at most %d are stored", payload.ErrLimit, n, wire.MaxItems-1)
	}
	all := slices.Grow(h.items[:0], n)[:n]
	h.items = all[:0]
	rows, cells := all[:len(d.Rows)], all[len(d.Rows):]
	for i, r := range d.Rows {
		if len(r.Cells) != width {
			return mesh.Value{}, fmt.Errorf("%w: a row of %d cells in a data set of %d columns", payload.ErrForm, len(r.Cells), width)
		}
		for k, v := range r.Cells {
			cells[k] = mesh.Item{}
			if v.Kind == payload.InNone {
				continue
			}
			value, err := d.Types[k].Scalar(v)
			if err != nil {
				return mesh.Value{}, fmt.Errorf("column %.40q: %w", d.Columns[k], err)
			}
			cells[k].Value = value
		}
		rows[i] = mesh.Item{Value: mesh.Value{Type: mesh.TypeStruct}, Items: cells[:width:width]}
		cells = cells[width:]
	}
	return h.bodyOf(mesh.Item{Value: mesh.Value{Type: mesh.TypeArray}, Of: mesh.TypeStruct, Items: rows})
}
