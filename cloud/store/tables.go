package store

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"slices"

	"plantmesh/proto/mesh"
)

// Tables are the signal tables, by source, of all that may hold samples of a
// span: of sources the site has no more too.
func (s *Store) Tables(ctx context.Context, span mesh.Span) (map[string][]mesh.Hash, error) {
	var err error
	for range historyTries {
		found := tables{}
		if err = s.tables(ctx, span, found); err == nil {
			out := map[string][]mesh.Hash{}
			for source, of := range found {
				out[source] = slices.SortedFunc(maps.Keys(of), func(a, b mesh.Hash) int { return bytes.Compare(a[:], b[:]) })
			}
			return out, nil
		}
		if !moved(err) {
			break
		}
	}
	return nil, fmt.Errorf("read what has samples: %w", err)
}

type tables map[string]map[mesh.Hash]struct{}

func (t tables) add(source string, table mesh.Hash) {
	if t[source] == nil {
		t[source] = map[mesh.Hash]struct{}{}
	}
	t[source][table] = struct{}{}
}

func (s *Store) tables(ctx context.Context, span mesh.Span, found tables) error {
	var days map[int64]dayStat
	err := s.base.read(ctx, func(tx *sql.Tx) (err error) {
		if days, err = daysIn(ctx, tx, span); err != nil {
			return err
		}
		return found.staged(ctx, tx, span)
	})
	if err != nil {
		return err
	}
	for _, day := range slices.Sorted(maps.Keys(days)) {
		if err := s.tablesOf(ctx, day, found); err != nil {
			return err
		}
	}
	return nil
}

// staged looks at the headers of batches.
func (t tables) staged(ctx context.Context, tx *sql.Tx, span mesh.Span) error {
	sources, err := readStrings(ctx, tx, stagedSources)
	if err != nil {
		return err
	}
	for _, source := range sources {
		ids, args := stagedIn(source, span)
		err := eachEntry(ctx, tx, func(e mesh.Entry) error {
			if len(e.Header.Needs) == 1 {
				t.add(source, e.Header.Needs[0])
			}
			return nil
		}, `SELECT `+entryColumns+` WHERE h.id IN (`+ids+`)`, args...)
		if err != nil {
			return err
		}
	}
	return nil
}

// stagedSources jumps from source to source along the index of times.
const stagedSources = `WITH RECURSIVE t(s) AS (
		SELECT min(source) FROM hub_log WHERE kind = 2 AND t_to > t_from
		UNION ALL SELECT (SELECT min(source) FROM hub_log WHERE kind = 2 AND t_to > t_from AND source > t.s) FROM t WHERE t.s IS NOT NULL)
	SELECT s FROM t WHERE s IS NOT NULL`

func readStrings(ctx context.Context, tx *sql.Tx, query string) (out []string, err error) {
	rows, err := tx.QueryContext(ctx, query)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		var s string
		if err := rows.Scan(&s); err != nil {
			return nil, err
		}
		out = append(out, s)
	}
	return out, rows.Err()
}

// tablesOf looks at what the chunks of a day have in common.
func (s *Store) tablesOf(ctx context.Context, day int64, found tables) (err error) {
	db, err := s.openDay(ctx, day)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	rows, err := db.QueryContext(ctx, `SELECT DISTINCT source, signals FROM kind`)
	if err != nil {
		return fmt.Errorf("read %s: %w", s.dayFile(day), plain(err))
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		var (
			source string
			hash   []byte
			table  mesh.Hash
		)
		if err := rows.Scan(&source, &hash); err != nil {
			return fmt.Errorf("read %s: %w", s.dayFile(day), plain(err))
		}
		copy(table[:], hash)
		found.add(source, table)
	}
	return plain(rows.Err())
}
