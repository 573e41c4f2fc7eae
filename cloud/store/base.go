package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"modernc.org/sqlite"
)

// base is what the store needs of a database: transactions. Everything above
// it is SQL inside one of them, so a model that loses, repeats or refuses whole
// transactions is a model of the disk.
//
// Safe for concurrent use. write is durable when it returns nil; when it
// returns an error the transaction is undone, or, if the error came while it
// was being committed, may have happened: open the log anew to find out.
type base interface {
	write(ctx context.Context, do func(tx *sql.Tx) error) error
	read(ctx context.Context, do func(tx *sql.Tx) error) error
	Close() error
}

// Settings of SQLite.
const (
	// pageBytes: transactions are small and the WAL takes whole pages. Measured
	// on ten batches a Take, 100 rows a Commit: 4 KiB pages write 44 and 352 KiB,
	// 8 KiB 70 and 419, 32 KiB 222 and 673, the CPU least at 8 KiB.
	pageBytes = 8 << 10
	// readers bounds the pool; more than a few only fight for the page cache.
	readers = 4
	// busyMilliseconds is how long a lock of another process is waited for.
	busyMilliseconds = 5000
	// cacheKiB is the page cache of a connection. A reader's is emptied whenever
	// something was written, page by page, each a system call: 32 MiB cost a
	// seventh of a pass of the compactor.
	cacheKiB = 8 << 10
	// checkpointPages of WAL (16 MiB) are written back at a time.
	checkpointPages = 2048
)

// disk is base on SQLite: one writing connection, a pool of reading ones.
type disk struct{ w, r *sql.DB }

func openDisk(ctx context.Context, path string) (*disk, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, fmt.Errorf("make the folder of the hub's database: %w", err)
	}
	w, err := sql.Open("sqlite", dsn(path, "immediate", "wal",
		fmt.Sprintf("page_size(%d)", pageBytes), "synchronous(full)", fmt.Sprintf("wal_autocheckpoint(%d)", checkpointPages)))
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", path, plain(err))
	}
	w.SetMaxOpenConns(1)
	d := &disk{w: w}
	if err := d.write(ctx, func(tx *sql.Tx) error { return migrate(ctx, tx) }); err != nil {
		return nil, errors.Join(fmt.Errorf("open %s: %w", path, err), w.Close())
	}
	if d.r, err = sql.Open("sqlite", dsn(path, "deferred", "", "query_only(1)")); err != nil {
		return nil, errors.Join(fmt.Errorf("open %s for reading: %w", path, plain(err)), w.Close())
	}
	d.r.SetMaxOpenConns(readers)
	d.r.SetMaxIdleConns(readers)
	return d, nil
}

// reading is base beside the hub that owns the file: it reads only.
type reading struct{ r *sql.DB }

// errReading is returned where somebody who only reads would write.
var errReading = errors.New("the hub's database is open for reading only")

func openReading(ctx context.Context, path string) (*reading, error) {
	if _, err := os.Stat(path); err != nil {
		return nil, fmt.Errorf("open the hub's database for reading: %w", err)
	}
	db, err := sql.Open("sqlite", dsn(path, "deferred", "", "query_only(1)")+"&mode=rw")
	if err != nil {
		return nil, fmt.Errorf("open %s for reading: %w", path, plain(err))
	}
	db.SetMaxOpenConns(readers)
	var version int
	if err := db.QueryRowContext(ctx, "PRAGMA user_version").Scan(&version); err != nil {
		return nil, errors.Join(fmt.Errorf("open %s for reading: %w", path, plain(err)), db.Close())
	}
	if version != schemaVersion {
		return nil, errors.Join(fmt.Errorf("%s has layout %d, this program reads %d: let its hub run once", path, version, schemaVersion), db.Close())
	}
	return &reading{db}, nil
}

func (d *reading) write(context.Context, func(*sql.Tx) error) error { return errReading }

func (d *reading) read(ctx context.Context, do func(*sql.Tx) error) error {
	return within(ctx, d.r, do)
}

func (d *reading) Close() error { return d.r.Close() }

// dsn is the name of a connection. The driver runs _pragma values in the order
// of the alphabet and _journal_mode after them: a page size counts only before
// WAL, and would be lost silently in the list's order.
func dsn(path, lock, journal string, pragmas ...string) string {
	pragmas = append(pragmas, fmt.Sprintf("busy_timeout(%d)", busyMilliseconds), "temp_store(memory)")
	if !slices.ContainsFunc(pragmas, func(p string) bool { return strings.HasPrefix(p, "cache_size") }) {
		pragmas = append(pragmas, fmt.Sprintf("cache_size(-%d)", cacheKiB))
	}
	q := url.Values{"_txlock": {lock}, "_pragma": pragmas}
	if journal != "" {
		q.Set("_journal_mode", journal)
	}
	return (&url.URL{Scheme: "file", Opaque: (&url.URL{Path: path}).EscapedPath(), RawQuery: q.Encode()}).String()
}

func (d *disk) write(ctx context.Context, do func(*sql.Tx) error) error { return within(ctx, d.w, do) }

func (d *disk) read(ctx context.Context, do func(*sql.Tx) error) error { return within(ctx, d.r, do) }

func within(ctx context.Context, db *sql.DB, do func(*sql.Tx) error) error {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return plain(err)
	}
	if err := do(tx); err != nil {
		if back := tx.Rollback(); back != nil && !errors.Is(back, sql.ErrTxDone) {
			return errors.Join(plain(err), back)
		}
		return plain(err)
	}
	return plain(tx.Commit())
}

// Close closes both ends; the write end last, so that it folds the WAL back.
func (d *disk) Close() error { return errors.Join(d.r.Close(), d.w.Close()) }

// Primary result codes of SQLite (sqlite.org/rescode.html) that mean something
// to the person who runs the hub.
const (
	codeError    = 1 // a table is missing
	codeBusy     = 5
	codeReadOnly = 8
	codeIO       = 10
	codeCorrupt  = 11
	codeFull     = 13
	codeCantOpen = 14
	codeNoDB     = 26
)

// plain puts SQLite's codes into words.
func plain(err error) error {
	var e *sqlite.Error
	if !errors.As(err, &e) {
		return err
	}
	switch e.Code() & 0xff {
	case codeBusy:
		return fmt.Errorf("another process holds the hub's database: %w", err)
	case codeReadOnly, codeCantOpen:
		return fmt.Errorf("the hub's database can't be opened for writing: %w", err)
	case codeIO:
		return fmt.Errorf("the hub's disk refuses to read or write: %w", err)
	case codeCorrupt, codeNoDB:
		return fmt.Errorf("the hub's database is damaged: restore a backup: %w", err)
	case codeFull:
		return fmt.Errorf("the hub's disk is full: %w", err)
	}
	return err
}
