package buffer

import (
	"fmt"
	"testing"

	"plantmesh/proto/mesh"
)

// Parts of a state whose names are made up and dropped again leave nothing behind but in
// their segment: a device may make up names for ever.
func TestBuffer_DroppedPartsAreForgotten(t *testing.T) {
	unwatched(t)
	t.Parallel()
	cfg := testConfig(quickDir(t))
	b := mustOpen(t, cfg)
	mustAppend(t, b, mesh.Offer{Source: "line1", State: []byte("s"), Kept: []mesh.Kept{{Name: "stays", Bytes: []byte("1")}}})
	const rounds, each = 12, 200
	for round := range rounds {
		for i := range each {
			name := fmt.Sprintf("made-up/%d/%d", round, i)
			mustAppend(t, b, mesh.Offer{Source: "line1", Kept: []mesh.Kept{{Name: name, Bytes: []byte("1")}}})
			mustAppend(t, b, mesh.Offer{Source: "line1", Kept: []mesh.Kept{{Name: name}}})
		}
		o := offer(t, "line1", mesh.Nanos(round)<<30, 20_000)
		o.State = nil
		mustAppend(t, b, o)
		if round%4 == 3 {
			mustClose(t, b)
			b = mustOpen(t, cfg)
		}
		kept, err := b.Kept("line1")
		check(t, err)
		if s, err := b.State("line1"); err != nil || string(s) != "s" || len(kept) != 1 || len(b.stateLost) != 0 {
			t.Fatalf("round %d: state %q, %d parts, lost %v, %v", round, s, len(kept), b.stateLost, err)
		}
	}
	if n := len(segments(t, cfg.Dir)); n < 3 {
		t.Fatalf("%d segments, want several", n)
	}
	if n := len(b.states); n > rounds*each/2 {
		t.Errorf("%d states are known of 2 and what was dropped in one segment", n)
	}
	for _, v := range voidsOf(t, all(t, b)) {
		t.Errorf("void %+v", v)
	}
	mustClose(t, b)
}
