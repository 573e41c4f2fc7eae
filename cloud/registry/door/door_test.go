package door

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"plantmesh/proto/enroll"
)

// asker answers the same to everybody.
type asker struct {
	answer enroll.Answer
	err    error
	asked  int
	from   string
}

func (a *asker) Ask(_ enroll.Signed, from string, _ time.Time) (enroll.Answer, error) {
	a.asked, a.from = a.asked+1, from
	return a.answer, a.err
}

var errMine = errors.New("you can't sign")

type hall struct {
	*Door

	asker *asker
	now   time.Time
	log   bytes.Buffer
}

func newHall(cfg Config) *hall {
	h := &hall{asker: &asker{answer: enroll.Answer{State: enroll.Pending, Retry: 3}}, now: time.Date(2026, 11, 29, 12, 0, 0, 0, time.UTC)}
	cfg.Mine = func(err error) bool { return errors.Is(err, errMine) }
	cfg.Call = func(host string) (string, string) { return "nats://" + host + ":4222", "wss://" + host }
	h.Door = New(cfg, h.asker, func() time.Time { return h.now }, slog.New(slog.NewTextHandler(&h.log, nil)))
	return h
}

// call is one request from an address.
func (h *hall) call(t *testing.T, from string, change func(*http.Request)) *httptest.ResponseRecorder {
	t.Helper()
	q, err := json.Marshal(enroll.Request{Version: enroll.Version, PublicKey: "U" + from, Agent: "gw-1"})
	if err != nil {
		t.Fatal(err)
	}
	body, err := json.Marshal(enroll.Signed{Request: q})
	if err != nil {
		t.Fatal(err)
	}
	r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "http://hub.example.com:8080"+enroll.Path, bytes.NewReader(body))
	r.RemoteAddr = from
	r.Header.Set("Content-Type", "application/json")
	if change != nil {
		change(r)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func TestDoor_AnswersGatewaysOnly(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*http.Request)
		status int
	}{
		"a gateway":           {nil, http.StatusOK},
		"a reader":            {func(r *http.Request) { r.Method = http.MethodGet }, http.StatusMethodNotAllowed},
		"a page elsewhere":    {func(r *http.Request) { r.Header.Set("Origin", "https://evil.example") }, http.StatusForbidden},
		"a page of this hub":  {func(r *http.Request) { r.Header.Set("Sec-Fetch-Site", "same-origin") }, http.StatusForbidden},
		"a form":              {func(r *http.Request) { r.Header.Set("Content-Type", "application/x-www-form-urlencoded") }, http.StatusUnsupportedMediaType},
		"no JSON":             {func(r *http.Request) { r.Body = io.NopCloser(strings.NewReader("pick me")) }, http.StatusBadRequest},
		"more than a request": {func(r *http.Request) { r.Body = io.NopCloser(io.LimitReader(endless{}, 1<<30)) }, http.StatusRequestEntityTooLarge},
	} {
		h := newHall(Config{})
		w := h.call(t, "192.0.2.1:5000", c.change)
		if w.Code != c.status {
			t.Errorf("%s is answered %d %s", name, w.Code, w.Body)
		}
		if asked := h.asker.asked == 1; asked != (c.status == http.StatusOK) || asked != (h.Denied() == 0) {
			t.Errorf("%s: the registry was asked %d times, %d are denied", name, h.asker.asked, h.Denied())
		}
		if w.Header().Get("Cache-Control") != "no-store" || w.Header().Get("Content-Security-Policy") == "" {
			t.Errorf("%s: headers %v", name, w.Header())
		}
	}
}

// endless has any number of spaces.
type endless struct{}

func (endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = ' '
	}
	return len(p), nil
}

func TestDoor_SaysWhereToSend(t *testing.T) {
	h := newHall(Config{})
	h.asker.answer = enroll.Answer{State: enroll.Approved, Token: "JWT"}
	var a enroll.Answer
	if err := json.Unmarshal(h.call(t, "[2001:db8::1]:5000", nil).Body.Bytes(), &a); err != nil || a.NATS != "nats://hub.example.com:4222" || a.WebSocket != "wss://hub.example.com" {
		t.Errorf("%+v, %v", a, err)
	}
	if h.asker.from != "2001:db8::1" {
		t.Errorf("from %s", h.asker.from)
	}
}

func TestDoor_TellsACallerOnlyWhatIsHisFault(t *testing.T) {
	h := newHall(Config{})
	for err, want := range map[error]int{errMine: http.StatusBadRequest, fmt.Errorf("%w: junk", enroll.ErrRequest): http.StatusBadRequest, errors.New("/data/registry is full"): http.StatusServiceUnavailable} {
		h.asker.err = err
		w := h.call(t, "192.0.2.1:5000", nil)
		if w.Code != want || strings.Contains(w.Body.String(), err.Error()) != (want == http.StatusBadRequest) {
			t.Errorf("%v: %d %s", err, w.Code, w.Body)
		}
	}
	if !strings.Contains(h.log.String(), "/data/registry is full") {
		t.Errorf("the hub's own trouble is not told: %s", &h.log)
	}
}

// Ten thousand guesses of one address take hours; others are let through meanwhile.
func TestDoor_BoundsCalls(t *testing.T) {
	h := newHall(Config{})
	passed := 0
	for i := range 10_000 {
		if h.call(t, fmt.Sprintf("192.0.2.1:%d", 1024+i), nil).Code == http.StatusOK {
			passed++
		}
		h.now = h.now.Add(10 * time.Millisecond)
	}
	if passed > 30+100+1 || passed < 100 { // the burst, and one a second
		t.Errorf("in 100 s one address is heard %d times", passed)
	}
	if w := h.call(t, "192.0.2.2:5000", nil); w.Code != http.StatusOK {
		t.Errorf("another address is answered %d %s", w.Code, w.Body)
	}
	if w := h.call(t, "192.0.2.1:5000", nil); w.Code == http.StatusTooManyRequests && w.Header().Get("Retry-After") == "" {
		t.Error("nothing is said of when to come again")
	}
	all := 0
	for i := range 6_000 { // each from a network of its own
		if h.call(t, fmt.Sprintf("[2001:db8:%x:%x::1]:5000", i>>8, i&255), nil).Code == http.StatusOK {
			all++
		}
	}
	if all > 100+1 {
		t.Errorf("all together are heard %d times at once", all)
	}
	if len(h.each) > mostAddresses {
		t.Errorf("%d addresses are told apart", len(h.each))
	}
	if n := strings.Count(h.log.String(), "asks to be let in"); n > 20+100+1 {
		t.Errorf("%d lines of log", n)
	}
}
