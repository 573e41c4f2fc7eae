package buffer

import (
	"cmp"
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"plantmesh/proto/mesh"
	"plantmesh/proto/wire"
)

// mostReproven bounds the stretches that one release proves again.
const mostReproven = 256

// Released is a record that is in the log again.
type Released struct {
	At   mesh.Position
	Open []mesh.Span // of its stretch: what stays unknown
}

// Release puts a record that was set aside into the log again, at its end, and behind it
// proves again what the void at its old place took back and nothing else did: the proof of
// a stretch may stand in other records, before that void. What else is lost of the stretch
// stays unknown, also where the record's own proof reaches over it. If the agent ends before
// the bytes are gone, the record may be there twice, and its samples count once.
func (b *Buffer) Release(ctx context.Context, id string) (r Released, err error) {
	a, name, err := b.find(id)
	switch {
	case err != nil:
		return r, err
	case a.Broken != "":
		return r, fmt.Errorf("%w: it can't be read (%s)", ErrNoMore, a.Broken)
	case a.Header.Kind != mesh.KindBatch:
		return r, fmt.Errorf("%w: it is a record of the agent's own (%s), and what it said is said anew", ErrNoMore, a.Header.Kind)
	}
	o := mesh.Offer{Source: a.Header.About, Sealed: [][]byte{a.Record.Sealed}}
	for _, h := range a.Header.Needs {
		d, ok := b.Descriptor(h)
		if !ok {
			return r, fmt.Errorf("%w: the table of signals that it names (%s) is not kept any more", ErrNoMore, h)
		}
		o.Descriptors = append(o.Descriptors, d)
	}
	t := &telling{of: &a}
	if t.back, err = b.released(); err != nil {
		return r, err
	}
	if !slices.Contains(t.back, a.At) {
		t.back = append(t.back, a.At)
	}
	if t.older, err = b.olderAside(&a); err != nil {
		return r, err
	}
	end, err := b.recite(ctx, t)
	if err != nil {
		return r, err
	}
	b.writing.Lock()
	defer b.writing.Unlock()
	if b.closed {
		return r, ErrClosed
	}
	if err := b.reciteRest(t, end); err != nil {
		return r, err
	}
	behind, open, err := t.behind()
	if err != nil {
		return r, err
	}
	p := &plan{}
	if err := p.add(o); err != nil {
		return r, err
	}
	if len(behind) > 0 {
		if err := p.add(mesh.Offer{Source: o.Source, Sealed: behind}); err != nil {
			return r, err
		}
	}
	if err := b.settleDoubt(p, t); err != nil {
		return r, err
	}
	positions, err := b.admit(p)
	if err != nil {
		return r, fmt.Errorf("put %s back into the log: %w", id, err)
	}
	r = Released{At: positions[0], Open: open}
	b.log.Info("record released", "was", a.At.String(), "at", r.At.String())
	if err := b.noteReleased(a.At, r.At); err != nil {
		b.log.Warn("it can't be noted that a record is released: others that overlap it stay gaps there", "at", r.At.String(), "err", err)
	}
	return r, b.removeRaw(name)
}

// reach is the stretch that a batch speaks of.
func reach(h mesh.Header) mesh.Span {
	t := tally{From: h.Times.From, To: h.Times.To}.plus(tally{From: h.Proven.From, To: h.Proven.To})
	return mesh.Span{From: t.From, To: t.To}
}

// recite has t hear the log; end is how far.
func (b *Buffer) recite(ctx context.Context, t *telling) (end mesh.Position, err error) {
	for ctx.Err() == nil {
		records, err := b.Peek(end, 1<<20)
		if err != nil || len(records) == 0 {
			return end, err
		}
		if err := t.hear(b.positions(), records); err != nil {
			return end, err
		}
		end = records[len(records)-1].At
	}
	return end, ctx.Err()
}

// reciteRest has it hear what came since. Called with writing held, so nothing comes behind.
func (b *Buffer) reciteRest(t *telling, after mesh.Position) error {
	for {
		from, err := b.behind(after)
		p := b.holder(from)
		if err != nil || p == nil {
			return err
		}
		records, bad, err := b.read(p, max(from, p.first), 1<<20)
		if err == nil && len(bad) > 0 {
			err = fmt.Errorf("%w: record %d", errDamaged, bad[0])
		}
		if err != nil {
			return fmt.Errorf("the log can't be read on; try once more: %w", err)
		}
		if len(records) == 0 { // all of them are set aside
			after = b.chain.at(p.last)
			continue
		}
		if err := t.hear(b.chain, records); err != nil {
			return err
		}
		after = records[len(records)-1].At
	}
}

// settleDoubt ends the doubt of the source (see doubtOf), where nothing is lost of it any more.
func (b *Buffer) settleDoubt(p *plan, t *telling) error {
	s := b.states[doubtOf+t.of.Header.About]
	if len(s) < doubtHead || s[doubtHead-1] != 0 {
		return nil
	}
	for _, w := range t.words {
		if w.lost() && !t.forgives(w.void) {
			return nil
		}
	}
	return p.add(mesh.Offer{Source: doubtOf + t.of.Header.About, State: []byte{}})
}

// telling is what the log says of one source, so that it can be told what the hub would
// know if a record had not been set aside.
type telling struct {
	of    *Aside
	back  []mesh.Position // of records that were set aside and are in the log again; of is among them
	older []word          // others that are set aside, of which the log says nothing any more
	words []word
	put   bool // what of proves stands in words
}

// word is one proof, or one void.
type word struct {
	proven mesh.Span
	own    bool // the proof of the record itself
	void   *mesh.Void
}

// lost: it says of records that they are gone.
func (w word) lost() bool { return w.void != nil && len(w.void.Lost) > 0 }

// said says again what others said before it.
func (w word) said() bool { return w.void.Note == mesh.NoteSaidAgain && len(w.void.Lost) == 0 }

// takes is what of a stretch a void takes back; again: as in fold.
func (w word) takes(s mesh.Span, standing []mesh.Span, again bool) []mesh.Span {
	if again && w.said() {
		return mesh.Within(standing, s)
	}
	return []mesh.Span{s}
}

// hear takes what stands next in the log.
func (t *telling) hear(c *chain, records []mesh.Record) error {
	source := t.of.Header.About
	was, ok := c.index(t.of.At)
	for _, r := range records {
		if i, _ := c.index(r.At); !t.put && (!ok || i > was) {
			t.putOwn()
		}
		h, err := wire.ParseHeader(r.Sealed)
		if err != nil {
			return fmt.Errorf("read %s: %w", r.At, err)
		}
		switch {
		case h.Kind == mesh.KindBatch && h.About == source && !h.Proven.Empty():
			t.words = append(t.words, word{proven: h.Proven})
		case h.Kind == mesh.KindVoid:
			v, err := wire.OpenVoid(r.Sealed)
			if err != nil {
				return fmt.Errorf("read %s: %w", r.At, err)
			}
			v.Parts = slices.DeleteFunc(v.Parts, func(p mesh.Part) bool { return p.Source != source || p.Times.Empty() })
			if len(v.Parts) > 0 {
				t.words = append(t.words, word{void: &v})
			}
		}
	}
	return nil
}

// putOwn puts the record's own proof where it stood.
func (t *telling) putOwn() {
	t.words = append(append(t.words, word{proven: t.of.Header.Proven, own: true}), t.older...)
	t.put = true
}

// forgives: all that the void says to be gone is in the log again.
func (t *telling) forgives(v *mesh.Void) bool {
	for _, r := range v.Lost {
		n := uint64(0)
		for _, at := range t.back {
			if at.Epoch == r.Epoch && r.First <= at.Seq && at.Seq <= r.Last {
				n++
			}
		}
		if n != r.Last-r.First+1 {
			return false
		}
	}
	return len(v.Lost) > 0
}

// stretch is what the record's void took back: what the record speaks of, and what was
// voided because of it behind later proofs.
func (t *telling) stretch() mesh.Span {
	own := reach(t.of.Header)
	out, began := own, !slices.ContainsFunc(t.words, t.isVoid)
	for _, w := range t.words {
		if began = began || t.isVoid(w); !began || w.void == nil || !w.said() {
			continue
		}
		for _, p := range w.void.Parts {
			if !p.Times.Meet(own).Empty() {
				out = mesh.Span{From: min(out.From, p.Times.From), To: max(out.To, p.Times.To)}
			}
		}
	}
	return out
}

// isVoid: it is what first said that the record is gone.
func (t *telling) isVoid(w word) bool {
	return w.void != nil && slices.ContainsFunc(w.void.Lost, func(r mesh.Range) bool {
		return r.Epoch == t.of.At.Epoch && r.First <= t.of.At.Seq && t.of.At.Seq <= r.Last
	})
}

// blame is a stretch that a void took back.
type blame struct {
	mesh.Span

	void  *mesh.Void
	count uint64
}

// fold is what is known within a span by the order of the log, as the hub knows it; with
// the record and those before it in the log again, or as it is now.
func (t *telling) fold(in mesh.Span, again bool) (known []mesh.Span, blames []blame) {
	var standing []mesh.Span
	for _, w := range t.words {
		if w.void == nil {
			if s := w.proven.Meet(in); !s.Empty() && (again || !w.own) {
				known, blames = mesh.Joined(append(known, s)), cleared(blames, s)
			}
			continue
		}
		if again && t.forgives(w.void) {
			continue
		}
		for _, p := range w.void.Parts {
			for _, s := range w.takes(p.Times.Meet(in), standing, again) {
				known, blames = mesh.Without(known, s), append(blames, blame{s, w.void, p.Count})
			}
			if w.lost() {
				standing = append(standing, p.Times)
			}
		}
	}
	return known, blames
}

// cleared is what of blames a proof leaves.
func cleared(blames []blame, proven mesh.Span) (out []blame) {
	for _, l := range blames {
		for _, s := range mesh.Without([]mesh.Span{l.Span}, proven) {
			out = append(out, blame{s, l.void, l.count})
		}
	}
	return out
}

// behind is what has to stand behind the record: voids of what its own proof must not
// say, and proofs of what only its void took back. open is what stays unknown of it.
func (t *telling) behind() (sealed [][]byte, open []mesh.Span, err error) {
	if !t.put { // nothing else is kept
		t.putOwn()
	}
	in := t.stretch()
	known, blames := t.fold(in, true)
	now, _ := t.fold(in, false)
	rest := []mesh.Span{t.of.Header.Proven}
	for _, s := range known {
		rest = mesh.Without(rest, s)
	}
	for _, l := range blames { // each of them: the next release may forgive one, and not the other
		for _, s := range mesh.Within(rest, l.Span) {
			v := mesh.Void{Lost: l.void.Lost, Cause: l.void.Cause, Note: l.void.Note, Parts: []mesh.Part{{Source: t.of.Header.About, Times: s, Count: l.count}}}
			b, err := wire.SealVoid(v)
			if err != nil {
				return nil, nil, fmt.Errorf("seal a void: %w", err)
			}
			sealed = append(sealed, b)
		}
	}
	anew := known
	for _, s := range append(now, t.of.Header.Proven) {
		anew = mesh.Without(anew, s)
	}
	proofs, err := t.prove(anew[:min(len(anew), mostReproven)])
	if err != nil {
		return nil, nil, err
	}
	open = []mesh.Span{reach(t.of.Header)}
	for _, s := range known {
		open = mesh.Without(open, s)
	}
	return append(sealed, proofs...), open, nil
}

// prove seals a proof without samples for each stretch.
func (t *telling) prove(spans []mesh.Span) (out [][]byte, err error) {
	if len(spans) == 0 || len(t.of.Header.Needs) == 0 {
		return nil, nil
	}
	enc, err := wire.NewEncoder()
	if err != nil {
		return nil, err
	}
	for _, s := range spans {
		sealed, err := enc.Seal(&mesh.Batch{Source: t.of.Header.About, Table: t.of.Header.Needs[0], Proven: s})
		if err != nil {
			return nil, fmt.Errorf("seal a proof: %w", err)
		}
		out = append(out, sealed)
	}
	return out, nil
}

// olderAside are the other records of the source that are set aside and whose place is not
// kept any more, each as the void that stood for it.
func (b *Buffer) olderAside(of *Aside) (out []word, err error) {
	all, err := b.Quarantined()
	if err != nil {
		return nil, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, a := range all {
		if i, ok := b.chain.index(a.At); a.ID == of.ID || a.Header.About != of.Header.About || ok && i >= b.oldest() {
			continue
		}
		out = append(out, word{void: &mesh.Void{
			Lost: []mesh.Range{{Epoch: a.At.Epoch, First: a.At.Seq, Last: a.At.Seq}}, Cause: cmp.Or(a.Cause, mesh.CauseUnreadable), Note: a.Why,
			Parts: []mesh.Part{{Source: a.Header.About, Times: reach(a.Header), Count: uint64(a.Header.Count)}},
		}})
	}
	return out, nil
}

// noteReleased keeps that a record stands elsewhere: records that overlap it may be released later.
func (b *Buffer) noteReleased(was, now mesh.Position) error {
	said, err := json.Marshal(now)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(b.quarantineDir(), fmt.Sprintf("%s-%d%s", hex.EncodeToString(was.Epoch[:]), was.Seq, backSuffix)), said, 0o600)
}

// released are the old places of records that are in the log again, as far as what says
// that they are gone is kept.
func (b *Buffer) released() (out []mesh.Position, err error) {
	entries, err := os.ReadDir(b.quarantineDir())
	if err != nil {
		return nil, err
	}
	b.mu.Lock()
	oldest, c := b.oldest(), &chain{b.chain.log, slices.Clone(b.chain.eras)}
	b.mu.Unlock()
	for _, e := range entries {
		name, ok := strings.CutSuffix(e.Name(), backSuffix)
		if !ok {
			continue
		}
		path := filepath.Join(b.quarantineDir(), e.Name())
		said, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		var now mesh.Position
		if err := json.Unmarshal(said, &now); err != nil {
			continue // half written: as if it was not noted
		}
		if i, ok := c.index(now); !ok || i < oldest { // the void stands before it
			if err := os.Remove(path); err != nil {
				return nil, err
			}
			continue
		}
		_, epoch, seq := nameOf(name)
		out = append(out, mesh.Position{Log: b.cfg.Log, Epoch: epoch, Seq: seq})
	}
	return out, nil
}
