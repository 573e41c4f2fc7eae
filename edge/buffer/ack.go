package buffer

import (
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"time"

	"plantmesh/proto/fault"
	"plantmesh/proto/mesh"
)

// reader is what is known of the one who reads the log. Its epochs are kept on
// disk, and now and then through; the rest it says again at each connect.
type reader struct {
	by      mesh.Position       // newest receipt; sequence 0 after a restart of the agent
	place   mesh.Place          // as that says
	went    bool                // on, since an epoch that was left did last
	left    map[mesh.Epoch]left // epochs it has left
	before  []mesh.Epoch        // those before its own, as it says
	covered []stretch           // indexes it has accounted for, sorted and disjoint
	highest uint64              // index ever covered
	told    mesh.Epoch          // its epoch that was told what is no longer kept
	noted   mesh.Position       // of this log: through, as the catalogue has it
	notedAt int64               // machine time of that, Unix seconds
}

// left is an epoch of the reader that another was heard behind.
type left struct {
	older bool       // as the other says: it never counts again
	heard bool       // and what it said last, else nothing
	seq   uint64     // of that
	place mesh.Place // of that
}

// recall takes the reader's epochs and its newest through from the catalogue.
func (r *reader) recall(c *catalogue, log mesh.LogID) {
	for _, n := range c.notes {
		if n.Through != nil {
			r.noted = mesh.Position{Log: log, Epoch: parseEpoch(n.Through.Epoch), Seq: n.Through.Seq}
		}
		if n.Reader == nil {
			continue
		}
		r.noted = mesh.Position{} // a new epoch may have less
		if !r.by.IsZero() {
			r.left[r.by.Epoch] = left{}
		}
		r.by = mesh.Position{Log: n.Reader.Log, Epoch: parseEpoch(n.Reader.Epoch)}
		delete(r.left, r.by.Epoch)
	}
}

// Ack takes the reader's answer. Whole segments behind its contiguous part are
// deleted. It returns what is kept here, below the highest position ever
// covered, and not in the set: what has to be sent again.
//
// ErrStale: the receipt is older than one before, or of an epoch that was left.
func (b *Buffer) Ack(r mesh.Receipt) (again []mesh.Range, err error) {
	b.writing.Lock()
	defer b.writing.Unlock()
	if b.closed {
		return nil, ErrClosed
	}
	if err := b.believe(r.By, r.Before, r.Place); err != nil {
		return nil, err
	}
	fault.Point("receipt.taken")
	through, known := b.chain.index(r.Have.Through)
	through = min(through, b.end)
	var covered []stretch
	if through > 0 {
		covered = append(covered, stretch{1, through})
	}
	for _, i := range r.Have.Islands {
		first, ok1 := b.chain.index(mesh.Position{Epoch: i.Epoch, Seq: i.First})
		last, ok2 := b.chain.index(mesh.Position{Epoch: i.Epoch, Seq: i.Last})
		if ok1 && ok2 && first <= min(last, b.end) {
			covered = append(covered, stretch{first, min(last, b.end)})
		}
	}
	covered = join(covered)
	b.mu.Lock()
	if shrank(b.reader.covered, covered) {
		b.reader.told = mesh.Epoch{}
	}
	b.reader.covered = covered
	if !r.By.IsZero() {
		b.reader.went = b.reader.went || r.By.Seq > b.reader.by.Seq || r.Place != b.reader.place
		b.reader.by, b.reader.before, b.reader.place = r.By, r.Before, r.Place
	}
	if n := len(covered); n > 0 {
		b.reader.highest = max(b.reader.highest, covered[n-1].last)
	}
	b.mu.Unlock()
	b.noteThrough(false)
	b.sweep(through)
	b.restoreReserve()
	if known || r.Have.Through.IsZero() { // else it speaks of another's branch
		if err := b.tell(covered); err != nil {
			return nil, err
		}
	}
	for _, s := range (stretch{b.oldest(), b.reader.highest}).without(covered) {
		again = append(again, b.chain.ranges(s.first, s.last)...)
	}
	return again, nil
}

// shrank reports whether a set lacks what the one before it had.
func shrank(before, now []stretch) bool {
	return slices.ContainsFunc(before, func(s stretch) bool { return len(s.without(now)) > 0 })
}

// maxLeft is how many epochs of the reader are held to be left though they
// never spoke here: 64 KiB.
const maxLeft = 4096

// believe refuses a receipt that is not the reader's newest. A new epoch is
// noted before anything is deleted by its word. What the epochs before each say
// tells which of two is the newer, though they were heard the other way round:
// one that was paused and goes on answering is not the newer for being heard late.
func (b *Buffer) believe(by mesh.Position, before []mesh.Epoch, at mesh.Place) error {
	r := &b.reader
	_, was := r.left[by.Epoch]
	switch {
	case by.IsZero():
		return nil // a reader that never heard of this log: it covers nothing
	case slices.Contains(before, r.by.Epoch) && !r.by.IsZero():
	case (was || slices.Contains(r.before, by.Epoch)) && !r.goesOn(by, at):
		b.log.Error("receipt of an epoch the reader has left", "by", by.String(), "now", r.by.String())
		return fmt.Errorf("%w: %s was left", ErrStale, by)
	case by.Epoch == r.by.Epoch && by.Seq < r.by.Seq:
		return fmt.Errorf("%w: %s after %s", ErrStale, by, r.by)
	case by.Epoch == r.by.Epoch:
		return nil
	}
	if err := b.addNotes(note{Reader: &readerNote{Log: by.Log, Epoch: hex.EncodeToString(by.Epoch[:])}}); err != nil {
		return err
	}
	r.noted, r.notedAt = mesh.Position{}, 0
	b.log.Info("reader has a new epoch", "by", by.String())
	if !r.by.IsZero() {
		r.left[r.by.Epoch] = left{older: slices.Contains(before, r.by.Epoch), heard: true, seq: r.by.Seq, place: r.place}
	}
	for _, e := range before { // the next one may not name them any more
		if len(r.left) < maxLeft {
			r.left[e] = left{older: true}
		}
	}
	delete(r.left, by.Epoch)
	r.place, r.went = at, true
	return nil
}

// goesOn reports whether an epoch that was left is the reader's all the same. Neither
// of two that a restored backup parts knows of the other, and their receipts may come
// the wrong way round; but only the one that has the log commits. So one that says
// twice that it has gone on, while the other has not, is believed again. A paused one
// only repeats itself.
func (r *reader) goesOn(by mesh.Position, at mesh.Place) bool {
	was, ok := r.left[by.Epoch]
	if !ok || was.older || slices.Contains(r.before, by.Epoch) {
		return false
	}
	on := was.heard && (by.Seq > was.seq || by.Seq == was.seq && at.Stream == was.place.Stream && at.Seq > was.place.Seq)
	if on || !was.heard || by.Seq == was.seq && at.Stream != was.place.Stream {
		r.left[by.Epoch] = left{heard: true, seq: by.Seq, place: at}
	}
	if !on || r.went {
		r.went = r.went && !on
		return false
	}
	return true
}

// noteEvery is how old the noted through may grow while the reader has
// everything, in seconds.
const noteEvery = 10

// noteThrough notes how far the reader has everything, so that a start on a
// full disk knows what may go: when a segment was received whole, and now and
// then when all is; always if the buffer closes.
func (b *Buffer) noteThrough(closing bool) {
	through, now := b.received(), b.cfg.Now().Unix()
	noted, _ := b.chain.index(b.reader.noted)
	if through <= noted {
		return
	}
	due := closing || through == b.end && now-b.reader.notedAt >= noteEvery
	for _, p := range b.pieces {
		due = due || p.filled > 0 && noted < p.last && p.last <= through
	}
	if !due {
		return
	}
	at := b.chain.at(through)
	if err := b.addNotes(note{Through: &throughNote{Epoch: hex.EncodeToString(at.Epoch[:]), Seq: at.Seq}}); err != nil {
		b.log.Warn("catalogue not written", "err", err)
		return
	}
	b.reader.noted, b.reader.notedAt = at, now
}

// recallThrough believes what was noted of the reader, and lets go of what need
// not be kept any more.
func (b *Buffer) recallThrough() {
	through, ok := b.chain.index(b.reader.noted)
	through = min(through, b.end)
	if !ok || through == 0 {
		return
	}
	b.reader.covered, b.reader.highest = []stretch{{1, through}}, through
	b.sweep(through)
}

// sweep deletes the segments behind through that need not be kept any more.
func (b *Buffer) sweep(through uint64) {
	keep := b.cfg.Now().Add(-time.Duration(*b.cfg.Keep)).Unix()
	for len(b.pieces) > 1 && b.pieces[0].last <= through && (b.pieces[0].filled <= keep || b.bytes() > int64(b.cfg.MaxBytes)/2) {
		b.forget(b.pieces[0], "", mesh.Position{})
	}
}

// received is the index through which the reader has everything.
func (b *Buffer) received() uint64 {
	if c := b.reader.covered; len(c) > 0 && c[0].first <= 1 {
		return c[0].last
	}
	return 0
}

// forget lets a segment go: noted first, then deleted. A file that can't be
// deleted now is noted as gone all the same, and goes at the next opening. said
// is where the void stands that says so, with all that p's own voids said.
func (b *Buffer) forget(p *piece, why mesh.Cause, said mesh.Position) {
	b.mu.Lock()
	i := slices.Index(b.pieces, p)
	if i < 0 {
		b.mu.Unlock()
		return
	}
	b.pieces = slices.Delete(slices.Clone(b.pieces), i, i+1)
	handle := b.readers[p]
	delete(b.readers, p)
	named := map[mesh.Hash]bool{}
	for _, q := range b.pieces {
		maps.Copy(named, q.names)
	}
	for h := range p.names {
		if !named[h] && !lasting(b.descs[h]) {
			delete(b.descs, h)
		}
	}
	b.mu.Unlock()
	if p.last >= p.first {
		b.noteGone([]stretch{{p.first, p.last}}, why, said)
	}
	if handle != nil {
		if err := handle.Close(); err != nil {
			b.log.Warn("close segment", "segment", p.name, "err", err)
		}
	}
	fault.Point("segment.delete.before")
	if err := b.disk.Remove(p.name); err != nil {
		b.log.Warn("segment not deleted", "segment", p.name, "err", err)
	}
	fault.Point("segment.delete.after")
	b.log.Info("segment deleted", "segment", p.name, "records", p.last+1-p.first, "cause", string(why))
}

// noteGone notes stretches and what was carried in them.
func (b *Buffer) noteGone(lost []stretch, why mesh.Cause, said mesh.Position) {
	void := uint64(0)
	if why != "" {
		void, _ = b.chain.index(said)
		lost = join(append(slices.Clone(lost), b.notes.carried(lost)...))
	}
	for _, s := range lost {
		b.note(note{Gone: &goneNote{First: s.first, Last: s.last, Why: why, Void: void}})
	}
}

// lose is the plan of the voids for stretches that go, and for what was said
// lost in them.
func (b *Buffer) lose(lost []stretch, cause mesh.Cause, why string, parts map[string]tally) (*plan, error) {
	parts = maps.Clone(parts)
	carried := b.notes.carried(lost)
	for source, t := range b.notes.parts(carried) {
		parts[source] = parts[source].plus(t)
	}
	var open []stretch
	for _, s := range join(append(slices.Clone(lost), carried...)) {
		open = append(open, s.without(b.reader.covered)...)
	}
	p := &plan{}
	for _, v := range voids(b.chain, open, cause, why, parts) {
		if err := p.addVoid(v); err != nil {
			return nil, err
		}
	}
	if len(p.offers) == 0 {
		return p, nil
	}
	return p, b.doubt(p, parts, cause, false)
}

// dropEmpty takes an abandoned segment that never held a record out of the log's
// way. Only a file made in this run is removed. Called with mu and writing held.
func (b *Buffer) dropEmpty() {
	n := len(b.pieces)
	if n == 0 || b.pieces[n-1].last >= b.pieces[n-1].first {
		return
	}
	p := b.pieces[n-1]
	b.pieces = b.pieces[: n-1 : n-1]
	delete(b.readers, p)
	away := b.disk.SetAside
	if p.fresh {
		away = b.disk.Remove
	}
	if err := away(p.name); err != nil {
		b.log.Warn("segment not taken away", "segment", p.name, "err", err)
	}
}

// tell answers a reader who lacks what is no longer kept: a void, once for each
// of its epochs. What has its void already is told again where the reader has
// that void: it left out what the reader had then, before it went back. Whether a
// note says what is gone or none does (old ones are let go, and the catalogue may
// be lost): nothing else fills the hole.
func (b *Buffer) tell(covered []stretch) error {
	if b.reader.told == b.reader.by.Epoch || b.notes.onTheWay(covered) {
		return nil
	}
	was := b.reader.told
	b.reader.told = b.reader.by.Epoch // a set of one epoch grows, but for branches that end and go on: see Ack
	var lost []stretch
	gone := append(b.notes.gone(func(mesh.Cause) bool { return true }), stretch{1, b.oldest() - 1})
	for _, g := range join(gone) {
		lost = append(lost, g.without(covered)...)
	}
	if len(lost) == 0 {
		return nil
	}
	p, parts := &plan{}, b.notes.parts(lost)
	for _, v := range voids(b.chain, lost, mesh.CauseNotKept, "the reader had it once, and it is kept no more", parts) {
		if err := p.addVoid(v); err != nil {
			return err
		}
	}
	err := b.doubt(p, parts, mesh.CauseNotKept, false)
	if err == nil {
		_, err = b.commitOwn(p)
	}
	if err != nil {
		b.reader.told = was
		return fmt.Errorf("say what is no longer kept: %w", err)
	}
	b.log.Warn("the reader lacks what is no longer kept", "stretches", len(lost))
	return nil
}
