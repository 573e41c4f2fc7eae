package mapping

import (
	"encoding/json"
	"testing"
)

// message has two values.
const message = `{"ts":1767268800123,"v":21.4375123456,"n":1}`

const oneMachine = `
topics: [{filter: "plant/{line}/{machine}", signal: "{line}.{machine}.{key}", time: ts}]
signals: [{name: l1.press.v, type: double}, {name: l1.press.n, type: int}]
`

// What one message costs once its topic is known, the topic looked up each time.
func BenchmarkMapper_Read(b *testing.B) {
	m := mapper(b, oneMachine)
	topic, payload := []byte("plant/l1/press"), []byte(`{"ts":1767268800123,"v":21.43751234567890123}`[:44])
	payload[43] = '}'
	var out Reading
	b.ReportAllocs()
	for b.Loop() {
		m.Read(m.Route(topic), payload, noon, &out)
	}
	if len(payload) != 44 || len(out.Samples) != 1 || len(out.Flaws) != 0 {
		b.Fatalf("%d bytes: %+v", len(payload), out)
	}
}

// The same by encoding/json, into a struct that knows the two keys.
func BenchmarkMapper_EncodingJSON(b *testing.B) {
	payload := []byte(`{"ts":1767268800123,"v":21.43751234567890123}`[:44])
	payload[43] = '}'
	var out struct {
		TS int64   `json:"ts"`
		V  float64 `json:"v"`
	}
	b.ReportAllocs()
	for b.Loop() {
		if err := json.Unmarshal(payload, &out); err != nil {
			b.Fatal(err)
		}
	}
}

// A hundred named values with a time each.
func BenchmarkMapper_ReadArray(b *testing.B) {
	m := mapper(b, `
topics: [{filter: t, signal: "kep.{key}", payload: kepware}]
signals: [{name: "kep.{path}", type: double}]
`)
	type element struct {
		ID string  `json:"id"`
		V  float64 `json:"v"`
		Q  bool    `json:"q"`
		T  int64   `json:"t"`
	}
	var list []element
	for i := range 100 {
		list = append(list, element{"Channel1.Device1.Tag" + string(rune('a'+i%26)) + string(rune('a'+i/26)), 1.5 * float64(i), true, int64(noon / 1e6)})
	}
	payload, err := json.Marshal(map[string]any{"timestamp": int64(noon / 1e6), "values": list})
	if err != nil {
		b.Fatal(err)
	}
	var out Reading
	b.ReportAllocs()
	for b.Loop() {
		m.Read(m.Route([]byte("t")), payload, noon, &out)
	}
	if len(out.Samples) != len(list) {
		b.Fatalf("%+v", out.Flaws)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(len(list)), "ns/value")
}

// Numbers and booleans cost no memory once topic and shape are known.
func TestMapper_KnownShapesCostNoMemory(t *testing.T) {
	for name, c := range map[string]struct{ config, topic, payload string }{
		"object":  {oneMachine, "plant/l1/press", message},
		"long":    {oneMachine, "plant/l1/press", `{"ts":1767268800123,"v":21.437512345678901,"other":[1,{"a":"b"}]}`},
		"array":   {"topics: [{filter: t, signal: \"k.{key}\", payload: kepware}]\nsignals: [{name: \"k.{path}\", type: double}]\n", "t", `{"values":[{"id":"a.b","v":1.5,"q":true,"t":1767268800123},{"id":"a.c","v":-2,"q":false,"t":1767268800124}]}`},
		"nested":  {"topics: [{filter: t, signal: \"k.{path}\", time: ts, time_unit: text}]\nsignals: [{name: \"k.{path}\", type: double}]\n", "t", `{"ts":"2026-01-01T12:00:00.123+01:00","a":{"b":[1,2,{"c":3}]}}`},
		"plain":   {"topics: [{filter: t, signal: k, payload: plain}]\nsignals: [{name: k, type: double}]\n", "t", `21.5`},
		"unknown": {oneMachine, "plant/l1/other", message},
	} {
		m := mapper(t, c.config)
		var out Reading
		topic, payload := []byte(c.topic), []byte(c.payload)
		m.Read(m.Route(topic), payload, noon, &out)
		n := testing.AllocsPerRun(100, func() { m.Read(m.Route(topic), payload, noon, &out) })
		if n != 0 || len(out.Flaws) != 0 || len(out.Samples)+out.Unknown == 0 {
			t.Errorf("%s: %v allocations, %+v", name, n, out)
		}
	}
}
