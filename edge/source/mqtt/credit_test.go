package mqtt

import (
	"testing"
	"time"
)

// through is how many messages a broker that has own of them unanswered at most
// brings through in a minute of windows of a second: a commit takes 5 ms, a
// message nothing.
func through(c *credit, own int) (messages, commits int) {
	const latency = time.Second
	now := time.Unix(1000, 0)
	end := now.Add(time.Minute)
	for now.Before(end) {
		opened := now
		for c.count < own && !c.half() {
			c.take(now, latency)
		}
		messages += c.count
		old := !c.half()
		if old {
			now = opened.Add(latency)
		}
		c.seal(now, latency, old)
		commits++
		now = now.Add(5 * time.Millisecond)
	}
	return messages, commits
}

func TestCredit_LearnsTheBrokersOwnLimit(t *testing.T) {
	for own, least := range map[int]int{20: 90_000, 1: 9_000, 100: 450_000, 20_000: 10_000_000} {
		if n, _ := through(&credit{told: 20_000}, own); n < least {
			t.Errorf("a broker with %d unanswered brings %d messages a minute, want %d", own, n, least)
		}
	}
}

// What the broker does not hold back is no limit: five machines that say something
// each second are one commit each second.
func TestCredit_ADeviceThatSaysLittleIsNoLimit(t *testing.T) {
	const latency = time.Second
	c, now, commits := &credit{told: 20_000}, time.Unix(1000, 0), 0
	var opened time.Time
	for ms := range 60_000 {
		now = now.Add(time.Millisecond)
		if ms%1000 < 5 {
			if c.count == 0 {
				opened = now
			}
			c.take(now, latency)
		}
		if old := c.count > 0 && now.Sub(opened) >= latency; old || c.half() {
			c.seal(now, latency, old)
			commits++
		}
	}
	if commits > 61 {
		t.Errorf("%d commits in a minute", commits)
	}
}

// A limit that was learnt is forgotten when more comes.
func TestCredit_ForgetsALimitThatIsNone(t *testing.T) {
	c := &credit{told: 1000}
	if through(c, 20); c.most != 20 {
		t.Fatalf("learnt %d", c.most)
	}
	now := time.Unix(5000, 0)
	for range 21 {
		c.take(now, time.Second)
	}
	if c.half() || c.most != 0 {
		t.Errorf("half %v with a limit of %d", c.half(), c.most)
	}
}
