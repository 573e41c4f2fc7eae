package trust

import (
	"crypto/x509"
	"fmt"
	"slices"
	"strings"
)

// minPrefix are the hexadecimal digits that a fingerprint must at least be given with.
const minPrefix = 8

// Trust trusts a certificate out of rejected/, or one in trusted/ at another
// endpoint too. fingerprint is its SHA-256, whole or the first 8 digits or more,
// with or without colons, spaces and "SHA256:". With an endpoint the certificate
// is trusted there, beside where it was so far and beside the others that are
// trusted there (an old one stays usable until Distrust); one that was trusted
// everywhere is trusted only there from then on. Without an endpoint it is trusted
// everywhere. An issuer's certificate makes all it certified trusted likewise.
//
// Errors wrap ErrNotFound or ErrAmbiguous where the fingerprint is to blame. After
// a crash or an error in between, a certificate is trusted at fewer endpoints than
// was asked for, never at more.
func (s *Store) Trust(fingerprint, endpoint string) (*x509.Certificate, error) {
	unlock, err := s.lock()
	if err != nil {
		return nil, err
	}
	defer unlock()
	c, err := s.find(fingerprint, rejectedDir, trustedDir)
	if err != nil {
		return nil, err
	}
	return c, s.trust(c, endpoint)
}

// TrustFile trusts the certificate in a DER or PEM file, as Trust does. The file
// must hold one certificate and at most 64 KiB.
func (s *Store) TrustFile(path, endpoint string) (*x509.Certificate, error) {
	content, err := readFile(path, maxCert)
	if err != nil {
		return nil, fmt.Errorf("read the certificate: %w", err)
	}
	c, err := parseCertificate(content)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	unlock, err := s.lock()
	if err != nil {
		return nil, err
	}
	defer unlock()
	return c, s.trust(c, endpoint)
}

func (s *Store) trust(c *x509.Certificate, endpoint string) error {
	cert := sha(c.Raw)
	trusted, err := s.files(cert, trustedDir)
	if err != nil {
		return err
	}
	all, err := s.readPins()
	if err != nil {
		return err
	}
	old := all.of(cert)
	if len(trusted) == 0 { // what a crash left of an earlier trust must not come back with it
		err, old = s.unpin(old), nil
	}
	if endpoint != "" && err == nil {
		p := pin{endpointHash(endpoint), cert}
		err = write(s.path(pinsDir, p.file()), []byte(endpoint+"\n"), public)
	}
	if len(trusted) == 0 && err == nil {
		err = s.put(trustedDir, c)
	}
	if endpoint == "" && err == nil {
		err = s.unpin(old)
	}
	if err != nil {
		return err
	}
	rejected, err := s.files(cert, rejectedDir)
	if err != nil {
		return err
	}
	return s.remove(rejectedDir, rejected...)
}

// Distrust takes trust away from a certificate in trusted/, given as for Trust.
// With an endpoint it is no longer trusted there; without one, or if it was trusted
// nowhere else, it moves to rejected/, from where it can be trusted again. It fails
// if the certificate was not meant for the endpoint. Connections that are open stay
// so: Judge is asked when one begins.
func (s *Store) Distrust(fingerprint, endpoint string) (*x509.Certificate, error) {
	unlock, err := s.lock()
	if err != nil {
		return nil, err
	}
	defer unlock()
	c, err := s.find(fingerprint, trustedDir)
	if err != nil {
		return nil, err
	}
	cert := sha(c.Raw)
	all, err := s.readPins()
	if err != nil {
		return nil, err
	}
	of := all.of(cert)
	if endpoint != "" {
		this := pin{endpointHash(endpoint), cert}
		switch {
		case len(of) == 0:
			return nil, fmt.Errorf("the certificate %s is trusted at every endpoint: trust it at some, or distrust it without an endpoint", called(c))
		case !slices.Contains(of, this):
			return nil, fmt.Errorf("%w: %s is not trusted at %s", ErrNotFound, called(c), endpoint)
		case len(of) > 1:
			return c, s.unpin(pins{this})
		}
	}
	if err := s.put(rejectedDir, c); err != nil {
		return nil, err
	}
	files, err := s.files(cert, trustedDir)
	if err == nil {
		err = s.remove(trustedDir, files...)
	}
	if err == nil { // last: without its pins it would be trusted everywhere
		err = s.unpin(of)
	}
	if err == nil {
		err = s.prune(rejectedDir, maxRejected, fileName(c))
	}
	return c, err
}

func (s *Store) unpin(of pins) error {
	names := make([]string, len(of))
	for i, p := range of {
		names[i] = p.file()
	}
	return s.remove(pinsDir, names...)
}

// files are the names of the files that hold a certificate.
func (s *Store) files(cert, sub string) (out []string, err error) {
	var broken []error // List names them
	items, err := s.certificates(sub, &broken)
	for _, i := range items {
		if sha(i.cert.Raw) == cert {
			out = append(out, i.file)
		}
	}
	return out, err
}

// find finds the one certificate with a fingerprint.
func (s *Store) find(fingerprint string, subs ...string) (*x509.Certificate, error) {
	prefix, err := digits(fingerprint)
	if err != nil {
		return nil, err
	}
	var found *x509.Certificate
	for _, sub := range subs {
		var broken []error // List names them
		items, err := s.certificates(sub, &broken)
		if err != nil {
			return nil, err
		}
		for _, i := range items {
			switch {
			case !strings.HasPrefix(sha(i.cert.Raw), prefix), found != nil && found.Equal(i.cert):
			case found != nil:
				return nil, fmt.Errorf("%w: %s is that of %s and of %s: give more digits", ErrAmbiguous, prefix, Portrait(found), Portrait(i.cert))
			default:
				found = i.cert
			}
		}
	}
	if found == nil {
		return nil, fmt.Errorf("%w: none in %s has the SHA-256 fingerprint %s", ErrNotFound, strings.Join(subs, " or "), prefix)
	}
	return found, nil
}

// digits are the hexadecimal digits of a fingerprint as people copy it.
func digits(fingerprint string) (string, error) {
	s := strings.TrimPrefix(strings.ToLower(strings.TrimSpace(fingerprint)), "sha256:")
	s = strings.NewReplacer(":", "", " ", "").Replace(s)
	if strings.Trim(s, "0123456789abcdef") != "" || len(s) > 64 {
		return "", fmt.Errorf("%q %w: it has at most 64 digits, 0 to 9 and a to f", clean(fingerprint), ErrFingerprint)
	}
	if len(s) < minPrefix {
		return "", fmt.Errorf("%q %w, but too little of one: give 8 digits or more", s, ErrFingerprint)
	}
	return s, nil
}
