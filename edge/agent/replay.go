package agent

import (
	"context"
	"fmt"
	"math"
	"slices"
	"time"

	"plantmesh/edge/status"
	"plantmesh/proto/mesh"
	"plantmesh/proto/wire"
)

// replayer sends again what was delivered, for the status socket.
type replayer struct{ a *agent }

// replayWindow reads the bounds of a window; an empty end is the newest.
func replayWindow(from, to string) (s mesh.Span, err error) {
	if from == "" {
		return s, fmt.Errorf("%q is no time such as 2026-03-01T06:00:00Z", from)
	}
	return windowOf(from, to)
}

// gone says why nothing is kept of what was before earliest.
func gone(earliest mesh.Nanos) string {
	return "of what was before " + instant(earliest) + " nothing is here: it was delivered and let go, see buffer.keep (24 h, or half of the buffer, whichever ends first), or nobody listened then"
}

// windowOf reads the bounds of a window of event times; an empty begin is the oldest, an
// empty end the newest.
func windowOf(from, to string) (s mesh.Span, err error) {
	s = mesh.Span{From: math.MinInt64, To: math.MaxInt64}
	if from != "" {
		begin, err := time.Parse(time.RFC3339, from)
		if err != nil {
			return s, fmt.Errorf("%q is no time such as 2026-03-01T06:00:00Z", from)
		}
		s.From = reachable(begin)
	}
	if to != "" {
		end, err := time.Parse(time.RFC3339, to)
		if err != nil {
			return s, fmt.Errorf("%q is no time such as 2026-03-01T06:00:00Z", to)
		}
		s.To = reachable(end)
	}
	if s.Empty() {
		return s, fmt.Errorf("the window from %s to %s is empty", from, to)
	}
	return s, nil
}

// reachable is t, or the nearest instant that 64 bits of nanoseconds reach: a window that ends
// in 9999 is one without an end, and behind them they would begin anew with the past.
func reachable(t time.Time) mesh.Nanos {
	switch first, last := mesh.Nanos(math.MinInt64), mesh.Nanos(math.MaxInt64); {
	case t.Before(first.Time()):
		return first
	case t.After(last.Time()):
		return last
	}
	return mesh.NanosOf(t)
}

// inWindow reports whether a record has something of a source in a window.
func inWindow(sealed []byte, source string, w mesh.Span) (h mesh.Header, ok bool) {
	h, err := wire.ParseHeader(sealed)
	if err != nil || h.Kind != mesh.KindBatch || source != "" && h.About != source {
		return h, false
	}
	heard := func(s mesh.Span) bool { return !s.Empty() && s.From < w.To && w.From < s.To }
	return h, heard(h.Times) || heard(h.Proven)
}

// Replay implements status.Replayer.
func (x replayer) Replay(ctx context.Context, q status.ReplayQuery) (r status.Replayed, err error) {
	w, err := replayWindow(q.From, q.To)
	if err != nil {
		return r, err
	}
	b := x.a.buffer
	after, until, earliest := b.Holding(q.Source, w)
	r = status.Replayed{DryRun: q.DryRun, Rate: q.Rate, Connected: x.a.forward.Status().Connected}
	switch {
	case earliest == 0:
		r.Missing = "nothing of it is kept here: there is no such source, or all of it was delivered and let go"
		return r, nil
	case w.From < earliest:
		r.Missing = gone(earliest)
	}
	r.Earliest = instant(earliest)
	if until.IsZero() {
		return r, nil
	}
	for at := after; at != until; {
		if err := ctx.Err(); err != nil {
			return r, err
		}
		records, err := b.Peek(at, peekChunk)
		if err != nil {
			return r, fmt.Errorf("look for what is sent again behind %s: %w", at, err)
		}
		if len(records) == 0 {
			break
		}
		if i := slices.IndexFunc(records, func(rec mesh.Record) bool { return rec.At == until }); i >= 0 {
			records = records[:i+1]
		}
		at = records[len(records)-1].At
		x.count(&r, records, q.Source, w)
	}
	if !q.DryRun && r.Records > 0 {
		err = x.a.forward.Replay(after, until, q.Rate, func(sealed []byte) bool {
			_, ok := inWindow(sealed, q.Source, w)
			return ok
		})
	}
	return r, err
}

// count counts what of records is sent again.
func (x replayer) count(r *status.Replayed, records []mesh.Record, source string, w mesh.Span) {
	for _, rec := range records {
		h, ok := inWindow(rec.Sealed, source, w)
		switch {
		case !ok:
		case !x.a.buffer.Accounted(rec.At):
			r.Waiting++
		default:
			r.Records++
			r.Samples += uint64(h.Count)
			r.Bytes += uint64(len(rec.Sealed))
		}
	}
}

// Replay has the running agent send a window again that was delivered.
func Replay(ctx context.Context, cfg Config, q status.ReplayQuery) (status.Replayed, error) {
	if _, err := replayWindow(q.From, q.To); err != nil {
		return status.Replayed{}, err
	}
	if _, err := Status(ctx, cfg); err != nil {
		return status.Replayed{}, err
	}
	return status.Replay(ctx, cfg.Status, q)
}
