package porthttp

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"time"

	"plantmesh/proto/strict"
)

// problem is an answer that says what was wrong (RFC 9457).
type problem struct {
	Status  int
	Slug    string // stable name of the kind of problem
	Detail  string // plain words
	Param   string // the parameter that is wrong, where one is
	Nearest string // what was probably meant
	Allowed []string
}

func (p *problem) Error() string { return p.Detail }

// MarshalJSON implements json.Marshaler.
func (p *problem) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		Type    string   `json:"type"`
		Title   string   `json:"title"`
		Status  int      `json:"status"`
		Detail  string   `json:"detail"`
		Param   string   `json:"parameter,omitempty"`
		Nearest string   `json:"nearest,omitempty"`
		Allowed []string `json:"allowed,omitempty"`
	}{"urn:plantmesh:problem:" + p.Slug, http.StatusText(p.Status), p.Status, p.Detail, p.Param, p.Nearest, p.Allowed})
}

// fail answers with the problem in err. What is no problem is this hub's own
// fault: the log says which, the answer does not.
func (s *server) fail(w http.ResponseWriter, r *http.Request, err error) {
	var p *problem
	switch {
	case errors.As(err, &p):
	case errors.Is(err, context.Canceled):
		return // nobody waits for the answer
	case errors.Is(err, context.DeadlineExceeded):
		p = &problem{
			Status: http.StatusServiceUnavailable, Slug: "slow",
			Detail: "the answer took too long: ask for a shorter stretch of time or fewer machines",
		}
	default:
		s.log.ErrorContext(r.Context(), "answer a request", "path", r.URL.Path, "err", err)
		p = &problem{
			Status: http.StatusInternalServerError, Slug: "internal",
			Detail: "the hub could not read its store; its log says why",
		}
	}
	b, err := json.Marshal(p)
	if err != nil {
		s.log.ErrorContext(r.Context(), "encode a problem", "err", err)
		return
	}
	h := w.Header()
	h.Set("Content-Type", "application/problem+json")
	w.WriteHeader(p.Status)
	s.write(r, w, b)
}

// write sends b. A reader that has gone is not a fault of the hub.
func (s *server) write(r *http.Request, w http.ResponseWriter, b []byte) {
	if r.Method == http.MethodHead {
		return
	}
	err := s.within(http.NewResponseController(w))
	if err == nil {
		_, err = w.Write(b) //nolint:gosec // G705: JSON, YAML or plain text with nosniff and a policy that runs nothing
	}
	if err != nil {
		s.log.DebugContext(r.Context(), "a reader went away", "path", r.URL.Path, "err", err)
	}
}

// within gives the reader Timeout from now on to take what is written: one that
// stops reading must not keep the answer in memory for ever.
func (s *server) within(ctl *http.ResponseController) error {
	err := ctl.SetWriteDeadline(time.Now().Add(s.cfg.Timeout))
	if errors.Is(err, http.ErrNotSupported) {
		return nil
	}
	return err
}

// json answers with v.
func (s *server) json(w http.ResponseWriter, r *http.Request, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/json")
	s.write(r, w, b)
	return nil
}

// nearest is the candidate that was probably meant.
func nearest(word string, candidates []string) string { return strict.Nearest(word, candidates) }
