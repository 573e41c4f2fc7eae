// Package quality judges batches by the domain's rules. It is a pure room: a
// judgement is a function of the rules, the batch and the state left by the
// batches before it, so the same log always gets the same verdicts.
//
// Rules annotate or quarantine; they never delete and never change a sample.
//
// Next: edge/forward
package quality

import (
	"cmp"
	"encoding/json"
	"fmt"
	"math"
	"path"
	"slices"
	"time"

	"plantmesh/proto/mesh"
	"plantmesh/proto/strict"
)

// File is a rules.d/*.yaml file. Its comments are the manual.
type File struct {
	// Revision counts up with every change; the higher revision's verdict wins.
	Revision uint64 `yaml:"revision" json:"revision"`
	Rules    []Rule `yaml:"rules" json:"rules"`
}

// Rule is one rule. Kinds and what they need:
//
//	range        min and/or max, in the signal's unit
//	enumeration  values: the allowed whole numbers
//	stale        max_silence: longer without a sample is marked on the next one
//	backwards    a counter must not fall, but for a wrap of 32 bits or a reset to 0
type Rule struct {
	ID         string          `yaml:"id" json:"id"`
	Kind       string          `yaml:"kind" json:"kind"`
	Signal     string          `yaml:"signal" json:"signal"`           // a pattern over the signal name: "*.*.temperature"
	Action     string          `yaml:"action" json:"action,omitempty"` // annotate (default), quarantine, alert
	Dimension  string          `yaml:"dimension" json:"dimension,omitempty"`
	Min        *float64        `yaml:"min" json:"min,omitempty"`
	Max        *float64        `yaml:"max" json:"max,omitempty"`
	Values     []int64         `yaml:"values" json:"values,omitempty"`
	MaxSilence strict.Duration `yaml:"max_silence" json:"max_silence_ns,omitempty"`
	// MaxStep is the most a counter can rise between two samples; it tells a
	// wrap from a reset.
	MaxStep int64 `yaml:"max_step" json:"max_step,omitempty"`
}

// defaultMaxStep is what a counter may rise between two samples where the rule
// says nothing: at 10 items a second, more than a day of silence.
const defaultMaxStep = 1_000_000

// check is a rule made ready.
type check struct {
	Rule

	action mesh.Action
}

// Rules is a rule set made ready. Safe for concurrent use: it never changes.
type Rules struct {
	file    File
	checks  []check
	content mesh.Descriptor
	doc     *strict.Doc // where they were read; nil for those of a log
}

// Compile makes a rule set ready. doc is the document the rules were read from.
func Compile(f File, doc *strict.Doc) (*Rules, error) {
	r := &Rules{file: f, doc: doc}
	seen := map[string]bool{}
	for i, rule := range f.Rules {
		at := fmt.Sprintf("$.rules[%d]", i)
		c, err := compile(rule, doc, at)
		if err != nil {
			return nil, err
		}
		if seen[rule.ID] {
			return nil, doc.Fault(at+".id", "rule %q stands twice", rule.ID)
		}
		seen[rule.ID] = true
		r.checks = append(r.checks, c)
	}
	return r, r.describe()
}

// describe makes the rule set's descriptor: what it says, not how it was
// written, so that it can be opened again from a log.
func (r *Rules) describe() error {
	r.content = mesh.Descriptor{Kind: mesh.DescribeRules}
	if len(r.checks) == 0 {
		return nil
	}
	b, err := json.Marshal(r.file)
	if err != nil {
		return fmt.Errorf("describe the rules: %w", err)
	}
	r.content.Content = b
	return nil
}

// Open makes the rule set of a descriptor ready.
func Open(d mesh.Descriptor) (*Rules, error) {
	var f File
	if d.Kind != mesh.DescribeRules {
		return nil, fmt.Errorf("descriptor of kind %d is no rule set", d.Kind)
	}
	if len(d.Content) > 0 {
		if err := json.Unmarshal(d.Content, &f); err != nil {
			return nil, fmt.Errorf("read the rules of the log: %w", err)
		}
	}
	return Compile(f, &strict.Doc{File: "rules of the log"})
}

// Parse reads and compiles a rules file.
func Parse(file string, src []byte) (*Rules, error) {
	var f File
	doc, err := strict.Parse(file, src, &f)
	if err != nil {
		return nil, err
	}
	return Compile(f, doc)
}

func compile(r Rule, doc *strict.Doc, at string) (check, error) {
	c := check{Rule: r}
	actions := map[string]mesh.Action{"": mesh.ActionAnnotate, "annotate": mesh.ActionAnnotate, "quarantine": mesh.ActionQuarantine, "alert": mesh.ActionAlert}
	var known bool
	if c.action, known = actions[r.Action]; !known {
		return c, doc.Fault(at+".action", "action %q is none of annotate, quarantine, alert", r.Action)
	}
	if r.ID == "" {
		return c, doc.Fault(at, "a rule needs an id")
	}
	if _, err := path.Match(r.Signal, ""); err != nil || r.Signal == "" {
		return c, doc.Fault(at+".signal", "%q is no signal pattern such as *.*.temperature", r.Signal)
	}
	// Dimensions are the closed list of ODCS v3.1.0.
	if r.Dimension != "" && !slices.Contains([]string{"accuracy", "completeness", "conformity", "consistency", "coverage", "timeliness", "uniqueness"}, r.Dimension) {
		return c, doc.Fault(at+".dimension", "dimension %q is none of ODCS's accuracy, completeness, conformity, consistency, coverage, timeliness, uniqueness", r.Dimension)
	}
	switch r.Kind {
	case "range":
		switch {
		case r.Min == nil && r.Max == nil:
			return c, doc.Fault(at, "a range rule needs min or max")
		case !number(r.Min) || !number(r.Max):
			return c, doc.Fault(at, "min and max must be numbers; leave one out where there is no limit")
		case r.Min != nil && r.Max != nil && *r.Min > *r.Max:
			return c, doc.Fault(at+".min", "min %g is above max %g", *r.Min, *r.Max)
		}
	case "enumeration":
		if len(r.Values) == 0 {
			return c, doc.Fault(at, "an enumeration rule needs values")
		}
	case "stale":
		if r.MaxSilence <= 0 {
			return c, doc.Fault(at, "a stale rule needs max_silence, such as 30s")
		}
	case "backwards":
		c.MaxStep = cmp.Or(r.MaxStep, defaultMaxStep)
	default:
		return c, doc.Fault(at+".kind", "kind %q is none of range, enumeration, stale, backwards", r.Kind)
	}
	return c, nil
}

func number(f *float64) bool { return f == nil || !math.IsNaN(*f) && !math.IsInf(*f, 0) }

// Join makes one rule set of the files of rules.d, in their order. Its revision
// is the sum of theirs, so any file's next revision is the set's next.
func Join(sets []*Rules) (*Rules, error) {
	out := &Rules{}
	seen := map[string]string{}
	for _, r := range sets {
		for i, c := range r.checks {
			if other, twice := seen[c.ID]; twice {
				return nil, r.doc.Fault(fmt.Sprintf("$.rules[%d].id", i), "rule %q stands in %s already", c.ID, other)
			}
			seen[c.ID] = r.doc.File
		}
		out.file.Revision += r.file.Revision
		out.file.Rules = append(out.file.Rules, r.file.Rules...)
		out.checks = append(out.checks, r.checks...)
	}
	return out, out.describe()
}

// Descriptor is the rule set as verdicts name it.
func (r *Rules) Descriptor() mesh.Descriptor { return r.content }

// State is what judging remembers of the batches before: the last sample of
// each signal, by name. The zero State is ready.
type State struct {
	Last map[string]Last `json:"last,omitempty"`
}

// Last is what is remembered of one signal.
type Last struct {
	Time mesh.Nanos `json:"t"`
	Int  int64      `json:"i,omitempty"`
	Has  bool       `json:"has,omitempty"` // Int is known
}

// Encode is the state as bytes.
func (s State) Encode() ([]byte, error) { return json.Marshal(s) }

// DecodeState reads what Encode wrote; nil is the zero State.
func DecodeState(b []byte) (s State, err error) {
	if len(b) == 0 {
		return s, nil
	}
	if err := json.Unmarshal(b, &s); err != nil {
		return State{}, fmt.Errorf("read rule state: %w", err)
	}
	return s, nil
}

// Judge gives the verdict on the batch at position of, and updates the state.
// Samples are looked at in folding order; marks name them by their place in
// the batch. table is the signal table the batch names.
func (r *Rules) Judge(of mesh.Position, b mesh.Batch, table []mesh.Signal, s *State) mesh.Verdict {
	v := mesh.Verdict{Of: of, Revision: r.file.Revision, Rules: r.content.Hash()}
	if len(r.checks) == 0 || len(b.Samples) == 0 {
		return v
	}
	if s.Last == nil {
		s.Last = map[string]Last{}
	}
	matched := r.match(table)
	for _, i := range foldingOrder(b.Samples) {
		x := b.Samples[i]
		m, ok := matched[x.Signal]
		if !ok {
			continue
		}
		last, seen := s.Last[m.name]
		for _, c := range m.checks {
			if c.finds(x, last, seen) {
				v.Marks = append(v.Marks, mesh.Mark{Index: uint32(i), Rule: c.ID, Action: c.action})
			}
		}
		if !seen || x.Time >= last.Time {
			next := Last{Time: x.Time}
			next.Int, next.Has = x.Value.Int()
			s.Last[m.name] = next
		}
	}
	return v
}

// Applying are the rules that look at a signal.
func (r *Rules) Applying(signal string) (out []Rule) {
	for _, c := range r.checks {
		if ok, err := path.Match(c.Signal, signal); ok && err == nil {
			out = append(out, c.Rule)
		}
	}
	return out
}

type signalChecks struct {
	name   string
	checks []check
}

// match finds the rules of each signal of a table.
func (r *Rules) match(table []mesh.Signal) map[uint32]signalChecks {
	out := map[uint32]signalChecks{}
	for _, sig := range table {
		m := signalChecks{name: sig.Name}
		for _, c := range r.checks {
			if ok, err := path.Match(c.Signal, sig.Name); ok && err == nil {
				m.checks = append(m.checks, c)
			}
		}
		if len(m.checks) > 0 {
			out[sig.ID] = m
		}
	}
	return out
}

func foldingOrder(samples []mesh.Sample) []int {
	order := make([]int, len(samples))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return samples[a].Compare(samples[b]) })
	return order
}

// finds reports whether the rule has something to say about x.
func (c check) finds(x mesh.Sample, last Last, seen bool) bool {
	switch c.Kind {
	case "range":
		f, ok := x.Value.Float()
		if !ok || x.Status.IsBad() {
			return false
		}
		return math.IsNaN(f) || c.Min != nil && f < *c.Min || c.Max != nil && f > *c.Max
	case "enumeration":
		i, ok := x.Value.Int()
		return !x.Status.IsBad() && (!ok || !slices.Contains(c.Values, i))
	case "stale":
		return seen && x.Flags&mesh.FlagInitial == 0 && x.Time.Sub(last.Time) > durationOf(c.MaxSilence)
	case "backwards":
		i, ok := x.Value.Int()
		if !ok || !seen || !last.Has || x.Time < last.Time || i >= last.Int || i == 0 {
			return false
		}
		return i-last.Int+1<<32 > c.MaxStep
	}
	return false
}

func durationOf(d strict.Duration) time.Duration { return time.Duration(d) }
