package access

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// TakeOver puts what lies in one folder into another that was read from a backup: who was
// ended since must not be good again, and whose password was changed not by the old one.
// Files go over as they are, and what is damaged stays so: nobody gets in by it. It says
// how many users there were; of none nothing changes.
func TakeOver(from, into string) (n int, err error) {
	if _, err := os.Stat(filepath.Join(from, usersFolder)); errors.Is(err, os.ErrNotExist) {
		return 0, nil
	}
	names, err := list(filepath.Join(from, usersFolder))
	if err != nil || len(names) == 0 {
		return 0, err
	}
	for _, sub := range []string{usersFolder, linksFolder, tokensFolder, usedFolder} {
		if err := takeFolder(filepath.Join(from, sub), filepath.Join(into, sub)); err != nil {
			return 0, err
		}
	}
	return len(names), nil
}

// takeFolder copies the files of a folder over those of another. What the other has alone
// goes: a link that was used since, or a token nobody knows of any more.
func takeFolder(from, into string) error {
	if err := os.RemoveAll(into); err != nil {
		return fmt.Errorf("take over %s: %w", from, err)
	}
	if err := os.MkdirAll(into, 0o700); err != nil {
		return fmt.Errorf("take over %s: %w", from, err)
	}
	names, err := list(from)
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := copyFile(filepath.Join(from, name+".json"), filepath.Join(into, name+".json")); err != nil {
			return fmt.Errorf("take over %s: %w", from, err)
		}
	}
	return syncFolder(into)
}

func copyFile(from, into string) (err error) {
	r, err := os.Open(from)
	if err != nil {
		return err
	}
	defer r.Close() //nolint:errcheck // it was read
	w, err := os.OpenFile(into, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(w, io.LimitReader(r, maxFile))
	return errors.Join(err, w.Sync(), w.Close())
}
