package mapping

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// errTwice: which of the two is meant, nobody knows (RFC 8259, 4).
var errTwice = errors.New("key stands twice in one object")

// maxStars bounds the [*] of a path: each is a loop inside the one before.
const maxStars = 4

// step leads from a value to one inside of it.
type step struct {
	key   string // of a member, where index is -1
	index int    // of an item
	star  bool   // every item, or every member
}

// path leads from the root of a document to a value: dotted keys, [n] for an
// item, ["key"] for a key with dots or brackets in it, [*] or * for all of them.
// A leading $ is the root.
type path []step

func parsePath(s string) (p path, err error) {
	rest := strings.TrimPrefix(s, "$")
	for first := len(rest) == len(s); rest != ""; first = false {
		var x step
		switch {
		case rest[0] == '[':
			x, rest, err = bracket(rest)
		case rest[0] == '.' || first:
			x, rest, err = dotted(strings.TrimPrefix(rest, "."))
		default:
			err = fmt.Errorf(". or [ is missing before %q", rest)
		}
		if err != nil {
			return nil, fmt.Errorf("path %q: %w; write it like a.b[0].c, or [\"a.b\"] for a key with a dot", s, err)
		}
		if p = append(p, x); len(p) > maxDepth {
			return nil, fmt.Errorf("path %q has more than %d steps", s, maxDepth)
		}
	}
	if p.count() > maxStars {
		return nil, fmt.Errorf("path %q has more than %d [*]", s, maxStars)
	}
	return p, nil
}

func dotted(s string) (x step, rest string, err error) {
	n := strings.IndexAny(s, ".[")
	if n < 0 {
		n = len(s)
	}
	switch key := s[:n]; {
	case key == "":
		return x, "", errors.New("a key is empty")
	case strings.ContainsAny(key, "]\"'"):
		return x, "", errors.New("a key with brackets or quotes stands in [\"...\"]")
	case key == "*":
		x.star = true
	default:
		x.key = key
	}
	x.index = -1
	return x, s[n:], nil
}

func bracket(s string) (x step, rest string, err error) {
	x.index = -1
	if q, err := strconv.QuotedPrefix(s[1:]); err == nil && q[0] == '"' {
		if x.key, err = strconv.Unquote(q); err != nil || !strings.HasPrefix(s[1+len(q):], "]") {
			return x, "", errors.New("[\" without \"]")
		}
		return x, s[1+len(q)+1:], nil
	}
	in, rest, ok := strings.Cut(s[1:], "]")
	if !ok {
		return x, "", errors.New("[ without ]")
	}
	if in == "*" {
		x.star = true
		return x, rest, nil
	}
	n, err := strconv.ParseUint(in, 10, 31)
	if err != nil {
		return x, "", fmt.Errorf("[%s] is neither a number nor *", in)
	}
	x.index = int(n)
	return x, rest, nil
}

// stars is the part of p up to its last [*]; empty where it has none.
func (p path) stars() path {
	for i := len(p); i > 0; i-- {
		if p[i-1].star {
			return p[:i]
		}
	}
	return nil
}

// count is how many [*] are in p.
func (p path) count() (n int) {
	for _, x := range p {
		if x.star {
			n++
		}
	}
	return n
}

// none is the node of a value that is not there.
const none = -1

// find is the value behind a path without [*] that begins at a node; none
// where it leads nowhere.
func (d *document) find(at int, p path) (int, error) {
	for i := range p {
		var err error
		if at, err = d.enter(at, &p[i]); at < 0 || err != nil {
			return none, err
		}
	}
	return at, nil
}

// enter is the value one step further. A key that stands twice leads nowhere
// that anybody knows.
func (d *document) enter(at int, x *step) (found int, err error) {
	n := &d.nodes[at]
	found = none
	switch {
	case x.index >= 0:
		if n.kind != array {
			return none, nil
		}
		k := x.index
		for c := int32(at + 1); c < n.next; c = d.nodes[c].next {
			if k == 0 {
				return int(c), nil
			}
			k--
		}
	case n.kind == object:
		for c := int32(at + 1); c < n.next; c = d.nodes[c].next {
			if !d.keyed(&d.nodes[c], x.key) {
				continue
			}
			if found >= 0 {
				return none, errTwice
			}
			found = int(c)
		}
	}
	return found, nil
}
