package buffer

import (
	"os"
	"path/filepath"
	"testing"

	"plantmesh/proto/mesh"
)

func wantLost(tb testing.TB, b *Buffer, when string, want ...mesh.Position) {
	tb.Helper()
	said := voidsOf(tb, all(tb, b)) // without those that are passed over: nobody reads them
	for _, p := range want {
		if !told(said, p) {
			tb.Errorf("%s nobody says that %s is lost", when, p)
		}
	}
}

// A void can be lost like any record. What it said is said again, or the reader
// waits for it for ever.
func TestBuffer_WhatWasSaidLostStaysSaid(t *testing.T) {
	for _, twice := range []bool{false, true} {
		whatWasSaidLost(t, twice)
	}
}

func whatWasSaidLost(t *testing.T, twice bool) {
	t.Helper()
	cfg := testConfig(t.TempDir())
	b := mustOpen(t, cfg)
	first := b.End()
	batch := mustAppend(t, b, offer(t, "a", 1000, 3))
	check(t, b.Close())

	b = mustOpen(t, cfg)
	second := b.End()
	check(t, b.Quarantine(batch, "it can never pass"))
	if void := b.End(); twice {
		check(t, b.Quarantine(void, "its checksum is wrong"))
		wantLost(t, b, "with the void in quarantine", batch, void)
	}
	check(t, b.Close())

	// The whole log is lost, and its last places are given again.
	files, err := filepath.Glob(filepath.Join(cfg.Dir, "*"+segmentSuffix))
	check(t, err)
	for _, f := range files {
		check(t, os.Truncate(f, 100))
	}
	b = mustOpen(t, cfg)
	wantLost(t, b, "with the end of the log lost", first, batch, second)
	check(t, b.Quarantine(b.End(), "its checksum is wrong"))
	wantLost(t, b, "with that void in quarantine", first, batch, second)
	check(t, b.Close())
}

// A kill between a quarantine and its note: when the void that says so can't be
// read either, somebody still has to say it.
func TestBuffer_AQuarantineThatWasNotNotedIsSaidAgain(t *testing.T) {
	cfg := testConfig(t.TempDir())
	b := mustOpen(t, cfg)
	batch := mustAppend(t, b, offer(t, "a", 1000, 3))
	path := filepath.Join(cfg.Dir, "catalogue.jsonl")
	notes, err := os.ReadFile(path)
	check(t, err)
	check(t, b.Quarantine(batch, "it can never pass"))
	void := b.End()
	check(t, b.Close())
	check(t, os.WriteFile(path, notes, 0o600))

	b = mustOpen(t, cfg)
	check(t, b.Quarantine(void, "its checksum is wrong"))
	wantLost(t, b, "after a kill before the note", batch, void)
	check(t, b.Close())
}
