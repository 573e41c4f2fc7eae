package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"path/filepath"
	"regexp"
	"strings"

	"plantmesh/edge/agent"
	"plantmesh/edge/source/mqtt/link"
	"plantmesh/edge/source/opcua"
	"plantmesh/edge/source/opcua/channel"
	"plantmesh/edge/source/opcua/trust"
	"plantmesh/proto/answer"
	"plantmesh/proto/strict"
)

// visitFlags say how a server is called that need not be a source yet.
type visitFlags struct {
	Config string `type:"path" short:"c" help:"edge.yaml: whose certificates are used; and its sources may be named instead of an endpoint."`

	Insecure           bool   `help:"Neither sign nor encrypt: everyone on the network can read and change what is sent."`
	Policy             string `help:"Basic256Sha256, Aes128_Sha256_RsaOaep or Aes256_Sha256_RsaPss; default: the strongest that the server offers."`
	Mode               string `help:"Sign or SignAndEncrypt, the default."`
	User               string `help:"Log in by name."`
	PasswordFile       string `type:"path" help:"The file with that user's password; a password never stands on a command line."`
	UserCertificate    string `type:"path" help:"Log in by this certificate (PEM)."`
	UserKey            string `type:"path" help:"The key of that certificate (PEM)."`
	Trust              string `placeholder:"SHA256:…" help:"Trust the certificate of this fingerprint at this server from now on, as cert trust does, if it is the one that is shown: compare it with the machine's own display or manual."`
	AcceptExpired      bool   `help:"Take a server's certificate past its end."`
	AcceptHostMismatch bool   `help:"Take a server's certificate that names another host."`
	AcceptURIMismatch  bool   `name:"accept-uri-mismatch" help:"Take a server's certificate of another application than it says it is."`
}

// security is what the flags ask for.
func (f *visitFlags) security() opcua.Security {
	return opcua.Security{
		Insecure: f.Insecure, Policy: f.Policy, Mode: f.Mode, User: f.User, PasswordFile: f.PasswordFile, UserCertificate: f.UserCertificate, UserKey: f.UserKey,
		AcceptExpired: f.AcceptExpired, AcceptHostMismatch: f.AcceptHostMismatch, AcceptURIMismatch: f.AcceptURIMismatch,
	}
}

// again are the words that call the same server.
func (f *visitFlags) again(server string) []string {
	words := []string{server}
	for _, f := range [][2]string{
		{"--config", f.Config},
		{"--policy", f.Policy},
		{"--mode", f.Mode},
		{"--user", f.User},
		{"--password-file", f.PasswordFile},
		{"--user-certificate", f.UserCertificate},
		{"--user-key", f.UserKey},
	} {
		if f[1] != "" {
			words = append(words, f[0], f[1])
		}
	}
	for _, f := range []struct {
		name string
		set  bool
	}{{"--insecure", f.Insecure}, {"--accept-expired", f.AcceptExpired}, {"--accept-host-mismatch", f.AcceptHostMismatch}, {"--accept-uri-mismatch", f.AcceptURIMismatch}} {
		if f.set {
			words = append(words, f.name)
		}
	}
	return words
}

// asFlags is a text about the keys of a source's file, for who calls a server by
// flags: security.mode: Sign is --mode Sign.
func asFlags(text string) string {
	keys := regexp.MustCompile(`security\.([a-z_]+)(: true\b|: (?:Sign|Basic|Aes)[A-Za-z0-9_]+|: Sign\b)?`)
	return keys.ReplaceAllStringFunc(text, func(said string) string {
		key, value, _ := strings.Cut(strings.TrimPrefix(said, "security."), ": ")
		flag := "--" + strings.ReplaceAll(key, "_", "-")
		if value == "" || value == "true" {
			return flag
		}
		return flag + " " + value
	})
}

// server is one to call.
type server struct {
	opcua.Config

	edge    *agent.Config // nil: none was named
	byFlags bool          // its security is what the flags say, not what a file does
	trust   string        // the fingerprint of --trust
}

// target is the server that was named: by its endpoint, or as a source of the
// configuration, whose security then holds. Of that configuration nothing else is
// needed than what the connection needs.
func (f *visitFlags) target(name string) (s server, err error) {
	if s.edge, err = f.opened(); err != nil {
		return s, err
	}
	if s.trust = f.Trust; s.trust != "" && (s.edge == nil || f.Insecure) {
		return s, &answer.Error{Code: answer.Usage, Message: "--trust is for a protected connection: say --config edge.yaml with it, and leave --insecure out"}
	}
	if isAddress(name) {
		s.byFlags = true
		s.Config, err = f.called(name)
	} else {
		s.Config, err = f.source(s.edge, name)
	}
	return s, err
}

// isAddress: it was meant as one, and not as a source's name.
func isAddress(name string) bool { return strings.Contains(name, ":/") }

// opened is the configuration, where one is named.
func (f *visitFlags) opened() (*agent.Config, error) {
	if f.Config == "" {
		return nil, nil //nolint:nilnil // none is no error
	}
	edge, err := agent.OpenConfig(f.Config)
	return &edge, err
}

// certify gives a protected connection this gateway's certificates.
func (s *server) certify() (err error) {
	switch {
	case s.Security.Insecure:
	case s.edge == nil:
		return &answer.Error{
			Code: answer.Usage, Message: "a protected connection needs this gateway's certificates: say --config edge.yaml; or say --insecure, if everyone on that network may read and change what is sent",
		}
	default:
		_, s.Application, err = agent.Certificates(*s.edge)
	}
	return err
}

// notes are lines for people that keep nothing from going on.
func notes(to io.Writer, lines []string) {
	for _, l := range lines {
		_, _ = fmt.Fprintln(to, "note: "+l) // advice may get lost
	}
}

// called is a server that stands in no file.
func (f *visitFlags) called(name string) (cfg opcua.Config, err error) {
	u, err := url.Parse(name)
	if err == nil && (u.Scheme == "mqtt" || u.Scheme == "mqtts" || u.Scheme == "sparkplug") {
		return cfg, &answer.Error{Code: answer.Usage, Message: "only OPC UA servers can be browsed; what a broker says shows: plantmesh-edge source test mqtt://host:1883 --topic 'plant/#', or 'spBv1.0/#' for Sparkplug B"}
	}
	if wrong := opcua.Misaddressed(name); wrong != nil {
		return cfg, misaddressed(name, "opc.tcp://host:port", wrong)
	}
	cfg.ID, cfg.Endpoint = "plantmesh-edge", name
	cfg.Security = f.security()
	if err := cfg.Security.Check(); err != nil {
		return cfg, &answer.Error{Code: answer.Usage, Message: asFlags(err.Error())}
	}
	return cfg, nil
}

// misaddressed is the error of an address that can't be called.
func misaddressed(name, form string, f *strict.AddressFault) error {
	e := &answer.Error{Code: answer.Usage, Message: fmt.Sprintf("%q is no %s: %s", name, form, f.Why), Hint: "write " + f.Write}
	if strings.Contains(name, "@") { // a password may stand there
		e.Message = fmt.Sprintf("what stands behind the @ is no %s: %s", form, f.Why)
	}
	return e
}

// source is a source of the configuration, by its name.
func (f *visitFlags) source(edge *agent.Config, name string) (cfg opcua.Config, err error) {
	if edge == nil {
		return cfg, &answer.Error{Code: answer.Usage, Message: fmt.Sprintf("%q is no opc.tcp://host:port; to name a source, say --config edge.yaml too", name)}
	}
	var known []string
	for _, s := range edge.Sources {
		known = append(known, s.ID())
		if s.ID() != name {
			continue
		}
		if s.OPCUA == nil {
			return cfg, &answer.Error{Code: answer.Usage, Message: fmt.Sprintf("source %q speaks MQTT: only OPC UA servers can be browsed; plantmesh-edge source test shows what a broker says", name)}
		}
		if f.security() != (opcua.Security{}) {
			return cfg, &answer.Error{Code: answer.Usage, Message: fmt.Sprintf("source %q is called as %s says: leave out the flags of security, or name its endpoint instead", name, s.File)}
		}
		return *s.OPCUA, nil
	}
	if err := edge.Need(agent.Sources); err != nil {
		return cfg, err // the one that is meant may be that
	}
	has := "which has none"
	if len(known) > 0 {
		has = "which has " + strings.Join(known, ", ")
	}
	return cfg, &answer.Error{Code: answer.Usage, Message: fmt.Sprintf("%q is neither opc.tcp://host:port nor a source of %s, %s; a host of that name is asked by --endpoints", name, filepath.Base(f.Config), has)}
}

// visit has a session used at the server.
func (s *server) visit(ctx context.Context, p *answer.Printer, use func(ctx context.Context, c opcua.Caller) error) error {
	if s.Security.Insecure {
		p.Say("warning: the connection to %s is neither signed nor encrypted\n", s.Endpoint)
	}
	err := s.visited(opcua.Visit(ctx, s.Config, steps(p), use))
	if refused, ok := errors.AsType[*answer.Error](err); ok && s.trust != "" && refused.Code == answer.CertUntrusted {
		if err := s.trusting(p, refused); err != nil {
			return err
		}
		return s.visited(opcua.Visit(ctx, s.Config, steps(p), use))
	}
	return err
}

// trusting trusts the certificate of --trust at the server that was refused.
func (s *server) trusting(p *answer.Printer, refused *answer.Error) error {
	store, _, err := agent.Certificates(*s.edge)
	if err != nil {
		return err
	}
	cert, err := store.Trust(s.trust, s.Endpoint)
	if errors.Is(err, trust.ErrNotFound) {
		return &answer.Error{Code: answer.CertUntrusted, Message: "it does not show the certificate that --trust names: " + refused.Message, Hint: refused.Hint}
	}
	if err != nil {
		return noneSuch(err)
	}
	p.Say("trusted at %s: %s\n", s.Endpoint, trust.Fingerprint(cert))
	return nil
}

// visited is the error of a visit, as an answer.
func (s *server) visited(err error) error {
	e, ok := errors.AsType[*answer.Error](visited(s.Endpoint, err))
	if ok && s.byFlags {
		e.Message = asFlags(e.Message)
		return e
	}
	return visited(s.Endpoint, err)
}

// visited is the error of a visit to an endpoint, as an answer.
func visited(endpoint string, err error) error {
	if v, ok := errors.AsType[*link.VisitError](err); ok {
		return &answer.Error{Code: answer.Network, Message: v.Error()}
	}
	v, ok := errors.AsType[*opcua.VisitError](err)
	if !ok {
		for _, broken := range []error{channel.ErrClosed, channel.ErrTimeout, channel.ErrProtocol, channel.ErrSecurity} {
			if errors.Is(err, broken) {
				return &answer.Error{Code: answer.Network, Message: fmt.Sprintf("%s: %v", endpoint, err)}
			}
		}
		return err
	}
	code := answer.Network
	switch _, refused := errors.AsType[*trust.Refusal](err); {
	case refused:
		code = answer.CertUntrusted
	case v.Kind == opcua.OfLogin:
		code = answer.UserDenied
	case v.Kind == opcua.OfOwnCertificate:
		code = answer.OwnCertRefused
	}
	return &answer.Error{Code: code, Message: fmt.Sprintf("%s: %s", endpoint, v.Error())}
}
