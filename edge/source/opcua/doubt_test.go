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

// A large answer on a slow line is no dead link, and bytes that drip for ever are one.
func TestDead(t *testing.T) {
	now := time.Unix(1e9, 0)
	ago := func(d time.Duration) time.Time { return now.Add(-d) }
	const limit = 2 * time.Second
	for _, c := range []struct {
		answered, heard time.Duration
		dead            bool
	}{
		{time.Second, time.Second, false},
		{3 * time.Second, 3 * time.Second, true},
		{3 * time.Second, time.Second, false},
		{31 * time.Second, 0, false},
		{33 * time.Second, 0, true},
	} {
		if got := dead(now, ago(c.answered), ago(c.heard), limit); got != c.dead {
			t.Errorf("answered %s ago, heard %s ago: %v", c.answered, c.heard, got)
		}
	}
	if !dead(now, ago(3*time.Second), time.Time{}, limit) {
		t.Error("a link that never said anything lives")
	}
}
