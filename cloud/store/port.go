package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"plantmesh/proto/mesh"
)

// AckPort keeps how far a port has taken a product's output. A port publishes
// first and acknowledges then; the position makes a repeat harmless.
func (s *Store) AckPort(ctx context.Context, port, product string, at mesh.Position) error {
	err := s.base.write(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `INSERT INTO port_place (port, product, log, epoch, seq) VALUES (?, ?, ?, ?, ?)
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
		var (
			epoch []byte
			seq   int64
		)
		err := tx.QueryRowContext(ctx, `SELECT log, epoch, seq FROM port_place WHERE port = ? AND product = ?`, port, product).Scan(&p.Log, &epoch, &seq)
		if errors.Is(err, sql.ErrNoRows) {
			return nil
		}
		copy(p.Epoch[:], epoch)
		p.Seq = uint64(seq)
		return err
	})
	if err != nil {
		return mesh.Position{}, fmt.Errorf("read the place of port %s in %s: %w", port, product, err)
	}
	return p, nil
}
