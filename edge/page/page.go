// Package page is the page of a gateway for a technician with a laptop: the same as the
// commands say, in a browser, on loopback alone. It shows and changes nothing; who may
// look says a link that is used once. It knows the agent by what it is told of it.
package page

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"html/template"
	"net"
	"net/http"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"plantmesh/proto/strict"
)

// Config is the page's part of edge.yaml.
type Config struct {
	// Listen is where a browser on this gateway reaches the page, such as
	// 127.0.0.1:8088; empty: there is no page. From a laptop:
	// ssh -L 8088:127.0.0.1:8088 gateway.
	Listen string `yaml:"listen"`
}

// Validate says what is wrong with what edge.yaml says.
func (c *Config) Validate() error {
	if c.Listen == "" {
		return nil
	}
	host, port, err := net.SplitHostPort(c.Listen)
	if err != nil || port == "" || port == "0" {
		return strict.At("listen", "%q is no address such as 127.0.0.1:8088", c.Listen)
	}
	if ip := net.ParseIP(host); host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return strict.At("listen", "%s is not on this machine alone: the page listens on 127.0.0.1 only, and is reached from a laptop by ssh -L %s:127.0.0.1:%s", c.Listen, port, port)
	}
	return nil
}

// Health is how something is.
type Health string

// The healths there are. A colour is for what needs a look alone.
const (
	OK      Health = "ok"
	Warn    Health = "warn"
	Bad     Health = "bad"
	Unknown Health = "unknown"
)

// Word says it in a word, for who sees no colours.
func (h Health) Word() string {
	return map[Health]string{OK: "OK", Warn: "look at it", Bad: "wrong", Unknown: "not known"}[h]
}

// Glyph says it in a sign.
func (h Health) Glyph() string {
	return map[Health]string{OK: "✓", Warn: "!", Bad: "✗", Unknown: "–"}[h]
}

// Worse is the worse of two.
func (h Health) Worse(o Health) Health {
	for _, x := range []Health{Bad, Warn, Unknown} {
		if h == x || o == x {
			return x
		}
	}
	return OK
}

// Row is a line of facts.
type Row struct {
	Label  string
	Value  string
	Health Health // empty: nothing to say
}

// Box is a step that values take.
type Box struct {
	Name   string
	Health Health
	Figure string // the one that counts, such as 26 values/s
	Lines  []string
}

// Source is one device.
type Source struct {
	Name     string
	Protocol string
	Endpoint string
	Health   Health
	State    string // in plain words
	Rate     string // of values
	Known    string // through when it is known what it said
	Rows     []Row
	Command  string // what helps; empty: nothing has to be done
}

// Buffer is what waits on this gateway's disk.
type Buffer struct {
	Health  Health
	Percent float64 // of its budget
	Rows    []Row
	Aside   []Row // records that were set aside
	Rules   []Row // what rules found
}

// Look is how the agent is at one moment.
type Look struct {
	Gateway string
	Site    string
	Version string
	Up      string
	Config  string // the path of edge.yaml, for commands
	Health  Health
	Says    []string // the reasons, the first counts most
	Boxes   []Box
	Sources []Source
	Buffer  Buffer
}

// Checked is one check that ran.
type Checked struct {
	ID, Source, Message, Why, Fix string
	Health                        Health
	Kind                          string // ok, warning, error, fatal, skipped, ignored
}

// Section is a part of the checks.
type Section struct {
	Title  string
	Checks []Checked
}

// Checks are how they went.
type Checks struct {
	Summary  string
	Ran      time.Time
	Sections []Section
}

// Found is what needs a look, the worst first.
func (c Checks) Found() (out []Checked) {
	for _, h := range []Health{Bad, Warn} {
		for _, s := range c.Sections {
			for _, x := range s.Checks {
				if x.Health == h {
					out = append(out, x)
				}
			}
		}
	}
	return out
}

// Value is one sample as it is stored.
type Value struct {
	Signal  string   `json:"signal,omitempty"`
	Source  string   `json:"source,omitempty"`
	Value   string   `json:"value"`
	Quality string   `json:"quality,omitempty"` // good, uncertain, bad
	Status  string   `json:"status,omitempty"`
	Time    string   `json:"time,omitempty"`
	Notes   []string `json:"notes,omitempty"`
	LeftOut uint64   `json:"left_out,omitempty"` // of a line without a signal: so many were not told
	Others  uint64   `json:"others,omitempty"`   // likewise: so many came that were not asked for
}

// Gateway is the agent. Safe for concurrent use. Check may take a minute; Listen goes on
// until ctx ends or tell fails, and holds up nobody but itself.
type Gateway interface {
	Look() Look
	Check(ctx context.Context) (Checks, error)
	Listen(ctx context.Context, pattern string, tell func([]Value) error) error
}

// Page serves them.
type Page struct {
	cfg     Config
	gateway Gateway
	doors   *doors
	checks  checks
	views   *template.Template
	busy    chan struct{}
}

// Bounds of what browsers may do.
const (
	headWithin  = 5 * time.Second
	writeWithin = 30 * time.Second
	checkWithin = 2 * time.Minute
	idleAfter   = time.Minute
	maxHead     = 16 << 10
	maxBusy     = 32 // requests at once
)

//go:embed pages
var pages embed.FS

// New makes the page. now is the machine's clock.
func New(cfg Config, g Gateway, now func() time.Time) (*Page, error) {
	views, err := template.New("").ParseFS(pages, "pages/*.html")
	if err != nil {
		return nil, fmt.Errorf("read the page's own files: %w", err)
	}
	return &Page{cfg: cfg, gateway: g, doors: newDoors(now), views: views, busy: make(chan struct{}, maxBusy)}, nil
}

// Invite is a link that lets one browser in, once, until then.
func (p *Page) Invite() (link string, until time.Time) {
	key, until := p.doors.invite()
	return "http://" + p.cfg.Listen + "/enter?key=" + key, until
}

// Serve listens until ctx ends.
func (p *Page) Serve(ctx context.Context) error {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", p.cfg.Listen)
	if err != nil {
		return fmt.Errorf("open the local page: %w", err)
	}
	srv := &http.Server{Handler: p.Handler(), ReadHeaderTimeout: headWithin, IdleTimeout: idleAfter, MaxHeaderBytes: maxHead, BaseContext: func(net.Listener) context.Context { return ctx }}
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			return fmt.Errorf("serve the local page: %w", err)
		}
		return nil
	})
	g.Go(func() error {
		<-gctx.Done()
		return srv.Close()
	})
	return g.Wait()
}

// Handler is the whole page.
func (p *Page) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /enter", p.enter)
	inside := http.NewServeMux()
	inside.HandleFunc("GET /{$}", p.show("overview"))
	inside.HandleFunc("GET /sources", p.show("sources"))
	inside.HandleFunc("GET /live", p.show("live"))
	inside.HandleFunc("GET /live/stream", p.stream)
	inside.HandleFunc("GET /buffer", p.show("buffer"))
	inside.HandleFunc("GET /checks", p.show("checks"))
	inside.HandleFunc("POST /checks", p.check)
	inside.HandleFunc("POST /leave", p.leave)
	mux.Handle("/", p.guarded(inside))
	return p.outer(http.NewCrossOriginProtection().Handler(mux))
}

// outer is around each request: only names of this machine are answered to, so that no
// page elsewhere can have a browser read this one under a name of its own (DNS rebinding).
func (p *Page) outer(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("X-Frame-Options", "DENY")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cache-Control", "no-store")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'; base-uri 'none'")
		if !here(r.Host) {
			http.Error(w, "this page is called by 127.0.0.1 or localhost only", http.StatusMisdirectedRequest)
			return
		}
		select {
		case p.busy <- struct{}{}:
			defer func() { <-p.busy }()
		default:
			http.Error(w, "too many look at once", http.StatusServiceUnavailable)
			return
		}
		r.Body = http.MaxBytesReader(w, r.Body, maxHead)
		if err := http.NewResponseController(w).SetWriteDeadline(time.Now().Add(writeWithin)); err != nil && !errors.Is(err, http.ErrNotSupported) {
			return
		}
		next.ServeHTTP(w, r)
	})
}

// here reports whether a host is this machine by a name that nobody else can have. The
// port may be any: a tunnel has its own.
func here(host string) bool {
	name := host
	if h, _, err := net.SplitHostPort(host); err == nil {
		name = h
	}
	name = strings.Trim(name, "[]")
	ip := net.ParseIP(name)
	return name == "localhost" || ip != nil && ip.IsLoopback()
}
