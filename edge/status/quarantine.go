package status

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
)

// RuleFound is what a rule found in a signal since this run began. Samples are marked and
// go to the hub; those of a rule that quarantines are kept there and count in no product.
type RuleFound struct {
	Rule   string `json:"rule"`
	Does   string `json:"does"` // quarantine, alert or annotate
	Source string `json:"source"`
	Signal string `json:"signal"`
	Count  uint64 `json:"count"`
	First  string `json:"first"` // event time
	Last   Sample `json:"last"`
}

// AsideRecord is a record that was taken out of the log's way: it could not be read, or
// the hub can never take it. A void stands for it in the log.
type AsideRecord struct {
	ID     string `json:"id"`
	At     string `json:"at"`
	When   string `json:"when"`
	Cause  string `json:"cause,omitempty"`
	Why    string `json:"why,omitempty"`
	Source string `json:"source,omitempty"`
	From   string `json:"from,omitempty"`
	To     string `json:"to,omitempty"`
	Count  uint32 `json:"count"`
	Bytes  int    `json:"bytes"`
	Broken string `json:"broken,omitempty"` // why it can't be read: then nothing can be released
}

// Quarantine is what is set aside on this gateway, and what rules found.
type Quarantine struct {
	Records []AsideRecord `json:"records"`
	Rules   []RuleFound   `json:"rules"`
	More    uint64        `json:"more,omitempty"` // found by rules, and too many to count one by one
	Since   string        `json:"since"`          // when counting began
}

// Opened is a record that was set aside, decoded as far as it can be.
type Opened struct {
	AsideRecord

	Samples []Sample `json:"samples,omitempty"`
	Raw     []byte   `json:"raw,omitempty"` // its first bytes, where it can't be read
}

// Released is a record that is in the log again.
type Released struct {
	ID string `json:"id"`
	At string `json:"at"` // its new position
	// Open is what of its stretch stays a gap: other records of it are set aside, or what
	// proved it is not kept here any more.
	Open []Stretch `json:"open,omitempty"`
}

// Stretch is a stretch of event time.
type Stretch struct {
	From string `json:"from"`
	To   string `json:"to"`
}

// Quarantiner is what is set aside. Safe for concurrent use; what Release and Drop did is
// durable when they return.
type Quarantiner interface {
	Quarantine() (Quarantine, error)
	OpenAside(id string) (Opened, error)
	Release(ctx context.Context, id string) (Released, error)
	Drop(id string) (AsideRecord, error)
}

func serveQuarantine(mux *http.ServeMux, q Quarantiner) {
	mux.HandleFunc("GET /quarantine", func(w http.ResponseWriter, _ *http.Request) {
		got, err := q.Quarantine()
		give(w, got, err)
	})
	mux.HandleFunc("GET /quarantine/record", func(w http.ResponseWriter, r *http.Request) {
		got, err := q.OpenAside(r.URL.Query().Get("id"))
		give(w, got, err)
	})
	mux.HandleFunc("POST /quarantine/release", func(w http.ResponseWriter, r *http.Request) {
		got, err := q.Release(r.Context(), r.URL.Query().Get("id"))
		give(w, got, err)
	})
	mux.HandleFunc("POST /quarantine/drop", func(w http.ResponseWriter, r *http.Request) {
		got, err := q.Drop(r.URL.Query().Get("id"))
		give(w, got, err)
	})
}

// give answers with a document, or says why not.
func give(w http.ResponseWriter, got any, err error) {
	if err != nil {
		http.Error(w, err.Error(), http.StatusConflict)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(got) // the asker went away: nobody to tell
}

// take asks the agent behind the socket at path for a document.
func take[T any](ctx context.Context, path, method, to string) (got T, err error) {
	resp, err := call(ctx, path, method, to)
	if err != nil {
		return got, err
	}
	defer resp.Body.Close() //nolint:errcheck // it was read to its end
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxPeeking)).Decode(&got); err != nil {
		return got, fmt.Errorf("read the agent's answer: %w", err)
	}
	return got, nil
}

// AskQuarantine asks the agent behind the socket at path what is set aside.
func AskQuarantine(ctx context.Context, path string) (Quarantine, error) {
	return take[Quarantine](ctx, path, http.MethodGet, "/quarantine")
}

// OpenAside has it open a record that was set aside.
func OpenAside(ctx context.Context, path, id string) (Opened, error) {
	return take[Opened](ctx, path, http.MethodGet, "/quarantine/record?"+url.Values{"id": {id}}.Encode())
}

// Release has it put such a record into the log again.
func Release(ctx context.Context, path, id string) (Released, error) {
	return take[Released](ctx, path, http.MethodPost, "/quarantine/release?"+url.Values{"id": {id}}.Encode())
}

// Drop has it let the bytes of such a record go.
func Drop(ctx context.Context, path, id string) (AsideRecord, error) {
	return take[AsideRecord](ctx, path, http.MethodPost, "/quarantine/drop?"+url.Values{"id": {id}}.Encode())
}
