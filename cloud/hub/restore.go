package hub

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"plantmesh/cloud/access"
	"plantmesh/cloud/registry"
	"plantmesh/cloud/store"
)

// Restored is what a restore did.
type Restored struct {
	Manifest

	// Aside is where what was in the data folder lies now; empty: it was empty.
	Aside string `json:"aside,omitempty"`
	// Kept are agents, revocations and a signing key made since the backup.
	Kept int `json:"kept"`
	// Alone says that nothing was there of this hub: what was revoked or replaced since
	// the backup nobody knows here.
	Alone bool `json:"alone"`
}

// Restore puts a backup into the data folder, whose hub doesn't run. All of the
// backup is read and compared before anything is touched. What is in the folder
// is moved aside if force says so, and never deleted. Agents that were enrolled
// or revoked since are kept, where that registry is of the same hub.
func Restore(ctx context.Context, cfg Config, from string, force bool, log *slog.Logger) (out Restored, err error) {
	if out.Manifest, err = Verify(from); err != nil {
		return out, err
	}
	if err := sameSite(cfg, out.Site); err != nil {
		return out, err
	}
	if out.Layout > store.Layout {
		return out, fmt.Errorf("%w: the backup's database has layout %d, this program knows %d: use the program that made it", ErrData, out.Layout, store.Layout)
	}
	if err := os.MkdirAll(cfg.Data, 0o700); err != nil {
		return out, fmt.Errorf("%w: %w", ErrData, err)
	}
	lock, err := lockData(cfg.Data)
	if err != nil {
		return out, err
	}
	defer func() { err = errors.Join(err, lock.Close()) }()
	r := &restore{data: cfg.Data, keyFile: cfg.Identity.KeyFile, fresh: filepath.Join(cfg.Data, restoringName)}
	if r.old, err = belongings(cfg.Data); err != nil {
		return out, fmt.Errorf("%w: %w", ErrData, err)
	}
	if len(r.old) > 0 && !force {
		return out, fmt.Errorf("%w: %s holds a hub's data, %s among them: --force moves them aside, into a folder beside them", ErrData, cfg.Data, r.old[0])
	}
	if err := r.unpack(from); err != nil {
		return out, errors.Join(err, os.RemoveAll(r.fresh))
	}
	if out.Kept, err = r.keepRegistry(); err != nil {
		return out, errors.Join(err, os.RemoveAll(r.fresh))
	}
	if out.Alone, err = r.keepAccess(); err != nil {
		return out, errors.Join(err, os.RemoveAll(r.fresh))
	}
	if err := r.keepTrail(ctx, from, &out.Manifest, log); err != nil {
		return out, errors.Join(fmt.Errorf("%w: record the restore: %w", ErrData, err), os.RemoveAll(r.fresh))
	}
	if err := r.swap(time.Now()); err != nil {
		return out, fmt.Errorf("%w: put the backup in place: %w", ErrData, err)
	}
	if out.Aside = r.aside; out.Aside != "" {
		log.InfoContext(ctx, "what was in the data folder is moved aside; remove it when nobody needs it any more", "as", out.Aside)
	}
	return out, nil
}

// restore is one under way. fresh is the backup beside the place it goes to, on
// the same disk.
type restore struct {
	data, fresh, aside string
	keyFile            string   // of the registry's keys; empty: they are not sealed
	old                []string // names in the data folder
}

// belongings are the names in a data folder, but for the lock, what a restore
// left that broke off, and what was moved aside before.
func belongings(data string) (out []string, err error) {
	entries, err := os.ReadDir(data)
	for _, e := range entries {
		if name := e.Name(); name != lockName && name != restoringName && name != brokenName && !strings.HasPrefix(name, asidePrefix) {
			out = append(out, name)
		}
	}
	return out, err
}

// unpack lays the backup out in fresh.
func (r *restore) unpack(from string) error {
	if err := os.RemoveAll(r.fresh); err != nil {
		return fmt.Errorf("%w: %w", ErrData, err)
	}
	if err := os.Mkdir(r.fresh, 0o700); err != nil {
		return fmt.Errorf("%w: %w", ErrData, err)
	}
	_, err := readBackup(from, func(name string) (io.WriteCloser, error) {
		at := filepath.Join(r.fresh, filepath.FromSlash(strings.TrimPrefix(name, dataPart+"/")))
		if err := os.MkdirAll(filepath.Dir(at), 0o700); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrData, err)
		}
		f, err := os.OpenFile(at, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrData, err)
		}
		return synced{f}, nil
	})
	if err != nil {
		return err
	}
	if err := syncAll(r.fresh); err != nil {
		return fmt.Errorf("%w: %w", ErrData, err)
	}
	return nil
}

// synced is a file that is on the disk once it is closed.
type synced struct{ *os.File }

func (f synced) Close() error { return errors.Join(f.Sync(), f.File.Close()) }

// keepRegistry takes over what was enrolled or revoked since the backup: a key
// that was revoked must not be good again.
func (r *restore) keepRegistry() (int, error) {
	if err := registry.Folders(filepath.Join(r.fresh, registryName)); err != nil {
		return 0, fmt.Errorf("%w: %w", ErrData, err)
	}
	kept, err := registry.TakeOver(filepath.Join(r.data, registryName), filepath.Join(r.fresh, registryName), r.keyFile)
	if err != nil {
		return kept, fmt.Errorf("%w: keep the registry: %w", ErrData, err)
	}
	return kept, nil
}

// keepAccess keeps who may do what as it is now, where the hub is the same; alone: it is
// not.
func (r *restore) keepAccess() (alone bool, err error) {
	same, err := registry.Same(filepath.Join(r.data, registryName), filepath.Join(r.fresh, registryName), r.keyFile)
	if err == nil && same {
		_, err = access.TakeOver(filepath.Join(r.data, accessName), filepath.Join(r.fresh, accessName))
	}
	if err != nil {
		return false, fmt.Errorf("%w: keep the users: %w", ErrData, err)
	}
	return !same, nil
}

// swap moves what was aside and the backup to its place. A hub refuses to begin
// on a folder in which that broke off.
func (r *restore) swap(now time.Time) error {
	broken := filepath.Join(r.data, brokenName)
	err := writeSynced(broken, []byte("A restore broke off here. Restore again, with --force.\n"))
	if err == nil {
		err = syncFolder(r.data)
	}
	if err != nil {
		return err
	}
	if len(r.old) > 0 {
		r.aside = filepath.Join(r.data, asidePrefix+now.UTC().Format("20060102T150405.000Z"))
		if err := os.Mkdir(r.aside, 0o700); err != nil {
			return err
		}
		if err := moveAll(r.data, r.aside, r.old); err != nil {
			return err
		}
	}
	names, err := belongings(r.fresh)
	if err != nil {
		return err
	}
	if err := moveAll(r.fresh, r.data, names); err != nil {
		return err
	}
	if err := errors.Join(os.Remove(r.fresh), os.Remove(broken)); err != nil {
		return err
	}
	return syncFolder(r.data)
}

func moveAll(from, to string, names []string) error {
	for _, name := range names {
		if err := os.Rename(filepath.Join(from, name), filepath.Join(to, name)); err != nil {
			return err
		}
	}
	return errors.Join(syncFolder(to), syncFolder(from))
}

// unbroken refuses a data folder in which a restore broke off.
func unbroken(data string) error {
	_, err := os.Lstat(filepath.Join(data, brokenName))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return fmt.Errorf("%w: a restore broke off in %s: run plantmesh restore again, with --force", ErrData, data)
}
