package mqtt

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"plantmesh/edge/source"
	"plantmesh/edge/source/mqtt/link"
	"plantmesh/proto/mesh"
)

// desk is where what is heard becomes offers. Who reads connections and the clock
// work at it, one at a time: while the log takes nothing, nobody reads.
type desk struct {
	out  source.Log
	now  func() mesh.Nanos
	log  *slog.Logger
	acks *acks
	// trust says that the committed state counts on the broker's session.
	trust atomic.Bool

	mu   sync.Mutex // protects the fields below, and the order of offers
	in   *intake
	says teller
}

// teller puts into words how a source is. Not safe for concurrent use.
type teller interface {
	// due reports whether the log should be told that nobody is heard, and word why.
	due(now time.Time) bool
	word() string
	// news is the word for the status, where it is another than before.
	news(now time.Time) (text string, news bool)
}

func newDesk(in *intake, w teller, out source.Log, now func() mesh.Nanos, log *slog.Logger) *desk {
	return &desk{out: out, now: now, log: log, acks: &acks{log: log}, in: in, says: w}
}

// hear does something at the desk, and makes an offer where one is due.
func (d *desk) hear(ctx context.Context, what func()) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	what()
	return d.look(ctx)
}

// tick looks at the clock until ctx ends.
func (d *desk) tick(ctx context.Context) error {
	tick := time.NewTicker(max(10*time.Millisecond, time.Duration(d.in.cfg.Window.Latency)/4))
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if err := d.hear(ctx, func() {}); err != nil {
			return link.Ended(err)
		}
	}
}

// look tells how it goes, has a broker that stays away written down, and makes an
// offer where one is due. It runs with the lock held. Its errors are final: the log is
// no more.
func (d *desk) look(ctx context.Context) error {
	now := time.Now()
	if d.says.due(now) {
		d.in.unheard(d.now(), d.says.word())
	}
	if text, news := d.says.news(now); news {
		source.Tell(d.out, text)
	}
	if !d.in.due(now) {
		return nil
	}
	if n := len(d.in.bad.voids); n > 0 {
		d.log.Warn("payloads unreadable", "reasons", n, "first", d.in.bad.voids[0].Note, "count_since_start", d.in.counters.unreadable)
	}
	o, err := d.in.seal()
	if err != nil {
		return link.FinalError{Err: err}
	}
	counted := d.in.counted()
	d.acks.then(d.in.sealed, func() { d.trust.Store(counted) })
	if _, err := d.out.Append(ctx, o); err != nil {
		return link.FinalError{Err: err}
	}
	return nil
}
