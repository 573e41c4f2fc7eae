package hub

import (
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"path"
	"slices"
	"strings"
	"time"

	"plantmesh/cloud/access"
	"plantmesh/cloud/access/desk"
	"plantmesh/cloud/console"
	porthttp "plantmesh/cloud/port/http"
	"plantmesh/proto/enroll"
)

// routes is the table of all that the hub serves: who may have what. What doesn't stand
// here is nobody's; the pages of signing in are the desk's own.
func (h *hub) routes(port, page, door http.Handler) []desk.Route {
	return []desk.Route{
		{Pattern: "/", Needs: access.ReadProducts, Anywhere: true, Page: true, Handler: page},
		{Pattern: "/livez", Needs: desk.Public, AnyHost: true, Handler: port},
		{Pattern: "/readyz", Needs: access.ReadHealth, Handler: port},
		{Pattern: "/metrics", Needs: access.ReadHealth, Handler: port},
		{Pattern: enroll.Path, Needs: desk.Public, AnyHost: true, Handler: door},
		// What nothing is at: the port says so. Each of its own paths stands below.
		{Pattern: "/api/", Needs: access.ReadProducts, Anywhere: true, Handler: port},
		{Pattern: "/api/openapi.json", Needs: access.ReadProducts, Anywhere: true, Handler: port},
		// What products there are, what they promise and how far they are known; the
		// names of lines and machines. No row.
		{Pattern: "/api/v1/products", Needs: access.ReadProducts, Anywhere: true, Handler: port},
		{Pattern: "/api/v1/products/{id}", Needs: access.ReadProducts, Anywhere: true, Handler: port},
		{Pattern: "/api/v1/products/{id}/contract", Needs: access.ReadProducts, Anywhere: true, Handler: port},
		{Pattern: "/api/v1/products/{id}/status", Needs: access.ReadProducts, Anywhere: true, Handler: port},
		{Pattern: "/api/v1/machines", Needs: access.ReadProducts, Anywhere: true, Handler: port},
		{Pattern: "/api/v1/products/{id}/rows", Needs: access.ReadProducts, Narrow: h.narrow, Long: true, Handler: port},
		{Pattern: "/api/v1/products/{id}/latest", Needs: access.ReadProducts, Narrow: h.narrow, Handler: port},
		// One feed for all readers: of the whole site.
		{Pattern: "/api/v1/live", Needs: access.ReadProducts, Long: true, Handler: port},
		{Pattern: "/api/v1/agents", Needs: access.ReadAgents, Handler: port},
		{Pattern: "/api/v1/agents/{site}/{agent}", Needs: access.ReadAgents, Handler: port},
	}
}

// narrow makes of a request for rows one for those of the machines that somebody may see;
// false: it asks for others, too.
func (h *hub) narrow(r *http.Request, may func(location string) bool) (*http.Request, bool) {
	site := h.view()
	var mine []string
	lines, machines := map[string]bool{}, map[string]bool{}
	for _, l := range site.Lines {
		lines[l.ID] = may(path.Join(site.Site, l.ID))
		for _, m := range l.Machines {
			if !may(path.Join(site.Site, l.ID, m.ID)) {
				continue
			}
			mine = append(mine, m.ID)
			machines[m.ID], machines[m.Source] = true, true // in coverage a row is of a source
		}
	}
	v, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil || len(mine) == 0 {
		return r, false
	}
	for _, value := range v["equipment"] {
		for name := range strings.SplitSeq(value, ",") {
			if !lines[name] && !machines[name] {
				return r, false
			}
		}
	}
	if len(v["equipment"]) > 0 {
		return r, true
	}
	v["equipment"] = mine
	narrowed := r.Clone(r.Context())
	narrowed.URL.RawQuery = v.Encode()
	return narrowed, true
}

// web is the HTTP server: the guard, and behind it the port and the page.
func (h *hub) web(port *porthttp.Port) (*http.Server, error) {
	page, err := console.Handler()
	if err != nil {
		return nil, err
	}
	d, err := desk.New(desk.Config{
		Access: h.access, Site: h.site().Name, Loopback: isLoopback(h.cfg.HTTP.Listen), Names: h.cfg.HTTP.Names,
	}, time.Now, h.log)
	if err != nil {
		return nil, err
	}
	decide, err := h.peopleRoutes()
	if err != nil {
		return nil, err
	}
	agents, err := h.onPage()
	if err != nil {
		return nil, err
	}
	routes := slices.Concat(agents, h.routes(port, page, h.gate.door(h.cfg.Identity.Calls, h.listening())))
	for _, p := range port.Patterns() {
		if !slices.ContainsFunc(routes, func(r desk.Route) bool { return r.Pattern == p }) {
			return nil, fmt.Errorf("nobody has said who may have %s", p)
		}
	}
	return &http.Server{
		Handler: d.Guard(append(routes, decide...)), ReadHeaderTimeout: headWithin, WriteTimeout: answerWithin, IdleTimeout: idleWithin, MaxHeaderBytes: maxHead,
		ErrorLog: slog.NewLogLogger(h.log.Handler(), slog.LevelDebug), // strangers make most of it, by handshakes that fail
	}, nil
}
