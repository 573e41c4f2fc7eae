//go:build unix

package audit

import (
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"
)

// lockWithin is how long an append waits for those of other processes: each is two
// writes and a sync.
const lockWithin = 10 * time.Second

// lock takes the folder for this process; the kernel gives it back when that dies.
func lock(dir string) (*os.File, error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, fmt.Errorf("lock the audit trail: %w", err)
	}
	for end := time.Now().Add(lockWithin); ; {
		err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return f, nil
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) && !errors.Is(err, syscall.EINTR) || time.Now().After(end) {
			return nil, errors.Join(fmt.Errorf("lock the audit trail: %w", err), f.Close())
		}
		<-time.After(lockWithin / 5000)
	}
}
