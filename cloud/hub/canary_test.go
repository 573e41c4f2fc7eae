package hub

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"plantmesh/cloud/ingest"
)

// pipe is what canaries fly through: fine until it is made ill.
type pipe struct {
	mu      sync.Mutex
	said    string
	taken   uint64
	next    chan struct{}
	refuses error // what a publish gets
	holds   bool  // what is published doesn't come out
	renewed int
}

func (p *pipe) publish(_ context.Context, said string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.refuses != nil {
		return p.refuses
	}
	if !p.holds {
		p.said = said
		p.take()
	}
	return nil
}

func (p *pipe) take() {
	p.taken++
	if p.next != nil {
		close(p.next)
		p.next = nil
	}
}

func (p *pipe) came() (string, uint64, <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.next == nil {
		p.next = make(chan struct{})
	}
	return p.said, p.taken, p.next
}

func (p *pipe) set(do func(*pipe)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	do(p)
}

func flying(p *pipe) *canary {
	return &canary{
		every: 10 * time.Second, publish: p.publish, came: p.came, full: ingest.Full, counts: &tally{}, log: quiet(),
		up: func() bool { return true }, renew: func() { p.set(func(p *pipe) { p.renewed++ }) },
		writable: func(context.Context) error { return nil },
	}
}

func TestCanary_RenewsTheSessionThenTheServer(t *testing.T) {
	for name, ill := range map[string]func(*pipe){
		"nothing is stored":    func(p *pipe) { p.refuses = context.DeadlineExceeded },
		"nothing is delivered": func(p *pipe) { p.holds = true },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := &pipe{}
				c := flying(p)
				done := make(chan error, 1)
				go func() { done <- c.run(t.Context()) }()
				<-time.After(25 * time.Second) // of the bubble
				if err := c.well(t.Context()); err != nil || c.counts.sent.Load() != 2 || c.counts.lost.Load() != 0 {
					t.Errorf("well: %v, %d sent", err, c.counts.sent.Load())
				}
				p.set(ill)
				began := time.Now()
				err := <-done
				if took := time.Since(began); !errors.Is(err, errStreams) || took > time.Minute || p.renewed != 1 || c.counts.lost.Load() != restartAfter {
					t.Errorf("after %s: %v; renewed %d times, %d lost", took, err, p.renewed, c.counts.lost.Load())
				}
				if c.well(t.Context()) == nil {
					t.Error("it says that all is well")
				}
			})
		})
	}
}

// A start changes nothing where the disk takes no writes, where the stream is
// full by its own limit, where there is no connection, or where much stands
// before the canary and moves.
func TestCanary_LeavesAloneWhatAStartDoesNotHeal(t *testing.T) {
	full := &jetstream.APIError{Code: 503, ErrorCode: 10077, Description: "maximum bytes exceeded"}
	for name, set := range map[string]struct {
		ill     func(*pipe, *canary)
		renewed int
		says    string
	}{
		"the disk is full": {func(p *pipe, c *canary) {
			p.refuses = context.DeadlineExceeded
			c.writable = func(context.Context) error { return errors.New("no space left on device") }
		}, 1, "doesn't store"},
		"the stream is full": {func(p *pipe, _ *canary) { p.refuses = full }, 0, "maximum bytes exceeded"},
		"not connected":      {func(p *pipe, c *canary) { p.refuses, c.up = context.DeadlineExceeded, func() bool { return false } }, 0, ""},
		"behind a backlog":   {func(p *pipe, _ *canary) { p.holds = true }, 0, ""},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := &pipe{}
				c := flying(p)
				set.ill(p, c)
				ctx, stop := context.WithCancel(t.Context())
				done := make(chan error, 1)
				go func() { done <- c.run(ctx) }()
				for range 120 {
					<-time.After(5 * time.Second) // of the bubble
					if name == "behind a backlog" {
						p.set((*pipe).take)
					}
				}
				err := c.well(t.Context())
				if p.renewed != set.renewed || (err == nil) != (set.says == "") || err != nil && !strings.Contains(err.Error(), set.says) {
					t.Errorf("renewed %d times, says %v", p.renewed, err)
				}
				stop()
				if err := <-done; err != nil {
					t.Errorf("it ends with %v", err)
				}
			})
		})
	}
}

// TestCanary_TellsOnce: however long it lasts.
func TestCanary_TellsOnce(t *testing.T) {
	var log words
	c := &canary{log: loud(&log)}
	for range 5 {
		c.note(t.Context(), errNotTaken)
	}
	c.note(t.Context(), nil)
	c.note(t.Context(), nil)
	if n := strings.Count(log.String(), "\n"); n != 2 {
		t.Errorf("%d lines:\n%s", n, log.String())
	}
}
