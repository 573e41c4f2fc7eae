package ingest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"plantmesh/proto/subject"
)

// errFull is why agents are refused.
var errFull = errors.New(saysFull)

const saysFull = "the ingest stream is full: agents hold what they have until the hub has stored what is in it"

// Trouble is why agents' records don't come in now, in words; nil: they do.
// Safe for concurrent use, also while the store hangs.
func (g *Ingest) Trouble() error {
	if err := g.trouble.Load(); err != nil {
		return fmt.Errorf("the ingest stream is not read: %w", *err)
	}
	if g.full.Load() {
		return errFull
	}
	return nil
}

// interrupted notes why a session ended. The same reason is told once.
func (g *Ingest) interrupted(ctx context.Context, err error, wait time.Duration) {
	level := slog.LevelWarn
	if was := g.last.Swap(&err); was != nil && (*was).Error() == err.Error() {
		level = slog.LevelDebug
	}
	g.trouble.Store(&err)
	g.log.Log(ctx, level, "ingest interrupted, trying again", "wait", wait, "err", err)
}

// Renew has the stream read through a new session, as after a broken
// connection. What was on its way is read again; the sets decide.
func (g *Ingest) Renew() {
	select {
	case g.renew <- struct{}{}:
	default: // it was asked for already
	}
}

// guard sees how full the stream is and that nobody changed it, and ends the
// session when the connection broke or somebody asks. It waits for no lock: it
// goes on while the store hangs.
func (r *reading) guard(ctx context.Context) error {
	gauge, assert := time.NewTicker(r.g.cfg.ReceiptEvery), time.NewTicker(r.g.cfg.AssertEvery)
	defer gauge.Stop()
	defer assert.Stop()
	// What was on its way when the connection broke is lost to this consumer.
	broken := r.nc.StatusChanged(nats.RECONNECTING, nats.CLOSED)
	defer r.nc.RemoveStatusListener(broken)
	for {
		var look bool
		select {
		case <-ctx.Done():
			return ctx.Err()
		case status := <-broken:
			return fmt.Errorf("the connection is %s: %w", strings.ToLower(status.String()), errStalled)
		case <-r.g.renew:
			return fmt.Errorf("asked to begin anew: %w", errStalled)
		case <-assert.C:
			look = true
		case <-gauge.C:
		}
		if err := r.gauge(ctx, look); err != nil {
			return err
		}
	}
}

// gauge notes how full the stream is, and looks at its configuration if asked.
func (r *reading) gauge(ctx context.Context, look bool) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	s, err := r.js.Stream(ctx, subject.IngestStream)
	if err != nil {
		return fmt.Errorf("look at the ingest stream: %w", err)
	}
	info := s.CachedInfo()
	r.g.fill(ctx, info)
	r.g.share.Store(uint32(min(100, info.State.Bytes*100/uint64(r.g.cfg.MaxBytes))))
	if !look {
		return nil
	}
	_, err = r.g.right(ctx, r.js, s)
	return err
}

// fill tells once that the stream runs full, and once that it doesn't any more.
func (g *Ingest) fill(ctx context.Context, info *jetstream.StreamInfo) {
	most := uint64(g.cfg.MaxBytes)
	full := info.State.Bytes >= most-most/fullShare
	if was := g.full.Swap(full); was == full {
		return
	}
	if !full {
		g.log.InfoContext(ctx, "the ingest stream has room again: agents send what they held", "bytes", info.State.Bytes, "max_bytes", most)
		return
	}
	g.counts.ranFull.Add(1)
	g.log.ErrorContext(ctx, saysFull, "bytes", info.State.Bytes, "max_bytes", most, "messages", info.State.Msgs)
}

// counts are what is counted beside the log's lock.
type counts struct{ drifted, renewed, regressed, ranFull atomic.Uint64 }

func (c *counts) into(s *Stats) {
	s.Drifted, s.Renewed, s.Regressed, s.RanFull = c.drifted.Load(), c.renewed.Load(), c.regressed.Load(), c.ranFull.Load()
}

// fullShare of the stream is less than a large message may need.
const fullShare = 50

// Full reports whether an error of a publish is a stream that is full by its own
// limit: not a fault of the server, but what holds the agents back.
func Full(err error) bool {
	var api *jetstream.APIError
	return errors.As(err, &api) && api.ErrorCode == codeStoreFailed && api.Description == "maximum bytes exceeded"
}

// codeStoreFailed is the server's JSStreamStoreFailed.
const codeStoreFailed = 10077

// canary is what came of messages of the hub's own.
type canary struct {
	mu    sync.Mutex // protects all below; held for moments only
	said  string
	taken uint64
	next  chan struct{}
}

// passed notes that messages were accounted for.
func (c *canary) passed(messages uint64, said string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.taken += messages
	if said == "" {
		return
	}
	c.said = said
	if c.next != nil {
		close(c.next)
		c.next = nil
	}
}

// Canary is what the newest message on subject.Canary said that went all the
// way, how many messages of any kind have, and a channel that is closed at the
// next on that subject. Safe for concurrent use, also while the store hangs.
func (g *Ingest) Canary() (said string, taken uint64, next <-chan struct{}) {
	c := &g.canary
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.next == nil {
		c.next = make(chan struct{})
	}
	return c.said, c.taken, c.next
}
