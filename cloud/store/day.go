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
// of a day is an unlink. Chunks are appended; nothing in a file changes.
//
// strayDay is a file for samples whose day has too few for a file of its own:
// a clock that jumps must not fill the disk with files.
const (
	strayDay  = math.MinInt64
	strayName = "stray"
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
CREATE INDEX chunk_mixed ON chunk (kind, t_from) WHERE last > signal;
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

// dayFile is the path of a day's file.
func (s *Store) dayFile(day int64) string {
	name := strayName
	if day != strayDay {
		name = time.Unix(day*(dayNanos/1e9), 0).UTC().Format(time.DateOnly)
	}
	return filepath.Join(s.folder, name+".db")
}

// dayOfFile is the day whose file has this name.
func dayOfFile(name string) (day int64, ok bool) {
	name, ok = strings.CutSuffix(name, ".db")
	if !ok || name == strayName {
		return strayDay, ok
	}
	t, err := time.Parse(time.DateOnly, name)
	return t.Unix() / (dayNanos / 1e9), err == nil
}

// openDay opens a day's file to read; fs.ErrNotExist where there is none.
func (s *Store) openDay(ctx context.Context, day int64) (*sql.DB, error) {
	path := s.dayFile(day)
	if _, err := os.Stat(path); err != nil {
		return nil, fmt.Errorf("open the history: %w", err)
	}
	// Not mode=ro: the journal of a commit that a crash broke off is undone by
	// whoever opens the file next.
	db, err := sql.Open("sqlite", dsn(path, "deferred", "", "query_only(1)", fmt.Sprintf("cache_size(-%d)", dayCacheKiB))+"&mode=rw")
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", path, plain(err))
	}
	db.SetMaxOpenConns(1)
	var version int
	if err := db.QueryRowContext(ctx, "PRAGMA user_version").Scan(&version); err != nil {
		return nil, errors.Join(fmt.Errorf("open %s: %w", path, plain(err)), db.Close())
	}
	if version > dayVersion {
		return nil, errors.Join(fmt.Errorf("%s has layout %d, this program knows %d: use the program that wrote it", path, version, dayVersion), db.Close())
	}
	return db, nil
}

// writeDay runs do in one synced transaction on a day's file, and makes the
// file where there is none.
func (s *Store) writeDay(ctx context.Context, day int64, do func(*sql.Tx) error) error {
	if err := os.MkdirAll(s.folder, 0o700); err != nil {
		return fmt.Errorf("make the folder of the history: %w", err)
	}
	path := s.dayFile(day)
	db, err := sql.Open("sqlite", dsn(path, "immediate", "delete", fmt.Sprintf("page_size(%d)", dayPageBytes), "synchronous(full)"))
	if err != nil {
		return fmt.Errorf("open %s: %w", path, plain(err))
	}
	db.SetMaxOpenConns(1)
	err = within(ctx, db, func(tx *sql.Tx) error {
		var version int
		if err := tx.QueryRowContext(ctx, "PRAGMA user_version").Scan(&version); err != nil {
			return err
		}
		if version == 0 {
			if _, err := tx.ExecContext(ctx, daySchema); err != nil {
				return err
			}
		}
		return do(tx)
	})
	if err := errors.Join(err, db.Close()); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}

// syncHistory makes the names in the folder of the history durable.
func (s *Store) syncHistory() error {
	d, err := os.Open(s.folder)
	if err != nil {
		return fmt.Errorf("sync the folder of the history: %w", err)
	}
	if err := errors.Join(d.Sync(), d.Close()); err != nil {
		return fmt.Errorf("sync the folder of the history: %w", err)
	}
	return nil
}

// sweep deletes chunks of passes that were never recorded, and files that have
// none but such: what a pass left behind that did not come to its end.
func (s *Store) sweep(ctx context.Context, w *work) error {
	files, err := os.ReadDir(s.folder)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("look through the history: %w", err)
	}
	for _, f := range files {
		if day, ok := dayOfFile(f.Name()); ok {
			if err := s.sweepDay(ctx, w, day); err != nil {
				return err
			}
		}
	}
	return nil
}

func (s *Store) sweepDay(ctx context.Context, w *work, day int64) error {
	_, listed := w.days[day]
	if !listed && day != strayDay && mesh.Nanos(day*dayNanos) < w.since {
		return s.unlinkDay(day) // retention broke off behind its transaction
	}
	done := w.number - 1
	oldest, newest, err := s.passesOf(ctx, day)
	if err != nil {
		return err
	}
	if !listed {
		return s.setAside(ctx, day, newest == 0 || oldest > done)
	}
	if newest <= done {
		return nil
	}
	s.log.InfoContext(ctx, "chunks of a pass that broke off are removed", "file", s.dayFile(day), "pass", newest)
	return s.writeDay(ctx, day, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `DELETE FROM chunk WHERE pass > ?`, done)
		return err
	})
}

// passesOf are the least and the greatest pass of which a day's file has chunks.
func (s *Store) passesOf(ctx context.Context, day int64) (oldest, newest int64, err error) {
	db, err := s.openDay(ctx, day)
	if err != nil {
		return 0, 0, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	var version int
	if err := db.QueryRowContext(ctx, "PRAGMA user_version").Scan(&version); err != nil || version == 0 {
		return 0, 0, plain(err)
	}
	err = db.QueryRowContext(ctx, `SELECT coalesce((SELECT pass FROM chunk ORDER BY id LIMIT 1), 0), coalesce((SELECT pass FROM chunk ORDER BY id DESC LIMIT 1), 0)`).Scan(&oldest, &newest)
	if err != nil {
		return 0, 0, fmt.Errorf("read %s: %w", s.dayFile(day), plain(err))
	}
	return oldest, newest, nil
}

// setAside takes away a file that hub.db doesn't know: one that a pass left
// when it broke off is removed; any other may be all that is left of something
// and is renamed.
func (s *Store) setAside(ctx context.Context, day int64, leftover bool) error {
	path := s.dayFile(day)
	if leftover {
		s.log.InfoContext(ctx, "history file of a pass that broke off is removed", "file", path)
		return s.unlinkDay(day)
	}
	aside := path + ".set-aside"
	s.log.ErrorContext(ctx, "history file that the hub's database doesn't know is set aside: was the database put back?", "file", path, "as", aside)
	if err := os.Rename(path, aside); err != nil {
		return fmt.Errorf("set a file of the history aside: %w", err)
	}
	return s.syncHistory()
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

// dayStat is what hub.db says of a day's file.
type dayStat struct{ chunks, samples int64 }

func readDays(ctx context.Context, tx *sql.Tx) (out map[int64]dayStat, err error) {
	rows, err := tx.QueryContext(ctx, `SELECT day, chunks, samples FROM day`)
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
		if err := rows.Scan(&day, &st.chunks, &st.samples); err != nil {
			return nil, err
		}
		out[day] = st
	}
	return out, rows.Err()
}
