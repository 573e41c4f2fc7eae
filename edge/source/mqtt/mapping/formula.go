package mapping

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/expr-lang/expr"
	"github.com/expr-lang/expr/ast"
	"github.com/expr-lang/expr/parser"
	"github.com/expr-lang/expr/vm"

	"plantmesh/proto/mesh"
	"plantmesh/proto/strict"
)

// Bounds of an expression: its text, the parts it is made of, and what it may hold
// while it runs.
const (
	maxFormula = 1 << 10
	maxParts   = 200
	maxHeld    = 10_000
)

// names are what an expression may refer to.
func names() []string { return []string{"value", "message", "topic", "level", "name"} }

// functions are those that neither loop, nor read a clock, nor have an effect.
func functions() []string {
	return []string{
		"abs", "ceil", "floor", "round", "int", "float", "string", "len", "min", "max", "lower", "upper", "trim", "indexOf",
		"bitand", "bitor", "bitxor", "bitshl", "bitshr", "bitushr",
	}
}

// formula is an expression as it is used (github.com/expr-lang/expr, its language).
type formula struct {
	program *vm.Program
	message bool // it looks at the message
}

// visitor looks at what an expression is made of.
type visitor struct {
	message bool
	fault   error
}

// Visit implements ast.Visitor.
func (v *visitor) Visit(n *ast.Node) {
	switch x := (*n).(type) {
	case *ast.IdentifierNode:
		v.message = v.message || x.Value == "message"
		if !slices.Contains(names(), x.Value) {
			v.fault = fmt.Errorf("%q is unknown; what it may refer to: value, message, topic, level, name", x.Value)
		}
	case *ast.BuiltinNode:
		if !slices.Contains(functions(), x.Name) {
			v.fault = fmt.Errorf("%s is none of the functions it may use: %s", x.Name, strings.Join(functions(), ", "))
		}
	case *ast.CallNode:
		v.fault = fmt.Errorf("%s is none of the functions it may use: %s", x.Callee, strings.Join(functions(), ", "))
	case *ast.PredicateNode, *ast.PointerNode, *ast.VariableDeclaratorNode, *ast.SequenceNode:
		v.fault = errors.New("loops, variables and several steps are not allowed")
	case *ast.BinaryNode:
		if x.Operator == ".." {
			v.fault = errors.New("ranges are not allowed")
		}
	}
}

// compileFormula checks an expression; decides says that it is true or false. None is nil.
func compileFormula(at, text string, decides bool) (*formula, error) {
	if text == "" {
		return nil, nil //nolint:nilnil // there is none, and that is no error
	}
	if len(text) > maxFormula {
		return nil, strict.At(at, "%s is longer than %d bytes", at, maxFormula)
	}
	options := []expr.Option{expr.AllowUndefinedVariables(), expr.MaxNodes(maxParts), expr.DisableAllBuiltins()}
	for _, f := range functions() {
		options = append(options, expr.EnableBuiltin(f))
	}
	if decides {
		options = append(options, expr.AsBool())
	}
	tree, err := parser.Parse(text)
	v := visitor{}
	if err == nil {
		ast.Walk(&tree.Node, &v)
		err = v.fault
	}
	f := &formula{message: v.message}
	if err == nil {
		f.program, err = expr.Compile(text, options...)
	}
	if err != nil {
		return nil, strict.At(at, "%s %q: %s", at, text, firstLine(err.Error()))
	}
	return f, nil
}

func firstLine(s string) string {
	for i := range len(s) {
		if s[i] == '\n' {
			return s[:i]
		}
	}
	return s
}

// run evaluates f where the payload is at hand.
func (m *Mapper) run(f *formula, value any, name string) (any, error) {
	w := &m.read
	if m.machine == nil {
		m.machine, m.env = &vm.VM{MemoryBudget: maxHeld}, map[string]any{}
	}
	m.env["value"], m.env["name"], m.env["topic"], m.env["level"], m.env["message"] = value, name, w.topic, w.levels, nil
	if f.message {
		if m.doc.whole == nil {
			m.doc.whole = m.doc.any(0)
		}
		m.env["message"] = m.doc.whole
	}
	out, err := m.machine.Run(f.program, m.env)
	if err != nil {
		return nil, fmt.Errorf("%w: the expression fails: %s", errWrongType, firstLine(err.Error()))
	}
	return out, nil
}

// passes reports whether a condition holds; none always does. One that fails does not.
func (m *Mapper) passes(f *formula, value any, name string) (bool, error) {
	if f == nil {
		return true, nil
	}
	out, err := m.run(f, value, name)
	ok, _ := out.(bool)
	return ok, err
}

// reckon is what a signal's expressions make of a value, which is plain where they leave
// it as it is; skip: its condition says that it is none.
func (m *Mapper) reckon(s *slot, value any, plain func() (mesh.Value, error)) (v mesh.Value, skip bool, err error) {
	ok, err := m.passes(s.when, value, s.name)
	if err != nil || !ok {
		return v, !ok && err == nil, err
	}
	if s.expr == nil {
		v, err = plain()
		return v, false, err
	}
	out, err := m.run(s.expr, value, s.name)
	if err == nil {
		v, err = ofAny(out, s.kind)
	}
	return v, false, err
}

// operand is a value as expressions take it: for a double a float64, so that nothing
// wraps; else an int, where it is one.
func (d *document) operand(n *node, t mesh.Type, quoted bool) any {
	if n.kind == text && quoted {
		if in, ok := d.digits(n); ok {
			n = &in
		}
	}
	if n.kind != number {
		return d.anyOf(n)
	}
	m, ok := n.whole()
	switch {
	case !ok || m > math.MaxInt64 || t == mesh.TypeDouble:
		f, err := d.float(n)
		if err != nil {
			return math.Inf(1)
		}
		return f
	case n.neg:
		return -int(m)
	}
	return int(m)
}

// any is what stands at a node, as expressions take it.
func (d *document) any(at int) any {
	n := &d.nodes[at]
	switch n.kind {
	case object:
		out := map[string]any{}
		for c := int32(at + 1); c < n.next; c = d.nodes[c].next {
			out[string(unescape(nil, d.raw(d.nodes[c].key)))] = d.any(int(c))
		}
		return out
	case array:
		out := []any{}
		for c := int32(at + 1); c < n.next; c = d.nodes[c].next {
			out = append(out, d.any(int(c)))
		}
		return out
	case number:
		return d.operand(n, mesh.TypeNone, false)
	case null, falsity, truth, text:
	}
	return d.anyOf(n)
}

// anyOf is a text or a boolean; nil for anything else.
func (d *document) anyOf(n *node) any {
	switch n.kind {
	case text:
		if n.escaped {
			return string(unescape(nil, d.raw(n.at)))
		}
		return string(d.raw(n.at))
	case truth, falsity:
		return n.kind == truth
	case null, number, array, object:
	}
	return nil
}

// ofAny is what an expression gave, as a value of type t.
func ofAny(out any, t mesh.Type) (v mesh.Value, err error) {
	switch x := out.(type) {
	case bool:
		if t == mesh.TypeBool {
			return mesh.Bool(x), nil
		}
	case string:
		if t == mesh.TypeString && len(x) <= maxText {
			return mesh.Text(x), nil
		}
	case int:
		return ofWhole(x < 0, uint64(max(x, -x)), float64(x), t)
	case int64:
		return ofWhole(x < 0, uint64(max(x, -x)), float64(x), t)
	case float64:
		switch {
		case math.IsNaN(x) || math.IsInf(x, 0):
			return v, errRange
		case t == mesh.TypeDouble:
			return mesh.Double(x), nil
		case x != math.Trunc(x):
			return v, errWrongType
		case math.Abs(x) >= 1<<53: // it may stand for another whole number
			return v, errRange
		}
		return ofWhole(x < 0, uint64(math.Abs(x)), x, t)
	}
	return v, errWrongType
}

func ofWhole(neg bool, m uint64, f float64, t mesh.Type) (v mesh.Value, err error) {
	n := node{kind: number, neg: neg, mant: m}
	switch t {
	case mesh.TypeDouble:
		return mesh.Double(f), nil
	case mesh.TypeInt, mesh.TypeUint:
		return (&document{}).number64(&n, t)
	default:
		return v, errWrongType
	}
}
