package quality

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"plantmesh/proto/mesh"
	"plantmesh/proto/strict"
)

// TestFile is a rules.d/NAME_test.yaml file: what the rules of NAME.yaml beside it must
// find. Its comments are the manual.
//
//	tests:
//	  - name: too hot for a press
//	    signal: line1.press.temperature
//	    samples:
//	      - {at: 0s, value: 80}
//	      - {at: 1s, value: 130, finds: [temperature-range]}
type TestFile struct {
	Tests []Test `yaml:"tests"`
}

// Test is one test: samples of one signal in their order.
type Test struct {
	Name    string       `yaml:"name"`
	Signal  string       `yaml:"signal"` // its whole name
	Samples []TestSample `yaml:"samples"`
}

// TestSample is a sample and the ids of the rules that must find something in it: those,
// and no others.
type TestSample struct {
	At      strict.Duration `yaml:"at"`      // since the first sample of the test
	Value   any             `yaml:"value"`   // a number, a text, true or false; left out: no value
	Status  string          `yaml:"status"`  // good, the default, uncertain or bad
	Initial bool            `yaml:"initial"` // sent because a subscription began
	Finds   []string        `yaml:"finds"`
}

// Tests is a test file made ready.
type Tests struct {
	file  TestFile
	doc   *strict.Doc
	rules *Rules
}

// Tested is how one test went.
type Tested struct {
	Name   string   `json:"name"`
	Signal string   `json:"signal"`
	File   string   `json:"file"`
	Line   int      `json:"line"`
	Rules  []string `json:"rules,omitempty"` // those that are to find something in it
	Passed bool     `json:"passed"`
	Wrong  []string `json:"wrong,omitempty"` // a line for each sample in which something else was found
}

// ParseTests reads a test file of a rule set.
func ParseTests(file string, src []byte, rules *Rules) (*Tests, error) {
	t := &Tests{rules: rules}
	var err error
	if t.doc, err = strict.Parse(file, src, &t.file); err != nil {
		return nil, err
	}
	if len(t.file.Tests) == 0 {
		return nil, t.doc.Fault("$", "there are no tests: a name, a signal and samples each")
	}
	var known []string
	for _, c := range rules.checks {
		known = append(known, c.ID)
	}
	for i, one := range t.file.Tests {
		at := fmt.Sprintf("$.tests[%d]", i)
		switch {
		case one.Name == "":
			return nil, t.doc.Fault(at, "a test needs a name that says what it shows")
		case one.Signal == "" || strings.ContainsAny(one.Signal, "*?["):
			return nil, t.doc.Fault(at+".signal", "a test needs the whole name of a signal, such as line1.press.temperature")
		case len(one.Samples) == 0:
			return nil, t.doc.Fault(at, "a test needs samples")
		}
		for j, s := range one.Samples {
			if err := t.sound(fmt.Sprintf("%s.samples[%d]", at, j), s, known); err != nil {
				return nil, err
			}
		}
	}
	return t, nil
}

// sound checks one sample of a test.
func (t *Tests) sound(at string, s TestSample, known []string) error {
	if _, ok := testValue(s.Value); !ok {
		return t.doc.Fault(at+".value", "%v is no number, no text, nor true or false", s.Value)
	}
	if _, ok := testStatus(s.Status); !ok {
		return t.doc.Fault(at+".status", "status %q is none of good, uncertain, bad", s.Status)
	}
	for _, id := range s.Finds {
		if !slices.Contains(known, id) {
			err := t.doc.Fault(at+".finds", "there is no rule %q in %s", id, t.rules.doc.File)
			if f, ok := err.(*strict.Fault); ok { //nolint:errorlint // Fault makes one
				f.Nearest = strict.Nearest(id, known)
			}
			return err
		}
	}
	return nil
}

func testStatus(s string) (mesh.Status, bool) {
	switch s {
	case "", "good":
		return mesh.StatusGood, true
	case "uncertain":
		return mesh.StatusUncertain, true
	case "bad":
		return mesh.StatusBad, true
	}
	return 0, false
}

func testValue(v any) (mesh.Value, bool) {
	switch v := v.(type) {
	case nil:
		return mesh.Value{}, true
	case bool:
		return mesh.Bool(v), true
	case string:
		return mesh.Text(v), true
	case float64:
		return mesh.Double(v), true
	case int64:
		return mesh.Int(v), true
	case int:
		return mesh.Int(int64(v)), true
	case uint64:
		if v > math.MaxInt64 {
			return mesh.Uint(v), true
		}
		return mesh.Int(int64(v)), true
	}
	return mesh.Value{}, false
}

// testBegins is when each test begins: any instant would do.
const testBegins = mesh.Nanos(1_767_225_600 * 1e9) // 2026-01-01

// Run judges the samples of each test one by one, as if each came in a batch of its own.
func (t *Tests) Run() (out []Tested) {
	for i, one := range t.file.Tests {
		done := Tested{Name: one.Name, Signal: one.Signal, File: t.doc.File, Line: t.doc.Line(fmt.Sprintf("$.tests[%d]", i))}
		var state State
		table := []mesh.Signal{{ID: 1, Name: one.Signal}}
		for j, s := range one.Samples {
			value, _ := testValue(s.Value) // it was looked at
			status, _ := testStatus(s.Status)
			sample := mesh.Sample{Signal: 1, Time: testBegins.Add(time.Duration(s.At)), Status: status, Value: value}
			if s.Initial {
				sample.Flags |= mesh.FlagInitial
			}
			var found []string
			for _, m := range t.rules.Judge(mesh.Position{}, mesh.Batch{Samples: []mesh.Sample{sample}}, table, &state).Marks {
				found = append(found, m.Rule)
			}
			done.Rules = append(done.Rules, without(s.Finds, done.Rules)...)
			if missing, more := without(s.Finds, found), without(found, s.Finds); len(missing)+len(more) > 0 {
				line := t.doc.Line(fmt.Sprintf("$.tests[%d].samples[%d]", i, j))
				done.Wrong = append(done.Wrong, fmt.Sprintf("%s:%d: at %s, value %s%s", t.doc.File, line, time.Duration(s.At), shown(value), differing(missing, more)))
			}
		}
		done.Passed = len(done.Wrong) == 0
		out = append(out, done)
	}
	return out
}

func shown(v mesh.Value) string {
	if v.Type == mesh.TypeNone {
		return "none"
	}
	return v.String()
}

// differing says what was to be found and was not, and what was found beside it.
func differing(missing, more []string) (out string) {
	if len(missing) > 0 {
		out += ": nothing was found by " + strings.Join(missing, ", ")
	}
	if len(more) > 0 {
		out += ": found by " + strings.Join(more, ", ") + ", which was not expected"
	}
	return out
}

func without(all, these []string) (out []string) {
	for _, x := range all {
		if !slices.Contains(these, x) {
			out = append(out, x)
		}
	}
	return out
}

// Placed is a rule and where it stands.
type Placed struct {
	Rule

	File string
	Line int
}

// All are the rules in their order, with where each was read in its file.
func (r *Rules) All() (out []Placed) {
	for i, c := range r.checks {
		p := Placed{Rule: c.Rule}
		if r.doc != nil { // of several files there is none
			p.File, p.Line = r.doc.File, r.doc.Line(fmt.Sprintf("$.rules[%d]", i))
		}
		out = append(out, p)
	}
	return out
}

// Revision counts up with every change.
func (r *Rules) Revision() uint64 { return r.file.Revision }
