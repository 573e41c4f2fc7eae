package status

import (
	"context"
	"errors"
	"path/filepath"
	"testing"
)

// tells is a Tapper that tells two lines and ends.
type tells struct{ q chan TapQuery }

func (x tells) Tap(_ context.Context, q TapQuery, tell func([]Tapped) error) error {
	if q.Pattern == "[" {
		return errors.New("no pattern")
	}
	x.q <- q
	return tell([]Tapped{{Sample: &Sample{Signal: "a", Value: "1"}}, {LeftOut: 7}})
}

func TestTap(t *testing.T) {
	path, taps := filepath.Join(t.TempDir(), "s.sock"), tells{make(chan TapQuery, 1)}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- Serve(ctx, path, Answers{Snapshot: func() Snapshot { return Snapshot{} }, Tapper: taps})
	}()
	for {
		if _, err := Ask(ctx, path); err == nil {
			break
		}
	}
	var got []Tapped
	q := TapQuery{Pattern: "*.a b", Source: "s&t", Quality: "bad", Rate: 9, Raw: true}
	err := Tap(ctx, path, q, func(x Tapped) error {
		got = append(got, x)
		return nil
	})
	if !errors.Is(err, ErrEnded) || len(got) != 2 || got[0].Sample.Signal != "a" || got[1].LeftOut != 7 || <-taps.q != q {
		t.Errorf("%+v, %v", got, err)
	}
	for _, q := range []TapQuery{{Rate: 0}, {Rate: MaxRate + 1}, {Rate: 1, Pattern: "["}} {
		if err := Tap(ctx, path, q, func(Tapped) error { return nil }); err == nil || errors.Is(err, ErrEnded) {
			t.Errorf("%+v: %v", q, err)
		}
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
