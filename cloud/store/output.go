package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"plantmesh/proto/mesh"
)

// Resume begins a new epoch of a product's output log, and gives its end and
// the product's place in the hub's log (zero: nothing read yet). Whoever had
// it open before is refused from now on with mesh.ErrMoved.
func (s *Store) Resume(ctx context.Context, product string, partition int) (end, place mesh.Position, err error) {
	err = s.base.write(ctx, func(tx *sql.Tx) error {
		var at spot
		if at, end, err = beginEpoch(ctx, tx, outLog(product, partition)); err != nil {
			return err
		}
		_, err := tx.ExecContext(ctx, `INSERT INTO out_end
			(product, partition, epoch, place_log, place_seq, progress, watermark, kept, pruned_epoch, pruned_seq) VALUES (?, ?, ?, '', 0, 0, 0, 0, 0, 0)
			ON CONFLICT (product, partition) DO UPDATE SET epoch = excluded.epoch`, product, partition, at.epoch)
		if err != nil {
			return err
		}
		place, err = readPlace(ctx, tx, product, partition)
		return err
	})
	if err != nil {
		return mesh.Position{}, mesh.Position{}, fmt.Errorf("resume product %s: %w", product, err)
	}
	s.out.ring()
	return end, place, nil
}

func readPlace(ctx context.Context, tx *sql.Tx, product string, partition int) (p mesh.Position, err error) {
	var (
		epoch []byte
		seq   int64
	)
	err = tx.QueryRowContext(ctx, `SELECT place_log, place_epoch, place_seq FROM out_end WHERE product = ? AND partition = ?`, product, partition).Scan(&p.Log, &epoch, &seq)
	copy(p.Epoch[:], epoch)
	p.Seq = uint64(seq)
	return p, err
}

// Commit makes one step of a product durable: rows, states, place, and the
// output records of the changed rows. It gives the output log's new end, which
// is the position of the last row; row i of n has the position n-1-i before
// it. A step that doesn't follow the end, or doesn't start from the product's
// place, is refused with mesh.ErrMoved.
func (s *Store) Commit(ctx context.Context, st mesh.Step) (mesh.Position, error) {
	err := s.base.write(ctx, func(tx *sql.Tx) error {
		if st.After.Log != outLog(st.Product, st.Partition) {
			return fmt.Errorf("%s is not the log of product %s: %w", st.After.Log, st.Product, mesh.ErrMoved)
		}
		at, err := follow(ctx, tx, st.After, len(st.Rows))
		if err != nil {
			return err
		}
		place, err := readPlace(ctx, tx, st.Product, st.Partition)
		if err != nil {
			return err
		}
		if place != st.PlaceWas {
			return fmt.Errorf("start from %s where the place is %s: %w", st.PlaceWas, place, mesh.ErrMoved)
		}
		if err := putRows(ctx, tx, st, at); err != nil {
			return err
		}
		if err := putStates(ctx, tx, &st); err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, `UPDATE out_end SET place_log = ?, place_epoch = ?, place_seq = ?, progress = ?, watermark = ?, kept = kept + ?
			WHERE product = ? AND partition = ?`, string(st.Place.Log), st.Place.Epoch[:], int64(st.Place.Seq), int64(st.Progress), int64(st.Watermark), len(st.Rows), st.Product, st.Partition)
		if err != nil {
			return err
		}
		return prune(ctx, tx, st.Product, st.Partition, s.keep.Load())
	})
	if err != nil {
		return mesh.Position{}, fmt.Errorf("commit a step of %s: %w", st.Product, err)
	}
	s.out.ring()
	end := st.After
	end.Seq += uint64(len(st.Rows))
	return end, nil
}

// putRows makes rows the current ones and appends them to the output log
// behind at.
func putRows(ctx context.Context, tx *sql.Tx, step mesh.Step, at spot) (err error) {
	if len(step.Rows) == 0 {
		return nil
	}
	current, err := tx.PrepareContext(ctx, `INSERT INTO row (product, entity, key, t_from, t_to, state, revision, epoch, seq, produced, body)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
		ON CONFLICT (product, entity, key) DO UPDATE SET t_from = excluded.t_from, t_to = excluded.t_to, state = excluded.state,
			revision = excluded.revision, epoch = excluded.epoch, seq = excluded.seq, produced = excluded.produced, body = excluded.body`)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, current.Close()) }()
	output, err := tx.PrepareContext(ctx, `INSERT INTO out_log (product, partition, epoch, seq, entity, key, t_from, t_to, state, revision, produced, body)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, output.Close()) }()
	for i := range step.Rows {
		r, seq := &step.Rows[i], at.seq+int64(i)+1
		body := r.Body
		if body == nil {
			body = []byte{}
		}
		if _, err := current.ExecContext(ctx, step.Product, r.Entity, r.Key, int64(r.From), int64(r.To), r.State, r.Revision, at.epoch, seq, int64(r.Produced), body); err != nil {
			return fmt.Errorf("put row %s %s: %w", r.Entity, r.Key, err)
		}
		if _, err := output.ExecContext(ctx, step.Product, step.Partition, at.epoch, seq, r.Entity, r.Key, int64(r.From), int64(r.To), r.State, r.Revision, int64(r.Produced), body); err != nil {
			return fmt.Errorf("put output record %s %s: %w", r.Entity, r.Key, err)
		}
	}
	return nil
}

// putStates drops the cached states that don't hold any more, and writes others.
func putStates(ctx context.Context, tx *sql.Tx, step *mesh.Step) error {
	for _, gone := range step.Stale {
		_, err := tx.ExecContext(ctx, `DELETE FROM fold_state WHERE product = ? AND key = ? AND at >= ? AND at < ?`, step.Product, gone.Key, int64(gone.At.From), int64(gone.At.To))
		if err != nil {
			return fmt.Errorf("drop states of %s: %w", gone.Key, err)
		}
	}
	for _, f := range step.States {
		_, err := tx.ExecContext(ctx, `INSERT INTO fold_state (product, key, at, body) VALUES (?, ?, ?, ?)
			ON CONFLICT (product, key, at) DO UPDATE SET body = excluded.body`, step.Product, f.Key, int64(f.At), f.Bytes)
		if err != nil {
			return fmt.Errorf("put a state of %s: %w", f.Key, err)
		}
	}
	return nil
}

// State is the newest cached state of a key with At at or before before.
func (s *Store) State(ctx context.Context, product, key string, before mesh.Nanos) (f mesh.FoldState, ok bool, err error) {
	f.Key = key
	err = s.base.read(ctx, func(tx *sql.Tx) error {
		var at int64
		err := tx.QueryRowContext(ctx, `SELECT at, body FROM fold_state WHERE product = ? AND key = ? AND at <= ? ORDER BY at DESC LIMIT 1`, product, key, int64(before)).Scan(&at, &f.Bytes)
		if errors.Is(err, sql.ErrNoRows) {
			return nil
		}
		f.At, ok = mesh.Nanos(at), err == nil
		return err
	})
	if err != nil || !ok {
		if err != nil {
			err = fmt.Errorf("read a state of %s for %s: %w", key, product, err)
		}
		return mesh.FoldState{}, false, err
	}
	return f, true, nil
}

// States are the cached states of a key with At in span, oldest first.
func (s *Store) States(ctx context.Context, product, key string, span mesh.Span) (out []mesh.FoldState, err error) {
	err = s.base.read(ctx, func(tx *sql.Tx) (err error) {
		rows, err := tx.QueryContext(ctx, `SELECT at, body FROM fold_state WHERE product = ? AND key = ? AND at >= ? AND at < ? ORDER BY at`, product, key, int64(span.From), int64(span.To))
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, rows.Close()) }()
		for rows.Next() {
			f, at := mesh.FoldState{Key: key}, int64(0)
			if err := rows.Scan(&at, &f.Bytes); err != nil {
				return err
			}
			f.At = mesh.Nanos(at)
			out = append(out, f)
		}
		return rows.Err()
	})
	if err != nil {
		return nil, fmt.Errorf("read the states of %s for %s: %w", key, product, err)
	}
	return out, nil
}

// Progress is how far a product has come: known through progress, complete
// through watermark, having read the hub's log through place. A product that
// never ran is at zero.
func (s *Store) Progress(ctx context.Context, product string) (progress, watermark mesh.Nanos, place mesh.Position, err error) {
	err = s.base.read(ctx, func(tx *sql.Tx) error {
		var p, w int64
		err := tx.QueryRowContext(ctx, `SELECT progress, watermark FROM out_end WHERE product = ? AND partition = 0`, product).Scan(&p, &w)
		if errors.Is(err, sql.ErrNoRows) {
			return nil
		}
		if err != nil {
			return err
		}
		progress, watermark = mesh.Nanos(p), mesh.Nanos(w)
		place, err = readPlace(ctx, tx, product, 0)
		return err
	})
	if err != nil {
		return 0, 0, mesh.Position{}, fmt.Errorf("read the progress of %s: %w", product, err)
	}
	return progress, watermark, place, nil
}

// Out reads up to most output records of a product behind a position, in log
// order. A position the log doesn't know, or whose next record was pruned, is
// mesh.ErrGone: compare the rows then. The zero position reads from the oldest
// record kept.
func (s *Store) Out(ctx context.Context, product string, after mesh.Position, most int) (out []mesh.Row, err error) {
	err = s.base.read(ctx, func(tx *sql.Tx) error {
		at, err := find(ctx, tx, outLog(product, 0), after)
		if err != nil {
			return err
		}
		var pruned spot
		err = tx.QueryRowContext(ctx, `SELECT pruned_epoch, pruned_seq FROM out_end WHERE product = ? AND partition = 0`, product).Scan(&pruned.epoch, &pruned.seq)
		if err != nil && !errors.Is(err, sql.ErrNoRows) {
			return err
		}
		if !after.IsZero() && (at.epoch < pruned.epoch || at.epoch == pruned.epoch && at.seq < pruned.seq) {
			return fmt.Errorf("read behind %s: %w", after, mesh.ErrGone)
		}
		out, err = readRows(ctx, tx, product, `SELECT `+rowColumns+` FROM out_log r JOIN epoch e ON e.n = r.epoch
			WHERE r.product = ? AND r.partition = 0 AND (r.epoch, r.seq) > (?, ?) ORDER BY r.epoch, r.seq LIMIT ?`, product, at.epoch, at.seq, most)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read the output of %s: %w", product, err)
	}
	return out, nil
}

// prune drops the oldest output records when a quarter more than keep are
// there: seldom, and many at a time.
func prune(ctx context.Context, tx *sql.Tx, product string, partition int, keep int64) error {
	var kept int64
	err := tx.QueryRowContext(ctx, `SELECT kept FROM out_end WHERE product = ? AND partition = ?`, product, partition).Scan(&kept)
	if err != nil || kept <= keep+keep/4 {
		return err
	}
	var last spot
	err = tx.QueryRowContext(ctx, `SELECT epoch, seq FROM out_log WHERE product = ? AND partition = ? ORDER BY epoch, seq LIMIT 1 OFFSET ?`, product, partition, kept-keep-1).Scan(&last.epoch, &last.seq)
	if err != nil {
		return fmt.Errorf("find what to prune: %w", err)
	}
	r, err := tx.ExecContext(ctx, `DELETE FROM out_log WHERE product = ? AND partition = ? AND (epoch, seq) <= (?, ?)`, product, partition, last.epoch, last.seq)
	if err != nil {
		return fmt.Errorf("prune output records: %w", err)
	}
	gone, err := r.RowsAffected()
	if err != nil {
		return err
	}
	_, err = tx.ExecContext(ctx, `UPDATE out_end SET kept = kept - ?, pruned_epoch = ?, pruned_seq = ? WHERE product = ? AND partition = ?`, gone, last.epoch, last.seq, product, partition)
	return err
}
