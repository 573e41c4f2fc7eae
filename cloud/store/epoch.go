package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"plantmesh/proto/mesh"
)

// spot is a position as the tables hold it.
type spot struct {
	epoch int64 // epoch.n
	seq   int64
}

// beginEpoch makes a new epoch of a log, with its first record already given.
func beginEpoch(ctx context.Context, tx *sql.Tx, log mesh.LogID) (spot, mesh.Position, error) {
	e := mesh.NewEpoch()
	r, err := tx.ExecContext(ctx, `INSERT INTO epoch (log, epoch, last) VALUES (?, ?, 1)`, string(log), e[:])
	if err != nil {
		return spot{}, mesh.Position{}, err
	}
	n, err := r.LastInsertId()
	return spot{n, 1}, mesh.Position{Log: log, Epoch: e, Seq: 1}, err
}

// tip is the end of a log; zero where it was never opened.
func tip(ctx context.Context, tx *sql.Tx, log mesh.LogID) (spot, mesh.Position, error) {
	var (
		at   spot
		raw  []byte
		p    = mesh.Position{Log: log}
		scan = tx.QueryRowContext(ctx, `SELECT n, epoch, last FROM epoch WHERE log = ? ORDER BY n DESC LIMIT 1`, string(log))
	)
	switch err := scan.Scan(&at.epoch, &raw, &at.seq); {
	case errors.Is(err, sql.ErrNoRows):
		return spot{}, mesh.Position{}, nil
	case err != nil:
		return spot{}, mesh.Position{}, err
	}
	copy(p.Epoch[:], raw)
	p.Seq = uint64(at.seq)
	return at, p, nil
}

// epochs are the newest of a log, the newest last.
func epochs(ctx context.Context, tx *sql.Tx, log mesh.LogID) (out []mesh.Epoch, err error) {
	rows, err := tx.QueryContext(ctx, `SELECT epoch FROM (SELECT n, epoch FROM epoch WHERE log = ? ORDER BY n DESC LIMIT ?) ORDER BY n`, string(log), mesh.MaxBefore)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		var raw []byte
		if err := rows.Scan(&raw); err != nil {
			return nil, err
		}
		var e mesh.Epoch
		copy(e[:], raw)
		out = append(out, e)
	}
	return out, rows.Err()
}

// follow refuses an append that doesn't follow the end of its log, and moves
// the end by n records.
func follow(ctx context.Context, tx *sql.Tx, after mesh.Position, n int) (spot, error) {
	at, end, err := tip(ctx, tx, after.Log)
	if err != nil {
		return spot{}, err
	}
	if end != after || end.IsZero() {
		return spot{}, fmt.Errorf("append after %s where the end is %s: %w", after, end, mesh.ErrMoved)
	}
	if n > 0 {
		_, err = tx.ExecContext(ctx, `UPDATE epoch SET last = last + ? WHERE n = ?`, n, at.epoch)
	}
	return at, err
}

// find is where a position of a log stands. The zero position stands before
// everything; one whose epoch or sequence the log doesn't know is mesh.ErrGone.
func find(ctx context.Context, tx *sql.Tx, log mesh.LogID, p mesh.Position) (spot, error) {
	if p.IsZero() {
		return spot{}, nil
	}
	var at spot
	err := tx.QueryRowContext(ctx, `SELECT n, last FROM epoch WHERE epoch = ? AND log = ?`, p.Epoch[:], string(log)).Scan(&at.epoch, &at.seq)
	switch {
	case errors.Is(err, sql.ErrNoRows) || err == nil && uint64(at.seq) < p.Seq:
		return spot{}, fmt.Errorf("find %s in %s: %w", p, log, mesh.ErrGone)
	case err != nil:
		return spot{}, err
	}
	return spot{at.epoch, int64(p.Seq)}, nil
}
