package plant

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Scene is what a change is made in.
type Scene struct {
	Register Register
	// File are the machines of the site file: they are changed there, as is FileCalendar;
	// nil: it has none.
	File         []Machine
	FileCalendar *Calendar
	Models       []Model // all that there are
	// Enterprise and Site are where all of it is.
	Enterprise, Site string
}

// inFile says whether the site file has a machine of this id.
func (s *Scene) inFile(id string) bool {
	return slices.ContainsFunc(s.File, func(m Machine) bool { return m.ID == id })
}

// Add registers machines. Where one of its name is planned it is that one, which gets its
// signals.
func (s *Scene) Add(machines ...Machine) (d Delta, err error) {
	var faults Faults
	ids := map[string]bool{}
	for _, m := range machines {
		m.Revision = 0
		was := s.Register.Find(m.ID)
		switch {
		case ids[m.ID]:
			faults = append(faults, Fault{ID: m.ID, Field: "id", What: "stands twice"})
		case s.inFile(m.ID):
			faults = append(faults, Fault{ID: m.ID, Field: "id", What: "stands in the site file: take it out there, or change it there"})
		case was != nil && was.Source != "":
			faults = append(faults, Fault{ID: m.ID, Field: "id", What: "is registered already: change it instead"})
		case was != nil:
			m = onto(*was, m)
		}
		ids[m.ID] = true
		faults = append(faults, m.Check(s.Models)...)
		d.Put = append(d.Put, m)
	}
	return d, append(faults, s.shared(d)...).err()
}

// shared says which machines would have one id of another system.
func (s *Scene) shared(d Delta) (out Faults) {
	of := map[string]string{}
	put := map[string]bool{}
	for _, m := range d.Put {
		put[m.ID] = true
	}
	gone := func(m Machine) bool { return put[m.ID] }
	for _, m := range slices.Concat(slices.DeleteFunc(slices.Concat(s.File, s.Register.Machines), gone), d.Put) {
		for _, system := range slices.Sorted(maps.Keys(m.ExternalIDs)) {
			id := system + " " + m.ExternalIDs[system]
			if other := of[id]; other != "" {
				out = append(out, Fault{ID: m.ID, Field: "external_ids." + system, What: fmt.Sprintf("%q is that of %s: an id of another system is of one machine", m.ExternalIDs[system], other)})
			}
			of[id] = m.ID
		}
	}
	return out
}

// onto is a planned machine with what is new of it: what the news doesn't say stays.
func onto(was, m Machine) Machine {
	for _, x := range []struct{ to, from *string }{
		{&m.Area, &was.Area}, {&m.Line, &was.Line}, {&m.Name, &was.Name}, {&m.Kind, &was.Kind}, {&m.Model, &was.Model}, {&m.Owner, &was.Owner},
	} {
		if *x.to == "" {
			*x.to = *x.from
		}
	}
	if len(m.ExternalIDs) == 0 {
		m.ExternalIDs = was.ExternalIDs
	}
	if len(m.States) == 0 {
		m.States = was.States
	}
	if len(m.IdealCycleSeconds) == 0 {
		m.IdealCycleSeconds = was.IdealCycleSeconds
	}
	return m
}

// Change puts a machine in the place of the one with its id.
func (s *Scene) Change(m Machine) (d Delta, err error) {
	if s.Register.Find(m.ID) == nil {
		return d, s.notHere(m.ID)
	}
	m.Revision = 0
	d = Delta{Put: []Machine{m}}
	return d, append(m.Check(s.Models), s.shared(d)...).err()
}

// notHere says why a machine can't be changed.
func (s *Scene) notHere(id string) error {
	if s.inFile(id) {
		return Faults{{ID: id, Field: "id", What: "stands in the site file: change it there"}}
	}
	return fmt.Errorf("machine %q is %w", id, ErrUnknown)
}

// Retire takes machines out; what was made of them stays.
func (s *Scene) Retire(ids ...string) (d Delta, err error) {
	for _, id := range ids {
		if s.Register.Find(id) == nil {
			return d, s.notHere(id)
		}
	}
	return Delta{Retire: ids}, nil
}

// AddModel registers a version of a model.
func (s *Scene) AddModel(m Model) (d Delta, err error) {
	if err := m.check().err(); err != nil {
		return d, err
	}
	for i := range s.Models {
		if o := &s.Models[i]; o.Ref() == m.Ref() {
			return d, Faults{{ID: m.Ref(), Field: "version", What: "is there already, and a version never changes: give it another one"}}
		}
	}
	return Delta{Models: []Model{m}}, nil
}

// ModelOf is the model of a reference, id@version or id alone for its latest version.
func (s *Scene) ModelOf(ref string) (*Model, error) {
	var found *Model
	for i := range s.Models { // in order of versions
		if m := &s.Models[i]; m.Ref() == ref || m.ID == ref {
			found = m
		}
	}
	if found == nil {
		return nil, fmt.Errorf("model %q is %w; there are %s", ref, ErrUnknown, strings.Join(refs(s.Models), ", "))
	}
	return found, nil
}

// Upgrade has machines of a model be of a version of it: those named, or all.
func (s *Scene) Upgrade(id, to string, ids ...string) (d Delta, err error) {
	m, err := s.ModelOf(id + "@" + to)
	if err != nil {
		return d, err
	}
	for _, name := range ids {
		if x := s.Register.Find(name); x == nil {
			return d, s.notHere(name)
		} else if of, _, _ := strings.Cut(x.Model, "@"); of != id {
			return d, Faults{{ID: name, Field: "model", What: fmt.Sprintf("is %q, not %s", x.Model, id)}}
		}
	}
	for _, x := range s.Register.Machines {
		of, _, _ := strings.Cut(x.Model, "@")
		if of == id && (len(ids) == 0 || slices.Contains(ids, x.ID)) {
			x.Model = m.Ref()
			d.Put = append(d.Put, x)
		}
	}
	return d, nil
}

// Cloning says what is to be as something else is.
type Cloning struct {
	From string `json:"from"` // a line, or a machine's id
	To   string `json:"to"`   // the new line, or the new machine's id
	// Source is whose signals the clones have; empty: that of the original, with From in
	// it replaced.
	Source string `json:"source,omitempty"`
	// Replace are beginnings of signals' names and what they are of the clones; what
	// nothing of it fits has From replaced by To.
	Replace map[string]string `json:"replace,omitempty"`
}

// Clone registers a line, or a machine, that is as another one. What tells an individual
// from others, as external ids, is left out.
func (s *Scene) Clone(c Cloning) (d Delta, err error) {
	if !Name(c.To) {
		return d, Faults{{Field: "to", What: fmt.Sprintf("%q is no name of a line or a machine: small letters, digits, - and _", c.To)}}
	}
	var out []Machine
	for _, m := range slices.Concat(s.File, s.Register.Machines) {
		switch {
		case m.ID == c.From:
			x := c.of(m)
			x.ID, x.Line = c.To, m.Line
			out = []Machine{x}
		case m.Line == c.From && !slices.ContainsFunc(out, func(o Machine) bool { return o.ID == c.To }):
			x := c.of(m)
			x.Line = c.To
			if x.ID = strings.Replace(m.ID, c.From, c.To, 1); x.ID == m.ID {
				x.ID = c.To + "-" + m.ID
			}
			out = append(out, x)
		}
	}
	if len(out) == 0 {
		return d, fmt.Errorf("line or machine %q is %w", c.From, ErrUnknown)
	}
	for _, x := range out {
		for _, m := range slices.Concat(s.File, s.Register.Machines) {
			if m.ID != x.ID && x.Source != "" && x.Source == m.Source && x.SignalsPrefix == m.SignalsPrefix && maps.Equal(x.Signals, m.Signals) {
				return d, Faults{{ID: x.ID, Field: "source", What: fmt.Sprintf("would have the signals of %s: name another source, or what of their names to replace", m.ID)}}
			}
		}
	}
	return s.Add(out...)
}

// of is a machine with its signals as the clone has them.
func (c *Cloning) of(m Machine) Machine {
	m.ExternalIDs, m.Revision = nil, 0
	if m.Source == "" {
		return m
	}
	if c.Source != "" {
		m.Source = c.Source
	} else {
		m.Source = strings.ReplaceAll(m.Source, c.From, c.To)
	}
	m.SignalsPrefix = c.name(m.SignalsPrefix)
	signals := map[string]string{}
	for role, name := range m.Signals {
		signals[role] = c.name(name)
	}
	if m.Signals = signals; len(signals) == 0 {
		m.Signals = nil
	}
	return m
}

func (c *Cloning) name(s string) string {
	for _, from := range slices.SortedFunc(maps.Keys(c.Replace), func(a, b string) int { return len(b) - len(a) }) {
		if rest, ok := strings.CutPrefix(s, from); ok && from != "" {
			return c.Replace[from] + rest
		}
	}
	return strings.ReplaceAll(s, c.From, c.To)
}

func same(a, b Machine) bool { return len(Fields(a, b)) == 0 }

// Fields are the names of the fields in which two machines differ.
func Fields(a, b Machine) (out []string) {
	for _, x := range []struct {
		name string
		same bool
	}{
		{"area", a.Area == b.Area},
		{"line", a.Line == b.Line},
		{"name", a.Name == b.Name},
		{"kind", a.Kind == b.Kind},
		{"model", a.Model == b.Model},
		{"owner", a.Owner == b.Owner},
		{"source", a.Source == b.Source},
		{"signals_prefix", a.SignalsPrefix == b.SignalsPrefix},
		{"external_ids", maps.Equal(a.ExternalIDs, b.ExternalIDs)},
		{"signals", maps.Equal(a.Signals, b.Signals)},
		{"states", maps.Equal(a.States, b.States)},
		{"ideal_cycle_seconds", maps.Equal(a.IdealCycleSeconds, b.IdealCycleSeconds)},
	} {
		if !x.same {
			out = append(out, x.name)
		}
	}
	return out
}
