package product

import (
	"slices"
	"strings"
	"testing"
	"time"

	"plantmesh/proto/mesh"
)

const mappedSite = `site: graz
enterprise: acme
zone: Europe/Vienna
roles: {energy: energy_kj}
shifts: [{id: early, start: "06:00", end: "14:00"}]
ideal_cycle_seconds: {press: {bracket: 4.0}}
models:
  - id: lamp
    version: "1.0.0"
    states: {0: 2, 1: 6}
    ideal_cycle_seconds: {bracket: 5}
    properties:
      - {name: state, kind: measurement, role: state, every: 10s}
      - {name: energy, kind: measurement, role: energy, unit: KWH}
equipment:
  - {id: press-1, area: hall, line: l, name: Press, kind: press, source: a, signals_prefix: m.}
  - {id: press-2, line: l, name: Press, kind: press, source: b, signals_prefix: m., owner: anna, external_ids: {maximo: A-1}}
  - id: press-3
    line: l
    name: Press
    model: lamp@1.0.0
    source: a
    signals: {state: PLC7.Status, produced: PLC7.DB5.n}
  - id: press-4
    source: a
    signals_prefix: n.
    signals: {state: n.lamp}
    states: {1: 6, -3: 9}
`

// A signal belongs to a machine by its prefix or by its whole name, in its own source; a
// role that has a name is filled by nothing else.
func TestSite_SignalsAreMappedByPrefixOrOneByOne(t *testing.T) {
	s := site(t, mappedSite)
	for _, c := range []struct {
		source, name string
		of           string
		role         Role
		called       string
	}{
		{"a", "m.state", "press-1", RoleState, "state"},
		{"b", "m.state", "press-2", RoleState, "state"},
		{"c", "m.state", "", RoleOther, ""},
		{"a", "PLC7.Status", "press-3", RoleState, "state"},
		{"a", "PLC7.DB5.n", "press-3", RoleProduced, "produced"},
		{"b", "PLC7.Status", "", RoleOther, ""},
		{"a", "PLC7.state", "", RoleOther, ""},
		{"a", "n.lamp", "press-4", RoleState, "state"},
		{"a", "n.state", "press-4", RoleOther, "state"},
		{"a", "n.scrap", "press-4", RoleScrap, "scrap"},
	} {
		i, role := s.Signal(c.source, c.name)
		if of := s.Find(c.of); (i < 0) != (of == nil) || role != c.role || of != nil && (&s.Equipment[i] != of || s.RoleName(of, c.name) != c.called) {
			t.Errorf("%s of %s is role %d of %d", c.name, c.source, role, i)
		}
	}
	if e := s.Find("press-3"); e.Ideal["bracket"] != 5 || e.States[1] != 6 || s.Mapping(e) != "1.0.0" || s.Enterprise != "acme" || s.Find("press-1").Area != "hall" || s.Find("press-2").ExternalIDs["maximo"] != "A-1" {
		t.Errorf("%+v", e)
	}
}

// A machine's numbers mean PackML states; what means nothing is no state, and what is Bad
// or no number stays what it is.
func TestEquipment_StatesAreMapped(t *testing.T) {
	s := site(t, mappedSite)
	lamp, plain := s.Find("press-4"), s.Find("press-1")
	of := func(e *Equipment, role Role, v mesh.Value, st mesh.Status) Event {
		return e.EventOf(role, &mesh.Sample{Value: v, Status: st})
	}
	if e := of(lamp, RoleState, mesh.Int(-3), 0); e.Bits != 9 || e.Type != mesh.TypeInt || e.Status.IsBad() {
		t.Errorf("-3 is %+v", e)
	}
	if e := of(lamp, RoleState, mesh.Double(1), 0); e.Bits != 6 || e.Type != mesh.TypeInt {
		t.Errorf("1.0 is %+v", e)
	}
	if e := of(lamp, RoleState, mesh.Int(6), 0); !e.Status.IsBad() {
		t.Errorf("6 means nothing, and is %+v", e)
	}
	for _, e := range []Event{of(lamp, RoleMode, mesh.Int(1), 0), of(plain, RoleState, mesh.Int(1), 0)} {
		if e.Bits != 1 || e.Status != 0 {
			t.Errorf("changed: %+v", e)
		}
	}
	if e := of(lamp, RoleState, mesh.Int(1), mesh.StatusBadNoData); !e.Status.IsBad() {
		t.Errorf("a Bad one is %+v", e)
	}
	other := site(t, strings.Replace(mappedSite, "-3: 9", "-3: 8", 1))
	if s.SameMapping(lamp, other, other.Find("press-4")) || !s.SameMapping(plain, other, other.Find("press-1")) {
		t.Error("a change of states is none of the mapping, or one of another machine")
	}
}

// What the hub registered stands behind the file, in one line, and its faults name the
// machine.
func TestParseSite_WithARegister(t *testing.T) {
	const good = `{"version":4,"machines":[{"id":"press-5","line":"l2","name":"Fünf","source":"c","signals_prefix":"m.","model":"new@2.0.0","states":{"-1":9,"7":6},"revision":3},{"id":"press-6","line":"l2","name":"Sechs","revision":4}],` +
		`"models":[{"id":"new","version":"2.0.0","properties":[{"name":"state","kind":"measurement","role":"state","need":true}]}]}`
	s := site(t, mappedSite+"registered: "+good+"\n")
	e := s.Find("press-5")
	if e == nil || e.Revision != 3 || s.Mapping(e) != "1.0.0+3" || e.States[-1] != 9 || e.Name != "Fünf" || s.Registered != 4 || len(s.Planned) != 1 || s.Planned[0].ID != "press-6" || s.Find("press-6") != nil {
		t.Fatalf("%+v %+v", e, s.Planned)
	}
	if again := site(t, mappedSite); again.Find("press-5") != nil || len(again.Equipment) != 4 {
		t.Error("a register is in another site")
	}
	for what, c := range map[string]struct{ old, now, want string }{
		"twice":        {"press-5", "press-1", `equipment "press-1" stands in the site file and is registered at the hub, too: take it out of one of them`},
		"same signals": {`"source":"c"`, `"source":"a"`, `"m." of source a stands twice: press-1 and press-5 can't have the same signals`},
		"no states":    {`"-1":9`, `"run":9`, `"run" is no number that a state signal can show`},
		"no state":     {`"-1":9`, `"-1":90`, `-1 can't mean 90: PackML has the states 0 to 17, 6 is execute and 2 stopped`},
		"unknown":      {`"line":"l2","name":"F`, `"lane":"l2","name":"F`, `the register behind it can't be read: json: unknown field "lane"`},
		"no prefix":    {`"signals_prefix":"m."`, `"signals_prefix":""`, `equipment needs an id, a source and a signals_prefix`},
	} {
		_, err := ParseSite("site.yaml", []byte(mappedSite+"registered: "+strings.Replace(good, c.old, c.now, 1)))
		if err == nil || err.Error() != "site.yaml: "+c.want {
			t.Errorf("%s: %v\nwant %s", what, err, c.want)
		}
	}
	for what, c := range map[string]struct{ old, now, want string }{
		"unknown role": {"state: n.lamp", "stat: n.lamp", `unknown role "stat"; did you mean "state"?`},
		"taken":        {"state: n.lamp", "state: PLC7.Status", `signal "PLC7.Status" of source a is the state of press-3 already: a signal fills one role`},
		"two roles":    {"state: n.lamp", "state: n.lamp, mode: n.lamp", `signal "n.lamp" of source a is the mode of press-4 already: a signal fills one role`},
		"model twice":  {"equipment:", "  - {id: lamp, version: \"1.0.0\"}\nequipment:", "model lamp@1.0.0 stands twice"},
	} {
		_, err := ParseSite("site.yaml", []byte(strings.Replace(mappedSite, c.old, c.now, 1)))
		if err == nil || !strings.HasSuffix(err.Error(), ": "+c.want) {
			t.Errorf("%s: %v\nwant %s", what, err, c.want)
		}
	}
}

// The readiness of a machine has the same lines for each, and says of each product how
// much of it can be made.
func TestReadiness_Matrix(t *testing.T) {
	s := site(t, mappedSite+`registered: {"version":1,"machines":[{"id":"press-6","line":"l2","name":"Sechs","revision":1},{"id":"press-7","line":"l3","name":"Sieben","source":"b","signals_prefix":"n.","revision":1}]}`+"\n")
	heard := Heard{
		"b": whole("m."),
		"a": {
			{Name: "PLC7.Status", Type: mesh.TypeInt, MaxSilence: mesh.Nanos(time.Minute)},
			{Name: "PLC7.DB5.n", Type: mesh.TypeInt},
			{Name: "PLC7.DB5.m", Type: mesh.TypeInt},
		},
	}
	by := map[string]Readiness{}
	for _, r := range s.Readiness(heard) {
		by[r.Equipment] = r
		var names []string
		for _, c := range r.Checks {
			names = append(names, c.Check)
			if c.Says == "" {
				t.Errorf("%s: %s says nothing", r.Equipment, c.Check)
			}
		}
		if want := []string{"identity", "data", "units", "states", "cadence", "calendar", "ideal_rate", "owner", "external_ids"}; !slices.Equal(names, want) {
			t.Errorf("%s has %q", r.Equipment, names)
		}
	}
	wrong := func(id string) (out []string) {
		for _, c := range by[id].Checks {
			if !c.OK {
				out = append(out, c.Check)
			}
		}
		return out
	}
	for id, want := range map[string]struct {
		state string
		wrong []string
		oee   string
	}{
		"press-1": {StateLacking, []string{"data", "units", "states", "cadence", "owner", "external_ids"}, "empty"},
		"press-2": {StateReady, []string{"cadence"}, "whole"},
		"press-3": {StateLacking, []string{"data", "cadence", "owner", "external_ids"}, "partial"},
		"press-6": {StatePlanned, []string{"identity", "data", "units", "states", "cadence", "ideal_rate", "owner", "external_ids"}, "empty"},
	} {
		r := by[id]
		if r.State != want.state || r.Products["oee"] != want.oee || !slices.Equal(wrong(id), want.wrong) {
			t.Errorf("%s: %s, oee %s, not in order %q", id, r.State, r.Products["oee"], wrong(id))
		}
	}
	// One that was registered before its signals came is not told to take another one's.
	if r := by["press-7"]; r.State != StatePlanned || strings.Contains(r.Lacks[0].Remedy, `"m."`) {
		t.Errorf("%+v", r)
	}
	if says := by["press-3"].Checks[4].Says; !strings.Contains(says, "PLC7.Status may be silent for 1m0s, and its model wants 10s") {
		t.Errorf("cadence says %s", says)
	}
	// What was planned is found again by the line and the machine in its signals' names.
	got := s.Unmapped(Heard{"d": whole("l2.sechs.")})
	if len(got) != 1 || !got[0].Planned || got[0].ID != "press-6" || got[0].Name != "Sechs" || got[0].Proposal != "" {
		t.Errorf("%+v", got)
	}
}
