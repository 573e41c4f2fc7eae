package agent

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"

	"plantmesh/edge/check"
	"plantmesh/edge/forward"
	"plantmesh/proto/enroll"
)

// Round trips to the hub.
const (
	trips    = 5
	slowTrip = 500 * time.Millisecond
	// hubShort is what is left of a hub's certificate that it should have made anew.
	hubShort = 7 * 24 * time.Hour
)

// paged is how the hub answers at its address for people and programs.
type paged struct {
	err   error
	code  int
	ahead time.Duration // of its clock, before this gateway's
	dated bool
}

func (c *Checkup) ofCloud() []check.Check {
	in := []string{"cfg-parse", "id-enrolled"}
	more := func(ids ...string) []string { return append(slices.Clone(in), ids...) }
	var greeted forward.Greeting
	before := []string{"net-dns"}
	if name, port, err := forward.Address(c.cfg.Hub.URL); err == nil {
		if proxy, err := c.cfg.road().By(net.JoinHostPort(name, port)); err != nil || proxy != nil {
			before = append(before, "net-proxy")
		}
	}
	return []check.Check{
		{ID: "net-dns", Needs: in, Run: c.netDNS},
		{ID: "net-proxy", Needs: []string{"cfg-parse"}, Run: c.netProxy},
		{ID: "net-tcp", Needs: more(before...), Run: c.netTCP},
		{ID: "net-tls", Needs: more("net-tcp"), Run: func(ctx context.Context) check.Result { return c.netTLS(ctx, &greeted) }},
		{ID: "net-nats", Needs: more("net-tls", "id-cert-expiry"), Run: c.netNATS},
		{ID: "net-rtt", Needs: more("net-nats"), Run: c.netRTT},
		{ID: "net-page", Needs: []string{"cfg-parse", "net-dns", "net-proxy"}, Run: plain(c.netPage)},
	}
}

// netDNS looks names up that no proxy looks up: the hub's, and that of hub.enroll.
func (c *Checkup) netDNS(ctx context.Context) check.Result {
	var said []string
	for _, w := range c.ways() {
		name, _, _ := net.SplitHostPort(w.to)
		if slices.ContainsFunc(said, func(s string) bool { return strings.HasPrefix(s, name+" ") }) {
			continue
		}
		if proxy, err := c.cfg.road().By(w.to); err == nil && proxy != nil {
			said = append(said, name+" is looked up by the proxy")
			continue
		}
		if net.ParseIP(name) != nil {
			said = append(said, name+" is an address")
			continue
		}
		found, err := net.DefaultResolver.LookupHost(ctx, name)
		if err != nil {
			why := err.Error()
			if d, ok := errors.AsType[*net.DNSError](err); ok {
				why = d.Err
			}
			return check.Fail("", "the name %s has no address: %s", name, why)
		}
		said = append(said, name+" → "+strings.Join(found[:min(len(found), 4)], ", "))
	}
	return check.Good("%s", strings.Join(said, "; "))
}

func (c *Checkup) netTCP(ctx context.Context) check.Result {
	name, port, err := forward.Address(c.cfg.Hub.URL)
	if err != nil {
		return check.Fail("", "%v", err)
	}
	at := net.JoinHostPort(name, port)
	if proxy, err := c.cfg.road().By(at); err == nil && proxy != nil {
		return c.through(ctx, at, proxy.Host)
	}
	r, refused := reach(ctx, at)
	if refused {
		r.Fix = "is the hub up, and hub.url in edge.yaml right?"
	}
	return r
}

// reach opens a connection and closes it; refused: somebody is there, and nothing listens.
func reach(ctx context.Context, at string) (r check.Result, refused bool) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	began := time.Now()
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", at)
	op, dialled := errors.AsType[*net.OpError](err)
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return check.Fail("", "%s can't be reached: a machine is there, and nothing listens at this port", at), true
	case dialled && op.Timeout():
		return check.Fail("", "%s can't be reached: no sign of life within 5 s", at), false
	case dialled:
		return check.Fail("", "%s can't be reached: %v", at, op.Err), false
	case err != nil:
		return check.Fail("", "%s can't be reached: %v", at, err), false
	}
	_ = conn.Close() // nothing was asked of it
	return check.Good("%s answers in %s", at, rounded(time.Since(began))), false
}

func (c *Checkup) netTLS(ctx context.Context, g *forward.Greeting) check.Result {
	var err error
	*g, err = forward.Greet(ctx, c.dial())
	name, _, _ := forward.Address(c.cfg.Hub.URL) // it was looked up before
	switch {
	case err != nil:
		return check.Fail("check hub.url in edge.yaml: another program may listen there", "%s: %v", name, err)
	case strings.HasPrefix(g.Other, "HTTP/") && strings.Contains(g.Other, " 407"):
		return check.Fail("name that proxy in hub.proxy of edge.yaml, or ask IT to let this gateway through to the hub without it: plantmesh-edge check --firewall prints what to ask for", "a proxy stands in the way and wants a login: %s", g.Other)
	case g.Other != "":
		return check.Fail("check hub.url in edge.yaml: another program listens there", "who answers is no NATS server: it says %q", g.Other)
	case !g.Protected:
		return check.Warn("enrol again: the hub's token then says by which authority it is known", "the connection is not encrypted, and this gateway's token does not say how to know the hub")
	case g.Stranger != nil:
		r := check.Fail("ask IT to exempt "+name+" from TLS inspection. If it is the hub's own load balancer: say in hub.ca of edge.yaml who vouches for it. If the hub itself was set up anew: "+c.enroll(), "TLS is re-signed by %q: the certificate shown is %q, and the hub that let this gateway in has another one", g.Issuer, g.Subject)
		r.Why = "somebody between gateway and hub opens the connection, or another hub answers; the agent sends nothing there, and keeps everything"
		r.Details = map[string]any{"issuer": g.Issuer, "subject": g.Subject, "reason": g.Stranger.Error()}
		return r
	}
	if left := time.Until(g.Until); left < hubShort {
		return check.Warn("look at the hub's log: a hub makes its certificate anew a month before", "the hub's certificate ends in %s: %s, issuer %s", rounded(left), g.Subject, g.Issuer)
	}
	r := check.Good("%s, %s, issuer %s, until %s", g.Version, g.Subject, g.Issuer, g.Until.UTC().Format(time.DateOnly))
	r.Details = map[string]any{"issuer": g.Issuer, "subject": g.Subject, "version": g.Version, "not_after": g.Until}
	return r
}

func (c *Checkup) netNATS(ctx context.Context) check.Result {
	got, err := forward.Call(ctx, c.dial(), 0)
	if refused, ok := errors.AsType[*forward.RefusedError](err); ok {
		return check.Fail(c.enroll(), "%s", refused.Words)
	}
	switch {
	case err != nil:
		return check.Fail("", "%v", err)
	case !got.Receipt:
		return check.Warn("if that stays so, ask whoever runs the hub", "the hub takes the login, and does not say what it has received: it is just starting, or does not store")
	}
	if s, err := c.running(); err == nil && !s.Hub.Connected {
		return check.Warn("if that stays so: sudo systemctl restart plantmesh-edge", "the hub takes the login of this check; the agent that runs is not connected: %s", s.Hub.LastError)
	}
	return check.Good("the hub takes the login, and says what it has received")
}

func (c *Checkup) netRTT(ctx context.Context) check.Result {
	got, err := forward.Call(ctx, c.dial(), trips)
	if err != nil || len(got.RTT) == 0 {
		return check.Warn("", "not measured: %v", err)
	}
	slices.Sort(got.RTT)
	middle, slowest := got.RTT[len(got.RTT)/2], got.RTT[len(got.RTT)-1]
	r := check.Good("%s, the slowest of %d %s", rounded(middle), len(got.RTT), rounded(slowest))
	if middle > slowTrip {
		r = check.Warn("", "%s: %s at most are wanted", r.Message, rounded(slowTrip))
	}
	r.Details = map[string]any{"median_seconds": middle.Seconds(), "slowest_seconds": slowest.Seconds()}
	return r
}

// visitPage asks for the address by which tokens are asked for, with a question that
// changes nothing.
func (c *Checkup) visitPage(ctx context.Context) (p paged) {
	ctx, cancel := context.WithTimeout(ctx, 8*time.Second)
	defer cancel()
	u, err := HubAddress(c.cfg.Hub.Enroll)
	if err != nil {
		return paged{err: err}
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodHead, u.JoinPath(enroll.Path).String(), nil)
	if err != nil {
		return paged{err: err}
	}
	known := c.cfg.newest() // as the agent itself asks there, see knock
	if _, err := os.Stat(known); err != nil {
		known = ""
	}
	trusted, err := Door{Hub: c.cfg.Hub.Enroll, Road: c.cfg.road(), CA: known}.trusting()
	if err != nil {
		return paged{err: err}
	}
	defer trusted.CloseIdleConnections()
	began := time.Now()
	resp, err := (&http.Client{Transport: trusted, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}).Do(r)
	if err != nil {
		return paged{err: err}
	}
	_ = resp.Body.Close() // HEAD has none
	ended := time.Now()
	p.code = resp.StatusCode
	if at, err := http.ParseTime(resp.Header.Get("Date")); err == nil {
		// A date has whole seconds: the middle of that one counts.
		p.ahead, p.dated = at.Add(time.Second/2).Sub(began.Add(ended.Sub(began)/2)), true
	}
	return p
}

// issuer is who signed a certificate.
func issuer(c *x509.Certificate) string {
	return cmp.Or(c.Issuer.CommonName, c.Issuer.String())
}

func (c *Checkup) netPage() check.Result {
	if c.cfg.Hub.Enroll == "" {
		return check.None("edge.yaml names no hub.enroll: a token that has ended is replaced by hand")
	}
	p := c.page()
	inspected, stranger := errors.AsType[*tls.CertificateVerificationError](p.err)
	switch {
	case stranger && len(inspected.UnverifiedCertificates) > 0 && errors.As(p.err, new(x509.UnknownAuthorityError)):
		return check.Fail("ask IT to exempt "+c.cfg.Hub.Enroll+" from TLS inspection, or add its authority to this gateway: update-ca-certificates", "%s: its certificate is signed by %q, which this gateway does not trust", c.cfg.Hub.Enroll, issuer(inspected.UnverifiedCertificates[0]))
	case p.err != nil:
		why := p.err
		if ue, ok := errors.AsType[*url.Error](p.err); ok {
			why = ue.Err
		}
		return check.Fail("", "%s does not answer: %v", c.cfg.Hub.Enroll, why)
	case p.code >= http.StatusInternalServerError:
		return check.Fail("look at the hub, or at what stands before it", "%s answers %d %s", c.cfg.Hub.Enroll, p.code, http.StatusText(p.code))
	}
	return check.Good("%s answers", c.cfg.Hub.Enroll)
}
