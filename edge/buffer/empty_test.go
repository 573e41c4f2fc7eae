package buffer

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"testing"

	"plantmesh/proto/mesh"
)

// TestDisk_AnEmptyLeafIsNotContinued: bbolt takes the leaf before it for what the
// branch names, and the segment can't be walked again.
func TestDisk_AnEmptyLeafIsNotContinued(t *testing.T) {
	t.Parallel()
	f := testFolder(t)
	file := sampleSegment(t, f)
	pages := leaves(t, f.path("1.seg"), spaceRecord)
	for _, page := range []uint64{pages[0], pages[len(pages)/2], pages[len(pages)-1]} {
		hurt := bytes.Clone(file)
		binary.NativeEndian.PutUint16(hurt[page*pageBytes+10:], 0)
		check(t, os.WriteFile(f.path("1.seg"), hurt, 0o600))
		s, err := f.Open("1.seg", modeAppend)
		if err == nil {
			check(t, s.Close())
		}
		if last := page == pages[len(pages)-1]; !errors.Is(err, errDamaged) || errors.Is(err, errBack) != last {
			t.Errorf("page %d of %v: %v", page, pages, err)
		}
	}
}

// TestBuffer_RecordsThatThePageHidesAreNamed: the last page of the newest segment
// says it has fewer than it has, or the last key is one from before. Nothing but
// the way a page is packed betrays that there was more.
func TestBuffer_RecordsThatThePageHidesAreNamed(t *testing.T) {
	t.Parallel()
	fewer := func(by uint16) func(p []byte) {
		return func(p []byte) {
			binary.NativeEndian.PutUint16(p[10:], binary.NativeEndian.Uint16(p[10:])-by)
		}
	}
	for what, hurt := range map[string]func(p []byte){
		"one fewer": fewer(1), "two fewer": fewer(2), "none": func(p []byte) { binary.NativeEndian.PutUint16(p[10:], 0) },
		"the last key is lower": func(p []byte) {
			e := p[pageHeader+leafElement*(binary.NativeEndian.Uint16(p[10:])-1):]
			p = e[binary.NativeEndian.Uint32(e[4:]):]
			p[6], p[7] = 0, 3
		},
	} {
		for _, inline := range []bool{false, true} {
			if inline && what == "none" {
				continue // nothing at all in the only segment: no record can be told
			}
			t.Run(what, func(t *testing.T) {
				t.Parallel()
				cfg, told := testConfig(quickDir(t)), confirmed{}
				b := mustOpen(t, cfg)
				if told.confirm(t, b, 4, 1); !inline {
					told.confirm(t, b, 40, 100)
				}
				had := account(t, all(t, b))
				mustClose(t, b)
				hurtLastPage(t, segments(t, cfg.Dir)[0], spaceRecord, hurt)
				b = mustOpen(t, cfg)
				if what != "none" { // a record may have begun on the page before: its void knows no time
					told.mustBeKnown(t, b, had)
					return
				}
				for _, r := range append(outset(t, b), all(t, b)...) {
					add(t, had, r)
				}
				fresh := account(t, append(outset(t, b), all(t, b)...))
				if through := had.Set.Through; through != b.End() || fresh.Set.Through != through {
					t.Errorf("a hub ends at %s, a new one at %s, the log at %s", through, fresh.Set.Through, b.End())
				}
			})
		}
	}
}

// hurtLastPage hurts the last leaf of a space, wherever it stands.
func hurtLastPage(t *testing.T, path string, s space, hurt func(p []byte)) {
	t.Helper()
	file, err := os.ReadFile(path)
	check(t, err)
	pages := leaves(t, path, s)
	if n := len(pages); n > 0 {
		hurt(file[pages[n-1]*pageBytes:][:pageBytes])
	} else {
		root := file[rootOf(t, path)*pageBytes:][:pageBytes]
		at := bytes.Index(root, []byte(s))
		hurt(root[at+len(s)+bucketHead:])
	}
	check(t, os.WriteFile(path, file, 0o600))
}

func outset(t *testing.T, b *Buffer) []mesh.Record {
	t.Helper()
	_, openings, _, err := b.Outset()
	check(t, err)
	return openings
}
