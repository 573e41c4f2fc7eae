package product

import (
	"encoding/json"
	"fmt"
	"math"
	"strings"
	"testing"

	"plantmesh/proto/mesh"
)

// pressSite has a press whose model makes a pressure of a raw number, and what else there is
// of properties.
const pressSite = `site: graz
zone: Europe/Vienna
models:
  - id: press
    version: "1.0.0"
    properties:
      - {name: produced, kind: measurement, role: produced}
      - {name: oil_raw, kind: measurement, type: number, unit: C62, also: [p_oil]}
      - {name: oil, kind: transform, of: oil_raw, scale: 0.1, offset: -1, unit: BAR}
      - {name: good, kind: transform, formula: produced - scrap}
equipment:
  - {id: press-1, line: hall1, name: Press, kind: press, model: press@1.0.0, source: press, signals_prefix: hall1.press.}
  - {id: saw-1, line: hall1, name: Saw, kind: saw, source: press, signals_prefix: hall1.saw.}
`

func numbers(names ...string) (out []mesh.Signal) {
	for i, name := range names {
		out = append(out, mesh.Signal{ID: uint32(i + 1), Name: name, Type: mesh.TypeInt})
	}
	return out
}

// withDerived is readings of the first machine with what its model makes of them.
func withDerived(s *Site, readings []Reading) []Reading {
	var names []string
	for i := range readings {
		names = append(names, readings[i].Name)
	}
	table := numbers(names...)
	out := readings
	made := s.Derivations(s.Equipment[0].Source, table)
	for i := range readings {
		for k := range made {
			if made[k].From == readings[i].Name {
				out = append(out, made[k].Reading(readings[i]))
			}
		}
	}
	return out
}

// A value is scaled to the bit on every machine; what is no number, or not good, has none.
func TestTransform_Value(t *testing.T) {
	for _, c := range []struct {
		raw           mesh.Value
		status        mesh.Status
		scale, offset float64
		want          mesh.Value
		is            mesh.Status
	}{
		{mesh.Int(1234), 0, 0.1, -1, mesh.Double(122.4), 0},
		{mesh.Uint(math.MaxUint64), 0, 1, 0, mesh.Double(math.MaxUint64), 0},
		{mesh.Int(-40), 0, 1.8, 32, mesh.Double(-40), 0},
		{mesh.Double(0.1), 0, 3, -0.3, mesh.Double(math.Nextafter(0.3, 1) - 0.3), 0}, // rounded before it is added to
		{mesh.Double(21.5), mesh.StatusUncertainLast, 2, 0, mesh.Value{}, mesh.StatusUncertainLast},
		{mesh.Double(21.5), mesh.StatusBadNoData, 2, 0, mesh.Value{}, mesh.StatusBadNoData},
		{mesh.Double(21.5), 0x400, 2, 0, mesh.Double(43), 0x400}, // good, with something to say
		{mesh.Text("21.5"), 0, 2, 0, mesh.Value{}, mesh.StatusBadTypeMismatch},
		{mesh.Bool(true), 0, 2, 0, mesh.Value{}, mesh.StatusBadTypeMismatch},
		{mesh.Value{}, 0, 2, 1, mesh.Value{}, mesh.StatusBadTypeMismatch},
		{mesh.Value{Type: mesh.TypeArray, Bytes: []byte{1}}, 0, 2, 1, mesh.Value{}, mesh.StatusBadTypeMismatch},
		{mesh.Double(math.MaxFloat64), 0, 2, 0, mesh.Value{}, mesh.StatusBadOutOfRange},
		{mesh.Double(-math.MaxFloat64), 0, 1, -math.MaxFloat64, mesh.Value{}, mesh.StatusBadOutOfRange},
		{mesh.Double(math.MaxFloat64), 0, 1, 0, mesh.Double(math.MaxFloat64), 0},
		{mesh.Double(math.NaN()), 0, 1, 0, mesh.Value{}, mesh.StatusBadOutOfRange},
		{mesh.Double(math.Inf(1)), mesh.StatusBad, 1, 0, mesh.Value{}, mesh.StatusBad},
	} {
		tr := Transform{scale: c.scale, offset: c.offset}
		if got, is := tr.Value(c.raw, c.status); got.Compare(c.want) != 0 || is != c.is {
			t.Errorf("%v, status %x, *%v%+v: %v, status %x, want %v, %x", c.raw, c.status, c.scale, c.offset, got, is, c.want, c.is)
		}
	}
}

// What is made of the signals of a table, and why nothing is.
func TestSite_Derivations(t *testing.T) {
	text, inBar := numbers("hall1.press.oil_raw"), numbers("hall1.press.oil_raw")
	text[0].Type, inBar[0].Unit = mesh.TypeString, "BAR"
	for name, c := range map[string]struct {
		site  *strings.Replacer
		table []mesh.Signal
		want  string // from > name; else why not
	}{
		"by its name":         {nil, numbers("hall1.press.state", "hall1.press.oil_raw", "hall1.saw.oil_raw"), "hall1.press.oil_raw > hall1.press.oil"},
		"by another one":      {nil, numbers("hall1.press.P_Oil"), "hall1.press.P_Oil > hall1.press.oil"},
		"its name goes first": {nil, numbers("hall1.press.OIL_RAW", "hall1.press.oil_raw", "hall1.press.p_oil"), "hall1.press.oil_raw > hall1.press.oil"},
		"of two others one":   {nil, numbers("hall1.press.p_oil", "hall1.press.Oil_Raw"), "hall1.press.Oil_Raw > hall1.press.oil"},
		"not there":           {nil, numbers("hall1.press.state", "hall1.press.deep.oil_raw"), "no signal of the machine is oil_raw"},
		"a real one":          {nil, numbers("hall1.press.oil_raw", "hall1.press.oil"), "hall1.press.oil is there by itself, and stands"},
		"another's by name":   {strings.NewReplacer("signals_prefix: hall1.saw.", "signals_prefix: hall1.saw., signals: {state: hall1.press.oil}"), numbers("hall1.press.oil_raw", "hall1.press.oil"), "hall1.press.oil is there by itself"},
		"a text":              {nil, text, "hall1.press.oil_raw is string, and only numbers are scaled"},
		"another unit":        {nil, inBar, "hall1.press.oil_raw is in BAR, and the model says C62"},
		"a counter":           {strings.NewReplacer("zone:", "roles: {produced: oil_raw}\nzone:"), numbers("hall1.press.oil_raw"), "hall1.press.oil_raw fills the role produced of the machine"},
		"a counter by name":   {strings.NewReplacer("signals_prefix: hall1.press.", "signals_prefix: hall1.press., signals: {energy: hall1.press.oil_raw}"), numbers("hall1.press.oil_raw"), "fills the role energy"},
		"without a prefix":    {strings.NewReplacer("signals_prefix: hall1.press.", "signals: {energy: hall1.press.oil_raw}"), numbers("hall1.press.oil_raw"), "has no signals_prefix"},
		"no model":            {strings.NewReplacer("model: press@1.0.0, ", ""), numbers("hall1.press.oil_raw"), ""},
	} {
		text := pressSite
		if c.site != nil {
			text = c.site.Replace(text)
		}
		s := site(t, text)
		var all []string
		for _, d := range s.Derivations("press", c.table) {
			all = append(all, d.From+" > "+d.Name+strings.TrimPrefix(d.By.Model, "press@1.0.0"))
		}
		got := strings.Join(all, ", ")
		check := ""
		for _, x := range s.Readiness(Heard{"press": c.table})[0].Checks {
			if x.Check == "transforms" {
				check = fmt.Sprint(x.OK, " ", x.Says)
			}
		}
		left := s.NotMade(Heard{"press": c.table})
		switch {
		case c.want == "":
			if got+check != "" || len(left) > 0 {
				t.Errorf("%s: %q, %q, %v", name, got, check, left)
			}
		case strings.Contains(c.want, " > "):
			if from, _, _ := strings.Cut(c.want, " > "); got != c.want || check != "true oil of "+from || len(left) > 0 {
				t.Errorf("%s: %q, %q, %v", name, got, check, left)
			}
		case got != "" || len(left) != 1 || left[0].Equipment != "press-1" || left[0].Property != "oil" || !strings.Contains(left[0].Why, c.want) || check != "false oil is not made: "+left[0].Why:
			t.Errorf("%s: %q, %q, %v; want %s", name, got, check, left, c.want)
		}
		if more := s.Derivations("other", c.table); len(more) > 0 {
			t.Errorf("%s: of another source %v", name, more)
		}
	}
}

// The row says of which sample and by which model it is; that of the sample is as it was.
func TestSignalDraft_OfATransform(t *testing.T) {
	d, s, e := definition(t, "signals"), site(t, pressSite), 0
	raw := Reading{
		Name: "hall1.press.oil_raw", Unit: "C62", Choices: &mesh.Choices{List: []mesh.Choice{{Number: 50, Text: "low"}}}, Marks: []mesh.Mark{{Rule: "odd", Action: mesh.ActionQuarantine}},
		Sample: mesh.Sample{Time: 1, Value: mesh.Int(50), Flags: mesh.FlagInitial, Seq: 7},
	}
	made := s.Derivations("press", numbers("hall1.press.oil_raw"))
	derived := made[0].Reading(raw)
	x, of := d.SignalDraft(s, &s.Equipment[e], &derived), d.SignalDraft(s, &s.Equipment[e], &raw)
	var row, rawRow map[string]any
	if err := json.Unmarshal(x.Body, &row); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(of.Body, &rawRow); err != nil {
		t.Fatal(err)
	}
	check(t, "derived", row, map[string]any{
		"signal": "hall1.press.oil", "role": "oil", "value": 4.0, "type": "double", "unit": "BAR", "text": nil, "quality": "good", "equipment": "press-1", "key": rawRow["key"], "time": rawRow["time"],
		"derived_from": "hall1.press.oil_raw", "derived_by": "press@1.0.0",
	})
	if fmt.Sprint(row["marks"], row["flags"]) != "[map[action:quarantine rule:odd]] [initial]" || x.Key == of.Key || x.From != of.From {
		t.Errorf("%s", x.Body)
	}
	if _, says := rawRow["derived_from"]; says || rawRow["value"] != 50.0 || rawRow["text"] != "low" {
		t.Errorf("%s", of.Body)
	}
	// What no double holds is bad, and says so; what the rules found of the sample stays.
	wide := made[0].Reading(raw)
	wide.Derived = &Derivation{From: raw.Name, By: &Transform{Name: "oil", Model: "press@1.0.0", scale: 1e300}}
	wide.Sample.Value = mesh.Double(1e300)
	y := d.SignalDraft(s, &s.Equipment[e], &wide)
	if err := json.Unmarshal(y.Body, &row); err != nil {
		t.Fatal(err)
	}
	if fmt.Sprintf("%v %v %v %.0f %v", row["value"], row["type"], row["quality"], row["status"], row["marks"]) != "<nil> none bad 2151415808 [map[action:quarantine rule:odd] map[action:annotate rule:oil.out_of_range]]" || len(raw.Marks) != 1 {
		t.Errorf("%s", y.Body)
	}
	// Two values that one is made of stay two rows: the scale may be coarser than they are.
	other := raw
	other.Sample.Value = mesh.Double(50)
	pair := Collapse([]Reading{made[0].Reading(other), derived, made[0].Reading(raw)})
	if len(pair) != 2 || d.SignalDraft(s, &s.Equipment[e], &pair[0]).Key == d.SignalDraft(s, &s.Equipment[e], &pair[1]).Key {
		t.Errorf("%+v", pair)
	}
	// A gateway that reads the name itself goes before, at the instants that it has.
	itself := Reading{Name: "hall1.press.oil", Sample: mesh.Sample{Time: 1, Value: mesh.Double(3)}}
	later := derived
	later.Sample.Time = 2
	if got := RealStands([]Reading{derived, itself, later}); len(got) != 2 || got[0].Derived != nil || got[1].Sample.Time != 2 {
		t.Errorf("%+v", got)
	}
}

// A transform in a site file that can't be made is a fault there; one with a formula alone
// is of a file of before, and read.
func TestParseSite_RefusesTransforms(t *testing.T) {
	const is = "{name: oil, kind: transform, of: oil_raw, scale: 0.1, offset: -1, unit: BAR}"
	for now, want := range map[string]string{
		"{name: oil, kind: transform, of: oil, scale: 2}":             "oil is no measurement",
		"{name: oil, kind: transform, of: nothing, scale: 2}":         `"nothing" is no property`,
		"{name: oil, kind: transform, of: produced, scale: 2}":        "scaled before its wraps are undone",
		"{name: oil, kind: transform, of: oil_raw}":                   "a scale that is not 0, or an offset",
		"{name: oil, kind: transform, of: oil_raw, scale: 0}":         "a scale that is not 0, or an offset",
		"{name: oil, kind: transform, of: oil_raw, offset: .inf}":     "both finite",
		"{name: a.oil, kind: transform, of: oil_raw, offset: 1}":      "without dots",
		"{name: energy, kind: transform, of: oil_raw, offset: 1}":     "energy is the name of a role",
		"{name: oil_raw, kind: transform, of: produced, offset: 1}":   "",
		"{name: produced, kind: transform, of: oil_raw, offset: 1}":   "produced stands twice",
		"{name: oil, kind: transform, formula: oil_raw / 10}":         "-",
		"{name: oil, kind: transform, of: oil_raw, offset: 1, a: 12}": "unknown",
	} {
		_, err := ParseSite("site.yaml", []byte(strings.Replace(pressSite, is, now, 1)))
		switch {
		case want == "-" && err != nil:
			t.Errorf("%s: %v", now, err)
		case want != "-" && (err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "site.yaml:9")):
			t.Errorf("%s: %v, want %s", now, err, want)
		}
	}
}

// A range that a site file leaves open with .inf has no end, and the models can be written.
func TestSite_WrittenModelsAreFinite(t *testing.T) {
	text := strings.Replace(pressSite, "{name: produced, kind: measurement, role: produced}", "{name: produced, kind: measurement, role: produced, min: 0, max: .inf, scale: .nan}\n      - {name: cold, kind: measurement, min: -.inf, max: 5}", 1)
	s, err := ParseSite("site.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	b, err := s.WrittenModels()
	if err != nil {
		t.Fatal(err)
	}
	var got []struct{ Properties []propertyFile }
	if err := json.Unmarshal(b, &got); err != nil {
		t.Fatal(err)
	}
	made, cold := got[0].Properties[0], got[0].Properties[1]
	if *made.Min != 0 || made.Max != nil || made.Scale != nil || cold.Min != nil || *cold.Max != 5 {
		t.Errorf("%s", b)
	}
	if p := s.Models[0].file.Properties[0]; p.Max == nil {
		t.Error("the model that the site has is another one now")
	}
}
