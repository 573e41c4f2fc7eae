package product

import (
	"slices"
	"strings"
	"testing"

	"plantmesh/proto/mesh"
)

const readySite = `site: graz
zone: Europe/Vienna
shifts: [{id: early, start: "06:00", end: "14:00"}]
energy_unit: kJ
roles: {energy: energy_kj}
ideal_cycle_seconds: {press: {bracket: 4.0}}
equipment:
  - {id: press-1, line: hall1, name: Press, kind: press, source: press, signals_prefix: hall1.press.}
  - {id: press-2, line: hall1, name: Press, kind: saw, source: press, signals_prefix: hall1.saw.}
  - {id: press-3, line: hall1, name: Press, kind: press, source: press, signals_prefix: hall1.pres.}
  - {id: press-4, line: hall1, name: Press, kind: press, source: pres, signals_prefix: hall2.press.}
`

// whole are signals of all roles.
func whole(prefix string) (out []mesh.Signal) {
	for name, t := range map[string]mesh.Type{
		"state": mesh.TypeInt, "mode": mesh.TypeInt, "produced": mesh.TypeUint, "scrap": mesh.TypeUint, "order": mesh.TypeString, "product": mesh.TypeString,
		"stop_reason": mesh.TypeInt, "energy_kj": mesh.TypeDouble, "speed": mesh.TypeDouble,
	} {
		out = append(out, mesh.Signal{ID: uint32(len(out) + 1), Name: prefix + name, Type: t})
	}
	return out
}

func TestReadiness(t *testing.T) {
	s, err := ParseSite("site.yaml", []byte(readySite))
	if err != nil {
		t.Fatal(err)
	}
	saw := []mesh.Signal{{Name: "hall1.saw.state", Type: mesh.TypeString}, {Name: "hall1.saw.energy_kj", Type: mesh.TypeDouble, Unit: "KWH"}}
	got := s.Readiness(Heard{"press": append(whole("hall1.press."), saw...)})
	if r := got[0]; r.Signals != 9 || len(r.Roles) != 8 || len(r.Lacks) != 0 {
		t.Errorf("a machine that has all: %+v", r)
	}
	for i, want := range map[int][]string{
		1: {"hall1.saw.state is string: a number is needed", "no signal is its produced", "no signal is its scrap", "no signal is its mode", "no signal is its product", "no signal is its order", "no signal is its stop_reason", "hall1.saw.energy_kj is in KWH, and energy_unit of the site file says KJO", `no ideal cycle for kind "saw"`},
		2: {`source "press" has no signal that begins with "hall1.pres."`},
		3: {`source "pres" has said nothing`},
	} {
		var said []string
		for _, l := range got[i].Lacks {
			said = append(said, l.What)
		}
		if !slices.Equal(said, want) {
			t.Errorf("machine %d lacks\n%q, want\n%q", i+1, said, want)
		}
	}
	if fix := got[2].Lacks[0].Remedy + got[3].Lacks[0].Remedy; !strings.Contains(fix, `"hall1.press."`) || !strings.Contains(fix, `source "press"`) {
		t.Errorf("what was meant is not named: %s", fix)
	}
}

// What stays empty are columns that there are.
func TestReadiness_NamesColumns(t *testing.T) {
	all, err := Definitions()
	if err != nil {
		t.Fatal(err)
	}
	s, err := ParseSite("site.yaml", []byte(strings.NewReplacer("ideal_cycle_seconds: {press: {bracket: 4.0}}\n", "", `shifts: [{id: early, start: "06:00", end: "14:00"}]`+"\n", "", "line: hall1, name", "name").Replace(readySite)))
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range s.Readiness(Heard{"press": {{Name: "hall1.press.speed"}}}) {
		for _, l := range r.Lacks {
			for _, e := range l.Empty {
				id, column, _ := strings.Cut(e, ".")
				i := slices.IndexFunc(all, func(d *Definition) bool { return d.ID == id })
				if i < 0 || column != "" && !slices.Contains(all[i].Columns, column) {
					t.Errorf("%q: there is no %s", l.What, e)
				}
			}
			if l.Remedy == "" || len(l.Empty) == 0 {
				t.Errorf("%q says neither what stays empty nor what to do", l.What)
			}
		}
	}
}

func TestUnmapped(t *testing.T) {
	s, err := ParseSite("site.yaml", []byte(readySite))
	if err != nil {
		t.Fatal(err)
	}
	got := s.Unmapped(Heard{
		"press":  append(whole("hall1.press."), mesh.Signal{Name: "hall1.oven.temperature"}),
		"packer": append(whole("Werk%202.Packer."), mesh.Signal{Name: "alone"}),
	})
	if len(got) != 2 || got[0].Prefix != "Werk%202.Packer." || got[0].Score != 1 || got[1].Prefix != "hall1.oven." || got[1].Score != 0 {
		t.Fatalf("%+v", got)
	}
	// A proposal is a line that the site file takes, and then nothing is left.
	more := []byte(readySite)
	for _, c := range got {
		if c.Proposal != "" {
			more = append(more, "  "+c.Proposal+"\n"...)
		}
	}
	s, err = ParseSite("site.yaml", more)
	if err != nil {
		t.Fatalf("%v\n%s", err, more)
	}
	if e := s.Find("werk-2-packer"); e == nil || e.Line != "werk-2" || e.Source != "packer" || got[1].Proposal != "" {
		t.Errorf("%+v", e)
	}
	if left := s.Unmapped(Heard{"packer": whole("Werk%202.Packer.")}); len(left) != 0 {
		t.Errorf("left: %+v", left)
	}
}
