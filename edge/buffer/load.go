package buffer

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"
	"unicode/utf8"

	"plantmesh/proto/mesh"
	"plantmesh/proto/wire"
)

// snapshot is what a segment knows beside its own records.
type snapshot struct {
	chain  *chain
	states map[string][]byte
	descs  map[mesh.Hash]mesh.Descriptor
	lost   []string // keys of states whose checksum is wrong
	broken int      // descriptors, tallies and skips whose checksum is wrong
	unread int      // states under a name that no source has
	astray []stray  // states whose checksum is wrong, as far as they are small
	skips  []uint64 // indexes of quarantined records
	unsure []uint64 // the same, without a checksum
}

// debt is what the next opening has to say beside itself.
type debt struct {
	missing []stretch // indexes that should be there and are not
	lost    []string  // keys of states that are lost
	open    bool      // nobody knows how many records are missing, or of when
	hidden  *piece    // its last records may be there and can't be seen: its tallies count them
}

// load reads what the directory holds. Afterwards chain and end are those the
// next epoch follows.
func (b *Buffer) load() error {
	all, err := b.examine()
	if err != nil {
		return err
	}
	if all, err = b.belonging(all); err != nil {
		return err
	}
	all = b.withMissing(all)
	newest, err := b.newest(all)
	if err != nil {
		return err
	}
	b.arrange(all)
	active, err := b.reopen(all)
	if err != nil {
		return err
	}
	open := b.follow(newest, all)
	if newest.chain != nil {
		b.states, b.descs = newest.states, newest.descs
		if n := len(b.pieces); n > 0 {
			b.uncommit(b.pieces[n-1])
		}
	}
	unnoted := b.skip(all)
	b.debt = debt{missing: join(append(b.missing(all), unnoted...)), open: open}
	if n := len(all); n > 0 && all[n-1].hides {
		b.debt.hidden = all[n-1].piece
	}
	b.debt.lost = b.withStateless(newest)
	if active != nil && b.end > b.pieces[len(b.pieces)-1].last {
		// Records behind a hole go into a segment of their own.
		err, active = active.Close(), nil
	}
	b.setActive(active)
	b.leaveOthers(all)
	return err
}

// skip has the quarantined records passed over. Of those without a checksum, of
// before 2026-11-28, the catalogue must know too: one that is not believed is
// read, and quarantined again if it must be. unnoted are those that the
// catalogue doesn't know, as a kill came before the note: nobody knows which
// void says so, and if that can't be read either nothing does. It is said again.
func (b *Buffer) skip(all []found) (unnoted []stretch) {
	gone := b.notes.gone(func(why mesh.Cause) bool { return why != "" })
	for _, f := range all {
		for _, i := range f.s.skips {
			b.skips[i] = true
			if at := (stretch{i, i}); i <= b.end && len(overlap(at, gone)) == 0 {
				unnoted = append(unnoted, at)
			}
		}
		for _, i := range f.s.unsure {
			if len(overlap(stretch{i, i}, gone)) > 0 {
				b.skips[i] = true
			}
		}
	}
	return unnoted
}

// uncommit takes back the states of a commit that failed, as its records are:
// a source that believed them would not ask for those again.
func (b *Buffer) uncommit(p *piece) {
	if states := b.counting(p); states != nil {
		b.states = maps.Clone(states)
	}
}

// counting are the states that count of a segment that a failed commit left; nil
// of another.
func (b *Buffer) counting(p *piece) (states map[string][]byte) {
	for _, n := range b.notes.notes {
		if f := n.Filled; f != nil && f.States != nil && f.First == p.first && f.Segment == pieceName(p.number, p.first) {
			states = f.States
		}
	}
	return states
}

// examine looks into every file whose name could be a segment's.
func (b *Buffer) examine() (all []found, err error) {
	names, err := b.disk.Names()
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		number, first, ok := parseName(name)
		if !ok {
			b.log.Warn("file left alone", "file", name, "why", "its name is none this buffer gives")
			continue
		}
		f, err := b.inspect(name, number, first)
		switch {
		case err != nil:
			return nil, err
		case f.blank && f.bad == nil:
			if err := b.disk.Remove(name); err != nil {
				return nil, err
			}
		default:
			all = append(all, f)
		}
	}
	return all, nil
}

// newest is what the newest good segment knows; bad ones are set aside.
func (b *Buffer) newest(all []found) (newest snapshot, err error) {
	states := map[string][]byte{}
	for _, f := range all {
		if f.missing {
			b.log.Error("a segment is not there any more", "segment", f.name, "what_to_do", b.damaged())
			continue
		}
		if f.bad != nil {
			b.log.Error("segment set aside", "segment", f.name, "err", f.bad, "what_to_do", b.damaged())
			if err := b.disk.SetAside(f.name); err != nil {
				return newest, err
			}
			continue
		}
		// A descriptor that is broken in the newest is taken from an older one.
		older := newest.descs
		newest = f.s
		newest.lost = append(newest.lost, newest.without(states)...)
		if states = b.counting(f.piece); states == nil {
			states = newest.states
		}
		if newest.broken > 0 {
			b.log.Error("descriptors, tallies or skips are lost", "segment", f.name, "count", newest.broken)
			for h, d := range older {
				if f.names[h] && !known(newest.descs, h) {
					newest.descs[h] = d
				}
			}
		}
	}
	return newest, nil
}

// inspect opens a segment to see what it holds. Its place is what it says
// itself; its name's only where it can't be read.
func (b *Buffer) inspect(name string, number, first uint64) (f found, err error) {
	f.piece = &piece{name: name, number: number, first: first, last: first - 1, tallies: map[string]tally{}, names: map[mesh.Hash]bool{}}
	seg, err := b.disk.Open(name, modeRead)
	if err != nil {
		f.bad = err
		return f, unlessDamaged(err)
	}
	err = seg.View(func(t tx) error {
		f.bytes = t.Size()
		return f.look(t)
	})
	if errors.Is(err, errDamaged) {
		f.bad = err
		return f, nil // not closed: its locks may be held for ever
	}
	if err = errors.Join(err, seg.Close()); err == nil && f.blank {
		f.bad, err = b.neverWritten(name)
	}
	return f, err
}

// neverWritten says why a segment in which nothing stands may have held
// something: its first commit may be gone.
func (b *Buffer) neverWritten(name string) (bad, err error) {
	seg, err := b.disk.Open(name, modeAppend)
	if errors.Is(err, errDamaged) {
		return err, nil
	}
	if err == nil {
		err = seg.Close()
	}
	return nil, err
}

func unlessDamaged(err error) error {
	if errors.Is(err, errDamaged) {
		return nil
	}
	return err
}

// look reads the segment's place and, if it is a segment, all it knows.
func (f *found) look(t tx) error {
	raw, placed, err := meta(t, placeKey())
	if err != nil {
		return err
	}
	line, chained, err := meta(t, chainKey())
	switch {
	case err != nil:
		return err
	case !placed && !chained:
		f.blank = true
		t.Scan(spaceRecord, nil, func(_, _ []byte) bool {
			f.blank = false
			return false
		})
		if f.blank {
			return nil
		}
		return fmt.Errorf("%w: it does not say whose it is", errDamaged)
	case !placed || len(line) == 0:
		return fmt.Errorf("%w: it does not say whose it is", errDamaged)
	}
	at, err := decodePlace(raw)
	if err != nil {
		return err
	}
	f.log, f.number, f.first = at.log, at.number, at.first
	if f.s.chain, err = decodeChain(at.log, line); err != nil {
		return err
	}
	readSnapshot(t, &f.s)
	readPiece(t, f.piece, &f.s)
	return nil
}

// maxStateKey is the longest key of a state: that of a part that is kept beside one.
const maxStateKey = len(keptOf) + wire.MaxName + 1 + mesh.MaxKeptName

func readSnapshot(t tx, s *snapshot) {
	s.states, s.descs = map[string][]byte{}, map[mesh.Hash]mesh.Descriptor{}
	for _, sp := range []space{spaceState, spaceWide} {
		t.Scan(sp, nil, func(k, v []byte) bool {
			value, ok := checked(sp, k, v)
			switch {
			case ok:
				s.states[string(k)] = slices.Clone(value)
			case 0 < len(k) && len(k) <= maxStateKey && utf8.Valid(k):
				s.lost = append(s.lost, string(k))
			default:
				s.unread++
			}
			if !ok && len(v) < pageBytes {
				s.astray = append(s.astray, stray{sp, slices.Clone(v)})
			}
			return true
		})
	}
	t.Scan(spaceDescriptor, nil, func(k, v []byte) bool {
		value, ok := checked(spaceDescriptor, k, v)
		if ok && len(k) == len(mesh.Hash{}) && len(value) > 0 {
			s.descs[mesh.Hash(k)] = mesh.Descriptor{Kind: mesh.DescriptorKind(value[0]), Content: slices.Clone(value[1:])}
		} else {
			s.broken++
		}
		return true
	})
}

func readPiece(t tx, p *piece, s *snapshot) {
	p.last = p.first - 1 + run(func(n uint64) bool { return t.Get(spaceRecord, keyOf(p.first-1+n)) != nil })
	// Behind a hole there may be more: that is damage, which reading tells of. A
	// record that is whole says itself where it stands; of others the key is
	// believed, unless no file of this size can hold as many.
	most := p.first + uint64(t.Size())/leastRecord
	t.Scan(spaceRecord, keyOf(p.last+1), func(k, v []byte) bool {
		i := indexOf(k)
		if r, err := parse(v); err == nil {
			i, _ = s.chain.index(r.At)
		}
		if i <= most {
			p.last = max(p.last, i)
		}
		return true
	})
	t.Scan(spaceTally, nil, func(k, v []byte) bool {
		if value, ok := checked(spaceTally, k, v); ok {
			p.tallies[string(k)] = decodeTally(value)
		} else {
			s.broken++
		}
		return true
	})
	t.Scan(spaceName, nil, func(k, _ []byte) bool {
		if len(k) == len(mesh.Hash{}) {
			p.names[mesh.Hash(k)] = true
		}
		return true
	})
	t.Scan(spaceSkip, nil, func(k, v []byte) bool {
		switch _, ok := checked(spaceSkip, k, v); {
		case ok:
			s.skips = append(s.skips, indexOf(k))
		case len(v) == 1:
			s.unsure = append(s.unsure, indexOf(k))
		default:
			s.broken++
		}
		return true
	})
}

// leastRecord is less than any record takes, in bytes: its key, its element in
// a page, and the frame's head with a position.
const leastRecord = 32

// run is how many of 1, 2, 3, ... are there without a hole, asking few of them.
func run(there func(n uint64) bool) uint64 {
	step := uint64(1)
	for there(step) {
		step *= 2
	}
	have := step / 2
	for lack := step; have+1 < lack; {
		if mid := have + (lack-have)/2; there(mid) {
			have = mid
		} else {
			lack = mid
		}
	}
	return have
}

// begin begins a new epoch and says in it what is missing.
func (b *Buffer) begin() error {
	// What stood behind the end is lost too, and there may have been voids.
	carried := b.notes.carried(append(slices.Clone(b.debt.missing), stretch{b.end + 1, 1<<64 - 2}))
	missing := join(append(carried, b.debt.missing...))
	p, err := b.loseOpen(missing, b.partsOf(missing))
	if err != nil {
		return err
	}
	fresh, lost, err := b.startFresh(b.debt.lost)
	if err != nil {
		return err
	}
	p = p.then(fresh)
	if err := b.squeeze(p.bytes, func() error { return b.open(p) }); err != nil {
		return err
	}
	b.owing, b.debt = false, debt{}
	for _, m := range missing {
		b.log.Error("records are missing", "count_at_most", m.last-m.first+1, "cause", mesh.CauseDamaged, "what_to_do", b.damaged())
	}
	for _, source := range lost {
		b.log.Error("the state of a source is lost, it starts anew", "source", source, "cause", mesh.CauseDamaged)
	}
	b.mu.Lock()
	b.stateLost = append(b.stateLost, lost...)
	b.mu.Unlock()
	b.noteGone(missing, mesh.CauseDamaged, b.chain.at(b.end))
	return nil
}

// open writes the opening of a new epoch and p behind it, into the active
// segment if there is one.
func (b *Buffer) open(p *plan) error {
	if b.active == nil {
		_, err := b.rotate(p, true)
		return err
	}
	c, op, err := b.newEra()
	if err != nil {
		return err
	}
	cm := b.build(op.then(p), c, b.pieces[len(b.pieces)-1])
	cm.chain = c.encode()
	if err := b.run(cm, b.active); err != nil {
		b.abandon(err)
		_, err := b.rotate(p, true)
		return err
	}
	b.publish(cm, c)
	b.note(noteEra(c.eras[len(c.eras)-1]))
	return nil
}

// newEra is the chain with a new epoch, and the plan of its opening.
func (b *Buffer) newEra() (*chain, *plan, error) {
	c := b.chain.with(era{})
	c.eras = c.eras[:len(c.eras)-1]
	e := c.begin(b.end)
	r, err := opening(b.cfg.Log, e)
	if err != nil {
		return nil, nil, err
	}
	p := &plan{}
	return c, p, p.add(mesh.Offer{Sealed: [][]byte{r.Sealed}})
}

// opening is the first record of an epoch. The same epoch always gives the same bytes.
func opening(log mesh.LogID, e era) (mesh.Record, error) {
	sealed, err := wire.SealOpening(mesh.Opening{Parent: e.parent})
	if err != nil {
		return mesh.Record{}, fmt.Errorf("seal the opening: %w", err)
	}
	return mesh.Record{At: mesh.Position{Log: log, Epoch: e.epoch, Seq: 1}, Sealed: sealed}, nil
}

// note adds to the catalogue. A note that can't be written is logged and done
// without: every note helps, none is needed.
func (b *Buffer) note(n ...note) {
	if err := b.addNotes(n...); err != nil {
		b.log.Warn("catalogue not written", "err", err)
	}
}

// addNotes makes notes durable; on a full disk with the reserve.
func (b *Buffer) addNotes(n ...note) error {
	err := b.notes.add(n...)
	for errors.Is(full(err), ErrFull) && b.reserve.give(0) {
		err = b.notes.add(n...)
	}
	return err
}

func chainKey() []byte { return []byte("chain") }

func keyOf(index uint64) []byte { return binary.BigEndian.AppendUint64(nil, index) }

// indexBytes is the length of a record's key.
const indexBytes = 8

func indexOf(key []byte) uint64 {
	if len(key) != indexBytes {
		return 0
	}
	return binary.BigEndian.Uint64(key)
}

func encodeTally(t tally) []byte {
	b := binary.BigEndian.AppendUint64(make([]byte, 0, tallyBytes), uint64(t.From))
	b = binary.BigEndian.AppendUint64(b, uint64(t.To))
	return binary.BigEndian.AppendUint64(b, t.Count)
}

func decodeTally(b []byte) (t tally) {
	if len(b) != tallyBytes {
		return t
	}
	return tally{mesh.Nanos(binary.BigEndian.Uint64(b)), mesh.Nanos(binary.BigEndian.Uint64(b[8:])), binary.BigEndian.Uint64(b[16:])}
}

// voids say that stretches are lost, in records of bounded size.
func voids(c *chain, lost []stretch, cause mesh.Cause, why string, parts map[string]tally) (out []mesh.Void) {
	var ranges []mesh.Range
	for _, s := range lost {
		ranges = append(ranges, c.ranges(s.first, s.last)...)
	}
	if len(ranges) == 0 {
		return nil
	}
	v := mesh.Void{Cause: cause, Note: why}
	for _, source := range slices.Sorted(maps.Keys(parts)) {
		t := parts[source]
		v.Parts = append(v.Parts, mesh.Part{Source: source, Times: mesh.Span{From: t.From, To: t.To}, Count: t.Count})
	}
	for chunk := range slices.Chunk(ranges, maxLost) {
		v.Lost = chunk
		out = append(out, v)
		v.Parts = nil
	}
	return out
}

// maxLost bounds the ranges of one void, well below what wire accepts.
const maxLost = 1024
