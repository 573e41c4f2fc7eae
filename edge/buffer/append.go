package buffer

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"syscall"

	"plantmesh/proto/fault"
	"plantmesh/proto/mesh"
	"plantmesh/proto/wire"
)

// plan is what one append writes, not yet tied to positions: after a failed
// commit the same plan goes into another epoch.
type plan struct {
	offers  []mesh.Offer
	headers [][]mesh.Header
	bytes   int64
	skips   []uint64
}

// add checks and takes an offer.
func (p *plan) add(o mesh.Offer) error {
	var hs []mesh.Header
	for _, sealed := range o.Sealed {
		if len(sealed) > maxSealed {
			return mesh.Permanent(fmt.Errorf("record of %d bytes from %s: at most %d", len(sealed), o.Source, maxSealed))
		}
		h, err := wire.ParseHeader(sealed)
		if err != nil {
			return mesh.Permanent(fmt.Errorf("read a record from %s: %w", o.Source, err))
		}
		hs = append(hs, h)
		p.bytes += int64(len(sealed)) + recordOverhead
	}
	p.offers, p.headers = append(p.offers, o), append(p.headers, hs)
	p.bytes += int64(len(o.State))
	for _, k := range o.Kept {
		if k.Name == "" || len(k.Name) > mesh.MaxKeptName {
			return mesh.Permanent(fmt.Errorf("%s keeps something under a name of %d bytes: 1 to %d", o.Source, len(k.Name), mesh.MaxKeptName))
		}
		p.bytes += int64(len(k.Name) + len(k.Bytes))
	}
	return nil
}

// recordOverhead is what a record costs beside its sealed bytes: envelope, key
// and bbolt's own, rounded up.
const recordOverhead = 128

func (p *plan) addVoid(v mesh.Void) error {
	sealed, err := wire.SealVoid(v)
	if err != nil {
		return fmt.Errorf("seal a void: %w", err)
	}
	return p.add(mesh.Offer{Sealed: [][]byte{sealed}})
}

// then is p with q behind it.
func (p *plan) then(q *plan) *plan {
	return &plan{
		offers: append(slices.Clip(p.offers), q.offers...), headers: append(slices.Clip(p.headers), q.headers...),
		bytes: p.bytes + q.bytes, skips: append(slices.Clip(p.skips), q.skips...),
	}
}

// commit is a plan tied to positions and to a segment: one transaction.
type commit struct {
	first   uint64
	frames  [][]byte
	last    []mesh.Position // of each offer
	states  map[string][]byte
	descs   map[mesh.Hash]mesh.Descriptor
	tallies map[string]tally
	names   map[mesh.Hash]bool
	skips   []uint64
	chain   []byte // nil: unchanged
	place   []byte // nil: unchanged
	size    int64  // of the segment afterwards, about
	cost    Commits
	voids   []mesh.Void // of its records
}

// build ties p to the positions behind end, in the last epoch of c.
func (b *Buffer) build(p *plan, c *chain, to *piece) *commit {
	cm := &commit{
		first: b.end + 1, states: map[string][]byte{}, descs: map[mesh.Hash]mesh.Descriptor{},
		tallies: map[string]tally{}, names: map[mesh.Hash]bool{}, skips: p.skips, size: p.bytes,
		cost: Commits{Sources: map[string]SourceCount{}},
	}
	at := mesh.Position{Log: c.log, Epoch: c.eras[len(c.eras)-1].epoch, Seq: b.end + 1 - c.eras[len(c.eras)-1].first}
	for i, o := range p.offers {
		for j, sealed := range o.Sealed {
			at.Seq++
			cm.frames = append(cm.frames, wire.AppendRecord(make([]byte, 0, len(sealed)+recordOverhead), mesh.Record{At: at, Sealed: sealed}))
			cm.count(p.headers[i][j], to)
			cm.lost(sealed, p.headers[i][j])
			cm.cost.Payload += uint64(len(cm.frames[len(cm.frames)-1]))
		}
		cm.countOffer(o, p.headers[i])
		cm.last = append(cm.last, at)
		if o.State != nil {
			cm.states[o.Source] = o.State
		}
		for _, k := range o.Kept {
			cm.states[keptKey(o.Source, k.Name)] = append([]byte{}, k.Bytes...) // no bytes: it was dropped
		}
		for _, d := range o.Descriptors {
			if h := b.hashOf(d); !known(b.descs, h) {
				cm.descs[h] = d
			}
		}
	}
	b.countLost(cm)
	return cm
}

// named is a descriptor and its hash.
type named struct {
	of   mesh.Descriptor
	hash mesh.Hash
}

// mostNamed is how many hashes are remembered: two for each of some sources.
const mostNamed = 64

// hashOf remembers hashes: a source gives the very same table with each commit, and
// that may be larger than what it describes.
func (b *Buffer) hashOf(d mesh.Descriptor) mesh.Hash {
	for _, n := range b.named {
		if n.of.Kind == d.Kind && len(d.Content) > 0 && len(n.of.Content) == len(d.Content) && &n.of.Content[0] == &d.Content[0] {
			return n.hash
		}
	}
	h := d.Hash()
	b.named = slices.DeleteFunc(b.named, func(n named) bool { return n.hash == h }) // of a worker's life before
	if len(b.named) == mostNamed {
		b.named = slices.Delete(b.named, 0, mostNamed/2)
	}
	b.named = append(b.named, named{d, h})
	return h
}

func known(descs map[mesh.Hash]mesh.Descriptor, h mesh.Hash) bool {
	_, ok := descs[h]
	return ok
}

// count adds a record to the tally of its source and of what it names.
func (cm *commit) count(h mesh.Header, to *piece) {
	for _, n := range h.Needs {
		if !to.names[n] {
			cm.names[n] = true
		}
	}
	if h.Kind != mesh.KindBatch {
		return
	}
	t, ok := cm.tallies[h.About]
	if !ok {
		t = to.tallies[h.About]
	}
	if !h.Proven.Empty() {
		t = t.plus(tally{From: h.Proven.From, To: h.Proven.To})
	}
	cm.tallies[h.About] = t.plus(tally{From: h.Times.From, To: h.Times.To, Count: uint64(h.Count)})
}

// write is the transaction.
func (cm *commit) write(t tx) error {
	cm.size += t.Size()
	fault.Point("buffer.txn.begin")
	for i, f := range cm.frames {
		if err := t.Put(spaceRecord, keyOf(cm.first+uint64(i)), f); err != nil {
			return err
		}
		fault.Point("buffer.put.partial")
	}
	if err := cm.writeBeside(t); err != nil {
		return err
	}
	for h := range cm.names {
		if err := t.Put(spaceName, h[:], []byte{1}); err != nil {
			return err
		}
	}
	for _, i := range cm.skips {
		if err := put(t, spaceSkip, keyOf(i), []byte{1}); err != nil {
			return err
		}
	}
	if cm.place != nil {
		if err := put(t, spaceMeta, placeKey(), cm.place); err != nil {
			return err
		}
	}
	if cm.chain != nil {
		return put(t, spaceMeta, chainKey(), cm.chain)
	}
	return nil
}

// writeBeside writes what stands beside the records.
func (cm *commit) writeBeside(t tx) error {
	for source, s := range cm.states {
		if err := put(t, stateSpace(t, []byte(source), s), []byte(source), s); err != nil {
			return err
		}
	}
	for h, d := range cm.descs {
		if err := put(t, spaceDescriptor, h[:], append([]byte{byte(d.Kind)}, d.Content...)); err != nil {
			return err
		}
	}
	for source, s := range cm.tallies {
		if err := put(t, spaceTally, []byte(source), encodeTally(s)); err != nil {
			return err
		}
	}
	return nil
}

// Append makes the offers durable, all or none, and returns the position of the
// last record of each (of an offer without records: of the one before it). The
// offers' bytes belong to the buffer afterwards.
//
// ErrFull: take it again after a receipt. mesh.ErrPermanent: the offer itself is
// wrong. Any other error: the disk refused, nothing was taken, try again.
func (b *Buffer) Append(ctx context.Context, offers []mesh.Offer) ([]mesh.Position, error) {
	p := &plan{}
	for _, o := range offers {
		if err := p.add(o); err != nil {
			return nil, err
		}
	}
	w := &waiter{gone: ctx.Err, p: p}
	b.queue.join(w)
	b.writing.Lock()
	defer b.writing.Unlock()
	b.serve(w)
	return w.last, w.err
}

// admit makes room for a plan and commits it.
func (b *Buffer) admit(p *plan) ([]mesh.Position, error) {
	extra := b.extra(p)
	if p.bytes > int64(b.cfg.MaxBytes)+extra { // whatever goes, it won't fit
		return nil, fmt.Errorf("%w: %d bytes at once, and buffer.max_bytes is %d", ErrFull, p.bytes, b.cfg.MaxBytes)
	}
	if err := b.room(p.bytes, extra); err != nil {
		return nil, err
	}
	if extra > 0 {
		return b.commitOwn(p)
	}
	last, err := b.commit(p)
	for errors.Is(err, ErrFull) {
		did := b.makeRoom()
		if !did {
			var derr error
			if did, derr = b.sacrifice(); derr != nil {
				return nil, errors.Join(err, derr)
			}
		}
		if !did {
			break
		}
		last, err = b.commit(p)
	}
	return last, err
}

// commit writes p behind end. After a failed commit nothing that reads back of
// it counts: the segment is left, and the same records go into a new file under
// a new epoch, whose opening ends the one before.
func (b *Buffer) commit(p *plan) ([]mesh.Position, error) {
	if b.owing {
		if err := b.begin(); err != nil {
			return nil, err
		}
	}
	if b.active == nil {
		return b.rotate(p, true)
	}
	to := b.pieces[len(b.pieces)-1]
	if to.last >= to.first && to.bytes+p.bytes > int64(b.cfg.SegmentBytes) {
		b.fill(to)
		if last, err := b.rotate(p, false); err == nil {
			return last, nil
		}
		return b.rotate(p, true)
	}
	cm := b.build(p, b.chain, to)
	if err := b.run(cm, b.active); err != nil {
		b.abandon(err)
		return b.rotate(p, true)
	}
	b.publish(cm, b.chain)
	return cm.last, nil
}

// fill ends the active segment; it stays to be read.
func (b *Buffer) fill(p *piece) {
	if err := b.active.Trim(); err != nil {
		b.log.Warn("segment keeps what was taken ahead", "segment", p.name, "err", err)
	}
	b.leave(p, nil)
}

// leave ends the active segment and touches nothing in it. states are those
// that count where it may hold others.
func (b *Buffer) leave(p *piece, states map[string][]byte) {
	if p.last >= p.first {
		b.noteFilled(p, states)
	}
	seg := b.active
	b.setActive(nil)
	if err := seg.Close(); err != nil {
		b.log.Warn("close segment", "segment", p.name, "err", err)
	}
}

func (b *Buffer) noteFilled(p *piece, states map[string][]byte) {
	p.filled = b.cfg.Now().Unix()
	b.note(note{Filled: &filledNote{Segment: pieceName(p.number, p.first), First: p.first, Last: p.last, At: p.filled, Sources: p.tallies, States: states}})
}

// abandon leaves the active segment after a failed commit.
func (b *Buffer) abandon(why error) {
	p := b.pieces[len(b.pieces)-1]
	b.log.Error("commit failed, the log goes on in a new epoch", "segment", p.name, "err", why)
	if errors.Is(why, errDamaged) {
		b.mu.Lock()
		b.active, b.readers[p] = nil, b.active // not closed: its locks may be held for ever
		b.mu.Unlock()
		if p.last >= p.first {
			b.noteFilled(p, b.states)
		}
		return
	}
	b.leave(p, b.states)
}

// rotate makes a new segment with all that is known, and writes p into it; with
// a new epoch if fresh. On an error nothing has changed but that no segment is
// active.
func (b *Buffer) rotate(p *plan, fresh bool) ([]mesh.Position, error) {
	c, lead := b.chain, &plan{}
	if fresh {
		var err error
		if c, lead, err = b.newEra(); err != nil {
			return nil, err
		}
	}
	to := &piece{number: b.nextNumber(), first: b.end + 1, last: b.end, fresh: true, tallies: map[string]tally{}, names: map[mesh.Hash]bool{}}
	to.name = pieceName(to.number, to.first)
	seg, err := b.disk.Open(to.name, modeCreate)
	if err != nil {
		return nil, full(err)
	}
	fault.Point("segment.create")
	cm := b.build(lead.then(p), c, to)
	cm.chain, cm.place = c.encode(), place{b.cfg.Log, to.number, to.first}.encode()
	b.seed(cm)
	if err := b.run(cm, seg); err != nil {
		if !errors.Is(err, errDamaged) {
			err = errors.Join(err, seg.Close())
		}
		return nil, full(errors.Join(err, b.disk.Remove(to.name)))
	}
	b.mu.Lock()
	b.dropEmpty()
	b.pieces, b.active = append(b.pieces, to), seg
	b.descs = map[mesh.Hash]mesh.Descriptor{} // those the new segment has: publish fills them in
	maps.DeleteFunc(b.states, dropped)
	b.mu.Unlock()
	b.publish(cm, c)
	notes := []note{{Made: &madeNote{Segment: to.name}}}
	if fresh {
		notes = append(notes, noteEra(c.eras[len(c.eras)-1]))
	}
	b.note(notes...)
	return cm.last[len(lead.offers):], nil
}

// seed adds to the first commit of a segment what every segment knows.
func (b *Buffer) seed(cm *commit) {
	for key, s := range b.states {
		if _, ok := cm.states[key]; !ok && !dropped(key, s) {
			cm.states[key] = s
		}
	}
	named := map[mesh.Hash]bool{}
	for _, p := range b.pieces {
		for h := range p.names {
			named[h] = true
		}
	}
	for h, d := range b.descs {
		if named[h] || cm.names[h] || lasting(d) {
			cm.descs[h] = d
		}
	}
	for i := range b.skips {
		if i >= b.oldest() {
			cm.skips = append(cm.skips, i)
		}
	}
}

// lasting reports whether a descriptor stays without a kept record that names
// it: rules and sites are few, and first verdicts name rules without being
// records.
func lasting(d mesh.Descriptor) bool { return d.Kind != mesh.DescribeSignals }

// full tells a full disk from a broken one.
func full(err error) error {
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return fmt.Errorf("%w: the disk has no space left; free some there, or bring the hub back (%w)", ErrFull, err)
	}
	return err
}

// publish makes a durable commit visible.
func (b *Buffer) publish(cm *commit, c *chain) {
	b.mu.Lock()
	defer b.mu.Unlock()
	to := b.pieces[len(b.pieces)-1]
	b.chain, b.end = c, b.end+uint64(len(cm.frames))
	b.meter.grown.add(cm.size-to.bytes, b.cfg.Now())
	to.last, to.bytes = b.end, cm.size
	b.meter.add(cm.cost, b.cfg.Now())
	maps.Copy(b.states, cm.states)
	maps.Copy(b.descs, cm.descs)
	maps.Copy(to.tallies, cm.tallies)
	maps.Copy(to.names, cm.names)
	for _, i := range cm.skips {
		b.skips[i] = true
	}
	close(b.changed)
	b.changed = make(chan struct{})
}
