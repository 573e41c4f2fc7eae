package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"plantmesh/edge/agent"
	"plantmesh/edge/source/opcua"
	"plantmesh/edge/source/opcua/trust"
	"plantmesh/proto/answer"
)

// certCmd is about the certificates of OPC UA: this gateway's and the servers'.
type certCmd struct {
	Config string `required:"" type:"path" short:"c" help:"edge.yaml"`

	List     certListCmd     `cmd:"" help:"Show this gateway's certificate, those it trusts, and those it was shown and refused."`
	Show     certShowCmd     `cmd:"" help:"Show one of them: whose, for which hosts, until when, and its fingerprints."`
	Export   certExportCmd   `cmd:"" help:"Print one of them, or write it into a file for a server that is to trust it: never a key."`
	Trust    certTrustCmd    `cmd:"" help:"Trust a server's certificate, by its fingerprint."`
	Distrust certDistrustCmd `cmd:"" help:"Trust it no longer."`
	Renew    certRenewCmd    `cmd:"" help:"Make the next certificate of this gateway, beside the one in use."`
	Adopt    certAdoptCmd    `cmd:"" help:"Take the next certificate into use; servers must trust it first."`
}

func (c *certCmd) store() (*trust.Store, opcua.Application, error) {
	cfg, err := agent.OpenConfig(c.Config)
	if err != nil {
		return nil, opcua.Application{}, err
	}
	return agent.Certificates(cfg)
}

// see is the command that shows whether a server is reached now: of the agent, where
// one runs.
func (c *certCmd) see(ctx context.Context, endpoint string) string {
	cfg, err := agent.OpenConfig(c.Config, agent.Data)
	if err == nil && endpoint != "" {
		if _, err = agent.Status(ctx, cfg); err != nil {
			return answer.Command("plantmesh-edge", "browse", endpoint, "--config", c.Config)
		}
	}
	return answer.Command("plantmesh-edge", "status", "--config", c.Config)
}

// again is the command line of another command about the same certificates.
func (c *certCmd) again(words ...string) string {
	return answer.Command(append([]string{"plantmesh-edge", "cert", "--config", c.Config}, words...)...)
}

type certListCmd struct{}

func (*certListCmd) Run(c *certCmd, p *answer.Printer) error {
	s, app, err := c.store()
	if err != nil {
		return err
	}
	now := time.Now()
	if _, err := s.Own(app.URI, app.Hosts, now); err != nil {
		p.Say("%s\n", "warning: "+err.Error())
	}
	all, broken := s.List(now)
	if broken != nil {
		p.Say("%s\n", "warning: "+broken.Error())
	}
	var text strings.Builder
	next := ""
	for _, e := range all {
		where := ""
		if len(e.Endpoints) > 0 {
			where = " at " + strings.Join(e.Endpoints, ", ")
		}
		fmt.Fprintf(&text, "%-8s  %s%s\n          %s, valid %s to %s, %d days left\n          %s\n",
			e.Role, e.Subject, where, cmp.Or(e.ApplicationURI, "no application URI"), e.NotBefore.Format(time.DateOnly), e.NotAfter.Format(time.DateOnly), e.DaysLeft, trust.Fingerprint(e.Certificate))
		if e.Note != "" {
			fmt.Fprintf(&text, "          %s\n", e.Note)
		}
		switch e.Role {
		case trust.Own:
			fmt.Fprintf(&text, "          %s\n", e.File)
		case trust.Rejected:
			next = c.again("trust", e.SHA256[:16])
		case trust.Next, trust.Trusted, trust.Issuer:
		}
	}
	return p.Print(answer.Result{Data: map[string]any{"certificates": all}, Text: text.String(), Next: next})
}

type certTrustCmd struct {
	Fingerprint string `arg:"" help:"SHA-256 as cert list shows it, or at least its first 8 digits; or a file with the certificate."`
	Endpoint    string `help:"Only for the server called at this endpoint; without it, for every one."`
}

func (t *certTrustCmd) Run(ctx context.Context, c *certCmd, p *answer.Printer) error {
	s, _, err := c.store()
	if err != nil {
		return err
	}
	trusted := s.Trust
	if info, err := os.Stat(t.Fingerprint); err == nil && info.Mode().IsRegular() {
		trusted = s.TrustFile
	}
	cert, err := trusted(t.Fingerprint, t.Endpoint)
	if err != nil {
		return noneSuch(err)
	}
	return p.Print(answer.Result{
		Data: map[string]string{"fingerprint": trust.Fingerprint(cert), "endpoint": t.Endpoint},
		Text: fmt.Sprintf("trusted%s: %s\nAn agent that runs calls the server again within seconds.\n", at(t.Endpoint), trust.Fingerprint(cert)),
		Next: c.see(ctx, t.Endpoint),
	})
}

func at(endpoint string) string {
	if endpoint == "" {
		return " everywhere"
	}
	return " at " + endpoint
}

type certDistrustCmd struct {
	Fingerprint string `arg:"" help:"SHA-256 as cert list shows it, or at least its first 8 digits."`
	Endpoint    string `help:"Only at this endpoint."`
}

func (t *certDistrustCmd) Run(c *certCmd, p *answer.Printer) error {
	s, _, err := c.store()
	if err != nil {
		return err
	}
	cert, err := s.Distrust(t.Fingerprint, t.Endpoint)
	if err != nil {
		return noneSuch(err)
	}
	return p.Print(answer.Result{
		Data: map[string]string{"fingerprint": trust.Fingerprint(cert), "endpoint": t.Endpoint},
		Text: fmt.Sprintf("no longer trusted: %s\nA connection that is open stays; the next one is refused.\n", trust.Fingerprint(cert)),
	})
}

type certRenewCmd struct{}

func (*certRenewCmd) Run(c *certCmd, p *answer.Printer) error {
	s, app, err := c.store()
	if err != nil {
		return err
	}
	id, err := s.Renew(app.URI, app.Hosts, time.Now())
	if err != nil {
		return err
	}
	return p.Print(answer.Result{
		Data: map[string]string{"fingerprint": trust.Fingerprint(id.Cert), "valid_until": id.Cert.NotAfter.Format(time.RFC3339)},
		Text: fmt.Sprintf("the next certificate: %s, valid until %s\nThe one in use goes on. Trust this one at each server, then adopt it.\n", trust.Fingerprint(id.Cert), id.Cert.NotAfter.Format(time.DateOnly)),
		Next: c.again("adopt"),
	})
}

type certAdoptCmd struct{}

func (*certAdoptCmd) Run(c *certCmd, p *answer.Printer) error {
	s, _, err := c.store()
	if err != nil {
		return err
	}
	id, err := s.Adopt(time.Now())
	if errors.Is(err, trust.ErrNoNext) {
		return &answer.Error{Code: answer.CertNotRenewed, Message: err.Error(), Fix: c.again("renew")}
	}
	if err != nil {
		return err
	}
	return p.Print(answer.Result{
		Data: map[string]string{"fingerprint": trust.Fingerprint(id.Cert)},
		Text: fmt.Sprintf("in use from the next connection on: %s\n", trust.Fingerprint(id.Cert)),
	})
}

// noneSuch is an error about a fingerprint, as an answer.
func noneSuch(err error) error {
	if errors.Is(err, trust.ErrNotFound) || errors.Is(err, trust.ErrAmbiguous) {
		return &answer.Error{Code: answer.CertUnknown, Message: err.Error(), Hint: "plantmesh-edge cert list shows all"}
	}
	if errors.Is(err, trust.ErrFingerprint) {
		return &answer.Error{Code: answer.Usage, Message: err.Error()}
	}
	return err
}
