package porthttp

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"plantmesh/proto/mesh"
)

// endless has n rows of one product, made when asked for, and counts them.
type endless struct {
	n, given int
	broken   int // after so many it fails; 0: never
}

func (e *endless) Rows(_ context.Context, q mesh.RowQuery) (out []mesh.Row, next string, err error) {
	from := 0
	if q.After != "" {
		if from, err = strconv.Atoi(q.After); err != nil {
			return nil, "", errFakeCursor
		}
	}
	if e.broken > 0 && from >= e.broken {
		return nil, "", errors.New("the disk gives nothing more")
	}
	for i := from; i < e.n; i++ {
		if len(out) == q.Limit {
			return out, strconv.Itoa(i), nil
		}
		e.given++
		out = append(out, mesh.Row{Entity: "line1-filler", Key: strconv.Itoa(i), From: 1, Revision: 1, Body: []byte(`{"equipment":"line1-filler","value":1}`)})
	}
	return out, "", nil
}

func serveEndless(t *testing.T, e *endless) http.Handler {
	t.Helper()
	deps := newFake(noon()).deps()
	deps.Catalogue = append(deps.Catalogue, Product{ID: "signals", Title: "Signals", Version: "1.0.0", Columns: []string{"equipment", "value", "unit"}})
	deps.Readers = map[string]Rows{"signals": e}
	return New(Config{}, deps, slog.New(slog.DiscardHandler))
}

func TestRows_HeadReadsNextToNothing(t *testing.T) {
	e := &endless{n: 600_000}
	h := serveEndless(t, e)
	for _, format := range []string{"csv", "ndjson"} {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodHead, "/api/v1/products/signals/rows?limit=600000&format="+format, http.NoBody)
		r.Host = "localhost"
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code != http.StatusOK || w.Body.Len() > 0 || e.given > 2 || !strings.Contains(w.Header().Get("Content-Type"), format) {
			t.Errorf("%s: %d, %d rows read, headers %v", format, w.Code, e.given, w.Header())
		}
		e.given = 0
	}
}

func TestRows_WithoutLimitIsAllOrBrokenOff(t *testing.T) {
	e := &endless{n: 20*page + 1}
	srv := httptest.NewServer(serveEndless(t, e))
	defer srv.Close()
	count := func(query string) (lines int, trailer string, err error) {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, srv.URL+"/api/v1/products/signals/rows?format=csv"+query, http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return 0, "", err
		}
		defer resp.Body.Close()
		buf := make([]byte, 1<<20)
		for err == nil {
			var n int
			n, err = resp.Body.Read(buf)
			lines += strings.Count(string(buf[:n]), "\n")
		}
		if errors.Is(err, io.EOF) {
			err = nil
		}
		return lines, resp.Trailer.Get("Next-Cursor"), err
	}
	if n, trailer, err := count("&fields=value"); err != nil || n != e.n+1 || trailer != "" {
		t.Errorf("%d lines, want %d; trailer %q: %v", n, e.n+1, trailer, err)
	}
	n, trailer, err := count("&limit=3000")
	if err != nil || n != 3001 || trailer == "" {
		t.Errorf("with a limit: %d lines, trailer %q: %v", n, trailer, err)
	}
	if n, _, err := count("&limit=1&cursor=" + trailer); err != nil || n != 2 {
		t.Errorf("behind the trailer's cursor: %d lines: %v", n, err)
	}
	// Nor does the number of rows end it.
	s, p := &server{deps: newFake(noon()).deps()}, Product{ID: "signals"}
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/rows?format=ndjson", http.NoBody)
	if q, err := s.parseQuery(r, p, []string{"format"}); err != nil || q.Limit <= maxStream {
		t.Errorf("without a limit %d rows are read at most: %v", q.Limit, err)
	}
	e.broken = 15 * page
	if n, _, err := count("&fields=value"); err == nil {
		t.Errorf("a part of %d lines looks whole", n)
	}
}

func TestRows_WhatWasAskedForIsChecked(t *testing.T) {
	h := serveEndless(t, &endless{})
	for target, want := range map[string]string{
		"signals/rows?fields=foo":                                  `no column \"foo\"`,
		"signals/rows?fields=foo&format=csv":                       `no column \"foo\"`,
		"signals/rows?fields=value,value":                          `names \"value\" twice`,
		"signals/rows?cursor=e30":                                  "not one this product gave",
		"signals/rows?cursor=bnVsbA":                               "not one this product gave",
		"signals/rows?cursor=.":                                    "not one this product gave",
		"oee/rows?cursor=" + sealCursor("equipment-state", "1"):    "not one this product gave",
		"signals/rows?from=2026-03-03T11:20:00+01:00":              `"nearest":"2026-03-03T11:20:00%2B01:00"`,
		"signals/rows?from=2026-03-03T11:20:00Z&to=now%20+%201:00": "must be an instant",
	} {
		if w := get(t, h, "/api/v1/products/"+target); w.Code != http.StatusBadRequest || !strings.Contains(w.Body.String(), want) {
			t.Errorf("%s: %d %s", target, w.Code, w.Body)
		}
	}
	for target, want := range map[string]string{
		"signals/rows?format=csv":                                              "equipment,value,unit,from,from_local,to_local,is_final,revision,produced_at,contract_version\n",
		"signals/rows?format=csv&fields=value":                                 "value\n",
		"signals/rows?fields=value":                                            `{"data":[],`,
		"oee/rows?window=day&limit=1&cursor=" + sealCursor("oee", "1"):         `"next":"` + sealCursor("oee", "2"),
		"signals/rows?from=2026-03-03T11:20:00%2B01:00&format=csv&fields=unit": "unit\n",
	} {
		if w := get(t, h, "/api/v1/products/"+target); w.Code != http.StatusOK || !strings.Contains(w.Body.String(), want) {
			t.Errorf("%s: %d %s", target, w.Code, w.Body)
		}
	}
}

// A reader that asks for a page and takes nothing of it is let go.
func TestRows_AReaderThatStopsIsLetGo(t *testing.T) {
	e := &endless{n: maxLimit}
	deps := newFake(noon()).deps()
	wide := fmt.Sprintf(`{"equipment":"line1-filler","value":%q}`, strings.Repeat("x", 1000)) // 10 MB a page: more than sockets hold
	deps.Catalogue = append(deps.Catalogue, Product{ID: "signals", Version: "1.0.0"})
	deps.Readers = map[string]Rows{"signals": rowsFunc(func(ctx context.Context, q mesh.RowQuery) ([]mesh.Row, string, error) {
		rows, next, err := e.Rows(ctx, q)
		for i := range rows {
			rows[i].Body = []byte(wide)
		}
		return rows, next, err
	})}
	ended := make(chan struct{})
	h := New(Config{Timeout: 500 * time.Millisecond}, deps, slog.New(slog.DiscardHandler))
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h.ServeHTTP(w, r)
		close(ended)
	}))
	defer srv.Close()
	c, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", srv.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := io.WriteString(c, "GET /api/v1/products/signals/rows?limit=10000 HTTP/1.1\r\nHost: localhost\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	select {
	case <-ended:
	case <-time.After(20 * time.Second):
		t.Error("the answer still waits for its reader")
	}
}

type rowsFunc func(context.Context, mesh.RowQuery) ([]mesh.Row, string, error)

func (f rowsFunc) Rows(ctx context.Context, q mesh.RowQuery) ([]mesh.Row, string, error) {
	return f(ctx, q)
}
