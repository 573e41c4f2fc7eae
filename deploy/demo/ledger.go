package demo

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"
)

// sampleKey names one sample: a signal has one value at one event time.
type sampleKey struct {
	signal string
	at     ms
}

// emitted is what the ledger knows of one sample.
type emitted struct {
	source   string
	value    string
	status   uint32
	received bool // the device was told so
	seen     int  // rows of it in the product
}

// compareSamples holds the product signals against the plant's ledger.
func (d *demo) compareSamples(ctx context.Context, gaps map[string][]stretch, t *tally) error {
	ledger, err := readLedger(d.ledger())
	if err != nil {
		return err
	}
	t.products++
	var mu sync.Mutex // protects ledger and t
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(2) // one answer is written while another is read
	for _, s := range sources() {
		for _, m := range s.machines {
			g.Go(func() error {
				return d.lines(gctx, "signals", url.Values{"equipment": {s.line + "-" + m}, "fields": {"signal,time,value,status"}}, func(line []byte) error {
					var r sample
					if err := json.Unmarshal(line, &r); err != nil {
						return err
					}
					mu.Lock()
					defer mu.Unlock()
					t.rows++
					d.meet(r, ledger, t)
					return nil
				})
			})
		}
	}
	if err := g.Wait(); err != nil {
		return err
	}
	for key, e := range ledger {
		switch {
		case e.seen > 1:
			t.duplicated += e.seen - 1
			d.report(t.duplicated, "signals %s at %d: %d times", key.signal, key.at, e.seen)
		case e.seen == 1:
		case e.received:
			t.lost++
			d.report(t.lost, "signals %s at %d: the device was told it is received, and it is not there", key.signal, key.at)
		case !within(gaps[e.source], key.at):
			t.unmarked++
			d.report(t.unmarked, "signals %s at %d: it is not there, and no gap says so", key.signal, key.at)
		}
	}
	return nil
}

// sample is what a row of signals says of one: there are hundreds of thousands.
type sample struct {
	Signal string `json:"signal"`
	Time   string `json:"time"`
	Value  any    `json:"value"`
	Status uint32 `json:"status"`
}

// meet looks a row of signals up in the ledger.
func (d *demo) meet(r sample, ledger map[sampleKey]*emitted, t *tally) {
	key := sampleKey{r.Signal, parse(r.Time)}
	e := ledger[key]
	value := ""
	switch v := r.Value.(type) {
	case float64:
		value = strconv.FormatFloat(v, 'g', -1, 64)
	case bool:
		value = strconv.FormatBool(v)
	case string:
		value = v
	}
	if e == nil || e.value != value || e.status != r.Status {
		t.mismatched++
		d.report(t.mismatched, "signals %s at %s is %q: the plant never emitted that", key.signal, r.Time, value)
		return
	}
	e.seen++
}

func within(gaps []stretch, at ms) bool {
	for _, g := range gaps {
		if g.from <= at && at < g.to {
			return true
		}
	}
	return false
}

// readLedger reads what the plant emitted and what it was told is received.
// Exact duplicates are one sample.
//
//	E,source,index,signal,time_ms,emitted_ms,status,type,value
//	R,source,first,last
func readLedger(path string) (map[sampleKey]*emitted, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read the ledger: %w", err)
	}
	defer f.Close() //nolint:errcheck // it is only read
	out := map[sampleKey]*emitted{}
	bySource := map[string][]*emitted{}
	s := bufio.NewScanner(f)
	s.Buffer(nil, 1<<20)
	for line := 1; s.Scan(); line++ {
		if err := ledgerLine(s.Text(), out, bySource); err != nil {
			return nil, fmt.Errorf("read the ledger, line %d: %w", line, err)
		}
	}
	if err := s.Err(); err != nil {
		return nil, fmt.Errorf("read the ledger: %w", err)
	}
	return out, nil
}

func ledgerLine(line string, out map[sampleKey]*emitted, bySource map[string][]*emitted) error {
	f := strings.SplitN(line, ",", 9)
	number := func(i int) (n int64) {
		if i < len(f) {
			n, _ = strconv.ParseInt(f[i], 10, 64) // 0 is no index and no time
		}
		return n
	}
	switch {
	case f[0] == "E" && len(f) == 9:
		key := sampleKey{f[3], number(4)}
		e := out[key]
		if e == nil {
			value := f[8]
			if q, err := strconv.Unquote(value); err == nil {
				value = q
			} else if x, err := strconv.ParseFloat(value, 64); err == nil {
				value = strconv.FormatFloat(x, 'g', -1, 64)
			}
			status, _ := strconv.ParseUint(f[6], 0, 32) // good where it can't be read; the value then differs
			e = &emitted{source: f[1], value: value, status: uint32(status)}
			out[key] = e
		}
		if n := len(bySource[f[1]]); int64(n)+1 != number(2) {
			return fmt.Errorf("source %s jumps from index %d to %s", f[1], n, f[2])
		}
		bySource[f[1]] = append(bySource[f[1]], e)
	case f[0] == "R" && len(f) == 4:
		all := bySource[f[1]]
		for i := number(2); i <= number(3); i++ {
			if i < 1 || i > int64(len(all)) {
				return fmt.Errorf("source %s received index %d, which was never emitted", f[1], i)
			}
			all[i-1].received = true
		}
	default:
		return fmt.Errorf("%q is no line of a ledger", line)
	}
	return nil
}
