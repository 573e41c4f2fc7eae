// Package hub is the root of the cloud side: it joins the rooms and starts
// everything that runs.
//
//	agents ══ NATS (embedded) ══► ingest ──► store ──► product/runner ──► store ──► port/http, console
//	                                                                        └─────► port/stream ══► NATS
package hub

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"plantmesh/cloud/access"
	"plantmesh/cloud/audit"
	"plantmesh/cloud/ingest"
	porthttp "plantmesh/cloud/port/http"
	"plantmesh/cloud/product"
	"plantmesh/cloud/product/runner"
	"plantmesh/cloud/registry"
	"plantmesh/cloud/store"
	"plantmesh/proto/clock"
	"plantmesh/proto/mesh"
)

// Errors that have an exit code of their own.
var (
	// ErrIdentity is returned when an agent can't be enrolled or revoked as asked.
	ErrIdentity = errors.New("refused")
	// ErrConfigure is returned when an agent can't be configured as asked.
	ErrConfigure = errors.New("not configured")
	// ErrData is returned when the data folder can't be used.
	ErrData = errors.New("the hub's data folder can't be used")
)

const (
	// productShare is the part of the streams' disk that the copy of the
	// products may take; the ingest stream is what must not run full.
	productShare = 4
	// headWithin bounds a slow client's request head.
	headWithin = 5 * time.Second
	// answerWithin bounds an answer that says nothing of its own; longer ones
	// move their deadline as they go. idleWithin is how long a connection may
	// stand unused.
	answerWithin = time.Minute
	idleWithin   = 2 * time.Minute
	// maxHead bounds a request's head.
	maxHead = 32 << 10
	// stopWithin is how long open answers may take at the end.
	stopWithin = 3 * time.Second
)

// Enroll signs an agent's public key for a lifetime; see registry. The site must be
// the hub's own: an agent of another would be refused at every message.
func Enroll(cfg Config, site, agent, publicKey string, lifetime time.Duration, now time.Time) (token string, err error) {
	if err := sameSite(cfg, site); err != nil {
		return "", err
	}
	reg, err := recording(cfg)
	if err != nil {
		return "", err
	}
	if token, err = reg.Sign(site, agent, publicKey, lifetime, operator(), now); err != nil {
		return "", fmt.Errorf("%w: %w", ErrIdentity, err)
	}
	return reg.File(token)
}

// Agents lists the enrolled agents; signer is the public key that signs tokens now.
func Agents(cfg Config) (agents []registry.Agent, signer string, err error) {
	reg, err := openRegistry(cfg)
	if err != nil {
		return nil, "", err
	}
	agents, err = reg.Agents()
	return agents, reg.Trust.Signing.Key, err
}

// hub is everything that was opened.
type hub struct {
	loops

	cfg    Config
	log    *slog.Logger
	page   string // where it listens, host:port; empty: nobody has asked for it
	reg    *registry.Registry
	access *access.Access
	trail  *audit.Trail
	rounds *audit.Rounds // reads it again, file by file
	gate   *gate
	fleet  fleet
	wanted wanted
	nats   *server.Server
	conn   *nats.Conn // in the account of the edge
	domain *nats.Conn // in that of the domain's products
	store  *store.Store
	ingest *ingest.Ingest
	sites  *siteLog // the site as it is, and was
	defs   []*product.Definition
	set    *runner.Set
	keeper *keeper
	canary *canary
	counts *tally // over the lives of the embedded server
	// accounts is what the embedded server asks for the accounts.
	accounts *server.MemAccResolver
	now      func() mesh.Nanos
	plant    func() clock.Plant
}

// Run runs the hub until ctx ends. Streams that were refused by the disk are
// opened anew when it takes writes again, as after a restart.
func Run(ctx context.Context, cfg Config, log *slog.Logger) (err error) {
	if err := os.MkdirAll(cfg.Data, 0o700); err != nil {
		return fmt.Errorf("%w: %w", ErrData, err)
	}
	lock, err := lockData(cfg.Data)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, lock.Close()) }()
	if err := MayListen(cfg); err != nil {
		return err
	}
	if err := unbroken(cfg.Data); err != nil {
		return err
	}
	counts := &tally{}
	for {
		err := run(ctx, cfg, counts, log)
		if !errors.Is(err, errStreams) || ctx.Err() != nil {
			return err
		}
		counts.restarted.Add(1)
		log.Warn("hub begins anew", "reason", err)
	}
}

func run(ctx context.Context, cfg Config, counts *tally, log *slog.Logger) (err error) {
	l, err := listenOn(ctx, cfg.HTTP.Listen)
	if err != nil {
		return err
	}
	l = &bounded{Listener: l, room: make(chan struct{}, cfg.HTTP.MaxConnections)}
	h := &hub{cfg: cfg, log: log, page: l.Addr().String(), counts: counts, accounts: &server.MemAccResolver{}}
	defer func() { err = errors.Join(err, h.close()) }()
	if err := h.open(ctx); err != nil {
		return errors.Join(err, l.Close())
	}
	web := porthttp.New(porthttp.Config{AnyHost: true}, h.deps(), h.log)
	srv, err := h.web(web)
	if err != nil {
		return errors.Join(err, l.Close())
	}
	port, err := h.stream(ctx)
	if err != nil {
		return errors.Join(err, l.Close())
	}
	listens := h.listening()
	log.Info("hub is up", "page", h.pageAt(l.Addr().String()), "nats", listens.nats, "websocket", cmp.Or(listens.webSocket, "none"), "site", h.site().Name)
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() error { return h.ingest.Run(gctx, h.conn) })
	g.Go(func() error { return h.set.Run(gctx, h.changed) })
	g.Go(func() error { return h.revoke(gctx) })
	g.Go(func() error { return h.readers(gctx) })
	g.Go(func() error { return h.gate.run(gctx, h.conn) })
	g.Go(func() error { return h.seals(gctx) })
	g.Go(func() error { return h.goRounds(gctx, roundEvery) })
	g.Go(func() error { return h.local(gctx) })
	g.Go(func() error { return h.follow(gctx) })
	g.Go(func() error { return h.configure(gctx) })
	g.Go(func() error { return h.keeper.run(gctx) })
	g.Go(func() error { return port.Run(gctx, h.store.ChangedOut) })
	g.Go(func() error { return web.Watch(gctx) })
	g.Go(func() error { return h.canary.run(gctx) })
	g.Go(func() error { return watch(gctx, h.looked, h.writable, time.Duration(cfg.NATS.CheckEvery)) })
	g.Go(func() error { return h.manage(ctx, gctx) })
	g.Go(func() error {
		if err := h.serve(srv, l); !errors.Is(err, http.ErrServerClosed) {
			return fmt.Errorf("serve http: %w", err)
		}
		return nil
	})
	g.Go(func() error {
		<-gctx.Done()
		stop, cancel := context.WithTimeout(context.WithoutCancel(gctx), stopWithin)
		defer cancel()
		if srv.Shutdown(stop) != nil { // live feeds never end by themselves
			return srv.Close()
		}
		return nil
	})
	if err := g.Wait(); err != nil && ctx.Err() == nil {
		if errors.Is(err, mesh.ErrMoved) {
			return fmt.Errorf("%w: another hub has opened the database in %s meanwhile, and this one wrote nothing since: see that one hub uses it, and start that: %w", ErrData, cfg.Data, err)
		}
		return err
	}
	log.Info("hub is down")
	return nil
}

func (h *hub) open(ctx context.Context) (err error) {
	h.now, h.plant = clock.Machine{}.Now, func() clock.Plant { return clock.Plant{Machine: 1, Plant: 1, Speed: 1} }
	if h.cfg.PlantClock != "" {
		f, err := clock.Open(h.cfg.PlantClock)
		if err != nil {
			return err
		}
		h.now, h.plant = f.Now, f.Plant
	}
	if h.reg, err = openRegistry(h.cfg); err != nil {
		return err
	}
	if h.access, err = Access(h.cfg); err != nil {
		return err
	}
	if h.trail, err = openTrail(h.cfg); err != nil {
		return err
	}
	h.rounds = audit.NewRounds(h.trail)
	h.reg.Record = recorder(h.trail)
	if err = h.reg.MakeDomain(registry.Actor{Who: "hub", Via: string(audit.Hub)}); err != nil {
		return err
	}
	if h.store, err = store.Open(ctx, filepath.Join(h.cfg.Data, databaseName), h.log); err != nil {
		return err
	}
	h.ingest = ingest.New(ingest.Config{
		MaxBytes:     int64(h.cfg.NATS.MaxStore) * (productShare - 1) / productShare,
		ReceiptEvery: time.Duration(h.cfg.Ingest.ReceiptEvery), PurgeEvery: time.Duration(h.cfg.Ingest.PurgeEvery), ForkAfter: time.Duration(h.cfg.Ingest.ForkAfter),
		AssertEvery: time.Duration(h.cfg.Watch.Stream),
	}, h.store, h.log)
	h.sites = &siteLog{store: h.store, ingest: h.ingest, now: h.now, trail: h.trail, log: h.log, rules: h.rulebook()}
	if _, _, err = h.sites.load(ctx, h.cfg.SiteFile); err != nil {
		return err
	}
	if err = h.products(); err != nil {
		return err
	}
	h.gate = &gate{reg: h.reg, rules: registry.Gate{Site: h.site().Name, Lifetime: time.Duration(h.cfg.Identity.Lifetime)}, log: h.log}
	h.keeper = &keeper{hub: h}
	if h.nats, err = startNATS(ctx, h.cfg, h.reg, h.accounts, h.log); err != nil {
		return err
	}
	if h.conn, err = connect(h.nats, h.reg.HubUser); err != nil {
		return err
	}
	if h.domain, err = connect(h.nats, h.reg.DomainUser); err != nil {
		return err
	}
	h.canary, err = h.newCanary()
	return err
}

// products assembles the runners. Each product commits for itself; one that
// fails for good is suspended alone.
func (h *hub) products() (err error) {
	if h.defs, err = product.Definitions(); err != nil {
		return err
	}
	h.set, err = runner.NewSetOf(h.defs, runner.Config{Kept: h.store.Kept}, h.store, h.store, runner.Clock{Now: clock.Machine{}.Now, Log: h.log})
	return err
}

// close closes what was opened, in the order of the walk.
func (h *hub) close() (err error) {
	for _, conn := range []*nats.Conn{h.conn, h.domain} {
		if conn != nil {
			conn.Close()
		}
	}
	if h.nats != nil {
		h.nats.Shutdown()
		h.nats.WaitForShutdown()
	}
	if h.store != nil {
		err = h.store.Close()
	}
	return err
}

// lineOf is the line of an equipment, or of the first one a source serves; of
// what the site has no more it is the last one it stood in.
func (h *hub) lineOf(entity string) string {
	is := h.sites.current()
	for _, s := range slices.Backward(append(slices.Clip(is.before), is.site)) {
		for _, e := range s.Equipment {
			if e.ID == entity || e.Source == entity {
				return e.Line
			}
		}
	}
	return ""
}
