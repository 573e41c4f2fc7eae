package registry

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"sync"
	"time"

	"plantmesh/proto/enroll"
)

const (
	// authorityLife of the hub's own certificate authority. Agents are told of it with
	// each token, so that another one can stand beside it long before it ends.
	authorityLife = 20 * 365 * 24 * time.Hour
	// certificateLife of what the hub's listeners show. It is made anew at each start,
	// and before a third of it is left; its key lies on no disk.
	certificateLife = 90 * 24 * time.Hour
	// backdated: a gateway's clock may be behind.
	backdated = 24 * time.Hour
)

// errAuthority is returned where what keys.json holds is no authority.
var errAuthority = errors.New("keys.json holds no certificate authority that could sign")

// newAuthority makes the certificate authority of a hub. It signs for this hub alone.
func newAuthority(now time.Time) (certificate, key string, err error) {
	signer, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return "", "", fmt.Errorf("make the hub's authority: %w", err)
	}
	serial, err := newSerial()
	if err != nil {
		return "", "", err
	}
	c := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: "Plantmesh hub"}, NotBefore: now.Add(-backdated), NotAfter: now.Add(authorityLife),
		IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, c, c, signer.Public(), signer)
	if err != nil {
		return "", "", fmt.Errorf("make the hub's authority: %w", err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(signer)
	if err != nil {
		return "", "", fmt.Errorf("make the hub's authority: %w", err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})), string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret})), nil
}

func newSerial() (*big.Int, error) {
	n, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127)) // RFC 5280: at most 20 bytes, above 0
	if err != nil {
		return nil, fmt.Errorf("make a certificate's number: %w", err)
	}
	return n.Add(n, big.NewInt(1)), nil
}

// Authority is the certificate of the hub's own authority, in PEM: who trusts it trusts
// this hub's listeners.
func (r *Registry) Authority() string { return r.keys.Authority }

// Callers is how somebody calls this hub, and nobody else.
func (r *Registry) Callers() (*tls.Config, error) {
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM([]byte(r.keys.Authority)) {
		return nil, errAuthority
	}
	return &tls.Config{RootCAs: pool, ServerName: enroll.ServerName, MinVersion: tls.VersionTLS12}, nil
}

// Certifier gives the hub's listeners what they show. Safe for concurrent use.
type Certifier struct {
	ca    *x509.Certificate
	key   *ecdsa.PrivateKey
	now   func() time.Time
	names []string

	mu   sync.Mutex
	leaf *tls.Certificate
}

// Certifier reads the hub's authority; now is the machine's clock. Names are those that a
// listener is called by, beside those on this machine: host names and addresses.
func (r *Registry) Certifier(now func() time.Time, names ...string) (*Certifier, error) {
	pair, err := tls.X509KeyPair([]byte(r.keys.Authority), []byte(r.keys.AuthorityKey))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errAuthority, err)
	}
	key, ok := pair.PrivateKey.(*ecdsa.PrivateKey)
	if !ok || !pair.Leaf.IsCA {
		return nil, errAuthority
	}
	return &Certifier{ca: pair.Leaf, key: key, now: now, names: names}, nil
}

// Config is that of a listener.
func (c *Certifier) Config() *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: c.certificate}
}

// certificate is the one to show now.
func (c *Certifier) certificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if now := c.now(); c.leaf == nil || now.Add(certificateLife/3).After(c.leaf.Leaf.NotAfter) {
		leaf, err := c.sign(now)
		if err != nil {
			return nil, err
		}
		c.leaf = leaf
	}
	return c.leaf, nil
}

func (c *Certifier) sign(now time.Time) (*tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make the hub's certificate: %w", err)
	}
	serial, err := newSerial()
	if err != nil {
		return nil, err
	}
	t := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: enroll.ServerName}, NotBefore: now.Add(-backdated), NotAfter: now.Add(certificateLife),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		DNSNames: []string{enroll.ServerName, "localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback},
	}
	for _, name := range c.names {
		if ip := net.ParseIP(name); ip != nil {
			t.IPAddresses = append(t.IPAddresses, ip)
		} else {
			t.DNSNames = append(t.DNSNames, name)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, t, c.ca, key.Public(), c.key)
	if err != nil {
		return nil, fmt.Errorf("make the hub's certificate: %w", err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("make the hub's certificate: %w", err)
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}, nil
}

// withAuthority is an agent's token with the authority by which it knows its hub.
func (r *Registry) withAuthority(token []byte) []byte {
	return append(bytes.TrimRight(token, "\n"), "\n\n"+r.keys.Authority...)
}
