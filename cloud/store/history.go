package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math"
	"math/bits"
	"slices"
	"strings"

	"plantmesh/proto/mesh"
	"plantmesh/proto/wire"
)

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

// readStaged reads the batches of a source that hold samples of a span, if they
// have no more than most bytes.
func readStaged(ctx context.Context, tx *sql.Tx, source string, span mesh.Span, most int64) ([]mesh.Entry, error) {
	ids, args := stagedIn(source, span)
	if most < math.MaxInt64 {
		var bytes int64
		if err := tx.QueryRowContext(ctx, `SELECT coalesce(sum(length(sealed)), 0) FROM hub_log WHERE id IN (`+ids+`)`, args...).Scan(&bytes); err != nil {
			return nil, err
		}
		if bytes > most {
			return nil, mesh.ErrLarge
		}
	}
	return readEntries(ctx, tx, `SELECT `+entryColumns+` WHERE h.id IN (`+ids+`) ORDER BY h.id`, args...)
}

func bytesOf(entries []mesh.Entry) (n int64) {
	for i := range entries {
		n += int64(len(entries[i].Sealed))
	}
	return n
}

// stagedIn selects the batches of a source that hold samples of a span.
func stagedIn(source string, span mesh.Span) (ids string, args []any) {
	parts := make([]string, 0, reaches)
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
	return strings.Join(parts, " UNION ALL "), args
}

// History reads what holds samples of a source in span: chunks, a day's in the
// order they were written, and then the batches that are no chunks yet, in
// the order they were taken. A chunk has no position. Either may hold samples
// outside of span too.
func (s *Store) History(ctx context.Context, source string, span mesh.Span) ([]mesh.Entry, error) {
	return s.HistoryWithin(ctx, source, span, 0)
}

// HistoryWithin is History if that has no more than most sealed bytes, 0 for any
// number; else it is mesh.ErrLarge.
func (s *Store) HistoryWithin(ctx context.Context, source string, span mesh.Span, most int64) ([]mesh.Entry, error) {
	if most <= 0 {
		most = math.MaxInt64
	}
	return s.history(ctx, source, span, most, func(mesh.Hash) ([]uint32, bool, error) { return nil, true, nil })
}

// Signals is History for what may hold samples of the signals of these names.
func (s *Store) Signals(ctx context.Context, source string, span mesh.Span, names ...string) ([]mesh.Entry, error) {
	held := map[mesh.Hash][]uint32{}
	return s.history(ctx, source, span, math.MaxInt64, func(table mesh.Hash) (ids []uint32, all bool, err error) {
		ids, ok := held[table]
		if !ok {
			if ids, err = s.signalIDs(ctx, table, names); err != nil {
				return nil, false, err
			}
			held[table] = ids
		}
		return ids, false, nil
	})
}

// signalIDs are the numbers that signals have in a table.
func (s *Store) signalIDs(ctx context.Context, table mesh.Hash, names []string) (ids []uint32, err error) {
	d, ok, err := s.Descriptor(ctx, table)
	if err != nil || !ok {
		return nil, err
	}
	signals, err := wire.Signals(d)
	if err != nil {
		return nil, mesh.Permanent(err)
	}
	for i := range signals {
		if slices.Contains(names, signals[i].Name) {
			ids = append(ids, signals[i].ID)
		}
	}
	return ids, nil
}

// picker says which signals of a table are wanted.
type picker func(table mesh.Hash) (signals []uint32, all bool, err error)

// historyTries bounds how often a read begins anew because a day was dropped
// or merged under it.
const historyTries = 3

func (s *Store) history(ctx context.Context, source string, span mesh.Span, most int64, pick picker) (out []mesh.Entry, err error) {
	for range historyTries {
		var (
			pass   int64
			days   map[int64]dayStat
			staged []mesh.Entry
		)
		err = s.base.read(ctx, func(tx *sql.Tx) error {
			if pass, _, err = compacted(ctx, tx, 0); err != nil {
				return err
			}
			if days, err = daysIn(ctx, tx, span); err != nil {
				return err
			}
			staged, err = readStaged(ctx, tx, source, span, most)
			return err
		})
		if err != nil {
			break
		}
		out = nil
		left := most - bytesOf(staged)
		for _, day := range slices.Sorted(maps.Keys(days)) {
			r := dayReader{source: source, span: span, pass: pass, last: days[day].chunks, pick: pick, left: left}
			if err = s.readDay(ctx, day, days[day], &r); err != nil {
				break
			}
			out, left = append(out, r.out...), r.left
		}
		if err == nil {
			return append(out, staged...), nil
		}
		if !moved(err) {
			break
		}
	}
	return nil, fmt.Errorf("read the history of %s: %w", source, err)
}

// moved says whether a file may be gone or another since hub.db was asked: a day
// was dropped, or merged.
func moved(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, errDay) || codeOf(err) == codeReadOnly
}

// daysIn are the days with chunks that may hold samples of a span.
func daysIn(ctx context.Context, tx *sql.Tx, span mesh.Span) (map[int64]dayStat, error) {
	to := span.To
	if to > math.MinInt64 {
		to--
	}
	return dayStats(ctx, tx, `SELECT day, chunks, samples, pass FROM day WHERE day BETWEEN ? AND ? UNION ALL SELECT day, chunks, samples, pass FROM day WHERE day < ?`,
		dayOf(span.From), dayOf(to), int64(strayDay+strays))
}

// dayReader reads chunks of one source from one day's file.
type dayReader struct {
	source string
	span   mesh.Span
	pass   int64 // the last that counts
	last   int64 // chunk that counts
	pick   picker
	left   int64 // sealed bytes that may still come
	out    []mesh.Entry
}

func (s *Store) readDay(ctx context.Context, day int64, known dayStat, r *dayReader) (err error) {
	db, err := s.openDay(ctx, day)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	if err = known.check(ctx, db, day, r.pass); err == nil {
		err = r.read(ctx, db)
	}
	if err != nil {
		return fmt.Errorf("read %s: %w", s.dayFile(day), plain(err))
	}
	return nil
}

// numbered is a kind as a file numbers it.
type numbered struct {
	kind

	n int64
}

func (r *dayReader) read(ctx context.Context, db *sql.DB) error {
	kinds, err := r.kinds(ctx, db)
	if err != nil {
		return err
	}
	type chunk struct {
		id    int64
		entry mesh.Entry
	}
	var all []chunk
	for _, k := range kinds {
		signals, every, err := r.pick(k.table)
		if err != nil {
			return err
		}
		take := func(id int64, e mesh.Entry) { all = append(all, chunk{id, e}) }
		if every {
			err = r.chunks(ctx, db, k, take, chunksOfAll)
		} else if len(signals) > 0 {
			err = r.chunks(ctx, db, k, take, chunksMixed, slices.Max(signals), slices.Min(signals))
			for i := 0; i < len(signals) && err == nil; i++ {
				err = r.chunks(ctx, db, k, take, chunksOfOne, signals[i])
			}
		}
		if err != nil {
			return err
		}
	}
	slices.SortFunc(all, func(a, b chunk) int { return int(a.id - b.id) })
	for i := range all {
		r.out = append(r.out, all[i].entry)
	}
	return nil
}

func (r *dayReader) kinds(ctx context.Context, db *sql.DB) (out []numbered, err error) {
	rows, err := db.QueryContext(ctx, `SELECT n, signals, judged, revision, rules FROM kind WHERE source = ?`, r.source)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		var (
			k            = numbered{kind: kind{source: r.source}}
			table, rules []byte
			revision     int64
		)
		if err := rows.Scan(&k.n, &table, &k.judged, &revision, &rules); err != nil {
			return nil, err
		}
		copy(k.table[:], table)
		copy(k.rules[:], rules)
		k.revision = uint64(revision)
		out = append(out, k)
	}
	return out, rows.Err()
}

// Chunks of a kind that meet a span, those of one signal, and those of several.
const (
	chunksOfAll = `SELECT id, pass, signal, t_from, t_to, sealed, marks FROM chunk WHERE kind = ? AND t_from < ? AND t_to > ? AND id <= ?`
	chunksOfOne = chunksOfAll + ` AND signal = ? AND last = signal`
	chunksMixed = chunksOfAll + ` AND last > signal AND signal <= ? AND last >= ?`
)

func (r *dayReader) chunks(ctx context.Context, db *sql.DB, k numbered, take func(int64, mesh.Entry), query string, which ...any) (err error) {
	args := append([]any{k.n, int64(r.span.To), int64(r.span.From), r.last}, which...)
	rows, err := db.QueryContext(ctx, query, args...)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		var (
			id, pass, signal int64
			at               mesh.Span
			e                mesh.Entry
			marks            []byte
		)
		if err := rows.Scan(&id, &pass, &signal, &at.From, &at.To, &e.Sealed, &marks); err != nil {
			return err
		}
		if r.left -= int64(len(e.Sealed)); r.left < 0 {
			return mesh.ErrLarge
		}
		if e.Header, err = wire.ParseHeader(e.Sealed); err == nil && (e.Header.About != k.source || len(e.Header.Needs) != 1 || e.Header.Needs[0] != k.table || e.Header.Times.From != at.From || pass > r.pass) {
			err = wire.ErrFormat
		}
		if err == nil && k.judged {
			e.Verdict = &mesh.Verdict{Revision: k.revision, Rules: k.rules}
			if marks != nil {
				*e.Verdict, err = wire.OpenVerdict(marks)
			}
		}
		if err != nil {
			return fmt.Errorf("chunk %d, signal %d of %s: %w", id, signal, k.source, mesh.Permanent(err))
		}
		take(id, e)
	}
	return rows.Err()
}
