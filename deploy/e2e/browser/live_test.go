package browser

import (
	"bufio"
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

// mostLacking is what a row of a window that goes on may lack of what is told
// known: the five minutes of cloud/product/runner, and two seconds of growth.
const mostLacking = 5*time.Minute + 10*time.Second

// feedOEE is the part of an oee row that says how much of its window it speaks of.
type feedOEE struct {
	Equipment string    `json:"equipment"`
	Window    string    `json:"window"`
	From      time.Time `json:"from"`
	To        time.Time `json:"to"`
	Busy      float64   `json:"pbt_seconds"`
	Planned   float64   `json:"planned_stop_seconds"`
	Unknown   float64   `json:"unknown_seconds"`
}

func (r feedOEE) spoken() time.Duration {
	return time.Duration((r.Busy + r.Planned + r.Unknown) * float64(time.Second))
}

type feedState struct {
	ID         string `json:"id"`
	CatchingUp bool   `json:"catching_up"`
	Sources    []struct {
		Source string    `json:"source"`
		Heard  time.Time `json:"heard_through"`
		Silent bool      `json:"silent"`
	} `json:"sources"`
}

// checker follows the live feed as a page does, and compares what it is told to
// be known with the rows it has.
type checker struct {
	t       *testing.T
	rows    map[string]feedOEE // of the shift, by equipment and start
	checked int
}

func (c *checker) event(name, data string) {
	var d struct {
		Product  string      `json:"product"`
		Rows     []feedOEE   `json:"rows"`
		Products []feedState `json:"products"`
	}
	if name == "rows" && !strings.Contains(data, `"product":"oee"`) {
		return
	}
	if err := json.Unmarshal([]byte(data), &d); err != nil {
		c.t.Errorf("event %s: %v", name, err)
	}
	for _, r := range d.Rows {
		if r.Window == "shift" {
			c.rows[r.Equipment+r.From.String()] = r
		}
	}
	for _, p := range d.Products {
		if p.ID == "oee" && !p.CatchingUp {
			c.compare(p)
		}
	}
}

func (c *checker) compare(p feedState) {
	for _, s := range p.Sources {
		for _, r := range c.rows {
			if s.Silent || !strings.HasPrefix(s.Source, strings.Split(r.Equipment, "-")[0]) || s.Heard.Before(r.From) || s.Heard.After(r.To) {
				continue
			}
			c.checked++
			if lacks := s.Heard.Sub(r.From) - r.spoken(); lacks > mostLacking {
				c.t.Errorf("%s is told known through %s, the shift's row of %s lacks %s of that", s.Source, s.Heard, r.Equipment, lacks)
			}
		}
	}
}

// follow reads the feed until stop is called and a row was compared, at most half a minute
// longer; stop tells how often one was.
func follow(t *testing.T, address string) (stop func() (checked int)) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	c := &checker{t: t, rows: map[string]feedOEE{}}
	done, compared := make(chan struct{}), make(chan struct{})
	compare := sync.OnceFunc(func() { close(compared) })
	go func() {
		defer close(done)
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+"/api/v1/live", http.NoBody)
		if err != nil {
			t.Error(err)
			return
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Error(err)
			return
		}
		defer func() { _ = resp.Body.Close() }() // read only
		lines, name := bufio.NewScanner(resp.Body), ""
		lines.Buffer(nil, 16<<20)
		for lines.Scan() {
			if rest, ok := strings.CutPrefix(lines.Text(), "event: "); ok {
				name = rest
			} else if rest, ok := strings.CutPrefix(lines.Text(), "data: "); ok {
				c.event(name, rest)
				if c.checked > 0 {
					compare()
				}
			}
		}
	}()
	return func() int {
		select { // the page may have heard sooner
		case <-compared:
		case <-done:
		case <-time.After(30 * time.Second):
		}
		cancel()
		<-done
		return c.checked
	}
}
