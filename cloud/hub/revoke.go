package hub

import (
	"context"
	"fmt"
	"slices"
	"time"

	"plantmesh/cloud/registry"
	"plantmesh/proto/enroll"
)

// revokeEvery is how often a running hub looks for keys that were revoked by
// `plantmesh agents revoke`, which is another process.
const revokeEvery = 2 * time.Second

// Revoke ends what an agent's key may do; see registry. A hub that runs closes
// its connection within revokeEvery.
func Revoke(cfg Config, site, agent, why string, now time.Time) (registry.Revocation, error) {
	reg, err := recording(cfg)
	if err != nil {
		return registry.Revocation{}, err
	}
	v, err := reg.Revoke(site, agent, why, operator(), now)
	if err != nil {
		return v, fmt.Errorf("%w: %w", ErrIdentity, err)
	}
	return v, nil
}

// rights is who is let in.
type rights struct {
	revoked []string // agents' keys that are not
	signers []string // the keys whose tokens are
	signing registry.Signing
}

// rights is who is let in now. Keys that can't be read again leave those of before in
// force: what was revoked has to be.
func (h *hub) rights(ctx context.Context, was rights, now time.Time) (r rights, err error) {
	if r.revoked, err = h.reg.Revoked(); err != nil {
		return r, err
	}
	var unread error
	if r.signing, unread = h.reg.Signing(); unread != nil {
		h.log.WarnContext(ctx, "the hub's keys can't be read again; those that signed before do", "err", unread)
		r.signing = was.signing
	}
	r.signers = r.signing.Good(now)
	return r, nil
}

// revoke puts into force what was revoked since the hub began, and which keys may sign
// agents' tokens.
func (h *hub) revoke(ctx context.Context) error {
	t := time.NewTimer(revokeEvery)
	defer t.Stop()
	inForce := rights{signers: h.reg.Trust.Signers, signing: h.reg.Trust.Signing}
	var reminded time.Time
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
		t.Reset(revokeEvery)
		now := time.Now()
		is, err := h.rights(ctx, inForce, now)
		if err == nil {
			err = h.update(ctx, inForce, is)
		}
		if err != nil {
			h.log.WarnContext(ctx, "who is let in is not in force yet, trying again", "err", err)
			continue
		}
		if !slices.Equal(is.signers, inForce.signers) || now.Sub(reminded) >= remindEvery {
			reminded = now
			h.remind(ctx, is.signing, now)
		}
		inForce = is
		if end := is.signing.Ends(now); !end.IsZero() {
			t.Reset(min(revokeEvery, end.Sub(now)))
		}
	}
}

// update has the server take who is let in now. Only then tokens are signed by a new key.
func (h *hub) update(ctx context.Context, was, is rights) error {
	if slices.Equal(was.revoked, is.revoked) && slices.Equal(was.signers, is.signers) {
		return nil
	}
	if err := h.enforce(is); err != nil {
		return err
	}
	h.gate.use(is.signing)
	if len(is.revoked) > len(was.revoked) {
		h.log.InfoContext(ctx, "revoked keys are in force", "keys", len(is.revoked))
	}
	if !slices.Equal(was.signers, is.signers) {
		h.log.InfoContext(ctx, "the keys by which agents' tokens are good are others now", "newest", enroll.Fingerprint(is.signing.Key), "of_before", len(is.signers)-1)
	}
	return nil
}

// enforce makes the server's account one of these rights. It closes the connections that
// were opened with others.
func (h *hub) enforce(is rights) error {
	token, err := h.reg.PlantAccount(is.revoked, is.signers)
	if err != nil {
		return err
	}
	return h.account(h.reg.Trust.PlantKey, token)
}
