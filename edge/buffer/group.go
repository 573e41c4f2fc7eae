package buffer

import (
	"errors"
	"sync"

	"plantmesh/proto/mesh"
)

// Appends that wait for the disk anyway go into one commit, in the order in
// which they came: sources that seal at about the same time share its syncs,
// and nobody waits for anybody.

// waiter is one append on its way. All but its fields for the outcome are set
// by who appends; those by who holds writing.
type waiter struct {
	gone func() error // not nil: who appends has given up
	p    *plan
	last []mesh.Position
	err  error
	done bool
}

// queue holds the appends that nobody has begun. Safe for concurrent use.
type queue struct {
	mu      sync.Mutex
	waiters []*waiter
}

func (q *queue) join(w *waiter) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.waiters = append(q.waiters, w)
}

// take removes those in front that may go into one commit: one at least, and
// more only while they stay below most bytes and alike says that they may.
func (q *queue) take(most int64, alike func(p *plan) bool) (group []*waiter) {
	q.mu.Lock()
	defer q.mu.Unlock()
	var bytes int64
	for len(q.waiters) > 0 {
		w := q.waiters[0]
		bytes += w.p.bytes
		if len(group) > 0 && (bytes > most || !alike(w.p)) {
			break
		}
		group, q.waiters = append(group, w), q.waiters[1:]
		if !alike(w.p) {
			break
		}
	}
	return group
}

// groupShare is the part of a segment that several appends may fill together:
// a full buffer lets whole segments go, and not for more than it must.
const groupShare = 8

// serve commits what waits until w is done. Called with writing held.
func (b *Buffer) serve(w *waiter) {
	for !w.done {
		b.commitAll(b.queue.take(int64(b.cfg.SegmentBytes)/groupShare, func(p *plan) bool { return b.extra(p) == 0 }))
	}
}

// commitAll commits a group, together where that fits.
func (b *Buffer) commitAll(group []*waiter) {
	var live []*waiter
	all := &plan{}
	for _, w := range group {
		w.done = true
		if w.err = w.gone(); w.err == nil && b.closed {
			w.err = ErrClosed
		}
		if w.err == nil {
			live, all = append(live, w), all.then(w.p)
		}
	}
	if len(live) > 1 {
		last, err := b.admit(all)
		for _, w := range live {
			if w.err = err; err == nil {
				w.last, last = last[:len(w.p.offers):len(w.p.offers)], last[len(w.p.offers):]
			}
		}
		if !errors.Is(err, ErrFull) {
			return
		}
	}
	for _, w := range live { // alone, or one of them may fit where all do not
		w.last, w.err = b.admit(w.p)
	}
}
