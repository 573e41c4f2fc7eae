package opcua

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"plantmesh/edge/source"
	"plantmesh/proto/mesh"
	"plantmesh/proto/wire"
)

// apart is how far the counters of two items are from each other: an item that
// gives another's values is found by that.
const apart = 1e8

// ledger is what an agent would keep of a source: the values by item and tick,
// the proofs and the voids.
type ledger struct {
	t            *testing.T
	base, period mesh.Nanos
	dec          *wire.Decoder

	mu      sync.Mutex // protects the fields below
	state   []byte
	seen    []map[int64]int // by item: how often each tick came, first values apart
	top     []int64         // by item: the highest tick
	bad     map[uint32][]mesh.Sample
	foreign []string // what no counter has given
	remade  uint32   // item whose node comes back: it begins when it was read
	proofs  []mesh.Span
	voids   []mesh.Void
	told    []string
}

func newLedger(t *testing.T, p plan) *ledger {
	t.Helper()
	dec, err := wire.NewDecoder()
	if err != nil {
		t.Fatal(err)
	}
	l := &ledger{
		t: t, base: mesh.Nanos(p.Base * 1e6), period: mesh.Nanos(p.Period * 1e6), dec: dec,
		seen: make([]map[int64]int, p.Items), top: make([]int64, p.Items), bad: map[uint32][]mesh.Sample{},
	}
	for i := range l.seen {
		l.seen[i] = map[int64]int{}
	}
	return l
}

func (l *ledger) at(tick int64) mesh.Nanos { return l.base + mesh.Nanos(tick)*l.period }

// keep takes one sealed record.
func (l *ledger) keep(sealed []byte) {
	h, err := wire.ParseHeader(sealed)
	if err != nil {
		l.t.Error(err)
		return
	}
	if h.Kind == mesh.KindVoid {
		v, err := wire.OpenVoid(sealed)
		if err != nil {
			l.t.Error(err)
		}
		l.voids = append(l.voids, v)
		return
	}
	if h.Kind != mesh.KindBatch {
		return
	}
	b, err := l.dec.Batch(sealed)
	if err != nil {
		l.t.Error(err)
		return
	}
	switch n := len(l.proofs); {
	case b.Proven.Empty():
	case n > 0 && l.proofs[n-1].To == b.Proven.From:
		l.proofs[n-1].To = b.Proven.To
	default:
		l.proofs = append(l.proofs, b.Proven)
	}
	for i := range b.Samples {
		l.count(&b.Samples[i])
	}
}

// count takes one sample.
func (l *ledger) count(s *mesh.Sample) {
	if s.Status.IsBad() {
		l.bad[s.Signal] = append(l.bad[s.Signal], *s)
		return
	}
	v, _ := s.Value.Float() // no number is no counter: its stamp does not fit
	tick := int64(v - float64(s.Signal)*apart)
	if s.Flags&mesh.FlagInitial != 0 && l.remade != 0 && s.Signal == l.remade {
		s.Time = l.at(tick)
	}
	if int(s.Signal) >= len(l.seen) || v != math.Trunc(v) || s.Time != l.at(tick) {
		l.foreign = append(l.foreign, fmt.Sprintf("item %d: %v at %v (tick %d is at %v)", s.Signal, v, s.Time, tick, l.at(tick)))
		return
	}
	if s.Flags&mesh.FlagInitial != 0 && l.seen[s.Signal][tick] > 0 {
		return // a new item begins with the value it had, and some servers say it again after a connection: the same sample
	}
	l.seen[s.Signal][tick]++
	l.top[s.Signal] = max(l.top[s.Signal], tick)
}

// reached reports whether every item has come so far, but for those named.
func (l *ledger) reached(tick int64, but ...int) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
next:
	for i, top := range l.top {
		for _, b := range but {
			if i == b {
				continue next
			}
		}
		if top < tick {
			return false
		}
	}
	return true
}

// tally is what a ledger shows against the clock.
type tally struct {
	lost, doubled int
	values        int
	missing       int // in a void
	first         string
}

// tally counts: each item's ticks from its first to its last, without a hole
// that no void of a lost connection covers.
func (l *ledger) tally() (y tally) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i, seen := range l.seen {
		if len(seen) == 0 {
			continue
		}
		first := l.top[i]
		for tick, n := range seen {
			first = min(first, tick)
			y.values++
			y.doubled += n - 1
		}
		for tick := first; tick < l.top[i]; tick++ {
			switch {
			case seen[tick] > 0:
			case l.void(l.at(tick)):
				y.missing++
			default:
				if y.lost++; y.lost == 1 {
					y.first = fmt.Sprintf("item %d, tick %d at %v", i, tick, l.at(tick))
				}
			}
		}
	}
	return y
}

func (l *ledger) void(at mesh.Nanos) bool {
	for _, v := range l.voids {
		for _, p := range v.Parts {
			if v.Cause == mesh.CauseDisconnected && p.Times.Has(at) {
				return true
			}
		}
	}
	return false
}

// bridged wants everything there: no value lost, none twice, one proof, and no
// void but those of a dead worker, which the proof overcomes, and remarks, which
// cover no time.
func (l *ledger) bridged() {
	l.t.Helper()
	y := l.tally()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.t.Logf("%d values, %d voids", y.values, len(l.voids))
	open := slices.ContainsFunc(l.voids, func(v mesh.Void) bool {
		return !v.Parts[0].Times.Empty() && (v.Cause != mesh.CauseDied || len(l.proofs) != 1 || v.Parts[0].Times.From < l.proofs[0].From || v.Parts[0].Times.To > l.proofs[0].To)
	})
	if y.lost+y.doubled+y.missing+len(l.foreign) > 0 || open || len(l.proofs) != 1 {
		l.t.Errorf("%+v, foreign %.300q, voids %+v, proofs %v, told %q", y, l.foreign, l.voids, l.proofs, l.told)
	}
}

// oneGap wants exactly one stretch that is void for a lost connection, however
// often that was said meanwhile: it covers what is missing and is no longer than
// the outage and what could not be proven before.
func (l *ledger) oneGap(outage time.Duration) {
	l.t.Helper()
	y := l.tally()
	l.mu.Lock()
	defer l.mu.Unlock()
	if y.lost+y.doubled+len(l.foreign) > 0 || len(l.voids) == 0 || len(l.proofs) != 2 || y.missing == 0 {
		l.t.Errorf("%+v, foreign %.300q, voids %+v, proofs %v, told %q", y, l.foreign, l.voids, l.proofs, l.told)
		return
	}
	gap := mesh.Span{From: l.proofs[0].To, To: l.proofs[1].From}
	var end mesh.Nanos
	for _, v := range l.voids {
		if v.Cause != mesh.CauseDisconnected || len(v.Parts) != 1 || v.Parts[0].Times.From != gap.From {
			l.t.Errorf("void %+v between %v", v, l.proofs)
			return
		}
		end = max(end, v.Parts[0].Times.To)
	}
	if end != gap.To {
		l.t.Errorf("voids %+v between %v", l.voids, l.proofs)
	}
	long := gap.To.Sub(gap.From)
	l.t.Logf("%d values; gap of %s, the outage was %s", y.values, long, outage)
	if long > outage+disorder+slack {
		l.t.Errorf("a gap of %s for an outage of %s", long, outage)
	}
}

// said is what the reader told, the last of it.
func (l *ledger) said() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.told[max(0, len(l.told)-5):])
}

// says waits until the reader tells text.
func (l *ledger) says(within time.Duration, text string) (all string) {
	l.t.Helper()
	until(l.t, within, fmt.Sprintf("it says %q", text), func() bool {
		l.mu.Lock()
		defer l.mu.Unlock()
		if n := len(l.told); n > 0 {
			all = l.told[n-1]
		}
		return strings.Contains(all, text)
	})
	return all
}

// life is the ledger as one run of a reader sees it: a source.Log whose commits
// take a moment, and are lost when it is killed, as a power cut does.
type life struct {
	l *ledger

	mu      sync.Mutex // protects the fields below
	sent    uint64
	done    uint64
	dead    bool
	queue   []mesh.Offer
	changed chan struct{}
}

func (l *ledger) begin() *life { return &life{l: l, changed: make(chan struct{})} }

func (f *life) Append(ctx context.Context, o mesh.Offer) (uint64, error) {
	for {
		f.mu.Lock()
		if f.sent-f.done < source.Credit {
			break
		}
		changed := f.changed
		f.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}
	defer f.mu.Unlock()
	f.sent++
	f.queue = append(f.queue, o)
	time.AfterFunc(2*time.Millisecond, f.commit)
	return f.sent, nil
}

func (f *life) commit() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.dead || len(f.queue) == 0 {
		return
	}
	o := f.queue[0]
	f.queue = f.queue[1:]
	f.l.mu.Lock()
	for _, s := range o.Sealed {
		f.l.keep(s)
	}
	if o.State != nil {
		f.l.state = o.State
	}
	f.l.mu.Unlock()
	f.done++
	close(f.changed)
	f.changed = make(chan struct{})
}

func (f *life) Committed(ctx context.Context, after uint64) (uint64, error) {
	for {
		f.mu.Lock()
		n, changed := f.done, f.changed
		f.mu.Unlock()
		if n > after {
			return n, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return n, ctx.Err()
		}
	}
}

// Tell implements source.Teller.
func (f *life) Tell(text string) {
	f.l.mu.Lock()
	defer f.l.mu.Unlock()
	f.l.told = append(f.l.told, text)
}

func (f *life) kill() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.dead = true
}
