package product

import (
	"errors"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"

	"plantmesh/proto/mesh"
	"plantmesh/proto/strict"
)

// equipmentFile is a machine in the site file, and in the hub's register.
type equipmentFile struct {
	ID            string `yaml:"id" json:"id"`
	Area          string `yaml:"area" json:"area"` // of the site (ISA-95), where it has areas
	Line          string `yaml:"line" json:"line"`
	Name          string `yaml:"name" json:"name"`                     // for people
	Kind          string `yaml:"kind" json:"kind"`                     // of machine, as in ideal_cycle_seconds
	Model         string `yaml:"model" json:"model"`                   // id@version of one of models, or of those that every hub knows: plantmesh models list
	Owner         string `yaml:"owner" json:"owner"`                   // who answers for its data
	Source        string `yaml:"source" json:"source"`                 // whose proofs count for it
	SignalsPrefix string `yaml:"signals_prefix" json:"signals_prefix"` // "line1.filler."; the role follows
	// ExternalIDs are its names elsewhere, by system: {maximo: A-4711, sap: "10002345"}.
	ExternalIDs map[string]string `yaml:"external_ids" json:"external_ids"`
	// Signals are whole names of signals by the role that they fill, beside the prefix
	// or instead of it: {state: Hall1.PLC7.Status}. A role that stands here is filled by
	// nothing else.
	Signals map[string]string `yaml:"signals" json:"signals"`
	// States are the PackML states that the numbers of its state signal mean:
	// {1: 6, 2: 2}. A number that isn't there is no state. Without states the numbers
	// are PackML's.
	States map[string]int64 `yaml:"states" json:"states"`
	// IdealCycleSeconds is the planned run time of one item by product, where it is not
	// that of the model or the kind.
	IdealCycleSeconds map[string]float64 `yaml:"ideal_cycle_seconds" json:"ideal_cycle_seconds"`
}

// Equipment is one machine of a site.
type Equipment struct {
	ID, Area, Line, Name, Kind, Source, Prefix string
	Model, Owner                               string
	ExternalIDs                                map[string]string
	Ideal                                      map[string]float64 // seconds per item, by product
	Signals                                    map[string]string  // whole names by role
	States                                     map[int64]int64    // PackML states by number; nil: it says PackML states
	Revision                                   int64              // of the register; 0: it stands in the site file
}

// place is where a signal or a prefix stands: two sources may have the same names.
type place struct{ source, name string }

// bound is a signal that is mapped by its whole name.
type bound struct {
	equipment int
	role      Role
	name      string // of the role
}

// packmlStates are the states that a number can mean: 0 to 17.
const packmlStates = 17

// faulty makes a fault at a path.
type faulty func(path, format string, args ...any) error

// readMachine reads a machine of the file, revision 0, or of the register.
func (s *Site) readMachine(fault faulty, path string, x *equipmentFile, revision int64) error {
	planned := revision > 0 && x.Source == ""
	was := s.Find(x.ID)
	switch {
	case x.ID == "":
		return fault(path, "equipment needs an id, a source and a signals_prefix")
	case !planned && (x.Source == "" || x.SignalsPrefix == "" && len(x.Signals) == 0):
		return fault(path, "equipment needs an id, a source and a signals_prefix")
	case was != nil && was.Revision == 0 && revision > 0:
		return fault(path, "equipment %q stands in the site file and is registered at the hub, too: take it out of one of them", x.ID)
	case was != nil:
		return fault(path, "equipment %q stands twice", x.ID)
	case x.SignalsPrefix != "" && !strings.HasSuffix(x.SignalsPrefix, "."):
		return fault(path+".signals_prefix", "%q must end with a dot: the role follows it", x.SignalsPrefix)
	}
	e := Equipment{
		ID: x.ID, Area: x.Area, Line: x.Line, Name: x.Name, Kind: x.Kind, Source: x.Source, Prefix: x.SignalsPrefix, Model: x.Model, Owner: x.Owner,
		ExternalIDs: x.ExternalIDs, Signals: x.Signals, Revision: revision, Ideal: s.ideals[x.Kind],
	}
	if err := s.ideal(fault, x, path, &e); err != nil {
		return err
	}
	if err := s.states(fault, x, path, &e); err != nil {
		return err
	}
	if planned {
		s.Planned = append(s.Planned, e)
		return nil
	}
	if err := s.claim(fault, path, &e); err != nil {
		return err
	}
	if revision == 0 && e.Model != "" && s.Model(e.Model) == nil {
		if s.foreign == nil {
			s.foreign = map[int]*equipmentFile{}
		}
		s.foreign[len(s.Equipment)] = x
	}
	s.Equipment = append(s.Equipment, e)
	return nil
}

// claim takes a machine's signals for it: those of others are not.
func (s *Site) claim(fault faulty, path string, e *Equipment) error {
	n := len(s.Equipment)
	if at := (place{e.Source, e.Prefix}); e.Prefix != "" {
		if other, twice := s.prefixes[at]; twice {
			return fault(path+".signals_prefix", "%q of source %s stands twice: %s and %s can't have the same signals", e.Prefix, e.Source, s.Equipment[other].ID, e.ID)
		}
		s.prefixes[at] = n
	}
	all := slices.Sorted(maps.Keys(roleNames()))
	for _, role := range slices.Sorted(maps.Keys(e.Signals)) {
		name, at := e.Signals[role], path+".signals."+role
		if !slices.Contains(all, role) {
			err := fault(at, "unknown role %q", role)
			if f, ok := errors.AsType[*strict.Fault](err); ok {
				f.Nearest = strict.Nearest(role, all)
			}
			return err
		}
		if name == "" {
			return fault(at, "role %s has no signal: write the whole name of one, or leave it out", role)
		}
		if b, twice := s.signals[place{e.Source, name}]; twice {
			other := e.ID
			if b.equipment < n {
				other = s.Equipment[b.equipment].ID
			}
			return fault(at, "signal %q of source %s is the %s of %s already: a signal fills one role", name, e.Source, b.name, other)
		}
		s.signals[place{e.Source, name}] = bound{n, roleNames()[role], role}
	}
	return nil
}

// ideal says how long one item of a product takes: as the machine has it, its model, or
// its kind.
func (s *Site) ideal(fault faulty, x *equipmentFile, path string, e *Equipment) error {
	of, at := x.Kind, "$.ideal_cycle_seconds."+x.Kind
	if m := s.Model(x.Model); m != nil && len(m.Ideal) > 0 {
		e.Ideal, of, at = m.Ideal, m.Name(), path+".model"
	}
	if len(x.IdealCycleSeconds) > 0 {
		e.Ideal, of, at = x.IdealCycleSeconds, x.ID, path+".ideal_cycle_seconds"
	}
	for p, c := range e.Ideal {
		if !(c > 0) || math.IsInf(c, 0) {
			return fault(at+"."+p, "%v seconds for %s on a %s is no cycle", c, p, of)
		}
	}
	return nil
}

// states says what the numbers of a machine's state mean: as the machine has it, or its
// model.
func (s *Site) states(fault faulty, x *equipmentFile, path string, e *Equipment) error {
	given, path := x.States, path+".states"
	if m := s.Model(x.Model); m != nil && len(given) == 0 {
		e.States = m.States
		return nil
	}
	var err error
	e.States, err = readStates(fault, given, path)
	return err
}

func readStates(fault faulty, given map[string]int64, path string) (map[int64]int64, error) {
	if len(given) == 0 {
		return nil, nil
	}
	out := map[int64]int64{}
	for _, text := range slices.Sorted(maps.Keys(given)) {
		raw, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return nil, fault(path, "%q is no number that a state signal can show", text)
		}
		if to := given[text]; to < 0 || to > packmlStates {
			return nil, fault(path, "%d can't mean %d: PackML has the states 0 to %d, 6 is execute and 2 stopped", raw, to, packmlStates)
		}
		out[raw] = given[text]
	}
	return out, nil
}

// Signal says whose signal of a source this is: the index of its equipment, or -1 where
// the site has none of this name, and its role.
func (s *Site) Signal(source, name string) (equipment int, role Role) {
	if b, ok := s.signals[place{source, name}]; ok {
		return b.equipment, b.role
	}
	dot := strings.LastIndexByte(name, '.') + 1
	i, ok := s.prefixes[place{source, name[:dot]}]
	if !ok {
		return -1, RoleOther
	}
	role = s.roles[name[dot:]]
	if _, other := s.Equipment[i].Signals[s.suffixName(name[dot:])]; other {
		return i, RoleOther // its role is filled by the one that was named
	}
	return i, role
}

// RoleName is the role's name as rows of product signals write it; the last part of the
// signal's name where it has no role.
func (s *Site) RoleName(e *Equipment, signal string) string {
	if e != nil {
		for role, name := range e.Signals {
			if name == signal {
				return role
			}
		}
	}
	suffix := signal[strings.LastIndexByte(signal, '.')+1:]
	name := s.suffixName(suffix)
	if e != nil && e.Signals[name] != "" {
		return suffix
	}
	return name
}

func (s *Site) suffixName(suffix string) string {
	if name, ok := s.names[suffix]; ok {
		return name
	}
	return suffix
}

// Find is the equipment with an id; nil where the site has none.
func (s *Site) Find(id string) *Equipment {
	for i := range s.Equipment {
		if s.Equipment[i].ID == id {
			return &s.Equipment[i]
		}
	}
	return nil
}

// SameMapping reports whether the same samples fill the same registers of an
// equipment of this site and one of another.
func (s *Site) SameMapping(e *Equipment, o *Site, of *Equipment) bool {
	if e == nil || of == nil {
		return e == of
	}
	return e.Source == of.Source && e.Prefix == of.Prefix && s.EnergyInKJ == o.EnergyInKJ && maps.Equal(s.roles, o.roles) &&
		maps.Equal(e.Signals, of.Signals) && maps.Equal(e.States, of.States)
}

// Mapping names the revision of an equipment's mapping, as rows carry it: the site
// file's, and behind a plus the register's version in which the machine was last changed.
func (s *Site) Mapping(e *Equipment) string {
	if e.Revision == 0 {
		return s.MappingVersion
	}
	return s.MappingVersion + "+" + strconv.FormatInt(e.Revision, 10)
}

// EventOf is the event of a sample whose signal has this role here: a state is the PackML
// state that the machine's number means, and none where it means nothing.
func (e *Equipment) EventOf(role Role, s *mesh.Sample) Event {
	ev := EventOf(role, s)
	if role != RoleState || e.States == nil {
		return ev
	}
	raw, ok := ev.value().Int()
	if !ok {
		return ev
	}
	state, ok := e.States[raw]
	if !ok {
		ev.Status = mesh.StatusBadOutOfRange
		return ev
	}
	ev.Type, ev.Bits = mesh.TypeInt, uint64(state)
	return ev
}
