package hop

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"plantmesh/proto/subject"
)

// TestHop_FullStreamHoldsTheAgents: the hub's log takes nothing, the stream runs
// full, the agent holds what it has and says why; once the log goes on everything
// arrives once, and nobody was started anew.
func TestHop_FullStreamHoldsTheAgents(t *testing.T) {
	h := newHop(t)
	h.stopHub()
	h.most = 512 << 10
	h.startHub()
	h.write(20, 5)
	h.settle()
	place, err := h.hub.in.Place(t.Context())
	check(t, err)
	h.gate.Lock()
	waits := func(words string) bool { return strings.Contains(h.agent.forward.Status().LastError, words) }
	for n := 0; !waits("the hub's stream is full"); n++ {
		if n > 20_000 {
			t.Fatalf("the agent says %q", h.agent.forward.Status().LastError)
		}
		h.write(10, 60)
	}
	h.write(200, 30) // what the devices say meanwhile is kept
	js, err := jetstream.New(h.hub.nc)
	check(t, err)
	s, err := js.Stream(t.Context(), subject.IngestStream)
	check(t, err)
	info, err := s.Info(t.Context(), jetstream.WithDeletedDetails(true))
	check(t, err)
	state := info.State
	unread := func(seq uint64) bool { return seq > place.Seq } // what was read may be purged
	if slices.ContainsFunc(state.Deleted, unread) || int64(state.Bytes) > h.most {
		t.Errorf("the full stream has dropped something: %+v", state)
	}
	if !h.agent.forward.Status().Connected || !waits("everything is kept here and sent later") {
		t.Errorf("status %+v", h.agent.forward.Status())
	}
	h.gate.Unlock()
	h.settle()
	h.compare()
	for end := time.Now().Add(20 * time.Second); h.agent.forward.Status().LastError != ""; <-time.After(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("in the end the agent says %q", h.agent.forward.Status().LastError)
		}
	}
}
