package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"plantmesh/edge/agent"
	"plantmesh/edge/check"
	"plantmesh/proto/answer"
)

// checkCmd finds out what is wrong with this gateway.
type checkCmd struct {
	Config string `type:"path" short:"c" help:"edge.yaml"`

	Section []string `help:"Only these sections: system, configuration, identity, cloud, sources, buffer."`
	Only    []string `help:"Only these checks, by their ids."`
	Skip    []string `help:"All but these checks."`
	Format  string   `default:"text" enum:"text,json,nagios" help:"text, json, or nagios: one line, and exit codes 0, 1 and 2 as a plugin has them."`
	Strict  bool     `help:"Warnings count as errors."`
	Brief   bool     `short:"b" help:"Only what is not in order."`

	Fix bool `xor:"do" help:"Do what helps and can do no harm, once it is listed and agreed to: take the rights of others at keys, passwords and the data folder away. Then check again."`
	Yes bool `help:"Of --fix: agree beforehand."`

	Firewall bool `xor:"do" help:"Print instead what a firewall must let through, from the configuration alone."`
	List     bool `xor:"do" help:"Print instead the checks there are."`
}

// usualCheck is how long a check may take where --timeout doesn't say it.
const usualCheck = time.Minute

// plugin is the exit code of --format nagios; its line is printed.
type plugin int

func (p plugin) Error() string { return fmt.Sprintf("a plugin's state %d", int(p)) }

func (c *checkCmd) Run(ctx context.Context, g *globals, p *answer.Printer) error {
	within := cmp.Or(g.Timeout, usualCheck)
	switch {
	case c.List:
		return p.Print(answer.Result{Data: map[string]any{"checks": listed()}, Text: check.List()})
	case c.Config == "":
		return &answer.Error{Code: answer.Usage, Message: "missing flags: --config=STRING", Hint: "say --config edge.yaml; --list needs none"}
	case within < time.Second || within > time.Hour:
		return &answer.Error{Code: answer.Usage, Message: "--timeout must lie between 1s and 1h"}
	case c.Yes && !c.Fix:
		return &answer.Error{Code: answer.Usage, Message: "--yes agrees to what --fix would do: say --fix, too"}
	case c.Firewall:
		card, err := agent.Firewall(c.Config)
		if err != nil {
			return err
		}
		return p.Print(answer.Result{Data: card, Text: card.Text()})
	}
	p.JSON = p.JSON || c.Format == "json"
	report, err := c.look(ctx, within)
	if err == nil && c.Fix {
		var done bool
		if done, err = c.repair(p, &report); done && err == nil {
			report, err = c.look(ctx, within)
		}
	}
	if err != nil {
		return err
	}
	if c.Format == "nagios" && !p.JSON {
		return nagios(p.Out, &report)
	}
	return c.told(p, &report)
}

// look runs the checks that were chosen.
func (c *checkCmd) look(ctx context.Context, within time.Duration) (check.Report, error) {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	up := agent.NewCheckup(ctx, c.Config, nil)
	report, err := check.Run(ctx, up.All(ctx), check.Selection{Sections: c.Section, Only: c.Only, Skip: c.Skip, Timeout: within})
	if unknown, ok := errors.AsType[*check.UnknownError](err); ok {
		return report, &answer.Error{Code: answer.Usage, Message: unknown.Error(), Hint: "plantmesh-edge check --list names all"}
	}
	return report, err
}

func nagios(out io.Writer, report *check.Report) error {
	line, code := report.Nagios()
	if _, err := io.WriteString(out, line+"\n"); err != nil {
		return fmt.Errorf("write the result: %w", err)
	}
	if code == 0 {
		return nil
	}
	return plugin(code)
}

// told prints the report. A fault in a file is answered as every command does; else that
// something was found is the answer.
func (c *checkCmd) told(p *answer.Printer, report *check.Report) error {
	var text strings.Builder
	if err := report.Print(&text, c.Brief); err != nil {
		return err
	}
	if !report.Failed(c.Strict) {
		return p.Print(answer.Result{Data: report, Text: text.String(), Next: c.next(report)})
	}
	if !p.JSON {
		if _, err := io.WriteString(p.Out, text.String()); err != nil {
			return fmt.Errorf("write the result: %w", err)
		}
	}
	red := report.Red(c.Strict)
	e := &answer.Error{Code: answer.CheckFailed, Message: fmt.Sprintf("not in order: %s", strings.Join(red, ", ")), Hint: "what helps says each of them", Data: report}
	if fault := agent.Fault(report); fault != nil {
		e = answer.Of(fault)
		e.Data = report
	}
	return e
}

// next is what comes after all is well.
func (c *checkCmd) next(report *check.Report) string {
	for _, o := range report.Checks {
		if o.ID == "sys-service" && o.Result == check.OK {
			return answer.Command("plantmesh-edge", "status", "--config", c.Config)
		}
	}
	return answer.Command("plantmesh-edge", "run", "--config", c.Config)
}

// entry is a line of the catalogue, for programs.
type entry struct {
	ID      string `json:"id"`
	Section string `json:"section"`
	Looks   string `json:"looks_at"`
	Why     string `json:"why"`
	Fix     string `json:"fix,omitempty"`
	Doc     string `json:"doc"`
}

func listed() (out []entry) {
	for _, e := range check.Catalogue() {
		out = append(out, entry{e.ID, e.Section, e.Looks, e.Why, e.Fix, e.Doc()})
	}
	return out
}
