package status

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
)

// Resumed is what came of resuming a source.
type Resumed struct {
	Source  string `json:"source"`
	Done    bool   `json:"done"`    // it is tried now; else it is not one that waits
	Was     Source `json:"was"`     // before
	Changed bool   `json:"changed"` // its file says something else than before, and counts now
}

// Resumer has a source that waits tried at once, with its file as it is now. Safe for
// concurrent use.
type Resumer interface {
	Resume(source string) (Resumed, error)
}

func serveResume(mux *http.ServeMux, r Resumer) {
	mux.HandleFunc("POST /sources/resume", func(w http.ResponseWriter, req *http.Request) {
		done, err := r.Resume(req.URL.Query().Get("source"))
		if err != nil {
			http.Error(w, err.Error(), http.StatusConflict)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(done) // the asker went away: nobody to tell
	})
}

// Resume has the agent behind the socket at path resume a source.
func Resume(ctx context.Context, path, source string) (r Resumed, err error) {
	ctx, cancel := context.WithTimeout(ctx, askWithin)
	defer cancel()
	resp, err := call(ctx, path, http.MethodPost, "/sources/resume?"+url.Values{"source": {source}}.Encode())
	if err != nil {
		return r, err
	}
	defer resp.Body.Close() //nolint:errcheck // it was read to its end
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxAnswer)).Decode(&r); err != nil {
		return r, fmt.Errorf("read the agent's answer: %w", err)
	}
	return r, nil
}
