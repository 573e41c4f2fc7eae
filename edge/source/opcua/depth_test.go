package opcua

import (
	"slices"
	"testing"
	"time"

	"plantmesh/edge/source"
	"plantmesh/edge/source/opcua/channel"
	"plantmesh/proto/strict"
)

// keeps answers as a server that keeps depth messages for Republish.
func keeps(t *testing.T, r *Reader, depth int, seq uint32) channel.Posted {
	t.Helper()
	var sent []uint32
	for n := uint32(1); n <= seq; n++ {
		if !slices.Contains(r.taken, n) && n < seq {
			continue // acknowledged
		}
		sent = append(sent, n)
	}
	n := r.message(t, seq, float64(seq), true, int64(seq))
	n.in.Subscription, n.in.Available, n.in.More = r.state.Subscription, sent[max(0, len(sent)-depth):], true
	return channel.Posted{In: n.in}
}

// patient is a reader whose windows close by nothing but what is taken.
func patient(t *testing.T) (*Reader, *spool) {
	t.Helper()
	r, s := stepped(t, nil)
	r.state.Subscription, r.cfg.Window.Latency = 4711, strict.Duration(time.Minute)
	sealer, err := source.NewSealer(r.cfg.Window, r.cfg.ID, r.table)
	if err != nil {
		t.Fatal(err)
	}
	r.sealer = sealer
	return r, s
}

// TestReader_CommitClosesAtHalfOfWhatTheServerKeeps: a message the server has
// pushed out can't be asked for again when the connection breaks.
func TestReader_CommitClosesAtHalfOfWhatTheServerKeeps(t *testing.T) {
	for _, c := range []struct{ depth, most int }{{1000, 500}, {20, 10}, {5, 2}, {1, 1}} {
		r, s := patient(t)
		for seq := uint32(1); seq <= 1200; seq++ {
			before := s.n
			if err := r.answered(t.Context(), keeps(t, r, c.depth, seq)); err != nil {
				t.Fatal(err)
			}
			if seq > 600 && len(r.taken) > c.most {
				t.Fatalf("depth %d: %d messages wait at message %d, want at most %d", c.depth, len(r.taken), seq, c.most)
			}
			if s.n > before+1 {
				t.Fatalf("depth %d: two commits at message %d", c.depth, seq)
			}
		}
	}
}

// TestReader_AServerThatNamesNothingKeepsItsWindows: then nobody knows.
func TestReader_AServerThatNamesNothingKeepsItsWindows(t *testing.T) {
	r, _ := patient(t)
	for seq := uint32(1); seq <= 100; seq++ {
		a := keeps(t, r, 10, seq)
		a.In.Available = nil
		if err := r.answered(t.Context(), a); err != nil {
			t.Fatal(err)
		}
	}
	if len(r.taken) != 100 {
		t.Errorf("%d messages wait, want 100", len(r.taken))
	}
}
