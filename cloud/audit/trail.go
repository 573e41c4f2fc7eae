package audit

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"sync"
	"time"
)

const (
	// maxFile is how large a file may be before the next one begins.
	maxFile = 4 << 20
	// shownCut is how much of a half written line is told.
	shownCut = 200
)

// Trail is the trail in one folder. Safe for concurrent use, by several processes, too.
type Trail struct {
	dir     string
	now     func() time.Time
	maxFile int64

	mu   sync.Mutex // protects what follows
	tail *tail      // nil: not known
	// asides are the folders of what was set aside before that.
	asides []string
}

// tail is where a trail ends.
type tail struct {
	file string // its name; empty: there is none
	size int64  // of what is whole in it
	seal Seal
	torn []byte // what stands behind that: half a line
}

// Open opens the trail in a folder, which is made where it is not there. Whether it is
// whole each Append and Seal sees, as far as its newest file goes. A half written last
// line is cut off by the next Append.
func Open(dir string, now func() time.Time) (*Trail, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the audit trail's folder: %w", err)
	}
	before, err := asides(dir)
	if err != nil {
		return nil, err
	}
	return &Trail{dir: dir, now: now, maxFile: maxFile, asides: before}, nil
}

// Seal is the newest entry, whoever appended it.
func (t *Trail) Seal() (s Seal, err error) {
	err = t.Hold(func() error {
		now, err := t.look()
		s = now.seal
		return err
	})
	return s, err
}

// Hold keeps all others from appending while do copies the folder.
func (t *Trail) Hold(do func() error) (err error) {
	f, err := lock(t.dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	return do()
}

// look finds the end anew where another process has moved it. The folder is held.
func (t *Trail) look() (tail, error) {
	files, err := names(t.dir)
	if err != nil {
		return tail{}, err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	now, err := end(t.dir, files, t.tail)
	if err != nil && t.tail != nil {
		now, err = t.resumed(files, err)
	}
	if err != nil { // what was seen is kept: what is broken stays so until it is mended
		if broken, is := errors.AsType[*BreakError](err); is && t.tail != nil {
			broken.Since = t.tail.seal
		}
		return tail{}, err
	}
	t.tail = now
	return *now, nil
}

// Append records changes, in this order, all of them or none. They are on the disk when
// it returns.
func (t *Trail) Append(changes ...Change) (s Seal, err error) {
	for i := range changes {
		if changes[i], err = changes[i].bounded(); err != nil {
			return s, err
		}
	}
	err = t.Hold(func() error {
		was, err := t.look()
		if err != nil {
			return err
		}
		now, err := t.write(&was, changes)
		if err != nil {
			return err
		}
		t.mu.Lock()
		defer t.mu.Unlock()
		t.tail, s = now, now.seal
		return nil
	})
	return s, err
}

// write appends behind a tail.
func (t *Trail) write(at *tail, changes []Change) (*tail, error) {
	if at.seal.N == 0 {
		changes = append([]Change{begin()}, changes...)
	}
	if len(at.torn) > 0 {
		was := fmt.Sprintf("%q", at.torn[:min(len(at.torn), shownCut)])
		changes = append([]Change{{Who: "hub", Via: Hub, Action: "audit.cut", Object: at.file, Before: cut(was, maxState), Reason: fmt.Sprintf("the last line was written half, %d bytes: what it says was not done", len(at.torn))}}, changes...)
	}
	next, made := *at, false
	next.torn = nil
	if next.file == "" || next.size >= t.maxFile {
		next.file, next.size, made = nameOf(at.seal.N+1), 0, true
	}
	var lines []byte
	for _, c := range changes {
		line, s, err := seal(c, t.now(), next.seal)
		if err != nil {
			return nil, err
		}
		lines, next.seal = append(lines, line...), s
	}
	if err := t.put(at, &next, lines, made); err != nil {
		return nil, fmt.Errorf("write the audit trail: %w", err)
	}
	next.size += int64(len(lines))
	return &next, nil
}

// begin is the first entry of a trail.
func begin() Change { return Change{Who: "hub", Via: Hub, Action: "audit.begin", Object: "audit"} }

// put brings lines to the disk, or leaves the file as it was as far as it can.
func (t *Trail) put(was, next *tail, lines []byte, made bool) (err error) {
	if len(was.torn) > 0 {
		if err := os.Truncate(filepath.Join(t.dir, was.file), was.size); err != nil {
			return err
		}
	}
	f, err := os.OpenFile(filepath.Join(t.dir, next.file), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(lines)
	if err == nil {
		err = f.Sync()
	}
	if err != nil {
		err = errors.Join(err, f.Truncate(next.size))
	}
	err = errors.Join(err, f.Close())
	if err == nil && made {
		err = syncFolder(t.dir)
	}
	return err
}

func syncFolder(at string) error {
	d, err := os.Open(at)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// nameOf is the file that begins with an entry.
func nameOf(n uint64) string { return fmt.Sprintf("%020d.jsonl", n) }

// beginOf is the entry a file begins with.
func beginOf(name string) uint64 {
	n, _ := strconv.ParseUint(name[:20], 10, 64) // names has seen to that
	return n
}

// names are the files of a trail, in their order.
func names(dir string) (out []string, err error) {
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("list the audit trail: %w", err)
	}
	is := regexp.MustCompile(`^[0-9]{20}\.jsonl$`)
	for _, e := range entries {
		if is.MatchString(e.Name()) {
			out = append(out, e.Name())
		}
	}
	return out, nil
}

// end finds where a trail ends. was is where it ended before, which must still be so;
// nil: nobody knows.
func end(dir string, files []string, was *tail) (*tail, error) {
	if len(files) == 0 {
		if was != nil && was.file != "" {
			return nil, &BreakError{N: was.seal.N, What: "is gone, with all others"}
		}
		return &tail{seal: Seal{Hash: zero()}}, nil
	}
	last := files[len(files)-1]
	if was != nil && was.file == last {
		return readOn(dir, *was)
	}
	at := tail{file: last}
	switch n := beginOf(last); {
	case was != nil && was.seal.N >= n:
		return nil, &BreakError{File: was.file, N: was.seal.N, What: "is gone, with its file"}
	case n == 1:
		at.seal = Seal{Hash: zero()}
	case len(files) == 1:
		return nil, &BreakError{File: last, N: 1, What: "is not there, and the file that begins with it"}
	default:
		before, err := end(dir, files[:len(files)-1], nil)
		if err != nil {
			return nil, err
		}
		if len(before.torn) > 0 || before.seal.N+1 != n {
			return nil, &BreakError{File: last, N: before.seal.N + 1, What: "is not there: this file begins with another one"}
		}
		at.seal = before.seal
	}
	return readOn(dir, at)
}

// readOn reads a file from a place to its end.
func readOn(dir string, at tail) (*tail, error) {
	f, err := os.Open(filepath.Join(dir, at.file))
	if err != nil {
		return nil, fmt.Errorf("read the audit trail: %w", err)
	}
	defer f.Close() //nolint:errcheck // it was only read
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("read the audit trail: %w", err)
	}
	if info.Size() < at.size {
		return nil, &BreakError{File: at.file, N: at.seal.N, What: "is cut off"}
	}
	if _, err := f.Seek(at.size, io.SeekStart); err != nil {
		return nil, fmt.Errorf("read the audit trail: %w", err)
	}
	s := scan{file: at.file, seal: at.seal, size: at.size, in: bufio.NewReaderSize(f, MaxLine)}
	for {
		if _, more, err := s.next(); err != nil || !more {
			return &tail{file: at.file, size: s.size, seal: s.seal, torn: s.torn}, err
		}
	}
}

// scan reads a file entry by entry.
type scan struct {
	file string
	seal Seal  // of the entry before
	size int64 // read so far
	line int
	raw  []byte // the line of the newest entry, good until the next
	torn []byte // behind the last whole line
	in   *bufio.Reader
}

// next reads an entry, and sees that it follows the one before.
func (s *scan) next() (e Entry, more bool, err error) {
	line, err := s.in.ReadSlice('\n')
	broken := func(format string, args ...any) (Entry, bool, error) {
		return Entry{}, false, &BreakError{File: s.file, Line: s.line + 1, N: s.seal.N + 1, What: fmt.Sprintf(format, args...)}
	}
	switch {
	case errors.Is(err, bufio.ErrBufferFull):
		return broken("is longer than an entry can be")
	case errors.Is(err, io.EOF):
		s.torn = bytes.Clone(line)
		return e, false, nil
	case err != nil:
		return e, false, fmt.Errorf("read the audit trail: %w", err)
	}
	raw, size := line, int64(len(line))
	line = line[:len(line)-1]
	if e, err = unseal(line); err != nil {
		if _, more := s.in.Peek(1); more != nil && bytes.IndexByte(line, 0) >= 0 { // a page of it never reached the disk
			s.torn = append(bytes.Clone(line), '\n')
			return Entry{}, false, nil
		}
		return broken("%v", err)
	}
	switch {
	case e.N != s.seal.N+1:
		return broken("is not there: entry %d is", e.N)
	case e.Prev != s.seal.Hash:
		return broken("does not follow entry %d: the hash before it is another", s.seal.N)
	}
	s.seal, s.size, s.line, s.raw = Seal{e.N, e.Hash}, s.size+size, s.line+1, raw
	return e, true, nil
}
