//go:build unix

package store

import (
	"fmt"
	"syscall"
)

// freeBytes is what the file system of a folder has left for this user.
func freeBytes(dir string) (int64, error) {
	var s syscall.Statfs_t
	if err := syscall.Statfs(dir, &s); err != nil {
		return 0, fmt.Errorf("ask the file system for free space: %w", err)
	}
	return int64(s.Bavail) * int64(s.Bsize), nil //nolint:unconvert,nolintlint // Bsize differs by platform
}
