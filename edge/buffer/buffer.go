// Package buffer is the agent's log, the only resting place on the edge. What
// Append has returned survives kill -9 and a power cut; what Ack lets go the
// reader has made durable first. It is made of bbolt segments: one synced
// transaction for each append, deleted as whole files.
//
//	dir/lock                     held while an agent uses the directory
//	dir/<number>-<index>.seg     records, and all that was known when they were written
//	dir/catalogue.jsonl          what is known without opening a segment
//	dir/reserve                  space held back for what must be said on a full disk
//	dir/quarantine/              raw bytes of records nobody could read or take, and why
//
// Next: edge/quality
package buffer

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"plantmesh/proto/mesh"
	"plantmesh/proto/strict"
)

// Errors of the buffer.
var (
	// ErrFull means the budget is used up and the policy is to block: nothing
	// was taken, try again after a receipt.
	ErrFull = errors.New("the buffer is full")
	// ErrClosed means Close was called.
	ErrClosed = errors.New("the buffer is closed")
	// ErrStale means a receipt was older than the last one, or from an epoch of
	// the reader that was left: nothing was changed.
	ErrStale = errors.New("the receipt is not the reader's newest")
)

// Buffer is one log. All methods may be called from any goroutine.
type Buffer struct {
	cfg     Config
	log     *slog.Logger
	disk    disk
	free    func() (int64, error)
	lock    *os.File
	notes   *catalogue
	reserve *reserve
	minFree int64

	queue   queue      // of appends, see serve
	writing sync.Mutex // held through everything that changes the disk

	owing bool // the opening, and debt, are not written yet
	debt  debt

	// mu guards what follows; it is changed with both locks held, and only
	// after the disk has it.
	mu      sync.Mutex
	chain   *chain
	end     uint64   // index of the last record
	pieces  []*piece // by number; active is the last one's
	active  segment  // nil after a failed commit: the next one opens a new file and epoch
	readers map[*piece]segment
	states  map[string][]byte
	descs   map[mesh.Hash]mesh.Descriptor
	named   []named // of those that came last; who writes alone touches it
	skips   map[uint64]bool
	changed chan struct{}
	reader  reader
	meter   meter
	closed  bool

	stateLost []string  // sources that started anew because their state was damaged
	damages   int       // segments and records that could not be read, in this run
	damagedAt time.Time // when the last of them was found
}

// piece is a segment as the buffer knows it.
type piece struct {
	name    string
	number  uint64
	first   uint64 // index of its first record
	last    uint64 // of its last; first-1 while it has none
	bytes   int64
	filled  int64 // machine time at which it was, Unix seconds; 0: long ago, or not yet
	tallies map[string]tally
	names   map[mesh.Hash]bool
	fresh   bool // this run made the file
}

// Open opens the log for append: a new epoch begins, and its opening is durable
// when Open returns. Segments that can't be read are set aside and voided.
func Open(cfg Config, log *slog.Logger) (*Buffer, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, Unusable(cfg.Dir, fmt.Errorf("make the buffer's directory: %w", err))
	}
	lock, err := lockDir(cfg.Dir)
	if err != nil {
		return nil, Unusable(cfg.Dir, err)
	}
	free := func() (int64, error) {
		n, _, err := diskBytes(cfg.Dir)
		return n, err
	}
	if _, size, err := diskBytes(cfg.Dir); err == nil && cfg.MinFree == nil {
		least := strict.Size(min(size/freeShare, freeAtMost))
		cfg.MinFree = &least
	}
	d := folder{dir: cfg.Dir, size: int64(cfg.SegmentBytes)}
	b, err := open(cfg, d, free, log)
	if err != nil {
		return nil, Unusable(cfg.Dir, errors.Join(err, lock.Close()))
	}
	b.lock = lock
	return b, nil
}

func open(cfg Config, d disk, free func() (int64, error), log *slog.Logger) (*Buffer, error) {
	notes, err := openNotes(cfg.Dir, d)
	if err != nil {
		return nil, err
	}
	if notes.broken > 0 {
		log.Error("lines of the catalogue can't be read and are left out", "count", notes.broken)
	}
	b := &Buffer{
		cfg: cfg, log: log, disk: d, free: free, notes: notes,
		chain: &chain{log: cfg.Log}, readers: map[*piece]segment{}, states: map[string][]byte{},
		descs: map[mesh.Hash]mesh.Descriptor{}, skips: map[uint64]bool{}, changed: make(chan struct{}),
		reader:  reader{left: map[mesh.Epoch]left{}},
		reserve: heldBack(cfg, d),
		owing:   true,
	}
	if cfg.MinFree != nil {
		b.minFree = int64(*cfg.MinFree)
	}
	b.reader.recall(notes, cfg.Log)
	if err := b.resume(); err != nil {
		return nil, errors.Join(err, b.Close())
	}
	log.Info("buffer opened", "log", cfg.Log, "end", b.End().String(), "segments", len(b.pieces), "bytes", b.bytes())
	return b, nil
}

// resume goes on where the directory left off.
func (b *Buffer) resume() error {
	b.writing.Lock()
	defer b.writing.Unlock()
	if err := b.load(); err != nil {
		return err
	}
	if n := b.notes.unnoted(b.chain); len(n) > 0 {
		b.note(n...)
	}
	b.recallThrough()
	err := b.begin()
	if errors.Is(err, ErrFull) && len(b.chain.eras) > 0 {
		// To refuse would be to keep for ever what only sending can free.
		b.log.Error("the disk is full: the buffer is only read until a record fits", "err", err)
		return nil
	}
	b.restoreReserve()
	return err
}

// Close lets go of the files and the directory. What was appended is durable already.
func (b *Buffer) Close() error {
	b.writing.Lock()
	defer b.writing.Unlock()
	if !b.closed && !b.owing {
		b.noteThrough(true)
	}
	b.mu.Lock()
	handles := slices.Collect(maps.Values(b.readers))
	clear(b.readers)
	if b.active != nil {
		handles = append(handles, b.active)
		b.active = nil
	}
	b.closed = true
	b.mu.Unlock()
	var errs []error
	for _, h := range handles {
		errs = append(errs, h.Close())
	}
	if b.lock != nil {
		errs = append(errs, b.lock.Close())
		b.lock = nil
	}
	return errors.Join(errs...)
}

// End is the position of the last record.
func (b *Buffer) End() mesh.Position {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.chain.at(b.end)
}

// State is what was committed last as the state of source; empty if nothing was.
func (b *Buffer) State(source string) ([]byte, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return nil, ErrClosed
	}
	return slices.Clone(b.states[source]), nil
}

// Kept is what a source keeps beside its state, by name.
func (b *Buffer) Kept(source string) (map[string][]byte, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return nil, ErrClosed
	}
	out, begin := map[string][]byte{}, keptKey(source, "")
	for key, s := range b.states {
		if name, ok := strings.CutPrefix(key, begin); ok && len(s) > 0 {
			out[name] = slices.Clone(s)
		}
	}
	return out, nil
}

// Descriptor is the descriptor with this hash, while a kept record names it.
func (b *Buffer) Descriptor(h mesh.Hash) (mesh.Descriptor, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	d, ok := b.descs[h]
	return d, ok
}

// Descriptors are all that kept records name.
func (b *Buffer) Descriptors() []mesh.Descriptor {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.described()
}

// described is descs by hash, so that the same log says the same bytes. Called
// with mu held.
func (b *Buffer) described() []mesh.Descriptor {
	hashes := slices.SortedFunc(maps.Keys(b.descs), func(x, y mesh.Hash) int { return bytes.Compare(x[:], y[:]) })
	out := make([]mesh.Descriptor, len(hashes))
	for i, h := range hashes {
		out[i] = b.descs[h]
	}
	return out
}

// Outset is what goes first on every road: the descriptors that kept records
// name, and the openings of all epochs of the chain in its order. end is the
// position of the last record now.
func (b *Buffer) Outset() (descs []mesh.Descriptor, openings []mesh.Record, end mesh.Position, err error) {
	b.mu.Lock()
	c, last := b.chain, b.end
	descs = b.described()
	b.mu.Unlock()
	for _, e := range c.eras {
		r, err := opening(c.log, e)
		if err != nil {
			return nil, nil, end, err
		}
		openings = append(openings, r)
	}
	return descs, openings, c.at(last), nil
}

// Changed is closed at the next append. Take it before Peek, then nothing is missed.
func (b *Buffer) Changed() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.changed
}

// Stats is how full the buffer is.
type Stats struct {
	Bytes, MaxBytes int64
	Segments        int
	Oldest, End     mesh.Position // of the kept records
	Pending         uint64        // records the reader has not accounted for
	StateLost       []string      // sources that started anew because their state was damaged
	Damages         int           // segments and records that could not be read, in this run
	Damaged         time.Time     // when the last of them was found; zero: none
	OldestPending   mesh.Nanos    // event time at which the oldest segment with such records begins; 0: none
	Commits         Commits
}

// Stats takes a snapshot.
func (b *Buffer) Stats() Stats {
	b.mu.Lock()
	defer b.mu.Unlock()
	s := Stats{MaxBytes: int64(b.cfg.MaxBytes), Segments: len(b.pieces), End: b.chain.at(b.end), Oldest: b.chain.at(b.oldest()), StateLost: slices.Clone(b.stateLost), Damages: b.damages, Damaged: b.damagedAt, Commits: b.meter.before.plus(b.meter.now)}
	for _, p := range b.pieces {
		s.Bytes += p.bytes
		var open uint64
		for _, o := range (stretch{p.first, p.last}).without(b.reader.covered) {
			open += o.last - o.first + 1
		}
		s.Pending += open
		for _, t := range p.tallies {
			if open > 0 && t.From > 0 && (s.OldestPending == 0 || t.From < s.OldestPending) {
				s.OldestPending = t.From
			}
		}
	}
	return s
}

// damaged counts that something can't be read, and says what to do.
func (b *Buffer) damaged() string {
	b.mu.Lock()
	b.damages++
	b.damagedAt = time.Now()
	b.mu.Unlock()
	return "is the disk failing? look at its SMART values and the kernel's log; what was lost is named in gaps"
}

// setActive sets the segment that is written. Called with writing held.
func (b *Buffer) setActive(s segment) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.active = s
}

// oldest is the index of the oldest kept record. Called with mu or writing held.
func (b *Buffer) oldest() uint64 {
	for _, p := range b.pieces {
		if p.last >= p.first {
			return p.first
		}
	}
	return b.end + 1
}

func (b *Buffer) bytes() (n int64) {
	for _, p := range b.pieces {
		n += p.bytes
	}
	return n
}

func (b *Buffer) quarantineDir() string { return filepath.Join(b.cfg.Dir, "quarantine") }
