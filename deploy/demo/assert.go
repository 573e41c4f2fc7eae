package demo

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"time"
)

// compared are the products with a truth of the plant's own.
func compared() []string { return []string{"equipment-state", "production-rate", "oee"} }

// ms is an instant in whole milliseconds, as plants and rows count.
type ms = int64

type stretch struct{ from, to ms }

// tally is the demo's last line.
type tally struct {
	products, rows, mismatched, lost, duplicated, unmarked int
	gapSeconds, allowed                                    float64
	bridged                                                float64 // gap seconds of sources that should have none
}

func (t tally) ok() bool {
	return t.mismatched == 0 && t.lost == 0 && t.duplicated == 0 && t.unmarked == 0 && t.bridged == 0 && t.gapSeconds <= t.allowed
}

// assert waits until every product has reached the end and compares all of it
// with the truth.
func (d *demo) assert(ctx context.Context) error {
	if err := d.settle(ctx); err != nil {
		return err
	}
	var t tally
	gaps, err := d.gaps(ctx, &t)
	if err != nil {
		return err
	}
	t.allowed = d.allowed()
	if err := d.compareRows(ctx, gaps, &t); err != nil {
		return err
	}
	if err := d.compareSamples(ctx, gaps, &t); err != nil {
		return err
	}
	d.outcome.Verdict = &Verdict{t.products, t.rows, t.mismatched, t.lost, t.duplicated, t.unmarked, t.gapSeconds, t.allowed}
	_, err = fmt.Fprintf(d.out, "demo: products=%d rows=%d mismatched=%d lost=%d duplicated=%d unmarked=%d gap_seconds=%.0f allowed=%.0f\n",
		t.products, t.rows, t.mismatched, t.lost, t.duplicated, t.unmarked, t.gapSeconds, t.allowed)
	if err == nil && !t.ok() {
		err = ErrFindings
	}
	return err
}

// settle waits until every product's progress has reached the plant's end.
func (d *demo) settle(ctx context.Context) error {
	wait, cancel := context.WithTimeout(ctx, settleWithin)
	defer cancel()
	waiting := d.waiting()
	for {
		behind := ""
		for _, p := range append(compared(), "coverage") {
			at, err := d.progress(wait, p)
			if err != nil {
				behind = err.Error()
			} else if at.Before(d.a) {
				behind = fmt.Sprintf("%s is known through %s, the plant stands at %s", p, stamp(at), stamp(d.a))
			}
		}
		if behind == "" {
			return nil
		}
		if err := d.alive(); err != nil {
			return err
		}
		waiting("the products: " + behind)
		if pause(wait, 200*time.Millisecond) != nil {
			return errors.Join(ctx.Err(), fmt.Errorf("%w: not settled within %s: %s", ErrFindings, settleWithin, behind))
		}
	}
}

// gaps are the unknown stretches of each source, as the product coverage says.
func (d *demo) gaps(ctx context.Context, t *tally) (map[string][]stretch, error) {
	out := map[string][]stretch{}
	t.products++
	err := d.rows(ctx, "coverage", nil, func(r row) {
		t.rows++
		g := stretch{parse(r.text("from")), d.a.UnixMilli()}
		if to := r.text("to"); to != "" {
			g.to = parse(to)
		}
		source := r.text("source")
		out[source] = append(out[source], g)
		seconds := float64(g.to-g.from) / 1e3
		t.gapSeconds += seconds
		if source != forgetful {
			t.bridged += seconds
			d.say("gap     %s from %s to %s: %s %s", source, r.text("from"), r.text("to"), r.text("cause"), r.text("note"))
		}
	})
	return out, err
}

func parse(s string) ms {
	t, err := time.Parse(time.RFC3339Nano, s)
	if err != nil {
		return 0
	}
	return t.UnixMilli()
}

// allowed is what the faults may cost: only one source can't be bridged, and
// only a dead reader makes it forget.
func (d *demo) allowed() (seconds float64) {
	for _, x := range d.downs {
		if x.fault == "kill-agent" || x.fault == "kill-worker" {
			seconds += (x.took.Seconds() + 2) * d.Speed
		}
	}
	return seconds
}

// writeKnown tells the truth what was known: everything but the gaps.
func (d *demo) writeKnown(gaps map[string][]stretch) (string, error) {
	known := map[string][][2]int64{}
	for _, s := range sources() {
		from := d.start.UnixMilli()
		spans := [][2]int64{}
		for _, g := range gaps[s.name] {
			if g.from > from {
				spans = append(spans, [2]int64{from * 1e6, g.from * 1e6})
			}
			from = g.to
		}
		if end := d.a.UnixMilli(); from < end {
			spans = append(spans, [2]int64{from * 1e6, end * 1e6})
		}
		known[s.name] = spans
	}
	b, err := json.Marshal(known)
	if err != nil {
		return "", fmt.Errorf("write what is known: %w", err)
	}
	return d.path("known.json"), d.write("known.json", string(b))
}

// compareRows compares every product with the plant's truth.
func (d *demo) compareRows(ctx context.Context, gaps map[string][]stretch, t *tally) error {
	known, err := d.writeKnown(gaps)
	if err != nil {
		return err
	}
	out := d.path("truth.ndjson")
	cmd := command(ctx, d.sim.path, "truth", "--config", d.simConfig(), "--known", known, "--at", stamp(d.a), "--out", out)
	if said, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("write the plant's truth: %w: %s", err, said)
	}
	truth, err := readTruth(out)
	if err != nil {
		return err
	}
	for _, p := range compared() {
		t.products++
		want := truth[p]
		err := d.rows(ctx, p, nil, func(r row) {
			t.rows++
			key := rowKey(r)
			w, ok := want[key]
			delete(want, key)
			if what := differs(r, w); !ok || what != "" {
				t.mismatched++
				if !ok {
					what = "the truth has no such row"
				}
				d.report(t.mismatched, "%s %s: %s", p, key, what)
			}
		})
		if err != nil {
			return err
		}
		for key := range want {
			t.mismatched++
			d.report(t.mismatched, "%s %s: the row is missing", p, key)
		}
	}
	return nil
}

// report says the first few findings in words.
func (d *demo) report(n int, format string, args ...any) {
	if n <= 20 {
		d.say("finding "+format, args...)
	}
}

// rowKey names a row of the compared products.
func rowKey(r row) string { return r.text("equipment") + " " + r.text("window") + " " + r.text("from") }

// differs says in words how a row differs from the truth; empty: it does not.
// Only columns the truth speaks of count.
func differs(have, want row) string {
	for column, w := range want {
		h, ok := have[column]
		if !ok && w != nil {
			return fmt.Sprintf("column %s is missing, the truth says %v", column, w)
		}
		if !same(h, w) {
			return fmt.Sprintf("%s is %v, the truth says %v", column, h, w)
		}
	}
	return ""
}

// same compares JSON values, numbers to 1e-9.
func same(a, b any) bool {
	x, isX := a.(float64)
	y, isY := b.(float64)
	if isX && isY {
		return math.Abs(x-y) <= 1e-9*max(1, math.Abs(x), math.Abs(y))
	}
	l, isL := a.([]any)
	m, isM := b.([]any)
	if isL && isM {
		if len(l) != len(m) {
			return false
		}
		for i := range l {
			if !same(l[i], m[i]) {
				return false
			}
		}
		return true
	}
	return isX == isY && isL == isM && a == b
}

// readTruth reads the truth's rows by product and key.
func readTruth(path string) (map[string]map[string]row, error) {
	f, err := os.Open(filepath.Clean(path))
	if err != nil {
		return nil, fmt.Errorf("read the plant's truth: %w", err)
	}
	defer f.Close() //nolint:errcheck // it is only read
	out := map[string]map[string]row{}
	for dec := json.NewDecoder(f); dec.More(); {
		var line struct {
			Product string `json:"product"`
			Columns row    `json:"columns"`
		}
		if err := dec.Decode(&line); err != nil {
			return nil, fmt.Errorf("read the plant's truth: %w", err)
		}
		if out[line.Product] == nil {
			out[line.Product] = map[string]row{}
		}
		out[line.Product][rowKey(line.Columns)] = line.Columns
	}
	return out, nil
}
