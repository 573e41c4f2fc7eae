package product

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"plantmesh/proto/mesh"
	"plantmesh/proto/strict"
)

// siteFile is the site file. Its comments are the manual.
type siteFile struct {
	Site string `yaml:"site"` // a name for subjects and rows
	// Enterprise is what the site is of (ISA-95); it may be left out, as areas and
	// lines may.
	Enterprise string `yaml:"enterprise"`
	Domain     string `yaml:"domain"` // who owns the products; "production"
	// Zone is an IANA zone: shifts and production days are cut in it. With
	// production_day_start, shifts, breaks, holidays and stops it is the site's calendar.
	// All of it may be left out: a calendar can be registered at the hub (plantmesh calendars set).
	Zone string `yaml:"zone"`
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
	ProductionDayStart string `yaml:"production_day_start"`
	// Shifts are local, of every day, or of those that days says: [mon-fri], [sat, sun]. The
	// day is that of the production day that a shift begins in, so Friday's night shift is of
	// Friday wherever it ends. Breaks are planned stops, outside planned busy time, and have
	// days in the same way. Once some shift is not of every day, all time in no shift is a
	// planned stop; else it is busy time.
	Shifts []shiftFile `yaml:"shifts"`
	Breaks []breakFile `yaml:"breaks"`
	// Holidays are production days that are planned stops, by the date of their start:
	// 2026-12-25. Stops are such stretches, by local date and clock: {from:
	// 2026-12-24T14:00, to: 2026-12-27T06:00}.
	Holidays []string   `yaml:"holidays"`
	Stops    []stopFile `yaml:"stops"`
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
	Models     []modelFile      `yaml:"models"`    // that equipment names as id@version
	Reasons    map[int64]string `yaml:"reasons"`   // words for stop reasons
}

// Site is what the assembly must know of a place. It never changes once
// parsed; another revision is another Site.
type Site struct {
	Name, Enterprise, Domain, MappingVersion string
	Calendar                                 Calendar // of machines that have no other: see CalendarOf
	MinCoverage                              float64
	EnergyInKJ                               bool
	Equipment                                []Equipment
	// Planned are machines of the register that no source is known of yet: nothing is
	// made of them.
	Planned       []Equipment
	Models        []Model
	Reasons       map[int64]string
	ValidFrom     mesh.Nanos // 0: the file doesn't say
	RetiredAgents []string
	Registered    int64 // the register's version; 0: none

	ideals   map[string]map[string]float64 // seconds per item, by kind and product
	roles    map[string]Role               // by the last part of a signal's name
	names    map[string]string             // the role's name by the last part, where it differs
	prefixes map[place]int                 // equipment by source and prefix
	signals  map[place]bound               // by source and whole name, of signals that are mapped one by one
	wrote    wrote                         // of its calendar, in the file
	// siteCalendar is the registered one that is the site's.
	siteCalendar string
	own          map[string]*named      // calendars by equipment, of those that have not the site's
	foreign      map[int]*equipmentFile // of the file's equipment, by index: those whose model the file hasn't
	derives      bool                   // some equipment's model has transforms
}

// ParseSite reads a site file, with what the hub wrote behind it. file is only a name for
// faults, which are all *strict.Fault: file, line, what, nearest key.
func ParseSite(file string, src []byte) (*Site, error) {
	var p Parser
	return p.Parse(file, src)
}

// Parser is ParseSite for many revisions, of which most have the site file that the one
// before has. Not safe for concurrent use.
type Parser struct {
	text []byte
	base *Site
}

// Parse is ParseSite.
func (p *Parser) Parse(file string, src []byte) (*Site, error) {
	text, register := cutRegister(src)
	if p.base == nil || !bytes.Equal(p.text, text) {
		base, err := parseFile(file, text)
		if err != nil {
			return nil, err
		}
		p.text, p.base = text, base
	}
	if register == nil {
		return p.base, nil
	}
	return p.base.with(file, register)
}

func parseFile(file string, src []byte) (*Site, error) {
	f := siteFile{Domain: "production", MappingVersion: "1.0.0", MinCoverage: 0.5, EnergyUnit: "kWh"}
	doc, err := strict.Parse(file, src, &f)
	if err != nil {
		return nil, err
	}
	s := &Site{
		Name: f.Site, Enterprise: f.Enterprise, Domain: f.Domain, MappingVersion: f.MappingVersion, MinCoverage: f.MinCoverage,
		Reasons: f.Reasons, RetiredAgents: f.RetiredAgents, ideals: f.IdealCycleSeconds,
	}
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
	if err := s.fileCalendar(doc.Fault, &f); err != nil {
		return nil, err
	}
	if err := s.readRoles(doc, f); err != nil {
		return nil, err
	}
	s.prefixes, s.signals = map[place]int{}, map[place]bound{}
	if err := s.readModels(doc.Fault, "$.models", f.Models); err != nil {
		return nil, err
	}
	for i := range f.Equipment {
		if err := s.readMachine(doc.Fault, fmt.Sprintf("$.equipment[%d]", i), &f.Equipment[i], 0); err != nil {
			return nil, err
		}
	}
	s.derives = s.haveTransforms()
	return s, nil
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
			return doc.Fault("$.roles."+name, "signal %q is role %q and role %q: give each its own", suffix, s.RoleName(nil, suffix), name)
		}
		s.roles[suffix] = roleNames()[name]
		if suffix != name {
			s.names[suffix] = name
		}
	}
	return nil
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
