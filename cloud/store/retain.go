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
	"time"

	"plantmesh/proto/mesh"
)

// Retention says which days of the history may go: the oldest first, whole, and
// none of which anything is younger than Least.
type Retention struct {
	Now      mesh.Nanos    // the plant's; the end of the newest day where that is earlier
	Keep     time.Duration // days wholly older go; 0: none
	MaxBytes int64         // of the history's files, beyond which days go; 0: no bound
	Least    time.Duration // what late data may still need
}

// Retained is what Retain did.
type Retained struct {
	Days    []string // that were dropped
	Samples int64    // in them
	Bytes   int64    // of the files that are left
	// Over says that there is more than MaxBytes and no day may go.
	Over bool
}

// Retain drops days. What stood in them is recognised if it comes again, and
// is kept as late data of its day until the next Retain.
func (s *Store) Retain(ctx context.Context, r Retention) (out Retained, err error) {
	s.compacting.Lock()
	defer s.compacting.Unlock()
	var (
		days  map[int64]dayStat
		begun map[int64]bool
	)
	err = s.base.read(ctx, func(tx *sql.Tx) (err error) {
		if days, err = readDays(ctx, tx); err == nil {
			begun, _, err = readUnfinished(ctx, tx)
		}
		return err
	})
	if err != nil {
		return out, fmt.Errorf("look what may be dropped: %w", err)
	}
	r.Now = boundNow(r.Now, days)
	sizes := map[int64]int64{}
	for day := range days {
		if sizes[day], err = s.dayBytes(day); err != nil {
			return out, err
		}
		out.Bytes += sizes[day]
	}
	freed, stray := s.dropStrays(ctx, r, days, out.Bytes) // which hold the oldest there is
	out.Bytes -= freed
	for _, day := range slices.Sorted(maps.Keys(days)) {
		end := dayEnd(day)
		if isStray(day) || end > r.Now.Add(-r.Least) {
			continue
		}
		old := r.Keep > 0 && end <= r.Now.Add(-r.Keep)
		if full := r.MaxBytes > 0 && out.Bytes > r.MaxBytes; !old && !full {
			break
		}
		if err := s.dropDay(ctx, begun, day, days[day]); err != nil {
			return out, err
		}
		name := filepath.Base(s.dayFile(day))
		s.log.InfoContext(ctx, "a day of the history is dropped", "file", name, "samples", days[day].samples, "bytes", sizes[day], "too_old", old)
		out.Days, out.Samples, out.Bytes = append(out.Days, name), out.Samples+days[day].samples, out.Bytes-sizes[day]
	}
	out.Over = r.MaxBytes > 0 && out.Bytes > r.MaxBytes
	if err := s.holdBack(); err != nil {
		s.log.WarnContext(ctx, "no space is held back for dropping days on a full disk", "reason", err.Error())
	}
	return out, stray
}

func (s *Store) dayBytes(day int64) (int64, error) {
	i, err := os.Stat(s.dayFile(day))
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil // whoever reads it says so
	}
	if err != nil {
		return 0, fmt.Errorf("look how large the history is: %w", err)
	}
	return i.Size(), nil
}

// dropDay takes a day out of hub.db first: then nobody looks for its file.
func (s *Store) dropDay(ctx context.Context, begun map[int64]bool, day int64, known dayStat) error {
	err := s.mustFit(func() error {
		return s.base.write(ctx, func(tx *sql.Tx) error {
			_, err := tx.ExecContext(ctx, `INSERT OR REPLACE INTO going (day, chunks, pass) VALUES (?, ?, ?)`, day, known.chunks, known.pass)
			if err != nil {
				return err
			}
			if _, err := tx.ExecContext(ctx, `DELETE FROM day WHERE day = ?`, day); err != nil {
				return err
			}
			return keepFrom(ctx, tx, dayEnd(day))
		})
	})
	if err != nil {
		return fmt.Errorf("drop a day of the history: %w", err)
	}
	if err = s.halted("dropped"); err == nil {
		err = s.removeDropped(ctx, begun, day, known)
	}
	if err != nil {
		s.swept = false // the file must go before its day is written again
	}
	return err
}

// boundNow is the plant's now, but no later than the newest day there is: a
// clock that says 2031 must not take the whole history away.
func boundNow(now mesh.Nanos, days map[int64]dayStat) mesh.Nanos {
	newest := int64(strayDay)
	for day := range days {
		newest = max(newest, day)
	}
	if isStray(newest) {
		return now
	}
	return min(now, dayEnd(newest))
}

// dayEnd is the first instant behind a day, or the last there is.
func dayEnd(day int64) mesh.Nanos {
	if day >= math.MaxInt64/dayNanos {
		return math.MaxInt64
	}
	return mesh.Nanos((day + 1) * dayNanos)
}

// dropStrays drops of every file that is of no day.
func (s *Store) dropStrays(ctx context.Context, r Retention, days map[int64]dayStat, bytes int64) (freed int64, err error) {
	for day := range days {
		if !isStray(day) {
			continue
		}
		n, drop := s.dropStray(ctx, r, days, day, bytes-freed)
		freed, err = freed+n, errors.Join(err, drop)
	}
	return freed, err
}

// dropStray drops of a file that is of no day what is too old or before all
// that is kept anyway, and, where there are too many bytes, what is older than
// every day.
func (s *Store) dropStray(ctx context.Context, r Retention, days map[int64]dayStat, day, bytes int64) (freed int64, err error) {
	known := days[day]
	before, err := s.dayBytes(day)
	if err != nil {
		return 0, err
	}
	through, err := s.Kept(ctx)
	if err != nil {
		return 0, err
	}
	if r.Keep > 0 {
		through = max(through, r.Now.Add(-max(r.Keep, r.Least)))
	}
	if r.MaxBytes > 0 && bytes > r.MaxBytes {
		through = max(through, min(r.Now.Add(-r.Least), firstDay(days)))
	}
	// The last one stays: it tells that this is the file that is known. One whose
	// end is before its beginning reaches to the end of time.
	const old = ` FROM chunk WHERE t_to <= ?1 AND t_to > t_from AND id < ?2`
	last, err := s.lastStray(ctx, day, known, `SELECT coalesce(max(t_to), ?3)`+old, int64(through), known.chunks, int64(math.MinInt64))
	if err != nil || last == math.MinInt64 {
		return 0, err
	}
	if err := s.base.write(ctx, func(tx *sql.Tx) error { return keepFrom(ctx, tx, last) }); err != nil {
		return 0, fmt.Errorf("drop what is too old: %w", err)
	}
	err = s.writeDay(ctx, day, known, func(tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx, `DELETE`+old, int64(last), known.chunks); err != nil {
			return err
		}
		_, err := tx.ExecContext(ctx, `PRAGMA incremental_vacuum`)
		return err
	})
	if err != nil {
		return 0, err
	}
	after, err := s.dayBytes(day)
	return before - after, err
}

// firstDay is the beginning of the oldest day.
func firstDay(days map[int64]dayStat) mesh.Nanos {
	first := math.MaxInt64 / dayNanos
	for day := range days {
		if !isStray(day) {
			first = min(first, day)
		}
	}
	return dayEnd(first - 1)
}

func (s *Store) lastStray(ctx context.Context, day int64, known dayStat, query string, args ...any) (last mesh.Nanos, err error) {
	db, err := s.openDay(ctx, day)
	if err != nil {
		return 0, err
	}
	if err = known.check(ctx, db, day, 0); err == nil {
		err = db.QueryRowContext(ctx, query, args...).Scan(&last)
	}
	if err := errors.Join(plain(err), db.Close()); err != nil {
		return 0, fmt.Errorf("read %s: %w", s.dayFile(day), err)
	}
	return last, nil
}

// keepFrom records that samples before an instant may be gone.
func keepFrom(ctx context.Context, tx *sql.Tx, since mesh.Nanos) error {
	_, err := tx.ExecContext(ctx, `INSERT INTO kept (n, since) VALUES (0, ?) ON CONFLICT (n) DO UPDATE SET since = max(since, excluded.since)`, int64(since))
	return err
}

// Kept is the instant from which on no sample was dropped; the least there is
// where none ever was.
func (s *Store) Kept(ctx context.Context) (since mesh.Nanos, err error) {
	err = s.base.read(ctx, func(tx *sql.Tx) error {
		since, err = keptSince(ctx, tx)
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("read what is kept: %w", err)
	}
	return since, nil
}

func keptSince(ctx context.Context, tx *sql.Tx) (mesh.Nanos, error) {
	since := int64(math.MinInt64)
	err := tx.QueryRowContext(ctx, `SELECT since FROM kept`).Scan(&since)
	if errors.Is(err, sql.ErrNoRows) {
		err = nil
	}
	return mesh.Nanos(since), err
}
