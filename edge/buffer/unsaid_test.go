package buffer

import (
	"os"
	"path/filepath"
	"testing"

	"plantmesh/proto/mesh"
	"plantmesh/proto/wire"
)

// saidLost are the positions that voids of the log give up, those of a record
// that is passed over left out: nobody reads it.
func saidLost(tb testing.TB, b *Buffer) map[mesh.Position]bool {
	tb.Helper()
	out := map[mesh.Position]bool{}
	for _, r := range all(tb, b) {
		h, err := wire.ParseHeader(r.Sealed)
		if err != nil || h.Kind != mesh.KindVoid {
			continue
		}
		v, err := wire.OpenVoid(r.Sealed)
		if err != nil {
			tb.Fatal(err)
		}
		for _, l := range v.Lost {
			for s := l.First; s <= l.Last; s++ {
				out[mesh.Position{Log: testLog, Epoch: l.Epoch, Seq: s}] = true
			}
		}
	}
	return out
}

func wantLost(tb testing.TB, b *Buffer, when string, want ...mesh.Position) {
	tb.Helper()
	said := saidLost(tb, b)
	for _, p := range want {
		if !said[p] {
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
