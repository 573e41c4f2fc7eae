package trust

import (
	"bytes"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"net"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"
)

// fault is one planted fault: what the store knows, what the server shows, and
// what is to be said about it.
type fault struct {
	shown  []byte
	store  func(s *Store)
	want   func(w *Want)
	reason Reason
	say    string
	fix    string
}

func (f fault) run(t *testing.T) {
	t.Helper()
	s := open(t, t.TempDir())
	if f.store != nil {
		f.store(s)
	}
	w := at(plc)
	if f.want != nil {
		f.want(&w)
	}
	r := refused(t, s.Judge(f.shown, w, noon))
	switch {
	case f.reason == "" && r != nil:
		t.Fatalf("refused: %s: %v", r.Reason, r)
	case f.reason == "":
		return
	case r == nil:
		t.Fatalf("accepted; want %s", f.reason)
	}
	if r.Reason != f.reason || !strings.Contains(r.Say, f.say) || !strings.Contains(r.Fix, f.fix) {
		t.Errorf("got  %s: %s\n     %s\nwant %s: %s\n     %s", r.Reason, r.Say, r.Fix, f.reason, f.say, f.fix)
	}
	if strings.ContainsAny(r.Error(), "\n\x1b") || !strings.HasSuffix(r.Say, ".") {
		t.Errorf("not one clean line of sentences: %q", r.Error())
	}
	if (f.reason == Changed) != (r.Old != nil) {
		t.Errorf("the old certificate: %v", r.Old)
	}
}

func runAll(t *testing.T, faults map[string]fault) {
	t.Helper()
	for name, f := range faults {
		t.Run(name, f.run)
	}
}

// trusting makes a store that trusts p at the endpoint.
func trusting(t *testing.T, p party) func(*Store) {
	t.Helper()
	return func(s *Store) { s.trustNow(t, p, plc) }
}

func TestJudge_ByItself(t *testing.T) {
	good := server(t, nil)
	other := serverWith(t, keys().other, nil)
	old := server(t, nil, func(c *x509.Certificate) { c.NotAfter = noon.Add(-time.Second) })
	young := server(t, nil, func(c *x509.Certificate) { c.NotBefore = noon.Add(time.Second) })
	bare := server(t, nil, func(c *x509.Certificate) { c.DNSNames, c.IPAddresses, c.URIs = nil, nil, nil })
	shouting := server(t, nil, func(c *x509.Certificate) {
		c.Subject.CommonName = "\x1b[31mevil\n\"" + strings.Repeat("x", 200)
		c.URIs = []*url.URL{{Scheme: "urn", Opaque: "a"}, {Scheme: "urn", Opaque: "plc-7:server"}}
	})
	short := sha(good.cert.Raw)[:16]
	runAll(t, map[string]fault{
		"unknown": {
			shown: good.cert.Raw, reason: Unknown,
			say: `New server certificate of opc.tcp://plc-7:4840: "PLC 7", ` + Fingerprint(good.cert) + `, valid 2025-11-29 to 2027-11-29. Nobody has trusted it`,
			fix: "Compare the fingerprint with the one the server shows, then: plantmesh-edge cert trust " + short + " --endpoint opc.tcp://plc-7:4840",
		},
		"unknown, endpoint not given": {shown: good.cert.Raw, want: func(w *Want) { w.Endpoint = "" }, reason: Unknown, say: "New server certificate: ", fix: "cert trust " + short},
		"trusted elsewhere only":      {shown: good.cert.Raw, store: func(s *Store) { s.trustNow(t, good, "opc.tcp://plc-8") }, reason: Unknown, say: "Nobody has trusted it"},
		"changed": {
			shown: other.cert.Raw, store: trusting(t, good), reason: Changed,
			say: `The server certificate of opc.tcp://plc-7:4840 changed. Trusted so far: "PLC 7", ` + Fingerprint(good.cert) + `, valid 2025-11-29 to 2027-11-29. Shown now: "PLC 7", ` + Fingerprint(other.cert),
			fix: "Find out who changed it. If that was meant, compare the new fingerprint with the one the server shows, then: plantmesh-edge cert trust " + sha(other.cert.Raw)[:16],
		},
		"expired": {
			shown: old.cert.Raw, store: trusting(t, old), reason: Expired,
			say: `The server's certificate "PLC 7" was valid until 2026-11-29 11:59:59 UTC; the gateway's clock says 2026-11-29 12:00:00 UTC.`, fix: "timedatectl",
		},
		"not yet valid": {
			shown: young.cert.Raw, store: trusting(t, young), reason: NotYetValid, want: func(w *Want) { w.AcceptExpired = true },
			say: `is valid from 2026-11-29 12:00:01 UTC on; the gateway's clock says 2026-11-29 12:00:00 UTC.`, fix: "timedatectl",
		},
		"wrong host": {
			shown: good.cert.Raw, store: trusting(t, good), want: func(w *Want) { w.Host = "plc-8" }, reason: WrongHost,
			say: `is for plc-7, 192.168.10.22, 192.168.10.21; this gateway calls it as "plc-8".`, fix: "accept_host_mismatch: true",
		},
		"no host":        {shown: good.cert.Raw, store: trusting(t, good), want: func(w *Want) { w.Host = "" }, reason: WrongHost, say: `calls it as ""`},
		"common name":    {shown: bare.cert.Raw, store: trusting(t, bare), want: func(w *Want) { w.Host = "PLC 7" }, reason: WrongHost, say: "names no host at all", fix: "Make a certificate"},
		"wrong URI":      {shown: good.cert.Raw, store: trusting(t, good), want: func(w *Want) { w.ApplicationURI = "urn:other" }, reason: WrongURI, say: `is for the application URI "urn:plc-7:server"; the server says it is "urn:other".`, fix: "accept_uri_mismatch: true"},
		"no URI said":    {shown: good.cert.Raw, store: trusting(t, good), want: func(w *Want) { w.ApplicationURI = "" }, reason: WrongURI, say: "the server says none."},
		"no URI in it":   {shown: bare.cert.Raw, store: trusting(t, bare), want: func(w *Want) { w.AcceptHostMismatch, w.ApplicationURI = true, "" }, reason: WrongURI, say: "names no application URI"},
		"second URI":     {shown: shouting.cert.Raw, store: trusting(t, shouting), reason: WrongURI, say: `"?[31mevil??xxx`},
		"accept expired": {shown: old.cert.Raw, store: trusting(t, old), want: func(w *Want) { w.AcceptExpired = true }},
		"accept all":     {shown: bare.cert.Raw, store: trusting(t, bare), want: func(w *Want) { w.AcceptHostMismatch, w.AcceptURIMismatch = true, true }},
		"trusted here":   {shown: good.cert.Raw, store: trusting(t, good)},
		"spelled otherwise": {shown: good.cert.Raw, store: trusting(t, good), want: func(w *Want) {
			w.Endpoint, w.Host = "OPC.TCP://PLC-7:4840/", "PLC-7."
		}},
		"trusted everywhere": {shown: good.cert.Raw, store: func(s *Store) { s.trustNow(t, good, "") }},
		"put there by hand": {shown: good.cert.Raw, store: func(s *Store) {
			s.plant(t, trustedDir, "plc.pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: good.cert.Raw}))
		}},
		"old one beside the new": {shown: good.cert.Raw, store: func(s *Store) { s.trustNow(t, good, plc); s.trustNow(t, other, plc) }},
		"by address":             {shown: good.cert.Raw, store: trusting(t, good), want: func(w *Want) { w.Host = "192.168.10.21" }},
		"by mapped address":      {shown: good.cert.Raw, store: trusting(t, good), want: func(w *Want) { w.Host = "[::ffff:192.168.10.21]" }},
		"address as a name":      {shown: good.cert.Raw, store: trusting(t, good), want: func(w *Want) { w.Host = "192.168.10.22" }},
		"broken files beside": {shown: good.cert.Raw, store: func(s *Store) {
			s.trustNow(t, good, plc)
			for _, sub := range []string{trustedDir, issuersDir, listsDir, rejectedDir, pinsDir} {
				s.plant(t, sub, "a broken one.der", []byte("nothing"))
			}
		}},
	})
}

func TestJudge_WhatNoTrustMends(t *testing.T) {
	good := server(t, nil)
	usage := func(u x509.KeyUsage) change { return func(c *x509.Certificate) { c.KeyUsage = u } }
	forged := bytes.Clone(good.cert.Raw)
	forged[len(forged)-1] ^= 1
	weak := serverWith(t, keys().weak, nil)
	sha1 := server(t, nil, func(c *x509.Certificate) { c.SignatureAlgorithm = x509.SHA1WithRSA })
	long := append([]byte{0x30, 0x83, 0x01, 0x11, 0x70}, make([]byte, 70000)...)
	faults := map[string]fault{
		"empty":             {reason: NotParsed, say: "it is empty", fix: "install the certificate on the server anew"},
		"garbage":           {shown: []byte("Lorem ipsum dolor sit amet"), reason: NotParsed, say: "can't be read"},
		"no certificate":    {shown: []byte{0x30, 0x03, 0x02, 0x01, 0x07}, reason: NotParsed, say: "x509: malformed"},
		"truncated":         {shown: good.cert.Raw[:len(good.cert.Raw)-1], reason: NotParsed, say: "truncated"},
		"garbage behind":    {shown: append(bytes.Clone(good.cert.Raw), 0), reason: NotParsed, say: "can't be read"},
		"too large":         {shown: long, reason: NotParsed, say: "a certificate of 70005 bytes; 65536 are the most"},
		"chain too long":    {shown: bytes.Repeat(good.cert.Raw, maxChain+1), reason: ChainTooLong, say: "more than 8 certificates", fix: "nothing else"},
		"wrong signature":   {shown: forged, reason: BadSignature, say: "is not signed by its own key, though it says so: it is damaged, or forged.", fix: "what stands between"},
		"weak key":          {shown: weak.cert.Raw, store: trusting(t, weak), reason: WeakKey, say: "has an RSA key of 1024 bits; 2048 to 8192 are usable.", fix: "signed with SHA-256"},
		"SHA-1":             {shown: sha1.cert.Raw, store: trusting(t, sha1), reason: WeakKey, say: "is signed with SHA1-RSA, which can be forged."},
		"no key usage":      {shown: server(t, nil, usage(0)).cert.Raw, reason: NotForServers, say: "(no key usage)", fix: "digitalSignature, nonRepudiation"},
		"no signatures":     {shown: server(t, nil, usage(x509.KeyUsageKeyEncipherment)).cert.Raw, reason: NotForServers, say: "(no digitalSignature)"},
		"no encryption":     {shown: server(t, nil, usage(x509.KeyUsageDigitalSignature)).cert.Raw, reason: NotForServers, say: "neither keyEncipherment"},
		"elliptic curve":    {shown: serverWith(t, keys().elliptic, nil).cert.Raw, reason: NotForServers, say: "a key of the kind ECDSA", fix: "RSA key"},
		"for clients only":  {shown: server(t, nil, func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth} }).cert.Raw, reason: NotForServers, say: "no serverAuth"},
		"no extended usage": {shown: server(t, nil, func(c *x509.Certificate) { c.ExtKeyUsage = nil }).cert.Raw, reason: Unknown},
	}
	for name, f := range faults {
		t.Run(name, func(t *testing.T) {
			f.run(t)
			if f.reason == Unknown {
				return
			}
			s := open(t, t.TempDir())
			if err := s.Judge(f.shown, at(plc), noon); err == nil || s.count(t, rejectedDir) != 0 {
				t.Errorf("kept for trust although no trust would mend it: %v", err)
			}
		})
	}
}

func TestJudge_Issued(t *testing.T) {
	ca := authority(t, "Plant CA", keys().ca, nil)
	sub := authority(t, "Line CA", keys().sub, &ca)
	good := server(t, &ca)
	below := server(t, &sub)
	forged := bytes.Clone(good.cert.Raw)
	forged[len(forged)-1] ^= 1
	trustCA := func(s *Store) { s.trustNow(t, ca, "") }
	with := func(list []byte) func(*Store) {
		return func(s *Store) { trustCA(s); s.plant(t, listsDir, "list.crl", list) }
	}
	stale := &x509.RevocationList{ThisUpdate: noon.Add(-48 * time.Hour), NextUpdate: noon.Add(-24 * time.Hour)}
	impostor := authority(t, "Plant CA", keys().other, nil, func(c *x509.Certificate) { c.SubjectKeyId = ca.cert.SubjectKeyId })
	dated := authority(t, "Old CA", keys().ca, nil, func(c *x509.Certificate) { c.NotAfter = noon.Add(-time.Hour) })
	weak := authority(t, "Weak CA", keys().weak, nil)
	sha1 := authority(t, "Line CA", keys().sub, &ca, func(c *x509.Certificate) { c.SignatureAlgorithm = x509.SHA1WithRSA })
	flat := authority(t, "Flat CA", keys().ca, nil, func(c *x509.Certificate) { c.MaxPathLenZero = true })
	deep := authority(t, "Line CA", keys().sub, &flat)
	narrow := authority(t, "Narrow CA", keys().ca, nil, func(c *x509.Certificate) {
		c.PermittedDNSDomainsCritical, c.PermittedDNSDomains = true, []string{"example.com"}
	})
	within := server(t, &narrow, func(c *x509.Certificate) { c.DNSNames = []string{"plc-7.example.com"} })
	plain := server(t, nil, func(c *x509.Certificate) { c.Subject.CommonName = "Plant CA" })
	runAll(t, map[string]fault{
		"unknown issuer":              {shown: good.cert.Raw, reason: UntrustedIssuer, say: `It was issued by "Plant CA", which is not trusted on this gateway.`, fix: "Or get the issuer's certificate"},
		"unknown issuer, sent along":  {shown: chain(good, ca), reason: UntrustedIssuer, say: `The server also showed the issuer "Plant CA", ` + Fingerprint(ca.cert), fix: "all servers it certifies: plantmesh-edge cert trust " + sha(ca.cert.Raw)[:16]},
		"issuer known, not trusted":   {shown: good.cert.Raw, store: func(s *Store) { s.plant(t, issuersDir, "ca.der", ca.cert.Raw) }, reason: UntrustedIssuer, say: "is not trusted"},
		"issuer trusted elsewhere":    {shown: good.cert.Raw, store: func(s *Store) { s.trustNow(t, ca, "opc.tcp://plc-8") }, reason: UntrustedIssuer, say: "is not trusted"},
		"changed to an issued one":    {shown: good.cert.Raw, store: trusting(t, server(t, nil)), reason: Changed, say: "Trusted so far"},
		"issuer is a server":          {shown: server(t, &plain).cert.Raw, store: func(s *Store) { s.trustNow(t, plain, "") }, reason: UntrustedIssuer, say: "is not trusted"},
		"wrong signature":             {shown: forged, store: trustCA, reason: BadSignature, say: `is not signed by the key of its issuer "Plant CA"`},
		"signed by an impostor":       {shown: server(t, &impostor).cert.Raw, store: trustCA, reason: BadSignature, say: `"Plant CA"`},
		"revoked":                     {shown: good.cert.Raw, store: with(revocations(t, ca, nil, good)), reason: Revoked, say: `was revoked by its issuer "Plant CA" on 2026-11-29 11:00:00 UTC.`, fix: "Ask whoever runs the issuer"},
		"issuer revoked":              {shown: chain(below, sub), store: with(revocations(t, ca, nil, sub)), reason: Revoked, say: `The certificate of the issuer "Line CA", over the server's "PLC 7", was revoked`},
		"revoked, list stale":         {shown: good.cert.Raw, store: with(revocations(t, ca, &x509.RevocationList{ThisUpdate: stale.ThisUpdate, NextUpdate: stale.NextUpdate}, good)), reason: Revoked},
		"revoked, trusted itself":     {shown: good.cert.Raw, store: func(s *Store) { with(revocations(t, ca, nil, good))(s); s.trustNow(t, good, plc) }, reason: Revoked},
		"stale list":                  {shown: good.cert.Raw, store: with(revocations(t, ca, stale)), want: func(w *Want) { w.AcceptExpired = true }, reason: NoRevocationList, say: "was to be replaced by 2026-11-28 12:00:00 UTC; the gateway's clock says 2026-11-29 12:00:00 UTC.", fix: "/crl in place of the old one"},
		"list by another":             {shown: good.cert.Raw, store: with(revocations(t, impostor, nil)), reason: NoRevocationList, say: "is not signed by it"},
		"list with SHA-1":             {shown: good.cert.Raw, store: with(revocations(t, ca, &x509.RevocationList{SignatureAlgorithm: x509.SHA1WithRSA})), reason: NoRevocationList, say: "SHA-1"},
		"list of changes only":        {shown: good.cert.Raw, store: with(revocations(t, ca, &x509.RevocationList{ExtraExtensions: []pkix.Extension{{Id: []int{2, 5, 29, 27}, Critical: true, Value: []byte{2, 1, 1}}}})), reason: NoRevocationList, say: "not a whole list"},
		"issuer expired":              {shown: server(t, &dated).cert.Raw, store: func(s *Store) { s.trustNow(t, dated, "") }, reason: Expired, say: `The certificate of the issuer "Old CA", over the server's "PLC 7", was valid until 2026-11-29 11:00:00 UTC`},
		"issuer's key weak":           {shown: server(t, &weak).cert.Raw, store: func(s *Store) { s.trustNow(t, weak, "") }, reason: WeakKey, say: `"Weak CA"`},
		"issuer signed with SHA-1":    {shown: chain(server(t, &sha1), sha1), store: trustCA, reason: WeakKey, say: `"Line CA"`},
		"issuer below its depth":      {shown: chain(server(t, &deep), deep), store: func(s *Store) { s.trustNow(t, flat, "") }, reason: UntrustedIssuer, say: `leads to the trusted issuer "Flat CA", which may not have issued it`, fix: "within the limits"},
		"outside the issuer's names":  {shown: server(t, &narrow).cert.Raw, store: func(s *Store) { s.trustNow(t, narrow, "") }, reason: UntrustedIssuer, say: "not permitted"},
		"within the issuer's names":   {shown: within.cert.Raw, store: func(s *Store) { s.trustNow(t, narrow, "") }, want: func(w *Want) { w.Host = "plc-7.example.com" }},
		"issued":                      {shown: good.cert.Raw, store: trustCA},
		"issued, trusted here":        {shown: good.cert.Raw, store: trusting(t, ca)},
		"issued, valid list":          {shown: good.cert.Raw, store: with(revocations(t, ca, nil, below))},
		"list of a former key":        {shown: good.cert.Raw, store: with(revocations(t, authority(t, "Plant CA", keys().other, nil), stale))},
		"issuer sent along":           {shown: chain(below, sub, ca), store: trustCA},
		"issuer in the store":         {shown: below.cert.Raw, store: func(s *Store) { trustCA(s); s.plant(t, issuersDir, "sub.der", sub.cert.Raw) }},
		"middle one trusted":          {shown: chain(below, sub), store: func(s *Store) { s.trustNow(t, sub, "") }},
		"issuer expired, accepted":    {shown: server(t, &dated).cert.Raw, store: func(s *Store) { s.trustNow(t, dated, "") }, want: func(w *Want) { w.AcceptExpired = true }},
		"trusted itself, list stale":  {shown: good.cert.Raw, store: func(s *Store) { with(revocations(t, ca, stale))(s); s.trustNow(t, good, plc) }},
		"changed within one issuer":   {shown: good.cert.Raw, store: func(s *Store) { trustCA(s); s.trustNow(t, server(t, nil), plc) }},
		"issued, wrong host all same": {shown: good.cert.Raw, store: trustCA, want: func(w *Want) { w.Host = "plc-8" }, reason: WrongHost},
	})
}

func TestJudge_IssuersInACircle(t *testing.T) {
	// Two issuers that signed each other; neither signed itself.
	root := authority(t, "A", keys().ca, nil)
	b := authority(t, "B", keys().sub, &root)
	a := authority(t, "A", keys().ca, &b)
	loop := server(t, &b)
	runAll(t, map[string]fault{
		"loop":            {shown: chain(loop, b, a), reason: ChainLoop, say: `lead in a circle, through "B", and to nobody who is trusted.`, fix: "signed by itself"},
		"loop, and a way": {shown: chain(loop, b, a), store: func(s *Store) { s.trustNow(t, root, "") }},
	})
	s := open(t, t.TempDir())
	last := root
	for i := range maxChain { // 8 issuers below the trusted one
		key := []*rsa.PrivateKey{keys().sub, keys().ca}[i%2]
		last = authority(t, fmt.Sprintf("level %d", i), key, &last)
		s.plant(t, issuersDir, fmt.Sprintf("%d.der", i), last.cert.Raw)
	}
	s.trustNow(t, root, "")
	if r := refused(t, s.Judge(server(t, &last).cert.Raw, at(plc), noon)); r == nil || r.Reason != ChainTooLong {
		t.Errorf("a long way through the store: %v", r)
	}
}

// TestJudge_ManyIssuersOfOneName: a server can't make the gateway verify
// signatures for ever.
func TestJudge_ManyIssuersOfOneName(t *testing.T) {
	ca := authority(t, "A", keys().ca, nil)
	shown := []party{server(t, &ca, func(c *x509.Certificate) { c.Subject.CommonName = "x" })}
	for range maxChain - 1 {
		shown = append(shown, authority(t, "A", keys().ca, &ca)) // each fits below each other
	}
	s := open(t, t.TempDir())
	for range 20 {
		s.plant(t, issuersDir, sha(serial(t).Bytes())+".der", authority(t, "A", keys().ca, &ca).cert.Raw)
	}
	if r := refused(t, s.Judge(chain(shown...), at(plc), noon)); r == nil {
		t.Error("accepted")
	}
}

func TestJudge_KeepsAtMost32(t *testing.T) {
	s := open(t, t.TempDir())
	ca := authority(t, "Plant CA", keys().ca, nil)
	var last party
	for i := range maxRejected + 5 {
		last = server(t, &ca)
		now := noon.Add(time.Duration(-i) * time.Minute) // a clock that runs back must not lose what came last
		if r := refused(t, s.Judge(chain(last, ca, ca), at(plc), now)); r == nil || r.Reason != UntrustedIssuer {
			t.Fatalf("%v", r)
		}
	}
	if n := s.count(t, rejectedDir); n != maxRejected {
		t.Errorf("%d files in rejected/", n)
	}
	if _, err := s.Trust(sha(last.cert.Raw)[:16], plc); err != nil {
		t.Error(err)
	}
	if err := s.Judge(last.cert.Raw, at(plc), noon); err != nil {
		t.Error(err)
	}
}

func TestJudge_SaysThatItCouldNotKeep(t *testing.T) {
	s := open(t, t.TempDir())
	good := server(t, nil)
	if err := os.MkdirAll(s.path(rejectedDir, fileName(good.cert), "x"), 0o700); err != nil {
		t.Fatal(err)
	}
	if r := refused(t, s.Judge(good.cert.Raw, at(plc), noon)); r == nil || r.Reason != Unknown || !strings.Contains(r.Say, "could not be kept") {
		t.Errorf("%v", r)
	}
	if err := os.RemoveAll(s.path(trustedDir)); err != nil {
		t.Fatal(err)
	}
	if err := s.Judge(good.cert.Raw, at(plc), noon); err == nil || !strings.Contains(err.Error(), "read the certificate store") {
		t.Errorf("without trusted/: %v", err)
	}
}

// TestJudge_LetterByLetter: the URI as it stands in the certificate, not as a
// parsed one would be spelled.
func TestJudge_LetterByLetter(t *testing.T) {
	raw := "URN:Plc 7:%7Eserver"
	san := append([]byte{0x30, byte(len(raw) + 2), 0x86, byte(len(raw))}, raw...)
	odd := server(t, nil, func(c *x509.Certificate) {
		c.URIs, c.DNSNames, c.IPAddresses = nil, nil, []net.IP(nil)
		c.ExtraExtensions = []pkix.Extension{{Id: []int{2, 5, 29, 17}, Value: san}}
	})
	s := open(t, t.TempDir())
	s.trustNow(t, odd, plc)
	w := at(plc)
	w.AcceptHostMismatch, w.ApplicationURI = true, raw
	if err := s.Judge(odd.cert.Raw, w, noon); err != nil {
		t.Error(err)
	}
}

func FuzzJudge(f *testing.F) {
	ca := authority(f, "Plant CA", keys().ca, nil)
	sub := authority(f, "Line CA", keys().sub, &ca)
	for _, seed := range [][]byte{
		nil,
		{0x30},
		{0x30, 0x84, 0xff, 0xff, 0xff, 0xff},
		chain(server(f, nil)), chain(server(f, &sub), sub), chain(server(f, &ca), ca, sub),
		chain(serverWith(f, keys().elliptic, nil)), chain(serverWith(f, keys().weak, nil)),
	} {
		f.Add(seed)
	}
	s := open(f, f.TempDir())
	s.trustNow(f, ca, "")
	s.plant(f, listsDir, "list.crl", revocations(f, ca, nil))
	f.Fuzz(func(t *testing.T, der []byte) {
		err := s.Judge(der, at(plc), noon)
		if r := refused(t, err); r != nil && (r.Say == "" || r.Fix == "" || strings.ContainsAny(r.Error(), "\n\x1b")) {
			t.Errorf("%+v", r)
		}
		if _, err := s.List(noon); err != nil {
			t.Error(err)
		}
	})
}
