package main

import (
	"context"
	"fmt"
	"strings"

	"plantmesh/edge/agent"
	"plantmesh/edge/source/opcua/browse"
	"plantmesh/proto/answer"
)

// rulesShowCmd tells of one rule.
type rulesShowCmd struct {
	Config string `required:"" type:"path" short:"c" help:"edge.yaml"`
	Name   string `arg:"" help:"The rule, as rules list names it."`
}

// mostSignals bounds the signals that are named one by one; --json has all.
const mostSignals = 20

func (c *rulesShowCmd) Run(ctx context.Context, p *answer.Printer) error {
	cfg, err := agent.OpenConfig(c.Config, agent.Rules)
	if err != nil {
		return err
	}
	s, err := cfg.ShowRule(ctx, c.Name)
	if err != nil {
		return err
	}
	var text strings.Builder
	fmt.Fprintf(&text, "%s  %s (%s)\n", browse.Printable(s.ID), s.Kind, stands(&s.RuleTold))
	for _, words := range s.Parameters {
		fmt.Fprintf(&text, "  told      %s\n", words)
	}
	fmt.Fprintf(&text, "  severity  %s: a value for which that is not so %s\n", s.Does, fate(s.Does))
	if s.Dimension != "" {
		fmt.Fprintf(&text, "  dimension %s\n", s.Dimension)
	}
	fmt.Fprintf(&text, "  in force  %s\n", browse.Printable(s.InForce.Why))
	fmt.Fprintf(&text, "  looks at  %s\n", browse.Printable(s.Signal))
	for _, x := range s.Signals[:min(len(s.Signals), mostSignals)] {
		fmt.Fprintf(&text, "    %s of %s\n", browse.Printable(x.Signal), x.Source)
	}
	switch more := len(s.Signals) - mostSignals; {
	case more > 0:
		fmt.Fprintf(&text, "    and %d more\n", more)
	case len(s.Signals) == 0:
		text.WriteString("    no file of sources.d names such a signal; a pattern or a birth may bring one all the same\n")
	}
	for i := range s.Tests {
		testedText(&text, "  test      ", &s.Tests[i])
	}
	r := answer.Result{Data: s, Next: answer.Command("plantmesh-edge", "rules", "backtest", "--config", c.Config)}
	if len(s.Tests) == 0 {
		text.WriteString("  test      none: what it must find stands in NAME_test.yaml beside its file\n")
	}
	r.Text = text.String()
	return p.Print(r)
}
