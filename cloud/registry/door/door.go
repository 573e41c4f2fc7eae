// Package door is where gateways knock that nobody knows yet. Strangers may call it,
// so everything about a call is bounded: its size, how often one address may call and
// how often all of them together, and what is kept of it.
package door

import (
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"plantmesh/proto/enroll"
)

// Asker answers requests. It is called by one goroutine at a time. Errors that wrap one
// of its Wrong are the caller's, whose words it is told; others are not told.
type Asker interface {
	Ask(signed enroll.Signed, from string, now time.Time) (enroll.Answer, error)
}

// Config is how often strangers may call. A zero field means its default.
type Config struct {
	Each  rate.Limit // calls of one address a second; default 1: one that waits asks each 3 s
	Burst int        // calls of one address at once; default 30
	All   rate.Limit // calls of all a second; default 50
	// Call is where gateways are to send, of the address they called; webSocket may be
	// empty.
	Call func(host string) (nats, webSocket string)
	// Mine says whether an error of the Asker is the caller's fault.
	Mine func(error) bool
}

// mostAddresses bounds those that are told apart.
const mostAddresses = 4096

// Door is the handler at enroll.Path. Safe for concurrent use.
type Door struct {
	cfg   Config
	asker Asker
	now   func() time.Time
	log   *slog.Logger

	mu     sync.Mutex // protects what follows, and the asker
	all    *rate.Limiter
	lines  *rate.Limiter // of the log: a flood leaves some, not one each
	each   map[netip.Prefix]*rate.Limiter
	swept  time.Time               // those of each that are at rest
	told   map[string]enroll.State // keys whose state was logged
	denied uint64
}

// New makes a door.
func New(cfg Config, asker Asker, now func() time.Time, log *slog.Logger) *Door {
	if cfg.Each == 0 {
		cfg.Each = 1
	}
	if cfg.Burst == 0 {
		cfg.Burst = 30
	}
	if cfg.All == 0 {
		cfg.All = 50
	}
	return &Door{cfg: cfg, asker: asker, now: now, log: log, all: rate.NewLimiter(cfg.All, int(2*cfg.All)), lines: rate.NewLimiter(1, 20), each: map[netip.Prefix]*rate.Limiter{}, told: map[string]enroll.State{}}
}

// Denied is how many calls were not looked at, or were none.
func (d *Door) Denied() uint64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.denied
}

// ServeHTTP implements http.Handler.
func (d *Door) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
	from, why, status := d.admit(r)
	if status != 0 {
		d.deny(w, status, why)
		return
	}
	var signed enroll.Signed
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 2*enroll.MaxBytes))
	switch {
	case err != nil:
		d.deny(w, http.StatusRequestEntityTooLarge, "a request has at most 32 KiB")
		return
	case json.Unmarshal(body, &signed) != nil:
		d.deny(w, http.StatusBadRequest, "this is no signed request: plantmesh-edge enroll makes one")
		return
	}
	a, err := d.ask(signed, from)
	if err != nil {
		d.fail(w, from, err)
		return
	}
	if a.State == enroll.Approved && d.cfg.Call != nil {
		a.NATS, a.WebSocket = d.cfg.Call(hostOf(r.Host))
	}
	h.Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(a) // who went away asks again
}

// admit looks at a call before anything of it is read. A status other than 0 is why it
// is not taken.
func (d *Door) admit(r *http.Request) (from, why string, status int) {
	switch {
	case r.Method != http.MethodPost:
		return "", "gateways ask by POST: plantmesh-edge enroll does it", http.StatusMethodNotAllowed
	case r.Header.Get("Origin") != "" || r.Header.Get("Sec-Fetch-Site") != "":
		return "", "no web page may ask here", http.StatusForbidden
	case r.Header.Get("Content-Type") != "application/json":
		return "", "a request is application/json", http.StatusUnsupportedMediaType
	}
	at, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return "", "who calls?", http.StatusBadRequest
	}
	now := d.now()
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.limiter(at.Addr(), now).AllowN(now, 1) || !d.all.AllowN(now, 1) {
		return "", "too many requests: wait a minute, and ask again", http.StatusTooManyRequests
	}
	return at.Addr().Unmap().String(), "", 0
}

// limiter is that of an address; of IPv6 that of the network of 64 bits, all of which
// one caller has.
func (d *Door) limiter(a netip.Addr, now time.Time) *rate.Limiter {
	a, bits := a.Unmap().WithZone(""), 32
	if a.Is6() {
		bits = 64
	}
	p := netip.PrefixFrom(a, bits).Masked()
	if l, ok := d.each[p]; ok {
		return l
	}
	if len(d.each) >= mostAddresses && now.Sub(d.swept) >= time.Second {
		d.swept = now
		for k, l := range d.each { // those that are at rest start with the same again
			if l.TokensAt(now) >= float64(d.cfg.Burst) {
				delete(d.each, k)
			}
		}
	}
	l := rate.NewLimiter(d.cfg.Each, d.cfg.Burst)
	if len(d.each) < mostAddresses {
		d.each[p] = l
	}
	return l
}

func (d *Door) ask(signed enroll.Signed, from string) (enroll.Answer, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	a, err := d.asker.Ask(signed, from, d.now())
	if err == nil {
		d.tell(signed, from, a)
	}
	return a, err
}

// tell logs what is new, once for each key and state.
func (d *Door) tell(signed enroll.Signed, from string, a enroll.Answer) {
	q, err := signed.Parse()
	if err != nil || d.told[q.PublicKey] == a.State || !d.lines.AllowN(d.now(), 1) {
		return
	}
	if len(d.told) >= mostAddresses {
		clear(d.told)
	}
	d.told[q.PublicKey] = a.State
	d.log.Info("a gateway asks to be let in", "state", string(a.State), "code", enroll.Code(q.PublicKey), "agent", q.Agent, "from", from, "why", a.Why)
}

func (d *Door) deny(w http.ResponseWriter, status int, why string) {
	d.mu.Lock()
	d.denied++
	d.mu.Unlock()
	if status == http.StatusMethodNotAllowed {
		w.Header().Set("Allow", http.MethodPost)
	}
	if status == http.StatusTooManyRequests {
		w.Header().Set("Retry-After", "60")
	}
	problem(w, status, why)
}

// fail answers what the registry could not take.
func (d *Door) fail(w http.ResponseWriter, from string, err error) {
	if errors.Is(err, enroll.ErrRequest) || d.cfg.Mine != nil && d.cfg.Mine(err) {
		d.deny(w, http.StatusBadRequest, err.Error())
		return
	}
	d.log.Error("a gateway that asks can't be answered", "from", from, "err", err)
	problem(w, http.StatusServiceUnavailable, "this hub can't answer now: its log says why")
}

// problem is an error as RFC 9457 has it.
func problem(w http.ResponseWriter, status int, detail string) {
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]any{"title": http.StatusText(status), "status": status, "detail": detail})
}

// hostOf is the name that was called, without its port.
func hostOf(host string) string {
	if h, _, err := net.SplitHostPort(host); err == nil {
		return h
	}
	return host
}
