package opcua

import (
	"time"

	"plantmesh/edge/source/opcua/channel"
)

// notice is one notification message or keep-alive on its way.
type notice struct {
	in    *channel.Answer
	more  bool // more is waiting at the server: this message proves nothing
	again bool // it was asked for again
}

// alive reports whether n is a keep-alive: it carries the number of the next message.
func (n notice) alive() bool { return n.in.Data == 0 }

// sequence puts notices into the order of their numbers. With several publish
// requests in flight their answers are handled out of order now and then.
// Not safe for concurrent use.
type sequence struct {
	next    uint32 // number of the next message to deliver
	waiting map[uint32]notice
	pulse   *notice   // the latest keep-alive from beyond next
	since   time.Time // machine time since when next is missing; zero: it isn't
}

func newSequence(next uint32) *sequence {
	return &sequence{next: next, waiting: map[uint32]notice{}}
}

// after is the number after n. 0 is never used (OPC 10000-4 §5.14.1.1).
func after(n uint32) uint32 { return max(1, n+1) }

// ahead reports whether number a comes after number b; numbers wrap.
func ahead(a, b uint32) bool { return int32(a-b) > 0 }

// put takes a notice as it came. Messages delivered before are dropped.
func (q *sequence) put(n notice) {
	seq := n.in.Sequence
	switch {
	case n.alive():
		if q.pulse == nil || n.in.Instant() > q.pulse.in.Instant() {
			q.pulse = &n
		}
	case !ahead(q.next, seq):
		q.waiting[seq] = n
	}
}

// take gives the next notice in order; ok is false where that has not come.
func (q *sequence) take() (n notice, ok bool) {
	if n, ok = q.waiting[q.next]; ok {
		delete(q.waiting, q.next)
		q.next, q.since = after(q.next), time.Time{}
		return n, true
	}
	if q.pulse != nil && !ahead(q.pulse.in.Sequence, q.next) {
		n, q.pulse = *q.pulse, nil
		return n, true
	}
	return notice{}, false
}

// crowded reports whether so many messages wait for one before them that it must be
// asked for at once: they stand in buffers of 64 KiB at least.
func (q *sequence) crowded(inFlight int) bool { return len(q.waiting) > inFlight }

// missingGrace is how long a message may come behind a later one before it is
// asked for again.
const missingGrace = time.Second

// missing reports whether the next message should have come: later ones have,
// and either more than inFlight of them or a grace ago.
func (q *sequence) missing(now time.Time, inFlight int) bool {
	if len(q.waiting) == 0 && q.pulse == nil {
		q.since = time.Time{}
		return false
	}
	if q.since.IsZero() {
		q.since = now
	}
	return q.crowded(inFlight) || now.Sub(q.since) >= missingGrace
}
