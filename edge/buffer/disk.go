package buffer

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"syscall"
	"time"

	"go.etcd.io/bbolt"
	bolterr "go.etcd.io/bbolt/errors"

	"plantmesh/proto/fault"
)

// The seam below the log. Tests put faults here; nothing above it knows bbolt.

// Errors of the seam.
var (
	// errDamaged means the segment can't be trusted: set it aside.
	errDamaged = errors.New("the segment is damaged")
	// errBack means a segment that is damaged in such a way that its last commit
	// may be gone without a trace.
	errBack = fmt.Errorf("%w: it may have gone back by a commit", errDamaged)
	// errClosed means the handle was closed meanwhile: take a new one.
	errClosed = errors.New("the segment is closed")
)

// disk holds segments by name. It is called by one goroutine at a time, but for
// Open of existing segments, which any may call.
type disk interface {
	// Names are those of all segments, sorted.
	Names() ([]string, error)
	// Open opens a segment. A created one is durable, with its spaces, on return;
	// of one that is continued all that will be read of it.
	Open(name string, how mode) (segment, error)
	// Remove deletes a segment; SetAside keeps its bytes under another name.
	Remove(name string) error
	SetAside(name string) error
}

// mode says how a segment is opened.
type mode uint8

const (
	modeRead   mode = iota // for View only
	modeAppend             // it exists and is continued
	modeCreate             // it must not exist
)

// segment is one file of records. View may run beside Update and beside other
// Views; Update is called by one goroutine at a time.
type segment interface {
	// Update runs fn in a transaction that is durable when it returns nil. After
	// an error nobody knows what became of it. written are the bytes that the
	// file system was given.
	Update(fn func(tx) error) (written int64, err error)
	View(fn func(tx) error) error
	// Trim gives back what was taken ahead, when nothing will be put any more.
	Trim() error
	// Close waits for the Views that run.
	Close() error
}

// tx is one transaction, for the goroutine that runs its function. What it put
// is durable, all or none, when Update returns nil; in a View there is no Put.
// Bytes it gives are valid only inside, bytes it takes belong to the caller
// again when the transaction has ended.
type tx interface {
	Put(s space, key, value []byte) error
	Get(s space, key []byte) []byte
	// Scan calls fn for the keys at and after from, in order, until it returns false.
	Scan(s space, from []byte, fn func(key, value []byte) bool)
	// Size is what the segment takes on disk, in bytes.
	Size() int64
}

// space is a keyspace of a segment.
type space string

const (
	spaceRecord     space = "record"     // index: record frame
	spaceState      space = "state"      // source: its state
	spaceWide       space = "wide"       // the same, of sources with much of it; not in segments of before 2026-11-28
	spaceDescriptor space = "descriptor" // hash: kind, content
	spaceTally      space = "tally"      // source: what this segment holds of it
	spaceName       space = "name"       // hash of a descriptor this segment's records name
	spaceSkip       space = "skip"       // index of a record that was quarantined
	spaceMeta       space = "meta"       // "chain", and "place": log, number and first index
)

func spaces() []space {
	return []space{spaceRecord, spaceState, spaceWide, spaceDescriptor, spaceTally, spaceName, spaceSkip, spaceMeta}
}

const (
	segmentSuffix = ".seg"
	makingSuffix  = ".making" // a segment that is being created: worth nothing after a crash
)

// folder is a disk of bbolt files.
type folder struct {
	dir  string
	size int64 // of a full segment: its memory map is made that large at once
}

func (f folder) path(name string) string { return filepath.Join(f.dir, name) }

func (f folder) Names() (out []string, err error) {
	entries, err := os.ReadDir(f.dir)
	if err != nil {
		return nil, fmt.Errorf("list segments: %w", err)
	}
	for _, e := range entries {
		switch {
		case strings.HasSuffix(e.Name(), makingSuffix):
			if !f.halfMade(e.Name()) {
				continue
			}
			if err := os.Remove(f.path(e.Name())); err != nil {
				return nil, fmt.Errorf("remove a half made segment: %w", err)
			}
		case strings.HasSuffix(e.Name(), segmentSuffix):
			out = append(out, e.Name())
		}
	}
	return out, nil
}

func (f folder) Open(name string, how mode) (s segment, err error) {
	err = guard(func() error {
		if how == modeCreate {
			if err := f.create(name); err != nil {
				return fmt.Errorf("create segment %s: %w", name, err)
			}
		}
		if s, err = f.open(f.path(name), how == modeRead); err != nil {
			return fmt.Errorf("open segment %s: %w", name, err)
		}
		return nil
	})
	return s, err
}

// halfMade reports whether a file is a segment whose making was cut off: its
// name is one we give, and no record can be read in it.
func (f folder) halfMade(name string) bool {
	if _, _, ok := parseName(strings.TrimSuffix(name, makingSuffix)); !ok {
		return false
	}
	s, err := f.Open(name, modeRead)
	if err != nil {
		return errors.Is(err, errDamaged)
	}
	holds := false
	err = s.View(func(t tx) error {
		t.Scan(spaceRecord, nil, func(_, _ []byte) bool {
			holds = true
			return false
		})
		return nil
	})
	if err != nil {
		return errors.Is(err, errDamaged)
	}
	return s.Close() == nil && !holds
}

// create makes a segment under another name first: bbolt's first pages are not
// safe against a power cut.
func (f folder) create(name string) error {
	making := f.path(name) + makingSuffix
	if err := os.Remove(making); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if _, err := os.Stat(f.path(name)); err == nil {
		return fs.ErrExist
	}
	db, file, err := f.bolt(making, false)
	if err != nil {
		return err
	}
	ahead := newAhead(file, f.size)
	ahead.write(0)
	err = db.Update(func(t *bbolt.Tx) error {
		for _, s := range spaces() {
			if _, err := t.CreateBucket([]byte(s)); err != nil {
				return err
			}
		}
		return nil
	})
	if err := errors.Join(err, db.Close()); err != nil {
		return errors.Join(err, os.Remove(making))
	}
	if err := os.Rename(making, f.path(name)); err != nil {
		return err
	}
	return syncDir(f.dir)
}

// pageBytes is the size of a segment's pages: what file systems and flash
// controllers write at least. Some kernels have memory pages of 16 or 64 KiB,
// which bbolt would take: each commit would write that many times as much.
const pageBytes = 4096

// options follow what bbolt's users learned the hard way: the hash map freelist
// does not degrade, a timeout turns a forgotten process into an error, and a
// map that is large enough never makes readers wait for a writer. The freelist
// is not written with each commit but found again at opening, by reading what
// one segment has.
func (f folder) options(read bool) *bbolt.Options {
	return &bbolt.Options{
		Timeout: 2 * time.Second, FreelistType: bbolt.FreelistMapType, NoFreelistSync: true, InitialMmapSize: int(f.size),
		PageSize: pageBytes, ReadOnly: read, NoStatistics: true,
	}
}

// bolt opens a file with bbolt.
func (f folder) bolt(path string, read bool) (db *bbolt.DB, file *os.File, err error) {
	o := f.options(read)
	o.OpenFile = func(name string, flag int, mode os.FileMode) (*os.File, error) {
		file, err = os.OpenFile(name, flag, mode)
		return file, err
	}
	db, err = bbolt.Open(path, 0o600, o)
	var system syscall.Errno
	switch {
	case err == nil:
		db.AllocSize = int(aheadStep(f.size)) // where nothing could be written ahead
		return db, file, nil
	case errors.Is(err, bolterr.ErrTimeout), errors.As(err, &system) && system != syscall.EIO:
		return nil, nil, err // the machine's trouble, not the file's
	}
	return nil, nil, fmt.Errorf("%w: %w", errDamaged, err)
}

// walk looks at a segment before bbolt does: at every page where it is to be
// continued, else only at where pages lead to.
func (f folder) walk(path string, read bool) error {
	db, file, err := f.bolt(path, true)
	if err != nil {
		return err
	}
	err = db.View(func(t *bbolt.Tx) error {
		page := db.Info().PageSize
		w := walk{file: file, page: page, seen: make([]bool, t.Size()/int64(page))}
		root := uint64(t.Cursor().Bucket().Root())
		if read {
			return w.outline(root, true, 0)
		}
		return errors.Join(w.heads(), w.tree(root, true, span{}, 0))
	})
	if err != nil {
		err = fmt.Errorf("%w: %w", errDamaged, err)
	}
	return errors.Join(err, db.Close())
}

func (f folder) open(path string, read bool) (segment, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if info.Size() == 0 {
		return nil, fmt.Errorf("%w: it is empty", errDamaged) // bbolt would make a new one of it
	}
	if err := f.walk(path, read); err != nil {
		return nil, err
	}
	db, file, err := f.bolt(path, read)
	if err != nil {
		return nil, err
	}
	var size int64
	missing := space("")
	err = db.View(func(t *bbolt.Tx) error {
		size = t.Size()
		for _, s := range spaces() {
			if t.Bucket([]byte(s)) == nil && s != spaceWide {
				missing = s
			}
		}
		return nil
	})
	switch {
	case err != nil:
	case size > info.Size():
		err = fmt.Errorf("%w: it was cut to %d of %d bytes", errDamaged, info.Size(), size)
	case missing != "":
		err = fmt.Errorf("%w: it has no space %q", errDamaged, missing)
	}
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	s := &boltSegment{db: db, last: leaf{page: db.Info().PageSize}}
	s.last.used = s.last.page
	if !read {
		if err := renew(db, file); err != nil {
			return nil, errors.Join(fmt.Errorf("make the last commit durable: %w", err), db.Close())
		}
		s.ahead = newAhead(file, f.size)
	}
	return s, nil
}

// pages is a segment's file, to be read and written in place.
type pages interface {
	io.ReaderAt
	io.WriterAt
}

// renew makes durable what was read of a segment. bbolt syncs a commit's pages
// and then the page that names their root; where that second sync failed and the
// process was killed before it noted so, the kernel takes that page for clean:
// it reads back, a sync writes nothing, and a power loss takes the commit. So the
// page is written as it is, which makes it one to be synced.
func renew(db *bbolt.DB, file pages) error {
	return db.View(func(t *bbolt.Tx) error {
		page := make([]byte, pageBytes)
		at := int64(t.ID()%2) * int64(db.Info().PageSize)
		if _, err := file.ReadAt(page, at); err != nil {
			return err
		}
		if _, err := file.WriteAt(page, at); err != nil {
			return err
		}
		return db.Sync()
	})
}

func (f folder) Remove(name string) error {
	if err := os.Remove(f.path(name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove segment: %w", err)
	}
	return syncDir(f.dir)
}

func (f folder) SetAside(name string) error {
	for n := 1; ; n++ {
		to := f.path(fmt.Sprintf("%s.bad-%d", strings.TrimSuffix(name, segmentSuffix), n))
		if _, err := os.Stat(to); err == nil {
			continue
		}
		if err := os.Rename(f.path(name), to); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("set a segment aside: %w", err)
		}
		return syncDir(f.dir)
	}
}

// syncDir makes the names in a directory durable.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("sync directory: %w", err)
	}
	return errors.Join(d.Sync(), d.Close())
}

// boltSegment is a segment in a bbolt file.
type boltSegment struct {
	db    *bbolt.DB
	last  leaf // of the records
	ahead ahead
}

// Update does not use bbolt's own: after a panic that one looks for the free
// pages of what has just proved to be damaged, where no guard reaches.
func (s *boltSegment) Update(fn func(tx) error) (written int64, err error) {
	err = guard(func() error {
		t, err := s.db.Begin(true)
		if err != nil {
			return closedAs(err)
		}
		defer func() {
			if r := recover(); r != nil {
				_ = guard(t.Rollback) // gives its locks back, and looks for no free pages
				panic(r)
			}
		}()
		s.spare(t)
		written = s.ahead.write(t.Size())
		if err := fn(boltTx{t, &s.last}); err != nil {
			return errors.Join(err, t.Rollback())
		}
		fault.Point("buffer.commit.before")
		if err := t.Commit(); err != nil {
			return err
		}
		cost := t.Stats()
		written += cost.GetPageAlloc() + pageBytes // the page that names the root
		return nil
	})
	return written, err
}

func (s *boltSegment) View(fn func(tx) error) error {
	return guard(func() error {
		return closedAs(s.db.View(func(t *bbolt.Tx) error {
			defer s.spare(t)
			return fn(boltTx{t, nil})
		}))
	})
}

// spare gives back what of the file is mapped: an hour's backlog is read once
// by the rules and once by each road, and every page of it would count as the
// agent's memory for as long as the segment is open.
func (s *boltSegment) spare(t *bbolt.Tx) { spare(s.db.Info().Data, t.Size()) }

func (s *boltSegment) Trim() error {
	return s.View(func(t tx) error { return s.ahead.trim(t.Size()) })
}

func (s *boltSegment) Close() error { return s.db.Close() }

func closedAs(err error) error {
	if errors.Is(err, bolterr.ErrDatabaseNotOpen) {
		return errClosed
	}
	return err
}

// boltTx is a transaction of bbolt. Records lie in it in pieces, see cut.
type boltTx struct {
	t    *bbolt.Tx
	last *leaf // nil: for View only
}

func (t boltTx) Put(s space, key, value []byte) error {
	b, err := t.t.CreateBucketIfNotExists([]byte(s))
	if err != nil {
		return err
	}
	if s != spaceRecord {
		return b.Put(key, value)
	}
	b.FillPercent = 1 // keys only grow: full pages are never split
	for n, size := range t.last.cut(key, len(value)) {
		if err := b.Put(pieceKey(key, n), value[:size:size]); err != nil {
			return err
		}
		value = value[size:]
	}
	return nil
}

func (t boltTx) Get(s space, key []byte) (value []byte) {
	if s != spaceRecord {
		if b := t.t.Bucket([]byte(s)); b != nil {
			value = t.within(b.Get(key))
		}
		return value
	}
	t.Scan(s, key, func(k, v []byte) bool {
		if bytes.Equal(k, key) {
			value = v
		}
		return false
	})
	return value
}

func (t boltTx) Scan(s space, from []byte, fn func(k, v []byte) bool) {
	b := t.t.Bucket([]byte(s))
	if b == nil {
		return
	}
	c := b.Cursor()
	if s == spaceRecord {
		t.scanRecords(c, from, fn)
		return
	}
	for k, v := c.Seek(from); k != nil && fn(t.within(k), t.within(v)); k, v = c.Next() {
		continue
	}
}

func (t boltTx) Size() int64 { return t.t.Size() }

// guard turns what bbolt does with damaged pages, a panic or a fault in the
// memory map, into errDamaged. A handle that panicked must not be closed: its
// locks may still be held.
func guard(fn func() error) (err error) {
	old := debug.SetPanicOnFault(true)
	defer debug.SetPanicOnFault(old)
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("%w: %v", errDamaged, r)
		}
	}()
	return fn()
}
