package buffer

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"

	"plantmesh/proto/mesh"
)

// keeps is what a source keeps, in words.
func keeps(t *testing.T, b *Buffer, source string) string {
	t.Helper()
	kept, err := b.Kept(source)
	check(t, err)
	var out []string
	for _, name := range []string{"a", "b", "node/x", "line1"} {
		if s, ok := kept[name]; ok {
			out = append(out, fmt.Sprintf("%s=%d of %q", name, len(s), s[:1]))
		}
	}
	if len(out) != len(kept) {
		t.Errorf("%s keeps %d parts, known are %v", source, len(kept), out)
	}
	return strings.Join(out, " ")
}

// TestBuffer_WhatIsKeptBesideAState: replaced by name, dropped by no bytes, each
// source's own, across openings and segments.
func TestBuffer_WhatIsKeptBesideAState(t *testing.T) {
	t.Parallel()
	cfg := testConfig(quickDir(t))
	b := mustOpen(t, cfg)
	big := bytes.Repeat([]byte("z"), 5000)
	mustAppend(t, b,
		mesh.Offer{Source: "line1", State: []byte("s"), Kept: []mesh.Kept{{Name: "a", Bytes: []byte("1")}, {Name: "b", Bytes: big}, {Name: "node/x", Bytes: []byte("n")}}},
		mesh.Offer{Source: "line", Kept: []mesh.Kept{{Name: "line1", Bytes: []byte("other")}}})
	mustAppend(t, b, mesh.Offer{Source: "line1", Kept: []mesh.Kept{{Name: "a", Bytes: []byte("22")}, {Name: "node/x"}}})
	for round := range 8 {
		mustAppend(t, b, offer(t, "line1", mesh.Nanos(round)<<30, 20_000))
		if round%3 == 2 {
			mustClose(t, b)
			b = mustOpen(t, cfg)
		}
		if got, want := keeps(t, b, "line1"), `a=2 of "2" b=5000 of "z"`; got != want {
			t.Fatalf("round %d: %s, want %s", round, got, want)
		}
		if got, want := keeps(t, b, "line"), `line1=5 of "o"`; got != want {
			t.Fatalf("round %d: the other keeps %s, want %s", round, got, want)
		}
	}
	if n := len(segments(t, cfg.Dir)); n < 2 {
		t.Errorf("%d segments, want several", n)
	}
	_, err := b.Append(t.Context(), []mesh.Offer{{Source: "line1", Kept: []mesh.Kept{{Name: strings.Repeat("x", mesh.MaxKeptName+1)}}}})
	if !errors.Is(err, mesh.ErrPermanent) {
		t.Errorf("a name that is too long: %v", err)
	}
}

// TestBuffer_AKeptPartThatIsDamagedCostsTheState: half of a state is none.
func TestBuffer_AKeptPartThatIsDamagedCostsTheState(t *testing.T) {
	t.Parallel()
	cfg := testConfig(quickDir(t))
	b := mustOpen(t, cfg)
	o := offer(t, "line1", 1000, 10)
	o.Kept = []mesh.Kept{{Name: "a", Bytes: []byte("the births of a node")}, {Name: "b", Bytes: []byte("those of another")}}
	mustAppend(t, b, o, offer(t, "line2", 5, 10))
	mustClose(t, b)
	flip(t, cfg.Dir, []byte("the births of a node"))
	b = mustOpen(t, cfg)
	if s, err := b.State("line1"); err != nil || len(s) != 0 {
		t.Errorf("the state is %q, %v", s, err)
	}
	if got := keeps(t, b, "line1"); got != "" {
		t.Errorf("it keeps %s", got)
	}
	if s, err := b.State("line2"); err != nil || len(s) == 0 {
		t.Errorf("the other source has %q, %v", s, err)
	}
	if v := voidsOf(t, all(t, b)); len(v) != 1 || v[0].Cause != mesh.CauseDamaged || v[0].Parts[0].Source != "line1" {
		t.Errorf("voids %+v", v)
	}
}
