package plant

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// pressModel is a model that has a range, a cadence and rules of its own.
const pressModel = `id: press
version: "1.0.0"
states: {1: 6, 2: 2, 7: 9}
properties:
  - {name: state, kind: measurement, role: state, every: 10s, max: 6}
  - {name: temperature, kind: measurement, unit: CEL, min: -10, max: 90, every: 30s, rules: [range quarantine, stale off], also: [temp]}
  - {name: produced, kind: measurement, role: produced}
  - {name: program, kind: measurement, min: 1, max: 3, rules: [enumeration alert]}
  - {name: serial_number, kind: attribute}
  - {name: rate, kind: metric, formula: produced per hour}
`

func noneShared(string) bool { return false }

func TestRules_OfAMachine(t *testing.T) {
	m, err := ParseModel("press.yaml", []byte(pressModel))
	check(t, err)
	w := Wired{Machine: Machine{ID: "press-1", Model: "press@1.0.0"}, Wires: []Wire{
		{Name: "l.p.state", Role: "state", Type: "number"},
		{Name: "l.p.Temp", Type: "number", Unit: "CEL"},
		{Name: "PLC.7", Role: "produced", Type: "number"},
		{Name: "l.p.program", Type: "number"},
		{Name: "l.p.serial_number", Type: "text"},
	}}
	rules, left := Rules([]Wired{w}, []Model{m}, noneShared)
	if len(left) > 0 {
		t.Errorf("%+v", left)
	}
	const want = `# What the models of machines say, made by the hub. It is made anew whenever they
# change: write rules of your own into another file.
revision: 4
rules:
  # press-1, state of press@1.0.0
  - id: "press-1.state.enumeration"
    kind: enumeration
    signal: "l.p.state"
    values: [1, 2]
    dimension: conformity
  # press-1, state of press@1.0.0
  - id: "press-1.state.stale"
    kind: stale
    signal: "l.p.state"
    max_silence: 20s
    dimension: timeliness
  # press-1, temperature of press@1.0.0
  - id: "press-1.temperature.range"
    kind: range
    signal: "l.p.Temp"
    min: -10
    max: 90
    action: quarantine
    dimension: conformity
  # press-1, produced of press@1.0.0
  - id: "press-1.produced.backwards"
    kind: backwards
    signal: "PLC.7"
    dimension: consistency
  # press-1, program of press@1.0.0
  - id: "press-1.program.enumeration"
    kind: enumeration
    signal: "l.p.program"
    values: [1, 2, 3]
    action: alert
    dimension: conformity
`
	if got := Text(rules, 4); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	// What the machine itself says of its states goes before its model.
	w.States = map[string]int64{"3": 6, "9": 2}
	if rules, _ = Rules([]Wired{w}, []Model{m}, noneShared); !slices.Equal(rules[0].Values, []int64{3}) {
		t.Errorf("%v", rules[0].Values)
	}
}

// What a machine can't have is told with the reason, and everything else of it stands.
func TestRules_LeftOut(t *testing.T) {
	m, err := ParseModel("press.yaml", []byte(pressModel))
	check(t, err)
	m.Properties = append(m.Properties, Property{Name: "good", Kind: Transform}, Property{Name: "old", Kind: Measurement, Rules: []string{"enum", "spike"}})
	w := Wired{Machine: Machine{ID: "press-1", Model: "press@1.0.0"}, Wires: []Wire{
		{Name: "l.p.state", Role: "state", Type: "text"},
		{Name: "l.p.temperature", Type: "number", Unit: "FAH"},
		{Name: "l.p.program", Type: "number"},
		{Name: "l.p.old", Type: "number"},
	}}
	rules, left := Rules([]Wired{w}, []Model{m}, func(name string) bool { return name == "l.p.program" })
	if len(rules) != 1 || rules[0].ID != "press-1.state.stale" {
		t.Errorf("%+v", rules)
	}
	var got []string
	for _, l := range left {
		got = append(got, l.Property+": "+l.Why)
	}
	for _, want := range []string{
		"state: l.p.state is text, and its other rules look at numbers", "temperature: l.p.temperature is in FAH, and the model says CEL", "produced: no signal of the machine is it",
		"program: several sources of the gateway have a signal l.p.program", "good: nothing makes a transform of a formula", `the edge has no rule "spike"`,
	} {
		if !strings.Contains(strings.Join(got, "\n"), want) {
			t.Errorf("it isn't told: %s\n%s", want, strings.Join(got, "\n"))
		}
	}
}

// What a model says and nothing would look at is refused.
func TestParseModel_RefusesWhatNothingUses(t *testing.T) {
	for property, want := range map[string]string{
		"{name: good, kind: transform, formula: produced - scrap}":             "good has a formula, and is of the kind transform, which is made of a measurement",
		"{name: a, kind: attribute, max: 4}":                                   "a has max, and is of the kind attribute, which describes",
		"{name: a, kind: metric, every: 10s}":                                  "a has every, and is of the kind metric",
		"{name: a, kind: metric, rules: [range]}":                              "a has rules",
		"{name: a, kind: attribute, formula: b}":                               "a has a formula, and is of the kind attribute",
		"{name: a, kind: attribute, need: true}":                               "a has need",
		"{name: a, kind: measurement, formula: b + c}":                         "a has a formula, and is a measurement",
		"{name: a, kind: measurement, rules: [enum]}":                          `a has a rule "enum": one of range, enumeration, stale, backwards; did you mean "enumeration"?`,
		"{name: a, kind: measurement, rules: [range stop]}":                    "behind range stands annotate, quarantine, alert or off",
		"{name: a, kind: measurement, rules: [range]}":                         "a range needs min or max",
		"{name: a, kind: measurement, rules: [stale]}":                         "stale needs every",
		"{name: a, kind: measurement, rules: [enumeration]}":                   "an enumeration needs numbers",
		"{name: a, kind: measurement, min: 1, max: 900, rules: [enumeration]}": "an enumeration needs numbers",
		"{name: a, kind: measurement, max: 1, rules: [range, range alert]}":    "has the rule range twice",
		"{name: a, kind: measurement, type: text, rules: [backwards]}":         "which looks at numbers, and is a text",
		"{name: a, kind: measurement, role: state, min: 30, max: 40}":          "an enumeration needs numbers",
		"{name: a, kind: measurement, type: text, max: 3}":                     "has a range, and is a text",
		"{name: a, kind: measurement, max: .inf}":                              "no number",
		"{name: a, kind: measurement, every: 90000h}":                          "every",
	} {
		_, err := ParseModel("m.yaml", fmt.Appendf(nil, "id: m\nversion: \"1.0.0\"\nproperties:\n  - %s\n", property))
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "m.yaml:4") {
			t.Errorf("%s: %v\nwant %s", property, err, want)
		}
	}
}

// The difference of two versions, and what an upgrade says, name the rules that change.
func TestDiffRules(t *testing.T) {
	was, err := ParseModel("press.yaml", []byte(pressModel))
	check(t, err)
	is, err := ParseModel("press.yaml", []byte(strings.NewReplacer("1.0.0", "1.1.0", "max: 90", "max: 95", ", every: 10s", "", "stale off", "stale").Replace(pressModel)))
	check(t, err)
	want := []Change{
		{"rule state.stale", "silent for more than 20s", ""},
		{"rule temperature.range", "min -10, max 90, quarantine", "min -10, max 95, quarantine"},
		{"rule temperature.stale", "", "silent for more than 1m0s"},
	}
	if got := was.DiffRules(&is); !slices.Equal(got, want) {
		t.Errorf("%+v", got)
	}
	if got := was.Diff(&is); !slices.Equal(got[len(got)-3:], want) || len(got) != 5 {
		t.Errorf("%+v", got)
	}
	s := Scene{Models: []Model{was, is}}
	s.Register, err = s.Register.Apply(Delta{Put: []Machine{{ID: "a", Model: "press@1.0.0"}, {ID: "b", Model: "press@1.0.0"}}}, 1)
	check(t, err)
	d, err := s.Upgrade("press", "1.1.0")
	check(t, err)
	if got := s.DiffRules(d); !slices.Equal(got, want) {
		t.Errorf("%+v", got)
	}
}
