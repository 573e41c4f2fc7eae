package product

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"plantmesh/proto/mesh"
	"plantmesh/proto/strict"
)

// caseFile is one test of a product's folder: samples in, rows out.
type caseFile struct {
	Site    string      `yaml:"site"`
	Known   [][2]string `yaml:"known"`
	Samples []struct {
		At    string `yaml:"at"`
		Role  string `yaml:"role"`
		Value any    `yaml:"value"` // none: BadNoData
	} `yaml:"samples"`
	Voids []struct {
		From  string `yaml:"from"`
		To    string `yaml:"to"`
		Cause string `yaml:"cause"`
		Count uint64 `yaml:"count"`
		Note  string `yaml:"note"`
	} `yaml:"voids"`
	Rows []map[string]any `yaml:"rows"` // key, and the columns to compare; no other rows may be there
}

func TestDefinitions_TheirOwnTests(t *testing.T) {
	files, err := filepath.Glob("definitions/*/tests/*.yaml")
	if err != nil || len(files) < 5 {
		t.Fatalf("%d tests, %v", len(files), err)
	}
	for _, file := range files {
		id := strings.Split(filepath.ToSlash(file), "/")[1]
		t.Run(id+"/"+filepath.Base(file), func(t *testing.T) {
			var c caseFile
			if _, err := strict.Load(file, &c); err != nil {
				t.Fatal(err)
			}
			got := c.rows(t, definition(t, id), site(t, c.Site))
			keys := map[string]bool{}
			for _, w := range c.Rows {
				key := fmt.Sprint(w["key"])
				keys[key] = true
				delete(w, "key")
				for k, v := range w {
					if u, ok := v.(uint64); ok {
						w[k] = int(u)
					}
				}
				check(t, key, got[key], w)
			}
			for key := range got {
				if !keys[key] {
					t.Errorf("row %s was not expected: %v", key, got[key])
				}
			}
		})
	}
}

func (c *caseFile) rows(t *testing.T, d *Definition, s *Site) map[string]map[string]any {
	t.Helper()
	var in []sample
	for _, x := range c.Samples {
		if u, ok := x.Value.(uint64); ok {
			x.Value = int(u)
		}
		if i, ok := x.Value.(int64); ok {
			x.Value = int(i)
		}
		in = append(in, sample{x.At, x.Role, x.Value})
	}
	k := &Known{}
	for i, span := range c.Known {
		k.Batch(mesh.Position{}, mesh.Ordinal(i+10), mesh.Header{Proven: mesh.Span{From: clock(t, span[0]), To: clock(t, span[1])}})
	}
	for i, v := range c.Voids {
		k.Void(mesh.Position{}, mesh.Ordinal(i+1), mesh.Void{Cause: mesh.Cause(v.Cause), Note: v.Note},
			mesh.Part{Times: mesh.Span{From: clock(t, v.From), To: clock(t, v.To)}, Count: v.Count})
	}
	out := map[string]map[string]any{}
	keep := func(x Draft) {
		var m map[string]any
		if err := json.Unmarshal(x.Body, &m); err != nil {
			t.Fatal(err)
		}
		out[x.Key] = m
	}
	switch d.Fold {
	case FoldCoverage:
		for _, x := range d.CoverageDrafts(s.Equipment[0].Source, alone(k)) {
			keep(x)
		}
		return out
	case FoldSamples:
		var readings []Reading
		for _, x := range in {
			r := Reading{Name: s.Equipment[0].Prefix + x.role, Sample: mesh.Sample{Time: clock(t, x.at)}}
			switch v := x.v.(type) {
			case int:
				r.Sample.Value = mesh.Int(int64(v))
			case float64:
				r.Sample.Value = mesh.Double(v)
			default:
				r.Sample.Status = mesh.StatusBadNoData
			}
			readings = append(readings, r)
		}
		readings = Collapse(withDerived(s, readings))
		for i := range readings {
			keep(d.SignalDraft(s, &s.Equipment[0], &readings[i]))
		}
		return out
	case FoldIntervals, FoldWindows:
	}
	return rows(t, d, s, events(t, in), k.Spans())
}

// Every column a row has stands in the contract, and the other way round.
func TestDefinitions_ContractNamesEveryColumn(t *testing.T) {
	all, err := Definitions()
	if err != nil {
		t.Fatal(err)
	}
	envelope := []string{"is_final", "revision", "produced_at", "contract_version", "from_local", "to_local"}
	for _, d := range all {
		var c struct {
			Schema []struct {
				Properties []struct{ Name string }
			}
			Version string
		}
		if err := json.Unmarshal(asJSON(t, d.ID, d.ODCS), &c); err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, p := range c.Schema[0].Properties {
			if !slices.Contains(envelope, p.Name) {
				names = append(names, p.Name)
			}
		}
		if !slices.Equal(names, d.Columns) {
			t.Errorf("%s: the contract has %v, rows have %v", d.ID, names, d.Columns)
		}
		if c.Version != d.Version {
			t.Errorf("%s: contract %s, assembly %s", d.ID, c.Version, d.Version)
		}
	}
}

func TestDefinitions_ValidAgainstTheStandards(t *testing.T) {
	contracts := shared(t, "data/contracts")
	c := jsonschema.NewCompiler()
	odps, err := c.Compile(filepath.Join(contracts, "odps-json-schema-v1.0.0.json"))
	if err != nil {
		t.Fatal(err)
	}
	odcs, err := c.Compile(filepath.Join(contracts, "odcs-json-schema-v3.1.0.json"))
	if err != nil {
		t.Fatal(err)
	}
	all, err := Definitions()
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range all {
		for name, x := range map[string]struct {
			schema *jsonschema.Schema
			src    []byte
		}{"odps": {odps, d.ODPS}, "odcs": {odcs, d.ODCS}} {
			v, err := jsonschema.UnmarshalJSON(strings.NewReader(string(asJSON(t, d.ID, x.src))))
			if err != nil {
				t.Fatal(err)
			}
			if err := x.schema.Validate(v); err != nil {
				t.Errorf("%s.%s.yaml: %v", d.ID, name, err)
			}
		}
	}
}

func TestParseDefinition_NamesTheFault(t *testing.T) {
	good := definition(t, "coverage")
	src := func(fold string, columns ...string) map[string][]byte {
		return map[string][]byte{
			"x.odps.yaml": good.ODPS, "x.odcs.yaml": good.ODCS,
			"assembly.yaml": []byte("id: x\nfold: " + fold + "\ncolumns: [" + strings.Join(columns, ", ") + "]\n"),
		}
	}
	for name, c := range map[string]struct {
		files map[string][]byte
		want  string
	}{
		"unknown column": {src("coverage", "source", "secnds"), `x/assembly.yaml: column "secnds" at 2 is none of this fold; did you mean "seconds"?`},
		"unknown fold":   {src("folding"), `x/assembly.yaml:2: "folding" with measure "" is no fold: write intervals, coverage, samples, or windows with measure rate or oee`},
		"missing file":   {map[string][]byte{}, "x/assembly.yaml: no such file"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := ParseDefinition("x", c.files); err == nil || err.Error() != c.want {
				t.Errorf("got  %v\nwant %s", err, c.want)
			}
		})
	}
}

func TestParseSite_NamesTheFault(t *testing.T) {
	edit := func(from, to string) string { return strings.Replace(testSite, from, to, 1) }
	for name, c := range map[string]struct{ src, want string }{
		"unknown key":  {edit("zone:", "zonne:"), `site.yaml:3: unknown key "zonne"; did you mean "zone"?`},
		"no zone":      {edit("Europe/Vienna", "Europe/Wien"), `site.yaml:3: "Europe/Wien" is no IANA time zone such as Europe/Vienna`},
		"no clock":     {edit(`"06:00"`, `"6 am"`), `site.yaml:4: "6 am" is no clock time such as 06:00`},
		"twice":        {edit("l1-capper", "l1-filler"), `site.yaml:17: equipment "l1-filler" stands twice`},
		"no cycle":     {edit("0.25", "0"), `site.yaml:14: 0 seconds for b on a filler is no cycle`},
		"unknown role": {testSite + "roles: {produce: made}\n", `site.yaml:19: unknown role "produce"; did you mean "produced"?`},
		"two roles":    {testSite + "roles:\n  energy: kwh\n  produced: scrap\n", `site.yaml:21: signal "scrap" is role "scrap" and role "produced": give each its own`},
		"same signal":  {testSite + "roles: {produced: n, scrap: n}\n", `site.yaml:19: signal "n" is role "produced" and role "scrap": give each its own`},
		"a whole name": {testSite + "roles: {produced: counter.n}\n", `site.yaml:19: "counter.n" is no last part of a signal's name: write it without dots`},
		"shift twice":  {edit("id: late", "id: early"), `site.yaml:7: shift "early" stands twice`},
		"shifts":       {edit(`end: "14:00"`, `end: "14:01"`), `site.yaml:7: shift "late", 14:00 to 22:00, overlaps shift "early", 06:00 to 14:01`},
		"night shift":  {edit(`end: "06:00"`, `end: "06:30"`), `site.yaml:8: shift "night", 22:00 to 06:30, overlaps shift "early", 06:00 to 14:00`},
		"no shift":     {edit(`end: "14:00"`, `end: "06:00"`), `site.yaml:6: shift "early" starts and ends at 06:00: leave it out, or end it later`},
		"breaks":       {edit(`"18:00", end: "18:30"`, `"09:00", end: "11:00"`), `site.yaml:11: break, 09:00 to 11:00, overlaps break, 10:00 to 10:30`},
		"same breaks":  {edit(`"02:00", end: "02:30"`, `"10:00", end: "10:30"`), `site.yaml:12: break, 10:00 to 10:30, overlaps break, 10:00 to 10:30`},
		"night breaks": {edit(`"18:00", end: "18:30"`, `"23:45", end: "02:01"`), `site.yaml:12: break, 02:00 to 02:30, overlaps break, 23:45 to 02:01`},
		"no break":     {edit(`end: "10:30"`, `end: "10:00"`), `site.yaml:10: break starts and ends at 10:00: leave it out, or end it later`},
		"energy":       {testSite + "energy_unit: MWh\n", `site.yaml:19: "MWh" is no unit of energy here: write kWh or kJ`},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := ParseSite("site.yaml", []byte(c.src)); err == nil || err.Error() != c.want {
				t.Errorf("got  %v\nwant %s", err, c.want)
			}
		})
	}
}

// Roles may take each other's names; whatever the order of the file, a signal
// has one.
func TestParseSite_RolesTakeEachOthersNames(t *testing.T) {
	for range 50 { // maps have another order each time
		s := site(t, testSite+"roles: {produced: scrap, scrap: rejects, mode: mode}\n")
		for signal, c := range map[string]struct {
			role Role
			name string
		}{
			"l1.filler.scrap":   {RoleProduced, "produced"},
			"l1.filler.rejects": {RoleScrap, "scrap"},
			"l1.filler.mode":    {RoleMode, "mode"},
		} {
			if _, role := s.Signal("s1", signal); role != c.role || s.RoleName(&s.Equipment[0], signal) != c.name {
				t.Fatalf("%s is role %d, %s", signal, role, s.RoleName(&s.Equipment[0], signal))
			}
		}
	}
}

// asJSON is a YAML document as JSON.
func asJSON(t *testing.T, name string, src []byte) []byte {
	t.Helper()
	var v any
	if _, err := strict.Parse(name, src, &v); err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal(plain(v))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func plain(v any) any {
	switch v := v.(type) {
	case map[any]any:
		out := map[string]any{}
		for k, x := range v {
			out[fmt.Sprint(k)] = plain(x)
		}
		return out
	case map[string]any:
		for _, k := range slices.Collect(maps.Keys(v)) {
			v[k] = plain(v[k])
		}
	case []any:
		for i := range v {
			v[i] = plain(v[i])
		}
	}
	return v
}

// shared is a folder of data that lies beside the repository, where it does.
func shared(t *testing.T, rel string) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			break
		}
		up := filepath.Dir(dir)
		if up == dir {
			t.Fatal("no go.mod above this test")
		}
		dir = up
	}
	dir = filepath.Join(dir, "..", "shared", rel)
	if _, err := os.Stat(dir); err != nil {
		if slices.Contains(strings.Split(os.Getenv("PLANTMESH_REQUIRE"), ","), "shared") {
			t.Fatalf("required, but missing: %v", err)
		}
		t.Skipf("no shared data beside the repository: %s", rel)
	}
	return dir
}
