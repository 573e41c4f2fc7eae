package mapping

import (
	"fmt"
	"strings"
	"testing"
)

func TestFormula_Values(t *testing.T) {
	const config = `
topics:
  - {filter: "p/{line}/{m}", signal: "{line}.{m}.{key}", time: ts, when: 'message.kind != "test"'}
  - {filter: "q/{m}", signal: "q.{m}", payload: plain}
signals:
  - {name: l.m.celsius, type: double, expr: value * 0.1 - 40}
  - {name: l.m.state, type: int, expr: 'value == "run" ? 6 : value == "stop" ? 2 : 0'}
  - {name: l.m.sum, type: int, expr: "message.a + message.b[0].c"}
  - {name: l.m.plain, type: double, when: value > -40}
  - {name: l.m.half, type: int, expr: value / 2}
  - {name: l.m.div, type: double, expr: value / 0}
  - {name: l.m.words, type: string, expr: 'upper(value) + level.line + topic + name'}
  - {name: l.m.bits, type: bool, expr: 'bitand(value, 4) != 0'}
  - {name: l.m.fails, type: int, expr: value.x.y}
  - {name: l.m.big, type: int, expr: value + 1}
  - {name: q.a, type: double, expr: value * 2, when: 'value != ""'}
  - {name: q.b, type: bool, expr: 'value == "OPEN"'}
`
	for _, c := range []struct{ topic, payload, want string }{
		{"p/l/m", `{"ts":1767268800000,"celsius":615}`, "l.m.celsius@0s=21.5"},
		{"p/l/m", `{"ts":1767268800000,"state":"run"}`, "l.m.state@0s=6"},
		{"p/l/m", `{"ts":1767268800000,"state":null}`, "l.m.state@0s=!809b0000"},
		{"p/l/m", `{"ts":1767268800000,"sum":0,"a":1,"b":[{"c":2}]}`, "l.m.sum@0s=3; unknown 2"},
		{"p/l/m", `{"ts":1767268800000,"plain":-40}`, ""},
		{"p/l/m", `{"ts":1767268800000,"plain":-40,"plain":1}`, "l.m.plain@0s=1"},
		{"p/l/m", `{"ts":1767268800000,"plain":-39.5}`, "l.m.plain@0s=-39.5"},
		{"p/l/m", `{"ts":1767268800000,"half":4}`, "l.m.half@0s=2"},
		{"p/l/m", `{"ts":1767268800000,"half":5}`, "l.m.half@0s=!80740000; flaw 1: l.m.half: value has another type than the signal"},
		{"p/l/m", `{"ts":1767268800000,"div":5}`, "l.m.div@0s=!803c0000; flaw 1: l.m.div: number is out of range"},
		{"p/l/m", `{"ts":1767268800000,"words":"x"}`, "l.m.words@0s=Xlp/l/ml.m.words"},
		{"p/l/m", `{"ts":1767268800000,"bits":6}`, "l.m.bits@0s=true"},
		{"p/l/m", `{"ts":1767268800000,"big":9007199254740993}`, "l.m.big@0s=9007199254740994"},
		{"p/l/m", `{"ts":1767268800000,"kind":"test","celsius":615}`, ""},
		{"q/a", `21.5`, "q.a=43"},
		{"q/a", ``, ""},
		{"q/b", `OPEN`, "q.b=true"},
	} {
		m := mapper(t, config)
		for range 2 {
			if got := told(m, c.topic, c.payload); got != c.want {
				t.Errorf("%s %s:\ngot  %s\nwant %s", c.topic, c.payload, got, c.want)
			}
		}
	}
	if got := told(mapper(t, config), "p/l/m", `{"ts":1767268800000,"fails":1}`); !strings.HasPrefix(got, "l.m.fails@0s=!80740000; flaw 1: l.m.fails: value has another type than the signal: the expression fails") {
		t.Errorf("a failing expression: %s", got)
	}
}

// An expression can't run long, hold much, or reach anything but the message.
func TestFormula_Bounds(t *testing.T) {
	for _, c := range []struct{ expr, want string }{
		{"value +", "expr"},
		{"values * 2", `"values" is unknown`},
		{"$env", `"$env" is unknown`},
		{"now()", "now is none of the functions"},
		{"all(1..1000000, true)", "none of the functions"},
		{"map(message.a, # * 2)", "none of the functions"},
		{"filter(message.a, true)", "none of the functions"},
		{"sum(message.a, #)", "none of the functions"},
		{"1..1000000", "ranges are not allowed"},
		{"let x = 1; x", "not allowed"},
		{"value; 2", "not allowed"},
		{"shell(value)", "none of the functions"},
		{"value.Run()", "none of the functions"},
		{"repeat(value, 1000000)", "repeat is none of the functions"},
		{"fromJSON(value)", "fromJSON is none of the functions"},
		{strings.Repeat("1+", 300) + "1", "exceed"},
		{strings.Repeat("(", 2000) + "1" + strings.Repeat(")", 2000), "longer than 1024 bytes"},
	} {
		_, err := configured(fmt.Sprintf("topics: [{filter: a, signal: \"{key}\"}]\nsignals: [{name: a, type: int, expr: %q}]\n", c.expr))
		if err == nil || !strings.Contains(err.Error(), c.want) || !strings.HasPrefix(err.Error(), "x.yaml:2: ") || strings.Contains(err.Error(), "\n") {
			t.Errorf("%.60s: %v does not say %q", c.expr, err, c.want)
		}
	}
	if _, err := configured("topics: [{filter: a, signal: \"{key}\", when: \"1 + 1\"}]\nsignals: [{name: a, type: int}]\n"); err == nil || !strings.Contains(err.Error(), "when") {
		t.Errorf("a condition that is a number: %v", err)
	}
	m := mapper(t, "topics: [{filter: a, signal: \"{key}\"}]\nsignals: [{name: s, type: string, expr: \"value + value + value + value\"}]\n")
	if got := told(m, "a", fmt.Sprintf(`{"s":%q}`, strings.Repeat("x", 60<<10))); !strings.Contains(got, "flaw 1: s:") {
		t.Errorf("a text that grows: %.100s", got)
	}
}
