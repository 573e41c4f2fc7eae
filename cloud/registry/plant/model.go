package plant

import (
	"cmp"
	"embed"
	"fmt"
	"math"
	"path"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"plantmesh/proto/strict"
)

// Kinds of a model's property. A measurement and a transform are used; attributes and
// metrics describe, for people. A transform without of is of a model that an older hub
// registered, when a formula in words was taken: nothing makes it.
const (
	Attribute   = "attribute"   // a fixed text of each machine, as its serial number
	Measurement = "measurement" // a signal
	Transform   = "transform"   // made of a measurement, sample by sample, in product signals
	Metric      = "metric"      // made of a window, by the products
)

// maxEvery bounds a cadence.
const maxEvery = 366 * 24 * time.Hour

// Property is what a machine of a model has.
type Property struct {
	Name  string   `json:"name" yaml:"name"` // of a measurement: the last part of its signal's name
	Kind  string   `json:"kind" yaml:"kind"`
	Role  string   `json:"role,omitempty" yaml:"role"`
	Also  []string `json:"also,omitempty" yaml:"also"`   // other last parts that it is recognised by
	Type  string   `json:"type,omitempty" yaml:"type"`   // number, text or bool
	Unit  string   `json:"unit,omitempty" yaml:"unit"`   // UNECE Rec 20 common code
	Every string   `json:"every,omitempty" yaml:"every"` // it speaks at least so often, as 10s
	Min   *float64 `json:"min,omitempty" yaml:"min"`
	Max   *float64 `json:"max,omitempty" yaml:"max"`
	// Rules are kinds of rules of the edge that such a signal is to have beside those of its
	// range, its cadence and its role, and what they do: "range quarantine", "stale off".
	Rules   []string `json:"rules,omitempty" yaml:"rules"`
	Formula string   `json:"formula,omitempty" yaml:"formula"` // of a metric, in words
	Need    bool     `json:"need,omitempty" yaml:"need"`       // without it a machine is not of this model
	// Of a transform: it is the measurement Of * Scale + Offset, in Unit, and its signal has
	// the name of that one's with Name as the last part.
	Of     string   `json:"of,omitempty" yaml:"of"`
	Scale  *float64 `json:"scale,omitempty" yaml:"scale"`   // 1 where it isn't said
	Offset *float64 `json:"offset,omitempty" yaml:"offset"` // 0 where it isn't said
}

// Model is what machines of one make have in common. A version never changes.
type Model struct {
	ID                string             `json:"id" yaml:"id"`
	Version           string             `json:"version" yaml:"version"` // 1.0.0
	Title             string             `json:"title,omitempty" yaml:"title"`
	States            map[string]int64   `json:"states,omitempty" yaml:"states"`                           // PackML states by the machine's number
	IdealCycleSeconds map[string]float64 `json:"ideal_cycle_seconds,omitempty" yaml:"ideal_cycle_seconds"` // by product
	Properties        []Property         `json:"properties" yaml:"properties"`
	Enables           []string           `json:"enables,omitempty" yaml:"enables"` // products that it is made for
}

// Ref names a version of a model.
func (m *Model) Ref() string { return m.ID + "@" + m.Version }

func refs(models []Model) (out []string) {
	for i := range models {
		out = append(out, models[i].Ref())
	}
	return out
}

func compareModels(a, b Model) int {
	return cmp.Or(strings.Compare(a.ID, b.ID), slices.Compare(version(a.Version), version(b.Version)))
}

// version is 1.2.3 as numbers; nil where it is none.
func version(s string) []int {
	parts := strings.Split(s, ".")
	if len(parts) != 3 {
		return nil
	}
	out := make([]int, 3)
	for i, p := range parts {
		n, err := strconv.Atoi(p)
		if err != nil || n < 0 || n > 1_000_000 || strconv.Itoa(n) != p {
			return nil
		}
		out[i] = n
	}
	return out
}

//go:embed models/*.yaml
var builtin embed.FS

// Builtin are the models that every hub knows.
func Builtin() (out []Model, err error) {
	files, err := builtin.ReadDir("models")
	if err != nil {
		return nil, fmt.Errorf("read the models: %w", err)
	}
	for _, f := range files {
		b, err := builtin.ReadFile(path.Join("models", f.Name()))
		if err != nil {
			return nil, fmt.Errorf("read the models: %w", err)
		}
		m, err := ParseModel(f.Name(), b)
		if err != nil {
			return nil, err
		}
		out = append(out, m)
	}
	return out, nil
}

// ParseModel reads a model's file, YAML or JSON; faults name file and line.
func ParseModel(file string, src []byte) (m Model, err error) {
	doc, err := strict.Parse(file, src, &m)
	if err != nil {
		return m, err
	}
	if faults := m.check(); len(faults) > 0 {
		at := "$"
		if faults[0].Field != "" {
			at = "$." + faults[0].Field
		}
		return m, doc.Fault(at, "%s", faults[0].What)
	}
	return m, nil
}

func (m *Model) check() (out Faults) {
	fault := func(field, format string, args ...any) {
		out = append(out, Fault{ID: m.Ref(), Field: field, What: fmt.Sprintf(format, args...)})
	}
	if !Name(m.ID) {
		fault("id", "%q is no id of a model: small letters, digits, - and _", m.ID)
	}
	if version(m.Version) == nil {
		fault("version", "%q is no version such as 1.0.0", m.Version)
	}
	if !text(m.Title) {
		fault("title", "is longer than %d bytes, or has more than one line", maxText)
	}
	if len(m.Properties) == 0 || len(m.Properties) > maxStates || len(m.States) > maxStates || len(m.IdealCycleSeconds) > maxStates || len(m.Enables) > maxEntries {
		fault("properties", "a model has 1 to %d properties, and at most as many states and products", maxStates)
		return out
	}
	out = append(out, checkStates(m.Ref(), m.States)...)
	out = append(out, checkIdeal(m.Ref(), m.IdealCycleSeconds)...)
	taken := map[string]bool{}
	for i := range m.Properties {
		p := &m.Properties[i]
		at := fmt.Sprintf("properties[%d]", i)
		if what := cmp.Or(p.wrong(), m.wrongTransform(p), p.wrongRules(m.States)); what != "" {
			fault(at, "%s %s", p.Name, what)
		}
		for _, name := range []string{"name " + p.Name, "role " + p.Role} {
			if taken[name] && name != "role " {
				fault(at, "%s stands twice", name)
			}
			taken[name] = true
		}
	}
	return out
}

func (p *Property) wrong() string {
	switch {
	case p.Name == "" || !text(p.Name) || strings.Contains(p.Name, "."):
		return "is no name: the last part of a signal's name, without dots"
	case !slices.Contains([]string{Attribute, Measurement, Transform, Metric}, p.Kind):
		return fmt.Sprintf("has the kind %q: attribute, measurement, transform or metric", p.Kind)
	case p.Role != "" && (p.Kind != Measurement || !slices.Contains(roles(), p.Role)):
		return fmt.Sprintf("has the role %q: of a measurement, one of %s", p.Role, strings.Join(roles(), ", "))
	case !slices.Contains([]string{"", "number", "text", "bool"}, p.Type):
		return fmt.Sprintf("has the type %q: number, text or bool", p.Type)
	case len(p.Also) > maxEntries || len(p.Rules) > maxEntries || !text(p.Unit) || len(p.Formula) > maxText*5:
		return "is longer than a property may be"
	case p.Min != nil && p.Max != nil && *p.Min > *p.Max:
		return fmt.Sprintf("has a range from %v to %v", *p.Min, *p.Max)
	case !finite(p.Min) || !finite(p.Max):
		return "has a range whose end is no number: leave it out where there is none"
	}
	if p.Every != "" {
		if d, err := time.ParseDuration(p.Every); err != nil || d <= 0 || d > maxEvery {
			return fmt.Sprintf("has every %q: a time such as 10s", p.Every)
		}
	}
	return p.unused()
}

func finite(f *float64) bool { return f == nil || !math.IsNaN(*f) && !math.IsInf(*f, 0) }

// unused says what a property says that nothing would look at.
func (p *Property) unused() string {
	if p.Kind != Transform {
		for _, x := range []struct {
			what string
			is   bool
		}{{"of", p.Of != ""}, {"scale", p.Scale != nil}, {"offset", p.Offset != nil}} {
			if x.is {
				return fmt.Sprintf("has %s, and is of the kind %s: only a transform is made of a measurement", x.what, p.Kind)
			}
		}
	}
	if p.Kind == Measurement {
		if p.Formula != "" {
			return "has a formula, and is a measurement: a formula is of a metric, for people"
		}
		return ""
	}
	describes := "which describes the machine for people"
	if p.Kind == Transform {
		describes = "which is made of a measurement"
	}
	for _, x := range []struct {
		what string
		is   bool
	}{
		{"also", len(p.Also) > 0},
		{"every", p.Every != ""},
		{"min", p.Min != nil},
		{"max", p.Max != nil},
		{"rules", len(p.Rules) > 0},
		{"need", p.Need},
		{"a formula", p.Formula != "" && p.Kind != Metric},
	} {
		if x.is {
			return fmt.Sprintf("has %s, and is of the kind %s, %s: only a measurement is a signal", x.what, p.Kind, describes)
		}
	}
	return ""
}

// wrongTransform says why a transform can't be made. It is one measurement, scaled: of a
// counter or a state products make what they mean, and of a formula nothing reads the rest.
func (m *Model) wrongTransform(p *Property) string {
	if p.Kind != Transform {
		return ""
	}
	if p.Of == "" {
		return "is a transform without of: name the measurement that it is made of, and a scale or an offset, as {of: oil_raw, scale: 0.1, unit: BAR}"
	}
	k := slices.IndexFunc(m.Properties, func(o Property) bool { return o.Name == p.Of })
	if k < 0 {
		what := fmt.Sprintf("is made of %q, which is no property of the model", p.Of)
		var names []string
		for i := range m.Properties {
			names = append(names, m.Properties[i].Name)
		}
		if near := strict.Nearest(p.Of, names); near != "" && near != p.Name {
			what += fmt.Sprintf("; did you mean %q?", near)
		}
		return what
	}
	of := &m.Properties[k]
	role := of.Role
	if role == "" && slices.Contains(roles(), of.Name) { // by its name, of every machine that names no other
		role = of.Name
	}
	given, _ := of.given(m.States)
	counts := slices.ContainsFunc(given, func(r Rule) bool { return r.Kind == ruleBackwards })
	switch {
	case of.Kind != Measurement:
		return fmt.Sprintf("is made of %s, which is of the kind %s: only a measurement has samples", of.Name, of.Kind)
	case counts || slices.Contains([]string{"energy", "produced", "scrap"}, role):
		return fmt.Sprintf("is made of %s, which is a counter: scaled before its wraps are undone it would make other numbers, and products count it as it is", of.Name)
	case role != "":
		return fmt.Sprintf("is made of %s, which has the role %s: products read it as it is, and states says what the numbers of a state mean", of.Name, role)
	case of.Type == "text" || of.Type == "bool":
		return fmt.Sprintf("is made of %s, which is %s: only numbers are scaled", of.Name, of.Type)
	case p.Type != "" && p.Type != "number":
		return "is a transform, and so a number: leave its type out"
	case slices.Contains(roles(), p.Name):
		return "is a transform with the name of a role, which no product would read of it"
	case p.Scale == nil && p.Offset == nil:
		return "is a transform that changes nothing: it has a scale, an offset, or both"
	case !finite(p.Scale) || !finite(p.Offset):
		return "is a transform whose scale or offset is no number"
	case p.Scale != nil && *p.Scale == 0:
		return "is a transform with the scale 0, which makes all values one"
	}
	return ""
}

// Known are the models of the register and the built-in ones, sorted.
func (r *Register) Known(builtin []Model) []Model {
	out := slices.Clone(r.Models)
	for _, m := range builtin {
		if !slices.ContainsFunc(out, func(o Model) bool { return o.Ref() == m.Ref() }) {
			out = append(out, m)
		}
	}
	slices.SortFunc(out, compareModels)
	return out
}

// Signal is one that a gateway reads, as far as models look at it.
type Signal struct {
	Name string // the last part
	Type string // number, text, bool; empty: something else
	Unit string
}

// Match says how well signals are a model.
type Match struct {
	Model   string            `json:"model"`
	Matched int               `json:"matched"`
	Of      int               `json:"of"` // measurements of the model
	Missing []string          `json:"missing,omitempty"`
	Wrong   []string          `json:"wrong,omitempty"` // found, but of another type or unit
	Extra   int               `json:"extra"`           // signals that the model doesn't know
	Roles   map[string]string `json:"-"`               // last parts by role, of what matched
	// Lacks says that what the model needs is not there.
	Lacks bool `json:"lacks_needed,omitempty"`
}

// Match holds signals against the model.
func (m *Model) Match(signals []Signal) Match {
	out := Match{Model: m.Ref(), Roles: map[string]string{}}
	used := map[string]bool{}
	for i := range m.Properties {
		p := &m.Properties[i]
		if p.Kind != Measurement {
			continue
		}
		out.Of++
		k := slices.IndexFunc(signals, func(s Signal) bool { return s.Name == p.Name })
		if k < 0 {
			k = slices.IndexFunc(signals, func(s Signal) bool {
				return strings.EqualFold(s.Name, p.Name) || slices.ContainsFunc(p.Also, func(a string) bool { return strings.EqualFold(a, s.Name) })
			})
		}
		if k < 0 {
			out.Missing = append(out.Missing, p.Name)
			out.Lacks = out.Lacks || p.Need
			continue
		}
		s := signals[k]
		used[s.Name] = true
		if p.Type != "" && s.Type != p.Type || p.Unit != "" && s.Unit != "" && p.Unit != s.Unit {
			out.Wrong = append(out.Wrong, fmt.Sprintf("%s is %s, not %s", s.Name, strings.TrimSpace(s.Type+" "+s.Unit), strings.TrimSpace(p.Type+" "+p.Unit)))
			out.Lacks = out.Lacks || p.Need
			continue
		}
		out.Matched++
		if p.Role != "" {
			out.Roles[p.Role] = s.Name
		}
	}
	out.Extra = len(signals) - len(used)
	return out
}

// Best is the model that signals are the most; false: none has half of it, and all that
// it needs.
func Best(models []Model, signals []Signal) (best Match, ok bool) {
	for i := range models {
		m := models[i].Match(signals)
		if m.Lacks || m.Matched == 0 || 2*m.Matched < m.Of {
			continue
		}
		// Of two versions of one model the later comes last, and wins.
		if !ok || m.Matched*best.Of >= best.Matched*m.Of {
			best, ok = m, true
		}
	}
	return best, ok
}

// Change is one line of the difference between two versions of a model.
type Change struct {
	What string `json:"what"` // title, states, property state…
	From string `json:"from,omitempty"`
	To   string `json:"to,omitempty"`
}

// Diff is what another version of a model has otherwise.
func (m *Model) Diff(to *Model) (out []Change) {
	say := func(what string, a, b any) {
		if !reflect.DeepEqual(a, b) {
			out = append(out, Change{what, said(a), said(b)})
		}
	}
	say("title", m.Title, to.Title)
	say("states", m.States, to.States)
	say("ideal_cycle_seconds", m.IdealCycleSeconds, to.IdealCycleSeconds)
	say("enables", m.Enables, to.Enables)
	out = append(out, m.diffProperties(to, func(*Property) bool { return true })...)
	return append(out, m.DiffRules(to)...)
}

// diffProperties is what another version has otherwise of the properties that count.
func (m *Model) diffProperties(to *Model, counts func(*Property) bool) (out []Change) {
	property := func(of *Model, name string) *Property {
		if i := slices.IndexFunc(of.Properties, func(p Property) bool { return p.Name == name && counts(&p) }); i >= 0 {
			return &of.Properties[i]
		}
		return nil
	}
	var names []string
	for _, p := range slices.Concat(m.Properties, to.Properties) {
		if !slices.Contains(names, p.Name) {
			names = append(names, p.Name)
		}
	}
	for _, name := range names {
		a, b := property(m, name), property(to, name)
		if !reflect.DeepEqual(a, b) {
			out = append(out, Change{"property " + name, a.said(), b.said()})
		}
	}
	return out
}

func said(v any) string {
	if s := fmt.Sprint(v); s != "map[]" && s != "[]" {
		return s
	}
	return ""
}

func (p *Property) said() string {
	if p == nil {
		return ""
	}
	words := []string{p.Kind}
	for _, x := range []struct{ what, is string }{{"role", p.Role}, {"type", p.Type}, {"unit", p.Unit}, {"every", p.Every}, {"also", strings.Join(p.Also, " ")}, {"rules", strings.Join(p.Rules, " ")}, {"formula", p.Formula}, {"of", p.Of}, {"scale", number(p.Scale)}, {"offset", number(p.Offset)}} {
		if x.is != "" {
			words = append(words, x.what+" "+x.is)
		}
	}
	if p.Min != nil {
		words = append(words, "min "+strconv.FormatFloat(*p.Min, 'g', -1, 64))
	}
	if p.Max != nil {
		words = append(words, "max "+strconv.FormatFloat(*p.Max, 'g', -1, 64))
	}
	if p.Need {
		words = append(words, "needed")
	}
	return strings.Join(words, ", ")
}
