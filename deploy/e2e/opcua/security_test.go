package opcua

import (
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	edgeua "plantmesh/edge/source/opcua"
)

// servers are the two that others wrote.
func servers() map[string]func(*testing.T) *exec.Cmd {
	return map[string]func(*testing.T) *exec.Cmd{"node-opcua": nodeOPCUA, "awcullen": awcullen}
}

// TestSecurity_Pairs: each of the seven pairs of policy and mode reads values, from
// both servers.
func TestSecurity_Pairs(t *testing.T) {
	var pairs []edgeua.Security
	for _, policy := range []string{"Basic256Sha256", "Aes128_Sha256_RsaOaep", "Aes256_Sha256_RsaPss"} {
		for _, mode := range []string{"Sign", "SignAndEncrypt"} {
			pairs = append(pairs, edgeua.Security{Policy: policy, Mode: mode})
		}
	}
	pairs = append(pairs, edgeua.Security{Insecure: true})
	for name, command := range servers() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := serveBy(t, command, 5, time.Second)
			var all []*gateway
			for _, s := range pairs {
				g := newGateway(t, p, name+" "+s.Policy+" "+s.Mode)
				g.cfg.Security = s
				g.start()
				all = append(all, g)
			}
			for _, g := range all {
				g.flows(p)
				g.kill()
				if y := g.l.tally(); y.lost+y.doubled+len(g.l.foreign) > 0 {
					t.Errorf("%s: %+v, foreign %q", g.cfg.ID, y, g.l.foreign)
				}
			}
			if name != "node-opcua" {
				return // it can't be asked
			}
			var sessions []string
			for _, s := range p.tell(order{"do": "sessions"}).Sessions {
				sessions = append(sessions, strings.TrimSpace("node-opcua "+strings.ReplaceAll(s, "None None", "")))
			}
			for _, g := range all {
				if !slices.Contains(sessions, strings.TrimSpace(g.cfg.ID)) {
					t.Errorf("%s is not among the server's sessions %q", g.cfg.ID, sessions)
				}
			}
		})
	}
}

// TestSecurity_Certificates: each fault of a server's certificate is refused with
// its own words, and with what helps.
func TestSecurity_Certificates(t *testing.T) {
	t.Parallel()
	p := serve(t, 1, time.Second)
	own, plantCA, strangeCA := newAuthority(t), newAuthority(t).issuing(t, "Plant CA"), newAuthority(t).issuing(t, "Strange CA")
	good := own.make(t, "matrix server", serverKey(), nil)
	before := own.make(t, "matrix server before", serverKey(), nil)
	revoked := plantCA.make(t, "matrix server", serverKey(), nil)
	unlisted := plantCA.make(t, "matrix server", serverKey(), nil)
	for _, c := range []struct {
		name string
		cert made
		// before is what a person did on the gateway; nil: trusted the certificate
		before func(t *testing.T, g *gateway)
		says   []string
	}{
		{"nobody has trusted it", good, func(*testing.T, *gateway) {}, []string{"New server certificate of opc.tcp://", `"matrix server", SHA256:`, "Nobody has trusted it", "cert trust"}},
		{"another one was trusted", good, func(_ *testing.T, g *gateway) { g.trusts(before.cert) }, []string{
			"The server certificate of opc.tcp://", `changed. Trusted so far: "matrix server before", SHA256:`, `Shown now: "matrix server", SHA256:`, "Find out who changed it",
		}},
		{"expired", own.make(t, "matrix server", serverKey(), func(c *x509.Certificate) {
			c.NotBefore, c.NotAfter = time.Now().AddDate(-2, 0, 0), time.Now().Add(-time.Hour)
		}), nil, []string{"was valid until", "the gateway's clock says", "accept_expired: true"}},
		{"not yet valid", own.make(t, "matrix server", serverKey(), func(c *x509.Certificate) { c.NotBefore = time.Now().Add(25 * time.Hour) }), nil, []string{"is valid from", "the gateway's clock says", "was ahead"}},
		{"another host", own.make(t, "matrix server", serverKey(), func(c *x509.Certificate) {
			c.IPAddresses, c.DNSNames = []net.IP{net.IPv4(10, 1, 2, 3)}, []string{"plc-8"}
		}), nil, []string{"is for plc-8, 10.1.2.3", `this gateway calls it as "127.0.0.1"`, "accept_host_mismatch: true"}},
		{"another application", own.make(t, "matrix server", serverKey(), func(c *x509.Certificate) { c.URIs = []*url.URL{{Scheme: "urn", Opaque: "before:renaming"}} }), nil, []string{
			`is for the application URI "urn:before:renaming"`, `the server says it is "` + serverURI + `"`, "accept_uri_mismatch: true",
		}},
		{"for clients only", own.make(t, "matrix server", serverKey(), func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth} }), nil, []string{"can't be used for an OPC UA server", "serverAuth"}},
		{"key not for encryption", own.make(t, "matrix server", serverKey(), func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageDigitalSignature | x509.KeyUsageContentCommitment }), nil, []string{"can't be used for an OPC UA server", "keyEncipherment"}},
		{"key too short", own.make(t, "matrix server", newKey(1024), nil), nil, []string{"1024", "RSA key of 2048 to 8192 bits"}},
		{"revoked", revoked, func(_ *testing.T, g *gateway) { g.trustsIssuer(plantCA, time.Now().Add(time.Hour), revoked) }, []string{`was revoked by its issuer "Plant CA"`, "Ask whoever runs the issuer"}},
		{"revocation list out of date", unlisted, func(_ *testing.T, g *gateway) { g.trustsIssuer(plantCA, time.Now().Add(-time.Hour)) }, []string{"was revoked is not known", "was to be replaced by", "Get the current revocation list"}},
		{"issuer unknown", strangeCA.make(t, "matrix server", serverKey(), nil), func(*testing.T, *gateway) {}, []string{`It was issued by "Strange CA", which is not trusted`, "Or get the issuer's certificate"}},
		{"signature broken", forged(t, own, good), nil, []string{"is not signed by its own key", "damaged, or forged"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			p.tell(order{"do": "certificate", "cert": c.cert.cert, "key": c.cert.key})
			g := newGateway(t, p, t.Name())
			g.cfg.Application.Store = newStore(t)
			if c.before == nil {
				g.trusts(c.cert.cert)
			} else {
				c.before(t, g)
			}
			g.start()
			said := g.l.says(20*time.Second, "not connected: ")
			g.kill()
			if w := words(said, c.says...); w != "" {
				t.Errorf("%q misses in: %s", w, said)
			}
			t.Log(said)
			if len(g.l.seen[0]) > 0 {
				t.Error("values were read all the same")
			}
		})
	}
}

// trustsIssuer trusts a CA, with a list of what it has revoked, to be replaced by next.
func (g *gateway) trustsIssuer(a *authority, next time.Time, revoked ...made) {
	g.t.Helper()
	l := &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: time.Now().Add(-24 * time.Hour), NextUpdate: next}
	for _, m := range revoked {
		l.RevokedCertificateEntries = append(l.RevokedCertificateEntries, x509.RevocationListEntry{SerialNumber: m.parsed.SerialNumber, RevocationTime: time.Now().Add(-time.Minute)})
	}
	list, err := x509.CreateRevocationList(rand.Reader, l, a.cert, a.key)
	if err != nil {
		g.t.Fatal(err)
	}
	ca := filepath.Join(g.t.TempDir(), "ca.der")
	write(g.t, ca, a.cert.Raw)
	g.trusts(ca)
	write(g.t, filepath.Join(g.cfg.Application.Store, "crl", "plant.crl"), list)
}

// forged is m with another signature.
func forged(t *testing.T, a *authority, m made) made {
	t.Helper()
	der := slices.Clone(m.parsed.Raw)
	der[len(der)-1] ^= 1
	m.cert = filepath.Join(a.dir, "forged.pem")
	write(t, m.cert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	return m
}

// TestSecurity_Logins: by name and by certificate, taken and refused, on both servers.
func TestSecurity_Logins(t *testing.T) {
	user, stranger := newAuthority(t).make(t, "anna", newKey(2048), nil), newAuthority(t).make(t, "otto", newKey(2048), nil)
	dir := t.TempDir()
	right, wrong := filepath.Join(dir, "right"), filepath.Join(dir, "wrong")
	write(t, right, []byte("open sesame\n"))
	write(t, wrong, []byte("close sesame\n"))
	for name, command := range servers() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := serveBy(t, command, 1, time.Second, func(p *plan) { p.Users = user.parsed.Raw })
			if name == "node-opcua" {
				p.tell(order{"do": "users", "trust": user.cert})
			}
			for _, c := range []struct {
				name string
				s    edgeua.Security
				says string // empty: it is taken
			}{
				{"the right password", edgeua.Security{User: "anna", PasswordFile: right}, ""},
				{"the wrong password", edgeua.Security{User: "anna", PasswordFile: wrong}, `the server refuses this login: check security.user ("anna"), the password in security.password_file`},
				{"nobody's name", edgeua.Security{User: "otto", PasswordFile: right}, "the server refuses this login"},
				{"a certificate", edgeua.Security{UserCertificate: user.cert, UserKey: user.key}, ""},
				{"a stranger's certificate", edgeua.Security{UserCertificate: stranger.cert, UserKey: stranger.key}, "the server refuses this login"},
				{"a certificate without its key", edgeua.Security{UserCertificate: user.cert, UserKey: stranger.key}, "read the user's certificate"},
			} {
				g := newGateway(t, p, name+" "+c.name)
				g.cfg.Security = c.s
				g.start()
				if c.says == "" {
					g.flows(p)
				} else if said := g.l.says(20*time.Second, "not connected: "); !strings.Contains(said, c.says) {
					t.Errorf("%s: it says %q, want %q", c.name, said, c.says)
				} else {
					t.Logf("%s: %s", c.name, said)
				}
				g.kill()
			}
		})
	}
}

// TestSecurity_TheServerDoesNotTrustUs: the words name the gateway's certificate,
// so that a person finds it in the server's list.
func TestSecurity_TheServerDoesNotTrustUs(t *testing.T) {
	for name, command := range servers() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := serveBy(t, command, 1, time.Second, func(p *plan) { p.Wary = true })
			g := newGateway(t, p, name)
			g.start()
			said := g.l.says(20*time.Second, "not connected: ")
			g.kill()
			t.Log(said)
			if w := words(said, "the server does not trust this gateway's certificate yet", "trust it there, by its fingerprint", "SHA256:", filepath.Join("own", "cert.der")); w != "" {
				t.Errorf("%q misses in: %s", w, said)
			}
			if _, err := os.Stat(filepath.Join(g.cfg.Application.Store, "own", "cert.der")); err != nil {
				t.Error(err)
			}
		})
	}
}
