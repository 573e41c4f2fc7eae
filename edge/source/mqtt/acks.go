package mqtt

import (
	"context"
	"log/slog"
	"sync"

	"plantmesh/edge/source"
	"plantmesh/proto/fault"
)

// ack is a packet to acknowledge on the connection it came from, once so many
// offers are committed.
type ack struct {
	link   *link
	id     uint16
	number uint64 // of the packet, counted by the intake
	after  uint64
	then   func() // called instead, where no packet is to be acknowledged
}

// acks keeps acknowledgements in the order of the packets (MQTT 5, 4.6). A
// packet of a connection that is gone is acknowledged nowhere: the broker sends
// it again. Safe for concurrent use.
type acks struct {
	log *slog.Logger

	mu        sync.Mutex // protects the fields below, and the order of writing
	queue     []ack
	committed uint64
}

// add puts an acknowledgement behind all others.
func (a *acks) add(k ack) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.queue = append(a.queue, k)
	if k.after <= a.committed {
		a.flush()
	}
}

// follow acknowledges what becomes durable, until ctx ends.
func (a *acks) follow(ctx context.Context, log source.Log) error {
	for n := uint64(0); ; {
		var err error
		if n, err = log.Committed(ctx, n); err != nil {
			return err
		}
		a.mu.Lock()
		a.committed = n
		a.flush()
		a.mu.Unlock()
	}
}

// flush sends what may be sent. It runs with the lock held.
func (a *acks) flush() {
	for len(a.queue) > 0 && a.queue[0].after <= a.committed {
		if then := a.queue[0].then; then != nil {
			then()
			a.queue = a.queue[1:]
			continue
		}
		l := a.queue[0].link
		var ids []uint16
		n := 0
		for n < len(a.queue) && a.queue[n].link == l && a.queue[n].then == nil && a.queue[n].after <= a.committed {
			ids = append(ids, a.queue[n].id)
			n++
		}
		through := a.queue[n-1].number
		a.queue = a.queue[n:]
		fault.Point("source.ack.before")
		if err := l.ack(ids, through); err != nil {
			a.log.Debug("acknowledgements not sent", "count", len(ids), "error", err)
			l.close()
		}
		fault.Point("source.ack.after")
	}
}
