package mapping

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"plantmesh/proto/strict"
	"plantmesh/proto/subject"
	"plantmesh/proto/wire"
)

var (
	errLongName  = fmt.Errorf("signal's name would be longer than %d bytes", wire.MaxName)
	errLongTopic = fmt.Errorf("topic is longer than %d bytes", maxTopic)
)

// hole is what fills a place of a name.
type hole uint8

const (
	fixed hole = iota
	level      // of the topic, by number
	whole      // the topic
	rest       // what # stands for
	key        // of a member, or what Topic.Key leads to
	leaf       // the way from Topic.Value to a number, text or boolean
	place      // of an element: its index, or its key
)

// part is a piece of a name.
type part struct {
	hole hole
	text string // fixed; of a key what cuts it into several tokens, or nothing
	n    int    // of a level, of a [*]
}

// template makes the names of signals.
type template []part

// piece is a text, or the name of a place.
type piece struct {
	text  string
	place bool
}

// pieces cuts a text at its {name}; ok is false where a brace stands alone.
func pieces(s string) (out []piece, ok bool) {
	for s != "" {
		i := strings.IndexAny(s, "{}")
		if i < 0 {
			return append(out, piece{text: s}), true
		}
		end := strings.IndexAny(s[i+1:], "{}")
		if s[i] == '}' || end < 0 || s[i+1+end] == '{' {
			return nil, false
		}
		if i > 0 {
			out = append(out, piece{text: s[:i]})
		}
		out = append(out, piece{s[i+1 : i+1+end], true})
		s = s[i+1+end+1:]
	}
	return out, true
}

// levelName says how a level of a topic may be called.
func levelName(s string) bool {
	for i := range len(s) {
		if c := s[i]; (c < 'a' || c > 'z') && (i == 0 || c != '_' && c-'0' >= 10) {
			return false
		}
	}
	return s != ""
}

// reserved are placeholders that are no levels of a topic.
func reserved(name string) bool {
	_, numbered := strings.CutPrefix(name, "index")
	return slices.Contains([]string{"key", "path", "topic", "rest"}, name) || numbered
}

// filter is a subscription whose levels may have names.
type filter struct {
	levels []string // as MQTT knows them: + and #
	names  map[string]int
}

func parseFilter(s string) (f filter, err error) {
	if s == "" {
		return f, strict.At("filter", "a topic has no filter")
	}
	f.names = map[string]int{}
	all := strings.Split(s, "/")
	if all[0] == "$share" {
		return f, strict.At("filter", "filter %q is a shared subscription: another client would get some of the messages, and nobody could say which; write what follows the second slash", s)
	}
	for i, l := range all {
		if p, ok := pieces(l); ok && len(p) == 1 && p[0].place {
			switch name := p[0].text; {
			case !levelName(name) || reserved(name):
				return f, strict.At("filter", "filter %q: {%s} is no name for a level: use small letters, digits and _, and none of key, path, index, topic, rest", s, name)
			case f.has(name):
				return f, strict.At("filter", "filter %q: {%s} stands twice", s, name)
			}
			f.names[p[0].text], l = i, "+"
		}
		if strings.ContainsAny(l, "+#") && (len(l) > 1 || l == "#" && i < len(all)-1) || strings.ContainsAny(l, "{}") {
			return f, strict.At("filter", "filter %q: +, # and {name} stand alone between slashes, # only at the end", s)
		}
		f.levels = append(f.levels, l)
	}
	if len(s) > maxTopic {
		return f, strict.At("filter", "filter is longer than %d bytes", maxTopic)
	}
	return f, nil
}

func (f *filter) has(name string) bool { _, ok := f.names[name]; return ok }

// named are the levels of a topic that have names.
func (f *filter) named(topic []string) map[string]string {
	out := make(map[string]string, len(f.names))
	for name, i := range f.names {
		out[name] = topic[i]
	}
	return out
}

// String is the filter as a broker takes it.
func (f *filter) String() string { return strings.Join(f.levels, "/") }

func (f *filter) open() bool { return f.levels[len(f.levels)-1] == "#" }

// matches reports whether a topic falls under a filter (MQTT 5, 4.7).
func (f *filter) matches(topic []string) bool {
	if strings.HasPrefix(topic[0], "$") && !strings.HasPrefix(f.levels[0], "$") {
		return false
	}
	for i, l := range f.levels {
		switch {
		case l == "#":
			return true
		case i >= len(topic), l != "+" && l != topic[i]:
			return false
		}
	}
	return len(f.levels) == len(topic)
}

// apart adds a filter to others of which no two have a topic in common; where it has one
// with another, one that covers both takes their place.
func apart(all [][]string, f []string) [][]string {
	for i, o := range all {
		if meet(o, f) {
			return apart(slices.Delete(all, i, i+1), cover(o, f))
		}
	}
	return append(all, f)
}

// meet reports whether a topic may fall under two filters.
func meet(a, b []string) bool {
	if special(a) != special(b) { // what begins with $ falls under none that begins with + or #
		return false
	}
	for i := range max(len(a), len(b)) {
		switch {
		case i < len(a) && a[i] == "#", i < len(b) && b[i] == "#":
			return true
		case i >= len(a), i >= len(b), a[i] != "+" && b[i] != "+" && a[i] != b[i]:
			return false
		}
	}
	return true
}

func special(f []string) bool { return strings.HasPrefix(f[0], "$") }

// cover is the narrowest filter that all topics of two fall under.
func cover(a, b []string) (out []string) {
	for i := range max(len(a), len(b)) {
		switch {
		case i >= len(a) || i >= len(b) || a[i] == "#" || b[i] == "#":
			return append(out, "#")
		case a[i] == b[i]:
			out = append(out, a[i])
		default:
			out = append(out, "+")
		}
	}
	return out
}

// parseTemplate reads the name of a topic's signals.
func parseTemplate(s string, f *filter, stars int) (t template, err error) {
	all, ok := pieces(s)
	if !ok {
		return nil, fmt.Errorf("signal %q: a { or } stands alone", s)
	}
	for _, x := range all {
		if !x.place {
			t = t.fixed(x.text)
			continue
		}
		p, err := parsePart(x.text, f, stars)
		if err != nil {
			return nil, fmt.Errorf("signal %q: %w", s, err)
		}
		t = append(t, p)
	}
	return t, t.check(s)
}

func (t template) fixed(text string) template {
	if text == "" {
		return t
	}
	if n := len(t); n > 0 && t[n-1].hole == fixed {
		t[n-1].text += text
		return t
	}
	return append(t, part{hole: fixed, text: text})
}

func parsePart(name string, f *filter, stars int) (p part, err error) {
	switch name {
	case "key":
		return part{hole: key}, nil
	case "path":
		return part{hole: leaf}, nil
	case "topic":
		return part{hole: whole}, nil
	case "rest":
		if !f.open() {
			return p, fmt.Errorf("{rest} is what # stands for, and the filter has none")
		}
		return part{hole: rest, n: len(f.levels) - 1}, nil
	}
	if n, ok := strings.CutPrefix(name, "index"); ok {
		i, err := strconv.Atoi("0" + n)
		if i = max(i-1, 0); err != nil || i >= stars {
			return p, fmt.Errorf("{%s} is the place of an element, and value has %d [*]", name, stars)
		}
		return part{hole: place, n: i}, nil
	}
	if i, ok := f.names[name]; ok {
		return part{hole: level, n: i}, nil
	}
	if i, err := strconv.Atoi(name); err == nil && i >= 0 && (i < len(f.levels) || f.open()) && i < maxTopic {
		return part{hole: level, n: i}, nil
	}
	return p, fmt.Errorf("{%s} is neither a level of filter %q nor one of {key}, {path}, {index}, {topic}, {rest}", name, f.String())
}

// check refuses names that don't tell apart what they are made of: two places are
// held apart by a dot, which nothing that fills them has.
func (t template) check(s string) error {
	for i := 1; i < len(t); i++ {
		if t[i].hole != fixed && (t[i-1].hole != fixed || i > 1 && !strings.Contains(t[i-1].text, ".")) {
			return fmt.Errorf("signal %q: a dot must stand between two {}: two topics could give the same name else", s)
		}
	}
	if len(t) == 0 || len(s) > wire.MaxName {
		return fmt.Errorf("signal %q: a name has 1 to %d bytes", s, wire.MaxName)
	}
	return nil
}

func (t template) count(h hole) (n int) {
	for _, p := range t {
		if p.hole == h {
			n++
		}
	}
	return n
}

// bind fills in what a topic knows; ok is false where it has too few levels.
func (t template) bind(topic []string) (out template, ok bool) {
	for _, p := range t {
		switch p.hole {
		case fixed:
			out = out.fixed(p.text)
		case level:
			if p.n >= len(topic) {
				return nil, false
			}
			out = out.fixed(subject.Escape(topic[p.n]))
		case whole:
			out = out.fixed(tokens(topic))
		case rest:
			out = out.fixed(tokens(topic[min(p.n, len(topic)):]))
		case key, leaf, place:
			out = append(out, p)
		}
	}
	return out, true
}

// tokens is a way as tokens of a name. One of no steps is one of an empty step.
func tokens(steps []string) string {
	out := make([]string, max(len(steps), 1))
	for i := range out {
		if i < len(steps) {
			out[i] = subject.Escape(steps[i])
			continue
		}
		out[i] = subject.Escape("")
	}
	return strings.Join(out, ".")
}

// The parts that a payload fills are remembered as they stand in it, with bytes
// between them that no valid JSON text has in it.
const (
	nextPart = "\x00"
	nextStep = "\x01"
)

// name fills what is left of a bound template.
func (t template) name(filled []byte) (string, error) {
	var b strings.Builder
	values := strings.Split(string(filled), nextPart)
	for _, p := range t {
		if p.hole == fixed {
			b.WriteString(p.text)
			continue
		}
		steps := strings.Split(values[0], nextStep)
		for i, s := range steps {
			steps[i] = string(unescape(nil, []byte(s)))
		}
		if p.hole == key && p.text != "" {
			steps = strings.Split(steps[0], p.text)
		}
		b.WriteString(tokens(steps))
		values = values[1:]
		if b.Len() > wire.MaxName {
			return "", errLongName
		}
	}
	if b.Len() > wire.MaxName {
		return "", errLongName
	}
	return b.String(), nil
}

// pattern is the regular expression of the names that t can make.
func (t template) pattern() *regexp.Regexp {
	var b strings.Builder
	for _, p := range t {
		switch {
		case p.hole == fixed:
			b.WriteString(regexp.QuoteMeta(p.text))
		case p.hole == leaf, p.hole == whole, p.hole == rest, p.hole == key && p.text != "":
			b.WriteString(`.+`)
		default:
			b.WriteString(`[^.]+`)
		}
	}
	return regexp.MustCompile("^(?:" + b.String() + ")$")
}

// namePattern reads the name of signals that are declared by a pattern: {x} is
// one token of a name, {path}, {topic} and {rest} are one or more.
func namePattern(s string) (re *regexp.Regexp, names []string, err error) {
	all, ok := pieces(s)
	if !ok {
		return nil, nil, errors.New("a { or } stands alone")
	}
	var b strings.Builder
	for _, x := range all {
		switch {
		case !x.place:
			b.WriteString(regexp.QuoteMeta(x.text))
			continue
		case x.text == "path" || x.text == "topic" || x.text == "rest":
			b.WriteString(`(.+)`)
		case x.text == "" || strings.ContainsAny(x.text, ". "):
			return nil, nil, fmt.Errorf("{%s} is no name for a level", x.text)
		default:
			b.WriteString(`([^.]+)`)
		}
		if slices.Contains(names, x.text) {
			return nil, nil, fmt.Errorf("{%s} stands twice", x.text)
		}
		names = append(names, x.text)
	}
	return regexp.MustCompile("^(?:" + b.String() + ")$"), names, nil
}
