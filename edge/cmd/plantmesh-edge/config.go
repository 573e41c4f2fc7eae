package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"text/tabwriter"
	"time"

	"plantmesh/edge/agent"
	"plantmesh/edge/source/opcua/browse"
	"plantmesh/edge/status"
	"plantmesh/proto/answer"
	"plantmesh/proto/revision"
	"plantmesh/proto/strict"
)

// configCmd is about the configuration, and what of it the hub wants.
type configCmd struct {
	Validate configValidateCmd `cmd:"" help:"Say all that is wrong with the files, and what they make where nothing is."`
	Schema   configSchemaCmd   `cmd:"" help:"Print the JSON Schema of a file, by which an editor completes and explains its keys."`
	Show     configShowCmd     `cmd:"" help:"Which files make the configuration, and where each comes from."`
	Diff     configDiffCmd     `cmd:"" help:"What the newest revision of the hub would change here; nothing is done."`
	History  configHistoryCmd  `cmd:"" help:"Which revisions came, and what became of them."`
	Rollback configRollbackCmd `cmd:"" help:"Have the running agent take back the revision that is in force, for the good one before it."`
	Confirm  configConfirmCmd  `cmd:"" help:"Have the running agent keep the revision that it tries."`
}

type configShowCmd struct {
	Config    string `required:"" type:"path" short:"c" help:"edge.yaml"`
	Effective bool   `help:"With the contents of the files; what looks like a secret is taken out."`
	Values    bool   `help:"Instead: each key of edge.yaml, what holds, and where that comes from: a line of the file, a variable of the environment, or the default."`
}

func (c *configShowCmd) Run(p *answer.Printer) error {
	cfg, err := agent.OpenConfig(c.Config, agent.Data)
	if err != nil {
		return err
	}
	if c.Values {
		return values(p, cfg.Values())
	}
	files, err := cfg.ConfigFiles(c.Effective)
	if err != nil {
		return err
	}
	var text strings.Builder
	for _, f := range files {
		note := ""
		if f.Shadows {
			note = "\tgoes before the revision's, which is another one"
		}
		fmt.Fprintf(&text, "%s\t%s\t%s%s\n", f.Name, f.Origin, f.Path, note)
		if f.Unread != "" {
			fmt.Fprintf(&text, "\t%s\n", f.Unread)
		}
		for line := range strings.Lines(f.Text) {
			text.WriteString("\t" + browse.Printable(strings.TrimRight(line, "\r\n")) + "\n")
		}
	}
	return p.Print(answer.Result{Data: map[string]any{"files": files}, Text: text.String()})
}

func values(p *answer.Printer, all []strict.Value) error {
	var text strings.Builder
	w := tabwriter.NewWriter(&text, 0, 0, 2, ' ', 0)
	for _, v := range all {
		_, _ = fmt.Fprintf(w, "%s\t%s\t%s\n", v.Key, browse.Printable(cmp.Or(v.Text, "-")), v.Origin) // into memory
	}
	_ = w.Flush() // as above
	return p.Print(answer.Result{Data: map[string]any{"values": all}, Text: text.String()})
}

// configSchemaCmd needs no configuration.
type configSchemaCmd struct {
	File string `arg:"" optional:"" enum:"edge,source,rules,rules_test," default:"edge" help:"edge, source (of sources.d), rules (of rules.d) or rules_test; default: edge."`
}

func (c *configSchemaCmd) Run(p *answer.Printer) error {
	text, err := agent.Schema(cmp.Or(c.File, "edge"))
	if err != nil {
		return err
	}
	return p.Print(answer.Result{Data: json.RawMessage(text), Text: text})
}

type configValidateCmd struct {
	Config string `required:"" type:"path" short:"c" help:"edge.yaml"`
}

// valid is the answer of --json.
type valid struct {
	Agent   string        `json:"agent"`
	Site    string        `json:"site"`
	Sources []validSource `json:"sources"`
	Rules   int           `json:"rules"`
	Notes   []string      `json:"notes,omitempty"`
}

type validSource struct {
	ID   string `json:"id"`
	File string `json:"file"`
}

func (c *configValidateCmd) Run(p *answer.Printer) error {
	cfg, err := agent.OpenConfig(c.Config)
	if err != nil {
		return err
	}
	faults := cfg.Faults()
	if len(faults) > 0 {
		e := answer.Of(faults[0])
		for _, f := range faults {
			e.Cause = append(e.Cause, f.Error())
		}
		for _, f := range faults[1:] {
			p.Say("also: %s\n", f)
		}
		return e
	}
	v := valid{Agent: cfg.Agent, Site: cfg.Site, Sources: []validSource{}}
	if cfg.Rules != nil {
		v.Rules = len(cfg.Rules.All())
	}
	for i := range cfg.Sources {
		s := &cfg.Sources[i]
		v.Sources = append(v.Sources, validSource{s.ID(), s.File})
		if w := s.Warning(); w != "" {
			v.Notes = append(v.Notes, w)
		}
	}
	notes(p.Narration(), v.Notes)
	return p.Print(answer.Result{
		Data: v, Text: fmt.Sprintf("valid: agent %s at %s, %d sources, %d rules\n", v.Agent, v.Site, len(v.Sources), v.Rules),
		Next: answer.Command("plantmesh-edge", "check", "--config", c.Config),
	})
}

type configDiffCmd struct {
	Config string `required:"" type:"path" short:"c" help:"edge.yaml"`
}

func (c *configDiffCmd) Run(p *answer.Printer) error {
	cfg, err := agent.OpenConfig(c.Config, agent.Data)
	if err != nil {
		return err
	}
	of, changes, err := cfg.ConfigDiff()
	if err != nil {
		return err
	}
	var text strings.Builder
	switch {
	case of.IsZero():
		text.WriteString("the hub wants no configuration of this gateway\n")
	case len(changes) == 0:
		fmt.Fprintf(&text, "%s changes nothing here\n", of)
	}
	for _, ch := range changes {
		fmt.Fprintf(&text, "%s\t%s by %s\n", ch.Name, ch.What, of)
		for line := range strings.Lines(ch.Text) {
			text.WriteString("\t" + browse.Printable(strings.TrimRight(line, "\r\n")) + "\n")
		}
	}
	data := map[string]any{"desired": of, "changes": append([]revision.Change{}, changes...)}
	return p.Print(answer.Result{Data: data, Text: text.String()})
}

type configHistoryCmd struct {
	Config string `required:"" type:"path" short:"c" help:"edge.yaml"`
}

func (c *configHistoryCmd) Run(p *answer.Printer) error {
	cfg, err := agent.OpenConfig(c.Config, agent.Data)
	if err != nil {
		return err
	}
	h, err := cfg.ConfigHistory(time.Now())
	if err != nil {
		return err
	}
	var text strings.Builder
	if err := status.PrintConfiguration(&text, &h.Reported); err != nil {
		return err
	}
	for _, e := range h.Events {
		fmt.Fprintf(&text, "%s\trevision %d\t%s\t%s\n", e.At.UTC().Format(time.RFC3339), e.Number, e.What, browse.Printable(cmp.Or(e.Why, "-")))
	}
	return p.Print(answer.Result{Data: h, Text: text.String()})
}

type configRollbackCmd struct {
	Config string `required:"" type:"path" short:"c" help:"edge.yaml"`
}

func (c *configRollbackCmd) Run(ctx context.Context, p *answer.Printer) error {
	return command(ctx, p, c.Config, "rollback", nil)
}

type configConfirmCmd struct {
	Config string `required:"" type:"path" short:"c" help:"edge.yaml"`
}

func (c *configConfirmCmd) Run(ctx context.Context, p *answer.Printer) error {
	return command(ctx, p, c.Config, "confirm", nil)
}

type holdCmd struct {
	Config string        `required:"" type:"path" short:"c" help:"edge.yaml"`
	Reason string        `required:"" help:"Why; who configures this gateway at the hub sees it."`
	Until  string        `placeholder:"06:00" help:"Until this time of the gateway's clock, the next one; or until an instant such as 2026-03-01T06:00:00Z. Neither --until nor --for: until release."`
	For    time.Duration `placeholder:"8h" help:"For how long."`
}

func (c *holdCmd) Run(ctx context.Context, p *answer.Printer) error {
	until, err := holdUntil(c.Until, c.For, time.Now())
	if err != nil {
		return err
	}
	q := url.Values{"reason": {c.Reason}}
	if !until.IsZero() {
		q.Set("until", until.Format(time.RFC3339))
	}
	return command(ctx, p, c.Config, "hold", q)
}

// holdUntil is when a hold ends; zero: when it is released.
func holdUntil(until string, within time.Duration, now time.Time) (time.Time, error) {
	wrong := func(format string, args ...any) error {
		return &answer.Error{Code: answer.Usage, Message: fmt.Sprintf(format, args...)}
	}
	switch {
	case until != "" && within != 0:
		return time.Time{}, wrong("say either --until or --for")
	case within < 0:
		return time.Time{}, wrong("--for must be more than nothing")
	case within > 0:
		return now.Add(within), nil
	case until == "":
		return time.Time{}, nil
	}
	if at, err := time.Parse(time.RFC3339, until); err == nil {
		return at, nil
	}
	clock, err := time.Parse("15:04", until)
	if err != nil {
		return time.Time{}, wrong("--until %q is neither a time such as 06:00 nor an instant such as 2026-03-01T06:00:00Z", until)
	}
	at := time.Date(now.Year(), now.Month(), now.Day(), clock.Hour(), clock.Minute(), 0, 0, now.Location())
	if !at.After(now) {
		at = time.Date(now.Year(), now.Month(), now.Day()+1, clock.Hour(), clock.Minute(), 0, 0, now.Location())
	}
	return at, nil
}

type releaseCmd struct {
	Config string `required:"" type:"path" short:"c" help:"edge.yaml"`
}

func (c *releaseCmd) Run(ctx context.Context, p *answer.Printer) error {
	return command(ctx, p, c.Config, "release", nil)
}

// command has the running agent do something with its configuration.
func command(ctx context.Context, p *answer.Printer, config, what string, q url.Values) error {
	cfg, err := agent.OpenConfig(config, agent.Data)
	if err != nil {
		return err
	}
	r, err := agent.Command(ctx, cfg, what, q)
	if err != nil {
		return err
	}
	var text strings.Builder
	if err := status.PrintConfiguration(&text, &r); err != nil {
		return err
	}
	next := ""
	if what == "hold" {
		next = answer.Command("plantmesh-edge", "release", "--config", config)
	}
	return p.Print(answer.Result{Data: r, Text: text.String(), Next: next})
}
