package runner

import (
	"context"
	"fmt"
	"slices"

	"plantmesh/proto/mesh"
	"plantmesh/proto/wire"
)

// Bounds of one read. Samples are bounded too, because batches differ in size.
const (
	pageEntries = 512
	pageSamples = 100_000
)

// Item is one entry of the hub's log, opened.
type Item struct {
	Entry      mesh.Entry // without its sealed bytes
	Samples    []mesh.Sample
	Table      *Table
	Opening    mesh.Opening
	Void       mesh.Void
	Fact       mesh.Fact
	Descriptor mesh.Descriptor // of a fact
	Fault      error           // the body can't be read, for ever
	// Compacted says that the samples of this batch are to be had from History alone.
	Compacted bool

	out []uint32 // sorted indexes of samples that a rule quarantines
}

func (it *Item) quarantined(i int) bool {
	if len(it.out) == 0 {
		return false
	}
	_, ok := slices.BinarySearch(it.out, uint32(i))
	return ok
}

// Table is a signal table.
type Table struct {
	Signals []mesh.Signal
	at      map[uint32]int
	last    int // the index found last: samples come by signal
}

// index is the place of a signal in the table, or -1.
func (t *Table) index(id uint32) int {
	if t.last < len(t.Signals) && t.Signals[t.last].ID == id {
		return t.last
	}
	i, ok := t.at[id]
	if !ok {
		return -1
	}
	t.last = i
	return i
}

// Tape opens the records of the hub's log. Runners that stand at the same
// place share what was opened. Not safe for concurrent use.
type Tape struct {
	log    Log
	dec    *wire.Decoder
	tables map[mesh.Hash]*Table
	after  mesh.Position // the last page stands behind it
	page   []Item
}

// NewTape makes a tape over a log.
func NewTape(log Log) (*Tape, error) {
	dec, err := wire.NewDecoder()
	if err != nil {
		return nil, err
	}
	return &Tape{log: log, dec: dec, tables: map[mesh.Hash]*Table{}}, nil
}

// Read gives the next items behind a position; none when there are none yet.
// They are shared: don't change them.
func (t *Tape) Read(ctx context.Context, partition int, after mesh.Position) ([]Item, error) {
	if len(t.page) > 0 && after == t.after {
		return t.page, nil
	}
	entries, err := t.log.Peek(ctx, partition, after, pageEntries)
	if err != nil {
		return nil, err
	}
	page, samples := make([]Item, 0, len(entries)), 0
	for i := range entries {
		it, err := t.open(ctx, &entries[i])
		if err != nil {
			return nil, err
		}
		page = append(page, it)
		if samples += int(it.Entry.Header.Count); samples >= pageSamples {
			break
		}
	}
	if len(page) > 0 {
		t.after, t.page = after, page
	}
	return page, nil
}

// History opens what holds samples of a source in span: batches as they came,
// and chunks, which have no position. More than most sealed bytes, if that is not
// 0, are mesh.ErrLarge.
func (t *Tape) History(ctx context.Context, source string, span mesh.Span, most int64, each func(*Item) error) error {
	entries, err := t.log.HistoryWithin(ctx, source, span, most)
	if err != nil {
		return err
	}
	for i := range entries {
		it, err := t.open(ctx, &entries[i])
		if err != nil {
			return err
		}
		entries[i].Sealed = nil
		if it.Fault != nil {
			continue
		}
		if err := each(&it); err != nil {
			return err
		}
	}
	return nil
}

// open opens one entry. What can't be read, ever, is a fault of the item; the
// error is for what may be otherwise the next time.
func (t *Tape) open(ctx context.Context, e *mesh.Entry) (it Item, err error) {
	it.Entry = *e
	it.Entry.Sealed = nil
	switch e.Header.Kind {
	case mesh.KindBatch:
		if e.Header.Count == 0 {
			return it, nil // proof alone
		}
		if it.Compacted = len(e.Sealed) == 0; it.Compacted {
			return it, nil
		}
		var b mesh.Batch
		if b, it.Fault = t.dec.Batch(e.Sealed); it.Fault == nil {
			it.Samples = b.Samples
			if e.Verdict != nil {
				it.out = quarantined(e.Verdict)
			}
			it.Table, it.Fault, err = t.table(ctx, b.Table)
		}
		return it, err
	case mesh.KindVoid:
		it.Void, it.Fault = wire.OpenVoid(e.Sealed)
	case mesh.KindFact:
		if it.Fact, it.Fault = wire.OpenFact(e.Sealed); it.Fault == nil {
			err = t.describe(ctx, it.Fact, &it)
		}
		return it, err
	case mesh.KindOpening:
		it.Opening, it.Fault = wire.OpenOpening(e.Sealed)
	case mesh.KindVerdict:
	}
	return it, nil
}

// describe finds what a fact names.
func (t *Tape) describe(ctx context.Context, f mesh.Fact, it *Item) error {
	d, ok, err := t.log.Descriptor(ctx, f.Descriptor)
	if err != nil {
		return err
	}
	it.Descriptor = d
	if !ok {
		it.Fault = fmt.Errorf("descriptor %s of fact %s is not stored", f.Descriptor, f.About)
	}
	return nil
}

func quarantined(v *mesh.Verdict) (out []uint32) {
	for _, m := range v.Marks {
		if m.Action == mesh.ActionQuarantine {
			out = append(out, m.Index)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

func (t *Tape) table(ctx context.Context, h mesh.Hash) (table *Table, fault, err error) {
	if table := t.tables[h]; table != nil {
		return table, nil, nil
	}
	d, ok, err := t.log.Descriptor(ctx, h)
	if err != nil {
		return nil, nil, err
	}
	if !ok {
		return nil, nil, fmt.Errorf("signal table %s is not stored", h)
	}
	signals, fault := wire.Signals(d)
	if fault != nil {
		return nil, fault, nil
	}
	table = &Table{Signals: signals, at: make(map[uint32]int, len(signals))}
	for i := range signals {
		table.at[signals[i].ID] = i
	}
	t.tables[h] = table
	return table, nil, nil
}
