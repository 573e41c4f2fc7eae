package status

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"unicode"
)

// PeekQuery says which records of the buffer are looked at.
type PeekQuery struct {
	Last   bool   // the newest; else the oldest that the hub has not yet
	Source string // empty: all
	// From and To are a window of event times, RFC 3339: of all that is kept, records that touch
	// it. Both empty: there is none.
	From, To string
	Limit    int // records
	Samples  int // of each, at most
}

// MaxPeeked bounds the records of one look into the buffer, and the samples of all of
// them together.
const (
	MaxPeeked  = 1000
	MaxSamples = 20_000
)

// Peeked is one record of the buffer, decoded.
type Peeked struct {
	At       string   `json:"at"` // its position
	Kind     string   `json:"kind"`
	Source   string   `json:"source,omitempty"`
	Waiting  bool     `json:"waiting"` // the hub has not accounted for it yet
	From     string   `json:"from,omitempty"`
	To       string   `json:"to,omitempty"` // event times of what is inside
	ProvenTo string   `json:"proven_to,omitempty"`
	Count    uint32   `json:"count"` // samples inside
	Bytes    int      `json:"bytes"`
	Says     string   `json:"says,omitempty"` // what a record without samples says
	Samples  []Sample `json:"samples,omitempty"`
}

// Print writes the record for a person.
func (p *Peeked) Print(w io.Writer) error {
	has := "the hub has it"
	if p.Waiting {
		has = "waits"
	}
	_, err := fmt.Fprintf(w, "%s  %s", p.At, p.Kind)
	if p.Source != "" && err == nil {
		_, err = fmt.Fprintf(w, " of %s", p.Source)
	}
	if err == nil {
		_, err = fmt.Fprintf(w, ", %d samples, %d bytes, %s\n", p.Count, p.Bytes, has)
	}
	if p.From != "" && err == nil {
		_, err = fmt.Fprintf(w, "  times    %s to %s\n", p.From, p.To)
	}
	if p.ProvenTo != "" && err == nil {
		_, err = fmt.Fprintf(w, "  proven   to %s\n", p.ProvenTo)
	}
	if p.Says != "" && err == nil {
		_, err = fmt.Fprintf(w, "  says     %s\n", plain(p.Says))
	}
	for i := range p.Samples {
		if err == nil {
			_, err = fmt.Fprintf(w, "  %s\n", p.Samples[i].Line())
		}
	}
	if more := int(p.Count) - len(p.Samples); more > 0 && len(p.Samples) > 0 && err == nil {
		_, err = fmt.Fprintf(w, "  and %d more\n", more)
	}
	return err
}

// Line is a sample in one line.
func (s *Sample) Line() string {
	value := s.Value
	if s.Type == "none" {
		value = "no value"
	}
	if s.Unit != "" {
		value += " " + s.Unit
	}
	out := fmt.Sprintf("%s  %s = %s  %s", s.Time, s.Signal, value, s.Status)
	return plain(strings.Join(append([]string{out}, s.Notes...), ", "))
}

// plain is a text of a device in one line, with nothing that moves a cursor.
func plain(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return unicode.ReplacementChar
	}, s)
}

// Peek has the agent behind the socket at path look into its buffer.
func Peek(ctx context.Context, path string, q PeekQuery) (out []Peeked, err error) {
	resp, err := call(ctx, path, http.MethodGet, "/buffer/peek?"+url.Values{
		"from": {q.From}, "to": {q.To}, "last": {strconv.FormatBool(q.Last)}, "source": {q.Source}, "limit": {strconv.Itoa(q.Limit)}, "samples": {strconv.Itoa(q.Samples)},
	}.Encode())
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close() //nolint:errcheck // it was read to its end
	if err := knows(resp, knowsWindow); err != nil && q.From+q.To != "" {
		return nil, err
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxPeeking)).Decode(&out); err != nil {
		return nil, fmt.Errorf("read the agent's answer: %w", err)
	}
	return out, nil
}

// maxPeeking bounds the answer: all samples that may be asked for, with short texts.
const maxPeeking = 64 << 20

func servePeek(mux *http.ServeMux, k Keeper) {
	mux.HandleFunc("GET /buffer/peek", func(w http.ResponseWriter, r *http.Request) {
		v := r.URL.Query()
		limit, err := strconv.Atoi(v.Get("limit"))
		samples, err2 := strconv.Atoi(v.Get("samples"))
		if err != nil || err2 != nil || limit < 1 || limit > MaxPeeked || samples < 0 || samples*limit > MaxSamples {
			http.Error(w, fmt.Sprintf("1 to %d records, and at most %d samples of all of them", MaxPeeked, MaxSamples), http.StatusConflict)
			return
		}
		out, err := k.Peek(r.Context(), PeekQuery{Last: v.Get("last") == "true", Source: v.Get("source"), From: v.Get("from"), To: v.Get("to"), Limit: limit, Samples: samples})
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(out) // the asker went away: nobody to tell
	})
}
