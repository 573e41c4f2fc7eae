package status

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// Print writes for a person how full the buffer is.
func (b Buffer) Print(w io.Writer) error {
	_, err := fmt.Fprintf(w, "buffer   %.1f of %.0f MiB in %d segments, %d records the hub has not yet\n",
		float64(b.Bytes)/(1<<20), float64(b.MaxBytes)/(1<<20), b.Segments, b.Pending)
	if b.Pending > 0 && b.OldestPending != "" && err == nil {
		_, err = fmt.Fprintf(w, "  oldest of them from %s or later\n", b.OldestPending)
	}
	if b.AutonomyHours != nil && err == nil {
		_, err = fmt.Fprintf(w, "  keeps everything for %.1f hours without the hub, at %.1f MiB an hour\n", *b.AutonomyHours, b.BytesPerHour/(1<<20))
	}
	if b.Damages > 0 && err == nil {
		_, err = fmt.Fprintf(w, "  damaged  %d segments or records could not be read: what the hub lacks of them is named in gaps. Is the disk failing? Look at its SMART values and the kernel's log\n", b.Damages)
	}
	for _, source := range b.StateLost {
		if err == nil {
			_, err = fmt.Fprintf(w, "  lost   the state of %s was damaged on the disk: it started anew\n", source)
		}
	}
	return err
}

// Segment is what a check of one file of the buffer found.
type Segment struct {
	Segment  string `json:"segment"`
	First    string `json:"first"` // positions
	Last     string `json:"last"`
	Records  uint64 `json:"records"`
	Bytes    int64  `json:"bytes"`
	SetAside uint64 `json:"set_aside"` // records that were voided before
	Damaged  uint64 `json:"damaged"`   // records that can't be read now
	Error    string `json:"error,omitempty"`
	// Received says that the hub has all of it: what is damaged costs nothing.
	Received bool `json:"received"`
}

// Bad reports whether something of it is lost that the hub may not have.
func (s Segment) Bad() bool { return s.Damaged > 0 || s.Error != "" }

// Compacted is what was let go.
type Compacted struct {
	Freed int64 `json:"freed_bytes"`
	// Kept is what the hub has and stays only because of buffer.keep.
	Kept int64 `json:"kept_bytes"`
}

// Keeper is what a person may do with the buffer of a running agent. Safe for
// concurrent use; what Compact did is durable when it returns.
type Keeper interface {
	Verify(ctx context.Context, tell func(Segment) error) error
	Export(ctx context.Context, to io.Writer, q ExportQuery) (Exported, error)
	Compact(all bool) (Compacted, error)
	Peek(ctx context.Context, q PeekQuery) ([]Peeked, error)
}

// ExportQuery says what of the buffer is written.
type ExportQuery struct {
	From, To string // RFC 3339, event times; empty: from the oldest, to the newest
	Source   string // empty: all
}

// Exported is what was written, or is there to be written.
type Exported struct {
	Records uint64 `json:"records"`         // whole ones, of all kinds
	Samples uint64 `json:"samples"`         // in them
	First   string `json:"first,omitempty"` // event time of the first sample; empty: there is none
	Last    string `json:"last,omitempty"`
	// Earliest is the oldest event time that is kept here; empty: nothing is kept.
	Earliest string `json:"earliest,omitempty"`
	// Missing says what of the window is not here any more.
	Missing string `json:"missing,omitempty"`
}

const (
	exportedTrailer = "Plantmesh-Exported"
	recordsTrailer  = "Plantmesh-Records"
	errorTrailer    = "Plantmesh-Error"
)

func serveBuffer(mux *http.ServeMux, k Keeper) {
	mux.HandleFunc("GET /buffer/verify", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Trailer", errorTrailer)
		enc := json.NewEncoder(w)
		if err := k.Verify(r.Context(), func(s Segment) error { return enc.Encode(s) }); err != nil {
			w.Header().Set(errorTrailer, err.Error())
		}
	})
	mux.HandleFunc("GET /buffer/export", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Trailer", recordsTrailer+", "+exportedTrailer+", "+errorTrailer)
		v := r.URL.Query()
		e, err := k.Export(r.Context(), w, ExportQuery{From: v.Get("from"), To: v.Get("to"), Source: v.Get("source")})
		w.Header().Set(recordsTrailer, strconv.FormatUint(e.Records, 10)) // for programs of before
		if said, wrong := json.Marshal(e); wrong == nil {
			w.Header().Set(exportedTrailer, string(said))
		}
		if err != nil {
			w.Header().Set(errorTrailer, err.Error())
		}
	})
	mux.HandleFunc("POST /buffer/compact", func(w http.ResponseWriter, r *http.Request) {
		c, err := k.Compact(r.URL.Query().Get("all") == "true")
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		_ = json.NewEncoder(w).Encode(c) // the asker went away: nobody to tell
	})
}

// troubled is what the agent says went wrong behind an answer that had begun.
func troubled(r *http.Response) error {
	if said := r.Trailer.Get(errorTrailer); said != "" {
		return fmt.Errorf("the agent says: %s", said)
	}
	return nil
}

// Verify has the agent behind the socket at path read its whole buffer.
func Verify(ctx context.Context, path string, tell func(Segment) error) error {
	resp, err := call(ctx, path, http.MethodGet, "/buffer/verify")
	if err != nil {
		return err
	}
	defer resp.Body.Close() //nolint:errcheck // it was read to its end
	lines := bufio.NewScanner(resp.Body)
	for lines.Scan() {
		var s Segment
		if err := json.Unmarshal(lines.Bytes(), &s); err != nil {
			return fmt.Errorf("read the agent's answer: %w", err)
		}
		if err := tell(s); err != nil {
			return err
		}
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("read the agent's answer: %w", err)
	}
	return troubled(resp)
}

// Export has the agent behind the socket at path write what it keeps to to, as frames.
func Export(ctx context.Context, path string, to io.Writer, q ExportQuery) (e Exported, err error) {
	resp, err := call(ctx, path, http.MethodGet, "/buffer/export?"+url.Values{"source": {q.Source}, "from": {q.From}, "to": {q.To}}.Encode())
	if err != nil {
		return e, err
	}
	defer resp.Body.Close() //nolint:errcheck // it was read to its end
	if err := knows(resp, knowsWindow); err != nil && q.From+q.To != "" {
		return e, err
	}
	switch _, err := io.Copy(to, resp.Body); {
	case errors.Is(err, io.ErrUnexpectedEOF): // it has ended, and the answer with it
		return e, fmt.Errorf("copy what the agent keeps: %w: %w", ErrEnded, err)
	case err != nil:
		return e, fmt.Errorf("copy what the agent keeps: %w", err)
	}
	if err := troubled(resp); err != nil {
		return e, err
	}
	if err := json.Unmarshal([]byte(resp.Trailer.Get(exportedTrailer)), &e); err == nil {
		return e, nil
	}
	if e.Records, err = strconv.ParseUint(resp.Trailer.Get(recordsTrailer), 10, 64); err != nil {
		return e, fmt.Errorf("copy what the agent keeps: %w: %w", ErrEnded, io.ErrUnexpectedEOF)
	}
	return e, nil
}

// compactWithin is how long letting go may take: files are unlinked, and one
// segment may be made.
const compactWithin = time.Minute

// Compact has the agent behind the socket at path let go of what it need not
// keep; with all, also of what it keeps for a hub that goes back.
func Compact(ctx context.Context, path string, all bool) (c Compacted, err error) {
	ctx, cancel := context.WithTimeout(ctx, compactWithin)
	defer cancel()
	resp, err := call(ctx, path, http.MethodPost, "/buffer/compact?all="+strconv.FormatBool(all))
	if err != nil {
		return c, err
	}
	defer resp.Body.Close() //nolint:errcheck // it was read to its end
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxAnswer)).Decode(&c); err != nil {
		return c, fmt.Errorf("read the agent's answer: %w", err)
	}
	return c, nil
}
