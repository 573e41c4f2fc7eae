package sparkplug

import (
	"encoding/hex"
	"fmt"
	"math"
	"strconv"

	"plantmesh/firmware-sim/mqtt/sparkplug/payload"
)

// message is a payload in nobody's format: texts, so that no number is rounded.
type message struct {
	Timestamp string   `json:"timestamp,omitempty"`
	Seq       string   `json:"seq,omitempty"`
	Metrics   []metric `json:"metrics"`
}

type metric struct {
	Name       string     `json:"name,omitempty"`
	Alias      string     `json:"alias,omitempty"`
	Timestamp  string     `json:"timestamp,omitempty"`
	Historical bool       `json:"historical,omitempty"`
	Transient  bool       `json:"transient,omitempty"`
	Properties []property `json:"properties,omitempty"`
	Value      value      `json:"value"`
}

// value is one of some data type: Is for those that fit one line, doubles as the
// hex of their bits, bytes as hex.
type value struct {
	Type  payload.Type `json:"type"`
	Null  bool         `json:"null,omitempty"`
	Is    string       `json:"is,omitempty"`
	Set   *set         `json:"set,omitempty"`
	Tree  *tree        `json:"tree,omitempty"`
	Pairs []property   `json:"pairs,omitempty"`
	List  [][]property `json:"list,omitempty"`
}

type property struct {
	Key   string `json:"key"`
	Value value  `json:"value"`
}

type set struct {
	Columns []string       `json:"columns,omitempty"`
	Types   []payload.Type `json:"types,omitempty"`
	Rows    [][]value      `json:"rows,omitempty"`
}

type tree struct {
	Version    string      `json:"version,omitempty"`
	Ref        string      `json:"ref,omitempty"`
	Definition bool        `json:"definition,omitempty"`
	Metrics    []metric    `json:"metrics,omitempty"`
	Parameters []parameter `json:"parameters,omitempty"`
}

type parameter struct {
	Name  string `json:"name"`
	Value value  `json:"value"`
}

// floating is a Float or a Double.
func floating(t payload.Type, f float64) value {
	return value{Type: t, Is: fmt.Sprintf("%016x", math.Float64bits(f))}
}

func number(s string) uint64 {
	if s == "" {
		return 0
	}
	if n, err := strconv.ParseInt(s, 10, 64); err == nil {
		return uint64(n)
	}
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil {
		panic(err) // a case of ours is wrong
	}
	return n
}

// simulated is the message for the simulator's encoder.
func (m message) simulated(wide bool) *payload.Payload {
	p := &payload.Payload{Timestamp: number(m.Timestamp), Unordered: m.Seq == "", Seq: uint8(number(m.Seq))}
	for _, x := range m.Metrics {
		p.Metrics = append(p.Metrics, x.simulated(wide))
	}
	return p
}

func (m metric) simulated(wide bool) payload.Metric {
	return payload.Metric{
		Name: m.Name, Alias: number(m.Alias), Timestamp: number(m.Timestamp), Type: m.Value.Type,
		Historical: m.Historical, Transient: m.Transient, Null: m.Value.Null,
		Properties: properties(m.Properties, wide), Value: m.Value.simulated(wide),
	}
}

func properties(list []property, wide bool) (out payload.Properties) {
	for _, p := range list {
		out = append(out, payload.Property{Key: p.Key, Null: p.Value.Null, Value: p.Value.simulated(wide)})
	}
	return out
}

func (v value) simulated(wide bool) payload.Value {
	out := payload.Value{Type: v.Type, Wide: wide}
	if v.Null {
		return out
	}
	switch v.Type {
	case payload.Float, payload.Double:
		bits, err := strconv.ParseUint(v.Is, 16, 64)
		if err != nil {
			panic(err) // a case of ours is wrong
		}
		out.F = math.Float64frombits(bits)
	case payload.Boolean:
		out = payload.Bool(v.Is == "true")
	case payload.String, payload.Text, payload.UUID:
		out.S = v.Is
	case payload.Bytes, payload.File:
		b, err := hex.DecodeString(v.Is)
		if err != nil {
			panic(err) // a case of ours is wrong
		}
		out.Raw = b
	case payload.DataSet:
		out.Set = &payload.Set{Columns: v.Set.Columns, Types: v.Set.Types}
		for _, row := range v.Set.Rows {
			var cells []payload.Value
			for _, c := range row {
				cells = append(cells, c.simulated(wide))
			}
			out.Set.Rows = append(out.Set.Rows, cells)
		}
	case payload.Template:
		out.Template = &payload.Tree{Version: v.Tree.Version, Ref: v.Tree.Ref, Definition: v.Tree.Definition}
		for _, m := range v.Tree.Metrics {
			out.Template.Metrics = append(out.Template.Metrics, m.simulated(wide))
		}
		for _, p := range v.Tree.Parameters {
			out.Template.Parameters = append(out.Template.Parameters, payload.Parameter{Name: p.Name, Value: p.Value.simulated(wide)})
		}
	case payload.PropertySet:
		out.Pairs = properties(v.Pairs, wide)
	case payload.PropertySetList:
		for _, l := range v.List {
			out.List = append(out.List, properties(l, wide))
		}
	default:
		out.N = number(v.Is)
	}
	return out
}
