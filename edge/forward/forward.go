// Package forward sends the agent's log to the hub: records and their first
// verdicts go out on two roads, receipts come back. The broker between may
// lose, double and reorder; only what a receipt names has arrived.
//
// Next: cloud/ingest
package forward

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"plantmesh/proto/fault"
	"plantmesh/proto/mesh"
	"plantmesh/proto/strict"
	"plantmesh/proto/subject"
	"plantmesh/proto/wire"
)

// Queue is the agent's log as sending needs it. Safe for concurrent use; what
// Ack has let go may be deleted for ever when it returns.
type Queue interface {
	// Peek returns records behind after in log order, none at the end.
	Peek(after mesh.Position, maxBytes int) ([]mesh.Record, error)
	// Ack takes the hub's answer; an error means it is not the newest.
	Ack(r mesh.Receipt) (again []mesh.Range, err error)
	// Outset is what goes first on a road, and the log's last position.
	Outset() (descs []mesh.Descriptor, openings []mesh.Record, end mesh.Position, err error)
	// Changed is closed at the next append.
	Changed() <-chan struct{}
}

// Link is the connection to the hub. Publish returns when the stream has the
// message on its disk, and says where. After an error it may have it all the
// same. Called by one goroutine at a time.
type Link interface {
	Publish(ctx context.Context, subject string, data []byte) (mesh.Place, error)
}

// Judge gives the first verdict of the rules on a record, sealed; nil for none.
type Judge func(ctx context.Context, r mesh.Record) ([]byte, error)

// Config is the sending part of edge.yaml.
type Config struct {
	// MaxMessage is what messages are filled to; default 256KiB. A record larger
	// than that goes alone, up to what the hub takes, see wire.MaxFrame.
	MaxMessage strict.Size `yaml:"max_message"`
	// ResendAfter is how long a message that the hub has passed by may stay
	// unaccounted before it is sent again; default 60s.
	ResendAfter strict.Duration `yaml:"resend_after"`
	// ResendGap is the shortest time between two sendings of one record, doubled
	// each time up to resend_after; default 1s.
	ResendGap strict.Duration `yaml:"resend_gap"`
	// LiveLag is how far behind the live road may fall before it jumps to the
	// newest record and leaves the rest to the backlog; default 10s.
	LiveLag strict.Duration `yaml:"live_lag"`
	// BacklogShare is how full the hub's stream may be, in percent, before the
	// backlog waits; default 70.
	BacklogShare int `yaml:"backlog_share"`

	Site  string `yaml:"-"`
	Agent string `yaml:"-"`
	// Quarantine has the log void a record that can never pass, in words; Peek
	// gives it no more. nil: it is passed over until the next connection.
	Quarantine func(at mesh.Position, why string) error `yaml:"-"`
}

// leastMessage is what any hub takes: NATS's own default.
const leastMessage = 1 << 20

// SizeError is returned by a Link for a message that it can never carry.
type SizeError struct{ Bytes, Most int64 }

func (e *SizeError) Error() string {
	return fmt.Sprintf("a message of %d bytes, the hub takes %d", e.Bytes, e.Most)
}

// maxFlight bounds the messages that are sent and not accounted for: what the
// bookkeeping of an idle hub may cost in memory.
const maxFlight = 1 << 16

// Bounds of waiting after a failed publish.
const (
	minHold = 200 * time.Millisecond
	maxHold = 10 * time.Second
)

func (c *Config) fill() {
	setDefault(&c.MaxMessage, 256<<10)
	setDefault(&c.ResendAfter, strict.Duration(time.Minute))
	setDefault(&c.ResendGap, strict.Duration(time.Second))
	setDefault(&c.LiveLag, strict.Duration(10*time.Second))
	setDefault(&c.BacklogShare, 70)
}

// Bounds of what edge.yaml may say.
const (
	leastAimed = 4 << 10
	leastTimer = 100 * time.Millisecond
)

// Validate fills in the defaults, and says what is wrong with what edge.yaml says.
func (c *Config) Validate() error {
	c.fill()
	if c.MaxMessage < leastAimed || c.MaxMessage > wire.MaxFrame {
		return strict.At("max_message", "forward.max_message must lie between 4KiB and %dMiB", wire.MaxFrame>>20)
	}
	for _, f := range []struct {
		at string
		d  strict.Duration
	}{{"resend_after", c.ResendAfter}, {"resend_gap", c.ResendGap}, {"live_lag", c.LiveLag}} {
		if f.d < strict.Duration(leastTimer) {
			return strict.At(f.at, "forward.%s must be at least %s", f.at, leastTimer)
		}
	}
	if c.BacklogShare < 0 || c.BacklogShare > 100 {
		return strict.At("backlog_share", "forward.backlog_share is a percentage, 1 to 100")
	}
	return nil
}

func setDefault[T comparable](v *T, d T) {
	var zero T
	if *v == zero {
		*v = d
	}
}

// ErrLater is what a Judge answers of a record whose turn has not come: its
// road waits, and everything else goes on.
var ErrLater = errors.New("not judged yet")

// Forward sends one log. Step and Run are for one goroutine; Receive,
// Connected, Disconnected and Status for any.
type Forward struct {
	cfg   Config
	queue Queue
	link  Link
	judge Judge
	now   func() time.Time
	log   *slog.Logger
	wake  chan struct{}

	mu     sync.Mutex
	events []event
	status Status

	// What follows belongs to Step.
	up      bool
	began   bool          // a first connection was made
	chain   []mesh.Link   // of the log
	outset  []mesh.Record // openings
	descs   []mesh.Descriptor
	account *mesh.Account // what the hub has, as of the newest receipt
	by      mesh.Position // of that receipt
	reached mesh.Position // where through last stood on this log's chain, in the hub's epoch
	place   mesh.Place    // of the hub in the stream; zero: it doesn't say
	arrived time.Time     // when it was first heard to be there
	placed  time.Time     // and when last
	limits  mesh.Limits
	// linkMost is the largest message of this connection, where it said so.
	linkMost int
	told     map[mesh.Hash]bool // reasons of setAside that were told
	lacks    []mesh.Hash        // asked for by the hub
	live     mesh.Position      // sent on the live road through here
	liveAt   time.Time          // when the live road last was at the end
	jobs     []job              // backlog, oldest first
	again    []job              // resends, before the backlog
	replays  []job              // what somebody wants sent again, behind the backlog
	roads    map[subject.Road]*road
	turn     subject.Road // which road goes next
	hold     time.Time    // nothing is published before
	fails    int
	checked  time.Time
}

// job is a run of the log to be sent on the backlog road.
type job struct {
	after, until mesh.Position // until included
	tries        int
	takes        func(sealed []byte) bool // of what is sent again though the hub has it; else nil
	rate         int                      // samples a second that go at most; 0: as many as the hub takes
	free         time.Time                // with a rate: nothing of it goes before
}

// road is what was sent on one.
type road struct {
	name    subject.Road
	outset  bool               // what goes first went, on this connection
	descs   map[mesh.Hash]bool // sent on this connection
	flights []flight           // in the order of sending
}

// flight is a message of which the hub has not accounted for everything.
type flight struct {
	seq    uint64 // in the stream
	at     time.Time
	passed time.Time    // when the hub was first seen to have passed it; zero: not yet
	runs   []mesh.Range // not accounted for
	tries  int
	// overtaken: something sent later on this road has arrived.
	overtaken bool
}

// event is what came from outside since the last step.
type event struct {
	receipt *mesh.Receipt
	replay  *job
	up      bool // without one of them: the connection came, or went
}

// maxEvents bounds the receipts that wait for Step; the oldest give way, as
// every receipt says all that the ones before said.
const maxEvents = 64

// New assembles a Forward. now is the machine clock.
func New(cfg Config, q Queue, link Link, judge Judge, now func() time.Time, log *slog.Logger) *Forward {
	cfg.fill()
	f := &Forward{cfg: cfg, queue: q, link: link, judge: judge, now: now, log: log, wake: make(chan struct{}, 1), turn: subject.Live, told: map[mesh.Hash]bool{}}
	f.forget()
	f.account, f.status.Since = &mesh.Account{}, now()
	return f
}

// forget begins the bookkeeping of both roads anew.
func (f *Forward) forget() {
	f.roads = map[subject.Road]*road{}
	for _, name := range []subject.Road{subject.Live, subject.Backlog} {
		f.roads[name] = &road{name: name, descs: map[mesh.Hash]bool{}}
	}
}

// Status is a snapshot for people.
type Status struct {
	Connected   bool
	Since       time.Time // when it came, or went; without a connection yet when this began
	Flights     int       // messages the hub has not accounted for
	Backlog     bool      // older records are still being sent
	LastReceipt time.Time // zero: none yet
	LastError   string    // of the last publish, else Never; empty: all goes well
	Waits       string    // why what could be sent is not, without an error; empty: nothing waits
	Never       string    // why a record was set aside, the newest
	SetAside    uint64    // records that can never pass
	Replays     int       // stretches that are sent again because somebody wants it
	Sent        uint64    // messages
	Resent      uint64    // of those, again
}

// Status takes a snapshot.
func (f *Forward) Status() Status {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.status
}

// Receive takes a receipt from the hub. It is worked in by Step.
func (f *Forward) Receive(receipt []byte) error {
	r, err := wire.DecodeReceipt(receipt)
	if err != nil {
		return fmt.Errorf("read a receipt: %w", err)
	}
	f.post(event{receipt: &r})
	return nil
}

// Connected says that a connection was made, after the hub's receipt was asked
// for and received, if it answered.
func (f *Forward) Connected() { f.post(event{up: true}) }

// Disconnected says that the connection is gone.
func (f *Forward) Disconnected() { f.post(event{}) }

func (f *Forward) post(e event) {
	f.mu.Lock()
	if len(f.events) >= maxEvents {
		i := slices.IndexFunc(f.events, func(e event) bool { return e.receipt != nil })
		if i >= 0 {
			f.events = slices.Delete(f.events, i, i+1)
		}
	}
	f.events = append(f.events, e)
	f.mu.Unlock()
	select {
	case f.wake <- struct{}{}:
	default:
	}
}

// Run sends until ctx ends.
func (f *Forward) Run(ctx context.Context) error {
	const tick = 200 * time.Millisecond // resends and holds are looked at this often
	timer := time.NewTicker(tick)
	defer timer.Stop()
	for told := ""; ctx.Err() == nil; {
		changed := f.queue.Changed()
		worked, err := f.Step(ctx)
		if err != nil && ctx.Err() == nil && err.Error() != told {
			told = err.Error() // once, however often it is tried
			f.log.Warn("sending is held up", "err", err)
		}
		if worked {
			if told != "" && f.fails == 0 {
				told = ""
				f.log.Info("sending goes on")
			}
			continue
		}
		select {
		case <-ctx.Done():
		case <-changed:
		case <-f.wake:
		case <-timer.C:
		}
	}
	return nil
}

// Step does one thing: it works in an event, or publishes one message. worked
// is false where there was nothing to do.
func (f *Forward) Step(ctx context.Context) (worked bool, err error) {
	defer f.report()
	if e, ok := f.next(); ok {
		return true, f.handle(e)
	}
	now := f.now()
	if now.Sub(f.checked) >= time.Duration(f.cfg.ResendGap) {
		f.review(now)
	}
	if !f.up || now.Before(f.hold) {
		return false, nil
	}
	m, err := f.compose(ctx, now)
	if err != nil || m == nil {
		return false, err
	}
	if len(m.data) == 0 {
		m.done()
		return true, nil
	}
	fault.Point("forward.publish.before")
	place, err := f.link.Publish(ctx, subject.Ingest(f.cfg.Site, f.cfg.Agent, m.road.name), m.data)
	fault.Point("forward.publish.after")
	if err != nil {
		if big, ok := errors.AsType[*SizeError](err); ok {
			f.linkMost = int(big.Most)
		}
		f.hold = now.Add(min(maxHold, minHold<<min(f.fails, 10)))
		f.fails++
		f.fail(err)
		return false, fmt.Errorf("publish on the %s road: %w", m.road.name, err)
	}
	f.fails = 0
	f.fail(nil)
	m.done()
	for _, h := range m.descs {
		m.road.descs[h] = true
	}
	f.given(place.Seq)
	if len(m.runs) > 0 {
		m.road.flights = append(m.road.flights, flight{seq: place.Seq, at: now, runs: m.runs, tries: m.tries})
	}
	f.count(m)
	return true, nil
}

// given takes that the stream gave a sequence. Where it gave it before, or one
// behind it, it went back: those messages are gone, and the hub has passed them
// as soon as it has passed this one.
func (f *Forward) given(seq uint64) {
	for _, r := range f.roads {
		for i := range r.flights {
			r.flights[i].seq = min(r.flights[i].seq, seq)
		}
	}
}

func (f *Forward) next() (e event, ok bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.events) == 0 {
		return e, false
	}
	e = f.events[0]
	f.events = slices.Delete(f.events, 0, 1)
	return e, true
}

func (f *Forward) report() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.status.Connected != f.up {
		f.status.Since = f.now()
	}
	f.status.Connected, f.status.Backlog = f.up, len(f.jobs)+len(f.again) > 0
	f.status.Replays = len(f.replays)
	f.status.Waits = ""
	if share := int(f.limits.BacklogShare); f.up && len(f.jobs) > 0 && share >= f.cfg.BacklogShare {
		f.status.Waits = fmt.Sprintf("older data waits: the hub's stream is %d %% full, below %d %% it is sent", share, f.cfg.BacklogShare)
	}
	f.status.Flights = len(f.roads[subject.Live].flights) + len(f.roads[subject.Backlog].flights)
}

func (f *Forward) fail(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.status.LastError = ""
	if n := f.status.SetAside; n > 0 {
		f.status.LastError = fmt.Sprintf("%d records can never pass and were set aside; the last one: %s", n, f.status.Never)
	}
	if err != nil {
		f.status.LastError = err.Error()
	}
}

func (f *Forward) count(m *message) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.status.Sent++
	if m.tries > 0 {
		f.status.Resent++
	}
}

func (f *Forward) handle(e event) error {
	switch {
	case e.receipt != nil:
		return f.received(*e.receipt)
	case e.replay != nil:
		f.replays = append(f.replays, *e.replay)
		return nil
	case e.up:
		return f.connected()
	}
	f.up = false
	return nil
}

// connected begins both roads: what is older than now is backlog.
func (f *Forward) connected() error {
	end, err := f.refresh()
	if err != nil {
		return err
	}
	for _, r := range f.roads {
		r.outset, r.descs = false, map[mesh.Hash]bool{}
	}
	after := f.live
	if !f.began {
		after = f.through()
	}
	f.add(job{after: after, until: end})
	f.live, f.liveAt, f.began, f.up = end, f.now(), true, true
	f.hold, f.fails, f.linkMost = time.Time{}, 0, 0
	return nil
}

// add puts a run behind the backlog, unless there is nothing in it.
func (f *Forward) add(j job) {
	if f.compare(j.after, j.until) < 0 {
		f.jobs = append(f.jobs, j)
	}
}
