//go:build !unix

package access

import (
	"fmt"
	"os"
)

// lockFolder only opens the file: this system has no lock that ends with its process.
func lockFolder(path string) (free func(), err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock the folder of users: %w", err)
	}
	return func() { _ = f.Close() }, nil // nothing was written
}
