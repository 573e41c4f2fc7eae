package product

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	"plantmesh/proto/strict"
)

// registered begins the line behind a site file that holds the hub's register, as package
// plant writes it: JSON, of machines and models.
const registered = "registered: "

type registerFile struct {
	Version   int64                `json:"version"`
	Machines  []registeredEntry    `json:"machines"`
	Models    []modelFile          `json:"models"`
	Calendars []registeredCalendar `json:"calendars"`
}

type registeredEntry struct {
	equipmentFile

	Revision int64 `json:"revision"` // the register's version that it was last changed in
}

// cutRegister is a site file, and the register behind it; nil: none.
func cutRegister(src []byte) (file, register []byte) {
	i := bytes.LastIndex(src, []byte("\n"+registered))
	if i < 0 {
		return src, nil
	}
	return src[:i+1], src[i+1+len(registered):]
}

// with is the site with what was registered at the hub.
func (s *Site) with(file string, register []byte) (*Site, error) {
	var r registerFile
	dec := json.NewDecoder(bytes.NewReader(register))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&r); err != nil {
		return nil, &strict.Fault{File: file, What: "the register behind it can't be read: " + err.Error()}
	}
	fault := func(_, format string, args ...any) error {
		return &strict.Fault{File: file, What: fmt.Sprintf(format, args...)}
	}
	out := *s
	out.Registered, out.Equipment, out.Models = r.Version, slices.Clip(s.Equipment), slices.Clip(s.Models)
	out.prefixes, out.signals = maps.Clone(s.prefixes), maps.Clone(s.signals)
	if err := out.readModels(fault, "models", r.Models); err != nil {
		return nil, err
	}
	if err := out.remodel(fault); err != nil {
		return nil, err
	}
	for i := range r.Machines {
		x := &r.Machines[i]
		if err := out.readMachine(fault, x.ID, &x.equipmentFile, max(1, x.Revision)); err != nil {
			return nil, err
		}
	}
	if err := out.readCalendars(fault, r.Calendars); err != nil {
		return nil, err
	}
	out.derives = out.haveTransforms()
	return &out, nil
}

// remodel has the file's machines be of models that the register has.
func (s *Site) remodel(fault faulty) error {
	if len(s.foreign) > 0 {
		s.Equipment = slices.Clone(s.Equipment)
	}
	for _, i := range slices.Sorted(maps.Keys(s.foreign)) {
		if e, x := &s.Equipment[i], s.foreign[i]; s.Model(e.Model) != nil {
			if err := s.ideal(fault, x, e.ID, e); err != nil {
				return err
			}
			if err := s.states(fault, x, e.ID, e); err != nil {
				return err
			}
		}
	}
	return nil
}
