package store

import (
	"context"
	"database/sql"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"plantmesh/proto/mesh"
)

// Sums are the checksums of the sealed bytes of those of these positions that
// were ever stored, whether their bytes still are or not. A position that is
// accounted for and has none was voided.
func (s *Store) Sums(ctx context.Context, of []mesh.Position) (map[mesh.Position]uint32, error) {
	out := make(map[mesh.Position]uint32, len(of))
	err := s.base.read(ctx, func(tx *sql.Tx) (err error) {
		st, err := tx.PrepareContext(ctx, `SELECT substr(sealed, -4) FROM hub_log
			WHERE of_log = (SELECT n FROM account WHERE log = ?) AND of_epoch = ? AND of_seq = ? AND of_log > 0`)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, st.Close()) }()
		gone := blocks{tx: tx, numbers: map[mesh.LogID]int64{}, held: map[blockKey][]sum{}}
		for _, p := range of {
			var crc []byte
			err := st.QueryRowContext(ctx, string(p.Log), p.Epoch[:], int64(p.Seq)).Scan(&crc)
			switch {
			case err == nil && len(crc) == 4:
				out[p] = binary.LittleEndian.Uint32(crc)
				continue
			case err != nil && !errors.Is(err, sql.ErrNoRows):
				return err
			}
			x, ok, err := gone.find(ctx, p)
			if err != nil {
				return err
			}
			if ok {
				out[p] = x.crc
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("look up %d positions: %w", len(of), err)
	}
	return out, nil
}

type blockKey struct {
	of    origin
	block int64
}

// blocks reads checksums of compacted records, each block once.
type blocks struct {
	tx      *sql.Tx
	numbers map[mesh.LogID]int64 // 0: no account
	held    map[blockKey][]sum
}

func (b *blocks) number(ctx context.Context, log mesh.LogID) (int64, error) {
	n, ok := b.numbers[log]
	if ok {
		return n, nil
	}
	err := b.tx.QueryRowContext(ctx, `SELECT n FROM account WHERE log = ?`, string(log)).Scan(&n)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return 0, err
	}
	b.numbers[log] = n
	return n, nil
}

func (b *blocks) find(ctx context.Context, p mesh.Position) (x sum, ok bool, err error) {
	n, err := b.number(ctx, p.Log)
	if err != nil || n == 0 {
		return x, false, err
	}
	key := blockKey{origin{n, p.Epoch}, int64(p.Seq / sumBlock)}
	all, held := b.held[key]
	if !held {
		if all, err = readSums(ctx, b.tx, key.of, key.block); err != nil {
			return x, false, err
		}
		b.held[key] = all
	}
	i, ok := slices.BinarySearchFunc(all, uint8(p.Seq%sumBlock), func(x sum, at uint8) int { return int(x.at) - int(at) })
	if ok {
		x = all[i]
	}
	return x, ok, nil
}

// Came are the batches that came of these positions of a log, in the order
// they came, without their bytes.
func (s *Store) Came(ctx context.Context, log mesh.LogID, lost []mesh.Range) (out []mesh.Entry, err error) {
	err = s.base.read(ctx, func(tx *sql.Tx) error {
		var n, partition int64
		err := tx.QueryRowContext(ctx, `SELECT n, partition FROM account WHERE log = ?`, string(log)).Scan(&n, &partition)
		if errors.Is(err, sql.ErrNoRows) {
			return nil
		}
		if err != nil {
			return err
		}
		for _, r := range lost {
			staged, err := readEntries(ctx, tx, `SELECT `+entryColumns+` WHERE h.of_log = ? AND h.of_log > 0 AND h.of_epoch = ?
				AND h.of_seq BETWEEN ? AND ? AND h.kind = 2`, n, r.Epoch[:], bounded(r.First), bounded(r.Last))
			if err != nil {
				return err
			}
			gone, err := cameBefore(ctx, tx, n, partition, r)
			if err != nil {
				return err
			}
			out = append(append(out, staged...), gone...)
		}
		for i := range out {
			out[i].Sealed = nil
		}
		out, err = inLogOrder(ctx, tx, out)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("look what came of %s: %w", log, err)
	}
	return out, nil
}

// bounded is a sequence as the tables hold it.
func bounded(seq uint64) int64 { return int64(min(seq, 1<<63-1)) }

// cameBefore are those of a range of positions whose bodies are gone.
func cameBefore(ctx context.Context, tx *sql.Tx, log, partition int64, r mesh.Range) (out []mesh.Entry, err error) {
	found, err := sumsOf(ctx, tx, log, r)
	if err != nil || len(found) == 0 {
		return nil, err
	}
	var (
		run   []past
		at    spot // the end of run
		names = nameLogs(tx)
	)
	for _, x := range found {
		i, ok := slices.BinarySearchFunc(run, x.seq, func(p past, seq int64) int { return int(p.seq - seq) })
		if !ok || at.epoch != x.epoch {
			var body []byte
			err := tx.QueryRowContext(ctx, `SELECT epoch, last, body FROM hub_past WHERE partition = ? AND epoch = ? AND last >= ? ORDER BY last LIMIT 1`, partition, x.epoch, x.seq).Scan(&at.epoch, &at.seq, &body)
			if err != nil {
				return nil, fmt.Errorf("find what came at %d of epoch %d: %w", x.seq, x.epoch, errPast)
			}
			if run, err = decodeRun(body); err != nil {
				return nil, mesh.Permanent(err)
			}
			if i, ok = slices.BinarySearchFunc(run, x.seq, func(p past, seq int64) int { return int(p.seq - seq) }); !ok {
				return nil, mesh.Permanent(errPast)
			}
		}
		e, err := names.entry(ctx, &run[i])
		if err != nil {
			return nil, err
		}
		var log string
		var epoch []byte
		if err := tx.QueryRowContext(ctx, `SELECT log, epoch FROM epoch WHERE n = ?`, x.epoch).Scan(&log, &epoch); err != nil {
			return nil, err
		}
		e.At = mesh.Position{Log: mesh.LogID(log), Seq: uint64(x.seq)}
		copy(e.At.Epoch[:], epoch)
		out = append(out, e)
	}
	return out, nil
}

// sumsOf are the checksums of a range of positions, in the hub's order.
func sumsOf(ctx context.Context, tx *sql.Tx, log int64, r mesh.Range) (found []sum, err error) {
	rows, err := tx.QueryContext(ctx, `SELECT block, body FROM hub_sum WHERE of_log = ? AND of_epoch = ? AND block BETWEEN ? AND ?`,
		log, r.Epoch[:], bounded(r.First)/sumBlock, bounded(r.Last)/sumBlock)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		var (
			block int64
			body  []byte
		)
		if err := rows.Scan(&block, &body); err != nil {
			return nil, err
		}
		all, err := decodeSums(body)
		if err != nil {
			return nil, mesh.Permanent(err)
		}
		for _, x := range all {
			if seq := uint64(block)*sumBlock + uint64(x.at); r.First <= seq && seq <= r.Last {
				found = append(found, x)
			}
		}
	}
	slices.SortFunc(found, func(a, b sum) int {
		if a.epoch != b.epoch {
			return int(a.epoch - b.epoch)
		}
		return int(a.seq - b.seq)
	})
	return found, rows.Err()
}

// crcOf is the checksum at the end of sealed bytes.
func crcOf(sealed []byte) uint32 { return binary.LittleEndian.Uint32(sealed[len(sealed)-4:]) }
