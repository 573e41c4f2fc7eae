package agent

import (
	"context"
	"errors"
	"net"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"plantmesh/edge/check"
	"plantmesh/edge/forward"
)

// proxyWithin is how long a proxy may take to give way.
const proxyWithin = 5 * time.Second

// wayTo is somewhere that this gateway calls its hub.
type wayTo struct {
	to  string // host:port
	key string // of edge.yaml
}

// ways are where data goes, and where tokens are asked for.
func (c *Checkup) ways() (out []wayTo) {
	if name, port, err := forward.Address(c.cfg.Hub.URL); err == nil {
		out = append(out, wayTo{net.JoinHostPort(name, port), "hub.url"})
	}
	at := Door{Hub: c.cfg.Hub.Enroll}.address()
	if at != "" && !slices.ContainsFunc(out, func(w wayTo) bool { return w.to == at }) {
		out = append(out, wayTo{at, "hub.enroll"})
	}
	return out
}

// netProxy asks the proxies on the way to the hub to give it.
func (c *Checkup) netProxy(ctx context.Context) check.Result {
	let := map[string][]string{} // by proxy
	for _, w := range c.ways() {
		proxy, err := c.cfg.road().By(w.to)
		if err != nil {
			return check.Fail("correct HTTPS_PROXY, or name the proxy in hub.proxy of edge.yaml: a URL such as http://proxy.plant.example:3128", "%v", err)
		}
		if proxy == nil {
			continue
		}
		if strings.HasPrefix(proxy.Scheme, "socks5") && w.key == "hub.enroll" {
			host, port := forward.ProxyAddress(proxy)
			if r, _ := reach(ctx, net.JoinHostPort(host, port)); r.Kind != check.OK {
				return r
			}
		} else if r := c.through(ctx, w.to, proxy.Host); r.Kind != check.OK {
			return r
		}
		let[proxy.Host] = append(let[proxy.Host], w.to)
	}
	if len(let) == 0 {
		return c.straight()
	}
	var said []string
	for at, to := range let {
		said = append(said, at+" lets this gateway through to "+strings.Join(to, " and "))
	}
	slices.Sort(said)
	return check.Good("%s", strings.Join(said, "; "))
}

// straight is that no proxy is on the way, as far as is seen from here.
func (c *Checkup) straight() check.Result {
	if running, err := c.running(); err == nil && running.Hub.Proxy != "" {
		return check.Warn("name it in hub.proxy of edge.yaml: then it is the same for all", "the agent that runs calls the hub through the proxy %s, of the environment of its service; this shell has another, so the checks of the hub go straight there", running.Hub.Proxy)
	}
	for _, key := range []string{"HTTPS_PROXY", "https_proxy"} {
		if _, err := url.Parse(os.Getenv(key)); err != nil && c.cfg.Hub.Proxy == "" { // the standard library takes it for none
			return check.Warn("correct "+key+", or name the proxy in hub.proxy of edge.yaml: a URL such as http://proxy.plant.example:3128", "%s of the environment is no URL, and so no proxy: the hub is called straight", key)
		}
	}
	return check.None("no proxy is set, neither in edge.yaml (hub.proxy) nor in the environment: the hub is called straight")
}

// through opens a connection through a proxy, and closes it.
func (c *Checkup) through(ctx context.Context, to, proxy string) check.Result {
	ctx, cancel := context.WithTimeout(ctx, proxyWithin)
	defer cancel()
	began := time.Now()
	conn, err := c.cfg.road().Dial(ctx, "tcp", to)
	if e, ok := errors.AsType[*forward.ProxyError](err); ok {
		r := check.Fail(e.Fix(), "%v", e)
		r.Details = map[string]any{"proxy": e.Proxy, "target": e.Target, "status": e.Status, "offers": e.Offers}
		return r
	}
	if err != nil {
		return check.Fail("", "%v", err)
	}
	_ = conn.Close() // nothing was asked of the hub
	return check.Good("%s is reached through the proxy %s in %s", to, proxy, rounded(time.Since(began)))
}
