package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"plantmesh/proto/mesh"
)

// A day of many passes has the samples of a signal in as many places. Once the
// day is over its file is written anew, in the order of signals, with chunks as
// large as they may be:
//
//	list the chunks ─► read them by signal, write larger ones to a file beside it
//	  ─► sync, read back and compare ─► rename it over the day's file
//
// hub.db is not written: both files answer to what it says of the day, its last
// chunk and the pass of that, so whoever has a snapshot of before, or puts back a
// hub.db of before, reads the new file too. A merge that breaks off leaves the
// day's file as it was, and one beside it that the next sweep removes.

// Bounds of a merge.
const (
	// mergePasses: a day that at most so many passes may have written is left as
	// it is. A signal's day is read from so many places, some 0.2 ms each.
	mergePasses = 32
	// mergeShare: one that was merged is again once what came since is more than
	// this part of it, so that late data don't rewrite a day each time.
	mergeShare = 4
	// mergeSamples bounds what is in memory, some 200 MB: passes by the minute of
	// signals that share chunks have 1440 chunks of 3600 samples on one signal.
	mergeSamples = 6 << 20
	// mergeChunks bounds the list of a day's chunks, some 130 MB. A day of more
	// is left as it is.
	mergeChunks = 4 << 20
	// mergeCacheKiB holds a page for each pass: within a pass chunks lie in the
	// order of signals, so each page is read once.
	mergeCacheKiB = 64 << 10
	// syncSamples are written between two syncs, some 24 MB.
	syncSamples = 16 << 20
	// mergeSpare is left free on the disk beside what a merge may take.
	mergeSpare = 64 << 20
	// mergeLooks bounds how many days' files one call opens.
	mergeLooks = 64

	mergingSuffix = ".merging"
)

// ErrNoSpace is returned where a day isn't merged because the disk has too little
// space for its second file.
var ErrNoSpace = errors.New("the disk has too little space to write a day of the history anew")

// errUnmerged is returned where a day stays as it is for as long as it is so.
var errUnmerged = errors.New("the day stays as it is")

// Merged is what Merge did.
type Merged struct {
	Day      string // the file that was written anew; empty: none
	Was, Is  int    // chunks in it
	Samples  int64
	BytesWas int64 // of the file
	BytesIs  int64
	More     bool // there may be more to do
}

// Merge writes at most one day anew that ended at or before an instant, the
// newest that needs it. A day with anything in it that can't be read stays as it
// is, which is told once. One pass or merge runs at a time; readers don't wait.
func (s *Store) Merge(ctx context.Context, before mesh.Nanos) (out Merged, err error) {
	s.compacting.Lock()
	defer s.compacting.Unlock()
	var days map[int64]dayStat
	err = s.base.read(ctx, func(tx *sql.Tx) (err error) {
		days, err = readDays(ctx, tx)
		return err
	})
	if err != nil {
		return out, fmt.Errorf("look which day may be merged: %w", err)
	}
	looks := 0
	var full error
	for _, day := range slices.Backward(slices.Sorted(maps.Keys(days))) {
		known := days[day]
		if isStray(day) || dayEnd(day) > before || s.bad[day] || s.settled[day] == known {
			continue
		}
		if looks++; looks > mergeLooks {
			out.More = true
			break
		}
		out, err = s.mergeIfDue(ctx, day, known)
		switch {
		case errors.Is(err, ErrNoSpace):
			full = err
			continue
		case err != nil:
			return Merged{}, fmt.Errorf("merge %s: %w", s.dayFile(day), err)
		case out.Day != "":
			out.More = true
			return out, nil
		}
	}
	return out, full
}

// mergeIfDue merges a day if that is worth it, and remembers it if not.
func (s *Store) mergeIfDue(ctx context.Context, day int64, known dayStat) (out Merged, err error) {
	due, err := s.mergeDue(ctx, day, known)
	if err == nil && due {
		out, err = s.mergeDay(ctx, day, known)
	}
	switch {
	case ctx.Err() != nil:
		return Merged{}, ctx.Err()
	case err == nil:
		s.settled[day] = known
	case errors.Is(err, fs.ErrNotExist) || errors.Is(err, errDay):
		err = nil // the sweep tells, or takes away what a pass left
	case errors.Is(err, errUnmerged) || damaged(err):
		s.log.ErrorContext(ctx, "a day of the history can't be merged and stays as it is", "file", s.dayFile(day), "reason", err.Error())
		s.settled[day], err = known, nil
	}
	return out, err
}

// mergeDue says whether what stands in a day's file is worth a merge. Chunks that
// were merged have numbers up to 0, but for the last of them: see merging.
func (s *Store) mergeDue(ctx context.Context, day int64, known dayStat) (due bool, err error) {
	if known.pass == 0 || known.chunks < 2 {
		return false, nil // of layout 3: it isn't told from any other
	}
	db, err := s.openDay(ctx, day)
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	if err := known.check(ctx, db, day, math.MaxInt64-1); err != nil {
		return false, plain(err)
	}
	var first, low, last, pass int64
	err = db.QueryRowContext(ctx, `SELECT (SELECT min(id) FROM chunk), (SELECT coalesce(max(id), 0) FROM chunk WHERE id <= 0), (SELECT min(id) FROM chunk WHERE id > 0)`).Scan(&first, &low, &last)
	if err != nil {
		return false, plain(err)
	}
	merged := low - first + 2
	if first > 0 {
		last, merged = 0, 0
	}
	err = db.QueryRowContext(ctx, `SELECT pass FROM chunk WHERE id > ? ORDER BY id LIMIT 1`, last).Scan(&pass)
	if errors.Is(err, sql.ErrNoRows) {
		return false, nil
	}
	passes := known.pass>>passBits - pass>>passBits + 1
	return passes > s.fewPasses && known.chunks-last > merged/mergeShare, plain(err)
}

// mergeDay writes a day anew.
func (s *Store) mergeDay(ctx context.Context, day int64, known dayStat) (out Merged, err error) {
	path := s.dayFile(day)
	if out.BytesWas, err = s.dayBytes(day); err != nil {
		return out, err
	}
	free, err := freeBytes(s.folder)
	if err != nil {
		return out, err
	}
	if need := out.BytesWas + out.BytesWas/8 + mergeSpare; free < need {
		return out, fmt.Errorf("%w: %d bytes are free, %d are needed", ErrNoSpace, free, need)
	}
	defer func() { err = errors.Join(err, s.removeMerging(day)) }() // after the rename there is none
	if err := s.removeMerging(day); err != nil {
		return out, err
	}
	m, err := newMerging(day, known, s.halted)
	if err != nil {
		return out, err
	}
	if err := m.write(ctx, path, path+mergingSuffix); err != nil {
		return out, err
	}
	if err := s.halted("merge wrote"); err != nil {
		return out, err
	}
	if err := m.verify(ctx, path+mergingSuffix); err != nil {
		return out, fmt.Errorf("verify what was merged: %w", err)
	}
	if err := s.halted("merge verified"); err != nil {
		return out, err
	}
	if err := s.exchange(ctx, day, known); err != nil {
		return out, err
	}
	out.Day, out.Was, out.Is, out.Samples = filepath.Base(path), len(m.rows), m.chunks(), known.samples
	if out.BytesIs, err = s.dayBytes(day); err != nil {
		return out, err
	}
	return out, s.halted("merged")
}

// exchange puts what was merged in the place of the day's file, in one step. It
// waits for those who read the old one, and for the journal that they would undo.
func (s *Store) exchange(ctx context.Context, day int64, known dayStat) error {
	path := s.dayFile(day)
	db, err := sql.Open("sqlite", dsn(path, "exclusive", "delete")+"&mode=rw")
	if err != nil {
		return fmt.Errorf("open %s: %w", path, plain(err))
	}
	db.SetMaxOpenConns(1)
	err = within(ctx, db, func(tx *sql.Tx) error {
		if err := known.check(ctx, tx, day, math.MaxInt64-1); err != nil {
			return err
		}
		return os.Rename(path+mergingSuffix, path)
	})
	if err := errors.Join(err, db.Close()); err != nil {
		return err
	}
	if err := s.halted("merge renamed"); err != nil {
		return err
	}
	return s.syncHistory()
}

// dayMerging is the day whose merge a file is of.
func dayMerging(name string) (day int64, ok bool) {
	if name, ok = strings.CutSuffix(name, mergingSuffix); !ok {
		return strayDay, false
	}
	return dayOfFile(name)
}

// removeMerging removes what a merge that broke off left.
func (s *Store) removeMerging(day int64) error {
	if err := os.Remove(s.dayFile(day) + mergingSuffix); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove what a merge left: %w", err)
	}
	return nil
}
