package forward

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"strings"

	"plantmesh/proto/enroll"
)

// SystemCA as the file of who vouches for a hub is whom this machine trusts.
const SystemCA = "system"

// trust is how the hub is known among all who may answer at its address.
type trust struct {
	roots *x509.CertPool // nil: those of this machine
	name  string         // that its certificate must be for
	asks  string         // the name that is asked for in the handshake (SNI)
	speak []string       // what is offered in it (ALPN)
}

// trusting knows the hub by the authority in the token's file, or as its configuration says;
// nil: it is an open one. A WebSocket may stand among others at one address, so the name
// that was called is asked for there, as firewalls and load balancers go by it.
func (cfg *DialConfig) trusting() (*trust, error) {
	host, _, err := Address(cfg.URL)
	if err != nil {
		return nil, err
	}
	if cfg.CA != "" {
		t := &trust{name: host, asks: host}
		if cfg.CA == SystemCA {
			return t, nil
		}
		if t.roots, err = authorities(cfg.CA); err == nil && t.roots == nil {
			err = fmt.Errorf("%s holds no certificate in PEM", cfg.CA)
		}
		return t, err
	}
	if cfg.Token == "" {
		return nil, nil //nolint:nilnil // an open hub
	}
	roots, err := authorities(cfg.Token)
	if err != nil || roots == nil {
		return nil, err
	}
	t := &trust{roots: roots, name: enroll.ServerName, asks: enroll.ServerName}
	if strings.HasPrefix(cfg.URL, "wss:") {
		t.asks, t.speak = host, []string{enroll.Protocol, "http/1.1"}
	}
	return t, nil
}

// authorities are those that stand in a file; nil: none.
func authorities(file string) (*x509.CertPool, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read how the hub is known: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(b) {
		return nil, nil //nolint:nilnil // as above
	}
	return pool, nil
}

// config is that of a connection: who is not the hub is told nothing.
func (t *trust) config() *tls.Config {
	if t.name == t.asks {
		return &tls.Config{RootCAs: t.roots, ServerName: t.name, NextProtos: t.speak, MinVersion: tls.VersionTLS12}
	}
	c := t.look()
	c.VerifyConnection = func(s tls.ConnectionState) error {
		if err := t.judge(s); err != nil {
			return &tls.CertificateVerificationError{UnverifiedCertificates: s.PeerCertificates, Err: err}
		}
		return nil
	}
	return c
}

// look is a connection whose other end is judged by judge, as its certificate need not be
// for the name that is asked for.
func (t *trust) look() *tls.Config {
	return &tls.Config{ServerName: t.asks, NextProtos: t.speak, MinVersion: tls.VersionTLS12, InsecureSkipVerify: true} //nolint:gosec // it is judged, by judge
}

// judge says why who answers is not the hub; nil: it is.
func (t *trust) judge(s tls.ConnectionState) error {
	if len(s.PeerCertificates) == 0 {
		return errors.New("it shows no certificate")
	}
	between := x509.NewCertPool()
	for _, c := range s.PeerCertificates[1:] {
		between.AddCert(c)
	}
	_, err := s.PeerCertificates[0].Verify(x509.VerifyOptions{Roots: t.roots, Intermediates: between, DNSName: t.name})
	return err
}
