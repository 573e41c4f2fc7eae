package opcua

import (
	"strings"
	"testing"
	"time"
)

// TestReader_TheLogSaysItselfWhatItLost: of that the hub may have some, which a
// void of the reader's would take back.
func TestReader_TheLogSaysItselfWhatItLost(t *testing.T) {
	r, log := stepped(t, nil)
	r.step(t, r.message(t, 1, 0, false, int32(1)), r.message(t, 2, 10, false, int32(2)))
	r, again := stepped(t, log.state)
	r.Doubt()
	r.order, r.state.Fresh, r.initial[0] = newSequence(1), true, true
	r.step(t, r.message(t, 1, 100, false, int32(9)), pulse(2, noon.Add(120*time.Second)))
	if got, want := strings.Join(again.lines, "; "), "100-115: 9i"; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}
