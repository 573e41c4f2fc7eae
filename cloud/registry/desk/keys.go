package desk

import (
	"fmt"
	"net/http"
	"time"

	"plantmesh/cloud/registry"
)

// ManageKeys is the permission for one-time keys of gateways, which the root is asked for.
const ManageKeys = "keys.manage"

// keysPath is where one-time keys are.
const keysPath = "/api/v1/enrollment-keys"

// Invites are one-time keys, where they are. Safe for concurrent use; what it changed is
// recorded and on the disk when it returns.
type Invites interface {
	Invites() ([]registry.Invite, error)
	// Invite makes one, and tells its secret.
	Invite(i registry.Invite, by registry.Actor) (made registry.Invite, secret string, err error)
	EndInvite(id, why string, by registry.Actor) (registry.Invite, error)
}

// invites lists the one-time keys, with who came by them.
func (d *Desk) invites(w http.ResponseWriter, r *http.Request) {
	if err := d.cfg.May(r, ManageKeys, d.cfg.Site); err != nil {
		problem(w, http.StatusForbidden, err.Error())
		return
	}
	all, err := d.cfg.Invites.Invites()
	if err != nil {
		d.fail(w, r, err)
		return
	}
	for i := range all {
		if all[i].Used == nil {
			all[i].Used = []registry.Claim{}
		}
	}
	answer(w, map[string]any{"data": all})
}

// invite makes a one-time key. Its secret is told here and nowhere else.
func (d *Desk) invite(w http.ResponseWriter, r *http.Request) {
	q := struct {
		Uses   int    `json:"uses"`
		For    string `json:"for"`
		Prefix string `json:"prefix"`
		Note   string `json:"note"`
	}{Uses: 1, For: "24h"}
	if !d.asked(w, r, ManageKeys, d.cfg.Site, &q) {
		return
	}
	life, err := time.ParseDuration(q.For)
	if err != nil {
		problem(w, http.StatusBadRequest, fmt.Sprintf(`write for how long the key is good, as {"for": "24h"}: %v`, err))
		return
	}
	now := d.cfg.Now().UTC()
	made, secret, err := d.cfg.Invites.Invite(registry.Invite{Prefix: q.Prefix, Uses: q.Uses, Created: now, Expires: now.Add(life), Note: clean(q.Note, maxWhy)}, d.cfg.Who(r))
	if err != nil {
		d.fail(w, r, err)
		return
	}
	made.Used = []registry.Claim{}
	answerWith(w, http.StatusCreated, map[string]any{"key": secret, "invite": made})
}

// endInvite ends a one-time key before its time.
func (d *Desk) endInvite(w http.ResponseWriter, r *http.Request) {
	var q struct {
		Reason string `json:"reason"`
	}
	if !d.asked(w, r, ManageKeys, d.cfg.Site, &q) {
		return
	}
	i, err := d.cfg.Invites.EndInvite(r.PathValue("id"), clean(q.Reason, maxWhy), d.cfg.Who(r))
	if err != nil {
		d.fail(w, r, err)
		return
	}
	if i.Used == nil {
		i.Used = []registry.Claim{}
	}
	answer(w, i)
}
