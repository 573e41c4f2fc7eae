package product

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"plantmesh/proto/mesh"
)

// States of a machine's readiness.
const (
	StateReady   = "ready"
	StateLacking = "lacking"
	StatePlanned = "planned"
)

// checks are the lines of a machine's readiness, the same for each machine.
func (s *Site) checks(e *Equipment, found map[string]mesh.Signal, r *Readiness) []Check {
	calendar, shifts := s.calendarSays(e.ID)
	return []Check{
		identity(e), s.data(e, found, r), s.units(e, found), statesCheck(e, found), s.cadence(e, found),
		{"calendar", shifts, calendar},
		{"ideal_rate", len(e.Ideal) > 0, either(len(e.Ideal) > 0, "of "+some(e.Ideal), "no ideal cycle")},
		{"owner", e.Owner != "", either(e.Owner != "", e.Owner, "nobody answers for it")},
		{"external_ids", len(e.ExternalIDs) > 0, either(len(e.ExternalIDs) > 0, "in "+some(e.ExternalIDs), "no other system knows it")},
	}
}

// some are a few of the keys.
func some[V any](m map[string]V) string {
	keys := slices.Sorted(maps.Keys(m))
	if n := len(keys); n > 3 {
		return fmt.Sprintf("%s and %d more", strings.Join(keys[:3], ", "), n-3)
	}
	return strings.Join(keys, ", ")
}

func either(ok bool, yes, no string) string {
	if ok {
		return yes
	}
	return no
}

func identity(e *Equipment) Check {
	var none []string
	for _, x := range []struct{ what, is string }{{"name", e.Name}, {"line", e.Line}, {"kind", e.Kind + e.Model}} {
		if x.is == "" {
			none = append(none, x.what)
		}
	}
	return Check{"identity", len(none) == 0, either(len(none) == 0, e.Name+" on "+e.Line, "no "+strings.Join(none, ", no "))}
}

// data says whether what its model needs, or without one its state and its counter, is
// heard.
func (s *Site) data(e *Equipment, found map[string]mesh.Signal, r *Readiness) Check {
	if r.Signals == 0 {
		return Check{"data", false, r.Lacks[0].What}
	}
	want := []string{"state", "produced"}
	if m := s.Model(e.Model); m != nil {
		want = nil
		for _, p := range m.Properties {
			want = append(want, p.Role)
		}
	} else if e.Model != "" {
		return Check{"data", false, "there is no model " + e.Model}
	}
	var none []string
	for _, role := range want {
		if _, ok := found[role]; !ok {
			none = append(none, role)
		}
	}
	says := fmt.Sprintf("%d signals, %d of their roles", r.Signals, len(found))
	return Check{"data", len(none) == 0, either(len(none) == 0, says, says+"; no "+strings.Join(none, ", no "))}
}

func (s *Site) units(e *Equipment, found map[string]mesh.Signal) Check {
	var wrong []string
	for _, n := range needs() {
		sig, ok := found[n.role]
		if !ok {
			continue
		}
		why := s.wrong(n.role, sig)
		if want := s.property(e, n.role).Unit; why == "" && want != "" && sig.Unit != "" && want != sig.Unit {
			why = fmt.Sprintf("is in %s, and its model has %s", sig.Unit, want)
		}
		if why != "" {
			wrong = append(wrong, sig.Name+" "+why)
		}
	}
	return Check{"units", len(found) > 0 && len(wrong) == 0, either(len(found) > 0, either(len(wrong) == 0, "types and units are as needed", strings.Join(wrong, "; ")), "nothing is heard")}
}

// property is what its model says of a role; nothing where there is no model.
func (s *Site) property(e *Equipment, role string) Property {
	m := s.Model(e.Model)
	if m == nil {
		return Property{}
	}
	if i := slices.IndexFunc(m.Properties, func(p Property) bool { return p.Role == role }); i >= 0 {
		return m.Properties[i]
	}
	return Property{}
}

func statesCheck(e *Equipment, found map[string]mesh.Signal) Check {
	_, ok := found["state"]
	says := "its numbers are read as PackML states"
	if e.States != nil {
		says = fmt.Sprintf("%d numbers mean PackML states, others none", len(e.States))
	}
	return Check{"states", ok, either(ok, says, "no signal is its state")}
}

// cadence says whether signals promise to speak as often as the model wants; without one
// whether they promise anything.
func (s *Site) cadence(e *Equipment, found map[string]mesh.Signal) Check {
	var wrong []string
	promised := 0
	for _, n := range needs() {
		sig, ok := found[n.role]
		if !ok {
			continue
		}
		want, has := s.property(e, n.role).Every, time.Duration(sig.MaxSilence)
		if has > 0 {
			promised++
		}
		switch {
		case want > 0 && has == 0:
			wrong = append(wrong, fmt.Sprintf("%s says nothing of how long it may be silent, and its model wants %s", sig.Name, want))
		case want > 0 && has > want:
			wrong = append(wrong, fmt.Sprintf("%s may be silent for %s, and its model wants %s", sig.Name, has, want))
		}
	}
	switch {
	case len(wrong) > 0:
		return Check{"cadence", false, strings.Join(wrong, "; ")}
	case promised == 0:
		return Check{"cadence", false, "no signal says how long it may be silent: max_silence in the source's file"}
	}
	return Check{"cadence", true, fmt.Sprintf("%d signals say how long they may be silent", promised)}
}

// products says of each product how much of it can be made.
func products(lacks []Lack) map[string]string {
	out := map[string]string{}
	for _, id := range everything() {
		out[id] = "whole"
	}
	for _, l := range lacks {
		for _, what := range l.Empty {
			id, column, _ := strings.Cut(what, ".")
			switch {
			case column == "":
				out[id] = "empty"
			case out[id] == "whole":
				out[id] = "partial"
			}
		}
	}
	return out
}
