package store

import (
	"context"
	"database/sql"
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"
	"strings"

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

// Batches differ in length from a second to a day. To find those that meet a
// span by an index on where they begin, they are sorted into classes: one of
// class r is shorter than 16^(r+1) ms, so it begins at most that long before
// what it meets.
const (
	reachBits = 4
	reaches   = 11 // 16^11 ms are 557 years: more than an int64 of nanoseconds holds
	reachUnit = int64(1e6)
)

func reachOf(s mesh.Span) int {
	return min(bits.Len64(uint64(int64(s.Duration())/reachUnit))/reachBits, reaches-1)
}

// reachLen is more than any length of class r, in nanoseconds.
func reachLen(r int) int64 {
	if b := (r + 1) * reachBits; b < 43 {
		return reachUnit << b
	}
	return 1<<63 - 1
}

const entryColumns = `e.log, e.epoch, h.seq, coalesce(a.log, ''), h.of_epoch, h.of_seq, h.ord, h.through, h.sealed, h.verdict
	FROM hub_log h JOIN epoch e ON e.n = h.epoch LEFT JOIN account a ON a.n = h.of_log`

// Peek reads up to most entries behind a position, in log order; the zero
// position reads from the start. A position the log doesn't know is
// mesh.ErrGone. It doesn't wait: see Changed.
func (s *Store) Peek(ctx context.Context, partition int, after mesh.Position, most int) (out []mesh.Entry, err error) {
	err = s.base.read(ctx, func(tx *sql.Tx) error {
		at, err := find(ctx, tx, hubLog(partition), after)
		if err != nil {
			return err
		}
		out, err = readEntries(ctx, tx, `SELECT `+entryColumns+` WHERE h.partition = ? AND (h.epoch, h.seq) > (?, ?)
			ORDER BY h.epoch, h.seq LIMIT ?`, partition, at.epoch, at.seq, most)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("peek behind %s: %w", after, err)
	}
	return out, nil
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

// History reads the batches of a source that hold samples of span, in the
// order they were taken.
func (s *Store) History(ctx context.Context, source string, span mesh.Span) (out []mesh.Entry, err error) {
	err = s.base.read(ctx, func(tx *sql.Tx) error {
		parts, args := make([]string, 0, reaches), make([]any, 0, 5*reaches)
		for r := range reaches {
			parts = append(parts, `SELECT id FROM hub_log WHERE source = ? AND reach = ? AND kind = 2 AND t_to > t_from AND t_from > ? AND t_from < ? AND t_to > ?`)
			from := int64(span.From)
			if l := reachLen(r); from >= -1<<63+l {
				from -= l
			} else {
				from = -1 << 63
			}
			args = append(args, source, r, from, int64(span.To), int64(span.From))
		}
		var err error
		out, err = readEntries(ctx, tx, `SELECT `+entryColumns+` WHERE h.id IN (`+strings.Join(parts, " UNION ALL ")+`) ORDER BY h.id`, args...)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read the history of %s: %w", source, err)
	}
	return out, nil
}

func readEntries(ctx context.Context, tx *sql.Tx, query string, args ...any) (out []mesh.Entry, err error) {
	rows, err := tx.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		var (
			e                        mesh.Entry
			epoch, ofEpoch, verdict  []byte
			seq, ofSeq, ord, through int64
		)
		if err := rows.Scan(&e.At.Log, &epoch, &seq, &e.Of.Log, &ofEpoch, &ofSeq, &ord, &through, &e.Sealed, &verdict); err != nil {
			return nil, err
		}
		copy(e.At.Epoch[:], epoch)
		copy(e.Of.Epoch[:], ofEpoch)
		e.At.Seq, e.Of.Seq, e.Ord, e.Through = uint64(seq), uint64(ofSeq), mesh.Ordinal(ord), mesh.Ordinal(through)
		if e.Header, err = wire.ParseHeader(e.Sealed); err != nil {
			return nil, fmt.Errorf("read %s: %w", e.At, mesh.Permanent(err))
		}
		if verdict != nil {
			v, err := wire.OpenVerdict(verdict)
			if err != nil {
				return nil, fmt.Errorf("read the verdict of %s: %w", e.At, mesh.Permanent(err))
			}
			e.Verdict = &v
		}
		out = append(out, e)
	}
	return out, rows.Err()
}

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

// Sums are the checksums of the sealed bytes of those of these positions whose
// bytes are stored. A position that is accounted for and has none was voided.
func (s *Store) Sums(ctx context.Context, of []mesh.Position) (map[mesh.Position]uint32, error) {
	out := make(map[mesh.Position]uint32, len(of))
	err := s.base.read(ctx, func(tx *sql.Tx) (err error) {
		st, err := tx.PrepareContext(ctx, `SELECT substr(sealed, -4) FROM hub_log
			WHERE of_log = (SELECT n FROM account WHERE log = ?) AND of_epoch = ? AND of_seq = ? AND of_log > 0`)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, st.Close()) }()
		for _, p := range of {
			var sum []byte
			err := st.QueryRowContext(ctx, string(p.Log), p.Epoch[:], int64(p.Seq)).Scan(&sum)
			if errors.Is(err, sql.ErrNoRows) {
				continue
			}
			if err != nil {
				return err
			}
			if len(sum) == 4 {
				out[p] = binary.LittleEndian.Uint32(sum)
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("look up %d positions: %w", len(of), err)
	}
	return out, nil
}
