package main

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"regexp"
	"runtime/debug"
	"strings"
	"time"

	"plantmesh/edge/agent"
	"plantmesh/edge/source/opcua"
	"plantmesh/edge/source/opcua/browse"
	"plantmesh/proto/answer"
	"plantmesh/proto/strict"
)

// browseCmd looks at what an OPC UA server has. It changes nothing, here or there.
type browseCmd struct {
	visitFlags

	Server string `arg:"" optional:"" help:"opc.tcp://host:port/path, or a source of --config. With a host only, or with nothing but --config, as --endpoints."`

	Endpoints bool `help:"Only ask what the server offers: security, logins, certificate, and what of it this agent would take, and why."`

	Node    string `help:"Begin below this node (nsu=URI;s=ID) instead of the Objects folder."`
	Depth   int    `default:"32" help:"Levels below it, at most."`
	Filter  string `help:"Only nodes whose name matches this regular expression."`
	Space   string `name:"namespace" help:"Only nodes whose name is of a namespace whose URI contains this."`
	Class   string `enum:"object,variable,method," default:"" help:"Only objects, variables or methods."`
	Methods bool   `help:"Methods, too."`
	Names   bool   `help:"Names only: data types, units and access are not read, and no machine is recognised; nor is one among some nodes only."`
	Values  bool   `help:"Read the values, too."`

	Watch bool          `help:"Go on and print values as they change, until Ctrl-C or --for."`
	Every time.Duration `default:"1s" help:"How often --watch looks."`
	For   time.Duration `help:"How long --watch goes on."`

	CSV bool `name:"csv" help:"Print the nodes as CSV, to plan with; value, status and source_time are filled with --values, machine, signal and role where --propose would take the node."`

	Propose bool          `help:"Print a source file for the machines that were recognised, instead of the nodes."`
	Out     string        `type:"path" help:"Write the proposed file there, where no file is yet; as --propose."`
	Measure time.Duration `default:"5s" help:"How long --propose counts how often the values change."`
	ID      string        `help:"The proposed source's name; default: made of the endpoint."`
	Line    string        `help:"The proposed signals' line; default: the part of a machine's name before the first - . or /."`

	MaxNodes int `default:"100000" help:"Nodes told, at most."`
	MaxText  int `default:"33554432" help:"Bytes of names and node ids, at most."`

	within time.Duration
}

// usualBrowse is how long a server may be looked through where --timeout doesn't say it.
const usualBrowse = 2 * time.Minute

// nodesIdle and nodesMemory keep the process small: what is read is garbage soon, also
// where the collector gets little of a busy machine. With the program itself the
// process stays under 64 MiB.
const (
	nodesIdle   = 40
	nodesMemory = 44 << 20
)

// browsed is the answer of --json.
type browsed struct {
	Endpoint string           `json:"endpoint"`
	Server   browse.Identity  `json:"server"`
	Summary  browse.Summary   `json:"summary"`
	Nodes    []browse.Node    `json:"nodes,omitempty"`
	Machines []browse.Machine `json:"machines"`
	Source   string           `json:"source,omitempty"` // of --propose: the file
	Preview  *browse.Preview  `json:"preview,omitempty"`
	Changes  int              `json:"changes,omitempty"` // of --watch

	NotReady []string `json:"not_ready,omitempty"` // what an agent could not run or send with
}

func (c *browseCmd) walk() (w browse.Config, err error) {
	w = browse.Config{
		Start: c.Node, Depth: c.Depth, MaxNodes: c.MaxNodes, MaxText: c.MaxText, Within: c.within,
		Methods: c.Methods, Details: !c.Names || c.Values || c.Propose, Values: c.Values, Spaces: c.Space, Class: c.Class,
	}
	for name, n := range map[string]int{"depth": c.Depth, "max-nodes": c.MaxNodes, "max-text": c.MaxText} {
		if n < 1 {
			return w, &answer.Error{Code: answer.Usage, Message: fmt.Sprintf("--%s must be at least 1", name)}
		}
	}
	if c.Every < 100*time.Millisecond {
		return w, &answer.Error{Code: answer.Usage, Message: "--every must be at least 100ms"}
	}
	if c.Filter != "" {
		if w.Filter, err = regexp.Compile(c.Filter); err != nil {
			return w, &answer.Error{Code: answer.Usage, Message: fmt.Sprintf("--filter %q is no regular expression: %v", c.Filter, err)}
		}
	}
	if c.Propose && (c.Filter != "" || c.Class != "" || c.Space != "") {
		return w, &answer.Error{Code: answer.Usage, Message: "--propose needs all nodes: leave --filter, --class and --namespace out, or begin at a machine with --node"}
	}
	return w, nil
}

func (c *browseCmd) Run(ctx context.Context, g *globals, p *answer.Printer) error {
	defer debug.SetGCPercent(debug.SetGCPercent(nodesIdle))
	defer debug.SetMemoryLimit(debug.SetMemoryLimit(nodesMemory))
	c.Propose, c.within = c.Propose || c.Out != "", cmp.Or(g.Timeout, usualBrowse)
	walk, err := c.walk()
	if err != nil {
		return err
	}
	if only, err := c.asksForEndpoints(); err != nil {
		return err
	} else if only {
		return c.endpoints(ctx, p)
	}
	if c.CSV && (p.JSON || c.Propose || c.Watch) {
		return &answer.Error{Code: answer.Usage, Message: "--csv, --json, --propose and --watch are answers of different forms: take one of them"}
	}
	at, err := c.target(c.Server)
	if err == nil {
		err = at.certify()
	}
	if err != nil {
		return err
	}
	out := bufio.NewWriter(p.Out)
	t := tree{out: out, picky: c.Filter != "" || c.Class != "" || c.Space != "", silent: p.JSON || c.Propose || c.CSV}
	got := browsed{Endpoint: at.Endpoint, Machines: []browse.Machine{}}
	if at.edge != nil {
		got.NotReady = at.edge.NotReady(time.Now())
		notes(p.Narration(), got.NotReady)
	}
	var text strings.Builder
	err = at.visit(ctx, p, func(ctx context.Context, s opcua.Caller) error {
		if err := c.look(ctx, s, walk, &t, &got); err != nil {
			return err
		}
		summary(&text, &got)
		switch {
		case c.Propose:
			return c.propose(ctx, p, s, at, &t, &got)
		case c.Watch:
			return c.watch(ctx, s, p, &t, &got, text.String())
		}
		return nil
	})
	if err != nil && (!c.Watch || !errors.Is(err, context.Canceled)) {
		return err
	}
	return c.answer(p, &t, &got, text.String())
}

// look walks through the server and recognises machines.
func (c *browseCmd) look(ctx context.Context, s opcua.Caller, walk browse.Config, t *tree, got *browsed) (err error) {
	if got.Server, err = browse.Identify(ctx, s); err != nil {
		return err
	}
	got.Summary, err = browse.Walk(ctx, s, walk, t.tell)
	if err = errors.Join(err, t.out.Flush()); err != nil {
		return err
	}
	if walk.Details && !t.picky {
		got.Machines, err = browse.Machines(ctx, s, t.nodes, c.Line)
	}
	return err
}

// answer prints what is left to print.
func (c *browseCmd) answer(p *answer.Printer, t *tree, got *browsed, text string) error {
	r := answer.Result{Data: got, Text: text}
	if !c.Propose {
		got.Nodes = t.told()
	}
	switch {
	case c.Propose:
		p.Say("%s", text)
		r.Text = got.Source
		if got.Source == "" {
			return &answer.Error{
				Code: answer.NoMachine, Message: "no machine was recognised: neither Machinery, MachineTool, PackML, IA, Weihenstephan nor DI names one with variables that can be read",
				Hint: "write the source file by hand, from what browse shows; plantmesh-edge config schema source explains its keys",
			}
		}
		r.Next = "write it to a file of sources.d by --out, then: plantmesh-edge source test FILE --config edge.yaml"
		if c.Out != "" {
			if err := writeSource(c.Out, got.Source); err != nil {
				return err
			}
			r.Text, r.Next = fmt.Sprintf("%s: a source with %d signals\n", c.Out, got.Preview.Items), answer.Command("plantmesh-edge", "source", "test", c.Out, "--config", cmp.Or(c.Config, "edge.yaml"))
		}
	case c.Watch:
		r.Text = ""
	case c.CSV:
		p.Say("%s", text)
		r.Text = ""
		if err := t.csv(p.Out, got.Machines); err != nil {
			return err
		}
	case len(got.Machines) > 0:
		r.Next = answer.Command(append([]string{"plantmesh-edge", "browse"}, append(c.again(c.Server), "--propose")...)...)
	}
	return p.Print(r)
}

func summary(b *strings.Builder, got *browsed) {
	fmt.Fprintf(b, "%s\n", got.Server.Text())
	fmt.Fprintf(b, "%d nodes in %.1f s, %d requests\n", got.Summary.Nodes, got.Summary.Seconds, got.Summary.Requests)
	for _, s := range got.Summary.Stopped {
		fmt.Fprintf(b, "%s\n", s)
	}
	for _, s := range got.Summary.Notes {
		fmt.Fprintf(b, "%s\n", s)
	}
	for _, m := range got.Machines {
		fmt.Fprintf(b, "%s looks like a machine of %s: score %d, %d signals\n", m.Name, strings.Join(m.Specs, ", "), m.Score, len(m.Signals))
	}
}

// propose makes a source file of the machines, and says what it would cost.
func (c *browseCmd) propose(ctx context.Context, p *answer.Printer, s opcua.Caller, at server, t *tree, got *browsed) error {
	file := browse.Proposal{ID: c.sourceID(at.Endpoint), Endpoint: at.Endpoint, Security: securityLines(at.Security)}
	for _, m := range got.Machines {
		if len(m.Signals) > 0 {
			file.Machines = append(file.Machines, m)
		}
	}
	if file.Items() == 0 {
		return nil
	}
	already(p, at)
	preview, err := c.preview(ctx, s, at.edge, t, &file)
	if err != nil {
		return err
	}
	file.Preview, got.Preview = preview, preview
	got.Source = file.YAML()
	if _, err := agent.ParseProposed([]byte(got.Source)); err != nil {
		return fmt.Errorf("this agent would not take it: %w", err)
	}
	return nil
}

// already warns of a source that reads the server: an agent takes no second one.
func already(p *answer.Printer, at server) {
	if at.edge == nil {
		return
	}
	for _, s := range at.edge.Sources {
		if s.OPCUA != nil && s.OPCUA.Server() == at.Server() {
			p.Say("warning: source %q reads this server already: add the signals to %s instead\n", s.ID(), s.File)
		}
	}
}

// writeSource writes the file of a source, which the service's user has to read, whoever
// writes it. No secret stands in it.
func writeSource(path, text string) error {
	if err := writeNew(path, text); err != nil {
		return err
	}
	if err := os.Chmod(path, 0o644); err != nil { //nolint:gosec // as above
		return &strict.Fault{File: path, What: "can't be made readable for the service's user: " + err.Error()}
	}
	return nil
}

// writeNew writes a file that must not be there yet.
func writeNew(path, text string) error {
	out, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	switch {
	case errors.Is(err, fs.ErrExist):
		return fmt.Errorf("%w: %s; name another one, or remove it", errExists, path)
	case err != nil:
		return &strict.Fault{File: path, What: "can't be written: " + err.Error()}
	}
	_, err = out.WriteString(text)
	if err = errors.Join(err, out.Sync(), out.Close()); err != nil {
		return errors.Join(err, os.Remove(path)) // half of it looks like all of it
	}
	return nil
}
