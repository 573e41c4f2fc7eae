package buffer

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"plantmesh/proto/mesh"
	"plantmesh/proto/wire"
)

// maxReaders is how many filled segments stay open to be read: the two roads
// and the rules read in different places.
const maxReaders = 4

// Peek returns records behind after in log order, across epochs and segments:
// at least one if there is any, then as many as fit into maxBytes, perhaps
// fewer. It does not wait. The zero position, and any that is no longer kept,
// reads from the oldest kept record. mesh.ErrGone: after is not on the chain.
func (b *Buffer) Peek(after mesh.Position, maxBytes int) ([]mesh.Record, error) {
	for {
		b.mu.Lock()
		closed := b.closed
		from, err := b.behind(after)
		p := b.holder(from)
		b.mu.Unlock()
		switch {
		case closed:
			return nil, ErrClosed
		case err != nil || p == nil:
			return nil, err
		}
		records, bad, err := b.read(p, max(from, p.first), maxBytes)
		switch {
		case errors.Is(err, errClosed):
			continue
		case errors.Is(err, errDamaged), errors.Is(err, fs.ErrNotExist):
			if err := b.giveUp(p, err); err != nil {
				return nil, err
			}
			continue
		case err != nil:
			return nil, err
		}
		for _, i := range bad {
			if err := b.quarantine(i, "its checksum is wrong", mesh.CauseDamaged); err != nil {
				return nil, err
			}
		}
		if len(records) > 0 {
			return records, nil
		}
		after = b.endOf(p) // all of it was quarantined
	}
}

// behind is the index of the first record behind after.
func (b *Buffer) behind(after mesh.Position) (uint64, error) {
	if after.IsZero() {
		return 1, nil
	}
	i, ok := b.chain.index(after)
	if !ok {
		return 0, fmt.Errorf("read behind %s: %w", after, mesh.ErrGone)
	}
	return i + 1, nil
}

// holder is the first segment with a record at or behind index from; nil at the end.
func (b *Buffer) holder(from uint64) *piece {
	for _, p := range b.pieces {
		if p.last >= p.first && p.last >= from {
			return p
		}
	}
	return nil
}

func (b *Buffer) endOf(p *piece) mesh.Position {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.chain.at(p.last)
}

// read copies records of p from index from on. bad are those whose checksum is
// wrong, and those that are not found: every index up to the last was given.
func (b *Buffer) read(p *piece, from uint64, maxBytes int) (records []mesh.Record, bad []uint64, err error) {
	seg, last, skips, err := b.handle(p)
	if err != nil {
		return nil, nil, err
	}
	r := &reading{on: b.positions(), next: from, last: last, skips: skips, most: maxBytes}
	err = seg.View(func(t tx) error {
		t.Scan(spaceRecord, keyOf(from), r.take)
		return nil
	})
	if err == nil && !r.full {
		r.through(last + 1)
	}
	return r.records, r.bad, err
}

// reading is one read of a segment.
type reading struct {
	on         *chain
	next, last uint64 // indexes: the one expected, and the end
	skips      map[uint64]bool
	size, most int // bytes
	full       bool
	records    []mesh.Record
	bad        []uint64
}

// take takes what is found next; false: it has enough.
func (r *reading) take(k, v []byte) bool {
	i := indexOf(k)
	if i < r.next || i > r.last { // newer than asked for, or a damaged key
		return true
	}
	if r.full = r.size > 0 && r.size+len(v) > r.most; r.full {
		return false
	}
	rec, err := parse(v)
	if err != nil || rec.At != r.on.at(i) {
		// Which of the two is damaged, key or record, the order tells alone.
		return true
	}
	r.through(i)
	if r.next++; !r.skips[i] {
		r.size += len(v)
		r.records = append(r.records, rec)
	}
	return true
}

// through notes what was to be found before index i, and was not.
func (r *reading) through(i uint64) {
	for ; r.next < i; r.next++ {
		if !r.skips[r.next] {
			r.bad = append(r.bad, r.next)
		}
	}
}

// positions is the chain as it is now, to be asked where no lock may be taken:
// who closes a segment holds one and waits for those that read it.
func (b *Buffer) positions() *chain {
	b.mu.Lock()
	defer b.mu.Unlock()
	return &chain{b.chain.log, slices.Clone(b.chain.eras)}
}

// parse copies a frame and checks it.
func parse(v []byte) (r mesh.Record, err error) {
	kind, frame, _, err := wire.Next(slices.Clone(v))
	if err != nil {
		return r, err
	}
	if kind != wire.FrameRecord {
		return r, wire.ErrFormat
	}
	return wire.ParseRecord(frame)
}

// handle is an open segment, the index of its last record that counts, and
// what of it was quarantined.
func (b *Buffer) handle(p *piece) (seg segment, last uint64, skips map[uint64]bool, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	skips = map[uint64]bool{}
	for i := range b.skips {
		if p.first <= i && i <= p.last {
			skips[i] = true
		}
	}
	if b.active != nil && p == b.pieces[len(b.pieces)-1] {
		return b.active, p.last, skips, nil
	}
	if seg, ok := b.readers[p]; ok {
		return seg, p.last, skips, nil
	}
	if !slices.Contains(b.pieces, p) {
		return nil, 0, nil, errClosed
	}
	seg, err = b.disk.Open(p.name, modeRead)
	if err != nil {
		return nil, 0, nil, err
	}
	for q, s := range b.readers {
		if len(b.readers) < maxReaders {
			break
		}
		delete(b.readers, q)
		if err := s.Close(); err != nil {
			b.log.Warn("close segment", "segment", q.name, "err", err)
		}
	}
	b.readers[p] = seg
	return seg, p.last, skips, nil
}

// giveUp sets a segment aside and voids what of it the reader lacks.
func (b *Buffer) giveUp(p *piece, why error) error {
	b.writing.Lock()
	defer b.writing.Unlock()
	if !slices.Contains(b.pieces, p) {
		return nil
	}
	b.log.Error("segment set aside", "segment", p.name, "err", why, "what_to_do", b.damaged())
	if p == b.pieces[len(b.pieces)-1] {
		b.setActive(nil) // not closed: its locks may be held for ever
	}
	pl, err := b.lose([]stretch{{p.first, p.last}}, mesh.CauseDamaged, "a segment of the buffer could not be read", p.tallies)
	if err != nil {
		return err
	}
	if _, err := b.commitOwn(pl); err != nil {
		return fmt.Errorf("void a damaged segment: %w", err)
	}
	if err := b.disk.SetAside(p.name); err != nil {
		return err
	}
	b.mu.Lock()
	delete(b.readers, p) // not closed: its locks may be held for ever
	b.mu.Unlock()
	b.forget(p, mesh.CauseDamaged, b.chain.at(b.end))
	return nil
}

// Quarantine takes a record out of the log's way: its bytes go into a bounded
// folder, a void stands for its position, and Peek passes it over.
func (b *Buffer) Quarantine(at mesh.Position, why string) error {
	b.mu.Lock()
	i, ok := b.chain.index(at)
	b.mu.Unlock()
	if !ok || at.Seq == 0 {
		return fmt.Errorf("quarantine %s: %w", at, mesh.ErrGone)
	}
	return b.quarantine(i, why, mesh.CauseUnreadable)
}

func (b *Buffer) quarantine(i uint64, why string, cause mesh.Cause) error {
	b.mu.Lock()
	p, at, done := b.holder(i), b.chain.at(i), b.skips[i]
	b.mu.Unlock()
	if done || p == nil || i < p.first {
		return nil
	}
	raw := b.raw(p, i)
	v := mesh.Void{Lost: []mesh.Range{{Epoch: at.Epoch, First: at.Seq, Last: at.Seq}}, Cause: cause, Note: why}
	silenced := true // it may have been a void, which nobody will read now
	if r, err := parse(raw); err == nil {
		h, err := wire.ParseHeader(r.Sealed)
		if err == nil && h.About != "" {
			v.Parts = []mesh.Part{{Source: h.About, Times: reach(h), Count: uint64(h.Count)}}
		}
		silenced = err != nil || h.Kind == mesh.KindVoid
	} else {
		v.Parts = b.around(p, i)
	}
	if silenced {
		v.Lost = b.unsaid(i)
	}
	if err := b.keepRaw(at, raw, reason{cause, why}); err != nil {
		b.log.Warn("raw bytes not kept", "at", at.String(), "err", err)
	}
	pl := &plan{skips: []uint64{i}}
	if err := pl.addVoid(v); err != nil {
		return err
	}
	b.writing.Lock()
	defer b.writing.Unlock()
	if b.closed {
		return ErrClosed
	}
	held := map[string]tally{}
	for _, part := range v.Parts {
		held[part.Source] = tally{From: part.Times.From, To: part.Times.To}
	}
	if err := b.doubt(pl, held, cause, false); err != nil {
		return err
	}
	if _, err := b.commitOwn(pl); err != nil {
		return fmt.Errorf("quarantine %s: %w", at, err)
	}
	b.noteGone([]stretch{{i, i}}, cause, b.chain.at(b.end))
	if cause == mesh.CauseDamaged {
		b.log.Error("record quarantined", "at", at.String(), "cause", string(cause), "why", why, "what_to_do", b.damaged())
		return nil
	}
	b.log.Error("record quarantined", "at", at.String(), "cause", string(cause), "why", why)
	return nil
}

// unsaid is a record that can't be read, and what it may have been the only one
// to say is lost.
func (b *Buffer) unsaid(i uint64) (lost []mesh.Range) {
	b.writing.Lock()
	defer b.writing.Unlock()
	at := stretch{i, i}
	for _, s := range join(append(b.notes.carried([]stretch{at}), at)) {
		lost = append(lost, b.chain.ranges(s.first, s.last)...)
	}
	return lost[max(0, len(lost)-maxLost):]
}

// raw are the bytes of a record as they lie on disk; nil where they can't be had.
func (b *Buffer) raw(p *piece, i uint64) (out []byte) {
	seg, _, _, err := b.handle(p)
	if err != nil {
		return nil
	}
	err = seg.View(func(t tx) error {
		out = slices.Clone(t.Get(spaceRecord, keyOf(i)))
		return nil
	})
	if err != nil {
		return nil
	}
	return out
}
