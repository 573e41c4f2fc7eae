package hub

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"plantmesh/cloud/ingest"
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
		{Name: "ingest", Run: func(context.Context) error { return h.ingest.Trouble() }},
		{Name: "canary", Run: h.canary.well},
		{Name: "store", Run: rarely(tryEvery, h.tryStore)},
		{Name: "products", Run: func(context.Context) error { return h.troubles() }},
		{Name: "history", Run: h.keeper.well},
		{Name: auditName, Run: func(context.Context) error { return nil }},
	}
}

// figures are the lines of /metrics that tell how the pipe is.
func (h *hub) figures() []porthttp.Count {
	in := func(name, help string, of func(ingest.Stats) uint64) porthttp.Count {
		return porthttp.Count{Name: "ingest_" + name, Help: help, Value: func() uint64 { return of(h.ingest.Stats()) }}
	}
	return []porthttp.Count{
		{Name: "audit_entries_total", Help: "Entries of the audit trail; 0 while it takes none.", Value: h.entries},
		{Name: "audit_breaks_total", Help: "Times a file of the audit trail, older ones too, was found to be damaged or gone.", Value: h.counts.broken.Load},
		in("records_total", "Records put into the hub's log.", func(s ingest.Stats) uint64 { return s.Taken }),
		in("samples_total", "Samples in them.", func(s ingest.Stats) uint64 { return s.Samples }),
		in("repeats_total", "Records that were in the log already.", func(s ingest.Stats) uint64 { return s.Twice }),
		in("damaged_total", "Frames or records that can't be read.", func(s ingest.Stats) uint64 { return s.Damaged }),
		in("clashes_total", "Positions that came again with other bytes.", func(s ingest.Stats) uint64 { return s.Clashed }),
		in("stream_drifts_total", "Times the ingest stream's configuration was not what it has to be.", func(s ingest.Stats) uint64 { return s.Drifted }),
		in("stream_renewed_total", "Times the ingest stream was deleted and made anew.", func(s ingest.Stats) uint64 { return s.Renewed }),
		in("stream_regressed_total", "Times the ingest stream ended before what was read of it.", func(s ingest.Stats) uint64 { return s.Regressed }),
		in("stream_full_total", "Times the ingest stream ran full.", func(s ingest.Stats) uint64 { return s.RanFull }),
		{Name: "canary_sent_total", Help: "Messages of the hub's own sent through the ingest stream.", Value: h.counts.sent.Load},
		{Name: "canary_lost_total", Help: "Those that did not come back.", Value: h.counts.lost.Load},
		{Name: "ingest_sessions_renewed_total", Help: "Times the stream was read through a new session for that.", Value: h.counts.renewed.Load},
		{Name: "server_restarts_total", Help: "Times the embedded server was started anew.", Value: h.counts.restarted.Load},
	}
}

// tryStore writes: a full disk lets itself be read for long.
func (h *hub) tryStore(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, tryWithin)
	defer cancel()
	if err := h.writable(); err != nil {
		return err
	}
	if err := h.store.AckPort(ctx, "readyz", "probe", mesh.Position{}, mesh.Position{}); err != nil {
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
