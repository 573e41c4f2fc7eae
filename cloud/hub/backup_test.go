package hub

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"plantmesh/cloud/registry"
	"plantmesh/cloud/store"
)

// stopped is a hub's data folder after a first life, with an agent in it.
func stopped(t *testing.T) Config {
	t.Helper()
	cfg := testConfig(t)
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- Run(ctx, cfg, quiet()) }()
	await(t, func() bool {
		s, err := store.OpenReading(t.Context(), filepath.Join(cfg.Data, databaseName), quiet())
		if err != nil {
			return false
		}
		defer s.Close()
		facts, err := s.Facts(t.Context(), 0)
		return err == nil && len(facts) == 1
	})
	_, err := Enroll(cfg, "graz", "gw-1", pub(t), time.Hour, time.Now())
	check(t, err)
	stop()
	if err := <-done; !errors.Is(err, context.Canceled) { // it may have been on its way up
		check(t, err)
	}
	return cfg
}

func pub(t *testing.T) string {
	t.Helper()
	_, p := key(t)
	return p
}

// await waits until ok says so.
func await(t *testing.T, ok func() bool) {
	t.Helper()
	late := time.After(30 * time.Second)
	look := time.NewTicker(20 * time.Millisecond)
	defer look.Stop()
	for !ok() {
		select {
		case <-look.C:
		case <-late:
			t.Fatal("waited in vain")
		}
	}
}

// tree is what lies below a folder: paths and contents.
func tree(t *testing.T, folder string) map[string]string {
	t.Helper()
	out := map[string]string{}
	check(t, filepath.WalkDir(folder, func(at string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(at)
		rel, relErr := filepath.Rel(folder, at)
		out[rel] = string(b)
		return errors.Join(err, relErr)
	}))
	return out
}

// private demands that nobody else may read what lies below a folder, or at a file.
func private(t *testing.T, at string) {
	t.Helper()
	check(t, filepath.WalkDir(at, func(at string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err == nil && info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s has mode %s", at, info.Mode())
		}
		return err
	}))
}

// TestRestore_PutsBackAllAndDeletesNothing goes through both forms of a backup.
func TestRestore_PutsBackAllAndDeletesNothing(t *testing.T) {
	cfg := stopped(t)
	for _, name := range []string{"backup", "backup.tar"} {
		t.Run(name, func(t *testing.T) {
			to := filepath.Join(t.TempDir(), name)
			m, err := Backup(t.Context(), cfg, to, quiet())
			check(t, err)
			if m.Site != "graz" || m.Layout != store.Layout || m.Hub == "" || m.Tip == "" || len(m.Files) != 4 {
				t.Errorf("the manifest says %+v", m)
			}
			private(t, to)
			left, err := filepath.Glob(to + ".*")
			if err != nil || len(left) > 0 {
				t.Errorf("%v is left, %v", left, err)
			}
			if _, err := Backup(t.Context(), cfg, to, quiet()); !errors.Is(err, ErrUsage) {
				t.Errorf("a backup takes another's place: %v", err)
			}
			before := tree(t, cfg.Data)
			if _, err := Restore(t.Context(), cfg, to, false, quiet()); !errors.Is(err, ErrData) || !strings.Contains(err.Error(), "--force") {
				t.Errorf("a restore over data: %v", err)
			}
			r, err := Restore(t.Context(), cfg, to, true, quiet())
			check(t, err)
			aside := tree(t, r.Aside)
			for at, was := range before {
				if at != lockName && !strings.HasPrefix(at, asidePrefix) && aside[at] != was {
					t.Errorf("%s is not what it was", at)
				}
			}
			// An empty folder needs no force, and is the backup then.
			other := cfg
			other.Data = filepath.Join(t.TempDir(), "hub")
			_, err = Restore(t.Context(), other, to, false, quiet())
			check(t, err)
			private(t, other.Data)
			is := tree(t, other.Data)
			delete(is, lockName)
			if len(is) != len(m.Files) {
				t.Errorf("%d files are restored of %d", len(is), len(m.Files))
			}
			agents, _, err := Agents(other)
			if err != nil || len(agents) != 1 || agents[0].Name != "gw-1" {
				t.Errorf("its agents are %+v, %v", agents, err)
			}
		})
	}
}

// TestRestore_ReadsAllBeforeItTouchesAnything damages one byte, one file, one
// name after the other.
func TestRestore_ReadsAllBeforeItTouchesAnything(t *testing.T) {
	cfg := stopped(t)
	for name, harm := range map[string]func(t *testing.T, at string){
		"a byte of the database": func(t *testing.T, at string) {
			t.Helper()
			path := filepath.Join(at, dataPart, databaseName)
			b, err := os.ReadFile(path)
			check(t, err)
			b[len(b)/2] ^= 1
			check(t, os.WriteFile(path, b, 0o600))
		},
		"a file is gone": func(t *testing.T, at string) {
			t.Helper()
			check(t, os.Remove(filepath.Join(at, dataPart, registryName, "keys.json")))
		},
		"a file too many": func(t *testing.T, at string) {
			t.Helper()
			check(t, os.WriteFile(filepath.Join(at, dataPart, "more"), nil, 0o600))
		},
		"no manifest": func(t *testing.T, at string) {
			t.Helper()
			check(t, os.Remove(filepath.Join(at, manifestName)))
		},
		"a manifest that leaves a file out": func(t *testing.T, at string) {
			t.Helper()
			changeManifest(t, at, `"size": `, `"size": 1`)
		},
		"a manifest that leads out": func(t *testing.T, at string) {
			t.Helper()
			changeManifest(t, at, dataPart+"/"+databaseName, dataPart+"/../x")
		},
	} {
		t.Run(name, func(t *testing.T) {
			to := filepath.Join(t.TempDir(), "backup")
			_, err := Backup(t.Context(), cfg, to, quiet())
			check(t, err)
			harm(t, to)
			before := tree(t, cfg.Data)
			if _, err := Restore(t.Context(), cfg, to, true, quiet()); !errors.Is(err, ErrDamaged) {
				t.Errorf("restored: %v", err)
			}
			after := tree(t, cfg.Data)
			if len(after) != len(before) {
				t.Errorf("%d files lie in the data folder, %d before", len(after), len(before))
			}
			for at, was := range before {
				if after[at] != was {
					t.Errorf("%s was touched", at)
				}
			}
		})
	}
}

func changeManifest(t *testing.T, at, old, text string) {
	t.Helper()
	path := filepath.Join(at, manifestName)
	b, err := os.ReadFile(path)
	check(t, err)
	if !bytes.Contains(b, []byte(old)) {
		t.Fatalf("the manifest has no %q", old)
	}
	check(t, os.WriteFile(path, bytes.Replace(b, []byte(old), []byte(text), 1), 0o600))
}

// A file cut short, and one of another hub's site.
func TestRestore_RefusesWhatIsNotThisHubs(t *testing.T) {
	cfg := stopped(t)
	to := filepath.Join(t.TempDir(), "b.tar")
	_, err := Backup(t.Context(), cfg, to, quiet())
	check(t, err)
	info, err := os.Stat(to)
	check(t, err)
	check(t, os.WriteFile(cfg.SiteFile, []byte(strings.Replace(testSite, "site: graz", "site: linz", 1)), 0o600))
	if _, err := Restore(t.Context(), cfg, to, true, quiet()); !errors.Is(err, ErrIdentity) {
		t.Errorf("of another site: %v", err)
	}
	for _, size := range []int64{info.Size() / 2, 700, 100, 0} {
		check(t, os.Truncate(to, size))
		if _, err := Verify(to); !errors.Is(err, ErrDamaged) {
			t.Errorf("cut to %d bytes: %v", size, err)
		}
	}
}

// A running hub's folder is not touched; a hub doesn't begin where a restore
// broke off.
func TestRestore_AndHubsKeepOutOfEachOthersWay(t *testing.T) {
	cfg := stopped(t)
	to := filepath.Join(t.TempDir(), "backup")
	_, err := Backup(t.Context(), cfg, to, quiet())
	check(t, err)
	lock, err := lockData(cfg.Data)
	check(t, err)
	if _, err := Restore(t.Context(), cfg, to, true, quiet()); !errors.Is(err, ErrData) || !strings.Contains(err.Error(), "in use by another hub") {
		t.Errorf("restored under a hub: %v", err)
	}
	check(t, lock.Close())
	check(t, os.WriteFile(filepath.Join(cfg.Data, brokenName), nil, 0o600))
	if err := Run(t.Context(), cfg, quiet()); !errors.Is(err, ErrData) || !strings.Contains(err.Error(), "restore again") && !strings.Contains(err.Error(), "run plantmesh restore") {
		t.Errorf("a hub began: %v", err)
	}
	if _, err := Backup(t.Context(), cfg, to+"2", quiet()); !errors.Is(err, ErrData) {
		t.Errorf("a backup of half a hub: %v", err)
	}
	_, err = Restore(t.Context(), cfg, to, true, quiet())
	check(t, err)
	check(t, unbroken(cfg.Data))
}

// A key that was revoked since the backup is not good again.
func TestRestore_KeepsWhatWasRevokedSince(t *testing.T) {
	cfg := stopped(t)
	to := filepath.Join(t.TempDir(), "backup")
	_, err := Backup(t.Context(), cfg, to, quiet())
	check(t, err)
	v, err := Revoke(cfg, "graz", "gw-1", "", time.Now())
	check(t, err)
	_, err = Enroll(cfg, "graz", "gw-2", pub(t), time.Hour, time.Now())
	check(t, err)
	now, err := Rotate(cfg, 0, "the key was stolen", time.Now())
	check(t, err)
	r, err := Restore(t.Context(), cfg, to, true, quiet())
	check(t, err)
	reg, err := registry.Open(filepath.Join(cfg.Data, registryName))
	check(t, err)
	keys, err := reg.Revoked()
	check(t, err)
	agents, err := reg.Agents()
	check(t, err)
	if reg.Trust.Signing.Key != now.Key || r.Alone {
		t.Errorf("the key of the backup signs again; alone: %t", r.Alone)
	}
	if r.Kept != 3 || !slices.Equal(keys, []string{v.PublicKey}) || len(agents) != 2 || agents[0].Revoked == nil {
		t.Errorf("kept %d: %v are revoked, agents %+v", r.Kept, keys, agents)
	}
	// Those of another hub are another's: its keys are not in this backup.
	check(t, os.Remove(filepath.Join(cfg.Data, registryName, "keys.json")))
	_, err = registry.Open(filepath.Join(cfg.Data, registryName))
	check(t, err)
	if r, err = Restore(t.Context(), cfg, to, true, quiet()); err != nil || r.Kept != 0 || !r.Alone {
		t.Errorf("kept %d of another hub, %v", r.Kept, err)
	}
}
