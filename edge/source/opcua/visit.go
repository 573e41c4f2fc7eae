package opcua

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/gopcua/opcua/ua"
)

// Caller makes requests within a session that somebody else opened. The error is
// the server's status (ua.StatusCode) where it gives one. Safe for concurrent use
// as long as the session is.
type Caller interface {
	Call(ctx context.Context, req ua.Request) (ua.Response, error)
}

// Call implements Caller.
func (s *session) Call(ctx context.Context, req ua.Request) (ua.Response, error) {
	return call[ua.Response](ctx, s, req)
}

// visitLife is how long a server keeps the session of a visit that died.
const visitLife = time.Minute

// Visit opens a session as the reader of cfg would, has it used, and closes it:
// nothing of it stays at the server. What went wrong is said in plain words.
func Visit(ctx context.Context, cfg Config, log *slog.Logger, use func(ctx context.Context, c Caller) error) error {
	s := session{endpoint: cfg.Endpoint, life: visitLife, security: cfg.Security, app: cfg.Application, log: log}
	var used error // what use says is its own, not the connection's
	err := s.open(ctx, cfg.ID, func() error {
		used = use(ctx, &s)
		// Whether it is closed or not, the visit is over; the server ends it in visitLife.
		_, _ = call[*ua.CloseSessionResponse](context.WithoutCancel(ctx), &s, &ua.CloseSessionRequest{DeleteSubscriptions: true})
		return nil
	})
	if used != nil {
		return used
	}
	if err != nil {
		return s.failed(err)
	}
	return nil
}

// VisitError is why a server could not be visited.
type VisitError struct {
	Text string // in plain words, with the fix where one is known
	Kind Kind   // empty: of the network, or of something else
	Err  error
}

func (s *session) failed(err error) *VisitError {
	text, kind := s.sort(err)
	return &VisitError{Text: text, Kind: kind, Err: err}
}

func (e *VisitError) Error() string { return fmt.Sprintf("not connected: %s", e.Text) }

func (e *VisitError) Unwrap() error { return e.Err }
