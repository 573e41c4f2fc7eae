//go:build !unix

package trust

import "os"

// lock does nothing: this system has no lock that ends with its process. Each
// file is still written whole, and own certificates come as whole folders. What a
// crash left half written stays: it could be another process's work.
func (s *Store) lock() (unlock func(), err error) { return func() {}, nil }

// The modes of this system say nothing about who may use a file: the folder the
// store stands in decides.

func guarded(dir string) error {
	_, err := os.Stat(dir)
	return err
}

func private(string) error { return nil }

func narrow(string, os.FileMode) (was bool, err error) { return false, nil }

func syncDir(string) error { return nil }
