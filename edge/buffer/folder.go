package buffer

import (
	"errors"
	"fmt"
	"path/filepath"
	"syscall"

	"plantmesh/proto/mesh"
)

// Errors of the folder, each in one line with what to do. All are ErrFolder.
var (
	// ErrFolder means the data folder can't be used as it is.
	ErrFolder = errors.New("the data folder can't be used")
	// ErrInUse means another agent has the directory.
	ErrInUse = fmt.Errorf("%w: another agent uses this directory; stop that one, or name another data folder", ErrFolder)
	// ErrForeign means the directory holds another agent's log.
	ErrForeign = fmt.Errorf("%w: it belongs to another agent", ErrFolder)
)

func foreign(dir string, is, want mesh.LogID) error {
	return fmt.Errorf("%w: %s belongs to %s, and this agent is %s; give that name back or use another data folder", ErrForeign, dir, is, want)
}

// Unusable tells in plain words why a folder refuses; other errors stay as they are.
func Unusable(dir string, err error) error {
	switch {
	case err == nil, errors.Is(err, ErrFolder):
		return err
	case errors.Is(err, syscall.EROFS):
		return fmt.Errorf("%w: %s is on a read-only file system; mount it for writing, or name another data folder (%w)", ErrFolder, dir, err)
	case errors.Is(err, syscall.EACCES), errors.Is(err, syscall.EPERM):
		return fmt.Errorf("%w: this user may not write in %s; give the folder to the agent's user, or name another data folder (%w)", ErrFolder, dir, err)
	case errors.Is(err, syscall.ENOTDIR), errors.Is(err, syscall.EEXIST):
		return fmt.Errorf("%w: %s is no folder; name another data folder (%w)", ErrFolder, dir, err)
	case errors.Is(err, ErrFull), errors.Is(full(err), ErrFull):
		return fmt.Errorf("%w: the disk of %s is full and nothing in it can be let go; free some space there (%w)", ErrFolder, filepath.Clean(dir), err)
	}
	return err
}
