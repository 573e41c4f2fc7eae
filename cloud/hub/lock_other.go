//go:build !unix

package hub

import (
	"fmt"
	"os"
	"path/filepath"
)

// ownerOf knows no owners.
func ownerOf(string) string { return "" }

// lockData only opens the file: this system has no lock that ends with its process.
func lockData(dir string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, lockName), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("%w: open the lock file: %w", ErrData, err)
	}
	return f, nil
}
