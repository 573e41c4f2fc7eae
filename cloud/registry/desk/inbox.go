package desk

import (
	"cmp"
	"fmt"
	"net/http"
	"slices"

	"plantmesh/cloud/registry/plant"
)

func (d *Machines) inbox(w http.ResponseWriter, r *http.Request) {
	l, ok := d.look(w, r)
	if !ok {
		return
	}
	if err := d.May(r, ReadMachines, l.Site); err != nil { // signals of nobody are of no line
		problem(w, http.StatusForbidden, err.Error())
		return
	}
	answer(w, map[string]any{"version": l.Scene.Register.Version, "data": l.Inbox})
}

// approval is a candidate that is a machine.
type approval struct {
	Source string `json:"source"`
	Prefix string `json:"signals_prefix"`
	// What it is to be called and of, where that is not what the inbox proposes.
	ID          string            `json:"id"`
	Line        string            `json:"line"`
	Area        string            `json:"area"`
	Name        string            `json:"name"`
	Kind        string            `json:"kind"`
	Model       string            `json:"model"` // id or id@version; empty: the one that fits best; "none"
	Owner       string            `json:"owner"`
	ExternalIDs map[string]string `json:"external_ids"`
}

func (d *Machines) approve(w http.ResponseWriter, r *http.Request) {
	var q struct {
		asked
		approval

		Machines []approval `json:"machines"` // several at once, instead
	}
	if !d.read(w, r, &q) {
		return
	}
	if len(q.Machines) == 0 {
		q.Machines = []approval{q.approval}
	}
	l, err := d.Plant.Look(r.Context())
	if err != nil {
		d.fail(w, r, err)
		return
	}
	d.change(w, r, "machine.add", q.asked, func(s plant.Scene) (plant.Delta, error) {
		var out []plant.Machine
		for _, a := range q.Machines {
			m, err := a.machine(s, l.Inbox)
			if err != nil {
				return plant.Delta{}, err
			}
			out = append(out, m)
		}
		return s.Add(out...)
	})
}

func (a *approval) machine(s plant.Scene, inbox []Candidate) (m plant.Machine, err error) {
	i := slices.IndexFunc(inbox, func(c Candidate) bool { return c.Source == a.Source && c.Prefix == a.Prefix })
	if i < 0 {
		return m, fmt.Errorf("%w the inbox: source %q, signals_prefix %q; a machine has them, or nobody said them yet", plant.ErrNotIn, a.Source, a.Prefix)
	}
	c := &inbox[i]
	m = plant.Machine{ID: c.ID, Line: c.Line, Name: c.Name, Kind: c.Kind, Source: c.Source, SignalsPrefix: c.Prefix, Area: a.Area, Owner: a.Owner, ExternalIDs: a.ExternalIDs}
	for _, x := range []struct {
		to *string
		is string
	}{{&m.ID, a.ID}, {&m.Line, a.Line}, {&m.Name, a.Name}, {&m.Kind, a.Kind}} {
		if x.is != "" {
			*x.to = x.is
		}
	}
	model := a.Model
	if was := s.Register.Find(m.ID); was != nil { // what was planned of it stays
		m.Line, m.Name, m.Kind = cmp.Or(a.Line, was.Line, m.Line), cmp.Or(a.Name, was.Name, m.Name), cmp.Or(a.Kind, was.Kind, m.Kind)
		model = cmp.Or(model, was.Model)
	}
	if model == "" && c.Model != nil {
		model = c.Model.Model
	}
	if model == "" || model == "none" {
		return m, nil
	}
	of, err := s.ModelOf(model)
	if err != nil {
		return m, err
	}
	m.Model = of.Ref()
	for role, name := range of.Match(c.Heard).Roles {
		if slices.Contains(c.Roles, role) {
			continue // its name says so already
		}
		if m.Signals == nil {
			m.Signals = map[string]string{}
		}
		m.Signals[role] = c.Prefix + name
	}
	return m, nil
}
