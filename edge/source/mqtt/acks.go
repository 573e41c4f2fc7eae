package mqtt

import (
	"context"
	"log/slog"
	"sync"

	"plantmesh/edge/source"
	"plantmesh/proto/fault"
)

// ack are packets to acknowledge on the connection they came from, once so many
// offers are committed.
type ack struct {
	to    answerer
	ids   []uint16
	after uint64
	then  func() // called instead, where no packet is to be acknowledged
}

// answerer is a connection that packets came from. Ack acknowledges in this order;
// Close ends it, and what was not acknowledged comes again. Safe for concurrent use.
type answerer interface {
	Ack(ids []uint16) error
	Close()
}

// acks keeps acknowledgements in the order of the packets (MQTT 5, 4.6). A
// packet of a connection that is gone is acknowledged nowhere: the broker sends
// it again. Safe for concurrent use.
type acks struct {
	log *slog.Logger

	mu        sync.Mutex // protects the fields below, and the order of writing
	queue     []ack
	spare     []uint16 // of one that was sent
	committed uint64
}

// add puts the acknowledgement of a packet behind all others.
func (a *acks) add(to answerer, id uint16, after uint64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if n := len(a.queue); n > 0 && a.queue[n-1].to == to && a.queue[n-1].after == after && a.queue[n-1].then == nil {
		a.queue[n-1].ids = append(a.queue[n-1].ids, id)
		return
	}
	a.queue = append(a.queue, ack{to: to, ids: append(a.spare[:0], id), after: after})
	a.spare = nil
	if after <= a.committed {
		a.flush()
	}
}

// then calls what is to be called when so many offers are committed.
func (a *acks) then(after uint64, call func()) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.queue = append(a.queue, ack{then: call, after: after})
	if after <= a.committed {
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
		k := a.queue[0]
		a.queue = a.queue[1:]
		if k.then != nil {
			k.then()
			continue
		}
		fault.Point("source.ack.before")
		if err := k.to.Ack(k.ids); err != nil {
			a.log.Debug("acknowledgements not sent", "count", len(k.ids), "error", err)
			k.to.Close()
		}
		a.spare = k.ids
		fault.Point("source.ack.after")
	}
}
