package buffer

import (
	"bytes"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"go.etcd.io/bbolt"

	"plantmesh/proto/mesh"
)

func testFolder(t *testing.T) folder {
	t.Helper()
	return folder{dir: quickDir(t), size: 1 << 20}
}

func mustSegment(t testing.TB, f folder, how mode) *boltSegment {
	t.Helper()
	s, err := f.Open("1.seg", how)
	check(t, err)
	return s.(*boltSegment) //nolint:forcetypeassert // folder has no others
}

func mustUpdate(t testing.TB, s segment, fn func(tx) error) {
	t.Helper()
	_, err := s.Update(fn)
	check(t, err)
}

// noise is content by which a record is known.
func noise(r *rand.Rand, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

// TestDisk_RecordsInPieces: what is put is got, whatever its length, across
// commits and openings.
func TestDisk_RecordsInPieces(t *testing.T) {
	unwatched(t)
	t.Parallel()
	for seed := range uint64(6) {
		f, r := testFolder(t), rand.New(rand.NewPCG(seed, 3))
		f.size = 8 << 20
		s := mustSegment(t, f, modeCreate)
		var want [][]byte
		for range 60 {
			if r.IntN(10) == 0 {
				check(t, s.Close())
				s = mustSegment(t, f, modeAppend)
			}
			mustUpdate(t, s, func(t tx) error {
				for range 1 + r.IntN(4) {
					n := 1 + r.IntN([]int{70, 300, 5000, 40_000, 200_000}[r.IntN(5)])
					want = append(want, noise(r, n))
					if err := t.Put(spaceRecord, keyOf(uint64(len(want))), want[len(want)-1]); err != nil {
						return err
					}
				}
				return nil
			})
		}
		from := r.IntN(len(want))
		check(t, s.View(func(x tx) error {
			for i, w := range want {
				if !bytes.Equal(x.Get(spaceRecord, keyOf(uint64(i+1))), w) {
					t.Fatalf("seed %d: record %d of %d bytes reads otherwise", seed, i, len(w))
				}
			}
			n := from
			x.Scan(spaceRecord, keyOf(uint64(from+1)), func(k, v []byte) bool {
				if indexOf(k) != uint64(n+1) || !bytes.Equal(v, want[n]) {
					t.Fatalf("seed %d: record %d comes where %d should", seed, indexOf(k), n+1)
				}
				n++
				return true
			})
			if n != len(want) || x.Get(spaceRecord, keyOf(uint64(n+1))) != nil {
				t.Errorf("seed %d: %d of %d records", seed, n, len(want))
			}
			return nil
		}))
		check(t, s.Close())
		check(t, f.walk(f.path("1.seg"), false))
	}
}

// TestDisk_PagesFill: what following the last page is for.
func TestDisk_PagesFill(t *testing.T) {
	t.Parallel()
	for n, least := range map[int]float64{3800: 0.95, 4090: 0.94, 19_000: 0.97} {
		f, r := testFolder(t), rand.New(rand.NewPCG(1, uint64(n)))
		f.size = 64 << 20
		s := mustSegment(t, f, modeCreate)
		for i := range uint64(150) {
			mustUpdate(t, s, func(t tx) error {
				return t.Put(spaceRecord, keyOf(i+1), make([]byte, n-100+r.IntN(200)))
			})
		}
		check(t, s.db.View(func(x *bbolt.Tx) error {
			st := x.Bucket([]byte(spaceRecord)).Stats()
			if fill := float64(st.LeafInuse) / float64(st.LeafAlloc); fill < least {
				t.Errorf("pages of records of %d bytes are %.3f full, want %g", n, fill, least)
			}
			return nil
		}))
		check(t, s.Close())
	}
}

// TestDisk_WritesAheadBehindTheEnd: commits larger than what is ahead make
// bbolt lengthen the file itself; nothing of that is overwritten. A filled
// segment keeps nothing of what was ahead.
func TestDisk_WritesAheadBehindTheEnd(t *testing.T) {
	t.Parallel()
	f, r := testFolder(t), rand.New(rand.NewPCG(1, 9))
	s := mustSegment(t, f, modeCreate)
	for i := range uint64(12) {
		size := []int{1000, int(f.size / 5), 30_000}[i%3]
		mustUpdate(t, s, func(t tx) error { return t.Put(spaceRecord, keyOf(i+1), noise(r, size)) })
		if i%4 == 0 {
			check(t, s.Close())
			s = mustSegment(t, f, modeAppend) // which looks at every page
		}
	}
	check(t, s.Trim())
	var used int64
	check(t, s.View(func(x tx) error { used = x.Size(); return nil }))
	check(t, s.Close())
	if info, err := os.Stat(f.path("1.seg")); err != nil || info.Size() != used {
		t.Errorf("the file has %d bytes, %d are used, %v", info.Size(), used, err)
	}
	check(t, mustSegment(t, f, modeAppend).Close())
}

// asBefore writes a segment anew as it was before records lay in pieces: each a
// value of its own, the freelist beside, nothing ahead.
func asBefore(t *testing.T, f folder, name string) {
	t.Helper()
	s, err := f.Open(name, modeRead)
	check(t, err)
	to := filepath.Join(f.dir, "old")
	db, err := bbolt.Open(to, 0o600, &bbolt.Options{FreelistType: bbolt.FreelistMapType})
	check(t, err)
	check(t, s.View(func(x tx) error {
		return db.Update(func(o *bbolt.Tx) error {
			for _, sp := range spaces() {
				if sp == spaceWide {
					continue
				}
				b, err := o.CreateBucket([]byte(sp))
				check(t, err)
				x.Scan(sp, nil, func(k, v []byte) bool {
					check(t, b.Put(k, v))
					return true
				})
			}
			to := &boltTx{o, nil}
			x.Scan(spaceWide, nil, func(k, v []byte) bool {
				value, _ := checked(spaceWide, k, v)
				check(t, put(to, spaceState, k, value))
				return true
			})
			return nil
		})
	}))
	check(t, db.Close())
	check(t, s.Close())
	check(t, os.Rename(to, f.path(name)))
}

// TestBuffer_ReadsTheLayoutOfBefore: a folder of whole records is read, and goes
// on in a new segment with records in pieces: the free pages of its last one are
// written in it.
func TestBuffer_ReadsTheLayoutOfBefore(t *testing.T) {
	t.Parallel()
	cfg := testConfig(quickDir(t))
	b := mustOpen(t, cfg)
	fill(t, b, 2)
	mustAppend(t, b, offer(t, "b", 7, 2000), mesh.Offer{Source: "@rules", State: make([]byte, 3000)})
	was := all(t, b)
	mustClose(t, b)
	f := folder{dir: cfg.Dir, size: int64(cfg.SegmentBytes)}
	names, err := f.Names()
	check(t, err)
	for _, name := range names {
		asBefore(t, f, name)
	}
	for range 2 {
		b = mustOpen(t, cfg)
		if s, err := b.State("@rules"); err != nil || len(s) < 3000 {
			t.Errorf("a state of %d bytes, %v", len(s), err)
		}
		mustAppend(t, b, offer(t, "c", 9, 2000), mesh.Offer{Source: "@rules", State: make([]byte, 4000)}, mesh.Offer{Source: "d", State: make([]byte, 5000)})
		rs := all(t, b)
		for i, r := range was {
			if rs[i].At != r.At || !bytes.Equal(rs[i].Sealed, r.Sealed) {
				t.Fatalf("record %s reads otherwise", r.At)
			}
		}
		if n := len(segments(t, cfg.Dir)); n != len(names)+1 || len(voidsOf(t, rs)) != 0 {
			t.Errorf("%d segments, want %d; voids %+v", n, len(names)+1, voidsOf(t, rs))
		}
		if a := account(t, rs); a.Set.Through != b.End() {
			t.Errorf("a hub ends at %s, the log at %s", a.Set.Through, b.End())
		}
		mustClose(t, b)
	}
}

// TestBuffer_RecordThatLacksAPieceIsVoided: no part of a record is ever taken
// for the whole.
func TestBuffer_RecordThatLacksAPieceIsVoided(t *testing.T) {
	t.Parallel()
	for name, hurt := range map[string]func(b *bbolt.Bucket, record []byte) error{
		"first":  func(b *bbolt.Bucket, record []byte) error { return b.Delete(record) },
		"second": func(b *bbolt.Bucket, record []byte) error { return b.Delete(pieceKey(record, 1)) },
		"swapped": func(b *bbolt.Bucket, record []byte) error {
			two := bytes.Clone(b.Get(pieceKey(record, 2)))
			return b.Put(pieceKey(record, 1), two)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := testConfig(quickDir(t))
			b := mustOpen(t, cfg)
			var at []mesh.Position
			for i := range 3 {
				at = append(at, mustAppend(t, b, offer(t, "a", mesh.Nanos(i)<<30, 2000)))
			}
			victim, _ := b.chain.index(at[1])
			mustClose(t, b)
			db, err := bbolt.Open(segments(t, cfg.Dir)[0], 0o600, nil)
			check(t, err)
			check(t, db.Update(func(x *bbolt.Tx) error { return hurt(x.Bucket([]byte(spaceRecord)), keyOf(victim)) }))
			check(t, db.Close())
			b = mustOpen(t, cfg)
			rs := all(t, b)
			if name == "first" { // then it ends the segment, as one that was never written would
				if positions(t, rs)[at[1]] {
					t.Error("a record without its beginning is given out")
				}
				return
			}
			got := positions(t, rs)
			if got[at[1]] || !got[at[0]] || !got[at[2]] {
				t.Errorf("batches %v", got)
			}
			v := voidsOf(t, all(t, b))
			if len(v) != 1 || v[0].Cause != mesh.CauseDamaged || len(v[0].Lost) != 1 || v[0].Lost[0].First != at[1].Seq {
				t.Errorf("voids %+v", v)
			}
		})
	}
}
