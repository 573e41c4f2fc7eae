// Package plant is the register of machines: those that were registered at the hub, beside
// the ones of its site file, and the models that they are of. It is pure: a change makes
// another register, and what the products use is the site file with the register behind it.
//
//	inbox, CSV, clone, API ──► Delta ──► Register.Apply ──► Merge(site file, register) ──► fact
package plant

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"plantmesh/proto/subject"
)

// Errors of changes.
var (
	// ErrRefused is returned for what can't be registered as asked; a Faults says where.
	ErrRefused = errors.New("not registered")
	// ErrUnknown is returned for a machine or a model that the register hasn't.
	ErrUnknown = errors.New("not in the register")
	// ErrNotIn is returned for what is to be taken from where it isn't.
	ErrNotIn = errors.New("not in")
	// ErrVersion is returned for a change of a register that somebody else has changed
	// since it was read.
	ErrVersion = errors.New("the register has changed meanwhile: read it again")
)

// Bounds of a register; with them it stays below what a site file may be.
const (
	MaxMachines = 2000
	MaxModels   = 200
	maxText     = 200
	maxEntries  = 64 // of a map, or a list in a model
	maxStates   = 256
)

// Machine is a machine of the register, in the words of the site file.
type Machine struct {
	ID                string             `json:"id"`
	Area              string             `json:"area,omitempty"`
	Line              string             `json:"line,omitempty"`
	Name              string             `json:"name,omitempty"`
	Kind              string             `json:"kind,omitempty"`
	Model             string             `json:"model,omitempty"` // id@version
	Owner             string             `json:"owner,omitempty"`
	Source            string             `json:"source,omitempty"` // empty: planned, not yet matched
	SignalsPrefix     string             `json:"signals_prefix,omitempty"`
	ExternalIDs       map[string]string  `json:"external_ids,omitempty"`        // by system
	Signals           map[string]string  `json:"signals,omitempty"`             // whole names by role
	States            map[string]int64   `json:"states,omitempty"`              // PackML states by the machine's number
	IdealCycleSeconds map[string]float64 `json:"ideal_cycle_seconds,omitempty"` // by product
	Revision          int64              `json:"revision,omitempty"`            // the register's, of its last change
}

// Location is where a machine is, for who may do what: site/line/machine.
func (m *Machine) Location(site string) string {
	if m.Line == "" {
		return site + "/" + m.ID
	}
	return site + "/" + m.Line + "/" + m.ID
}

// Register is machines, models and calendars, sorted. It never changes: Apply makes another.
type Register struct {
	Version   int64      `json:"version"` // grows with each change
	Machines  []Machine  `json:"machines,omitempty"`
	Models    []Model    `json:"models,omitempty"`
	Calendars []Calendar `json:"calendars,omitempty"`
}

// Find is the machine of an id; nil where there is none.
func (r *Register) Find(id string) *Machine {
	for i := range r.Machines {
		if r.Machines[i].ID == id {
			return &r.Machines[i]
		}
	}
	return nil
}

// Delta is a change: what is put in the place of what had its id, and what goes.
type Delta struct {
	Put       []Machine
	Retire    []string
	Models    []Model
	Calendars []Calendar
	Drop      []string // calendars
}

// Empty says whether nothing changes.
func (d *Delta) Empty() bool {
	return len(d.Put)+len(d.Retire)+len(d.Models)+len(d.Calendars)+len(d.Drop) == 0
}

// Apply is the register after a change, as a version of it. What the change retires need
// not be there: it is applied to what held at other times, too.
func (r *Register) Apply(d Delta, version int64) (Register, error) {
	out := Register{Version: version, Machines: slices.Clone(r.Machines), Models: slices.Clone(r.Models), Calendars: slices.Clone(r.Calendars)}
	for _, id := range d.Retire {
		out.Machines = slices.DeleteFunc(out.Machines, func(m Machine) bool { return m.ID == id })
	}
	for _, m := range d.Put {
		m.Revision = version
		if was := out.Find(m.ID); was != nil {
			*was = m
			continue
		}
		out.Machines = append(out.Machines, m)
	}
	for _, m := range d.Models {
		out.Models = slices.DeleteFunc(out.Models, func(o Model) bool { return o.Ref() == m.Ref() })
		out.Models = append(out.Models, m)
	}
	slices.SortFunc(out.Machines, func(a, b Machine) int { return strings.Compare(a.ID, b.ID) })
	slices.SortFunc(out.Models, compareModels)
	d.applyCalendars(&out)
	if len(out.Machines) > MaxMachines || len(out.Models) > MaxModels || len(out.Calendars) > maxCalendars {
		return out, fmt.Errorf("%w: a hub registers at most %d machines, %d models and %d calendars", ErrRefused, MaxMachines, MaxModels, maxCalendars)
	}
	return out, nil
}

// With is the register with models of these names, of those that there are: of machines of
// the site file. missing has none.
func (r *Register) With(names []string, builtin []Model) (out Register, missing string) {
	out = *r
	out.Models = slices.Clone(r.Models)
	known := r.Known(builtin)
	for _, name := range names {
		i := slices.IndexFunc(known, func(m Model) bool { return m.Ref() == name })
		switch {
		case i < 0 && missing == "":
			missing = name
		case i >= 0 && !slices.ContainsFunc(out.Models, func(m Model) bool { return m.Ref() == name }):
			out.Models = append(out.Models, known[i])
		}
	}
	slices.SortFunc(out.Models, compareModels)
	return out, missing
}

// Refs are the names of models.
func Refs(models []Model) []string { return refs(models) }

// mark stands between the site file and the register in what the products use.
const mark = "registered: "

// Merge is a site file with the register behind it, in one line. Without anything ever
// registered, and no model that the file's machines need, it is the file.
func Merge(site []byte, r Register) ([]byte, error) {
	for line := range bytes.Lines(site) {
		if bytes.HasPrefix(line, []byte(strings.TrimRight(mark, " "))) {
			return nil, fmt.Errorf("%w: the site file has a key registered, which is the hub's own: take it out", ErrRefused)
		}
	}
	if r.Version == 0 && len(r.Models) == 0 {
		return site, nil
	}
	b, err := json.Marshal(r)
	if err != nil {
		return nil, fmt.Errorf("write the register: %w", err)
	}
	out := bytes.Clone(site)
	if len(out) > 0 && out[len(out)-1] != '\n' {
		out = append(out, '\n')
	}
	return append(append(append(out, mark...), b...), '\n'), nil
}

// Split is what Merge joined.
func Split(merged []byte) (site []byte, r Register, err error) {
	i := bytes.LastIndex(merged, []byte("\n"+mark))
	if i < 0 {
		return merged, r, nil
	}
	dec := json.NewDecoder(bytes.NewReader(merged[i+1+len(mark):]))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&r); err != nil {
		return nil, r, fmt.Errorf("read the register: %w", err)
	}
	return merged[:i+1], r, nil
}

// Same says whether two site files say the same, an end of line at their end aside.
func Same(a, b []byte) bool {
	return bytes.Equal(bytes.TrimRight(a, "\n"), bytes.TrimRight(b, "\n"))
}

// Fault is what is wrong with one field of one thing.
type Fault struct {
	Row   int    `json:"row,omitempty"` // of a table, as spreadsheets count: the head is row 1
	ID    string `json:"id,omitempty"`
	Field string `json:"field,omitempty"`
	What  string `json:"what"`
}

func (f Fault) String() string {
	var at []string
	if f.Row > 0 {
		at = append(at, "row "+strconv.Itoa(f.Row))
	}
	for _, s := range []string{f.ID, f.Field} {
		if s != "" {
			at = append(at, s)
		}
	}
	if len(at) == 0 {
		return f.What
	}
	return strings.Join(at, ", ") + ": " + f.What
}

// Faults are an ErrRefused with all that is wrong.
type Faults []Fault //nolint:errname // they are faults, and read so at every use

func (f Faults) Error() string {
	var b strings.Builder
	b.WriteString(ErrRefused.Error())
	for i, x := range f {
		if i == 5 && len(f) > 6 {
			fmt.Fprintf(&b, "; and %d more", len(f)-i)
			break
		}
		b.WriteString(map[bool]string{true: ": ", false: "; "}[i == 0] + x.String())
	}
	return b.String()
}

// Is makes it an ErrRefused.
func (f Faults) Is(target error) bool { return target == ErrRefused }

func (f Faults) err() error {
	if len(f) == 0 {
		return nil
	}
	return f
}

// roles are what signals mean to the products, in the words of the site file.
func roles() []string {
	return []string{"energy", "mode", "order", "produced", "product", "scrap", "state", "stop_reason"}
}

// Name says whether a text may be the id of a machine or a line: a part of a subject.
func Name(s string) bool { return s != "" && len(s) <= 63 && s != "-" && subject.Token(s) == s }

// Check says what is wrong with a machine; models are those that there are.
func (m *Machine) Check(models []Model) (out Faults) {
	fault := func(field, format string, args ...any) {
		out = append(out, Fault{ID: m.ID, Field: field, What: fmt.Sprintf(format, args...)})
	}
	if !Name(m.ID) {
		fault("id", "%q is no id: small letters, digits, - and _, at most 63", m.ID)
	}
	if m.Line != "" && !Name(m.Line) {
		fault("line", "%q is no line: small letters, digits, - and _, at most 63", m.Line)
	}
	for _, x := range []struct{ field, is string }{{"area", m.Area}, {"name", m.Name}, {"kind", m.Kind}, {"owner", m.Owner}, {"source", m.Source}, {"signals_prefix", m.SignalsPrefix}} {
		if !text(x.is) {
			fault(x.field, "is longer than %d bytes, or has more than one line", maxText)
		}
	}
	switch {
	case m.Source == "" && (m.SignalsPrefix != "" || len(m.Signals) > 0):
		fault("source", "is missing: whose signals are they? A machine that is only planned has neither")
	case m.Source != "" && m.SignalsPrefix == "" && len(m.Signals) == 0:
		fault("signals_prefix", "is missing: what do its signals begin with? Signals by role do, too")
	case m.SignalsPrefix != "" && !strings.HasSuffix(m.SignalsPrefix, "."):
		fault("signals_prefix", "%q must end with a dot: the role follows it", m.SignalsPrefix)
	}
	if m.Model != "" && !slices.ContainsFunc(models, func(o Model) bool { return o.Ref() == m.Model }) {
		fault("model", "there is no model %q; there are %s", m.Model, strings.Join(refs(models), ", "))
	}
	out = append(out, m.checkMaps()...)
	return out
}

func (m *Machine) checkMaps() (out Faults) {
	fault := func(field, format string, args ...any) {
		out = append(out, Fault{ID: m.ID, Field: field, What: fmt.Sprintf(format, args...)})
	}
	if len(m.ExternalIDs) > maxEntries || len(m.IdealCycleSeconds) > maxEntries*4 || len(m.States) > maxStates {
		fault("", "has more entries than %d external ids, %d products or %d states", maxEntries, maxEntries*4, maxStates)
		return out
	}
	for _, system := range slices.Sorted(maps.Keys(m.ExternalIDs)) {
		if !Name(system) || m.ExternalIDs[system] == "" || !text(m.ExternalIDs[system]) {
			fault("external_ids", "%s: %q is no id of another system, as maximo: A-4711", system, m.ExternalIDs[system])
		}
	}
	for _, role := range slices.Sorted(maps.Keys(m.Signals)) {
		if !slices.Contains(roles(), role) || m.Signals[role] == "" || !text(m.Signals[role]) {
			fault("signals", "%s: %q is no signal of a role; roles are %s", role, m.Signals[role], strings.Join(roles(), ", "))
		}
	}
	out = append(out, checkStates(m.ID, m.States)...)
	return append(out, checkIdeal(m.ID, m.IdealCycleSeconds)...)
}

func checkStates(id string, states map[string]int64) (out Faults) {
	for _, raw := range slices.Sorted(maps.Keys(states)) {
		if _, err := strconv.ParseInt(raw, 10, 64); err != nil || states[raw] < 0 || states[raw] > 17 {
			out = append(out, Fault{ID: id, Field: "states", What: fmt.Sprintf("%q: %d says no PackML state, 0 to 17, of a number", raw, states[raw])})
		}
	}
	return out
}

func checkIdeal(id string, ideal map[string]float64) (out Faults) {
	for _, p := range slices.Sorted(maps.Keys(ideal)) {
		if s := ideal[p]; !(s > 0) || s > 1e9 || p == "" || !text(p) {
			out = append(out, Fault{ID: id, Field: "ideal_cycle_seconds", What: fmt.Sprintf("%v seconds for %q is no cycle", s, p)})
		}
	}
	return out
}

// text says whether a text is one bounded line.
func text(s string) bool {
	return len(s) <= maxText && !strings.ContainsFunc(s, func(r rune) bool {
		return r < ' ' || r == 0x7f || r == '�' || r == '\u2028' || r == '\u2029' || r == 0x85
	})
}
