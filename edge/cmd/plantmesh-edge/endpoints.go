package main

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"regexp"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"plantmesh/edge/agent"
	"plantmesh/edge/source/opcua"
	"plantmesh/edge/source/opcua/browse"
	"plantmesh/proto/answer"
)

// surveyed is the answer of --json to --endpoints.
type surveyed struct {
	Servers  []offering `json:"servers"`
	NotReady []string   `json:"not_ready,omitempty"`
}

// offering is what one server offers.
type offering struct {
	opcua.Survey

	Source string `json:"source,omitempty"` // that reads it
	Error  string `json:"error,omitempty"`  // why it could not be asked

	server server
	err    error
}

// atOnce is how many servers are asked at a time.
const atOnce = 8

// onlyHost is a server of which nobody knows yet how it is called.
func onlyHost(name string) bool {
	return net.ParseIP(name) != nil || regexp.MustCompile(`^([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.%]+\])(:[0-9]{1,5})?$`).MatchString(name)
}

// asksForEndpoints: it is said, or nothing else can be meant.
func (c *browseCmd) asksForEndpoints() (bool, error) {
	if c.Endpoints || c.Server == "" {
		return true, nil
	}
	edge, err := c.opened()
	if err != nil || !onlyHost(c.Server) || c.named(edge) != nil {
		return false, err
	}
	// A word that is neither an address nor a source is one that is misspelt, or whose
	// file can't be read.
	sure := edge == nil || strings.Contains(c.Server, ":") || net.ParseIP(c.Server) != nil
	return sure || strings.Contains(c.Server, ".") && edge.Need(agent.Sources) == nil, nil
}

// endpoints asks servers what they offer, and says what this agent would take.
func (c *browseCmd) endpoints(ctx context.Context, p *answer.Printer) error {
	if c.Propose || c.Watch || c.CSV {
		return &answer.Error{Code: answer.Usage, Message: "--endpoints looks at no nodes: leave --propose, --out, --watch and --csv out, or name a server by opc.tcp://host:port/path"}
	}
	edge, err := c.opened()
	if err != nil {
		return err
	}
	got := surveyed{}
	if edge != nil {
		got.NotReady = edge.NotReady(time.Now())
		notes(p.Narration(), got.NotReady)
	}
	if got.Servers, err = c.servers(edge); err != nil {
		return err
	}
	var g errgroup.Group
	g.SetLimit(atOnce)
	for i := range got.Servers {
		g.Go(func() error { got.Servers[i].ask(ctx, steps(p)); return nil })
	}
	if err := g.Wait(); err != nil {
		return err
	}
	var text strings.Builder
	reached := 0
	for i := range got.Servers {
		o := &got.Servers[i]
		if o.err == nil {
			reached++
		}
		o.print(&text)
	}
	if reached == 0 {
		return got.Servers[0].err
	}
	r := answer.Result{Data: got, Text: text.String()}
	if len(got.Servers) == 1 {
		r.Next = c.after(&got.Servers[0])
	}
	return p.Print(r)
}

// servers are those to ask.
func (c *browseCmd) servers(edge *agent.Config) (out []offering, err error) {
	one := server{edge: edge, byFlags: true}
	switch {
	case c.Server != "" && (isAddress(c.Server) || c.named(edge) == nil && onlyHost(c.Server)):
		at := c.Server
		if net.ParseIP(at) != nil && strings.Contains(at, ":") {
			at = "[" + at + "]"
		}
		if !isAddress(at) {
			at = "opc.tcp://" + at
		}
		one.Config, err = c.called(at)
		return []offering{{server: one}}, err
	case c.Server != "":
		one.byFlags = false
		one.Config, err = c.source(edge, c.Server)
		return []offering{{server: one, Source: c.Server}}, err
	case edge != nil && c.security() != (opcua.Security{}):
		return nil, &answer.Error{Code: answer.Usage, Message: "sources are called as their files say: leave out the flags of security, or name a server"}
	case edge != nil:
		for _, s := range edge.Sources {
			if s.OPCUA != nil {
				out = append(out, offering{server: server{Config: *s.OPCUA, edge: edge}, Source: s.ID()})
			}
		}
	}
	if len(out) == 0 {
		return nil, &answer.Error{Code: answer.Usage, Message: "which server? Say opc.tcp://host:port/path, or a host to see what it offers; with --config edge.yaml also one of its OPC UA sources, or nothing for all of them"}
	}
	return out, nil
}

// named is the source of this name.
func (c *browseCmd) named(edge *agent.Config) *agent.SourceFile {
	if edge == nil {
		return nil
	}
	for i := range edge.Sources {
		if edge.Sources[i].ID() == c.Server {
			return &edge.Sources[i]
		}
	}
	return nil
}

func (o *offering) ask(ctx context.Context, log *slog.Logger) {
	s := &o.server
	if s.edge != nil && !s.Security.Insecure {
		if _, app, err := agent.Certificates(*s.edge); err == nil { // else nothing is judged, and the notes say what is missing
			s.Application = app
		}
	}
	o.Survey, o.err = opcua.Look(ctx, s.Config, log)
	if o.err != nil {
		o.err = s.visited(o.err)
		o.Error = o.err.Error()
	}
	if s.byFlags {
		for i := range o.Obstacles {
			o.Obstacles[i] = asFlags(o.Obstacles[i])
		}
		for i := range o.Offers {
			o.Offers[i].Why = asFlags(o.Offers[i].Why)
		}
	}
}

// print says in words what a server offers.
func (o *offering) print(b *strings.Builder) {
	line := func(at, format string, args ...any) {
		fmt.Fprintf(b, "%-12s %s\n", at, browse.Printable(fmt.Sprintf(format, args...)))
	}
	if o.Source != "" {
		line("source", "%s", o.Source)
	}
	if o.err != nil {
		line("server", "%s", o.Error)
		return
	}
	line("server", "%s (%s), a %s, asked at %s", o.Name, o.URI, o.Kind, o.Endpoint)
	url, certificate := "", ""
	for _, e := range o.Offers {
		if e.Certificate != nil && e.Certificate.Text != certificate {
			certificate = e.Certificate.Text
			line("certificate", "%s, %d days left", certificate, int(time.Until(e.Certificate.NotAfter).Hours()/24))
		}
		if e.URL != url {
			url = e.URL
			line("endpoint", "%s", url)
		}
		mark, why := "  ", "not taken: "+e.Why
		if e.Taken {
			mark, why = "->", "taken: "+e.Why
		}
		line("", "%s %-21s  %-14s  %-32s  %s", mark, e.Policy, e.Mode, strings.Join(e.Logins, ", "), why)
	}
	for _, text := range o.Obstacles {
		line("but", "%s", text)
	}
	if o.Trusted != nil && *o.Trusted {
		line("trust", "this gateway trusts the certificate; whether the server trusts this gateway's shows a connection")
	}
	for _, a := range o.Others {
		line("also there", "%s (%s) at %s", a.Name, a.URI, strings.Join(a.URLs, ", "))
	}
}

// after is the command that comes next.
func (c *browseCmd) after(o *offering) string {
	words := func(more ...string) string {
		at := o.Call
		if at == "" {
			at = o.Endpoint
		}
		if o.Source != "" {
			at = o.Source
		}
		return answer.Command(append(append([]string{"plantmesh-edge", "browse"}, c.again(at)...), more...)...)
	}
	switch {
	case o.Call == "" || len(o.Obstacles) > 0: // what helps is said
		return ""
	case !o.server.Security.Insecure && o.server.edge == nil:
		return words("--config", "edge.yaml")
	}
	return words()
}
