package mapping

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"plantmesh/proto/mesh"
	"plantmesh/proto/strict"
)

const noon mesh.Nanos = 1_767_268_800e9 // 2026-01-01T12:00:00Z

// mapper is one of a configuration as people write it.
func mapper(t testing.TB, yaml string) *Mapper {
	t.Helper()
	m, err := configured(yaml)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func configured(yaml string) (*Mapper, error) {
	var c Config
	doc, err := strict.Parse("x.yaml", []byte(yaml), &c)
	if err != nil {
		return nil, err
	}
	if err := c.Validate(); err != nil {
		return nil, doc.Place("$", err)
	}
	return New(&c)
}

// told is what a mapper makes of a message, in words: name@seconds after noon=value,
// "!" before a status that is not good, "#" before a sequence; then what was left out.
func told(m *Mapper, topic, payload string) string {
	var out Reading
	r := m.Route([]byte(topic))
	if r == nil {
		return "foreign"
	}
	m.Read(r, []byte(payload), noon, &out)
	return inWords(m, &out)
}

func inWords(m *Mapper, out *Reading) string {
	names := map[uint32]string{}
	for _, s := range m.Table() {
		names[s.ID] = s.Name
	}
	var words []string
	for _, s := range out.Samples {
		w := fmt.Sprintf("%s@%s=%s", names[s.Signal], s.Time.Sub(noon), s.Value)
		if s.Flags&mesh.FlagAgentTime != 0 {
			w = fmt.Sprintf("%s=%s", names[s.Signal], s.Value)
		}
		if s.Status != 0 {
			w += fmt.Sprintf("!%08x", uint32(s.Status))
		}
		if s.Seq != 0 {
			w += fmt.Sprintf("#%d", s.Seq)
		}
		words = append(words, w)
	}
	if out.Unknown > 0 {
		words = append(words, fmt.Sprintf("unknown %d", out.Unknown))
	}
	for _, f := range out.Flaws {
		words = append(words, fmt.Sprintf("flaw %d: %v", f.Count, f.Fault))
	}
	if out.Lost {
		words = append(words, "lost")
	}
	return strings.Join(words, "; ")
}

const lineConfig = `
topics:
  - {filter: "plant/{line}/{machine}", signal: "{line}.{machine}.{key}", time: ts}
signals:
  - {name: l1.filler.speed, type: double}
  - {name: l1.filler.n, type: int}
  - {name: l1.filler.u, type: uint}
  - {name: l1.filler.order, type: string}
  - {name: l1.filler.on, type: bool}
`

func TestMapper_Shapes(t *testing.T) {
	for _, c := range []struct{ name, config, topic, payload, want string }{
		{
			"an object of values", lineConfig, "plant/l1/filler", `{"ts":1767268801000,"speed":1.5,"n":-3,"u":4,"order":"a\u00e9\n","on":true,"x":1}`,
			"l1.filler.speed@1s=1.5; l1.filler.n@1s=-3; l1.filler.u@1s=4; l1.filler.order@1s=aé\n; l1.filler.on@1s=true; unknown 1",
		},
		{
			"integers keep their bits", lineConfig, "plant/l1/filler", `{"ts":1767268800000,"n":9007199254740993,"u":18446744073709551615}`,
			"l1.filler.n@0s=9007199254740993; l1.filler.u@0s=18446744073709551615",
		},
		{"the smallest integer", lineConfig, "plant/l1/filler", `{"ts":1767268800000,"n":-9223372036854775808}`, "l1.filler.n@0s=-9223372036854775808"},
		{
			"beyond them", lineConfig, "plant/l1/filler", `{"ts":1767268800000,"n":-9223372036854775809,"u":18446744073709551616}`,
			"l1.filler.n@0s=!803c0000; l1.filler.u@0s=!803c0000; flaw 1: l1.filler.n: number is out of range; flaw 1: l1.filler.u: number is out of range",
		},
		{"whole in other words", lineConfig, "plant/l1/filler", `{"ts":1.7672688e12,"n":1.20e1,"u":12.0}`, "l1.filler.n@0s=12; l1.filler.u@0s=12"},
		{"a key in escapes", lineConfig, "plant/l1/filler", `{"\u0074s":1767268800000,"\u006e":1}`, "l1.filler.n@0s=1"},
		{
			"a key twice, once in escapes", lineConfig, "plant/l1/filler", `{"ts":1767268800000,"n":1,"\u006e":2}`,
			"l1.filler.n@0s=!80070000; flaw 1: l1.filler.n: key stands twice in one object",
		},
		{"no value", lineConfig, "plant/l1/filler", `{"ts":1767268800000,"n":null}`, "l1.filler.n@0s=!809b0000"},
		{"foreign", lineConfig, "plant/l1", `{}`, "foreign"},
		{"no object", lineConfig, "plant/l1/filler", `7`, "flaw 1: payload is no JSON object; lost"},

		{"one value, and how good it is", `
topics:
  - filter: "{line}/{machine}/temperature"
    signal: "{line}.{machine}.temp"
    value: d.v
    time: d.t
    time_unit: text
    quality: {path: d.q, as: opcda}
    sequence: d.n
signals: [{name: l.m.temp, type: double}]
`, "l/m/temperature", `{"d":{"v":21.5,"t":"2026-01-01T13:00:01.25+01:00","q":216,"n":7}}`, "l.m.temp@1.25s=21.5!00960000#7"},
		{"a value that is not there", `
topics: [{filter: "t", signal: "m.v", value: v}]
signals: [{name: m.v, type: double}]
`, "t", `{"status":"online"}`, "unknown 1"},
		{"the message is the value", `
topics: [{filter: "t", signal: "m.v", value: $}]
signals: [{name: m.v, type: string}]
`, "t", `"a"`, "m.v=a"},

		{"an array of values", `
topics: [{filter: "t", signal: "m.{index}", value: "d[*]", time: ts}]
signals: [{name: m.0, type: int}, {name: m.2, type: int}]
`, "t", `{"ts":1767268800000,"d":[10,11,12]}`, "m.0@0s=10; m.2@0s=12; unknown 1"},
		{"an array in an array", `
topics: [{filter: "t", signal: "m.{index}.{index2}", value: "[*].d[*]"}]
signals: [{name: "m.{a}.{b}", type: int}]
`, "t", `[{"d":[1,2]},{"d":[3]},{}]`, "m.0.0=1; m.0.1=2; m.1.0=3; unknown 1"},
		{
			"an array of named values with times", `
topics:
  - {filter: "t", signal: "m.{key}", value: "d[*].v", key: "d[*].name", time: "d[*].t", time_unit: s, quality: {path: "d[*].q"}}
signals: [{name: "m.{x}", type: double}]
`, "t", `{"d":[{"name":"a","v":1,"t":1767268801.5,"q":"good"},{"name":"a","v":2,"t":"1767268802","q":"Uncertain"},{"name":"b.c","t":1767268803,"q":false},{"name":"d","v":4,"t":1767268804}]}`,
			"m.a@1.5s=1; m.a@2s=2!40000000; m.b%2Ec@3s=!80000000; m.d@4s=4",
		},
		{"one element without a time", `
topics: [{filter: "t", signal: "m.{key}", value: "d[*].v", key: "d[*].id", time: "d[*].t"}]
signals: [{name: "m.{x}", type: int}]
`, "t", `{"d":[{"id":101,"v":1,"t":1767268801000},{"id":102,"v":2}]}`, "m.101@1s=1; flaw 1: payload has no usable time; lost"},
		{"an element nobody knows", `
topics: [{filter: "t", signal: "m.{key}", value: "d[*].v", key: "d[*].id"}]
signals: [{name: "m.{x}", type: int}]
`, "t", `{"d":[{"v":1}]}`, "flaw 1: element has no usable key; lost"},
		{"an object of objects", `
topics: [{filter: "t", signal: "m.{index}.{key}", value: "*", time: "*.t"}]
signals: [{name: "m.{x}.{y}", type: int}]
`, "t", `{"a":{"t":1767268801000,"p":1,"q":2},"b":{"t":1767268802000,"p":3}}`, "m.a.p@1s=1; m.a.q@1s=2; m.b.p@2s=3"},

		{"nested objects", `
topics: [{filter: "t", signal: "m.{path}", time: meta.ts}]
signals: [{name: "m.{path}", type: double}]
`, "t", `{"meta":{"ts":1767268800000},"motor":{"temp":1,"axes":[{"x.y":2},3]}}`, "m.motor.temp@0s=1; m.motor.axes.0.x%2Ey@0s=2; m.motor.axes.1@0s=3"},
		{"nested objects with a key twice", `
topics: [{filter: "t", signal: "m.{path}"}]
signals: [{name: "m.{path}", type: double}]
`, "t", `{"a":{"b":1,"c":3},"a":{"b":2}}`, "m.a.b=!80070000; m.a.c=3; flaw 1: m.a.b: key stands twice in one object"},

		{"plain numbers", `
topics: [{filter: "{m}/{s}", signal: "{m}.{s}", payload: plain}]
signals: [{name: "{m}.speed", type: double}, {name: "{m}.on", type: bool}, {name: "{m}.order", type: string}]
`, "a/speed", " -1.5e1\r\n", "a.speed=-15"},
		{"plain booleans", `
topics: [{filter: "{m}/{s}", signal: "{m}.{s}", payload: plain}]
signals: [{name: "{m}.on", type: bool}]
`, "a/on", "ON", "a.on=true"},
		{"plain text", `
topics: [{filter: "{m}/{s}", signal: "{m}.{s}", payload: plain}]
signals: [{name: "{m}.order", type: string}]
`, "a/order", `{"no": json`, `a.order={"no": json`},
		{"plain, and no number", `
topics: [{filter: "{m}/{s}", signal: "{m}.{s}", payload: plain}]
signals: [{name: "{m}.speed", type: double}]
`, "a/speed", "NaN", "a.speed=!80740000; flaw 1: a.speed: value has another type than the signal"},

		{"two entries of one filter", `
topics:
  - {filter: "t", signal: "m.speed", value: speed, time: ts}
  - {filter: "t", signal: "m.{key}", value: "d[*].v", key: "d[*].k", time: ts}
signals: [{name: "m.{x}", type: double}]
`, "t", `{"ts":1767268800000,"speed":1,"d":[{"k":"a","v":2}]}`, "m.speed@0s=1; m.a@0s=2"},
		{"the first filter has the topic", `
topics: [{filter: "t/#", signal: "m.{topic}", payload: plain}, {filter: "t/a", signal: "m.other", payload: plain}]
signals: [{name: "m.{path}", type: double}]
`, "t/a", `1`, "m.t.a=1"},
		{"what # stands for", `
topics: [{filter: "t/#", signal: "m.{rest}.{key}"}]
signals: [{name: "m.{path}", type: double}]
`, "t/a/b", `{"x":1}`, "m.a.b.x=1"},

		{"umh", `
topics: [{filter: "umh/v1/{area}/+/{tag}", signal: "{area}.{tag}", payload: umh}]
signals: [{name: "{area}.{tag}", type: double}]
`, "umh/v1/press/_raw/speed", `{"timestamp_ms":1767268801000,"value":3}`, "press.speed@1s=3"},
		{"umh in groups", `
topics: [{filter: "umh/v1/{area}/_historian", signal: "{area}.{path}", payload: umh}]
signals: [{name: "{area}.{path}", type: double}]
`, "umh/v1/press/_historian", `{"timestamp_ms":1767268801000,"speed":3,"axis":{"x":4}}`, "press.speed@1s=3; press.axis.x@1s=4"},
		{
			"kepware", `
topics: [{filter: "iotgateway", signal: "kep.{key}", payload: kepware}]
signals: [{name: "kep.{path}", type: double}]
`, "iotgateway", `{"timestamp":1767268809000,"values":[{"id":"Ch.Dev.Speed","v":42,"q":true,"t":1767268801000},{"id":"Ch.Dev.Temp","v":"","q":false,"t":1767268802000}]}`,
			"kep.Ch.Dev.Speed@1s=42; kep.Ch.Dev.Temp@2s=!80000000",
		},
		{
			"siemens", `
topics: [{filter: "ie/d/j/simatic/v1/{c}/dp/r/{dev}/default", signal: "{dev}.{key}", payload: siemens}]
signals: [{name: "{d}.101", type: int}, {name: "{d}.102", type: bool}]
`, "ie/d/j/simatic/v1/s7c1/dp/r/plc/default", `{"seq":84631,"vals":[{"id":"101","qc":3,"ts":"2026-01-01T12:00:01.1234567Z","val":"9007199254740993"},{"id":"102","qc":0,"ts":"2026-01-01T12:00:02Z","val":true}]}`,
			"plc.101@1.1234567s=9007199254740993#84631; plc.102@2s=true!80000000#84631",
		},
		{"neuron", `
topics: [{filter: "neuron/{n}", signal: "{n}.{key}", payload: neuron}]
signals: [{name: "{n}.{tag}", type: int}]
`, "neuron/modbus", `{"timestamp":1767268801000,"node":"modbus","group":"g","values":{"tag0":123},"errors":{"tag1":2014},"metas":{}}`, "modbus.tag0@1s=123"},
		{
			"neuron's tags", `
topics: [{filter: "neuron/{n}", signal: "{n}.{key}", payload: neuron-tags}]
signals: [{name: "{n}.{tag}", type: int}]
`, "neuron/modbus", `{"timestamp":1767268801000,"node":"modbus","group":"g","tags":[{"name":"tag0","value":123},{"name":"tag1","error":2014}]}`,
			"modbus.tag0@1s=123; modbus.tag1@1s=!809b0000",
		},
		{"telegraf", `
topics: [{filter: "telegraf/{host}/{m}", signal: "{host}.{m}.{key}", payload: telegraf}]
signals: [{name: "{h}.{m}.{f}", type: double}]
`, "telegraf/gw/cpu", `{"fields":{"usage":3.5},"name":"cpu","tags":{"host":"gw"},"timestamp":1767268801}`, "gw.cpu.usage@1s=3.5"},
		{"thingsboard", `
topics: [{filter: "v1/devices/{d}/telemetry", signal: "{d}.{key}", payload: thingsboard}]
signals: [{name: "{d}.{f}", type: double}]
`, "v1/devices/press/telemetry", `{"ts":1767268801000,"values":{"speed":3.5}}`, "press.speed@1s=3.5"},
		{"a quality nobody declared", `
topics: [{filter: "t", signal: "m.{key}", quality: {path: q}}]
signals: [{name: m.v, type: int}]
`, "t", `{"v":1,"q":3}`, "m.v=!80070000; flaw 1: m.v: quality: quality means nothing that is declared: \"3\""},
		{"a quality that is declared", `
topics: [{filter: "t", signal: "m.{key}", quality: {path: q, values: {"3": "0x80890000", sim: uncertain}}}]
signals: [{name: m.v, type: int}]
`, "t", `{"v":1,"q":"3"}`, "m.v=1!80890000"},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := mapper(t, c.config)
			for range 2 { // the second time all is known
				if got := told(m, c.topic, c.payload); got != c.want {
					t.Errorf("got  %s\nwant %s", got, c.want)
				}
			}
		})
	}
}

func TestMapper_TwoTopicsNeverShareASignal(t *testing.T) {
	m := mapper(t, `
topics: [{filter: "plant/+/state", signal: "press.{key}"}]
signals: [{name: press.speed, type: int}]
`)
	if got := told(m, "plant/a/state", `{"speed":1}`); got != "press.speed=1" {
		t.Errorf("first: %s", got)
	}
	got := told(m, "plant/b/state", `{"speed":2}`)
	if !strings.HasPrefix(got, "flaw 1: two topics give one signal") || !strings.Contains(got, `"plant/a/state"`) || !strings.Contains(got, `"plant/b/state"`) {
		t.Errorf("second: %s", got)
	}
	if got := told(m, "plant/a/state", `{"speed":3}`); got != "press.speed=3" {
		t.Errorf("the first again: %s", got)
	}
}

func TestMapper_TableGrowsToItsBound(t *testing.T) {
	m := mapper(t, `
topics: [{filter: "{line}/{machine}", signal: "{line}.{machine}.{key}"}]
signals:
  - {name: l1.fixed.n, type: int}
  - {name: "{line}.{machine}.n", type: int, unit: C62, max_silence: 10s, levels: {line: [l1, "l 2"]}}
max_signals: 3
`)
	if n := len(m.Table()); n != 1 {
		t.Fatalf("%d signals before anything was heard", n)
	}
	var out Reading
	read := func(topic string) string {
		m.Read(m.Route([]byte(topic)), []byte(`{"n":1}`), noon, &out)
		return inWords(m, &out)
	}
	if got := read("l1/a"); got != "l1.a.n=1" || !out.Grew {
		t.Errorf("got %s, grew %t", got, out.Grew)
	}
	if got := read("l1/a"); got != "l1.a.n=1" || out.Grew {
		t.Errorf("again: got %s, grew %t", got, out.Grew)
	}
	if got := read("l3/a"); got != "unknown 1" || out.Grew {
		t.Errorf("a line that is not allowed: %s", got)
	}
	if got := read("l 2/a"); got != "l%202.a.n=1" || !out.Grew {
		t.Errorf("a line with a blank: %s", got)
	}
	if got := read("l1/b"); !strings.Contains(got, "the table of signals is full") || out.Lost {
		t.Errorf("beyond the bound: %s", got)
	}
	table := m.Table()
	if len(table) != 3 || table[1].ID != 2 || table[2].ID != 3 || table[2].Unit != "C62" || table[2].MaxSilence != mesh.Nanos(10*time.Second) || table[2].Type != mesh.TypeInt {
		t.Errorf("table %+v", table)
	}
}

// A topic may be anything (attack A13): it makes one name that nothing else makes, or none.
func TestMapper_HostileLevelsDoNoHarm(t *testing.T) {
	m := mapper(t, `
topics: [{filter: "plant/{m}", signal: "p.{m}.{key}"}]
signals: [{name: "p.{m}.{k}", type: int}]
`)
	seen := map[string]string{}
	for _, level := range []string{"..", "*", ">", "🍺", "a.b", "a b", "\x00", "%", "", "%2E", "+", "#", "{key}", "\xff\xfe", strings.Repeat("x", 600), "$SYS"} {
		got := told(m, "plant/"+level, `{"n":1}`)
		name, _, ok := strings.Cut(got, "=1")
		if !ok || strings.Count(name, ".") != 2 || strings.ContainsAny(name, "*> \x00+#/{}") || !strings.HasSuffix(name, ".n") || seen[name] != "" {
			t.Errorf("%q gives %s, which %q gives too", level, got, seen[name])
		}
		seen[name] = level
	}
	for _, n := range []int{maxTopic, 65000} {
		if got := told(m, "plant/"+strings.Repeat("x", n), `{"n":1}`); got != "flaw 1: topic is longer than 1024 bytes" {
			t.Errorf("a level of %d bytes: %s", n, got)
		}
	}
	if got := told(m, "plant/"+strings.Repeat("é", 500), fmt.Sprintf(`{%q:1}`, strings.Repeat("n", 2000))); got != "flaw 1: signal's name would be longer than 1024 bytes" {
		t.Errorf("a long name: %s", got)
	}
}

// A broker that makes up topics and keys must not fill the memory.
func TestMapper_ForgetsWhatIsTooMuch(t *testing.T) {
	m := mapper(t, `
topics: [{filter: "#", signal: "p.{topic}.{key}"}]
signals: [{name: "nothing.{m}.{k}", type: int}]
`)
	var out Reading
	for i := range 3 * maxRoutes {
		m.Read(m.Route(fmt.Append(nil, "t/", i)), fmt.Appendf(nil, `{"a%d":1,"b%d":1,"c%d":1,"d%d":1,"e%d":1,"f%d":1,"g%d":1,"h%d":1,"i%d":1,"j%d":1}`, i, i, i, i, i, i, i, i, i, i), noon, &out)
		known := 0
		if i%5000 == 0 {
			for _, r := range m.routes {
				known += len(r.streams[0].known)
			}
		}
		if len(m.routes) > maxRoutes || known > maxBindings || m.bindings > maxBindings+maxRemembered/placeBytes || out.Unknown != 10 {
			t.Fatalf("%d topics, %d places, %d unknown", len(m.routes), known, out.Unknown)
		}
	}
}

func TestConfig_Faults(t *testing.T) {
	const topics, signals = "topics: [{%s}]\n", "signals: [{name: m.v, type: int}]\n"
	for _, c := range []struct{ yaml, want string }{
		{`filter: "a/#/b", signal: "{key}"`, `x.yaml:1: filter "a/#/b": +, # and {name} stand alone between slashes, # only at the end`},
		{`filter: "a/b+", signal: "{key}"`, `stand alone`},
		{`filter: "a/{b}c", signal: "{key}"`, `stand alone`},
		{`filter: "{a}/{a}", signal: "{key}"`, `{a} stands twice`},
		{`filter: "{key}", signal: "{key}"`, `{key} is no name for a level`},
		{`filter: "{index2}", signal: "{key}"`, `{index2} is no name for a level`},
		{`filter: "{A}", signal: "{key}"`, `{A} is no name for a level`},
		{`filter: a, signal: x`, `must hold {key} once, for objects with many values`},
		{`filter: a, signal: "{key}.{path}"`, `must hold {key} or {path} once`},
		{`filter: a, signal: "{key}.{key}"`, `must hold {key} or {path} once`},
		{`filter: a, signal: "{line}.{key}"`, `{line} is neither a level of filter "a"`},
		{`filter: a, signal: "{1}.{key}"`, `{1} is neither a level`},
		{`filter: a, signal: "{rest}.{key}"`, `the filter has none`},
		{`filter: a, signal: "{0}{key}"`, `a dot must stand between two {}`},
		{`filter: a, signal: "{0}-{key}"`, `a dot must stand between two {}`},
		{`filter: a, signal: "x{key"`, `a { or } stands alone`},
		{`filter: a, signal: x, value: "v[*]"`, `must hold {index}`},
		{`filter: a, signal: "x.{index}", value: v`, `value has 0 [*]`},
		{`filter: a, signal: "x.{index2}", value: "v[*]"`, `value has 1 [*]`},
		{`filter: a, signal: "x.{key}", value: v, key: "w[*].k"`, `it is about the same element`},
		{`filter: a, signal: "x.{index}", value: "v[*]", time: "v[*]"`, `leads to what value is in`},
		{`filter: a, signal: "x.{index}", value: "v[*]", key: "v[*].k"`, `key says what {key} is`},
		{`filter: a, signal: "x.{index}", value: "v[*]", split: "."`, `split cuts {key}`},
		{`filter: a, signal: "{key}", value: "a..b"`, `a key is empty`},
		{`filter: a, signal: "{key}", value: "a[b]"`, `[b] is neither a number nor *`},
		{`filter: a, signal: "{key}", value: "a[0]b"`, `. or [ is missing before "b"`},
		{`filter: a, signal: "{key}", time: ts, time_unit: h`, `time_unit "h" of topic "a" is none of s, ms, us, ns, text, auto`},
		{`filter: a, signal: "{key}", time: ts, time_zone: Graz`, `time_zone "Graz" of topic "a" is no zone`},
		{`filter: a, signal: "{key}", payload: xml`, `payload "xml" of topic "a" is none of json, plain, kepware,`},
		{`filter: a, signal: "{key}", payload: plain`, `payload is plain`},
		{`filter: a, signal: x, payload: plain, value: v`, `value is a path into JSON`},
		{`filter: a, signal: "{key}", quality: {as: opcua}`, `quality.path is missing`},
		{`filter: a, signal: "{key}", quality: {path: q, as: da}`, `quality.as "da" is neither opcua nor opcda`},
		{`filter: a, signal: "{key}", quality: {path: q, values: {"1": fine}}`, `quality "fine" is none of good, uncertain, bad`},
		{`filter: a, signal: m, value: v}, {filter: b, signal: m, value: v`, `signal "m" is what topic "a" gives, too`},
	} {
		if _, err := configured(fmt.Sprintf(topics, c.yaml) + signals); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s:\n%v does not say %q", c.yaml, err, c.want)
		}
	}
	for _, c := range []struct{ yaml, want string }{
		{`signals: []`, "signals is empty"},
		{`signals: [{type: int}]`, "a signal has no name"},
		{`signals: [{name: a, type: bytes}]`, `type "bytes" of signal "a" is none of bool, int, uint, double, string`},
		{`signals: [{name: a, type: int}, {name: a, type: int}]`, `signal "a" stands twice`},
		{`signals: [{name: "a.{b", type: int}]`, `a { or } stands alone`},
		{`signals: [{name: "{a}.{a}", type: int}]`, `{a} stands twice`},
		{`signals: [{name: a, type: int, levels: {x: [a]}}]`, `levels say what the {x} of a name may be`},
		{`signals: [{name: "{y}", type: int, levels: {x: [a]}}]`, `signal "{y}" has no {x}`},
		{"max_signals: -1\nsignals: [{name: a, type: int}]", "max_signals must lie between 1 and 100000"},
		{"max_signals: 1\nsignals: [{name: a, type: int}, {name: b, type: int}]", "max_signals is 1, and signals has 2 entries"},
		{"heartbeat: {topic: a/+}\nsignals: [{name: a, type: int}]", "must be one topic with a time_unit"},
		{"heartbeat: {topic: a, time: \"a[*]\"}\nsignals: [{name: a, type: int}]", "leads to no single time"},
	} {
		if _, err := configured("topics: [{filter: a, signal: \"{key}\"}]\n" + c.yaml + "\n"); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s:\n%v does not say %q", c.yaml, err, c.want)
		}
	}
	if _, err := configured("signals: [{name: a, type: int}]\n"); err == nil || !strings.Contains(err.Error(), "topics is empty") {
		t.Errorf("no topics: %v", err)
	}
}

func TestMapper_Filters(t *testing.T) {
	m := mapper(t, `
topics:
  - {filter: "a/{b}/+", signal: "{b}.{key}"}
  - {filter: "a/+/{c}", signal: "{c}.{key}"}
  - {filter: "c/#", signal: "{rest}.{key}"}
heartbeat: {topic: beat}
signals: [{name: x, type: int}]
`)
	if got := strings.Join(m.Filters(), " "); got != "a/+/+ c/# beat" {
		t.Errorf("filters %s", got)
	}
}

func TestFilter_Matches(t *testing.T) {
	for _, c := range []struct {
		filter, topic string
		want          bool
	}{
		{"a/b", "a/b", true},
		{"a/b", "a/c", false},
		{"a/+", "a/b", true},
		{"a/+", "a/b/c", false},
		{"a/+/c", "a//c", true},
		{"#", "a/b", true},
		{"a/#", "a", true},
		{"a/#", "a/b/c", true},
		{"+", "a/b", false},
		{"#", "$SYS/x", false},
		{"+/x", "$SYS/x", false},
	} {
		f, err := parseFilter(c.filter)
		if got := f.matches(strings.Split(c.topic, "/")); got != c.want || err != nil {
			t.Errorf("%s on %s: %v, %v", c.filter, c.topic, got, err)
		}
	}
}

func TestMapper_BlackoutIsOfWhatATopicCanCarry(t *testing.T) {
	m := mapper(t, lineConfig+`  - {name: l1.capper.n, type: int}
  - {name: "{l}.{m}.found", type: int}
`)
	if got := told(m, "plant/l1/filler", `{"ts":1767268805000,"found":1}`); got != "l1.filler.found@5s=1" {
		t.Fatal(got)
	}
	r := m.Route([]byte("plant/l1/filler"))
	out, at := m.Blackout(r, errNotJSON, noon, noon+60e9)
	if len(out) != 6 || at != noon+5e9+1 {
		t.Errorf("%d samples at %v: %+v", len(out), at, out)
	}
	for _, s := range out {
		if s.Status != mesh.StatusBadDecodingError || s.Time != at || s.Value.Type != mesh.TypeNone || s.Signal == 5 {
			t.Errorf("sample %+v", s)
		}
	}
	if out, _ := m.Blackout(r, errNotJSON, noon, noon+61e9); len(out) != 0 {
		t.Errorf("twice: %+v", out)
	}
	told(m, "plant/l1/filler", `{"ts":1767268806000,"n":1}`)
	if out, at := m.Blackout(r, errNotJSON, noon+30e9, noon+61e9); len(out) != 6 || at != noon+30e9 {
		t.Errorf("after a readable one: %d at %v", len(out), at)
	}
}
