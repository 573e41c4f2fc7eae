//go:build unix

package trust

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

const (
	lockStep     = 50 * time.Millisecond
	lockPatience = 600 // steps: a slow gateway takes seconds to make a key
)

// lock keeps other processes from changing own certificates and trust until
// unlock, and removes what a crash left of earlier changes. Judge needs none. The kernel gives the lock back when a process dies.
func (s *Store) lock() (unlock func(), err error) {
	f, err := os.OpenFile(filepath.Join(s.dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock the certificate store: %w", err)
	}
	for range lockPatience {
		err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if !errors.Is(err, syscall.EWOULDBLOCK) && !errors.Is(err, syscall.EINTR) {
			break
		}
		<-time.After(lockStep)
	}
	if err != nil {
		_ = f.Close() // nothing was written
		return nil, fmt.Errorf("lock the certificate store: another process has been changing it for long: %w", err)
	}
	s.sweep()
	return func() { _ = f.Close() }, nil // closing unlocks, and nothing was written
}

// guarded fails if others than the owner may write to a folder.
func guarded(dir string) error {
	info, err := os.Stat(dir)
	if err != nil {
		return err
	}
	if !info.IsDir() {
		return fmt.Errorf("%s is no folder", dir)
	}
	if info.Mode().Perm()&0o022 != 0 {
		return fmt.Errorf("others may write to %s (mode %04o), and could put their own certificates there: chmod go-w %s", dir, info.Mode().Perm(), dir)
	}
	return nil
}

// private takes from all others what they may do with a folder.
func private(dir string) error {
	_, err := narrow(dir, 0o700)
	return err
}

// narrow takes away what mode doesn't allow, and says whether there was any.
func narrow(path string, mode os.FileMode) (was bool, err error) {
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm()&^mode == 0 {
		return false, err
	}
	if err := os.Chmod(path, info.Mode().Perm()&mode); err != nil {
		return false, fmt.Errorf("others can use %s, and that can't be changed: %w", path, err)
	}
	return true, nil
}

// syncDir makes the names in a folder durable.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("sync folder: %w", err)
	}
	return errors.Join(d.Sync(), d.Close())
}
