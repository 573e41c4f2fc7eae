package ingest

import (
	"context"
	"time"
)

// tellEvery is how often one kind of fault in what agents send is put into words. An agent
// may send as many as it likes: the hub's disk must not fill with lines of them. All are
// counted.
const tellEvery = time.Second

// told is a kind of fault.
type told struct {
	at   time.Time
	left uint64 // those since then
}

// fault puts into words what is wrong with something that came.
func (s *step) fault(ctx context.Context, what string, at ...any) {
	t := s.g.told[what]
	if !t.at.IsZero() && s.now.Sub(t.at) < tellEvery && !s.now.Before(t.at) {
		t.left++
		s.g.told[what] = t
		return
	}
	s.g.log.ErrorContext(ctx, what, append(at, "not_written_before", t.left)...) //nolint:sloglint // each caller says a constant
	s.g.told[what] = told{at: s.now}
}
