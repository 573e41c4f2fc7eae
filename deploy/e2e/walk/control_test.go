package walk

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"testing"

	"plantmesh/cloud/product"
	"plantmesh/cloud/product/runner"
	"plantmesh/proto/mesh"
)

// verses are the rows of the products without what only says when they were
// made, by product, entity and key.
func (w *walk) verses(products ...string) map[string][]byte {
	out := map[string][]byte{}
	for _, p := range products {
		for _, r := range w.rows(p) {
			out[p+" "+r.Entity+" "+r.Key] = fmt.Appendf(nil, "%d %d %d %s", r.From, r.To, r.State, r.Body)
		}
	}
	return out
}

// unlike names rows that are not the same, byte by byte, in both.
func unlike(a, b map[string][]byte) (names []string) {
	for name, body := range a {
		if !bytes.Equal(body, b[name]) {
			names = append(names, name)
		}
	}
	for name := range b {
		if a[name] == nil {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

func (w *walk) hashOfSignals() string {
	h := sha256.New()
	w.signals(func(r *mesh.Row) {
		h.Write([]byte(r.Key))
		h.Write(r.Body)
	})
	return hex.EncodeToString(h.Sum(nil))
}

// The same seed is the same walk: what a failure's seed names can be seen again.
func TestWalk_TheSameSeedIsTheSameWalk(t *testing.T) {
	whole(t)
	const seed = 11
	x := newWorld(t, seed, few)
	one := newWalk(t, plan{seed: seed, faulty: true}, x)
	one.run()
	two := newWalk(t, plan{seed: seed, faulty: true}, x)
	two.run()
	all := append(compared(), "coverage")
	a, b := one.verses(all...), two.verses(all...)
	if names := unlike(a, b); len(names) > 0 || len(a) == 0 {
		t.Errorf("of %d rows %d differ: %q", len(a), len(names), names[:min(8, len(names))])
	}
	if one.hashOfSignals() != two.hashOfSignals() {
		t.Error("the signals differ")
	}
	// What the link did may differ: which descriptor of several goes first is no
	// part of the walk, and it decides which one a flipped bit hits.
	if one.events != two.events || !maps.Equal(one.faults, two.faults) {
		t.Errorf("not the same walk: %s; %s", one.story(), two.story())
	}
}

// Whatever broke on the way, the rows are those of a walk on which nothing did,
// to the byte; only what a forgetful device lost may show.
func TestWalk_FaultsLeaveNoTrace(t *testing.T) {
	whole(t)
	const seed = 12
	x := newWorld(t, seed, few)
	calm := newWalk(t, plan{seed: seed}, x)
	calm.run()
	rough := newWalk(t, plan{seed: seed, faulty: true}, x)
	rough.run()
	if f := calm.compare(); !f.ok() || f.gaps != 0 || f.allowed != 0 {
		t.Fatalf("the calm walk: %s", f)
	}
	f := rough.compare()
	if !f.ok() || f.gaps == 0 || rough.faults["compacted"] == 0 {
		t.Fatalf("the rough walk: %s; %s", f, rough.story())
	}
	shadows := calm.shadows(rough.gaps())
	a, b := calm.verses(compared()...), rough.verses(compared()...)
	names := unlike(a, b)
	names = slices.DeleteFunc(names, func(name string) bool { return rough.inShadow(name, shadows) || calm.inShadow(name, shadows) })
	if len(names) > 0 {
		t.Errorf("of %d rows %d differ: %q", len(a), len(names), names[:min(8, len(names))])
		t.Logf("%s\n%s", a[names[0]], b[names[0]])
	}
}

// The newest sample of every signal is the last row of it, whatever was
// compacted.
func TestWalk_LatestIsTheLastOfEverySignal(t *testing.T) {
	whole(t)
	x := newWorld(t, 13, few)
	w := newWalk(t, plan{seed: 13, faulty: true}, x)
	w.run()
	for range 2 {
		want := map[string]string{}
		w.signals(func(r *mesh.Row) {
			want[r.Entity+" "+signalOf(r)] = fmt.Sprint(r.From, r.State, string(r.Body))
		})
		defs, err := product.Definitions()
		w.check(err)
		i := slices.IndexFunc(defs, func(d *product.Definition) bool { return d.Fold == product.FoldSamples })
		rows, err := runner.NewLatest(runner.NewSignals(defs[i], w.hub.store, w.hub.store), w.hub.store, func() mesh.Nanos { return w.plant }).Latest(w.ctx, mesh.RowQuery{})
		w.check(err)
		got := map[string]string{}
		for i := range rows {
			r := &rows[i]
			got[r.Entity+" "+signalOf(r)] = fmt.Sprint(r.From, r.State, string(r.Body))
		}
		if len(got) != len(rows) || len(got) == 0 || !maps.Equal(got, want) {
			t.Errorf("%d signals, want %d", len(got), len(want))
			for name, text := range want {
				if got[name] != text {
					t.Fatalf("%s: %s, want %s", name, got[name], text)
				}
			}
		}
		w.compact()
		w.stopHub()
		w.startHub()
	}
}

// gaps are those of the forgetful device.
func (w *walk) gaps() (out []mesh.Span) {
	for _, r := range w.rows("coverage") {
		g := mesh.Span{From: r.From, To: r.To}
		if g.To == 0 {
			g.To = w.world.end
		}
		out = append(out, g)
	}
	return out
}

// shadows are gaps and what follows them until the machine executes again:
// until then a changeover that began before the gap or in it may last.
func (w *walk) shadows(gaps []mesh.Span) []mesh.Span {
	out := slices.Clone(gaps)
	for i := range out {
		to := w.world.end
		for _, r := range w.rows("equipment-state") {
			if r.Entity == forgetful && bytes.Contains(r.Body, []byte(`"packml_state":6,`)) && (r.To == 0 || r.To > out[i].To) {
				to = max(out[i].To, r.From)
				break
			}
		}
		out[i].To = to
	}
	return out
}

// inShadow reports whether a row is of the forgetful device and meets a shadow.
func (w *walk) inShadow(name string, shadows []mesh.Span) bool {
	for _, p := range compared() {
		for _, r := range w.rowsOf(p) {
			if p+" "+r.Entity+" "+r.Key != name {
				continue
			}
			to := r.To
			if to == 0 {
				to = w.world.end
			}
			return r.Entity == forgetful && slices.ContainsFunc(shadows, func(s mesh.Span) bool { return r.From <= s.To && s.From <= to })
		}
	}
	return false
}

// rowsOf are a product's rows of the forgetful machine.
func (w *walk) rowsOf(product string) []mesh.Row {
	return slices.DeleteFunc(w.rows(product), func(r mesh.Row) bool { return r.Entity != forgetful })
}

// What is wrong on purpose must be found, or the comparison proves nothing.
func TestWalk_FindsWhatIsWrong(t *testing.T) {
	whole(t)
	const seed = 13
	x := newWorld(t, seed, few)
	for _, c := range []struct {
		name  string
		lie   lie
		found func(*findings) bool
	}{
		{"acknowledges before the commit", lieAcks, func(f *findings) bool { return f.lost > 0 }},
		{"claims what nobody heard", lieClaims, func(f *findings) bool { return f.unmarked > 0 && f.mismatched > 0 }},
		{"gives a sample twice, each time as another", lieTwice, func(f *findings) bool { return f.duplicated > 0 }},
		{"counts one too many", lieCount, func(f *findings) bool { return f.mismatched > 1 }},
		{"leaves a sample out", lieDrops, func(f *findings) bool { return f.lost > 0 }},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWalk(t, plan{seed: seed, faulty: true, lie: c.lie}, x)
			w.run()
			f := w.compare()
			if f.ok() || !c.found(f) {
				t.Errorf("not found: %s", f)
			}
			t.Logf("rows=%d mismatched=%d lost=%d duplicated=%d unmarked=%d", f.rows, f.mismatched, f.lost, f.duplicated, f.unmarked)
		})
	}
}
