package hub

import (
	"context"
	"fmt"
	"time"

	"plantmesh/proto/systemd"
)

// slowestStep is the longest that one step of a product, or one look at the
// streams, takes on a busy machine.
const slowestStep = 20 * time.Second

// loops must turn for data to become products.
type loops struct{ assembling, streaming, probing systemd.Loop }

// changed is the log as the products see it: each look for news is a turn.
func (h *hub) changed() <-chan struct{} {
	h.assembling.Turn()
	return h.store.Changed()
}

// looked is unwell, and a turn once the embedded server has answered.
func (h *hub) looked() error {
	err := h.unwell()
	h.streaming.Turn()
	return err
}

// connected and came are what a canary asks on its way, each time a turn: behind a
// backlog it waits long, and sees the others come through.
func (h *hub) connected() bool {
	h.probing.Turn()
	return h.conn.IsConnected()
}

func (h *hub) came() (said string, taken uint64, next <-chan struct{}) {
	h.probing.Turn()
	return h.ingest.Canary()
}

// manage tells the service manager how the hub is, until now ends; that it ends
// only when ctx has: opening the streams anew is no end.
func (h *hub) manage(ctx, now context.Context) error {
	m := &h.cfg.Manager
	if err := m.Ready(fmt.Sprintf("hub of %s, page at %s", h.site().Name, h.cfg.HTTP.Address())); err != nil {
		h.log.WarnContext(ctx, "the service manager doesn't know that the hub is up", "err", err)
	}
	h.assembling.Name, h.streaming.Name, h.probing.Name = "products", "streams", "canary"
	slowest := max(slowestStep, time.Duration(h.cfg.NATS.CheckEvery), time.Duration(h.cfg.Watch.Canary), storeWithin)
	if err := m.Watch(now, slowest, h.log, &h.assembling, &h.streaming, &h.probing); err != nil {
		return err
	}
	<-now.Done()
	if ctx.Err() == nil {
		return nil
	}
	if err := m.Stopping(); err != nil {
		h.log.WarnContext(ctx, "the service manager doesn't know that the hub ends", "err", err)
	}
	return nil
}
