package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"

	"plantmesh/cloud/hub"
	"plantmesh/cloud/product"
	"plantmesh/cloud/registry/desk"
	"plantmesh/cloud/registry/plant"
	"plantmesh/proto/answer"
)

type machinesCmd struct {
	List    machinesListCmd    `cmd:"" help:"Say of each machine what it is made of, what lacks, and what stays empty for that."`
	Inbox   machinesInboxCmd   `cmd:"" help:"List the signals that no machine has, and which model they fit."`
	Show    machinesShowCmd    `cmd:"" help:"Show how a machine is registered, and each line of its readiness."`
	Rules   machinesRulesCmd   `cmd:"" help:"Print the rules that models give the machines behind each gateway, as the file that a gateway gets."`
	Approve machinesApproveCmd `cmd:"" help:"Make a machine of signals in the inbox."`
	Add     machinesAddCmd     `cmd:"" help:"Register a machine, or change one that is registered."`
	Import  machinesImportCmd  `cmd:"" help:"Register machines by a CSV table; one without a source is planned, and waits in the inbox for its signals."`
	Export  machinesExportCmd  `cmd:"" help:"Print the registered machines as a table that import takes."`
	Clone   machinesCloneCmd   `cmd:"" help:"Register a line, or a machine, that is as another one."`
	Retire  machinesRetireCmd  `cmd:"" help:"Take machines out; their rows stay."`
}

// levels are where machines are.
type levels struct {
	Enterprise string `help:"Only machines of this enterprise."`
	Site       string `help:"Only machines of this site."`
	Area       string `help:"Only machines of this area."`
	Line       string `help:"Only machines of this line."`
}

// of are the rows that are there.
func (l levels) of(rows []desk.Row) ([]desk.Row, error) {
	out, missing := desk.Levels(l).Of(rows)
	if missing != "" {
		return nil, fmt.Errorf("%w: %s", hub.ErrUsage, missing)
	}
	return out, nil
}

type machinesListCmd struct {
	levels

	Config  string `required:"" type:"path" help:"hub.yaml; its hub may run meanwhile."`
	Machine string `arg:"" optional:"" help:"One machine's id."`
}

func (c *machinesListCmd) Run(ctx context.Context, p *answer.Printer) error {
	l, err := machines(ctx, c.Config)
	if err != nil {
		return err
	}
	rows, err := c.of(l.Rows)
	if err != nil {
		return err
	}
	var text strings.Builder
	all := []product.Readiness{}
	for _, row := range rows {
		r, ok := row.Readiness.(product.Readiness)
		if !ok || c.Machine != "" && r.Equipment != c.Machine {
			continue
		}
		all = append(all, r)
		how := r.State
		if n := len(r.Lacks); r.State == product.StateLacking {
			how = fmt.Sprintf("lacks %d", n)
		}
		fmt.Fprintf(&text, "%s\t%s\tsource %s\t%d signals, %d of their roles\t%s\n", r.Equipment, cmp.Or(r.Line, "no line"), cmp.Or(r.Source, "none yet"), r.Signals, len(r.Roles), how)
		for _, l := range r.Lacks {
			fmt.Fprintf(&text, "  %s\n    empty  %s\n    fix    %s\n", l.What, strings.Join(l.Empty, ", "), l.Remedy)
		}
	}
	if c.Machine != "" && len(all) == 0 {
		return fmt.Errorf("%w: the site has no equipment %q", hub.ErrUsage, c.Machine)
	}
	differ, next := differing(&l, c.Machine, c.Config)
	text.WriteString(differ)
	out := answer.Result{Data: map[string]any{"machines": all, "rules": l.Gateways}, Text: text.String(), Next: next}
	if len(l.Inbox) > 0 {
		out.Next = answer.Command("plantmesh", "machines", "inbox", "--config", c.Config) + "   (signals that no machine has)"
	}
	return p.Print(out)
}

type machinesInboxCmd struct {
	Config string `required:"" type:"path" help:"hub.yaml; its hub may run meanwhile."`
}

func (c *machinesInboxCmd) Run(ctx context.Context, p *answer.Printer) error {
	l, err := machines(ctx, c.Config)
	if err != nil {
		return err
	}
	var text strings.Builder
	out := answer.Result{Data: map[string]any{"inbox": l.Inbox}}
	for _, m := range l.Inbox {
		fmt.Fprintf(&text, "%s\t%s\t%d signals\t%s\n", m.Source, m.Prefix, m.Signals, likely(m))
		if out.Next == "" && (len(m.Roles) > 0 || m.Model != nil) {
			out.Next = answer.Command("plantmesh", "machines", "approve", "--config", c.Config, m.Source, m.Prefix) + "   (--valid-from always where its past counts)"
		}
	}
	out.Text = text.String()
	return p.Print(out)
}

// likely says what a candidate may be.
func likely(m desk.Candidate) string {
	if len(m.Roles) == 0 && m.Model == nil {
		return "none is a role: hardly a machine"
	}
	says := m.ID
	if m.Planned {
		says += ", which is planned"
	}
	if m.Model != nil {
		says += fmt.Sprintf("\t%s %d/%d", m.Model.Model, m.Model.Matched, m.Model.Of)
		if len(m.Model.Missing) > 0 {
			says += "\n  missing  " + strings.Join(m.Model.Missing, ", ")
		}
		if len(m.Model.Wrong) > 0 {
			says += "\n  other    " + strings.Join(m.Model.Wrong, ", ")
		}
	}
	if len(m.Roles) > 0 {
		says += "\n  roles    " + strings.Join(m.Roles, ", ")
	}
	return says
}

func machines(ctx context.Context, config string) (l desk.Look, err error) {
	cfg, err := hub.LoadConfig(config)
	if err != nil {
		return l, err
	}
	return hub.Machines(ctx, cfg, slog.New(slog.NewTextHandler(os.Stderr, nil)))
}

type machinesShowCmd struct {
	Config  string `required:"" type:"path" help:"hub.yaml; its hub may run meanwhile."`
	Machine string `arg:"" help:"Its id."`
}

func (c *machinesShowCmd) Run(ctx context.Context, p *answer.Printer) error {
	l, err := machines(ctx, c.Config)
	if err != nil {
		return err
	}
	i := slices.IndexFunc(l.Rows, func(r desk.Row) bool { return r.ID == c.Machine })
	if i < 0 {
		return fmt.Errorf("%w: the site has no equipment %q", hub.ErrUsage, c.Machine)
	}
	row := &l.Rows[i]
	b, err := json.MarshalIndent(row.Machine, "", "  ")
	if err != nil {
		return fmt.Errorf("write the machine: %w", err)
	}
	var text strings.Builder
	fmt.Fprintf(&text, "%s\nfrom the %s, at %s%s\n", b, fromText(row.From), row.Location(l.Site), calendarText(row.Calendar))
	if r, ok := row.Readiness.(product.Readiness); ok {
		for _, check := range r.Checks {
			fmt.Fprintf(&text, "  %s  %-13s%s\n", map[bool]string{true: "ok", false: "--"}[check.OK], check.Check, check.Says)
		}
		if row.Rules != nil {
			for _, left := range row.Rules.Left {
				fmt.Fprintf(&text, "      %-13sleft out: %s: %s\n", "", left.Property, left.Why)
			}
		}
		var of []string
		for _, id := range slices.Sorted(maps.Keys(r.Products)) {
			of = append(of, id+" "+r.Products[id])
		}
		fmt.Fprintf(&text, "%s: %s\n", r.State, strings.Join(of, ", "))
	}
	return p.Print(answer.Result{Data: row, Text: text.String()})
}

// fromText is where something is registered.
func fromText(from string) string {
	return map[string]string{"file": "site file", "register": "register"}[from]
}

func calendarText(id string) string {
	if id == "" {
		return ", without a calendar"
	}
	return ", calendar " + id
}

type machinesApproveCmd struct {
	registrar

	Source   string   `arg:"" optional:"" help:"As the inbox names it."`
	Prefix   string   `arg:"" optional:"" help:"What its signals' names begin with, as the inbox has it."`
	All      bool     `help:"Instead of one: all that fit a model, in one change, as the inbox proposes them."`
	ID       string   `name:"id" help:"What it is called; default: what the inbox proposes."`
	Line     string   `help:"Its line."`
	Name     string   `help:"Its name, for people."`
	Kind     string   `help:"Of machine, as in ideal_cycle_seconds of the site file."`
	Model    string   `help:"Its model; default: the one that fits best; none: no model."`
	Owner    string   `help:"Who answers for its data."`
	External []string `placeholder:"SYSTEM=ID" help:"Its id in another system, as maximo=A-4711."`
}

func (c *machinesApproveCmd) Run(ctx context.Context, p *answer.Printer) error {
	external, err := pairs("external", c.External)
	if err != nil {
		return err
	}
	if c.All {
		return c.all(ctx, p)
	}
	if c.Source == "" || c.Prefix == "" {
		return fmt.Errorf("%w: say the source and what its signals begin with, as the inbox has them, or --all", hub.ErrUsage)
	}
	body := c.said(map[string]any{
		"source": c.Source, "signals_prefix": c.Prefix, "id": c.ID, "line": c.Line, "name": c.Name, "kind": c.Kind, "model": c.Model, "owner": c.Owner, "external_ids": external,
	})
	var done desk.Changed
	if err := ask(ctx, c.Config, http.MethodPost, "inbox/approve", body, &done); err != nil {
		return err
	}
	return changed(p, c.Config, done, fmt.Sprintf("%s\tapproved: signals %s of source %s", strings.Join(done.Put, ", "), c.Prefix, c.Source))
}

// all approves what fits a model.
func (c *machinesApproveCmd) all(ctx context.Context, p *answer.Printer) error {
	if c.Source+c.ID+c.Name+c.Kind+c.Model != "" || len(c.External) > 0 {
		return fmt.Errorf("%w: --all takes each as the inbox proposes it: leave out what is of one machine", hub.ErrUsage)
	}
	var inbox struct {
		Data []desk.Candidate `json:"data"`
	}
	if err := ask(ctx, c.Config, http.MethodGet, "inbox", nil, &inbox); err != nil {
		return err
	}
	var of []map[string]string
	for _, m := range inbox.Data {
		if m.Model != nil {
			of = append(of, map[string]string{"source": m.Source, "signals_prefix": m.Prefix, "line": c.Line, "owner": c.Owner})
		}
	}
	if len(of) == 0 {
		return p.Print(answer.Result{Data: desk.Changed{}, Text: "nothing in the inbox fits a model\n"})
	}
	var done desk.Changed
	if err := ask(ctx, c.Config, http.MethodPost, "inbox/approve", c.said(map[string]any{"machines": of}), &done); err != nil {
		return err
	}
	return changed(p, c.Config, done, strings.Join(done.Put, ", ")+"\tapproved")
}

type machinesAddCmd struct {
	registrar

	ID       string   `arg:"" help:"Small letters, digits, - and _."`
	Area     string   `help:"Its area."`
	Line     string   `help:"Its line."`
	Name     string   `help:"Its name, for people."`
	Kind     string   `help:"Of machine, as in ideal_cycle_seconds of the site file."`
	Model    string   `help:"Its model, as id@version."`
	Owner    string   `help:"Who answers for its data."`
	Source   string   `help:"Whose signals it has; none: it is planned."`
	Prefix   string   `help:"What its signals' names begin with."`
	Signal   []string `placeholder:"ROLE=NAME" help:"A signal that fills a role, by its whole name."`
	State    []string `placeholder:"NUMBER=PACKML" help:"The PackML state that a number of its state signal means."`
	Ideal    []string `placeholder:"PRODUCT=SECONDS" help:"Planned run time of one item of a product."`
	External []string `placeholder:"SYSTEM=ID" help:"Its id in another system, as maximo=A-4711."`
	Change   bool     `help:"It is registered already: change what is said here, and nothing else."`
}

func (c *machinesAddCmd) Run(ctx context.Context, p *answer.Printer) error {
	m := plant.Machine{ID: c.ID}
	var row struct {
		desk.Row

		Version int64 `json:"version"`
	}
	if c.Change {
		if err := ask(ctx, c.Config, http.MethodGet, "machines/"+url.PathEscape(c.ID), nil, &row); err != nil {
			return err
		}
		m = row.Machine
	}
	if err := c.fill(&m); err != nil {
		return err
	}
	var done desk.Changed
	if c.Change {
		if err := ask(ctx, c.Config, http.MethodPut, "machines/"+url.PathEscape(c.ID), c.said(map[string]any{"machine": m, "version": row.Version}), &done); err != nil {
			return err
		}
		return changed(p, c.Config, done, c.ID+"\tchanged")
	}
	if err := ask(ctx, c.Config, http.MethodPost, "machines", c.said(map[string]any{"machines": []plant.Machine{m}}), &done); err != nil {
		return err
	}
	return changed(p, c.Config, done, c.ID+"\tregistered")
}

// fill puts into a machine what was said.
func (c *machinesAddCmd) fill(m *plant.Machine) error {
	for _, x := range []struct {
		to *string
		is string
	}{{&m.Area, c.Area}, {&m.Line, c.Line}, {&m.Name, c.Name}, {&m.Kind, c.Kind}, {&m.Model, c.Model}, {&m.Owner, c.Owner}, {&m.Source, c.Source}, {&m.SignalsPrefix, c.Prefix}} {
		if x.is != "" {
			*x.to = x.is
		}
	}
	var err error
	text := func(s string) (string, error) { return s, nil }
	if m.Signals, err = filled(m.Signals, "signal", c.Signal, text); err != nil {
		return err
	}
	if m.ExternalIDs, err = filled(m.ExternalIDs, "external", c.External, text); err != nil {
		return err
	}
	if m.States, err = filled(m.States, "state", c.State, func(s string) (int64, error) { return strconv.ParseInt(s, 10, 64) }); err != nil {
		return err
	}
	m.IdealCycleSeconds, err = filled(m.IdealCycleSeconds, "ideal", c.Ideal, func(s string) (float64, error) { return strconv.ParseFloat(s, 64) })
	return err
}

func filled[V any](was map[string]V, name string, given []string, read func(string) (V, error)) (map[string]V, error) {
	more, err := pairs(name, given)
	if err != nil || len(more) == 0 {
		return was, err
	}
	if was == nil {
		was = map[string]V{}
	}
	for k, text := range more {
		v, err := read(text)
		if err != nil {
			return was, fmt.Errorf("%w: --%s %s=%s is no number", hub.ErrUsage, name, k, text)
		}
		was[k] = v
	}
	return was, nil
}
