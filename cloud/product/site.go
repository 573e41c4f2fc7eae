package product

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"plantmesh/proto/mesh"
	"plantmesh/proto/strict"
)

// siteFile is the site file. Its comments are the manual.
type siteFile struct {
	Site   string `yaml:"site"`   // a name for subjects and rows
	Domain string `yaml:"domain"` // who owns the products; "production"
	Zone   string `yaml:"zone"`   // IANA zone: shifts and production days are cut in it
	// MappingVersion names this revision of the mapping; rows carry it.
	MappingVersion string `yaml:"mapping_version"`
	// ValidFrom is the instant from which this file holds, as 2026-11-28T06:00:00Z.
	// Without it a changed file holds from when the hub first reads it. With it
	// rows from there on are made again. A hub's first file holds for all of time.
	ValidFrom string `yaml:"valid_from"`
	// RetiredAgents are agents that never come back, a replaced gateway's say.
	// Until one stands here, rows of its sources stay provisional: it may still
	// hold data.
	RetiredAgents []string `yaml:"retired_agents"`
	// ProductionDayStart is local: a production day runs from here to the next
	// one and has the local date of its start.
	ProductionDayStart string      `yaml:"production_day_start"`
	Shifts             []shiftFile `yaml:"shifts"` // daily, local
	Breaks             []breakFile `yaml:"breaks"` // planned stops, daily, local, outside planned busy time
	// MinCoverage is the share of a window that must be known before a ratio is
	// given; below it the ratio is null and says why.
	MinCoverage float64 `yaml:"min_coverage"`
	// IdealCycleSeconds is the planned run time of one item, by kind of machine
	// and product.
	IdealCycleSeconds map[string]map[string]float64 `yaml:"ideal_cycle_seconds"`
	// Roles maps a role to the last part of a signal's name, where it differs.
	Roles map[string]string `yaml:"roles"`
	// EnergyUnit is "kWh" (a floating counter) or "kJ" (a whole counter).
	EnergyUnit string           `yaml:"energy_unit"`
	Equipment  []equipmentFile  `yaml:"equipment"` // in order of flow
	Reasons    map[int64]string `yaml:"reasons"`   // words for stop reasons
}

type shiftFile struct {
	ID    string `yaml:"id"`
	Start string `yaml:"start"`
	End   string `yaml:"end"`
}

type breakFile struct {
	Start string `yaml:"start"`
	End   string `yaml:"end"`
}

type equipmentFile struct {
	ID            string `yaml:"id"`
	Line          string `yaml:"line"`
	Name          string `yaml:"name"`           // for people
	Kind          string `yaml:"kind"`           // of machine, as in ideal_cycle_seconds
	Source        string `yaml:"source"`         // whose proofs count for it
	SignalsPrefix string `yaml:"signals_prefix"` // "line1.filler."; the role follows
}

// Equipment is one machine of a site.
type Equipment struct {
	ID, Line, Name, Kind, Source, Prefix string
	Ideal                                map[string]float64 // seconds per item, by product
}

// Site is what the assembly must know of a place. It never changes once
// parsed; another revision is another Site.
type Site struct {
	Name, Domain, MappingVersion string
	Calendar                     Calendar
	MinCoverage                  float64
	EnergyInKJ                   bool
	Equipment                    []Equipment
	Reasons                      map[int64]string
	ValidFrom                    mesh.Nanos // 0: the file doesn't say
	RetiredAgents                []string

	roles    map[string]Role   // by the last part of a signal's name
	names    map[string]string // the role's name by the last part, where it differs
	prefixes map[string]int    // equipment by prefix
}

// ParseSite reads a site file. file is only a name for faults, which are all
// *strict.Fault: file, line, what, nearest key.
func ParseSite(file string, src []byte) (*Site, error) {
	f := siteFile{Domain: "production", ProductionDayStart: "00:00", MappingVersion: "1.0.0", MinCoverage: 0.5, EnergyUnit: "kWh"}
	doc, err := strict.Parse(file, src, &f)
	if err != nil {
		return nil, err
	}
	s := &Site{Name: f.Site, Domain: f.Domain, MappingVersion: f.MappingVersion, MinCoverage: f.MinCoverage, Reasons: f.Reasons, RetiredAgents: f.RetiredAgents}
	if f.Site == "" {
		return nil, doc.Fault("$", "site has no name: write site: <name>")
	}
	if f.MinCoverage < 0 || f.MinCoverage > 1 {
		return nil, doc.Fault("$.min_coverage", "%v is no share: write a number from 0 to 1", f.MinCoverage)
	}
	switch f.EnergyUnit {
	case "kWh":
	case "kJ":
		s.EnergyInKJ = true
	default:
		return nil, doc.Fault("$.energy_unit", "%q is no unit of energy here: write kWh or kJ", f.EnergyUnit)
	}
	if f.ValidFrom != "" {
		at, err := time.Parse(time.RFC3339, f.ValidFrom)
		if err != nil || at.Year() < 1971 || at.Year() > 2200 {
			return nil, doc.Fault("$.valid_from", "%q is no instant such as 2026-11-28T06:00:00Z", f.ValidFrom)
		}
		s.ValidFrom = mesh.NanosOf(at)
	}
	if err := s.readCalendar(doc, f); err != nil {
		return nil, err
	}
	if err := s.readRoles(doc, f); err != nil {
		return nil, err
	}
	return s, s.readEquipment(doc, f)
}

func (s *Site) readCalendar(doc *strict.Doc, f siteFile) error {
	zone, err := time.LoadLocation(f.Zone)
	if err != nil || f.Zone == "" {
		return doc.Fault("$.zone", "%q is no IANA time zone such as Europe/Vienna", f.Zone)
	}
	c := Calendar{zone: zone, offsets: offsets(zone)}
	if c.start, err = parseClock(f.ProductionDayStart); err != nil {
		return doc.Fault("$.production_day_start", "%v", err)
	}
	for i, x := range f.Shifts {
		path := fmt.Sprintf("$.shifts[%d]", i)
		from, to, err := clocks(x.Start, x.End)
		if err != nil || x.ID == "" {
			return doc.Fault(path, "a shift needs an id, a start and an end such as 06:00")
		}
		if slices.ContainsFunc(c.shifts, func(o shift) bool { return o.id == x.ID }) {
			return doc.Fault(path, "shift %q stands twice", x.ID)
		}
		if c.shifts, err = beside(c.shifts, shift{id: x.ID, from: from, to: to}); err != nil {
			return doc.Fault(path, "%v", err)
		}
	}
	for i, x := range f.Breaks {
		path := fmt.Sprintf("$.breaks[%d]", i)
		from, to, err := clocks(x.Start, x.End)
		if err != nil {
			return doc.Fault(path, "a break needs a start and an end such as 10:00")
		}
		if c.breaks, err = beside(c.breaks, shift{from: from, to: to}); err != nil {
			return doc.Fault(path, "%v", err)
		}
	}
	s.Calendar = c
	return nil
}

// beside puts a stretch of the day to the others. Time belongs to one of them
// at most, or sums would have it twice.
func beside(others []shift, s shift) ([]shift, error) {
	if s.from == s.to {
		return nil, fmt.Errorf("%s starts and ends at %s: leave it out, or end it later", s, s.from)
	}
	for _, o := range others {
		if (s.from-o.from+wholeDay)%wholeDay < o.length() || (o.from-s.from+wholeDay)%wholeDay < s.length() {
			return nil, fmt.Errorf("%s, %s to %s, overlaps %s, %s to %s", s, s.from, s.to, o, o.from, o.to)
		}
	}
	return append(others, s), nil
}

func (s *Site) readRoles(doc *strict.Doc, f siteFile) error {
	s.roles, s.names = roleNames(), map[string]string{}
	all, given := slices.Sorted(maps.Keys(s.roles)), slices.Sorted(maps.Keys(f.Roles))
	for _, name := range given {
		suffix, path := f.Roles[name], "$.roles."+name
		if !slices.Contains(all, name) {
			err := doc.Fault(path, "unknown role %q", name)
			if fault, ok := errors.AsType[*strict.Fault](err); ok {
				fault.Nearest = strict.Nearest(name, all)
			}
			return err
		}
		if suffix == "" || strings.Contains(suffix, ".") {
			return doc.Fault(path, "%q is no last part of a signal's name: write it without dots", suffix)
		}
		delete(s.roles, name) // all before any is set: one may take the name that another leaves
	}
	for _, name := range given {
		suffix := f.Roles[name]
		if _, taken := s.roles[suffix]; taken {
			return doc.Fault("$.roles."+name, "signal %q is role %q and role %q: give each its own", suffix, s.RoleName(suffix), name)
		}
		s.roles[suffix] = roleNames()[name]
		if suffix != name {
			s.names[suffix] = name
		}
	}
	return nil
}

func (s *Site) readEquipment(doc *strict.Doc, f siteFile) error {
	s.prefixes = map[string]int{}
	ids := map[string]bool{}
	for i, x := range f.Equipment {
		path := fmt.Sprintf("$.equipment[%d]", i)
		switch {
		case x.ID == "" || x.Source == "" || x.SignalsPrefix == "":
			return doc.Fault(path, "equipment needs an id, a source and a signals_prefix")
		case ids[x.ID]:
			return doc.Fault(path, "equipment %q stands twice", x.ID)
		case !strings.HasSuffix(x.SignalsPrefix, "."):
			return doc.Fault(path+".signals_prefix", "%q must end with a dot: the role follows it", x.SignalsPrefix)
		}
		if _, twice := s.prefixes[x.SignalsPrefix]; twice {
			return doc.Fault(path+".signals_prefix", "%q stands twice", x.SignalsPrefix)
		}
		for p, c := range f.IdealCycleSeconds[x.Kind] {
			if !(c > 0) || math.IsInf(c, 0) {
				return doc.Fault(fmt.Sprintf("$.ideal_cycle_seconds.%s.%s", x.Kind, p), "%v seconds for %s on a %s is no cycle", c, p, x.Kind)
			}
		}
		ids[x.ID], s.prefixes[x.SignalsPrefix] = true, i
		s.Equipment = append(s.Equipment, Equipment{
			ID: x.ID, Line: x.Line, Name: x.Name, Kind: x.Kind, Source: x.Source,
			Prefix: x.SignalsPrefix, Ideal: f.IdealCycleSeconds[x.Kind],
		})
	}
	return nil
}

// Signal says whose signal this is: the index of its equipment, or -1 where
// the site has none of this name, and its role.
func (s *Site) Signal(name string) (equipment int, role Role) {
	dot := strings.LastIndexByte(name, '.') + 1
	i, ok := s.prefixes[name[:dot]]
	if !ok {
		return -1, RoleOther
	}
	return i, s.roles[name[dot:]]
}

// RoleName is the role's name as rows of product signals write it.
func (s *Site) RoleName(signal string) string {
	suffix := signal[strings.LastIndexByte(signal, '.')+1:]
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
	return e.Source == of.Source && e.Prefix == of.Prefix && s.EnergyInKJ == o.EnergyInKJ && maps.Equal(s.roles, o.roles)
}

// Sources are the sources of the site's equipment, sorted.
func (s *Site) Sources() []string {
	var out []string
	for i := range s.Equipment {
		out = append(out, s.Equipment[i].Source)
	}
	slices.Sort(out)
	return slices.Compact(out)
}
