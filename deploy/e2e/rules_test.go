package e2e

import (
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"plantmesh/cloud/registry/plant"
	"plantmesh/edge/quality"
	"plantmesh/proto/mesh"
)

// anyModel is a model of a few properties, each with what rules are made of.
func anyModel(rng *rand.Rand) plant.Model {
	m := plant.Model{ID: "any", Version: "1.0.0"}
	if rng.IntN(2) == 0 {
		m.States = map[string]int64{strconv.Itoa(rng.IntN(9) - 4): 6, strconv.Itoa(10 + rng.IntN(9)): 2}
	}
	names := []string{"temp*", `a "quoted" [1]`, "Füller?", `back\slash`, "#no: comment", "{x: 1}", "- dash", "speed", "<&>"}
	rng.Shuffle(len(names), func(i, k int) { names[i], names[k] = names[k], names[i] })
	for i, name := range names[:1+rng.IntN(5)] {
		p := plant.Property{Name: name, Kind: plant.Measurement, Type: []string{"", "number"}[rng.IntN(2)]}
		p.Role = []string{"state", "mode", "produced", "", ""}[i]
		if p.Role != "state" && p.Role != "mode" && rng.IntN(3) > 0 {
			low := math.Round(rng.NormFloat64()*1e3) / []float64{1, 8, 1e3, 1e9}[rng.IntN(4)]
			high := low + rng.Float64()*[]float64{1, 1e3, 1e18}[rng.IntN(3)]
			p.Min, p.Max = &low, &high
			switch rng.IntN(4) {
			case 0:
				p.Min = nil
			case 1:
				p.Max = nil
			}
		}
		if rng.IntN(2) == 0 {
			p.Every = []string{"1s", "90s", "1h30m"}[rng.IntN(3)]
		}
		for kind, can := range map[string]bool{"range": p.Min != nil || p.Max != nil, "stale": p.Every != "", "backwards": true, "enumeration": p.Role == "state" || p.Role == "mode"} {
			if can && rng.IntN(3) == 0 {
				p.Rules = append(p.Rules, kind+[]string{"", " annotate", " alert", " quarantine", " off"}[rng.IntN(5)])
			}
		}
		slices.Sort(p.Rules)
		m.Properties = append(m.Properties, p)
	}
	return m
}

// wiredAs is a machine of a model with a signal for each of its properties.
func wiredAs(id string, m *plant.Model) plant.Wired {
	w := plant.Wired{Machine: plant.Machine{ID: id, Model: m.Ref(), Source: "s", SignalsPrefix: "l." + id + "."}}
	for i := range m.Properties {
		w.Wires = append(w.Wires, plant.Wire{Name: w.SignalsPrefix + m.Properties[i].Name, Role: m.Properties[i].Role, Type: "number"})
	}
	return w
}

// wants are the rules that a value must break, told again here on purpose: from the model,
// not from the rules. before is the value an hour before; nil: none.
func wants(m *plant.Model, p *plant.Property, v, before int64, silent time.Duration) (kinds []string) {
	has := func(kind string, given bool) bool {
		i := slices.IndexFunc(p.Rules, func(r string) bool { return r == kind || strings.HasPrefix(r, kind+" ") })
		return given && i < 0 || i >= 0 && !strings.HasSuffix(p.Rules[i], " off")
	}
	if has("enumeration", p.Role == "state") {
		_, meant := m.States[strconv.FormatInt(v, 10)]
		if p.Role == "state" && (len(m.States) > 0 && !meant || len(m.States) == 0 && (v < 0 || v > 17)) || p.Role == "mode" && (v < 1 || v > 3) {
			kinds = append(kinds, "enumeration")
		}
	} else if has("range", true) && (p.Min != nil && float64(v) < *p.Min || p.Max != nil && float64(v) > *p.Max) {
		kinds = append(kinds, "range")
	}
	if every, err := time.ParseDuration(p.Every); err == nil && has("stale", true) && silent > 2*every {
		kinds = append(kinds, "stale")
	}
	if has("backwards", p.Role == "produced") && v < before && v != 0 {
		kinds = append(kinds, "backwards")
	}
	return kinds
}

// What models give is a file that the edge reads, and the edge finds in values what the
// model says of them: whatever names, numbers and actions there are.
func TestRulesOfModels_JudgeAsTheModelSays(t *testing.T) {
	rng := rand.New(rand.NewPCG(11, 7))
	found := map[string]int{}
	for n := range 80 {
		m := anyModel(rng)
		machines := []plant.Wired{wiredAs("m"+strconv.Itoa(n), &m), wiredAs("a", &m)}
		rules, left := plant.Rules(machines, []plant.Model{m}, func(string) bool { return false })
		if len(left) > 0 {
			t.Fatalf("left out of %+v: %+v", m, left)
		}
		text := plant.Text(rules, 3)
		slices.Reverse(machines)
		if again, _ := plant.Rules(machines, []plant.Model{m}, func(string) bool { return false }); plant.Text(again, 3) != text {
			t.Fatal("another order of machines gives another file")
		}
		read, revision, err := plant.ReadText(text)
		if err != nil || !plant.SameRules(read, rules) || len(rules) > 0 && revision != 3 {
			t.Fatalf("it is not read again: %v\n%s", err, text)
		}
		judged, err := quality.Parse(plant.RulesFile, []byte(text))
		if err != nil {
			t.Fatalf("the edge doesn't read it: %v\n%s", err, text)
		}
		for _, w := range machines {
			for i := range m.Properties {
				p := &m.Properties[i]
				before, v := int64(5+rng.IntN(9)), int64(rng.IntN(40)-10)
				silent := time.Duration(rng.IntN(4)) * time.Hour
				table := []mesh.Signal{{ID: 1, Name: w.Wires[i].Name, Type: mesh.TypeInt}, {ID: 2, Name: w.Wires[i].Name + ".x", Type: mesh.TypeInt}}
				var s quality.State
				at := mesh.NanosOf(time.Date(2026, 11, 30, 0, 0, 0, 0, time.UTC))
				judged.Judge(mesh.Position{}, mesh.Batch{Samples: []mesh.Sample{{Signal: 1, Time: at, Value: mesh.Int(before)}}}, table, &s)
				verdict := judged.Judge(mesh.Position{}, mesh.Batch{Samples: []mesh.Sample{{Signal: 1, Time: at.Add(silent), Value: mesh.Int(v)}, {Signal: 2, Time: at, Value: mesh.Int(-1e9)}}}, table, &s)
				var got, want []string
				for _, mark := range verdict.Marks {
					got = append(got, mark.Rule)
				}
				for _, kind := range wants(&m, p, v, before, silent) {
					want = append(want, w.ID+"."+p.Name+"."+kind)
					found[kind]++
				}
				slices.Sort(got)
				if slices.Sort(want); silent > 0 && !slices.Equal(got, want) { // two at one instant are in no order
					t.Fatalf("%d after %d, %s later, of %+v\ngot  %q\nwant %q\n%s", v, before, silent, p, got, want, text)
				}
			}
		}
	}
	if len(found) != 4 || slices.Min(slices.Collect(maps.Values(found))) < 10 {
		t.Errorf("hardly looked at: %v", found)
	}
}
