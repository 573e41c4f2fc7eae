package plant

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// oilModel is a model whose pressure is made of a raw number.
const oilModel = `id: press
version: "1.0.0"
properties:
  - {name: oil_raw, kind: measurement, type: number}
  - {name: produced, kind: measurement, role: produced}
  - {name: state, kind: measurement}
  - {name: total, kind: measurement, rules: [backwards]}
  - {name: recipe, kind: measurement, type: text}
  - {name: serial, kind: attribute}
  - {name: oil, kind: transform, of: oil_raw, scale: 0.1, offset: -1, unit: BAR}
`

// A transform that can't be made, or would be wrong, is refused with the reason.
func TestParseModel_RefusesTransforms(t *testing.T) {
	if _, err := ParseModel("m.yaml", []byte(oilModel)); err != nil {
		t.Fatal(err)
	}
	const is = "{name: oil, kind: transform, of: oil_raw, scale: 0.1, offset: -1, unit: BAR}"
	for now, want := range map[string]string{
		"{name: oil, kind: transform}":                                         "oil is a transform without of: name the measurement",
		"{name: oil, kind: transform, of: oil_rw, scale: 2}":                   `is made of "oil_rw", which is no property of the model; did you mean "oil_raw"?`,
		"{name: oil, kind: transform, of: oil, scale: 2}":                      "is made of oil, which is of the kind transform: only a measurement has samples",
		"{name: oil, kind: transform, of: serial, scale: 2}":                   "is made of serial, which is of the kind attribute",
		"{name: good, kind: transform, of: produced, scale: 2}":                "good is made of produced, which is a counter: scaled before its wraps are undone it would make other numbers",
		"{name: good, kind: transform, of: total, scale: 2}":                   "good is made of total, which is a counter",
		"{name: oil, kind: transform, of: state, offset: 1}":                   "is made of state, which has the role state: products read it as it is",
		"{name: oil, kind: transform, of: recipe, offset: 1}":                  "is made of recipe, which is text: only numbers are scaled",
		"{name: oil, kind: transform, of: oil_raw}":                            "is a transform that changes nothing",
		"{name: oil, kind: transform, of: oil_raw, scale: 0}":                  "with the scale 0",
		"{name: oil, kind: transform, of: oil_raw, scale: .nan}":               "whose scale or offset is no number",
		"{name: oil, kind: transform, of: oil_raw, offset: -.inf}":             "whose scale or offset is no number",
		"{name: oil, kind: transform, of: oil_raw, offset: 1, type: text}":     "and so a number",
		"{name: energy, kind: transform, of: oil_raw, offset: 1}":              "with the name of a role",
		"{name: oil, kind: transform, of: oil_raw, offset: 1, role: state}":    `has the role "state": of a measurement`,
		"{name: oil, kind: transform, of: oil_raw, offset: 1, also: [p]}":      "oil has also, and is of the kind transform, which is made of a measurement: only a measurement is a signal",
		"{name: oil, kind: transform, of: oil_raw, offset: 1, every: 10s}":     "oil has every",
		"{name: oil, kind: transform, of: oil_raw, offset: 1, rules: [stale]}": "oil has rules",
		"{name: oil, kind: transform, of: oil_raw, offset: 1, max: 3}":         "oil has max",
		"{name: oil, kind: transform, of: oil_raw, offset: 1, need: true}":     "oil has need",
		"{name: oil, kind: measurement, of: oil_raw}":                          "oil has of, and is of the kind measurement: only a transform is made of a measurement",
		"{name: oil, kind: measurement, scale: 2}":                             "oil has scale",
		"{name: oil, kind: metric, offset: 2}":                                 "oil has offset, and is of the kind metric",
	} {
		_, err := ParseModel("m.yaml", []byte(strings.Replace(oilModel, is, now, 1)))
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "m.yaml:10") {
			t.Errorf("%s: %v\nwant %s", now, err, want)
		}
	}
}

// The difference of two versions, and what an upgrade says, name transforms; a transform
// gives no rule, and nothing of it is left out of a gateway's.
func TestDiff_NamesTransforms(t *testing.T) {
	was, err := ParseModel("press.yaml", []byte(oilModel))
	check(t, err)
	is, err := ParseModel("press.yaml", []byte(strings.NewReplacer("1.0.0", "1.1.0", "scale: 0.1, offset: -1", "scale: 0.01").Replace(oilModel)))
	check(t, err)
	const from, to = "transform, unit BAR, of oil_raw, scale 0.1, offset -1", "transform, unit BAR, of oil_raw, scale 0.01"
	if got := was.Diff(&is); !slices.Equal(got, []Change{{"property oil", from, to}}) {
		t.Errorf("%+v", got)
	}
	s := Scene{Models: []Model{was, is}}
	s.Register, err = s.Register.Apply(Delta{Put: []Machine{{ID: "a", Model: "press@1.0.0"}}}, 1)
	check(t, err)
	d, err := s.Upgrade("press", "1.1.0")
	check(t, err)
	if got := s.DiffRules(d); !slices.Equal(got, []Change{{"transform oil", from, to}}) {
		t.Errorf("%+v", got)
	}
	w := Wired{Machine: Machine{ID: "a", Model: "press@1.0.0"}, Wires: []Wire{{Name: "l.p.total", Type: "number"}, {Name: "l.p.produced", Role: "produced", Type: "number"}}}
	if rules, left := Rules([]Wired{w}, []Model{was}, noneShared); len(rules) != 2 || len(left) != 0 {
		t.Errorf("%v %v", rules, left)
	}
	if text := fmt.Sprint(was.Match([]Signal{{Name: "oil", Type: "number"}})); !strings.Contains(text, "press@1.0.0 0 5") {
		t.Errorf("what is made is looked for: %s", text)
	}
}
