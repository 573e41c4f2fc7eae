package product

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"plantmesh/proto/mesh"
)

// transform is the kind of a property that is made of a measurement, sample by sample.
const transform = "transform"

// Transform is a property of a model that is raw*scale + offset of one of its measurements.
type Transform struct {
	Name, Unit string
	Model      string // id@version, whose property it is

	of            propertyFile
	scale, offset float64
}

// Value is what it makes of a raw value, and of what status that is: none of one that is not
// Good, and of its status then; none of one that is no number, or whose result no double
// holds, which is bad though the source called it good.
func (t *Transform) Value(raw mesh.Value, s mesh.Status) (mesh.Value, mesh.Status) {
	if !s.IsGood() {
		return mesh.Value{}, s
	}
	f, ok := raw.Float()
	if !ok || raw.Type == mesh.TypeBool {
		return mesh.Value{}, mesh.StatusBadTypeMismatch
	}
	// The product is rounded by itself: what multiplies and adds in one step elsewhere
	// would differ in the last bit.
	x := float64(f*t.scale) + t.offset
	if math.IsNaN(x) || math.IsInf(x, 0) {
		return mesh.Value{}, mesh.StatusBadOutOfRange
	}
	return mesh.Double(x), s
}

// reason is the mark of a row that has no value though the sample is good: a status is a
// number, and this is read.
func (t *Transform) reason(s mesh.Status) mesh.Mark {
	why := map[mesh.Status]string{mesh.StatusBadTypeMismatch: "not_a_number", mesh.StatusBadOutOfRange: "out_of_range"}[s]
	return mesh.Mark{Rule: t.Name + "." + why, Action: mesh.ActionAnnotate}
}

// Derivation is a transform of one machine's model at the signals of one table: it makes a
// reading of each of the raw signal.
type Derivation struct {
	Equipment int    // of the site
	Raw       int    // of the table
	From      string // the raw signal
	Name      string // the raw signal's, with the property's as its last part
	By        *Transform
}

// Reading is what is made of a reading of the raw signal, beside it.
func (d *Derivation) Reading(raw Reading) Reading {
	raw.Name, raw.Unit, raw.Fields, raw.Choices, raw.Derived = d.Name, d.By.Unit, nil, nil, d
	return raw
}

// Transforms says whether a machine of the site, as it ever was, has a model with
// transforms. Most sites have none, and nothing is looked for then.
func (s *Sites) Transforms() bool { return s.transforms }

// haveTransforms is found once, when a site is made.
func (s *Site) haveTransforms() bool {
	return slices.ContainsFunc(s.Equipment, func(e Equipment) bool { return len(s.transforms(&e)) > 0 })
}

func (s *Site) transforms(e *Equipment) []Transform {
	if m := s.Model(e.Model); m != nil {
		return m.transforms
	}
	return nil
}

// Derivations are what models make of the signals of one table of a source. It looks at
// nothing else: what a batch gives doesn't change by what comes later, and where the table
// has a signal of the name that one would have, the signal stands.
func (s *Site) Derivations(source string, table []mesh.Signal) (out []Derivation) {
	if !s.derives {
		return nil
	}
	for i := range s.Equipment {
		e := &s.Equipment[i]
		if e.Source != source || e.Prefix == "" {
			continue
		}
		all := s.transforms(e)
		for k := range all {
			if raw, why := s.raw(i, &all[k], table); why == "" {
				out = append(out, Derivation{Equipment: i, Raw: raw, From: table[raw].Name, Name: e.Prefix + all[k].Name, By: &all[k]})
			}
		}
	}
	return out
}

// raw is the signal that a transform is made of for an equipment, or why none is.
func (s *Site) raw(equipment int, t *Transform, table []mesh.Signal) (raw int, why string) {
	e, raw := &s.Equipment[equipment], -1
	if e.Prefix == "" {
		return raw, "the machine has no signals_prefix, and signals that are named have roles: of such ones nothing is made"
	}
	exact := false
	for i := range table {
		last, ok := strings.CutPrefix(table[i].Name, e.Prefix)
		if !ok || strings.Contains(last, ".") {
			continue
		}
		of, _ := s.Signal(e.Source, table[i].Name)
		switch {
		case last == t.Name: // whoever has it
			return -1, fmt.Sprintf("%s is there by itself, and stands", table[i].Name)
		case of != equipment:
		case last == t.of.Name:
			raw, exact = i, true
		case !exact && t.of.is(last) && (raw < 0 || table[i].Name < table[raw].Name):
			raw = i
		}
	}
	if raw < 0 {
		return raw, "no signal of the machine is " + t.of.Name
	}
	sig := &table[raw]
	_, role := s.Signal(e.Source, sig.Name)
	number := slices.Contains([]mesh.Type{mesh.TypeNone, mesh.TypeInt, mesh.TypeUint, mesh.TypeDouble}, sig.Type)
	switch {
	case role != RoleOther:
		return raw, fmt.Sprintf("%s fills the role %s of the machine: products take it as it is", sig.Name, s.RoleName(e, sig.Name))
	case !number:
		return raw, fmt.Sprintf("%s is %s, and only numbers are scaled", sig.Name, sig.Type)
	case t.of.Unit != "" && sig.Unit != "" && t.of.Unit != sig.Unit:
		return raw, fmt.Sprintf("%s is in %s, and the model says %s", sig.Name, sig.Unit, t.of.Unit)
	}
	return raw, ""
}

// is says whether a property is recognised by a last part that is not its name.
func (p *propertyFile) is(last string) bool {
	return strings.EqualFold(last, p.Name) || slices.ContainsFunc(p.Also, func(a string) bool { return strings.EqualFold(a, last) })
}

// RealStands takes out what was made where a signal of that name says something at the same
// instant: two gateways may read one source, and only one of them that signal.
func RealStands(in []Reading) []Reading {
	type spot struct {
		name string
		time mesh.Nanos
	}
	made, stands := map[string]bool{}, map[spot]bool{}
	for i := range in {
		if in[i].Derived != nil {
			made[in[i].Name] = true
		}
	}
	for i := range in {
		if r := &in[i]; r.Derived == nil && made[r.Name] {
			stands[spot{r.Name, r.Sample.Time}] = true
		}
	}
	if len(stands) == 0 {
		return in
	}
	return slices.DeleteFunc(in, func(r Reading) bool { return r.Derived != nil && stands[spot{r.Name, r.Sample.Time}] })
}

// NotMade is a transform of a machine's model of which nothing is made, and why.
type NotMade struct{ Equipment, Property, Why string }

// NotMade are the transforms of which nothing is made by what is heard.
func (s *Site) NotMade(heard Heard) (out []NotMade) {
	for i := range s.Equipment {
		e := &s.Equipment[i]
		all := s.transforms(e)
		for k := range all {
			if _, why := s.raw(i, &all[k], heard[e.Source]); why != "" {
				out = append(out, NotMade{e.ID, all[k].Name, why})
			}
		}
	}
	return out
}

// transformsCheck is the line of readiness of a machine whose model has transforms.
func (s *Site) transformsCheck(equipment int, heard []mesh.Signal) Check {
	e := &s.Equipment[equipment]
	var made, not []string
	all := s.transforms(e)
	for k := range all {
		t := &all[k]
		if raw, why := s.raw(equipment, t, heard); why == "" {
			made = append(made, t.Name+" of "+heard[raw].Name)
		} else {
			not = append(not, t.Name+" is not made: "+why)
		}
	}
	return Check{"transforms", len(not) == 0, strings.Join(slices.Concat(not, made), "; ")}
}

// readTransform reads a property of the kind transform that is made of something. One
// without of is of a model of before, when a formula in words was taken: nothing is made of
// it.
func (m *Model) readTransform(fault faulty, path string, p *propertyFile) error {
	k := slices.IndexFunc(m.file.Properties, func(o propertyFile) bool { return o.Name == p.Of })
	if k < 0 {
		return fault(path+".of", "%q is no property of the model", p.Of)
	}
	of := &m.file.Properties[k]
	_, named := roleNames()[of.Name]
	_, role := roleNames()[p.Name]
	counts := slices.ContainsFunc(of.Rules, func(r string) bool { return r != "backwards off" && strings.HasPrefix(r, "backwards") })
	same := func(o propertyFile) bool { return o.Name == p.Name }
	switch {
	case p.Name == "" || strings.Contains(p.Name, "."):
		return fault(path+".name", "%q is no last part of a signal's name: write it without dots", p.Name)
	case slices.IndexFunc(m.file.Properties[slices.IndexFunc(m.file.Properties, same)+1:], same) >= 0:
		return fault(path+".name", "%s stands twice", p.Name)
	case of.Kind != "measurement" || of.Type == "text" || of.Type == "bool":
		return fault(path+".of", "%s is no measurement of numbers, and nothing else is scaled", p.Of)
	case role:
		return fault(path+".name", "%s is the name of a role, which no product would read of it", p.Name)
	case of.Role != "" || named || counts:
		return fault(path+".of", "%s is what products take as it is, a state or a counter: scaled before its wraps are undone it would be wrong", p.Of)
	case p.Scale == nil && p.Offset == nil || !isFinite(p.Scale) || !isFinite(p.Offset) || p.Scale != nil && *p.Scale == 0:
		return fault(path, "a transform has a scale that is not 0, or an offset, both finite")
	}
	t := Transform{Name: p.Name, Unit: p.Unit, Model: m.Name(), of: *of, scale: 1}
	if p.Scale != nil {
		t.scale = *p.Scale
	}
	if p.Offset != nil {
		t.offset = *p.Offset
	}
	m.transforms = append(m.transforms, t)
	return nil
}
