package buffer

import (
	"bytes"
	"encoding/binary"
	"os"
	"slices"
	"testing"

	"plantmesh/proto/mesh"
)

// TestBuffer_NamesThatAreDamagedEndNoStart: the name that a state stands under
// may be anything where its page is damaged. The source starts anew and is named,
// also where no older segment and no other name tells whose state it was.
func TestBuffer_NamesThatAreDamagedEndNoStart(t *testing.T) {
	t.Parallel()
	const source = "line1-opcua"
	for what, segmentsBefore := range map[string]int{"the only segment": 0, "one of many": 2} {
		for kind, bit := range map[string]byte{"no text": 0x80, "another name": 1, "out of order": 0x10} {
			t.Run(what+", "+kind, func(t *testing.T) {
				t.Parallel()
				cfg := testConfig(quickDir(t))
				b := mustOpen(t, cfg)
				o := offer(t, source, 1<<41, 10)
				o.State = []byte("line1's state, by which it is found")
				end := mustAppend(t, b, o)
				fill(t, b, 1+segmentsBefore)
				mustClose(t, b)
				misname(t, segments(t, cfg.Dir)[segmentsBefore], source, o.State, bit)
				b = mustOpen(t, cfg)
				if s, err := b.State(source); err != nil || len(s) != 0 {
					t.Errorf("its state is %q, %v", s, err)
				}
				if lost := b.Stats().StateLost; !slices.Contains(lost, source) || slices.Contains(lost, "a") {
					t.Errorf("the status names %q", lost)
				}
				rs := all(t, b)
				if !positions(t, rs)[end] {
					t.Error("a record is gone")
				}
				n := 0
				for _, v := range voidsOf(t, rs) {
					if slices.ContainsFunc(v.Parts, func(p mesh.Part) bool { return p.Source == source && p.Times.From >= 1<<41 }) {
						n++
					}
				}
				if n != 1 {
					t.Errorf("%d voids name it: %+v", n, voidsOf(t, rs))
				}
				o.State = []byte("a new one")
				mustAppend(t, b, o)
				mustClose(t, b)
				b = mustOpen(t, cfg)
				if lost := b.Stats().StateLost; len(lost) != 0 {
					t.Errorf("the next start names %q again", lost)
				}
				if s, err := b.State(source); err != nil || string(s) != "a new one" {
					t.Errorf("its state is %q, %v", s, err)
				}
			})
		}
	}
}

// TestBuffer_AStateThatThePageHidesIsNamed: the page says it has one fewer than
// it has, and no older segment tells.
func TestBuffer_AStateThatThePageHidesIsNamed(t *testing.T) {
	t.Parallel()
	cfg := testConfig(quickDir(t))
	b := mustOpen(t, cfg)
	mustAppend(t, b, offer(t, "a", 1000, 10), offer(t, "b", 1000, 10))
	mustClose(t, b)
	hurtLastPage(t, segments(t, cfg.Dir)[0], spaceState, func(p []byte) {
		binary.NativeEndian.PutUint16(p[10:], binary.NativeEndian.Uint16(p[10:])-1)
	})
	for _, want := range [][]string{{"b"}, nil} {
		b = mustOpen(t, cfg)
		if lost := b.Stats().StateLost; !slices.Equal(lost, want) {
			t.Errorf("the status names %q, want %q", lost, want)
		}
		mustClose(t, b)
	}
}

// misname turns over a bit of the name that a state stands under.
func misname(t *testing.T, path, source string, state []byte, bit byte) {
	t.Helper()
	file, err := os.ReadFile(path)
	check(t, err)
	n := 0
	for at := range file { // the name stands before its value, and a checksum between
		if rest, ok := bytes.CutPrefix(file[at:], []byte(source)); ok && bytes.HasPrefix(rest[4:], state) {
			file[at] ^= bit
			n++
		}
	}
	if n == 0 {
		t.Fatal("the state isn't in the segment")
	}
	check(t, os.WriteFile(path, file, 0o600))
}

// TestBuffer_AProofUnderADamagedNameIsMissed: its source has a state still, and
// starts anew all the same.
func TestBuffer_AProofUnderADamagedNameIsMissed(t *testing.T) {
	t.Parallel()
	for _, bit := range []byte{1, 0x80} {
		cfg := testConfig(quickDir(t))
		b := mustOpen(t, cfg)
		proof := []byte("how far a has proven")
		mustAppend(t, b, offer(t, "a", 1000, 10), offer(t, "b", 1000, 10), mesh.Offer{Source: "@proof/a", State: proof})
		mustClose(t, b)
		misname(t, segments(t, cfg.Dir)[0], "@proof/a", proof, bit)
		b = mustOpen(t, cfg)
		if lost := b.Stats().StateLost; !slices.Contains(lost, "a") || slices.Contains(lost, "b") {
			t.Errorf("the status names %q", lost)
		}
		if s, err := b.State("a"); err != nil || len(s) != 0 {
			t.Errorf("its state is %q, %v", s, err)
		}
	}
}

// TestBuffer_AStateOfAFailedCommitIsNotMissed: it stood in the segment that was
// left, and in none after it.
func TestBuffer_AStateOfAFailedCommitIsNotMissed(t *testing.T) {
	t.Parallel()
	cfg := testConfig(quickDir(t))
	b, f := openFaulty(t, cfg)
	mustAppend(t, b, offer(t, "a", 1000, 10))
	f.updates, f.creates, f.happens = 1, 1, true
	if _, err := b.Append(t.Context(), []mesh.Offer{offer(t, "b", 1000, 10)}); err == nil {
		t.Fatal("the commit did not fail")
	}
	mustAppend(t, b, offer(t, "a", 2000, 10))
	mustClose(t, b)
	b = mustOpen(t, cfg)
	if lost := b.Stats().StateLost; len(lost) != 0 || len(voidsOf(t, all(t, b))) != 0 {
		t.Errorf("%q are said to be lost, voids %+v", lost, voidsOf(t, all(t, b)))
	}
}
