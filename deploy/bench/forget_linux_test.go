package bench

import (
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// forget has the system drop the files of a folder from its cache.
func forget(t *testing.T, dir string) {
	t.Helper()
	const dontNeed = 4 // POSIX_FADV_DONTNEED, posix_fadvise(2)
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer func() { _ = f.Close() }()
		if err := f.Sync(); err != nil { // dirty pages are not dropped
			return err
		}
		if _, _, errno := syscall.Syscall6(syscall.SYS_FADVISE64, f.Fd(), 0, 0, dontNeed, 0, 0); errno != 0 {
			return errno
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
