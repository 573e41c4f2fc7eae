package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"plantmesh/proto/mesh"
	"plantmesh/proto/wire"
)

// Whatever is compacted, and in however many passes: every sample stays, as
// often as it was there, with its clocks and marks, and the log still says all
// it said but the samples.
func TestCompact_KeepsEverySample(t *testing.T) {
	for seed := range fewer(2) {
		sc := newScene(t, seed)
		sc.say("a", 50)
		sc.say("b", 30)
		middle := sc.end
		sc.say("a", 20)
		want := sc.snapshot(sc.someSpans())
		first := sc.compact(middle, 300)
		if first.Samples < 300 || !first.More || first.Damaged > 0 {
			t.Fatalf("the first pass: %+v", first)
		}
		sc.mustBe(want, "after one pass")
		for more := true; more; {
			more = sc.compact(middle, 500).More
		}
		sc.mustBe(want, "after some passes")
		if again := sc.compact(middle, 300); again != (Passed{}) {
			t.Fatalf("there is nothing left, and %+v was done", again)
		}
		sc.say("b", 3)
		want = sc.snapshot(want.spans)
		sc.reopen()
		sc.compact(sc.end, 0)
		sc.mustBe(want, "after all passes")
		staged := 0
		err := sc.s.base.read(t.Context(), func(tx *sql.Tx) error {
			return tx.QueryRowContext(t.Context(), `SELECT count(*) FROM hub_log WHERE kind = 2`).Scan(&staged)
		})
		if err != nil || staged != 0 {
			t.Fatalf("%d batches stay, %v", staged, err)
		}
	}
}

func TestCompact_OneSignalIsThePartOfItsHistory(t *testing.T) {
	sc := newScene(t, 7)
	var tables []mesh.Descriptor
	for i := range 2 {
		d, err := wire.DescribeSignals([]mesh.Signal{{ID: uint32(3 + i), Name: "speed"}, {ID: uint32(3 - i), Name: "other"}})
		if err != nil {
			t.Fatal(err)
		}
		tables = append(tables, d)
	}
	var entries []mesh.Entry
	for k := range 3000 {
		b := mesh.Batch{Source: "a", Table: tables[k/1500].Hash()}
		for signal := range uint32(6) {
			if signal < 4 || k%100 == 0 {
				b.Samples = append(b.Samples, mesh.Sample{Signal: signal, Time: noon + mesh.Nanos(k)*10e9, Value: mesh.Int(int64(k))})
			}
		}
		sealed, err := sc.m.enc.Seal(&b)
		if err != nil {
			t.Fatal(err)
		}
		entries = append(entries, sc.m.entry(sealed))
	}
	end, err := sc.s.Take(t.Context(), mesh.Take{After: sc.end, Entries: entries, Accounts: []*mesh.Account{sc.m.acc}, Descriptors: tables})
	if err != nil {
		t.Fatal(err)
	}
	span := mesh.Span{From: noon + 5000e9, To: noon + 25000e9}
	read := func() (n int) {
		got, err := sc.s.Signals(t.Context(), "a", span, "speed")
		if err != nil {
			t.Fatal(err)
		}
		dec, err := wire.NewDecoder()
		if err != nil {
			t.Fatal(err)
		}
		for i := range got {
			b, err := dec.Batch(got[i].Sealed)
			if err != nil {
				t.Fatal(err)
			}
			id := uint32(3)
			if b.Table == tables[1].Hash() {
				id = 4
			}
			for _, x := range b.Samples {
				if x.Signal == id && span.Has(x.Time) {
					n++
				}
			}
		}
		return n
	}
	const want = 1000 + 10 // of the second table the signal is a sparse one
	if n := read(); n != want {
		t.Fatalf("%d samples staged, want %d", n, want)
	}
	sc.compact(end, 0)
	if n := read(); n != want {
		t.Fatalf("%d samples in chunks, want %d", n, want)
	}
	got, err := sc.s.Signals(t.Context(), "a", span, "speed")
	if err != nil {
		t.Fatal(err)
	}
	for i := range got {
		if h := got[i].Header; h.Count > 3000 {
			t.Errorf("a chunk of %d samples was read for one signal", h.Count)
		}
	}
	if none, err := sc.s.Signals(t.Context(), "a", span, "nobody"); err != nil || len(none) != 0 {
		t.Errorf("%d entries of a signal nobody has, %v", len(none), err)
	}
}

var errBroken = errors.New("broken off")

// A pass that breaks off anywhere leaves everything as it was, and nothing
// behind for ever.
func TestCompact_BrokenOffAnywhere(t *testing.T) {
	for step := 0; step < 30; step += int(30 / fewer(30)) {
		sc := newScene(t, uint64(step))
		sc.say("a", 20)
		sc.compact(sc.end, 0)
		sc.say("b", 15)
		want := sc.snapshot(sc.someSpans())
		left, at := step, ""
		sc.s.halt = func(stage string) error {
			if left--; left < 0 {
				at = stage
				return errBroken
			}
			return nil
		}
		_, err := sc.s.Compact(t.Context(), Pass{Through: sc.end, Now: sc.now})
		if err == nil {
			if step < 5 {
				t.Fatalf("a pass has only %d steps", step)
			}
			return
		}
		if !errors.Is(err, errBroken) {
			t.Fatal(err)
		}
		sc.s.halt = nil
		sc.mustBe(want, "broken off at "+at)
		if step%3 == 0 {
			sc.reopen()
			sc.mustBe(want, "opened again after "+at)
		}
		sc.compact(sc.end, 0)
		sc.mustBe(want, "compacted after "+at)
		sc.mustHaveNothingElse()
	}
	t.Fatal("a pass never ends")
}

// mustHaveNothingElse says that the day files hold what hub.db says, and no more.
func (sc *scene) mustHaveNothingElse() {
	sc.t.Helper()
	ctx := sc.t.Context()
	var days map[int64]dayStat
	err := sc.s.base.read(ctx, func(tx *sql.Tx) (err error) {
		days, err = readDays(ctx, tx)
		return err
	})
	if err != nil {
		sc.t.Fatal(err)
	}
	files, err := os.ReadDir(sc.s.folder)
	if err != nil {
		sc.t.Fatal(err)
	}
	for _, f := range files {
		day, ok := dayOfFile(f.Name())
		if !ok || days[day] == (dayStat{}) {
			sc.t.Fatalf("%s is in the history", f.Name())
		}
	}
	if len(files) != len(days) {
		sc.t.Fatalf("%d files, %d days", len(files), len(days))
	}
	for day, st := range days {
		db, err := sc.s.openDay(ctx, day)
		if err != nil {
			sc.t.Fatal(err)
		}
		n := int64(0)
		if err := errors.Join(db.QueryRowContext(ctx, `SELECT count(*) FROM chunk`).Scan(&n), db.Close()); err != nil || n != st.chunks {
			sc.t.Fatalf("%s has %d chunks, want %d, %v", sc.s.dayFile(day), n, st.chunks, err)
		}
	}
}

// damage flips a byte in the middle of the newest chunk of a day.
func (sc *scene) damage(day int64, column string) {
	sc.t.Helper()
	db, err := sql.Open("sqlite", sc.s.dayFile(day))
	if err != nil {
		sc.t.Fatal(err)
	}
	_, err = db.ExecContext(sc.t.Context(), fmt.Sprintf(`UPDATE chunk SET %[1]s = CAST(substr(%[1]s, 1, length(%[1]s)/2) || x'a5' || substr(%[1]s, length(%[1]s)/2 + 2) AS BLOB)
		WHERE id = (SELECT max(id) FROM chunk WHERE %[1]s IS NOT NULL)`, column))
	if err := errors.Join(err, db.Close()); err != nil {
		sc.t.Fatal(err)
	}
}

// A chunk that can't be read is named, and a pass that can't verify what it
// wrote drops nothing.
func TestCompact_Damage(t *testing.T) {
	for _, column := range []string{"sealed", "marks"} {
		sc := newScene(t, 3)
		sc.say("a", 30)
		want := sc.snapshot(sc.someSpans())
		sc.s.halt = func(stage string) error {
			if _, err := os.Stat(sc.s.dayFile(dayOf(noon))); stage == "wrote" && err == nil {
				sc.s.halt = nil
				sc.damage(dayOf(noon), column)
			}
			return nil
		}
		if _, err := sc.s.Compact(t.Context(), Pass{Through: sc.end, Now: sc.now}); err == nil || !strings.Contains(err.Error(), "2026-03-01.db") {
			t.Fatalf("%s damaged before it is verified: %v", column, err)
		}
		sc.mustBe(want, "not verified")
		sc.compact(sc.end, 0)
		sc.mustBe(want, "compacted")
		sc.damage(dayOf(noon), column)
		_, err := sc.s.History(t.Context(), "a", ever())
		if !errors.Is(err, mesh.ErrPermanent) || !strings.Contains(err.Error(), "2026-03-01.db: chunk ") {
			t.Fatalf("%s damaged: %v", column, err)
		}
		if err := os.Remove(sc.s.dayFile(dayOf(noon))); err != nil {
			t.Fatal(err)
		}
		if _, err = sc.s.History(t.Context(), "a", ever()); err == nil || !strings.Contains(err.Error(), "2026-03-01.db") {
			t.Fatalf("a day's file is gone: %v", err)
		}
	}
}

func TestCompact_ABatchThatCantBeReadStays(t *testing.T) {
	sc := newScene(t, 5)
	sc.say("a", 20)
	err := sc.s.base.write(t.Context(), func(tx *sql.Tx) error {
		_, err := tx.ExecContext(t.Context(), `UPDATE hub_log SET verdict = x'00' WHERE seq = 9; UPDATE hub_log SET sealed = CAST(substr(sealed, 1, length(sealed)-1) || x'a5' AS BLOB) WHERE seq = 12`)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if done := sc.compact(sc.end, 0); done.Damaged != 2 || done.Batches != 18 {
		t.Fatalf("%+v", done)
	}
	sc.say("a", 1)
	if done := sc.compact(sc.end, 0); done.Damaged != 0 || done.Batches != 1 {
		t.Fatalf("%+v", done)
	}
	sums, err := sc.s.Sums(t.Context(), sc.of)
	if err != nil || len(sums) != len(sc.of) {
		t.Fatalf("%d sums, %v", len(sums), err)
	}
}

// A pass takes nothing that a product has not read.
func TestCompact_WaitsForProducts(t *testing.T) {
	sc := newScene(t, 6)
	sc.say("a", 20)
	pass := Pass{Through: sc.end, Now: sc.now, Products: []string{product}}
	if done, err := sc.s.Compact(t.Context(), pass); err != nil || done != (Passed{}) {
		t.Fatalf("%+v %v", done, err)
	}
	end, place, err := sc.s.Resume(t.Context(), product, 0)
	if err != nil {
		t.Fatal(err)
	}
	if done, err := sc.s.Compact(t.Context(), pass); err != nil || done != (Passed{}) {
		t.Fatalf("%+v %v", done, err)
	}
	read := sc.end
	read.Seq -= 8
	if _, err := sc.s.Commit(t.Context(), mesh.Step{Product: product, After: end, PlaceWas: place, Place: read}); err != nil {
		t.Fatal(err)
	}
	if done, err := sc.s.Compact(t.Context(), pass); err != nil || done.Batches != 12 || done.More {
		t.Fatalf("%+v %v", done, err)
	}
}

// What came of a log is known by position, before and after.
func TestCompact_CameIsByPosition(t *testing.T) {
	sc := newScene(t, 8)
	sc.say("a", 600)
	lost := []mesh.Range{{Epoch: sc.m.at.Epoch, First: 5, Last: 9}, {Epoch: sc.m.at.Epoch, First: 250, Last: math.MaxUint64}, {Epoch: mesh.Epoch{1}, First: 1, Last: 9}}
	want, err := sc.s.Came(t.Context(), agentLog, lost)
	if err != nil || len(want) != 5+601-249 {
		t.Fatalf("%d came, %v", len(want), err)
	}
	for i := range want {
		want[i].Verdict = nil
	}
	read := sc.end
	read.Seq -= 100
	sc.compact(read, 0)
	got, err := sc.s.Came(t.Context(), agentLog, lost)
	if err != nil {
		t.Fatal(err)
	}
	for i := range got {
		got[i].Verdict = nil
	}
	if !reflect.DeepEqual(got, want) {
		t.Fatalf("%d came, want %d", len(got), len(want))
	}
	if none, err := sc.s.Came(t.Context(), "agent/graz/nobody", lost); err != nil || len(none) > 0 {
		t.Fatalf("%d came of nobody, %v", len(none), err)
	}
}

// Whoever reads while it is compacted sees every sample once.
func TestCompact_ReadersSeeEachSampleOnce(t *testing.T) {
	sc := newScene(t, 9)
	sc.say("a", 60)
	span := mesh.Span{From: noon, To: noon + 40*3600e9}
	want := sc.history("a", span)
	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		defer stop()
		for more := true; more; {
			done, err := sc.s.Compact(t.Context(), Pass{Through: sc.end, Now: sc.now, MaxSamples: 200})
			if err != nil {
				t.Error(err)
				return
			}
			more = done.More
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

// A file that the database doesn't know is no rubbish if it isn't a pass's that
// broke off.
func TestCompact_HistoryOfAnotherDatabaseIsSetAside(t *testing.T) {
	sc := newScene(t, 10)
	sc.say("a", 60)
	sc.compact(sc.end, 0)
	if err := sc.s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(sc.path); err != nil {
		t.Fatal(err)
	}
	s, err := Open(t.Context(), sc.path, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}()
	for n := range 3 { // pass 1 could have broken off, but then its number is 1
		err = s.base.write(t.Context(), func(tx *sql.Tx) error {
			_, err := tx.ExecContext(t.Context(), `INSERT OR REPLACE INTO compacted VALUES (0, ?, 0, 0)`, n)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.Compact(t.Context(), Pass{}); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(s.dayFile(dayOf(noon)) + ".set-aside"); err != nil {
		t.Fatal(err)
	}
}

func TestDay_Names(t *testing.T) {
	s := &Store{folder: "x"}
	for _, at := range []mesh.Nanos{0, -1, noon, math.MinInt64, math.MaxInt64} {
		name := filepath.Base(s.dayFile(dayOf(at)))
		if want := at.Time().Format(time.DateOnly) + ".db"; name != want {
			t.Errorf("%d lies in %s, want %s", at, name, want)
		}
		if day, ok := dayOfFile(name); !ok || day != dayOf(at) {
			t.Errorf("%s is of day %d %v", name, day, ok)
		}
	}
	for want, name := range []string{"stray.db", "stray-2.db", "stray-3.db"} {
		if day, ok := dayOfFile(filepath.Base(s.dayFile(strayDay + int64(want)))); !ok || day != strayDay+int64(want) || filepath.Base(s.dayFile(day)) != name {
			t.Errorf("%s is %d", name, day)
		}
	}
	for _, name := range []string{"stray-1.db", "stray-9.db", "2026-03-01.db-journal", "x.db", "2026-03-01.db.set-aside"} {
		if _, ok := dayOfFile(name); ok {
			t.Errorf("%s passes for a day", name)
		}
	}
}
