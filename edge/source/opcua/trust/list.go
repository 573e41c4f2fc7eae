package trust

import (
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"slices"
	"strings"
	"time"
)

// Role is what a certificate in the store is for.
type Role string

// The roles there are, in the order of List.
const (
	Own      Role = "own"
	Next     Role = "next"
	Trusted  Role = "trusted"
	Issuer   Role = "issuer"
	Rejected Role = "rejected"
)

// Entry is one certificate of the store. Text that others chose is safe to print.
type Entry struct {
	Role           Role      `json:"role"`
	File           string    `json:"file"` // its path
	Subject        string    `json:"subject"`
	Issuer         string    `json:"issuer"`
	ApplicationURI string    `json:"application_uri,omitempty"`
	SHA256         string    `json:"sha256"` // 64 hexadecimal digits; Fingerprint groups them
	SHA1           string    `json:"sha1"`   // 40; what OPC UA calls the thumbprint
	NotBefore      time.Time `json:"not_before"`
	NotAfter       time.Time `json:"not_after"`
	DaysLeft       int       `json:"days_left"`           // whole days until NotAfter; negative when past
	Endpoints      []string  `json:"endpoints,omitempty"` // of a trusted one: where; none means everywhere
	CA             bool      `json:"ca"`                  // it may issue others
	Note           string    `json:"note,omitempty"`      // of a trusted or known issuer: how it stands with its revocation list

	Certificate *x509.Certificate `json:"-"`
}

// List lists the certificates of the store, by role and file; now is the
// gateway's time. The error names, joined, each file that can't be used; the
// entries hold beside it, and the files named keep nothing else from working.
func (s *Store) List(now time.Time) ([]Entry, error) {
	k, err := s.read()
	if err != nil {
		return nil, err
	}
	broken := k.broken
	var out []Entry
	add := func(role Role, sub string, items []item) {
		slices.SortFunc(items, func(a, b item) int { return strings.Compare(a.file, b.file) })
		for _, i := range items {
			out = append(out, entry(role, s.path(sub, i.file), i.cert, now))
		}
	}
	for _, mine := range []struct {
		role Role
		sub  string
	}{{Own, ownDir}, {Next, nextDir}} {
		c, _, err := s.shown(mine.sub)
		if err == nil {
			add(mine.role, mine.sub, []item{{certFile, c}})
		} else if !errors.Is(err, fs.ErrNotExist) {
			broken = append(broken, err)
		}
	}
	add(Trusted, trustedDir, k.trusted)
	add(Issuer, issuersDir, k.issuers)
	rejected, err := s.certificates(rejectedDir, &broken)
	if err != nil {
		return nil, err
	}
	add(Rejected, rejectedDir, rejected)
	for i := range out {
		e := &out[i]
		if e.Role == Trusted {
			var bad []error
			e.Endpoints, bad = s.endpoints(k.pins.of(e.SHA256))
			broken = append(broken, bad...)
		}
		if e.CA && (e.Role == Trusted || e.Role == Issuer) {
			e.Note = k.standing(e.Certificate, now)
		}
	}
	return out, errors.Join(broken...)
}

// Pick picks from entries of List the one whose SHA-256 fingerprint begins so; one that
// stands there in several roles is that of the first.
func Pick(all []Entry, fingerprint string) (Entry, error) {
	prefix, err := digits(fingerprint)
	if err != nil {
		return Entry{}, err
	}
	var found *Entry
	for i := range all {
		e := &all[i]
		switch {
		case !strings.HasPrefix(e.SHA256, prefix), found != nil && found.SHA256 == e.SHA256:
		case found != nil:
			return Entry{}, fmt.Errorf("%w: %s is that of %s and of %s: give more digits", ErrAmbiguous, prefix, Portrait(found.Certificate), Portrait(e.Certificate))
		default:
			found = e
		}
	}
	if found == nil {
		return Entry{}, fmt.Errorf("%w: none here has the SHA-256 fingerprint %s", ErrNotFound, prefix)
	}
	return *found, nil
}

func entry(role Role, file string, c *x509.Certificate, now time.Time) Entry {
	return Entry{
		Role: role, File: file, Certificate: c,
		Subject: clean(c.Subject.String()), Issuer: clean(c.Issuer.String()), ApplicationURI: clean(uriOf(c)),
		SHA256: sha(c.Raw), SHA1: thumbprint(c.Raw),
		NotBefore: c.NotBefore, NotAfter: c.NotAfter, DaysLeft: int(math.Floor(c.NotAfter.Sub(now).Hours() / 24)),
		CA: c.BasicConstraintsValid && c.IsCA,
	}
}

// standing says how it stands with an issuer's revocation lists.
func (k *known) standing(issuer *x509.Certificate, now time.Time) string {
	valid, others := k.lists.of(issuer)
	switch {
	case len(valid)+others == 0:
		return "no revocation list: what it issued is accepted unchecked"
	case len(valid) == 0:
		return "its revocation list is not signed by it or not whole: what it issued is refused"
	}
	end := youngest(valid).NextUpdate
	switch {
	case end.IsZero():
		return "revocation list without an end"
	case now.After(end):
		return fmt.Sprintf("its revocation list was to be replaced by %s: what it issued is refused", instant(end))
	}
	return "revocation list valid to " + instant(end)
}
