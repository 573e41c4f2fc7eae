package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"plantmesh/proto/answer"
)

var (
	errUnreachable = errors.New("the hub does not answer")
	errRefused     = errors.New("the hub refuses the question")
)

const (
	// maxDays bounds one export: ten years are more likely a slip of the pen.
	maxDays = 3653
	// headWithin is how long a hub may take to begin its answer; each part of
	// the answer may take it anew.
	headWithin = time.Minute
	// maxProblem bounds what is read of a refusal.
	maxProblem = 64 << 10
)

type exportCmd struct {
	Product   string   `arg:"" help:"The product's id, such as signals or oee."`
	From      string   `required:"" placeholder:"DATE" help:"The first day (UTC), as 2026-03-01."`
	To        string   `placeholder:"DATE" help:"The day behind the last one; default: the day after --from."`
	Equipment []string `placeholder:"ID" help:"Only these machines or lines."`
	Out       string   `required:"" type:"path" help:"The folder: files go to product=ID/date=DAY/part-0.parquet below it, each replaced as a whole."`
	Hub       string   `default:"http://127.0.0.1:8080" help:"The hub's address."`
}

// exported is what --json says of one file.
type exported struct {
	File  string `json:"file"`
	Rows  int64  `json:"rows"`
	Bytes int64  `json:"bytes"`
}

func (c *exportCmd) Run(ctx context.Context, p *answer.Printer) error {
	from, err := time.Parse(time.DateOnly, c.From)
	if err != nil {
		return fmt.Errorf("%w: --from %q is no date such as 2026-03-01", errRefused, c.From)
	}
	to := from.AddDate(0, 0, 1)
	if c.To != "" {
		if to, err = time.Parse(time.DateOnly, c.To); err != nil {
			return fmt.Errorf("%w: --to %q is no date such as 2026-03-02", errRefused, c.To)
		}
	}
	if !from.Before(to) || to.Sub(from) > maxDays*24*time.Hour {
		return fmt.Errorf("%w: --to %s must lie behind --from %s, at most %d days", errRefused, c.To, c.From, maxDays)
	}
	files := []exported{}
	var text strings.Builder
	for day := from; day.Before(to); day = day.AddDate(0, 0, 1) {
		f, err := c.day(ctx, day)
		if err != nil {
			return err
		}
		if f.Rows > 0 {
			files = append(files, f)
			fmt.Fprintf(&text, "%s\t%d rows\t%d bytes\n", f.File, f.Rows, f.Bytes)
		}
	}
	if len(files) == 0 {
		fmt.Fprintf(&text, "product %s has no rows from %s to %s\n", c.Product, from.Format(time.DateOnly), to.Format(time.DateOnly))
	}
	return p.Print(answer.Result{Data: map[string]any{"files": files}, Text: text.String()})
}

// day fetches one day. The file is there whole or not at all.
func (c *exportCmd) day(ctx context.Context, day time.Time) (f exported, err error) {
	body, trailer, err := c.ask(ctx, day)
	if err != nil {
		return f, err
	}
	defer func() { err = errors.Join(err, body.Close()) }()
	f.File = filepath.Join(c.Out, "product="+c.Product, "date="+day.Format(time.DateOnly), "part-0.parquet")
	if err := os.MkdirAll(filepath.Dir(f.File), 0o750); err != nil {
		return f, fmt.Errorf("make the folder of an export: %w", err)
	}
	making, err := os.CreateTemp(filepath.Dir(f.File), ".making-*")
	if err != nil {
		return f, fmt.Errorf("make a file of an export: %w", err)
	}
	defer func() {
		if err != nil || f.Rows == 0 {
			err = errors.Join(err, os.Remove(making.Name()))
		}
	}()
	f.Bytes, err = io.Copy(making, body)
	if err == nil {
		err = making.Sync()
	}
	if err = errors.Join(err, making.Close()); err != nil {
		return f, fmt.Errorf("%s was broken off: %w", f.File, err)
	}
	// The count comes behind the last byte: without it the file is a part.
	if f.Rows, err = strconv.ParseInt(trailer.Get("Row-Count"), 10, 64); err != nil {
		return f, fmt.Errorf("%w: the answer for %s ended early", errUnreachable, day.Format(time.DateOnly))
	}
	if f.Rows == 0 {
		return f, nil
	}
	if err = os.Rename(making.Name(), f.File); err != nil {
		return f, fmt.Errorf("put a file of an export in place: %w", err)
	}
	return f, nil
}

// ask asks the hub for the rows of one day.
func (c *exportCmd) ask(ctx context.Context, day time.Time) (io.ReadCloser, http.Header, error) {
	u, err := url.Parse(c.Hub)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" {
		return nil, nil, fmt.Errorf("%w: --hub %q is no address such as http://127.0.0.1:8080", errRefused, c.Hub)
	}
	u = u.JoinPath("api", "v1", "products", c.Product, "rows")
	v := url.Values{"format": {"parquet"}, "from": {day.Format(time.RFC3339)}, "to": {day.AddDate(0, 0, 1).Format(time.RFC3339)}}
	if len(c.Equipment) > 0 {
		v["equipment"] = []string{strings.Join(c.Equipment, ",")}
	}
	u.RawQuery = v.Encode()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, nil, fmt.Errorf("ask the hub: %w", err)
	}
	client := &http.Client{Transport: &http.Transport{ResponseHeaderTimeout: headWithin}}
	resp, err := client.Do(r)
	if err != nil {
		return nil, nil, fmt.Errorf("%w at %s; is it running (plantmesh serve), and is --hub right? %w", errUnreachable, c.Hub, err)
	}
	if resp.StatusCode == http.StatusOK {
		return resp.Body, resp.Trailer, nil
	}
	defer func() { _ = resp.Body.Close() }()
	var problem struct{ Detail, Nearest string }
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxProblem)).Decode(&problem); err != nil {
		return nil, nil, fmt.Errorf("%w: status %d from %s", errUnreachable, resp.StatusCode, c.Hub)
	}
	if problem.Nearest != "" {
		problem.Detail += "; did you mean " + problem.Nearest + "?"
	}
	if resp.StatusCode >= http.StatusInternalServerError {
		return nil, nil, fmt.Errorf("%w: %s", errUnreachable, problem.Detail)
	}
	return nil, nil, fmt.Errorf("%w: %s", errRefused, problem.Detail)
}
