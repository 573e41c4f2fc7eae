package hub

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"plantmesh/cloud/store"
	"plantmesh/proto/clock"
	"plantmesh/proto/mesh"
	"plantmesh/proto/strict"
)

// HistoryConfig is how the samples themselves are kept. They come as batches of
// a source; once every product has read them they become chunks by signal and
// time, a file a day under data/history.
type HistoryConfig struct {
	// CompactAfter is how long batches stay as they came, at least, and how often
	// the compactor runs; default 1h. Longer makes larger chunks, which are smaller
	// on disk and faster to read.
	CompactAfter strict.Duration `yaml:"compact_after"`
	// Keep is how long samples are kept, counted from the plant's now in whole
	// UTC days; default: for ever. Rows of products stay.
	Keep strict.Duration `yaml:"keep"`
	// MaxBytes bounds the files of the history: beyond it the oldest days go;
	// default: no bound. The database itself is not counted.
	MaxBytes strict.Size `yaml:"max_bytes"`
	// Autonomy is the longest an agent may be cut off and still deliver; default
	// 168h. No day younger than twice that is dropped, whatever keep and
	// max_bytes say: late data need what stands beside them.
	Autonomy strict.Duration `yaml:"autonomy"`
}

const (
	defaultCompactAfter = time.Hour
	defaultAutonomy     = 7 * 24 * time.Hour
	// minCompactAfter: less would make chunks of a few samples.
	minCompactAfter = time.Second
	// retainEvery is how often days are looked through: they are days.
	retainEvery = 10 * time.Minute
	// mergeAgain is how long a merge that failed waits: it may have written a
	// gigabyte until then.
	mergeAgain = time.Hour
	// mergeAfter times compact_after a day has ended when it is merged: nearly all
	// of it stands in chunks then.
	mergeAfter = 3
)

func (c *HistoryConfig) complete(doc *strict.Doc) error {
	if c.CompactAfter == 0 {
		c.CompactAfter = strict.Duration(defaultCompactAfter)
	}
	if c.Autonomy == 0 {
		c.Autonomy = strict.Duration(defaultAutonomy)
	}
	if c.CompactAfter < strict.Duration(minCompactAfter) {
		return doc.Fault("$.history.compact_after", "at least 1s is needed")
	}
	if c.Keep != 0 && c.Keep < 2*c.Autonomy {
		return doc.Fault("$.history.keep", "at least %s is needed: twice history.autonomy, for late data", time.Duration(2*c.Autonomy))
	}
	return nil
}

// mark is where a log ended at an instant of the machine's clock.
type mark struct {
	at  mesh.Nanos
	end mesh.Position
}

// marks tell how old a stretch of the log is: records say nothing of when they
// came. A hub that begins has none, so what it finds waits as if it had just
// come.
type marks []mark

// note keeps where the log ends now, and gives the newest end that is at least
// so old; zero where there is none.
func (m *marks) note(now mesh.Nanos, end mesh.Position, age time.Duration) (old mesh.Position) {
	// Marks of a clock that was put back since would be young for as long.
	*m = slices.DeleteFunc(*m, func(o mark) bool { return o.at > now })
	*m = append(*m, mark{now, end})
	for len(*m) > 0 && now.Sub((*m)[0].at) >= age {
		old = (*m)[0].end
		if len(*m) > 1 && now.Sub((*m)[1].at) < age {
			return old // asked again before the next one is due, it holds
		}
		*m = (*m)[1:]
	}
	return old
}

// keeper compacts the history and drops what is too old.
type keeper struct {
	*hub

	marks     marks
	compacted mesh.Nanos
	retained  mesh.Nanos
	unmerged  mesh.Nanos // when a merge failed
	reason    string     // of that, as it was told

	mu      sync.Mutex // protects trouble
	trouble error
}

// run works until ctx ends, which is no error. What fails is tried again.
func (k *keeper) run(ctx context.Context) error {
	k.look(ctx)
	every := min(max(time.Duration(k.cfg.History.CompactAfter)/60, time.Second), time.Minute)
	t := time.NewTicker(every)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
		err := k.step(ctx, clock.Machine{}.Now())
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			k.log.WarnContext(ctx, "the history is not kept as it should be, trying again", "reason", err.Error())
		}
		k.mu.Lock()
		k.trouble = err
		k.mu.Unlock()
	}
}

// look finds the newest samples once, before anybody asks for them: where much is
// not compacted, as after a change of layout, the first answer would take long.
func (k *keeper) look(ctx context.Context) {
	if k.sites == nil || k.sites.is.Load() == nil {
		return
	}
	for _, source := range k.site().Sources() {
		if _, err := k.store.Newest(ctx, source, k.now()); err != nil && ctx.Err() == nil {
			k.log.WarnContext(ctx, "the newest samples of a source are not found yet", "source", source, "reason", err.Error())
		}
	}
}

// well is what keeps the history from being kept; nil: nothing.
func (k *keeper) well(context.Context) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.trouble
}

// step compacts and retains; each goes on where the other fails: a disk that is
// full is freed by the second.
func (k *keeper) step(ctx context.Context, now mesh.Nanos) error {
	err := k.age(ctx, now)
	defer k.merge(ctx, now) // what is dropped needs none
	if lately(k.retained, now, retainEvery) {
		return err
	}
	if failed := k.retain(ctx); failed != nil {
		return errors.Join(err, failed)
	}
	k.retained = now
	return err
}

// age compacts what is old enough, a compact_after at a time: a pass a minute
// would make chunks of a minute, many signals in each.
func (k *keeper) age(ctx context.Context, now mesh.Nanos) error {
	end, err := k.store.Tip(ctx, 0)
	if err != nil {
		return err
	}
	old := k.marks.note(now, end, time.Duration(k.cfg.History.CompactAfter))
	if old.IsZero() || lately(k.compacted, now, time.Duration(k.cfg.History.CompactAfter)) {
		return nil
	}
	if err := k.compact(ctx, old); err != nil {
		return err
	}
	k.compacted = now
	return nil
}

// lately says whether something was less than a time ago, by a clock that may be
// put back.
func lately(was, now mesh.Nanos, ago time.Duration) bool {
	return was != 0 && now >= was && now.Sub(was) < ago
}

// merge writes a day that is over anew, one a step. One that can't be is told
// once and tried again: it is read as before meanwhile.
func (k *keeper) merge(ctx context.Context, now mesh.Nanos) {
	if lately(k.unmerged, now, mergeAgain) {
		return
	}
	began := clock.Machine{}.Now()
	done, err := k.store.Merge(ctx, k.now().Add(-mergeAfter*time.Duration(k.cfg.History.CompactAfter)))
	if ctx.Err() != nil {
		return
	}
	if err != nil {
		if k.unmerged = now; k.reason != err.Error() {
			k.log.WarnContext(ctx, "a day of the history is not merged, it is read as before; trying again", "reason", err.Error(), "after", mergeAgain)
		}
		k.reason = err.Error()
		return
	}
	k.unmerged, k.reason = 0, ""
	if done.Day != "" {
		k.log.InfoContext(ctx, "a day of the history is merged", "file", done.Day, "chunks_before", done.Was, "chunks", done.Is, "samples", done.Samples,
			"bytes_before", done.BytesWas, "bytes", done.BytesIs, "took", clock.Machine{}.Now().Sub(began).Round(time.Millisecond))
	}
}

// compact takes what is old enough and read by every product that goes on. One
// that is suspended would hold everything; it reads chunks when it is mended.
func (k *keeper) compact(ctx context.Context, through mesh.Position) error {
	p := store.Pass{Through: through, Now: k.now()}
	suspended := k.set.Suspended()
	for _, d := range k.defs {
		if _, out := suspended[d.ID]; !out {
			p.Products = append(p.Products, d.ID)
		}
	}
	bad := 0
	for more := true; more; {
		began := clock.Machine{}.Now()
		done, err := k.store.Compact(ctx, p)
		if err != nil {
			return err
		}
		if done.Batches > 0 {
			k.log.InfoContext(ctx, "history compacted", "batches", done.Batches, "samples", done.Samples, "chunks", done.Chunks, "took", clock.Machine{}.Now().Sub(began).Round(time.Millisecond))
		}
		more, bad = done.More, done.BadDays
	}
	if bad > 0 {
		return fmt.Errorf("%w: %d, named in the log: put them back as they were, with the hub's database of the same time", errDays, bad)
	}
	return nil
}

var errDays = errors.New("files of the history are lost, damaged or not those the hub wrote")

var errFull = errors.New("the history takes more than it may")

func (k *keeper) retain(ctx context.Context) error {
	c := k.cfg.History
	out, err := k.store.Retain(ctx, store.Retention{
		Now: k.now(), Keep: time.Duration(c.Keep), MaxBytes: int64(c.MaxBytes), Least: time.Duration(2 * c.Autonomy),
	})
	if err != nil {
		return err
	}
	if out.Over {
		return fmt.Errorf("%w: %d bytes, %d are allowed, and no day is old enough to go: raise history.max_bytes or lower history.autonomy", errFull, out.Bytes, int64(c.MaxBytes))
	}
	return nil
}
