package forward

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"plantmesh/proto/subject"
)

// Address is where a hub is called: host and port, with the port of its scheme where
// none is said.
func Address(hub string) (host, port string, err error) {
	u, err := url.Parse(hub)
	if err != nil || u.Hostname() == "" {
		return "", "", fmt.Errorf("%q is no address of a hub", hub)
	}
	if port = u.Port(); port == "" {
		port = map[string]string{"ws": "80", "wss": "443"}[u.Scheme]
	}
	if port == "" {
		port = "4222" // registered for NATS
	}
	return u.Hostname(), port, nil
}

// Greeting is who answers where the hub should.
type Greeting struct {
	Protected bool      // the connection is encrypted
	Version   string    // such as TLS 1.3
	Subject   string    // of the certificate that was shown
	Issuer    string    // who signed it
	Until     time.Time // when it ends
	Stranger  error     // why it is not the hub that let this agent in; nil: it is
	Known     bool      // the token says by which authority the hub is known
	Other     string    // what answers in place of NATS, its first line; empty: NATS does
}

// maxInfo bounds the line with which a server of NATS greets.
const maxInfo = 64 << 10

// Greet connects to the hub as Dial does and looks at who answers, but logs nobody in.
func Greet(ctx context.Context, cfg DialConfig) (g Greeting, err error) {
	host, port, err := Address(cfg.URL)
	if err != nil {
		return g, err
	}
	known, err := cfg.trusting()
	if err != nil {
		return g, err
	}
	g.Known = known != nil
	conn, err := cfg.Road.Dial(ctx, "tcp", net.JoinHostPort(host, port))
	if err != nil {
		return g, fmt.Errorf("connect to the hub: %w", err)
	}
	defer conn.Close() //nolint:errcheck // nothing was asked of it
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	scheme, _, _ := strings.Cut(cfg.URL, "://")
	switch scheme {
	case "ws":
		if !g.Known {
			return g, nil
		}
	case "wss":
	default:
		var offered bool
		if offered, g.Other, err = info(conn); err != nil || g.Other != "" {
			return g, err
		}
		if !offered && !g.Known && scheme != "tls" {
			return g, nil
		}
	}
	return g, g.shake(ctx, conn, host, known)
}

// info reads how a server of NATS greets; other is the line of somebody else.
func info(conn net.Conn) (protected bool, other string, err error) {
	line, err := bufio.NewReader(io.LimitReader(conn, maxInfo)).ReadString('\n')
	if err != nil && line == "" {
		return false, "", fmt.Errorf("who answers says nothing: %w", err)
	}
	body, greets := strings.CutPrefix(line, "INFO ")
	var said struct {
		Required bool `json:"tls_required"`
	}
	if greets {
		greets = json.Unmarshal([]byte(body), &said) == nil
	}
	if !greets {
		return false, strings.ToValidUTF8(strings.TrimSpace(line[:min(len(line), 100)]), "?"), nil
	}
	return said.Required, "", nil
}

// shake shakes hands with whoever is there, and judges the certificate afterwards: who
// stands in the hub's place is to be named.
func (g *Greeting) shake(ctx context.Context, conn net.Conn, host string, known *trust) error {
	if known == nil {
		known = &trust{name: host, asks: host}
	}
	t := tls.Client(conn, known.look()) // nothing is sent but this: it is judged below
	if err := t.HandshakeContext(ctx); err != nil {
		return fmt.Errorf("who answers does not protect the connection: %w", err)
	}
	s := t.ConnectionState()
	leaf := s.PeerCertificates[0]
	g.Protected, g.Version, g.Subject, g.Issuer, g.Until = true, tls.VersionName(s.Version), named(leaf.Subject.CommonName, leaf.Subject.String()), named(leaf.Issuer.CommonName, leaf.Issuer.String()), leaf.NotAfter
	g.Stranger = known.judge(s)
	return nil
}

// named is what a certificate calls somebody, safe to print.
func named(common, all string) string {
	const most = 160
	if common == "" {
		common = all
	}
	return strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, common[:min(len(common), most)])
}

// Called is how a call at the hub went.
type Called struct {
	RTT     []time.Duration // in the order in which they were measured
	Receipt bool            // the hub says what it has received of this agent
}

// RefusedError is that the hub does not take this agent's login.
type RefusedError struct{ Words string }

func (e *RefusedError) Error() string { return e.Words }

// Call logs in beside the agent that runs, measures n round trips, asks the hub what it
// has received, and goes. It sends nothing that is kept.
func Call(ctx context.Context, cfg DialConfig, n int) (c Called, err error) {
	opts := []nats.Option{
		nats.Name("plantmesh-edge check " + cfg.Agent), nats.CustomInboxPrefix(subject.Inbox(cfg.Agent)), nats.NoReconnect(), nats.Timeout(dialWithin(ctx)),
	}
	as, err := cfg.as()
	if err != nil {
		return c, err
	}
	var last error // the library hides why a call was refused
	dial := cfg.Road.dialer(ctx, dialWithin(ctx))
	opts = append(append(opts, as...), nats.SkipHostLookup(), nats.SetCustomDialer(dialFunc(func(network, address string) (conn net.Conn, err error) {
		conn, last = dial(network, address)
		return conn, last
	})))
	nc, err := nats.Connect(cfg.URL, opts...)
	if errors.Is(err, nats.ErrNoServers) && last != nil {
		err = last
	}
	for _, refused := range []error{nats.ErrAuthorization, nats.ErrAuthExpired, nats.ErrAuthRevoked} {
		if errors.Is(err, refused) {
			return c, &RefusedError{reason(err)}
		}
	}
	if err != nil {
		return c, errors.New(reason(err))
	}
	defer nc.Close()
	for range n {
		if ctx.Err() != nil {
			break
		}
		d, err := nc.RTT()
		if err != nil {
			return c, fmt.Errorf("measure the way to the hub: %w", err)
		}
		c.RTT = append(c.RTT, d)
	}
	ctx, cancel := context.WithTimeout(ctx, resumeTimeout)
	defer cancel()
	_, err = nc.RequestWithContext(ctx, subject.Resume(cfg.Site, cfg.Agent), nil)
	c.Receipt = err == nil
	return c, nil
}

// dialWithin is how long a connection may take.
func dialWithin(ctx context.Context) time.Duration {
	const most = 5 * time.Second
	if at, ok := ctx.Deadline(); ok {
		return max(time.Millisecond, min(most, time.Until(at)))
	}
	return most
}
