package main

import (
	"cmp"
	"encoding/pem"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"plantmesh/edge/source/opcua/browse"
	"plantmesh/edge/source/opcua/trust"
	"plantmesh/proto/answer"
	"plantmesh/proto/strict"
)

// one is the certificate with a fingerprint; this gateway's without one, which is made where
// there is none yet: a server is to be told of it before the first connection.
func (c *certCmd) one(p *answer.Printer, fingerprint string) (trust.Entry, error) {
	s, app, err := c.store()
	if err != nil {
		return trust.Entry{}, err
	}
	now := time.Now()
	if fingerprint == "" {
		if _, err := s.Own(app.URI, app.Hosts, now); err != nil {
			return trust.Entry{}, err
		}
	}
	all, broken := s.List(now)
	if broken != nil {
		p.Say("%s\n", "warning: "+broken.Error())
	}
	if fingerprint == "" {
		if i := slices.IndexFunc(all, func(e trust.Entry) bool { return e.Role == trust.Own }); i >= 0 {
			return all[i], nil
		}
		return trust.Entry{}, fmt.Errorf("this gateway's own certificate: %w", trust.ErrNotFound)
	}
	e, err := trust.Pick(all, fingerprint)
	return e, noneSuch(err)
}

type certShowCmd struct {
	ID string `arg:"" optional:"" help:"SHA-256 as cert list shows it, or at least its first 8 digits; default: this gateway's own."`
}

// shownCert is a certificate with what a person compares.
type shownCert struct {
	trust.Entry

	Serial    string   `json:"serial"`
	Signature string   `json:"signature"`
	DNSNames  []string `json:"dns_names,omitempty"`
	Addresses []string `json:"ip_addresses,omitempty"`
}

func (t *certShowCmd) Run(c *certCmd, p *answer.Printer) error {
	e, err := c.one(p, t.ID)
	if err != nil {
		return err
	}
	x := e.Certificate
	d := shownCert{Entry: e, Serial: fmt.Sprintf("%x", x.SerialNumber), Signature: x.SignatureAlgorithm.String()}
	for _, name := range x.DNSNames {
		d.DNSNames = append(d.DNSNames, browse.Printable(name))
	}
	for _, ip := range x.IPAddresses {
		d.Addresses = append(d.Addresses, ip.String())
	}
	var text strings.Builder
	for _, line := range [][2]string{
		{"role", string(e.Role)},
		{"subject", e.Subject},
		{"issuer", e.Issuer},
		{"application", cmp.Or(e.ApplicationURI, "no application URI")},
		{"hosts", strings.Join(append(slices.Clone(d.DNSNames), d.Addresses...), ", ")},
		{"valid", fmt.Sprintf("%s to %s, %d days left", e.NotBefore.Format(time.RFC3339), e.NotAfter.Format(time.RFC3339), e.DaysLeft)},
		{"serial", d.Serial},
		{"signature", d.Signature},
		{"sha256", trust.Fingerprint(x)},
		{"sha1", e.SHA1 + "   (what OPC UA calls the thumbprint)"},
		{"trusted at", strings.Join(e.Endpoints, ", ")},
		{"note", e.Note},
		{"file", e.File},
	} {
		if line[1] != "" {
			fmt.Fprintf(&text, "%-12s %s\n", line[0], line[1])
		}
	}
	r := answer.Result{Data: d, Text: text.String()}
	switch e.Role {
	case trust.Own:
		r.Next = c.again("export")
	case trust.Rejected:
		r.Next = c.again("trust", e.SHA256[:16])
	case trust.Next, trust.Trusted, trust.Issuer:
	}
	return p.Print(r)
}

type certExportCmd struct {
	ID  string `arg:"" optional:"" help:"SHA-256 as cert list shows it, or at least its first 8 digits; default: this gateway's own."`
	PEM bool   `name:"pem" xor:"as" help:"As text; the default."`
	DER bool   `name:"der" xor:"as" help:"As bytes, which most servers want; needs --out."`
	Out string `type:"path" help:"Write it there; default: stdout."`
}

func (t *certExportCmd) Run(c *certCmd, p *answer.Printer) error {
	if t.DER && t.Out == "" {
		return &answer.Error{Code: answer.Usage, Message: "--der needs --out FILE: bytes are nothing for a terminal"}
	}
	e, err := c.one(p, t.ID)
	if err != nil {
		return err
	}
	text := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: e.Certificate.Raw}))
	data := map[string]any{"role": e.Role, "fingerprint": trust.Fingerprint(e.Certificate), "pem": text}
	if t.Out == "" {
		return p.Print(answer.Result{Data: data, Text: text})
	}
	if t.DER {
		text = string(e.Certificate.Raw)
	}
	if err := writeNew(t.Out, text); err != nil {
		return err
	}
	if err := os.Chmod(t.Out, 0o644); err != nil { //nolint:gosec // a certificate is public, and somebody carries it to the server
		return &strict.Fault{File: t.Out, What: "can't be made readable for others: " + err.Error()}
	}
	data["file"] = t.Out
	return p.Print(answer.Result{Data: data, Text: fmt.Sprintf("%s  %s  %s\n", t.Out, e.Role, trust.Fingerprint(e.Certificate))})
}
