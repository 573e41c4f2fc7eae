//go:build unix

package access

import (
	"errors"
	"fmt"
	"os"
	"syscall"
)

// lockFolder waits until no other process changes the folder: one does for a few
// milliseconds. The kernel gives the lock back when a process dies.
func lockFolder(path string) (free func(), err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock the folder of users: %w", err)
	}
	for {
		err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX)
		if !errors.Is(err, syscall.EINTR) {
			break
		}
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("lock the folder of users: %w", err), f.Close())
	}
	return func() { _ = f.Close() }, nil // closing frees it, and can't fail otherwise
}
