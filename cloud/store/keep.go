package store

import (
	"context"
	"database/sql"
	"errors"
	"maps"
	"slices"

	"plantmesh/proto/mesh"
	"plantmesh/proto/wire"
)

// newestTexts bounds the texts of the newest samples of a table, in bytes: with
// all else in it the record must be one that can be read, see wire.MaxFrame.
const newestTexts = 4 << 20

const maxNanos = mesh.Nanos(1<<63 - 1)

// newestRow is what hub.db has of the newest samples of one source and table.
type newestRow struct {
	source        string
	table         mesh.Hash
	sealed, marks []byte // a batch, and a verdict on it where there are marks
}

func readNewest(ctx context.Context, tx *sql.Tx, source string) (out []newestRow, err error) {
	rows, err := tx.QueryContext(ctx, `SELECT signals, sealed, marks FROM newest WHERE source = ?`, source)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		var table []byte
		r := newestRow{source: source}
		if err := rows.Scan(&table, &r.sealed, &r.marks); err != nil {
			return nil, err
		}
		copy(r.table[:], table)
		out = append(out, r)
	}
	return out, rows.Err()
}

// open offers what a row holds.
func (r *newestRow) open(n candidates, dec *wire.Decoder, through mesh.Nanos) error {
	var v *mesh.Verdict
	if r.marks != nil {
		w, err := wire.OpenVerdict(r.marks)
		if err != nil {
			return err
		}
		v = &w
	}
	return n.batch(dec, r.sealed, v, through)
}

// findNewest brings the newest samples up to a pass, before its transaction:
// nobody else writes them, else the pass isn't recorded. What a source says can't
// fail it: what doesn't fit is left out, and a row that can't be read begins anew.
func (s *Store) findNewest(ctx context.Context, w *work) error {
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
		if err := ctx.Err(); err != nil {
			return err
		}
	}
	enc, err := wire.NewEncoder()
	if err != nil {
		return err
	}
	for source, n := range bySource {
		if err := s.sealNewest(ctx, w, enc, source, n); err != nil {
			return err
		}
	}
	return nil
}

// sealNewest makes the rows of one source of what a pass and those before found.
func (s *Store) sealNewest(ctx context.Context, w *work, enc *wire.Encoder, source string, n candidates) error {
	var was []newestRow
	err := s.base.read(ctx, func(tx *sql.Tx) (err error) {
		was, err = readNewest(ctx, tx, source)
		return err
	})
	if err != nil {
		return err
	}
	for i := range was {
		if n[was[i].table] != nil && was[i].open(n, w.dec, maxNanos) != nil {
			w.leftOut++
		}
	}
	for table, of := range n {
		if err := ctx.Err(); err != nil {
			return err
		}
		r := newestRow{source: source, table: table}
		w.leftOut += len(of) - r.fill(enc, w.dec, of)
		if r.sealed != nil {
			w.newest = append(w.newest, r)
		}
	}
	return nil
}

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
		for _, m := range p.marksAt(p.index(i)) {
			marks = append(marks, mesh.Mark{Rule: m.rule, Action: m.action})
		}
		n.take(table, p.sample(p.index(i)), marks)
	}
}

// fill seals what fits, and makes sure that it can be read. It says how many
// samples that is.
func (r *newestRow) fill(enc *wire.Encoder, dec *wire.Decoder, of map[uint32]*candidate) int {
	b := mesh.Batch{Source: r.source, Table: r.table}
	var v mesh.Verdict
	text, rules := 0, 0
	for _, signal := range slices.Sorted(maps.Keys(of)) {
		c := of[signal]
		said, names := c.said(), 0
		for _, m := range said {
			names += len(m.Rule)
		}
		if len(b.Samples) == wire.MaxSamples || text+len(c.sample.Value.Bytes) > newestTexts || len(v.Marks)+len(said) > chunkMarks || rules+names > chunkRules {
			continue
		}
		text, rules = text+len(c.sample.Value.Bytes), rules+names
		for _, m := range said {
			v.Marks = append(v.Marks, mesh.Mark{Index: uint32(len(b.Samples)), Rule: m.Rule, Action: m.Action})
		}
		b.Samples = append(b.Samples, c.sample)
	}
	for n := len(b.Samples); n > 0; n /= 2 {
		b.Samples = b.Samples[:n]
		v.Marks = slices.DeleteFunc(v.Marks, func(m mesh.Mark) bool { return int(m.Index) >= n })
		if r.seal(enc, dec, &b, &v) {
			return n
		}
	}
	r.sealed, r.marks = nil, nil
	return 0
}

// seal reports whether what it made can be read.
func (r *newestRow) seal(enc *wire.Encoder, dec *wire.Decoder, b *mesh.Batch, v *mesh.Verdict) bool {
	var err error
	if r.sealed, err = enc.Seal(b); err != nil {
		return false
	}
	r.marks = nil
	if len(v.Marks) > 0 {
		if r.marks, err = wire.SealVerdict(r.source, *v); err != nil {
			return false
		}
	}
	back := candidates{}
	return r.open(back, dec, maxNanos) == nil && len(back[r.table]) == len(b.Samples)
}

// putNewest writes what findNewest found.
func (w *work) putNewest(ctx context.Context, tx *sql.Tx) error {
	for i := range w.newest {
		r := &w.newest[i]
		_, err := tx.ExecContext(ctx, `INSERT INTO newest (source, signals, sealed, marks) VALUES (?, ?, ?, ?)
			ON CONFLICT (source, signals) DO UPDATE SET sealed = excluded.sealed, marks = excluded.marks`, r.source, r.table[:], r.sealed, r.marks)
		if err != nil {
			return err
		}
	}
	return nil
}
