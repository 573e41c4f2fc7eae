package opcua

import (
	"math"
	"testing"
	"time"

	"github.com/gopcua/opcua/ua"
)

// TestKeepAlive: whatever a server revises it to, a dead link is noticed, and a
// living one is not taken for dead.
func TestKeepAlive(t *testing.T) {
	for _, c := range []struct {
		interval float64
		count    uint32
		want     time.Duration
		refused  bool
	}{
		{100, 10, time.Second, false},
		{0, 10, time.Second, false},
		{250, 0, 2500 * time.Millisecond, false},
		{0, 0, time.Second, false},
		{1e12, math.MaxUint32, time.Hour, false},
		{math.MaxFloat64, 1, time.Hour, false},
		{math.SmallestNonzeroFloat64, 1, 0, false},
		{-1, 10, 0, true},
		{math.NaN(), 10, 0, true},
		{math.Inf(1), 10, 0, true},
		{math.Inf(-1), 10, 0, true},
	} {
		got, err := keepAlive(&ua.CreateSubscriptionResponse{RevisedPublishingInterval: c.interval, RevisedMaxKeepAliveCount: c.count}, 100*time.Millisecond, 10)
		if got != c.want || (err != nil) != c.refused {
			t.Errorf("%v x %d: %v, %v, want %v", c.interval, c.count, got, err, c.want)
		}
	}
}

// TestAcks_NoMoreThanSo: a server may name any number of messages it keeps.
func TestAcks_NoMoreThanSo(t *testing.T) {
	var a acks
	a.reset()
	for seq := range uint32(mostAcks + 1000) {
		a.add(seq)
	}
	if n := len(a.waiting); n != mostAcks {
		t.Errorf("%d wait", n)
	}
}

// TestPipeline_ForeignAnswersAreNoLife: only what is of the own subscription is.
func TestPipeline_ForeignAnswersAreNoLife(t *testing.T) {
	r, _ := patient(t)
	p := &pipeline{limit: time.Minute}
	p.request.Subscription = 4711
	a := keeps(t, r, 10, 1)
	a.In.Subscription = 1
	if p.refused(a, false); !p.alive.IsZero() {
		t.Error("a message of another subscription counts")
	}
	a.In.Subscription = 4711
	if p.refused(a, false); p.alive.IsZero() {
		t.Error("an own one does not count")
	}
}
