// Package porthttp is the HTTP port: products, their rows and what changes in
// them, read only. It serves whoever reaches it: who that may be is for whoever
// mounts it to say.
package porthttp

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"plantmesh/cloud/port"
	"plantmesh/proto/mesh"
	"plantmesh/proto/revision"
)

// Config are the limits of the port. A zero field means its default.
type Config struct {
	Hosts     []string      // names other than loopback that requests may be sent to
	AnyHost   bool          // whoever stands before the port has looked at the name
	Timeout   time.Duration // of an answer that fits one page; default 15 s
	Stream    time.Duration // of an answer of many pages; default 10 min
	Heartbeat time.Duration // of the live feed; default 10 s
	MaxLive   int           // live feeds open at once; default 64
}

func (c Config) withDefaults() Config {
	set := func(d *time.Duration, v time.Duration) {
		if *d <= 0 {
			*d = v
		}
	}
	set(&c.Timeout, 15*time.Second)
	set(&c.Stream, 10*time.Minute)
	set(&c.Heartbeat, 10*time.Second)
	if c.MaxLive <= 0 {
		c.MaxLive = 64
	}
	return c
}

// Rows answers queries over the rows of products. Safe for concurrent use; it
// reads what is committed and keeps nothing of the caller's. Limit is always
// set. The string is the cursor of the next page, empty at the end.
type Rows interface {
	Rows(ctx context.Context, q mesh.RowQuery) ([]mesh.Row, string, error)
}

// Newest is what Rows may offer beside: of every entity the row with the
// greatest from. Limit and After of the query don't count.
type Newest interface {
	Latest(ctx context.Context, q mesh.RowQuery) ([]mesh.Row, error)
}

// Outputs reads output logs. Safe for concurrent use.
type Outputs interface {
	// Out is what was committed behind after, oldest first, no more than most rows.
	// A zero position begins with the oldest kept; mesh.ErrGone is returned
	// where after is off the chain or no longer kept.
	Out(ctx context.Context, product string, after mesh.Position, most int) ([]mesh.Row, error)
	// Progress is how far the product is known, how far it is complete, and its
	// place in the hub's log.
	Progress(ctx context.Context, product string) (progress, watermark mesh.Nanos, place mesh.Position, err error)
}

// Product is one entry of the catalogue. ODPS and ODCS are the YAML files as
// they lie in the product's folder.
type Product struct {
	ID, Title, Description, Version string
	Domain                          string
	ODPS, ODCS                      []byte
	Columns                         []string // in the order of the contract; may be empty
	// Types are the logical types (ODCS) of its columns and of the envelope's;
	// "any" is a value whose type its row names.
	Types []port.Column
	// Windows its rows come in, as "hour"; a row's key begins with its window
	// and a slash. Empty: none.
	Windows []string
	// View says that rows are made when asked for. A view is known as far as
	// every product that is not one.
	View bool
}

// SiteView is what the site file says that a reader of rows needs.
type SiteView struct {
	Site    string            `json:"site"`
	Zone    string            `json:"zone"` // IANA name
	Lines   []Line            `json:"lines"`
	Shifts  []Shift           `json:"shifts"`
	Breaks  []Shift           `json:"breaks"`
	Reasons map[string]string `json:"reasons"` // stop reason code to words
	// Version is another one when the rest is: who follows the live feed is told to look
	// again.
	Version int64 `json:"version"`
}

// Line is a production line, its machines in the order of flow.
type Line struct {
	ID       string    `json:"id"`
	Machines []Machine `json:"machines"`
}

// Machine is one machine of a line.
type Machine struct {
	ID     string `json:"id"` // the equipment id in rows
	Name   string `json:"name"`
	Kind   string `json:"kind"`
	Source string `json:"source"`
	// Breaks are those of its own calendar; nil: it has the site's.
	Breaks []Shift `json:"breaks,omitzero"`
}

// Shift is a stretch of every day, or of those of the week, local times as "06:00".
type Shift struct {
	ID    string   `json:"id,omitempty"`
	Start string   `json:"start"`
	End   string   `json:"end"`
	Days  []string `json:"days,omitempty"` // as mon-fri, by the production day that it begins in
}

// Plans are what is planned of a stretch of time: by the same cuts as rows are made.
type Plans struct {
	From    string `json:"planned_from"`
	Through string `json:"planned_through"`
	Plans   []Plan `json:"plans"` // the first is the site's
}

// Plan is what is planned of the machines that have one calendar.
type Plan struct {
	Calendar string         `json:"calendar,omitempty"` // its id, where it is registered
	Zone     string         `json:"zone"`
	Machines []string       `json:"machines"`
	Shifts   []PlannedShift `json:"shifts"`
	Stops    []PlannedStop  `json:"stops"` // breaks, holidays, stops, and what lies in no shift where shifts have days
}

// PlannedShift is a shift, as rows name it.
type PlannedShift struct {
	PlannedStop

	ShiftID string `json:"shift_id"`
}

// PlannedStop is a stretch of time.
type PlannedStop struct {
	From string `json:"from"`
	To   string `json:"to"`
}

// Agent is what the hub knows of one gateway.
type Agent struct {
	Site     string `json:"site"`
	Name     string `json:"name"`
	Through  string `json:"through"`   // contiguous end of what is accounted for
	Islands  int    `json:"islands"`   // runs above holes
	LastSeen string `json:"last_seen"` // RFC 3339; empty: not since the hub began

	State    string   `json:"state"`                     // online, offline or revoked
	Since    string   `json:"since,omitempty"`           // RFC 3339: when that began; absent: before the hub did
	TokenEnd string   `json:"token_expires"`             // RFC 3339
	TokenFor float64  `json:"token_days"`                // until then; negative: it has ended
	Version  string   `json:"version,omitempty"`         // of its program
	Clock    *float64 `json:"clock_offset_s,omitempty"`  // gateway less hub, with the way between them
	Pending  *uint64  `json:"pending_records,omitempty"` // that wait on its disk
	Lag      *float64 `json:"lag_s,omitempty"`           // of the oldest of them
	Lost     *uint64  `json:"lost_values,omitempty"`     // within the last 24 hours, where counted; of agents of before: since their program began
	Autonomy *float64 `json:"autonomy_hours,omitempty"`  // its disk lasts, while the hub takes nothing
	Fill     *float64 `json:"buffer_fill,omitempty"`     // of its disk's share, 0 to 1
	Sources  *int     `json:"sources,omitempty"`
	Aside    *int     `json:"sources_aside,omitempty"` // set aside after errors
	Reported string   `json:"reported,omitempty"`      // RFC 3339: when it last said so; absent: not since the hub began

	Desired uint64         `json:"desired_revision,omitempty"` // of its configuration; absent: it has its own files alone
	Sync    revision.State `json:"sync,omitempty"`             // in_sync, pending, trial, reverted, rejected, held or drift
	// Configuration is what it says of that; absent: nothing.
	Configuration *revision.Reported `json:"configuration,omitempty"`
}

// Check is one line of /readyz: nil from Run means ready.
type Check struct {
	Name string
	Run  func(ctx context.Context) error
}

// Count is a figure of another room that only grows. Value is safe for
// concurrent use.
type Count struct {
	Name, Help string // as Prometheus wants them, without the prefix plantmesh_
	Value      func() uint64
}

// Deps is what the port reads. Every func is safe for concurrent use.
type Deps struct {
	Catalogue []Product
	Rows      Rows            // of every product that Readers does not name
	Readers   map[string]Rows // by product id
	Out       Outputs
	// End is the position of the newest row of a product; zero where none is.
	// nil: it is found by reading the output log once, which takes longer.
	End func(ctx context.Context, product string) (mesh.Position, error)
	// BadCursor tells the error of Rows for a cursor it never gave. nil: never.
	BadCursor func(error) bool
	// Sources are those of the site, with how far a product knows each. nil:
	// nobody asks.
	Sources func(ctx context.Context, product string) ([]SourceEnd, error)
	// Stands is the instant through which a product's rows say what is known, where
	// some of before it are still to be made. nil: all are.
	Stands func(ctx context.Context, product string) (mesh.Nanos, error)
	// Parquet begins a file of a product's rows. nil: there is no such format.
	Parquet func(w io.Writer, p Product, columns []port.Column) (port.Table, error)
	Site    func() SiteView
	// Plans are those of days that are near. nil: nobody asks.
	Plans    func() Plans
	PlantNow func() mesh.Nanos
	// PlantSpeed is how fast the plant clock runs now; 0 while it stands. nil: 1.
	PlantSpeed func() float64
	// Changed gives a channel that is closed (or receives) at the next commit.
	Changed func() <-chan struct{}
	// Agents may be nil.
	Agents func(ctx context.Context) ([]Agent, error)
	Checks []Check
	// Says are, by names of checks, what ?verbose shows beside ok.
	Says map[string]func() string
	// Collectors of other rooms, shown under /metrics.
	Collectors []prometheus.Collector
	// Counts of other rooms, shown there too.
	Counts []Count
}

// server is the port. Its fields are never changed after New, but for what
// feed and known guard themselves.
type server struct {
	cfg     Config
	deps    Deps
	log     *slog.Logger
	feed    *feed
	metrics *metrics
	known   *knownFrom
	heard   *hearing

	patterns []string
}

// Port is the whole port. Safe for concurrent use.
type Port struct {
	http.Handler

	server *server
}

// Watch looks at the sources now and then until ctx ends, so that one that
// fell silent is known as such to the first who asks.
func (p *Port) Watch(ctx context.Context) error {
	t := time.NewTicker(watchEvery)
	defer t.Stop()
	for {
		p.server.watch(ctx)
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
	}
}

// Patterns are the paths that something is at, as http.ServeMux has them.
func (p *Port) Patterns() []string { return slices.Clone(p.server.patterns) }

// New assembles the port. Mount it at its Patterns, and at "/api/" for all that is none,
// or at "/".
func New(cfg Config, deps Deps, log *slog.Logger) *Port {
	s := &server{cfg: cfg.withDefaults(), deps: deps, log: log, known: &knownFrom{}, heard: &hearing{}}
	s.feed = newFeed(deps)
	s.metrics = newMetrics(s)
	mux := s.routes()
	return &Port{s.guard(mux), s}
}

func (s *server) routes() *http.ServeMux {
	mux := http.NewServeMux()
	handle := func(path string, h func(http.ResponseWriter, *http.Request) error) {
		s.patterns = append(s.patterns, path)
		mux.Handle(path, s.metrics.count(path, s.answer(h)))
	}
	handle("/api/v1/products", s.products)
	handle("/api/v1/products/{id}", s.product)
	handle("/api/v1/products/{id}/contract", s.contract)
	handle("/api/v1/products/{id}/status", s.status)
	handle("/api/v1/products/{id}/rows", s.rows)
	handle("/api/v1/products/{id}/latest", s.latest)
	handle("/api/v1/machines", s.machines)
	handle("/api/v1/agents", s.agents)
	handle("/api/v1/agents/{site}/{agent}", s.agent)
	handle("/api/v1/live", s.live)
	handle("/api/openapi.json", s.openapi)
	handle("/livez", s.livez)
	handle("/readyz", s.readyz)
	s.patterns = append(s.patterns, "/metrics")
	mux.Handle("/metrics", s.metrics.handler(s))
	mux.Handle("/", s.answer(s.nowhere))
	return mux
}

// guard is what every request passes first: only GET, no body, only names this
// machine answers to (a page elsewhere could have its own name point here:
// DNS rebinding), and headers that keep a browser from guessing.
func (s *server) guard(mux *http.ServeMux) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Cache-Control", "no-store")
		// OWASP ASVS 5.0 3.4.3: what comes from here is data, never a page.
		h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'")
		_, pattern := mux.Handler(r)
		something := pattern != "/" // else it is told that nothing is there, however it asked
		switch {
		case !s.cfg.AnyHost && !s.allowed(r.Host):
			s.fail(w, r, &problem{
				Status: http.StatusMisdirectedRequest, Slug: "host",
				Detail: "this hub answers to localhost and loopback addresses only, not to " + r.Host,
			})
		case r.Method != http.MethodGet && r.Method != http.MethodHead && something:
			h.Set("Allow", "GET, HEAD")
			s.fail(w, r, &problem{
				Status: http.StatusMethodNotAllowed, Slug: "method",
				Detail: r.URL.Path + " is read only: use GET, not " + r.Method,
			})
		case r.ContentLength != 0 && something:
			s.fail(w, r, &problem{
				Status: http.StatusRequestEntityTooLarge, Slug: "body",
				Detail: "a GET here takes no body: put what you ask for into the address",
			})
		default:
			mux.ServeHTTP(w, r)
		}
	})
}

func (s *server) allowed(host string) bool {
	name := host
	if h, _, err := net.SplitHostPort(host); err == nil {
		name = h
	}
	name = strings.TrimSuffix(strings.ToLower(strings.Trim(name, "[]")), ".")
	if name == "localhost" || slices.Contains(s.cfg.Hosts, name) {
		return true
	}
	ip := net.ParseIP(name)
	return ip != nil && ip.IsLoopback()
}

// answer turns a handler's error into a problem.
func (s *server) answer(h func(http.ResponseWriter, *http.Request) error) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := h(w, r); err != nil {
			s.fail(w, r, err)
		}
	})
}

func (s *server) nowhere(_ http.ResponseWriter, r *http.Request) error {
	return &problem{
		Status: http.StatusNotFound, Slug: "path",
		Detail:  "nothing is at " + r.URL.Path,
		Nearest: nearest(r.URL.Path, paths()),
	}
}

// paths are the addresses to name when a wrong one is asked for.
func paths() []string {
	return []string{"/api/v1/products", "/api/v1/machines", "/api/v1/agents", "/api/v1/live", "/api/openapi.json", "/livez", "/readyz", "/metrics"}
}

// reader answers for the rows of a product.
func (s *server) reader(id string) Rows {
	if r, ok := s.deps.Readers[id]; ok {
		return r
	}
	return s.deps.Rows
}

// progress is how far a product is known and complete.
func (s *server) progress(ctx context.Context, p Product) (progress, watermark mesh.Nanos, place mesh.Position, err error) {
	if !p.View {
		progress, watermark, place, err = s.deps.Out.Progress(ctx, p.ID)
		if err != nil {
			err = fmt.Errorf("read the progress of %s: %w", p.ID, err)
		}
		return progress, watermark, place, err
	}
	first := true
	for _, of := range s.deps.Catalogue {
		if of.View {
			continue
		}
		a, b, at, err := s.progress(ctx, of)
		if err != nil {
			return 0, 0, mesh.Position{}, err
		}
		if first || a < progress {
			progress, place = a, at
		}
		if first || b < watermark {
			watermark = b
		}
		first = false
	}
	return progress, watermark, place, nil
}

// speed is the plant clock's; 0 while it stands.
func (s *server) speed() float64 {
	if s.deps.PlantSpeed == nil {
		return 1
	}
	return s.deps.PlantSpeed()
}

// zone is the site's; UTC where the site names none that is known here.
func (s *server) zone() *time.Location {
	z, err := time.LoadLocation(s.deps.Site().Zone)
	if err != nil {
		return time.UTC
	}
	return z
}
