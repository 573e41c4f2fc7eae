package status

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"plantmesh/proto/revision"
)

// Commander is what a person may do with the hub's configuration of a running agent. Safe
// for concurrent use; what was done is durable and in force when it returns.
type Commander interface {
	Hold(ctx context.Context, reason string, until time.Time) (revision.Reported, error)
	Release(ctx context.Context) (revision.Reported, error)
	Rollback(ctx context.Context) (revision.Reported, error)
	Confirm(ctx context.Context) (revision.Reported, error)
}

// commandWithin is how long a command may take: sources that end have seconds to do so.
const commandWithin = time.Minute

func serveCommands(mux *http.ServeMux, c Commander) {
	handle := func(what string, do func(*http.Request) (revision.Reported, error)) {
		mux.HandleFunc("POST /configuration/"+what, func(w http.ResponseWriter, req *http.Request) {
			if c == nil {
				http.Error(w, "this agent takes no configuration", http.StatusConflict)
				return
			}
			r, err := do(req)
			if err != nil {
				http.Error(w, err.Error(), http.StatusConflict)
				return
			}
			w.Header().Set("Content-Type", "application/json")
			_ = json.NewEncoder(w).Encode(r) // the asker went away: nobody to tell
		})
	}
	handle("hold", func(req *http.Request) (revision.Reported, error) {
		q := req.URL.Query()
		var until time.Time
		if text := q.Get("until"); text != "" {
			var err error
			if until, err = time.Parse(time.RFC3339, text); err != nil {
				return revision.Reported{}, fmt.Errorf("%q is no time", text)
			}
		}
		return c.Hold(req.Context(), q.Get("reason"), until)
	})
	handle("release", func(req *http.Request) (revision.Reported, error) { return c.Release(req.Context()) })
	handle("rollback", func(req *http.Request) (revision.Reported, error) { return c.Rollback(req.Context()) })
	handle("confirm", func(req *http.Request) (revision.Reported, error) { return c.Confirm(req.Context()) })
}

// ErrRefused is returned for a command that the agent does not do.
var ErrRefused = errors.New("not done")

// Command has the agent behind the socket at path do something with its configuration: hold,
// with reason and until (RFC 3339) of q, release, rollback or confirm.
func Command(ctx context.Context, path, what string, q url.Values) (r revision.Reported, err error) {
	ctx, cancel := context.WithTimeout(ctx, commandWithin)
	defer cancel()
	resp, err := call(ctx, path, http.MethodPost, "/configuration/"+what+"?"+q.Encode())
	if err != nil {
		return r, fmt.Errorf("%w: %w", ErrRefused, err)
	}
	defer resp.Body.Close() //nolint:errcheck // it was read to its end
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxAnswer)).Decode(&r); err != nil {
		return r, fmt.Errorf("read the agent's answer: %w", err)
	}
	return r, nil
}

// PrintConfiguration writes for a person how the hub's configuration stands.
func PrintConfiguration(w io.Writer, r *revision.Reported) error {
	has := "this gateway's own files alone"
	if r.Number > 0 {
		has = r.String()
	}
	text := "config   " + has
	if !r.Applied.IsZero() {
		text += " since " + r.Applied.UTC().Format(time.RFC3339)
	}
	if r.Desired > 0 && r.Desired != r.Number {
		text += fmt.Sprintf(", the hub wants revision %d", r.Desired)
	}
	text += ": " + string(r.State) + "\n"
	if r.Why != "" {
		text += "  why    " + r.Why + "\n"
	}
	if len(r.Drift) > 0 {
		text += "  drift  " + strings.Join(r.Drift, ", ") + "\n"
	}
	if h := r.Hold; h != nil {
		until := "until it is released"
		if !h.Until.IsZero() {
			until = "until " + h.Until.UTC().Format(time.RFC3339)
		}
		text += fmt.Sprintf("  held   since %s %s: %s\n", h.Since.UTC().Format(time.RFC3339), until, h.Reason)
	}
	_, err := io.WriteString(w, text)
	return err
}
