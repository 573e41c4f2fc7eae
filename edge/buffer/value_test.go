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
	for name, hurt := range map[string][]byte{"state": state, "proof": proof} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := testConfig(t.TempDir())
			b := mustOpen(t, cfg)
			o := offer(t, "line1", 1000, 10)
			o.State = state
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
	cfg := testConfig(t.TempDir())
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
	cfg := testConfig(t.TempDir())
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
