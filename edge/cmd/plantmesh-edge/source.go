package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"plantmesh/edge/agent"
	"plantmesh/edge/source/opcua"
	"plantmesh/edge/source/opcua/browse"
	"plantmesh/proto/answer"
)

type sourceCmd struct {
	Add     sourceAddCmd     `cmd:"" help:"Look at a server or a broker, write its file into sources.d, and read each signal once."`
	List    sourceListCmd    `cmd:"" help:"The files of sources.d, and how the running agent finds each."`
	Show    sourceShowCmd    `cmd:"" help:"Print the file of a source, without what looks like a secret."`
	Edit    sourceEditCmd    `cmd:"" help:"Edit a copy of a source's file in $EDITOR; it takes the file's place only if it can be read."`
	Enable  sourceEnableCmd  `cmd:"" help:"Have a file read again when the agent starts."`
	Disable sourceDisableCmd `cmd:"" help:"Have a file not read when the agent starts: it is renamed to NAME.yaml.disabled."`
	Remove  sourceRemoveCmd  `cmd:"" help:"Delete the file of a source."`
	Resume  sourceResumeCmd  `cmd:"" help:"Have the running agent try a source at once that is set aside, with its file as it is now."`
	Test    sourceTestCmd    `cmd:"" help:"Read each signal of a source file once, or hear what comes for a while, and show each value's whole way: raw, mapped, rules, subject. Sends nothing."`
}

// sourceTestCmd reads once, or hears a broker or devices for a while, and sends nothing.
type sourceTestCmd struct {
	brokerFlags

	Config string `type:"path" short:"c" help:"edge.yaml: whose rules, names and certificates hold. A source file needs it, and need not be in its sources.d."`
	File   string `arg:"" help:"A source file, such as sources.d/press.yaml; or a broker, mqtt://host:1883, for which a file is proposed."`
	Bad    bool   `help:"Only what is not taken as declared, or what a rule finds."`
}

func (c *sourceTestCmd) Run(ctx context.Context, p *answer.Printer) error {
	if err := c.isServer(); err != nil {
		return err
	}
	if isAddress(c.File) {
		return c.propose(ctx, p, c.File)
	}
	stay, err := c.stay()
	switch {
	case err != nil:
		return err
	case c.Config == "":
		return &answer.Error{Code: answer.Usage, Message: "a source file is tested with the rules of an edge.yaml: say --config edge.yaml"}
	case len(c.Topic) > 0 || c.named():
		return &answer.Error{Code: answer.Usage, Message: "topics, login and certificates stand in the source file: the flags for them are for a broker, mqtt://host:1883"}
	}
	cfg, err := agent.OpenConfig(c.Config)
	if err != nil {
		return err
	}
	notes(p.Narration(), cfg.NotReady(time.Now()))
	stay.Open = func(address string) {
		notes(p.Narration(), []string{fmt.Sprintf("listening for devices on %s, for %s at most: have them publish now; nothing of it is kept, and nothing acknowledged", address, c.Wait)})
	}
	t, err := cfg.Test(ctx, c.File, stay, steps(p))
	if err != nil {
		return visited(t.Endpoint, err)
	}
	for _, n := range t.Notes {
		notes(p.Narration(), []string{browse.Printable(n)})
	}
	var text strings.Builder
	c.tell(&text, &t)
	if t.Good < t.Signals || t.MQTT && t.Signals == 0 {
		if !p.JSON {
			if _, err := io.WriteString(p.Out, text.String()); err != nil {
				return fmt.Errorf("write the result: %w", err)
			}
		}
		return &answer.Error{Code: answer.SourceFindings, Message: findings(t), Cause: reasons(t), Data: t}
	}
	return p.Print(answer.Result{Data: t, Text: text.String(), Next: answer.Command("plantmesh-edge", "check", "--config", c.Config)})
}

// isServer is the error of an OPC UA server instead of a file.
func (c *sourceTestCmd) isServer() error {
	wrong := opcua.Misaddressed(c.File)
	switch {
	case !isAddress(c.File):
		return nil
	case wrong == nil:
		return &answer.Error{
			Code: answer.Usage, Message: "a source file or a broker is tested, and this is an OPC UA server: browse shows what it has, and source add writes its file and tests it",
			Fix: answer.Command("plantmesh-edge", "browse", c.File),
		}
	case strings.HasPrefix(c.File, "opc"):
		return misaddressed(c.File, "opc.tcp://host:port", wrong)
	}
	return nil
}

// tell is what a test found, in words.
func (c *sourceTestCmd) tell(b *strings.Builder, t *agent.Tested) {
	for _, j := range t.Journeys {
		if !c.Bad || !sound(j) {
			journey(b, j)
		}
	}
	for i := range t.Messages {
		c.message(b, &t.Messages[i])
	}
	for _, f := range t.Foreign {
		fmt.Fprintf(b, "node %s spoke too, %d messages, and nodes does not name it\n  to read it write in nodes: %s\n", browse.Printable(f.Node), f.Messages, f.Write)
	}
	fmt.Fprintf(b, "%d of %d %s are taken as declared, with a good status; %d are marked by a rule; %.2f s; nothing was sent\n", t.Good, t.Signals, things(*t), t.Marked, t.Took)
	if t.Events > 0 {
		fmt.Fprintf(b, "events of %d notifiers come by themselves: reading can't try them\n", t.Events)
	}
}

// things are what was tested.
func things(t agent.Tested) string {
	if t.MQTT {
		return "values"
	}
	return "signals"
}

// message is what a broker or a device said, in words.
func (c *sourceTestCmd) message(b *strings.Builder, m *agent.MessageLook) {
	if c.Bad && !m.Refused && !slices.ContainsFunc(m.Journeys, func(j agent.Journey) bool { return !sound(j) }) && !slices.ContainsFunc(m.LeftOut, func(l agent.LeftOut) bool { return !l.Meant }) {
		return
	}
	from := ""
	if m.User != "" {
		from = ", from user " + browse.Printable(m.User)
	}
	fmt.Fprintf(b, "%s %s (%d bytes%s)\n", browse.Printable(m.Topic), browse.Printable(m.Payload), m.Bytes, from)
	for _, s := range m.Says {
		fmt.Fprintf(b, "  %s\n", browse.Printable(s))
	}
	for _, j := range m.Journeys {
		if !c.Bad || !sound(j) {
			journey(b, j)
		}
	}
	for _, l := range m.LeftOut {
		if c.Bad && l.Meant {
			continue
		}
		why := ": " + l.Why
		if slices.Contains(m.Says, l.Why) { // it is that of the whole message
			why = ""
		}
		fmt.Fprintf(b, "left out %s\n", browse.Printable(fmt.Sprintf("%s %s%s", cmp.Or(l.Place, "payload"), l.Value, why)))
		if l.Write != "" {
			fmt.Fprintf(b, "  to keep it write in signals: %s\n", browse.Printable(l.Write))
		}
	}
}

// sound: the value is taken, good, and no rule minds.
func sound(j agent.Journey) bool {
	for _, r := range j.Rules {
		if r.Finds {
			return false
		}
	}
	return j.Mapped.Taken && j.Mapped.Status == "Good"
}

func findings(t agent.Tested) string {
	if t.MQTT && t.Signals == 0 {
		text := fmt.Sprintf("no value of %s came in %.0f s: publish one meanwhile, or say --wait", t.Source, t.Took)
		if n := len(t.Foreign); n > 0 {
			text += fmt.Sprintf("; %d nodes spoke that nodes does not name, such as %s", n, browse.Printable(t.Foreign[0].Node))
		}
		return text
	}
	if t.MQTT {
		return fmt.Sprintf("%d of %d values of %s are not taken as declared, or have no good status", t.Signals-t.Good, t.Signals, t.Source)
	}
	return fmt.Sprintf("%d of %d signals of %s are not taken as declared, or have no good status", t.Signals-t.Good, t.Signals, t.Source)
}

// reasons say of each signal that is not taken why.
func reasons(t agent.Tested) (out []string) {
	const most = 100
	all := t.Journeys
	for _, m := range t.Messages {
		all = append(all, m.Journeys...)
		if m.Refused && len(out) < most {
			out = append(out, m.Topic+": "+strings.Join(m.Says, "; "))
			continue
		}
		for _, l := range m.LeftOut {
			if l.Lost && len(out) < most {
				out = append(out, l.Place+": "+l.Why)
			}
		}
	}
	for _, j := range all {
		if j.Mapped.Taken && j.Mapped.Status == "Good" {
			continue
		}
		if len(out) == most {
			return append(out, "and more")
		}
		out = append(out, j.Mapped.Name+": "+j.Mapped.Conversion+" ("+j.Mapped.Status+")")
	}
	return out
}

// journey is a value's way in words.
func journey(b *strings.Builder, j agent.Journey) {
	line := func(at, format string, args ...any) {
		fmt.Fprintf(b, "  %-8s %s\n", at, browse.Printable(fmt.Sprintf(format, args...)))
	}
	fmt.Fprintf(b, "%s\n", browse.Printable(j.Mapped.Name))
	line("asked", "%s", j.Raw.Asked)
	switch {
	case j.Raw.Node == "":
		line("raw", "nothing: %s", j.Mapped.Conversion)
	case j.Raw.Type == "":
		line("raw", "no value, %s%s", j.Raw.Status, stamps(j))
	default:
		line("raw", "%s %q, %s%s", j.Raw.Type, j.Raw.Value, j.Raw.Status, stamps(j))
	}
	unit := ""
	if j.Mapped.Unit != "" {
		unit = " " + j.Mapped.Unit
	}
	if j.Mapped.Taken {
		line("mapped", "%s %q%s, %s, at %s (clock of the %s): %s", j.Mapped.Type, j.Mapped.Value, unit, j.Mapped.Status, j.Mapped.Time, j.Mapped.Clock, j.Mapped.Conversion)
	} else {
		line("mapped", "no value, %s, at %s: %s", j.Mapped.Status, j.Mapped.Time, j.Mapped.Conversion)
	}
	if len(j.Rules) == 0 {
		line("rules", "none looks at it")
	}
	for _, r := range j.Rules {
		found := "finds nothing"
		if r.Finds {
			found = "marks it: " + r.Does
		}
		line("rules", "%s (%s) %s", r.ID, r.Says, found)
	}
	line("subject", "%s, as %s of source %s", cmp.Or(j.Send.Subject, "not known before edge.yaml names agent and site"), j.Send.Signal, j.Send.Source)
}

func stamps(j agent.Journey) string {
	out := ""
	if j.Raw.Source != "" {
		out += ", source time " + j.Raw.Source
	}
	if j.Raw.Server != "" {
		out += ", server time " + j.Raw.Server
	}
	return out
}

type sourceResumeCmd struct {
	Config string `required:"" type:"path" short:"c" help:"edge.yaml"`
	Source string `arg:"" help:"The source's name, as status shows it."`
}

func (c *sourceResumeCmd) Run(ctx context.Context, p *answer.Printer) error {
	cfg, err := agent.OpenConfig(c.Config, agent.Data)
	if err != nil {
		return err
	}
	r, err := agent.ResumeSource(ctx, cfg, c.Source)
	if err != nil {
		return err
	}
	text := fmt.Sprintf("%s is %s since %s and was left alone: only a source that waits to be tried again is resumed\n", r.Source, r.Was.State, r.Was.Since)
	switch a := r.Was.Aside; {
	case r.Done && a != nil:
		text = fmt.Sprintf("%s is tried now. It was set aside since %s, after its worker died %d times: %s\n", r.Source, a.Since, a.Deaths, browse.Printable(a.Reason))
	case r.Done:
		text = fmt.Sprintf("%s is tried now. It was %s since %s: %s\n", r.Source, r.Was.State, r.Was.Since, browse.Printable(r.Was.LastError))
	}
	switch {
	case r.Done && r.Changed:
		text += "Its file was changed meanwhile, and counts as it is now.\n"
	case r.Changed:
		text += "Its file was changed meanwhile: that counts when the agent starts.\n"
	}
	return p.Print(answer.Result{Data: r, Text: text, Next: answer.Command("plantmesh-edge", "status", "--config", c.Config)})
}
