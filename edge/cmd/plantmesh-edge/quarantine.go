package main

import (
	"cmp"
	"context"
	"encoding/hex"
	"fmt"
	"strings"
	"time"

	"plantmesh/edge/agent"
	"plantmesh/edge/source/opcua/browse"
	"plantmesh/edge/status"
	"plantmesh/proto/answer"
)

type quarantineCmd struct {
	List    quarantineListCmd    `cmd:"" help:"Records that were set aside on this gateway, and what rules found since the agent began."`
	Show    quarantineShowCmd    `cmd:"" help:"Look into a record that was set aside."`
	Release quarantineReleaseCmd `cmd:"" help:"Put a record that was set aside into the log again: it is sent once more."`
	Drop    quarantineDropCmd    `cmd:"" help:"Let the bytes of a record that was set aside go. What it held stays named as a gap."`
}

type quarantineListCmd struct {
	Config string `required:"" type:"path" short:"c" help:"edge.yaml"`
	Rule   string `help:"Only what this rule found."`
	Source string `help:"Only of this source."`
	Since  string `help:"Only what was set aside since, or what a rule found in samples since: as 24h, or 2026-03-01T06:00:00Z."`
}

// since is --since as an instant; zero: any.
func (c *quarantineListCmd) since(now time.Time) (time.Time, error) {
	if c.Since == "" {
		return time.Time{}, nil
	}
	if d, err := time.ParseDuration(c.Since); err == nil && d > 0 {
		return now.Add(-d), nil
	}
	at, err := time.Parse(time.RFC3339, c.Since)
	if err != nil {
		return at, &answer.Error{Code: answer.Usage, Message: fmt.Sprintf("--since %s is neither a time such as 2026-03-01T06:00:00Z nor how long ago, such as 24h", c.Since)}
	}
	return at, nil
}

func (c *quarantineListCmd) Run(ctx context.Context, p *answer.Printer) error {
	since, err := c.since(time.Now())
	if err != nil {
		return err
	}
	cfg, err := agent.OpenConfig(c.Config, agent.Data)
	if err != nil {
		return err
	}
	q, err := agent.AskQuarantine(ctx, cfg)
	if err != nil {
		return err
	}
	c.narrow(&q, since)
	var text strings.Builder
	for i := range q.Records {
		asideText(&text, &q.Records[i])
	}
	if c.Rule == "" {
		fmt.Fprintf(&text, "%d records are set aside on this gateway; a gap names each at the hub\n", len(q.Records))
	}
	for i := range q.Rules {
		r := &q.Rules[i]
		fmt.Fprintf(&text, "%-10s  %s in %s of %s: %d samples since %s; the last: %s\n", r.Does, browse.Printable(r.Rule), browse.Printable(r.Signal), browse.Printable(r.Source), r.Count, r.First, r.Last.Line())
	}
	if q.More > 0 {
		fmt.Fprintf(&text, "and %d samples more, of too many signals to count each\n", q.More)
	}
	switch {
	case len(q.Rules) == 0:
		fmt.Fprintf(&text, "no rule found anything since %s\n", newest(q.Since, since))
	default:
		text.WriteString("What a rule finds goes to the hub all the same, marked; what one quarantines is kept there and counts in no product.\n")
	}
	r := answer.Result{Data: q, Text: text.String()}
	if len(q.Records) > 0 {
		r.Next = answer.Command("plantmesh-edge", "quarantine", "show", q.Records[0].ID, "--config", c.Config)
	}
	return p.Print(r)
}

// newest is the later of a stamp and an instant.
func newest(stamp string, at time.Time) string {
	if t, err := time.Parse(time.RFC3339, stamp); err == nil && t.Before(at) {
		return at.UTC().Format(time.RFC3339)
	}
	return stamp
}

// narrow leaves what was asked for.
func (c *quarantineListCmd) narrow(q *status.Quarantine, since time.Time) {
	late := func(stamp string) bool {
		at, err := time.Parse(time.RFC3339, stamp)
		return err != nil || !at.Before(since) // what can't be told is shown
	}
	records, rules := []status.AsideRecord{}, []status.RuleFound{}
	for _, r := range q.Records {
		if c.Rule == "" && (c.Source == "" || r.Source == c.Source) && late(r.When) {
			records = append(records, r)
		}
	}
	for _, r := range q.Rules {
		if (c.Rule == "" || r.Rule == c.Rule) && (c.Source == "" || r.Source == c.Source) && late(r.Last.Time) {
			rules = append(rules, r)
		}
	}
	q.Records, q.Rules = records, rules
}

// asideText is a record that was set aside, in words.
func asideText(b *strings.Builder, r *status.AsideRecord) {
	cause := r.Cause
	if cause == "" {
		cause = "cause not kept"
	}
	fmt.Fprintf(b, "%s  %s, %d samples, %d bytes, set aside %s: %s", r.ID, browse.Printable(cmp.Or(r.Source, "source not known")), r.Count, r.Bytes, r.When, cause)
	if r.Why != "" {
		fmt.Fprintf(b, ": %s", browse.Printable(r.Why))
	}
	b.WriteString("\n")
	if r.From != "" {
		fmt.Fprintf(b, "  times    %s to %s\n", r.From, r.To)
	}
	if r.Broken != "" {
		fmt.Fprintf(b, "  broken   %s: it can only be dropped\n", browse.Printable(r.Broken))
	}
}

type quarantineShowCmd struct {
	Config string `required:"" type:"path" short:"c" help:"edge.yaml"`
	ID     string `arg:"" help:"The record, as list names it."`
}

func (c *quarantineShowCmd) Run(ctx context.Context, p *answer.Printer) error {
	cfg, err := agent.OpenConfig(c.Config, agent.Data)
	if err != nil {
		return err
	}
	o, err := agent.OpenAside(ctx, cfg, c.ID)
	if err != nil {
		return err
	}
	var text strings.Builder
	asideText(&text, &o.AsideRecord)
	for i := range o.Samples {
		fmt.Fprintf(&text, "  %s\n", o.Samples[i].Line())
	}
	if len(o.Raw) > 0 {
		text.WriteString(hex.Dump(o.Raw))
	}
	verb := "release"
	if o.Broken != "" {
		verb = "drop"
	}
	return p.Print(answer.Result{Data: o, Text: text.String(), Next: answer.Command("plantmesh-edge", "quarantine", verb, c.ID, "--config", c.Config)})
}

type quarantineReleaseCmd struct {
	Config string `required:"" type:"path" short:"c" help:"edge.yaml"`
	ID     string `arg:"" help:"The record, as list names it."`
}

func (c *quarantineReleaseCmd) Run(ctx context.Context, p *answer.Printer) error {
	cfg, err := agent.OpenConfig(c.Config, agent.Data)
	if err != nil {
		return err
	}
	r, err := agent.ReleaseAside(ctx, cfg, c.ID)
	if err != nil {
		return err
	}
	var text strings.Builder
	fmt.Fprintf(&text, "%s is in the log again, as %s, and is sent like any other; the gap that named it is filled once the hub has it. If it is set aside again, what made it so is still there.\n", r.ID, r.At)
	for _, s := range r.Open[:min(len(r.Open), 10)] {
		fmt.Fprintf(&text, "  still a gap, though its samples come: %s to %s: other records of then are set aside or lost, or what proved it is not kept here any more (buffer.keep)\n", s.From, s.To)
	}
	return p.Print(answer.Result{
		Data: r, Text: text.String(),
		Next: answer.Command("plantmesh-edge", "status", "--config", c.Config),
	})
}

type quarantineDropCmd struct {
	Config  string `required:"" type:"path" short:"c" help:"edge.yaml"`
	ID      string `arg:"" help:"The record, as list names it."`
	Confirm string `help:"This gateway's name, typed: the bytes can't be had back."`
}

func (c *quarantineDropCmd) Run(ctx context.Context, p *answer.Printer) error {
	cfg, err := agent.OpenConfig(c.Config, agent.Names, agent.Data)
	if err != nil {
		return err
	}
	if c.Confirm != cfg.Agent {
		return &answer.Error{
			Code: answer.Confirm, Message: "the bytes of " + c.ID + " can't be had back once they are dropped",
			Hint: "if that is meant, type this gateway's name behind it: --confirm " + cfg.Agent,
		}
	}
	r, err := agent.DropAside(ctx, cfg, c.ID)
	if err != nil {
		return err
	}
	var text strings.Builder
	fmt.Fprintf(&text, "%s is dropped: %d bytes of %s. What it held stays missing, and named: a gap of that source", r.ID, r.Bytes, cmp.Or(r.Source, "a source that can't be told"))
	if r.From != "" {
		fmt.Fprintf(&text, " from %s to %s, %d samples", r.From, r.To, r.Count)
	}
	fmt.Fprintf(&text, ", cause %s, stands in the log at %s.\n", cmp.Or(r.Cause, "as the void says"), r.At)
	return p.Print(answer.Result{Data: r, Text: text.String()})
}
