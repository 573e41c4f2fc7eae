package trust

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

var noon = time.Date(2026, 11, 29, 12, 0, 0, 0, time.UTC)

const (
	plc    = "opc.tcp://plc-7:4840"
	plcURI = "urn:plc-7:server"
	agent  = "urn:plant:gateway"
)

// chest are the keys of all tests: making them takes longer than the tests.
type chest struct {
	server, other, ca, sub, weak *rsa.PrivateKey
	elliptic                     *ecdsa.PrivateKey
}

var keys = sync.OnceValue(func() chest {
	made := func(bits int) *rsa.PrivateKey {
		k, err := rsa.GenerateKey(rand.Reader, bits)
		if err != nil {
			panic(err)
		}
		return k
	}
	e, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	return chest{made(2048), made(2048), made(2048), made(2048), made(1024), e}
})

// party is a certificate and the key it is of.
type party struct {
	cert *x509.Certificate
	key  crypto.Signer
}

type change func(*x509.Certificate)

// sign makes a certificate; without an issuer it signs itself.
func sign(t testing.TB, c *x509.Certificate, key crypto.Signer, by *party, changes ...change) party {
	t.Helper()
	for _, f := range changes {
		f(c)
	}
	issuer, signer := c, key
	if by != nil {
		issuer, signer = by.cert, by.key
	}
	der, err := x509.CreateCertificate(rand.Reader, c, issuer, key.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return party{parsed, key}
}

func serial(t testing.TB) *big.Int {
	t.Helper()
	n, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 100))
	if err != nil {
		t.Fatal(err)
	}
	return n.Add(n, big.NewInt(1))
}

// server makes a server's certificate as it should be, but for the changes.
func server(t testing.TB, by *party, changes ...change) party {
	t.Helper()
	return serverWith(t, keys().server, by, changes...)
}

func serverWith(t testing.TB, key crypto.Signer, by *party, changes ...change) party {
	t.Helper()
	uri, err := url.Parse(plcURI)
	if err != nil {
		t.Fatal(err)
	}
	return sign(t, &x509.Certificate{
		SerialNumber: serial(t), Subject: pkix.Name{CommonName: "PLC 7", Organization: []string{"works"}},
		NotBefore: noon.AddDate(-1, 0, 0), NotAfter: noon.AddDate(1, 0, 0),
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageContentCommitment | x509.KeyUsageKeyEncipherment |
			x509.KeyUsageDataEncipherment | x509.KeyUsageCertSign,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true, URIs: []*url.URL{uri},
		DNSNames: []string{"plc-7", "192.168.10.22"}, IPAddresses: []net.IP{net.IPv4(192, 168, 10, 21)},
	}, key, by, changes...)
}

func authority(t testing.TB, name string, key crypto.Signer, by *party, changes ...change) party {
	t.Helper()
	return sign(t, &x509.Certificate{
		SerialNumber: serial(t), Subject: pkix.Name{CommonName: name},
		NotBefore: noon.AddDate(-2, 0, 0), NotAfter: noon.AddDate(2, 0, 0),
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign, BasicConstraintsValid: true, IsCA: true,
	}, key, by, changes...)
}

// revocations makes a revocation list, valid for a day around noon.
func revocations(t testing.TB, by party, list *x509.RevocationList, of ...party) []byte {
	t.Helper()
	if list == nil {
		list = &x509.RevocationList{}
	}
	list.Number = big.NewInt(1)
	if list.ThisUpdate.IsZero() {
		list.ThisUpdate, list.NextUpdate = noon.Add(-12*time.Hour), noon.Add(12*time.Hour)
	}
	for _, p := range of {
		list.RevokedCertificateEntries = append(list.RevokedCertificateEntries, x509.RevocationListEntry{
			SerialNumber: p.cert.SerialNumber, RevocationTime: noon.Add(-time.Hour),
		})
	}
	der, err := x509.CreateRevocationList(rand.Reader, list, by.cert, by.key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// open opens a store whose keys are quickly made.
func open(t testing.TB, dir string) *Store {
	t.Helper()
	s, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	given := 0
	s.newKey = func() (*rsa.PrivateKey, error) {
		given++
		return []*rsa.PrivateKey{keys().server, keys().other, keys().ca}[(given-1)%3], nil
	}
	return s
}

// plant puts a file into a store by hand, as people do.
func (s *Store) plant(t testing.TB, sub, name string, content []byte) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(s.dir, sub, name), content, 0o600); err != nil {
		t.Fatal(err)
	}
}

func (s *Store) trustNow(t testing.TB, p party, endpoint string) {
	t.Helper()
	if err := s.keep([]*x509.Certificate{p.cert}, noon); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Trust(sha(p.cert.Raw), endpoint); err != nil {
		t.Fatal(err)
	}
}

func at(endpoint string) Want {
	return Want{Endpoint: endpoint, Host: "plc-7", ApplicationURI: plcURI}
}

func chain(of ...party) (der []byte) {
	for _, p := range of {
		der = append(der, p.cert.Raw...)
	}
	return der
}

// refused is the refusal of a judgement, nil if there was none.
func refused(t testing.TB, err error) *Refusal {
	t.Helper()
	r, ok := errors.AsType[*Refusal](err)
	if err != nil && !ok {
		t.Fatalf("no refusal: %v", err)
	}
	return r
}

// count is how many files people would see in a folder.
func (s *Store) count(t testing.TB, sub string) int {
	t.Helper()
	entries, err := os.ReadDir(s.path(sub))
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

func chainOf(of ...party) (out []*x509.Certificate) {
	for _, p := range of {
		out = append(out, p.cert)
	}
	return out
}
