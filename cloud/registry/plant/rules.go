package plant

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"plantmesh/proto/strict"
)

// RulesFile is the file of a gateway's configuration that holds the rules of models.
const RulesFile = "rules.d/models.yaml"

// Kinds of rules, as the edge has them.
const (
	ruleRange       = "range"
	ruleEnumeration = "enumeration"
	ruleStale       = "stale"
	ruleBackwards   = "backwards"
)

// off is the action of a rule that there shall not be.
const off = "off"

// roleState and roleMode are roles whose numbers have a meaning.
const (
	roleState = "state"
	roleMode  = "mode"
)

// Wire is a signal that a machine has.
type Wire struct {
	Name string // whole
	Role string // that it fills; empty: none
	Type string // in the words of models
	Unit string
}

// Wired is a machine with the signals that were heard of it.
type Wired struct {
	Machine

	Wires []Wire
}

// Rule is a rule for a gateway, in the edge's words.
type Rule struct {
	ID         string   `json:"id" yaml:"id"` // machine.property.kind
	Kind       string   `json:"kind" yaml:"kind"`
	Signal     string   `json:"signal" yaml:"signal"` // a pattern that means one signal
	Action     string   `json:"action,omitempty" yaml:"action"`
	Dimension  string   `json:"dimension" yaml:"dimension"`
	Min        *float64 `json:"min,omitempty" yaml:"min"`
	Max        *float64 `json:"max,omitempty" yaml:"max"`
	Values     []int64  `json:"values,omitempty" yaml:"values"`
	MaxSilence string   `json:"max_silence,omitempty" yaml:"max_silence"`

	Model    string `json:"model,omitempty" yaml:"-"` // what gives it
	Property string `json:"property,omitempty" yaml:"-"`
}

// Machine is whose rule it is.
func (r *Rule) Machine() string {
	id, _, _ := strings.Cut(r.ID, ".")
	return id
}

// Left is a rule of a model that a machine can't have, and why.
type Left struct {
	Machine  string `json:"machine"`
	Property string `json:"property"`
	Why      string `json:"why"`
}

// Rules are the rules that models give the machines behind one gateway, by machine and
// property. A rule knows signals by their names alone, so shared are those that several
// sources of the gateway have.
func Rules(machines []Wired, models []Model, shared func(name string) bool) (out []Rule, left []Left) {
	sorted := slices.SortedFunc(slices.Values(machines), func(a, b Wired) int { return strings.Compare(a.ID, b.ID) })
	for i := range sorted {
		w := &sorted[i]
		k := slices.IndexFunc(models, func(m Model) bool { return m.Ref() == w.Model })
		if k < 0 {
			continue
		}
		for n := range models[k].Properties {
			rules, why := w.rules(&models[k], &models[k].Properties[n], shared)
			out = append(out, rules...)
			if why != "" {
				left = append(left, Left{w.ID, models[k].Properties[n].Name, why})
			}
		}
	}
	return out, left
}

// rules are those of one property for a machine; why says what it can't have.
func (w *Wired) rules(m *Model, p *Property, shared func(string) bool) (out []Rule, why string) {
	states := w.States
	if len(states) == 0 {
		states = m.States
	}
	given, wrong := p.given(states)
	switch {
	case p.Kind == Transform && p.Of == "":
		return nil, "nothing makes a transform of a formula: give it of, and a scale or an offset, in the model's next version, or leave it out"
	case len(given) == 0 && len(wrong) == 0:
		return nil, ""
	}
	wire := w.wire(p)
	switch {
	case wire == nil:
		return nil, "no signal of the machine is it"
	case p.Unit != "" && wire.Unit != "" && p.Unit != wire.Unit:
		return nil, fmt.Sprintf("%s is in %s, and the model says %s", wire.Name, wire.Unit, p.Unit)
	case shared(wire.Name):
		return nil, fmt.Sprintf("several sources of the gateway have a signal %s, and a rule there would look at all of them", wire.Name)
	}
	if wire.Type != "number" && wire.Type != "bool" {
		all := len(given)
		if given = slices.DeleteFunc(given, func(r Rule) bool { return r.Kind != ruleStale }); len(given) < all {
			wrong = append(wrong, fmt.Sprintf("%s is %s, and its other rules look at numbers", wire.Name, cmp.Or(wire.Type, "of no type")))
		}
	}
	for _, r := range given {
		r.ID, r.Signal, r.Model, r.Property = w.ID+"."+p.Name+"."+r.Kind, literal(wire.Name), m.Ref(), p.Name
		out = append(out, r)
	}
	return out, strings.Join(wrong, "; ")
}

// wire is the signal that a property is; nil: none was heard.
func (w *Wired) wire(p *Property) *Wire {
	if p.Role != "" {
		return w.first(func(x *Wire, _ string) bool { return x.Role == p.Role })
	}
	if x := w.first(func(_ *Wire, last string) bool { return last == p.Name }); x != nil {
		return x
	}
	return w.first(func(_ *Wire, last string) bool {
		return strings.EqualFold(last, p.Name) || slices.ContainsFunc(p.Also, func(a string) bool { return strings.EqualFold(a, last) })
	})
}

func (w *Wired) first(is func(x *Wire, last string) bool) (out *Wire) {
	for i := range w.Wires {
		x := &w.Wires[i]
		if is(x, x.Name[strings.LastIndexByte(x.Name, '.')+1:]) && (out == nil || x.Name < out.Name) {
			out = x
		}
	}
	return out
}

// given are the rules that a property gives whatever signal it is, and what stands among
// its rules and gives none. A range is one, but for numbers that mean something: of those
// the ones inside it are listed. A cadence is one at twice its time, as it is kept only
// roughly.
func (p *Property) given(states map[string]int64) (out []Rule, wrong []string) {
	if p.Kind != Measurement {
		return nil, nil
	}
	actions := map[string]string{}
	if p.Min != nil || p.Max != nil {
		actions[ruleRange] = ""
	}
	if p.Every != "" {
		actions[ruleStale] = ""
	}
	switch p.Role {
	case roleState:
		actions[ruleEnumeration] = ""
	case "produced", "scrap", "energy":
		actions[ruleBackwards] = ""
	}
	for _, text := range p.Rules {
		kind, action, _ := strings.Cut(text, " ")
		actions[ruleWord(kind)] = action
	}
	if p.Type == "text" { // one that an older hub registered may have more
		maps.DeleteFunc(actions, func(kind, _ string) bool { return kind != ruleStale })
	}
	if action, listed := actions[ruleEnumeration]; listed && action != off {
		delete(actions, ruleRange)
	}
	for _, kind := range slices.Sorted(maps.Keys(actions)) {
		if actions[kind] == off {
			continue
		}
		r, what := p.rule(kind, states)
		if what != "" {
			wrong = append(wrong, what)
			continue
		}
		if r.Kind = kind; actions[kind] != "annotate" {
			r.Action = actions[kind]
		}
		out = append(out, r)
	}
	return out, wrong
}

// rule is what a property says of one kind, without its place; wrong: why it gives none.
func (p *Property) rule(kind string, states map[string]int64) (r Rule, wrong string) {
	switch kind {
	case ruleRange:
		if p.Min == nil && p.Max == nil {
			return r, "a range needs min or max"
		}
		return Rule{Dimension: "conformity", Min: p.Min, Max: p.Max}, ""
	case ruleEnumeration:
		r = Rule{Dimension: "conformity", Values: p.values(states)}
		if len(r.Values) == 0 {
			return r, fmt.Sprintf("an enumeration needs numbers: of a state or a mode those that mean something and lie in its range, else whole min and max, at most %d of them", maxStates)
		}
		return r, ""
	case ruleStale:
		d, err := time.ParseDuration(p.Every)
		if err != nil || d <= 0 || d > maxEvery {
			return r, "stale needs every, a time such as 10s"
		}
		return Rule{Dimension: "timeliness", MaxSilence: (2 * d).String()}, ""
	case ruleBackwards:
		return Rule{Dimension: "consistency"}, ""
	}
	return r, fmt.Sprintf("the edge has no rule %q", kind)
}

// values are the whole numbers that a signal may have.
func (p *Property) values(states map[string]int64) (out []int64) {
	switch {
	case p.Role == roleState && len(states) > 0:
		for text := range states {
			if n, err := strconv.ParseInt(text, 10, 64); err == nil {
				out = append(out, n)
			}
		}
		slices.Sort(out)
	case p.Role == roleState:
		for n := range int64(18) { // of PackML
			out = append(out, n)
		}
	case p.Role == roleMode:
		out = []int64{1, 2, 3} // those that products know
	default:
		if p.Min == nil || p.Max == nil || *p.Min != math.Trunc(*p.Min) || math.Abs(*p.Min) > 1e15 || !(*p.Max-*p.Min < maxStates) {
			return nil
		}
		for n := int64(*p.Min); float64(n) <= *p.Max; n++ {
			out = append(out, n)
		}
		return out
	}
	return slices.DeleteFunc(out, func(n int64) bool {
		return p.Min != nil && float64(n) < *p.Min || p.Max != nil && float64(n) > *p.Max
	})
}

// ruleWord is a kind of rules in the edge's word: models of before had others.
func ruleWord(kind string) string {
	switch kind {
	case "enum":
		return ruleEnumeration
	case "counter":
		return ruleBackwards
	}
	return kind
}

// wrongRules says what stands among a property's rules and means nothing.
func (p *Property) wrongRules(states map[string]int64) string {
	kinds, actions := []string{ruleRange, ruleEnumeration, ruleStale, ruleBackwards}, []string{"", "annotate", "quarantine", "alert", off}
	seen := map[string]bool{}
	for _, text := range p.Rules {
		kind, action, _ := strings.Cut(text, " ")
		switch {
		case !slices.Contains(kinds, kind):
			what := fmt.Sprintf("has a rule %q: one of %s", kind, strings.Join(kinds, ", "))
			if near := cmp.Or(map[string]string{"enum": ruleEnumeration, "counter": ruleBackwards}[kind], strict.Nearest(kind, kinds)); near != "" {
				what += fmt.Sprintf("; did you mean %q?", near)
			}
			return what
		case !slices.Contains(actions, action):
			return fmt.Sprintf("has a rule %q: behind %s stands annotate, quarantine, alert or off", text, kind)
		case seen[kind]:
			return "has the rule " + kind + " twice"
		case p.Type == "text" && kind != ruleStale:
			return "has the rule " + kind + ", which looks at numbers, and is a text"
		}
		seen[kind] = true
	}
	if p.Type == "text" && (p.Min != nil || p.Max != nil) {
		return "has a range, and is a text"
	}
	if _, wrong := p.given(states); len(wrong) > 0 {
		return "has a rule that can't be: " + wrong[0]
	}
	return ""
}

// literal is a pattern that means one name.
func literal(name string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(name)
}

// Text is rules as a file of rules.d; none are no file. revision grows where they change.
func Text(rules []Rule, revision uint64) string {
	if len(rules) == 0 {
		return ""
	}
	var b bytes.Buffer
	b.WriteString("# What the models of machines say, made by the hub. It is made anew whenever they\n# change: write rules of your own into another file.\n")
	fmt.Fprintf(&b, "revision: %d\nrules:\n", revision)
	for i := range rules {
		r := &rules[i]
		fmt.Fprintf(&b, "  # %s, %s of %s\n  - id: %s\n    kind: %s\n    signal: %s\n", r.Machine(), r.Property, r.Model, quoted(r.ID), r.Kind, quoted(r.Signal))
		for _, x := range []struct{ key, is string }{
			{"min", number(r.Min)}, {"max", number(r.Max)}, {"values", list(r.Values)}, {"max_silence", r.MaxSilence}, {"action", r.Action}, {"dimension", r.Dimension},
		} {
			if x.is != "" {
				fmt.Fprintf(&b, "    %s: %s\n", x.key, x.is)
			}
		}
	}
	return b.String()
}

// quoted is a text in double quotes: what JSON writes so, YAML reads.
func quoted(s string) string {
	b, err := json.Marshal(s)
	if err != nil { // no text is none
		return strconv.Quote(s)
	}
	return string(b)
}

func number(f *float64) string {
	if f == nil {
		return ""
	}
	return strconv.FormatFloat(*f, 'f', -1, 64)
}

func list(values []int64) string {
	if len(values) == 0 {
		return ""
	}
	text := make([]string, len(values))
	for i, n := range values {
		text[i] = strconv.FormatInt(n, 10)
	}
	return "[" + strings.Join(text, ", ") + "]"
}

// ReadText are the rules of a file that Text made, without what gives them, and its
// revision. An empty text has none.
func ReadText(text string) (rules []Rule, revision uint64, err error) {
	var f struct {
		Revision uint64 `yaml:"revision"`
		Rules    []Rule `yaml:"rules"`
	}
	if text == "" {
		return nil, 0, nil
	}
	_, err = strict.Parse(RulesFile, []byte(text), &f)
	return f.Rules, f.Revision, err
}

// SameRules says whether rules find the same.
func SameRules(a, b []Rule) bool {
	return slices.EqualFunc(a, b, func(x, y Rule) bool { return x.says() == y.says() })
}

// says is what a rule does, as a text.
func (r *Rule) says() string {
	words := []string{r.ID, r.Signal, r.Dimension}
	return strings.Join(append(words, r.limits()...), "\n")
}

// limits are what it finds something by, for people.
func (r *Rule) limits() (out []string) {
	for _, x := range []struct{ what, is string }{
		{"min ", number(r.Min)}, {"max ", number(r.Max)}, {"one of ", strings.Trim(list(r.Values), "[]")}, {"silent for more than ", r.MaxSilence}, {"", r.Action},
	} {
		if x.is != "" {
			out = append(out, x.what+x.is)
		}
	}
	return out
}

// DiffRules is which rules of a model another version has otherwise.
func (m *Model) DiffRules(to *Model) (out []Change) {
	was, is := m.said(), to.said()
	for _, id := range slices.Sorted(maps.Keys(was)) {
		if was[id] != is[id] {
			out = append(out, Change{"rule " + id, was[id], is[id]})
		}
	}
	for _, id := range slices.Sorted(maps.Keys(is)) {
		if was[id] == "" {
			out = append(out, Change{"rule " + id, "", is[id]})
		}
	}
	return out
}

// said are the rules of a model in words, by property and kind, as a machine has them that
// says nothing of its states itself.
func (m *Model) said() map[string]string {
	out := map[string]string{}
	for i := range m.Properties {
		given, _ := m.Properties[i].given(m.States)
		for _, r := range given {
			out[m.Properties[i].Name+"."+r.Kind] = cmp.Or(strings.Join(r.limits(), ", "), "it never falls")
		}
	}
	return out
}

// DiffRules is which rules and transforms a change gives and takes by having machines be of
// other versions of models, each once.
func (s *Scene) DiffRules(d Delta) (out []Change) {
	seen := map[[2]string]bool{}
	for i := range d.Put {
		m := &d.Put[i]
		was := s.Register.Find(m.ID)
		if was == nil || was.Model == m.Model || seen[[2]string{was.Model, m.Model}] {
			continue
		}
		seen[[2]string{was.Model, m.Model}] = true
		from, to := s.model(was.Model), s.model(m.Model)
		out = append(append(out, from.DiffRules(to)...), from.diffTransforms(to)...)
	}
	return out
}

// diffTransforms is what of the signals that are made another version has otherwise.
func (m *Model) diffTransforms(to *Model) (out []Change) {
	for _, c := range m.diffProperties(to, func(p *Property) bool { return p.Kind == Transform && p.Of != "" }) {
		out = append(out, Change{"transform " + strings.TrimPrefix(c.What, "property "), c.From, c.To})
	}
	return out
}

// model is the model of a whole reference; one without properties where there is none.
func (s *Scene) model(ref string) *Model {
	for i := range s.Models {
		if s.Models[i].Ref() == ref {
			return &s.Models[i]
		}
	}
	return &Model{}
}
