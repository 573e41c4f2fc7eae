package main

import (
	"bufio"
	"cmp"
	"context"
	"fmt"
	"io"
	"regexp"
	"strings"
	"text/tabwriter"
	"time"

	"plantmesh/edge/agent"
	"plantmesh/edge/source/opcua"
	"plantmesh/edge/source/opcua/browse"
	"plantmesh/proto/answer"
	"plantmesh/proto/strict"
)

// sourceAddCmd looks at a device, writes its file, and reads each signal once.
type sourceAddCmd struct {
	visitFlags

	Model   string        `help:"Of OPC UA: only the machine of this name, or those of this specification."`
	Asset   string        `help:"Of OPC UA: how the machine is called in signals, as line1.press; the server must have one machine only, or say --model."`
	Line    string        `help:"Of OPC UA: the signals' line; default: as browse has it."`
	ID      string        `help:"The source's name; default: made of the address."`
	Measure time.Duration `default:"2s" help:"Of OPC UA: how long to count how often values change."`

	Topic    []string      `sep:"none" help:"Of a broker: what to subscribe to, such as 'plant/#', or 'spBv1.0/#' for Sparkplug B."`
	Messages int           `default:"20" help:"Of a broker: messages to look at, at most."`
	Wait     time.Duration `default:"10s" help:"Of a broker: how long to wait for them."`
	CAFile   string        `name:"ca-file" type:"path" help:"Of a broker: certificates (PEM) that mqtts trusts; default: those of the system."`
	CertFile string        `type:"path" help:"Of a broker: the certificate (PEM) that it is shown."`
	KeyFile  string        `type:"path" help:"Of a broker: the key (PEM) of that certificate."`

	DryRun bool `help:"Print the file, and write nothing."`

	Endpoint string `arg:"" help:"opc.tcp://host:port/path, or mqtt://host:1883 with --topic."`

	within time.Duration // that looking at a server may take
}

// added is the answer of --json.
type added struct {
	File   string        `json:"file,omitempty"` // empty: nothing was written
	Source string        `json:"source"`         // the file's text
	What   string        `json:"what"`
	Tested *agent.Tested `json:"tested,omitempty"`
}

func (c *sourceAddCmd) Run(ctx context.Context, g *globals, p *answer.Printer) error {
	c.within = cmp.Or(g.Timeout, usualBrowse)
	if c.Config == "" {
		return &answer.Error{Code: answer.Usage, Message: "a source belongs to an agent: say --config edge.yaml"}
	}
	if c.Asset != "" && !isAsset(c.Asset) {
		return &answer.Error{Code: answer.Usage, Message: fmt.Sprintf("--asset %q can't begin the names of signals: use letters, digits, '-' and '_', with a '.' between line and machine, as line1.press", c.Asset)}
	}
	cfg, err := agent.OpenConfig(c.Config)
	if err != nil {
		return err
	}
	if wrong := strict.Address(c.Endpoint, strict.Scheme{Name: "opc.tcp", Port: "4840"}, strict.Scheme{Name: "mqtt", Port: "1883"}, strict.Scheme{Name: "mqtts", Port: "8883"}); wrong != nil {
		return misaddressed(c.Endpoint, "opc.tcp://host:port, mqtt://host:port or mqtts://host:port", wrong)
	}
	look := c.server
	if !strings.HasPrefix(c.Endpoint, "opc.tcp://") {
		look = c.broker
	}
	got, err := look(ctx, p)
	if err != nil {
		return err
	}
	file, err := cfg.Fits([]byte(got.Source))
	if err != nil {
		return err
	}
	if c.DryRun {
		return p.Print(answer.Result{Data: got, Text: got.Source, Next: "the same without --dry-run writes it to " + file})
	}
	if err := writeSource(file, got.Source); err != nil {
		return err
	}
	got.File = file
	text := fmt.Sprintf("%s: a source with %s\n", file, got.What)
	stay := agent.Stay{Messages: c.Messages, Within: c.Wait, Bytes: 64 << 20, Retained: true}
	t, err := cfg.Test(ctx, file, stay, steps(p))
	if err != nil {
		notes(p.Narration(), []string{"the file is written, and could not be tried: " + visited(c.Endpoint, err).Error()})
	} else {
		got.Tested = &t
		text += fmt.Sprintf("%d of %d %s are taken as declared, with a good status\n", t.Good, t.Signals, things(t))
		var not strings.Builder
		for _, why := range reasons(t) {
			not.WriteString("  not: " + browse.Printable(why) + "\n")
		}
		text += not.String()
	}
	text += restart(ctx, &cfg)
	next := answer.Command("plantmesh-edge", "check", "--config", c.Config)
	if got.Tested == nil || t.Good < t.Signals {
		next = answer.Command("plantmesh-edge", "source", "test", "--bad", "--config", c.Config, file)
	}
	return p.Print(answer.Result{Data: got, Text: text, Next: next})
}

// restart says what has to be done so that the agent reads what the files say now.
func restart(ctx context.Context, cfg *agent.Config) string {
	if _, err := agent.Status(ctx, *cfg); err != nil {
		return "that counts when the agent starts\n"
	}
	return "that counts once the running agent is started anew: sudo systemctl restart plantmesh-edge\n"
}

// server looks at an OPC UA server.
func (c *sourceAddCmd) server(ctx context.Context, p *answer.Printer) (got added, err error) {
	b := browseCmd{
		visitFlags: c.visitFlags, Server: c.Endpoint, Depth: 32, Propose: true, Measure: c.Measure, ID: c.ID, Line: c.Line,
		MaxNodes: 100_000, MaxText: 32 << 20, Every: time.Second, within: c.within,
	}
	walk, err := b.walk()
	if err != nil {
		return got, err
	}
	at, err := b.target(c.Endpoint)
	if err == nil {
		err = at.certify()
	}
	if err != nil {
		return got, err
	}
	seen := browsed{Endpoint: at.Endpoint, Machines: []browse.Machine{}}
	t := tree{out: bufio.NewWriter(io.Discard), silent: true}
	err = at.visit(ctx, p, func(ctx context.Context, s opcua.Caller) error {
		if err := b.look(ctx, s, walk, &t, &seen); err != nil {
			return err
		}
		if err := c.choose(&seen); err != nil {
			return err
		}
		return b.propose(ctx, p, s, at, &t, &seen)
	})
	if err != nil {
		return got, err
	}
	if seen.Source == "" {
		return got, &answer.Error{
			Code: answer.NoMachine, Message: "no machine was recognised: neither Machinery, MachineTool, PackML, IA, Weihenstephan nor DI names one with variables that can be read",
			Hint: "write the source file by hand, from what plantmesh-edge browse shows",
		}
	}
	return added{Source: seen.Source, What: fmt.Sprintf("%d signals", seen.Preview.Items)}, nil
}

// isAsset says whether a text can be the beginning of signals' names.
func isAsset(s string) bool {
	return regexp.MustCompile(`^[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*$`).MatchString(s)
}

// choose leaves the machines that were asked for, under the name that was given.
func (c *sourceAddCmd) choose(seen *browsed) error {
	var chosen []browse.Machine
	var known []string
	for _, m := range seen.Machines {
		known = append(known, m.Name)
		named := c.Model == "" || strings.EqualFold(m.Name, c.Model)
		for _, s := range m.Specs {
			named = named || strings.EqualFold(s, c.Model)
		}
		if named && len(m.Signals) > 0 {
			chosen = append(chosen, m)
		}
	}
	if c.Model != "" && len(known) > 0 && len(chosen) == 0 {
		return &answer.Error{Code: answer.NoMachine, Message: browse.Printable(fmt.Sprintf("no machine %q was recognised; there are %s", c.Model, strings.Join(known, ", ")))}
	}
	seen.Machines = chosen
	if c.Asset == "" {
		return nil
	}
	if len(chosen) > 1 {
		return &answer.Error{Code: answer.Usage, Message: browse.Printable(fmt.Sprintf("--asset names one machine, and there are %s: say --model too", strings.Join(known, ", ")))}
	}
	for i := range chosen {
		m := &chosen[i]
		for j := range m.Signals {
			rest := strings.TrimPrefix(m.Signals[j].Name, m.Line+"."+m.Unit+".")
			m.Signals[j].Name = c.Asset + "." + rest
		}
	}
	return nil
}

// broker hears a broker.
func (c *sourceAddCmd) broker(ctx context.Context, p *answer.Printer) (got added, err error) {
	f := brokerFlags{
		Topic: c.Topic, Messages: c.Messages, Wait: c.Wait, User: c.User, PasswordFile: c.PasswordFile,
		CAFile: c.CAFile, CertFile: c.CertFile, KeyFile: c.KeyFile, ID: c.ID,
	}
	if c.Model+c.Asset+c.Line != "" {
		return got, &answer.Error{Code: answer.Usage, Message: "--model, --asset and --line are of OPC UA servers: what a broker's topics mean stands in the file"}
	}
	out, err := f.hear(ctx, p, c.Endpoint)
	return added{Source: out.Source, What: out.what()}, err
}

type sourceListCmd struct {
	Config string `required:"" type:"path" short:"c" help:"edge.yaml"`
}

func (c *sourceListCmd) Run(ctx context.Context, p *answer.Printer) error {
	cfg, err := agent.OpenConfig(c.Config)
	if err != nil {
		return err
	}
	all, running, err := cfg.ListSources(ctx)
	if err != nil {
		return err
	}
	r := answer.Result{Data: map[string]any{"sources": all, "agent_runs": running}}
	if len(all) == 0 {
		r.Text, r.Next = "there are no sources\n", answer.Command("plantmesh-edge", "source", "add", "--config", c.Config, "opc.tcp://host:4840")
		return p.Print(r)
	}
	var text strings.Builder
	w := tabwriter.NewWriter(&text, 0, 0, 2, ' ', 0)
	for _, l := range all {
		from := short(l.File)
		if l.Revision > 0 {
			from = fmt.Sprintf("revision %d of the hub", l.Revision)
		}
		_, _ = fmt.Fprintf(w, "%s\t%s\t%s\t%d signals\t%s\t%s\n", browse.Printable(l.Source), l.Protocol, browse.Printable(l.Endpoint), l.Signals, inAWord(&l, running), from) // a builder takes all
	}
	_ = w.Flush() // likewise
	for _, l := range all {
		if l.Fault != "" {
			fmt.Fprintf(&text, "%s\n", browse.Printable(l.Fault))
		}
	}
	r.Text = text.String()
	return p.Print(r)
}

// inAWord says how a source is.
func inAWord(l *agent.SourceListed, running bool) string {
	switch {
	case l.Fault != "" && !l.Enabled:
		return "disabled, and wrong"
	case l.Fault != "":
		return "wrong"
	case !l.Enabled:
		return "disabled"
	case l.State != "":
		return l.State
	case running:
		return "not read yet: start the agent anew"
	}
	return "enabled"
}

// oneSource is a command about one source.
type oneSource struct {
	Config string `required:"" type:"path" short:"c" help:"edge.yaml"`
	Source string `arg:"" help:"The source's name, or that of its file."`
}

// find is its file.
func (c *oneSource) find(ctx context.Context) (cfg agent.Config, l agent.SourceListed, err error) {
	if cfg, err = agent.OpenConfig(c.Config); err != nil {
		return cfg, l, err
	}
	l, _, err = cfg.FindSource(ctx, c.Source)
	return cfg, l, err
}

type sourceShowCmd struct{ oneSource }

func (c *sourceShowCmd) Run(ctx context.Context, p *answer.Printer) error {
	cfg, l, err := c.find(ctx)
	if err != nil {
		return err
	}
	text, err := cfg.ShowSource(l)
	if err != nil {
		return err
	}
	notes(p.Narration(), []string{fmt.Sprintf("%s: %s", l.File, inAWord(&l, false))})
	return p.Print(answer.Result{Data: map[string]any{"source": l, "text": text}, Text: text})
}

type sourceEnableCmd struct{ oneSource }

func (c *sourceEnableCmd) Run(ctx context.Context, p *answer.Printer) error {
	return c.turn(ctx, p, true)
}

type sourceDisableCmd struct{ oneSource }

func (c *sourceDisableCmd) Run(ctx context.Context, p *answer.Printer) error {
	return c.turn(ctx, p, false)
}

func (c *oneSource) turn(ctx context.Context, p *answer.Printer, on bool) error {
	cfg, l, err := c.find(ctx)
	if err != nil {
		return err
	}
	word := map[bool]string{true: "enabled", false: "disabled"}[on]
	if l.Enabled == on {
		return p.Print(answer.Result{Data: l, Text: fmt.Sprintf("%s is %s already\n", l.File, word)})
	}
	if l.File, err = cfg.SwitchSource(l, on); err != nil {
		return err
	}
	l.Enabled = on
	text := fmt.Sprintf("%s: %s; %s", l.File, word, restart(ctx, &cfg))
	if !on {
		text += "what of it waits in the buffer is sent all the same\n"
	}
	return p.Print(answer.Result{Data: l, Text: text, Next: answer.Command("plantmesh-edge", "check", "--config", c.Config, "--section", "configuration")})
}

type sourceRemoveCmd struct {
	oneSource

	Confirm string `help:"The source's name, typed: its file can't be had back. disable keeps it."`
}

func (c *sourceRemoveCmd) Run(ctx context.Context, p *answer.Printer) error {
	cfg, l, err := c.find(ctx)
	if err != nil {
		return err
	}
	if c.Confirm != c.Source {
		return &answer.Error{
			Code: answer.Confirm, Message: l.File + " can't be had back once it is removed",
			Hint: "if that is meant, type the name once more: --confirm " + c.Source + "; source disable keeps the file",
		}
	}
	if err := cfg.RemoveSource(l); err != nil {
		return err
	}
	text := fmt.Sprintf("%s is removed; %swhat of it waits in the buffer is sent all the same\n", l.File, restart(ctx, &cfg))
	return p.Print(answer.Result{Data: l, Text: text})
}
