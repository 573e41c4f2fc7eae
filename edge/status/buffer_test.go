package status

import (
	"bytes"
	"context"
	"errors"
	"io"
	"path/filepath"
	"strings"
	"testing"
)

var errDisk = errors.New("input/output error")

// kept is a buffer that gives what it is told to.
type kept struct{ err error }

func (k kept) Verify(_ context.Context, tell func(Segment) error) error {
	for _, s := range []string{"one", "two"} {
		if err := tell(Segment{Segment: s, Records: 3}); err != nil {
			return err
		}
	}
	return k.err
}

func (k kept) Export(_ context.Context, to io.Writer, q ExportQuery) (Exported, error) {
	_, err := io.WriteString(to, strings.Repeat(q.Source, 100_000))
	return Exported{Records: 7, First: q.From, Last: q.To}, errors.Join(err, k.err)
}

func (k kept) Peek(_ context.Context, q PeekQuery) ([]Peeked, error) {
	return []Peeked{{At: q.Source, Count: uint32(q.Limit), Bytes: q.Samples, Waiting: q.Last}}, k.err
}

func (k kept) Compact(all bool) (Compacted, error) {
	if all {
		return Compacted{Freed: 5}, k.err
	}
	return Compacted{Kept: 5}, k.err
}

// What goes wrong behind an answer that has begun must reach who asked: half
// an export looks like a whole one.
func TestBuffer_AnswersAndSaysWhatWentWrong(t *testing.T) {
	for _, want := range []error{nil, errDisk} {
		path := filepath.Join(t.TempDir(), "s.sock")
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() {
			done <- Serve(ctx, path, Answers{Snapshot: func() Snapshot { return Snapshot{} }, Keeper: kept{want}})
		}()
		for {
			if _, err := Ask(ctx, path); err == nil {
				break
			}
		}
		wrong := func(err error) bool {
			return (err == nil) != (want == nil) || err != nil && !strings.Contains(err.Error(), errDisk.Error())
		}
		n := uint64(0)
		if err := Verify(ctx, path, func(s Segment) error { n += s.Records; return nil }); wrong(err) || n != 6 {
			t.Errorf("verify: %v, %d records", err, n)
		}
		var to bytes.Buffer
		if e, err := Export(ctx, path, &to, ExportQuery{Source: "line1", From: "a b", To: "c&d"}); wrong(err) || want == nil && (e != Exported{Records: 7, First: "a b", Last: "c&d"} || to.Len() != 500_000) {
			t.Errorf("export: %v, %+v, %d bytes", err, e, to.Len())
		}
		if c, err := Compact(ctx, path, true); wrong(err) || want == nil && c != (Compacted{Freed: 5}) {
			t.Errorf("compact: %v, %+v", err, c)
		}
		if c, err := Compact(ctx, path, false); wrong(err) || want == nil && c != (Compacted{Kept: 5}) {
			t.Errorf("compact: %v, %+v", err, c)
		}
		if got, err := Peek(ctx, path, PeekQuery{Last: true, Source: "line 1", Limit: 3, Samples: 2}); wrong(err) || want == nil && (got[0].At != "line 1" || got[0].Count != 3 || got[0].Bytes != 2 || !got[0].Waiting) {
			t.Errorf("peek: %v, %+v", err, got)
		}
		if _, err := Peek(ctx, path, PeekQuery{Limit: MaxPeeked + 1}); err == nil {
			t.Error("more was peeked at than may be")
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}
