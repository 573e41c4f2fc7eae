package buffer

import (
	"bytes"
	"encoding/binary"
	"os"
	"slices"
	"testing"

	"plantmesh/proto/mesh"
)

// flip changes one bit of each place in the folder's only segment where value stands.
func flip(t *testing.T, dir string, value []byte) {
	t.Helper()
	path := segments(t, dir)[0]
	file, err := os.ReadFile(path)
	check(t, err)
	n := 0
	for i := 0; ; n++ {
		j := bytes.Index(file[i:], value)
		if j < 0 {
			break
		}
		file[i+j+len(value)-1] ^= 1
		i += j + len(value)
	}
	if n == 0 {
		t.Fatalf("%q is not in the segment", value)
	}
	check(t, os.WriteFile(path, file, 0o600))
}

func TestBuffer_DamagedStateIsVoidedAndBegunAnew(t *testing.T) {
	t.Parallel()
	proof := binary.LittleEndian.AppendUint64(nil, 0x1122334455667788)
	state := []byte(`{"subscription":7,"seq":123456}`)
	wide := append(bytes.Clone(state), bytes.Repeat([]byte(" "), 700)...)
	for name, hurt := range map[string][]byte{"state": state, "proof": proof, "wide": wide} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := testConfig(quickDir(t))
			b := mustOpen(t, cfg)
			o := offer(t, "line1", 1000, 10)
			if o.State = state; name == "wide" {
				o.State = wide
			}
			mustAppend(t, b, o, mesh.Offer{Source: "@proof/line1", State: proof}, offer(t, "line2", 5, 10))
			end := b.End()
			mustClose(t, b)
			flip(t, cfg.Dir, hurt)
			for run := range 3 {
				b = mustOpen(t, cfg)
				for _, key := range []string{"line1", "@proof/line1"} {
					if s, err := b.State(key); err != nil || len(s) != 0 {
						t.Errorf("run %d: %s is %q, %v", run, key, s, err)
					}
				}
				if s, err := b.State("line2"); err != nil || string(s) != mesh.Nanos(5).String() {
					t.Errorf("run %d: the other source has %q, %v", run, s, err)
				}
				rs := all(t, b)
				v := voidsOf(t, rs)
				if len(v) != 1 || v[0].Cause != mesh.CauseDamaged || len(v[0].Parts) != 1 || v[0].Parts[0].Source != "line1" || v[0].Parts[0].Times.From != 1010 || len(v[0].Lost) != 0 {
					t.Errorf("run %d: voids %+v", run, v)
				}
				if lost := b.Stats().StateLost; run == 0 != slices.Equal(lost, []string{"line1"}) {
					t.Errorf("run %d: the status names %v", run, lost)
				}
				if got := positions(t, rs); len(got) != 2 || !got[end] {
					t.Errorf("run %d: batches %v", run, got)
				}
				mustClose(t, b)
			}
		})
	}
}

func TestBuffer_DamagedChainIsNeverBelieved(t *testing.T) {
	t.Parallel()
	cfg := testConfig(quickDir(t))
	b := mustOpen(t, cfg)
	p := mustAppend(t, b, offer(t, "a", 1000, 10))
	hub := account(t, all(t, b))
	chain := b.chain.encode()
	mustClose(t, b)
	flip(t, cfg.Dir, chain)
	b = mustOpen(t, cfg)
	rs := all(t, b)
	if positions(t, rs)[p] || asideCount(t, cfg.Dir) != 1 {
		t.Errorf("a segment with a damaged chain is read")
	}
	for _, r := range rs {
		add(t, hub, r)
	}
	if hub.Set.Through != b.End() {
		t.Errorf("the hub ends at %s, the log at %s", hub.Set.Through, b.End())
	}
}

func TestBuffer_DamagedTallyOrDescriptorIsLeftOut(t *testing.T) {
	t.Parallel()
	cfg := testConfig(quickDir(t))
	b := mustOpen(t, cfg)
	p := mustAppend(t, b, offer(t, "a", 1000, 10))
	tally := encodeTally(b.pieces[0].tallies["a"])
	mustClose(t, b)
	flip(t, cfg.Dir, tally)
	flip(t, cfg.Dir, table(t).Content)
	b = mustOpen(t, cfg)
	if got := b.pieces[0].tallies["a"]; got.Count != 0 {
		t.Errorf("a damaged tally says %+v", got)
	}
	if d, ok := b.Descriptor(table(t).Hash()); ok {
		t.Errorf("a damaged descriptor is given out: %q", d.Content)
	}
	if !positions(t, all(t, b))[p] {
		t.Error("the record is gone")
	}
	mustAppend(t, b, offer(t, "a", 2000, 10)) // the worker names it anew
	if _, ok := b.Descriptor(table(t).Hash()); !ok {
		t.Error("the descriptor was not taken again")
	}
}

// TestBuffer_StatesOfEverySizeAreKept: also those that grow and shrink, across
// openings and segments.
func TestBuffer_StatesOfEverySizeAreKept(t *testing.T) {
	t.Parallel()
	cfg := testConfig(quickDir(t))
	b := mustOpen(t, cfg)
	sizes := map[string][]int{"small": {1, 500, 3, 0}, "wide": {4000, 600, 9000, 4100}, "grows": {10, 5000, 10, 700}, "shrinks": {5000, 10, 5000, 0}}
	for round := range 12 {
		var offers []mesh.Offer
		for source, n := range sizes {
			offers = append(offers, mesh.Offer{Source: source, State: bytes.Repeat([]byte{byte(round + 1)}, n[round%4])})
		}
		mustAppend(t, b, append(offers, offer(t, "a", mesh.Nanos(round)<<30, 20_000))...)
		if round%3 == 2 {
			mustClose(t, b)
			b = mustOpen(t, cfg)
		}
		for source, n := range sizes {
			if s, err := b.State(source); err != nil || !bytes.Equal(s, bytes.Repeat([]byte{byte(round + 1)}, n[round%4])) {
				t.Fatalf("round %d: %s has %d bytes, want %d of %d; %v", round, source, len(s), n[round%4], round+1, err)
			}
		}
	}
	if n := len(segments(t, cfg.Dir)); n < 2 {
		t.Errorf("%d segments, want several", n)
	}
	for _, p := range b.pieces {
		seg, _, _, err := b.handle(p)
		check(t, err)
		check(t, seg.View(func(x tx) error {
			for source := range sizes {
				if x.Get(spaceState, []byte(source)) != nil && x.Get(spaceWide, []byte(source)) != nil {
					t.Errorf("the state of %s lies in two places", source)
				}
			}
			return nil
		}))
	}
}

// TestBuffer_ALargeStateIsNotWrittenWithEachSmallOne: nor are the pages that
// lead to it.
func TestBuffer_ALargeStateIsNotWrittenWithEachSmallOne(t *testing.T) {
	t.Parallel()
	each := func(rules int) uint64 {
		b := mustOpen(t, testConfig(quickDir(t)))
		mustAppend(t, b, mesh.Offer{Source: "@rules", State: make([]byte, rules)})
		before := b.Stats().Commits
		for i := range mesh.Nanos(60) {
			mustAppend(t, b, offer(t, "line1", i<<30, 100), mesh.Offer{Source: "@proof/line1", State: make([]byte, 16)})
		}
		now := b.Stats().Commits
		return (now.Written - before.Written) / (now.Count - before.Count)
	}
	if small, large := each(100), each(20_000); large > small+100 {
		t.Errorf("a commit writes %d bytes beside a large state, %d without", large, small)
	}
}
