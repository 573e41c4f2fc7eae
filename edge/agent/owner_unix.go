//go:build unix

package agent

import (
	"fmt"
	"io/fs"
	"os"
	"syscall"
)

// own gives a file to whom another belongs, where this user may.
func own(path string, as fs.FileInfo) error {
	s, ok := as.Sys().(*syscall.Stat_t)
	if !ok || os.Geteuid() != 0 {
		return nil
	}
	if err := os.Chown(path, int(s.Uid), int(s.Gid)); err != nil {
		return fmt.Errorf("give %s to the owner of %s: %w", path, as.Name(), err)
	}
	return nil
}
