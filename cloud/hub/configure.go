package hub

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	porthttp "plantmesh/cloud/port/http"
	"plantmesh/cloud/registry"
	"plantmesh/cloud/registry/desk"
	"plantmesh/proto/revision"
	"plantmesh/proto/subject"
)

const (
	// wantedEvery is how often a running hub looks for revisions that
	// `plantmesh agents configure` made, which is another process.
	wantedEvery = 2 * time.Second
	// settled is how old a folder's time must be to be believed: one that is written
	// twice within a tick of the file system's clock has the same time.
	settled = 3 * time.Second
	// sendEach is how often one agent may have a whole revision sent.
	sendEach = time.Second
)

// wanted is what a running hub wants of its agents. Safe for concurrent use.
type wanted struct {
	mu     sync.Mutex // protects what follows
	looked map[string]time.Time
	newest map[string]revision.Ref // by log
	sent   map[string]time.Time
}

// of is the newest revision of an agent.
func (w *wanted) of(log string) revision.Ref {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.newest[log]
}

// maySend says whether an agent may have a whole revision now, and notes that it has.
func (w *wanted) maySend(log string, now time.Time) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.sent == nil {
		w.sent = map[string]time.Time{}
	}
	if now.Sub(w.sent[log]) < sendEach {
		return false
	}
	w.sent[log] = now
	return true
}

// note takes which revision is an agent's newest, and says whether that is news.
func (w *wanted) note(log string, ref revision.Ref, at time.Time) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.newest == nil {
		w.newest, w.looked = map[string]revision.Ref{}, map[string]time.Time{}
	}
	news := w.newest[log] != ref
	w.newest[log], w.looked[log] = ref, at
	return news
}

// stale says whether an agent's folder must be looked at.
func (w *wanted) stale(log string, at, now time.Time) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return !w.looked[log].Equal(at) || now.Sub(at) < settled
}

// lookAtWanted reads the revisions that came since, and has their agents ask.
func (h *hub) lookAtWanted(now time.Time) error {
	all, err := h.reg.Configured()
	if err != nil {
		return err
	}
	var faults error
	for _, a := range all {
		log := subject.AgentLog(a.Site, a.Name)
		if !h.wanted.stale(log, a.At, now) {
			continue
		}
		r, err := h.reg.Newest(a.Site, a.Name)
		if err != nil {
			faults = errors.Join(faults, err)
			continue
		}
		if h.wanted.note(log, r.Ref, a.At) {
			_ = h.conn.Publish(subject.Nudge(a.Site, a.Name), nil) // who misses it asks within a minute
		}
	}
	return faults
}

// configure tells agents which configuration is wanted of them, until ctx ends.
func (h *hub) configure(ctx context.Context) error {
	told := ""
	look := func() {
		err := h.lookAtWanted(time.Now())
		switch {
		case err == nil:
			told = ""
		case err.Error() != told:
			told = err.Error()
			h.log.ErrorContext(ctx, "some revisions of agents can't be read", "err", err)
		}
	}
	look() // before anybody asks
	sub, err := h.conn.Subscribe(subject.ConfigurationAll, func(m *nats.Msg) { h.tellWanted(m, time.Now()) })
	if err != nil {
		return fmt.Errorf("listen for agents that ask for their configuration: %w", err)
	}
	t := time.NewTicker(wantedEvery)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			if err := sub.Unsubscribe(); err != nil && !errors.Is(err, nats.ErrConnectionClosed) {
				h.log.DebugContext(ctx, "unsubscribe", "err", err)
			}
			return nil
		case <-t.C:
			look()
		}
	}
}

// tellWanted answers an agent. Who asks under an agent's subject is that agent: nobody else
// may publish there.
func (h *hub) tellWanted(m *nats.Msg, now time.Time) {
	site, agent, err := subject.ParseConfiguration(m.Subject)
	if err != nil || !subject.MayAnswer(agent, m.Reply) {
		return
	}
	ask, err := revision.ReadAsk(m.Data)
	if err != nil {
		return // an agent newer than this hub, say: it goes on with what it has
	}
	log := subject.AgentLog(site, agent)
	a := revision.Answer{Desired: h.wanted.of(log)}
	if !a.Desired.IsZero() && ask.Has != a.Desired && h.wanted.maySend(log, now) {
		r, err := h.reg.Revision(site, agent, a.Desired.Number)
		if err != nil {
			h.log.Error("an agent's revision can't be read", "site", site, "agent", agent, "err", err)
			return
		}
		if r.Ref == a.Desired {
			a.Revision = &r
		}
	}
	b, err := a.Encode()
	if err != nil {
		h.log.Error("an agent's revision can't be sent", "site", site, "agent", agent, "err", err)
		return
	}
	_ = m.Respond(b) // one that is lost is asked for again
}

// shelf is where configurations are, for who calls by HTTP.
type shelf struct{ *hub }

// Configuration implements desk.Shelf.
func (s shelf) Configuration(site, agent string, number uint64) (desk.Configuration, error) {
	log := subject.AgentLog(site, agent)
	reported, at := s.fleet.configured(log)
	return configuration(s.reg, site, agent, number, reported, at)
}

// Configure implements desk.Shelf.
func (s shelf) Configure(w registry.Wanted, by registry.Actor) (revision.Revision, error) {
	if reported, _ := s.fleet.configured(subject.AgentLog(w.Site, w.Agent)); reported != nil {
		w.Above = max(reported.Number, reported.Desired)
	}
	s.gate.mu.Lock()
	made, err := s.reg.Configure(w, by, time.Now())
	s.gate.mu.Unlock()
	if err != nil {
		return made, err
	}
	if err := s.lookAtWanted(time.Now()); err != nil { // of others: the loop tells it
		s.log.Debug("look at revisions", "err", err)
	}
	return made, nil
}

// configuration is how an agent is to be configured, and how it says it is.
func configuration(reg *registry.Registry, site, agent string, number uint64, reported *revision.Reported, at string) (c desk.Configuration, err error) {
	c = desk.Configuration{Site: site, Agent: agent, Reported: reported, ReportedAt: at, Revisions: []revision.Revision{}}
	in, err := reg.Agents()
	if err != nil {
		return c, err
	}
	if !enrolledIn(in, site, agent) {
		return c, fmt.Errorf("%s at %s: %w", agent, site, registry.ErrUnknown)
	}
	all, err := reg.Revisions(site, agent)
	if err != nil {
		return c, err
	}
	newest := revision.Ref{}
	if c.Revisions = append(c.Revisions, all...); len(all) > 0 {
		newest = all[0].Ref
	}
	c.Status = revision.Sync(newest, reported)
	if number == 0 {
		number = newest.Number
	}
	if number == 0 {
		return c, nil
	}
	r, err := reg.Revision(site, agent, number)
	if err != nil {
		return c, err
	}
	c.Desired = &r
	return c, nil
}

func enrolledIn(all []registry.Agent, site, agent string) bool {
	for _, a := range all {
		if a.Site == site && a.Name == agent {
			return true
		}
	}
	return false
}

// Configuration is how an agent is to be configured, and how it says it is by a hub that
// runs beside. number: of another revision than the newest; 0: that one.
func Configuration(cfg Config, agent string, number uint64, now time.Time) (desk.Configuration, error) {
	site, err := siteName(cfg)
	if err != nil {
		return desk.Configuration{}, err
	}
	reg, err := openRegistry(cfg)
	if err != nil {
		return desk.Configuration{}, err
	}
	var reported *revision.Reported
	at := ""
	if a := known(cfg, site, agent, now); a != nil {
		reported, at = a.Configuration, a.Reported
	}
	c, err := configuration(reg, site, agent, number, reported, at)
	if err != nil {
		return c, fmt.Errorf("%w: %w", ErrConfigure, err)
	}
	return c, nil
}

// known is what a hub that runs beside knows of an agent; nil: nothing.
func known(cfg Config, site, agent string, now time.Time) *porthttp.Agent {
	agents, _, _ := Fleet(cfg, now)
	for i := range agents {
		if agents[i].Site == site && agents[i].Name == agent {
			return &agents[i]
		}
	}
	return nil
}

// Configure makes the next revision of an agent's configuration. A hub that runs has its
// agent ask within wantedEvery.
func Configure(cfg Config, w registry.Wanted, now time.Time) (r revision.Revision, err error) {
	if w.Site, err = siteName(cfg); err != nil {
		return r, err
	}
	reg, err := recording(cfg)
	if err != nil {
		return r, err
	}
	if a := known(cfg, w.Site, w.Agent, now); a != nil && a.Configuration != nil {
		w.Above = max(a.Configuration.Number, a.Configuration.Desired)
	}
	if r, err = reg.Configure(w, operator(), now); err != nil {
		return r, fmt.Errorf("%w: %w", ErrConfigure, err)
	}
	return r, nil
}
