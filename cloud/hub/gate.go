package hub

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"golang.org/x/time/rate"

	"plantmesh/cloud/registry"
	"plantmesh/cloud/registry/door"
	"plantmesh/proto/enroll"
	"plantmesh/proto/subject"
)

// renewEach is how often one agent may have its token renewed: each is a signature and
// a synced file.
const renewEach = time.Second

// gate lets agents in: strangers over HTTP, and those that are in over NATS. The
// registry is used by one of them at a time.
type gate struct {
	rules registry.Gate
	log   *slog.Logger

	mu      sync.Mutex // protects what follows
	reg     *registry.Registry
	renewed map[string]time.Time // by log, as many as there are agents
}

// Ask implements door.Asker.
func (g *gate) Ask(signed enroll.Signed, from string, now time.Time) (enroll.Answer, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.reg.Ask(g.rules, signed, from, now)
}

// door is where strangers ask, and are told where to call.
func (g *gate) door(calls int, at callee) http.Handler {
	return door.New(door.Config{
		All:  rate.Limit(calls),
		Call: at.of,
		Mine: func(err error) bool { return errors.Is(err, registry.ErrForged) || errors.Is(err, registry.ErrCrowd) },
	}, g, time.Now, g.log)
}

// run renews tokens until ctx ends. Who asks under an agent's subject is that agent:
// nobody else may publish there.
func (g *gate) run(ctx context.Context, nc *nats.Conn) error {
	sub, err := nc.Subscribe(subject.RenewAll, func(m *nats.Msg) { g.renew(m, time.Now()) })
	if err != nil {
		return fmt.Errorf("listen for agents whose tokens end: %w", err)
	}
	<-ctx.Done()
	if err := sub.Unsubscribe(); err != nil && !errors.Is(err, nats.ErrConnectionClosed) {
		g.log.DebugContext(ctx, "unsubscribe", "err", err)
	}
	return nil
}

func (g *gate) renew(m *nats.Msg, now time.Time) {
	site, agent, err := subject.ParseRenew(m.Subject)
	if err != nil || !subject.MayAnswer(agent, m.Reply) {
		return
	}
	a, err := g.sign(site, agent, now)
	if err != nil {
		g.log.Warn("an agent's token is not renewed", "site", site, "agent", agent, "err", err)
		// Without a word the agent would wait for one, and not know whom to ask about it.
		a = enroll.Answer{State: enroll.Pending, Retry: 1, Why: "the hub can't read or write its registry now; its log says why"}
		if errors.Is(err, registry.ErrUnknown) { // no refusal: its token is good, and nobody has revoked it
			a.Why = "the hub's registry lacks this agent, whose token is good: files of it are lost, or of before; whoever looks after the hub puts them back, or enrols the same key again (plantmesh agents enroll)"
		}
	}
	if b, err := json.Marshal(a); err == nil {
		_ = m.Respond(b) // one that is lost is asked for again
	}
}

// sign renews an agent's token; what keeps it from that for good is an answer.
func (g *gate) sign(site, agent string, now time.Time) (a enroll.Answer, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.renewed == nil {
		g.renewed = map[string]time.Time{}
	}
	log := subject.AgentLog(site, agent)
	if now.Sub(g.renewed[log]) < renewEach {
		return enroll.Answer{State: enroll.Pending, Retry: 1}, nil
	}
	g.renewed[log] = now
	token, err := g.reg.Renew(site, agent, g.rules.Lifetime, now)
	switch {
	case errors.Is(err, registry.ErrRevoked):
		return enroll.Answer{State: enroll.Refused, Why: err.Error()}, nil
	case err != nil:
		return a, err
	}
	if token, err = g.reg.File(token); err != nil {
		return a, err
	}
	g.log.Info("an agent's token is renewed", "site", site, "agent", agent, "for", g.rules.Lifetime)
	return enroll.Answer{State: enroll.Approved, Site: site, Agent: agent, Token: token}, nil
}

// Inbox lists the gateways that ask to be let in.
func Inbox(cfg Config) ([]registry.Petition, error) {
	reg, err := openRegistry(cfg)
	if err != nil {
		return nil, err
	}
	return reg.Petitions()
}

// Approve lets in the gateway that shows a code, under its name or another one.
func Approve(cfg Config, shown, as string, now time.Time) (registry.Petition, error) {
	return decide(cfg, func(reg *registry.Registry, site string) (registry.Petition, error) {
		return reg.Approve(shown, site, as, operator(), now)
	})
}

// Refuse tells the gateway that shows a code why it is not let in.
func Refuse(cfg Config, shown, why string, now time.Time) (registry.Petition, error) {
	return decide(cfg, func(reg *registry.Registry, _ string) (registry.Petition, error) {
		return reg.Refuse(shown, why, operator(), now)
	})
}

func decide(cfg Config, how func(*registry.Registry, string) (registry.Petition, error)) (p registry.Petition, err error) {
	site, err := siteName(cfg)
	if err != nil {
		return p, err
	}
	reg, err := recording(cfg)
	if err != nil {
		return p, err
	}
	if p, err = how(reg, site); err != nil {
		return p, fmt.Errorf("%w: %w", ErrIdentity, err)
	}
	return p, nil
}

// Carry answers a request that came in a file, and thereby approves it. nats is where
// the gateway is to send.
func Carry(cfg Config, signed enroll.Signed, as, nats string, now time.Time) (a enroll.Answer, err error) {
	site, err := siteName(cfg)
	if err != nil {
		return a, err
	}
	reg, err := recording(cfg)
	if err != nil {
		return a, err
	}
	a, err = reg.Carry(registry.Gate{Site: site, Lifetime: time.Duration(cfg.Identity.Lifetime)}, signed, as, operator(), now)
	if err != nil {
		return a, fmt.Errorf("%w: %w", ErrIdentity, err)
	}
	own, webSocket := cfg.callee().of("")
	a.NATS, a.WebSocket = cmp.Or(nats, own), webSocket
	return a, nil
}

// authority is Authority for who calls by HTTP.
func (g *gate) authority() string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.reg.Authority()
}

// carry is Carry for who calls by HTTP.
func (h *hub) carry(signed enroll.Signed, as, at string, by registry.Actor) (enroll.Answer, error) {
	h.gate.mu.Lock()
	defer h.gate.mu.Unlock()
	a, err := h.reg.Carry(h.gate.rules, signed, as, by, time.Now())
	own, webSocket := h.cfg.callee().of("")
	a.NATS, a.WebSocket = cmp.Or(at, own), webSocket
	return a, err
}

// Invite makes a one-time key and tells its secret.
func Invite(cfg Config, i registry.Invite) (registry.Invite, string, error) {
	reg, err := recording(cfg)
	if err != nil {
		return i, "", err
	}
	i, secret, err := reg.Invite(i, operator())
	if err != nil {
		return i, "", fmt.Errorf("%w: %w", ErrUsage, err)
	}
	return i, secret, nil
}

// Invites lists the one-time keys.
func Invites(cfg Config) ([]registry.Invite, error) {
	reg, err := openRegistry(cfg)
	if err != nil {
		return nil, err
	}
	return reg.Invites()
}

// EndInvite ends a one-time key before its time.
func EndInvite(cfg Config, id, why string, now time.Time) (registry.Invite, error) {
	reg, err := recording(cfg)
	if err != nil {
		return registry.Invite{}, err
	}
	i, err := reg.EndInvite(id, why, operator(), now)
	if err != nil {
		return i, fmt.Errorf("%w: %w", ErrUsage, err)
	}
	return i, nil
}
