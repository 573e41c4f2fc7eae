package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"plantmesh/cloud/registry/desk"
	"plantmesh/cloud/registry/plant"
	"plantmesh/proto/answer"
)

type modelsCmd struct {
	List    modelsListCmd    `cmd:"" help:"List the models, and how many machines are of each."`
	Show    modelsShowCmd    `cmd:"" help:"Show a model."`
	Add     modelsAddCmd     `cmd:"" help:"Register a model, or another version of one."`
	Diff    modelsDiffCmd    `cmd:"" help:"Say what another version of a model has otherwise."`
	Upgrade modelsUpgradeCmd `cmd:"" help:"Have the machines of a model be of another version of it."`
}

type modelsListCmd struct {
	Config string `required:"" type:"path" help:"hub.yaml of the hub that runs."`
}

func (c *modelsListCmd) Run(ctx context.Context, p *answer.Printer) error {
	var said struct {
		Data []struct {
			plant.Model

			Machines int `json:"machines"`
		} `json:"data"`
	}
	if err := ask(ctx, c.Config, http.MethodGet, "models", nil, &said); err != nil {
		return err
	}
	var text strings.Builder
	for _, m := range said.Data {
		fmt.Fprintf(&text, "%s\t%s\t%d properties\t%d machines\tfor %s\n", m.Ref(), m.Title, len(m.Properties), m.Machines, strings.Join(m.Enables, ", "))
	}
	return p.Print(answer.Result{Data: map[string]any{"models": said.Data}, Text: text.String()})
}

type modelsShowCmd struct {
	Config string `required:"" type:"path" help:"hub.yaml of the hub that runs."`
	Model  string `arg:"" help:"Its id, or id@version; of several versions the newest."`
}

func (c *modelsShowCmd) Run(ctx context.Context, p *answer.Printer) error {
	var m plant.Model
	if err := ask(ctx, c.Config, http.MethodGet, "models/"+url.PathEscape(c.Model), nil, &m); err != nil {
		return err
	}
	b, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return fmt.Errorf("write the model: %w", err)
	}
	return p.Print(answer.Result{Data: m, Text: string(b) + "\n"})
}

type modelsAddCmd struct {
	registrar

	File string `arg:"" type:"path" help:"The model, as YAML or JSON."`
}

func (c *modelsAddCmd) Run(ctx context.Context, p *answer.Printer) error {
	b, err := whole(c.File, 1<<20)
	if err != nil {
		return err
	}
	m, err := plant.ParseModel(c.File, b)
	if err != nil {
		return err
	}
	var done desk.Changed
	if err := ask(ctx, c.Config, http.MethodPost, "models", c.said(map[string]any{"model": m}), &done); err != nil {
		return err
	}
	return changed(p, c.Config, done, m.Ref()+"\tregistered")
}

type modelsDiffCmd struct {
	Config string `required:"" type:"path" help:"hub.yaml of the hub that runs."`
	Model  string `arg:"" help:"Its id."`
	From   string `arg:"" help:"A version."`
	To     string `arg:"" help:"Another one."`
}

func (c *modelsDiffCmd) Run(ctx context.Context, p *answer.Printer) error {
	var said struct {
		Data []plant.Change `json:"data"`
	}
	q := url.Values{"from": {c.From}, "to": {c.To}}
	if err := ask(ctx, c.Config, http.MethodGet, "models/"+url.PathEscape(c.Model)+"/diff?"+q.Encode(), nil, &said); err != nil {
		return err
	}
	var text strings.Builder
	text.WriteString(changedRules(said.Data))
	if len(said.Data) == 0 {
		text.WriteString("they are the same\n")
	}
	return p.Print(answer.Result{Data: map[string]any{"changes": said.Data}, Text: text.String(), Next: answer.Command("plantmesh", "models", "upgrade", "--config", c.Config, c.Model, c.To)})
}

type modelsUpgradeCmd struct {
	registrar

	DryRun   bool     `help:"Only say which machines it would be, and which rules change."`
	Model    string   `arg:"" help:"Its id."`
	To       string   `arg:"" help:"The version that they are to be of."`
	Machines []string `arg:"" optional:"" help:"Ids; none: all machines of the model."`
}

func (c *modelsUpgradeCmd) Run(ctx context.Context, p *answer.Printer) error {
	var done desk.Changed
	body := c.said(map[string]any{"to": c.To, "machines": c.Machines})
	to := "models/" + url.PathEscape(c.Model) + "/upgrade"
	if c.DryRun {
		to += "?dry_run=true"
	}
	if err := ask(ctx, c.Config, http.MethodPost, to, body, &done); err != nil {
		return err
	}
	rules := changedRules(done.Rules)
	if c.DryRun {
		text := fmt.Sprintf("%s%d machines would be of %s@%s: %s\nnothing is done: --dry-run\n", rules, len(done.Put), c.Model, c.To, cmp.Or(strings.Join(done.Put, ", "), "none"))
		return p.Print(answer.Result{Data: done, Text: text, Next: "the same without --dry-run"})
	}
	return changed(p, c.Config, done, rules+fmt.Sprintf("%d machines\tof %s@%s", len(done.Put), c.Model, c.To))
}
