package opcua

import (
	"context"
	"fmt"
	"hash/maphash"
	"math"
	"time"

	"github.com/gopcua/opcua/ua"

	"plantmesh/edge/source"
	"plantmesh/edge/source/opcua/publish"
	"plantmesh/proto/mesh"
)

const (
	// probeEvery is how often it is looked which signals have been silent too long.
	probeEvery = time.Second
	// probeGrace is how long a change that was read may take to come by itself, beside
	// two publishing intervals and a sampling.
	probeGrace = 2 * time.Second
	// diedGrace is how long a PLC that removed a node gets to make another one.
	diedGrace = time.Second
)

// watched is a signal with a declared max_silence.
type watched struct {
	sum    uint64    // of the value that came last
	heard  bool      // one came since the last look
	since  time.Time // machine time since when none came
	read   bool      // another one was read at since
	source int64     // its time stamp
}

// watches sets up what is probed. A trigger that holds values back makes them no sign.
func (r *Reader) watches() {
	if r.watched == nil {
		for i, s := range r.cfg.Signals {
			if s.MaxSilence > 0 && s.Trigger != "status" {
				r.expected = append(r.expected, i)
			}
		}
		if len(r.expected) == 0 {
			return
		}
		r.watched = make([]watched, len(r.cfg.Signals))
	}
	for _, i := range r.expected {
		r.watched[i] = watched{sum: r.watched[i].sum, since: time.Now()}
	}
}

// infoBits are those of a status that say how the value came (OPC 10000-4 §7.39.1).
const infoBits = 0xFFFF

// digest is a value in short, with its status but without its time.
func (r *Reader) digest(v *publish.Value) uint64 {
	var h maphash.Hash
	h.SetSeed(r.seed)
	maphash.WriteComparable(&h, [4]uint64{uint64(v.Type), v.Bits, uint64(v.Status &^ infoBits), boolean(v.Array)})
	_, _ = h.Write(v.Bytes) // it never fails
	return h.Sum64()
}

// probe reads the signals that should have changed and did not. Another value than
// the one that came last, which does not come by itself either, is the end of the
// subscription: it does not give what the server has.
func (r *Reader) probe(ctx context.Context) error {
	now := time.Now()
	if len(r.expected) == 0 || now.Sub(r.probed) < probeEvery {
		return nil
	}
	r.probed = now
	var due []int
	for _, i := range r.expected {
		w := &r.watched[i]
		silent := now.Sub(w.since)
		switch {
		case w.heard:
			*w = watched{sum: w.sum, since: now}
		case w.read && silent >= probeGrace+2*time.Duration(r.cfg.PublishingInterval)+r.sampling(i):
			return r.untold(i)
		case !w.read && silent >= time.Duration(r.cfg.Signals[i].MaxSilence) && r.items[i].made != "" && len(due) < r.limits.read:
			due = append(due, i)
		}
	}
	if len(due) == 0 {
		return nil
	}
	a, err := r.readValues(ctx, due)
	if _, refused := refusal(err); refused {
		return nil // it may allow no reads; publish responses say whether it lives
	}
	if err != nil {
		return err
	}
	defer r.sess.ch.Release(a)
	for k, i := range due {
		r.watched[i].since = now
		if r.differs(i, &a.Values[k]) {
			r.watched[i].read, r.watched[i].source = true, a.Values[k].Source
		}
	}
	return nil
}

// differs reports whether a value that was read should have come by itself.
func (r *Reader) differs(i int, v *publish.Value) bool {
	w := &r.watched[i]
	if r.initial[i] && !r.items[i].placed {
		return true // not even the first one came
	}
	sum := r.digest(v)
	if w.sum == 0 {
		w.sum = sum // what came last a run before knew
	}
	if w.sum == sum {
		return false
	}
	if r.cfg.Signals[i].Deadband == "" {
		return true
	}
	var s mesh.Sample
	kept := r.sieved[i]
	if r.sample(&s, r.wants[i], v, r.now()) != nil {
		return false
	}
	f, ok := s.Value.Float()
	return ok && kept.some && kept.band > 0 && math.Abs(f-kept.last) > kept.band
}

// untold gives up a subscription that did not tell a change of signal i. Since that
// nothing of it is sure, whatever was claimed.
func (r *Reader) untold(i int) error {
	from, to := max(r.last[i], stamp(r.watched[i].source)), r.now()
	if source.Suspect(from, to) || from == 0 {
		from = max(r.last[i], r.sealer.Proof())
	}
	note := fmt.Sprintf("the server has another value of %s than it told: what it told of others since is not sure", r.cfg.Signals[i].Name)
	r.sealer.Void(r.void(mesh.CauseDisconnected, mesh.Span{From: from, To: max(to, from+1)}, note))
	return fmt.Errorf("%w: %s", errGone, note)
}

// dies notes whether a signal's status says that its node was removed: an item does
// not come to life again with a node of the same id (OPC 10000-4 §5.13.1.1).
func (r *Reader) dies(i int, status mesh.Status) {
	switch ua.StatusCode(status &^ infoBits) {
	case ua.StatusBadNodeIDUnknown, ua.StatusBadNodeIDInvalid:
		if !r.state.Dead[i] { // perhaps another stands there already
			r.sought = time.Now().Add(diedGrace - r.seekEvery)
		}
		if r.state.Dead == nil {
			r.state.Dead = map[int]bool{}
		}
		r.state.Dead[i] = true
	default:
		delete(r.state.Dead, i)
	}
}

// seek looks every now and then for signals that have no node, or whose node was
// removed: a PLC that was started or loaded has them a while later.
func (r *Reader) seek(ctx context.Context) error {
	if r.sought.IsZero() || time.Since(r.sought) < r.seekEvery {
		if r.sought.IsZero() {
			r.sought = time.Now()
		}
		return nil
	}
	r.sought = time.Now()
	var lost []int
	for _, x := range r.state.Refused {
		if x.Signal < len(r.items) {
			lost = append(lost, x.Signal)
		}
	}
	for i := range r.state.Dead {
		if i >= 0 && i < len(r.items) {
			lost = append(lost, i)
		}
	}
	if len(lost) == 0 {
		return nil
	}
	if err := r.survey(ctx, lost); err != nil {
		return err
	}
	moved := r.moved()
	if len(moved) == 0 {
		return nil
	}
	if err := r.retire(moved); err != nil {
		return err
	}
	if err := r.remake(ctx, moved); err != nil {
		return err
	}
	source.Tell(r.out, r.connected())
	return nil
}
