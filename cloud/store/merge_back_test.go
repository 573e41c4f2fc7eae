package store

import (
	"errors"
	"log/slog"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"plantmesh/proto/mesh"
)

// A day with chunks of a pass that broke off is merged once they are away.
func TestMerge_AfterAPassThatBrokeOff(t *testing.T) {
	sc := newScene(t, 5)
	sc.passes(fewPasses + 4)
	want := sc.snapshot(sc.someSpans())
	sc.s.halt = func(stage string) error {
		if stage == "verified" {
			return errBroken
		}
		return nil
	}
	sc.stamped(sc.now - 1)
	want = sc.snapshot(want.spans)
	if _, err := sc.s.Compact(t.Context(), Pass{Through: sc.end, Now: sc.now}); !errors.Is(err, errBroken) {
		t.Fatal(err)
	}
	sc.reopen()
	if days := sc.merge(); slices.Contains(days, "2026-03-01.db") {
		t.Error("it is merged with what the pass left")
	}
	sc.compact(sc.end, 0)
	if days := sc.merge(); !slices.Contains(days, "2026-03-01.db") {
		t.Errorf("it is never merged: %v", days)
	}
	sc.mustBe(want, "merged")
}

// A hub.db of before the merge knows the merged day, but not if that has what
// came since.
func TestMerge_DatabasePutBack(t *testing.T) {
	for _, late := range []bool{false, true} {
		sc := newScene(t, 11)
		sc.passes(fewPasses + 8)
		sc.say("a", 5)
		want := sc.snapshot(sc.someSpans())
		backup, end, of := sc.backup(), sc.end, len(sc.of)
		if late {
			sc.say("a", 5)
			sc.compact(sc.end, 0)
		}
		if days := sc.merge(); !slices.Contains(days, "2026-03-01.db") {
			t.Fatalf("merged %v", days)
		}
		before, _ := sc.inFolder()
		sc.putBack(backup)
		sc.of = sc.of[:of]
		if !late {
			sc.mustBe(want, "put back")
			sc.compact(end, 0)
			sc.mustBe(want, "compacted")
			continue
		}
		// What came since lies in the same chunks: the day is told, and kept.
		if _, err := sc.s.History(t.Context(), "a", mesh.Span{From: noon, To: noon + 9}); !errors.Is(err, errDay) {
			t.Errorf("the day is read: %v", err)
		}
		if done := sc.compact(end, 0); done.BadDays == 0 {
			t.Errorf("%+v", done)
		}
		after, _ := sc.inFolder()
		for content, name := range before {
			if _, there := after[content]; !there && !strings.HasPrefix(name, strayName) {
				t.Errorf("%s is gone", name)
			}
		}
	}
}

// A copy made while a day is merged with what came meanwhile is whole.
func TestMerge_WhileItIsCopied(t *testing.T) {
	sc := newScene(t, 5)
	sc.passes(fewPasses + 8)
	src, err := OpenReading(t.Context(), sc.path, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = src.Close() }()
	src.halt = func(string) error {
		src.halt = nil
		sc.passes(4)
		sc.merge()
		return os.WriteFile(sc.s.dayFile(dayOf(noon))+mergingSuffix, []byte("half"), 0o600)
	}
	folder := t.TempDir()
	out, err := copyOut(t.Context(), src, sc.path, folder)
	if err != nil || len(out.Faults) > 0 {
		t.Fatalf("%+v, %v", out, err)
	}
	c := &scene{t: t, path: folder + "/hub.db", m: newMaker(t), rng: sc.rng}
	c.reopen()
	if got, want := c.history("a", ever()), sc.history("a", ever()); !maps.Equal(got, want) {
		t.Errorf("%d samples, want %d", len(got), len(want))
	}
	c.mustHaveNothingBeside()
}
