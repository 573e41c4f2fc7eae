package store

import (
	"context"
	"database/sql"
	"encoding/binary"
	"errors"
	"fmt"

	"plantmesh/proto/mesh"
)

// Account is what the hub has accounted for of a log; ok is false where
// nothing of it ever came.
func (s *Store) Account(ctx context.Context, log mesh.LogID) (a *mesh.Account, ok bool, err error) {
	err = s.base.read(ctx, func(tx *sql.Tx) error {
		var body []byte
		err := tx.QueryRowContext(ctx, `SELECT body FROM account WHERE log = ?`, string(log)).Scan(&body)
		if errors.Is(err, sql.ErrNoRows) {
			return nil
		}
		if err == nil {
			a, err = decodeAccount(log, body)
		}
		ok = err == nil
		return err
	})
	if err != nil {
		return nil, false, fmt.Errorf("read the account of %s: %w", log, err)
	}
	return a, ok, nil
}

func putAccounts(ctx context.Context, tx *sql.Tx, partition int, accounts []*mesh.Account) error {
	for _, a := range accounts {
		_, err := tx.ExecContext(ctx, `INSERT INTO account (log, partition, body) VALUES (?, ?, ?)
			ON CONFLICT (log) DO UPDATE SET body = excluded.body`, string(a.Log), partition, encodeAccount(a))
		if err != nil {
			return fmt.Errorf("put the account of %s: %w", a.Log, err)
		}
	}
	return nil
}

func readAccounts(ctx context.Context, tx *sql.Tx, partition int, into map[mesh.LogID]*mesh.Account) (err error) {
	rows, err := tx.QueryContext(ctx, `SELECT log, body FROM account WHERE partition = ?`, partition)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		var (
			log  mesh.LogID
			body []byte
		)
		if err := rows.Scan(&log, &body); err != nil {
			return err
		}
		if into[log], err = decodeAccount(log, body); err != nil {
			return err
		}
	}
	return rows.Err()
}

// accountVersion is the first byte of a stored account.
const accountVersion = 1

// errAccount says that a stored account is not one.
var errAccount = errors.New("a stored account is damaged")

// encodeAccount writes: version, chain (epoch, parent epoch, parent sequence,
// end), through (epoch, sequence), islands (epoch, first, last). The positions
// are all of the account's own log, whose name is the row's key.
func encodeAccount(a *mesh.Account) []byte {
	b := []byte{accountVersion}
	b = binary.AppendUvarint(b, uint64(len(a.Chain)))
	for _, l := range a.Chain {
		b = append(b, l.Epoch[:]...)
		b = append(b, l.Parent.Epoch[:]...)
		b = binary.AppendUvarint(b, l.Parent.Seq)
		b = binary.AppendUvarint(b, l.End)
	}
	b = append(b, a.Set.Through.Epoch[:]...)
	b = binary.AppendUvarint(b, a.Set.Through.Seq)
	b = binary.AppendUvarint(b, uint64(len(a.Set.Islands)))
	for _, r := range a.Set.Islands {
		b = append(b, r.Epoch[:]...)
		b = binary.AppendUvarint(b, r.First)
		b = binary.AppendUvarint(b, r.Last)
	}
	return b
}

func decodeAccount(log mesh.LogID, b []byte) (*mesh.Account, error) {
	if len(b) == 0 || b[0] != accountVersion {
		return nil, fmt.Errorf("read the account of %s: %w", log, errAccount)
	}
	r := cursor{b: b[1:]}
	a := &mesh.Account{Log: log}
	for range r.count() {
		l := mesh.Link{Epoch: r.epoch(), Parent: mesh.Position{Epoch: r.epoch(), Seq: r.uvarint()}, End: r.uvarint()}
		if !l.Parent.IsZero() {
			l.Parent.Log = log
		}
		a.Chain = append(a.Chain, l)
	}
	if a.Set.Through = (mesh.Position{Epoch: r.epoch(), Seq: r.uvarint()}); !a.Set.Through.IsZero() {
		a.Set.Through.Log = log
	}
	for range r.count() {
		a.Set.Islands = append(a.Set.Islands, mesh.Range{Epoch: r.epoch(), First: r.uvarint(), Last: r.uvarint()})
	}
	if r.bad || len(r.b) > 0 {
		return nil, fmt.Errorf("read the account of %s: %w", log, errAccount)
	}
	return a, nil
}

// cursor reads what encodeAccount wrote.
type cursor struct {
	b   []byte
	bad bool
}

func (c *cursor) uvarint() uint64 {
	v, n := binary.Uvarint(c.b)
	if n <= 0 {
		c.bad, c.b = true, nil
		return 0
	}
	c.b = c.b[n:]
	return v
}

// count is a number of items of at least one byte each.
func (c *cursor) count() int {
	n := c.uvarint()
	if n > uint64(len(c.b)) {
		c.bad, c.b = true, nil
		return 0
	}
	return int(n)
}

func (c *cursor) epoch() (e mesh.Epoch) {
	if len(c.b) < len(e) {
		c.bad, c.b = true, nil
		return e
	}
	c.b = c.b[copy(e[:], c.b):]
	return e
}
