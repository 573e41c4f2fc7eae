package porthttp

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"

	"plantmesh/cloud/port"
)

// lines is a table whose file is a line for each row, and an end.
type lines struct {
	w     io.Writer
	rows  int
	fails int // at this row
}

func (l *lines) Add(f port.Fields) error {
	if l.rows++; l.rows == l.fails {
		return errors.New("no such row")
	}
	_, err := fmt.Fprintf(l.w, "%s\n", f["equipment"])
	return err
}

func (l *lines) Close() error {
	_, err := io.WriteString(l.w, "end\n")
	return err
}

func withParquet(t *testing.T, fails int) *httptest.Server {
	t.Helper()
	f := newFake(noon())
	deps := f.deps()
	for i := range deps.Catalogue {
		deps.Catalogue[i].Types = []port.Column{{Name: "equipment", Type: "string"}}
	}
	deps.Parquet = func(w io.Writer, _ Product, columns []port.Column) (port.Table, error) {
		if len(columns) != 1 {
			t.Errorf("columns %v", columns)
		}
		return &lines{w: w, fails: fails}, nil
	}
	s := httptest.NewServer(New(Config{}, deps, slog.New(slog.DiscardHandler)))
	t.Cleanup(s.Close)
	return s
}

func TestRows_ParquetIsOneFileWithItsCount(t *testing.T) {
	s := withParquet(t, 0)
	resp, err := http.Get(s.URL + "/api/v1/products/equipment-state/rows?format=parquet")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	rows := strings.Count(string(b), "\n") - 1
	if err != nil || rows < 1 || !strings.HasSuffix(string(b), "end\n") || resp.Header.Get("Content-Type") != parquetType {
		t.Errorf("%d %v, %v: %s", resp.StatusCode, resp.Header, err, b)
	}
	if got := resp.Trailer.Get("Row-Count"); got != strconv.Itoa(rows) {
		t.Errorf("the trailer counts %q rows of %d", got, rows)
	}
}

func TestRows_ParquetThatFailsIsBrokenOff(t *testing.T) {
	s := withParquet(t, 2)
	resp, err := http.Get(s.URL + "/api/v1/products/equipment-state/rows?format=parquet")
	if err == nil {
		defer resp.Body.Close()
		_, err = io.ReadAll(resp.Body)
	}
	if err == nil {
		t.Error("a part of a file was ended as if it were whole")
	}
	s = withParquet(t, 1)
	resp, err = http.Get(s.URL + "/api/v1/products/equipment-state/rows?format=parquet")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusInternalServerError {
		t.Errorf("status %d before anything was sent", resp.StatusCode)
	}
}
