package opcua

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

// serverKey is the key of every server here: making one takes half a second. awcullen's
// server takes the length of its private exponent for that of its modulus, and decrypts
// no password with one of a hundred keys, whose exponent begins with zeros.
var serverKey = sync.OnceValue(func() *rsa.PrivateKey {
	for {
		if key := newKey(2048); len(key.D.Bytes()) == key.Size() {
			return key
		}
	}
})

func newKey(bits int) *rsa.PrivateKey {
	key, err := rsa.GenerateKey(rand.Reader, bits)
	if err != nil {
		panic(err)
	}
	return key
}

// authority makes certificates: issued by itself, or signed by their own key.
type authority struct {
	dir  string
	cert *x509.Certificate
	key  *rsa.PrivateKey
}

// newAuthority is one that issues nothing yet: what it makes is self-signed.
func newAuthority(t *testing.T) *authority {
	t.Helper()
	return &authority{dir: t.TempDir()}
}

// issuing makes the authority's own certificate.
func (a *authority) issuing(t *testing.T, name string) *authority {
	t.Helper()
	a.key = newKey(2048)
	c := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(1, 0, 0),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, c, c, &a.key.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	if a.cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	return a
}

// made is a certificate and its key, as files.
type made struct {
	cert, key string
	parsed    *x509.Certificate
}

// make makes a certificate; spoil may change it, and the key it is made for.
func (a *authority) make(t *testing.T, name string, key *rsa.PrivateKey, spoil func(*x509.Certificate)) made {
	t.Helper()
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<60))
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(1, 0, 0),
		URIs: []*url.URL{{Scheme: "urn", Opaque: "plantmesh:matrix:server"}}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, DNSNames: []string{"localhost"},
		KeyUsage:    x509.KeyUsageDigitalSignature | x509.KeyUsageContentCommitment | x509.KeyUsageKeyEncipherment | x509.KeyUsageDataEncipherment,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}, BasicConstraintsValid: true,
	}
	if spoil != nil {
		spoil(c)
	}
	by, with := c, key
	if a.cert != nil {
		by, with = a.cert, a.key
	} else if c.KeyUsage&x509.KeyUsageDigitalSignature != 0 {
		c.KeyUsage |= x509.KeyUsageCertSign // it signs itself
	}
	der, err := x509.CreateCertificate(rand.Reader, c, by, &key.PublicKey, with)
	if err != nil {
		t.Fatal(err)
	}
	m := made{cert: filepath.Join(a.dir, serial.String()+".crt.pem"), key: filepath.Join(a.dir, serial.String()+".key.pem")}
	if m.parsed, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	write(t, m.cert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	write(t, m.key, pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)}))
	return m
}

// server makes a server's certificate.
func (a *authority) server(t *testing.T, spoil func(*x509.Certificate)) (cert, key string) {
	t.Helper()
	m := a.make(t, "matrix server", serverKey(), spoil)
	return m.cert, m.key
}

func write(t *testing.T, path string, b []byte) {
	t.Helper()
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
}
