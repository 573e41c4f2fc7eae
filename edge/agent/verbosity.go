package agent

import (
	"log/slog"
	"sync/atomic"
	"time"
)

// Verbosity is how much the agent says: what it was started with, and more for a while. It
// falls back by itself, as nobody has to think of it. Safe for concurrent use.
type Verbosity struct {
	base  slog.Level
	until atomic.Int64 // nanoseconds since 1970; 0: never
}

// NewVerbosity is one that says what level does.
func NewVerbosity(level slog.Level) *Verbosity { return &Verbosity{base: level} }

// Level implements slog.Leveler.
func (v *Verbosity) Level() slog.Level {
	if until := v.until.Load(); until != 0 && time.Now().UnixNano() < until {
		return min(v.base, slog.LevelDebug)
	}
	return v.base
}

// Debug has it say everything for so long; 0: no longer. It gives until when.
func (v *Verbosity) Debug(d time.Duration) (until time.Time) {
	if d <= 0 {
		v.until.Store(0)
		return time.Time{}
	}
	until = time.Now().Add(d)
	v.until.Store(until.UnixNano())
	return until
}

// until is when it falls back, for the status; empty: it says what it always does.
func (v *Verbosity) debugUntil() string {
	if v == nil || v.Level() == v.base {
		return ""
	}
	return stamp(time.Unix(0, v.until.Load()))
}
