package torture

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"

	"plantmesh/firmware-sim/ledger"
	"plantmesh/firmware-sim/plant"
)

const (
	readyWithin  = 60 * time.Second
	settleWithin = 60 * time.Second
)

// patience is how long many samples may take on a machine that does more.
func (x *trial) patience() time.Duration {
	if x.full {
		return time.Hour
	}
	return 90 * time.Second
}

// get reads one answer of the hub; the caller closes it.
func (r *rig) get(path string, query url.Values) (io.ReadCloser, error) {
	u := url.URL{Scheme: "http", Host: r.http, Path: path, RawQuery: query.Encode()}
	c := http.Client{Timeout: max(time.Minute, r.patience())}
	resp, err := c.Get(u.String())
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		said, _ := io.ReadAll(io.LimitReader(resp.Body, 1<<10))
		resp.Body.Close()
		return nil, fmt.Errorf("%s: %s: %s", u.String(), resp.Status, said)
	}
	return resp.Body, nil
}

// ready waits until the hub is.
func (r *rig) ready() {
	r.Helper()
	r.await("the hub is ready", readyWithin, func() bool {
		if !r.hub.up() {
			r.Fatalf("the hub ended:\n%s", r.hub.tail(20))
		}
		b, err := r.get("/readyz", nil)
		if err == nil {
			b.Close()
		}
		return err == nil
	})
}

// lines calls f with each row of a product.
func (r *rig) lines(product string, query url.Values, f func([]byte) error) error {
	query.Set("format", "ndjson")
	body, err := r.get("/api/v1/products/"+product+"/rows", query)
	if err != nil {
		return err
	}
	defer body.Close()
	s := bufio.NewScanner(body)
	s.Buffer(nil, 4<<20)
	for s.Scan() {
		if err := f(s.Bytes()); err != nil {
			return err
		}
	}
	return s.Err()
}

// rows are those of product signals of a machine, in the product's order.
func (r *rig) rows(equipment string) (out []kept, err error) {
	names := map[string]string{} // one copy of each signal's
	err = r.lines("signals", url.Values{"equipment": {equipment}, "fields": {"signal,time,value"}}, func(b []byte) error {
		var row struct {
			Signal string
			Time   time.Time
			Value  json.RawMessage
		}
		if err := json.Unmarshal(b, &row); err != nil {
			return fmt.Errorf("row %s: %w", b, err)
		}
		value := string(row.Value)
		if q, err := strconv.Unquote(value); err == nil {
			value = q
		}
		name, ok := names[row.Signal]
		if !ok {
			name, names[row.Signal] = row.Signal, row.Signal
		}
		out = append(out, kept{name, row.Time.UnixNano(), value})
		return nil
	})
	return out, err
}

// compared holds the products against the ledger, source by source: an hour of
// samples and what became of them take gigabytes.
func (r *rig) compared(book *ledger.Book, mayLose []string, say func(string)) (n numbers, err error) {
	gaps, err := r.gaps()
	if err != nil {
		return n, err
	}
	for _, s := range r.o.sources {
		rows, err := r.rows(s.equipment())
		if err != nil {
			return n, err
		}
		n = n.plus(compare(&ledger.Book{
			Emitted:  map[string][]plant.Emission{s.id: book.Emitted[s.id]},
			Received: map[string][]ledger.Range{s.id: book.Received[s.id]},
		}, rows, gaps, mayLose, say))
	}
	return n, nil
}

// gaps are the rows of product coverage.
func (r *rig) gaps() (out []gap, err error) {
	err = r.lines("coverage", url.Values{}, func(b []byte) error {
		var row struct {
			Source, Cause string
			From          time.Time
			To            *time.Time
		}
		if err := json.Unmarshal(b, &row); err != nil {
			return fmt.Errorf("row %s: %w", b, err)
		}
		g := gap{source: row.Source, cause: row.Cause, from: row.From.UnixNano(), to: 1<<63 - 1}
		if row.To != nil {
			g.to = row.To.UnixNano()
		}
		out = append(out, g)
		return nil
	})
	return out, err
}

// known is the instant through which every source is known in product
// coverage; zero where one is not at all.
func (r *rig) known() time.Time {
	body, err := r.get("/api/v1/products/coverage/status", nil)
	if err != nil {
		return time.Time{}
	}
	defer body.Close()
	var s struct {
		Sources []struct {
			HeardThrough *time.Time `json:"heard_through"`
		}
	}
	if json.NewDecoder(body).Decode(&s) != nil || len(s.Sources) < len(r.o.sources) {
		return time.Time{}
	}
	var least time.Time
	for i, src := range s.Sources {
		if src.HeardThrough == nil {
			return time.Time{}
		}
		if i == 0 || src.HeardThrough.Before(least) {
			least = *src.HeardThrough
		}
	}
	return least
}

// flow waits until what every source says from now on is in the products, and
// gives how long that took.
func (r *rig) flow() time.Duration {
	r.Helper()
	began := time.Now()
	r.await("samples are in the products", settleWithin, func() bool { return r.known().After(began) })
	return time.Since(began)
}

// settle ends the emission, waits until nothing waits any more, and compares.
// Samples told received may be missing only in gaps of the causes in mayLose.
func (r *rig) settle(mayLose ...string) numbers {
	r.Helper()
	end := r.load.silence()
	r.await("every sample is acknowledged", r.patience(), func() bool { return r.load.waiting() == 0 })
	r.await(fmt.Sprintf("the products reach %s", end.Format(time.RFC3339Nano)), r.patience(), func() bool { return r.known().After(end) })
	book, err := ledger.Read(r.load.path)
	if err != nil {
		r.Fatal(err)
	}
	var n numbers
	var said []string
	r.eventually(r.patience(), func() bool {
		said = nil
		var err error
		if n, err = r.compared(book, mayLose, func(s string) { said = append(said, s) }); err != nil {
			said = []string{err.Error()}
			return false
		}
		// What is missing may be on its way still; what is wrong stays wrong.
		return n.lost+n.unmarked == 0 || n.duplicated+n.phantom+n.reordered > 0
	})
	for _, s := range said {
		r.Error(s)
	}
	if n.empty > 0 && !r.o.unreadable {
		r.Errorf("%d rows have no value, and every payload could be read", n.empty)
	}
	if n.told == 0 || n.rows == 0 {
		r.Errorf("nothing was tested: %d samples emitted, %d told received, %d rows", n.emitted, n.told, n.rows)
	}
	if c := r.copies(); c != r.o.twice {
		n.duplicated += max(c, r.o.twice) - r.o.twice
		r.Errorf("%d samples stand twice in the hub's log, %d were said twice", c, r.o.twice)
	}
	gaps, err := r.gaps()
	if err != nil {
		r.Fatal(err)
	}
	for _, g := range gaps {
		if g.to < 1<<63-1 {
			r.gap += time.Duration(g.to - g.from)
		}
		if !slices.Contains(append(mayLose, r.o.gaps...), g.cause) {
			r.Errorf("%s is unknown for %s (%s), and its device keeps what nobody acknowledged", g.source, time.Duration(g.to-g.from), g.cause)
		}
	}
	r.sum = r.sum.plus(n)
	return n
}

// allRows are those of all machines.
func (r *rig) allRows() (out []kept, err error) {
	for _, s := range r.o.sources {
		rows, err := r.rows(s.equipment())
		if err != nil {
			return nil, err
		}
		out = append(out, rows...)
	}
	return out, nil
}

// mustMiss is for a fault that destroys what was received: some of it is missing,
// else nothing was tested, and all that is lies where may says it can. It gives
// how many are.
func (r *rig) mustMiss(may func(plant.Emission) bool) int {
	r.Helper()
	book, err := ledger.Read(r.load.path)
	if err != nil {
		r.Fatal(err)
	}
	rows, err := r.allRows()
	if err != nil {
		r.Fatal(err)
	}
	beyond := 0
	gone := absent(book, rows)
	for _, e := range gone {
		if may(e) {
			continue
		}
		if beyond++; beyond <= 3 {
			r.Errorf("%s at %s was received and is missing, and the fault can't have cost it", e.Signal, instant(e.Time.UnixNano()))
		}
	}
	if len(gone) == 0 {
		r.Error("nothing that was received is missing: nothing was tested")
	}
	r.note("%d received are lost and named", len(gone))
	return len(gone)
}
