// Package report is what an agent says of itself to its hub, once a minute: how much
// waits, for how long its disk lasts, which program it is. It holds no measurement, and
// nothing depends on it: one that is lost or old is only old.
package report

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strings"
	"time"
	"unicode"

	"plantmesh/proto/revision"
)

const (
	// Every is how often an agent reports; also at once when it is connected.
	Every = time.Minute
	// MaxBytes bounds a report.
	MaxBytes = 8 << 10
	maxText  = 100
)

// ErrReport is returned for bytes that are no report.
var ErrReport = errors.New("this is no report of an agent")

// Report is how an agent is. What it does not know is absent.
type Report struct {
	Version string    `json:"version"`
	Sent    time.Time `json:"sent"`  // by the gateway's clock
	Since   time.Time `json:"since"` // this run began
	Pending uint64    `json:"pending_records"`
	// LagSeconds is how far behind now the oldest of them lies; 0: nothing waits.
	LagSeconds  float64 `json:"lag_seconds"`
	BufferBytes int64   `json:"buffer_bytes"`
	BufferMax   int64   `json:"buffer_max_bytes"`
	// AutonomyHours is for how long everything is kept while the hub takes nothing;
	// absent: it is too early to say.
	AutonomyHours *float64 `json:"autonomy_hours,omitempty"`
	// Lost are values that were written off within the last 24 hours, where their number is known;
	// of an agent of before: in its run.
	Lost    uint64 `json:"lost_values"`
	Sources int    `json:"sources"`
	Aside   int    `json:"sources_aside"` // set aside after errors
	// Configuration is what it says of its revisions; absent: it knows of none.
	Configuration *revision.Reported `json:"configuration,omitempty"`
}

// Parse reads and bounds a report.
func Parse(b []byte) (r Report, err error) {
	if len(b) > MaxBytes {
		return r, fmt.Errorf("%w: it has %d bytes", ErrReport, len(b))
	}
	if err := json.Unmarshal(b, &r); err != nil {
		return r, fmt.Errorf("%w: %w", ErrReport, err)
	}
	odd := len(r.Version) > maxText || strings.ContainsFunc(r.Version, func(c rune) bool { return !unicode.IsPrint(c) })
	if odd || r.Sent.IsZero() || r.BufferBytes < 0 || r.BufferMax < 0 || r.Sources < 0 || r.Aside < 0 || r.LagSeconds < 0 || r.AutonomyHours != nil && (*r.AutonomyHours < 0 || math.IsInf(*r.AutonomyHours, 0)) {
		return r, fmt.Errorf("%w: a field makes no sense", ErrReport)
	}
	if c := r.Configuration; c != nil {
		if err := c.Check(); err != nil {
			return r, fmt.Errorf("%w: %w", ErrReport, err)
		}
	}
	return r, nil
}
