package trust

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"slices"
	"strings"
)

// item is a certificate in a folder.
type item struct {
	file string // name in its folder
	cert *x509.Certificate
}

// known is what the store held at one time.
type known struct {
	trusted []item
	issuers []item
	lists   lists
	pins    pins
	broken  []error
}

// read reads what a judgement needs.
func (s *Store) read() (*known, error) {
	// A certificate without its mark would seem trusted everywhere. Trust writes
	// the mark first, Distrust removes it last: whoever looks for marks before and
	// after the certificates misses none.
	before, err := s.readPins()
	if err != nil {
		return nil, err
	}
	k := &known{lists: lists{dir: s.path(listsDir)}}
	if k.trusted, err = s.certificates(trustedDir, &k.broken); err != nil {
		return nil, err
	}
	if k.issuers, err = s.certificates(issuersDir, &k.broken); err != nil {
		return nil, err
	}
	if k.pins, err = s.readPins(); err != nil {
		return nil, err
	}
	k.pins = append(k.pins, before...)
	broken, err := s.each(listsDir, maxList, func(_ string, content []byte) error {
		l, err := parseList(content)
		if err == nil {
			k.lists.all = append(k.lists.all, l)
		}
		return err
	})
	k.broken = append(k.broken, broken...)
	return k, err
}

// certificates reads a folder of them.
func (s *Store) certificates(sub string, broken *[]error) ([]item, error) {
	var out []item
	bad, err := s.each(sub, maxCert, func(name string, content []byte) error {
		c, err := parseCertificate(content)
		if err == nil {
			out = append(out, item{name, c})
		}
		return err
	})
	*broken = append(*broken, bad...)
	return out, err
}

// pin marks a trusted certificate as meant for an endpoint. It is a file of its
// own, so that two processes that add or remove some don't undo each other.
type pin struct {
	endpoint string // its hash
	cert     string // its SHA-256
}

const pinSuffix = ".pin"

func (p pin) file() string { return p.endpoint + "-" + p.cert + pinSuffix }

// pins may hold one twice.
type pins []pin

func (s *Store) readPins() (pins, error) {
	entries, err := os.ReadDir(s.path(pinsDir))
	if err != nil {
		return nil, fmt.Errorf("read the certificate store: %w", err)
	}
	var out pins
	for _, e := range entries {
		name, ok := strings.CutSuffix(e.Name(), pinSuffix)
		endpoint, cert, cut := strings.Cut(name, "-")
		if ok && cut {
			out = append(out, pin{endpoint, cert})
		}
	}
	return out, nil
}

// of are the pins of one certificate.
func (p pins) of(cert string) pins {
	return slices.DeleteFunc(slices.Clone(p), func(one pin) bool { return one.cert != cert })
}

// allow reports whether a trusted certificate is meant for an endpoint.
func (p pins) allow(cert, endpoint string) bool {
	of := p.of(cert)
	return len(of) == 0 || slices.Contains(of, pin{endpoint, cert})
}

// endpointHash is an endpoint as pins name it.
func endpointHash(endpoint string) string {
	if u, err := url.Parse(endpoint); err == nil && u.Host != "" {
		u.Host, u.Scheme = strings.ToLower(u.Host), strings.ToLower(u.Scheme)
		endpoint = u.String()
	}
	sum := sha256.Sum256([]byte(strings.TrimRight(endpoint, "/")))
	return hex.EncodeToString(sum[:16])
}

// endpoints are those a certificate is pinned for, as they were written.
func (s *Store) endpoints(of pins) (out []string, broken []error) {
	for _, p := range of {
		path := s.path(pinsDir, p.file())
		b, err := readFile(path, maxCert)
		switch text := strings.TrimSpace(string(b)); {
		case errors.Is(err, fs.ErrNotExist): // taken away meanwhile
		case err != nil:
			broken = append(broken, err)
		case endpointHash(text) != p.endpoint:
			broken = append(broken, fmt.Errorf("%s: the endpoint in it is not the one in its name", path))
		case !slices.Contains(out, text):
			out = append(out, text)
		}
	}
	slices.Sort(out)
	return out, broken
}

// pinned is the youngest certificate that is trusted for just this endpoint.
func (k *known) pinned(endpoint string) *x509.Certificate {
	var young *x509.Certificate
	for _, t := range k.trusted {
		if slices.Contains(k.pins, pin{endpoint, sha(t.cert.Raw)}) && (young == nil || t.cert.NotBefore.After(young.NotBefore)) {
			young = t.cert
		}
	}
	return young
}

// lists are the revocation lists of a store.
type lists struct {
	dir string
	all []*x509.RevocationList
}

// of are the lists that claim to be an issuer's: those it signed in a way that
// holds, and how many others there are.
func (l lists) of(issuer *x509.Certificate) (valid []*x509.RevocationList, others int) {
	for _, one := range l.all {
		if !bytes.Equal(one.RawIssuer, issuer.RawSubject) {
			continue
		}
		if len(one.AuthorityKeyId) > 0 && len(issuer.SubjectKeyId) > 0 && !bytes.Equal(one.AuthorityKeyId, issuer.SubjectKeyId) {
			continue // an older or younger key of the same issuer
		}
		if weakSignature(one.SignatureAlgorithm) != "" || partial(one) || one.CheckSignatureFrom(issuer) != nil {
			others++
			continue
		}
		valid = append(valid, one)
	}
	return valid, others
}

// partial reports whether a list says of itself, by a critical extension, that it
// is not simply all that was revoked.
func partial(l *x509.RevocationList) bool {
	for _, e := range l.Extensions {
		if e.Critical {
			return true
		}
	}
	return false
}

// youngest is the list that holds longest.
func youngest(valid []*x509.RevocationList) *x509.RevocationList {
	return slices.MaxFunc(valid, func(a, b *x509.RevocationList) int {
		switch {
		case a.NextUpdate.IsZero() && b.NextUpdate.IsZero():
			return 0
		case a.NextUpdate.IsZero(): // it holds for ever
			return 1
		case b.NextUpdate.IsZero():
			return -1
		}
		return a.NextUpdate.Compare(b.NextUpdate)
	})
}
