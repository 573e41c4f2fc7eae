package porthttp

import (
	"bytes"
	"context"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"time"

	"plantmesh/cloud/port"
	"plantmesh/proto/answer"
	"plantmesh/proto/mesh"
)

// page is how many rows one read of the store brings.
const page = 2_000

// rows answers /rows in one of four formats.
func (s *server) rows(w http.ResponseWriter, r *http.Request) error {
	p, err := s.find(r)
	if err != nil {
		return err
	}
	q, err := s.parseQuery(r, p, []string{"from", "to", "equipment", "fields", "limit", "cursor", "format", "window"})
	if err != nil {
		return err
	}
	enc := port.NewEncoder(p.Columns, p.Version, s.zone())
	if q.columns, err = columnsOf(p, enc); err != nil {
		return err
	}
	if err := q.known(q.columns); err != nil {
		return err
	}
	s.asOf(w, r, p)
	if q.format == "parquet" {
		return s.parquet(w, r, p, q, enc)
	}
	if q.format == "json" {
		ctx, cancel := context.WithTimeout(r.Context(), s.cfg.Timeout)
		defer cancel()
		return s.onePage(w, r.WithContext(ctx), q, enc)
	}
	ctx, cancel := context.WithTimeout(r.Context(), s.cfg.Stream)
	defer cancel()
	return s.manyPages(w, r.WithContext(ctx), q, enc)
}

// asOf puts into headers how fresh and how complete the product is. It is an
// extra: without it the answer is still right.
func (s *server) asOf(w http.ResponseWriter, r *http.Request, p Product) {
	h := w.Header()
	h.Set("Product-Version", p.Version)
	progress, watermark, _, err := s.progress(r.Context(), p)
	if err != nil {
		s.log.WarnContext(r.Context(), "read the progress of a product", "product", p.ID, "err", err)
		return
	}
	if progress != 0 {
		h.Set("Data-As-Of", progress.Time().Format(port.Stamp))
	}
	if watermark != 0 {
		h.Set("Data-Complete-To", watermark.Time().Format(port.Stamp))
	}
}

// walk reads rows page by page and gives each to take, at most q.Limit. It returns the cursor behind the last one;
// empty where nothing follows.
func (s *server) walk(ctx context.Context, q query, enc *port.Encoder, take func(port.Fields) error) (next string, err error) {
	want := q.Limit
	if q.After, err = unsealCursor(q.Product, q.After); err != nil {
		return "", err
	}
	if q.window != "" {
		q.Prefix = q.window + "/"
	}
	for {
		ask := q.RowQuery
		ask.Limit = min(want, page)
		rows, next, err := s.reader(q.Product).Rows(ctx, ask)
		if err != nil && s.deps.BadCursor != nil && s.deps.BadCursor(err) {
			return "", badCursor()
		}
		if err != nil {
			return "", fmt.Errorf("read rows of %s: %w", q.Product, err)
		}
		for _, row := range rows {
			f, err := enc.Fields(row)
			if err != nil {
				return "", err
			}
			q.whole(f)
			if err := take(f); err != nil {
				return "", err
			}
			want--
		}
		if next == "" || want <= 0 {
			return sealCursor(q.Product, next), nil
		}
		q.After = next
	}
}

// columnsOf are the columns that rows of a product have, in order; nil where
// its contract names none.
func columnsOf(p Product, enc *port.Encoder) ([]string, error) {
	if len(p.Columns) == 0 {
		return nil, nil
	}
	f, err := enc.Fields(mesh.Row{Body: []byte(`{"from":null}`)}) // the envelope's
	if err != nil {
		return nil, err
	}
	for _, c := range p.Columns {
		f[c] = nil
	}
	return enc.Columns(f), nil
}

// known says which of the fields asked for is no column. With no columns to
// compare with, all are taken.
func (q query) known(columns []string) error {
	for _, name := range q.fields {
		if len(columns) > 0 && !slices.Contains(columns, name) {
			return &problem{
				Status: http.StatusBadRequest, Slug: "parameter", Param: "fields",
				Detail: fmt.Sprintf("product %s has no column %q", q.Product, name), Nearest: nearest(name, columns), Allowed: columns,
			}
		}
	}
	return nil
}

// whole gives a row the columns that are asked for by name and that it lacks: some rows of
// a product say more than others.
func (q query) whole(f port.Fields) {
	for _, c := range q.fields {
		if _, has := f[c]; !has && slices.Contains(q.columns, c) {
			f[c] = json.RawMessage("null")
		}
	}
}

// pick is the columns of a row that go out, in order.
func (q query) pick(enc *port.Encoder, f port.Fields) ([]string, error) {
	if len(q.fields) > 0 && len(q.columns) > 0 { // compared with the contract before
		return q.fields, nil
	}
	all := enc.Columns(f)
	if len(q.fields) == 0 {
		return all, nil
	}
	return q.fields, q.known(all)
}

// onePage answers {"data":[...],"next":cursor}.
func (s *server) onePage(w http.ResponseWriter, r *http.Request, q query, enc *port.Encoder) error {
	b := []byte(`{"data":[`)
	n := 0
	next, err := s.walk(r.Context(), q, enc, func(f port.Fields) error {
		columns, err := q.pick(enc, f)
		if err != nil {
			return err
		}
		if n > 0 {
			b = append(b, ',', '\n')
		}
		n++
		b = port.Append(b, f, columns)
		return nil
	})
	if err != nil {
		return err
	}
	tail, err := json.Marshal(map[string]any{"next": orNull(next), "plant_now": s.deps.PlantNow().Time().Format(port.Stamp)})
	if err != nil {
		return err
	}
	b = append(b, ']', ',')
	b = append(b, tail[1:]...)
	if next != "" {
		v := r.URL.Query()
		v.Set("cursor", next)
		w.Header().Set("Link", "<"+(&url.URL{Path: r.URL.Path, RawQuery: v.Encode()}).String()+`>; rel="next"`)
	}
	w.Header().Set("Content-Type", "application/json")
	s.write(r, w, b)
	return nil
}

func orNull(v string) any {
	if v == "" {
		return nil
	}
	return v
}

// manyPages answers with all rows, one a line, as NDJSON or CSV. A fault after
// the first line can't be told in the status any more: the connection is then
// broken, so that nobody takes the part for the whole.
func (s *server) manyPages(w http.ResponseWriter, r *http.Request, q query, enc *port.Encoder) error {
	if r.Method == http.MethodHead { // enough to see what is wrong with the question
		q.Limit = 1
	}
	sink := s.sink(w, r, q)
	var columns []string // of all lines: a table has one head
	if q.format == "csv" {
		columns = q.head()
		if err := sink.head(columns); err != nil {
			return err
		}
	}
	lines := 0
	next, err := s.walk(r.Context(), q, enc, func(f port.Fields) (err error) {
		if columns == nil {
			if columns, err = q.pick(enc, f); err != nil {
				return err
			}
			if len(q.fields) == 0 && len(q.columns) > 0 { // a row may lack what a later one has
				columns = q.columns
			}
		}
		lines++
		return sink.line(f, columns)
	})
	if err == nil {
		err = sink.flush()
	}
	switch {
	case err != nil && lines == 0:
		w.Header().Del("Content-Disposition")
		return err
	case r.Method == http.MethodHead:
	case err != nil:
		s.log.WarnContext(r.Context(), "break off an answer", "path", r.URL.Path, "lines", lines, "err", err)
		panic(http.ErrAbortHandler)
	case next != "":
		w.Header().Set(http.TrailerPrefix+"Next-Cursor", next)
	}
	return nil
}

// head is the columns of a table before its first row is known; nil where only
// the row can tell.
func (q query) head() []string {
	if len(q.fields) > 0 && len(q.columns) > 0 {
		return q.fields
	}
	return q.columns
}

// sink writes rows as lines. line and flush fail when the reader is gone or
// took none for too long.
type sink struct {
	head  func(columns []string) error
	line  func(f port.Fields, columns []string) error
	flush func() error
}

// sinkBytes is gathered before it is sent.
const sinkBytes = 64 << 10

func (s *server) sink(w http.ResponseWriter, r *http.Request, q query) sink {
	ctl := http.NewResponseController(w)
	var buf bytes.Buffer
	flush := func() error {
		if r.Method == http.MethodHead {
			return nil
		}
		if err := s.within(ctl); err != nil {
			return err
		}
		_, err := buf.WriteTo(w)
		return err
	}
	spill := func() error {
		if buf.Len() < sinkBytes {
			return nil
		}
		return flush()
	}
	if q.format == "ndjson" {
		w.Header().Set("Content-Type", "application/x-ndjson")
		return sink{flush: flush, line: func(f port.Fields, columns []string) error {
			buf.Write(append(port.Append(buf.AvailableBuffer(), f, columns), '\n'))
			return spill()
		}}
	}
	w.Header().Set("Content-Type", "text/csv; charset=utf-8")
	w.Header().Set("Content-Disposition", `attachment; filename="`+q.Product+`.csv"`)
	out := csv.NewWriter(&buf)
	headed := false
	head := func(columns []string) error {
		if headed || len(columns) == 0 {
			return nil
		}
		headed = true
		err := out.Write(columns)
		out.Flush()
		return errors.Join(err, out.Error())
	}
	var cells []string
	return sink{
		head: head,
		line: func(f port.Fields, columns []string) error {
			if err := head(columns); err != nil {
				return err
			}
			cells = cells[:0]
			for _, c := range columns {
				cells = append(cells, cell(f[c]))
			}
			if err := out.Write(cells); err != nil {
				return err
			}
			out.Flush()
			return spill()
		},
		flush: flush,
	}
}

// cell is a JSON value as CSV has it: text without quotes and never a formula, nothing for null.
func cell(v json.RawMessage) string {
	switch {
	case len(v) == 0 || string(v) == "null":
		return ""
	case v[0] == '"':
		var t string
		if err := json.Unmarshal(v, &t); err == nil {
			return answer.Cell(t)
		}
	}
	return string(v)
}

// lookBack is how far /latest looks for an entity that is silent at the moment.
const lookBack = 48 * time.Hour

// latest answers the newest row of each entity: per window where there are
// windows, per signal in product signals.
func (s *server) latest(w http.ResponseWriter, r *http.Request) error {
	p, err := s.find(r)
	if err != nil {
		return err
	}
	q, err := s.parseQuery(r, p, []string{"equipment", "fields", "window"})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(r.Context(), s.cfg.Timeout)
	defer cancel()
	enc := port.NewEncoder(p.Columns, p.Version, s.zone())
	if q.columns, err = columnsOf(p, enc); err != nil {
		return err
	}
	if err := q.known(q.columns); err != nil {
		return err
	}
	s.asOf(w, r, p)
	newest, err := s.newest(ctx, p, q, enc)
	if err != nil {
		return err
	}
	b := []byte(`{"data":[`)
	for i, key := range slices.Sorted(maps.Keys(newest)) {
		q.whole(newest[key])
		columns, err := q.pick(enc, newest[key])
		if err != nil {
			return err
		}
		if i > 0 {
			b = append(b, ',', '\n')
		}
		b = port.Append(b, newest[key], columns)
	}
	w.Header().Set("Content-Type", "application/json")
	s.write(r, w, append(b, ']', '}'))
	return nil
}

// newest finds the newest row of each entity, and window or signal. What it
// reads is bounded, however long an entity is silent.
func (s *server) newest(ctx context.Context, p Product, q query, enc *port.Encoder) (map[string]port.Fields, error) {
	out := map[string]port.Fields{}
	if n, ok := s.reader(p.ID).(Newest); ok {
		return out, s.jump(ctx, n, p, q, enc, out)
	}
	progress, _, _, err := s.progress(ctx, p)
	if err != nil {
		return nil, err
	}
	// What is live is found at the plant's now; while history is read, and where
	// all is silent, at the end of what is known.
	spans := []mesh.Span{{From: s.deps.PlantNow().Add(-time.Hour), To: s.deps.PlantNow().Add(lookBack)}}
	if progress != 0 {
		for _, back := range []time.Duration{time.Hour, lookBack} {
			spans = append(spans, mesh.Span{From: progress.Add(-back), To: progress.Add(time.Hour)})
		}
	}
	q.Limit = maxStream
	for i := 0; i < len(spans) && len(out) == 0; i++ {
		q.Span, q.After = spans[i], ""
		if _, err := s.walk(ctx, q, enc, func(f port.Fields) error {
			out[subjectOf(f)] = f
			return nil
		}); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// jump asks a store that finds newest rows by itself, window by window.
func (s *server) jump(ctx context.Context, n Newest, p Product, q query, enc *port.Encoder, out map[string]port.Fields) error {
	entities, prefixes := q.Entities, []string{""}
	if len(entities) == 0 { // those of the site: what it has no more is not the newest of anything
		for _, l := range s.deps.Site().Lines {
			entities = append(entities, match(s.deps.Site(), l.ID, p.ID == "coverage")...)
		}
	}
	if len(p.Windows) > 0 {
		prefixes = nil
	}
	for _, window := range p.Windows {
		if q.window == "" || q.window == window {
			prefixes = append(prefixes, window+"/")
		}
	}
	for _, prefix := range prefixes {
		rows, err := n.Latest(ctx, mesh.RowQuery{Product: p.ID, Entities: entities, Prefix: prefix})
		if err != nil {
			return fmt.Errorf("read the newest rows of %s: %w", p.ID, err)
		}
		for _, row := range rows {
			f, err := enc.Fields(row)
			if err != nil {
				return err
			}
			out[subjectOf(f)] = f
		}
	}
	return nil
}

// subjectOf is what a row is the newest of.
func subjectOf(f port.Fields) string {
	var out []byte
	for _, c := range []string{"equipment", "source", "window", "signal"} {
		out = append(append(out, f[c]...), 0)
	}
	return string(out)
}
