package walk

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"plantmesh/cloud/product"
	"plantmesh/cloud/product/runner"
	"plantmesh/firmware-sim/plant"
	"plantmesh/firmware-sim/plant/truth"
	"plantmesh/proto/mesh"
)

// findings are what the comparison with the plant's truth gives.
type findings struct {
	rows, mismatched, lost, duplicated, unmarked int
	gaps, allowed, beyond                        float64 // seconds; beyond: gaps where none may be
	words                                        []string
}

func (f *findings) ok() bool {
	return f.mismatched == 0 && f.lost == 0 && f.duplicated == 0 && f.unmarked == 0 && f.beyond == 0 && f.rows > 0
}

func (f *findings) String() string {
	return fmt.Sprintf("rows=%d mismatched=%d lost=%d duplicated=%d unmarked=%d gap_seconds=%.0f allowed=%.0f beyond=%.0f%s",
		f.rows, f.mismatched, f.lost, f.duplicated, f.unmarked, f.gaps, f.allowed, f.beyond, strings.Join(f.words, ""))
}

// say keeps the first findings in words.
func (f *findings) say(format string, args ...any) {
	if len(f.words) < 12 {
		f.words = append(f.words, "\n\t"+fmt.Sprintf(format, args...))
	}
}

// compare holds everything the hub says against what the plant did.
func (w *walk) compare() *findings {
	w.t.Helper()
	f := &findings{}
	gaps := w.compareGaps(f)
	w.compareRows(f, gaps)
	w.compareSignals(f, gaps)
	return f
}

// rows are all rows of a product.
func (w *walk) rows(product string) (out []mesh.Row) {
	q := mesh.RowQuery{Product: product, Limit: 5000}
	for {
		part, next, err := w.hub.store.Rows(w.ctx, q)
		w.check(err)
		out = append(out, part...)
		if next == "" {
			return out
		}
		q.After = next
	}
}

// compareGaps looks whether gaps are only where a device may forget, and
// whether each says why.
func (w *walk) compareGaps(f *findings) map[string][]mesh.Span {
	gaps, allowed := map[string][]mesh.Span{}, map[string][]mesh.Span{}
	for _, d := range w.devices {
		allowed[d.source] = joined(d.allowed)
		f.allowed += seconds(allowed[d.source])
	}
	unknown := func(source string, g mesh.Span) {
		gaps[source] = append(gaps[source], g)
		f.gaps += g.Duration().Seconds()
		if !slices.ContainsFunc(allowed[source], func(a mesh.Span) bool { return a.From <= g.From && g.To <= a.To }) {
			f.beyond += g.Duration().Seconds()
			f.say("%s has a gap from %s to %s, allowed are %v", source, g.From, g.To, allowed[source])
		}
	}
	for source, from := range w.firstKnown() {
		if from > w.world.start { // it died before its first proof was durable: unknown, though not a gap
			unknown(source, mesh.Span{From: w.world.start, To: from})
		}
	}
	for _, r := range w.rows("coverage") {
		f.rows++
		g := mesh.Span{From: r.From, To: r.To}
		if g.To == 0 {
			if g.From >= w.world.end {
				continue // the plant stands; who died since then may still prove it
			}
			g.To, w.open[r.Entity] = w.world.end, g.From
		}
		unknown(r.Entity, g)
		var why struct {
			Cause string `json:"cause"`
		}
		w.check(json.Unmarshal(r.Body, &why))
		if why.Cause != string(mesh.CauseDied) && why.Cause != string(mesh.CauseDisconnected) {
			f.unmarked++
			f.say("the gap of %s from %s is marked %q", r.Entity, g.From, why.Cause)
		}
	}
	return gaps
}

// firstKnown is where each source begins to be known, as the rows have it.
func (w *walk) firstKnown() map[string]mesh.Nanos {
	sources, out := map[string]string{}, map[string]mesh.Nanos{}
	for _, s := range w.world.signals {
		line, machine, _, _ := plant.Split(s.Name)
		sources[line+"-"+machine] = s.Source
	}
	for _, r := range w.rows(truth.EquipmentState) {
		if at, ok := out[sources[r.Entity]]; !ok || r.From < at {
			out[sources[r.Entity]] = r.From
		}
	}
	return out
}

// complete is the instant before which nothing more is expected of a machine:
// the plant's end, unless its source died at the last and proves nothing more.
func (w *walk) complete(equipment string) mesh.Nanos {
	for _, s := range w.world.signals {
		line, machine, _, _ := plant.Split(s.Name)
		if at, ok := w.open[s.Source]; ok && line+"-"+machine == equipment {
			return at
		}
	}
	return w.world.end
}

func joined(in []mesh.Span) (out []mesh.Span) {
	in = slices.Clone(in)
	slices.SortFunc(in, func(a, b mesh.Span) int { return int(a.From - b.From) })
	for _, s := range in {
		if n := len(out); n > 0 && s.From <= out[n-1].To {
			out[n-1].To = max(out[n-1].To, s.To)
			continue
		}
		out = append(out, s)
	}
	return out
}

func seconds(spans []mesh.Span) (s float64) {
	for _, x := range spans {
		s += x.Duration().Seconds()
	}
	return s
}

// known is what was heard: everything but the gaps.
func (w *walk) known(gaps map[string][]mesh.Span) map[string][]truth.Span {
	out := map[string][]truth.Span{}
	for _, name := range w.world.sources {
		from := w.world.start
		for _, g := range joined(gaps[name]) {
			out[name] = append(out[name], truth.Span{From: int64(from), To: int64(g.From)})
			from = g.To
		}
		out[name] = append(out[name], truth.Span{From: int64(from), To: int64(w.world.end)})
	}
	return out
}

// compareRows compares the products with the truth, column by column.
func (w *walk) compareRows(f *findings, gaps map[string][]mesh.Span) {
	rows, err := truth.Of(w.world.signals, w.world.emissions, w.known(gaps), w.world.end.Time())
	w.check(err)
	want := map[string]map[string]any{}
	for _, r := range rows {
		b, err := json.Marshal(r.Columns)
		w.check(err)
		var columns map[string]any
		w.check(json.Unmarshal(b, &columns))
		want[rowKey(r.Product, columns)] = columns
	}
	for _, p := range compared() {
		for _, r := range w.rows(p) {
			f.rows++
			var have map[string]any
			w.check(json.Unmarshal(r.Body, &have))
			key := rowKey(p, have)
			columns, ok := want[key]
			delete(want, key)
			what := differs(have, columns)
			if final := r.To != 0 && r.To <= w.complete(r.Entity); what == "" && final != (r.State == mesh.RowFinal) {
				what = fmt.Sprintf("its state is %d", r.State)
			}
			if !ok {
				what = "the truth has no such row"
			}
			if what != "" {
				f.mismatched++
				f.say("%s: %s", key, what)
			}
		}
	}
	for key := range want {
		f.mismatched++
		f.say("%s: the row is missing", key)
	}
}

func compared() []string {
	return []string{truth.EquipmentState, truth.ProductionRate, truth.OEE}
}

func rowKey(product string, r map[string]any) string {
	return fmt.Sprintf("%s %v %v %v", product, r["equipment"], r["window"], r["from"])
}

// differs says in words how a row differs from the truth; empty: it does not.
func differs(have, want map[string]any) string {
	for column, x := range want {
		y, ok := have[column]
		if !ok {
			return fmt.Sprintf("column %s is missing, the truth says %v", column, x)
		}
		if !same(x, y) {
			return fmt.Sprintf("%s is %v, the truth says %v", column, y, x)
		}
	}
	return ""
}

// same compares JSON values, numbers to 1e-9.
func same(a, b any) bool {
	switch x := a.(type) {
	case float64:
		y, ok := b.(float64)
		return ok && math.Abs(x-y) <= 1e-9*max(1, math.Abs(x), math.Abs(y))
	case []any:
		y, ok := b.([]any)
		return ok && slices.EqualFunc(x, y, same)
	}
	return a == b
}

// seen is one sample the plant emitted.
type seen struct {
	emission *plant.Emission
	told     bool
	times    int
}

// compareSignals holds product signals against what was emitted and
// acknowledged.
func (w *walk) compareSignals(f *findings, gaps map[string][]mesh.Span) {
	type name struct {
		at     int64
		signal string
	}
	all := make(map[name]*seen, len(w.world.emissions))
	for _, d := range w.devices {
		for i := range d.feed {
			e := &d.feed[i]
			k := name{e.Time.UnixNano(), e.Signal}
			s := all[k]
			if s == nil {
				s = &seen{emission: e}
				all[k] = s
			}
			s.told = s.told || d.told[e.Index]
		}
	}
	w.signals(func(r *mesh.Row) {
		f.rows++
		signal := signalOf(r)
		s := all[name{int64(r.From), signal}]
		if s == nil || !says(r.Body, s.emission) {
			f.mismatched++
			f.say("signals %s: the plant never emitted %s", r.Key, r.Body)
			return
		}
		s.times++
	})
	for k, s := range all {
		switch {
		case s.times > 1:
			f.duplicated += s.times - 1
			f.say("signals %s at %s: %d times", k.signal, s.emission.Time, s.times)
		case s.times == 1:
		case s.told:
			f.lost++
			f.say("signals %s at %s: the device was told it is received", k.signal, s.emission.Time)
		case !slices.ContainsFunc(gaps[s.emission.Source], func(g mesh.Span) bool { return g.Has(mesh.Nanos(k.at)) }):
			f.unmarked++
			f.say("signals %s at %s: missing, and no gap says so", k.signal, s.emission.Time)
		}
	}
}

// signalOf is whose sample a row of product signals is: its key is "<time>/<signal>/<sum>".
func signalOf(r *mesh.Row) string {
	return r.Key[strings.IndexByte(r.Key, '/')+1 : strings.LastIndexByte(r.Key, '/')]
}

// signals calls each with every row of product signals.
func (w *walk) signals(each func(*mesh.Row)) {
	defs, err := product.Definitions()
	w.check(err)
	i := slices.IndexFunc(defs, func(d *product.Definition) bool { return d.Fold == product.FoldSamples })
	reader := runner.NewSignals(defs[i], w.hub.store, w.hub.store)
	for from := w.world.start; from < w.world.end+1; from = from.Add(6 * time.Hour) {
		q := mesh.RowQuery{Product: defs[i].ID, Span: mesh.Span{From: from, To: min(from.Add(6*time.Hour), w.world.end+1)}, Limit: 1 << 20}
		rows, next, err := reader.Rows(w.ctx, q)
		w.check(err)
		if next != "" {
			w.t.Fatal("a page of signals was too long for the test")
		}
		for i := range rows {
			each(&rows[i])
		}
	}
}

// says reports whether a row of signals tells what was emitted. Its columns
// stand in the order of the alphabet: status is followed by time, value is last.
func says(body []byte, e *plant.Emission) bool {
	var value string
	switch v := e.Value; v.Type {
	case plant.None:
		value = "null"
	case plant.Bool:
		value = strconv.FormatBool(v.B)
	case plant.Int:
		value = strconv.FormatInt(v.I, 10)
	case plant.Double:
		b, err := json.Marshal(v.F)
		if err != nil {
			return false
		}
		value = string(b)
	case plant.String:
		value = strconv.Quote(v.S)
	}
	return bytes.HasSuffix(body, []byte(`,"value":`+value+`}`)) &&
		bytes.Contains(body, fmt.Appendf(nil, `,"status":%d,"text":null,"time":"`, e.Status))
}
