package mapping

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"plantmesh/proto/mesh"
	"plantmesh/proto/strict"
	"plantmesh/proto/subject"
	"plantmesh/proto/wire"
)

// Defaults and limits of a configuration.
const (
	defaultEvery   = strict.Duration(10 * time.Second)
	defaultSignals = 10_000
	mostSignals    = 100_000
)

// Config says how the messages of a broker, or of devices, become samples. It is
// meant to be embedded in a source's configuration.
type Config struct {
	Topics     []Topic   `yaml:"topics"`      // what to subscribe to
	Heartbeat  Heartbeat `yaml:"heartbeat"`   // what proves that silence is silence; without it max_silence of the signals must
	Signals    []Signal  `yaml:"signals"`     // what to keep; other keys are counted and left out
	MaxSignals int       `yaml:"max_signals"` // those that patterns find included; default 10000
}

// Topic says how messages become samples. The default is JSON objects of the form
// {"ts": 1767225600000, "speed": 41.5, "state": 6}.
//
// Paths lead from the message to what is in it: dotted keys, [0] for the first of
// an array, ["a.b"] for a key with a dot, [*] for each of an array (or of an object).
// Paths with [*] are about the element that value is in.
type Topic struct {
	Filter  string `yaml:"filter"`  // subscription, such as plant/{line}/{machine}/+: a level may have a name
	Signal  string `yaml:"signal"`  // name of the signals, see below
	Payload string `yaml:"payload"` // json (the default), plain, or a form that is known by name: Presets

	Value    string  `yaml:"value"`     // path to the value, or to an object of values; default the message itself
	Key      string  `yaml:"key"`       // path to what {key} is: values[*].name
	Split    string  `yaml:"split"`     // what cuts {key} into several tokens, such as . or /; default: it is one
	Time     string  `yaml:"time"`      // path to the time; empty: the gateway's clock
	TimeUnit string  `yaml:"time_unit"` // s, ms, us, ns since 1970; text: RFC 3339 or ISO 8601; auto: any of them; default ms
	TimeZone string  `yaml:"time_zone"` // of texts without an offset, such as Europe/Vienna; without it they are refused
	Quality  Quality `yaml:"quality"`
	Sequence string  `yaml:"sequence"` // path to a number that the device counts its values by
	Quoted   bool    `yaml:"quoted"`   // numbers and booleans may stand in quotes
	When     string  `yaml:"when"`     // an expression: messages for which it is false are left out, such as message.kind == "data"
}

// Names of signals, in Topic.Signal:
//
//	{line}           the level of the topic that the filter calls so
//	{0} {1} ...      the levels by number
//	{topic} {rest}   all levels; those that # stands for
//	{key}            the key of each value in the object at value, or what Topic.Key leads to
//	{path}           the keys down to each value, however deep the object at value is
//	{index}          the place, or key, of the element: of the first [*] in value; {index2} of the second
//
// Each becomes one token, or several with dots between, by subject.Escape.
//
// Expressions (expr, when) are those of github.com/expr-lang/expr without loops, variables
// and most functions. They refer to value, message (the whole payload), topic, level.x (a
// level with a name) and name (of the signal).

// Heartbeat is a message with a time: everything with a time stamp older than
// that, less the disorder, was published before it.
type Heartbeat struct {
	Topic    string          `yaml:"topic"`
	Every    strict.Duration `yaml:"every"`     // longest time between two; default 10s
	Time     string          `yaml:"time"`      // path to the time; default ts
	TimeUnit string          `yaml:"time_unit"` // as that of a topic; default ms
}

// Signal is one signal to keep, or a pattern of signals: in a name with {x} that is any
// one token, {path} any number of them. A pattern's signals are there once they are heard.
type Signal struct {
	Name       string              `yaml:"name"`
	Type       string              `yaml:"type"`        // bool, int, uint, double or string
	Unit       string              `yaml:"unit"`        // UNECE Rec 20 common code, such as CEL
	MaxSilence strict.Duration     `yaml:"max_silence"` // longer without a value is a fault of the signal, and without a heartbeat the end of what is known; default: no limit
	Levels     map[string][]string `yaml:"levels"`      // of a pattern: what {x} may be; default: anything
	Expr       string              `yaml:"expr"`        // what the value becomes, such as value * 0.1 - 40
	When       string              `yaml:"when"`        // values for which it is false are left out, such as value > -40
}

// Validate fills in the defaults and checks the rest.
func (c *Config) Validate() error {
	c.defaults()
	switch {
	case len(c.Topics) == 0:
		return strict.At("topics", "topics is empty: nothing to subscribe to")
	case len(c.Signals) == 0:
		return strict.At("signals", "signals is empty: nothing to keep")
	case c.MaxSignals < 1 || c.MaxSignals > mostSignals:
		return strict.At("max_signals", "max_signals must lie between 1 and %d", mostSignals)
	}
	_, err := New(c)
	return err
}

// Provable reports whether anything can prove that silence is silence. Without
// it values are stored, but nothing counts as known. What a pattern declares proves
// nothing: who is to be heard must be known before.
func (c *Config) Provable() bool {
	return c.Heartbeat.Topic != "" || slices.ContainsFunc(c.Signals, func(s Signal) bool { return s.MaxSilence > 0 && !s.pattern() })
}

func (s *Signal) pattern() bool { return strings.ContainsAny(s.Name, "{}") }

func (c *Config) defaults() {
	setIfZero(&c.Heartbeat.Every, defaultEvery)
	setIfZero(&c.Heartbeat.Time, "ts")
	setIfZero(&c.Heartbeat.TimeUnit, "ms")
	setIfZero(&c.MaxSignals, defaultSignals)
	for i := range c.Topics {
		c.Topics[i].defaults()
	}
}

func setIfZero[T comparable](v *T, value T) {
	var zero T
	if *v == zero {
		*v = value
	}
}

// plan is a Topic as it is used.
type plan struct {
	filter filter
	name   template
	plain  bool
	quoted bool

	value, key, time, quality, sequence path
	// each is how the value's path begins, up to its last [*]; paths of elements begin so
	// too and are cut there. Those of the message are whole.
	each                               path
	keyIn, timeIn, qualityIn, numberIn bool // the element, not the message
	named                              bool // {key} is what key leads to
	byKey, byPath                      bool // {key} or {path} is where each value stands

	form   form
	grades grades
	when   *formula
}

// compile checks a topic.
func (t *Topic) compile() (p plan, err error) {
	if p.filter, err = parseFilter(t.Filter); err != nil {
		return p, err
	}
	if p.plain = t.Payload == plainPayload; !p.plain && t.Payload != jsonPayload {
		return p, strict.At("payload", "payload %q of topic %q is none of %s", t.Payload, t.Filter, strings.Join(append([]string{jsonPayload, plainPayload}, Presets()...), ", "))
	}
	for _, x := range []struct {
		key, text string
		to        *path
		in        *bool
	}{
		{"value", t.Value, &p.value, nil},
		{"key", t.Key, &p.key, &p.keyIn},
		{"time", t.Time, &p.time, &p.timeIn},
		{"quality.path", t.Quality.Path, &p.quality, &p.qualityIn},
		{"sequence", t.Sequence, &p.sequence, &p.numberIn},
	} {
		if err := p.place(x.key, x.text, x.to, x.in); err != nil {
			return p, err
		}
	}
	if p.grades, err = t.Quality.compile(); err != nil {
		return p, err
	}
	if p.form, err = compileForm(t.TimeUnit, t.TimeZone, fmt.Sprintf("topic %q", t.Filter)); err != nil {
		return p, err
	}
	if p.when, err = compileFormula("when", t.When, true); err != nil {
		return p, err
	}
	p.quoted = t.Quoted
	if p.name, err = parseTemplate(t.Signal, &p.filter, p.each.count()); err != nil {
		return p, strict.At("signal", "%w", err)
	}
	for i := range p.name {
		if p.name[i].hole == key {
			p.name[i].text = t.Split
		}
	}
	return p, t.holes(&p)
}

// place parses a path, and finds out whether it is about the element.
func (p *plan) place(key, text string, to *path, in *bool) error {
	x, err := parsePath(text)
	switch {
	case text == "":
		return nil
	case p.plain:
		return strict.At(key, "%s is a path into JSON, and payload is plain", key)
	case err != nil:
		return strict.At(key, "%w", err)
	case in == nil: // value
		p.each = x.stars()
		*to = x[len(p.each):]
		return nil
	}
	if n := len(x.stars()); n > 0 {
		if n != len(p.each) || !slices.Equal(x[:n], p.each) {
			return strict.At(key, "%s %q has [*], so it must begin as value does up to its last [*]: it is about the same element", key, text)
		}
		*in, x = true, x[n:]
	}
	if len(x) == 0 {
		return strict.At(key, "%s %q leads to what value is in, not to something beside it", key, text)
	}
	*to = x
	return nil
}

// holes finds out what fills {key} and {path}, and that something gives the value.
func (t *Topic) holes(p *plan) error {
	keys, leaves := p.name.count(key), p.name.count(leaf)
	p.named, p.byKey, p.byPath = t.Key != "", keys > 0 && t.Key == "", leaves > 0
	switch {
	case p.plain && keys+leaves > 0:
		return strict.At("signal", "signal %q of topic %q: {key} and {path} are for JSON, and payload is plain", t.Signal, t.Filter)
	case keys > 1 || leaves > 1 || p.byKey && p.byPath:
		return strict.At("signal", "signal %q of topic %q must hold {key} or {path} once: they say of each value where it stands", t.Signal, t.Filter)
	case t.Split != "" && keys == 0:
		return strict.At("split", "split cuts {key}, and signal %q has none", t.Signal)
	case t.Key != "" && keys == 0:
		return strict.At("key", "key says what {key} is, and signal %q has none", t.Signal)
	case !p.plain && t.Value == "" && keys+leaves == 0:
		return strict.At("signal", "signal %q of topic %q must hold {key} once, for objects with many values; or value must say where the one value stands (value: $ for the message itself)", t.Signal, t.Filter)
	case len(p.each) > 0 && !p.keyIn && p.name.count(place) == 0 && !p.byPath && !p.byKey:
		return strict.At("signal", "signal %q of topic %q must hold {index}, or {key} with a key of the element: all elements would have one name else", t.Signal, t.Filter)
	}
	return nil
}

func compileForm(unit, zone, of string) (f form, err error) {
	f, ok := parseForm(unit)
	if !ok {
		return f, strict.At("time_unit", "time_unit %q of %s is none of %s", unit, of, forms)
	}
	if zone == "" {
		return f, nil
	}
	if f.zone, err = time.LoadLocation(zone); err != nil || zone == "Local" {
		return f, strict.At("time_zone", "time_zone %q of %s is no zone such as Europe/Vienna", zone, of)
	}
	return f, nil
}

// compile checks a signal, and gives its row of the table.
func (s *Signal) compile(id int) (row mesh.Signal, err error) {
	t, ok := mesh.ParseType(s.Type)
	switch {
	case s.Name == "":
		return row, strict.At("", "a signal has no name")
	case len(s.Name) > wire.MaxName:
		return row, strict.At("name", "signal's name is longer than %d bytes", wire.MaxName)
	case !ok || t < mesh.TypeBool || t > mesh.TypeString:
		return row, strict.At("type", "type %q of signal %q is none of bool, int, uint, double, string", s.Type, s.Name)
	case len(s.Levels) > 0 && !s.pattern():
		return row, strict.At("levels", "levels say what the {x} of a name may be, and signal %q has none", s.Name)
	}
	return mesh.Signal{ID: uint32(id), Name: s.Name, Type: t, Unit: s.Unit, MaxSilence: mesh.Nanos(s.MaxSilence)}, nil
}

// formulas are a signal's expr and when.
func (s *Signal) formulas() (calc [2]*formula, err error) {
	if calc[0], err = compileFormula("expr", s.Expr, false); err != nil {
		return calc, err
	}
	calc[1], err = compileFormula("when", s.When, true)
	return calc, err
}

// family is a pattern of signals as it is used.
type family struct {
	row   mesh.Signal // its ID and name are those of the pattern
	calc  [2]*formula
	match func(name string) bool
}

// family compiles a pattern.
func (s *Signal) family(row mesh.Signal, calc [2]*formula) (f family, err error) {
	re, names, err := namePattern(s.Name)
	if err != nil {
		return f, strict.At("name", "signal %q: %w", s.Name, err)
	}
	allowed := make([]map[string]bool, len(names))
	for _, name := range slices.Sorted(maps.Keys(s.Levels)) {
		i := slices.Index(names, name)
		if i < 0 {
			return f, strict.At("levels."+name, "signal %q has no {%s}", s.Name, name)
		}
		allowed[i] = map[string]bool{}
		for _, l := range s.Levels[name] {
			allowed[i][subject.Escape(l)] = true
		}
	}
	f.row, f.calc = row, calc
	f.match = func(name string) bool {
		m := re.FindStringSubmatch(name)
		for i := range allowed {
			if m != nil && allowed[i] != nil && !allowed[i][m[i+1]] {
				return false
			}
		}
		return m != nil
	}
	return f, nil
}
