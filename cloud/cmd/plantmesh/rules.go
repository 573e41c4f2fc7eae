package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"

	"plantmesh/cloud/hub"
	"plantmesh/cloud/registry/desk"
	"plantmesh/cloud/registry/plant"
	"plantmesh/proto/answer"
	"plantmesh/proto/revision"
)

type machinesRulesCmd struct {
	Config string `required:"" type:"path" help:"hub.yaml; its hub may run meanwhile."`
	Agent  string `help:"Only those of this gateway."`
}

func (c *machinesRulesCmd) Run(ctx context.Context, p *answer.Printer) error {
	all := []desk.GatewayRules{}
	if c.Agent != "" {
		g, err := c.of(ctx)
		if err != nil {
			return err
		}
		all = []desk.GatewayRules{g}
	} else {
		l, err := machines(ctx, c.Config)
		if err != nil {
			return err
		}
		all = append(all, l.Gateways...)
	}
	out := answer.Result{Data: map[string]any{"gateways": all}}
	var text strings.Builder
	for i := range all {
		text.WriteString(rulesText(&all[i]))
		if out.Next == "" && len(all[i].Differs) > 0 && !all[i].Sent {
			out.Next = sendRules(c.Config, all[i].Agent)
		}
	}
	if text.Len() == 0 {
		text.WriteString("# no model gives a machine that was heard a rule\n")
	}
	out.Text = text.String()
	return p.Print(out)
}

func (c *machinesRulesCmd) of(ctx context.Context) (g desk.GatewayRules, err error) {
	cfg, err := hub.LoadConfig(c.Config)
	if err != nil {
		return g, err
	}
	return hub.ModelRules(ctx, cfg, c.Agent, slog.New(slog.NewTextHandler(os.Stderr, nil)))
}

// sendRules is the command that has a gateway follow the models.
func sendRules(config, agent string) string {
	return answer.Command("plantmesh", "agents", "configure", "--config", config, "--rules-from-models", agent)
}

// rulesText is what models give one gateway: its file, and as comments what is not in it.
func rulesText(g *desk.GatewayRules) string {
	var b strings.Builder
	fmt.Fprintf(&b, "# %s: %d rules for %d machines\n", g.Agent, len(g.Rules), len(g.Machines))
	for _, line := range g.Differs {
		b.WriteString("# " + line + "\n")
	}
	for _, l := range g.Left {
		fmt.Fprintf(&b, "# left out: %s of %s: %s\n", l.Property, l.Machine, l.Why)
	}
	b.WriteString(g.File)
	return b.String()
}

// differing is a line for each thing that stands at gateways otherwise than models say, or
// of one machine alone, and the command that helps.
func differing(l *desk.Look, machine, config string) (text, next string) {
	var b strings.Builder
	for i := range l.Gateways {
		g := &l.Gateways[i]
		lines := g.Differs
		if machine != "" {
			lines = nil
		}
		for k := range l.Rows {
			if r := &l.Rows[k]; r.ID == machine && r.Rules != nil && r.Rules.Agent == g.Agent && !r.Rules.OK {
				lines = []string{r.Rules.Says}
			}
		}
		for _, line := range lines {
			b.WriteString(line + "\n")
		}
		if len(lines) > 0 && !g.Sent && next == "" {
			next = sendRules(config, g.Agent)
		}
	}
	return b.String(), next
}

// changedRules are the rules that change with a version of a model, a line or two each.
func changedRules(changes []plant.Change) string {
	var b strings.Builder
	for _, c := range changes {
		fmt.Fprintf(&b, "%s\n", c.What)
		for _, x := range []struct{ sign, is string }{{"-", c.From}, {"+", c.To}} {
			if x.is != "" {
				fmt.Fprintf(&b, "  %s %s\n", x.sign, x.is)
			}
		}
	}
	return b.String()
}

// modelled are files with the rules of models in them; nil: those of the newest revision.
func (c *configureCmd) modelled(ctx context.Context, cfg hub.Config, files, newest revision.Files, say io.Writer) (revision.Files, string, error) {
	g, err := hub.ModelRules(ctx, cfg, c.Agent, slog.New(slog.NewTextHandler(os.Stderr, nil)))
	if err != nil {
		return nil, "", err
	}
	if files == nil {
		if files = newest; g.File == "" && newest[plant.RulesFile] == "" {
			return nil, "", fmt.Errorf("%w: %w", hub.ErrConfigure, desk.ErrNoRules)
		}
	}
	for _, l := range g.Left {
		_, _ = fmt.Fprintf(say, "left out: %s of %s: %s\n", l.Property, l.Machine, l.Why)
	}
	return g.Into(files), g.Note(), nil
}
