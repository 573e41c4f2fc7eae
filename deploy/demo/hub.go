package demo

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"
)

// hubWithin is how long the hub may take to be ready after it was started.
const hubWithin = 60 * time.Second

// get reads one answer of the hub; the caller closes it.
func (d *demo) get(ctx context.Context, path string, query url.Values) (io.ReadCloser, error) {
	u := url.URL{Scheme: "http", Host: d.listen, Path: path, RawQuery: query.Encode()}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, fmt.Errorf("ask the hub: %w", err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, fmt.Errorf("ask the hub: %w", err)
	}
	if resp.StatusCode != http.StatusOK {
		said, _ := io.ReadAll(io.LimitReader(resp.Body, 1<<10)) // whatever it could say
		return nil, errors.Join(fmt.Errorf("%s answers %s: %s", u.String(), resp.Status, said), resp.Body.Close())
	}
	return resp.Body, nil
}

// waitHub waits until the hub says it is ready.
func (d *demo) waitHub(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, hubWithin)
	defer cancel()
	for {
		body, err := d.get(ctx, "/readyz", nil)
		if err == nil {
			return body.Close()
		}
		select {
		case <-d.hub.ended():
			return errors.New(d.hub.why())
		case <-ctx.Done():
			return fmt.Errorf("the hub was not ready within %s: %w", hubWithin, err)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// row is a row of a product as the port gives it.
type row map[string]any

func (r row) text(column string) string {
	s, _ := r[column].(string)
	return s
}

func (r row) number(column string) float64 {
	f, _ := r[column].(float64)
	return f
}

// rows calls f with every row of a product.
func (d *demo) rows(ctx context.Context, product string, query url.Values, f func(row)) error {
	return d.lines(ctx, product, query, func(line []byte) error {
		var r row
		if err := json.Unmarshal(line, &r); err != nil {
			return err
		}
		f(r)
		return nil
	})
}

// lines calls f with every row of a product as it stands.
func (d *demo) lines(ctx context.Context, product string, query url.Values, f func([]byte) error) error {
	if query == nil {
		query = url.Values{}
	}
	query.Set("format", "ndjson")
	body, err := d.get(ctx, "/api/v1/products/"+product+"/rows", query)
	if err != nil {
		return err
	}
	defer body.Close() //nolint:errcheck // it was read to its end
	s := bufio.NewScanner(body)
	s.Buffer(nil, 4<<20)
	for s.Scan() && err == nil {
		err = f(s.Bytes())
	}
	if err := errors.Join(err, s.Err()); err != nil {
		return fmt.Errorf("read rows of %s: %w", product, err)
	}
	return nil
}

// progress is how far a product is known.
func (d *demo) progress(ctx context.Context, product string) (time.Time, error) {
	body, err := d.get(ctx, "/api/v1/products/"+product+"/status", nil)
	if err != nil {
		return time.Time{}, err
	}
	defer body.Close() //nolint:errcheck // it was read to its end
	var s struct {
		Progress *time.Time `json:"progress"`
	}
	if err := json.NewDecoder(body).Decode(&s); err != nil {
		return time.Time{}, fmt.Errorf("read the status of %s: %w", product, err)
	}
	if s.Progress == nil {
		return time.Time{}, nil
	}
	return *s.Progress, nil
}

// firstOEE prints the first OEE there is: the newest final shift of a machine.
func (d *demo) firstOEE(ctx context.Context, began time.Time) error {
	wait, cancel := context.WithTimeout(ctx, settleWithin)
	defer cancel()
	waiting := d.waiting()
	for {
		var best row
		err := d.rows(wait, "oee", url.Values{"window": {"shift"}, "equipment": {"line1-filler"}}, func(r row) {
			if final, _ := r["is_final"].(bool); final && r["oee_ratio"] != nil {
				best = r
			}
		})
		if err == nil && best != nil {
			_, err := fmt.Fprintf(d.out, "page  http://%s\nfirst OEE  %s, shift %s: %.1f %% = availability %.1f %% x effectiveness %.1f %% x quality %.1f %% (%.0f %% of the shift known), after %.0f s\n",
				d.listen, best.text("equipment"), best.text("shift_id"), 100*best.number("oee_ratio"), 100*best.number("availability_ratio"),
				100*best.number("effectiveness_ratio"), 100*best.number("quality_ratio"), 100*best.number("coverage_ratio"), time.Since(began).Seconds())
			return err
		}
		if err := d.alive(); err != nil {
			return err
		}
		waiting("a shift to be final")
		if pause(wait, 200*time.Millisecond) != nil {
			return errors.Join(ctx.Err(), fmt.Errorf("no shift was final within %s of the history", settleWithin), err)
		}
	}
}
