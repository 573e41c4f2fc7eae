package porthttp

import (
	"context"
	"fmt"
	"math"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"plantmesh/proto/mesh"
)

// Limits of one answer.
const (
	defaultLimit = 1_000
	maxLimit     = 10_000    // rows in one JSON page
	maxStream    = 2_000_000 // rows to ask for in one NDJSON, CSV or Parquet answer
)

// query is a request for rows, taken apart.
type query struct {
	mesh.RowQuery

	fields  []string
	columns []string // that rows of the product have; nil where the contract names none
	format  string
	window  string
}

// checkNames refuses parameters that nobody reads.
func checkNames(v url.Values, known []string) error {
	for name, values := range v {
		if !slices.Contains(known, name) {
			return &problem{
				Status: http.StatusBadRequest, Slug: "parameter", Param: name,
				Detail: fmt.Sprintf("there is no parameter %q here", name), Nearest: nearest(name, known), Allowed: known,
			}
		}
		if len(values) > 1 && name != "equipment" {
			return bad(name, "is given twice")
		}
	}
	return nil
}

func parseFields(list string) ([]string, error) {
	if list == "" {
		return nil, nil
	}
	fields := strings.Split(list, ",")
	for i, name := range fields {
		if slices.Contains(fields[:i], name) {
			return nil, bad("fields", fmt.Sprintf("names %q twice", name))
		}
	}
	return fields, nil
}

// parseQuery reads the parameters of /rows and /latest.
func (s *server) parseQuery(r *http.Request, p Product, known []string) (query, error) {
	v, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return query{}, &problem{Status: http.StatusBadRequest, Slug: "query", Detail: "the part behind ? can't be read: " + err.Error()}
	}
	if err := checkNames(v, known); err != nil {
		return query{}, err
	}
	q := query{RowQuery: mesh.RowQuery{Product: p.ID, Limit: defaultLimit, After: v.Get("cursor")}}
	if q.Span, err = s.parseSpan(v); err != nil {
		return q, err
	}
	if q.Entities, err = s.parseEntities(r.Context(), v["equipment"], p.ID); err != nil {
		return q, err
	}
	if q.window, err = choice(v, "window", p.Windows, ""); err != nil {
		return q, err
	}
	if q.fields, err = parseFields(v.Get("fields")); err != nil {
		return q, err
	}
	if q.format, err = parseFormat(r, v); err != nil {
		return q, err
	}
	if q.format != "json" { // without a limit all rows are meant, and all come or the answer is broken off
		q.Limit = math.MaxInt
	}
	if l := v.Get("limit"); l != "" {
		most := maxLimit
		if q.format != "json" {
			most = maxStream
		}
		n, err := strconv.Atoi(l)
		if err != nil || n < 1 || n > most {
			return q, &problem{
				Status: http.StatusBadRequest, Slug: "parameter", Param: "limit",
				Detail:  fmt.Sprintf("limit must be a whole number from 1 to %d for format %s, not %q", most, q.format, l),
				Nearest: strconv.Itoa(min(max(n, 1), most)),
			}
		}
		q.Limit = n
	}
	return q, nil
}

func bad(name, why string) error {
	return &problem{Status: http.StatusBadRequest, Slug: "parameter", Param: name, Detail: name + " " + why}
}

// choice reads a parameter that is one of a few words.
func choice(v url.Values, name string, allowed []string, otherwise string) (string, error) {
	got := v.Get(name)
	switch {
	case got == "":
		return otherwise, nil
	case slices.Contains(allowed, got):
		return got, nil
	case len(allowed) == 0:
		return "", bad(name, "means nothing for this product: its rows come in no windows")
	}
	return "", &problem{
		Status: http.StatusBadRequest, Slug: "parameter", Param: name, Allowed: allowed,
		Detail: fmt.Sprintf("%s must be one of %s, not %q", name, strings.Join(allowed, ", "), got), Nearest: nearest(got, allowed),
	}
}

// parseFormat takes the parameter, else what the Accept header names first.
func parseFormat(r *http.Request, v url.Values) (string, error) {
	otherwise := "json"
	accept := r.Header.Get("Accept")
	switch {
	case strings.HasPrefix(accept, "text/csv"):
		otherwise = "csv"
	case strings.HasPrefix(accept, "application/x-ndjson"), strings.HasPrefix(accept, "application/jsonl"):
		otherwise = "ndjson"
	case strings.HasPrefix(accept, parquetType):
		otherwise = "parquet"
	}
	return choice(v, "format", []string{"json", "ndjson", "csv", "parquet"}, otherwise)
}

// parseSpan reads from and to. Without both, all rows are meant.
func (s *server) parseSpan(v url.Values) (mesh.Span, error) {
	span := mesh.Span{From: reachable(time.Time{}) - 1, To: reachable(time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC)) + 1}
	from, to := v.Get("from"), v.Get("to")
	if from == "" && to == "" {
		return mesh.Span{}, nil
	}
	var err error
	if from != "" {
		if span.From, err = s.parseInstant("from", from); err != nil {
			return span, err
		}
	}
	if to != "" {
		if span.To, err = s.parseInstant("to", to); err != nil {
			return span, err
		}
	}
	if span.Empty() {
		return span, bad("from", "must lie before to")
	}
	return span, nil
}

// reachable is t, or the nearest instant that nanoseconds in an int64 reach:
// behind it they would begin anew with the past.
func reachable(t time.Time) mesh.Nanos {
	first, last := time.Date(1680, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(2260, 1, 1, 0, 0, 0, 0, time.UTC)
	switch {
	case t.Before(first):
		return mesh.NanosOf(first)
	case t.After(last):
		return mesh.NanosOf(last)
	}
	return mesh.NanosOf(t)
}

// parseInstant reads RFC 3339, a date (its start at the site), milliseconds
// since 1970, or a distance from the plant's now such as -8h.
func (s *server) parseInstant(name, v string) (mesh.Nanos, error) {
	if t, err := time.Parse(time.RFC3339Nano, v); err == nil {
		return reachable(t), nil
	}
	if t, err := time.ParseInLocation(time.DateOnly, v, s.zone()); err == nil {
		return reachable(t), nil
	}
	// Nine digits and more are an instant: 100000000 ms is 1970-01-02.
	if ms, err := strconv.ParseInt(v, 10, 64); err == nil && len(v) >= 9 && len(v) <= 13 {
		return reachable(time.UnixMilli(ms)), nil
	}
	if d, err := time.ParseDuration(v); err == nil && d <= 0 {
		return s.deps.PlantNow().Add(d), nil
	}
	if date, zone, ok := strings.Cut(v, " "); ok {
		if _, err := time.Parse(time.RFC3339Nano, date+"+"+zone); err == nil {
			return 0, &problem{
				Status: http.StatusBadRequest, Slug: "parameter", Param: name, Nearest: date + "%2B" + zone,
				Detail: fmt.Sprintf("%s has a bare + before its zone, which means a space in an address: write %%2B", name),
			}
		}
	}
	return 0, &problem{
		Status: http.StatusBadRequest, Slug: "parameter", Param: name,
		Detail:  fmt.Sprintf("%s must be an instant, not %q: RFC 3339, a date, milliseconds since 1970, or back from the plant's now as -8h", name, v),
		Nearest: s.deps.PlantNow().Time().Truncate(time.Hour).Format(time.RFC3339),
	}
}

// parseEntities reads equipment: one or more ids, or whole lines. In product
// coverage a row is about a source, so equipment names its source there. What
// the site has no more is still asked for by its id while it has rows.
func (s *server) parseEntities(ctx context.Context, values []string, product string) (out []string, err error) {
	site := s.deps.Site()
	for _, value := range values {
		for name := range strings.SplitSeq(value, ",") {
			found := match(site, name, product == "coverage")
			if len(found) == 0 {
				if found, err = s.former(ctx, product, name); err != nil {
					return nil, err
				}
			}
			if len(found) == 0 {
				return nil, noMachine(site, name)
			}
			out = append(out, found...)
		}
	}
	slices.Sort(out)
	return slices.Compact(out), nil
}

// former is an entity the site has no more, where it still has rows.
func (s *server) former(ctx context.Context, product, name string) ([]string, error) {
	rows, _, err := s.reader(product).Rows(ctx, mesh.RowQuery{Product: product, Entities: []string{name}, Limit: 1})
	if err != nil {
		return nil, fmt.Errorf("look for rows of %s: %w", name, err)
	}
	if len(rows) == 0 {
		return nil, nil
	}
	return []string{name}, nil
}

func noMachine(site SiteView, name string) error {
	var names []string
	for _, l := range site.Lines {
		names = append(names, l.ID)
		for _, m := range l.Machines {
			names = append(names, m.ID)
		}
	}
	return &problem{
		Status: http.StatusBadRequest, Slug: "parameter", Param: "equipment",
		Detail:  fmt.Sprintf("site %s has no machine or line %q", site.Site, name),
		Nearest: nearest(name, names), Allowed: names,
	}
}

// match is the entities a name stands for.
func match(site SiteView, name string, sources bool) (out []string) {
	for _, l := range site.Lines {
		for _, m := range l.Machines {
			entity := m.ID
			if sources {
				entity = m.Source
			}
			if name == l.ID || name == m.ID || sources && name == m.Source {
				out = append(out, entity)
			}
		}
	}
	return out
}
