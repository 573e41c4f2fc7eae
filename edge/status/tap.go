package status

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// Sample is one value as it is stored, for people.
type Sample struct {
	Time    string `json:"time"` // RFC 3339: the event time
	Source  string `json:"source"`
	Signal  string `json:"signal"`
	Type    string `json:"type"`
	Value   string `json:"value"` // a long one is cut
	Unit    string `json:"unit,omitempty"`
	Quality string `json:"quality"` // good, uncertain or bad
	Status  string `json:"status"`  // as OPC UA calls it
	// Notes say what is special about it: initial, historical, suspect time ...
	Notes []string `json:"notes,omitempty"`
}

// TapQuery says which samples are told, and how many a second at most.
type TapQuery struct {
	// Pattern is a glob over names of signals; one without * ? or [ is a part of the
	// name. Empty: all.
	Pattern string
	Source  string // empty: all
	Quality string // good, uncertain or bad; empty: all
	Rate    int    // samples a second
	Raw     bool   // values as their machine said them, before anything was made of them; the pattern may mean nodes and topics, too
}

// MaxRate bounds what one tap is told in a second: nobody reads more, and more is what
// an export is for.
const MaxRate = 10_000

// Tapped is one line of a tap: a sample, or what was not told since the line before.
type Tapped struct {
	Sample *Sample    `json:"sample,omitempty"`
	Raw    *RawSample `json:"raw,omitempty"` // instead, where that was asked for
	// LeftOut is how many samples that were asked for are not told, because they were more
	// than the rate, or who listens was too slow.
	LeftOut uint64 `json:"left_out,omitempty"`
	// Others is how many came that were not asked for; Such is the name of one.
	Others uint64 `json:"others,omitempty"`
	Such   string `json:"such,omitempty"`
}

// RawSample is a value as its machine said it, for people.
type RawSample struct {
	Heard   string `json:"heard"` // RFC 3339: when this gateway heard it
	Source  string `json:"source"`
	Signal  string `json:"signal,omitempty"`  // that it becomes; empty: none
	Node    string `json:"node"`              // node id; topic and place in its payload; group/node/device/metric
	Type    string `json:"type,omitempty"`    // as its protocol calls it; empty: it does not say
	Value   string `json:"value"`             // a long one is cut
	Quality string `json:"quality,omitempty"` // good, uncertain or bad
	// Status is as the machine says it: of OPC UA its StatusCode, of Sparkplug its property. Of
	// MQTT it is what the source's file makes of the payload.
	Status     string   `json:"status,omitempty"`
	SourceTime string   `json:"source_time,omitempty"` // the machine's stamps
	ServerTime string   `json:"server_time,omitempty"`
	Notes      []string `json:"notes,omitempty"`
}

// Line is a raw value in one line.
func (s *RawSample) Line() string {
	value, signal := s.Value, s.Signal
	if s.Type == "" && value == "" {
		value = "no value"
	}
	if signal == "" {
		signal = "no signal"
	}
	out := s.Heard + "  " + signal + "  " + s.Node + " = " + value
	if s.Type != "" {
		out += " (" + s.Type + ")"
	}
	if s.Status != "" {
		out += "  " + s.Status
	}
	if s.SourceTime != "" {
		out += "  source " + s.SourceTime
	}
	if s.ServerTime != "" && s.ServerTime != s.SourceTime {
		out += "  server " + s.ServerTime
	}
	return plain(strings.Join(append([]string{out}, s.Notes...), ", "))
}

// Tapper tells samples as they are stored, until ctx ends or tell fails. It waits for
// tell, and nothing else of the agent does. Safe for concurrent use.
type Tapper interface {
	Tap(ctx context.Context, q TapQuery, tell func([]Tapped) error) error
}

// writeWithin is how long who listens may take for one part of a tap; then it is gone.
const writeWithin = 10 * time.Second

func serveTap(mux *http.ServeMux, tapper Tapper) {
	mux.HandleFunc("GET /tap", func(w http.ResponseWriter, r *http.Request) {
		q := TapQuery{Pattern: r.URL.Query().Get("pattern"), Source: r.URL.Query().Get("source"), Quality: r.URL.Query().Get("quality")}
		q.Raw = r.URL.Query().Get("raw") == "true"
		var err error
		if q.Rate, err = strconv.Atoi(r.URL.Query().Get("rate")); err != nil || q.Rate < 1 || q.Rate > MaxRate {
			http.Error(w, fmt.Sprintf("a rate lies between 1 and %d samples a second", MaxRate), http.StatusConflict)
			return
		}
		begun := false
		out, enc := http.NewResponseController(w), json.NewEncoder(w)
		err = tapper.Tap(r.Context(), q, func(lines []Tapped) error {
			begun = true
			if err := out.SetWriteDeadline(time.Now().Add(writeWithin)); err != nil {
				return err
			}
			for _, line := range lines {
				if err := enc.Encode(line); err != nil {
					return err
				}
			}
			return out.Flush()
		})
		if err != nil && !begun { // else who listens sees that it ended
			http.Error(w, err.Error(), http.StatusConflict)
		}
	})
}

// maxLine bounds one line of a stream of answers.
const maxLine = 1 << 20

// ErrEnded is returned where the agent ends, or lets go of who was too slow.
var ErrEnded = errors.New("the agent tells no more")

// Tap has the agent behind the socket at path tell samples as it stores them, until ctx
// ends or tell fails.
func Tap(ctx context.Context, path string, q TapQuery, tell func(Tapped) error) error {
	resp, err := call(ctx, path, http.MethodGet, "/tap?"+url.Values{
		"pattern": {q.Pattern}, "source": {q.Source}, "quality": {q.Quality}, "rate": {strconv.Itoa(q.Rate)}, "raw": {strconv.FormatBool(q.Raw)},
	}.Encode())
	if err != nil {
		return err
	}
	defer resp.Body.Close() //nolint:errcheck // nothing was written
	if err := knows(resp, knowsRaw); err != nil && q.Raw {
		return err
	}
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(nil, maxLine)
	for lines.Scan() {
		var t Tapped
		if err := json.Unmarshal(lines.Bytes(), &t); err != nil {
			return fmt.Errorf("read the agent's answer: %w", err)
		}
		if err := tell(t); err != nil {
			return err
		}
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	return errors.Join(ErrEnded, lines.Err())
}
