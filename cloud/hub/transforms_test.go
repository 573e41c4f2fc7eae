package hub

import (
	"fmt"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"plantmesh/cloud/port/parquet"
	"plantmesh/cloud/registry"
	"plantmesh/cloud/registry/desk"
	"plantmesh/cloud/registry/plant"
	"plantmesh/proto/mesh"
)

// oilModel is a model whose pressure is made of a raw number, and a flow of one that no
// machine here has.
const oilModel = `{"model": {"id": "saw", "version": %q, "properties": [{"name": "oil_raw", "kind": "measurement", "type": "number"}, {"name": "flow_raw", "kind": "measurement"},
	{"name": "oil", "kind": "transform", "of": "oil_raw", "scale": %v, "offset": -1, "unit": "BAR"}, {"name": "flow", "kind": "transform", "of": "flow_raw", "scale": 2}]}}`

// A model's transform is rows of product signals, by the version that the machine had at
// the time of the sample, and in exported files; what can't be made is told.
func TestTransforms_AreRowsAndFiles(t *testing.T) {
	h := opened(t)
	ask := asks(t, h)
	from := time.Now().UTC().Truncate(time.Hour).Add(-3 * time.Hour)
	at := func(minutes int) mesh.Nanos { return mesh.NanosOf(from.Add(time.Duration(minutes) * time.Minute)) }
	table := []mesh.Signal{{ID: 1, Name: "line2.saw.state", Type: mesh.TypeInt}, {ID: 2, Name: "line2.saw.oil_raw", Type: mesh.TypeInt}}
	hear(t, h, table, from, from.Add(2*time.Hour), mesh.Sample{Signal: 1, Time: at(0), Value: mesh.Int(6)}, mesh.Sample{Signal: 2, Time: at(10), Value: mesh.Int(100)},
		mesh.Sample{Signal: 2, Time: at(70), Value: mesh.Int(1234)}, mesh.Sample{Signal: 2, Time: at(80), Status: mesh.StatusBadNoData}, mesh.Sample{Signal: 2, Time: at(100), Value: mesh.Int(1234)})
	until(t, 20*time.Second, "the saw is in the inbox", func() bool {
		l, err := h.sites.Look(t.Context())
		check(t, err)
		return len(l.Inbox) == 1
	})
	ask(http.MethodPost, "/api/v1/registry/models", `{"model": {"id": "bad", "version": "1.0.0", "properties": [{"name": "n", "kind": "measurement", "role": "produced"}, {"name": "m", "kind": "transform", "of": "n", "scale": 2}]}}`, http.StatusUnprocessableEntity, nil)
	ask(http.MethodPost, "/api/v1/registry/models", fmt.Sprintf(oilModel, "1.0.0", 0.1), http.StatusOK, nil)
	ask(http.MethodPost, "/api/v1/registry/models", fmt.Sprintf(oilModel, "1.1.0", 0.2), http.StatusOK, nil)
	ask(http.MethodPost, "/api/v1/registry/inbox/approve", `{"source": "saw", "signals_prefix": "line2.saw.", "model": "saw@1.0.0", "valid_from": "`+from.Add(time.Hour).Format(time.RFC3339)+`"}`, http.StatusOK, nil)

	const was, is = "transform, unit BAR, of oil_raw, scale 0.1, offset -1", "transform, unit BAR, of oil_raw, scale 0.2, offset -1"
	var diff struct {
		Data []plant.Change `json:"data"`
	}
	ask(http.MethodGet, "/api/v1/registry/models/saw/diff?from=1.0.0&to=1.1.0", "", http.StatusOK, &diff)
	if !slices.Equal(diff.Data, []plant.Change{{What: "property oil", From: was, To: is}}) {
		t.Errorf("%+v", diff.Data)
	}
	var model plant.Model
	ask(http.MethodGet, "/api/v1/registry/models/saw@1.0.0", "", http.StatusOK, &model)
	if p := model.Properties[2]; p.Of != "oil_raw" || *p.Scale != 0.1 || *p.Offset != -1 {
		t.Errorf("%+v", p)
	}
	for _, dry := range []string{"?dry_run=true", ""} {
		var done desk.Changed
		ask(http.MethodPost, "/api/v1/registry/models/saw/upgrade"+dry, `{"to": "1.1.0", "valid_from": "`+from.Add(90*time.Minute).Format(time.RFC3339)+`"}`, http.StatusOK, &done)
		if !slices.Equal(done.Rules, []plant.Change{{What: "transform oil", From: was, To: is}}) {
			t.Errorf("%+v", done)
		}
	}

	want := []string{
		"70 line2.saw.oil 122.4 BAR good line2.saw.oil_raw saw@1.0.0", "70 line2.saw.oil_raw 1234 <nil> good <nil> <nil>",
		"80 line2.saw.oil <nil> BAR bad line2.saw.oil_raw saw@1.0.0", "80 line2.saw.oil_raw <nil> <nil> bad <nil> <nil>",
		"100 line2.saw.oil 245.8 BAR good line2.saw.oil_raw saw@1.1.0", "100 line2.saw.oil_raw 1234 <nil> good <nil> <nil>",
	}
	var got []string
	until(t, 20*time.Second, "there are rows of the pressure", func() bool {
		var rows struct {
			Data []struct {
				Signal, Quality string
				Time            time.Time
				Value, Unit     any
				From            any `json:"derived_from"`
				By              any `json:"derived_by"`
			} `json:"data"`
		}
		ask(http.MethodGet, "/api/v1/products/signals/rows?equipment=line2-saw", "", http.StatusOK, &rows)
		got = nil
		for _, r := range rows.Data {
			got = append(got, fmt.Sprint(r.Time.Sub(from).Minutes(), " ", r.Signal, " ", r.Value, " ", r.Unit, " ", r.Quality, " ", r.From, " ", r.By))
		}
		return slices.Equal(got, want)
	})
	var latest struct {
		Data []map[string]any `json:"data"`
	}
	ask(http.MethodGet, "/api/v1/products/signals/latest?equipment=line2-saw&fields=signal,value,derived_by", "", http.StatusOK, &latest)
	if said := fmt.Sprint(latest.Data); !strings.Contains(said, "map[derived_by:saw@1.1.0 signal:line2.saw.oil value:245.8]") || !strings.Contains(said, "map[derived_by:<nil> signal:line2.saw.oil_raw value:1234]") {
		t.Errorf("%s", said)
	}
	exportsTransforms(t, h, from, want)

	const lacks = "no signal of the machine is flow_raw"
	var row desk.Row
	var g desk.GatewayRules
	until(t, 20*time.Second, "what can't be made is told", func() bool {
		ask(http.MethodGet, "/api/v1/registry/machines/line2-saw", "", http.StatusOK, &row)
		ask(http.MethodGet, "/api/v1/agents/graz/gw-1/rules", "", http.StatusOK, &g)
		return len(g.Left) > 0 && row.Rules != nil && len(row.Rules.Left) > 0
	})
	if l := (plant.Left{Machine: "line2-saw", Property: "flow", Why: lacks}); !slices.Equal(g.Left, []plant.Left{l}) || !slices.Equal(row.Rules.Left, []plant.Left{l}) {
		t.Errorf("%+v %+v", g.Left, row.Rules)
	}
	if said := fmt.Sprint(row.Readiness); !strings.Contains(said, "check:transforms ok:false says:flow is not made: "+lacks+"; oil of line2.saw.oil_raw]") {
		t.Errorf("%s", said)
	}
}

// exportsTransforms looks for the same rows in files.
func exportsTransforms(t *testing.T, h *hub, from time.Time, want []string) {
	t.Helper()
	ask := ExportRequest{From: from.Truncate(24 * time.Hour), To: time.Now().UTC().Truncate(24 * time.Hour), Out: t.TempDir(), Equipment: []string{"line2-saw"}}
	files, err := Export(t.Context(), h.cfg, ask, quiet())
	check(t, err)
	var got []string
	raw := 0
	for _, f := range files {
		rows, err := parquet.Read(f.Path)
		check(t, err)
		for _, r := range rows {
			if r.DerivedFrom == "" {
				raw++
				continue
			}
			value := "<nil>"
			if r.Double != nil {
				value = fmt.Sprint(*r.Double)
			}
			quality := mesh.Status(r.Status).Severity()
			got = append(got, fmt.Sprint(time.Unix(0, r.TS).Sub(from).Minutes(), " ", r.Tag, " ", value, " ", r.Unit, " ", quality, " ", r.DerivedFrom, " ", r.DerivedBy))
			if r.Equipment != "line2-saw" || r.Source != "saw" || (r.Type == "double") != (r.Double != nil) {
				t.Errorf("%+v", r)
			}
		}
	}
	want = slices.DeleteFunc(slices.Clone(want), func(s string) bool { return strings.HasSuffix(s, "<nil>") })
	if !slices.Equal(got, want) || raw != 5 {
		t.Errorf("%s: %d raw and %q, want %q", filepath.Dir(ask.Out), raw, got, want)
	}
}

// A model that an older hub registered may have a transform of a formula: it is read, told
// as left out, and nothing is made of it.
func TestTransforms_OfBeforeAreRead(t *testing.T) {
	h := opened(t)
	from := time.Now().UTC().Add(-3 * time.Hour)
	tell(t, h, "line2.saw.", from, from.Add(time.Hour))
	old := plant.Model{ID: "old", Version: "1.0.0", Properties: []plant.Property{{Name: "good", Kind: plant.Transform, Formula: "produced - scrap"}}}
	_, err := h.sites.Change(t.Context(), desk.Change{
		By: registry.Actor{Who: "anna", Via: "cli"}, Action: "machine.add", ValidFrom: desk.Always, May: func(string) error { return nil },
		Make: func(plant.Scene) (plant.Delta, error) {
			return plant.Delta{Models: []plant.Model{old}, Put: []plant.Machine{{ID: "saw", Model: "old@1.0.0", Source: "saw", SignalsPrefix: "line2.saw."}}}, nil
		},
	})
	check(t, err)
	var row desk.Row
	until(t, 20*time.Second, "its rules are told", func() bool {
		l, err := h.sites.Look(t.Context())
		check(t, err)
		k := slices.IndexFunc(l.Rows, func(r desk.Row) bool { return r.ID == "saw" })
		if k >= 0 {
			row = l.Rows[k]
		}
		return row.Rules != nil && len(row.Rules.Left) > 0
	})
	if l := row.Rules.Left[0]; l.Property != "good" || !strings.Contains(l.Why, "nothing makes a transform of a formula") || strings.Contains(fmt.Sprint(row.Readiness), "check:transforms") {
		t.Errorf("%+v %+v", l, row.Readiness)
	}
}
