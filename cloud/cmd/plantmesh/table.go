package main

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"plantmesh/cloud/registry/desk"
	"plantmesh/cloud/registry/plant"
	"plantmesh/proto/answer"
)

type machinesImportCmd struct {
	registrar

	DryRun bool   `help:"Only say what it would do."`
	File   string `arg:"" type:"path" help:"CSV whose first line names the columns: id, enterprise, site, area, line, name, kind, model, owner, source, signals_prefix, external_ids.SYSTEM, signals.ROLE, states.NUMBER, ideal_cycle_seconds.PRODUCT."`
}

func (c *machinesImportCmd) Run(ctx context.Context, p *answer.Printer) error {
	b, err := whole(c.File, plant.MaxTable)
	if err != nil {
		return err
	}
	q := url.Values{"valid_from": {c.ValidFrom}, "reason": {c.Reason}}
	if c.DryRun {
		q.Set("dry_run", "true")
	}
	var done struct {
		Version   int64        `json:"version"`
		ValidFrom string       `json:"valid_from"`
		Report    plant.Report `json:"report"`
	}
	if err := (asking{c.Config, http.MethodPost, "machines/import?" + q.Encode(), "text/csv"}).with(ctx, b, &done); err != nil {
		return err
	}
	r := done.Report
	var text strings.Builder
	for _, f := range r.Faults {
		fmt.Fprintf(&text, "%s\n", f)
	}
	for _, id := range r.Add {
		fmt.Fprintf(&text, "%s\tnew\n", id)
	}
	for _, e := range r.Change {
		fmt.Fprintf(&text, "%s\tchanges\t%s\n", e.ID, strings.Join(e.Fields, ", "))
	}
	fmt.Fprintf(&text, "%d rows: %d new, %d changed, %d as they were, %d wrong\n", r.Rows, len(r.Add), len(r.Change), r.Same, len(r.Faults))
	out := answer.Result{Data: done, Text: text.String()}
	switch {
	case len(r.Faults) > 0:
		if !p.JSON {
			if err := p.Print(out); err != nil {
				return err
			}
		}
		return &answer.Error{Code: answer.Register, Message: fmt.Sprintf("%s has faults (%d), and would change nothing", c.File, len(r.Faults)), Data: done}
	case c.DryRun:
		out.Next = c.again("import", c.File)
	default:
		out.Next = answer.Command("plantmesh", "machines", "list", "--config", c.Config)
	}
	return p.Print(out)
}

type machinesExportCmd struct {
	levels

	Config string `required:"" type:"path" help:"hub.yaml of the hub that runs."`
	All    bool   `help:"Those of the site file, too."`
}

func (c *machinesExportCmd) Run(ctx context.Context, p *answer.Printer) error {
	q := url.Values{"enterprise": {c.Enterprise}, "site": {c.Site}, "area": {c.Area}, "line": {c.Line}}
	if c.All {
		q.Set("all", "true")
	}
	var table string
	if err := ask(ctx, c.Config, http.MethodGet, "machines.csv?"+q.Encode(), nil, &table); err != nil {
		return err
	}
	return p.Print(answer.Result{Data: map[string]any{"csv": table}, Text: table})
}

type machinesCloneCmd struct {
	registrar

	Source  string   `help:"Whose signals the clone has; default: the original's, with its line's name replaced."`
	Replace []string `placeholder:"OLD=NEW" help:"How signals' names begin, and how they begin of the clone; default: the line's name replaced."`
	DryRun  bool     `help:"Only say whether it could be done."`
	From    string   `arg:"" help:"A line, or a machine's id."`
	To      string   `arg:"" help:"The new line, or the new machine's id."`
}

func (c *machinesCloneCmd) Run(ctx context.Context, p *answer.Printer) error {
	replace, err := pairs("replace", c.Replace)
	if err != nil {
		return err
	}
	to := "machines/clone"
	if c.DryRun {
		to += "?dry_run=true"
	}
	var done desk.Changed
	body := c.said(map[string]any{"from": c.From, "to": c.To, "source": c.Source, "replace": replace})
	if err := ask(ctx, c.Config, http.MethodPost, to, body, &done); err != nil {
		return err
	}
	if c.DryRun {
		var more []string
		if c.Source != "" {
			more = append(more, "--source", c.Source)
		}
		for _, pair := range c.Replace {
			more = append(more, "--replace", pair)
		}
		return p.Print(answer.Result{Data: done, Text: strings.Join(done.Put, "\n") + "\n", Next: c.again("clone", append(more, c.From, c.To)...)})
	}
	return changed(p, c.Config, done, strings.Join(done.Put, ", ")+"\tas "+c.From)
}

type machinesRetireCmd struct {
	registrar

	Machine string `arg:"" help:"Its id."`
}

func (c *machinesRetireCmd) Run(ctx context.Context, p *answer.Printer) error {
	var done desk.Changed
	if err := ask(ctx, c.Config, http.MethodDelete, "machines/"+url.PathEscape(c.Machine), c.said(nil), &done); err != nil {
		return err
	}
	return changed(p, c.Config, done, c.Machine+"\tretired")
}
