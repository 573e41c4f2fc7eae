package sparkplug

import (
	"encoding/hex"
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"

	edge "plantmesh/edge/source/sparkplug/payload"
	"plantmesh/firmware-sim/mqtt/sparkplug/payload"
	"plantmesh/proto/mesh"
)

// understood is a payload as the agent understands it.
func understood(p *edge.Payload) (m message, err error) {
	m.Timestamp = decimal(p.Timestamp)
	if p.HasSeq {
		m.Seq = decimal(p.Seq)
	}
	m.Metrics, err = metrics(p.Metrics)
	return m, err
}

func metrics(list []edge.Metric) (out []metric, err error) {
	for i := range list {
		x := &list[i]
		m := metric{Name: string(x.Name), Historical: x.Historical, Transient: x.Transient}
		if x.HasAlias {
			m.Alias = decimal(x.Alias)
		}
		if x.Timestamp != 0 {
			m.Timestamp = decimal(x.Timestamp)
		}
		if x.Properties != nil {
			if m.Properties, err = pairs(x.Properties); err != nil {
				return nil, err
			}
		}
		if m.Value, err = meant(x); err != nil {
			return nil, fmt.Errorf("metric %q: %w", x.Name, err)
		}
		out = append(out, m)
	}
	return out, nil
}

// meant is a metric's value.
func meant(x *edge.Metric) (value, error) {
	v := value{Type: payload.Type(x.Type), Null: x.Null}
	switch {
	case x.Null:
		return v, nil
	case x.Type == edge.DataSetType:
		return tableOf(x.DataSet)
	case x.Type == edge.TemplateType:
		return treeOf(x.Template)
	}
	return plain(x.Type, x.Value)
}

func plain(t edge.Type, x edge.Value) (value, error) {
	v := value{Type: payload.Type(t)}
	s, err := t.Scalar(x)
	if err != nil {
		return v, err
	}
	switch s.Type {
	case mesh.TypeInt:
		v.Is = strconv.FormatInt(int64(s.Bits), 10)
	case mesh.TypeUint:
		v.Is = strconv.FormatUint(s.Bits, 10)
	case mesh.TypeDouble:
		v.Is = fmt.Sprintf("%016x", s.Bits)
	case mesh.TypeBool:
		v.Is = strconv.FormatBool(s.Bits != 0)
	case mesh.TypeString:
		v.Is = string(s.Bytes)
		if t == edge.DateTime {
			at, err := time.Parse(time.RFC3339Nano, v.Is)
			if err != nil {
				return v, err
			}
			v.Is = decimal(uint64(at.UnixMilli()))
		}
	case mesh.TypeBytes:
		v.Is = hex.EncodeToString(s.Bytes)
	default:
		return v, fmt.Errorf("%s became a mesh value of type %d", t, s.Type)
	}
	return v, nil
}

func tableOf(d *edge.DataSet) (value, error) {
	v := value{Type: payload.DataSet, Set: &set{}}
	for _, c := range d.Columns {
		v.Set.Columns = append(v.Set.Columns, string(c))
	}
	for _, t := range d.Types {
		v.Set.Types = append(v.Set.Types, payload.Type(t))
	}
	if d.Width != uint64(len(d.Columns)) {
		return v, fmt.Errorf("%d columns, said to be %d", len(d.Columns), d.Width)
	}
	for _, row := range d.Rows {
		var cells []value
		for i, c := range row.Cells {
			cell, err := plain(d.Types[i], c)
			if err != nil {
				return v, err
			}
			cells = append(cells, cell)
		}
		v.Set.Rows = append(v.Set.Rows, cells)
	}
	return v, nil
}

func treeOf(t *edge.Template) (v value, err error) {
	v = value{Type: payload.Template}
	v.Tree = &tree{Version: string(t.Version), Ref: string(t.Ref), Definition: t.Definition}
	if v.Tree.Metrics, err = metrics(t.Metrics); err != nil {
		return v, err
	}
	for _, p := range t.Parameters {
		is, err := plain(p.Type, p.Value)
		if err != nil {
			return v, err
		}
		v.Tree.Parameters = append(v.Tree.Parameters, parameter{string(p.Name), is})
	}
	return v, nil
}

func decimal(n uint64) string { return strconv.FormatUint(n, 10) }

func pairs(s *edge.PropertySet) (out []property, err error) {
	for i, key := range s.Keys {
		p := &s.Values[i]
		v := value{Type: payload.Type(p.Type), Null: p.Null}
		switch {
		case p.Null:
		case p.Type == edge.PropertySetType:
			v.Pairs, err = pairs(p.Set)
		case p.Type == edge.PropertySetList:
			for j := range p.List {
				var one []property
				if one, err = pairs(&p.List[j]); err != nil {
					return nil, err
				}
				v.List = append(v.List, one)
			}
		default:
			v, err = plain(p.Type, p.Value)
		}
		if err != nil {
			return nil, fmt.Errorf("property %q: %w", key, err)
		}
		out = append(out, property{string(key), v})
	}
	return out, nil
}

// TestAgent_ReadsAndIsRead: the agent understands what the peer and the simulated
// nodes write, and what it writes itself the peer reads.
func TestAgent_ReadsAndIsRead(t *testing.T) {
	p := newPeer(t)
	var d edge.Decoder
	for _, r := range rounds() {
		m := r.message()
		writers := map[string][]byte{"a node": m.simulated(false).Append(nil), "a node, UInt32 wide": m.simulated(true).Append(nil)}
		if r.dumb == "" {
			b, failed := p.writes(m)
			if failed != "" {
				t.Errorf("%s: the peer can't write it: %s", r.name, failed)
			}
			writers["the peer"] = b
		}
		for who, b := range writers {
			read, err := d.Decode(b)
			if err != nil {
				t.Errorf("%s, of %s: %v", r.name, who, err)
				continue
			}
			if got, err := understood(read); err != nil || !reflect.DeepEqual(got, m) {
				t.Errorf("%s, of %s: the agent understands %.500v %v, want %.500v", r.name, who, fmt.Sprint(got), err, fmt.Sprint(m))
			}
			if who == "a node" || r.deaf != "" { // the peer looks for a UInt32 elsewhere
				continue
			}
			if got, failed := p.reads(edge.Append(nil, read)); failed != "" || !reflect.DeepEqual(got, m) {
				t.Errorf("%s, of %s and said again by the agent: the peer reads %.500v %s", r.name, who, fmt.Sprint(got), failed)
			}
		}
	}
}

// TestAgent_ReadsArrays: the peer knows none, so here are the simulator's.
func TestAgent_ReadsArrays(t *testing.T) {
	var d edge.Decoder
	for typ, c := range map[payload.Type]struct {
		raw  []byte
		want string
	}{
		payload.Int8Array:     {[]byte{0xff, 0x80, 0x7f}, "-1 -128 127"},
		payload.Int16Array:    {[]byte{0xff, 0xff, 0, 0x80}, "-1 -32768"},
		payload.Int32Array:    {[]byte{0xff, 0xff, 0xff, 0xff}, "-1"},
		payload.Int64Array:    {[]byte{0, 0, 0, 0, 0, 0, 0, 0x80}, "-9223372036854775808"},
		payload.UInt8Array:    {[]byte{0xff, 0}, "255 0"},
		payload.UInt16Array:   {[]byte{0xff, 0xff}, "65535"},
		payload.UInt32Array:   {[]byte{0xff, 0xff, 0xff, 0xff}, "4294967295"},
		payload.UInt64Array:   {[]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, "18446744073709551615"},
		payload.FloatArray:    {[]byte{0, 0, 0xc0, 0x3f, 0, 0, 0x80, 0x7f}, "1.5 +Inf"},
		payload.DoubleArray:   {[]byte{0, 0, 0, 0, 0, 0, 0xf8, 0x3f}, "1.5"},
		payload.BooleanArray:  {[]byte{10, 0, 0, 0, 0xa0, 0x40}, "true false true false false false false false false true"},
		payload.StringArray:   {[]byte("a\x00\x00\xc3\xa4\x00"), "a  ä"},
		payload.DateTimeArray: {[]byte{0, 0x96, 0x8d, 0xa7, 0x9c, 1, 0, 0}, "2026-03-01T04:00:00Z"},
	} {
		m := payload.Payload{Metrics: []payload.Metric{{Name: "a", Type: typ, Value: payload.Value{Type: typ, Raw: c.raw}}}}
		read, err := d.Decode(m.Append(nil))
		if err != nil {
			t.Errorf("type %d: %v", typ, err)
			continue
		}
		items, err := edge.Type(typ).Elements(nil, read.Metrics[0].Value)
		var texts []string
		for _, x := range items {
			texts = append(texts, x.Value.String())
		}
		if got := strings.Join(texts, " "); err != nil || got != c.want {
			t.Errorf("type %d: the agent reads %q %v, want %q", typ, got, err, c.want)
		}
	}
}
