package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"plantmesh/cloud/hub"
	"plantmesh/cloud/registry"
	"plantmesh/cloud/registry/desk"
	"plantmesh/proto/answer"
	"plantmesh/proto/revision"
)

type configureCmd struct {
	Config   string `required:"" type:"path" help:"hub.yaml"`
	From     string `type:"existingdir" placeholder:"DIR" help:"A folder with sources.d and rules.d, as they would lie beside the gateway's edge.yaml: all that the gateway is to have beside its own files."`
	Rules    bool   `name:"rules-from-models" help:"Put the rules of its machines' models into it, as rules.d/models.yaml: into the files of --from, or else beside what the newest revision has."`
	RevertTo uint64 `placeholder:"N" help:"Instead: the files of this revision, as a new one."`
	Note     string `help:"What it is for; the gateway shows it."`
	DryRun   bool   `help:"Only say what would change."`
	Agent    string `arg:"" help:"The agent's name."`
}

// configured is what a configuration would change, or has.
type configured struct {
	Agent   string            `json:"agent"`
	Was     revision.Ref      `json:"was"`
	Is      revision.Ref      `json:"is"` // of --dry-run without a number
	Done    bool              `json:"done"`
	Changes []revision.Change `json:"changes"`
}

func (c *configureCmd) Run(ctx context.Context, p *answer.Printer) error {
	if (c.From == "" && !c.Rules) == (c.RevertTo == 0) {
		return &answer.Error{Code: answer.Usage, Message: "say --from with a folder, --rules-from-models, or both; or --revert-to with the number of a revision"}
	}
	cfg, err := hub.LoadConfig(c.Config)
	if err != nil {
		return err
	}
	now := time.Now()
	before, err := hub.Configuration(cfg, c.Agent, 0, now)
	if err != nil {
		return err
	}
	var was revision.Revision
	if before.Desired != nil {
		was = *before.Desired
	}
	files, note, err := c.files(ctx, cfg, was.Files, now, p.Err)
	if err != nil {
		return err
	}
	out := configured{Agent: c.Agent, Was: was.Ref, Is: revision.Ref{Sum: files.Sum()}, Changes: revision.Diff(was.Files, files)}
	text := diffText(out.Changes)
	list := answer.Command("plantmesh", "agents", "configuration", "--config", c.Config, c.Agent)
	switch {
	case len(out.Changes) == 0 && (was.Number > 0 || c.Rules):
		return p.Print(answer.Result{Data: out, Text: fmt.Sprintf("nothing changes: revision %d has the same files\n", was.Number), Next: list})
	case c.DryRun:
		return p.Print(answer.Result{Data: out, Text: text + "nothing is done: --dry-run\n", Next: "the same without --dry-run"})
	}
	if err := hub.Mine(cfg); err != nil {
		return err
	}
	made, err := hub.Configure(cfg, registry.Wanted{Agent: c.Agent, Files: files, Note: cmp.Or(c.Note, note), After: &was.Number}, now)
	if err != nil {
		return err
	}
	out.Is, out.Done = made.Ref, true
	text += fmt.Sprintf("%s\t%s\tthe gateway checks it, tries it, and takes it back by itself if a source does not come up again with it\n", c.Agent, made.Ref)
	return p.Print(answer.Result{Data: out, Text: text, Next: list})
}

// files are those that the agent is to have, and the note of them where none is given.
func (c *configureCmd) files(ctx context.Context, cfg hub.Config, newest revision.Files, now time.Time, say io.Writer) (files revision.Files, note string, err error) {
	if c.RevertTo > 0 {
		old, err := hub.Configuration(cfg, c.Agent, c.RevertTo, now)
		if err != nil {
			return nil, "", err
		}
		return old.Desired.Files, "back to revision " + strconv.FormatUint(c.RevertTo, 10), nil
	}
	if c.From != "" {
		if files, err = hub.ReadConfiguration(c.From); err != nil {
			return nil, "", err
		}
	}
	if c.Rules {
		return c.modelled(ctx, cfg, files, newest, say)
	}
	return files, "", nil
}

// diffText is what changes, file by file.
func diffText(changes []revision.Change) string {
	var b strings.Builder
	for _, ch := range changes {
		fmt.Fprintf(&b, "%s\t%s\n", ch.Name, ch.What)
		for line := range strings.Lines(ch.Text) {
			b.WriteString("\t" + line)
		}
	}
	return b.String()
}

type configurationCmd struct {
	Config   string `required:"" type:"path" help:"hub.yaml"`
	Revision uint64 `placeholder:"N" help:"Show the files of this revision."`
	Agent    string `arg:"" help:"The agent's name."`
}

func (c *configurationCmd) Run(p *answer.Printer) error {
	cfg, err := hub.LoadConfig(c.Config)
	if err != nil {
		return err
	}
	got, err := hub.Configuration(cfg, c.Agent, c.Revision, time.Now())
	if err != nil {
		return err
	}
	r := answer.Result{Data: got, Text: standing(&got)}
	if c.Revision > 0 {
		r.Text += filesText(got.Desired.Files)
	}
	switch got.Status {
	case revision.Reverted, revision.Rejected:
		r.Next = answer.Command("plantmesh", "agents", "configure", "--config", c.Config, "--from") + " DIR " + c.Agent + "   (once what it says is mended)"
	case "":
		r.Next = answer.Command("plantmesh", "agents", "configure", "--config", c.Config, "--from") + " DIR " + c.Agent
	default:
	}
	return p.Print(r)
}

// standing is how an agent's configuration stands.
func standing(c *desk.Configuration) string {
	var b strings.Builder
	if c.Status == "" {
		fmt.Fprintf(&b, "%s\tno revision: it has its own files alone\n", c.Agent)
	} else {
		fmt.Fprintf(&b, "%s\t%s\n", c.Agent, c.Status)
	}
	if r := c.Reported; r != nil {
		fmt.Fprintf(&b, "has\t%s since %s, by its report of %s\n", r.Ref, cmp.Or(stamped(r.Applied), "-"), c.ReportedAt)
		b.WriteString(whyText("", r))
	} else {
		b.WriteString("has\tnobody knows: the agent said nothing since the hub began, or no hub runs here\n")
	}
	for _, r := range c.Revisions {
		fmt.Fprintf(&b, "revision\t%d\t%s\tby %s\t%s\n", r.Number, stamped(r.At), r.By, cmp.Or(r.Note, "-"))
	}
	return b.String()
}

// whyText says why a gateway's configuration is not the one that is wanted.
func whyText(indent string, r *revision.Reported) string {
	var b strings.Builder
	if r.Why != "" {
		fmt.Fprintf(&b, "%swhy\t%s\n", indent, r.Why)
	}
	if len(r.Drift) > 0 {
		fmt.Fprintf(&b, "%sdrift\t%s\n", indent, strings.Join(r.Drift, ", "))
	}
	if h := r.Hold; h != nil {
		fmt.Fprintf(&b, "%sheld\tsince %s until %s: %s\n", indent, stamped(h.Since), cmp.Or(stamped(h.Until), "it is released"), h.Reason)
	}
	return b.String()
}

func stamped(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339)
}

// filesText are files whole.
func filesText(files revision.Files) string {
	var b strings.Builder
	for _, name := range files.Names() {
		b.WriteString("# " + name + "\n" + files[name])
		if !strings.HasSuffix(files[name], "\n") {
			b.WriteString("\n")
		}
	}
	return b.String()
}
