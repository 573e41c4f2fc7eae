package trust

import (
	"crypto/x509"
	"fmt"
	"strings"
	"time"
	"unicode"

	"plantmesh/proto/answer"
)

// Reason is why a server's certificate may not be used: a word for machines.
type Reason string

// The reasons there are.
const (
	Unknown          Reason = "unknown"            // nobody has trusted it yet
	Changed          Reason = "changed"            // another one is trusted for this endpoint
	Expired          Reason = "expired"            // it, or one of its issuers', is past its end
	NotYetValid      Reason = "not_yet_valid"      // it, or one of its issuers', begins later than the gateway's clock
	WrongHost        Reason = "wrong_host"         // it doesn't name the host that was called
	WrongURI         Reason = "wrong_uri"          // it belongs to another application than the server says it is
	Revoked          Reason = "revoked"            // it is on its issuer's revocation list
	NoRevocationList Reason = "no_revocation_list" // its issuer has lists, but none that is valid
	UntrustedIssuer  Reason = "untrusted_issuer"   // whoever issued it is not trusted, or may not issue it
	BadSignature     Reason = "bad_signature"      // its signature is not by the key it should be by
	WeakKey          Reason = "weak_key"           // RSA outside 2048 to 8192 bits, or signed with SHA-1 or older
	NotForServers    Reason = "not_for_servers"    // its key, or what it may be used for, doesn't fit a server
	NotParsed        Reason = "not_parsed"         // these bytes are no certificate
	ChainTooLong     Reason = "chain_too_long"     // more than 8 certificates up to a trusted one
	ChainLoop        Reason = "chain_loop"         // the issuers' certificates lead back to themselves
)

// Refusal says why a server's certificate may not be used, and what helps.
type Refusal struct { //nolint:errname // it is a decision, and reads so at every use
	Reason Reason
	Say    string            // what is wrong and on which side; whole sentences in one line, safe to print
	Fix    string            // what to do about it, likewise
	New    *x509.Certificate // what the server showed; nil where it can't be read
	Old    *x509.Certificate // for Changed: what is trusted for this endpoint, the youngest of them
}

func (r *Refusal) Error() string { return r.Say + " " + r.Fix }

// Fingerprint is a certificate's SHA-256 as servers and engineering tools show
// it: "SHA256:41:AB:…", 32 groups.
func Fingerprint(c *x509.Certificate) string {
	var b strings.Builder
	b.WriteString("SHA256")
	hex := strings.ToUpper(sha(c.Raw))
	for i := 0; i < len(hex); i += 2 {
		b.WriteString(":" + hex[i:i+2])
	}
	return b.String()
}

// clean makes text that a server chose safe for a terminal, a log and a page.
func clean(s string) string {
	const most = 160
	out := make([]rune, 0, most)
	for _, r := range s {
		if len(out) == most {
			return string(out) + "…"
		}
		if r == '"' || !unicode.IsPrint(r) {
			r = '?'
		}
		out = append(out, r)
	}
	return string(out)
}

// called is what a certificate calls itself, in quotes.
func called(c *x509.Certificate) string {
	name := c.Subject.CommonName
	if name == "" {
		name = c.Subject.String()
	}
	return `"` + clean(name) + `"`
}

func issuerOf(c *x509.Certificate) string {
	name := c.Issuer.CommonName
	if name == "" {
		name = c.Issuer.String()
	}
	return `"` + clean(name) + `"`
}

func instant(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 UTC") }

func day(t time.Time) string { return t.UTC().Format(time.DateOnly) }

// Portrait is a certificate as two are laid side by side.
func Portrait(c *x509.Certificate) string {
	return fmt.Sprintf("%s, %s, valid %s to %s", called(c), Fingerprint(c), day(c.NotBefore), day(c.NotAfter))
}

// trustCommand is what a person types to trust a certificate at an endpoint.
func trustCommand(c *x509.Certificate, endpoint string) string {
	words := []string{"plantmesh-edge", "cert", "trust", sha(c.Raw)[:16]}
	if endpoint != "" {
		words = append(words, "--endpoint", endpoint)
	}
	return answer.Command(words...)
}

// at is " of <endpoint>", where there is one.
func (w Want) at() string {
	if w.Endpoint == "" {
		return ""
	}
	return " of " + clean(w.Endpoint)
}

func unknown(c *x509.Certificate, w Want) *Refusal {
	return &Refusal{
		Reason: Unknown, New: c,
		Say: fmt.Sprintf("New server certificate%s: %s. Nobody has trusted it on this gateway yet.", w.at(), Portrait(c)),
		Fix: "Compare the fingerprint with the one the server shows, then: " + trustCommand(c, w.Endpoint),
	}
}

func changed(old, c *x509.Certificate, w Want) *Refusal {
	return &Refusal{
		Reason: Changed, New: c, Old: old,
		Say: fmt.Sprintf("The server certificate%s changed. Trusted so far: %s. Shown now: %s.", w.at(), Portrait(old), Portrait(c)),
		Fix: "Find out who changed it. If that was meant, compare the new fingerprint with the one the server shows, then: " + trustCommand(c, w.Endpoint),
	}
}

// untrusted is for a certificate from an issuer; top is the highest one that was
// found above it, nil if none was.
func untrusted(c, top *x509.Certificate, w Want) *Refusal {
	r := &Refusal{
		Reason: UntrustedIssuer, New: c,
		Say: fmt.Sprintf("New server certificate%s: %s. It was issued by %s, which is not trusted on this gateway.", w.at(), Portrait(c), issuerOf(c)),
		Fix: "Compare the fingerprint with the one the server shows, then trust this certificate: " + trustCommand(c, w.Endpoint) + ". Or get the issuer's certificate from whoever runs it, and trust that file.",
	}
	if top != nil {
		r.Say += fmt.Sprintf(" The server also showed the issuer %s, %s.", called(top), Fingerprint(top))
		r.Fix = "Compare the fingerprint with the one the server shows, then trust this certificate: " + trustCommand(c, w.Endpoint) +
			". Or compare the issuer's with whoever runs it, and trust all servers it certifies: " + trustCommand(top, "")
	}
	return r
}

// unfitIssuer is for a chain that ends in trust but breaks its own rules.
func unfitIssuer(leaf, anchor *x509.Certificate, why error) *Refusal {
	return &Refusal{
		Reason: UntrustedIssuer, New: leaf,
		Say: fmt.Sprintf("The server's certificate %s leads to the trusted issuer %s, which may not have issued it: %s.", called(leaf), called(anchor), clean(why.Error())),
		Fix: "Have the certificate issued anew, within the limits that the issuers' certificates set, and install it on the server.",
	}
}

// whose says which certificate is meant: the server's own or an issuer's.
func whose(c, leaf *x509.Certificate) string {
	if c.Equal(leaf) {
		return "The server's certificate " + called(c)
	}
	return fmt.Sprintf("The certificate of the issuer %s, over the server's %s,", called(c), called(leaf))
}

func expired(c, leaf *x509.Certificate, now time.Time) *Refusal {
	return &Refusal{
		Reason: Expired, New: leaf,
		Say: fmt.Sprintf("%s was valid until %s; the gateway's clock says %s.", whose(c, leaf), instant(c.NotAfter), instant(now)),
		Fix: "If the gateway's clock is wrong: timedatectl set-ntp true. If it is right, renew the certificate on the server's side; until then security.accept_expired: true allows it.",
	}
}

func notYetValid(c, leaf *x509.Certificate, now time.Time) *Refusal {
	return &Refusal{
		Reason: NotYetValid, New: leaf,
		Say: fmt.Sprintf("%s is valid from %s on; the gateway's clock says %s.", whose(c, leaf), instant(c.NotBefore), instant(now)),
		Fix: "If the gateway's clock is wrong: timedatectl set-ntp true. If it is right, the clock of whoever made the certificate was ahead: set that one and make the certificate anew.",
	}
}

func wrongHost(c *x509.Certificate, w Want) *Refusal {
	names := hostsOf(c)
	has, fix := "names no host at all", "Make"
	if len(names) > 0 {
		has, fix = "is for "+clean(strings.Join(names, ", ")), "Call the server by a name that its certificate has, make"
	}
	return &Refusal{
		Reason: WrongHost, New: c,
		Say: fmt.Sprintf("The server's certificate %s %s; this gateway calls it as %q.", called(c), has, clean(w.Host)),
		Fix: fix + " a certificate on the server that names this host, or allow it: security.accept_host_mismatch: true",
	}
}

func wrongURI(c *x509.Certificate, has string, w Want) *Refusal {
	certified, says := "names no application URI", "the server says none"
	if has != "" {
		certified = fmt.Sprintf("is for the application URI %q", clean(has))
	}
	if w.ApplicationURI != "" {
		says = fmt.Sprintf("the server says it is %q", clean(w.ApplicationURI))
	}
	return &Refusal{
		Reason: WrongURI, New: c,
		Say: fmt.Sprintf("The server's certificate %s %s; %s.", called(c), certified, says),
		Fix: "Make the server's certificate anew: most servers need that after their name was changed. If the server can't do better, allow it: security.accept_uri_mismatch: true",
	}
}

func revoked(c, leaf, issuer *x509.Certificate, since time.Time) *Refusal {
	return &Refusal{
		Reason: Revoked, New: leaf,
		Say: fmt.Sprintf("%s was revoked by its issuer %s on %s.", whose(c, leaf), called(issuer), instant(since)),
		Fix: "Ask whoever runs the issuer why. If all is well, have a new certificate issued and install it on the server.",
	}
}

func (k *known) noList(leaf, issuer *x509.Certificate, why string) *Refusal {
	return &Refusal{
		Reason: NoRevocationList, New: leaf,
		Say: fmt.Sprintf("Whether the server's certificate %s was revoked is not known: %s.", called(leaf), why),
		Fix: fmt.Sprintf("Get the current revocation list of %s and put it into %s in place of the old one.", called(issuer), k.lists.dir),
	}
}

func badSignature(c, leaf, by *x509.Certificate) *Refusal {
	signer := "its own key, though it says so"
	if !by.Equal(c) {
		signer = fmt.Sprintf("the key of its issuer %s", called(by))
	}
	return &Refusal{
		Reason: BadSignature, New: leaf,
		Say: fmt.Sprintf("%s is not signed by %s: it is damaged, or forged.", whose(c, leaf), signer),
		Fix: "Make or install the certificate on the server anew. If it comes back, find out what stands between gateway and server.",
	}
}

func weakKey(c, leaf *x509.Certificate, why string) *Refusal {
	return &Refusal{
		Reason: WeakKey, New: leaf,
		Say: fmt.Sprintf("%s %s.", whose(c, leaf), why),
		Fix: fmt.Sprintf("Have it made anew with an RSA key of %d to %d bits, signed with SHA-256.", minBits, maxBits),
	}
}

func notForServers(c *x509.Certificate, why string) *Refusal {
	return &Refusal{
		Reason: NotForServers, New: c,
		Say: fmt.Sprintf("The server's certificate %s can't be used for an OPC UA server: %s.", called(c), why),
		Fix: "Make the server's certificate anew as an application instance certificate: RSA key, key usages digitalSignature, nonRepudiation, keyEncipherment and dataEncipherment, extended key usage serverAuth.",
	}
}

func notParsed(why string) *Refusal {
	return &Refusal{
		Reason: NotParsed,
		Say:    fmt.Sprintf("What the server sent as its certificate can't be read: %s.", clean(why)),
		Fix:    "Make or install the certificate on the server anew. If other clients can read it, send it to us with this message.",
	}
}

func chainTooLong(leaf *x509.Certificate) *Refusal {
	return &Refusal{
		Reason: ChainTooLong, New: leaf,
		Say: fmt.Sprintf("The server's certificate comes with more than %d certificates up to a trusted one.", maxChain),
		Fix: "Install on the server its own certificate and those of its issuers, nothing else; or trust an issuer that is nearer to it.",
	}
}

func chainLoop(c, leaf *x509.Certificate) *Refusal {
	return &Refusal{
		Reason: ChainLoop, New: leaf,
		Say: fmt.Sprintf("The issuers of the server's certificate %s lead in a circle, through %s, and to nobody who is trusted.", called(leaf), called(c)),
		Fix: "Install on the server its own certificate and those of its issuers, up to one whose certificate was signed by itself; if the server is not yours to set up, don't connect to it.",
	}
}
