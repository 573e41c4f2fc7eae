package strict

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml/ast"
)

// Fault is a fault at a YAML path such as "$.sources[0].endpoint". The nearest
// enclosing key that exists names the line; a variable laid over the file
// names itself.
func (d *Doc) Fault(path, format string, args ...any) error {
	what := fmt.Sprintf(format, args...)
	if variable, ok := d.env[path]; ok {
		return &Fault{File: variable, What: what}
	}
	return &Fault{File: d.File, Line: d.line(path), What: what}
}

// Line is the line of the innermost key on a path that exists; at least 1.
func (d *Doc) Line(path string) int { return d.line(path) }

// keyError is a fault below a place its finder does not know.
type keyError struct {
	key string
	err error
}

func (e *keyError) Error() string { return e.err.Error() }
func (e *keyError) Unwrap() error { return e.err }

// At is a fault at a key such as "signals[2].type", counted from the part of a
// file that a room checks. Doc.Place makes it a *Fault with a line.
func At(key, format string, args ...any) error {
	return &keyError{key, fmt.Errorf(format, args...)}
}

// Under puts a key before that of a fault made by At. Nil stays nil.
func Under(key string, err error) error {
	if err == nil {
		return nil
	}
	return &keyError{key, err}
}

// Place is err, found below path by a check that knows only its own part, as
// a *Fault at its line.
func (d *Doc) Place(path string, err error) error {
	what := err.Error()
	keys := []string{path}
	for e, ok := errors.AsType[*keyError](err); ok; e, ok = errors.AsType[*keyError](e.err) {
		keys = append(keys, e.key)
	}
	return d.Fault(strings.Join(keys, "."), "%s", what)
}

// line is the line of the innermost key on path that exists; at least 1.
func (d *Doc) line(path string) int {
	at, n := 1, d.body
	for _, step := range strings.FieldsFunc(strings.TrimPrefix(path, "$"), func(r rune) bool { return r == '.' || r == '[' || r == ']' }) {
		var line int
		if line, n = child(n, step); line == 0 {
			break
		}
		at = line
	}
	return at
}

// child is the value below a key or an index of a node, and its line; 0: there
// is none.
func child(n ast.Node, step string) (int, ast.Node) {
	var pairs []*ast.MappingValueNode
	switch n := n.(type) {
	case *ast.MappingNode:
		pairs = n.Values
	case *ast.MappingValueNode:
		pairs = []*ast.MappingValueNode{n}
	case *ast.SequenceNode:
		if i, err := strconv.Atoi(step); err == nil && i >= 0 && i < len(n.Values) {
			return n.Values[i].GetToken().Position.Line, n.Values[i]
		}
	}
	for _, p := range pairs {
		if t := p.Key.GetToken(); t.Value == step {
			return t.Position.Line, p.Value
		}
	}
	return 0, nil
}
