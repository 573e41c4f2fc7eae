package check

import (
	"bufio"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gopcua/opcua/id"
	libserver "github.com/gopcua/opcua/server"
	"github.com/gopcua/opcua/ua"
	"github.com/gopcua/opcua/uasc"

	"plantmesh/firmware-sim/mqtt/sparkplug"
	"plantmesh/firmware-sim/plant"
	"plantmesh/proto/enroll"
	"plantmesh/proto/meshtest"
)

// machine is the simulator's OPC UA server. Its clock stands until somebody listens.
func machine(t *testing.T) (url string) {
	t.Helper()
	dir, now := t.TempDir(), time.Now().Truncate(time.Millisecond)
	g := &gateway{t: t, dir: dir}
	g.write("sim.yaml", fmt.Sprintf("seed: 3\nstart: %s\nuntil: %s\nclock: clock.json\nledger: ledger.csv\nservers:\n  - {source: line1-opcua, kind: opcua, listen: \"127.0.0.1:0\"}\n",
		now.Add(-time.Minute).UTC().Format(time.RFC3339Nano), now.UTC().Format(time.RFC3339Nano)))
	g.write("clock.json", fmt.Sprintf(`{"plant_ns":%d,"machine_ns":%d,"speed":1,"stop_ns":0}`, now.UnixNano(), now.UnixNano()))
	p := started(t, "firmware-sim", "run", "--config", filepath.Join(dir, "sim.yaml"))
	ready, err := p.says(`(\{.*"event":"ready".*\})\n`)
	if err != nil {
		t.Fatal(err)
	}
	var r struct{ Servers map[string]string }
	if err := json.Unmarshal([]byte(ready[1]), &r); err != nil {
		t.Fatal(err)
	}
	return r.Servers["line1-opcua"]
}

// filler is a source that reads a signal of machine; security is a line of its file.
func filler(url, security, node string) string {
	return fmt.Sprintf("opcua:\n  id: filler\n  endpoint: %s\n  security: {%s}\n  signals:\n    - {name: line1.filler.temperature, type: double, node: \"nsu=urn:plantmesh:firmware-sim;s=%s\"}\n", url, security, node)
}

// press is a source that reads the clock of a protected server.
func press(url string) string {
	return fmt.Sprintf("opcua:\n  id: press\n  endpoint: %s\n  signals:\n    - {name: line1.press.time, type: string, node: \"i=2258\"}\n", url)
}

var serverKey = sync.OnceValues(func() (*rsa.PrivateKey, error) { return rsa.GenerateKey(rand.Reader, 2048) })

// certificate is a server's, signed by its own key; spoil may change it.
func certificate(t *testing.T, spoil func(*x509.Certificate)) []byte {
	t.Helper()
	key, err := serverKey()
	if err != nil {
		t.Fatal(err)
	}
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<60))
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: "press"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(1, 0, 0),
		URIs: []*url.URL{{Scheme: "urn", Opaque: "test:press"}}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, BasicConstraintsValid: true,
		KeyUsage:    x509.KeyUsageDigitalSignature | x509.KeyUsageContentCommitment | x509.KeyUsageKeyEncipherment | x509.KeyUsageDataEncipherment | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	if spoil != nil {
		spoil(c)
	}
	der, err := x509.CreateCertificate(rand.Reader, c, c, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// protected is the library's server with protection; it says that it is the application
// uri, empty: the one of its certificate, and its clock is so far ahead.
func protected(t *testing.T, shown []byte, uri string, ahead time.Duration) (url string) {
	t.Helper()
	key, err := serverKey()
	if err != nil {
		t.Fatal(err)
	}
	port := freePort(t)
	srv := libserver.New(libserver.EndPoint("127.0.0.1", port), libserver.PrivateKey(key), libserver.Certificate(shown),
		libserver.EnableAuthMode(ua.UserTokenTypeAnonymous), libserver.EnableSecurity("None", ua.MessageSecurityModeNone),
		libserver.EnableSecurity("Basic256Sha256", ua.MessageSecurityModeSignAndEncrypt))
	header := func(r ua.Request) *ua.ResponseHeader {
		return &ua.ResponseHeader{Timestamp: time.Now().Add(ahead), RequestHandle: r.Header().RequestHandle, ServiceDiagnostics: &ua.DiagnosticInfo{}, AdditionalHeader: ua.NewExtensionObject(nil)}
	}
	if ahead != 0 {
		srv.RegisterHandler(id.FindServersRequest_Encoding_DefaultBinary, func(_ *uasc.SecureChannel, r ua.Request, _ uint32) (ua.Response, error) {
			return &ua.FindServersResponse{ResponseHeader: header(r)}, nil
		})
	}
	if uri != "" {
		srv.RegisterHandler(id.GetEndpointsRequest_Encoding_DefaultBinary, func(_ *uasc.SecureChannel, r ua.Request, _ uint32) (ua.Response, error) {
			all := srv.Endpoints()
			for i, e := range all {
				other, who := *e, *e.Server
				who.ApplicationURI, other.Server = uri, &who
				all[i] = &other
			}
			return &ua.GetEndpointsResponse{ResponseHeader: header(r), Endpoints: all}, nil
		})
	}
	if err := srv.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = srv.Close() })
	return fmt.Sprintf("opc.tcp://127.0.0.1:%d", port)
}

func freePort(t *testing.T) int {
	t.Helper()
	return meshtest.VacantPort(t)
}

// trusts has a gateway trust a certificate.
func (g *gateway) trusts(der []byte) {
	g.t.Helper()
	g.write("server.pem", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})))
	g.must("cert", "--config", g.path("edge.yaml"), "trust", g.path("server.pem"))
}

// broker lets everybody publish and subscribe.
func broker(t *testing.T) (url string) {
	t.Helper()
	s, err := sparkplug.Serve(sparkplug.Config{Source: "line9", Listen: "127.0.0.1:0"}, []plant.Signal{{Source: "line9", Name: "line9.filler.speed", Type: plant.Double}}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s.URL()
}

// labeller is a source that hears a broker.
func labeller(url string) string {
	return fmt.Sprintf("mqtt:\n  id: labeller\n  url: %s\n  client_id: gw7\n  topics:\n    - {filter: plant/line3/+, signal: \"line3.{2}.{key}\", time: ts, time_unit: ms}\n"+
		"  heartbeat: {topic: plant/line3/heartbeat, every: 10s}\n  signals:\n    - {name: line3.labeller.speed, type: double}\n", url)
}

// page is a hub's address for people whose clock is so far ahead.
func page(t *testing.T, ahead time.Duration) (url string) {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Date", time.Now().Add(ahead).UTC().Format(http.TimeFormat))
		w.WriteHeader(http.StatusMethodNotAllowed)
	}))
	t.Cleanup(s.Close)
	return s.URL
}

// wary is a proxy that asks for a login, or lets through: where to says.
func wary(t *testing.T, to string) (url string) {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if to == "" || r.Method != http.MethodConnect {
			w.Header().Set("Proxy-Authenticate", `Basic realm="ACME"`)
			w.WriteHeader(http.StatusProxyAuthRequired)
			return
		}
		out, err := net.Dial("tcp", to)
		if err != nil {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		in, _, err := w.(http.Hijacker).Hijack()
		if err != nil {
			out.Close()
			return
		}
		fmt.Fprint(in, "HTTP/1.1 200 OK\r\n\r\n")
		join(in, out)
	}))
	t.Cleanup(s.Close)
	return s.URL
}

// join carries bytes both ways until one side ends.
func join(a, b net.Conn) {
	go func() {
		_, _ = io.Copy(a, b)
		a.Close()
	}()
	_, _ = io.Copy(b, a)
	b.Close()
}

// inspected is a way to the hub on which somebody opens TLS, as proxies of IT
// departments do: with a certificate of their own authority for the same name.
func inspected(t *testing.T, hub string) (addr string) {
	t.Helper()
	cfg := resigned(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			go inspect(in, hub, cfg)
		}
	}()
	return l.Addr().String()
}

// opened is who opens TLS at its first byte, as of a WebSocket.
func opened(t *testing.T) (addr string) {
	t.Helper()
	l, err := tls.Listen("tcp", "127.0.0.1:0", resigned(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				_, _ = io.Copy(io.Discard, in) // until who calls has enough
				in.Close()
			}()
		}
	}()
	return l.Addr().String()
}

// resigned shows a certificate of the proxy's own authority for the hub.
func resigned(t *testing.T) *tls.Config {
	t.Helper()
	key, err := serverKey()
	if err != nil {
		t.Fatal(err)
	}
	ca := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "ACME Proxy CA"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(1, 0, 0),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: enroll.ServerName}, NotBefore: ca.NotBefore, NotAfter: ca.NotAfter,
		DNSNames: []string{enroll.ServerName}, KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, leaf, ca, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}, MinVersion: tls.VersionTLS12}
}

// inspect passes the greeting of NATS on, and opens what comes behind it.
func inspect(in net.Conn, hub string, cfg *tls.Config) {
	defer in.Close()
	out, err := net.Dial("tcp", hub)
	if err != nil {
		return
	}
	defer out.Close()
	greeting, err := bufio.NewReaderSize(out, 64<<10).ReadString('\n')
	if err != nil || !strings.HasPrefix(greeting, "INFO ") {
		return
	}
	if _, err := io.WriteString(in, greeting); err != nil {
		return
	}
	join(tls.Server(in, cfg), tls.Client(out, &tls.Config{InsecureSkipVerify: true}))
}
