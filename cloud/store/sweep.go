package store

import (
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"slices"

	"modernc.org/sqlite"
)

// A chunk or a file is removed only if hub.db says that it may be: its pass was
// begun, by this hub.db, and is not recorded, so that its batches are still
// there; or its day was dropped. Whatever else lies in the folder may be all
// that is left of something, above all where hub.db was put back from a backup
// or lost: it is set aside with all its bytes, and told.

// passBits of a pass's number are random: the same pass of another hub.db, or of
// this one before it was put back, has another number. What is above them counts.
const passBits = 32

func passAfter(done int64) int64 {
	var b [4]byte
	_, _ = rand.Read(b[:]) // never fails, see crypto/rand
	return (done>>passBits+1)<<passBits | int64(binary.BigEndian.Uint32(b[:]))
}

// announce records that a pass begins, before it writes its first chunk.
func (s *Store) announce(ctx context.Context, w *work) error {
	if w.samples == 0 {
		return nil
	}
	return s.base.write(ctx, func(tx *sql.Tx) error {
		if len(w.bad) == 0 { // nothing is left of those before
			if _, err := tx.ExecContext(ctx, `DELETE FROM begun`); err != nil {
				return err
			}
		}
		_, err := tx.ExecContext(ctx, `INSERT OR IGNORE INTO begun (pass) VALUES (?)`, w.number)
		return err
	})
}

func readUnfinished(ctx context.Context, tx *sql.Tx) (begun map[int64]bool, going map[int64]dayStat, err error) {
	if going, err = dayStats(ctx, tx, `SELECT day, chunks, 0, pass FROM going`); err != nil {
		return nil, nil, err
	}
	begun = map[int64]bool{}
	err = numbers(ctx, tx, `SELECT pass FROM begun`, func(pass int64) { begun[pass] = true })
	return begun, going, err
}

// querier is a database or a transaction.
type querier interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}

func numbers(ctx context.Context, db querier, query string, each func(int64), args ...any) (err error) {
	rows, err := db.QueryContext(ctx, query, args...)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		var n int64
		if err := rows.Scan(&n); err != nil {
			return err
		}
		each(n)
	}
	return rows.Err()
}

// sweep looks through the files of the history, once and after a pass that broke
// off: it takes away what is left of such, and finds the days whose files are
// not as they should be. Those it looks at again each time.
func (s *Store) sweep(ctx context.Context, w *work) error {
	look := s.bad
	if !s.swept {
		var err error
		if look, err = s.everyDay(w); err != nil {
			return err
		}
	}
	w.bad = map[int64]bool{}
	for _, day := range slices.Sorted(maps.Keys(look)) {
		err := s.sweepDay(ctx, w, day)
		if err == nil && s.spoilt[day] {
			err = s.wholeDay(ctx, day)
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err == nil {
			continue
		}
		if w.bad[day] = true; !s.bad[day] {
			s.log.ErrorContext(ctx, "a file of the history can't be used, samples of its day go into another", "file", s.dayFile(day), "reason", err.Error())
		}
	}
	s.swept, s.bad = true, w.bad
	return nil
}

// spoil remembers a day whose file can't be written or read, though it looked as
// it should: one page in it is enough. The next pass does without that day; else
// no pass would ever end.
func (s *Store) spoil(day int64, err error) error {
	if damaged(err) || refused(err) {
		s.spoilt[day] = true
	}
	return err
}

// wholeDay looks at every page of a day's file, and whether it can be written.
func (s *Store) wholeDay(ctx context.Context, day int64) error {
	err := s.everyPage(ctx, day)
	if err == nil {
		err = s.changeDay(ctx, day, func(tx *sql.Tx) error {
			_, err := tx.ExecContext(ctx, fmt.Sprintf("PRAGMA user_version = %d", dayVersion))
			return err
		})
	}
	if err == nil || errors.Is(err, fs.ErrNotExist) {
		delete(s.spoilt, day)
		return nil
	}
	return err
}

func (s *Store) everyPage(ctx context.Context, day int64) (err error) {
	db, err := s.openDay(ctx, day)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	var said string
	if err := db.QueryRowContext(ctx, `PRAGMA integrity_check(1)`).Scan(&said); err != nil {
		return plain(err)
	}
	if said != "ok" {
		return fmt.Errorf("it is damaged: %s", said)
	}
	return nil
}

// everyDay are the days that have a file or should have one.
func (s *Store) everyDay(w *work) (map[int64]bool, error) {
	files, err := os.ReadDir(s.folder)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("look through the history: %w", err)
	}
	out := map[int64]bool{}
	for _, f := range files {
		if day, ok := dayOfFile(f.Name()); ok {
			out[day] = true
		}
		if day, ok := dayMerging(f.Name()); ok {
			if err := s.removeMerging(day); err != nil {
				return nil, err
			}
		}
	}
	for day := range w.days {
		out[day] = true
	}
	for day := range w.going {
		out[day] = true
	}
	return out, nil
}

func (s *Store) sweepDay(ctx context.Context, w *work, day int64) error {
	known, listed := w.days[day]
	if !listed {
		return s.sweepUnknown(ctx, w, day)
	}
	behind, err := s.behind(ctx, day, known)
	if err != nil || len(behind) == 0 {
		return err
	}
	path := s.dayFile(day)
	if left(w.begun, behind) {
		s.log.InfoContext(ctx, "chunks of a pass that broke off are removed", "file", path)
	} else {
		aside, err := s.copyAside(path)
		if err != nil {
			return err
		}
		s.log.ErrorContext(ctx, "a file of the history has chunks that the hub's database doesn't know: was the database put back? They are removed from it, and a copy that has them is set aside", "file", path, "copy", aside)
	}
	return s.changeDay(ctx, day, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `DELETE FROM chunk WHERE id > ?`, known.chunks)
		return err
	})
}

// left says whether all these passes were begun and not recorded.
func left(begun map[int64]bool, passes []int64) bool {
	return !slices.ContainsFunc(passes, func(pass int64) bool { return !begun[pass] })
}

// behind are the passes that wrote what stands in a file behind what is known.
func (s *Store) behind(ctx context.Context, day int64, known dayStat) (passes []int64, err error) {
	db, err := s.openDay(ctx, day)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	if err := known.check(ctx, db, day, 0); err != nil {
		return nil, plain(err)
	}
	err = numbers(ctx, db, `SELECT DISTINCT pass FROM chunk WHERE id > ?`, func(pass int64) { passes = append(passes, pass) }, known.chunks)
	return passes, plain(err)
}

// sweepUnknown looks at the file of a day that hub.db doesn't know, or not any
// more.
func (s *Store) sweepUnknown(ctx context.Context, w *work, day int64) error {
	if dropped, going := w.going[day]; going {
		return s.removeDropped(ctx, w.begun, day, dropped)
	}
	passes, err := s.contents(ctx, day)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case damaged(err):
		return s.setAside(ctx, day)
	case err != nil:
		return err
	case left(w.begun, passes):
		s.log.InfoContext(ctx, "a file of the history of a pass that broke off is removed", "file", s.dayFile(day))
		return s.unlinkDay(day)
	}
	return s.setAside(ctx, day)
}

// removeDropped removes the file of a day that was dropped, if it is that file.
func (s *Store) removeDropped(ctx context.Context, begun map[int64]bool, day int64, dropped dayStat) error {
	behind, err := s.behind(ctx, day, dropped)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		err = nil
	case err == nil && left(begun, behind):
		err = s.unlinkDay(day)
	case err == nil || errors.Is(err, errDay) || damaged(err):
		err = s.setAside(ctx, day)
	}
	if err != nil {
		return err
	}
	err = s.base.write(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `DELETE FROM going WHERE day = ?`, day)
		return err
	})
	if err != nil {
		return fmt.Errorf("drop a day of the history: %w", err)
	}
	return nil
}

// contents are the passes that wrote what stands in a file.
func (s *Store) contents(ctx context.Context, day int64) (passes []int64, err error) {
	db, err := s.openDay(ctx, day)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	var tables int
	if err := db.QueryRowContext(ctx, `SELECT count(*) FROM sqlite_master`).Scan(&tables); err != nil || tables == 0 {
		return nil, err
	}
	err = numbers(ctx, db, `SELECT DISTINCT pass FROM chunk`, func(pass int64) { passes = append(passes, pass) })
	return passes, err
}

// damaged says whether a file can't be read and never will be, or is of
// something else.
func damaged(err error) bool {
	code := codeOf(err)
	return code == codeCorrupt || code == codeNoDB || code == codeError
}

// refused says whether the disk, or who owns the file, refuses it.
func refused(err error) bool {
	code := codeOf(err)
	return code == codeIO || code == codeCantOpen || code == codeReadOnly
}

// codeOf is SQLite's primary code; 0 where the error is none of its own.
func codeOf(err error) int {
	var e *sqlite.Error
	if !errors.As(err, &e) {
		return 0
	}
	return e.Code() & 0xff
}

// setAside renames a file that hub.db doesn't know, and what SQLite may have
// left beside it.
func (s *Store) setAside(ctx context.Context, day int64) error {
	path := s.dayFile(day)
	aside, err := asideOf(path)
	if err != nil {
		return err
	}
	s.log.ErrorContext(ctx, "a file of the history that the hub's database doesn't know is set aside: was the database lost or put back?", "file", path, "as", aside)
	err = os.Rename(path+"-journal", aside+"-journal")
	if err == nil || errors.Is(err, fs.ErrNotExist) {
		err = os.Rename(path, aside)
	}
	if err != nil {
		return fmt.Errorf("set a file of the history aside: %w", err)
	}
	return s.syncHistory()
}

// copyAside keeps a copy of a file with all it holds.
func (s *Store) copyAside(path string) (aside string, err error) {
	if aside, err = asideOf(path); err != nil {
		return "", err
	}
	if err = copyFile(path, aside); err == nil {
		return aside, s.syncHistory()
	}
	if away := os.Remove(aside); !errors.Is(away, fs.ErrNotExist) {
		err = errors.Join(err, away)
	}
	return "", fmt.Errorf("set a copy of a file of the history aside: %w", err)
}

func copyFile(from, to string) (err error) {
	r, err := os.Open(from)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	w, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(w, r)
	return errors.Join(err, w.Sync(), w.Close())
}

// asideOf is a name beside a file that nobody has.
func asideOf(path string) (string, error) {
	aside := path + ".set-aside"
	for n := 2; ; n++ {
		switch _, err := os.Lstat(aside); {
		case errors.Is(err, fs.ErrNotExist):
			return aside, nil
		case err != nil:
			return "", fmt.Errorf("set a file of the history aside: %w", err)
		}
		aside = fmt.Sprintf("%s.set-aside-%d", path, n)
	}
}
