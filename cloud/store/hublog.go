package store

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"

	"plantmesh/proto/fault"
	"plantmesh/proto/mesh"
	"plantmesh/proto/wire"
)

// OpenLog begins a new epoch of a partition's log with its opening. Whoever
// had it open before is refused from now on with mesh.ErrMoved.
func (s *Store) OpenLog(ctx context.Context, partition int) (mesh.Opened, error) {
	o := mesh.Opened{Accounts: map[mesh.LogID]*mesh.Account{}}
	err := s.base.write(ctx, func(tx *sql.Tx) error {
		_, parent, err := tip(ctx, tx, hubLog(partition))
		if err != nil {
			return err
		}
		if o.Before, err = epochs(ctx, tx, hubLog(partition)); err != nil {
			return err
		}
		at, end, err := beginEpoch(ctx, tx, hubLog(partition))
		if err != nil {
			return err
		}
		o.End = end
		_, err = tx.ExecContext(ctx, `INSERT INTO hub_end (partition, epoch, stream, stream_seq) VALUES (?, ?, '', 0)
			ON CONFLICT (partition) DO UPDATE SET epoch = excluded.epoch`, partition, at.epoch)
		if err != nil {
			return err
		}
		sealed, err := wire.SealOpening(mesh.Opening{Parent: parent})
		if err != nil {
			return err
		}
		at.seq--
		if err := putEntries(ctx, tx, partition, at, []mesh.Entry{{Header: mesh.Header{Kind: mesh.KindOpening}, Sealed: sealed}}); err != nil {
			return err
		}
		var seq int64
		if err := tx.QueryRowContext(ctx, `SELECT stream, stream_seq FROM hub_end WHERE partition = ?`, partition).Scan(&o.Place.Stream, &seq); err != nil {
			return err
		}
		o.Place.Seq = uint64(seq)
		return readAccounts(ctx, tx, partition, o.Accounts)
	})
	if err != nil {
		return mesh.Opened{}, fmt.Errorf("open the hub's log %d: %w", partition, err)
	}
	s.log.InfoContext(ctx, "hub log opened", "partition", partition, "end", o.End.String(), "logs", len(o.Accounts), "place", o.Place.Seq)
	s.hub.ring()
	return o, nil
}

// Take puts entries at the end of the partition's log, with the accounts,
// descriptors and place they came with, and gives the log's new end. It is
// refused with mesh.ErrMoved if t.After is not the end. A Take without entries
// moves the place and leaves the end where it is.
func (s *Store) Take(ctx context.Context, t mesh.Take) (mesh.Position, error) {
	err := s.base.write(ctx, func(tx *sql.Tx) error {
		if t.After.Log != hubLog(t.Partition) {
			return fmt.Errorf("%s is not the log of partition %d: %w", t.After.Log, t.Partition, mesh.ErrMoved)
		}
		at, err := follow(ctx, tx, t.After, len(t.Entries))
		if err != nil {
			return err
		}
		if err := putAccounts(ctx, tx, t.Partition, t.Accounts); err != nil {
			return err
		}
		if err := putEntries(ctx, tx, t.Partition, at, t.Entries); err != nil {
			return err
		}
		fault.Point("hub.t1.partial")
		for _, d := range t.Descriptors {
			h := d.Hash()
			if _, err := tx.ExecContext(ctx, `INSERT OR IGNORE INTO descriptor (hash, kind, content) VALUES (?, ?, ?)`, h[:], d.Kind, d.Content); err != nil {
				return err
			}
		}
		_, err = tx.ExecContext(ctx, `UPDATE hub_end SET stream = ?, stream_seq = ? WHERE partition = ?`, t.Place.Stream, int64(t.Place.Seq), t.Partition)
		return err
	})
	if err != nil {
		return mesh.Position{}, fmt.Errorf("take %d records: %w", len(t.Entries), err)
	}
	end := t.After
	end.Seq += uint64(len(t.Entries))
	if len(t.Entries) > 0 {
		s.hub.ring()
	}
	return end, nil
}

// putEntries writes entries behind at.
func putEntries(ctx context.Context, tx *sql.Tx, partition int, at spot, entries []mesh.Entry) error {
	if len(entries) == 0 {
		return nil
	}
	st, err := tx.PrepareContext(ctx, `INSERT INTO hub_log
		(partition, epoch, seq, of_log, of_epoch, of_seq, ord, through, kind, source, t_from, t_to, reach, sealed, verdict)
		VALUES (?, ?, ?, CASE WHEN ? = '' THEN 0 ELSE (SELECT n FROM account WHERE log = ?) END, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`)
	if err != nil {
		return err
	}
	for i := range entries {
		e := &entries[i]
		var verdict, epoch []byte
		if e.Verdict != nil {
			if verdict, err = wire.SealVerdict(e.Header.About, *e.Verdict); err != nil {
				return errors.Join(err, st.Close())
			}
		}
		if !e.Of.IsZero() {
			epoch = e.Of.Epoch[:]
		}
		log := string(e.Of.Log)
		_, err = st.ExecContext(ctx, partition, at.epoch, at.seq+int64(i)+1, log, log, epoch, int64(e.Of.Seq), int64(e.Ord), int64(e.Through),
			e.Header.Kind, e.Header.About, int64(e.Header.Times.From), int64(e.Header.Times.To), reachOf(e.Header.Times), e.Sealed, verdict)
		if err != nil {
			return errors.Join(fmt.Errorf("put %s: %w", e.Of, err), st.Close())
		}
	}
	return st.Close()
}

const entryColumns = `e.log, e.epoch, h.seq, coalesce(a.log, ''), h.of_epoch, h.of_seq, h.ord, h.through, h.kind, h.source, h.t_from, h.t_to, h.sealed, h.verdict
	FROM hub_log h JOIN epoch e ON e.n = h.epoch LEFT JOIN account a ON a.n = h.of_log`

// Peek reads up to most entries behind a position, in log order; the zero
// position reads from the start. A position the log doesn't know is
// mesh.ErrGone. It doesn't wait: see Changed. A batch that was compacted has
// its header and no sealed bytes: its samples are History's.
func (s *Store) Peek(ctx context.Context, partition int, after mesh.Position, most int) (out []mesh.Entry, err error) {
	err = s.base.read(ctx, func(tx *sql.Tx) error {
		at, err := find(ctx, tx, hubLog(partition), after)
		if err != nil {
			return err
		}
		out, err = readEntries(ctx, tx, `SELECT `+entryColumns+` WHERE h.partition = ? AND (h.epoch, h.seq) > (?, ?)
			ORDER BY h.epoch, h.seq LIMIT ?`, partition, at.epoch, at.seq, most)
		if err != nil {
			return err
		}
		gone, err := readPast(ctx, tx, partition, at, most)
		if err != nil || len(gone) == 0 {
			return err
		}
		out, err = inLogOrder(ctx, tx, append(out, gone...))
		out = out[:min(most, len(out))]
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("peek behind %s: %w", after, err)
	}
	return out, nil
}

// inLogOrder sorts entries of one partition by where they stand.
func inLogOrder(ctx context.Context, tx *sql.Tx, entries []mesh.Entry) ([]mesh.Entry, error) {
	number := map[mesh.Epoch]int64{}
	for i := range entries {
		e := entries[i].At.Epoch
		if _, ok := number[e]; ok {
			continue
		}
		var n int64
		if err := tx.QueryRowContext(ctx, `SELECT n FROM epoch WHERE epoch = ?`, e[:]).Scan(&n); err != nil {
			return nil, err
		}
		number[e] = n
	}
	slices.SortFunc(entries, func(a, b mesh.Entry) int {
		return cmp.Or(cmp.Compare(number[a.At.Epoch], number[b.At.Epoch]), cmp.Compare(a.At.Seq, b.At.Seq))
	})
	return entries, nil
}

// Facts are the facts a hub recorded itself, in log order: they are few.
func (s *Store) Facts(ctx context.Context, partition int) (out []mesh.Entry, err error) {
	err = s.base.read(ctx, func(tx *sql.Tx) error {
		out, err = readEntries(ctx, tx, `SELECT `+entryColumns+` WHERE h.kind = 5 AND h.of_log = 0 AND h.partition = ?
			ORDER BY h.epoch, h.seq`, partition)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read the hub's facts: %w", err)
	}
	return out, nil
}

func readEntries(ctx context.Context, tx *sql.Tx, query string, args ...any) (out []mesh.Entry, err error) {
	err = eachEntry(ctx, tx, func(e mesh.Entry) error {
		out = append(out, e)
		return nil
	}, query, args...)
	return out, err
}

// eachEntry reads entries one by one, so that no more than one is held.
func eachEntry(ctx context.Context, tx *sql.Tx, do func(mesh.Entry) error, query string, args ...any) (err error) {
	rows, err := tx.QueryContext(ctx, query, args...)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		var (
			e                        mesh.Entry
			said                     mesh.Header
			epoch, ofEpoch, verdict  []byte
			seq, ofSeq, ord, through int64
		)
		if err := rows.Scan(&e.At.Log, &epoch, &seq, &e.Of.Log, &ofEpoch, &ofSeq, &ord, &through, &said.Kind, &said.About, &said.Times.From, &said.Times.To, &e.Sealed, &verdict); err != nil {
			return err
		}
		copy(e.At.Epoch[:], epoch)
		copy(e.Of.Epoch[:], ofEpoch)
		e.At.Seq, e.Of.Seq, e.Ord, e.Through = uint64(seq), uint64(ofSeq), mesh.Ordinal(ord), mesh.Ordinal(through)
		openEntry(&e, said, verdict)
		if err := do(e); err != nil {
			return err
		}
	}
	return rows.Err()
}

// openEntry reads an entry's header and verdict. One damaged record must not
// hold up all that reads the log: it has what its row says of it, and bytes that
// can't be opened, so that whoever opens them calls it damaged. One whose verdict
// is damaged too: without it, what rules set aside would count.
func openEntry(e *mesh.Entry, said mesh.Header, verdict []byte) {
	var err error
	if e.Header, err = wire.ParseHeader(e.Sealed); err != nil {
		said.Count = 1 // not known; with none nobody would look
		e.Header, e.Sealed = said, unreadable()
		return
	}
	if verdict == nil {
		return
	}
	v, err := wire.OpenVerdict(verdict)
	if err != nil {
		e.Sealed = unreadable()
		return
	}
	e.Verdict = &v
}

// unreadable are no sealed bytes; an entry without any is compacted.
func unreadable() []byte { return []byte{0} }

// Descriptor is the descriptor of this name; ok is false where none is stored.
func (s *Store) Descriptor(ctx context.Context, h mesh.Hash) (d mesh.Descriptor, ok bool, err error) {
	err = s.base.read(ctx, func(tx *sql.Tx) error {
		err := tx.QueryRowContext(ctx, `SELECT kind, content FROM descriptor WHERE hash = ?`, h[:]).Scan(&d.Kind, &d.Content)
		if errors.Is(err, sql.ErrNoRows) {
			return nil
		}
		ok = err == nil
		return err
	})
	if err != nil {
		return mesh.Descriptor{}, false, fmt.Errorf("read descriptor %s: %w", h, err)
	}
	return d, ok, nil
}
