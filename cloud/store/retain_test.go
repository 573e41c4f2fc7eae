package store

import (
	"errors"
	"maps"
	"math"
	"os"
	"slices"
	"testing"
	"time"

	"plantmesh/proto/mesh"
)

// week is a history of eight days, 120 samples each.
func week(t *testing.T) *scene {
	t.Helper()
	sc := newScene(t, 1)
	var entries []mesh.Entry
	for day := range 8 {
		for h := range 24 {
			var times []mesh.Nanos
			for k := range 5 {
				times = append(times, noon/mesh.Nanos(dayNanos)*mesh.Nanos(dayNanos)+mesh.Nanos(day)*mesh.Nanos(dayNanos)+mesh.Nanos(h)*3600e9+mesh.Nanos(k)*60e9)
			}
			e := sc.m.batch("a", times...)
			sc.of = append(sc.of, e.Of)
			entries = append(entries, e)
		}
	}
	sc.end = take(t, sc.s, sc.end, sc.m, entries...)
	sc.now = noon + 7*mesh.Nanos(dayNanos)
	sc.compact(sc.end, 0)
	return sc
}

func (sc *scene) retain(r Retention) Retained {
	sc.t.Helper()
	r.Now = sc.now
	out, err := sc.s.Retain(sc.t.Context(), r)
	if err != nil {
		sc.t.Fatal(err)
	}
	return out
}

const aDay = 24 * time.Hour

func TestRetain_ByAgeAndBytesAndNeverTooYoung(t *testing.T) {
	sc := week(t)
	if since, err := sc.s.Kept(t.Context()); err != nil || since != math.MinInt64 {
		t.Fatalf("kept since %d, %v", since, err)
	}
	all := sc.history("a", ever())
	if out := sc.retain(Retention{}); len(out.Days) > 0 || out.Bytes == 0 {
		t.Fatalf("%+v", out)
	}
	if out := sc.retain(Retention{Keep: 6 * aDay, Least: 2 * aDay}); !slices.Equal(out.Days, []string{"2026-03-01.db"}) || out.Samples != 120 || out.Over {
		t.Fatalf("%+v", out)
	}
	if out := sc.retain(Retention{Keep: 6 * aDay, Least: 2 * aDay}); len(out.Days) > 0 {
		t.Fatalf("%+v", out)
	}
	// A bound that nothing meets drops what may go, and says so.
	out := sc.retain(Retention{MaxBytes: 1, Least: 4 * aDay})
	if !slices.Equal(out.Days, []string{"2026-03-02.db", "2026-03-03.db"}) || !out.Over {
		t.Fatalf("%+v", out)
	}
	left := noon/mesh.Nanos(dayNanos)*mesh.Nanos(dayNanos) + 3*mesh.Nanos(dayNanos)
	if since, err := sc.s.Kept(t.Context()); err != nil || since != left {
		t.Fatalf("kept since %s, %v", since, err)
	}
	if got := sc.history("a", ever()); len(got) != len(all)-360 || !maps.Equal(got, sc.history("a", mesh.Span{From: left, To: math.MaxInt64})) {
		t.Fatalf("%d samples of %d are left", len(got), len(all))
	}
	sc.mustHaveNothingElse()
	// What was dropped is known, if it comes again.
	if sums, err := sc.s.Sums(t.Context(), sc.of); err != nil || len(sums) != len(sc.of) {
		t.Fatalf("%d sums of %d, %v", len(sums), len(sc.of), err)
	}
	// Late data of a dropped day are kept until the next time.
	sc.end = take(t, sc.s, sc.end, sc.m, sc.m.batch("a", slices.Repeat([]mesh.Nanos{noon}, 150)...))
	sc.compact(sc.end, 0)
	if got := sc.history("a", mesh.Span{From: noon, To: noon + 1}); len(got) != 1 {
		t.Fatalf("%v", got)
	}
	if out := sc.retain(Retention{Keep: 4 * aDay}); !slices.Equal(out.Days, []string{"2026-03-01.db"}) {
		t.Fatalf("%+v", out)
	}
}

func TestRetain_BrokenOff(t *testing.T) {
	sc := week(t)
	sc.s.halt = func(string) error { return errBroken }
	if _, err := sc.s.Retain(t.Context(), Retention{Now: sc.now, Keep: 6 * aDay}); !errors.Is(err, errBroken) {
		t.Fatal(err)
	}
	sc.s.halt = nil
	want := sc.history("a", ever())
	sc.reopen()
	sc.compact(sc.end, 0)
	sc.mustHaveNothingElse()
	if got := sc.history("a", ever()); !maps.Equal(got, want) || len(got) != 7*120 {
		t.Fatalf("%d samples", len(got))
	}
	if files, err := os.ReadDir(sc.s.folder); err != nil || len(files) != 7 {
		t.Fatalf("%d files, %v", len(files), err)
	}
}

// A clock that says 2031 takes nothing that is younger than it would be by the
// newest day there is.
func TestRetain_ByAClockThatIsWrong(t *testing.T) {
	sc := week(t)
	sc.now += 5 * 365 * mesh.Nanos(dayNanos)
	if out := sc.retain(Retention{Keep: 30 * aDay, Least: 14 * aDay}); len(out.Days) > 0 {
		t.Fatalf("%v are dropped", out.Days)
	}
	if out := sc.retain(Retention{Keep: 6 * aDay, Least: 2 * aDay}); len(out.Days) != 2 {
		t.Fatalf("%v are dropped", out.Days)
	}
}

func TestRetain_DaysAtTheEndsOfTime(t *testing.T) {
	for _, at := range []mesh.Nanos{math.MinInt64, -1, 0, noon, math.MaxInt64} {
		if end := dayEnd(dayOf(at)); end <= at && end != math.MaxInt64 {
			t.Errorf("the day of %d ends at %d", at, end)
		}
	}
}

// What is dropped of the file that is of no day is behind Kept, and gives its
// bytes back; by age, and where only bytes are bounded.
func TestRetain_Strays(t *testing.T) {
	for _, r := range []Retention{{Keep: 30 * aDay, Least: 14 * aDay}, {MaxBytes: 1, Least: 14 * aDay}} {
		sc := week(t)
		old := noon - 3000*mesh.Nanos(dayNanos)
		ahead := noon + 3000*mesh.Nanos(dayNanos)
		for i := range mesh.Nanos(20) {
			var times []mesh.Nanos
			for k := range mesh.Nanos(4000) {
				times = append(times, old+i*mesh.Nanos(dayNanos)+k*k*k*500)
			}
			sc.stamped(times...)
		}
		sc.stamped(ahead)
		sc.compact(sc.end, 0)
		before, err := sc.s.dayBytes(strayDay)
		if err != nil || before < 1<<18 {
			t.Fatalf("%d bytes of strays, %v", before, err)
		}
		if out := sc.retain(r); len(out.Days) > 0 {
			t.Fatalf("%+v", out)
		}
		if after, err := sc.s.dayBytes(strayDay); err != nil || after > before/2 {
			t.Errorf("of %d bytes of strays %d are left, %v", before, after, err)
		}
		since, err := sc.s.Kept(t.Context())
		if err != nil || since <= old+19*mesh.Nanos(dayNanos) || since > noon-14*mesh.Nanos(dayNanos) {
			t.Errorf("kept since %s, %v", since, err)
		}
		want := sc.history("a", ever())
		if len(want) != 8*120+1 {
			t.Errorf("%d samples are left", len(want))
		}
		sc.stamped(ahead + 1)
		if done := sc.compact(sc.end, 0); done.BadDays > 0 || len(sc.history("a", ever())) != len(want)+1 {
			t.Errorf("%+v", done)
		}
	}
}
