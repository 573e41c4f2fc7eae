package buffer

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
)

// reserve is space of the disk held back in a file, so that the agent can say
// what it must (an opening, a void, a fact) when others have filled the disk. It
// is given back in steps, because what is given at once others take. Used under
// the buffer's writing lock.
type reserve struct {
	path string
	size int64 // when it is whole
}

// reserveStep is the least that is given back: a small segment fits.
const reserveStep = 256 << 10

// held is what it holds now.
func (r *reserve) held() int64 {
	info, err := os.Stat(r.path)
	if err != nil || !info.Mode().IsRegular() {
		return 0
	}
	return info.Size()
}

// give gives n bytes back to the disk, or what is left. False: there is nothing.
func (r *reserve) give(n int64) bool {
	held := r.held()
	return held > 0 && os.Truncate(r.path, max(0, held-max(n, reserveStep))) == nil
}

// restore makes it whole again. What is there already stays.
func (r *reserve) restore() error {
	if info, err := os.Lstat(r.path); err == nil && !info.Mode().IsRegular() {
		return fmt.Errorf("hold back space: %s is no plain file", r.path)
	} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("hold back space: %w", err)
	}
	f, err := os.OpenFile(r.path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return fmt.Errorf("hold back space: %w", err)
	}
	held := r.held()
	err = allocate(f, held, r.size-held)
	if err == nil {
		err = f.Sync()
	} else {
		err = errors.Join(err, f.Truncate(held))
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("hold back space: %w", err)
	}
	return nil
}

// write takes space the plain way, for file systems that can't be asked.
func write(f *os.File, from, n int64) error {
	zeros := make([]byte, min(n, 1<<20))
	for end := from + n; from < end; from += int64(len(zeros)) {
		if _, err := f.WriteAt(zeros[:min(end-from, int64(len(zeros)))], from); err != nil {
			return err
		}
	}
	return nil
}

// restoreReserve makes the reserve whole if the disk has more than that to spare.
func (b *Buffer) restoreReserve() {
	lack := b.reserve.size - b.reserve.held()
	if lack <= 0 {
		return
	}
	if free, err := b.free(); err != nil || free-lack < b.minFree {
		return
	}
	if err := b.reserve.restore(); err != nil {
		b.log.Warn("no space is held back", "err", err)
	}
}
