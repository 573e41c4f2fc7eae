package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"plantmesh/proto/mesh"
	"plantmesh/proto/wire"
)

// found is what was read back of one pile.
type found struct {
	n     int
	print uint64
}

// verify reads the chunks of a pass back from their files and compares them
// with what was read of the batches: the same samples, as often, to the bit,
// with the same marks, where readers look for them.
func (s *Store) verify(ctx context.Context, w *work) error {
	back := map[*pile]*found{}
	for day := range w.wrote {
		if err := s.readBack(ctx, w, day, back); err != nil {
			return s.spoil(day, fmt.Errorf("verify %s: %w", s.dayFile(day), err))
		}
	}
	for _, k := range w.kinds {
		for _, p := range k.piles {
			f := back[p]
			if f == nil {
				f = &found{}
			}
			if f.n != len(p.times) || f.print != p.print {
				return fmt.Errorf("signal %d of %s: %d samples of %d: %w", p.signal, k.source, f.n, len(p.times), errVerify)
			}
		}
	}
	return nil
}

func (s *Store) readBack(ctx context.Context, w *work, day int64, back map[*pile]*found) (err error) {
	db, err := s.openDay(ctx, day)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	rows, err := db.QueryContext(ctx, `SELECT c.id, c.signal, c.last, c.t_from, c.t_to, k.source, k.signals, k.judged, k.revision, k.rules, c.sealed, c.marks
		FROM chunk c JOIN kind k ON k.n = c.kind WHERE c.id > (SELECT coalesce(max(id), 0) FROM chunk) - ? AND c.pass = ?`, w.wrote[day].chunks, w.number)
	if err != nil {
		return plain(err)
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		var (
			id, revision  int64
			k             kind
			said          extent
			table, rules  []byte
			sealed, marks sql.RawBytes
		)
		if err := rows.Scan(&id, &said.signal, &said.last, &said.from, &said.to, &k.source, &table, &k.judged, &revision, &rules, &sealed, &marks); err != nil {
			return plain(err)
		}
		copy(k.table[:], table)
		copy(k.rules[:], rules)
		k.revision = uint64(revision)
		i, ok := w.at[k]
		if !ok {
			return fmt.Errorf("chunk %d is of no batch: %w", id, errVerify)
		}
		has, err := w.count(&w.kinds[i].kind, sealed, marks, w.kinds[i].of(back))
		if err == nil && (has != said || !isStray(day) && (dayOf(has.from) != day || dayOf(has.to-1) != day)) {
			err = errVerify
		}
		if err != nil {
			return fmt.Errorf("chunk %d: %w", id, err)
		}
	}
	return plain(rows.Err())
}

// extent is where readers look for a chunk.
type extent struct {
	signal, last uint32
	from, to     mesh.Nanos
}

// of finds what was read back of a signal; nil for one that has no pile.
func (k *kindPiles) of(back map[*pile]*found) func(signal uint32) *found {
	return func(signal uint32) *found {
		p := k.at[signal]
		if p == nil {
			return nil
		}
		f := back[p]
		if f == nil {
			f = &found{}
			back[p] = f
		}
		return f
	}
}

// count adds what a chunk holds to what was found of its signals.
func (g *gather) count(k *kind, sealed, marks []byte, of func(signal uint32) *found) (has extent, err error) {
	var v mesh.Verdict
	if marks != nil {
		if v, err = wire.OpenVerdict(marks); err != nil {
			return has, err
		}
		if v.Revision != k.revision || v.Rules != k.rules {
			return has, errVerify
		}
	}
	done, strange := 0, false
	h, err := g.dec.Columns(sealed, func(c *wire.Column) {
		f := of(c.Signal)
		if f == nil {
			strange = true
			return
		}
		has.add(c, done == 0)
		f.n += len(c.Times)
		f.print += g.prints.prints(c)
		for len(v.Marks) > 0 && int(v.Marks[0].Index) < done+len(c.Times) {
			m := v.Marks[0]
			v.Marks = v.Marks[1:]
			f.print += markPrint(g.prints.fingerprint(c, int(m.Index)-done), m.Rule, m.Action)
		}
		done += len(c.Times)
	})
	if err != nil {
		return has, err
	}
	if strange || len(v.Marks) > 0 || h.About != k.source || h.Needs[0] != k.table {
		return has, errVerify
	}
	return has, nil
}

// add widens an extent by a column of its chunk.
func (e *extent) add(c *wire.Column, first bool) {
	if first {
		*e = extent{c.Signal, c.Signal, c.Times[0], endOf(c.Times[0])}
	}
	e.last = c.Signal
	for _, t := range c.Times {
		e.from, e.to = min(e.from, t), max(e.to, endOf(t))
	}
}
