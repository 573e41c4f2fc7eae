package opcua

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"plantmesh/edge/source"
	"plantmesh/proto/mesh"
)

// shallow is what the reader makes of queues of one value. Such a queue keeps the
// newest and doesn't say that there were others (OPC 10000-4 §5.13.1.5): the first value
// of a signal behind an outage may stand for many. Where none comes nothing has changed.
type shallow struct {
	on    bool              // the first values behind an outage are still to come
	again bool              // and may be among those that are asked for again
	open  bool              // a message came that was sent behind it
	since mesh.Nanos        // when the last before it was sent
	lacks map[int]mesh.Span // signals of which values may be missing, and where
	alone bool              // nothing else is lacking
}

// deep notes whether the server keeps one value of a signal, or more.
func (r *Reader) deep(i int, queue uint32) {
	if queue > 1 {
		r.state.Shallow = r.state.Shallow.without(i)
		return
	}
	r.state.Shallow = r.state.Shallow.with(i)
}

// presume says the same behind a program that didn't note it.
func (r *Reader) presume() {
	if len(r.state.Kept) > 0 {
		return
	}
	r.state.Bridged = time.Duration(r.cfg.PublishingInterval)
	for i := range r.items {
		if r.queue(i) == 1 || strings.Contains(r.state.Revised, fewer) {
			r.deep(i, 1)
		}
	}
}

// doubts has the first values behind an outage weighed. That they were not yet is durable
// before the server sends them: another run may have to ask for them again.
func (r *Reader) doubts(ctx context.Context) error {
	w := &r.shallow
	if len(r.state.Shallow) == 0 || r.sealer.Proof() == 0 {
		return nil
	}
	w.again = r.state.Unweighed
	w.on, w.open, w.since = true, false, r.sealer.Proof()+mesh.Nanos(r.cfg.Disorder)
	if r.state.Unweighed {
		return nil
	}
	r.state.Unweighed = true
	return r.commitNow(ctx)
}

// weigh looks, before they are taken, which values of a message may stand for others.
// What can't be claimed then isn't until all of the first ones were weighed.
func (r *Reader) weigh(n notice, at, now mesh.Nanos, believed bool) {
	w := &r.shallow
	before := n.again && !w.again // it was sent to the connection before
	if w.open = w.open || !before && (!believed || at.Sub(w.since) > r.state.Bridged); !w.open {
		if believed && n.in.Time != 0 { // else the answer's own
			w.since = max(w.since, at)
		}
		return
	}
	if !believed {
		at = now
	}
	for k := range n.in.Values {
		v := &n.in.Values[k]
		i, again, ours := r.state.signal(v.Handle)
		if ours && r.state.Shallow.has(i) && i < len(r.items) && again == r.again[i] && !r.initial[i] {
			r.stands(i, cmp.Or(stamp(v.Source), stamp(v.Server), at), at, now)
		}
	}
}

// stands notes that a value of signal i of an instant may stand for others.
func (r *Reader) stands(i int, when, at, now mesh.Nanos) {
	w := &r.shallow
	if source.Suspect(when, now) {
		when = at
	}
	if when.Sub(w.since) <= r.state.Bridged {
		return
	}
	if w.lacks == nil {
		w.lacks, w.alone = map[int]mesh.Span{}, !r.state.Fresh
		r.state.Fresh = true
	}
	if _, known := w.lacks[i]; !known {
		w.lacks[i] = mesh.Span{From: max(r.sealer.Proof(), r.last[i]), To: min(when, now)}
	}
}

// weighed ends that at the instant at. What may be lacking the server's history is asked
// for, if it has one.
func (r *Reader) weighed(at, now mesh.Nanos) {
	r.shallow.on, r.state.Unweighed = false, false
	if r.shallow.lacks != nil {
		r.state.Heard = at
	}
	if r.state.Fresh {
		r.begin(at, now)
	}
}

// lacking are the signals of which values of the gap may be missing, where of the others
// none are. nil: that is not the gap that waits for its history.
func (r *Reader) lacking() map[int]mesh.Span {
	if !r.shallow.alone {
		return nil
	}
	return r.shallow.lacks
}

// lost says that values of those signals may be missing, and why no history has them.
// It reports whether that is all that is to be said of the gap.
func (r *Reader) lost(why string) bool {
	lacks := r.lacking()
	if lacks == nil {
		return false
	}
	var gap mesh.Span
	var named []string
	for _, i := range slices.Sorted(maps.Keys(lacks)) {
		if s := lacks[i]; len(named) == 0 {
			gap = s
		} else {
			gap = mesh.Span{From: min(gap.From, s.From), To: max(gap.To, s.To)}
		}
		named = append(named, r.table[i].Name)
	}
	if more := len(named) - maxNamed; more > 0 {
		named = append(named[:maxNamed], fmt.Sprintf("and %d more", more))
	}
	if gap.From = max(gap.From, r.sealer.Proof()); gap.Empty() {
		return true // its history was read until then
	}
	note := fmt.Sprintf("the server keeps one value of %s: what else they were meanwhile is not known", strings.Join(named, ", "))
	if why != "" {
		note += "; " + why
	}
	r.log.Warn("values may be lost that did not fit into the server's queues", "signals", strings.Join(named, ", "), "from", gap.From.String(), "to", gap.To.String())
	r.sealer.Void(r.void(mesh.CauseOverflow, gap, note))
	return true
}

// turn notes whether the reader stood still for longer than so long.
func (p *pipeline) turn(bridged time.Duration) {
	now := time.Now()
	p.stalled = p.stalled || now.Sub(p.turned) > bridged
	p.turned = now
}

// starved notes that the server had no request to answer for longer than a queue of one
// value bridges: the reader stood still. What it sends from here on is behind an outage.
func (r *Reader) starved(ctx context.Context, p *pipeline) error {
	if !p.stalled {
		return nil
	}
	p.stalled = false
	if len(p.out) > len(p.answers) || len(r.state.Shallow) == 0 || r.sealer.Proof() == 0 {
		return nil
	}
	p.sent = len(p.answers) + 1
	r.state.Unweighed = true
	return r.commitNow(ctx)
}

// fed counts the answers that were sent before the server starved.
func (r *Reader) fed(ctx context.Context, p *pipeline) error {
	if p.sent == 0 {
		return nil
	}
	if p.sent--; p.sent > 0 {
		return nil
	}
	return r.doubts(ctx)
}
