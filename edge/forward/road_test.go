package forward

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"plantmesh/proto/enroll"
)

// gate is a proxy that answers each call with what it is told to, and hands on what it was
// asked. It is open until the test ends.
func gate(t *testing.T, says string) (at string, asked <-chan *http.Request) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	check(t, err)
	t.Cleanup(func() { l.Close() })
	asks := make(chan *http.Request, 10)
	go func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			t.Cleanup(func() { in.Close() })
			r, err := http.ReadRequest(bufio.NewReader(in))
			if err != nil {
				continue
			}
			asks <- r
			_, _ = io.WriteString(in, says) // who has enough goes away
		}
	}()
	return l.Addr().String(), asks
}

// What a proxy says is told in words, with what helps; what has no end is not read to its end.
func TestRoad_WhatAProxySays(t *testing.T) {
	secret := filepath.Join(t.TempDir(), "secret")
	check(t, os.WriteFile(secret, []byte("s3cret\r\n"), 0o600))
	const no = "HTTP/1.1 407 No\r\nProxy-Authenticate: "
	for name, c := range map[string]struct{ user, says, words, fix string }{
		"a way":             {"", "HTTP/1.1 200 OK\r\n\r\nINFO {}", "", ""},
		"with a login":      {"anna@", "HTTP/1.0 200 Connection established\r\nVia: x\r\n\r\nINFO {}", "", ""},
		"a login":           {"", no + "Negotiate\r\nProxy-Authenticate: Basic realm=\"x\"\r\n\r\n", "407 from proxy PROXY: it wants a login (negotiate, basic)", "hub.proxy: http://USER@PROXY"},
		"another login":     {"anna@", no + "Basic realm=\"x\"\r\n\r\n", "407 from proxy PROXY: it does not take the login that it is given (it takes basic)", "correct the user in hub.proxy"},
		"a login of others": {"anna@", no + "NTLM\r\n\r\n", "it takes ntlm", "ask IT to let this gateway through without a login, or by Basic"},
		"no":                {"", "HTTP/1.1 403 Forbidden\r\n\r\n", "403 from proxy PROXY: it lets nobody, or not this gateway, through to hub.plant:443", "ask IT to let this gateway through to hub.plant:443 (CONNECT)"},
		"not reached":       {"", "HTTP/1.1 504 Late\r\n\r\n", "504 from proxy PROXY: it does not reach hub.plant:443 itself", "the hub up"},
		"no proxy":          {"", "220 mail ready\r\n", "the proxy PROXY does not answer: it says nothing that a proxy would", "check hub.proxy of edge.yaml"},
		"with a length":     {"", "HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\nINFO {}", "", ""},
		"in chunks":         {"", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nINFO {}", "", ""},
		"no, and no more":   {"", "HTTP/1.1 403 Forbidden\r\nContent-Length: 1000\r\n\r\n", "403 from proxy PROXY: it lets nobody", "(CONNECT)"},
		"much of nothing":   {"", strings.Repeat("\x1b]", 30000) + "\r\n", "it says nothing that a proxy would", "check hub.proxy of edge.yaml"},
		"an old status":     {"", "HTTP/1.1 100 Continue\r\n\r\n", "100 from proxy PROXY: it lets nobody", "(CONNECT)"},
		"without end":       {"", "HTTP/1.1 200 OK\r\n" + strings.Repeat("X: "+strings.Repeat("x", 1000)+"\r\n", 100), "does not answer: it says nothing that a proxy would", "check hub.proxy of edge.yaml"},
	} {
		at, asked := gate(t, c.says)
		road := Road{Proxy: "http://" + c.user + at}
		if c.user != "" {
			road.PasswordFile = secret
		}
		check(t, road.Validate())
		conn, err := road.Dial(t.Context(), "tcp", "hub.plant:443") // which has no address here
		words, fix := strings.ReplaceAll(c.words, "PROXY", at), strings.ReplaceAll(c.fix, "PROXY", at)
		e, refused := errors.AsType[*ProxyError](err)
		if refused && len(e.Error()) > 500 {
			t.Errorf("%s: %d bytes of what it says are told", name, len(e.Error()))
		}
		if refused != (words != "") || refused && (!strings.Contains(e.Error(), words) || !strings.Contains(e.Fix(), fix) || !strings.Contains(reason(err), words)) {
			t.Errorf("%s: %v", name, err)
		}
		if r := <-asked; r.Method != http.MethodConnect || r.Host != "hub.plant:443" || (r.Header.Get("Proxy-Authorization") == "Basic YW5uYTpzM2NyZXQ=") != (c.user != "") {
			t.Errorf("%s: it is asked %s %s %v", name, r.Method, r.Host, r.Header)
		}
		if conn == nil {
			continue
		}
		// What came with the answer is not lost.
		early := make([]byte, len("INFO {}"))
		if _, err := io.ReadFull(conn, early); err != nil || string(early) != "INFO {}" {
			t.Errorf("%s: %q, %v", name, early, err)
		}
		check(t, conn.Close())
	}
}

// A proxy that is not there, or says nothing, is given up in time.
func TestRoad_ASilentProxy(t *testing.T) {
	at, _ := gate(t, "")
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := (Road{Proxy: "http://" + at}).Dial(ctx, "tcp", "hub.plant:443"); err == nil || !strings.Contains(err.Error(), "the proxy "+at+" does not answer: context deadline exceeded") {
		t.Error(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	check(t, err)
	check(t, l.Close())
	_, err = (Road{Proxy: "http://" + l.Addr().String()}).Dial(t.Context(), "tcp", "hub.plant:443")
	if err == nil || !strings.Contains(reason(err), "connection refused: check hub.proxy of edge.yaml") {
		t.Error(err)
	}
	if _, err := Call(t.Context(), DialConfig{URL: "nats://hub.plant", Site: "graz", Agent: "gw-1", Road: Road{Proxy: "http://" + l.Addr().String()}}, 0); err == nil || !strings.Contains(err.Error(), "connection refused: check hub.proxy of edge.yaml") {
		t.Error(err)
	}
}

func TestRoad_Validate(t *testing.T) {
	for proxy, want := range map[string]string{
		"": "", "none": "", "http://proxy": "", "https://anna@proxy:3128/": "",
		"proxy:3128": "no proxy such as", "socks5://proxy": "no proxy such as", "http://": "no proxy such as", "http://proxy/x": "nothing behind them", "http://anna:s3cret@proxy": "a password doesn't belong here",
	} {
		if err := (Road{Proxy: proxy}).Validate(); (err == nil) != (want == "") || err != nil && (!strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "s3cret")) {
			t.Errorf("%q: %v", proxy, err)
		}
	}
	for _, proxy := range []string{"", "none", "http://proxy"} {
		if (Road{Proxy: proxy, PasswordFile: "x"}).Validate() == nil {
			t.Errorf("%q has a password of nobody", proxy)
		}
	}
}

// shows is a server of TLS that hands on how it was greeted.
func shows(t *testing.T, pair tls.Certificate) (at string, greeted <-chan *tls.ClientHelloInfo) {
	t.Helper()
	hellos := make(chan *tls.ClientHelloInfo, 10)
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: func(h *tls.ClientHelloInfo) (*tls.Certificate, error) {
		hellos <- h
		return &pair, nil
	}})
	check(t, err)
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = io.Copy(io.Discard, in) // until who calls has enough
			in.Close()
		}
	}()
	return l.Addr().String(), hellos
}

// signed is a certificate for a name, and the authority that signed it, in PEM.
func signed(t *testing.T, name string) (pair tls.Certificate, ca []byte) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	check(t, err)
	root := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "of " + name}, NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, root, root, key.Public(), key)
	check(t, err)
	leaf := &x509.Certificate{SerialNumber: big.NewInt(2), DNSNames: []string{name}, NotAfter: root.NotAfter}
	own, err := x509.CreateCertificate(rand.Reader, leaf, root, key.Public(), key)
	check(t, err)
	return tls.Certificate{Certificate: [][]byte{own}, PrivateKey: key}, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

// By WebSocket the name that was called is asked for, and the hub is known by its authority
// all the same; who vouches by hub.ca does so for that name alone.
func TestTrust_ByWebSocket(t *testing.T) {
	own, authority := signed(t, enroll.ServerName)
	other, ca := signed(t, "localhost")
	dir := t.TempDir()
	token, bundle := filepath.Join(dir, "agent.jwt"), filepath.Join(dir, "ca.pem")
	check(t, os.WriteFile(token, append([]byte("-----BEGIN NATS USER JWT-----\nx\n------END NATS USER JWT------\n\n"), authority...), 0o600))
	check(t, os.WriteFile(bundle, ca, 0o600))
	for name, c := range map[string]struct {
		pair     tls.Certificate
		ca       string
		scheme   string
		good     bool
		asks     string
		isAgents bool
	}{
		"the hub":                 {own, "", "wss", true, "localhost", true},
		"the hub, not WebSocket":  {own, "", "tls", true, enroll.ServerName, false},
		"another":                 {other, "", "wss", false, "localhost", true},
		"a load balancer":         {other, bundle, "wss", true, "localhost", false},
		"the hub in its place":    {own, bundle, "wss", false, "localhost", false},
		"whom the machine trusts": {own, SystemCA, "wss", false, "localhost", false},
	} {
		at, greeted := shows(t, c.pair)
		_, port, _ := net.SplitHostPort(at)
		cfg := DialConfig{URL: c.scheme + "://localhost:" + port, Token: token, CA: c.ca}
		known, err := cfg.trusting()
		check(t, err)
		conn, err := (&tls.Dialer{Config: known.config()}).DialContext(t.Context(), "tcp", at)
		if (err == nil) != c.good || err != nil && !strings.HasPrefix(reason(err), "who answers there is not the hub") {
			t.Errorf("%s: %v", name, err)
		}
		if err == nil {
			check(t, conn.Close())
		}
		if h := <-greeted; h.ServerName != c.asks || slices.Contains(h.SupportedProtos, enroll.Protocol) != c.isAgents {
			t.Errorf("%s is asked for %q, %q", name, h.ServerName, h.SupportedProtos)
		}
		if c.scheme != "wss" {
			continue
		}
		g, err := Greet(t.Context(), cfg)
		if err != nil || !g.Known || !g.Protected || (g.Stranger == nil) != c.good {
			t.Errorf("%s: %+v, %v", name, g, err)
		}
	}
}

// An agent calls its hub alone, whatever other addresses are named by who answers there.
func TestDial_OneAddress(t *testing.T) {
	listen := func(serve func(net.Conn)) (at string, called <-chan struct{}) {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		check(t, err)
		t.Cleanup(func() { l.Close() })
		calls := make(chan struct{}, 100)
		go func() {
			for {
				in, err := l.Accept()
				if err != nil {
					return
				}
				calls <- struct{}{}
				serve(in)
				in.Close()
			}
		}()
		return l.Addr().String(), calls
	}
	elsewhere, led := listen(func(net.Conn) {})
	at, called := listen(func(in net.Conn) {
		_, _ = io.WriteString(in, `INFO {"server_id":"x","version":"2.10.0","max_payload":1000,"connect_urls":["`+elsewhere+`"]}`+"\r\n")
		for said := bufio.NewScanner(in); said.Scan(); { // who has enough goes away
			if said.Text() == "PING" {
				_, _ = io.WriteString(in, "PONG\r\n")
				return
			}
		}
	})
	n, err := Dial(t.Context(), DialConfig{URL: "nats://" + at, Site: "graz", Agent: "gw-1"}, slog.New(slog.DiscardHandler))
	check(t, err)
	defer n.Close()
	for range 4 {
		select {
		case <-called:
		case <-led:
			t.Fatal("it calls whom a stranger named")
		case <-time.After(30 * time.Second):
			t.Fatal("it does not call again")
		}
	}
}
