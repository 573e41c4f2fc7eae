package store

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// Retention is what frees a full disk, and to drop a day takes a transaction of
// hub.db, which takes space. So some is held back in a file, and given back step
// by step: others take what is given at once.
const (
	reserveBytes = 4 << 20
	reserveStep  = 1 << 20
	reserveName  = "hub.reserve"
)

func (s *Store) reserve() string { return filepath.Join(filepath.Dir(s.folder), reserveName) }

// held is what is held back now.
func (s *Store) held() int64 {
	i, err := os.Lstat(s.reserve())
	if err != nil || !i.Mode().IsRegular() {
		return 0
	}
	return i.Size()
}

// holdBack makes the reserve whole, if the disk has the space.
func (s *Store) holdBack() (err error) {
	held := s.held()
	if held >= reserveBytes {
		return nil
	}
	if i, err := os.Lstat(s.reserve()); err == nil && !i.Mode().IsRegular() || err != nil && !errors.Is(err, fs.ErrNotExist) {
		return errors.Join(fmt.Errorf("hold space back: %s is no plain file", s.reserve()), err)
	}
	f, err := os.OpenFile(s.reserve(), os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("hold space back: %w", err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if _, err = f.WriteAt(make([]byte, reserveBytes-held), held); err == nil {
		err = f.Sync()
	}
	if err != nil {
		return errors.Join(fmt.Errorf("hold space back: %w", err), f.Truncate(held))
	}
	return nil
}

// giveBack gives a step of it back; false: there is none.
func (s *Store) giveBack() bool {
	held := s.held()
	return held > 0 && os.Truncate(s.reserve(), max(0, held-reserveStep)) == nil
}

// mustFit runs what frees space, where it has none with the reserve.
func (s *Store) mustFit(do func() error) error {
	err := do()
	for codeOf(err) == codeFull && s.giveBack() {
		err = do()
	}
	return err
}
