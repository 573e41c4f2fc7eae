// Package agent is the root of the edge side: it joins the rooms and starts
// everything that runs.
//
//	device ── worker process ── pipe ──► supervisor ──► buffer ──► judge ──► forward ══► hub
//	(one per source)                                      ▲                     │
//	                                                      └──── receipts ◄──────┘
//
// Stopping needs no order: the buffer is durable, and what was not committed
// was not acknowledged.
package agent

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"plantmesh/edge/buffer"
	"plantmesh/edge/forward"
	"plantmesh/edge/page"
	"plantmesh/edge/quality"
	"plantmesh/edge/source"
	"plantmesh/edge/status"
	"plantmesh/proto/mesh"
	"plantmesh/proto/systemd"
	"plantmesh/proto/wire"
)

// Errors that have an exit code of their own.
var (
	// ErrNotAllowed is returned where this user may not use the status socket.
	ErrNotAllowed = errors.New("this user may not ask the agent")
	// ErrNotRunning is returned when no agent answers on the status socket.
	ErrNotRunning = errors.New("the agent is not running")
	// ErrNetwork is returned when the hub's address makes no sense.
	ErrNetwork = errors.New("the hub can't be called")
)

// ErrLocked is returned when the data folder can't be used: another agent runs
// on it, it belongs to another one, or it can't be written.
var ErrLocked = buffer.ErrFolder

const (
	// keepEvery is how often the rules' state goes into the log.
	keepEvery = 5 * time.Second
	// rulesFact is what the fact of the active rules is about.
	rulesFact = "rules"
	// maxSocketPath is what the system allows for a socket's name, less one.
	maxSocketPath = 107
)

// agent is everything that was opened.
type agent struct {
	cfg     Config
	self    string // path of this program, for workers
	log     *slog.Logger
	now     func() mesh.Nanos
	began   time.Time
	buffer  *buffer.Buffer
	judge   *Judge
	link    *forward.NATS
	forward *forward.Forward
	sources []*source.Supervisor
	crew    crew
	rev     *reviser
	mu      sync.Mutex // protects sources and cfg.Sources, applied and drift: a source may be read anew
	// undeclared: the log has no room to say which rules are active now.
	undeclared bool
	declaring  sync.Mutex // protects it and cfg.Rules
	taps       taps
	page       *page.Page // nil: there is none
	// What must turn for the agent to do its work, whatever the hub and the devices do.
	sending, judging, keeping systemd.Loop
}

// Run runs the agent until ctx ends. self is the path of this program, which
// is started again as a worker for each source.
func Run(ctx context.Context, cfg Config, self string, log *slog.Logger) (err error) {
	a := &agent{
		cfg: cfg, self: self, log: log, began: time.Now(),
		sending: systemd.Loop{Name: "sending"}, judging: systemd.Loop{Name: "judging"}, keeping: systemd.Loop{Name: "keeping"},
	}
	defer func() { err = errors.Join(err, a.close()) }()
	if err := a.open(ctx); err != nil {
		return err
	}
	log.Info("agent is up", "agent", cfg.Agent, "site", cfg.Site, "sources", len(a.sources), "log", a.buffer.End().String())
	g, gctx := errgroup.WithContext(ctx)
	a.crew = crew{group: g, ends: map[string]func(){}}
	for i, s := range a.sources {
		a.crew.begin(gctx, a.cfg.Sources[i].ID(), s)
	}
	g.Go(func() error { return a.forward.Run(gctx) })
	g.Go(func() error { return a.link.Run(gctx, a.forward) })
	g.Go(func() error { return a.judgeOn(gctx) })
	g.Go(func() error { return a.keep(gctx) })
	g.Go(func() error { return a.renew(gctx) })
	g.Go(func() error { return a.expire(gctx) })
	g.Go(func() error { return a.reports(gctx) })
	g.Go(func() error { return a.revise(gctx) })
	g.Go(func() error { return a.answer(gctx) })
	g.Go(func() error { return a.showPage(gctx) })
	g.Go(func() error { return a.manage(gctx) })
	if err := g.Wait(); err != nil && ctx.Err() == nil {
		return err
	}
	log.Info("agent is down")
	return nil
}

// manage tells the service manager how the agent is. It is ready before it has seen
// the hub: a gateway collects without one. One that hears nothing, or whose manager
// is not there, works all the same.
func (a *agent) manage(ctx context.Context) error {
	m := &a.cfg.Manager
	if err := m.Ready(fmt.Sprintf("agent %s at %s, %d sources", a.cfg.Agent, a.cfg.Site, len(a.crewed()))); err != nil {
		a.log.Warn("the service manager doesn't know that the agent is up", "err", err)
	}
	slowest := max(keepEvery, time.Duration(a.cfg.Hub.Timeout)) // a message waits so long for the hub
	if err := m.Watch(ctx, slowest, a.log, &a.sending, &a.judging, &a.keeping); err != nil {
		return err
	}
	<-ctx.Done()
	if err := m.Stopping(); err != nil {
		a.log.Warn("the service manager doesn't know that the agent ends", "err", err)
	}
	return nil
}

// turning is the log as sending reads it: each look for news is a turn of that loop.
type turning struct {
	*buffer.Buffer

	loop *systemd.Loop
}

// Changed implements forward.Queue.
func (t turning) Changed() <-chan struct{} {
	t.loop.Turn()
	return t.Buffer.Changed()
}

func (a *agent) open(ctx context.Context) (err error) {
	if err := status.Check(a.cfg.Status); err != nil {
		return err
	}
	if err := os.MkdirAll(a.cfg.Data, 0o700); err != nil {
		return buffer.Unusable(a.cfg.Data, fmt.Errorf("make the agent's folder: %w", err))
	}
	if a.now, err = plantNow(a.cfg.PlantClock); err != nil {
		return err
	}
	if a.buffer, err = buffer.Open(a.cfg.Buffer, a.log); err != nil {
		return err
	}
	a.taps.log, a.taps.now, a.taps.raw = a.buffer, time.Now, source.NewListeners()
	if a.judge, err = NewJudge(a.buffer); err != nil {
		return err
	}
	switch err := Declare(ctx, a.cfg.Rules, a.buffer, a.now()); {
	case errors.Is(err, buffer.ErrFull): // it is drained only by an agent that runs
		a.undeclared = true
		a.log.Warn("the buffer is full: the rules of before go on until there is room for the new ones", "err", err)
	case err != nil:
		return err
	}
	token := a.cfg.renewedToken()
	if err := a.cfg.adopt(); err != nil { // as on a full disk, which is drained only by an agent that runs
		token = a.cfg.newest()
		a.log.Warn("the hub's token can't be kept in the data folder: the given one is used, and not renewed", "err", err)
	}
	if a.link, err = forward.Dial(ctx, a.cfg.dial(token), a.log); err != nil {
		return fmt.Errorf("%w: %w", ErrNetwork, err)
	}
	sending := a.cfg.Forward
	sending.Quarantine = a.buffer.Quarantine
	a.forward = forward.New(sending, turning{a.buffer, &a.sending}, a.link, a.judge.Verdict, time.Now, a.log)
	if a.cfg.Page.Listen != "" {
		if a.page, err = page.New(a.cfg.Page, &pager{a: a}, time.Now); err != nil {
			return err
		}
	}
	for _, s := range a.cfg.Sources {
		v, err := a.supervisor(s)
		if err != nil {
			return err
		}
		a.sources = append(a.sources, v)
	}
	a.rev = newReviser(&a.cfg)
	return nil
}

func (a *agent) close() (err error) {
	if a.link != nil {
		err = a.link.Close()
	}
	if a.buffer != nil {
		err = errors.Join(err, a.buffer.Close())
	}
	return err
}

// Declare writes the active rules into the log as a fact, where they are not
// the ones that stand there: verdicts are then a function of the log.
func Declare(ctx context.Context, rules *quality.Rules, log JudgeLog, now mesh.Nanos) error {
	const key = "@rules/active"
	d := rules.Descriptor()
	hash := d.Hash()
	if b, err := log.State(key); err != nil || string(b) == string(hash[:]) {
		return err
	}
	sealed, err := wire.SealFact(mesh.Fact{About: rulesFact, Valid: mesh.Span{From: now, To: 1<<63 - 1}, Descriptor: hash, By: "rules.d"})
	if err != nil {
		return err
	}
	_, err = log.Append(ctx, []mesh.Offer{{Source: key, Sealed: [][]byte{sealed}, State: hash[:], Descriptors: []mesh.Descriptor{d}}})
	if err != nil {
		return fmt.Errorf("declare the active rules: %w", err)
	}
	return nil
}

// judgeOn judges right after commit, whether the hub is there or not.
func (a *agent) judgeOn(ctx context.Context) error {
	quiet := time.NewTicker(keepEvery) // turns it where nothing comes
	defer quiet.Stop()
	for failed := ""; ; {
		a.judging.Turn()
		changed := a.buffer.Changed()
		worked, err := a.judge.Catch()
		if err != nil && err.Error() != failed {
			failed = err.Error()
			a.log.Warn("some records have no verdict", "err", err)
		}
		if worked {
			continue
		}
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		case <-quiet.C:
		}
	}
}

// keep writes the rules' state now and then, so that a restart judges on from
// there.
func (a *agent) keep(ctx context.Context) error {
	t := time.NewTicker(keepEvery)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
		_ = a.declare(ctx, nil) // it was told when it began
		a.judge.Forget(a.buffer.Accounted)
		if err := a.judge.Keep(ctx); err != nil && ctx.Err() == nil {
			a.log.Warn("the rules' state is kept later", "err", err)
		}
		a.buffer.Stats() // waits where the log hangs
		a.keeping.Turn()
	}
}

// answer serves the status socket. An agent without one still collects.
func (a *agent) answer(ctx context.Context) error {
	if len(a.cfg.Status) > maxSocketPath {
		a.log.Warn("no status: the socket's path is too long for this system, set status in edge.yaml", "path", a.cfg.Status)
		return nil
	}
	err := status.Serve(ctx, a.cfg.Status, status.Answers{
		Snapshot: a.judged, Keeper: keeper{a.buffer}, Resumer: resumer{a}, Talker: talker{a}, Tapper: &a.taps, Aside: aside{a}, Replayer: replayer{a}, Inviter: inviter{a}, Commander: commander{a},
		Rules: func() []byte { return a.judge.Rules().Content },
	})
	if err != nil {
		a.log.Warn("no status", "err", err)
	}
	return nil
}

func (a *agent) snapshot() status.Snapshot {
	b, f := a.buffer.Stats(), a.forward.Status()
	f.LastError = cmp.Or(f.LastError, f.Waits)
	if !f.Connected {
		f.LastError = cmp.Or(a.link.Trouble(), f.LastError)
	}
	s := status.Snapshot{
		Agent: a.cfg.Agent, Site: a.cfg.Site, Since: stamp(a.began),
		Hub:    status.Hub{URL: a.cfg.Hub.URL, Proxy: a.cfg.byProxy(), Connected: f.Connected, LastError: f.LastError, Since: stampOf(f.Since)},
		Buffer: a.filled(), DebugUntil: a.cfg.Verbosity.debugUntil(), Endings: a.endings(),
	}
	s.Disk = diskCosts(b.Commits, time.Now(), a.windows())
	for _, src := range a.crewed() {
		s.Sources = append(s.Sources, a.told(src.Status()))
	}
	if c := a.said(time.Now()); c.Number > 0 || c.Desired > 0 || c.Hold != nil {
		s.Configuration = &c
	}
	return s
}

// judged is the snapshot with what was lost of late, and what needs somebody.
func (a *agent) judged() status.Snapshot {
	s := a.snapshot()
	if n, err := a.buffer.CountQuarantined(); err == nil { // else quarantine list says why
		s.Buffer.SetAside = n
	}
	now := time.Now()
	s.Findings = s.Judge(now, a.cfg.path)
	s.Findings = append(s.Findings, a.cfg.ended(now)...)
	return s
}

// talker has the agent say more or less, for the status socket.
type talker struct{ a *agent }

func (t talker) Debug(d time.Duration) (until time.Time) {
	if v := t.a.cfg.Verbosity; v != nil {
		until = v.Debug(d)
	}
	t.a.log.Info("the log has everything for a while", "until", until)
	return until
}

// Debug has the running agent say everything for so long; 0: no longer.
func Debug(ctx context.Context, cfg Config, d time.Duration) (status.Talk, error) {
	if _, err := Status(ctx, cfg); err != nil {
		return status.Talk{}, err
	}
	return status.Debug(ctx, cfg.Status, d)
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// stampOf is a stamp that may be none.
func stampOf(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return stamp(t)
}

// Status asks the running agent how it is.
func Status(ctx context.Context, cfg Config) (status.Snapshot, error) {
	s, err := status.Ask(ctx, cfg.Status)
	if errors.Is(err, fs.ErrPermission) {
		return s, fmt.Errorf("%w: %w", ErrNotAllowed, err)
	}
	if err != nil {
		return s, fmt.Errorf("%w (nobody answers at %s): %w", ErrNotRunning, filepath.Base(cfg.Status), err)
	}
	return s, nil
}
