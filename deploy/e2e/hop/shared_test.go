package hop

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"plantmesh/cloud/store"
	"plantmesh/proto/mesh"
)

// backupOf copies what a hub keeps in a folder while it runs.
func backupOf(t *testing.T, dir string) (folder string) {
	t.Helper()
	folder = t.TempDir()
	_, err := store.Copy(t.Context(), filepath.Join(dir, "hub.db"), folder, slog.New(slog.DiscardHandler))
	check(t, err)
	return folder
}

// putBack moves a copy into the place of what a hub keeps; it is down.
func putBack(t *testing.T, dir, folder string) {
	t.Helper()
	for _, name := range []string{"hub.db", "hub.db-wal", "hub.db-shm", "history"} {
		check(t, os.RemoveAll(filepath.Join(dir, name)))
		if err := os.Rename(filepath.Join(folder, name), filepath.Join(dir, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
	}
}

// openStore opens a hub's database once more: each side has it for itself.
func openStore(t *testing.T, dir string) *store.Store {
	t.Helper()
	s, err := store.Open(t.Context(), filepath.Join(dir, "hub.db"), slog.New(slog.DiscardHandler))
	check(t, err)
	return s
}

// entries are all of a hub's log.
func entries(ctx context.Context, s *store.Store) (all []mesh.Entry, err error) {
	for after := (mesh.Position{}); ; after = all[len(all)-1].At {
		part, err := s.Peek(ctx, 0, after, 500)
		if err != nil || len(part) == 0 {
			return all, err
		}
		all = append(all, part...)
	}
}

// poll looks again and again until ok, or ctx ends.
func poll(ctx context.Context, what string, ok func() (bool, error)) error {
	look := time.NewTicker(20 * time.Millisecond)
	defer look.Stop()
	for {
		is, err := ok()
		if is || err != nil && ctx.Err() == nil {
			return err
		}
		select {
		case <-look.C:
		case <-ctx.Done():
			return fmt.Errorf("waited in vain until %s: %w", what, context.Cause(ctx))
		}
	}
}

// currentRows are all rows of a product as they stand, withdrawn ones too.
func currentRows(ctx context.Context, s *store.Store, product string) (out []mesh.Row, err error) {
	q := mesh.RowQuery{Product: product, Limit: 1000, Withdrawn: true}
	for {
		part, next, err := s.Rows(ctx, q)
		if err != nil {
			return nil, err
		}
		out = append(out, part...)
		if next == "" {
			return out, nil
		}
		q.After = next
	}
}

// outputOf are all records of a product's output log.
func outputOf(ctx context.Context, s *store.Store, product string) (out []mesh.Row, err error) {
	for after := (mesh.Position{}); ; after = out[len(out)-1].At {
		part, err := s.Out(ctx, product, after, 500)
		if err != nil || len(part) == 0 {
			return out, err
		}
		out = append(out, part...)
	}
}
