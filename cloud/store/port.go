package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"plantmesh/proto/mesh"
)

// AckPort keeps how far a port has taken a product's output, if the place it
// started from is still the one that is kept: else another writes for that port,
// or the database went back under it, and it is refused with mesh.ErrMoved. A
// port publishes first and acknowledges then; the position makes a repeat
// harmless.
func (s *Store) AckPort(ctx context.Context, port, product string, was, at mesh.Position) error {
	err := s.base.write(ctx, func(tx *sql.Tx) error {
		is, err := portPlace(ctx, tx, port, product)
		if err != nil {
			return err
		}
		if is != was {
			return fmt.Errorf("move the place from %s where it is %s: %w", was, is, mesh.ErrMoved)
		}
		_, err = tx.ExecContext(ctx, `INSERT INTO port_place (port, product, log, epoch, seq) VALUES (?, ?, ?, ?, ?)
			ON CONFLICT (port, product) DO UPDATE SET log = excluded.log, epoch = excluded.epoch, seq = excluded.seq`,
			port, product, string(at.Log), at.Epoch[:], int64(at.Seq))
		return err
	})
	if err != nil {
		return fmt.Errorf("keep the place of port %s in %s: %w", port, product, err)
	}
	return nil
}

// PortPlace is what AckPort kept; zero where it kept nothing.
func (s *Store) PortPlace(ctx context.Context, port, product string) (p mesh.Position, err error) {
	err = s.base.read(ctx, func(tx *sql.Tx) error {
		p, err = portPlace(ctx, tx, port, product)
		return err
	})
	if err != nil {
		return mesh.Position{}, fmt.Errorf("read the place of port %s in %s: %w", port, product, err)
	}
	return p, nil
}

func portPlace(ctx context.Context, tx *sql.Tx, port, product string) (p mesh.Position, err error) {
	var (
		epoch []byte
		seq   int64
	)
	err = tx.QueryRowContext(ctx, `SELECT log, epoch, seq FROM port_place WHERE port = ? AND product = ?`, port, product).Scan(&p.Log, &epoch, &seq)
	if errors.Is(err, sql.ErrNoRows) {
		return mesh.Position{}, nil
	}
	copy(p.Epoch[:], epoch)
	p.Seq = uint64(seq)
	return p, err
}
