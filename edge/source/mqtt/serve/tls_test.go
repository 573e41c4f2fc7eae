package serve

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"plantmesh/edge/source/mqtt/link"
)

// authority signs certificates.
type authority struct {
	t    *testing.T
	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	ca   string // its certificate's file
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{t: t, dir: t.TempDir()}
	a.ca, _ = a.issue("authority")
	return a
}

// issue makes a certificate for a name, and its key, as files; the first is its own.
func (a *authority) issue(name string) (cert, key string) {
	a.t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	c := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		IsCA: a.cert == nil, BasicConstraintsValid: true, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	signer, by := a.key, a.cert
	if by == nil {
		signer, by = k, c
	}
	der, err := x509.CreateCertificate(rand.Reader, c, by, &k.PublicKey, signer)
	if err != nil {
		a.t.Fatal(err)
	}
	if a.cert == nil {
		a.cert, a.key = c, k
	}
	secret, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		a.t.Fatal(err)
	}
	cert, key = filepath.Join(a.dir, name+".pem"), filepath.Join(a.dir, name+".key")
	for path, b := range map[string]*pem.Block{cert: {Type: "CERTIFICATE", Bytes: der}, key: {Type: "PRIVATE KEY", Bytes: secret}} {
		if err := os.WriteFile(path, pem.EncodeToMemory(b), 0o600); err != nil {
			a.t.Fatal(err)
		}
	}
	return cert, key
}

// book acknowledges everything at once, and notes who said it.
type book struct {
	mu   sync.Mutex
	said []string
}

func (b *book) Publish(c *Client, p *link.Packet) {
	b.mu.Lock()
	b.said = append(b.said, c.User+" "+string(p.Topic)+" "+string(p.Payload))
	b.mu.Unlock()
	_ = c.Ack([]uint16{p.ID}) // it may be gone
}
func (*book) Begin(Session)           {}
func (*book) End(string)              {}
func (*book) Count(int, string, bool) {}

// listening runs a server until the test ends.
func listening(t *testing.T, cfg Config, b *book) string {
	t.Helper()
	if err := cfg.Validate(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	s, err := Listen(ctx, cfg, nil, b, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return s.Address()
}

// TestServer_DevicesShowCertificatesOrSayPasswords: over TLS, and nobody else.
func TestServer_DevicesShowCertificatesOrSayPasswords(t *testing.T) {
	ours, others := newAuthority(t), newAuthority(t)
	serverCert, serverKey := ours.issue("gateway")
	fillerCert, fillerKey := ours.issue("filler")
	strangerCert, strangerKey := ours.issue("stranger")
	forgedCert, forgedKey := others.issue("filler")
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("s\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	b := &book{}
	address := listening(t, Config{
		Listen: "127.0.0.1:0", CertFile: serverCert, KeyFile: serverKey, CAFile: ours.ca,
		Devices: []Device{{User: "filler", Publish: []string{"f/#"}}, {User: "capper", PasswordFile: secret, Publish: []string{"c/#"}}},
	}, b)
	for _, c := range []struct {
		name, scheme string
		cfg          link.Config
		topic, want  string
	}{
		{"certificate", "mqtts", link.Config{CAFile: ours.ca, CertFile: fillerCert, KeyFile: fillerKey}, "f/x", ""},
		{"password", "mqtts", link.Config{CAFile: ours.ca, Username: "capper", PasswordFile: secret}, "c/x", ""},
		{"password and another's certificate", "mqtts", link.Config{CAFile: ours.ca, CertFile: fillerCert, KeyFile: fillerKey, Username: "capper", PasswordFile: secret}, "c/x", ""},
		{"certificate of nobody", "mqtts", link.Config{CAFile: ours.ca, CertFile: strangerCert, KeyFile: strangerKey}, "", "refused"},
		{"certificate for another user", "mqtts", link.Config{CAFile: ours.ca, CertFile: fillerCert, KeyFile: fillerKey, Username: "capper"}, "", "refused"},
		{"certificate of another authority", "mqtts", link.Config{CAFile: ours.ca, CertFile: forgedCert, KeyFile: forgedKey}, "", "connack"},
		{"no certificate where one is needed", "mqtts", link.Config{CAFile: ours.ca, Username: "filler"}, "", "refused"},
		{"in the open", "mqtt", link.Config{Username: "capper", PasswordFile: secret}, "", "connack"},
		{"a server that is not trusted", "mqtts", link.Config{CAFile: others.ca, Username: "capper", PasswordFile: secret}, "", "certificate"},
	} {
		c.cfg.URL = c.scheme + "://" + address
		if err := c.cfg.Validate(); err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		l, _, err := link.Dial(t.Context(), &c.cfg, link.Hello{ClientID: strings.ReplaceAll(c.name, " ", "-"), CleanStart: true})
		if c.want != "" {
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%s: %v does not say %q", c.name, err, c.want)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		if _, err := l.Publish(link.Message{Topic: c.topic, Payload: []byte(c.name), QoS: 1}); err != nil {
			t.Error(err)
		}
		var p link.Packet
		if kind, err := l.Next(&p); err != nil || kind != link.Acknowledged || p.Reason != 0 {
			t.Errorf("%s: answer %v %v, %v", c.name, kind, p.Reason, err)
		}
		l.Close()
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if got := strings.Join(b.said, "; "); got != "filler f/x certificate; capper c/x password; capper c/x password and another's certificate" {
		t.Errorf("heard %s", got)
	}
}

// One caller more than max_clients is let go; a user has so many client ids and no more;
// who says nothing is left after a while.
func TestServer_IsBounded(t *testing.T) {
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("s\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	address := listening(t, Config{Listen: "127.0.0.1:0", MaxClients: mostPerUser + 2, Devices: []Device{{User: "u", PasswordFile: secret, Publish: []string{"#"}}}}, &book{})
	cfg := link.Config{URL: "mqtt://" + address, Username: "u", PasswordFile: secret}
	if err := cfg.Validate(); err != nil {
		t.Fatal(err)
	}
	var kept []*link.Link
	for i := range mostPerUser + 1 {
		l, _, err := link.Dial(t.Context(), &cfg, link.Hello{ClientID: "c" + string(rune('a'+i)), Expiry: time.Hour})
		if over := i == mostPerUser; over != (err != nil) {
			t.Errorf("client id %d: %v", i+1, err)
		}
		if err == nil {
			kept = append(kept, l)
		}
	}
	var idle []net.Conn
	for range 3 { // say nothing
		c, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		idle = append(idle, c)
	}
	last := idle[len(idle)-1]
	if err := last.SetReadDeadline(time.Now().Add(5 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := last.Read(make([]byte, 1)); err == nil || strings.Contains(err.Error(), "timeout") {
		t.Errorf("one caller too many: %v", err)
	}
	for _, l := range kept {
		l.Close()
	}
}
