package store

import (
	"context"
	"database/sql"
	"strings"
	"testing"

	"plantmesh/proto/mesh"
)

// TestStore_EveryReadHasAnIndex explains the reads whose tables grow without
// end: none may walk a table, and none of those that page may sort.
func TestStore_EveryReadHasAnIndex(t *testing.T) {
	s := newStore(t)
	plans := map[string][]string{}
	x := &explainer{base: s.base, plans: plans}
	s.base = x
	span := mesh.Span{From: 5, To: 9}
	pos := mesh.Position{Log: "hub/0", Epoch: mesh.NewEpoch(), Seq: 1}
	for name, do := range map[string]func() error{
		"peek":    func() error { _, err := s.Peek(t.Context(), 0, mesh.Position{}, 9); return err },
		"history": func() error { _, err := s.History(t.Context(), "a", span); return err },
		"facts":   func() error { _, err := s.Facts(t.Context(), 0); return err },
		"sums":    func() error { _, err := s.Sums(t.Context(), []mesh.Position{pos}); return err },
	} {
		if err := do(); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
	}
	for name, q := range map[string]mesh.RowQuery{
		"all":    {Product: product, Span: span},
		"page":   {Product: product, After: rowCursor{"m", 1, "k"}.String()},
		"open":   {Product: product, Open: true, Withdrawn: true},
		"begins": {Product: product, Entities: []string{"m"}, Begins: span, Withdrawn: true},
		"entity": {Product: product, Entities: []string{"m"}, Span: span, Prefix: "hour"},
	} {
		where, args := rowFilter(q, strings.Join(q.Entities, ""))
		if q.After != "" {
			where += ` AND (r.entity, r.t_from, r.key) > (?, ?, ?)`
			args = append(args, "m", 1, "k")
		}
		x.explain(t, name, `SELECT `+rowColumns+` FROM row r JOIN epoch e ON e.n = r.epoch WHERE `+where+` ORDER BY r.entity, r.t_from, r.key LIMIT 10`, args...)
	}
	x.explain(t, "peek", `SELECT `+entryColumns+` WHERE h.partition = ? AND (h.epoch, h.seq) > (?, ?) ORDER BY h.epoch, h.seq LIMIT ?`, 0, 1, 1, 9)
	x.explain(t, "out", `SELECT `+rowColumns+` FROM out_log r JOIN epoch e ON e.n = r.epoch
			WHERE r.product = ? AND r.partition = 0 AND (r.epoch, r.seq) > (?, ?) ORDER BY r.epoch, r.seq LIMIT ?`, product, 1, 1, 9)
	x.explain(t, "history", `SELECT id FROM hub_log WHERE source = ? AND reach = ? AND kind = 2 AND t_to > t_from AND t_from > ? AND t_from < ? AND t_to > ?`, "a", 1, 1, 9, 5)
	x.explain(t, "facts", `SELECT `+entryColumns+` WHERE h.kind = 5 AND h.of_log = 0 AND h.partition = ? ORDER BY h.epoch, h.seq`, 0)
	x.explain(t, "latest", `SELECT `+rowColumns+` FROM row r JOIN epoch e ON e.n = r.epoch WHERE r.product = ? AND r.entity = ? AND r.state <> 3 ORDER BY r.t_from DESC, r.key DESC LIMIT 1`, product, "m")
	day := &explainer{base: dayBase{dayOfOne(t)}, plans: plans}
	day.explain(t, "chunks of one", chunksOfOne, 1, 9, 5, 1, 7)
	day.explain(t, "chunks of several", chunksMixed, 1, 9, 5, 1, 7, 7)
	day.explain(t, "chunks of all", chunksOfAll, 1, 9, 5, 1)
	x.explain(t, "past", `SELECT body FROM hub_past WHERE partition = ? AND (epoch, last) > (?, ?) ORDER BY epoch, last LIMIT 1`, 0, 1, 1)
	x.explain(t, "newest", newestStaged, 1, 1, "a", 9)
	x.explain(t, "came", `SELECT `+entryColumns+` WHERE h.of_log = ? AND h.of_log > 0 AND h.of_epoch = ? AND h.of_seq BETWEEN ? AND ? AND h.kind = 2`, 1, []byte("e"), 1, 9)
	x.explain(t, "sources", `SELECT min(source) FROM hub_log WHERE kind = 2 AND t_to > t_from AND source > ?`, "a")
	for name, plan := range plans {
		for _, line := range plan {
			if strings.HasPrefix(line, "SCAN ") || strings.Contains(line, "TEMP B-TREE") {
				t.Errorf("%s: %s", name, strings.Join(plan, "; "))
			}
		}
	}
}

// dayOfOne is an open day file.
func dayOfOne(t *testing.T) *sql.DB {
	t.Helper()
	s := newStore(t)
	if err := s.writeDay(t.Context(), 0, dayStat{}, func(*sql.Tx) error { return nil }); err != nil {
		t.Fatal(err)
	}
	db, err := s.openDay(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return db
}

// dayBase reads a day file.
type dayBase struct{ db *sql.DB }

func (d dayBase) write(context.Context, func(*sql.Tx) error) error { return errReading }

func (d dayBase) read(ctx context.Context, do func(*sql.Tx) error) error {
	return within(ctx, d.db, do)
}

func (d dayBase) Close() error { return nil }

type explainer struct {
	base

	plans map[string][]string
}

func (x *explainer) explain(t *testing.T, name, query string, args ...any) {
	t.Helper()
	err := x.read(t.Context(), func(tx *sql.Tx) error {
		plan, err := planOf(t.Context(), tx, query, args...)
		x.plans[name] = plan
		return err
	})
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
}

func planOf(ctx context.Context, tx *sql.Tx, query string, args ...any) (out []string, err error) {
	rows, err := tx.QueryContext(ctx, "EXPLAIN QUERY PLAN "+query, args...)
	if err != nil {
		return nil, err
	}
	defer func() {
		if e := rows.Close(); err == nil {
			err = e
		}
	}()
	for rows.Next() {
		var id, parent, unused int
		var line string
		if err := rows.Scan(&id, &parent, &unused, &line); err != nil {
			return nil, err
		}
		out = append(out, line)
	}
	return out, rows.Err()
}
