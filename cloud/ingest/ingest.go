// Package ingest takes what agents published off the stream, accounts for it
// by set, puts it into the hub's log with its bytes untouched (T1), and only
// then answers with receipts.
//
// The stream in between may lose, double, reorder and forget: nothing here
// relies on it. What can't be accounted for now is left out and comes again,
// because the receipt doesn't name it.
//
// Next: cloud/store
package ingest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"plantmesh/proto/fault"
	"plantmesh/proto/mesh"
	"plantmesh/proto/subject"
	"plantmesh/proto/wire"
)

// Store is where ingest puts what it took. Implementations are safe for
// concurrent use; OpenLog and Take are synced when they return nil, and do
// nothing or all of it. After an error that is not mesh.ErrMoved a Take may
// have happened: ingest opens the log anew and lets the sets decide. The bytes
// in a Take belong to the caller again when it returns.
type Store interface {
	// OpenLog begins a new epoch; whoever wrote before is refused from then on.
	OpenLog(ctx context.Context, partition int) (mesh.Opened, error)
	// Take appends behind t.After or refuses with mesh.ErrMoved.
	Take(ctx context.Context, t mesh.Take) (end mesh.Position, err error)
	// Descriptor says whether one is stored.
	Descriptor(ctx context.Context, h mesh.Hash) (d mesh.Descriptor, ok bool, err error)
	// Sums are the checksums of those positions whose bytes are stored.
	Sums(ctx context.Context, of []mesh.Position) (map[mesh.Position]uint32, error)
}

// Message is one message of the stream.
type Message struct {
	Subject string
	Place   mesh.Place
	Data    []byte
}

// Answer is a receipt on its way to an agent.
type Answer struct {
	Site, Agent string
	Receipt     []byte
}

// Stats count since the program started. What is left out comes again, so one
// record may be counted there many times.
type Stats struct {
	Messages, Bytes uint64
	Taken           uint64 // records put into the log
	Samples         uint64 // in batches taken
	Twice           uint64 // records that were in the set already
	Filled          uint64 // records that came after a void had covered them
	Damaged         uint64 // frames or records whose checksum or form is wrong
	Foreign         uint64 // records of another log than their subject's, or on no agent's subject
	Clashed         uint64 // positions that came again with other bytes
	Held            uint64 // records of an epoch that forks the chain
	Grafted         uint64 // forks taken in, as the other branch was silent
	NoOpening       uint64 // left out: the epoch's opening hasn't come
	NoDescriptor    uint64 // left out: a descriptor is missing
	NoIsland        uint64 // left out: the set already has its islands
	RolledBack      uint64 // openings that went back behind what had come
	Reopened        uint64 // times the hub's log was opened
	Drifted         uint64 // times the stream was not what it has to be
	Renewed         uint64 // times it was deleted and made anew
	Regressed       uint64 // times it ended before what was read of it
	RanFull         uint64 // times it ran full
}

// Ingest is the only writer of one partition of the hub's log. Safe for
// concurrent use.
type Ingest struct {
	cfg   Config
	store Store
	log   *slog.Logger
	share atomic.Uint32 // percent of the stream's bytes in use
	takes atomic.Uint32 // bytes of a message the server takes; 0: not known yet

	trouble atomic.Pointer[error] // why the stream is not read now; nil: it is
	last    atomic.Pointer[error] // why a session ended last
	full    atomic.Bool           // the stream takes no more
	renew   chan struct{}         // asks for a session anew
	canary  canary
	counts  counts

	mu       sync.Mutex // protects all below, and keeps one Take at a time
	open     bool
	moved    bool // somebody else has opened the log
	end      mesh.Position
	before   []mesh.Epoch // of the log, before end's
	place    mesh.Place
	accounts map[mesh.LogID]*mesh.Account
	lacks    map[mesh.LogID]map[mesh.Hash]bool // descriptors records waited for
	known    map[mesh.Hash]bool                // descriptors that are stored
	held     map[mesh.Epoch]bool               // forks that were reported
	heard    map[mesh.LogID]time.Time          // when an agent's last message was taken, by the machine clock
	spoke    map[mesh.LogID]spoke              // what the tip of each log's chain said last
	began    time.Time                         // when this program first opened the log
	told     map[string]told                   // faults that were put into words
	stats    Stats
}

// spoke is when an epoch was heard, by the machine clock.
type spoke struct {
	epoch mesh.Epoch
	at    time.Time
}

// New assembles an ingest; the log is opened at the first use.
func New(cfg Config, store Store, log *slog.Logger) *Ingest {
	return &Ingest{cfg: cfg.withDefaults(), store: store, log: log, heard: map[mesh.LogID]time.Time{}, spoke: map[mesh.LogID]spoke{}, told: map[string]told{}, renew: make(chan struct{}, 1)}
}

// Open opens the hub's log anew, and takes it from whoever has it. Step and
// Record do so themselves, except after mesh.ErrMoved: then somebody else was
// given the log, and only the root may decide to take it back.
func (g *Ingest) Open(ctx context.Context) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.open, g.moved = false, false
	return g.openLocked(ctx)
}

func (g *Ingest) openLocked(ctx context.Context) error {
	if g.open {
		return nil
	}
	if g.moved {
		return fmt.Errorf("write the hub's log: %w", mesh.ErrMoved)
	}
	o, err := g.store.OpenLog(ctx, g.cfg.Partition)
	if err != nil {
		return err
	}
	g.open, g.end, g.before, g.place, g.accounts = true, o.End, o.Before, o.Place, o.Accounts
	if g.accounts == nil {
		g.accounts = map[mesh.LogID]*mesh.Account{}
	}
	g.lacks, g.known, g.held = map[mesh.LogID]map[mesh.Hash]bool{}, map[mesh.Hash]bool{}, map[mesh.Epoch]bool{}
	g.stats.Reopened++
	if g.began.IsZero() {
		g.began = g.cfg.Now()
	}
	return nil
}

// Place is how far the stream has been read.
func (g *Ingest) Place(ctx context.Context) (mesh.Place, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.place, g.openLocked(ctx)
}

// Begin notes that another stream is read than before, from its first message on.
// Receipts say so at once: an agent whose messages went with the old one, and whose
// full buffer has room for nothing new, would else wait for something to come through.
func (g *Ingest) Begin(ctx context.Context, stream string) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if err := g.openLocked(ctx); err != nil || g.place.Stream == stream {
		return err
	}
	return g.takeLocked(ctx, mesh.Take{Place: mesh.Place{Stream: stream}})
}

// Heard is when an agent's last message was taken, by the machine clock; ok is
// false where none came since the program started.
func (g *Ingest) Heard(site, agent string) (at time.Time, ok bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	at, ok = g.heard[mesh.LogID(subject.AgentLog(site, agent))]
	return at, ok
}

// Stats are the counts so far.
func (g *Ingest) Stats() Stats {
	g.mu.Lock()
	defer g.mu.Unlock()
	s := g.stats
	g.counts.into(&s)
	return s
}

// Step takes messages, in the order of the stream, in one transaction. The
// answers are receipts for every agent that was heard; send them only now that
// they are true. No message makes it fail: what is wrong with one is counted,
// logged and left out. An error is the store's, and nothing was answered.
func (g *Ingest) Step(ctx context.Context, msgs []Message) ([]Answer, error) {
	if len(msgs) == 0 {
		return nil, nil
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if err := g.openLocked(ctx); err != nil {
		return nil, err
	}
	s := newStep(g)
	for i := range msgs {
		s.read(ctx, &msgs[i])
	}
	if err := s.run(ctx); err != nil {
		return nil, err
	}
	t := mesh.Take{Entries: s.entries, Accounts: s.changed(), Descriptors: s.fresh, Place: msgs[len(msgs)-1].Place}
	if err := g.takeLocked(ctx, t); err != nil {
		return nil, err
	}
	s.settle()
	g.canary.passed(uint64(len(msgs)), s.canary)
	answers, now := make([]Answer, 0, len(s.heard)), s.now
	for _, h := range s.heard {
		g.heard[h.log] = now
		receipt, err := g.receiptLocked(h.log)
		if err != nil {
			return nil, err
		}
		answers = append(answers, Answer{h.site, h.agent, receipt})
	}
	return answers, nil
}

// takeLocked writes behind the end. After any error the log has to be opened
// anew: whether the transaction happened is not known.
func (g *Ingest) takeLocked(ctx context.Context, t mesh.Take) error {
	t.Partition, t.After = g.cfg.Partition, g.end
	fault.Point("hub.t1.before")
	end, err := g.store.Take(ctx, t)
	fault.Point("hub.t1.after")
	if err != nil {
		g.open, g.moved = false, errors.Is(err, mesh.ErrMoved)
		return err
	}
	g.end, g.place = end, t.Place
	return nil
}

// Record puts records of the hub's own into its log: facts, voids about what
// the hub lost. Their headers are read from their sealed bytes.
func (g *Ingest) Record(ctx context.Context, entries []mesh.Entry, descs []mesh.Descriptor) (mesh.Position, error) {
	own := make([]mesh.Entry, 0, len(entries))
	for _, e := range entries {
		h, err := wire.ParseHeader(e.Sealed)
		if err != nil {
			return mesh.Position{}, fmt.Errorf("record the hub's own: %w", mesh.Permanent(err))
		}
		own = append(own, mesh.Entry{Header: h, Sealed: e.Sealed})
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if err := g.openLocked(ctx); err != nil {
		return mesh.Position{}, err
	}
	err := g.takeLocked(ctx, mesh.Take{Entries: own, Descriptors: descs, Place: g.place})
	if err != nil {
		return mesh.Position{}, err
	}
	for _, d := range descs {
		g.known[d.Hash()] = true
	}
	return g.end, nil
}

// Receipt is what an agent is told when it asks: the set as of the last
// transaction, empty for an agent nobody knows.
func (g *Ingest) Receipt(ctx context.Context, site, agent string) ([]byte, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if err := g.openLocked(ctx); err != nil {
		return nil, err
	}
	return g.receiptLocked(mesh.LogID(subject.AgentLog(site, agent)))
}

// Receipts are the receipts of all agents that ever came.
func (g *Ingest) Receipts(ctx context.Context) ([]Answer, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if err := g.openLocked(ctx); err != nil {
		return nil, err
	}
	out := make([]Answer, 0, len(g.accounts))
	for log := range g.accounts {
		site, agent, ok := subject.ParseAgentLog(string(log))
		if !ok {
			continue
		}
		receipt, err := g.receiptLocked(log)
		if err != nil {
			return nil, err
		}
		out = append(out, Answer{site, agent, receipt})
	}
	return out, nil
}

// Bounds of a receipt.
const (
	maxLacks = 256  // descriptors asked for at a time
	maxChain = 1024 // epochs shown: the newest, and never fewer than from the hole on
)

func (g *Ingest) receiptLocked(log mesh.LogID) ([]byte, error) {
	most := g.cfg.MaxMessage
	if n := g.takes.Load(); n > 0 {
		most = min(most, n)
	}
	r := mesh.Receipt{By: g.end, Before: g.before, Place: g.place, Limits: mesh.Limits{MaxBytes: most, BacklogShare: uint8(min(g.share.Load(), 100))}}
	if a := g.accounts[log]; a != nil {
		r.Have, r.Chain = a.Set, a.Chain
		if from := len(r.Chain) - maxChain; from > 0 {
			for i, l := range r.Chain[:from] {
				if l.Epoch == a.Set.Through.Epoch {
					from = i
				}
			}
			r.Chain = r.Chain[from:]
		}
	}
	for h := range g.lacks[log] {
		if len(r.Lacks) < maxLacks {
			r.Lacks = append(r.Lacks, h)
		}
	}
	b, err := wire.EncodeReceipt(r)
	if err != nil {
		return nil, fmt.Errorf("make the receipt of %s: %w", log, err)
	}
	return b, nil
}
