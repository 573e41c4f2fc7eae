package browse

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
)

// Bounds of recognition.
const (
	maxMachines = 1000
	maxSignals  = 500 // of one machine
)

// Machine is what looks like a machine, and what of it a source would read.
type Machine struct {
	Name    string   `json:"name"`  // browse name
	Line    string   `json:"line"`  // the first part of its signals' names
	Unit    string   `json:"unit"`  // and the second
	Nodes   []string `json:"nodes"` // objects that are the machine
	Specs   []string `json:"specs"`
	Score   int      `json:"score"` // 0 to 100: how sure it is a machine, and how much of it products can use
	Why     []string `json:"why"`
	Signals []Signal `json:"signals"`
	Left    []string `json:"left_out"` // variables that no signal is proposed for, and why
	Empty   []Gap    `json:"empty"`    // fields of products that stay empty, and why

	at   []int             // places of its objects among the nodes
	near map[string]string // what there is instead of a role
}

// Gap is a field of a product that stays empty, and why.
type Gap struct {
	Field

	Lacks []string `json:"lacks"` // roles
	Why   string   `json:"why"`
}

// Signal is a signal that is proposed.
type Signal struct {
	Name string `json:"name"`
	Node string `json:"node"`
	Type string `json:"type"`
	Unit string `json:"unit,omitempty"`
	Role string `json:"role,omitempty"` // of those that products are made of; empty: it is kept and shown
	Why  string `json:"why"`
}

// finder recognises machines in nodes.
type finder struct {
	nodes []Node
	kids  [][]int
	types types
	found []*Machine
	owner map[int]*Machine // of the objects that are machines
	entry map[int]string   // specification under whose entry point an object stands
	units map[string]bool  // line and machine, as signals' names have them
}

// Machines recognises machines among nodes that a walk has told, with details,
// the best first. c is asked for the supertypes of types.
func Machines(ctx context.Context, c Caller, nodes []Node, line string) ([]Machine, error) {
	s, err := meet(ctx, c)
	if err != nil {
		return nil, err
	}
	f := &finder{nodes: nodes, kids: make([][]int, len(nodes)), types: newTypes(&s), owner: map[int]*Machine{}, entry: map[int]string{}, units: map[string]bool{}}
	var used []string
	for i := range nodes {
		if p := nodes[i].Parent; p >= 0 {
			f.kids[p] = append(f.kids[p], i)
		}
		if t := nodes[i].Type; strings.HasPrefix(t, "nsu=") && !slices.Contains(used, t) && len(used) < maxTypes {
			if id, err := s.parse(t); err == nil {
				used = append(used, f.types.intern(id))
			}
		}
	}
	if err := f.types.climb(ctx, used); err != nil {
		return nil, fmt.Errorf("read the types of types: %w", err)
	}
	f.entries()
	f.typed()
	out := make([]Machine, 0, len(f.found))
	for _, m := range f.found {
		f.signals(m)
		f.finish(m, line)
		out = append(out, *m)
	}
	slices.SortStableFunc(out, func(a, b Machine) int { return cmp.Or(cmp.Compare(b.Score, a.Score), cmp.Compare(a.Name, b.Name)) })
	return out, nil
}

// entries finds machines by where they stand.
func (f *finder) entries() {
	for i := range f.nodes {
		n := &f.nodes[i]
		for _, e := range entries() {
			if n.Class != classObject || n.Namespace != e.uri || n.Name != e.name || !slices.Contains(e.types, n.Type) {
				continue
			}
			for _, k := range f.kids[i] {
				if f.nodes[k].Class == classObject && !strings.HasPrefix(f.nodes[k].Namespace, nsFoundation) { // else it is a specification's own folder
					f.entry[k] = e.spec
					f.machine(k).say(e.spec, e.points, "stands under %s of %s", e.name, e.spec)
				}
			}
		}
	}
}

// typed finds machines, and what stands in them, by type; those that a part alone
// tells of last, when it is known what stands in which machine.
func (f *finder) typed() {
	for _, last := range []bool{false, true} {
		for i := range f.nodes {
			n := &f.nodes[i]
			if n.Class != classObject || !strings.HasPrefix(n.Type, "nsu=") {
				continue
			}
			for _, t := range typeds() {
				if f.types.is(n.Type, "nsu="+t.typ) && (t.browse == "" || t.browse == n.Name && (t.browseURI == n.Namespace || f.instance(n))) {
					f.take(i, t, last)
				}
			}
		}
	}
}

// take counts an object of a type that says something for the machine it is, or
// stands in.
func (f *finder) take(i int, t typed, last bool) {
	m := f.whose(i, t, last)
	switch {
	case m == nil:
	case t.browse == "":
		m.say(t.spec, t.points, "%s is of %s", f.nodes[i].Name, t.name)
	default:
		m.say(t.spec, t.points, "has %s of %s", f.nodes[i].Name, t.name)
	}
}

// whose is the machine that an object of a type speaks for; nil: none.
func (f *finder) whose(i int, t typed, last bool) *Machine {
	m := f.above(i)
	switch {
	case t.is == always:
		return f.machine(i)
	case m != nil && t.is == unlessPart && f.owner[i] != m: // a device in a machine says nothing of that
		return nil
	case m != nil:
		return m
	case t.is == unlessPart && last:
		return f.machine(i)
	case t.is == within && t.spec == "IA" && last:
		if at := f.around(i); at >= 0 && f.nodes[at].Type != typeFolder {
			return f.machine(at)
		}
		return f.machine(i) // a light by itself
	case t.is == within && t.spec == "Machinery" && f.nodes[i].Parent >= 0: // it stands in a machine, under no entry point
		return f.machine(f.around(i))
	}
	return nil
}

// around is the object that has another as its part; -1: none that was told.
func (f *finder) around(i int) int {
	at := f.nodes[i].Parent
	for at >= 0 && f.nodes[at].Parent >= 0 && slices.Contains([]string{"MachineryBuildingBlocks", "Monitoring"}, f.nodes[at].Name) {
		at = f.nodes[at].Parent
	}
	return at
}

// instance reports whether a browse name stands in a namespace of the server's
// own: some give it to what a specification names in its own, as the Foundation's
// example of Machinery does.
func (f *finder) instance(n *Node) bool {
	return !strings.HasPrefix(n.Namespace, nsFoundation) || strings.HasSuffix(n.Namespace, "_Example/")
}

// above is the machine a node stands in, or is.
func (f *finder) above(i int) *Machine {
	for ; i >= 0; i = f.nodes[i].Parent {
		if m := f.owner[i]; m != nil {
			return m
		}
	}
	return nil
}

// machine is the machine that an object is. Objects with the same browse name under
// the entry points of two specifications are the same machine.
func (f *finder) machine(i int) *Machine {
	if m := f.owner[i]; m != nil {
		return m
	}
	n := &f.nodes[i]
	for _, m := range f.found {
		first := &f.nodes[m.at[0]]
		if first.Name == n.Name && first.Namespace == n.Namespace && f.entry[i] != "" && f.entry[m.at[0]] != "" && f.entry[m.at[0]] != f.entry[i] {
			m.at, m.Nodes = append(m.at, i), append(m.Nodes, n.ID)
			f.owner[i] = m
			return m
		}
	}
	m := &Machine{Name: n.Name, Nodes: []string{n.ID}, at: []int{i}}
	if len(f.found) < maxMachines {
		f.found = append(f.found, m)
		f.owner[i] = m
	}
	return m
}

// say adds a reason to believe in the machine.
func (m *Machine) say(spec string, points int, format string, args ...any) {
	why := fmt.Sprintf(format, args...)
	if slices.ContainsFunc(m.Why, func(w string) bool { return strings.HasPrefix(w, why+" (") }) {
		return
	}
	m.Score += points
	m.Why = append(m.Why, fmt.Sprintf("%s (%d)", why, points))
	if spec != "" && !slices.Contains(m.Specs, spec) {
		m.Specs = append(m.Specs, spec)
	}
}

// finish scores what products can use, and names what they can't.
func (f *finder) finish(m *Machine, line string) {
	has := map[string]bool{}
	for _, s := range m.Signals {
		has[s.Role] = true
	}
	var found, missing []string
	for _, r := range roles() {
		if has[r.name] {
			found = append(found, r.name)
		} else {
			missing = append(missing, r.name)
		}
	}
	points := 30 * len(found) / len(roles())
	said := "none of the roles that products are made of"
	if len(found) > 0 {
		said = fmt.Sprintf("%d of %d roles that products are made of: %s", len(found), len(roles()), strings.Join(found, ", "))
	}
	m.say("", points, "%s", said)
	m.Score = min(m.Score, 100)
	m.Line, m.Unit = names(m.Name, line)
	for n, unit := 2, m.Unit; f.units[m.Line+"."+m.Unit]; n++ {
		m.Unit = fmt.Sprintf("%s_%d", unit, n)
	}
	f.units[m.Line+"."+m.Unit] = true
	for i := range m.Signals {
		m.Signals[i].Name = m.Line + "." + m.Unit + "." + m.Signals[i].Name
	}
	m.near = map[string]string{}
	for _, r := range missing {
		m.near[r] = near(m, r)
	}
	for _, field := range Fields() {
		g := Gap{Field: field}
		var why []string
		for _, r := range field.Roles {
			if slices.Contains(missing, r) {
				g.Lacks, why = append(g.Lacks, r), append(why, "no "+r+" ("+means(r)+")"+m.near[r])
			}
		}
		if g.Why = strings.Join(why, "; "); len(why) > 0 {
			m.Empty = append(m.Empty, g)
		}
	}
}

func means(name string) string {
	for _, r := range roles() {
		if r.name == name {
			return r.means
		}
	}
	return ""
}

// near says what there is instead of a role.
func near(m *Machine, role string) string {
	instead := map[string]struct{ signal, say string }{
		"state":    {"item_state", ": MachineryItemState is there, but counts 0 to 3"},
		"mode":     {"operation_mode", ": MachineryOperationMode is there, but numbers modes otherwise"},
		"produced": {"cycles", ": OperationCycleCounter is there; where a cycle makes one item, name that signal produced"},
	}
	if n, ok := instead[role]; ok && slices.ContainsFunc(m.Signals, func(s Signal) bool { return s.Name == n.signal || strings.HasSuffix(s.Name, "."+n.signal) }) {
		return n.say
	}
	if role == "state" && slices.ContainsFunc(m.Signals, func(s Signal) bool { return strings.Contains(s.Name, "execute_state") }) {
		return ": PackML's state is there as state machines in each other, and products want it as one number (StateCurrent)"
	}
	for _, l := range m.Left {
		if why, ok := strings.CutPrefix(l, role+": "); ok {
			return ": " + why
		}
	}
	return ""
}

// names are line and machine: what stands before and behind the first mark in the
// machine's name, or the whole name and the line that was given.
func names(name, line string) (string, string) {
	if i := strings.IndexAny(name, "-./"); line == "" && i > 0 && i < len(name)-1 {
		return snake(name[:i]), snake(name[i+1:])
	}
	return snake(cmp.Or(line, "line1")), snake(name)
}
