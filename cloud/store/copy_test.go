package store

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"plantmesh/proto/mesh"
)

// copyOf is a copy of the store at path, opened as a hub would.
func copyOf(t *testing.T, path string) (*scene, Copied) {
	t.Helper()
	folder := t.TempDir()
	out, err := Copy(t.Context(), path, folder, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	names, err := os.ReadDir(folder)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range names {
		if n.Name() != "hub.db" && n.Name() != "history" {
			t.Errorf("%s lies in the copy", n.Name())
		}
	}
	err = filepath.WalkDir(folder, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err == nil && info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %s", path, info.Mode())
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	c := &scene{t: t, path: filepath.Join(folder, "hub.db"), m: newMaker(t), rng: rand.New(rand.NewPCG(1, 1))}
	c.reopen()
	return c, out
}

// total is how many samples the log's batches have, and how many the history.
func (sc *scene) total() (log, history int) {
	sc.t.Helper()
	for _, e := range sc.peekAll() {
		if e.Header.Kind == mesh.KindBatch {
			log += int(e.Header.Count)
		}
	}
	for _, n := range sc.history("a", ever()) {
		history += n
	}
	return log, history
}

// A copy made while its hub writes, compacts and drops days is whole: what its
// database knows is in its files, and nothing else is.
func TestCopy_IsOneInstantWhateverHappensMeanwhile(t *testing.T) {
	for _, drop := range []bool{false, true} {
		t.Run(fmt.Sprintf("days are dropped %v", drop), func(t *testing.T) {
			sc := newScene(t, 7)
			for range 30 {
				sc.say("a", 4)
				sc.now += mesh.Nanos(2 * time.Hour)
			}
			sc.compact(sc.end, 0)
			ctx, stop := context.WithCancel(t.Context())
			var busy sync.WaitGroup
			defer busy.Wait()
			defer stop()
			busy.Go(func() { sc.live(ctx, drop) })
			for range 5 {
				c, out := copyOf(t, sc.path)
				if len(out.Faults) > 0 {
					t.Errorf("faults %v", out.Faults)
				}
				if tip, err := c.s.Tip(t.Context(), 0); err != nil || tip != out.Tip {
					t.Errorf("the copy ends at %s, not %s: %v", tip, out.Tip, err)
				}
				before, chunks := c.inFolder()
				if log, history := c.total(); log == 0 || chunks == 0 || !drop && log != history || drop && history > log {
					t.Errorf("%d samples in the log, %d in the history, %d chunks", log, history, chunks)
				}
				// A hub on it finds nothing to set aside and nothing to take away.
				if done, err := c.s.Compact(t.Context(), Pass{Now: noon}); err != nil || done.BadDays > 0 {
					t.Errorf("the copy has %d bad days, %v", done.BadDays, err)
				}
				if after, _ := c.inFolder(); !maps.Equal(before, after) {
					t.Errorf("a hub on the copy makes %v of %v", slices.Sorted(maps.Values(after)), slices.Sorted(maps.Values(before)))
				}
			}
		})
	}
}

// live lets the hub work on until ctx ends.
func (sc *scene) live(ctx context.Context, drop bool) {
	for n := 0; ctx.Err() == nil; n++ {
		sc.say("a", 3)
		sc.now += mesh.Nanos(time.Hour)
		if _, err := sc.s.Compact(ctx, Pass{Through: sc.end, Now: sc.now}); err != nil && ctx.Err() == nil {
			sc.t.Error(err)
		}
		if !drop || n%7 > 0 {
			continue
		}
		if _, err := sc.s.Retain(ctx, Retention{Now: sc.now, Keep: 72 * time.Hour, Least: 48 * time.Hour}); err != nil && ctx.Err() == nil {
			sc.t.Error(err)
		}
	}
}

// Days that go while they are copied are no fault of the copy, and what it says
// is kept is there: strays too, of which no file goes.
func TestCopy_BeginsAnewWhereDaysWereDropped(t *testing.T) {
	sc := newScene(t, 5)
	for range 20 {
		sc.say("a", 30)
		sc.now += mesh.Nanos(6 * time.Hour)
	}
	sc.stamped(noon-400*mesh.Nanos(dayNanos), noon-300*mesh.Nanos(dayNanos))
	sc.compact(sc.end, 0)
	src, err := OpenReading(t.Context(), sc.path, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	rounds := 0
	src.halt = func(string) error {
		if rounds++; rounds > 2 {
			return nil
		}
		_, err := sc.s.Retain(t.Context(), Retention{Now: sc.now, Keep: time.Duration(5-rounds) * 24 * time.Hour, Least: 24 * time.Hour})
		return err
	}
	folder := t.TempDir()
	out, err := copyOut(t.Context(), src, sc.path, folder)
	if err := errors.Join(err, src.Close()); err != nil {
		t.Fatal(err)
	}
	c := &scene{t: t, path: filepath.Join(folder, "hub.db"), m: newMaker(t), rng: rand.New(rand.NewPCG(1, 1))}
	c.reopen()
	is, err := c.s.Kept(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	want, err := sc.s.Kept(t.Context())
	if err != nil || is != want || rounds != 3 || len(out.Faults) > 0 {
		t.Errorf("after %d rounds the copy is kept from %s, the hub from %s, faults %v, %v", rounds, is, want, out.Faults, err)
	}
	before, _ := sc.inFolder()
	after, _ := c.inFolder()
	if got, want := slices.Sorted(maps.Values(after)), slices.Sorted(maps.Values(before)); !slices.Equal(got, want) {
		t.Errorf("the copy has %v, the hub %v", got, want)
	}
}

// What is copied of a store at rest is the store; what was set aside goes along.
func TestCopy_HasAll(t *testing.T) {
	sc := newScene(t, 3)
	for range 20 {
		sc.say("a", 5)
		sc.now += mesh.Nanos(3 * time.Hour)
	}
	sc.compact(sc.end, 0)
	sc.say("b", 5)
	r := newRig(t, sc.s)
	r.commit([]mesh.Row{row("m1", "a", 0, 10, mesh.RowFinal, 1)})
	if err := os.WriteFile(filepath.Join(sc.s.folder, "2020-01-01.db.set-aside"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	want := sc.snapshot(sc.someSpans())
	c, out := copyOf(t, sc.path)
	c.of = sc.of
	c.mustBe(want, "in the copy")
	if out.Days == 0 {
		t.Error("no days were copied")
	}
	if _, err := os.Stat(filepath.Join(c.s.folder, "2020-01-01.db.set-aside")); err != nil {
		t.Error(err)
	}
	if end, err := c.s.End(t.Context(), product); err != nil || end != r.end {
		t.Errorf("its output ends at %s, %v", end, err)
	}
}

// A file that is lost or damaged stops no backup of the others, and is told.
func TestCopy_TellsWhatWasLostBefore(t *testing.T) {
	sc := newScene(t, 5)
	for range 20 {
		sc.say("a", 30)
		sc.now += mesh.Nanos(6 * time.Hour)
	}
	sc.compact(sc.end, 0)
	files, err := filepath.Glob(filepath.Join(sc.s.folder, "2*.db"))
	if err != nil || len(files) < 3 {
		t.Fatalf("%v %v", files, err)
	}
	if err := os.Remove(files[0]); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(files[1], []byte(strings.Repeat("no database", 1000)), 0o600); err != nil {
		t.Fatal(err)
	}
	c, out := copyOf(t, sc.path)
	if len(out.Faults) != 2 || !strings.Contains(out.Faults[0], filepath.Base(files[0])) || !strings.Contains(out.Faults[1], filepath.Base(files[1])) {
		t.Errorf("faults %v", out.Faults)
	}
	if b, err := os.ReadFile(filepath.Join(c.s.folder, filepath.Base(files[1]))); err != nil || !strings.HasPrefix(string(b), "no database") {
		t.Errorf("the damaged file is not kept: %v", err)
	}
	if out.Days != len(files)-2+1 { // and the one of no day
		t.Errorf("%d days of %d", out.Days, len(files))
	}
}

// A hub put back to a copy makes revisions that the lost one had made too; by
// their positions nobody takes one for the other, and a port that is ahead finds
// its place gone.
func TestCopy_RevisionsOfBothBranchesDontCollide(t *testing.T) {
	sc := newScene(t, 3)
	lost := newRig(t, sc.s)
	lost.commit([]mesh.Row{row("m1", "a", 0, 10, mesh.RowFinal, 3)})
	if err := sc.s.AckPort(t.Context(), "stream", product, mesh.Position{}, lost.end); err != nil {
		t.Fatal(err)
	}
	was := lost.end
	c, _ := copyOf(t, sc.path)
	back := newRig(t, c.s)
	for revision := range uint32(2) {
		for _, r := range []*rig{lost, back} {
			r.commit([]mesh.Row{row("m1", "a", 0, 10, mesh.RowFinal, 4+revision)})
		}
	}
	if place, err := c.s.PortPlace(t.Context(), "stream", product); err != nil || place != was {
		t.Errorf("the port of the copy is at %s, not %s: %v", place, was, err)
	}
	gone, err := sc.s.Out(t.Context(), product, was, 10)
	if err != nil {
		t.Fatal(err)
	}
	now, err := c.s.Out(t.Context(), product, was, 10)
	if err != nil || len(now) != 2 || len(gone) != 2 {
		t.Fatalf("%d and %d rows, %v", len(gone), len(now), err)
	}
	for i := range now {
		if now[i].Revision != gone[i].Revision || now[i].At == gone[i].At {
			t.Errorf("revision %d at %s, and %d at %s", gone[i].Revision, gone[i].At, now[i].Revision, now[i].At)
		}
	}
	if _, err := c.s.Out(t.Context(), product, lost.end, 10); !errors.Is(err, mesh.ErrGone) {
		t.Errorf("a port that is ahead: %v", err)
	}
}
