package trust

import (
	"bytes"
	"crypto/rsa"
	"crypto/x509"
	"fmt"
	"slices"
	"time"
)

// maxChecks bounds the signatures that are verified for one chain: a server may
// send certificates that fit each other in every order.
const maxChecks = 64

// trust refuses a chain that nobody has decided to trust at the endpoint.
func (k *known) trust(chain []*x509.Certificate, want Want, now time.Time) *Refusal {
	leaf, endpoint := chain[0], endpointHash(want.Endpoint)
	for _, t := range k.trusted {
		if t.cert.Equal(leaf) && k.pins.allow(sha(leaf.Raw), endpoint) {
			return k.revokedAnyway(leaf)
		}
	}
	var found *Refusal
	if !selfIssued(leaf) {
		s := search{known: k, leaf: leaf, want: want, now: now, endpoint: endpoint}
		s.fill(chain[1:])
		if s.from([]*x509.Certificate{leaf}) {
			return nil
		}
		found = s.found
	}
	old := k.pinned(endpoint)
	switch {
	case found != nil:
		return found
	case old != nil:
		return changed(old, leaf, want)
	case selfIssued(leaf):
		return unknown(leaf, want)
	}
	var top *x509.Certificate
	if last := chain[len(chain)-1]; !last.Equal(leaf) {
		top = last
	}
	return untrusted(leaf, top, want)
}

// revokedAnyway refuses a certificate that is trusted by itself if an issuer that
// the store knows has revoked it. A person's trust weighs more than the absence of
// a valid list, but not more than a revocation.
func (k *known) revokedAnyway(leaf *x509.Certificate) *Refusal {
	for _, i := range slices.Concat(k.trusted, k.issuers) {
		if !bytes.Equal(leaf.RawIssuer, i.cert.RawSubject) || i.cert.Equal(leaf) || !signed(leaf, i.cert) {
			continue
		}
		if r := k.revocation(leaf, leaf, i.cert); r != nil {
			return r
		}
	}
	return nil
}

// revocation refuses what is on a list of its issuer.
func (k *known) revocation(c, leaf, issuer *x509.Certificate) *Refusal {
	valid, _ := k.lists.of(issuer)
	for _, l := range valid {
		for _, e := range l.RevokedCertificateEntries {
			if e.SerialNumber.Cmp(c.SerialNumber) == 0 {
				return revoked(c, leaf, issuer, e.RevocationTime)
			}
		}
	}
	return nil
}

// current refuses if there are lists of an issuer and none of them is valid now.
func (k *known) current(leaf, issuer *x509.Certificate, now time.Time) *Refusal {
	valid, others := k.lists.of(issuer)
	if len(valid) == 0 {
		if others == 0 {
			return nil
		}
		return k.noList(leaf, issuer, fmt.Sprintf("the revocation list under the name of the issuer %s is not signed by it, or not a whole list, or signed with SHA-1", called(issuer)))
	}
	if end := youngest(valid).NextUpdate; !end.IsZero() && now.After(end) {
		return k.noList(leaf, issuer, fmt.Sprintf("the revocation list of the issuer %s was to be replaced by %s; the gateway's clock says %s", called(issuer), instant(end), instant(now)))
	}
	return nil
}

// search looks for a way from a server's certificate to a trusted issuer.
type search struct {
	*known

	leaf     *x509.Certificate
	want     Want
	now      time.Time
	endpoint string

	pool    []*x509.Certificate // that may be on the way, each once
	anchors []*x509.Certificate // where it may end: also in pool
	checks  int
	found   *Refusal // what says most about why there is none
	weight  int
}

// How much a refusal says: one at a trusted issuer more than any before it.
const (
	weighsForm = iota + 1
	weighsSignature
	weighsLoop
	weighsTrust
)

func (s *search) note(weight int, r *Refusal) {
	if weight > s.weight {
		s.weight, s.found = weight, r
	}
}

// fill takes in what may be on the way.
func (s *search) fill(sent []*x509.Certificate) {
	add := func(c *x509.Certificate) {
		if !slices.ContainsFunc(s.pool, c.Equal) && !c.Equal(s.leaf) {
			s.pool = append(s.pool, c)
		}
	}
	for _, t := range s.trusted {
		add(t.cert)
		if s.pins.allow(sha(t.cert.Raw), s.endpoint) {
			s.anchors = append(s.anchors, t.cert)
		}
	}
	for _, i := range s.issuers {
		add(i.cert)
	}
	for _, c := range sent {
		add(c)
	}
}

// from goes on from the last certificate of a path, and reports whether it came
// to a trusted issuer and nothing was wrong on the way.
func (s *search) from(path []*x509.Certificate) bool {
	last := path[len(path)-1]
	for _, by := range s.pool {
		if !bytes.Equal(last.RawIssuer, by.RawSubject) || !sameKey(last, by.SubjectKeyId) || by.Equal(last) {
			continue
		}
		if len(path) == maxChain || s.checks == maxChecks {
			s.note(weighsForm, chainTooLong(s.leaf))
			return false
		}
		if !s.step(last, by) {
			continue
		}
		if slices.ContainsFunc(path, by.Equal) {
			s.note(weighsLoop, chainLoop(by, s.leaf))
			continue
		}
		way := append(slices.Clone(path), by)
		if slices.ContainsFunc(s.anchors, by.Equal) && s.arrive(way) || s.from(way) {
			return true
		}
	}
	return false
}

// step reports whether by is c's issuer: it may issue, and its signature holds.
func (s *search) step(c, by *x509.Certificate) bool {
	if !by.BasicConstraintsValid || !by.IsCA || by.KeyUsage != 0 && by.KeyUsage&x509.KeyUsageCertSign == 0 {
		return false // the same name, but no issuer
	}
	if why := weakSignature(c.SignatureAlgorithm); why != "" {
		s.note(weighsForm, weakKey(c, s.leaf, why))
		return false
	}
	if key, ok := by.PublicKey.(*rsa.PublicKey); ok {
		if why := weakBits(key); why != "" {
			s.note(weighsForm, weakKey(by, s.leaf, why))
			return false
		}
	}
	s.checks++
	if !signed(c, by) {
		s.note(weighsSignature, badSignature(c, s.leaf, by))
		return false
	}
	return true
}

// arrive judges a path that ends at a trusted issuer.
func (s *search) arrive(path []*x509.Certificate) bool {
	r := s.flaw(path)
	if r != nil {
		s.note(weighsTrust, r)
	}
	return r == nil
}

func (s *search) flaw(path []*x509.Certificate) *Refusal {
	for i, issuer := range path[1:] {
		if r := s.revocation(path[i], s.leaf, issuer); r != nil {
			return r
		}
		if r := s.current(s.leaf, issuer, s.now); r != nil {
			return r
		}
	}
	for _, c := range path {
		if r := timely(c, s.leaf, s.want, s.now); r != nil {
			return r
		}
	}
	return s.formal(path)
}

// formal asks for the rest of RFC 5280: path lengths, name constraints, critical
// extensions.
func (s *search) formal(path []*x509.Certificate) *Refusal {
	leaf, anchor := *s.leaf, path[len(path)-1]
	o := x509.VerifyOptions{Roots: x509.NewCertPool(), Intermediates: x509.NewCertPool(), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}}
	o.Roots.AddCert(anchor)
	for _, c := range path[1 : len(path)-1] {
		o.Intermediates.AddCert(c)
	}
	// Time was judged before, and an expired chain may have been accepted there.
	end, uris := leaf.NotAfter, false
	for _, c := range path {
		if c.NotBefore.After(o.CurrentTime) {
			o.CurrentTime = c.NotBefore
		}
		if c.NotAfter.Before(end) {
			end = c.NotAfter
		}
		uris = uris || len(c.PermittedURIDomains)+len(c.ExcludedURIDomains) > 0
	}
	if o.CurrentTime.After(end) { // never valid together
		return expired(anchor, s.leaf, s.now)
	}
	if !uris { // no application URI has a host, and the standard library refuses it under any constraint
		leaf.URIs = nil
	}
	if _, err := leaf.Verify(o); err != nil {
		return unfitIssuer(s.leaf, anchor, err)
	}
	return nil
}
