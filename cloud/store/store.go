// Package store is the resting place of the cloud: the hub's logs, the rows of
// the products and their output logs, in one SQLite file.
//
// Two conditional transactions write it. Take (T1) puts what ingest accounted
// for at the end of the hub's log; Commit (T2) puts what a product made of it
// at the end of its output log. Both name the end they follow and are refused
// with mesh.ErrMoved if the end is another: that condition is the only fence,
// so a second writer, or a database that went back under a process, can cost
// work but never data. Both are synced before they return.
//
// Next: cloud/product
package store

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"sync/atomic"

	"plantmesh/proto/mesh"
)

// defaultKeep is how many output records of a product are kept for ports that
// are behind; a port further back compares its rows with the store's.
const defaultKeep = 200_000

// Store is the store of one hub. Safe for concurrent use: one transaction
// writes at a time, reads run beside it on the state before.
type Store struct {
	base base
	log  *slog.Logger
	keep atomic.Int64
	hub  bell // rung by OpenLog and Take
	out  bell // rung by Resume and Commit

	newest newestCache

	folder     string                // the folder of the day files
	halt       func(at string) error // breaks a pass off: for tests
	compacting sync.Mutex            // one pass at a time; protects what follows
	bad        map[int64]bool        // days whose files are not as they should be
	spoilt     map[int64]bool        // days whose files could be looked at, and not written
	swept      bool                  // the history was looked through since a pass broke off
	leftOut    bool                  // it was told that newest samples are left out
	settled    map[int64]dayStat     // days that Merge need not look at as they are
	fewPasses  int64                 // mergePasses; less in tests
}

// Open opens or makes the database file at path, and its folder. Compacted
// history lies beside it in the folder "history".
func Open(ctx context.Context, path string, log *slog.Logger) (*Store, error) {
	d, err := openDisk(ctx, path)
	if err != nil {
		return nil, err
	}
	return storeOn(d, path, log), nil
}

// OpenReading opens the database file at path beside the hub that writes it, or
// when none runs. Whatever would write is refused.
func OpenReading(ctx context.Context, path string, log *slog.Logger) (*Store, error) {
	d, err := openReading(ctx, path)
	if err != nil {
		return nil, err
	}
	return storeOn(d, path, log), nil
}

func storeOn(b base, path string, log *slog.Logger) *Store {
	s := &Store{base: b, log: log, newest: newestCache{held: map[string]*heldNewest{}}, spoilt: map[int64]bool{}, settled: map[int64]dayStat{}, fewPasses: mergePasses, folder: filepath.Join(filepath.Dir(path), "history")}
	s.keep.Store(defaultKeep)
	return s
}

// Keep sets how many output records of a product are kept; at least one.
func (s *Store) Keep(records int) { s.keep.Store(int64(max(1, records))) }

// Close closes the file. A second Close does nothing.
func (s *Store) Close() error {
	if err := s.base.Close(); err != nil {
		return fmt.Errorf("close the hub's database: %w", err)
	}
	return nil
}

// Changed is closed at the next record in a hub's log. Take it before Peek: a
// record that came between the two is not missed.
func (s *Store) Changed() <-chan struct{} { return s.hub.wait() }

// ChangedOut is closed at the next commit of a product.
func (s *Store) ChangedOut() <-chan struct{} { return s.out.wait() }

// hubLog and outLog name the logs the store writes.
func hubLog(partition int) mesh.LogID { return mesh.LogID(fmt.Sprintf("hub/%d", partition)) }

func outLog(product string, partition int) mesh.LogID {
	return mesh.LogID(fmt.Sprintf("out/%s/%d", product, partition))
}

// bell wakes everybody who waits, once.
type bell struct {
	mu sync.Mutex // protects ch
	ch chan struct{}
}

func (b *bell) wait() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ch == nil {
		b.ch = make(chan struct{})
	}
	return b.ch
}

func (b *bell) ring() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ch != nil {
		close(b.ch)
		b.ch = nil
	}
}
