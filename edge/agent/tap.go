package agent

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"plantmesh/edge/source"
	"plantmesh/edge/status"
	"plantmesh/proto/mesh"
	"plantmesh/proto/wire"
)

// tapLog is the agent's log as a tap reads it. Safe for concurrent use.
type tapLog interface {
	descriptors
	Peek(after mesh.Position, maxBytes int) ([]mesh.Record, error)
	Changed() <-chan struct{}
	End() mesh.Position
}

const (
	// maxTaps bounds how many listen at once: each opens every batch again.
	maxTaps = 8
	// tapChunk bounds what is read of the log at once.
	tapChunk = 256 << 10
	// slowAfter is how long telling may take before who listens is slow: then nothing is
	// told until the tap is at the end of the log again.
	slowAfter = 500 * time.Millisecond
	// othersEvery is how often a tap that finds nothing says what comes instead.
	othersEvery = 5 * time.Second
)

// taps let people listen to what is stored. Each tap reads the log for itself, behind the
// commit, so a slow listener holds up nobody and costs no memory: it loses samples, and
// is told how many.
type taps struct {
	log  tapLog
	now  func() time.Time
	open atomic.Int32
	raw  *source.Listeners // to values as their machines said them
}

// Tap implements status.Tapper.
func (t *taps) Tap(ctx context.Context, q status.TapQuery, tell func([]status.Tapped) error) error {
	match, err := source.Matcher(q.Pattern)
	if err != nil {
		return err
	}
	if t.open.Add(1) > maxTaps {
		t.open.Add(-1)
		return fmt.Errorf("%d listen already, which is all that may at once", maxTaps)
	}
	defer t.open.Add(-1)
	if q.Raw {
		return t.tapRaw(ctx, q, tell)
	}
	open, err := newOpener(t.log)
	if err != nil {
		return err
	}
	one := &tap{q: q, match: match, open: open, now: t.now, tell: tell, at: t.log.End(), read: t.now(), told: t.now(), allowed: source.NewAllowance(q.Rate, t.now())}
	if err := tell(nil); err != nil { // it has begun
		return err
	}
	for {
		changed := t.log.Changed()
		records, err := t.log.Peek(one.at, tapChunk)
		if err != nil {
			return fmt.Errorf("listen behind %s: %w", one.at, err)
		}
		if len(records) > 0 {
			if err := one.take(records); err != nil {
				return err
			}
			continue
		}
		if err := one.caughtUp(); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-changed:
		}
	}
}

// tap is one listener.
type tap struct {
	q     status.TapQuery
	match func(string) bool
	open  *opener
	now   func() time.Time
	tell  func([]status.Tapped) error

	at      mesh.Position // told through here
	read    time.Time     // when the records at hand were read
	told    time.Time     // when something was told last
	allowed source.Allowance
	slow    bool // nothing is told until the end of the log is reached
	leftOut uint64
	others  uint64
	such    string
}

// take tells what of records was asked for.
func (t *tap) take(records []mesh.Record) error {
	now := t.now()
	t.read = now
	var out []status.Tapped
	for _, r := range records {
		t.at = r.At
		h, err := wire.ParseHeader(r.Sealed)
		if err != nil || h.Kind != mesh.KindBatch || h.Count == 0 {
			continue // voids stand in the status
		}
		if t.q.Source != "" && h.About != t.q.Source {
			t.others += uint64(h.Count)
			t.such = h.About
			continue
		}
		b, names, err := t.open.batch(r)
		if err != nil {
			t.leftOut += uint64(h.Count)
			continue
		}
		for _, s := range b.Samples {
			out = t.sample(out, b.Source, s, names[s.Signal])
		}
	}
	return t.say(out, now)
}

// sample puts a sample behind out, if it was asked for and may be told.
func (t *tap) sample(out []status.Tapped, source string, s mesh.Sample, sig mesh.Signal) []status.Tapped {
	switch {
	case !t.match(sig.Name) || t.q.Quality != "" && t.q.Quality != s.Status.Severity():
		t.others++
		t.such = sig.Name
	case t.slow || !t.allowed.Take(t.read):
		t.leftOut++
	default:
		told := sampleOf(source, s, sig)
		out = append(out, status.Tapped{Sample: &told})
	}
	return out
}

// say tells lines, and what was left out and came beside them.
func (t *tap) say(out []status.Tapped, now time.Time) error {
	if t.leftOut > 0 && !t.slow {
		out, t.leftOut = append(out, status.Tapped{LeftOut: t.leftOut}), 0
	}
	if len(out) == 0 && t.others > 0 && now.Sub(t.told) >= othersEvery {
		out, t.others = append(out, status.Tapped{Others: t.others, Such: t.such}), 0
	}
	if len(out) == 0 {
		return nil
	}
	t.told = now
	err := t.tell(out)
	t.slow = t.now().Sub(now) >= slowAfter
	return err
}

// caughtUp takes that the end of the log is reached.
func (t *tap) caughtUp() error {
	t.slow = false
	return t.say(nil, t.now())
}

// Pattern says what is wrong with a pattern over names of signals; nil: nothing.
func Pattern(pattern string) error {
	_, err := source.Matcher(pattern)
	return err
}

// Tap has the running agent tell samples as it stores them, until ctx ends or tell fails.
func Tap(ctx context.Context, cfg Config, q status.TapQuery, tell func(status.Tapped) error) error {
	if _, err := Status(ctx, cfg); err != nil {
		return err
	}
	return status.Tap(ctx, cfg.Status, q, tell)
}
