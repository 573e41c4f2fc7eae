package agent

import (
	"cmp"
	"context"
	"time"

	"plantmesh/edge/source"
	"plantmesh/edge/source/opcua"
	"plantmesh/edge/status"
)

// tapRaw tells values as their machines said them. Sources run in processes of their own:
// those that are meant tell them on request, at the rate at most, and what is not taken in
// time is left out on the way and counted. Nothing else waits for it.
func (t *taps) tapRaw(ctx context.Context, q status.TapQuery, tell func([]status.Tapped) error) error {
	x := t.raw.Listen(q.Source, source.RawQuery{Pattern: q.Pattern, Quality: q.Quality, Rate: q.Rate})
	defer x.Close()
	if err := tell(nil); err != nil { // it has begun
		return err
	}
	one := rawTap{now: t.now, tell: tell, told: t.now(), allowed: source.NewAllowance(q.Rate, t.now())}
	quiet := time.NewTicker(leftOutEvery)
	defer quiet.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-x.Wake():
		case <-quiet.C:
		}
		if err := one.take(x.Take()); err != nil {
			return err
		}
	}
}

// rawTap is one listener.
type rawTap struct {
	now     func() time.Time
	tell    func([]status.Tapped) error
	told    time.Time // when something was told last
	allowed source.Allowance
	others  uint64
	such    string
	leftOut uint64
	said    time.Time // when of those was told last
}

// leftOutEvery is how often what is left out is told, at most: sources tell ten times a second.
const leftOutEvery = time.Second

// take tells what was heard; lost more could not be held.
func (t *rawTap) take(heard []source.Heard, lost uint64) error {
	var (
		now = t.now()
		out []status.Tapped
	)
	for i := range heard {
		h := &heard[i]
		lost += h.LeftOut
		if t.others += h.Others; h.Such != "" {
			t.such = h.Such
		}
		for k := range h.Values {
			if !t.allowed.Take(now) { // each source has kept to the rate, all of them together need not
				lost++
				continue
			}
			out = append(out, status.Tapped{Raw: rawSampleOf(h.Source, &h.Values[k])})
		}
	}
	if t.leftOut += lost; t.leftOut > 0 && now.Sub(t.said) >= leftOutEvery {
		out = append(out, status.Tapped{LeftOut: t.leftOut})
		t.leftOut, t.said = 0, now
	}
	if len(out) == 0 && t.others > 0 && now.Sub(t.told) >= othersEvery {
		out, t.others = append(out, status.Tapped{Others: t.others, Such: t.such}), 0
	}
	if len(out) == 0 {
		return nil
	}
	t.told = now
	return t.tell(out)
}

// rawSampleOf is a raw value for people. One that is a whole payload has no quality.
func rawSampleOf(from string, r *source.Raw) *status.RawSample {
	s := &status.RawSample{
		Heard: instant(r.Heard), Source: from, Signal: r.Signal, Node: r.Node, Type: r.Type, Value: r.Value,
		SourceTime: instant(r.Source), ServerTime: instant(r.Server), Notes: r.Notes,
	}
	if r.Signal != "" {
		s.Quality, s.Status = r.Status.Severity(), cmp.Or(r.Quality, opcua.StatusName(r.Status))
	}
	return s
}
