package product

import (
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"time"
)

// modelFile is a model of machines: what such a machine is made of.
type modelFile struct {
	ID      string `yaml:"id" json:"id"`
	Version string `yaml:"version" json:"version"`
	Title   string `yaml:"title" json:"title"`
	// States and IdealCycleSeconds are those of machines that have none of their own.
	States            map[string]int64   `yaml:"states" json:"states"`
	IdealCycleSeconds map[string]float64 `yaml:"ideal_cycle_seconds" json:"ideal_cycle_seconds"`
	Properties        []propertyFile     `yaml:"properties" json:"properties"`
	Enables           []string           `yaml:"enables" json:"enables"` // products that it is made for
}

type propertyFile struct {
	Name string `yaml:"name" json:"name"` // the last part of its signal's name
	// Kind is attribute (a fixed text), measurement (a signal), transform (made of a
	// measurement, sample by sample) or metric (made of a window).
	Kind    string   `yaml:"kind" json:"kind"`
	Role    string   `yaml:"role" json:"role"`   // that it fills
	Also    []string `yaml:"also" json:"also"`   // other last parts that it is recognised by
	Type    string   `yaml:"type" json:"type"`   // number, text, bool; as proto has it, number is any of them
	Unit    string   `yaml:"unit" json:"unit"`   // UNECE Rec 20 common code
	Every   string   `yaml:"every" json:"every"` // it speaks at least so often
	Min     *float64 `yaml:"min" json:"min"`
	Max     *float64 `yaml:"max" json:"max"`
	Rules   []string `yaml:"rules" json:"rules"` // of quality, that such a signal is to have
	Formula string   `yaml:"formula" json:"formula"`
	// Of, Scale and Offset are of a transform: it is the measurement Of * Scale + Offset.
	Of     string   `yaml:"of" json:"of"`
	Scale  *float64 `yaml:"scale" json:"scale"`
	Offset *float64 `yaml:"offset" json:"offset"`
	Need   bool     `yaml:"need" json:"need"` // without it the machine is not one of this model
}

// Model is what machines of one make and program have in common. It never changes: a
// change is another version.
type Model struct {
	ID, Version string
	States      map[int64]int64
	Ideal       map[string]float64
	Properties  []Property

	transforms []Transform
	file       modelFile // as it was written
}

// Property is a measurement of a model that fills a role.
type Property struct {
	Role, Unit string
	Every      time.Duration // 0: it says nothing of that
}

// Name is a model as equipment names it.
func (m *Model) Name() string { return m.ID + "@" + m.Version }

// WrittenModels are the models of the site file and the register, as JSON has them in the
// register.
func (s *Site) WrittenModels() ([]byte, error) {
	files := make([]modelFile, len(s.Models))
	for i := range s.Models {
		files[i] = s.Models[i].file.finite()
	}
	b, err := json.Marshal(files)
	if err != nil {
		return nil, fmt.Errorf("write the models of the site: %w", err)
	}
	return b, nil
}

// finite is a model without numbers that JSON has not. The site file takes them, as an end
// of a range that is none: max: .inf.
func (x modelFile) finite() modelFile {
	x.Properties = slices.Clone(x.Properties)
	for i := range x.Properties {
		p := &x.Properties[i]
		for _, f := range []**float64{&p.Min, &p.Max, &p.Scale, &p.Offset} {
			if !isFinite(*f) {
				*f = nil
			}
		}
	}
	return x
}

func isFinite(f *float64) bool { return f == nil || !math.IsNaN(*f) && !math.IsInf(*f, 0) }

// Model is the model of a name, as id@version; nil where the site has none.
func (s *Site) Model(name string) *Model {
	i := slices.IndexFunc(s.Models, func(m Model) bool { return m.Name() == name })
	if i < 0 {
		return nil
	}
	return &s.Models[i]
}

func (s *Site) readModels(fault faulty, path string, models []modelFile) error {
	for i := range models {
		if err := s.readModel(fault, fmt.Sprintf("%s[%d]", path, i), &models[i]); err != nil {
			return err
		}
	}
	return nil
}

func (s *Site) readModel(fault faulty, path string, x *modelFile) (err error) {
	m := Model{ID: x.ID, Version: x.Version, Ideal: x.IdealCycleSeconds, file: *x}
	if x.ID == "" || x.Version == "" {
		return fault(path, "a model needs an id and a version, as press and 1.0.0")
	}
	if s.Model(m.Name()) != nil {
		return fault(path, "model %s stands twice", m.Name())
	}
	if m.States, err = readStates(fault, x.States, path+".states"); err != nil {
		return err
	}
	for p, c := range m.Ideal {
		if !(c > 0) || math.IsInf(c, 0) {
			return fault(path+".ideal_cycle_seconds."+p, "%v seconds for %s is no cycle", c, p)
		}
	}
	for i := range x.Properties {
		if err := m.readProperty(fault, fmt.Sprintf("%s.properties[%d]", path, i), &x.Properties[i]); err != nil {
			return err
		}
	}
	s.Models = append(s.Models, m)
	return nil
}

func (m *Model) readProperty(fault faulty, path string, p *propertyFile) (err error) {
	switch {
	case p.Kind == transform && p.Of != "":
		return m.readTransform(fault, path, p)
	case p.Role == "":
		return nil
	}
	out := Property{Role: p.Role, Unit: p.Unit}
	if p.Every != "" {
		if out.Every, err = time.ParseDuration(p.Every); err != nil || out.Every <= 0 {
			return fault(path+".every", "%q is no time such as 10s", p.Every)
		}
	}
	m.Properties = append(m.Properties, out)
	return nil
}
