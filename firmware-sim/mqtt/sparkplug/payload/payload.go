// Package payload writes Sparkplug B payloads, from the field numbers of
// Sparkplug 3.0, chapter 6. It shares nothing with those who read them: what
// both sides got wrong alike would be seen by nobody.
package payload

import (
	"encoding/binary"
	"math"
)

// Type is a Sparkplug data type (Sparkplug 3.0, 6.4.16).
type Type uint32

// Data types. Signed integers travel in unsigned fields, as two's complement of
// that field's width.
const (
	Unknown Type = iota
	Int8
	Int16
	Int32
	Int64
	UInt8
	UInt16
	UInt32
	UInt64
	Float
	Double
	Boolean
	String
	DateTime // ms since 1970, UTC
	Text
	UUID
	DataSet
	Bytes
	File
	Template
	PropertySet
	PropertySetList
	Int8Array
	Int16Array
	Int32Array
	Int64Array
	UInt8Array
	UInt16Array
	UInt32Array
	UInt64Array
	FloatArray
	DoubleArray
	BooleanArray
	StringArray
	DateTimeArray
)

// Quality codes, the values of the property Quality (Sparkplug 3.0, 6.4.8).
const (
	Bad   = 0
	Good  = 192
	Stale = 500
)

// Payload is one message.
type Payload struct {
	Timestamp uint64 // ms; 0: none
	Metrics   []Metric
	Seq       uint8
	Unordered bool // there is no sequence number: a death, a command
}

// Metric is one value with what is said of it.
type Metric struct {
	Name       string // empty: only the alias says which
	Alias      uint64 // 0: none
	Timestamp  uint64 // ms; 0: none
	Type       Type   // of Value; 0: it is not said
	Historical bool
	Transient  bool
	Null       bool // there is no value
	Properties Properties
	Value      Value
}

// Value is a value of some type; each type has its field. The type of a metric
// is said in its birth only, so the value knows its own.
type Value struct {
	Type     Type
	N        uint64       // integers, DateTime, Boolean (0 or 1); signed ones as int64
	F        float64      // Float, Double
	S        string       // String, Text, UUID
	Raw      []byte       // Bytes, File, and the arrays as 6.4.17 packs them
	Set      *Set         // DataSet
	Template *Tree        // Template
	Pairs    Properties   // PropertySet
	List     []Properties // PropertySetList
	Wide     bool         // UInt32 in the field of 64 bits, as Eclipse Tahu does
}

// Set is a table (6.4.10).
type Set struct {
	Columns []string
	Types   []Type
	Rows    [][]Value
}

// Tree is a template or an instance of one (6.4.13).
type Tree struct {
	Version    string
	Ref        string // of an instance
	Definition bool
	Metrics    []Metric
	Parameters []Parameter
}

// Parameter is one of a template's.
type Parameter struct {
	Name  string
	Value Value
}

// Properties are named values (6.4.7), in their order.
type Properties []Property

// Property is one of them. Null: it has no value.
type Property struct {
	Key   string
	Value Value
	Null  bool
}

// Int is a value of a signed type.
func Int(t Type, n int64) Value { return Value{Type: t, N: uint64(n)} }

// Bool is a Boolean.
func Bool(b bool) Value {
	v := Value{Type: Boolean}
	if b {
		v.N = 1
	}
	return v
}

// Quality is the property that says how far a value can be trusted.
func Quality(code int64) Property { return Property{Key: "Quality", Value: Int(Int32, code)} }

// Append appends p's bytes to b.
func (p *Payload) Append(b []byte) []byte {
	b = appendNumber(b, 1, p.Timestamp, p.Timestamp != 0)
	for i := range p.Metrics {
		b = nest(b, 2, p.Metrics[i].append)
	}
	return appendNumber(b, 3, uint64(p.Seq), !p.Unordered)
}

func (m *Metric) append(b []byte) []byte {
	b = appendText(b, 1, m.Name, m.Name != "")
	b = appendNumber(b, 2, m.Alias, m.Alias != 0)
	b = appendNumber(b, 3, m.Timestamp, m.Timestamp != 0)
	b = appendNumber(b, 4, uint64(m.Type), m.Type != Unknown)
	b = appendNumber(b, 5, 1, m.Historical)
	b = appendNumber(b, 6, 1, m.Transient)
	b = appendNumber(b, 7, 1, m.Null)
	if len(m.Properties) > 0 {
		b = nest(b, 9, m.Properties.append)
	}
	if m.Null {
		return b
	}
	v := m.Value
	switch v.Type {
	case DataSet:
		return nest(b, 17, v.Set.append)
	case Template:
		return nest(b, 18, v.Template.append)
	case Bytes, File:
		return appendText(b, 16, v.Raw, true)
	default:
		if v.Type >= Int8Array && v.Type <= DateTimeArray {
			return appendText(b, 16, v.Raw, true)
		}
		return v.appendPlain(b, 10)
	}
}

// appendPlain appends a value in one of six fields that follow each other
// wherever there are values: int, long, float, double, boolean, string.
func (v *Value) appendPlain(b []byte, first int) []byte {
	switch v.Type {
	case Int8, Int16, Int32, UInt8, UInt16:
		return appendNumber(b, first, uint64(uint32(v.N)), true)
	case UInt32:
		if v.Wide {
			return appendNumber(b, first+1, v.N, true)
		}
		return appendNumber(b, first, uint64(uint32(v.N)), true)
	case Int64, UInt64, DateTime:
		return appendNumber(b, first+1, v.N, true)
	case Float:
		b = binary.AppendUvarint(b, uint64(first+2)<<3|fixed32)
		return binary.LittleEndian.AppendUint32(b, math.Float32bits(float32(v.F)))
	case Double:
		b = binary.AppendUvarint(b, uint64(first+3)<<3|fixed64)
		return binary.LittleEndian.AppendUint64(b, math.Float64bits(v.F))
	case Boolean:
		return appendNumber(b, first+4, v.N, true)
	case String, Text, UUID:
		return appendText(b, first+5, v.S, true)
	default: // it has no plain form
		return b
	}
}

func (s *Set) append(b []byte) []byte {
	b = appendNumber(b, 1, uint64(len(s.Columns)), true)
	for _, c := range s.Columns {
		b = appendText(b, 2, c, true)
	}
	for _, t := range s.Types {
		b = appendNumber(b, 3, uint64(t), true)
	}
	for _, row := range s.Rows {
		b = nest(b, 4, func(b []byte) []byte {
			for i := range row {
				b = nest(b, 1, func(b []byte) []byte { return row[i].appendPlain(b, 1) })
			}
			return b
		})
	}
	return b
}

func (t *Tree) append(b []byte) []byte {
	b = appendText(b, 1, t.Version, t.Version != "")
	for i := range t.Metrics {
		b = nest(b, 2, t.Metrics[i].append)
	}
	for i := range t.Parameters {
		p := &t.Parameters[i]
		b = nest(b, 3, func(b []byte) []byte {
			b = appendText(b, 1, p.Name, true)
			b = appendNumber(b, 2, uint64(p.Value.Type), true)
			return p.Value.appendPlain(b, 3)
		})
	}
	b = appendText(b, 4, t.Ref, t.Ref != "")
	definition := uint64(0)
	if t.Definition {
		definition = 1
	}
	return appendNumber(b, 5, definition, true)
}

func (p Properties) append(b []byte) []byte {
	for i := range p {
		b = appendText(b, 1, p[i].Key, true)
	}
	for i := range p {
		b = nest(b, 2, p[i].append)
	}
	return b
}

func (p *Property) append(b []byte) []byte {
	b = appendNumber(b, 1, uint64(p.Value.Type), true)
	b = appendNumber(b, 2, 1, p.Null)
	switch {
	case p.Null:
		return b
	case p.Value.Type == PropertySet:
		return nest(b, 9, p.Value.Pairs.append)
	case p.Value.Type == PropertySetList:
		return nest(b, 10, func(b []byte) []byte {
			for _, set := range p.Value.List {
				b = nest(b, 1, set.append)
			}
			return b
		})
	}
	return p.Value.appendPlain(b, 3)
}
