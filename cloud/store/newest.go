package store

import (
	"cmp"
	"context"
	"database/sql"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"plantmesh/proto/mesh"
	"plantmesh/proto/wire"
)

// The newest sample of every signal of a source is read in three steps: of what
// stands in chunks it is kept by each pass; of the batches behind it is found by
// decoding them, once, a page at a time, and then held in memory; each question
// decodes what came since the one before.

// newestPage is how many batches are decoded while the log is held and others who
// ask wait. They are read one by one: a page is never in memory.
const newestPage = 256

// newestAhead is how far beyond the plant's now a stamp may lie to count as the
// newest: a clock that jumps must not hold the place for ever.
const newestAhead = 24 * time.Hour

// candidate is the newest sample of a signal so far.
type candidate struct {
	sample mesh.Sample
	marks  []mesh.Mark

	mixed bool // marks are of more than one
	has   map[finding]struct{}
}

// finding is a mark, whatever sample it is about.
type finding struct {
	rule   string
	action mesh.Action
}

// take compares one more sample: the last in the order of folding stays, and of
// two that are one sample the earliest heard, with the marks of both.
func (c *candidate) take(s mesh.Sample, marks []mesh.Mark) {
	switch same := c.sample.Same(s); {
	case same:
		flags := c.sample.Flags & s.Flags
		if cmp.Or(cmp.Compare(s.Server, c.sample.Server), cmp.Compare(s.Agent, c.sample.Agent), cmp.Compare(s.Source, c.sample.Source)) < 0 {
			c.sample = s
		}
		c.sample.Flags = flags
		c.join(marks)
	case c.sample.Compare(s) < 0:
		*c = candidate{sample: s, marks: marks}
	}
}

// join adds the marks there are not yet.
func (c *candidate) join(marks []mesh.Mark) {
	c.mixed = true
	if c.has == nil && len(marks) > 0 {
		c.has = map[finding]struct{}{}
		was := c.marks
		c.marks = nil
		c.join(was)
	}
	for _, m := range marks {
		f := finding{m.Rule, m.Action}
		if _, has := c.has[f]; !has {
			c.has[f] = struct{}{}
			c.marks = append(c.marks, m)
		}
	}
}

// said are the marks. Those of several samples that are one are in an order of
// their own: which came first may have gone with the batches.
func (c *candidate) said() []mesh.Mark {
	if c.mixed {
		c.marks = slices.SortedFunc(slices.Values(c.marks), func(a, b mesh.Mark) int {
			return cmp.Or(cmp.Compare(a.Rule, b.Rule), cmp.Compare(a.Action, b.Action))
		})
		c.mixed = false
	}
	return c.marks
}

// candidates are those of one source, by signal table and signal.
type candidates map[mesh.Hash]map[uint32]*candidate

func (n candidates) take(table mesh.Hash, s mesh.Sample, marks []mesh.Mark) {
	of := n[table]
	if of == nil {
		of = map[uint32]*candidate{}
		n[table] = of
	}
	if c := of[s.Signal]; c != nil {
		c.take(s, marks)
		return
	}
	of[s.Signal] = &candidate{sample: s, marks: marks}
}

// batch takes the samples of sealed bytes that are not beyond an instant.
func (n candidates) batch(dec *wire.Decoder, sealed []byte, v *mesh.Verdict, through mesh.Nanos) error {
	b, err := dec.Batch(sealed)
	if err != nil {
		return err
	}
	marks := map[uint32][]mesh.Mark{}
	if v != nil {
		for _, m := range v.Marks {
			marks[m.Index] = append(marks[m.Index], m)
		}
	}
	for i := range b.Samples {
		if b.Samples[i].Time <= through {
			n.take(b.Table, b.Samples[i], marks[uint32(i)])
		}
	}
	return nil
}

// newestCache holds what was found before. Safe for concurrent use.
type newestCache struct {
	mu   sync.Mutex // protects held and what is in it
	held map[string]*heldNewest
}

type heldNewest struct {
	pass    int64 // of the chunks that are in found
	through spot  // everything up to here is in found
	found   candidates
}

// Newest is the newest sample of every signal of a source, by name. now is the
// plant's: stamps a day beyond it don't count.
func (s *Store) Newest(ctx context.Context, source string, now mesh.Nanos) (out []mesh.Newest, err error) {
	for more := true; more; {
		if out, more, err = s.newestSoFar(ctx, source, now); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// newestSoFar goes on by a page, and gives the newest samples once there is no more.
func (s *Store) newestSoFar(ctx context.Context, source string, now mesh.Nanos) (out []mesh.Newest, more bool, err error) {
	s.newest.mu.Lock()
	defer s.newest.mu.Unlock()
	h := s.newest.held[source]
	if h == nil {
		h = &heldNewest{found: candidates{}}
	}
	err = s.base.read(ctx, func(tx *sql.Tx) (err error) {
		more, err = h.catchUp(ctx, tx, source, now.Add(newestAhead))
		return err
	})
	if err != nil {
		delete(s.newest.held, source)
		return nil, false, fmt.Errorf("read the newest samples of %s: %w", source, err)
	}
	s.newest.held[source] = h
	if more {
		return nil, true, nil
	}
	out, err = s.named(ctx, h)
	return out, false, err
}

// named are the newest samples by the names of their signals.
func (s *Store) named(ctx context.Context, h *heldNewest) (out []mesh.Newest, err error) {
	byName := map[string]mesh.Newest{}
	for table, signals := range h.found {
		d, ok, err := s.Descriptor(ctx, table)
		if err != nil {
			return nil, err
		}
		if !ok {
			continue
		}
		all, err := wire.Signals(d)
		if err != nil {
			continue // products say that its batches are damaged
		}
		for _, sig := range all {
			c := signals[sig.ID]
			if c == nil {
				continue
			}
			if was, ok := byName[sig.Name]; !ok || compareNewest(was.Sample, c.sample) < 0 {
				byName[sig.Name] = mesh.Newest{Signal: sig, Sample: c.sample, Marks: c.said(), Table: all}
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(byName)) {
		out = append(out, byName[name])
	}
	return out, nil
}

// compareNewest compares samples of one name in two tables.
func compareNewest(a, b mesh.Sample) int {
	a.Signal, b.Signal = 0, 0
	return cmp.Or(a.Compare(b), cmp.Compare(a.Agent, b.Agent))
}

// catchUp takes what came since, a page of it at most, and what went into chunks.
func (h *heldNewest) catchUp(ctx context.Context, tx *sql.Tx, source string, through mesh.Nanos) (more bool, err error) {
	dec, err := wire.NewDecoder()
	if err != nil {
		return false, err
	}
	pass, _, err := compacted(ctx, tx, 0)
	if err != nil {
		return false, err
	}
	if pass != h.pass { // it may have taken what was never seen here
		h.pass = pass
		rows, err := readNewest(ctx, tx, source)
		if err != nil {
			return false, err
		}
		for i := range rows {
			if err := rows[i].open(h.found, dec, through); err != nil {
				return false, mesh.Permanent(err)
			}
		}
	}
	to, _, err := tip(ctx, tx, hubLog(0))
	if err != nil {
		return false, err
	}
	n, last := 0, mesh.Position{}
	err = eachEntry(ctx, tx, func(e mesh.Entry) error {
		// What can't be read has no newest sample: its time is unknown, see the runner.
		_ = h.found.batch(dec, e.Sealed, e.Verdict, through)
		n, last = n+1, e.At
		return nil
	}, newestStaged, h.through.epoch, h.through.seq, source, newestPage)
	if err != nil {
		return false, err
	}
	if n == newestPage {
		to, err = find(ctx, tx, hubLog(0), last)
	}
	h.through = to
	return n == newestPage, err
}

const newestStaged = `SELECT ` + entryColumns + ` WHERE h.partition = 0 AND (h.epoch, h.seq) > (?, ?) AND h.kind = 2 AND h.source = ?
	ORDER BY h.epoch, h.seq LIMIT ?`
