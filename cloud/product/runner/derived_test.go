package runner

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"plantmesh/proto/mesh"
)

// modelled is the site of a bench whose filler is of a model that makes two signals of its
// temperature, or of its next version, which makes one of them otherwise.
func modelled(version string) string {
	const models = `models:
  - id: filler
    version: "1"
    properties:
      - {name: temperature, kind: measurement}
      - {name: warm, kind: transform, of: temperature, scale: 1.8, offset: 32, unit: FAH}
      - {name: a_kelvin, kind: transform, of: temperature, offset: 273.15, unit: KEL}
  - id: filler
    version: "2"
    properties:
      - {name: temperature, kind: measurement}
      - {name: warm, kind: transform, of: temperature, scale: 2}
equipment:
`
	text := strings.Replace(testSite, "  - {id: l2-filler, line: l2, name: Filler, kind: filler, source: s2, signals_prefix: l2.filler.}\n", "", 1)
	return strings.NewReplacer("equipment:\n", models, "id: l1-filler,", "id: l1-filler, model: filler@"+version+",").Replace(text)
}

// pages are the rows of a view, limit by limit.
func pages(t *testing.T, view *Signals, q mesh.RowQuery) (out []mesh.Row) {
	t.Helper()
	for more := true; more && len(out) < 1000; more = q.After != "" {
		rows, next, err := view.Rows(t.Context(), q)
		if err != nil {
			t.Fatal(err)
		}
		out, q.After = append(out, rows...), next
	}
	return out
}

func said(t *testing.T, r *mesh.Row) string {
	t.Helper()
	var row struct {
		Signal  string          `json:"signal"`
		Value   json.RawMessage `json:"value"`
		Quality string          `json:"quality"`
		From    string          `json:"derived_from"`
		By      string          `json:"derived_by"`
	}
	if err := json.Unmarshal(r.Body, &row); err != nil {
		t.Fatal(err)
	}
	return strings.Join(strings.Fields(fmt.Sprint(r.From.Sub(start()), " ", row.Signal[len("l1."):], " ", string(row.Value), " ", row.Quality, " ", row.By)), " ")
}

// Beside each sample stands what the model made of it that the machine had then, on whatever
// page, from batches and chunks; rows of the samples are what they are without a model.
func TestSignals_RowsOfTransforms(t *testing.T) {
	b := newBench(t, Config{Eager: true})
	b.hub.site(modelled("1"))
	b.hub.siteFrom(start().Add(30*time.Minute), modelled("2"))
	bad := b.sample(20*time.Minute, "temperature", mesh.Double(7))
	bad.Status = mesh.StatusUncertainLast
	twice := []mesh.Sample{b.sample(10*time.Minute, "temperature", mesh.Int(20)), b.sample(10*time.Minute, "energy", mesh.Int(3)), bad}
	b.hub.arrive(b.heard(25*time.Minute, twice...), nil)
	b.hub.arrive(b.heard(35*time.Minute, b.sample(30*time.Minute-1, "temperature", mesh.Int(21)), b.sample(30*time.Minute, "temperature", mesh.Int(21))), nil)
	b.hub.arrive(b.f.batch("s1", mesh.Span{}, 0, twice), nil) // once more, as a history gives it
	// A gateway that reads it itself from now on.
	was := b.f
	b.f = newFeeder(t, b.hub, "agent/test/gw", was.seq, []string{"l1.filler.temperature", "l1.filler.warm"})
	b.hub.arrive(b.heard(time.Hour, b.sample(40*time.Minute, "temperature", mesh.Int(22)), b.sample(40*time.Minute, "warm", mesh.Int(1))), nil)
	b.step()
	want := []string{
		"10m0s filler.a_kelvin 293.15 good filler@1", "10m0s filler.energy 3 good", "10m0s filler.temperature 20 good", "10m0s filler.warm 68 good filler@1",
		"20m0s filler.a_kelvin null uncertain filler@1", "20m0s filler.temperature 7 uncertain", "20m0s filler.warm null uncertain filler@1",
		"29m59.999999999s filler.a_kelvin 294.15 good filler@1", "29m59.999999999s filler.temperature 21 good", "29m59.999999999s filler.warm 69.80000000000001 good filler@1",
		"30m0s filler.temperature 21 good", "30m0s filler.warm 42 good filler@2",
		"40m0s filler.temperature 22 good", "40m0s filler.warm 1 good",
	}
	plain := newBench(t, Config{Eager: true})
	plain.hub.entries, plain.hub.descriptors, plain.hub.accounts = nil, b.hub.descriptors, b.hub.accounts
	for _, e := range b.hub.entries {
		if e.Header.Kind != mesh.KindFact {
			plain.hub.append(e)
		}
	}
	plain.hub.site(strings.Replace(modelled("1"), "model: filler@1,", "", 1))
	plain.step()
	raw := map[string]string{}
	for _, r := range pages(t, NewSignals(definitionOf(t, "signals"), plain.hub, plain.out), mesh.RowQuery{}) {
		raw[r.Key] = string(r.Body)
	}
	view := NewSignals(definitionOf(t, "signals"), b.hub, b.out)
	for _, compacted := range []int{0, len(b.hub.entries)} {
		b.hub.compacted = compacted
		for _, limit := range []int{1, 2, 3, 1000} {
			rows := pages(t, view, mesh.RowQuery{Limit: limit})
			var got []string
			keys, plainly := map[string]bool{}, 0
			for i := range rows {
				got, keys[rows[i].Key] = append(got, said(t, &rows[i])), true
				if body := string(rows[i].Body); !strings.Contains(body, "derived_") {
					if plainly++; body != raw[rows[i].Key] {
						t.Errorf("it was %s, and is %s", raw[rows[i].Key], body)
					}
				}
				if rows[i].Entity != "l1-filler" || rows[i].Revision != 1 || rows[i].State != mesh.RowFinal {
					t.Errorf("%+v", rows[i])
				}
			}
			if !slices.Equal(got, want) || len(keys) != len(want) || plainly != len(raw) || plainly != 7 {
				t.Errorf("pages of %d have\n%s\nwant\n%s", limit, strings.Join(got, "\n"), strings.Join(want, "\n"))
			}
		}
	}
	q := mesh.RowQuery{Entities: []string{"l1-filler"}, Span: mesh.Span{From: start().Add(30 * time.Minute), To: start().Add(31 * time.Minute)}}
	if rows := pages(t, view, q); len(rows) != 2 {
		t.Errorf("%d rows in a minute", len(rows))
	}
}

// Two gateways read one source, and one of them reads what a model makes by itself: at the
// instants that it has nothing is made, in whatever order the two are heard.
func TestSignals_TransformsOfTwoGateways(t *testing.T) {
	for _, first := range []string{"plain", "whole"} {
		b := newBench(t, Config{Eager: true})
		b.hub.site(modelled("2"))
		var seq uint64
		plain := b.f
		whole := newFeeder(t, b.hub, "agent/test/gw2", &seq, []string{"l1.filler.warm", "l1.filler.temperature"})
		speak := func(f *feeder, at time.Duration, roles ...string) {
			b.f = f
			var all []mesh.Sample
			for _, role := range roles {
				all = append(all, b.sample(at, role, mesh.Int(20)))
			}
			b.hub.arrive(f.batch("s1", mesh.Span{}, 0, all), nil)
		}
		if first == "whole" {
			speak(whole, time.Minute, "temperature", "warm")
		}
		speak(plain, time.Minute, "temperature")
		speak(plain, 2*time.Minute, "temperature")
		if first == "plain" {
			speak(whole, time.Minute, "temperature", "warm")
		}
		b.step()
		rows := pages(t, NewSignals(definitionOf(t, "signals"), b.hub, b.out), mesh.RowQuery{})
		var got []string
		for i := range rows {
			got = append(got, said(t, &rows[i]))
		}
		if want := []string{"1m0s filler.temperature 20 good", "1m0s filler.warm 20 good", "2m0s filler.temperature 20 good", "2m0s filler.warm 40 good filler@2"}; !slices.Equal(got, want) {
			t.Errorf("%s first: %q, want %q", first, got, want)
		}
	}
}

// newestOf gives newest samples.
type newestOf []mesh.Newest

func (n newestOf) Newest(context.Context, string, mesh.Nanos) ([]mesh.Newest, error) { return n, nil }

// The newest of what is made is of the newest sample, by the model of its time; of a signal
// that was there by itself once, and is no more, the later stands.
func TestLatest_OfTransforms(t *testing.T) {
	b := newBench(t, Config{Eager: true})
	b.hub.site(modelled("1"))
	b.hub.siteFrom(start().Add(30*time.Minute), modelled("2"))
	b.hub.arrive(b.heard(time.Hour, b.sample(0, "temperature", mesh.Int(1))), nil)
	b.step()
	tables := [][]mesh.Signal{{{ID: 1, Name: "l1.filler.temperature"}}, {{ID: 1, Name: "l1.filler.temperature"}, {ID: 2, Name: "l1.filler.warm"}}}
	newest := func(table, k int, at time.Duration, v int64) mesh.Newest {
		return mesh.Newest{Signal: tables[table][k], Sample: mesh.Sample{Time: start().Add(at), Value: mesh.Int(v)}, Table: tables[table]}
	}
	for name, c := range map[string]struct {
		newest newestOf
		want   []string
	}{
		"of before":         {newestOf{newest(0, 0, 10*time.Minute, 20)}, []string{"10m0s filler.temperature 20 good", "10m0s filler.warm 68 good filler@1", "10m0s filler.a_kelvin 293.15 good filler@1"}},
		"of now":            {newestOf{newest(0, 0, 40*time.Minute, 20)}, []string{"40m0s filler.temperature 20 good", "40m0s filler.warm 40 good filler@2"}},
		"there by itself":   {newestOf{newest(1, 0, 40*time.Minute, 20), newest(1, 1, 10*time.Minute, 3)}, []string{"40m0s filler.temperature 20 good", "10m0s filler.warm 3 good"}},
		"and no more":       {newestOf{newest(0, 0, 40*time.Minute, 20), newest(1, 1, 10*time.Minute, 3)}, []string{"40m0s filler.temperature 20 good", "40m0s filler.warm 40 good filler@2"}},
		"and by now":        {newestOf{newest(0, 0, 40*time.Minute, 20), newest(1, 1, 50*time.Minute, 3)}, []string{"40m0s filler.temperature 20 good", "50m0s filler.warm 3 good"}},
		"without its table": {newestOf{{Signal: tables[0][0], Sample: mesh.Sample{Time: start()}}}, []string{"0s filler.temperature null good"}},
	} {
		l := NewLatest(NewSignals(definitionOf(t, "signals"), b.hub, b.out), c.newest, start)
		rows, err := l.Latest(t.Context(), mesh.RowQuery{Entities: []string{"l1-filler"}})
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for i := range rows {
			got = append(got, said(t, &rows[i]))
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}

// BenchmarkSignals_Rows reads a page of rows: without transforms nothing is looked for.
func BenchmarkSignals_Rows(b *testing.B) {
	for _, c := range []struct{ name, site string }{{"plain", ""}, {"transforms", modelled("2")}} {
		b.Run(c.name, func(b *testing.B) {
			x := newBench(b, Config{Eager: true})
			if c.site != "" {
				x.hub.site(c.site)
			}
			for i := range 20 {
				var s []mesh.Sample
				for k := range 100 {
					s = append(s, x.sample(time.Duration(100*i+k)*time.Second, "temperature", mesh.Double(float64(k)/8)))
				}
				x.hub.arrive(x.heard(time.Duration(100*i+100)*time.Second, s...), nil)
			}
			x.step()
			view := NewSignals(definitionOf(b, "signals"), x.hub, x.out)
			n := 0
			for b.Loop() {
				rows, _, err := view.Rows(b.Context(), mesh.RowQuery{Limit: 10_000, Entities: []string{"l1-filler"}})
				if err != nil {
					b.Fatal(err)
				}
				n += len(rows)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(n), "ns/row")
		})
	}
}
