package status

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"
)

// MaxDebug bounds how long an agent says everything: a log that is full of it hides what
// matters, and wears the disk.
const MaxDebug = 2 * time.Hour

// Talk is how much the agent says from now on.
type Talk struct {
	DebugUntil string `json:"debug_until"` // empty: what it always says
}

// Talker says more or less. Safe for concurrent use.
type Talker interface {
	Debug(d time.Duration) (until time.Time)
}

func serveTalk(mux *http.ServeMux, talker Talker) {
	mux.HandleFunc("POST /log/debug", func(w http.ResponseWriter, req *http.Request) {
		d, err := time.ParseDuration(req.URL.Query().Get("for"))
		if err == nil && (d < 0 || d > MaxDebug) {
			err = errors.New("more than " + MaxDebug.String())
		}
		if err != nil || talker == nil {
			http.Error(w, fmt.Sprintf("this agent can't say more for that long: %v", err), http.StatusConflict)
			return
		}
		var t Talk
		if until := talker.Debug(d); !until.IsZero() {
			t.DebugUntil = until.UTC().Format(time.RFC3339)
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(t) // the asker went away: nobody to tell
	})
}

// Debug has the agent behind the socket at path say everything for so long.
func Debug(ctx context.Context, path string, d time.Duration) (t Talk, err error) {
	ctx, cancel := context.WithTimeout(ctx, askWithin)
	defer cancel()
	resp, err := call(ctx, path, http.MethodPost, "/log/debug?"+url.Values{"for": {d.String()}}.Encode())
	if err != nil {
		return t, err
	}
	defer resp.Body.Close() //nolint:errcheck // it was read to its end
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxAnswer)).Decode(&t); err != nil {
		return t, fmt.Errorf("read the agent's answer: %w", err)
	}
	return t, nil
}
