package hub

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/nats-io/jwt/v2"

	"plantmesh/cloud/registry"
)

// revokeEvery is how often a running hub looks for keys that were revoked by
// `plantmesh agents revoke`, which is another process.
const revokeEvery = 2 * time.Second

// Revoke ends what an agent's key may do; see registry. A hub that runs closes
// its connection within revokeEvery.
func Revoke(cfg Config, site, agent string, now time.Time) (registry.Revocation, error) {
	reg, err := recording(cfg)
	if err != nil {
		return registry.Revocation{}, err
	}
	v, err := reg.Revoke(site, agent, "", operator(), now)
	if err != nil {
		return v, fmt.Errorf("%w: %w", ErrIdentity, err)
	}
	return v, nil
}

// revoke puts into force what was revoked since the hub began.
func (h *hub) revoke(ctx context.Context) error {
	t := time.NewTicker(revokeEvery)
	defer t.Stop()
	var inForce []string
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
		keys, err := h.reg.Revoked()
		if err == nil && !slices.Equal(keys, inForce) {
			err = h.enforce(keys)
		}
		if err != nil {
			h.log.WarnContext(ctx, "revoked keys are not in force yet, trying again", "err", err)
			continue
		}
		if len(keys) > len(inForce) {
			h.log.InfoContext(ctx, "revoked keys are in force", "keys", len(keys))
		}
		inForce = keys
	}
}

// enforce makes the server's account the one without these keys. It closes the
// connections that were opened with them.
func (h *hub) enforce(keys []string) error {
	token, err := h.reg.PlantAccount(keys)
	if err != nil {
		return err
	}
	claims, err := jwt.DecodeAccountClaims(token)
	if err != nil {
		return fmt.Errorf("read the plant's account: %w", err)
	}
	key := h.reg.Trust.PlantKey
	if err := h.accounts.Store(key, token); err != nil {
		return fmt.Errorf("keep the plant's account: %w", err)
	}
	account, err := h.nats.LookupAccount(key)
	if err != nil {
		return fmt.Errorf("find the plant's account: %w", err)
	}
	h.nats.UpdateAccountClaims(account, claims)
	return nil
}
