package store

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"plantmesh/proto/mesh"
)

// fewPasses is mergePasses of a scene.
const fewPasses = 6

// passes has the hub compact so many times, a few batches each.
func (sc *scene) passes(n int) {
	sc.t.Helper()
	for i := range n {
		sc.say([]string{"a", "b"}[i%2], 2)
		sc.compact(sc.end, 0)
	}
}

// merge merges every day that needs it, and says which.
func (sc *scene) merge() (days []string) {
	sc.t.Helper()
	for {
		done, err := sc.s.Merge(sc.t.Context(), sc.now+mesh.Nanos(3*dayNanos))
		if err != nil {
			sc.t.Fatal(err)
		}
		if done.Day != "" {
			days = append(days, done.Day)
		}
		if !done.More {
			return days
		}
	}
}

// onesOf is what is read of single signals.
func (sc *scene) onesOf(span mesh.Span) (out []map[string]int, chunks int) {
	sc.t.Helper()
	for _, source := range []string{"a", "b"} {
		for _, name := range []string{"s0", "s1", "s3", "s6", "s7"} {
			entries, err := sc.s.Signals(sc.t.Context(), source, span, name)
			if err != nil {
				sc.t.Fatal(err)
			}
			chunks += len(entries)
			out = append(out, named(sc.t, entries, span, name))
		}
	}
	return out, chunks
}

// named are the samples of a signal, as all gives them.
func named(t *testing.T, entries []mesh.Entry, span mesh.Span, name string) map[string]int {
	t.Helper()
	out := map[string]int{}
	for i, table := range []mesh.Hash{describe(t, 0).Hash(), describe(t, 1).Hash()} {
		for signal := range uint32(7) {
			if "s"+string(rune('0'+(int(signal)+i)%8)) != name {
				continue
			}
			of := slices.DeleteFunc(slices.Clone(entries), func(e mesh.Entry) bool { return e.Header.Needs[0] != table })
			for text, n := range allOf(t, of, span, func(x mesh.Sample) bool { return x.Signal == signal }) {
				out[text] += n
			}
		}
	}
	return out
}

// Whatever is merged, and whatever comes later: every sample stays, as often as
// it was there, with its clocks and marks, and is found where it is looked for.
func TestMerge_KeepsEverySample(t *testing.T) {
	unwatched(t)
	for seed := range fewer(3) {
		sc := newScene(t, seed)
		sc.passes(fewPasses + 8)
		want := sc.snapshot(sc.someSpans())
		ones, before := sc.onesOf(ever())
		newest := sc.newestNow()
		days := sc.merge()
		if !slices.Contains(days, "2026-03-01.db") {
			t.Fatalf("merged %v", days)
		}
		mustBeMerged := func(when string) {
			t.Helper()
			sc.mustBe(want, when)
			got, after := sc.onesOf(ever())
			if !slices.EqualFunc(got, ones, maps.Equal) {
				t.Errorf("%s: signals differ", when)
			}
			if after > before*2/3 {
				t.Errorf("%s: %d chunks are read, %d before", when, after, before)
			}
			if got := sc.newestNow(); !maps.Equal(got, newest) {
				t.Errorf("%s: the newest are %v, want %v", when, got, newest)
			}
		}
		mustBeMerged("merged")
		if again := sc.merge(); again != nil {
			t.Errorf("merged again: %v", again)
		}
		sc.reopen()
		mustBeMerged("opened again")
		if again := sc.merge(); again != nil {
			t.Errorf("merged again after a start: %v", again)
		}
		// Late data come behind, and are merged once they are enough.
		sc.passes(fewPasses + 8)
		want = sc.snapshot(want.spans)
		if days := sc.merge(); !slices.Contains(days, "2026-03-01.db") {
			t.Errorf("with late data merged %v", days)
		}
		sc.mustBe(want, "merged with late data")
		sc.say("a", 3)
		want = sc.snapshot(want.spans)
		sc.reopen()
		sc.compact(sc.end, 0)
		sc.mustBe(want, "and compacted again")
		sc.mustHaveNothingBeside()
		sc.now += 9 * mesh.Nanos(dayNanos)
		sc.stamped(sc.now)
		sc.compact(sc.end, 0)
		if got := sc.retain(Retention{Keep: 48 * time.Hour, Least: 24 * time.Hour}); !slices.Contains(got.Days, "2026-03-01.db") {
			t.Errorf("retention drops %v", got.Days)
		}
		sc.mustHaveNothingBeside()
	}
}

// A merge that has not the memory for all writes what it has, and loses nothing.
func TestMerge_WithLittleMemory(t *testing.T) {
	sc := newScene(t, 4)
	sc.passes(20)
	want := sc.snapshot(sc.someSpans())
	sc.mergeBy(dayOf(noon), func(m *merging) { m.most = 100 })
	sc.mustBe(want, "merged")
}

// mergeBy merges a day, however little it needs it.
func (sc *scene) mergeBy(day int64, with func(*merging)) {
	sc.t.Helper()
	ctx := sc.t.Context()
	known, path := sc.stat(day), sc.s.dayFile(day)
	m, err := newMerging(day, known, sc.s.halted)
	if err != nil {
		sc.t.Fatal(err)
	}
	with(m)
	for _, do := range []func() error{
		func() error { return m.write(ctx, path, path+mergingSuffix) },
		func() error { return m.verify(ctx, path+mergingSuffix) },
		func() error { return sc.s.exchange(ctx, day, known) },
	} {
		if err := do(); err != nil {
			sc.t.Fatal(err)
		}
	}
}

func (sc *scene) stat(day int64) (known dayStat) {
	sc.t.Helper()
	err := sc.s.base.read(sc.t.Context(), func(tx *sql.Tx) error {
		days, err := readDays(sc.t.Context(), tx)
		known = days[day]
		return err
	})
	if err != nil {
		sc.t.Fatal(err)
	}
	return known
}

// mustHaveNothingBeside says that nothing but days' files lies in the history.
func (sc *scene) mustHaveNothingBeside() {
	sc.t.Helper()
	files, err := os.ReadDir(sc.s.folder)
	if err != nil {
		sc.t.Fatal(err)
	}
	for _, f := range files {
		if day, ok := dayOfFile(f.Name()); !ok || sc.stat(day).chunks == 0 {
			sc.t.Errorf("%s is in the history", f.Name())
		}
	}
}

// A merge that breaks off anywhere leaves everything as it was, and nothing
// behind for ever.
func TestMerge_BrokenOffAnywhere(t *testing.T) {
	unwatched(t)
	for step := 0; step < 30; step += int(30 / fewer(30)) {
		sc := newScene(t, uint64(step))
		sc.passes(fewPasses + 2)
		want := sc.snapshot(sc.someSpans())
		left, at := step, ""
		sc.s.halt = func(stage string) error {
			if left--; left < 0 {
				at = stage
				return errBroken
			}
			return nil
		}
		var err error
		for more := true; more && err == nil; {
			var done Merged
			done, err = sc.s.Merge(t.Context(), sc.now+mesh.Nanos(3*dayNanos))
			more = done.More
		}
		if err == nil {
			if step < 5 {
				t.Fatalf("a merge has only %d steps", step)
			}
			return
		}
		if !errors.Is(err, errBroken) {
			t.Fatal(err)
		}
		sc.s.halt = nil
		sc.mustBe(want, "broken off at "+at)
		sc.mustHaveNothingBeside()
		sc.reopen()
		sc.say("a", 1)
		want = sc.snapshot(want.spans)
		sc.compact(sc.end, 0)
		sc.mustBe(want, "compacted after "+at)
		sc.merge()
		sc.mustBe(want, "merged after "+at)
		sc.mustHaveNothingBeside()
	}
	t.Fatal("a merge never ends")
}

// told counts what is logged as an error.
type told struct {
	slog.Handler

	mu    sync.Mutex
	lines []string
}

func (*told) Enabled(context.Context, slog.Level) bool { return true }

func (h *told) Handle(_ context.Context, r slog.Record) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if r.Level >= slog.LevelError {
		line := r.Message
		r.Attrs(func(a slog.Attr) bool { line += " " + a.String(); return true })
		h.lines = append(h.lines, line)
	}
	return nil
}

// A day with anything in it that can't be read stays as it is, to the byte, which
// is told once; every other day is merged, and so is that one when it is mended.
func TestMerge_ADamagedDayStaysAsItIs(t *testing.T) {
	unwatched(t)
	flip := func(column string) string {
		return `UPDATE chunk SET ` + column + ` = CAST(substr(` + column + `, 1, length(` + column + `)/2) || x'a5' || substr(` + column + `, length(` + column + `)/2 + 2) AS BLOB) WHERE id = (SELECT max(id) FROM chunk WHERE ` + column + ` IS NOT NULL AND id < 9)`
	}
	for what, hurt := range map[string]string{
		"a chunk":                flip("sealed"),
		"marks":                  flip("marks"),
		"the times of a row":     `UPDATE chunk SET t_to = t_to - 1 WHERE id = 5`,
		"the signals of a row":   `UPDATE chunk SET signal = signal + 1, last = last + 1 WHERE id = 5`,
		"the kind of a row":      `UPDATE chunk SET kind = 77 WHERE id = 5`,
		"a chunk that is gone":   `DELETE FROM chunk WHERE id = 5`,
		"a chunk that was twice": `UPDATE chunk SET (kind, signal, last, t_from, t_to, sealed, marks) = (SELECT kind, signal, last, t_from, t_to, sealed, marks FROM chunk WHERE id = 6) WHERE id = 5`,
	} {
		if testing.Short() && what != "marks" && what != "a chunk that is gone" {
			continue
		}
		sc := newScene(t, 3)
		sc.now -= mesh.Nanos(dayNanos)
		sc.passes(fewPasses + 8)
		sc.now = noon
		sc.passes(fewPasses + 8)
		want := sc.snapshot(sc.someSpans())
		h := &told{Handler: slog.DiscardHandler}
		sc.s.log = slog.New(h)
		path := sc.s.dayFile(dayOf(noon))
		good, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		sc.onDay(noon, hurt)
		bad, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		days := append(sc.merge(), sc.merge()...)
		if now, err := os.ReadFile(path); err != nil || !bytes.Equal(now, bad) {
			t.Errorf("%s: it changed, %v", what, err)
		}
		if slices.Contains(days, "2026-03-01.db") || !slices.Contains(days, "2026-02-28.db") {
			t.Errorf("%s: merged %v", what, days)
		}
		if len(h.lines) != 1 || !strings.Contains(h.lines[0], "2026-03-01.db") {
			t.Errorf("%s: told %q", what, h.lines)
		}
		sc.mustHaveNothingBeside()
		if err := os.WriteFile(path, good, 0o600); err != nil {
			t.Fatal(err)
		}
		sc.reopen()
		if days := sc.merge(); !slices.Equal(days, []string{"2026-03-01.db"}) {
			t.Errorf("%s, and mended: merged %v", what, days)
		}
		sc.mustBe(want, "mended")
	}
}

// A chunk that an index doesn't name is in the table: a merge finds it, where
// readers did not.
func TestMerge_WhatAnIndexHidesIsNotLeftBehind(t *testing.T) {
	sc := newScene(t, 3)
	sc.passes(fewPasses + 8)
	want := sc.snapshot(sc.someSpans())
	day := mesh.Span{From: noon - noon%mesh.Nanos(dayNanos), To: noon - noon%mesh.Nanos(dayNanos) + mesh.Nanos(dayNanos)}
	whole := len(sc.history("a", day))
	sc.onDay(noon, `DROP INDEX chunk_at; DROP INDEX chunk_mixed; CREATE INDEX chunk_at ON chunk (kind, signal, t_from, t_to) WHERE id > 9;
		PRAGMA writable_schema = 1; UPDATE sqlite_master SET sql = replace(sql, ' WHERE id > 9', '') WHERE name = 'chunk_at'; PRAGMA writable_schema = 0`)
	if hidden := len(sc.history("a", day)); hidden == whole {
		t.Fatal("nothing is hidden")
	}
	if days := sc.merge(); !slices.Contains(days, "2026-03-01.db") {
		t.Fatalf("merged %v", days)
	}
	sc.mustBe(want, "merged")
}

// What a merge wrote is compared before it takes the place of anything.
func TestMerge_IsVerified(t *testing.T) {
	unwatched(t)
	for what, hurt := range map[string]string{
		"a chunk is gone":    `DELETE FROM chunk WHERE id = (SELECT min(id) FROM chunk)`,
		"a chunk is damaged": `UPDATE chunk SET sealed = CAST(substr(sealed, 1, length(sealed) - 1) || x'a5' AS BLOB) WHERE id = (SELECT min(id) FROM chunk)`,
		"a row lies":         `UPDATE chunk SET t_to = t_to + 1 WHERE id = (SELECT min(id) FROM chunk)`,
		"marks are gone":     `UPDATE chunk SET marks = NULL WHERE id = (SELECT min(id) FROM chunk WHERE marks IS NOT NULL)`,
	} {
		sc := newScene(t, 3)
		sc.passes(fewPasses + 8)
		want := sc.snapshot(sc.someSpans())
		sc.s.halt = func(stage string) error {
			path := sc.s.dayFile(dayOf(noon)) + mergingSuffix
			if stage != "merge wrote" || !exists(path) {
				return nil
			}
			db, err := sql.Open("sqlite", path)
			if err == nil {
				_, err = db.ExecContext(t.Context(), hurt)
			}
			return errors.Join(err, db.Close())
		}
		before, err := os.ReadFile(sc.s.dayFile(dayOf(noon)))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := sc.s.Merge(t.Context(), sc.now+mesh.Nanos(3*dayNanos)); err == nil {
			t.Errorf("%s and not a word", what)
		}
		if now, err := os.ReadFile(sc.s.dayFile(dayOf(noon))); err != nil || !bytes.Equal(now, before) {
			t.Errorf("%s: the day changed, %v", what, err)
		}
		sc.s.halt = nil
		sc.mustHaveNothingBeside()
		if days := sc.merge(); !slices.Contains(days, "2026-03-01.db") {
			t.Errorf("%s, and tried again: merged %v", what, days)
		}
		sc.mustBe(want, "merged")
	}
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// Whoever reads while it is merged sees every sample once.
func TestMerge_ReadersSeeEachSampleOnce(t *testing.T) {
	sc := newScene(t, 9)
	sc.passes(fewPasses + 8)
	span := mesh.Span{From: noon - mesh.Nanos(dayNanos), To: sc.now + 1}
	want := sc.history("a", span)
	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		defer stop()
		for range 20 { // each time as if it had never been
			clear(sc.s.settled)
			for day := dayOf(noon) - 1; day <= dayOf(noon); day++ {
				if _, err := sc.s.mergeDay(t.Context(), day, sc.stat(day)); err != nil {
					t.Error(err)
				}
			}
		}
	})
	reads := 0
	for ; ctx.Err() == nil || reads < 3; reads++ {
		entries, err := sc.s.History(t.Context(), "a", span)
		if err != nil {
			t.Fatal(err)
		}
		if got := all(t, entries, span); !maps.Equal(got, want) {
			t.Fatalf("read %d has %d samples, want %d", reads, len(got), len(want))
		}
	}
	wg.Wait()
}

// Who still has the file of before must not undo the journal of a pass that
// writes the one that took its place.
func TestMerge_AnOldReaderLeavesTheJournal(t *testing.T) {
	for _, mode := range []string{"ro", "rw"} {
		sc := newScene(t, 9)
		sc.passes(4)
		ctx, day := t.Context(), dayOf(noon)
		path := sc.s.dayFile(day)
		old, err := openMode(ctx, path, mode, dayCacheKiB)
		if err != nil {
			t.Fatal(err)
		}
		sc.mergeBy(day, func(*merging) {})
		err = sc.s.changeDay(ctx, day, func(tx *sql.Tx) error {
			if _, err := tx.ExecContext(ctx, `UPDATE kind SET rules = zeroblob(9); INSERT INTO chunk (pass, kind, signal, last, t_from, t_to, sealed) VALUES (1, 1, 1, 1, 1, 1, zeroblob(33554432))`); err != nil {
				return err
			}
			var n int
			err := old.QueryRowContext(ctx, `SELECT count(*) FROM chunk`).Scan(&n)
			_, there := os.Stat(path + "-journal")
			if mode == "ro" && (!moved(err) || there != nil) {
				t.Errorf("the journal: %v, the reader: %v", there, err)
			}
			if mode == "rw" && !errors.Is(there, fs.ErrNotExist) {
				t.Errorf("this test doesn't see who undoes a journal: %v, %v", there, err)
			}
			return errBroken
		})
		if err := old.Close(); err != nil {
			t.Error(err)
		}
		if !errors.Is(err, errBroken) {
			t.Fatal(err)
		}
	}
}

// A day that is not over, of few passes, or not told from others, isn't touched.
func TestMerge_WhatIsLeft(t *testing.T) {
	sc := newScene(t, 5)
	sc.passes(fewPasses / 2)
	if days := sc.merge(); days != nil {
		t.Errorf("of few passes: %v", days)
	}
	sc.passes(fewPasses)
	if done, err := sc.s.Merge(t.Context(), noon); err != nil || done.Day == "2026-03-01.db" {
		t.Errorf("not over: %+v, %v", done, err)
	}
	err := sc.s.base.write(t.Context(), func(tx *sql.Tx) error {
		_, err := tx.ExecContext(t.Context(), `UPDATE day SET pass = 0`)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if days := sc.merge(); days != nil {
		t.Errorf("of layout 3: %v", days)
	}
}
