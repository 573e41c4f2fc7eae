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
	"plantmesh/cloud/product"
	"plantmesh/cloud/store"
)

// Names in the data folder that are not the hub's own, or made anew: streams are
// what agents send again, and the database is copied as such.
const (
	natsFolder    = "nats"
	databaseName  = "hub.db"
	historyName   = "history"
	registryName  = "registry"
	lockName      = "lock"
	probeName     = "probe"
	asidePrefix   = "before-restore-"
	restoringName = ".restoring"
	brokenName    = "restore-unfinished"
)

// leftOut says whether a name in the data folder goes into no backup as it is.
func leftOut(name string) bool {
	switch name {
	case natsFolder, historyName, lockName, probeName, fleetName, restoringName, brokenName:
		return true
	}
	return strings.HasPrefix(name, databaseName) || strings.HasPrefix(name, asidePrefix)
}

// Backup copies what a hub keeps and can't be made anew into a folder that is
// not there yet, or into one file where the name ends in .tar, whether the hub
// runs or not. The copy is what stood at one instant; it is there when it is
// whole.
func Backup(ctx context.Context, cfg Config, to string, log *slog.Logger) (m Manifest, err error) {
	if _, err := os.Lstat(to); !errors.Is(err, fs.ErrNotExist) {
		return m, fmt.Errorf("%w: %s is there already: name a folder or a .tar file that is not", ErrUsage, to)
	}
	database := filepath.Join(cfg.Data, databaseName)
	if _, err := os.Stat(database); err != nil {
		return m, fmt.Errorf("%w: there is nothing to back up: %w", ErrData, err)
	}
	if err := unbroken(cfg.Data); err != nil {
		return m, err
	}
	work, err := os.MkdirTemp(filepath.Dir(to), filepath.Base(to)+".unfinished-")
	if err != nil {
		return m, fmt.Errorf("%w: make the backup's folder: %w", ErrUsage, err)
	}
	defer func() {
		if away := os.RemoveAll(work); err == nil && away != nil { // it was renamed, if all went well
			err = fmt.Errorf("remove what the backup was made in: %w", away)
		}
	}()
	if m, err = describe(cfg); err != nil {
		return m, err
	}
	data := filepath.Join(work, dataPart)
	if err := os.Mkdir(data, 0o700); err != nil {
		return m, fmt.Errorf("make the backup's folder: %w", err)
	}
	copied, err := store.Copy(ctx, database, data, log)
	if err != nil {
		return m, err
	}
	m.Layout, m.Tip, m.Days, m.Faults = store.Layout, copied.Tip.String(), copied.Days, append([]string{}, copied.Faults...)
	trail, err := openTrail(cfg)
	if err != nil {
		return m, err
	}
	// The audit trail stands still meanwhile. After the database: an agent that it knows is in the registry too.
	if err := trail.Hold(func() error { return copyBeside(cfg.Data, data) }); err != nil {
		return m, fmt.Errorf("copy the data folder: %w", err)
	}
	if m, err = writeManifest(work, m); err != nil {
		return m, err
	}
	for _, f := range m.Faults {
		log.ErrorContext(ctx, "a file of the history was lost or damaged before the backup", "file", f)
	}
	return m, finish(work, to)
}

// describe says whose backup it is.
func describe(cfg Config) (m Manifest, err error) {
	src, err := os.ReadFile(cfg.SiteFile)
	if err != nil {
		return m, fmt.Errorf("read the site file: %w", err)
	}
	site, err := product.ParseSite(cfg.SiteFile, src)
	if err != nil {
		return m, err
	}
	reg, err := openRegistry(cfg)
	if err != nil {
		return m, err
	}
	return Manifest{Made: time.Now().UTC(), Site: site.Name, Hub: reg.Trust.PlantKey}, nil
}

// copyBeside copies what lies in the data folder beside the database. Files of
// the registry are whole or not there.
func copyBeside(from, to string) error {
	return filepath.WalkDir(from, func(at string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) && at != from {
			return nil
		}
		if err != nil || at == from {
			return err
		}
		rel, err := filepath.Rel(from, at)
		if err != nil {
			return err
		}
		switch {
		case filepath.Dir(rel) == "." && leftOut(rel) && d.IsDir(), rel == filepath.Join(accessName, access.SessionsFolder):
			return filepath.SkipDir
		case filepath.Dir(rel) == "." && leftOut(rel), strings.HasPrefix(d.Name(), ".tmp-"):
			return nil
		case d.IsDir():
			return os.Mkdir(filepath.Join(to, rel), 0o700)
		case !d.Type().IsRegular():
			return nil
		}
		if err := copyTo(at, filepath.Join(to, rel)); !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return nil
	})
}

func copyTo(from, to string) (err error) {
	r, err := os.Open(from)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	w, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(w, r)
	return errors.Join(err, w.Sync(), w.Close())
}

// finish gives the backup its name, once all of it is on the disk.
func finish(work, to string) error {
	err := syncAll(work)
	made := work
	if err == nil && strings.HasSuffix(to, ".tar") {
		made = work + ".tar"
		if err = pack(work, made); err != nil {
			err = errors.Join(err, os.Remove(made))
		}
	}
	if err == nil {
		if _, there := os.Lstat(to); !errors.Is(there, fs.ErrNotExist) {
			err = fmt.Errorf("%w: %s came to be meanwhile", ErrUsage, to)
		}
	}
	if err == nil {
		err = os.Rename(made, to)
	}
	if err == nil {
		err = syncFolder(filepath.Dir(to))
	}
	if err != nil {
		return fmt.Errorf("finish the backup: %w", err)
	}
	return nil
}

// syncAll makes the names in a folder and below durable.
func syncAll(folder string) error {
	return filepath.WalkDir(folder, func(at string, d fs.DirEntry, err error) error {
		if err != nil || !d.IsDir() {
			return err
		}
		return syncFolder(at)
	})
}
