package buffer

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"plantmesh/proto/mesh"
)

func TestBuffer_StrayFilesAreLeftAlone(t *testing.T) {
	t.Parallel()
	for _, stray := range []string{
		"backup.seg", "-.seg", ".seg", "00000001.seg", "0000001-0000000000000001.seg", "00000001-0000000000000001 (1).seg",
		"00000000-0000000000000001.seg", "00000009-0000000000000001.seg", "00000009-0000000000000003.seg",
		"ffffffff-ffffffffffff0000.seg", "fffffffffffffff0-ffffffffffffffff.seg", "0000000A-0000000000000001.seg", "backup.seg.making",
	} {
		t.Run(stray, func(t *testing.T) {
			t.Parallel()
			cfg := testConfig(quickDir(t))
			b := mustOpen(t, cfg)
			fill(t, b, 2)
			was := positions(t, all(t, b))
			mustClose(t, b)
			path := filepath.Join(cfg.Dir, stray)
			check(t, os.WriteFile(path, []byte("x"), 0o600))
			for range 2 {
				var said bytes.Buffer
				b, err := Open(cfg, slog.New(slog.NewTextHandler(&said, nil)))
				check(t, err)
				mustAppend(t, b, offer(t, "a", 1<<42, 1))
				rs := all(t, b)
				got := positions(t, rs)
				for p := range was {
					if !got[p] {
						t.Fatalf("%s is gone: %d of %d batches left, voids %+v", p, len(got), len(was), voidsOf(t, rs))
					}
				}
				if len(voidsOf(t, rs)) != 0 {
					t.Errorf("voids %+v", voidsOf(t, rs))
				}
				if n := strings.Count(said.String(), "left alone"); n != 1 && strings.HasSuffix(stray, segmentSuffix) {
					t.Errorf("it was told %d times: %s", n, said.String())
				}
				mustClose(t, b)
			}
			if file, err := os.ReadFile(path); err != nil || string(file) != "x" {
				t.Errorf("the stray file holds %q, %v", file, err)
			}
		})
	}
}

// litter does one thing to the folder that a person might.
func litter(t *testing.T, r *rand.Rand, dir string) string {
	t.Helper()
	segs := segments(t, dir)
	from := segs[r.IntN(len(segs))]
	name := []string{"backup.seg", "x.seg", "copy-1.seg", "old.seg.making", fmt.Sprintf("%08x-%016x.seg", r.IntN(12), 1+r.IntN(60)), filepath.Base(from) + makingSuffix}[r.IntN(6)]
	to := filepath.Join(dir, name)
	if _, err := os.Stat(to); err == nil {
		return "nothing"
	}
	file, err := os.ReadFile(from)
	check(t, err)
	switch r.IntN(4) {
	case 0:
		junk := make([]byte, r.IntN(100<<10))
		for i := range junk {
			junk[i] = byte(r.Uint32())
		}
		check(t, os.WriteFile(to, junk, 0o600))
		return "garbage " + name
	case 1:
		check(t, os.WriteFile(to, file[:len(file)*(1+r.IntN(3))/3], 0o600))
		return "cut copy of " + filepath.Base(from) + " as " + name
	case 2:
		check(t, os.WriteFile(to, file, 0o600))
		return "copy of " + filepath.Base(from) + " as " + name
	}
	check(t, os.Rename(from, to))
	return "renamed " + filepath.Base(from) + " to " + name
}

// TestBuffer_NoFileWithUnsentRecordsIsRemoved litters the folder at random:
// afterwards each record is read, or it is voided or off the chain and the
// bytes of its segment still stand in the folder.
func TestBuffer_NoFileWithUnsentRecordsIsRemoved(t *testing.T) {
	unwatched(t)
	t.Parallel()
	seeds := uint64(12)
	if testing.Short() {
		seeds = 3
	}
	for seed := range seeds {
		r := rand.New(rand.NewPCG(seed, 7))
		cfg := testConfig(quickDir(t))
		b := mustOpen(t, cfg)
		fill(t, b, 1+r.IntN(3))
		before := positions(t, all(t, b))
		holder := map[mesh.Position]string{} // position: digest of the file that has it
		digest := map[*piece]string{}
		chain, pieces := b.chain, b.pieces
		mustClose(t, b)
		for _, p := range pieces {
			file, err := os.ReadFile(filepath.Join(cfg.Dir, p.name))
			check(t, err)
			digest[p] = fmt.Sprintf("%x", sha256.Sum256(file))
		}
		for at := range before {
			i, _ := chain.index(at)
			for _, p := range pieces {
				if p.first <= i && i <= p.last {
					holder[at] = digest[p]
				}
			}
		}
		var did []string
		for range 1 + r.IntN(4) {
			if len(segments(t, cfg.Dir)) > 0 {
				did = append(did, litter(t, r, cfg.Dir))
			}
		}
		for range 3 {
			b = mustOpen(t, cfg)
			mustAppend(t, b, offer(t, "a", 1<<43, 1))
			rs := all(t, b)
			got := positions(t, rs)
			_, openings, _, err := b.Outset()
			check(t, err)
			if a := account(t, append(openings, rs...)); a.Set.Through != b.End() {
				t.Errorf("seed %d %v: a hub ends at %s %v, the log at %s", seed, did, a.Set.Through, a.Set.Islands, b.End())
			}
			mustClose(t, b)
			there := digests(t, cfg.Dir)
			for at := range before {
				if !got[at] && !there[holder[at]] {
					t.Errorf("seed %d %v: %s is neither read nor in the folder", seed, did, at)
				}
			}
		}
	}
}

func digests(t *testing.T, dir string) map[string]bool {
	t.Helper()
	out := map[string]bool{}
	entries, err := os.ReadDir(dir)
	check(t, err)
	for _, e := range entries {
		if e.IsDir() {
			continue
		}
		file, err := os.ReadFile(filepath.Join(dir, e.Name()))
		check(t, err)
		out[fmt.Sprintf("%x", sha256.Sum256(file))] = true
	}
	return out
}

func TestBuffer_RenamedSegmentIsStillRead(t *testing.T) {
	t.Parallel()
	cfg := testConfig(quickDir(t))
	b := mustOpen(t, cfg)
	fill(t, b, 3)
	was := len(positions(t, all(t, b)))
	mustClose(t, b)
	check(t, os.Rename(segments(t, cfg.Dir)[1], filepath.Join(cfg.Dir, pieceName(77, 1))))
	b = mustOpen(t, cfg)
	rs := all(t, b)
	if n := len(positions(t, rs)); n != was || len(voidsOf(t, rs)) != 0 {
		t.Errorf("%d of %d batches, voids %+v", n, was, voidsOf(t, rs))
	}
}

func TestBuffer_OnlyItsOwnEmptyFilesAreRemoved(t *testing.T) {
	t.Parallel()
	cfg := testConfig(quickDir(t))
	b := mustOpen(t, cfg)
	for i := range 3 {
		mustAppend(t, b, offer(t, "a", mesh.Nanos(i)<<30, 20000))
	}
	mustAck(t, b, newHub().receipt(b.End()))
	b.writing.Lock()
	went := b.makeRoom()
	b.writing.Unlock()
	if !went {
		t.Fatal("a received segment does not go")
	}
	mustClose(t, b)
	check(t, cfg.Validate())
	f := &faulty{disk: folder{dir: cfg.Dir, size: int64(cfg.SegmentBytes)}, updates: 1, happens: true}
	b, err := open(cfg, f, func() (int64, error) { return 1 << 40, nil }, quiet())
	check(t, err)
	defer mustClose(t, b)
	if n := asideCount(t, cfg.Dir); n != 1 {
		t.Errorf("%d files set aside, want the one an earlier run made", n)
	}
}
