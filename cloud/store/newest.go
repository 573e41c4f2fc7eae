package store

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"plantmesh/proto/mesh"
	"plantmesh/proto/wire"
)

// The newest sample of every signal of a source is read in three steps: of what
// stands in chunks it is kept by each pass; of the batches behind it is found by
// decoding them, once, and then held in memory; each question decodes what came
// since the one before.

// newestAhead is how far beyond the plant's now a stamp may lie to count as the
// newest: a clock that jumps must not hold the place for ever.
const newestAhead = 24 * time.Hour

// candidate is the newest sample of a signal so far.
type candidate struct {
	sample mesh.Sample
	marks  []mesh.Mark
}

// take compares one more sample: the last in the order of folding stays, and of
// two that are one sample what both have.
func (c *candidate) take(s mesh.Sample, marks []mesh.Mark) {
	switch same := c.sample.Same(s); {
	case same:
		if s.Server < c.sample.Server {
			c.sample.Server = s.Server
		}
		c.sample.Flags &= s.Flags
		for _, m := range marks {
			if !slices.ContainsFunc(c.marks, func(o mesh.Mark) bool { return o.Rule == m.Rule && o.Action == m.Action }) {
				c.marks = append(slices.Clip(c.marks), m)
			}
		}
	case c.sample.Compare(s) < 0:
		*c = candidate{s, marks}
	}
}

// candidates are those of one source, by signal table and signal.
type candidates map[mesh.Hash]map[uint32]*candidate

func (n candidates) take(table mesh.Hash, s mesh.Sample, marks []mesh.Mark) {
	of := n[table]
	if of == nil {
		of = map[uint32]*candidate{}
		n[table] = of
	}
	if c := of[s.Signal]; c != nil {
		c.take(s, marks)
		return
	}
	of[s.Signal] = &candidate{s, marks}
}

// batch takes the samples of sealed bytes that are not beyond an instant.
func (n candidates) batch(dec *wire.Decoder, sealed []byte, v *mesh.Verdict, through mesh.Nanos) error {
	b, err := dec.Batch(sealed)
	if err != nil {
		return err
	}
	marks := map[uint32][]mesh.Mark{}
	if v != nil {
		for _, m := range v.Marks {
			marks[m.Index] = append(marks[m.Index], m)
		}
	}
	for i := range b.Samples {
		if b.Samples[i].Time <= through {
			n.take(b.Table, b.Samples[i], marks[uint32(i)])
		}
	}
	return nil
}

// newestCache holds what was found before. Safe for concurrent use.
type newestCache struct {
	mu   sync.Mutex // protects held and what is in it
	held map[string]*heldNewest
}

type heldNewest struct {
	pass    int64 // of the chunks that are in found
	through spot  // everything up to here is in found
	found   candidates
}

// Newest is the newest sample of every signal of a source, by name. now is the
// plant's: stamps a day beyond it don't count.
func (s *Store) Newest(ctx context.Context, source string, now mesh.Nanos) (out []mesh.Newest, err error) {
	s.newest.mu.Lock()
	defer s.newest.mu.Unlock()
	h := s.newest.held[source]
	if h == nil {
		h = &heldNewest{found: candidates{}}
	}
	err = s.base.read(ctx, func(tx *sql.Tx) error { return h.catchUp(ctx, tx, source, now.Add(newestAhead)) })
	if err != nil {
		delete(s.newest.held, source)
		return nil, fmt.Errorf("read the newest samples of %s: %w", source, err)
	}
	s.newest.held[source] = h
	byName := map[string]mesh.Newest{}
	for table, signals := range h.found {
		d, ok, err := s.Descriptor(ctx, table)
		if err != nil {
			return nil, err
		}
		if !ok {
			continue
		}
		all, err := wire.Signals(d)
		if err != nil {
			return nil, fmt.Errorf("read the newest samples of %s: %w", source, mesh.Permanent(err))
		}
		for _, sig := range all {
			c := signals[sig.ID]
			if c == nil {
				continue
			}
			if was, ok := byName[sig.Name]; !ok || compareNewest(was.Sample, c.sample) < 0 {
				byName[sig.Name] = mesh.Newest{Signal: sig, Sample: c.sample, Marks: c.marks}
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(byName)) {
		out = append(out, byName[name])
	}
	return out, nil
}

// compareNewest compares samples of one name in two tables.
func compareNewest(a, b mesh.Sample) int {
	a.Signal, b.Signal = 0, 0
	return cmp.Or(a.Compare(b), cmp.Compare(a.Agent, b.Agent))
}

// catchUp takes what came since, and what went into chunks.
func (h *heldNewest) catchUp(ctx context.Context, tx *sql.Tx, source string, through mesh.Nanos) error {
	dec, err := wire.NewDecoder()
	if err != nil {
		return err
	}
	pass, _, err := compacted(ctx, tx, 0)
	if err != nil {
		return err
	}
	if pass != h.pass { // it may have taken what was never seen here
		h.pass = pass
		if err := readNewest(ctx, tx, source, func(_ mesh.Hash, sealed []byte, v *mesh.Verdict) error {
			return h.found.batch(dec, sealed, v, through)
		}); err != nil {
			return err
		}
	}
	to, _, err := tip(ctx, tx, hubLog(0))
	if err != nil {
		return err
	}
	staged, err := readEntries(ctx, tx, `SELECT `+entryColumns+` WHERE h.partition = 0 AND (h.epoch, h.seq) > (?, ?) AND h.kind = 2 AND h.source = ?
		ORDER BY h.epoch, h.seq`, h.through.epoch, h.through.seq, source)
	if err != nil {
		return err
	}
	for i := range staged {
		// What can't be read has no newest sample: its time is unknown, see the runner.
		_ = h.found.batch(dec, staged[i].Sealed, staged[i].Verdict, through)
	}
	h.through = to
	return nil
}

func readNewest(ctx context.Context, tx *sql.Tx, source string, each func(table mesh.Hash, sealed []byte, v *mesh.Verdict) error) (err error) {
	rows, err := tx.QueryContext(ctx, `SELECT signals, sealed, marks FROM newest WHERE source = ?`, source)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		var table, sealed, marks []byte
		if err := rows.Scan(&table, &sealed, &marks); err != nil {
			return err
		}
		var v *mesh.Verdict
		if marks != nil {
			w, err := wire.OpenVerdict(marks)
			if err != nil {
				return mesh.Permanent(err)
			}
			v = &w
		}
		if err := each(mesh.Hash(table), sealed, v); err != nil {
			return mesh.Permanent(err)
		}
	}
	return rows.Err()
}

// keepNewest brings the newest samples up to a pass.
func (w *work) keepNewest(ctx context.Context, tx *sql.Tx) error {
	bySource := map[string]candidates{}
	for _, k := range w.kinds {
		n := bySource[k.source]
		if n == nil {
			n = candidates{}
			bySource[k.source] = n
		}
		for _, p := range k.piles {
			p.newest(n, k.table, w.Now.Add(newestAhead))
		}
	}
	enc, err := wire.NewEncoder()
	if err != nil {
		return err
	}
	for source, n := range bySource {
		err := readNewest(ctx, tx, source, func(table mesh.Hash, sealed []byte, v *mesh.Verdict) error {
			if n[table] == nil {
				return nil
			}
			return n.batch(w.dec, sealed, v, maxNanos)
		})
		if err != nil {
			return err
		}
		for table, of := range n {
			if err := putNewest(ctx, tx, enc, source, table, of); err != nil {
				return err
			}
		}
	}
	return nil
}

const maxNanos = mesh.Nanos(1<<63 - 1)

// newest offers the newest sample of a pile that is not beyond an instant, and
// those that are at the same time.
func (p *pile) newest(n candidates, table mesh.Hash, through mesh.Nanos) {
	i := len(p.times) - 1
	for i >= 0 && p.time(i) > through {
		i--
	}
	if i < 0 {
		return
	}
	for at := p.time(i); i >= 0 && p.time(i) == at; i-- {
		var marks []mesh.Mark
		for _, m := range p.marks {
			if int(m.at) == p.index(i) {
				marks = append(marks, mesh.Mark{Rule: m.rule, Action: m.action})
			}
		}
		n.take(table, p.sample(p.index(i)), marks)
	}
}

func putNewest(ctx context.Context, tx *sql.Tx, enc *wire.Encoder, source string, table mesh.Hash, of map[uint32]*candidate) error {
	b := mesh.Batch{Source: source, Table: table}
	var v mesh.Verdict
	for _, signal := range slices.Sorted(maps.Keys(of)) {
		for _, m := range of[signal].marks {
			v.Marks = append(v.Marks, mesh.Mark{Index: uint32(len(b.Samples)), Rule: m.Rule, Action: m.Action})
		}
		b.Samples = append(b.Samples, of[signal].sample)
	}
	if len(b.Samples) > wire.MaxSamples {
		return nil // a table of so many signals can't be of one source
	}
	sealed, err := enc.Seal(&b)
	if err != nil {
		return err
	}
	var marks []byte
	if len(v.Marks) > 0 {
		if marks, err = wire.SealVerdict(source, v); err != nil {
			return err
		}
	}
	_, err = tx.ExecContext(ctx, `INSERT INTO newest (source, signals, sealed, marks) VALUES (?, ?, ?, ?)
		ON CONFLICT (source, signals) DO UPDATE SET sealed = excluded.sealed, marks = excluded.marks`, source, table[:], sealed, marks)
	return err
}
