package mqtt

import "time"

// credit is how many messages the broker sends before it waits for an answer: at
// most what we told it, but brokers have limits of their own that they don't tell
// (mosquitto sends 20). A window that waits for half of what we told would then wait
// for its time each time, and twenty messages a second are all that comes through.
//
// It is learnt: windows that time closed, with the same number of messages each time,
// after which nothing came until they were answered, and then at once.
type credit struct {
	told int // receive maximum
	most int // believed; 0: what was told

	count  int       // messages of the open window that want an answer
	heard  time.Time // when the last one came
	closed time.Time // when the last window was closed by time; zero: it was not
	last   int       // how many messages that had
	same   int       // so many times in a row
}

// learnAfter windows in a row the broker's own limit is believed.
const learnAfter = 3

// take counts a message that wants an answer, at machine time now.
func (c *credit) take(now time.Time, latency time.Duration) {
	if !c.closed.IsZero() {
		if now.Sub(c.closed) > latency/4 { // it did not wait for us
			c.same = 0
		}
		c.closed = time.Time{}
	}
	c.heard = now
	if c.count++; c.most > 0 && c.count > c.most {
		c.most, c.same = 0, 0
	}
}

// seal closes the window; old says that nothing but its time did.
func (c *credit) seal(now time.Time, latency time.Duration, old bool) {
	stalled := old && c.count > 0 && now.Sub(c.heard) >= latency/2
	switch {
	case !stalled:
		c.same = 0
	case c.count != c.last:
		c.same = 1
	default:
		c.same++
	}
	if c.closed = (time.Time{}); stalled {
		c.closed, c.last = now, c.count
	}
	if c.same >= learnAfter {
		c.most = c.count
	}
	c.count = 0
}

// half reports whether half of what may be unanswered is in the window.
func (c *credit) half() bool {
	limit := c.told
	if c.most > 0 {
		limit = min(limit, c.most)
	}
	return c.count > 0 && c.count >= limit/2
}
