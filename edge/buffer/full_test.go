package buffer

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"plantmesh/proto/mesh"
	"plantmesh/proto/wire"
)

// narrow is a disk of so many bytes, of which others take their part.
type narrow struct {
	folder

	bytes, others int64
}

func (d *narrow) free() (int64, error) {
	left := d.bytes - d.others
	entries, err := os.ReadDir(d.dir)
	if err != nil {
		return 0, err
	}
	for _, e := range entries {
		var s syscall.Stat_t
		if err := syscall.Stat(filepath.Join(d.dir, e.Name()), &s); err == nil {
			left -= s.Blocks * 512
		}
	}
	return max(0, left), nil
}

func (d *narrow) Open(name string, how mode) (segment, error) {
	if n, err := d.free(); err != nil || how == modeCreate && n < 64<<10 {
		return nil, errors.Join(err, syscall.ENOSPC)
	}
	s, err := d.folder.Open(name, how)
	if err != nil {
		return nil, err
	}
	return &narrowSegment{s, d}, nil
}

type narrowSegment struct {
	segment

	d *narrow
}

func (s *narrowSegment) Update(fn func(tx) error) (int64, error) {
	return s.segment.Update(func(t tx) error {
		w := &weighed{tx: t}
		if err := fn(w); err != nil {
			return err
		}
		if n, err := s.d.free(); err != nil || n < w.bytes {
			return errors.Join(err, syscall.ENOSPC)
		}
		return nil
	})
}

type weighed struct {
	tx

	bytes int64
}

func (w *weighed) Put(s space, k, v []byte) error {
	w.bytes += int64(len(k) + len(v))
	return w.tx.Put(s, k, v)
}

func openNarrow(t *testing.T, cfg Config, size int64) (*Buffer, *narrow) {
	t.Helper()
	check(t, cfg.Validate())
	d := &narrow{folder: folder{cfg.Dir, int64(cfg.SegmentBytes)}, bytes: size}
	b, err := open(cfg, d, d.free, quiet())
	check(t, err)
	t.Cleanup(func() { mustClose(t, b) })
	return b, d
}

func sealedVoid(t *testing.T, v mesh.Void) []byte {
	t.Helper()
	s, err := wire.SealVoid(v)
	check(t, err)
	return s
}

// cutPower lets go of the files without a last word.
func cutPower(t *testing.T, b *Buffer) {
	t.Helper()
	b.owing = true
	mustClose(t, b)
}

// take lets others have all that is free.
func (d *narrow) take(t *testing.T) {
	t.Helper()
	n, err := d.free()
	check(t, err)
	d.others += n
}

func TestBuffer_DropsOldestOnAFullDisk(t *testing.T) {
	unwatched(t)
	t.Parallel()
	for _, policy := range []Policy{PolicyDropOldest, PolicyThin, PolicyBlock} {
		cfg := testConfig(quickDir(t))
		cfg.Policy = policy
		b, d := openNarrow(t, cfg, 32<<20)
		n := 0
		for ; b.Stats().Segments < 4; n++ {
			mustAppend(t, b, offer(t, "a", mesh.Nanos(n)*100000, 20000))
		}
		d.take(t)
		var err error
		for range 80 {
			if _, err = b.Append(t.Context(), []mesh.Offer{offer(t, "a", mesh.Nanos(n)*100000, 20000)}); err != nil {
				break
			}
			n++
		}
		rs := all(t, b)
		if policy == PolicyBlock {
			if !errors.Is(err, ErrFull) || len(voidsOf(t, rs)) != 0 {
				t.Errorf("block: %v, voids %+v", err, voidsOf(t, rs))
			}
			continue
		}
		check(t, err)
		var lost uint64
		for _, v := range voidsOf(t, rs) {
			if v.Cause != mesh.CauseDiskPolicy {
				t.Errorf("void %+v", v)
			}
			for _, p := range v.Parts {
				lost += p.Count
			}
		}
		if kept := uint64(len(positions(t, rs))) * 20000; lost == 0 || kept+lost != uint64(n)*20000 {
			t.Errorf("%d kept, %d lost of %d", kept, lost, n*20000)
		}
		_, openings, _, err := b.Outset()
		check(t, err)
		if a := account(t, append(openings, rs...)); a.Set.Through != b.End() {
			t.Errorf("contiguous through %s, want %s", a.Set.Through, b.End())
		}
	}
}

func TestBuffer_LastReceivedSegmentGoesOnAFullDisk(t *testing.T) {
	t.Parallel()
	cfg := testConfig(quickDir(t))
	b, d := openNarrow(t, cfg, 16<<20)
	for i := range 4 {
		mustAppend(t, b, offer(t, "a", mesh.Nanos(i)<<30, 20000))
	}
	d.take(t)
	next := []mesh.Offer{offer(t, "a", 9<<30, 20000)}
	if _, err := b.Append(t.Context(), next); !errors.Is(err, ErrFull) {
		t.Fatalf("others have it all: %v", err)
	}
	hub := account(t, all(t, b))
	mustAck(t, b, newHub().receipt(b.End()))
	at, err := b.Append(t.Context(), next)
	if err != nil {
		t.Fatalf("everything is received, and nothing goes: %v", err)
	}
	for range 2 {
		rs := all(t, b)
		if got := positions(t, rs); !got[at[0]] {
			t.Errorf("batches %v, want %s", got, at[0])
		}
		for _, r := range rs {
			add(t, hub, r)
		}
		if hub.Set.Through != b.End() {
			t.Errorf("the hub ends at %s, the log at %s", hub.Set.Through, b.End())
		}
		if s, err := b.State("a"); err != nil || string(s) != mesh.Nanos(9<<30).String() {
			t.Errorf("state %q, %v", s, err)
		}
		if _, ok := b.Descriptor(table(t).Hash()); !ok {
			t.Error("the table is gone")
		}
		mustClose(t, b)
		b = mustOpen(t, cfg)
	}
}

func TestBuffer_ThroughIsKnownAfterARestart(t *testing.T) {
	t.Parallel()
	cfg := testConfig(quickDir(t))
	b := mustOpen(t, cfg)
	fill(t, b, 3)
	h := newHub()
	keep := b.pieces0(1)
	mustAck(t, b, h.receipt(keep))
	cutPower(t, b)
	b = mustOpen(t, cfg)
	if !b.Accounted(keep) || b.Accounted(b.End()) {
		t.Error("what the reader has is not known any more")
	}
	mustClose(t, b)
	// A new epoch of the reader may have less: what the old one had says nothing.
	b = mustOpen(t, cfg)
	mustAck(t, b, newHub().receipt(mesh.Position{}))
	mustClose(t, b)
	b = mustOpen(t, cfg)
	if b.Accounted(keep) {
		t.Error("a restored reader is credited with what the one before it had")
	}
}

// TestBuffer_TheAgentsOwnRecordsFitIntoAFullBuffer: the budget is for batches.
func TestBuffer_TheAgentsOwnRecordsFitIntoAFullBuffer(t *testing.T) {
	t.Parallel()
	cfg := testConfig(quickDir(t))
	b := mustOpen(t, cfg)
	for _, n := range []int{40000, 1} {
		for err := error(nil); err == nil; {
			_, err = b.Append(t.Context(), []mesh.Offer{offer(t, "a", 1, n)})
		}
	}
	died := sealedVoid(t, mesh.Void{Cause: mesh.CauseDied, Parts: []mesh.Part{{Source: "a", Times: mesh.Span{From: 1, To: 2}}}})
	fact, err := wire.SealFact(mesh.Fact{About: "rules", By: "rules.d", Descriptor: table(t).Hash()})
	check(t, err)
	// In this order: the last half of what goes beyond is for facts alone, and
	// the page copies of a large descriptor may use up the first.
	for _, c := range []struct {
		name  string
		offer mesh.Offer
	}{
		{"a fact", mesh.Offer{Source: "@rules/active", Sealed: [][]byte{fact}, State: []byte("x")}},
		{"the rules' state", mesh.Offer{Source: "@rules", State: make([]byte, 10<<10)}},
		{"a worker's death", mesh.Offer{Source: "a", Sealed: [][]byte{died}}},
		{"a larger rule set", mesh.Offer{Source: "@rules/active", Sealed: [][]byte{fact}, State: []byte("y"), Descriptors: []mesh.Descriptor{{Kind: mesh.DescribeRules, Content: make([]byte, 100<<10)}}}},
	} {
		if _, err := b.Append(t.Context(), []mesh.Offer{c.offer}); err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	if _, err := b.Append(t.Context(), []mesh.Offer{offer(t, "a", 1, 1)}); !errors.Is(err, ErrFull) {
		t.Errorf("a batch: %v", err)
	}
	for range 200 {
		long := sealedVoid(t, mesh.Void{Cause: mesh.CauseDied, Note: strings.Repeat("n", 8000)})
		if _, err = b.Append(t.Context(), []mesh.Offer{{Source: "a", Sealed: [][]byte{long}}}); err != nil {
			break
		}
	}
	if !errors.Is(err, ErrFull) {
		t.Errorf("what goes beyond the budget has no end: %v", err)
	}
	if n := b.Stats().Bytes; n > int64(cfg.MaxBytes+cfg.SegmentBytes) {
		t.Errorf("%d bytes: more than one segment beyond the budget", n)
	}
}

// What can't fit, whatever goes, has nothing go.
func TestBuffer_PolicyEndsWhereItGainsNothing(t *testing.T) {
	t.Parallel()
	for _, policy := range []Policy{PolicyDropOldest, PolicyThin} {
		cfg := testConfig(quickDir(t))
		cfg.Policy = policy
		b := mustOpen(t, cfg)
		for n := 0; b.Stats().Segments < 4; n++ {
			mustAppend(t, b, offer(t, "a", mesh.Nanos(n)*100000, 20000))
		}
		before := b.Stats()
		large := mesh.Offer{Source: "a", State: make([]byte, int(cfg.MaxBytes)+1)}
		if _, err := b.Append(t.Context(), []mesh.Offer{large}); !errors.Is(err, ErrFull) {
			t.Errorf("%s: more than the budget: %v", policy, err)
		}
		if after := b.Stats(); after.Segments != before.Segments || len(voidsOf(t, all(t, b))) != 0 {
			t.Errorf("%s: something went for what can't fit: %+v", policy, after)
		}
		mustAppend(t, b, offer(t, "a", 1e9, 20000))
	}
}
