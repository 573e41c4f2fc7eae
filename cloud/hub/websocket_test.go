package hub

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"plantmesh/cloud/registry"
	"plantmesh/proto/enroll"
	"plantmesh/proto/subject"
	"plantmesh/proto/wire"
)

// byWebSocket connects as dial does.
func byWebSocket(h *hub, name string, as nats.Option, opts ...nats.Option) (*nats.Conn, error) {
	callers, err := h.reg.Callers()
	if err != nil {
		return nil, err
	}
	return nats.Connect(h.nats.WebsocketURL(), append(opts, as, nats.Secure(callers), nats.CustomInboxPrefix(subject.Inbox(name)), nats.Timeout(10*time.Second))...)
}

// Over WebSocket an agent and a reader may what they may over TCP, and nobody else is let in.
func TestWebSocket_IsTheSameHub(t *testing.T) {
	h, _ := read(t)
	all := callers(t, h)
	for _, who := range []string{"an agent", "a reader", "a reader whose time is over", "nobody", "an agent of another hub", "with somebody's token, another key", "of the plant, by a key of their own"} {
		c := all[who]
		c.tries(t, h, who, byWebSocket)
	}
}

// Large messages go through, and none that are larger than what the first listener takes.
func TestWebSocket_TakesLargeMessages(t *testing.T) {
	h := opened(t)
	nc, err := byWebSocket(h, "gw-1", enrol(t, h, "gw-1"))
	check(t, err)
	defer nc.Close()
	if nc.MaxPayload() != wire.MaxFrame {
		t.Errorf("it takes %d bytes", nc.MaxPayload())
	}
	js, err := jetstream.New(nc)
	check(t, err)
	table, records := largeLog(t)
	data := wire.AppendDescriptor(nil, table)
	for _, r := range records {
		data = wire.AppendRecord(data, r)
	}
	until(t, 20*time.Second, "the stream takes it", func() bool {
		ask, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		_, err := js.Publish(ask, subject.Ingest("graz", "gw-1", subject.Live), data, jetstream.WithRetryAttempts(0))
		return err == nil
	})
	if err := nc.Publish(subject.Ingest("graz", "gw-1", subject.Live), make([]byte, wire.MaxFrame+1)); err == nil {
		t.Error("what is too large is sent")
	}
}

// What is no agent gets no further than its handshake: pages of others, other protocols, and
// who says nothing.
func TestWebSocket_Strangers(t *testing.T) {
	h := opened(t)
	callers, err := h.reg.Callers()
	check(t, err)
	at := strings.TrimPrefix(h.nats.WebsocketURL(), "wss://")
	call := func() *tls.Conn {
		c, err := (&tls.Dialer{Config: callers}).DialContext(t.Context(), "tcp", at)
		check(t, err)
		t.Cleanup(func() { c.Close() })
		return c.(*tls.Conn)
	}
	for name, c := range map[string]struct {
		path, more string
		want       int
	}{
		"an agent":              {"/", "", http.StatusSwitchingProtocols},
		"behind a path":         {"/plantmesh", "", http.StatusSwitchingProtocols},
		"a page of its own":     {"/", "Origin: https://" + at + "\r\n", http.StatusSwitchingProtocols},
		"a page of another":     {"/", "Origin: https://evil.example\r\n", http.StatusForbidden},
		"a machine's broker":    {"/mqtt", "", http.StatusNotFound},
		"one that wants a file": {"/hub.db", "Upgrade: none\r\n", http.StatusSwitchingProtocols}, // the first says what is meant: it is no file server
	} {
		conn := call()
		fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: %s\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover; client_no_context_takeover\r\n%s\r\n", c.path, at, c.more)
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		check(t, err)
		if resp.StatusCode != c.want {
			t.Errorf("%s is answered %d", name, resp.StatusCode)
		}
		if x := resp.Header.Get("Sec-Websocket-Extensions"); x != "" {
			t.Errorf("%s is offered %s: what is sent is compressed", name, x)
		}
		resp.Body.Close()
	}
	silent := call()
	check(t, silent.SetReadDeadline(time.Now().Add(handshakeWithin+10*time.Second)))
	if _, err := silent.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("who says nothing stays: %v", err)
	}
}

// A certificate of one's own is shown to whoever calls by name, and read again when it
// changes; agents are shown the hub's, also once the other has ended.
func TestWebSocket_ShowsEachTheirs(t *testing.T) {
	dir := t.TempDir()
	reg, err := registry.Open(filepath.Join(dir, "registry"))
	check(t, err)
	company, err := registry.Open(filepath.Join(dir, "company"))
	check(t, err)
	cert, key := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	brings := func(at time.Time) {
		certifier, err := company.Certifier(func() time.Time { return at }, "hub.example.com")
		check(t, err)
		pair, err := certifier.Config().GetCertificate(nil)
		check(t, err)
		writePair(t, cert, key, pair, false)
	}
	brings(time.Now().AddDate(-10, 0, 0))
	o, err := (&WebSocketConfig{Listen: "127.0.0.1:0", CertFile: cert, KeyFile: key}).options(t.Context(), nil, reg, quiet())
	check(t, err)
	shown := func(protos ...string) string {
		c, err := o.TLSConfig.GetCertificate(&tls.ClientHelloInfo{SupportedProtos: protos})
		check(t, err)
		return c.Leaf.Issuer.CommonName + " " + c.Leaf.NotAfter.String()
	}
	agents, others := shown(enroll.Protocol, "http/1.1"), shown("http/1.1")
	if agents == others || agents == shown() {
		t.Errorf("agents are shown %s, others %s", agents, others)
	}
	now := time.Now()
	b := &brought{what: "the WebSocket", cert: cert, key: key, now: func() time.Time { return now }, log: quiet()}
	o.TLSConfig.GetCertificate = eachTheirs(b, o.TLSConfig.GetCertificate)
	before := shown("http/1.1")
	brings(time.Now())
	now = now.Add(lookAgain + time.Second)
	if after := shown("http/1.1"); after == before || shown(enroll.Protocol) != agents {
		t.Errorf("others are shown %s as before, agents %s", after, shown(enroll.Protocol))
	}
}

// Off unless it is asked for; what agents are told is where it listens, under the name they
// called, or what the file says.
func TestWebSocket_WhatAgentsAreTold(t *testing.T) {
	o, err := (&WebSocketConfig{}).options(t.Context(), nil, nil, quiet())
	if check(t, err); o.Port != 0 || o.TLSConfig != nil {
		t.Errorf("%+v", o)
	}
	for name, c := range map[string]struct {
		cfg       NATSConfig
		called    string
		nats, wss string
	}{
		"as it listens":        {NATSConfig{Listen: "0.0.0.0:4222", WebSocket: WebSocketConfig{Listen: "0.0.0.0:443"}}, "hub.example", "nats://hub.example:4222", "wss://hub.example:443"},
		"none":                 {NATSConfig{Listen: "127.0.0.1:4222"}, "", "nats://127.0.0.1:4222", ""},
		"in a file":            {NATSConfig{Listen: "127.0.0.1:4222", WebSocket: WebSocketConfig{Listen: "[::1]:443"}}, "", "nats://127.0.0.1:4222", "wss://[::1]:443"},
		"all by WebSocket":     {NATSConfig{Listen: "127.0.0.1:4222", Announce: "wss://data.example/nats", WebSocket: WebSocketConfig{Listen: "127.0.0.1:8444"}}, "hub.example", "wss://data.example/nats", "wss://data.example/nats"},
		"behind a firewall":    {NATSConfig{Listen: "10.0.0.7:4222", Announce: "nats://hub.example:14222"}, "10.0.0.7", "nats://hub.example:14222", ""},
		"a balancer alone":     {NATSConfig{Listen: "10.0.0.7:4222", Announce: "wss://hub.example"}, "hub.example", "wss://hub.example", "wss://hub.example"},
		"on the page":          {NATSConfig{Listen: "0.0.0.0:4222", WebSocket: WebSocketConfig{Listen: apart, OnPage: true}}, "hub.example", "nats://hub.example:4222", "wss://hub.example:8443/nats"},
		"by another, and both": {NATSConfig{Listen: "0.0.0.0:4222", Announce: "tls://a.example:4222", WebSocket: WebSocketConfig{Listen: ":443"}}, "b.example", "tls://a.example:4222", "wss://b.example:443"},
	} {
		if n, w := (&Config{NATS: c.cfg, HTTP: HTTPConfig{Listen: "0.0.0.0:8443"}}).callee().of(c.called); n != c.nats || w != c.wss {
			t.Errorf("%s: %s, %s", name, n, w)
		}
	}
	h := opened(t)
	if l := h.listening(); !strings.HasSuffix(h.nats.WebsocketURL(), l.webSocket) || strings.HasSuffix(l.webSocket, ":0") || l.nats != h.nats.Addr().String() {
		t.Errorf("it listens at %+v", l)
	}
}

// At the page's address strangers who open no WebSocket are let go, and all who do leave room
// for the page; who leaves makes room.
func TestWebSocket_OnPageLeavesRoom(t *testing.T) {
	h := opened(t)
	h.cfg.NATS.WebSocket.OnPage, h.cfg.HTTP.MaxConnections = true, 3 // two of them
	routes, err := h.onPage()
	check(t, err)
	page := httptest.NewServer(routes[0].Handler)
	t.Cleanup(page.Close)
	ask := func(more string) (net.Conn, *http.Response) {
		conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", strings.TrimPrefix(page.URL, "http://"))
		check(t, err)
		t.Cleanup(func() { conn.Close() })
		fmt.Fprintf(conn, "GET /nats HTTP/1.1\r\nHost: hub\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n%s\r\n", more)
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		check(t, err)
		t.Cleanup(func() { resp.Body.Close() })
		return conn, resp
	}
	const key = "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
	for what, more := range map[string]string{"no key": "", "a page of another": key + "Origin: https://evil.example\r\n"} {
		if _, resp := ask(more); resp.StatusCode < 400 || !resp.Close {
			t.Errorf("%s is answered %d, and stays: %v", what, resp.StatusCode, !resp.Close)
		}
	}
	var open []net.Conn
	until(t, 30*time.Second, "there is no room", func() bool { // each of them may stay for seconds
		conn, resp := ask(key)
		if resp.StatusCode == http.StatusSwitchingProtocols {
			open = append(open, conn)
		}
		return resp.StatusCode == http.StatusServiceUnavailable && resp.Close && len(open) >= 2
	})
	for _, conn := range open {
		check(t, conn.Close())
	}
	until(t, 30*time.Second, "there is room again", func() bool {
		_, resp := ask(key)
		return resp.StatusCode == http.StatusSwitchingProtocols
	})
}
