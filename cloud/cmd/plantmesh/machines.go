package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"strings"

	"plantmesh/cloud/hub"
	"plantmesh/cloud/product"
	"plantmesh/proto/answer"
)

type machinesCmd struct {
	List  machinesListCmd  `cmd:"" help:"Say of each machine of the site file what it is made of, what lacks, and what stays empty for that."`
	Inbox machinesInboxCmd `cmd:"" help:"List the signals that no machine has, with a line for the site file."`
}

type machinesListCmd struct {
	Config  string `required:"" type:"path" help:"hub.yaml; its hub may run meanwhile."`
	Machine string `arg:"" optional:"" help:"One machine's id."`
}

func (c *machinesListCmd) Run(ctx context.Context, p *answer.Printer) error {
	ready, inbox, err := machines(ctx, c.Config)
	if err != nil {
		return err
	}
	var text strings.Builder
	all := []product.Readiness{}
	for _, r := range ready {
		if c.Machine != "" && r.Equipment != c.Machine {
			continue
		}
		all = append(all, r)
		how := "ready"
		if n := len(r.Lacks); n > 0 {
			how = fmt.Sprintf("lacks %d", n)
		}
		fmt.Fprintf(&text, "%s\t%s\tsource %s\t%d signals, %d of their roles\t%s\n", r.Equipment, r.Line, r.Source, r.Signals, len(r.Roles), how)
		for _, l := range r.Lacks {
			fmt.Fprintf(&text, "  %s\n    empty  %s\n    fix    %s\n", l.What, strings.Join(l.Empty, ", "), l.Remedy)
		}
	}
	if c.Machine != "" && len(all) == 0 {
		return fmt.Errorf("%w: the site has no equipment %q", hub.ErrUsage, c.Machine)
	}
	out := answer.Result{Data: map[string]any{"machines": all}, Text: text.String()}
	if len(inbox) > 0 {
		out.Next = answer.Command("plantmesh", "machines", "inbox", "--config", c.Config) + "   (signals that no machine has)"
	}
	return p.Print(out)
}

type machinesInboxCmd struct {
	Config string `required:"" type:"path" help:"hub.yaml; its hub may run meanwhile."`
}

func (c *machinesInboxCmd) Run(ctx context.Context, p *answer.Printer) error {
	_, inbox, err := machines(ctx, c.Config)
	if err != nil {
		return err
	}
	var text strings.Builder
	for _, m := range inbox {
		roles := "none is a role: hardly a machine"
		if m.Proposal != "" {
			roles = "roles " + strings.Join(m.Roles, ", ") + "\n  " + m.Proposal
		}
		fmt.Fprintf(&text, "%s\t%s\t%d signals\t%s\n", m.Source, m.Prefix, m.Signals, roles)
	}
	out := answer.Result{Data: map[string]any{"inbox": inbox}, Text: text.String()}
	if len(inbox) > 0 {
		out.Next = "put the lines of those that are machines under equipment of the site file, with valid_from where their past counts, and start the hub anew"
	}
	return p.Print(out)
}

func machines(ctx context.Context, config string) ([]product.Readiness, []product.Candidate, error) {
	cfg, err := hub.LoadConfig(config)
	if err != nil {
		return nil, nil, err
	}
	return hub.Machines(ctx, cfg, slog.New(slog.NewTextHandler(os.Stderr, nil)))
}
