package agent

import (
	"context"
	"fmt"
	"math"

	"plantmesh/edge/status"
	"plantmesh/proto/mesh"
	"plantmesh/proto/wire"
)

const (
	// peekChunk bounds what is read of the log at once.
	peekChunk = 1 << 20
	// mostScanned bounds the records that are looked at for those of one source.
	mostScanned = 100_000
)

// Peek looks at records of the buffer, the oldest that wait or the newest.
func (k keeper) Peek(ctx context.Context, q status.PeekQuery) (out []status.Peeked, err error) {
	open, err := newOpener(k.b)
	if err != nil {
		return nil, err
	}
	look := peeking{k: k, q: q, open: open, out: []status.Peeked{}}
	after, most, err := look.begin()
	if err != nil {
		return nil, err
	}
	for scanned := 0; scanned < most && !look.full; {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		records, err := k.b.Peek(after, peekChunk)
		if err != nil {
			return nil, fmt.Errorf("look behind %s: %w", after, err)
		}
		if len(records) == 0 {
			break
		}
		after = records[len(records)-1].At
		scanned += len(records)
		for _, r := range records {
			look.take(r)
		}
	}
	return look.out, nil
}

// peeking is one look into the buffer.
type peeking struct {
	k      keeper
	q      status.PeekQuery
	open   *opener
	window mesh.Span // zero: there is none
	out    []status.Peeked
	full   bool // it has the oldest that were asked for
}

// begin says behind which record the look begins, and how many are looked at. In a window
// that are all behind the first that may lie in it: who asked for one wants to know.
func (l *peeking) begin() (after mesh.Position, most int, err error) {
	switch {
	case l.q.From+l.q.To != "":
		if l.window, err = windowOf(l.q.From, l.q.To); err != nil {
			return after, 0, err
		}
		after, until, _ := l.k.b.Holding(l.q.Source, l.window)
		if until.IsZero() {
			return after, 0, nil
		}
		return after, math.MaxInt, nil
	case !l.q.Last:
		after = l.k.b.Through()
	case l.q.Source != "":
		after = l.k.b.Back(mostScanned)
	default:
		after = l.k.b.Back(uint64(l.q.Limit))
	}
	return after, mostScanned, nil
}

// wanted reports whether a record was asked for.
func (l *peeking) wanted(p *status.Peeked, h *mesh.Header) bool {
	switch {
	case l.q.Source != "" && h.About != l.q.Source:
		return false
	case l.window != (mesh.Span{}):
		touches := func(s mesh.Span) bool { return !s.Empty() && s.From < l.window.To && l.window.From < s.To }
		return touches(h.Times) || touches(h.Proven)
	}
	return l.q.Last || p.Waiting
}

// take takes a record, if it was asked for. Of the newest the oldest gives way.
func (l *peeking) take(r mesh.Record) {
	p, h, ok := l.k.headed(r)
	if !ok || l.full || !l.wanted(&p, &h) {
		return
	}
	if len(l.out) == l.q.Limit {
		if l.full = !l.q.Last; l.full {
			return
		}
		l.out = l.out[1:]
	}
	l.open.look(&p, r, h, l.q.Samples)
	l.out = append(l.out, p)
}

// headed is what the header of a record says.
func (k keeper) headed(r mesh.Record) (p status.Peeked, h mesh.Header, ok bool) {
	h, err := wire.ParseHeader(r.Sealed)
	if err != nil {
		return p, h, false
	}
	p = status.Peeked{At: r.At.String(), Kind: h.Kind.String(), Source: h.About, Count: h.Count, Bytes: len(r.Sealed), Waiting: !k.b.Accounted(r.At)}
	if !h.Times.Empty() {
		p.From, p.To = instant(h.Times.From), instant(h.Times.To)
	}
	if !h.Proven.Empty() {
		p.ProvenTo = instant(h.Proven.To)
	}
	return p, h, true
}

// look opens a record.
func (o *opener) look(p *status.Peeked, r mesh.Record, h mesh.Header, samples int) {
	if h.Kind != mesh.KindBatch {
		p.Says = said(r, h.Kind)
		return
	}
	if h.Count == 0 {
		p.Says = "nothing changed, and the source was heard"
		return
	}
	if samples == 0 {
		return
	}
	b, names, err := o.batch(r)
	if err != nil {
		p.Says = err.Error()
		return
	}
	for _, s := range b.Samples[:min(samples, len(b.Samples))] {
		p.Samples = append(p.Samples, sampleOf(b.Source, s, names[s.Signal]))
	}
}

// PeekBuffer has the running agent look into its buffer.
func PeekBuffer(ctx context.Context, cfg Config, q status.PeekQuery) ([]status.Peeked, error) {
	if _, err := Status(ctx, cfg); err != nil {
		return nil, err
	}
	return status.Peek(ctx, cfg.Status, q)
}
