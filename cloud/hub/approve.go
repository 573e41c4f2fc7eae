package hub

import (
	"errors"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"plantmesh/cloud/access"
	accessdesk "plantmesh/cloud/access/desk"
	"plantmesh/cloud/audit"
	"plantmesh/cloud/registry"
	"plantmesh/cloud/registry/desk"
	"plantmesh/proto/enroll"
)

// Look implements desk.Book.
func (g *gate) Look() (asking []registry.Petition, in []registry.Agent, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if asking, err = g.reg.Petitions(); err == nil {
		in, err = g.reg.Agents()
	}
	return asking, in, err
}

// Approve implements desk.Book.
func (g *gate) Approve(shown, as string, by registry.Actor) (registry.Petition, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.reg.Approve(shown, g.rules.Site, as, by, time.Now())
}

// Refuse implements desk.Book.
func (g *gate) Refuse(shown, why string, by registry.Actor) (registry.Petition, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.reg.Refuse(shown, why, by, time.Now())
}

// Revoke implements desk.Book. It is in force within revokeEvery.
func (g *gate) Revoke(site, agent, why string, by registry.Actor) (registry.Revocation, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.reg.Revoke(site, agent, why, by, time.Now())
}

// Invites implements desk.Invites.
func (g *gate) Invites() ([]registry.Invite, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.reg.Invites()
}

// Invite implements desk.Invites.
func (g *gate) Invite(i registry.Invite, by registry.Actor) (registry.Invite, string, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.reg.Invite(i, by)
}

// EndInvite implements desk.Invites.
func (g *gate) EndInvite(id, why string, by registry.Actor) (registry.Invite, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.reg.EndInvite(id, why, by, time.Now())
}

// mayAt says why who sends a request may not do something at a location. Who calls from
// this machine while nobody has an account may decide on gateways and
// machines, as they could by the command line.
func mayAt(r *http.Request, permission, location string) error {
	p, ok := permissionOf(permission)
	who := access.Of(r.Context())
	if ok && (mayHere(who, p) || who.May(p, location)) {
		return nil
	}
	where := location
	if where == "" {
		where = "the whole hub"
	}
	return mayNot(p, " at "+where)
}

// mayAnywhere says why who sends a request may do something nowhere.
func mayAnywhere(r *http.Request, permission string) error {
	p, ok := permissionOf(permission)
	who := access.Of(r.Context())
	if ok && (mayHere(who, p) || who.MayAnywhere(p)) {
		return nil
	}
	return mayNot(p, "")
}

// mayNot says what somebody lacks.
func mayNot(p access.Permission, where string) error {
	var may []string
	for _, r := range access.RolesThatMay(p) {
		may = append(may, string(r))
	}
	return errors.New("you may not " + string(p) + where + ": an admin can give you a role that may (" + strings.Join(may, ", ") + ")")
}

// permissionOf is a permission in the words of desks.
func permissionOf(permission string) (p access.Permission, ok bool) {
	p, ok = map[string]access.Permission{
		desk.Read: access.ReadAgents, desk.Approve: access.ApproveAgents, desk.Revoke: access.RevokeAgents, desk.Rotate: access.RotateKeys, desk.Configure: access.ConfigureAgents, desk.ConfigureRules: access.ConfigureRules, audit.Permission: access.ReadAudit,
		desk.ManageKeys: access.ManageKeys, desk.ManageReaders: access.ManageReaders, desk.ReadMachines: access.ReadProducts, desk.ManageMachines: access.ManageMachines,
	}[permission]
	return p, ok
}

func mayHere(who access.Identity, p access.Permission) bool {
	return who.Caller.Via == access.ViaLoopback && (p == access.ApproveAgents || p == access.RevokeAgents || p == access.ConfigureAgents || p == access.ManageMachines)
}

// whoCalls is who sends a request, for the record.
func whoCalls(r *http.Request) registry.Actor {
	c := access.CallerOf(r.Context())
	if c.User == "" {
		c.User = c.Via
	}
	return registry.Actor{Who: c.User, Via: c.Via, Address: c.Address}
}

// peopleRoutes are those by which people and programs decide who is let in, and read who
// changed what. All of them need to be known; the desks look closer.
func (h *hub) peopleRoutes() ([]accessdesk.Route, error) {
	d, err := desk.New(desk.Config{
		Site: h.site().Name, Lifetime: time.Duration(h.cfg.Identity.Lifetime), Book: h.gate, Keys: h.gate, Invites: h.gate, Shelf: shelf{h}, Readers: lending{h}, Carry: h.carry, Authority: h.gate.authority,
		Who: whoCalls, Token: func(r *http.Request) string { return access.FormTokenOf(r.Context()) }, May: mayAt, Now: time.Now, Log: h.log,
	})
	if err != nil {
		return nil, err
	}
	trail := &audit.Desk{Trail: h.trail, Rounds: h.rounds, Log: h.log, May: func(r *http.Request, permission, _ string) error { return mayAt(r, permission, h.site().Name) }}
	routes := []accessdesk.Route{{Pattern: audit.Path, Needs: access.ReadAudit, Handler: trail}}
	pace := accessdesk.NewPace(time.Now)
	handlers := d.Handlers()
	for _, pattern := range slices.Sorted(maps.Keys(handlers)) {
		r := accessdesk.Route{Pattern: pattern, Needs: access.ReadAgents, Handler: handlers[pattern]}
		switch pattern {
		case "GET " + desk.StylePath:
			r.Needs = accessdesk.Public
		case "GET " + enroll.Page + "{code}", "POST " + enroll.Page + "{code}":
			r.Page = true
		case "GET /api/v1/enrollment-keys", "POST /api/v1/enrollment-keys", "POST /api/v1/enrollment-keys/{id}/end":
			r.Needs, r.Handler = access.ManageKeys, pace.Of(r.Handler)
		case "GET /api/v1/readers", "POST /api/v1/readers", "POST /api/v1/readers/{name}/renew", "POST /api/v1/readers/{name}/rewind", "DELETE /api/v1/readers/{name}":
			r.Needs, r.Handler = access.ManageReaders, pace.Of(r.Handler)
		}
		routes = append(routes, r)
	}
	users := accessdesk.People{Access: h.access, Address: h.cfg.HTTP.Address(), Log: h.log, Grants: func(texts []string) ([]access.Grant, error) { return grantsAt(h.site().Name, texts) }}
	handlers = users.Handlers()
	for _, pattern := range slices.Sorted(maps.Keys(handlers)) {
		routes = append(routes, accessdesk.Route{Pattern: pattern, Needs: access.ManageUsers, Anywhere: true, Handler: pace.Of(handlers[pattern])})
	}
	machines := desk.Machines{Plant: h.sites, Who: whoCalls, May: mayAt, Anywhere: mayAnywhere, Log: h.log}
	handlers = machines.Handlers()
	for _, pattern := range slices.Sorted(maps.Keys(handlers)) {
		// Of which lines and machines, the desk looks closer.
		routes = append(routes, accessdesk.Route{Pattern: pattern, Needs: access.ReadProducts, Anywhere: true, Handler: handlers[pattern]})
	}
	return routes, nil
}
