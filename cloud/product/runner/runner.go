// Package runner carries records from the hub's log to the output logs of the
// products (T2): it reads, folds what changed, compares with the rows that
// stand, and commits rows, states and place in one step. The arithmetic is
// package product's; here is only what needs a store and a clock.
//
//	Tape ── items ──► Runner ── known, events ──► refold from the last state ──► diff ──► Commit
//	(decoded once     (one per                    at or before the change
//	 for all)          definition)
//
// After a restart, and whenever a commit is refused, everything is read back
// from the store: there is no second way to come up.
package runner

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"math"
	"slices"
	"time"

	"plantmesh/cloud/product"
	"plantmesh/proto/fault"
	"plantmesh/proto/mesh"
	"plantmesh/proto/subject"
)

// Log is what a runner reads. Calls may come from several goroutines at once;
// what is returned belongs to the caller.
type Log interface {
	// Peek reads up to most entries behind a position of a partition, in log
	// order, without waiting; the zero position reads from the start. A batch
	// without sealed bytes was compacted.
	Peek(ctx context.Context, partition int, after mesh.Position, most int) ([]mesh.Entry, error)
	// HistoryWithin reads the batches and chunks that hold samples of a source in
	// span, where they have no more than most sealed bytes, 0 for any number; else
	// it is mesh.ErrLarge.
	HistoryWithin(ctx context.Context, source string, span mesh.Span, most int64) ([]mesh.Entry, error)
	// Came are the batches that came of these positions of a log, without their
	// bytes.
	Came(ctx context.Context, log mesh.LogID, lost []mesh.Range) ([]mesh.Entry, error)
	// Descriptor is the descriptor of this name; ok is false where none is stored.
	Descriptor(ctx context.Context, hash mesh.Hash) (d mesh.Descriptor, ok bool, err error)
}

// Output is where a runner rests. Resume and Commit are called by one
// goroutine per product; State and Rows may be called by others meanwhile.
type Output interface {
	// Resume opens the output log for append: whoever had it is refused with
	// mesh.ErrMoved from now on.
	Resume(ctx context.Context, product string, partition int) (end, place mesh.Position, err error)
	// State is the newest cached state of a key with At at or before before.
	State(ctx context.Context, product, key string, before mesh.Nanos) (mesh.FoldState, bool, error)
	// Rows reads current rows in (entity, from, key) order.
	Rows(ctx context.Context, q mesh.RowQuery) (rows []mesh.Row, next string, err error)
	// Commit makes a step durable before it returns: all of it or nothing.
	Commit(ctx context.Context, step mesh.Step) (end mesh.Position, err error)
}

// Config says how often a runner commits. Zero fields mean the defaults.
type Config struct {
	// Partition of the hub's log. Default 0.
	Partition int
	// Cadence is the least time between two commits, by the machine clock:
	// what comes meanwhile is folded together. Default 250 ms.
	Cadence time.Duration
	// Growth is the least time between two commits of an open row in which only
	// numbers have grown. Default 2 s.
	Growth time.Duration
	// Settle is the least time between two commits of a row that ended, while
	// records of before are still to come. Default 30 s.
	Settle time.Duration
	// Kept says from when on no sample was dropped; nil: none ever was. What
	// would fold from before it begins there, and rows from before stand.
	Kept func(ctx context.Context) (mesh.Nanos, error)
	// Eager commits at every step, whatever the clock says: for tests.
	Eager bool

	bounds bounds
}

func (c Config) withDefaults() Config {
	if c.Cadence == 0 {
		c.Cadence = 250 * time.Millisecond
	}
	if c.Growth == 0 {
		c.Growth = 2 * time.Second
	}
	if c.Settle == 0 {
		c.Settle = 30 * time.Second
	}
	if c.bounds == (bounds{}) {
		c.bounds = defaultBounds()
	}
	return c
}

const (
	never  = mesh.Nanos(math.MaxInt64)
	always = mesh.Nanos(math.MinInt64)
	// keepEvents is how much plant time of events a runner holds before the end
	// of what is known, and behind it; others are read back when they are needed.
	keepEvents = 6 * time.Hour
	// keepRows is the same for rows and states: a production day and more.
	keepRows = 50 * time.Hour

	siteKey    = "@site"
	marksKey   = "@folds"
	madeKey    = "@made"
	sourcesKey = "@sources"
	logsKey    = "@logs"
	// recallSamples bounds what is read back for one commit where a product reads
	// batches that were compacted: some 100 MB of events.
	recallSamples = 1 << 20

	knownKey  = "@known/"
	chainKey  = "@chain/"
	stateFrom = mesh.Nanos(0) // At of the states that are not of a time
)

// Runner makes one product. Not safe for concurrent use.
type Runner struct {
	cfg  Config
	def  *product.Definition
	tape *Tape
	out  Output
	now  func() mesh.Nanos
	log  *slog.Logger

	resumed   bool
	end       mesh.Position // of the output log
	placed    mesh.Position // the place as committed
	place     mesh.Position // the place as read
	committed mesh.Nanos    // when, by the machine clock
	changed   bool          // something was read since the last commit
	recalled  int           // samples of compacted batches, since then
	more      bool          // something was read that is not folded yet
	dropped   mesh.Nanos    // states of before were dropped
	marks     []byte        // as they are stored
	made      string        // likewise
	sites     *product.Sites
	siteNew   bool // not committed yet
	refs      map[refKey][]ref
	sources   map[string]*source
	logs      map[mesh.LogID]*agentLog
	byID      map[string]*entity
	listed    [2]int // sources and logs in the stored lists
	entities  []*entity
}

// New makes the runner of one product. tape may be shared by runners that are
// stepped by one goroutine; now is the machine clock.
func New(cfg Config, def *product.Definition, tape *Tape, out Output, clock Clock) *Runner {
	return &Runner{cfg: cfg.withDefaults(), def: def, tape: tape, out: out, now: clock.Now, log: clock.Log.With("product", def.ID)}
}

// Clock is what a runner is given of its surroundings: the machine's clock and
// where to say what happens.
type Clock struct {
	Now func() mesh.Nanos
	Log *slog.Logger
}

// Step reads the next entries and commits what became of them, if it is time.
// worked is false when there was nothing to do. After an error the runner
// begins anew from the store; mesh.ErrPermanent says that it would fail again.
func (r *Runner) Step(ctx context.Context) (worked bool, err error) { return r.step(ctx, false) }

// Flush reads everything there is and commits it now.
func (r *Runner) Flush(ctx context.Context) error {
	for {
		worked, err := r.step(ctx, true)
		if err != nil || !worked {
			return err
		}
	}
}

func (r *Runner) step(ctx context.Context, flush bool) (worked bool, err error) {
	defer func() {
		if err != nil {
			r.resumed = false
			err = fmt.Errorf("step product %s: %w", r.def.ID, err)
		}
	}()
	if !r.resumed {
		if err := r.resume(ctx); err != nil {
			return false, err
		}
	}
	items, err := r.tape.Read(ctx, r.cfg.Partition, r.place)
	if err != nil {
		return false, err
	}
	for i := range items {
		if err := r.absorb(ctx, &items[i]); err != nil {
			return false, err
		}
	}
	r.advance()
	if !r.changed || !flush && !r.due(len(items)) {
		return len(items) > 0, nil
	}
	done, err := r.commit(ctx, flush)
	return done || r.more || len(items) > 0, err
}

// due reports whether it is time to commit, after a read of this many items.
// Far behind, more is folded together.
func (r *Runner) due(items int) bool {
	wait := r.cfg.Cadence
	if items >= pageEntries/2 {
		wait *= 4
	}
	return r.cfg.Eager || r.more || r.recalled >= r.cfg.bounds.read || r.waited(wait)
}

// waited reports whether the last commit is this long ago.
func (r *Runner) waited(d time.Duration) bool {
	now := r.now()
	return r.committed == 0 || now < r.committed || now.Sub(r.committed) >= d
}

// absorb takes one record into memory.
func (r *Runner) absorb(ctx context.Context, it *Item) error {
	r.place, r.changed = it.Entry.At, true
	e := &it.Entry
	if e.Of.Log != "" {
		r.chain(it)
	}
	switch e.Header.Kind {
	case mesh.KindBatch:
		s := r.source(e.Header.About)
		s.in(e).Batch(e.Of, e.Ord, e.Header)
		if it.Fault != nil {
			r.log.WarnContext(ctx, "a batch can't be read: its time is unknown", "at", e.At.String(), "source", s.name, "reason", it.Fault.Error())
			s.damaged(e, it.Fault)
			break
		}
		if it.Compacted {
			r.recallBatch(e)
			break
		}
		r.route(it)
	case mesh.KindVoid:
		if it.Fault != nil {
			r.log.WarnContext(ctx, "a void can't be read and is left out", "at", e.At.String(), "reason", it.Fault.Error())
			break
		}
		return r.void(ctx, it)
	case mesh.KindFact:
		r.fact(ctx, it)
	case mesh.KindOpening, mesh.KindVerdict:
	}
	return nil
}

// void takes a void. What it gives up may have come all the same: data beats
// void, before it as well as after.
func (r *Runner) void(ctx context.Context, it *Item) error {
	var came []mesh.Entry
	if len(it.Void.Lost) > 0 {
		var err error
		if came, err = r.came(ctx, it); err != nil {
			return err
		}
	}
	for _, p := range it.Void.Parts {
		k := r.source(p.Source).in(&it.Entry)
		k.Void(it.Entry.Of, it.Entry.Ord, it.Void, p)
		k.GiveUp(it.Entry.Ord, it.Void.Lost)
		for i := range came {
			if came[i].Header.About == p.Source {
				k.Batch(came[i].Of, came[i].Ord, came[i].Header)
			}
		}
	}
	return nil
}

// came are the batches that came all the same of what a void gives up. The hub's
// own voids don't say whose positions they mean: an epoch is in one log only.
func (r *Runner) came(ctx context.Context, it *Item) (out []mesh.Entry, err error) {
	logs := []mesh.LogID{it.Entry.Of.Log}
	if it.Entry.Of.Log == "" {
		logs = slices.Sorted(maps.Keys(r.logs))
	}
	for _, log := range logs {
		more, err := r.tape.log.Came(ctx, log, it.Void.Lost)
		if err != nil {
			return nil, err
		}
		out = append(out, more...)
	}
	return out, nil
}

// agentLog is what is held of one agent's log.
func (r *Runner) agentLog(id mesh.LogID) *agentLog {
	l := r.logs[id]
	if l == nil {
		l = &agentLog{chain: &product.Chain{}}
		r.logs[id] = l
	}
	return l
}

// chain notes where in its log a record stands, and what it says of that log.
func (r *Runner) chain(it *Item) {
	e := &it.Entry
	l := r.agentLog(e.Of.Log)
	if e.Header.Kind == mesh.KindOpening && e.Of.Seq == 1 && it.Fault == nil {
		l.chain.Open(e.Of, e.Ord, it.Opening)
	}
	l.chain.Take(e.Of, e.Ord, e.Through, it.Void.Lost)
	l.changed, l.fresh = true, true
}

// advance lets the sources settle what no record to come can change.
func (r *Runner) advance() {
	for _, s := range r.sources {
		stale := s.fresh
		for id, k := range s.voices.Of {
			if l := r.logs[id]; l != nil && (l.fresh || s.fresh) {
				k.Advance(l.chain)
				stale = true
			}
		}
		if !stale {
			continue
		}
		s.fresh = false
		was := s.voices.Watermark
		s.voices.Settle(r.retired)
		spans := s.voices.Spans()
		if !slices.Equal(spans, s.spans) { // another source's record may have moved them: a branch is left as a whole
			s.compare, s.changed = true, true
		}
		s.changed = s.changed || s.voices.Watermark != was // stored with what is folded by them
		s.spans = spans
	}
	for _, l := range r.logs {
		l.fresh = false
	}
}

// retired reports whether a log is not waited for: the hub's own never is.
func (r *Runner) retired(id mesh.LogID) bool {
	if id == "" {
		return true
	}
	_, agent, ok := subject.ParseAgentLog(string(id))
	return ok && r.sites != nil && slices.Contains(r.sites.Last().RetiredAgents, agent)
}

// ends are how far the sources that the site has now are known and complete.
// One that never spoke says nothing of the others: it is named, see Ends.
func (r *Runner) ends() (progress, watermark mesh.Nanos) {
	if r.sites == nil {
		return 0, 0
	}
	progress, watermark = never, never
	for _, name := range r.sites.Last().Sources() {
		if s := r.source(name); len(s.spans) > 0 {
			progress, watermark = min(progress, s.end()), min(watermark, s.voices.Watermark)
		}
	}
	if progress == never {
		return 0, 0
	}
	return progress, watermark
}

// commit folds what changed and makes it durable. Where no row changed, the
// place alone can wait a while: done is false then.
func (r *Runner) commit(ctx context.Context, flush bool) (done bool, err error) {
	now := r.now()
	step := mesh.Step{Product: r.def.ID, Partition: r.cfg.Partition, After: r.end, PlaceWas: r.placed, Place: r.place}
	names := slices.Sorted(maps.Keys(r.sources))
	d := diff{now: now, growth: r.cfg.Growth, settle: r.cfg.Settle, all: flush || r.cfg.Eager, product: r.def.ID, through: never}
	if err := r.fold(ctx, &d); err != nil {
		return false, err
	}
	r.more = d.more
	if len(d.rows)+len(d.states)+len(d.stale) == 0 && !d.all && !r.siteNew && !r.waited(r.cfg.Growth) {
		return false, nil
	}
	progress, watermark := r.ends()
	d.through = max(d.through, 0)
	step.Progress, step.Watermark = min(progress, d.through), min(watermark, d.through)
	side, err := r.beside(names)
	if err != nil {
		return false, err
	}
	step.Rows, step.Stale, step.States = d.rows, d.stale, slices.Concat(side, d.states)
	if len(step.Rows)+len(step.States)+len(step.Stale) > 0 || step.Place != step.PlaceWas {
		fault.Point("hub.t2.before")
		if r.end, err = r.out.Commit(ctx, step); err != nil {
			return false, err
		}
		fault.Point("hub.t2.after")
	}
	r.recalled = 0
	r.placed, r.committed, r.siteNew, r.changed, r.listed = r.place, now, false, d.held || d.more, [2]int{len(names), len(r.logs)}
	for _, s := range r.sources {
		s.changed = false
	}
	for _, l := range r.logs {
		l.changed = false
	}
	return true, nil
}
