package browse

import (
	"fmt"
	"slices"
	"strings"
	"unicode"
)

// signals proposes a signal for each variable of a machine that can be one.
func (f *finder) signals(m *Machine) {
	taken := map[string]int{} // names, and where in m.Signals
	more := 0
	for _, at := range m.at {
		f.below(m, at, func(i int, path []string) {
			n := &f.nodes[i]
			s, known := f.signal(n, path)
			why := f.unfit(n, s.Role)
			switch {
			case slices.Contains(m.Left, s.Name+": "+why): // of several state machines
			case why != "" && (known && len(m.Left) < maxSignals || len(m.Left) < maxNotes):
				m.Left = append(m.Left, s.Name+": "+why)
			case why != "" || len(m.Signals) >= maxSignals:
				more++
			default:
				m.add(s, known, taken, snake(strings.Join(path, "_")), i)
			}
		})
	}
	if more > 0 {
		m.Left = append(m.Left, fmt.Sprintf("and %d more variables", more))
	}
	order := func(s Signal) int {
		if i := slices.IndexFunc(roles(), func(r role) bool { return r.name == s.Role }); i >= 0 {
			return i
		}
		return len(roles())
	}
	slices.SortStableFunc(m.Signals, func(a, b Signal) int { return order(a) - order(b) })
}

// add takes a signal. Where its name is taken, what a specification says goes
// before what only the name says, and else the one that came first.
func (m *Machine) add(s Signal, known bool, taken map[string]int, path string, number int) {
	was, twice := taken[s.Name]
	if twice && known && strings.HasSuffix(m.Signals[was].Why, byName) {
		m.Signals[was], s = s, m.Signals[was]
	}
	if twice {
		s.Name, s.Role = path, ""
		if _, twice = taken[s.Name]; twice {
			s.Name += fmt.Sprintf("_%d", number)
		}
	}
	taken[s.Name] = len(m.Signals)
	m.Signals = append(m.Signals, s)
}

// below visits the variables of a machine, without those of machines in it and
// without what names it.
func (f *finder) below(m *Machine, at int, visit func(i int, path []string)) {
	type place struct {
		i    int
		path []string
	}
	todo := []place{{at, nil}}
	for len(todo) > 0 {
		p := todo[0]
		todo = todo[1:]
		for _, k := range f.kids[p.i] {
			n := &f.nodes[k]
			if o := f.owner[k]; o != nil && o != m || n.Name == "Identification" || n.Class == classMethod {
				continue
			}
			path := append(slices.Clone(p.path), n.Name)
			number := n.Name == "Number" && n.Type == typeProperty && f.nodes[p.i].Name == "CurrentState"
			_, ruled := ruleOf(n, f.nodes[p.i].Name) // some specifications have values as properties
			if n.Class == classVariable && (number || ruled || n.Type != typeProperty && (n.Namespace != nsFoundation || n.Name == "CurrentState")) {
				visit(k, path)
			}
			todo = append(todo, place{k, path})
		}
	}
}

// byName ends the reason where a role was given for the name alone.
const byName = "by its name alone"

// signal is what a variable would be called. known: a specification says so.
func (f *finder) signal(n *Node, path []string) (s Signal, known bool) {
	s = Signal{Name: snake(n.Name), Node: n.ID, Type: n.Kind, Unit: n.Unit, Why: "a variable of the machine"}
	parent := ""
	if len(path) > 1 {
		parent = path[len(path)-2]
	}
	if r, ok := ruleOf(n, parent); ok {
		s.Name, s.Why = r.role, strings.TrimPrefix(r.parent+"/", "/")+r.name+" of "+r.spec
		if r.ofParent && parent != "" {
			s.Name = snake(parent) + "_" + r.role
		}
		s.Role = product(s.Name)
		return f.typedAs(s), true
	}
	if n.Name == "Number" && len(path) > 2 { // of a state machine's CurrentState: independent of language
		for _, r := range [][2]string{{"MachineryItemState", "item_state"}, {"MachineryOperationMode", "operation_mode"}} {
			if path[len(path)-3] == r[0] {
				s.Name, s.Why = r[1], r[0]+"/CurrentState/Number of Machinery"
				return s, true
			}
		}
		s.Name = snake(strings.Join(path[max(0, len(path)-4):len(path)-2], "_") + "_number")
		return s, false
	}
	if r := product(s.Name); r != "" {
		s.Role, s.Why = r, byName
		return f.typedAs(s), false
	}
	return s, false
}

// ruleOf is the rule for a variable in an object of that browse name.
func ruleOf(n *Node, parent string) (rule, bool) {
	for _, r := range rules() {
		if r.uri == n.Namespace && r.name == n.Name && (r.parent == "" || r.parent == parent) {
			return r, true
		}
	}
	return rule{}, false
}

// typedAs counts whole numbers as int where products count them.
func (f *finder) typedAs(s Signal) Signal {
	if s.Role != "" && s.Role != "energy" && s.Type == "uint" {
		s.Type = "int" // what is above 2^63 is no counter of items
	}
	return s
}

// product is a role that products are made of, or nothing.
func product(name string) string {
	if slices.ContainsFunc(roles(), func(r role) bool { return r.name == name }) {
		return name
	}
	return ""
}

// unfit says why a variable can't be a signal; empty: it can.
func (f *finder) unfit(n *Node, as string) string {
	what := fmt.Sprintf("%s (%s)", n.Name, n.DataType)
	switch {
	case n.Access != "" && !strings.Contains(n.Access, "r"):
		return what + " can't be read with this login"
	case n.Array:
		return what + " is an array: no product is made of it, type: array keeps it"
	case n.Kind == kindStructure:
		return what + " is a structure: no product is made of it, type: struct keeps it"
	case n.Kind == kindAny:
		return what + " may have any type: say type yourself"
	case n.Kind == "":
		return what + " has a data type that is not known"
	}
	for _, r := range roles() {
		if r.name == as && !slices.Contains(r.kinds, n.Kind) {
			return fmt.Sprintf("%s is no %s", what, strings.Join(r.kinds, ", "))
		}
	}
	return ""
}

// snake is a name as signals have it: lower case, words parted by one '_'.
func snake(name string) string {
	var b strings.Builder
	rs := []rune(name)
	gap := false
	for i, r := range rs {
		if !unicode.IsLetter(r) && !unicode.IsDigit(r) || r > unicode.MaxASCII {
			gap = b.Len() > 0
			continue
		}
		if unicode.IsUpper(r) && i > 0 && (unicode.IsLower(rs[i-1]) || unicode.IsDigit(rs[i-1]) || unicode.IsUpper(rs[i-1]) && i+1 < len(rs) && unicode.IsLower(rs[i+1])) {
			gap = b.Len() > 0
		}
		if gap {
			b.WriteByte('_')
			gap = false
		}
		b.WriteRune(unicode.ToLower(r))
		if b.Len() >= 64 {
			break
		}
	}
	if b.Len() == 0 {
		return "v"
	}
	return b.String()
}
