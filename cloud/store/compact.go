package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"

	"plantmesh/proto/mesh"
)

// The compactor turns sealed batches into chunks: batches of the samples of one
// signal, in the order of folding. A pass goes this way:
//
//	read batches ─► pile up by signal ─► write chunks to the day files, synced
//	  ─► read them back and compare with the batches ─► in one transaction of
//	hub.db: the pass is recorded, the batches' bytes go
//
// A chunk counts only if its pass is recorded in the same snapshot of hub.db
// that still has, or has no more, the batches: so nothing is ever read twice or
// missed. What a pass leaves behind that breaks off is removed by the next one.

// Bounds of a pass, and of what it makes.
const (
	// passSamples: an hour of 1,000 signals at 1 Hz; some 150 MB of memory.
	passSamples = 4 << 20
	// passBatches bounds the transaction that drops them.
	passBatches = 1 << 16
	// chunkSamples is an hour at 1 Hz: prototypes' measure of what reads fast
	// and packs well. A chunk has between 2/3 and 4/3 of it.
	chunkSamples = 3600
	// sparseSamples: signals with fewer share a chunk, because a chunk of its
	// own costs some 120 bytes beside the samples. A pass has 419 of each of
	// 10,000 signals, which are read of today's file as they are.
	sparseSamples = 256
	// chunkText bounds the texts of a chunk, in bytes.
	chunkText = 1 << 20
	// chunkMarks and chunkRules bound the marks of a chunk and the names of
	// rules in them, in bytes: a verdict, see proto/wire, holds twice as much.
	chunkMarks = 1 << 16
	chunkRules = 4 << 20
	// straySamples is what a day must have in a pass to get a file, unless it
	// is at the plant's now: see strayDay.
	straySamples = 100
)

// Pass is what one pass of the compactor may take.
type Pass struct {
	Partition int
	Products  []string      // nothing behind any of their places
	Through   mesh.Position // and nothing behind this one
	Now       mesh.Nanos    // the plant's
	// MaxSamples ends a pass once it has so many. Default 4 Mi.
	MaxSamples int

	beside int // bytes beside samples that end it too; default passBeside
}

// Passed is what a pass did.
type Passed struct {
	Batches, Samples, Chunks int
	// Damaged batches can't be read: they stay as they are.
	Damaged int
	// BadDays are files of the history that are not as the hub's database knows
	// them, or can't be read. Samples of their days go elsewhere.
	BadDays int
	// More says that there is more to take.
	More bool
}

// errVerify is returned where chunks don't give back what the batches hold.
// Nothing is dropped then.
var errVerify = errors.New("chunks read back differ from the batches they were made of: the batches stay")

// Compact runs one pass. One runs at a time.
func (s *Store) Compact(ctx context.Context, p Pass) (done Passed, err error) {
	s.compacting.Lock()
	defer s.compacting.Unlock()
	if p.MaxSamples <= 0 {
		p.MaxSamples = passSamples
	}
	if p.beside <= 0 {
		p.beside = passBeside
	}
	if done, err = s.pass(ctx, p); err != nil {
		s.swept = false
		return Passed{}, fmt.Errorf("compact the hub's log %d: %w", p.Partition, err)
	}
	done.BadDays = len(s.bad)
	return done, nil
}

// work is one pass under way.
type work struct {
	Pass

	*gather

	done, number  int64 // the pass before, and this one
	from, through spot
	to            spot              // it may go no further
	days          map[int64]dayStat // before it
	begun         map[int64]bool    // passes that may have left chunks
	going         map[int64]dayStat // days whose files may be left
	bad           map[int64]bool    // days whose files can't be written
	wrote         map[int64]dayStat
	chunks        int
	newest        []newestRow
	leftOut       int // signals whose newest sample is kept nowhere else
}

func (s *Store) pass(ctx context.Context, p Pass) (done Passed, err error) {
	w := &work{Pass: p, wrote: map[int64]dayStat{}}
	if w.gather, err = newGather(); err != nil {
		return done, err
	}
	if err := s.base.read(ctx, func(tx *sql.Tx) error { return w.begin(ctx, tx) }); err != nil {
		return done, err
	}
	if err := s.sweep(ctx, w); err != nil {
		return done, err
	}
	if !before(w.from, w.through) {
		return done, nil
	}
	if err := s.chunked(ctx, w); err != nil {
		return done, err
	}
	if err := s.findNewest(ctx, w); err != nil {
		return done, err
	}
	if err := s.base.write(ctx, func(tx *sql.Tx) error { return w.record(ctx, tx) }); err != nil {
		return done, err
	}
	if w.damaged > 0 {
		s.log.ErrorContext(ctx, "batches that can't be read stay in the log as they are", "batches", w.damaged)
	}
	if w.leftOut > 0 && !s.leftOut {
		s.log.ErrorContext(ctx, "the newest samples of a source are too much to keep: some signals are not among the latest after a start", "signals", w.leftOut)
	}
	s.leftOut = s.leftOut || w.leftOut > 0
	return Passed{Batches: len(w.batches), Samples: w.samples, Chunks: w.chunks, Damaged: w.damaged, More: before(w.through, w.to)}, s.halted("recorded")
}

// begin reads where the compactor stands, and the batches of this pass.
func (w *work) begin(ctx context.Context, tx *sql.Tx) (err error) {
	if w.done, w.from, err = compacted(ctx, tx, w.Partition); err != nil {
		return err
	}
	w.number = passAfter(w.done)
	if w.days, err = readDays(ctx, tx); err != nil {
		return err
	}
	if w.begun, w.going, err = readUnfinished(ctx, tx); err != nil {
		return err
	}
	if w.to, err = limit(ctx, tx, w.Pass); err != nil || !before(w.from, w.to) {
		return err
	}
	w.through, err = w.read(ctx, tx, w.Pass, w.from, w.to)
	return err
}

// chunked writes the chunks of a pass and makes sure of them.
func (s *Store) chunked(ctx context.Context, w *work) error {
	if err := s.halted("read"); err != nil {
		return err
	}
	if err := s.announce(ctx, w); err != nil {
		return err
	}
	if err := s.writeChunks(ctx, w); err != nil {
		return err
	}
	if err := s.verify(ctx, w); err != nil {
		return err
	}
	return s.halted("verified")
}

// halted lets a test break a pass off between its steps.
func (s *Store) halted(at string) error {
	if s.halt != nil {
		return s.halt(at)
	}
	return nil
}

func before(a, b spot) bool { return a.epoch < b.epoch || a.epoch == b.epoch && a.seq < b.seq }

// compacted is the last pass of a partition and through where it came; passes
// are counted over all partitions.
func compacted(ctx context.Context, tx *sql.Tx, partition int) (pass int64, at spot, err error) {
	if err := tx.QueryRowContext(ctx, `SELECT coalesce(max(pass), 0) FROM compacted`).Scan(&pass); err != nil {
		return 0, at, err
	}
	err = tx.QueryRowContext(ctx, `SELECT epoch, seq FROM compacted WHERE partition = ?`, partition).Scan(&at.epoch, &at.seq)
	if errors.Is(err, sql.ErrNoRows) {
		err = nil
	}
	return pass, at, err
}

// limit is through where a pass may go.
func limit(ctx context.Context, tx *sql.Tx, p Pass) (to spot, err error) {
	if to, err = find(ctx, tx, hubLog(p.Partition), p.Through); err != nil {
		return to, err
	}
	for _, product := range p.Products {
		place, err := readPlace(ctx, tx, product, p.Partition)
		if errors.Is(err, sql.ErrNoRows) {
			return spot{}, nil // it has not begun
		}
		if err != nil {
			return to, err
		}
		at, err := find(ctx, tx, hubLog(p.Partition), place)
		if err != nil {
			return to, err
		}
		if before(at, to) {
			to = at
		}
	}
	return to, nil
}

// record makes a pass count: its chunks are there from now on, its batches are
// not.
func (w *work) record(ctx context.Context, tx *sql.Tx) error {
	pass, at, err := compacted(ctx, tx, w.Partition)
	if err != nil {
		return err
	}
	if pass != w.done || at != w.from {
		return fmt.Errorf("record pass %d: somebody else compacts this log: %w", w.number, mesh.ErrMoved)
	}
	_, err = tx.ExecContext(ctx, `INSERT INTO compacted (partition, pass, epoch, seq) VALUES (?, ?, ?, ?)
		ON CONFLICT (partition) DO UPDATE SET pass = excluded.pass, epoch = excluded.epoch, seq = excluded.seq`, w.Partition, w.number, w.through.epoch, w.through.seq)
	if err != nil {
		return err
	}
	if _, err := tx.ExecContext(ctx, `DELETE FROM begun WHERE pass = ?`, w.number); err != nil {
		return err
	}
	for day, st := range w.wrote {
		_, err := tx.ExecContext(ctx, `INSERT INTO day (day, chunks, samples, pass) VALUES (?, ?, ?, ?)
			ON CONFLICT (day) DO UPDATE SET chunks = chunks + excluded.chunks, samples = samples + excluded.samples, pass = excluded.pass`, day, st.chunks, st.samples, w.number)
		if err != nil {
			return err
		}
	}
	if err := w.keepPast(ctx, tx); err != nil {
		return err
	}
	if err := w.putNewest(ctx, tx); err != nil {
		return err
	}
	return w.drop(ctx, tx)
}

// keepPast writes what stays of the batches.
func (w *work) keepPast(ctx context.Context, tx *sql.Tx) error {
	sums := map[blockKey][]sum{}
	var keys []blockKey
	for from := 0; from < len(w.batches); {
		to := from
		var run []past
		for ; to < len(w.batches) && to < from+runEntries && w.batches[to].epoch == w.batches[from].epoch; to++ {
			b := &w.batches[to]
			run = append(run, b.past)
			if b.past.of.log == 0 {
				continue
			}
			key := blockKey{b.past.of, int64(b.past.ofSeq / sumBlock)}
			if sums[key] == nil {
				keys = append(keys, key)
			}
			sums[key] = append(sums[key], sum{uint8(b.past.ofSeq % sumBlock), b.crc, b.epoch, b.past.seq})
		}
		body := encodeRun(run)
		back, err := decodeRun(body)
		if err != nil || !slices.EqualFunc(run, back, samePast) {
			return errVerify
		}
		_, err = tx.ExecContext(ctx, `INSERT INTO hub_past (partition, epoch, last, body) VALUES (?, ?, ?, ?)`, w.Partition, w.batches[from].epoch, run[len(run)-1].seq, body)
		if err != nil {
			return err
		}
		from = to
	}
	for _, key := range keys {
		if err := putSums(ctx, tx, key.of, key.block, sums[key]); err != nil {
			return err
		}
	}
	return nil
}

func samePast(a, b past) bool {
	needs := slices.Equal(a.header.Needs, b.header.Needs)
	ah, bh := a.header, b.header
	ah.Needs, bh.Needs = nil, nil
	return needs && a.seq == b.seq && a.of == b.of && a.ofSeq == b.ofSeq && a.ord == b.ord && a.through == b.through &&
		ah.Kind == bh.Kind && ah.About == bh.About && ah.Proven == bh.Proven && ah.Complete == bh.Complete && ah.Times == bh.Times && ah.Count == bh.Count
}

// drop deletes the batches' rows.
func (w *work) drop(ctx context.Context, tx *sql.Tx) (err error) {
	st, err := tx.PrepareContext(ctx, `DELETE FROM hub_log WHERE id = ?`)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, st.Close()) }()
	for i := range w.batches {
		if _, err := st.ExecContext(ctx, w.batches[i].id); err != nil {
			return err
		}
	}
	return nil
}
