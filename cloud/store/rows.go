package store

import (
	"context"
	"database/sql"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"plantmesh/proto/mesh"
)

// ErrCursor is returned for a cursor that Rows never gave.
var ErrCursor = errors.New("the cursor is not one of this product")

// defaultLimit is the length of a page of rows where the query names none.
const defaultLimit = 1000

const rowColumns = `r.entity, r.key, r.t_from, r.t_to, r.state, r.revision, e.log, e.epoch, r.seq, r.produced, r.body`

func readRows(ctx context.Context, tx *sql.Tx, product, query string, args ...any) (out []mesh.Row, err error) {
	rows, err := tx.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		var (
			r                       = mesh.Row{Product: product}
			from, to, seq, produced int64
			epoch                   []byte
		)
		if err := rows.Scan(&r.Entity, &r.Key, &from, &to, &r.State, &r.Revision, &r.At.Log, &epoch, &seq, &produced, &r.Body); err != nil {
			return nil, err
		}
		copy(r.At.Epoch[:], epoch)
		r.From, r.To, r.At.Seq, r.Produced = mesh.Nanos(from), mesh.Nanos(to), uint64(seq), mesh.Nanos(produced)
		out = append(out, r)
	}
	return out, rows.Err()
}

// rowCursor is the row a page ended with.
type rowCursor struct {
	Entity string     `json:"e"`
	From   mesh.Nanos `json:"f"`
	Key    string     `json:"k"`
}

func (c rowCursor) String() string {
	b, err := json.Marshal(c)
	if err != nil {
		return "" // two strings and a number always marshal
	}
	return base64.RawURLEncoding.EncodeToString(b)
}

func parseCursor(s string) (*rowCursor, error) {
	if s == "" {
		return nil, nil //nolint:nilnil // no cursor is the start, not an error
	}
	b, err := base64.RawURLEncoding.DecodeString(s)
	if err != nil {
		return nil, ErrCursor
	}
	var c rowCursor
	if err := json.Unmarshal(b, &c); err != nil {
		return nil, ErrCursor
	}
	return &c, nil
}

// Rows reads current rows in (entity, from, key) order. next is the cursor of
// the following page; empty at the end.
func (s *Store) Rows(ctx context.Context, q mesh.RowQuery) (rows []mesh.Row, next string, err error) {
	after, err := parseCursor(q.After)
	if err != nil {
		return nil, "", err
	}
	limit := q.Limit
	if limit <= 0 {
		limit = defaultLimit
	}
	err = s.base.read(ctx, func(tx *sql.Tx) error {
		if len(q.Entities) == 0 {
			rows, err = rowsOf(ctx, tx, q, "", after, limit+1)
			return err
		}
		for _, entity := range slices.Compact(slices.Sorted(slices.Values(q.Entities))) {
			if after != nil && entity < after.Entity {
				continue
			}
			more, err := rowsOf(ctx, tx, q, entity, after, limit+1-len(rows))
			if err != nil {
				return err
			}
			if rows = append(rows, more...); len(rows) > limit {
				return nil
			}
		}
		return nil
	})
	if err != nil {
		return nil, "", fmt.Errorf("read rows of %s: %w", q.Product, err)
	}
	if len(rows) > limit {
		rows = rows[:limit]
		last := rows[limit-1]
		next = rowCursor{last.Entity, last.From, last.Key}.String()
	}
	return rows, next, nil
}

// rowsOf reads rows of one entity, or of all where it is empty.
func rowsOf(ctx context.Context, tx *sql.Tx, q mesh.RowQuery, entity string, after *rowCursor, limit int) ([]mesh.Row, error) {
	where, args := rowFilter(q, entity)
	if after != nil {
		where += ` AND (r.entity, r.t_from, r.key) > (?, ?, ?)`
		args = append(args, after.Entity, int64(after.From), after.Key)
	}
	return readRows(ctx, tx, q.Product, `SELECT `+rowColumns+` FROM row r JOIN epoch e ON e.n = r.epoch
		WHERE `+where+` ORDER BY r.entity, r.t_from, r.key LIMIT ?`, append(args, limit)...)
}

func rowFilter(q mesh.RowQuery, entity string) (where string, args []any) {
	where, args = `r.product = ?`, []any{q.Product}
	if entity != "" {
		where += ` AND r.entity = ?`
		args = append(args, entity)
	}
	if q.Span != (mesh.Span{}) {
		// A row without length touches the span it begins in.
		where += ` AND r.t_from < ? AND (r.t_to = 0 OR r.t_to > ? OR r.t_from >= ?)`
		args = append(args, int64(q.Span.To), int64(q.Span.From), int64(q.Span.From))
	}
	if q.Begins != (mesh.Span{}) {
		where += ` AND r.t_from >= ? AND r.t_from < ?`
		args = append(args, int64(q.Begins.From), int64(q.Begins.To))
	}
	if q.Open {
		where += ` AND r.state = 1`
	}
	if q.Prefix != "" {
		where += ` AND substr(r.key, 1, ?) = ?`
		args = append(args, len([]rune(q.Prefix)), q.Prefix)
	}
	if !q.Withdrawn {
		where += ` AND r.state <> 3`
	}
	return where, args
}

// Latest reads of every entity the row with the greatest from; q.Prefix says
// among which keys, q.After and q.Limit don't count.
func (s *Store) Latest(ctx context.Context, q mesh.RowQuery) (rows []mesh.Row, err error) {
	entities := slices.Compact(slices.Sorted(slices.Values(q.Entities)))
	err = s.base.read(ctx, func(tx *sql.Tx) error {
		if len(entities) == 0 {
			if entities, err = entitiesOf(ctx, tx, q.Product); err != nil {
				return err
			}
		}
		for _, entity := range entities {
			where, args := rowFilter(q, entity)
			more, err := readRows(ctx, tx, q.Product, `SELECT `+rowColumns+` FROM row r JOIN epoch e ON e.n = r.epoch
				WHERE `+where+` ORDER BY r.t_from DESC, r.key DESC LIMIT 1`, args...)
			if err != nil {
				return err
			}
			rows = append(rows, more...)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read the latest rows of %s: %w", q.Product, err)
	}
	return rows, nil
}

// entitiesOf jumps from entity to entity along the index.
func entitiesOf(ctx context.Context, tx *sql.Tx, product string) (out []string, err error) {
	rows, err := tx.QueryContext(ctx, `WITH RECURSIVE t(e) AS (
			SELECT min(entity) FROM row WHERE product = ?1
			UNION ALL SELECT (SELECT min(entity) FROM row WHERE product = ?1 AND entity > t.e) FROM t WHERE t.e IS NOT NULL)
		SELECT e FROM t WHERE e IS NOT NULL`, product)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		var e string
		if err := rows.Scan(&e); err != nil {
			return nil, err
		}
		out = append(out, e)
	}
	return out, rows.Err()
}

// Counts are the current rows of a product by state, withdrawn ones included.
func (s *Store) Counts(ctx context.Context, product string) (map[mesh.RowState]int, error) {
	out := map[mesh.RowState]int{}
	err := s.base.read(ctx, func(tx *sql.Tx) (err error) {
		rows, err := tx.QueryContext(ctx, `SELECT state, count(*) FROM row WHERE product = ? GROUP BY state`, product)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, rows.Close()) }()
		for rows.Next() {
			var (
				state mesh.RowState
				n     int
			)
			if err := rows.Scan(&state, &n); err != nil {
				return err
			}
			out[state] = n
		}
		return rows.Err()
	})
	if err != nil {
		return nil, fmt.Errorf("count rows of %s: %w", product, err)
	}
	return out, nil
}
