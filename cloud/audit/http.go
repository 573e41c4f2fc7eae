package audit

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"
)

// Path is where a trail is read over HTTP.
const Path = "/api/v1/audit"

// Permission is what a reader needs.
const Permission = "audit.read"

const (
	defaultPage = 100
	mostPage    = 1000
	// pageWithin bounds one page of an answer.
	pageWithin = 15 * time.Second
)

// Desk answers who may read the trail. Safe for concurrent use.
type Desk struct {
	Trail *Trail
	// May is nil where the caller has a permission.
	May func(r *http.Request, permission, location string) error
	Log *slog.Logger
	// Rounds says whether an older file is damaged; nil: nobody looks.
	Rounds *Rounds
}

// ServeHTTP implements http.Handler, at Path.
func (d *Desk) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		h.Set("Allow", "GET, HEAD")
		problem(w, http.StatusMethodNotAllowed, "the audit trail is read only: use GET")
		return
	}
	if err := d.May(r, Permission, ""); err != nil {
		problem(w, http.StatusForbidden, err.Error())
		return
	}
	q, err := parse(r.URL.Query())
	if err != nil {
		problem(w, http.StatusBadRequest, err.Error())
		return
	}
	if err := d.answer(w, r, q); err != nil {
		d.Log.ErrorContext(r.Context(), "the audit trail can't be read", "err", err)
		if h.Get("Content-Type") == "" {
			problem(w, http.StatusInternalServerError, err.Error())
		}
	}
}

// query is what is asked for.
type query struct {
	Filter

	after  uint64
	limit  int // 0: all
	lines  bool
	newest bool
}

// parse reads the parameters; one that nobody knows is an error, or it would be taken
// for one that finds nothing.
func parse(v url.Values) (q query, err error) {
	known := []string{"from", "to", "who", "action", "object", "after", "limit", "format", "order"}
	for name, values := range v {
		if !slices.Contains(known, name) || len(values) != 1 {
			return q, fmt.Errorf("%q: use each of from, to, who, action, object, after, limit, format, order at most once", name)
		}
	}
	q.Who, q.Action, q.Object = v.Get("who"), v.Get("action"), v.Get("object")
	for name, at := range map[string]*time.Time{"from": &q.From, "to": &q.To} {
		if v.Get(name) == "" {
			continue
		}
		if *at, err = time.Parse(time.RFC3339, v.Get(name)); err != nil {
			return q, fmt.Errorf("%s: %q is no time such as 2026-03-01T00:00:00Z", name, v.Get(name))
		}
	}
	if text := v.Get("after"); text != "" {
		if q.after, err = strconv.ParseUint(text, 10, 64); err != nil {
			return q, fmt.Errorf("after: %q is no number of an entry: take next of the answer before, as it is", text)
		}
	}
	switch v.Get("format") {
	case "", "json":
		q.limit = defaultPage
	case "ndjson":
		q.lines = true
	default:
		return q, fmt.Errorf("format: %q is neither json nor ndjson", v.Get("format"))
	}
	switch v.Get("order") {
	case "", "oldest":
	case "newest":
		q.newest, q.limit = true, defaultPage
	default:
		return q, fmt.Errorf("order: %q is neither oldest nor newest", v.Get("order"))
	}
	if text := v.Get("limit"); text != "" {
		if q.limit, err = strconv.Atoi(text); err != nil || q.limit < 1 || q.limit > mostPage {
			return q, fmt.Errorf("limit: between 1 and %d", mostPage)
		}
	}
	if q.newest && q.after > 0 {
		return q, errors.New("after: goes with order=oldest")
	}
	return q, nil
}

// page is one answer.
type page struct {
	Data []Entry `json:"data"`
	// Next is what to say as after for what follows; empty: this was all there is.
	Next string `json:"next,omitempty"`
	Seal string `json:"seal,omitempty"` // of the newest entry: who keeps it notices when the end is cut off
	// Broken is where the trail is not what was recorded; nothing of it is given from there back.
	Broken *brokenAt `json:"broken,omitempty"`
}

type brokenAt struct {
	File string `json:"file"`
	Line int    `json:"line"`
	N    uint64 `json:"n"`
	What string `json:"what"`
}

// broken is a page that says where the trail is, in what of it err says; any other error
// stays.
func (p *page) broken(b *BreakError, err error) error {
	if found, is := errors.AsType[*BreakError](err); is { // the newer one says more
		b, err = found, nil
	}
	if b != nil {
		p.Broken = &brokenAt{b.File, b.Line, b.N, b.What}
	}
	return err
}

func (d *Desk) answer(w http.ResponseWriter, r *http.Request, q query) (err error) {
	if q.lines {
		return d.stream(w, r, q)
	}
	p := page{Data: []Entry{}}
	s, err := d.Trail.Seal()
	if err = p.broken(d.found(), err); err != nil {
		return err
	}
	if s.N > 0 {
		p.Seal = s.String()
	}
	if q.newest {
		p.Data, err = Newest(r.Context(), d.Trail.dir, q.Filter, q.limit)
		err = p.broken(nil, err)
	} else {
		var next uint64
		var more bool
		if p.Data, next, more, err = Page(r.Context(), d.Trail.dir, q.Filter, q.after, q.limit); more {
			p.Next = strconv.FormatUint(next, 10)
		}
	}
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(p) // who went away asks again
	return nil
}

func (d *Desk) found() *BreakError {
	if d.Rounds == nil {
		return nil
	}
	return d.Rounds.Found()
}

// stream gives entries one a line.
func (d *Desk) stream(w http.ResponseWriter, r *http.Request, q query) error {
	left, ctl := q.limit, http.NewResponseController(w)
	for after, more := q.after, true; more; {
		var entries []Entry
		var err error
		n := mostPage
		if q.limit > 0 {
			n = min(n, left)
		}
		if entries, after, more, err = Page(r.Context(), d.Trail.dir, q.Filter, after, n); err != nil {
			return err
		}
		w.Header().Set("Content-Type", "application/x-ndjson")
		if err := ctl.SetWriteDeadline(time.Now().Add(pageWithin)); err != nil && !errors.Is(err, http.ErrNotSupported) {
			return err
		}
		enc := json.NewEncoder(w)
		for i := range entries {
			if enc.Encode(entries[i]) != nil {
				return nil //nolint:nilerr // who went away asks again
			}
		}
		if left -= len(entries); q.limit > 0 && left <= 0 {
			return nil
		}
	}
	return nil
}

// problem is an error as RFC 9457 has it.
func problem(w http.ResponseWriter, status int, detail string) {
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]any{"title": http.StatusText(status), "status": status, "detail": detail})
}
