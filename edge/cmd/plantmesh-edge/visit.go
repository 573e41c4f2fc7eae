package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"plantmesh/edge/agent"
	"plantmesh/edge/source/opcua"
	"plantmesh/edge/source/opcua/channel"
	"plantmesh/edge/source/opcua/trust"
	"plantmesh/proto/answer"
)

// visitFlags say how a server is called that need not be a source yet.
type visitFlags struct {
	Config string `type:"path" help:"edge.yaml: whose certificates are used; and its sources may be named instead of an endpoint."`

	Insecure           bool   `help:"Neither sign nor encrypt: everyone on the network can read and change what is sent."`
	Policy             string `help:"Basic256Sha256, Aes128_Sha256_RsaOaep or Aes256_Sha256_RsaPss; default: the strongest that the server offers."`
	Mode               string `help:"Sign or SignAndEncrypt, the default."`
	User               string `help:"Log in by name."`
	PasswordFile       string `type:"path" help:"The file with that user's password; a password never stands on a command line."`
	AcceptExpired      bool   `help:"Take a server's certificate past its end."`
	AcceptHostMismatch bool   `help:"Take a server's certificate that names another host."`
	AcceptURIMismatch  bool   `name:"accept-uri-mismatch" help:"Take a server's certificate of another application than it says it is."`
}

// target is the server that was named: by its endpoint, or as a source of the
// configuration, whose security then holds. Of that configuration nothing else is
// needed than what the connection needs.
func (f *visitFlags) target(name string) (cfg opcua.Config, edge *agent.Config, err error) {
	if f.Config != "" {
		opened, err := agent.OpenConfig(f.Config)
		if err != nil {
			return cfg, nil, err
		}
		edge = &opened
	}
	if strings.Contains(name, "://") {
		cfg, err = f.server(name)
	} else {
		cfg, err = f.source(edge, name)
	}
	switch {
	case err != nil:
		return cfg, edge, err
	case cfg.Security.Insecure:
	case edge == nil:
		return cfg, nil, &answer.Error{
			Code: answer.Usage, Message: "a protected connection needs this gateway's certificates: say --config edge.yaml; or say --insecure, if everyone on that network may read and change what is sent",
		}
	default:
		if _, cfg.Application, err = agent.Certificates(*edge); err != nil {
			return cfg, nil, err
		}
	}
	return cfg, edge, nil
}

// notes are lines for people that keep nothing from going on.
func notes(to io.Writer, lines []string) {
	for _, l := range lines {
		_, _ = fmt.Fprintln(to, "note: "+l) // advice may get lost
	}
}

// server is one that stands in no file.
func (f *visitFlags) server(name string) (cfg opcua.Config, err error) {
	u, err := url.Parse(name)
	switch {
	case err == nil && (u.Scheme == "mqtt" || u.Scheme == "mqtts" || u.Scheme == "sparkplug"):
		return cfg, &answer.Error{Code: answer.Usage, Message: "only OPC UA servers can be browsed so far; MQTT brokers come with a later version"}
	case err != nil || u.Scheme != "opc.tcp" || u.Hostname() == "":
		return cfg, &answer.Error{Code: answer.Usage, Message: fmt.Sprintf("%q is not opc.tcp://host:port", name)}
	}
	cfg.ID, cfg.Endpoint = "plantmesh-edge", name
	cfg.Security = opcua.Security{
		Insecure: f.Insecure, Policy: f.Policy, Mode: f.Mode, User: f.User, PasswordFile: f.PasswordFile,
		AcceptExpired: f.AcceptExpired, AcceptHostMismatch: f.AcceptHostMismatch, AcceptURIMismatch: f.AcceptURIMismatch,
	}
	if err := cfg.Security.Check(); err != nil {
		return cfg, &answer.Error{Code: answer.Usage, Message: err.Error()}
	}
	return cfg, nil
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
			return cfg, &answer.Error{Code: answer.Usage, Message: fmt.Sprintf("source %q is an MQTT broker: only OPC UA servers can be browsed so far", name)}
		}
		return *s.OPCUA, nil
	}
	if err := edge.Need(agent.Sources); err != nil {
		return cfg, err // the one that is meant may be that
	}
	return cfg, &answer.Error{Code: answer.Usage, Message: fmt.Sprintf("%q is neither opc.tcp://host:port nor a source of %s: %s", name, filepath.Base(f.Config), strings.Join(known, ", "))}
}

// visit has a session used at the server that cfg names.
func visit(ctx context.Context, cfg opcua.Config, use func(ctx context.Context, c opcua.Caller) error) error {
	if cfg.Security.Insecure {
		fmt.Fprintf(os.Stderr, "warning: the connection to %s is neither signed nor encrypted\n", cfg.Endpoint)
	}
	return visited(cfg.Endpoint, opcua.Visit(ctx, cfg, slog.New(slog.DiscardHandler), use))
}

// visited is the error of a visit, as an answer.
func visited(endpoint string, err error) error {
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
	if _, refused := errors.AsType[*trust.Refusal](err); refused {
		code = answer.CertUntrusted
	}
	return &answer.Error{Code: code, Message: fmt.Sprintf("%s: %s", endpoint, v.Error())}
}
