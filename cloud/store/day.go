package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"strings"
	"time"

	"plantmesh/proto/mesh"
)

// A day file holds the chunks of one UTC day of event time, so that retention
// of a day is an unlink. Chunks are appended; nothing in a file changes, but a
// merge puts another file in its place, see merge.go.
//
// strayDay is a file for samples whose day has too few for a file of its own:
// a clock that jumps must not fill the disk with files. There are more of them,
// each used while those before it can't be: where a whole folder was lost or put
// back every file is one that can't, and passes must go on.
const (
	strayDay  = math.MinInt64
	strayName = "stray"
	strays    = 8
	dayNanos  = int64(24 * time.Hour)

	// dayPageBytes: a chunk of an hour at 1 Hz is some 6 KB and lies in a page
	// whole; a larger page wastes less at its end, a smaller one reads faster.
	// Measured in deploy/bench: history_bytes and history_read.
	dayPageBytes = 32 << 10
	// dayCacheKiB is the page cache of who reads a day: pages are read once.
	dayCacheKiB = 1 << 10
)

const daySchema = `
-- What the samples of a chunk have in common.
CREATE TABLE kind (
	n INTEGER PRIMARY KEY,
	source TEXT NOT NULL,
	signals BLOB NOT NULL, -- hash of the signal table
	judged INTEGER NOT NULL, -- 1: rules of this revision have looked at them
	revision INTEGER NOT NULL,
	rules BLOB NOT NULL,
	UNIQUE (source, signals, judged, revision, rules)
);
CREATE TABLE chunk (
	id INTEGER PRIMARY KEY,
	pass INTEGER NOT NULL,
	kind INTEGER NOT NULL,
	signal INTEGER NOT NULL, -- the least signal in it
	last INTEGER NOT NULL,   -- the greatest
	t_from INTEGER NOT NULL,
	t_to INTEGER NOT NULL,
	sealed BLOB NOT NULL,    -- a batch, see proto/wire
	marks BLOB               -- a verdict on its samples, where rules marked some
);
CREATE INDEX chunk_at ON chunk (kind, signal, t_from, t_to);
-- A chunk of several signals is found by this alone. Files of before have it on
-- (kind, t_from), where a row is looked at for each that there is.
CREATE INDEX chunk_mixed ON chunk (kind, signal, last, t_from, t_to) WHERE last > signal;
PRAGMA user_version = 1;
`

// dayVersion is kept in a day file's user_version.
const dayVersion = 1

func dayOf(t mesh.Nanos) int64 {
	d := int64(t) / dayNanos
	if int64(t)%dayNanos < 0 {
		d--
	}
	return d
}

// isStray says whether a file is of no day.
func isStray(day int64) bool { return day < strayDay+strays }

// dayFile is the path of a day's file.
func (s *Store) dayFile(day int64) string {
	name := strayName
	switch {
	case day == strayDay:
	case isStray(day):
		name = fmt.Sprintf("%s-%d", strayName, day-strayDay+1)
	default:
		name = time.Unix(day*(dayNanos/1e9), 0).UTC().Format(time.DateOnly)
	}
	return filepath.Join(s.folder, name+".db")
}

// dayOfFile is the day whose file has this name.
func dayOfFile(name string) (day int64, ok bool) {
	name, ok = strings.CutSuffix(name, ".db")
	if !ok {
		return strayDay, false
	}
	for day := int64(strayDay); isStray(day); day++ {
		if n := day - strayDay + 1; name == strayName && n == 1 || n > 1 && name == fmt.Sprintf("%s-%d", strayName, n) {
			return day, true
		}
	}
	t, err := time.Parse(time.DateOnly, name)
	return t.Unix() / (dayNanos / 1e9), err == nil
}

// openDay opens a day's file to read; fs.ErrNotExist where there is none.
func (s *Store) openDay(ctx context.Context, day int64) (*sql.DB, error) {
	return openFile(ctx, s.dayFile(day), dayCacheKiB)
}

// openFile opens a file of the history to read. SQLite finds a journal by the
// file's name: who still has the file that a merge took the place of would undo
// the journal of a pass that writes the new one, and remove it. So it is opened
// such that nobody can; where there is one to be undone, of a commit that a crash
// broke off, the file is opened anew, by its name, to do so.
func openFile(ctx context.Context, path string, cacheKiB int) (*sql.DB, error) {
	db, err := openMode(ctx, path, "ro", cacheKiB)
	if codeOf(err) == codeReadOnly {
		db, err = openMode(ctx, path, "rw", cacheKiB)
	}
	return db, err
}

func openMode(ctx context.Context, path, mode string, cacheKiB int) (*sql.DB, error) {
	db, err := sql.Open("sqlite", dsn(path, "deferred", "", "query_only(1)", fmt.Sprintf("cache_size(-%d)", cacheKiB))+"&mode="+mode)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", path, plain(err))
	}
	db.SetMaxOpenConns(1)
	var version int
	if err := db.QueryRowContext(ctx, "PRAGMA user_version").Scan(&version); err != nil {
		// Looked for only now: retention may take it away at any time.
		if _, gone := os.Stat(path); errors.Is(gone, fs.ErrNotExist) {
			err = gone
		}
		return nil, errors.Join(fmt.Errorf("open %s: %w", path, plain(err)), db.Close())
	}
	if version > dayVersion {
		return nil, errors.Join(fmt.Errorf("%s has layout %d, this program knows %d: use the program that wrote it", path, version, dayVersion), db.Close())
	}
	return db, nil
}

// writeDay runs do in one synced transaction on the file of a day, if that is
// the file hub.db knows. It makes the file of a day that hub.db doesn't know.
func (s *Store) writeDay(ctx context.Context, day int64, known dayStat, do func(*sql.Tx) error) error {
	if known.chunks > 0 {
		// SQLite would make a file that is lost anew, and empty.
		db, err := s.openDay(ctx, day)
		if err == nil {
			err = db.Close()
		}
		if err != nil {
			return err
		}
	}
	return s.changeDay(ctx, day, func(tx *sql.Tx) error {
		var version int
		if err := tx.QueryRowContext(ctx, "PRAGMA user_version").Scan(&version); err != nil {
			return err
		}
		if version == 0 && known.chunks == 0 {
			if _, err := tx.ExecContext(ctx, daySchema); err != nil {
				return err
			}
		}
		if err := known.check(ctx, tx, day, math.MaxInt64-1); err != nil {
			return err
		}
		return do(tx)
	})
}

// changeDay runs do in one synced transaction on a day's file, whatever it is.
func (s *Store) changeDay(ctx context.Context, day int64, do func(*sql.Tx) error) error {
	if err := s.makeFolder(); err != nil {
		return err
	}
	path := s.dayFile(day)
	pragmas := []string{fmt.Sprintf("page_size(%d)", dayPageBytes), "synchronous(full)"}
	if isStray(day) {
		pragmas = append(pragmas, "auto_vacuum(incremental)") // the one file of which parts are dropped
	}
	db, err := sql.Open("sqlite", dsn(path, "immediate", "delete", pragmas...))
	if err != nil {
		return fmt.Errorf("open %s: %w", path, plain(err))
	}
	db.SetMaxOpenConns(1)
	if err := errors.Join(within(ctx, db, do), db.Close()); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}

// makeFolder makes the folder of the history, durably.
func (s *Store) makeFolder() error {
	err := os.Mkdir(s.folder, 0o700)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err == nil {
		err = syncFolder(filepath.Dir(s.folder))
	}
	if err != nil {
		return fmt.Errorf("make the folder of the history: %w", err)
	}
	return nil
}

// Bounds of which days get a file of their own. An empty one has some 200 KB.
const (
	// nearDays before the plant's now, as long as agents are cut off by default,
	// twice: a day there needs straySamples in a pass.
	nearDays = 14
	// farSamples is what a day further back must have in a pass: 25 B a sample
	// for the file.
	farSamples = 8192
	// aheadDays beyond the plant's now no day gets a file: retention goes by the
	// newest one.
	aheadDays = 2
	// maxDays bounds all files; 22 years. Beyond it only near days get one.
	maxDays = 8192
)

// strayed is the file of no day that can be used.
func (w *work) strayed() int64 {
	for day := int64(strayDay); isStray(day); day++ {
		if !w.bad[day] {
			return day
		}
	}
	return strayDay // all of them are told; the pass will say so too
}

// stray says whether samples of a day, so many in this pass, go into the file
// that is of no day.
func (w *work) stray(day int64, samples int) bool {
	if w.bad[day] {
		return true
	}
	if _, has := w.days[day]; has {
		return false
	}
	now := dayOf(w.Now)
	switch {
	case day > now+aheadDays:
		return true
	case day >= now-1 && day <= now+1:
		return false
	case day >= now-nearDays:
		return samples < straySamples
	}
	return samples < farSamples || len(w.days) >= maxDays
}

// syncHistory makes the names in the folder of the history durable.
func (s *Store) syncHistory() error {
	if err := syncFolder(s.folder); err != nil {
		return fmt.Errorf("sync the folder of the history: %w", err)
	}
	return nil
}

func syncFolder(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// unlinkDay removes a day's file, and what SQLite may have left beside it.
func (s *Store) unlinkDay(day int64) error {
	path := s.dayFile(day)
	for _, p := range []string{path + "-journal", path} {
		if err := os.Remove(p); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove a day of the history: %w", err)
		}
	}
	return s.syncHistory()
}

// dayStat is what hub.db says of a day's file. Chunks are numbered from 1 on, in
// the order they were written, so that the last one and the pass that wrote it
// tell this file from any other.
type dayStat struct{ chunks, samples, pass int64 }

// errDay is returned where a day's file isn't the one hub.db knows.
var errDay = errors.New("the file is not as the hub's database knows it: it was cut, replaced or put back without the other; put back the one that belongs to it")

// asker is a database or a transaction.
type asker interface {
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

// check says whether a file is the one that is known, and holds nothing else of
// passes up to one.
func (d dayStat) check(ctx context.Context, db asker, day, upTo int64) error {
	var version, last, from, next int64
	if err := db.QueryRowContext(ctx, "PRAGMA user_version").Scan(&version); err != nil {
		return err
	}
	if version != dayVersion {
		return errDay // nothing was ever laid out in it
	}
	if isStray(day) && d.chunks > 0 && d.pass == 0 {
		return nil // of layout 3, when the last chunk might be dropped
	}
	// Two files of one pass may be alike in all but the day of what is in them, and
	// without their kinds no chunks are found.
	err := db.QueryRowContext(ctx, `SELECT coalesce(max(c.pass), 0), coalesce(max(c.t_from), 0), coalesce((SELECT min(pass) FROM chunk WHERE id = ?1 + 1), ?2)
		FROM chunk c JOIN kind k ON k.n = c.kind WHERE c.id = ?1`, d.chunks, int64(math.MaxInt64)).Scan(&last, &from, &next)
	if err != nil {
		return err
	}
	if d.chunks > 0 && (last == 0 || !isStray(day) && dayOf(mesh.Nanos(from)) != day) || d.pass != 0 && last != d.pass || next <= upTo {
		return errDay
	}
	return nil
}

func readDays(ctx context.Context, tx *sql.Tx) (map[int64]dayStat, error) {
	return dayStats(ctx, tx, `SELECT day, chunks, samples, pass FROM day`)
}

func dayStats(ctx context.Context, tx *sql.Tx, query string, args ...any) (out map[int64]dayStat, err error) {
	rows, err := tx.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	out = map[int64]dayStat{}
	for rows.Next() {
		var (
			day int64
			st  dayStat
		)
		if err := rows.Scan(&day, &st.chunks, &st.samples, &st.pass); err != nil {
			return nil, err
		}
		out[day] = st
	}
	return out, rows.Err()
}
