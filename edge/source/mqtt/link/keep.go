package link

import (
	"context"
	"errors"
	"log/slog"
	"time"
)

const (
	// Waits between two tries to connect: soon first, because a broker that
	// restarts is back in moments; never so often that it is a burden.
	firstBackoff = 100 * time.Millisecond
	lastBackoff  = 30 * time.Second
	// healthy is how long a connection must have lived for the waits to begin anew.
	healthy = time.Second
)

// FinalError marks an error that is not the connection's: there is no use in another one.
type FinalError struct{ Err error }

func (e FinalError) Error() string { return e.Err.Error() }
func (e FinalError) Unwrap() error { return e.Err }

// Ended is the error inside of a FinalError, and err where it is none.
func Ended(err error) error {
	if f, ok := errors.AsType[FinalError](err); ok {
		return f.Err
	}
	return err
}

// Keep has one connection after the other until ctx ends, with longer and longer waits
// while they fail. run is one of them, from handshake to loss, and gives why it ended;
// lost is told that. A FinalError of run, and any error of lost, ends Keep, which gives it back.
func Keep(ctx context.Context, url string, log *slog.Logger, run func(context.Context) error, lost func(why error) error) error {
	for wait := firstBackoff; ; wait = min(2*wait, lastBackoff) {
		began := time.Now()
		why := run(ctx)
		if f, ok := errors.AsType[FinalError](why); ok {
			return f.Err
		}
		if time.Since(began) > healthy {
			wait = firstBackoff
		}
		if ctx.Err() == nil {
			log.Warn("broker connection ended", "url", url, "error", why, "retry_in", wait)
			if err := lost(why); err != nil {
				return Ended(err)
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(wait):
		}
	}
}
