package buffer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"time"

	"plantmesh/proto/mesh"
	"plantmesh/proto/wire"
)

// growth counts by the hour what the log has grown, for a day.
type growth struct {
	since time.Time // machine time of the first count
	hours [25]struct {
		hour  int64 // since 1970
		bytes int64
	}
}

func (g *growth) add(bytes int64, at time.Time) {
	if g.since.IsZero() {
		g.since = at
	}
	hour := at.Unix() / 3600
	h := &g.hours[hour%int64(len(g.hours))]
	if h.hour != hour {
		h.hour, h.bytes = hour, 0
	}
	h.bytes += bytes
}

// perHour is the rate of the last day, or since the count began; 0: too short
// to say.
func (g *growth) perHour(now time.Time) float64 {
	counted := min(now.Sub(g.since), 24*time.Hour)
	if g.since.IsZero() || counted < time.Minute {
		return 0
	}
	var sum int64
	for _, h := range g.hours {
		if h.hour > now.Unix()/3600-int64(len(g.hours)) {
			sum += h.bytes
		}
	}
	return float64(sum) / counted.Hours()
}

// Autonomy is for how long this buffer keeps everything while the hub takes
// nothing, at the rate of the last day (of this run, where that is shorter):
// until the budget is used up, or the disk but for min_free. ok is false where
// nothing can be said yet.
func (b *Buffer) Autonomy() (d time.Duration, perHour float64, ok bool) {
	free, err := b.free()
	b.mu.Lock()
	defer b.mu.Unlock()
	perHour = b.meter.grown.perHour(b.cfg.Now())
	if perHour <= 0 {
		return 0, 0, false
	}
	kept := int64(0) // what must stay: segments the reader lacks something of
	for _, p := range b.pieces {
		if p.last > b.received() {
			kept += p.bytes
		}
	}
	room := int64(b.cfg.MaxBytes) - kept
	if err == nil { // what was received gives its place to what comes
		room = min(room, free-b.minFree+b.bytes()-kept)
	}
	return time.Duration(float64(max(0, room)) / perHour * float64(time.Hour)), perHour, true
}

// Found is what Verify finds in one segment.
type Found struct {
	Segment   string
	First     mesh.Position
	Last      mesh.Position
	Records   uint64
	Bytes     int64  // of records
	SetAside  uint64 // records that were quarantined before: a void says so
	Damaged   uint64 // records that can't be read: the next reader voids them
	Unread    bool   // the segment itself can't be read
	Why       string // then
	Delivered bool   // the reader has all of it
}

// verifyBytes is how much is read of a segment while its file is held.
const verifyBytes = 1 << 20

// Verify reads every kept record and tells segment by segment what it found.
// It changes nothing: what is damaged is voided by whoever reads it next.
func (b *Buffer) Verify(ctx context.Context, tell func(Found) error) error {
	b.mu.Lock()
	pieces := slices.Clone(b.pieces)
	b.mu.Unlock()
	for _, p := range pieces {
		f, err := b.verify(ctx, p)
		if errors.Is(err, errClosed) {
			if b.isClosed() {
				return ErrClosed
			}
			continue // it was let go meanwhile
		}
		if err != nil {
			return err
		}
		if err := tell(f); err != nil {
			return err
		}
	}
	return nil
}

func (b *Buffer) isClosed() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.closed
}

func (b *Buffer) verify(ctx context.Context, p *piece) (f Found, err error) {
	b.mu.Lock()
	last := p.last
	f = Found{Segment: p.name, First: b.chain.at(p.first), Last: b.chain.at(last), Delivered: last <= b.received()}
	for i := range b.skips {
		if p.first <= i && i <= last {
			f.SetAside++
		}
	}
	b.mu.Unlock()
	for from := p.first; from <= last && err == nil; {
		if err := ctx.Err(); err != nil {
			return f, err
		}
		var (
			records []mesh.Record
			bad     []uint64
		)
		records, bad, err = b.read(p, from, verifyBytes)
		from = f.count(b.positions(), records, bad, last)
	}
	if errors.Is(err, errDamaged) || errors.Is(err, fs.ErrNotExist) {
		f.Unread, f.Why, err = true, err.Error(), nil
	}
	return f, err
}

// count counts what was read, up to index last, and says from where to go on.
func (f *Found) count(on *chain, records []mesh.Record, bad []uint64, last uint64) (next uint64) {
	for _, i := range bad {
		if i <= last {
			f.Damaged++
		}
	}
	next = last + 1 // nothing came: there is nothing more
	for _, r := range records {
		i, _ := on.index(r.At)
		if i > last {
			return last + 1
		}
		f.Records, f.Bytes, next = f.Records+1, f.Bytes+int64(len(r.Sealed)), i+1
	}
	return next
}

// Selection says what of the log is exported; the zero Selection is all of it.
type Selection struct {
	Source string // empty: all
	// Window leaves batches and voids out of which nothing lies in it; zero: it leaves out none.
	// Records of other kinds are few, and say what holds.
	Window mesh.Span
}

// Exported is what was written.
type Exported struct {
	Records uint64
	Samples uint64
	Times   mesh.Span // event times of the samples; To is that of the last
}

// takes reports whether a record is selected.
func (s *Selection) takes(h *mesh.Header) bool {
	if s.Source != "" && h.About != s.Source {
		return false
	}
	if s.Window == (mesh.Span{}) || h.Kind != mesh.KindBatch && h.Kind != mesh.KindVoid {
		return true
	}
	touches := func(x mesh.Span) bool { return !x.Empty() && x.From < s.Window.To && s.Window.From < x.To }
	return touches(h.Times) || touches(h.Proven)
}

func (e *Exported) count(h *mesh.Header) {
	e.Records++
	if h.Kind != mesh.KindBatch || h.Count == 0 {
		return
	}
	if e.Samples == 0 || h.Times.From < e.Times.From {
		e.Times.From = h.Times.From
	}
	e.Times.To = max(e.Times.To, h.Times.To-1)
	e.Samples += uint64(h.Count)
}

// Export writes what is kept and selected as frames, the descriptors first: what
// wire.Dump and any reader of the format can read. Records go whole. Those that can't
// be read are left out, and voided as by any reader.
func (b *Buffer) Export(ctx context.Context, to io.Writer, s Selection) (e Exported, err error) {
	for _, d := range b.Descriptors() {
		if _, err := to.Write(wire.AppendDescriptor(nil, d)); err != nil {
			return e, fmt.Errorf("write a descriptor: %w", err)
		}
	}
	after, end := mesh.Position{}, b.End() // what comes meanwhile is for the next export
	if s.Window != (mesh.Span{}) {
		after, _, _ = b.Holding(s.Source, s.Window) // what stands in segments before has nothing of it
	}
	for after != end {
		if err := ctx.Err(); err != nil {
			return e, err
		}
		records, err := b.Peek(after, verifyBytes)
		if err != nil || len(records) == 0 {
			return e, err
		}
		if i := slices.IndexFunc(records, func(r mesh.Record) bool { return r.At == end }); i >= 0 {
			records = records[:i+1]
		}
		after = records[len(records)-1].At
		var frames []byte
		for _, r := range records {
			h, err := wire.ParseHeader(r.Sealed)
			if err == nil && s.takes(&h) {
				frames = wire.AppendRecord(frames, r)
				e.count(&h)
			}
		}
		if _, err := to.Write(frames); err != nil {
			return e, fmt.Errorf("write records: %w", err)
		}
	}
	return e, nil
}

// Compact lets go of what the reader has and need not be kept. With all that
// is also what is kept for a reader that goes back (keep), down to the segment
// that is written now. freed is what the disk has back, kept what stays only
// because of keep.
func (b *Buffer) Compact(all bool) (freed, kept int64, err error) {
	b.writing.Lock()
	defer b.writing.Unlock()
	if b.closed {
		return 0, 0, ErrClosed
	}
	before := b.bytes()
	b.sweep(b.received())
	for all && b.makeRoom() {
		continue
	}
	for _, p := range b.pieces {
		if p.last >= p.first && p.last <= b.received() {
			kept += p.bytes
		}
	}
	return before - b.bytes(), kept, nil
}

// Through is the position up to which the reader has everything; zero: nothing yet, as
// far as its receipts said.
func (b *Buffer) Through() mesh.Position {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.chain.at(min(b.received(), b.end))
}

// Back is the position n records before the last one; zero where there are fewer.
func (b *Buffer) Back(n uint64) mesh.Position {
	b.mu.Lock()
	defer b.mu.Unlock()
	if n >= b.end {
		return mesh.Position{}
	}
	return b.chain.at(b.end - n)
}
