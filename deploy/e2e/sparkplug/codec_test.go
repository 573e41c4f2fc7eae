package sparkplug

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"math"
	"reflect"
	"strings"
	"testing"

	"plantmesh/firmware-sim/mqtt/sparkplug/payload"
)

// round is one metric that must come through whatever wrote it and whatever reads it.
type round struct {
	metric

	name string
	deaf string // why the peer can't read it; it says something else, or fails
	dumb string // why the peer can't write it
}

func integers(t payload.Type, list ...string) (out []round) {
	for _, is := range list {
		out = append(out, round{name: fmt.Sprintf("type %d is %s", t, is), metric: metric{Value: value{Type: t, Is: is}}})
	}
	return out
}

// rounds are all data types with their ends. Arrays, types 22 to 34, are not here: the
// peer knows no type above 21 and reads them as nothing; TestPeer_KnowsNoArrays.
func rounds() (all []round) {
	all = append(all, integers(payload.Int8, "-128", "-1", "0", "127")...)
	all = append(all, integers(payload.Int16, "-32768", "-1", "0", "32767")...)
	all = append(all, integers(payload.Int32, "-2147483648", "-1", "0", "2147483647")...)
	all = append(all, integers(payload.Int64, "-9223372036854775808", "-1", "0", "9007199254740993", "9223372036854775807")...)
	all = append(all, integers(payload.UInt8, "0", "255")...)
	all = append(all, integers(payload.UInt16, "0", "65535")...)
	all = append(all, integers(payload.UInt32, "0", "2147483648", "4294967295")...)
	all = append(all, integers(payload.UInt64, "0", "9223372036854775808", "18446744073709551615")...)
	all = append(all, integers(payload.DateTime, "0", "1772337600000", "253402300799999")...)
	for _, f := range []float64{0, math.Copysign(0, -1), 1.5, -2.25, math.Inf(1), math.Inf(-1), math.NaN()} {
		all = append(all, round{name: fmt.Sprintf("Float %g", f), metric: metric{Value: floating(payload.Float, canonical(f))}},
			round{name: fmt.Sprintf("Double %g", f), metric: metric{Value: floating(payload.Double, canonical(f))}})
	}
	for _, f := range []float64{math.MaxFloat32, math.SmallestNonzeroFloat32} {
		all = append(all, round{name: fmt.Sprintf("Float %g", f), metric: metric{Value: floating(payload.Float, f)}})
	}
	for _, f := range []float64{math.MaxFloat64, math.SmallestNonzeroFloat64, 0.1} {
		all = append(all, round{name: fmt.Sprintf("Double %g", f), metric: metric{Value: floating(payload.Double, f)}})
	}
	for _, is := range []string{"true", "false"} {
		all = append(all, round{name: "Boolean " + is, metric: metric{Value: value{Type: payload.Boolean, Is: is}}})
	}
	for i, is := range []string{"", "plain", "Grüße, 工場 🍺", "a\x00b\n", strings.Repeat("x", 60_000)} {
		for _, t := range []payload.Type{payload.String, payload.Text} {
			all = append(all, round{name: fmt.Sprintf("text %d of type %d", i, t), metric: metric{Value: value{Type: t, Is: is}}})
		}
	}
	all = append(all, round{name: "UUID", metric: metric{Value: value{Type: payload.UUID, Is: "7b1c8bd2-3f2c-4f9e-9a6e-1d1f6a3c9f10"}}})
	for i, is := range []string{"", "00", "ff00fe", strings.Repeat("ab", 20_000)} {
		all = append(all, round{name: fmt.Sprintf("Bytes %d", i), metric: metric{Value: value{Type: payload.Bytes, Is: is}}},
			round{name: fmt.Sprintf("File %d", i), metric: metric{Value: value{Type: payload.File, Is: is}}})
	}
	return append(append(append(all, flags()...), sets()...), trees()...)
}

// canonical is the one NaN that JavaScript has.
func canonical(f float64) float64 {
	if math.IsNaN(f) {
		return math.Float64frombits(0x7ff8000000000000)
	}
	return f
}

func flags() []round {
	v := value{Type: payload.Int32, Is: "-1"}
	quality := func(code string) property {
		return property{"Quality", value{Type: payload.Int32, Is: code}}
	}
	return []round{
		{name: "all flags", metric: metric{Alias: "18446744073709551615", Timestamp: "1772337600123", Historical: true, Transient: true, Value: v}},
		{name: "null", metric: metric{Value: value{Type: payload.Double, Null: true}}},
		{name: "null text", metric: metric{Value: value{Type: payload.String, Null: true}}},
		{name: "bad", metric: metric{Properties: []property{quality("0")}, Value: value{Type: payload.Int64, Null: true}}},
		{name: "good", metric: metric{Properties: []property{quality("192")}, Value: v}},
		{name: "stale", metric: metric{Properties: []property{quality("500")}, Value: v}},
		{name: "null of a set", metric: metric{Value: value{Type: payload.DataSet, Null: true}}, deaf: "it reads the table before it looks at is_null", dumb: "it writes the table before it looks at is_null"},
		{name: "properties of all types", metric: metric{Value: v, Properties: []property{
			{"i8", value{Type: payload.Int8, Is: "-1"}},
			{"i16", value{Type: payload.Int16, Is: "-32768"}},
			{"i32", value{Type: payload.Int32, Is: "-1"}},
			{"i64", value{Type: payload.Int64, Is: "-1"}},
			{"u8", value{Type: payload.UInt8, Is: "255"}},
			{"u32", value{Type: payload.UInt32, Is: "4294967295"}},
			{"u64", value{Type: payload.UInt64, Is: "18446744073709551615"}},
			{"f", floating(payload.Float, -0.5)},
			{"d", floating(payload.Double, math.Copysign(0, -1))},
			{"b", value{Type: payload.Boolean, Is: "true"}},
			{"engUnit", value{Type: payload.String, Is: "1/min"}},
			{"t", value{Type: payload.DateTime, Is: "1772337600000"}},
			{"", value{Type: payload.Text, Is: ""}},
			{"null", value{Type: payload.Int32, Null: true}},
			{"set", value{Type: payload.PropertySet, Pairs: []property{{"deep", value{Type: payload.PropertySet, Pairs: []property{quality("192")}}}}}},
			{"list", value{Type: payload.PropertySetList, List: [][]property{{quality("0")}, {quality("500"), {"low", floating(payload.Double, 1)}}}}},
		}}},
	}
}

func sets() []round {
	row := func(cells ...value) []value { return cells }
	// readable are the column types the peer can read, with their ends.
	readable := &set{
		Columns: []string{"i64", "u32", "f", "d", "b", "s"},
		Types:   []payload.Type{payload.Int64, payload.UInt32, payload.Float, payload.Double, payload.Boolean, payload.String},
		Rows: [][]value{
			row(value{Type: payload.Int64, Is: "-1"}, value{Type: payload.UInt32, Is: "4294967295"}, floating(payload.Float, math.Inf(-1)), floating(payload.Double, canonical(math.NaN())),
				value{Type: payload.Boolean, Is: "true"}, value{Type: payload.String, Is: "ä"}),
			row(value{Type: payload.Int64, Is: "0"}, value{Type: payload.UInt32, Is: "0"}, floating(payload.Float, 0), floating(payload.Double, math.Copysign(0, -1)),
				value{Type: payload.Boolean, Is: "false"}, value{Type: payload.String, Is: ""}),
		},
	}
	rest := &set{
		Columns: []string{"i8", "i16", "i32", "u8", "u16", "u64", "t", "x"},
		Types:   []payload.Type{payload.Int8, payload.Int16, payload.Int32, payload.UInt8, payload.UInt16, payload.UInt64, payload.DateTime, payload.Text},
		Rows: [][]value{row(value{Type: payload.Int8, Is: "-1"}, value{Type: payload.Int16, Is: "-1"}, value{Type: payload.Int32, Is: "-2147483648"}, value{Type: payload.UInt8, Is: "255"},
			value{Type: payload.UInt16, Is: "65535"}, value{Type: payload.UInt64, Is: "18446744073709551615"}, value{Type: payload.DateTime, Is: "1772337600000"}, value{Type: payload.Text, Is: "x"})},
	}
	const why = "in tables it reads Int64, UInt32, Float, Double, Boolean and String only"
	return []round{
		{name: "table", metric: metric{Value: value{Type: payload.DataSet, Set: readable}}},
		{name: "table without rows", metric: metric{Value: value{Type: payload.DataSet, Set: &set{Columns: []string{"a"}, Types: []payload.Type{payload.Int64}}}}},
		{name: "table of the other types", metric: metric{Value: value{Type: payload.DataSet, Set: rest}}, deaf: why},
	}
}

func trees() []round {
	member := metric{Name: "speed", Alias: "9", Timestamp: "1772337600000", Value: floating(payload.Double, 1.25)}
	inner := metric{Name: "inner", Value: value{Type: payload.Template, Tree: &tree{Ref: "Part", Metrics: []metric{{Name: "n", Value: value{Type: payload.Int16, Is: "-1"}}}}}}
	long := parameter{"limit", value{Type: payload.Int64, Is: "-1"}}
	text := parameter{"maker", value{Type: payload.String, Is: "KHS"}}
	return []round{
		{name: "definition", metric: metric{Value: value{Type: payload.Template, Tree: &tree{Version: "v1", Definition: true, Metrics: []metric{member, inner}, Parameters: []parameter{long, text}}}}},
		{name: "instance", metric: metric{Value: value{Type: payload.Template, Tree: &tree{Ref: "Machine", Metrics: []metric{member}, Parameters: []parameter{text}}}}},
		{
			name: "instance with a small number", metric: metric{Value: value{Type: payload.Template, Tree: &tree{Ref: "Machine", Parameters: []parameter{{"n", value{Type: payload.Int32, Is: "-1"}}}}}},
			deaf: "of parameters it reads Int64, UInt32, Float, Double, Boolean and String only",
		},
	}
}

func (r round) message() message {
	m := r.metric
	m.Name = "x"
	return message{Timestamp: "1772337600000", Seq: "255", Metrics: []metric{m}}
}

// TestSimulator_PeerReads: what the simulated nodes write is what the peer reads.
// Where the peer writes it too, the bytes are the same.
func TestSimulator_PeerReads(t *testing.T) {
	p := newPeer(t)
	for _, r := range rounds() {
		m := r.message()
		b := m.simulated(true).Append(nil)
		got, failed := p.reads(b)
		switch same := reflect.DeepEqual(got, m); {
		case r.deaf == "" && (failed != "" || !same):
			t.Errorf("%s: the peer reads %+v %s, want %+v", r.name, got, failed, m)
		case r.deaf != "" && failed == "" && same:
			t.Errorf("%s: the peer reads it now: it was said that %s", r.name, r.deaf)
		}
		theirs, failed := p.writes(m)
		switch {
		case r.dumb == "" && failed != "":
			t.Errorf("%s: the peer can't write it: %s", r.name, failed)
		case r.dumb == "" && !bytes.Equal(b, theirs):
			t.Errorf("%s:\n we write %x\n it does  %x", r.name, b[:min(len(b), 200)], theirs[:min(len(theirs), 200)])
		case r.dumb != "" && failed == "":
			t.Errorf("%s: the peer writes it now: it was said that %s", r.name, r.dumb)
		}
	}
}

// TestPeer_ReadsUInt32InOneFieldOnly: the specification has UInt32 in int_value, the
// peer writes and reads it in long_value. Who reads must take both.
func TestPeer_ReadsUInt32InOneFieldOnly(t *testing.T) {
	p := newPeer(t)
	m := round{metric: metric{Value: value{Type: payload.UInt32, Is: "7"}}}.message()
	got, failed := p.reads(m.simulated(false).Append(nil))
	if failed != "" || !got.Metrics[0].Value.Null {
		t.Errorf("the peer reads %+v %s: it was said that it looks into long_value only", got, failed)
	}
}

// TestPeer_KnowsNoArrays: to the peer a metric of types 22 to 34 is of no type and has
// no value. That the bytes are there shows what protobuf itself makes of them.
func TestPeer_KnowsNoArrays(t *testing.T) {
	p := newPeer(t)
	for typ := payload.Int8Array; typ <= payload.DateTimeArray; typ++ {
		m := payload.Payload{Metrics: []payload.Metric{{Name: "a", Type: typ, Value: payload.Value{Type: typ, Raw: []byte{1, 0, 255}}}}}
		b := m.Append(nil)
		got, failed := p.reads(b)
		if failed != "" || got.Metrics[0].Value.Type != 0 || !got.Metrics[0].Value.Null {
			t.Errorf("type %d: the peer reads %+v %s", typ, got, failed)
		}
		var raw struct {
			Metrics []struct {
				Datatype   payload.Type `json:"datatype"`
				BytesValue string       `json:"bytesValue"`
			} `json:"metrics"`
		}
		p.must(map[string]any{"do": "raw", "bytes": hex.EncodeToString(b)}, &raw)
		if r := raw.Metrics[0]; r.Datatype != typ || r.BytesValue != "AQD/" {
			t.Errorf("type %d: protobuf reads %+v", typ, r)
		}
	}
}
