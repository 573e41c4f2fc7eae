package hub

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"plantmesh/cloud/ingest"
	"plantmesh/proto/subject"
)

// A canary is a message of the hub's own that goes the way of the agents'
// records: published, stored, delivered, accounted for in the database. Only that
// it comes back shows that records do: a server can be connected, call itself
// well and store nothing, as after its disk was full for a moment.

const (
	// renewAfter canaries lost in a row the stream is read through a new session,
	// restartAfter of them the embedded server is started anew.
	renewAfter   = 1
	restartAfter = 3
	// storeWithin is how long the stream may take to store one.
	storeWithin = 5 * time.Second
)

// Errors of a canary.
var (
	errNotStored = errors.New("the ingest stream doesn't store a message of the hub's own")
	errNotTaken  = errors.New("a message of the hub's own is in the ingest stream and doesn't come out of it into the database")
)

// tally counts over the lives of the embedded server.
type tally struct{ sent, lost, renewed, restarted, broken atomic.Uint64 }

// canary sends one after the other. Safe for concurrent use: run once, well at
// any time.
type canary struct {
	every    time.Duration
	publish  func(ctx context.Context, said string) error
	came     func() (said string, taken uint64, next <-chan struct{})
	full     func(error) bool
	up       func() bool // connected: otherwise somebody else says so
	renew    func()
	writable func(context.Context) error
	counts   *tally
	log      *slog.Logger

	mu      sync.Mutex // protects what follows
	trouble error
}

// newCanary is the hub's.
func (h *hub) newCanary() (*canary, error) {
	js, err := jetstream.New(h.conn, jetstream.WithDefaultTimeout(storeWithin))
	if err != nil {
		return nil, fmt.Errorf("use JetStream: %w", err)
	}
	return &canary{
		every: time.Duration(h.cfg.Watch.Canary), came: h.came, full: ingest.Full, up: h.connected,
		renew: h.ingest.Renew, writable: h.tryStore, counts: h.counts, log: h.log,
		publish: func(ctx context.Context, said string) error {
			_, err := js.Publish(ctx, subject.Canary, []byte(said), jetstream.WithRetryAttempts(0))
			return err
		},
	}, nil
}

// run sends canaries until ctx ends, which is no error, or the embedded server
// has to be started anew: errStreams. It isn't while the disk or the database
// takes no writes: a start would change nothing.
func (c *canary) run(ctx context.Context) error {
	t := time.NewTicker(c.every)
	defer t.Stop()
	for lost := 0; ; {
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
		if !c.up() {
			continue
		}
		err := c.fly(ctx)
		if ctx.Err() != nil {
			return nil
		}
		c.note(ctx, err)
		if err == nil || c.full(err) {
			lost = 0
			continue
		}
		c.counts.lost.Add(1)
		lost++
		if lost == renewAfter {
			c.counts.renewed.Add(1)
			c.renew()
		}
		if lost >= restartAfter && c.writable(ctx) == nil {
			return fmt.Errorf("%w: %w", errStreams, err)
		}
	}
}

// fly sends one and waits until it is accounted for. Behind a backlog that takes
// long: it is lost only when nothing at all comes through for as long as every.
func (c *canary) fly(ctx context.Context) error {
	said := fmt.Sprintf("%d-%d", time.Now().UnixNano(), c.counts.sent.Add(1))
	_, before, _ := c.came()
	within, cancel := context.WithTimeout(ctx, storeWithin)
	err := c.publish(within, said)
	cancel()
	if err != nil {
		return fmt.Errorf("%w: %w", errNotStored, err)
	}
	patience := time.NewTimer(max(c.every, storeWithin))
	defer patience.Stop()
	for {
		got, _, next := c.came()
		if got == said {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-next:
		case <-patience.C:
			_, taken, _ := c.came()
			if taken == before {
				return errNotTaken
			}
			before = taken
			patience.Reset(max(c.every, storeWithin))
		}
	}
}

// note keeps how the newest one went, and tells when that changed.
func (c *canary) note(ctx context.Context, err error) {
	c.mu.Lock()
	was := c.trouble
	c.trouble = err
	c.mu.Unlock()
	switch {
	case err != nil && (was == nil || was.Error() != err.Error()):
		c.log.ErrorContext(ctx, "what agents send doesn't reach the database", "reason", err)
	case err == nil && was != nil:
		c.log.InfoContext(ctx, "what agents send reaches the database again")
	}
}

// well is what keeps canaries from coming back; nil: they do.
func (c *canary) well(context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.trouble
}
