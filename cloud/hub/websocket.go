package hub

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"golang.org/x/time/rate"

	"plantmesh/cloud/access/desk"
	"plantmesh/cloud/registry"
	"plantmesh/proto/enroll"
	"plantmesh/proto/strict"
)

// WebSocketConfig is a second listener for the same agents and readers, as WebSocket over
// TLS: networks that let nothing out but HTTPS let this out. Accounts, permissions and
// limits are those of the first.
type WebSocketConfig struct {
	// Listen is host:port, as 0.0.0.0:8444; default: none. Beyond loopback it needs a hub
	// that has users, as http.listen does. Gateways behind a proxy call port 443 as a rule:
	// have a firewall lead that here, and say nats.announce; or let services listen there
	// (sysctl net.ipv4.ip_unprivileged_port_start=443).
	Listen string `yaml:"listen"`
	// CertFile and KeyFile are a certificate and its key of your own, in PEM, for whoever
	// calls by the hub's name; they are read again when they change. Agents are shown one
	// of the hub's own authority all the same: it is what they know the hub by, so one of
	// yours that has ended cuts none of them off. Default: the hub's own for all.
	CertFile string `yaml:"cert_file"`
	KeyFile  string `yaml:"key_file"`
	// OnPage has the page's address take it, too, as wss://hub.example.com:8443/nats:
	// then one port is all that a hub needs. It must be HTTPS, shows agents the hub's own
	// certificate as well, and counts them in http.max_connections: three quarters of that may
	// be theirs, so that the page stays open. Listen need not be said.
	OnPage bool `yaml:"on_page"`
}

const (
	// webSocketPath is where the page's address takes WebSockets.
	webSocketPath = "/nats"
	// apart is where the embedded server listens where only the page's address is called.
	apart = "127.0.0.1:0"
	// onPageShare is how many of a hundred connections of the page's address may be WebSockets.
	onPageShare = 75
)

func (c *WebSocketConfig) complete(doc *strict.Doc, secure bool) error {
	if c.OnPage && c.Listen == "" {
		c.Listen = apart
	}
	switch {
	case c.OnPage && !secure:
		return doc.Fault("$.nats.websocket.on_page", "the page is no HTTPS: say http.tls, or have it listen beyond loopback")
	case c.Listen == "" && (c.CertFile != "" || c.KeyFile != ""):
		return doc.Fault("$.nats.websocket", "listen is missing: without it nobody is shown this certificate")
	case (c.CertFile == "") != (c.KeyFile == ""):
		return doc.Fault("$.nats.websocket", "cert_file and key_file go together: write both, or none for a certificate of the hub's own")
	case c.CertFile == "":
		return nil
	}
	if _, err := tls.LoadX509KeyPair(c.CertFile, c.KeyFile); err != nil {
		return doc.Fault("$.nats.websocket.cert_file", "%s with %s: %s", c.CertFile, c.KeyFile, strict.Unreadable(err))
	}
	return nil
}

// options are those of the embedded server's WebSocket listener; the zero value: there is
// none.
func (c *WebSocketConfig) options(ctx context.Context, names []string, reg *registry.Registry, log *slog.Logger) (o server.WebsocketOpts, err error) {
	if c.Listen == "" {
		return o, nil
	}
	host, port, err := natsAt(ctx, c.Listen)
	if err != nil {
		return o, err
	}
	certifier, err := reg.Certifier(time.Now, certified(&HTTPConfig{Names: names, Listen: c.Listen})...)
	if err != nil {
		return o, err
	}
	shown := certifier.Config()
	if c.CertFile != "" {
		own := &brought{what: "the WebSocket", cert: c.CertFile, key: c.KeyFile, now: time.Now, log: log}
		if _, err := own.certificate(nil); err != nil {
			return o, err
		}
		shown.GetCertificate = eachTheirs(own, shown.GetCertificate)
	}
	// What an upgrade may bring along from a web page (cookies, other origins) is nobody's
	// login, and compression would only cost: what agents send is compressed. Between a
	// call and its upgrade lies no more than a handshake.
	return server.WebsocketOpts{Host: host, Port: port, TLSConfig: shown, SameOrigin: true, HandshakeTimeout: handshakeWithin}, nil
}

// eachTheirs shows agents, who say so, the hub's own certificate, and others the brought
// one.
func eachTheirs(own *brought, agents func(*tls.ClientHelloInfo) (*tls.Certificate, error)) func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	return func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
		if slices.Contains(hello.SupportedProtos, enroll.Protocol) {
			return agents(hello)
		}
		return own.certificate(hello)
	}
}

// natsAt is an address as the embedded server takes it, once it can be listened on.
func natsAt(ctx context.Context, listen string) (host string, port int, err error) {
	host, text, err := net.SplitHostPort(listen)
	if err != nil {
		return "", 0, &listenError{listen, err}
	}
	if port, err = strconv.Atoi(text); err != nil {
		return "", 0, &listenError{listen, err}
	}
	if err := free(ctx, listen); err != nil {
		return "", 0, err
	}
	if port == 0 {
		port = server.RANDOM_PORT
	}
	return host, port, nil
}

// announceable says why agents can't be told an address; nil: they can.
func announceable(at string) error {
	u, err := url.Parse(at)
	switch {
	case err != nil || u.Hostname() == "":
		return errors.New("no address such as wss://hub.example.com")
	case !slices.Contains([]string{"nats", "tls", "wss"}, u.Scheme):
		return errors.New("agents call a hub by nats://, tls:// or wss://")
	case u.User != nil:
		return errors.New("who an agent is says its key, not the address: leave out what stands before the @")
	}
	return nil
}

// callee is where agents call this hub: its listeners as they are, and what its file says
// of the way there.
type callee struct {
	announce        string // goes before all
	nats, webSocket string // host:port; webSocket empty: there is none
	page            string // host:port of the page, where that takes WebSockets
}

func (c *Config) callee() callee {
	out := callee{announce: c.NATS.Announce, nats: c.NATS.Listen, webSocket: c.NATS.WebSocket.Listen}
	if c.NATS.WebSocket.OnPage {
		out.page = c.HTTP.Listen
	}
	return out
}

// of is where an agent calls that reached this hub under a name; empty: under those that
// it listens at. webSocket is for networks that let nothing else out; empty: there is none.
func (c callee) of(name string) (nats, webSocket string) {
	at := func(scheme, listen string) string {
		host, port, err := net.SplitHostPort(listen)
		if err != nil {
			return ""
		}
		return scheme + net.JoinHostPort(cmp.Or(name, host), port)
	}
	nats, webSocket = cmp.Or(c.announce, at("nats://", c.nats)), at("wss://", c.webSocket)
	if c.page != "" {
		webSocket = at("wss://", c.page) + webSocketPath
	}
	if u, err := url.Parse(c.announce); err == nil && u.Scheme == "wss" {
		webSocket = c.announce
	}
	return nats, webSocket
}

// listening is where its agents call a hub that runs.
func (h *hub) listening() callee {
	c := h.cfg.callee()
	c.nats = h.nats.Addr().String()
	if c.page != "" {
		c.page = cmp.Or(h.page, c.page)
	}
	if u, err := url.Parse(h.nats.WebsocketURL()); err == nil && c.webSocket != "" {
		c.webSocket = u.Host
	}
	return c
}

// onPage is the way from the page's address to the embedded server; none: it isn't asked for.
func (h *hub) onPage() ([]desk.Route, error) {
	if !h.cfg.NATS.WebSocket.OnPage {
		return nil, nil
	}
	known, err := h.reg.Callers()
	if err != nil {
		return nil, err
	}
	to, err := url.Parse(strings.Replace(h.nats.WebsocketURL(), "wss://", "https://", 1))
	if err != nil {
		return nil, fmt.Errorf("find the WebSocket: %w", err)
	}
	way := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(to)
			r.Out.URL.Path, r.Out.URL.RawQuery = "/", "" // the server has other protocols at other paths
			r.Out.Host = r.In.Host                       // by which pages of others are told
			r.SetXForwarded()
		},
		// Who opens none has cost a handshake behind this address, too: let it cost them another.
		ModifyResponse: func(r *http.Response) error {
			if r.StatusCode != http.StatusSwitchingProtocols {
				r.Header.Set("Connection", "close")
			}
			return nil
		},
		Transport: &http.Transport{TLSClientConfig: known, DisableKeepAlives: true, TLSHandshakeTimeout: handshakeWithin, ResponseHeaderTimeout: handshakeWithin},
		ErrorLog:  slog.NewLogLogger(h.log.Handler(), slog.LevelDebug), // strangers make most of it
	}
	room := make(chan struct{}, max(1, h.cfg.HTTP.MaxConnections*onPageShare/100))
	full := rate.Sometimes{First: 1, Interval: time.Minute}
	return []desk.Route{{Pattern: "GET " + webSocketPath, Needs: desk.Public, AnyHost: true, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ProtoMajor != 1 || !strings.EqualFold(r.Header.Get("Upgrade"), "websocket") {
			http.Error(w, "agents and programs call here by WebSocket", http.StatusUpgradeRequired)
			return
		}
		select {
		case room <- struct{}{}:
		default:
			full.Do(func() {
				h.log.Warn("no more WebSockets are taken at the page's address, so that the page stays open: say more as http.max_connections, or nats.websocket.listen", "open", cap(room))
			})
			w.Header().Set("Connection", "close")
			http.Error(w, "this hub has no room for another WebSocket now: try again", http.StatusServiceUnavailable)
			return
		}
		defer func() { <-room }()
		way.ServeHTTP(w, r)
	})}}, nil
}
