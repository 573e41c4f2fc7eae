package link

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// Waits grow while connections fail, begin anew behind one that lived, and end with what
// no other connection would mend.
func TestKeep_WaitsLongerEachTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broken, full, began := errors.New("refused"), errors.New("the log is no more"), time.Now()
		var tries []time.Duration
		lost := 0
		err := Keep(t.Context(), "mqtt://broker", slog.New(slog.DiscardHandler), func(context.Context) error {
			tries = append(tries, time.Since(began))
			switch len(tries) {
			case 11: // it lives for a while
				<-time.After(2 * time.Second)
			case 13:
				return errors.Join(broken, FinalError{Err: full})
			}
			return broken
		}, func(why error) error {
			if lost++; !errors.Is(why, broken) {
				t.Errorf("lost by %v", why)
			}
			return nil
		})
		var waits []time.Duration
		for i := range tries[1:] {
			waits = append(waits, tries[i+1]-tries[i])
		}
		const ms = time.Millisecond
		want := []time.Duration{100 * ms, 200 * ms, 400 * ms, 800 * ms, 1600 * ms, 3200 * ms, 6400 * ms, 12800 * ms, 25600 * ms, lastBackoff, 2100 * ms, 200 * ms}
		if !slices.Equal(waits, want) || lost != 12 || !errors.Is(err, full) || errors.Is(err, broken) {
			t.Errorf("it waits %v, is lost %d times, and ends with %v", waits, lost, err)
		}
	})
}

func TestKeep_EndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		lost := func(error) error { t.Error("a connection that is ended is not lost"); return nil }
		run := func(context.Context) error { cancel(); return ctx.Err() }
		if err := Keep(ctx, "", slog.New(slog.DiscardHandler), run, lost); err != nil {
			t.Error(err)
		}
		full := errors.New("the log is no more")
		told := func(error) error { return FinalError{Err: full} }
		if err := Keep(t.Context(), "", slog.New(slog.DiscardHandler), func(context.Context) error { return errors.ErrUnsupported }, told); err != full { //nolint:errorlint // not wrapped
			t.Error(err)
		}
	})
}
