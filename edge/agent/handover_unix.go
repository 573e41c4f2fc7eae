//go:build unix

package agent

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// HandOver gives what root has made among the certificates of OPC UA to whoever the data
// folder belongs to: the service's user could not read it. For others it does nothing.
func HandOver(path string) error {
	c, err := OpenConfig(path)
	if os.Geteuid() != 0 || err != nil || c.Data == "" {
		return nil // who could not read it has made nothing
	}
	// In a folder of somebody else root follows no link that leads out of it.
	data, err := os.OpenRoot(c.Data)
	if err != nil {
		return nil // there is none yet
	}
	defer data.Close() //nolint:errcheck // it was only read
	owner, ok := ownerOf(data, ".")
	if !ok || owner.Uid == 0 {
		return nil
	}
	return fs.WalkDir(data.FS(), filepath.Base(c.application().Store), func(name string, _ fs.DirEntry, err error) error {
		if err != nil {
			return nil //nolint:nilerr // it is not there
		}
		// A file that has other names may be one of elsewhere.
		if has, ok := ownerOf(data, name); !ok || has.Uid != 0 || has.Mode&syscall.S_IFMT == syscall.S_IFREG && has.Nlink > 1 {
			return nil
		}
		if err := data.Lchown(name, int(owner.Uid), int(owner.Gid)); err != nil {
			return fmt.Errorf("give %s to the user of %s: %w", name, c.Data, err)
		}
		return nil
	})
}

func ownerOf(in *os.Root, name string) (syscall.Stat_t, bool) {
	info, err := in.Lstat(name)
	if err != nil {
		return syscall.Stat_t{}, false
	}
	s, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return syscall.Stat_t{}, false
	}
	return *s, true
}
