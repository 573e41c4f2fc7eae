package hub

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	porthttp "plantmesh/cloud/port/http"
	"plantmesh/proto/mesh"
)

const (
	// tryEvery is how long the answer of a check that writes stands: whoever asks
	// often must not wear out the disk.
	tryEvery = 5 * time.Second
	// tryWithin bounds such a check.
	tryWithin = 5 * time.Second
)

// checks are the lines of /readyz: what must work for data to become products.
func (h *hub) checks() []porthttp.Check {
	return []porthttp.Check{
		{Name: "nats", Run: func(context.Context) error {
			if !h.conn.IsConnected() {
				return errors.New("the embedded nats is not connected")
			}
			return h.unwell()
		}},
		{Name: "store", Run: rarely(tryEvery, h.tryStore)},
		{Name: "products", Run: func(context.Context) error { return h.troubles() }},
		{Name: "history", Run: h.keeper.well},
	}
}

// tryStore writes: a full disk lets itself be read for long.
func (h *hub) tryStore(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, tryWithin)
	defer cancel()
	if err := h.writable(); err != nil {
		return err
	}
	if err := h.store.AckPort(ctx, "readyz", "probe", mesh.Position{}); err != nil {
		return fmt.Errorf("try the database: %w", err)
	}
	return nil
}

// troubles are the products that don't go on, why and since when.
func (h *hub) troubles() error {
	var all []string
	for _, t := range h.set.Troubles() {
		word := "fails"
		if t.Suspended {
			word = "is suspended"
		}
		all = append(all, fmt.Sprintf("%s %s since %s: %s", t.Product, word, t.Since.Time().Format(time.RFC3339), t.Reason))
	}
	if len(all) > 0 {
		return errors.New(strings.Join(all, "; "))
	}
	return nil
}

// rarely runs a check again only when its answer is older than every.
func rarely(every time.Duration, check func(context.Context) error) func(context.Context) error {
	var (
		mu   sync.Mutex
		at   time.Time
		said error
	)
	return func(ctx context.Context) error {
		mu.Lock()
		defer mu.Unlock()
		if at.IsZero() || time.Since(at) >= every {
			// The answer is for others too: the asker who goes away doesn't end it.
			said, at = check(context.WithoutCancel(ctx)), time.Now()
		}
		return said
	}
}
