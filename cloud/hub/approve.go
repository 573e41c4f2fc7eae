package hub

import (
	"errors"
	"maps"
	"net/http"
	"slices"
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

// mayAt says why who sends a request may not do something at a location. Who calls from
// this machine while nobody has an account may decide on gateways, as they could by the
// command line.
func mayAt(r *http.Request, permission, location string) error {
	p, ok := map[string]access.Permission{
		desk.Read: access.ReadAgents, desk.Approve: access.ApproveAgents, desk.Revoke: access.RevokeAgents, audit.Permission: access.ReadAudit,
	}[permission]
	who := access.Of(r.Context())
	local := who.Caller.Via == access.ViaLoopback && (p == access.ApproveAgents || p == access.RevokeAgents)
	if ok && (local || who.May(p, location)) {
		return nil
	}
	where := location
	if where == "" {
		where = "the whole hub"
	}
	return errors.New("you may not " + string(p) + " at " + where + ": an admin can give you a role that may, as operator")
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
		Site: h.site.Name, Lifetime: time.Duration(h.cfg.Identity.Lifetime), Book: h.gate,
		Who: whoCalls, Token: func(r *http.Request) string { return access.FormTokenOf(r.Context()) }, May: mayAt, Now: time.Now, Log: h.log,
	})
	if err != nil {
		return nil, err
	}
	trail := &audit.Desk{Trail: h.trail, Log: h.log, May: func(r *http.Request, permission, _ string) error { return mayAt(r, permission, h.site.Name) }}
	routes := []accessdesk.Route{{Pattern: audit.Path, Needs: access.ReadAudit, Handler: trail}}
	handlers := d.Handlers()
	for _, pattern := range slices.Sorted(maps.Keys(handlers)) {
		r := accessdesk.Route{Pattern: pattern, Needs: access.ReadAgents, Handler: handlers[pattern]}
		switch pattern {
		case "GET " + desk.StylePath:
			r.Needs = accessdesk.Public
		case "GET " + enroll.Page + "{code}", "POST " + enroll.Page + "{code}":
			r.Page = true
		}
		routes = append(routes, r)
	}
	return routes, nil
}
