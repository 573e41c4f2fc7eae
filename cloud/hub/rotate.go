package hub

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"plantmesh/cloud/registry"
	"plantmesh/proto/subject"
)

const (
	// remindEvery is how often agents whose token a retired key signed are asked to renew
	// it, while that key is still good: also those that were away.
	remindEvery = 30 * time.Second
	// remindPart of what is left of that time is for them to do it in, each at a moment of
	// its own.
	remindPart = 3
)

// Rotated is what became of the keys that sign agents' tokens.
type Rotated struct {
	registry.Signing

	// Agents are enrolled and not revoked: each needs a token of the new key.
	Agents int `json:"agents"`
}

// Rotate makes another key sign agents' tokens; those of the key before are good for a
// time more. A hub that runs has it in force within revokeEvery.
func Rotate(cfg Config, grace time.Duration, why string, now time.Time) (Rotated, error) {
	reg, err := recording(cfg)
	if err != nil {
		return Rotated{}, err
	}
	return rotated(reg, grace, why, operator(), now)
}

func rotated(reg *registry.Registry, grace time.Duration, why string, by registry.Actor, now time.Time) (out Rotated, err error) {
	if out.Signing, err = reg.Rotate(grace, why, by, now); err != nil {
		return out, fmt.Errorf("%w: %w", ErrIdentity, err)
	}
	agents, err := reg.Agents()
	for _, a := range agents {
		if a.Revoked == nil {
			out.Agents++
		}
	}
	return out, err
}

// Rotate implements desk.Keys.
func (g *gate) Rotate(grace time.Duration, why string, by registry.Actor) (any, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return rotated(g.reg, grace, why, by, time.Now())
}

// use has tokens signed by the newest key; the server takes them already.
func (g *gate) use(s registry.Signing) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.reg.Use(s)
}

// remind asks agents to have tokens renewed that a retired key signed.
func (h *hub) remind(ctx context.Context, s registry.Signing, now time.Time) {
	end := s.Ends(now)
	if end.IsZero() {
		return
	}
	agents, err := h.reg.Agents()
	if err != nil {
		h.log.WarnContext(ctx, "agents are not asked to renew their tokens yet", "err", err)
		return
	}
	within := min(remindEvery, end.Sub(now)/remindPart)
	for _, a := range agents {
		if a.Revoked != nil || a.Signer == s.Key {
			continue
		}
		if err := h.conn.Publish(subject.Refresh(a.Site, a.Name), []byte(strconv.FormatInt(within.Milliseconds(), 10))); err != nil {
			h.log.WarnContext(ctx, "agents are not asked to renew their tokens yet", "err", err)
			return
		}
	}
}
