package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"text/tabwriter"

	"plantmesh/edge/agent"
	"plantmesh/edge/quality"
	"plantmesh/edge/source/opcua/browse"
	"plantmesh/proto/answer"
)

type rulesCmd struct {
	List     rulesListCmd     `cmd:"" help:"The rules of rules.d, as the files are now; the agent takes them when it starts."`
	Show     rulesShowCmd     `cmd:"" help:"One rule: what it is told, where it stands, whether the running agent judges by it, which signals it looks at, and how its tests go."`
	Explain  rulesExplainCmd  `cmd:"" help:"Which rules look at a signal, and why the others do not."`
	Backtest rulesBacktestCmd `cmd:"" help:"Have rules look at what the running agent's buffer has, or at what buffer export has written (--input), and count what they would find. Changes nothing."`
	Test     rulesTestCmd     `cmd:"" help:"Run the tests beside the rules: rules.d/NAME_test.yaml says what those of NAME.yaml must find. Exit 7 where they find something else."`
}

// rulesBacktestCmd has rules look at what the buffer has.
type rulesBacktestCmd struct {
	Config string   `required:"" type:"path" short:"c" help:"edge.yaml"`
	Source string   `help:"Of this source alone."`
	Input  string   `type:"path" help:"Look at this file of records instead, which buffer export has written: no agent need run, and the file may be of another gateway."`
	Files  []string `arg:"" optional:"" type:"path" help:"Files of rules; default: all of rules.d, as they are now."`
}

func (c *rulesBacktestCmd) Run(ctx context.Context, p *answer.Printer) error {
	got, err := c.look(ctx)
	if err != nil {
		return err
	}
	var text strings.Builder
	for i := range got.Found {
		r := &got.Found[i]
		fmt.Fprintf(&text, "%-10s  %s in %s of %s: %d samples since %s; the last: %s\n", r.Does, browse.Printable(r.Rule), browse.Printable(r.Signal), browse.Printable(r.Source), r.Count, r.First, r.Last.Line())
	}
	if got.More > 0 {
		fmt.Fprintf(&text, "and %d samples more, of too many signals to count each\n", got.More)
	}
	for _, id := range got.Nothing {
		fmt.Fprintf(&text, "%s found nothing\n", browse.Printable(id))
	}
	fmt.Fprintf(&text, "%d samples looked at, from %s to %s; %d marked; nothing was changed\n", got.Samples, cmp.Or(got.From, "–"), cmp.Or(got.To, "–"), got.Marked)
	if got.Unread > 0 {
		fmt.Fprintf(&text, "%d records could not be opened\n", got.Unread)
	}
	return p.Print(answer.Result{Data: got, Text: text.String()})
}

func (c *rulesBacktestCmd) look(ctx context.Context) (agent.Backtested, error) {
	if c.Input != "" {
		cfg, err := agent.OpenConfig(c.Config)
		if err != nil {
			return agent.Backtested{}, err
		}
		return cfg.BacktestFile(c.Source, c.Files, c.Input)
	}
	cfg, err := agent.OpenConfig(c.Config, agent.Data)
	if err != nil {
		return agent.Backtested{}, err
	}
	return cfg.Backtest(ctx, c.Source, c.Files)
}

type rulesListCmd struct {
	Config string `required:"" type:"path" short:"c" help:"edge.yaml"`
}

func (c *rulesListCmd) Run(p *answer.Printer) error {
	cfg, err := agent.OpenConfig(c.Config, agent.Rules)
	if err != nil {
		return err
	}
	all, err := cfg.ListRules()
	if err != nil {
		return err
	}
	r := answer.Result{Data: map[string]any{"rules": append([]agent.RuleTold{}, all...), "revision": cfg.Rules.Revision()}}
	if len(all) == 0 {
		r.Text = "there are no rules: every sample passes\n"
		return p.Print(r)
	}
	var text strings.Builder
	w := tabwriter.NewWriter(&text, 0, 0, 2, ' ', 0)
	for _, x := range all {
		_, _ = fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", x.ID, x.Signal, x.Kind, x.Says, x.Does, stands(&x)) // a builder takes all
	}
	_ = w.Flush() // likewise
	fmt.Fprintf(&text, "%d rules, revision %d\n", len(all), cfg.Rules.Revision())
	r.Text, r.Next = text.String(), answer.Command("plantmesh-edge", "rules", "test", "--config", c.Config)
	return p.Print(r)
}

// stands is where a rule stands, for people.
func stands(r *agent.RuleTold) string {
	out := fmt.Sprintf("%s:%d", short(r.File), r.Line)
	if r.Revision > 0 {
		out += fmt.Sprintf(" of the hub's revision %d", r.Revision)
	}
	return out
}

// short is a file below the folder of edge.yaml, as people call it.
func short(file string) string {
	return filepath.Join(filepath.Base(filepath.Dir(file)), filepath.Base(file))
}

// fate is what becomes of a value that a rule marks.
func fate(does string) string {
	switch does {
	case "quarantine":
		return "is marked, and counts in no product"
	case "alert":
		return "is marked, and somebody is told"
	}
	return "is marked, and counts"
}

type rulesExplainCmd struct {
	Config string `required:"" type:"path" short:"c" help:"edge.yaml"`
	Signal string `arg:"" help:"The whole name of a signal, as line1.press.temperature."`
}

func (c *rulesExplainCmd) Run(p *answer.Printer) error {
	cfg, err := agent.OpenConfig(c.Config, agent.Rules)
	if err != nil {
		return err
	}
	e, err := cfg.Explain(c.Signal)
	if err != nil {
		return err
	}
	var text strings.Builder
	switch {
	case len(e.Sources) > 0:
		fmt.Fprintf(&text, "%s is read by %s\n", browse.Printable(e.Signal), strings.Join(e.Sources, ", "))
	case e.Nearest != "":
		fmt.Fprintf(&text, "no file of sources.d names %s; did you mean %s?\n", browse.Printable(e.Signal), e.Nearest)
	default:
		fmt.Fprintf(&text, "no file of sources.d names %s; a pattern or a birth may bring it all the same\n", browse.Printable(e.Signal))
	}
	n := 0
	for _, r := range e.Rules {
		if !*r.Applies {
			continue
		}
		n++
		fmt.Fprintf(&text, "  %s looks at it: %s; a value for which that is not so %s (%s)\n", r.ID, r.Says, fate(r.Does), stands(&r))
		fmt.Fprintf(&text, "    why  %s\n", browse.Printable(r.Why))
	}
	if n == 0 {
		text.WriteString("  no rule looks at it: every sample of it passes\n")
	}
	for _, r := range e.Rules {
		if !*r.Applies {
			fmt.Fprintf(&text, "  %s does not: %s (%s)\n", r.ID, browse.Printable(r.Why), stands(&r))
		}
	}
	return p.Print(answer.Result{Data: e, Text: text.String()})
}

type rulesTestCmd struct {
	Config string   `required:"" type:"path" short:"c" help:"edge.yaml"`
	Format string   `default:"text" enum:"text,junit,json" help:"text, junit: XML as CI servers read it, or json: as --json."`
	Files  []string `arg:"" optional:"" type:"path" help:"Files of tests; default: all of rules.d."`
}

func (c *rulesTestCmd) Run(p *answer.Printer) error {
	if p.JSON && c.Format == "junit" {
		return &answer.Error{Code: answer.Usage, Message: "--json is one document, --format junit another: take one of them"}
	}
	p.JSON = p.JSON || c.Format == "json"
	cfg, err := agent.OpenConfig(c.Config)
	if err != nil {
		return err
	}
	done, failed, err := cfg.TestRules(c.Files)
	if err != nil {
		return err
	}
	var text strings.Builder
	n := 0
	var wrong []string
	for _, f := range done {
		for i := range f.Tests {
			n++
			testedText(&text, "", &f.Tests[i])
			wrong = append(wrong, f.Tests[i].Wrong...)
		}
	}
	data := map[string]any{"files": append([]agent.RulesTested{}, done...), "tests": n, "failed": failed}
	if c.Format == "junit" {
		text.Reset()
		if err := junit(&text, done); err != nil {
			return err
		}
	}
	if failed > 0 {
		if !p.JSON {
			if _, err := io.WriteString(p.Out, text.String()); err != nil {
				return fmt.Errorf("write the result: %w", err)
			}
		}
		return &answer.Error{Code: answer.RulesFailed, Message: fmt.Sprintf("%d of %d tests fail", failed, n), Hint: "change the rule, or the test: the agent takes the rules as they are when it starts", Cause: wrong, Data: data}
	}
	switch {
	case c.Format == "junit":
	case n == 0:
		text.WriteString("there are no tests: what the rules of NAME.yaml must find stands in NAME_test.yaml beside it\n")
	default:
		fmt.Fprintf(&text, "%d tests pass\n", n)
	}
	return p.Print(answer.Result{Data: data, Text: text.String()})
}

// testedText is how a test went, in words.
func testedText(text *strings.Builder, before string, t *quality.Tested) {
	word := "ok    "
	if !t.Passed {
		word = "FAILED"
	}
	fmt.Fprintf(text, "%s%s  %s (%s)\n", before, word, browse.Printable(t.Name), browse.Printable(t.Signal))
	for _, w := range t.Wrong {
		fmt.Fprintf(text, "%s        %s\n", before, browse.Printable(w))
	}
}
