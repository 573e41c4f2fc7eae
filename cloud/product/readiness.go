package product

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"plantmesh/proto/mesh"
	"plantmesh/proto/strict"
	"plantmesh/proto/subject"
)

// Heard are the signals that sources have said to have, by source.
type Heard map[string][]mesh.Signal

// Readiness is what a machine of the site is made of, and what lacks.
type Readiness struct {
	Equipment string      `json:"equipment"`
	Line      string      `json:"line"`
	Source    string      `json:"source"`
	Prefix    string      `json:"signals_prefix"`
	Signals   int         `json:"signals_count"` // heard of it
	Roles     []RoleFound `json:"roles"`
	Lacks     []Lack      `json:"lacks"`
	// State is ready, lacking, or planned: nothing of it has been heard yet.
	State    string            `json:"state"`
	Checks   []Check           `json:"checks"`
	Products map[string]string `json:"products"` // whole, partial or empty, by product
}

// Check is one line of a machine's readiness.
type Check struct {
	Check string `json:"check"`
	OK    bool   `json:"ok"`
	Says  string `json:"says"`
}

// RoleFound is a signal that fills a role.
type RoleFound struct {
	Role   string `json:"role"`
	Signal string `json:"signal"`
	Type   string `json:"type"`
	Unit   string `json:"unit,omitempty"`
}

// Lack is what a machine has not, which columns of products stay empty for that, and
// what to do.
type Lack struct {
	What   string   `json:"what"`
	Empty  []string `json:"empty"` // product.column; product alone: all of it
	Remedy string   `json:"fix"`
}

// Candidate are signals under one prefix of a source that no machine has.
type Candidate struct {
	Source  string   `json:"source"`
	Prefix  string   `json:"signals_prefix"`
	Signals int      `json:"signals_count"`
	Roles   []string `json:"roles"` // of the site file, that its signals would fill
	// Score is the share of the roles that it has, 0 to 1.
	Score float64 `json:"score"`
	// Proposal is its line for the site file; empty where it has no role, and so is
	// hardly a machine.
	Proposal string `json:"proposal,omitempty"`
	// ID, Line, Name and Kind are what the proposal calls it.
	ID   string `json:"id"`
	Line string `json:"line"`
	Name string `json:"name"`
	Kind string `json:"kind"`
	// Planned says that ID is a machine that was planned and waits for its signals.
	Planned bool `json:"planned,omitempty"`
}

// needs are the roles with what stays empty without each, in the order of how much that is.
func needs() []struct {
	role  string
	empty []string
} {
	return []struct {
		role  string
		empty []string
	}{
		{"state", []string{"equipment-state", "oee.availability_ratio", "oee.effectiveness_ratio", "oee.oee_ratio", "oee.nee_ratio", "production-rate.rate_per_hour"}},
		{"produced", []string{"production-rate.produced_count", "production-rate.rate_per_hour", "oee.effectiveness_ratio", "oee.quality_ratio", "oee.oee_ratio", "oee.nee_ratio"}},
		{"scrap", []string{"production-rate.scrap_count", "production-rate.good_count", "oee.quality_ratio", "oee.oee_ratio", "oee.nee_ratio"}},
		{"mode", []string{"equipment-state.mode"}},
		{"product", []string{"production-rate.ideal_rate_per_hour", "oee.effectiveness_ratio", "oee.oee_ratio", "oee.nee_ratio"}},
		{"order", []string{"equipment-state.cause"}},
		{"stop_reason", []string{"equipment-state.reason"}},
		{"energy", []string{"production-rate.energy_kwh"}},
	}
}

// Readiness says of each machine of the site how far its products can be made.
func (s *Site) Readiness(heard Heard) []Readiness {
	out := make([]Readiness, 0, len(s.Equipment)+len(s.Planned))
	for i := range s.Equipment {
		e := &s.Equipment[i]
		r := Readiness{Equipment: e.ID, Line: e.Line, Source: e.Source, Prefix: e.Prefix, Roles: []RoleFound{}, State: StateLacking}
		found := map[string]mesh.Signal{}
		for _, sig := range heard[e.Source] {
			of, role := s.Signal(e.Source, sig.Name)
			if of != i {
				continue
			}
			r.Signals++
			if role != RoleOther {
				found[s.RoleName(e, sig.Name)] = sig
			}
		}
		for _, role := range slices.Sorted(maps.Keys(found)) {
			sig := found[role]
			r.Roles = append(r.Roles, RoleFound{role, sig.Name, sig.Type.String(), sig.Unit})
		}
		r.Lacks = s.lacks(e, heard, found, r.Signals)
		switch {
		case len(r.Lacks) == 0:
			r.State = StateReady
		case len(heard[e.Source]) == 0, e.Revision > 0 && r.Signals == 0:
			r.State = StatePlanned
		}
		r.Checks, r.Products = s.checks(e, found, &r), products(r.Lacks)
		if s.derives && len(s.transforms(e)) > 0 {
			r.Checks = append(r.Checks, s.transformsCheck(i, heard[e.Source]))
		}
		out = append(out, r)
	}
	for i := range s.Planned {
		e := &s.Planned[i]
		r := Readiness{Equipment: e.ID, Line: e.Line, Roles: []RoleFound{}, State: StatePlanned}
		r.Lacks = []Lack{{"no source is known of it", everything(), "approve it from the inbox once its gateway has said what it reads"}}
		r.Checks, r.Products = s.checks(e, nil, &r), products(r.Lacks)
		out = append(out, r)
	}
	return out
}

// OfMachines are the products that are made of each machine.
func OfMachines() []string { return everything() }

// everything is what stays empty where nothing is heard.
func everything() []string { return []string{"equipment-state", "production-rate", "oee", "signals"} }

// lacks is what keeps products of a machine from being made.
func (s *Site) lacks(e *Equipment, heard Heard, found map[string]mesh.Signal, signals int) (out []Lack) {
	if out = s.unheard(e, heard, signals); len(out) > 0 {
		return out
	}
	out = []Lack{}
	for _, n := range needs() {
		sig, ok := found[n.role]
		if !ok {
			fix := fmt.Sprintf("have the source read %s, or say in roles of the site file what it is called there", e.Prefix+s.suffix(n.role))
			if name := e.Signals[n.role]; name != "" {
				fix = fmt.Sprintf("have the source read %s, or name another signal as its %s", name, n.role)
			} else if e.Revision > 0 {
				fix = fmt.Sprintf("have the source read %s, or name the signal that it is: plantmesh machines add --change --signal %s=NAME %s", e.Prefix+s.suffix(n.role), n.role, e.ID)
			}
			out = append(out, Lack{"no signal is its " + n.role, n.empty, fix})
			continue
		}
		if why := s.wrong(n.role, sig); why != "" {
			out = append(out, Lack{sig.Name + " " + why, n.empty, "declare another type or unit in the source's file, or another signal as the role"})
		}
	}
	if len(e.Ideal) == 0 {
		out = append(out, Lack{fmt.Sprintf("no ideal cycle for kind %q", e.Kind), []string{"production-rate.ideal_rate_per_hour", "oee.effectiveness_ratio", "oee.oee_ratio", "oee.nee_ratio"}, "write ideal_cycle_seconds, for each product: of its kind into the site file, or of its model or itself into the register"})
	}
	if _, ok := s.calendarSays(e.ID); !ok {
		out = append(out, s.noShifts(e.ID))
	}
	if e.Line == "" {
		out = append(out, Lack{"it is on no line", []string{"oee.line", "production-rate.line", "equipment-state.line"}, "write its line into the site file"})
	}
	return out
}

// unheard is why nothing at all is known of a machine.
func (s *Site) unheard(e *Equipment, heard Heard, signals int) []Lack {
	every := everything()
	switch {
	case len(heard[e.Source]) == 0:
		fix := "start its agent, or name the source as the agent's file does"
		if near := strict.Nearest(e.Source, slices.Sorted(maps.Keys(heard))); near != "" {
			fix = fmt.Sprintf("did you mean source %q? Else start its agent", near)
		}
		return []Lack{{fmt.Sprintf("source %q has said nothing", e.Source), every, fix}}
	case signals == 0:
		var prefixes []string
		for _, sig := range heard[e.Source] {
			// What another machine has is no proposal for one that was registered as like it.
			if of, _ := s.Signal(e.Source, sig.Name); of < 0 || e.Revision == 0 {
				prefixes = append(prefixes, prefixOf(sig.Name))
			}
		}
		fix := "name the beginning that its signals have"
		if near := strict.Nearest(e.Prefix, prefixes); near != "" {
			fix = fmt.Sprintf("did you mean signals_prefix %q?", near)
		}
		if e.Prefix == "" {
			return []Lack{{fmt.Sprintf("source %q has none of the signals that are named", e.Source), every, "name signals that the source has: plantmesh machines inbox lists those of nobody"}}
		}
		return []Lack{{fmt.Sprintf("source %q has no signal that begins with %q", e.Source, e.Prefix), every, fix}}
	}
	return nil
}

// suffix is the last part of the name of a role's signal.
func (s *Site) suffix(role string) string {
	for suffix, name := range s.names {
		if name == role {
			return suffix
		}
	}
	return role
}

// wrong says why a signal can't fill a role; empty: it can.
func (s *Site) wrong(role string, sig mesh.Signal) string {
	number, text := slices.Contains([]mesh.Type{mesh.TypeInt, mesh.TypeUint, mesh.TypeDouble}, sig.Type), sig.Type == mesh.TypeString
	switch role {
	case "state", "mode", "stop_reason":
		if !number {
			return fmt.Sprintf("is %s: a number is needed", sig.Type)
		}
	case "produced", "scrap":
		if !number {
			return fmt.Sprintf("is %s: a counter is needed", sig.Type)
		}
	case "energy":
		want := map[bool]string{true: "KJO", false: "KWH"}[s.EnergyInKJ]
		if !number {
			return fmt.Sprintf("is %s: a counter is needed", sig.Type)
		}
		if sig.Unit != "" && sig.Unit != want {
			return fmt.Sprintf("is in %s, and energy_unit of the site file says %s", sig.Unit, want)
		}
	case "order", "product":
		if !text && !number {
			return fmt.Sprintf("is %s: a text is needed", sig.Type)
		}
	}
	return ""
}

func prefixOf(name string) string { return name[:strings.LastIndexByte(name, '.')+1] }

// Unmapped are the signals that no machine has and that could make one, the likeliest first.
func (s *Site) Unmapped(heard Heard) []Candidate {
	out, taken := []Candidate{}, map[string]bool{}
	for _, source := range slices.Sorted(maps.Keys(heard)) {
		by := map[string]*Candidate{}
		for _, sig := range heard[source] {
			prefix := prefixOf(sig.Name)
			if i, _ := s.Signal(source, sig.Name); prefix == "" || i >= 0 {
				continue
			}
			c := by[prefix]
			if c == nil {
				c = &Candidate{Source: source, Prefix: prefix, Roles: []string{}}
				by[prefix] = c
			}
			c.Signals++
			if _, is := s.roles[sig.Name[len(prefix):]]; is {
				c.Roles = append(c.Roles, s.RoleName(nil, sig.Name))
			}
		}
		for _, prefix := range slices.Sorted(maps.Keys(by)) {
			c := by[prefix]
			slices.Sort(c.Roles)
			c.Roles = slices.Compact(c.Roles)
			c.Score = float64(len(c.Roles)) / float64(len(roleNames()))
			s.propose(c, taken)
			out = append(out, *c)
		}
	}
	slices.SortStableFunc(out, func(a, b Candidate) int { return len(b.Roles) - len(a.Roles) })
	return out
}

// propose says what a candidate may be called: the last part of the prefix is the machine,
// the one before it its line.
func (s *Site) propose(c *Candidate, taken map[string]bool) {
	parts := strings.Split(strings.TrimSuffix(c.Prefix, "."), ".")
	for i, part := range parts {
		if text, ok := subject.Unescape(part); ok {
			parts[i] = text
		}
	}
	c.Name = parts[len(parts)-1]
	c.Kind = subject.Token(c.Name)
	id := c.Kind
	if len(parts) > 1 {
		c.Line = subject.Token(parts[len(parts)-2])
		id = c.Line + "-" + c.Kind
	}
	c.ID = id
	for n := 2; s.Find(c.ID) != nil || taken[c.ID]; n++ {
		c.ID = fmt.Sprintf("%s-%d", id, n)
	}
	if i := s.awaited(c); i >= 0 && !taken[s.Planned[i].ID] {
		p := &s.Planned[i]
		c.ID, c.Line, c.Name, c.Planned = p.ID, p.Line, p.Name, true
		if p.Kind != "" {
			c.Kind = p.Kind
		}
	}
	taken[c.ID] = true
	if len(c.Roles) > 0 && !c.Planned {
		c.Proposal = fmt.Sprintf("- {id: %s, line: %s, name: %q, kind: %s, source: %q, signals_prefix: %q}", c.ID, c.Line, c.Name, c.Kind, c.Source, c.Prefix)
	}
}

// awaited is the planned machine that a candidate is, by its id, or by line and name; -1
// where none is.
func (s *Site) awaited(c *Candidate) int {
	return slices.IndexFunc(s.Planned, func(p Equipment) bool {
		return p.ID == c.ID || p.Line != "" && subject.Token(p.Line) == c.Line && subject.Token(p.Name) == subject.Token(c.Name)
	})
}
