package agent

import (
	"context"
	"io"
	"math"
	"time"

	"plantmesh/edge/buffer"
	"plantmesh/edge/status"
	"plantmesh/proto/mesh"
)

// keeper is the buffer as the status socket offers it.
type keeper struct{ b *buffer.Buffer }

func (k keeper) Verify(ctx context.Context, tell func(status.Segment) error) error {
	return k.b.Verify(ctx, func(f buffer.Found) error {
		s := status.Segment{
			Segment: f.Segment, First: f.First.String(), Last: f.Last.String(), Records: f.Records, Bytes: f.Bytes,
			SetAside: f.SetAside, Damaged: f.Damaged, Received: f.Delivered,
		}
		if f.Unread {
			s.Error = "the file can't be read: " + f.Why
		}
		return tell(s)
	})
}

func (k keeper) Export(ctx context.Context, to io.Writer, q status.ExportQuery) (e status.Exported, err error) {
	s := buffer.Selection{Source: q.Source}
	if q.From+q.To != "" {
		if s.Window, err = windowOf(q.From, q.To); err != nil {
			return e, err
		}
	}
	_, _, earliest := k.b.Holding(q.Source, s.Window)
	e.Earliest = instant(earliest)
	if earliest != 0 && s.Window.From > math.MinInt64 && s.Window != (mesh.Span{}) && s.Window.From < earliest {
		e.Missing = gone(earliest)
	}
	x, err := k.b.Export(ctx, to, s)
	if e.Records, e.Samples = x.Records, x.Samples; x.Samples > 0 {
		e.First, e.Last = instant(x.Times.From), instant(x.Times.To)
	}
	return e, err
}

func (k keeper) Compact(all bool) (status.Compacted, error) {
	freed, kept, err := k.b.Compact(all)
	return status.Compacted{Freed: freed, Kept: kept}, err
}

// filled is how full the buffer is, for the status.
func (a *agent) filled() status.Buffer {
	b := a.buffer.Stats()
	s := status.Buffer{Bytes: b.Bytes, MaxBytes: b.MaxBytes, Segments: b.Segments, End: b.End.String(), Pending: b.Pending, StateLost: b.StateLost, Damages: b.Damages}
	s.Damaged = stampOf(b.Damaged)
	for _, l := range a.buffer.Losses() {
		s.Losses = append(s.Losses, status.Loss{Source: l.Source, Cause: string(l.Cause), Count: l.Count, Since: stamp(time.Unix(l.Since, 0)), Last: stamp(time.Unix(l.Last, 0))})
	}
	if b.OldestPending != 0 {
		s.OldestPending = b.OldestPending.Time().Format(time.RFC3339)
	}
	if d, perHour, ok := a.buffer.Autonomy(); ok {
		hours := d.Hours()
		s.AutonomyHours, s.BytesPerHour = &hours, perHour
	}
	return s
}

// VerifyBuffer has the running agent read all it keeps.
func VerifyBuffer(ctx context.Context, cfg Config, tell func(status.Segment) error) error {
	if _, err := Status(ctx, cfg); err != nil {
		return err
	}
	return status.Verify(ctx, cfg.Status, tell)
}

// CompactBuffer has the running agent let go of what it need not keep.
func CompactBuffer(ctx context.Context, cfg Config, all bool) (status.Compacted, error) {
	if _, err := Status(ctx, cfg); err != nil {
		return status.Compacted{}, err
	}
	return status.Compact(ctx, cfg.Status, all)
}
