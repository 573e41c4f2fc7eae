package buffer

import (
	"bytes"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"testing"

	"plantmesh/proto/mesh"
)

// TestCatalogue_LineWithAnotherBitIsLeftOut: of a line that is damaged nothing is
// believed, and of the others all.
func TestCatalogue_LineWithAnotherBitIsLeftOut(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	c, err := openCatalogue(dir)
	check(t, err)
	want := notes()
	check(t, c.add(want...))
	file, err := os.ReadFile(c.path)
	check(t, err)
	for at := range file {
		hurt := bytes.Clone(file)
		hurt[at] ^= 1 << (at % 7)
		check(t, os.WriteFile(c.path, hurt, 0o600))
		c, err := openCatalogue(dir)
		check(t, err)
		for _, n := range c.notes {
			if !slices.ContainsFunc(want, func(w note) bool { return reflect.DeepEqual(n, w) }) {
				t.Fatalf("byte %d turned from %q to %q says %+v", at, file[at], hurt[at], n)
			}
		}
		if n := len(c.notes); n < len(want)-2 { // an end of a line takes two
			t.Errorf("byte %d costs %d notes", at, len(want)-n)
		}
	}
}

// TestCatalogue_OfBefore: lines of before have no checksum, and are believed.
func TestCatalogue_OfBefore(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	c, err := openCatalogue(dir)
	check(t, err)
	want := notes()
	check(t, c.add(want...))
	file, err := os.ReadFile(c.path)
	check(t, err)
	before := regexp.MustCompile(`,"sum":"[0-9a-f]{8}"}`).ReplaceAll(file, []byte("}"))
	check(t, os.WriteFile(c.path, append(before, file...), 0o600))
	if c, err = openCatalogue(dir); err != nil || !reflect.DeepEqual(c.notes, append(slices.Clone(want), want...)) {
		t.Errorf("%d notes, want %d twice, %v", len(c.notes), len(want), err)
	}
}

// TestCatalogue_ALongLineHidesNoOther: where the ends of lines are damaged.
func TestCatalogue_ALongLineHidesNoOther(t *testing.T) {
	t.Parallel()
	want, file := notes(), append(bytes.Repeat([]byte("x"), catalogueLimit+1), '\n')
	for _, n := range want {
		line, err := encodeNote(n)
		check(t, err)
		file = append(file, line...)
	}
	c := &catalogue{}
	if c.parse(file); !reflect.DeepEqual(c.notes, want) || c.broken != 1 {
		t.Errorf("%d notes, want %d; %d lines are broken", len(c.notes), len(want), c.broken)
	}
}

// TestBuffer_ReadsOnWithoutTheLineOfItsFirstEpoch: the next line must not be
// taken for the beginning of the log, else all segments are of another life.
func TestBuffer_ReadsOnWithoutTheLineOfItsFirstEpoch(t *testing.T) {
	t.Parallel()
	cfg := testConfig(t.TempDir())
	var at []mesh.Position
	for i := range mesh.Nanos(3) {
		b := mustOpen(t, cfg)
		at = append(at, mustAppend(t, b, offer(t, "a", i<<30, 10)))
		mustClose(t, b)
	}
	path := filepath.Join(cfg.Dir, "catalogue.jsonl")
	file, err := os.ReadFile(path)
	check(t, err)
	first := bytes.Index(file, []byte(`{"epoch":`))
	file[first+5] ^= 1
	check(t, os.WriteFile(path, file, 0o600))
	b := mustOpen(t, cfg)
	if got := positions(t, all(t, b)); len(got) != len(at) {
		t.Errorf("%d of %d batches are read", len(got), len(at))
	}
}

// TestCatalogue_AnEpochNotedAnewGivesNothingAgain: where its line was damaged, it
// comes to stand behind notes that count.
func TestCatalogue_AnEpochNotedAnewGivesNothingAgain(t *testing.T) {
	t.Parallel()
	on := seedChain(2)
	c := &catalogue{notes: []note{{Gone: &goneNote{First: 10, Last: 20, Why: mesh.CauseDamaged, Void: 30}}, noteEra(on.eras[1])}}
	c.notes = append(c.notes, c.unnoted(on)...)
	c.goneNotes(func(_ goneNote, unsaid bool) {
		if unsaid {
			t.Error("its void does not count")
		}
	})
	if gone := c.gone(func(mesh.Cause) bool { return true }); len(c.notes) != 3 || !slices.Equal(gone, []stretch{{10, 20}}) {
		t.Errorf("%d notes, gone is %v", len(c.notes), gone)
	}
}

// TestBuffer_WhatADamagedVoidSaidIsSaidAgain: else a reader waits for ever for
// the record that was quarantined.
func TestBuffer_WhatADamagedVoidSaidIsSaidAgain(t *testing.T) {
	t.Parallel()
	for name, again := range map[string]bool{"in the run that quarantined": false, "in the next run": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := testConfig(t.TempDir())
			b := mustOpen(t, cfg)
			at := mustAppend(t, b, offer(t, "a", 1<<30, 10))
			check(t, b.Quarantine(at, "the reader can't take it"))
			void, _ := b.chain.index(b.End())
			for i := range mesh.Nanos(3) {
				mustAppend(t, b, offer(t, "a", (i+2)<<30, 10))
			}
			if again {
				mustClose(t, b)
				b = mustOpen(t, cfg)
			}
			check(t, b.quarantine(void, "its checksum is wrong", mesh.CauseDamaged))
			rs := all(t, b)
			if got := voidsOf(t, rs); !told(got, at) || !told(got, b.chain.at(void)) {
				t.Errorf("voids %+v, want %s and %d", got, at, void)
			}
			if a := account(t, append(outset(t, b), rs...)); a.Set.Through != b.End() {
				t.Errorf("a hub ends at %s, the log at %s", a.Set.Through, b.End())
			}
		})
	}
}
