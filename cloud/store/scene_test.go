package store

import (
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"plantmesh/proto/mesh"
	"plantmesh/proto/wire"
)

// scene is a store with a log of all sorts of batches.
type scene struct {
	t    *testing.T
	path string
	s    *Store
	m    *maker
	end  mesh.Position
	rng  *rand.Rand
	now  mesh.Nanos
	of   []mesh.Position

	tables []mesh.Hash
}

const noon = mesh.Nanos(1_772_366_400_000_000_000) // 2026-03-01 12:00 UTC

func newScene(t *testing.T, seed uint64) *scene {
	t.Helper()
	sc := &scene{t: t, path: filepath.Join(t.TempDir(), "hub.db"), m: newMaker(t), rng: rand.New(rand.NewPCG(seed, 1)), now: noon, tables: []mesh.Hash{describe(t, 0).Hash(), describe(t, 1).Hash()}}
	sc.reopen()
	o := openLog(t, sc.s)
	sc.end = take(t, sc.s, o.End, sc.m, sc.m.opening())
	return sc
}

func (sc *scene) reopen() {
	sc.t.Helper()
	if sc.s != nil {
		if err := sc.s.Close(); err != nil {
			sc.t.Fatal(err)
		}
	}
	sc.s = openAt(sc.t, sc.path)
	sc.s.fewPasses = fewPasses
}

// describe is one of two tables of the same signals.
func describe(t testing.TB, i int) mesh.Descriptor {
	t.Helper()
	var table []mesh.Signal
	for id := range uint32(7) {
		table = append(table, mesh.Signal{ID: id, Name: fmt.Sprintf("s%d", (int(id)+i)%8)})
	}
	d, err := wire.DescribeSignals(table)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// put takes one batch, with what rules said about it.
func (sc *scene) put(b mesh.Batch, v *mesh.Verdict) {
	sc.t.Helper()
	if b.Table == (mesh.Hash{}) {
		b.Source, b.Table = "a", sc.tables[0]
	}
	sealed, err := sc.m.enc.Seal(&b)
	if err != nil {
		sc.t.Fatal(err)
	}
	e := sc.m.entry(sealed)
	if v != nil {
		v.Of = e.Of
		e.Verdict = v
	}
	sc.end = take(sc.t, sc.s, sc.end, sc.m, e)
}

// say takes n batches of a source.
func (sc *scene) say(source string, n int) {
	sc.t.Helper()
	var entries []mesh.Entry
	for range n {
		entries = append(entries, sc.batch(source))
	}
	sc.end = take(sc.t, sc.s, sc.end, sc.m, entries...)
}

func (sc *scene) batch(source string) mesh.Entry {
	rng := sc.rng
	b := mesh.Batch{Source: source, Table: sc.tables[rng.IntN(2)], Proven: mesh.Span{From: sc.now - 1e9, To: sc.now}, Complete: sc.now - 5e8}
	for range rng.IntN(40) {
		s := mesh.Sample{Signal: uint32(rng.IntN(7)), Time: sc.now + mesh.Nanos(rng.IntN(1000))*1e6, Agent: sc.now}
		switch rng.IntN(12) {
		case 0:
			s.Time -= mesh.Nanos(rng.IntN(30)) * 3600e9 // late
		case 1:
			s.Source, s.Server, s.Seq = s.Time, s.Time+1, uint64(rng.IntN(3))
		case 2:
			s.Status, s.Flags = mesh.StatusBad, mesh.FlagSuspect
		case 3:
			s.Time = mesh.Nanos(rng.Int64()) // a clock that jumps
		}
		switch s.Signal % 7 {
		case 0:
			s.Value = mesh.Double(math.Round(rng.NormFloat64()*1000) / 100)
		case 1:
			s.Value = mesh.Double(math.Float64frombits([]uint64{0x7ff8000000000001, 1 << 63, 0}[rng.IntN(3)]))
		case 2:
			s.Value = mesh.Int(rng.Int64())
		case 3:
			s.Value = mesh.Uint(uint64(rng.IntN(9)))
		case 4:
			s.Value = mesh.Text(strings.Repeat("x", rng.IntN(5)))
		case 5:
			s.Value = mesh.Bool(rng.IntN(2) == 0)
		case 6: // of any type
			s.Value = []mesh.Value{{}, mesh.Int(-1), mesh.Text("a"), mesh.Double(1)}[rng.IntN(4)]
		}
		b.Samples = append(b.Samples, s)
		if rng.IntN(10) == 0 {
			b.Samples = append(b.Samples, s)
		}
	}
	sc.now += 1e9 * mesh.Nanos(1+rng.IntN(500))
	sealed, err := sc.m.enc.Seal(&b)
	if err != nil {
		sc.t.Fatal(err)
	}
	e := sc.m.entry(sealed)
	sc.of = append(sc.of, e.Of)
	if n := len(b.Samples); n > 0 && rng.IntN(2) == 0 {
		e.Verdict = &mesh.Verdict{Of: e.Of, Revision: uint64(1 + rng.IntN(2)), Rules: mesh.Hash{9}}
		for range rng.IntN(4) {
			e.Verdict.Marks = append(e.Verdict.Marks, mesh.Mark{Index: uint32(rng.IntN(n)), Rule: []string{"r1", "r2"}[rng.IntN(2)], Action: mesh.ActionQuarantine})
		}
	}
	return e
}

// all is everything a source's history holds of a span, as text, and how often.
func all(t *testing.T, entries []mesh.Entry, span mesh.Span) map[string]int {
	t.Helper()
	return allOf(t, entries, span, func(mesh.Sample) bool { return true })
}

func allOf(t *testing.T, entries []mesh.Entry, span mesh.Span, wanted func(mesh.Sample) bool) map[string]int {
	t.Helper()
	dec, err := wire.NewDecoder()
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]int{}
	for i := range entries {
		e := &entries[i]
		b, err := dec.Batch(e.Sealed)
		if err != nil {
			t.Fatal(err)
		}
		if e.Header.About != b.Source || int(e.Header.Count) != len(b.Samples) {
			t.Fatalf("header %+v of a batch of %s with %d samples", e.Header, b.Source, len(b.Samples))
		}
		judged := ""
		marks := map[uint32]map[string]int{}
		if e.Verdict != nil {
			judged = fmt.Sprint(e.Verdict.Revision, e.Verdict.Rules)
			for _, m := range e.Verdict.Marks {
				if marks[m.Index] == nil {
					marks[m.Index] = map[string]int{}
				}
				marks[m.Index][fmt.Sprint(m.Rule, m.Action)]++
			}
		}
		for k, x := range b.Samples {
			if span.Has(x.Time) && wanted(x) {
				out[fmt.Sprint(b.Source, b.Table, x, judged, marks[uint32(k)])]++
			}
		}
	}
	return out
}

func (sc *scene) history(source string, span mesh.Span) map[string]int {
	sc.t.Helper()
	entries, err := sc.s.History(sc.t.Context(), source, span)
	if err != nil {
		sc.t.Fatal(err)
	}
	return all(sc.t, entries, span)
}

func (sc *scene) peekAll() (out []mesh.Entry) {
	sc.t.Helper()
	for after := (mesh.Position{}); ; after = out[len(out)-1].At {
		page, err := sc.s.Peek(sc.t.Context(), 0, after, 1+sc.rng.IntN(9))
		if err != nil {
			sc.t.Fatal(err)
		}
		if len(page) == 0 {
			return out
		}
		out = append(out, page...)
	}
}

func (sc *scene) compact(through mesh.Position, most int) Passed {
	sc.t.Helper()
	done, err := sc.s.Compact(sc.t.Context(), Pass{Through: through, Now: sc.now, MaxSamples: most})
	if err != nil {
		sc.t.Fatal(err)
	}
	return done
}

// ever is all of time.
func ever() mesh.Span { return mesh.Span{From: math.MinInt64, To: math.MaxInt64} }

// snapshot is what must not change.
type snapshot struct {
	spans   []mesh.Span
	history []map[string]int
	log     []mesh.Entry
	sums    map[mesh.Position]uint32
}

func (sc *scene) snapshot(spans []mesh.Span) (out snapshot) {
	sc.t.Helper()
	out.spans = spans
	for _, span := range spans {
		for _, source := range []string{"a", "b"} {
			out.history = append(out.history, sc.history(source, span))
		}
	}
	out.log = sc.peekAll()
	for i := range out.log {
		if out.log[i].Header.Kind == mesh.KindBatch {
			out.log[i].Sealed, out.log[i].Verdict = nil, nil
		}
	}
	var err error
	if out.sums, err = sc.s.Sums(sc.t.Context(), sc.of); err != nil {
		sc.t.Fatal(err)
	}
	return out
}

func (sc *scene) mustBe(want snapshot, when string) {
	sc.t.Helper()
	got := sc.snapshot(want.spans)
	for i := range want.history {
		if !maps.Equal(got.history[i], want.history[i]) {
			sc.t.Fatalf("%s: the history differs in %v: %d samples, want %d", when, want.spans[i/2], len(got.history[i]), len(want.history[i]))
		}
	}
	if !reflect.DeepEqual(got.log, want.log) {
		sc.t.Fatalf("%s: the log differs: %d entries, want %d", when, len(got.log), len(want.log))
	}
	if !maps.Equal(got.sums, want.sums) || len(got.sums) != len(sc.of) {
		sc.t.Fatalf("%s: the checksums differ: %d, want %d", when, len(got.sums), len(want.sums))
	}
}

// fewer is n, or a few of them with -short: that is what the race detector sees.
func fewer(n uint64) uint64 {
	if testing.Short() {
		return (n + 4) / 5
	}
	return n
}

func (sc *scene) someSpans() []mesh.Span {
	out := []mesh.Span{ever()}
	for range 2 {
		from := noon + mesh.Nanos(sc.rng.Int64N(int64(sc.now-noon)))
		out = append(out, mesh.Span{From: from, To: from + mesh.Nanos(sc.rng.Int64N(2*dayNanos))})
	}
	return out
}
