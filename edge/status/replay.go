package status

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
)

// ReplayQuery says what is sent again.
type ReplayQuery struct {
	From, To string // RFC 3339, event times
	Source   string // empty: all
	Rate     int    // samples a second at most; 0: as many as the hub takes
	DryRun   bool
}

// Replayed is what is sent again.
type Replayed struct {
	DryRun  bool   `json:"dry_run"`
	Records uint64 `json:"records"` // that the hub had accounted for, and get again
	Samples uint64 `json:"samples"` // in them; some may lie outside the window, as records go whole
	Bytes   uint64 `json:"bytes"`
	Waiting uint64 `json:"waiting"` // records of the window that the hub has not yet: they go by themselves
	// Earliest is the oldest event time that is kept here; empty: nothing is kept.
	Earliest string `json:"earliest,omitempty"`
	// Missing says what of the window is not here any more.
	Missing   string `json:"missing,omitempty"`
	Connected bool   `json:"connected"` // to the hub; else it goes when it is
	// Rate is how many samples a second go at most; 0: as many as the hub takes.
	Rate int `json:"rate_per_second,omitempty"`
}

// Replayer sends again what was delivered. Safe for concurrent use. What is to be sent is
// kept in memory alone: an agent that ends forgets it.
type Replayer interface {
	Replay(ctx context.Context, q ReplayQuery) (Replayed, error)
}

func serveReplay(mux *http.ServeMux, r Replayer) {
	mux.HandleFunc("POST /replay", func(w http.ResponseWriter, req *http.Request) {
		v := req.URL.Query()
		rate, err := strconv.Atoi(cmp.Or(v.Get("rate"), "0"))
		if err != nil || rate < 0 {
			http.Error(w, fmt.Sprintf("%q is no number of samples a second", v.Get("rate")), http.StatusConflict)
			return
		}
		got, err := r.Replay(req.Context(), ReplayQuery{From: v.Get("from"), To: v.Get("to"), Source: v.Get("source"), Rate: rate, DryRun: v.Get("dry_run") == "true"})
		give(w, got, err)
	})
}

// Replay has the agent behind the socket at path send a window again.
func Replay(ctx context.Context, path string, q ReplayQuery) (Replayed, error) {
	v := url.Values{"from": {q.From}, "to": {q.To}, "source": {q.Source}}
	if q.Rate > 0 {
		v.Set("rate", strconv.Itoa(q.Rate))
	}
	if q.DryRun {
		v.Set("dry_run", "true")
	}
	return take[Replayed](ctx, path, http.MethodPost, "/replay?"+v.Encode())
}
