package buffer

import (
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"plantmesh/proto/mesh"
	"plantmesh/proto/strict"
)

// confirmed is what sources were told is received: when each record was from.
type confirmed map[mesh.Position]mesh.Nanos

// confirm appends n batches of a source.
func (c confirmed) confirm(t *testing.T, b *Buffer, n, size int) {
	t.Helper()
	for range n {
		at := mesh.Nanos(len(c)+1) * 1e6
		c[mustAppend(t, b, offer(t, "a", at, size))] = at
	}
}

// mustBeKnown demands of each of them that it is read, or that a void names both
// its position and its time, and that neither a new hub nor one that has had all
// waits for anything.
func (c confirmed) mustBeKnown(t *testing.T, b *Buffer, had *mesh.Account) {
	t.Helper()
	rs := all(t, b)
	_, openings, _, err := b.Outset()
	check(t, err)
	fresh := account(t, append(openings, rs...))
	for _, r := range slices.Concat(openings, rs) {
		add(t, had, r)
	}
	for name, a := range map[string]*mesh.Account{"a new hub": fresh, "a hub that had all": had} {
		if a.Set.Through != b.End() || len(a.Set.Islands) != 0 {
			t.Errorf("%s ends at %s %v, the log at %s", name, a.Set.Through, a.Set.Islands, b.End())
		}
	}
	read, voids := positions(t, rs), voidsOf(t, rs)
	for at, when := range c {
		if !read[at] && !slices.ContainsFunc(voids, func(v mesh.Void) bool { return names(v, at, when) }) {
			t.Fatalf("%s of %s is neither read nor said to be lost; %d of %d are read, voids %+v", at, when, len(read), len(c), voids)
		}
	}
}

func names(v mesh.Void, at mesh.Position, when mesh.Nanos) bool {
	return slices.ContainsFunc(v.Lost, func(r mesh.Range) bool { return r.Epoch == at.Epoch && r.First <= at.Seq && at.Seq <= r.Last }) &&
		slices.ContainsFunc(v.Parts, func(p mesh.Part) bool { return p.Source == "a" && p.Times.From <= when && when < p.Times.To })
}

// TestBuffer_WhatTheNewestHeldIsNamed: of the segment that was written last only
// the catalogue knows that there was more. Whatever becomes of its file, what
// was received is read or named, once, and the log goes on.
func TestBuffer_WhatTheNewestHeldIsNamed(t *testing.T) {
	t.Parallel()
	for what, hurt := range map[string]func(path string, before []byte) error{
		"removed":  func(path string, _ []byte) error { return os.Remove(path) },
		"renamed":  func(path string, _ []byte) error { return os.Rename(path, path+".old"+segmentSuffix) },
		"empty":    func(path string, _ []byte) error { return os.Truncate(path, 0) },
		"cut":      func(path string, _ []byte) error { return os.Truncate(path, 9*pageBytes) },
		"garbage":  func(path string, b []byte) error { return os.WriteFile(path, make([]byte, len(b)), 0o600) },
		"put back": func(path string, b []byte) error { return os.WriteFile(path, b, 0o600) },
		"a copy of the one before": func(path string, _ []byte) error {
			b, err := os.ReadFile(filepath.Join(filepath.Dir(path), pieceName(1, 1)))
			if err != nil {
				return err
			}
			return os.WriteFile(path, b, 0o600)
		},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			cfg, told := testConfig(quickDir(t)), confirmed{}
			b := mustOpen(t, cfg)
			for b.Stats().Segments < 2 {
				told.confirm(t, b, 1, 20000)
			}
			told.confirm(t, b, 2, 400)
			newest := segments(t, cfg.Dir)[1]
			before, err := os.ReadFile(newest)
			check(t, err)
			mustClose(t, b)
			b = mustOpen(t, cfg) // whose epoch the file of before does not know
			told.confirm(t, b, 20, 400)
			had := account(t, all(t, b))
			mustClose(t, b)
			check(t, hurt(newest, before))
			b = mustOpen(t, cfg)
			told.mustBeKnown(t, b, had)
			n := len(voidsOf(t, all(t, b)))
			mustClose(t, b)
			b = mustOpen(t, cfg)
			told.confirm(t, b, 2, 400)
			told.mustBeKnown(t, b, had)
			if again := len(voidsOf(t, all(t, b))); again != n {
				t.Errorf("%d voids after another opening, want %d", again, n)
			}
		})
	}
}

// TestBuffer_ACommitThatIsGoneIsNamed: where one of the two pages that name a
// segment's root is damaged bbolt takes the other, which knows one commit less.
func TestBuffer_ACommitThatIsGoneIsNamed(t *testing.T) {
	t.Parallel()
	for page := range int64(firstPage) {
		for _, commits := range []int{2, 5} { // before the first nobody knows the source
			cfg, told := testConfig(quickDir(t)), confirmed{}
			b := mustOpen(t, cfg)
			told.confirm(t, b, commits, 40)
			had := account(t, all(t, b))
			mustClose(t, b)
			path := segments(t, cfg.Dir)[0]
			file, err := os.ReadFile(path)
			check(t, err)
			file[page*pageBytes+metaNumber] ^= 4
			check(t, os.WriteFile(path, file, 0o600))
			b = mustOpen(t, cfg)
			told.confirm(t, b, 1, 40)
			told.mustBeKnown(t, b, had)
		}
	}
}

// TestBuffer_AnEmptySegmentWithADamagedRootIsKept: it may be the one commit that
// made it that is gone.
func TestBuffer_AnEmptySegmentWithADamagedRootIsKept(t *testing.T) {
	t.Parallel()
	cfg := testConfig(quickDir(t))
	f := folder{dir: cfg.Dir, size: 1 << 20}
	name := pieceName(1, 1)
	for hurt := range 2 {
		kept := 0
		s, err := f.Open(name, modeCreate)
		check(t, err)
		check(t, s.Close())
		file, err := os.ReadFile(f.path(name))
		check(t, err)
		file[pageBytes+metaNumber] ^= byte(hurt)
		check(t, os.WriteFile(f.path(name), file, 0o600))
		mustClose(t, mustOpen(t, cfg))
		if digests(t, cfg.Dir)[fmt.Sprintf("%x", sha256.Sum256(file))] {
			kept++
		}
		if kept != hurt {
			t.Errorf("damaged: %d, kept: %d", hurt, kept)
		}
		for _, s := range segments(t, cfg.Dir) {
			check(t, os.Remove(s))
		}
		check(t, os.Remove(filepath.Join(cfg.Dir, "catalogue.jsonl")))
	}
}

// TestCatalogue_FlippedBitHidesNothing: whatever stands in the catalogue, what
// is in segments is read.
func TestCatalogue_FlippedBitHidesNothing(t *testing.T) {
	unwatched(t)
	t.Parallel()
	cfg, told := testConfig(quickDir(t)), confirmed{}
	b := mustOpen(t, cfg)
	for b.Stats().Segments < 3 {
		told.confirm(t, b, 1, 20000)
	}
	told.confirm(t, b, 2, 400)
	mustClose(t, b)
	path := filepath.Join(cfg.Dir, "catalogue.jsonl")
	file, err := os.ReadFile(path)
	check(t, err)
	for i, c := range file {
		if !strings.ContainsRune("0123456789", rune(c)) || i%13 != 0 {
			continue
		}
		trial := copyDir(t, cfg.Dir)
		flipped := slices.Clone(file)
		flipped[i] ^= 1
		check(t, os.WriteFile(filepath.Join(trial, "catalogue.jsonl"), flipped, 0o600))
		b, err := Open(testConfig(trial), quiet())
		check(t, err)
		rs := all(t, b)
		if n := len(positions(t, rs)); n != len(told) || len(voidsOf(t, rs)) != 0 {
			t.Errorf("byte %d: %d of %d are read, %d voids", i, n, len(told), len(voidsOf(t, rs)))
		}
		check(t, b.Close())
		check(t, os.RemoveAll(trial))
	}
}

// TestBuffer_ReaderIsToldOfWhatNoNoteKnows: the oldest segments are gone, and
// with the catalogue all that says so. A reader that lacks them must not wait.
func TestBuffer_ReaderIsToldOfWhatNoNoteKnows(t *testing.T) {
	t.Parallel()
	cfg := testConfig(quickDir(t))
	b := mustOpen(t, cfg)
	fill(t, b, 3)
	mustAck(t, b, newHub().receipt(b.End())) // nothing is kept
	mustClose(t, b)
	check(t, os.Remove(filepath.Join(cfg.Dir, "catalogue.jsonl")))
	b = mustOpen(t, cfg)
	restored := newHub()
	for range 2 {
		mustAck(t, b, restored.receipt(mesh.Position{}))
	}
	rs := all(t, b)
	_, openings, _, err := b.Outset()
	check(t, err)
	if a := account(t, append(openings, rs...)); a.Set.Through != b.End() {
		t.Errorf("the restored hub ends at %s, the log at %s", a.Set.Through, b.End())
	}
	if v := voidsOf(t, rs); len(v) != 1 || v[0].Cause != mesh.CauseNotKept {
		t.Errorf("voids %+v", v)
	}
}

// TestBuffer_KeepsAlsoWhatARestartLeft: a segment that is not continued because
// it is nearly full is kept as long as others, and nothing ahead of it stays.
func TestBuffer_KeepsAlsoWhatARestartLeft(t *testing.T) {
	t.Parallel()
	cfg := testConfig(quickDir(t))
	keep, now := strict.Duration(time.Hour), time.Unix(1e9, 0)
	cfg.Keep, cfg.Now = &keep, func() time.Time { return now }
	b := mustOpen(t, cfg)
	for b.Stats().Bytes < int64(cfg.SegmentBytes)*3/4 {
		mustAppend(t, b, offer(t, "a", b.oneLater(), 4000))
	}
	mustClose(t, b)
	b = mustOpen(t, cfg)
	if n := len(segments(t, cfg.Dir)); n != 2 {
		t.Fatalf("%d segments, want another one", n)
	}
	info, err := os.Stat(segments(t, cfg.Dir)[0])
	check(t, err)
	if p := b.pieces[0]; info.Size() > p.bytes {
		t.Errorf("the file takes %d bytes, %d are counted", info.Size(), p.bytes)
	}
	h := newHub()
	mustAck(t, b, h.receipt(b.End()))
	if n := len(segments(t, cfg.Dir)); n != 2 {
		t.Errorf("%d segments, want both for an hour", n)
	}
	now = now.Add(2 * time.Hour)
	mustAck(t, b, h.receipt(b.End()))
	if n := len(segments(t, cfg.Dir)); n != 1 {
		t.Errorf("%d segments after two hours, want 1", n)
	}
}

// oneLater is an event time of its own for the next record.
func (b *Buffer) oneLater() mesh.Nanos { return mesh.Nanos(b.end+1) * 1e6 }

// TestBuffer_AKeyFarBehindTheEndHoldsNobody: what a damaged key seems to say is
// not voided one by one when the record says better.
func TestBuffer_AKeyFarBehindTheEndHoldsNobody(t *testing.T) {
	t.Parallel()
	cfg := testConfig(quickDir(t))
	b := mustOpen(t, cfg)
	for range 99 { // the opening is the first
		mustAppend(t, b, offer(t, "a", b.oneLater(), 40))
	}
	end := b.End()
	mustClose(t, b)
	rekey(t, segments(t, cfg.Dir)[0], 100, func(k []byte) { k[6] ^= 0x20 })
	b = mustOpen(t, cfg)
	if lost := b.chain.eras[1].first - b.chain.eras[0].first - end.Seq; lost > 0 {
		t.Errorf("the log went on %d records behind its end", lost)
	}
	rs := all(t, b)
	if n := len(positions(t, rs)); n != 98 || len(voidsOf(t, rs)) != 1 {
		t.Errorf("%d batches are read, %d voids", n, len(voidsOf(t, rs)))
	}
}
