package plant

import (
	"errors"
	"math/rand/v2"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
)

func check(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}

func builtins(t *testing.T) []Model {
	t.Helper()
	out, err := Builtin()
	check(t, err)
	if len(out) < 2 {
		t.Fatalf("%d models are built in", len(out))
	}
	return out
}

// scene is a line of two machines in the register, and one of the site file.
func scene(t *testing.T) Scene {
	t.Helper()
	s := Scene{Models: builtins(t), File: []Machine{{ID: "line1-press", Line: "line1", Name: "Press", Source: "line1", SignalsPrefix: "line1.press."}}}
	r, err := s.Register.Apply(Delta{Put: []Machine{
		{ID: "line6-filler", Line: "line6", Name: "Filler", Source: "line6-opcua", SignalsPrefix: "line6.filler.", Model: "packml-machine@1.1.0", ExternalIDs: map[string]string{"maximo": "A-6"}, States: map[string]int64{"1": 6}},
		{ID: "line6-capper", Line: "line6", Name: "Capper", Source: "line6-opcua", Signals: map[string]string{"state": "line6.PLC.7", "produced": "PLC.8"}},
		{ID: "line6-washer", Line: "line6", Name: "Washer"},
	}}, 1)
	check(t, err)
	s.Register = r
	return s
}

func TestMerge_SplitsAgain(t *testing.T) {
	r := scene(t).Register
	for _, site := range []string{"site: graz\n", "site: graz\r\n", "# registered: no\nsite: graz\n"} {
		text, err := Merge([]byte(site), r)
		check(t, err)
		file, again, err := Split(text)
		if err != nil || string(file) != site || !reflect.DeepEqual(again, r) {
			t.Errorf("%q: %q %+v %v", site, file, again, err)
		}
	}
	text, err := Merge([]byte("site: graz"), r)
	check(t, err)
	if file, _, err := Split(text); err != nil || string(file) != "site: graz\n" {
		t.Errorf("without its last end of line: %q %v", file, err)
	}
	if text, err := Merge([]byte("site: graz"), Register{}); err != nil || string(text) != "site: graz" {
		t.Errorf("with nothing ever registered: %q %v", text, err)
	}
	for _, own := range []string{"registered: {}\n", "site: graz\nregistered:\n"} {
		if _, err := Merge([]byte(own), r); !errors.Is(err, ErrRefused) {
			t.Errorf("%q: %v", own, err)
		}
	}
	for _, bad := range []string{"site: graz\nregistered: {\"version\": 1, \"lines\": 3}\n", "site: graz\nregistered: [\n"} {
		if _, _, err := Split([]byte(bad)); err == nil {
			t.Errorf("%q is a register", bad)
		}
	}
}

func TestScene_Add(t *testing.T) {
	s := scene(t)
	good := Machine{ID: "line7-filler", Line: "line7", Source: "x", SignalsPrefix: "a."}
	if d, err := s.Add(good); err != nil || len(d.Put) != 1 {
		t.Fatalf("%+v %v", d, err)
	}
	for what, c := range map[string]struct {
		change func(*Machine)
		want   string
	}{
		"in the file":  {func(m *Machine) { m.ID = "line1-press" }, "line1-press, id: stands in the site file: take it out there, or change it there"},
		"there":        {func(m *Machine) { m.ID = "line6-capper" }, "line6-capper, id: is registered already: change it instead"},
		"id":           {func(m *Machine) { m.ID = "Line 7" }, `Line 7, id: "Line 7" is no id: small letters, digits, - and _, at most 63`},
		"line":         {func(m *Machine) { m.Line = "a.b" }, `line: "a.b" is no line`},
		"long":         {func(m *Machine) { m.Name = strings.Repeat("x", 201) }, "name: is longer than 200 bytes"},
		"lines":        {func(m *Machine) { m.Owner = "a\nb" }, "owner: is longer than 200 bytes, or has more than one line"},
		"no source":    {func(m *Machine) { m.Source = "" }, "source: is missing"},
		"no signals":   {func(m *Machine) { m.SignalsPrefix = "" }, "signals_prefix: is missing"},
		"no dot":       {func(m *Machine) { m.SignalsPrefix = "a" }, `"a" must end with a dot`},
		"model":        {func(m *Machine) { m.Model = "press@1.0.0" }, `there is no model "press@1.0.0"; there are counter-machine@1.1.0, packml-machine@1.1.0`},
		"role":         {func(m *Machine) { m.Signals = map[string]string{"speed": "a.b"} }, `speed: "a.b" is no signal of a role`},
		"state":        {func(m *Machine) { m.States = map[string]int64{"1": 18} }, `"1": 18 says no PackML state`},
		"number":       {func(m *Machine) { m.States = map[string]int64{"run": 6} }, `"run": 6 says no PackML state`},
		"cycle":        {func(m *Machine) { m.IdealCycleSeconds = map[string]float64{"a": 0} }, `0 seconds for "a" is no cycle`},
		"external ids": {func(m *Machine) { m.ExternalIDs = map[string]string{"Maximo": "1"} }, `Maximo: "1" is no id of another system`},
	} {
		m := good
		c.change(&m)
		if _, err := s.Add(m); !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v\nwant %s", what, err, c.want)
		}
	}
	if _, err := s.Add(good, good); !errors.Is(err, ErrRefused) {
		t.Errorf("twice: %v", err)
	}
	// One that is planned becomes that machine, and keeps what was planned of it.
	d, err := s.Add(Machine{ID: "line6-washer", Source: "w", SignalsPrefix: "w."})
	if err != nil || d.Put[0].Name != "Washer" || d.Put[0].Line != "line6" || d.Put[0].Source != "w" {
		t.Errorf("%+v %v", d, err)
	}
}

func TestScene_ChangeRetireUpgrade(t *testing.T) {
	s := scene(t)
	m := *s.Register.Find("line6-filler")
	m.Owner = "anna"
	d, err := s.Change(m)
	check(t, err)
	next, err := s.Register.Apply(d, 2)
	check(t, err)
	if got := next.Find(m.ID); got.Owner != "anna" || got.Revision != 2 || s.Register.Find(m.ID).Owner != "" || next.Find("line6-capper").Revision != 1 {
		t.Errorf("%+v", got)
	}
	for id, want := range map[string]error{"line1-press": ErrRefused, "nobody": ErrUnknown} {
		if _, err := s.Change(Machine{ID: id}); !errors.Is(err, want) {
			t.Errorf("change %s: %v", id, err)
		}
		if _, err := s.Retire(id); !errors.Is(err, want) {
			t.Errorf("retire %s: %v", id, err)
		}
	}
	d, err = s.Retire("line6-capper")
	check(t, err)
	if next, err = s.Register.Apply(d, 3); err != nil || next.Find("line6-capper") != nil || len(next.Machines) != 2 {
		t.Errorf("%+v %v", next, err)
	}
	two := s.Models[slices.IndexFunc(s.Models, func(m Model) bool { return m.ID == "packml-machine" })]
	if _, err := s.AddModel(two); !errors.Is(err, ErrRefused) {
		t.Errorf("a version changes: %v", err)
	}
	two.Version, two.Properties = "1.10.0", slices.Clone(two.Properties)
	two.Properties[0].Every = "10s"
	two.Properties = append(two.Properties, Property{Name: "speed", Kind: Measurement, Type: "number"})
	if d, err = s.AddModel(two); err != nil {
		t.Fatal(err)
	}
	nine := two
	nine.Version = "1.9.0"
	if s.Register, err = s.Register.Apply(Delta{Models: []Model{d.Models[0], nine}}, 4); err != nil {
		t.Fatal(err)
	}
	s.Models = s.Register.Known(builtins(t))
	if m, err := s.ModelOf("packml-machine"); err != nil || m.Version != "1.10.0" {
		t.Errorf("the newest is %+v %v", m, err)
	}
	if d, err = s.Upgrade("packml-machine", "1.10.0"); err != nil || len(d.Put) != 1 || d.Put[0].Model != "packml-machine@1.10.0" {
		t.Errorf("%+v %v", d, err)
	}
	if _, err = s.Upgrade("packml-machine", "2.0.0"); !errors.Is(err, ErrUnknown) {
		t.Errorf("no such version: %v", err)
	}
	if _, err = s.Upgrade("packml-machine", "1.10.0", "line6-capper"); !errors.Is(err, ErrRefused) {
		t.Errorf("of no model: %v", err)
	}
	one, err := s.ModelOf("packml-machine@1.1.0")
	check(t, err)
	diff := one.Diff(&two)
	if len(diff) != 2 || diff[0].What != "property state" || !strings.Contains(diff[0].To, "every 10s") || diff[1] != (Change{"property speed", "", "measurement, type number"}) {
		t.Errorf("%+v", diff)
	}
	if len(one.Diff(one)) != 0 {
		t.Error("a model differs from itself")
	}
}

func TestScene_Clone(t *testing.T) {
	s := scene(t)
	d, err := s.Clone(Cloning{From: "line6", To: "line7"})
	check(t, err)
	want := map[string]Machine{
		"line7-filler": {ID: "line7-filler", Line: "line7", Name: "Filler", Source: "line7-opcua", SignalsPrefix: "line7.filler.", Model: "packml-machine@1.1.0", States: map[string]int64{"1": 6}},
		"line7-capper": {ID: "line7-capper", Line: "line7", Name: "Capper", Source: "line7-opcua", Signals: map[string]string{"state": "line7.PLC.7", "produced": "PLC.8"}},
		"line7-washer": {ID: "line7-washer", Line: "line7", Name: "Washer"},
	}
	for _, m := range d.Put {
		if !reflect.DeepEqual(m, want[m.ID]) {
			t.Errorf("%+v\nwant %+v", m, want[m.ID])
		}
		delete(want, m.ID)
	}
	if len(want) > 0 {
		t.Errorf("missing %v", want)
	}
	// One of the site file, with its own source and a beginning that is said.
	d, err = s.Clone(Cloning{From: "line1-press", To: "press-9", Source: "gw9", Replace: map[string]string{"line1.": "hall.nine."}})
	if err != nil || len(d.Put) != 1 || d.Put[0].ID != "press-9" || d.Put[0].Source != "gw9" || d.Put[0].SignalsPrefix != "hall.nine.press." || d.Put[0].Line != "line1" {
		t.Errorf("%+v %v", d, err)
	}
	for what, c := range map[string]struct {
		c    Cloning
		want error
	}{
		"nobody":       {Cloning{From: "line9", To: "line7"}, ErrUnknown},
		"no name":      {Cloning{From: "line6", To: "Line 7"}, ErrRefused},
		"there":        {Cloning{From: "line6", To: "line6"}, ErrRefused},
		"same signals": {Cloning{From: "line6-capper", To: "x", Replace: map[string]string{"line6-capper": "x"}}, ErrRefused},
	} {
		if d, err := s.Clone(c.c); !errors.Is(err, c.want) {
			t.Errorf("%s: %+v %v", what, d, err)
		}
	}
}

func TestScene_Import(t *testing.T) {
	s := scene(t)
	d, r := s.Import([]byte("\xef\xbb\xbfid;line;name;model;external_ids.maximo;states.0;ideal_cycle_seconds.Pils;source;signals_prefix\r\n" +
		"line7-filler;line7;Füller;packml-machine;B-7;2;0,3;gw;l7.f.\r\n" +
		";line7;Etikettierer;;B-8;;;;\r\n" +
		";;;;A-6;;;;\r\n" +
		";line6;Filler Neu;;A-6;;;;\r\n"))
	// The last two are one machine: told, and nothing is done.
	if len(r.Faults) != 1 || r.Faults[0].Row != 5 || !strings.Contains(r.Faults[0].What, "row 4") || r.Rows != 4 || r.Same != 1 || !slices.Equal(r.Add, []string{"line7-filler", "line7-etikettierer"}) {
		t.Fatalf("%+v", r)
	}
	if m := d.Put[0]; m.Model != "packml-machine@1.1.0" || m.IdealCycleSeconds["Pils"] != 0.3 || m.States["0"] != 2 || m.ExternalIDs["maximo"] != "B-7" || m.Name != "Füller" || d.Put[1].Source != "" {
		t.Errorf("%+v", d.Put)
	}
	d, r = s.Import([]byte("external_ids.maximo,owner,name\nA-6,anna,\n"))
	if len(r.Faults) > 0 || len(r.Change) != 1 || !reflect.DeepEqual(r.Change[0], Edit{"line6-filler", []string{"owner"}}) || d.Put[0].Owner != "anna" || d.Put[0].Name != "Filler" || s.Register.Find("line6-filler").Owner != "" {
		t.Errorf("%+v %+v", d, r)
	}
	for table, want := range map[string]string{
		"":                              "the table is empty",
		"id,line\n":                     "the table is empty",
		"id,lin\na,b\n":                 `lin: is no column; did you mean "line"?`,
		"id,id\na,b\n":                  "id: is a column twice",
		"id,external_ids.\na,b\n":       "external_ids.: is no column",
		"id,line\na,b\nc\n":             "row 3: can't be read",
		"id,line\nA b,c\n":              `row 2, A b, id: "A b" is no id`,
		"line,owner\nx,anna\n":          "row 2, id: is missing",
		"id,line\nline1-press,line1\n":  "row 2, line1-press, id: stands in the site file",
		"id,states.1\na,run\n":          `row 2, a, states.1: "run" is no number of a PackML state`,
		"id,ideal_cycle_seconds.x\na,b": `"b" is no number of seconds`,
		"id,model\na,press\n":           `there is no model "press"`,
		"id,external_ids.maximo\na,A-6": `row 2, a, external_ids.maximo: "A-6" is that of line6-filler`,
		strings.Repeat("x", MaxTable+1): "larger than 1024 KiB",
	} {
		if _, r := s.Import([]byte(table)); len(r.Faults) == 0 || !strings.Contains(r.Faults.Error(), want) {
			t.Errorf("%.40q: %v\nwant %s", table, r.Faults, want)
		}
	}
	var many strings.Builder
	many.WriteString("id\n")
	for i := range MaxMachines + 1 {
		many.WriteString("m" + strconv.Itoa(i) + "\n")
	}
	if _, r := s.Import([]byte(many.String())); len(r.Faults) != 1 || !strings.Contains(r.Faults[0].What, "more than 2000 rows") {
		t.Errorf("%+v", r.Faults)
	}
}

// What is exported is imported as it was, whatever it holds.
func TestTable_IsImportedAgain(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 7))
	s := Scene{Models: builtins(t)}
	for range 200 {
		r, err := s.Register.Apply(Delta{Put: anyMachines(rng)}, 1)
		check(t, err)
		s.Register = Register{}
		s.Enterprise, s.Site = []string{"", "acme"}[rng.IntN(2)], "graz"
		table, err := s.Table(r.Machines)
		check(t, err)
		d, report := s.Import(table)
		next, err := s.Register.Apply(d, 1)
		if err != nil || len(report.Faults) > 0 || !reflect.DeepEqual(next, r) {
			t.Fatalf("%v %+v\n%s\n%+v\n%+v", err, report.Faults, table, r, next)
		}
		s.Register = r
		d, report = s.Import(table)
		if again, err := s.Register.Apply(d, 1); err != nil || report.Same != len(r.Machines) || len(report.Change) > 0 || !reflect.DeepEqual(again, r) {
			t.Fatalf("a second time it changes %+v, %v", report, err)
		}
	}
}

func anyMachines(rng *rand.Rand) (out []Machine) {
	words := []string{"", "=SUM(A1)", "Füller", "-3", "a;b", `say "x", twice`, "'quoted", "@home", "x y"}
	word := func() string { return words[rng.IntN(len(words))] }
	for i := range 1 + rng.IntN(6) {
		m := Machine{ID: "m" + strconv.Itoa(i), Line: []string{"", "l1", "l2"}[rng.IntN(3)], Name: word(), Kind: word(), Owner: word(), Model: []string{"", "packml-machine@1.1.0"}[rng.IntN(2)]}
		if rng.IntN(3) > 0 {
			m.Source, m.SignalsPrefix = "s"+strconv.Itoa(rng.IntN(2)), "p"+strconv.Itoa(i)+"."
		}
		if rng.IntN(2) == 0 && m.Source != "" {
			m.Signals = map[string]string{roles()[rng.IntN(8)]: "whole." + strconv.Itoa(i)}
		}
		if rng.IntN(2) == 0 {
			m.States, m.ExternalIDs, m.IdealCycleSeconds = map[string]int64{"-1": 9, strconv.Itoa(rng.IntN(9)): int64(rng.IntN(18))}, map[string]string{"sap": "0" + strconv.Itoa(i)}, map[string]float64{"Pils 0.5": 0.1 + rng.Float64()}
		}
		out = append(out, m)
	}
	return out
}

// Signals are the model that they fit best; what a model needs must be there.
func TestBest(t *testing.T) {
	models := builtins(t)
	of := func(names ...string) (out []Signal) {
		for _, n := range names {
			name, kind, _ := strings.Cut(n, ":")
			out = append(out, Signal{Name: name, Type: map[string]string{"": "number", "t": "text"}[kind]})
		}
		return out
	}
	for _, c := range []struct {
		signals []Signal
		model   string
		matched int
		roles   map[string]string
	}{
		{of("state", "mode", "produced", "scrap", "product:t", "order:t", "stop_reason", "energy_kj", "speed"), "packml-machine@1.1.0", 8, map[string]string{"energy": "energy_kj", "scrap": "scrap"}},
		{of("Lamp", "pieces", "temperature"), "counter-machine@1.1.0", 2, map[string]string{"state": "Lamp", "produced": "pieces"}},
		{of("state:t", "produced", "scrap", "mode", "energy"), "", 0, nil},
		{of("temperature", "pressure"), "", 0, nil},
		{nil, "", 0, nil},
	} {
		got, ok := Best(models, c.signals)
		if ok != (c.model != "") || got.Model != c.model || got.Matched != c.matched {
			t.Errorf("%v: %+v", c.signals, got)
		}
		for role, name := range c.roles {
			if got.Roles[role] != name {
				t.Errorf("%v: the %s is %q", c.signals, role, got.Roles[role])
			}
		}
	}
	got := models[slices.IndexFunc(models, func(m Model) bool { return m.ID == "packml-machine" })].Match(of("state", "produced:t"))
	if !got.Lacks || len(got.Wrong) != 1 || got.Matched != 1 || got.Of != 8 || len(got.Missing) != 6 {
		t.Errorf("%+v", got)
	}
}

func TestParseModel_NamesTheFault(t *testing.T) {
	const good = "id: press\nversion: \"1.0.0\"\nproperties:\n  - {name: state, kind: measurement, role: state, type: number}\n  - {name: n, kind: measurement, min: 1, max: 2, every: 10s}\n"
	if _, err := ParseModel("m.yaml", []byte(good)); err != nil {
		t.Fatal(err)
	}
	for what, c := range map[string]struct{ old, now, want string }{
		"key":     {"role: state", "rule: state", `m.yaml:4: unknown key "rule"`},
		"id":      {"id: press", "id: Press", `m.yaml:1: "Press" is no id of a model`},
		"version": {`"1.0.0"`, `"1.0"`, `m.yaml:2: "1.0" is no version such as 1.0.0`},
		"kind":    {"{name: n, kind: measurement", "{name: n, kind: signal", `m.yaml:5: n has the kind "signal"`},
		"role":    {"role: state", "role: speed", `m.yaml:4: state has the role "speed"`},
		"range":   {"max: 2", "max: 0", `m.yaml:5: n has a range from 1 to 0`},
		"every":   {"10s", "often", `m.yaml:5: n has every "often"`},
		"twice":   {"name: n", "name: state", `m.yaml:5: name state stands twice`},
	} {
		if _, err := ParseModel("m.yaml", []byte(strings.Replace(good, c.old, c.now, 1))); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v\nwant %s", what, err, c.want)
		}
	}
}

// A register is bounded, and a retired machine that isn't there is no fault: changes are
// made in what held at other times, too.
func TestRegister_Apply(t *testing.T) {
	var r Register
	many := make([]Machine, MaxMachines+1)
	for i := range many {
		many[i].ID = strconv.Itoa(i)
	}
	if _, err := r.Apply(Delta{Put: many}, 1); !errors.Is(err, ErrRefused) {
		t.Errorf("too many: %v", err)
	}
	if next, err := r.Apply(Delta{Retire: []string{"x"}}, 2); err != nil || next.Version != 2 {
		t.Errorf("%+v %v", next, err)
	}
	if got := Fields(Machine{ID: "a", Line: "x", States: map[string]int64{"1": 2}}, Machine{ID: "b"}); !slices.Equal(got, []string{"line", "states"}) {
		t.Errorf("%q", got)
	}
}
