package porthttp

import (
	"context"
	"io"
	"net/http"
	"slices"
	"strconv"

	"plantmesh/cloud/port"
)

// parquetType is the media type of Parquet files (IANA, 2024).
const parquetType = "application/vnd.apache.parquet"

// rowCount is the trailer that says how many rows a file holds: whoever stores
// it without reading it can tell.
const rowCount = "Row-Count"

// steadily sends what is written, as long as the reader takes it.
type steadily struct {
	w    http.ResponseWriter
	s    *server
	sent int
}

func (o *steadily) Write(b []byte) (int, error) {
	if err := o.s.within(http.NewResponseController(o.w)); err != nil {
		return 0, err
	}
	n, err := o.w.Write(b)
	o.sent += n
	return n, err
}

// parquet answers with all rows as one Parquet file. Its end is written last:
// an answer that was broken off is no file.
func (s *server) parquet(w http.ResponseWriter, r *http.Request, p Product, q query, enc *port.Encoder) error {
	if s.deps.Parquet == nil || len(p.Types) == 0 {
		return &problem{Status: http.StatusNotAcceptable, Slug: "format", Param: "format", Nearest: "csv", Detail: "product " + p.ID + " is not given as Parquet here: take csv or ndjson"}
	}
	columns := port.Typed(p.Types, q.columns)
	if len(q.fields) > 0 {
		columns = slices.DeleteFunc(slices.Clone(columns), func(c port.Column) bool { return !slices.Contains(q.fields, c.Name) })
	}
	ctx, cancel := context.WithTimeout(r.Context(), s.cfg.Stream)
	defer cancel()
	out := &steadily{w: w, s: s}
	to := io.Writer(out)
	if r.Method == http.MethodHead {
		q.Limit, to = 1, io.Discard
	}
	table, err := s.deps.Parquet(to, p, columns)
	if err != nil {
		return err
	}
	h := w.Header()
	h.Set("Content-Type", parquetType)
	h.Set("Content-Disposition", `attachment; filename="`+q.Product+`.parquet"`)
	h.Set("Trailer", rowCount)
	rows := 0
	next, err := s.walk(ctx, q, enc, func(f port.Fields) error {
		rows++
		return table.Add(f)
	})
	if err == nil {
		err = table.Close()
	}
	switch {
	case err != nil && out.sent == 0:
		for _, name := range []string{"Content-Disposition", "Trailer"} {
			h.Del(name)
		}
		return err
	case err != nil:
		s.log.WarnContext(r.Context(), "break off an answer", "path", r.URL.Path, "rows", rows, "err", err)
		panic(http.ErrAbortHandler)
	}
	h.Set(rowCount, strconv.Itoa(rows))
	if next != "" {
		h.Set(http.TrailerPrefix+"Next-Cursor", next)
	}
	return nil
}
