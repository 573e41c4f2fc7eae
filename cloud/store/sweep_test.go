package store

import (
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"plantmesh/proto/mesh"
)

// stamped takes a batch of source a with samples at these instants.
func (sc *scene) stamped(times ...mesh.Nanos) {
	sc.t.Helper()
	sc.end = take(sc.t, sc.s, sc.end, sc.m, sc.m.batch("a", times...))
}

// inFolder is the content of all files of the history, and the chunks in them.
func (sc *scene) inFolder() (files map[string]string, chunks int) {
	sc.t.Helper()
	names, err := filepath.Glob(filepath.Join(sc.s.folder, "*"))
	if err != nil {
		sc.t.Fatal(err)
	}
	files = map[string]string{}
	for _, name := range names {
		b, err := os.ReadFile(name)
		if err != nil {
			sc.t.Fatal(err)
		}
		files[string(b)] = filepath.Base(name)
		db, err := sql.Open("sqlite", name)
		if err != nil {
			sc.t.Fatal(err)
		}
		n := 0
		if err := errors.Join(db.QueryRowContext(sc.t.Context(), `SELECT count(*) FROM chunk`).Scan(&n), db.Close()); err == nil {
			chunks += n
		}
	}
	return files, chunks
}

// putBack closes the store and opens another database in its place; nil: none.
func (sc *scene) putBack(database []byte) {
	sc.t.Helper()
	if err := sc.s.Close(); err != nil {
		sc.t.Fatal(err)
	}
	for _, more := range []string{"", "-wal", "-shm"} {
		if err := os.Remove(sc.path + more); err != nil && !errors.Is(err, fs.ErrNotExist) {
			sc.t.Fatal(err)
		}
	}
	if database != nil {
		if err := os.WriteFile(sc.path, database, 0o600); err != nil {
			sc.t.Fatal(err)
		}
	}
	sc.s = openAt(sc.t, sc.path)
	sc.s.fewPasses = fewPasses
}

func (sc *scene) backup() []byte {
	sc.t.Helper()
	path := filepath.Join(sc.t.TempDir(), "backup.db")
	if _, err := sc.s.base.(*disk).w.ExecContext(sc.t.Context(), "VACUUM INTO ?", path); err != nil {
		sc.t.Fatal(err)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		sc.t.Fatal(err)
	}
	return b
}

// Beside a database that is new the history is all that is left: no byte of it
// goes, and the hub works.
func TestSweep_HistoryBesideAFreshDatabase(t *testing.T) {
	for passes := 1; passes < 3; passes++ {
		sc := newScene(t, 10)
		for range passes {
			sc.say("a", 30)
			sc.compact(sc.end, 0)
		}
		before, _ := sc.inFolder()
		sc.putBack(nil)
		sc.end = take(t, sc.s, openLog(t, sc.s).End, newMaker(t), newMaker(t).opening())
		sc.compact(sc.end, 0)
		after, _ := sc.inFolder()
		for content, name := range before {
			if at := after[content]; at != name+".set-aside" {
				t.Errorf("%s is %q", name, at)
			}
		}
	}
}

// A database of some passes ago knows nothing of the chunks since: they stay,
// and from then on the history is that of the database.
func TestSweep_DatabasePutBack(t *testing.T) {
	unwatched(t)
	for passes := 1; passes < 4; passes++ {
		sc := newScene(t, 11)
		sc.say("a", 30)
		sc.compact(sc.end, 0)
		sc.say("b", 5) // in the log of the backup, and in chunks since
		want := sc.snapshot(sc.someSpans())
		backup, end, of := sc.backup(), sc.end, len(sc.of)
		for range passes {
			sc.say("a", 30)
			sc.compact(sc.end, 0)
		}
		_, before := sc.inFolder()
		sc.putBack(backup)
		sc.of = sc.of[:of]
		sc.mustBe(want, "put back")
		for more := true; more; {
			more = sc.compact(end, 0).More
		}
		sc.mustBe(want, "compacted")
		files, after := sc.inFolder()
		if after < before {
			t.Errorf("of %d chunks %d are left", before, after)
		}
		aside := 0
		for _, name := range files {
			if strings.Contains(name, ".set-aside") {
				aside++
			}
		}
		if aside == 0 {
			t.Error("nothing is set aside")
		}
		sc.reopen()
		sc.compact(end, 0)
		if again, _ := sc.inFolder(); len(again) != len(files) {
			t.Errorf("%d files, and later %d", len(files), len(again))
		}
		sc.mustBe(want, "opened again")
	}
}

// A file that is lost, cut, replaced or damaged is told for ever, not only until
// the next sample of its day; every other day goes on, no sample is lost, and
// the file can be put back.
func TestSweep_ADayThatIsNotAsItWas(t *testing.T) {
	other := newScene(t, 1)
	other.stamped(noon)
	other.compact(other.end, 0)
	foreign, err := os.ReadFile(other.s.dayFile(dayOf(noon)))
	if err != nil {
		t.Fatal(err)
	}
	for what, harm := range map[string]func(path string, before []byte) error{
		"lost":      func(path string, _ []byte) error { return os.Remove(path) },
		"cut":       func(path string, _ []byte) error { return os.Truncate(path, 0) },
		"replaced":  func(path string, _ []byte) error { return os.WriteFile(path, foreign, 0o600) },
		"put back":  func(path string, before []byte) error { return os.WriteFile(path, before, 0o600) },
		"no header": func(path string, before []byte) error { return os.WriteFile(path, before[100:], 0o600) },
	} {
		for _, again := range []bool{false, true} {
			sc := newScene(t, 1)
			path := sc.s.dayFile(dayOf(noon))
			var before, good []byte
			for i := range 2 {
				sc.stamped(noon + mesh.Nanos(i))
				sc.compact(sc.end, 0)
				before = good
				if good, err = os.ReadFile(path); err != nil {
					t.Fatal(err)
				}
			}
			if err := harm(path, before); err != nil {
				t.Fatal(err)
			}
			told := func(when string) {
				if _, err := sc.s.History(t.Context(), "a", ever()); err == nil || !strings.Contains(err.Error(), filepath.Base(path)) {
					t.Errorf("%s, %s: told %v", what, when, err)
				}
			}
			told("at once")
			if again {
				sc.reopen()
			}
			sc.stamped(noon+5, noon+mesh.Nanos(dayNanos))
			for range 2 { // the first may find out by writing
				if _, err = sc.s.Compact(t.Context(), Pass{Through: sc.end, Now: sc.now}); err == nil {
					break
				}
			}
			if err != nil {
				t.Fatalf("%s: nothing is compacted any more: %v", what, err)
			}
			told("with a late sample")
			if got := sc.history("a", mesh.Span{From: noon + mesh.Nanos(dayNanos), To: noon + 2*mesh.Nanos(dayNanos)}); len(got) != 1 {
				t.Errorf("%s: the day after has %d samples", what, len(got))
			}
			if done := sc.compact(sc.end, 0); done.BadDays != 1 {
				t.Errorf("%s: %+v", what, done)
			}
			if err := os.WriteFile(path, good, 0o600); err != nil {
				t.Fatal(err)
			}
			if done := sc.compact(sc.end, 0); done.BadDays != 0 {
				t.Errorf("%s, and mended: %+v", what, done)
			}
			if got := sc.history("a", ever()); len(got) != 4 {
				t.Errorf("%s, and mended: %d samples", what, len(got))
			}
		}
	}
}

// What the database doesn't know is set aside, as often as it comes, however old
// it is and whatever it holds.
func TestSweep_SetsAsideEachTime(t *testing.T) {
	sc := week(t)
	path := sc.s.dayFile(dayOf(noon))
	old, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	sc.retain(Retention{Keep: 6 * aDay, Least: 2 * aDay})
	for i := range 3 {
		content := old
		if i > 0 {
			content = []byte(strings.Repeat(fmt.Sprint("kept by a person ", i), 100))
		}
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		sc.reopen()
		if done := sc.compact(sc.end, 0); done.BadDays > 0 {
			t.Errorf("%+v", done)
		}
	}
	files, _ := sc.inFolder()
	if files[string(old)] != "2026-03-01.db.set-aside" {
		t.Errorf("a file older than all that is kept is %q", files[string(old)])
	}
	for _, name := range []string{"2026-03-01.db.set-aside-2", "2026-03-01.db.set-aside-3"} {
		if _, err := os.Stat(filepath.Join(sc.s.folder, name)); err != nil {
			t.Error(err)
		}
	}
}

// A day that is not there is fs.ErrNotExist, also where it went only just now:
// readers begin anew then.
func TestDay_ThatIsNotThere(t *testing.T) {
	s := newStore(t)
	if _, err := s.openDay(t.Context(), 0); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
	if err := s.writeDay(t.Context(), 0, dayStat{chunks: 1}, func(*sql.Tx) error { return nil }); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
}

// A clock that jumps makes no files: not ahead, and further back only where
// there are enough samples.
func TestDay_OfAClockThatJumps(t *testing.T) {
	unwatched(t)
	sc := newScene(t, 1)
	day := mesh.Nanos(dayNanos)
	many := func(at mesh.Nanos, n int) (times []mesh.Nanos) {
		for i := range n {
			times = append(times, at+mesh.Nanos(i))
		}
		return times
	}
	for i := range mesh.Nanos(60) {
		sc.stamped(many(noon-(10000-i)*day, straySamples)...)
	}
	sc.stamped(many(noon-400*day, farSamples)...)
	sc.stamped(many(noon+(aheadDays+1)*day, farSamples)...)
	sc.stamped(many(math.MaxInt64-farSamples, farSamples)...)
	sc.stamped(many(noon+aheadDays*day, straySamples)...)
	sc.stamped(many(noon-nearDays*day, straySamples)...)
	sc.stamped(noon)
	want := sc.history("a", ever())
	sc.compact(sc.end, 0)
	files, _ := sc.inFolder()
	names := slices.Sorted(maps.Values(files))
	if !slices.Equal(names, []string{"2025-01-25.db", "2026-02-15.db", "2026-03-01.db", "2026-03-03.db", "stray.db"}) {
		t.Errorf("%v", names)
	}
	if got := sc.history("a", ever()); !maps.Equal(got, want) {
		t.Errorf("%d samples, want %d", len(got), len(want))
	}
}

// Where the file that is of no day is damaged passes go on without it.
func TestSweep_StrayDamaged(t *testing.T) {
	sc := newScene(t, 1)
	far := noon - 3000*mesh.Nanos(dayNanos)
	sc.stamped(far)
	sc.compact(sc.end, 0)
	path := sc.s.dayFile(strayDay)
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, good[:1000], 0o600); err != nil {
		t.Fatal(err)
	}
	sc.reopen()
	sc.stamped(far+1, far+mesh.Nanos(dayNanos))
	if done := sc.compact(sc.end, 0); done.BadDays != 1 || done.Batches != 1 {
		t.Errorf("%+v", done)
	}
	if err := os.WriteFile(path, good, 0o600); err != nil {
		t.Fatal(err)
	}
	if done := sc.compact(sc.end, 0); done.BadDays != 0 || len(sc.history("a", ever())) != 3 {
		t.Errorf("%+v", done)
	}
}

// Where every file is lost at once, those of no day too, passes go on all the
// same, and the files can be put back.
func TestSweep_TheWholeHistoryIsLost(t *testing.T) {
	sc := newScene(t, 1)
	far := noon - 3000*mesh.Nanos(dayNanos)
	sc.stamped(noon, far)
	sc.compact(sc.end, 0)
	var away []string
	for round := range 3 { // the files that were made instead are lost as well
		to := filepath.Join(t.TempDir(), "history")
		if err := os.Rename(sc.s.folder, to); err != nil {
			t.Fatal(err)
		}
		files, err := filepath.Glob(filepath.Join(to, "*"))
		if err != nil {
			t.Fatal(err)
		}
		away = append(away, files...)
		sc.reopen()
		sc.stamped(noon+mesh.Nanos(round)+1, far+mesh.Nanos(round)+1)
		if done := sc.compact(sc.end, 0); done.BadDays != 2+round || done.Batches != 1 {
			t.Fatalf("round %d: %+v", round, done)
		}
		if _, err := sc.s.History(t.Context(), "a", ever()); err == nil {
			t.Errorf("round %d: what is left is read without a word", round)
		}
	}
	for _, f := range away {
		if err := os.Rename(f, filepath.Join(sc.s.folder, filepath.Base(f))); err != nil {
			t.Fatal(err)
		}
	}
	if done := sc.compact(sc.end, 0); done.BadDays != 0 || len(sc.history("a", ever())) != 8 {
		t.Errorf("put back: %+v, %d samples", done, len(sc.history("a", ever())))
	}
}
