package host

import (
	"fmt"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Bits of adjtimex(2).
const (
	staUnsync = 0x0040
	staNano   = 0x2000
	timeError = 5
)

// ReadClock asks the kernel (adjtimex(2)) without changing anything.
func ReadClock() (Clock, error) {
	var t unix.Timex
	state, err := unix.Adjtimex(&t)
	if err != nil {
		return Clock{}, fmt.Errorf("ask the kernel for its clock: %w", err)
	}
	unit := time.Microsecond
	if t.Status&staNano != 0 {
		unit = time.Nanosecond
	}
	return Clock{
		Kept:   state != timeError && t.Status&staUnsync == 0,
		Offset: time.Duration(t.Offset) * unit,
		Most:   time.Duration(t.Maxerror) * time.Microsecond,
	}, nil
}

// ReadDisk looks at the file system of a folder.
func ReadDisk(path string) (Disk, error) {
	var s unix.Statfs_t
	if err := unix.Statfs(path, &s); err != nil {
		return Disk{}, fmt.Errorf("look at the file system of %s: %w", path, err)
	}
	unit := int64(s.Bsize) //nolint:unconvert // 32 bits on some processors
	return Disk{
		Size: int64(s.Blocks) * unit, Free: int64(s.Bavail) * unit, Files: s.Files, FilesFree: s.Ffree,
		ReadOnly: int64(s.Flags)&unix.ST_RDONLY != 0, //nolint:unconvert // likewise
	}, nil
}

// Owner is whose a file is, by its number.
func Owner(path string) (uid uint32, err error) {
	var s unix.Stat_t
	if err := unix.Stat(path, &s); err != nil {
		return 0, fmt.Errorf("look whose %s is: %w", path, err)
	}
	return s.Uid, nil
}

// Shut takes the rights of everybody but owner and group at a file or a folder away; path is
// absolute. It follows no link anywhere on the way, and leaves what has other names alone: root
// may be led elsewhere by them.
func Shut(path string) error {
	fd, err := unlinked(path)
	if err != nil {
		return fmt.Errorf("open %s: %w", path, err)
	}
	defer unix.Close(fd) //nolint:errcheck // nothing was written
	var s unix.Stat_t
	if err := unix.Fstat(fd, &s); err != nil {
		return fmt.Errorf("look at %s: %w", path, err)
	}
	if kind := s.Mode & unix.S_IFMT; kind != unix.S_IFDIR && (kind != unix.S_IFREG || s.Nlink > 1) {
		return fmt.Errorf("%s is no file or folder of one name", path)
	}
	if err := unix.Fchmod(fd, s.Mode&0o7770); err != nil {
		return fmt.Errorf("change the rights of %s: %w", path, err)
	}
	return nil
}

// unlinked opens what is at an absolute path that has no links in it, to be read.
func unlinked(path string) (fd int, err error) {
	at, err := unix.Open("/", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	defer func() { _ = unix.Close(at) }() // nothing was written
	steps := strings.Split(strings.Trim(path, "/"), "/")
	for _, step := range steps[:len(steps)-1] {
		next, err := unix.Openat(at, step, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		if err != nil {
			return -1, fmt.Errorf("%s on the way: %w", step, err)
		}
		_ = unix.Close(at) // as above
		at = next
	}
	return unix.Openat(at, steps[len(steps)-1], unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
}

// ReadMemory says how much memory there is.
func ReadMemory() (Memory, error) { return readMemory("/proc", "/sys/fs/cgroup") }

// Files is how many files a process may have open.
func Files() (uint64, error) {
	var r unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &r); err != nil {
		return 0, fmt.Errorf("ask for the limit of open files: %w", err)
	}
	return r.Cur, nil
}
