package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"plantmesh/cloud/hub"
	"plantmesh/cloud/registry/desk"
	"plantmesh/cloud/registry/plant"
	"plantmesh/proto/answer"
)

type calendarsCmd struct {
	List   calendarsListCmd   `cmd:"" help:"List the calendars, and which machines' windows each cuts."`
	Show   calendarsShowCmd   `cmd:"" help:"Print a calendar, as set takes it."`
	Set    calendarsSetCmd    `cmd:"" help:"Register a calendar, or change one that is registered: what it says, or whose it is."`
	Remove calendarsRemoveCmd `cmd:"" help:"Take a calendar out; rows of before stay as they are."`
}

type calendarsListCmd struct {
	Config string `required:"" type:"path" help:"hub.yaml of the hub that runs."`
}

func (c *calendarsListCmd) Run(ctx context.Context, p *answer.Printer) error {
	all, _, err := calendars(ctx, c.Config)
	if err != nil {
		return err
	}
	var text strings.Builder
	out := answer.Result{Data: map[string]any{"calendars": all}}
	for _, x := range all {
		from := "the " + fromText(x.From)
		if x.Begins != "" {
			from = x.Begins
		}
		if x.Ends {
			fmt.Fprintf(&text, "%s\tends\tfrom %s\n", x.ID, from)
			continue
		}
		fmt.Fprintf(&text, "%s\tof %s\t%s\tfrom %s\n", x.ID, ofText(x.Calendar), calendarSays(x.Calendar), from)
		if len(x.Cuts) > 0 {
			fmt.Fprintf(&text, "  %s\n", strings.Join(x.Cuts, ", "))
		}
	}
	if len(all) == 0 {
		text.WriteString("there is no calendar: days are those of UTC, and nobody has shifts\n")
		out.Next = answer.Command("plantmesh", "calendars", "set", "--config", c.Config, "plant", "FILE") + "   (its zone, production_day_start, shifts, breaks, holidays and stops)"
	}
	out.Text = text.String()
	return p.Print(out)
}

// ofText is whose a calendar is.
func ofText(c plant.Calendar) string {
	var of []string
	for _, line := range c.Lines {
		of = append(of, "line "+line)
	}
	for _, id := range c.Machines {
		of = append(of, "machine "+id)
	}
	if len(of) == 0 {
		return "the site"
	}
	return strings.Join(of, ", ")
}

func calendarSays(c plant.Calendar) string {
	var says []string
	for _, x := range []struct{ what, is string }{{"", c.Zone}, {"days from ", c.ProductionDayStart}} {
		if x.is != "" {
			says = append(says, x.what+x.is)
		}
	}
	var shifts []string
	for _, s := range c.Shifts {
		says := fmt.Sprintf("%s %s-%s", s.ID, s.Start, s.End)
		if len(s.Days) > 0 {
			says += " " + strings.Join(s.Days, ",")
		}
		shifts = append(shifts, says)
	}
	if len(shifts) == 0 {
		shifts = []string{"no shifts"}
	}
	says = append(says, strings.Join(shifts, " "), fmt.Sprintf("%d breaks", len(c.Breaks)))
	if n := len(c.Holidays) + len(c.Stops); n > 0 {
		says = append(says, fmt.Sprintf("%d holidays and stops", n))
	}
	return strings.Join(says, ", ")
}

type calendarsShowCmd struct {
	Config   string `required:"" type:"path" help:"hub.yaml of the hub that runs."`
	Calendar string `arg:"" help:"Its id; site: that of the site file."`
}

func (c *calendarsShowCmd) Run(ctx context.Context, p *answer.Printer) error {
	var x desk.CalendarRow
	if err := ask(ctx, c.Config, http.MethodGet, "calendars/"+url.PathEscape(c.Calendar), nil, &x); err != nil {
		return err
	}
	b, err := json.MarshalIndent(x.Calendar, "", "  ")
	if err != nil {
		return fmt.Errorf("write the calendar: %w", err)
	}
	return p.Print(answer.Result{Data: x, Text: string(b) + "\n"})
}

// calendars are all there are, and the register's version.
func calendars(ctx context.Context, config string) (all []desk.CalendarRow, version int64, err error) {
	var said struct {
		Version int64              `json:"version"`
		Data    []desk.CalendarRow `json:"data"`
	}
	err = ask(ctx, config, http.MethodGet, "calendars", nil, &said)
	return said.Data, said.Version, err
}

type calendarsSetCmd struct {
	registrar

	OfSite  bool     `name:"site" help:"It is the site's: of all machines that have no other. So is a new one of which nothing else is said."`
	Line    []string `help:"It is of this line, instead of what it was of. May be said several times."`
	Machine []string `help:"It is of this machine, which goes before its line."`
	DryRun  bool     `help:"Only say whether it could be done."`
	ID      string   `arg:"" help:"Small letters, digits, - and _."`
	File    string   `arg:"" optional:"" type:"path" help:"YAML or JSON with zone, production_day_start, shifts, breaks, holidays and stops, as in a site file (days of a shift, as [mon-fri], too); none: they stay as they are."`
}

func (c *calendarsSetCmd) Run(ctx context.Context, p *answer.Printer) error {
	if c.OfSite && len(c.Line)+len(c.Machine) > 0 {
		return fmt.Errorf("%w: --site is of all machines that have no other: leave out --line and --machine", hub.ErrUsage)
	}
	if c.File == "" && !c.OfSite && len(c.Line)+len(c.Machine) == 0 {
		return fmt.Errorf("%w: say what to set: a file, or --line, --machine or --site", hub.ErrUsage)
	}
	var given plant.Calendar
	if c.File != "" {
		b, err := whole(c.File, 256<<10)
		if err != nil {
			return err
		}
		if given, err = plant.ParseCalendar(c.File, b); err != nil {
			return err
		}
		if given.ID != "" && given.ID != c.ID {
			return fmt.Errorf("%w: %s is of calendar %s, not %s: take its id out, or say that one", hub.ErrUsage, c.File, given.ID, c.ID)
		}
	}
	all, version, err := calendars(ctx, c.Config)
	if err != nil {
		return err
	}
	is, ok := desk.CalendarAt(all, c.ID, c.ValidFrom)
	was := is.Calendar
	if !ok && c.File == "" {
		return fmt.Errorf("%w: there is no calendar %q: say a file with its zone, production_day_start, shifts and breaks", hub.ErrUsage, c.ID)
	}
	to := c.next(was, given)
	at := "calendars/" + url.PathEscape(c.ID)
	if c.DryRun {
		at += "?dry_run=true"
	}
	var done desk.Changed
	if err := ask(ctx, c.Config, http.MethodPut, at, c.said(map[string]any{"calendar": to, "version": version}), &done); err != nil {
		return err
	}
	says := fmt.Sprintf("%s\tof %s\t%s", c.ID, ofText(to), calendarSays(to))
	if c.DryRun && len(done.Calendars) > 0 {
		return p.Print(answer.Result{Data: done, Text: says + "; it could be so from " + done.ValidFrom + " on" + untilText(done) + "\n"})
	}
	return changed(p, c.Config, done, says)
}

// next is the calendar with what was given.
func (c *calendarsSetCmd) next(was, given plant.Calendar) plant.Calendar {
	to := given
	if c.File == "" {
		to = was
	}
	to.ID = c.ID
	switch {
	case c.OfSite:
		to.Lines, to.Machines = nil, nil
	case len(c.Line)+len(c.Machine) > 0:
		to.Lines, to.Machines = c.Line, c.Machine
	case given.OfSite():
		to.Lines, to.Machines = was.Lines, was.Machines
	}
	return to
}

type calendarsRemoveCmd struct {
	registrar

	DryRun   bool   `help:"Only say whether it could be done."`
	Calendar string `arg:"" help:"Its id."`
}

func (c *calendarsRemoveCmd) Run(ctx context.Context, p *answer.Printer) error {
	at := "calendars/" + url.PathEscape(c.Calendar)
	if c.DryRun {
		at += "?dry_run=true"
	}
	var done desk.Changed
	if err := ask(ctx, c.Config, http.MethodDelete, at, c.said(nil), &done); err != nil {
		return err
	}
	if c.DryRun {
		return p.Print(answer.Result{Data: done, Text: c.Calendar + "\tcould be removed\n"})
	}
	return changed(p, c.Config, done, c.Calendar+"\tremoved")
}
