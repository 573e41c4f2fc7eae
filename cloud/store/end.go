package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"plantmesh/proto/mesh"
)

// Tip is the end of a partition's log: what Compact may name as Through.
func (s *Store) Tip(ctx context.Context, partition int) (p mesh.Position, err error) {
	err = s.base.read(ctx, func(tx *sql.Tx) error {
		_, p, err = tip(ctx, tx, hubLog(partition))
		return err
	})
	if err != nil {
		return mesh.Position{}, fmt.Errorf("read the end of the hub's log %d: %w", partition, err)
	}
	return p, nil
}

// End is the position of the newest record in a product's output log; zero
// where none is kept.
func (s *Store) End(ctx context.Context, product string) (p mesh.Position, err error) {
	err = s.base.read(ctx, func(tx *sql.Tx) error {
		rows, err := readRows(ctx, tx, product, `SELECT `+rowColumns+` FROM out_log r JOIN epoch e ON e.n = r.epoch
			WHERE r.product = ? AND r.partition = 0 ORDER BY r.epoch DESC, r.seq DESC LIMIT 1`, product)
		if len(rows) > 0 {
			p = rows[0].At
		}
		return err
	})
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return mesh.Position{}, fmt.Errorf("read the end of %s: %w", product, err)
	}
	return p, nil
}
