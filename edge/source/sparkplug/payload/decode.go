package payload

import (
	"fmt"
)

// count is how many fields of two numbers a message has. What can't be read is
// found again where it is read.
func count(b []byte, one, other uint64) (ones, others int) {
	r := reader{b: b}
	for r.next() {
		switch r.num {
		case one:
			ones++
		case other:
			others++
		}
		r.skip()
	}
	return ones, others
}

// keptParts is how much of a block is used again: one that a single payload made
// large is given back.
const keptParts = 16 << 10

// pool gives slices out of one block, which is used again.
type pool[T any] struct{ room []T }

func (p *pool[T]) reset() {
	if cap(p.room) > keptParts {
		p.room = nil
	}
	p.room = p.room[:0]
}

// take gives n zero values; slices that it gave before stay as they are.
func (p *pool[T]) take(n int) []T {
	if n == 0 {
		return nil
	}
	if len(p.room)+n > cap(p.room) {
		p.room = make([]T, 0, max(n, 2*cap(p.room), 16))
	}
	from := len(p.room)
	p.room = p.room[:from+n]
	out := p.room[from : from+n : from+n]
	clear(out)
	return out
}

// one gives was, emptied, or a value of its own where that is nil: a field that comes
// again takes no more memory.
func (p *pool[T]) one(was *T) *T {
	if was == nil {
		return &p.take(1)[0]
	}
	var zero T
	*was = zero
	return was
}

// Decoder reads payloads, one after the other. Not safe for concurrent use.
//
// Its memory is bounded by the limits: at most 160 bytes for each of MaxMetrics and 80
// for each of 100,000 other parts, and as blocks grow by doubling, three times that: 30 MiB
// for the worst payload there can be, of which at most 10 MiB are kept for the next.
type Decoder struct {
	MaxMetrics int // of a payload; 0: the constant of that name

	out   Payload
	err   error
	left  int // metrics that may still come
	parts int // of everything else

	metrics    pool[Metric]
	metas      pool[Meta]
	sets       pool[PropertySet]
	properties pool[Property]
	tables     pool[DataSet]
	rows       pool[Row]
	values     pool[Value]
	texts      pool[[]byte]
	types      pool[Type]
	templates  pool[Template]
	parameters pool[Parameter]
}

// Decode reads b. The payload holds until the next call, and points into b.
func (d *Decoder) Decode(b []byte) (*Payload, error) {
	d.reset()
	if len(b) > MaxBytes {
		return nil, fmt.Errorf("%w: %d bytes, at most %d are taken", ErrLimit, len(b), MaxBytes)
	}
	n, _ := count(b, 2, 0)
	p := &d.out
	p.Metrics = d.takeMetrics(n)
	r, at := reader{b: b}, 0
	for d.err == nil && r.next() {
		switch r.num {
		case 1:
			p.Timestamp = r.varint()
		case 2:
			d.metric(&p.Metrics[at], r.bytes(), 1)
			at++
		case 3:
			p.Seq, p.HasSeq = r.varint(), true
		case 4:
			p.UUID = r.text()
		case 5:
			p.Body = r.bytes()
		default:
			r.skip()
		}
	}
	d.end(&r)
	if d.err != nil {
		return nil, d.err
	}
	return p, nil
}

func (d *Decoder) reset() {
	d.out, d.err, d.left, d.parts = Payload{}, nil, MaxMetrics, maxParts
	if d.MaxMetrics > 0 {
		d.left = min(d.MaxMetrics, MaxMetrics)
	}
	d.metrics.reset()
	d.metas.reset()
	d.sets.reset()
	d.properties.reset()
	d.tables.reset()
	d.rows.reset()
	d.values.reset()
	d.texts.reset()
	d.types.reset()
	d.templates.reset()
	d.parameters.reset()
}

func (d *Decoder) fail(err error) {
	if d.err == nil {
		d.err = err
	}
}

// end takes over what went wrong in a message.
func (d *Decoder) end(r *reader) {
	if r.err != nil {
		d.fail(r.err)
	}
}

func (d *Decoder) takeMetrics(n int) []Metric {
	if d.left -= n; d.left < 0 {
		d.fail(fmt.Errorf("%w: more metrics than are taken (max_metrics)", ErrLimit))
		return nil
	}
	return d.metrics.take(n)
}

// spend counts n parts.
func (d *Decoder) spend(n int) bool {
	if d.parts -= n; d.parts < 0 {
		d.fail(fmt.Errorf("%w: more than %d properties, parameters and cells", ErrLimit, maxParts))
	}
	return d.err == nil
}

// enter bounds how deep messages stand in each other.
func (d *Decoder) enter(depth int) bool {
	if depth > MaxDepth {
		d.fail(fmt.Errorf("%w: nested deeper than %d", ErrLimit, MaxDepth))
	}
	return d.err == nil
}

func (d *Decoder) metric(m *Metric, b []byte, depth int) {
	r := reader{b: b}
	for d.err == nil && r.next() {
		switch r.num {
		case 1:
			m.Name = r.text()
		case 2:
			m.Alias, m.HasAlias = r.varint(), true
		case 3:
			m.Timestamp = r.varint()
		case 4:
			m.Type = Type(r.varint())
		case 5:
			m.Historical = r.boolean()
		case 6:
			m.Transient = r.boolean()
		case 7:
			m.Null = r.boolean()
		case 8:
			m.Meta = d.meta(m.Meta, r.bytes())
		case 9:
			m.Properties = d.set(m.Properties, r.bytes(), depth)
		case 17:
			m.Value = Value{Kind: InDataSet}
			m.DataSet = d.table(m.DataSet, r.bytes())
		case 18:
			m.Value = Value{Kind: InTemplate}
			m.Template = d.template(m.Template, r.bytes(), depth+1)
		default:
			r.value(&m.Value, metricFields())
		}
	}
	d.end(&r)
}

// fields are the numbers under which a message has its value.
type fields struct {
	first     uint64 // of int; long, float, double, boolean, string follow
	bytes     uint64 // 0: none
	extension uint64
}

func metricFields() fields    { return fields{10, 16, 19} }
func propertyFields() fields  { return fields{3, 0, 11} }
func parameterFields() fields { return fields{3, 0, 9} }
func cellFields() fields      { return fields{1, 0, 7} }

// value reads the field at hand where it is a value, else goes over it. Of several
// values the last one counts.
func (r *reader) value(v *Value, f fields) {
	n := r.num - f.first // wraps where it is less
	switch {
	case n == 0:
		*v = Value{Kind: InInt, Bits: uint64(uint32(r.varint()))}
	case n == 1:
		*v = Value{Kind: InLong, Bits: r.varint()}
	case n == 2:
		*v = Value{Kind: InFloat, Bits: r.fixed32()}
	case n == 3:
		*v = Value{Kind: InDouble, Bits: r.fixed64()}
	case n == 4:
		*v = Value{Kind: InBoolean}
		if r.boolean() {
			v.Bits = 1
		}
	case n == 5:
		*v = Value{Kind: InString, Bytes: r.bytes()}
	case r.num == f.bytes:
		*v = Value{Kind: InBytes, Bytes: r.bytes()}
	case r.num == f.extension:
		*v = Value{Kind: InExtension, Bytes: r.bytes()}
	default:
		r.skip()
	}
}

func (d *Decoder) meta(was *Meta, b []byte) *Meta {
	m := d.metas.one(was)
	r := reader{b: b}
	for r.next() {
		switch r.num {
		case 1:
			m.MultiPart = r.boolean()
		case 2:
			m.ContentType = r.text()
		case 3:
			m.Size = r.varint()
		case 4:
			m.Seq = r.varint()
		case 5:
			m.FileName = r.text()
		case 6:
			m.FileType = r.text()
		case 7:
			m.MD5 = r.text()
		case 8:
			m.Comment = r.text()
		default:
			r.skip()
		}
	}
	d.end(&r)
	return m
}

func (d *Decoder) set(was *PropertySet, b []byte, depth int) *PropertySet {
	if !d.enter(depth) || !d.spend(1) {
		return nil
	}
	s := d.sets.one(was)
	d.fillSet(s, b, depth)
	return s
}

func (d *Decoder) fillSet(s *PropertySet, b []byte, depth int) {
	keys, values := count(b, 1, 2)
	if !d.spend(keys + values) {
		return
	}
	s.Keys, s.Values = d.texts.take(keys), d.properties.take(values)
	r := reader{b: b}
	keys, values = 0, 0
	for d.err == nil && r.next() {
		switch r.num {
		case 1:
			s.Keys[keys] = r.text()
			keys++
		case 2:
			d.property(&s.Values[values], r.bytes(), depth)
			values++
		default:
			r.skip()
		}
	}
	d.end(&r)
}

func (d *Decoder) property(p *Property, b []byte, depth int) {
	r := reader{b: b}
	for d.err == nil && r.next() {
		switch r.num {
		case 1:
			p.Type = Type(r.varint())
		case 2:
			p.Null = r.boolean()
		case 9:
			p.Value = Value{Kind: InSet}
			p.Set = d.set(p.Set, r.bytes(), depth+1)
		case 10:
			p.Value = Value{Kind: InSetList}
			p.List = d.list(r.bytes(), depth+1)
		default:
			r.value(&p.Value, propertyFields())
		}
	}
	d.end(&r)
}

func (d *Decoder) list(b []byte, depth int) []PropertySet {
	n, _ := count(b, 1, 0)
	if !d.enter(depth) || !d.spend(n) {
		return nil
	}
	out := d.sets.take(n)
	r, at := reader{b: b}, 0
	for d.err == nil && r.next() {
		if r.num != 1 {
			r.skip()
			continue
		}
		d.fillSet(&out[at], r.bytes(), depth)
		at++
	}
	d.end(&r)
	return out
}

func (d *Decoder) template(was *Template, b []byte, depth int) *Template {
	if !d.enter(depth) {
		return nil
	}
	t := d.templates.one(was)
	metrics, parameters := count(b, 2, 3)
	if t.Metrics = d.takeMetrics(metrics); !d.spend(parameters) {
		return t
	}
	t.Parameters = d.parameters.take(parameters)
	r := reader{b: b}
	metrics, parameters = 0, 0
	for d.err == nil && r.next() {
		switch r.num {
		case 1:
			t.Version = r.text()
		case 2:
			d.metric(&t.Metrics[metrics], r.bytes(), depth)
			metrics++
		case 3:
			d.parameter(&t.Parameters[parameters], r.bytes())
			parameters++
		case 4:
			t.Ref = r.text()
		case 5:
			t.Definition = r.boolean()
		default:
			r.skip()
		}
	}
	d.end(&r)
	return t
}

func (d *Decoder) parameter(p *Parameter, b []byte) {
	r := reader{b: b}
	for r.next() {
		switch r.num {
		case 1:
			p.Name = r.text()
		case 2:
			p.Type = Type(r.varint())
		default:
			r.value(&p.Value, parameterFields())
		}
	}
	d.end(&r)
}
