package opcua

import (
	"context"
	"fmt"
	"time"

	"github.com/gopcua/opcua/ua"

	"plantmesh/edge/source/opcua/publish"
	"plantmesh/proto/mesh"
)

// Bounds of what is read of a server's history for one gap. Beyond them the rest of
// the gap stays one.
const (
	maxPastCalls  = 20_000
	maxPastValues = 5_000_000
	maxPastTime   = 10 * time.Minute
	// maxPastTries is how often the history of one gap is asked for, where the
	// connection breaks meanwhile: it may break of that.
	maxPastTries = 3
	// pastNodes and pastPage are how many nodes one call asks for, and how many
	// values of each: 50,000 of 30 bytes are 1.5 MB.
	pastNodes = 50
	pastPage  = 1000
	// firstSlice and longestSlice are the stretches that are read of all signals
	// before the next: what was read counts, if then something breaks. Each is
	// twice as long as the one before.
	firstSlice   = time.Minute
	longestSlice = time.Hour
	// longestSettle is the longest that is waited for values that come into the
	// history late, as the disorder says.
	longestSettle = 10 * time.Second
)

// gap is a stretch that nobody heard, and its signals' nodes; nil: a signal that
// the server refuses, or that had another node then.
type gap struct {
	span  mesh.Span
	nodes []*ua.NodeID
	some  bool // of the others nothing is missing
}

// found is something of a gap's history.
type found struct {
	signal  int
	values  []*ua.DataValue
	from    mesh.Nanos // what is read is without a hole from here on; 0: it isn't
	through mesh.Nanos // all signals were read until here; 0: nothing new
	end     bool       // there is no more
	whole   bool       // at the end: all was read from from on
	lacks   string     // why not all of the gap is filled, in words
}

// past is the reading of history on one connection.
type past struct {
	asks  chan gap
	finds chan found
	asked bool
}

// asksPast has the history of the gap before at read, and reports whether that is
// under way: then nothing is proven until it ends.
func (r *Reader) asksPast(at mesh.Nanos) bool {
	g := gap{span: mesh.Span{From: r.sealer.Proof(), To: at}}
	if r.cfg.History == historyOff || r.polling || r.cfg.Poll > 0 || r.unsure || g.span.From == 0 || g.span.Empty() || r.state.Asked >= maxPastTries && !r.past.asked {
		return false
	}
	if r.past.asked || r.past.asks == nil { // nil: what comes again comes before the rest
		return true
	}
	g.nodes = make([]*ua.NodeID, len(r.items))
	without, some, lacks := r.withoutItem(), false, r.lacking()
	for i := range r.items {
		if _, lacking := lacks[i]; !without[i] && !r.state.Apart.has(i) && (lacking || lacks == nil) {
			g.nodes[i], some = r.items[i].at, true
		}
	}
	if !some {
		return false
	}
	g.some = lacks != nil
	r.past.asked = true
	r.state.Asked++
	r.past.asks <- g // of one, and asked once
	return true
}

// tookPast takes something of the history: the samples stand before the claim that
// they were all.
func (r *Reader) tookPast(ctx context.Context, f found) error {
	now := r.now()
	for _, v := range f.values {
		if err := r.pastValue(ctx, f.signal, v, now); err != nil {
			return err
		}
	}
	if to := min(f.through, r.state.Heard-mesh.Nanos(r.cfg.Disorder)); f.from > 0 && to > f.from {
		if proof := r.sealer.Proof(); f.from > proof {
			r.sealer.Void(r.void(mesh.CauseDisconnected, mesh.Span{From: proof, To: f.from}, notKept+"; "+f.lacks))
			r.sealer.Begin(f.from)
		}
		r.sealer.Prove(to)
	}
	if f.end {
		r.log.Info("the server's history was read", "until", r.sealer.Proof().String(), "whole", f.whole, "lacks", f.lacks)
		r.begun(now, f.lacks, f.whole && f.from > 0 && f.from <= r.sealer.Proof())
	}
	return r.commitIfDue(ctx)
}

// pastValue gives a value of the history to the sealer. One that came live too is
// the same sample, and counts once.
func (r *Reader) pastValue(ctx context.Context, i int, v *ua.DataValue, now mesh.Nanos) error {
	var value publish.Value
	b, err := encodedData(v)
	if err == nil {
		err = value.DecodeData(b)
	}
	if err != nil {
		r.unread.add(r.table[i].Name, now, err)
		return nil
	}
	if err := r.learn(ctx, i, &value); err != nil {
		return err
	}
	if r.taps.Open() {
		r.tellValue(i, &value, now, "from a history")
	}
	s := &r.sampled
	err = r.sample(s, r.wants[i], &value, now)
	s.Status = rawStatus(s.Status)
	s.Flags |= mesh.FlagHistorical
	if r.drifts[i] && !s.Status.IsBad() {
		s.Status = statusDrifted
	}
	if err != nil {
		r.unread.add(r.table[i].Name, s.Time, err)
	}
	r.last[i] = max(r.last[i], s.Time)
	r.sealer.Open().Add(s)
	return nil
}

// encodedData is v as it came; the library can't write all that it can read.
func encodedData(v *ua.DataValue) (b []byte, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("a value of the history that can't be read: %v", p)
		}
	}()
	return v.Encode()
}

// The low bits of a StatusCode of a value in a history (OPC 10000-11 §6.3): where it
// is from. The info type says that there are such bits (OPC 10000-4 §7.39.1).
const (
	infoType      = 0x00000C00
	infoValue     = 0x00000400
	valueBits     = 0x000003FF
	historianBits = 0x0000001F
)

// rawStatus is the status without what a history adds to it: as it was live.
func rawStatus(s mesh.Status) mesh.Status {
	if s&infoType != infoValue {
		return s
	}
	if s &^= historianBits; s&valueBits == 0 {
		s &^= infoType
	}
	return s
}
