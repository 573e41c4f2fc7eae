package trust

import (
	"bytes"
	"crypto/rsa"
	"crypto/x509"
	"encoding/asn1"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// RSA keys that are safe and, at the upper end, don't cost a slow gateway seconds.
const (
	minBits = 2048
	maxBits = 8192
)

// Want is what a server's certificate is wanted for.
type Want struct {
	// Endpoint is what a certificate is trusted for, such as
	// "opc.tcp://plc-7:4840". Case of the host and a slash at the end don't
	// matter. Empty: only what is trusted at every endpoint will do.
	Endpoint string
	// Host is the name or address that is called. Empty fits no certificate.
	Host string
	// ApplicationURI is the server's, as it says itself. Empty fits no certificate.
	ApplicationURI string

	AcceptHostMismatch bool // what Host says doesn't matter
	AcceptURIMismatch  bool // what ApplicationURI says doesn't matter
	AcceptExpired      bool // the end of validity doesn't matter, of issuers' certificates neither; lists stay strict
}

// Judge says whether a server's certificate may be used: nil, or a *Refusal, or
// another error where the store itself can't be read. der is one certificate or
// a chain as OPC UA sends it, the server's own first; now is the gateway's time.
//
// What may be used: a certificate in trusted/ that is meant for the endpoint, or
// one that was issued, through issuers/ or through what the server sent along, by
// an issuer in trusted/ that is meant for the endpoint. Where crl/ has lists of an
// issuer, one of them must be valid and none may name the certificate. Key,
// signature, uses, time, host and application URI must fit in any case. Host
// names are compared in full: no wildcards, no common names.
//
// Judge trusts nothing by itself. What it refuses as Unknown, Changed or
// UntrustedIssuer it keeps in rejected/, its issuers too, so that Trust finds it.
func (s *Store) Judge(der []byte, want Want, now time.Time) error {
	chain, r := split(der)
	if r == nil {
		r = fit(chain[0])
	}
	if r != nil {
		return r
	}
	k, err := s.read()
	if err != nil {
		return err
	}
	r = k.trust(chain, want, now)
	if r != nil && (r.Reason == Unknown || r.Reason == Changed || r.Reason == UntrustedIssuer) {
		if err := s.keep(chain, now); err != nil {
			r.Say += fmt.Sprintf(" It could not be kept (%s): export it from the server and trust that file.", clean(err.Error()))
		}
	}
	if r == nil {
		r = suits(chain[0], want, now)
	}
	if r != nil {
		return r
	}
	return nil
}

// split takes a chain apart.
func split(der []byte) ([]*x509.Certificate, *Refusal) {
	if len(der) == 0 {
		return nil, notParsed("it is empty")
	}
	var chain []*x509.Certificate
	for rest := der; len(rest) > 0; {
		if len(chain) == maxChain {
			return nil, chainTooLong(chain[0])
		}
		var one asn1.RawValue
		after, err := asn1.Unmarshal(rest, &one)
		if err != nil {
			return nil, notParsed(err.Error())
		}
		if len(one.FullBytes) > maxCert {
			return nil, notParsed(fmt.Sprintf("a certificate of %d bytes; %d are the most", len(one.FullBytes), maxCert))
		}
		c, err := x509.ParseCertificate(one.FullBytes)
		if err != nil {
			return nil, notParsed(err.Error())
		}
		chain, rest = append(chain, c), after
	}
	return chain, nil
}

// fit refuses what nobody's trust could mend.
func fit(leaf *x509.Certificate) *Refusal {
	key, ok := leaf.PublicKey.(*rsa.PublicKey)
	if !ok {
		return notForServers(leaf, fmt.Sprintf("it has a key of the kind %s, and the security policies here need RSA", leaf.PublicKeyAlgorithm))
	}
	if why := weakBits(key); why != "" {
		return weakKey(leaf, leaf, why)
	}
	if why := weakSignature(leaf.SignatureAlgorithm); why != "" {
		return weakKey(leaf, leaf, why)
	}
	const encipher = x509.KeyUsageKeyEncipherment | x509.KeyUsageDataEncipherment
	switch {
	case leaf.KeyUsage == 0:
		return notForServers(leaf, "it doesn't say what its key may be used for (no key usage)")
	case leaf.KeyUsage&x509.KeyUsageDigitalSignature == 0:
		return notForServers(leaf, "its key may not be used for signatures (no digitalSignature)")
	case leaf.KeyUsage&encipher == 0:
		return notForServers(leaf, "its key may not be used to encrypt (neither keyEncipherment nor dataEncipherment)")
	case !serves(leaf):
		return notForServers(leaf, "it is not meant for servers (no serverAuth among its extended key usages)")
	}
	if selfIssued(leaf) && !signed(leaf, leaf) {
		return badSignature(leaf, leaf, leaf)
	}
	return nil
}

// serves reports whether extended key usages, where there are any, allow a server.
func serves(c *x509.Certificate) bool {
	return len(c.ExtKeyUsage)+len(c.UnknownExtKeyUsage) == 0 ||
		slices.Contains(c.ExtKeyUsage, x509.ExtKeyUsageServerAuth) || slices.Contains(c.ExtKeyUsage, x509.ExtKeyUsageAny)
}

// weakBits says why an RSA key is not usable; empty if it is.
func weakBits(key *rsa.PublicKey) string {
	if bits := key.N.BitLen(); bits < minBits || bits > maxBits {
		return fmt.Sprintf("has an RSA key of %d bits; %d to %d are usable", bits, minBits, maxBits)
	}
	return ""
}

// weakSignature says why a way of signing proves nothing; empty if it does.
func weakSignature(a x509.SignatureAlgorithm) string {
	switch a {
	case x509.SHA256WithRSA, x509.SHA384WithRSA, x509.SHA512WithRSA,
		x509.SHA256WithRSAPSS, x509.SHA384WithRSAPSS, x509.SHA512WithRSAPSS,
		x509.ECDSAWithSHA256, x509.ECDSAWithSHA384, x509.ECDSAWithSHA512, x509.PureEd25519:
		return ""
	case x509.UnknownSignatureAlgorithm:
		return "is signed in a way that is not known here"
	default:
		return fmt.Sprintf("is signed with %s, which can be forged", a)
	}
}

// selfIssued reports whether a certificate says that it signed itself. One whose
// issuer has the same name but, by its key id, another key, doesn't.
func selfIssued(c *x509.Certificate) bool {
	return bytes.Equal(c.RawSubject, c.RawIssuer) && sameKey(c, c.SubjectKeyId)
}

// sameKey reports whether the key id c gives for its issuer is this one, or can't be told.
func sameKey(c *x509.Certificate, id []byte) bool {
	return len(c.AuthorityKeyId) == 0 || len(id) == 0 || bytes.Equal(c.AuthorityKeyId, id)
}

// signed reports whether c bears by's signature. Whether by may sign is for
// others to say: servers sign for themselves without being issuers.
func signed(c, by *x509.Certificate) bool {
	return by.CheckSignature(c.SignatureAlgorithm, c.RawTBSCertificate, c.Signature) == nil
}

// suits refuses a trusted certificate that doesn't fit this use of it.
func suits(leaf *x509.Certificate, want Want, now time.Time) *Refusal {
	if r := timely(leaf, leaf, want, now); r != nil {
		return r
	}
	if !want.AcceptHostMismatch && !names(leaf, want.Host) {
		return wrongHost(leaf, want)
	}
	if uri := uriOf(leaf); !want.AcceptURIMismatch && (uri == "" || uri != want.ApplicationURI) {
		return wrongURI(leaf, uri, want)
	}
	return nil
}

// timely refuses c, the leaf or one of its issuers', outside its validity.
func timely(c, leaf *x509.Certificate, want Want, now time.Time) *Refusal {
	switch {
	case now.Before(c.NotBefore):
		return notYetValid(c, leaf, now)
	case now.After(c.NotAfter) && !want.AcceptExpired:
		return expired(c, leaf, now)
	}
	return nil
}

// hostsOf are the hosts that a certificate names.
func hostsOf(c *x509.Certificate) []string {
	out := slices.Clone(c.DNSNames)
	for _, ip := range c.IPAddresses {
		out = append(out, ip.String())
	}
	return out
}

// names reports whether a certificate names a host. Devices put addresses among
// the DNS names as well: that is taken for what is meant.
func names(c *x509.Certificate, host string) bool {
	want := plainHost(host)
	return want != "" && slices.ContainsFunc(hostsOf(c), func(has string) bool { return plainHost(has) == want })
}

// plainHost is a host in the one spelling that is compared.
func plainHost(host string) string {
	host = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	if ip, err := netip.ParseAddr(host); err == nil {
		return ip.Unmap().WithZone("").String()
	}
	return strings.ToLower(strings.TrimSuffix(host, "."))
}

// uriOf is the application URI: the first URI among the alternative names of a certificate,
// letter by letter: a parsed URL would be spelled anew. Empty if there is none.
func uriOf(c *x509.Certificate) string {
	const uriTag = 6 // of GeneralName, RFC 5280
	oid := asn1.ObjectIdentifier{2, 5, 29, 17}
	for _, e := range c.Extensions {
		var seq asn1.RawValue
		if !e.Id.Equal(oid) {
			continue
		}
		if _, err := asn1.Unmarshal(e.Value, &seq); err != nil {
			return ""
		}
		for rest := seq.Bytes; len(rest) > 0; {
			var name asn1.RawValue
			var err error
			if rest, err = asn1.Unmarshal(rest, &name); err != nil {
				return ""
			}
			if name.Class == asn1.ClassContextSpecific && name.Tag == uriTag {
				return string(name.Bytes)
			}
		}
	}
	return ""
}
