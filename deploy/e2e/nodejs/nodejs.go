// Package nodejs installs what servers in JavaScript need that tests start.
package nodejs

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// ErrLacking means that something outside is not there: Node.js, or the network.
var ErrLacking = errors.New("this machine has not what the suite needs")

// Modules is the folder node_modules of the package.json and package-lock.json in
// folder. It is installed once for a lock and a user, into the user's cache, where
// name and the lock's hash tell it from others. Safe for concurrent use, also by
// several processes: half an install is never taken for one.
func Modules(ctx context.Context, folder, name string) (string, error) {
	for _, p := range []string{"node", "npm"} {
		if _, err := exec.LookPath(p); err != nil {
			return "", fmt.Errorf("%w: no %s here to run a server in JavaScript: install Node.js", ErrLacking, p)
		}
	}
	lock, err := os.ReadFile(filepath.Join(folder, "package-lock.json"))
	if err != nil {
		return "", err
	}
	base, err := os.UserCacheDir()
	if err != nil {
		base = os.TempDir()
	}
	sum := sha256.Sum256(lock)
	dir := filepath.Join(base, "plantmesh", name+"-"+hex.EncodeToString(sum[:4]))
	out := filepath.Join(dir, "node_modules")
	if _, err := os.Stat(out); err == nil {
		return out, nil
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o700); err != nil {
		return "", err
	}
	making, err := os.MkdirTemp(filepath.Dir(dir), "making-")
	if err != nil {
		return "", err
	}
	defer func() { _ = os.RemoveAll(making) }() // nothing is there once it was renamed
	if err := install(ctx, folder, making); err != nil {
		return "", err
	}
	if err := os.Rename(making, dir); err != nil {
		if _, there := os.Stat(out); there != nil { // else another was faster
			return "", err
		}
	}
	return out, nil
}

func install(ctx context.Context, from, to string) error {
	for _, name := range []string{"package.json", "package-lock.json"} {
		b, err := os.ReadFile(filepath.Join(from, name))
		if err == nil {
			err = os.WriteFile(filepath.Join(to, name), b, 0o600)
		}
		if err != nil {
			return err
		}
	}
	npm := exec.CommandContext(ctx, "npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts")
	npm.Dir = to
	if said, err := npm.CombinedOutput(); err != nil {
		return fmt.Errorf("%w: npm can't install: %w\n%s", ErrLacking, err, said)
	}
	return nil
}
