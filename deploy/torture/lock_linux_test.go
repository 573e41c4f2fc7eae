package torture

import (
	"os"
	"syscall"
)

// writeLock is the byte of a WAL's shared memory that a writer of SQLite locks
// (sqlite.org/walformat.html, "WAL Locks").
const writeLock = 120

// lockDatabase holds a database as another writer would, until unlock.
func lockDatabase(x *trial, shm string) (unlock func()) {
	x.Helper()
	f, err := os.OpenFile(shm, os.O_RDWR, 0)
	if err != nil {
		x.Fatal(err)
	}
	want := syscall.Flock_t{Type: syscall.F_WRLCK, Start: writeLock, Len: 1}
	x.untilNil("lock the hub's database", func() error { return syscall.FcntlFlock(f.Fd(), syscall.F_SETLK, &want) })
	return func() {
		if err := f.Close(); err != nil {
			x.Error(err)
		}
	}
}
