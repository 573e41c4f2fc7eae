package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"modernc.org/sqlite"

	"plantmesh/proto/mesh"
)

// Layout is that of the database this program writes. It reads older ones too.
const Layout = schemaVersion

// copyRounds bounds how often a copy begins anew because retention dropped days
// under it, which it does every few minutes at most.
const copyRounds = 20

// errDropping is returned where that was not enough.
var errDropping = errors.New("days of the history are dropped faster than they can be copied: try again later")

// copyPages of a file are copied at a time.
const copyPages = 1024

// Copied is what a copy holds.
type Copied struct {
	Tip  mesh.Position // the end of the hub's log
	Days int           // files of the history
	// Faults are files of the history that were lost or damaged before they were
	// copied, in words.
	Faults []string
}

// Copy copies the database at path, whose hub may run meanwhile, and the history
// beside it into an empty folder. The copy is what stood at one instant: the
// database is one snapshot, and each day's file has what that snapshot knows of
// it, whatever passes of the compactor and retention do in between.
func Copy(ctx context.Context, path, folder string, log *slog.Logger) (out Copied, err error) {
	src, err := OpenReading(ctx, path, log)
	if err != nil {
		return out, err
	}
	defer func() { err = errors.Join(err, src.Close()) }()
	return copyOut(ctx, src, path, folder)
}

func copyOut(ctx context.Context, src *Store, path, folder string) (out Copied, err error) {
	c := &copier{src: src, path: path, to: filepath.Join(folder, filepath.Base(path)), done: map[int64]dayStat{}}
	c.dst = &Store{folder: filepath.Join(folder, filepath.Base(src.folder)), log: src.log}
	for n := 0; ; n++ {
		again, err := c.round(ctx)
		if err == nil && again && n == copyRounds {
			err = errDropping
		}
		if err != nil {
			return out, fmt.Errorf("copy the hub's database: %w", err)
		}
		if !again {
			break
		}
	}
	if err := c.rest(ctx); err != nil {
		return out, fmt.Errorf("copy the history: %w", err)
	}
	out = Copied{Tip: c.snap.tip, Days: len(c.done), Faults: c.faults}
	return out, errors.Join(ifThere(c.dst.folder, syncFolder), syncFolder(folder))
}

func ifThere(path string, do func(string) error) error {
	if err := do(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// copier is a copy under way.
type copier struct {
	src, dst *Store
	path, to string // the database and its copy
	snap     stand
	done     map[int64]dayStat // days that were copied as they are known
	faults   []string
}

// stand is what a database says of the history.
type stand struct {
	days, going map[int64]dayStat
	begun       map[int64]bool
	kept        mesh.Nanos
	tip         mesh.Position
}

func (s *stand) read(ctx context.Context, tx *sql.Tx) (err error) {
	if s.days, err = readDays(ctx, tx); err != nil {
		return err
	}
	if s.begun, s.going, err = readUnfinished(ctx, tx); err != nil {
		return err
	}
	if s.kept, err = keptSince(ctx, tx); err != nil {
		return err
	}
	_, s.tip, err = tip(ctx, tx, hubLog(0))
	return err
}

// round copies the database anew, and every file it knows that was not copied
// as it knows it. again is true where days were dropped meanwhile.
func (c *copier) round(ctx context.Context) (again bool, err error) {
	c.faults = nil
	var differ []int64
	if err := c.database(ctx); err != nil {
		return false, err
	}
	if err := c.src.halted("database copied"); err != nil {
		return false, err
	}
	for day := range c.done {
		if _, there := c.snap.days[day]; !there {
			delete(c.done, day)
			if err := os.Remove(c.dst.dayFile(day)); err != nil {
				return false, err
			}
		}
	}
	for _, day := range slices.Sorted(maps.Keys(c.snap.days)) {
		known := c.snap.days[day]
		if c.done[day] == known {
			continue
		}
		delete(c.done, day)
		err := c.day(ctx, day, known)
		switch {
		case ctx.Err() != nil:
			return false, ctx.Err()
		case err == nil:
			c.done[day] = known
		case errors.Is(err, fs.ErrNotExist) || errors.Is(err, errDay) || damaged(err):
			differ = append(differ, day)
			c.faults = append(c.faults, fmt.Sprintf("%s: %s", c.src.dayFile(day), err))
		default:
			return false, err
		}
	}
	var now stand
	if err := c.src.base.read(ctx, func(tx *sql.Tx) error { return now.read(ctx, tx) }); err != nil {
		return false, err
	}
	for day := range c.snap.days {
		_, there := now.days[day]
		again = again || !there
	}
	for _, day := range differ { // else it was merged with what came meanwhile
		again = again || now.days[day] != c.snap.days[day]
	}
	return again || now.kept != c.snap.kept, nil
}

// database copies hub.db, and reads in the copy what it says.
func (c *copier) database(ctx context.Context) (err error) {
	if err := copyDatabase(ctx, c.path, c.to, "rw", true); err != nil {
		return err
	}
	d, err := openReading(ctx, c.to)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	return d.read(ctx, func(tx *sql.Tx) error { return c.snap.read(ctx, tx) })
}

// day copies a day's file, takes away what the snapshot doesn't know yet, and
// makes sure that the rest is there. A damaged one is copied as it is.
func (c *copier) day(ctx context.Context, day int64, known dayStat) error {
	if err := c.dst.makeFolder(); err != nil {
		return err
	}
	from, to := c.src.dayFile(day), c.dst.dayFile(day)
	if _, err := os.Stat(from); err != nil {
		return err
	}
	err := copyDatabase(ctx, from, to, "ro", false) // see openFile
	if codeOf(err) == codeReadOnly {
		err = copyDatabase(ctx, from, to, "rw", false)
	}
	if damaged(err) {
		return errors.Join(err, os.Remove(to), copyFile(from, to))
	}
	if err != nil {
		return err
	}
	if err := c.check(ctx, day, known, 0); err != nil {
		return err
	}
	if c.check(ctx, day, known, maxPass) == nil {
		return nil
	}
	return c.dst.changeDay(ctx, day, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `DELETE FROM chunk WHERE id > ?`, known.chunks)
		return err
	})
}

// maxPass is more than any pass.
const maxPass = 1<<63 - 2

func (c *copier) check(ctx context.Context, day int64, known dayStat, upTo int64) (err error) {
	db, err := c.dst.openDay(ctx, day)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	return plain(known.check(ctx, db, day, upTo))
}

// rest copies what else lies in the history and may be all that is left of
// something: what was set aside, and files the database doesn't know, see sweep.
func (c *copier) rest(ctx context.Context) error {
	files, err := os.ReadDir(c.src.folder)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	var now stand
	if err := c.src.base.read(ctx, func(tx *sql.Tx) error { return now.read(ctx, tx) }); err != nil {
		return err
	}
	for _, f := range files {
		if _, merging := dayMerging(f.Name()); merging || !f.Type().IsRegular() || strings.HasSuffix(f.Name(), "-journal") {
			continue
		}
		if day, ok := dayOfFile(f.Name()); ok && c.known(ctx, day, &now) {
			continue
		}
		if err := c.dst.makeFolder(); err != nil {
			return err
		}
		err := copyFile(filepath.Join(c.src.folder, f.Name()), filepath.Join(c.dst.folder, f.Name()))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// known says whether a day's file was copied, or holds nothing that the copied
// database has not in another form.
func (c *copier) known(ctx context.Context, day int64, now *stand) bool {
	for _, of := range []map[int64]dayStat{c.snap.days, c.snap.going, now.days, now.going} {
		if _, ok := of[day]; ok {
			return true
		}
	}
	passes, err := c.src.contents(ctx, day)
	return err == nil && left(now.begun, passes)
}

// copyDatabase copies a database file page by page into to, readable by its
// owner alone. One that is written all the time is held as it is meanwhile,
// which its writer doesn't notice in WAL mode only; another is begun anew by
// SQLite where it was written.
func copyDatabase(ctx context.Context, from, to, mode string, hold bool) (err error) {
	f, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err == nil {
		err = f.Close()
	}
	if err != nil {
		return err
	}
	db, err := sql.Open("sqlite", dsn(from, "deferred", "", "query_only(1)")+"&mode="+mode)
	if err != nil {
		return fmt.Errorf("open %s: %w", from, plain(err))
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	conn, err := db.Conn(ctx)
	if err != nil {
		return fmt.Errorf("open %s: %w", from, plain(err))
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	if hold {
		for _, do := range []string{"BEGIN", "SELECT count(*) FROM sqlite_master"} {
			if _, err := conn.ExecContext(ctx, do); err != nil {
				return fmt.Errorf("hold %s: %w", from, plain(err))
			}
		}
	}
	uri := (&url.URL{Scheme: "file", Opaque: (&url.URL{Path: to}).EscapedPath()}).String()
	if err := conn.Raw(func(c any) error { return copyPagewise(ctx, c, uri) }); err != nil {
		return fmt.Errorf("copy %s: %w", from, plain(err))
	}
	return nil
}

// errDriver is returned where the driver can't copy: never, in one of ours.
var errDriver = errors.New("the driver of the database can't copy")

func copyPagewise(ctx context.Context, conn any, uri string) (err error) {
	c, ok := conn.(interface {
		NewBackup(to string) (*sqlite.Backup, error)
	})
	if !ok {
		return errDriver
	}
	b, err := c.NewBackup(uri)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.Finish()) }()
	for more := true; more; {
		if more, err = b.Step(copyPages); err != nil {
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
	}
	return nil
}
