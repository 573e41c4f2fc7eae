package main

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"plantmesh/cloud/audit"
	"plantmesh/cloud/hub"
	"plantmesh/proto/answer"
)

type auditCmd struct {
	List     auditListCmd     `cmd:"" help:"List the newest changes: who did what to what, and when."`
	Verify   auditVerifyCmd   `cmd:"" help:"Read the whole trail and see that nothing in it was changed or left out."`
	Export   auditExportCmd   `cmd:"" help:"Write the trail into one file, an entry a line, as it was recorded."`
	SetAside auditSetAsideCmd `cmd:"" help:"Have a trail that is broken go on: what is damaged is kept beside, and an entry says so."`
}

type auditListCmd struct {
	Config string `required:"" type:"path" help:"hub.yaml; its hub may run meanwhile."`
	Last   int    `default:"50" help:"How many at most, the newest first."`
	From   string `placeholder:"2026-03-01" help:"From this UTC day on."`
	To     string `placeholder:"2026-03-31" help:"Through this UTC day."`
	Who    string `help:"Only those of one user, or key."`
	Action string `placeholder:"agent.approve" help:"Only these; with a dot at its end, as agent., all that begin so."`
	Object string `placeholder:"graz/gw-1" help:"Only those of one object; with a slash at its end, as graz/, all that begin so."`
}

// mostListed bounds what is kept in memory.
const mostListed = 10_000

func (c *auditListCmd) Run(ctx context.Context, p *answer.Printer) error {
	cfg, err := hub.LoadConfig(c.Config)
	if err != nil {
		return err
	}
	if c.Last < 1 || c.Last > mostListed {
		return fmt.Errorf("%w: --last lies between 1 and %d", hub.ErrUsage, mostListed)
	}
	f := audit.Filter{Who: c.Who, Action: c.Action, Object: c.Object}
	if c.From != "" {
		if f.From, err = day("--from", c.From); err != nil {
			return err
		}
	}
	if c.To != "" {
		if f.To, err = day("--to", c.To); err != nil {
			return err
		}
		f.To = f.To.AddDate(0, 0, 1)
	}
	entries, broken := audit.Newest(ctx, hub.TrailFolder(cfg), f, c.Last)
	if broken != nil && !errors.Is(broken, audit.ErrBroken) {
		return broken
	}
	out := answer.Result{Data: map[string]any{"entries": entries}, Text: entriesText(entries)}
	if broken == nil {
		return p.Print(out)
	}
	if !p.JSON {
		if err := p.Print(out); err != nil {
			return err
		}
	}
	return &answer.Error{
		Code: answer.AuditBroken, Message: fmt.Sprintf("these are all entries behind the break: %v", broken), Data: out.Data,
		Hint: "compare with a backup or an export that somebody kept", Fix: setAside(c.Config, ""),
	}
}

// entriesText are entries, a line each.
func entriesText(entries []audit.Entry) string {
	var text strings.Builder
	for i := range entries {
		e := &entries[i]
		fmt.Fprintf(&text, "%d\t%s\t%s\t%s\t%s\t%s", e.N, e.At.Format(time.RFC3339), e.Who, e.Via, e.Action, e.Object)
		if e.Before != "" || e.After != "" {
			fmt.Fprintf(&text, "\t%s -> %s", cmp.Or(e.Before, "-"), cmp.Or(e.After, "-"))
		}
		if e.Reason != "" {
			fmt.Fprintf(&text, "\t%q", e.Reason)
		}
		text.WriteString("\n")
	}
	return text.String()
}

type auditVerifyCmd struct {
	Config string `required:"" type:"path" help:"hub.yaml; its hub may run meanwhile."`
	Since  string `placeholder:"N:HASH" help:"A seal that was kept elsewhere, from the hub's log, /readyz?verbose or this command: its entry must be there, too."`
}

func (c *auditVerifyCmd) Run(ctx context.Context, p *answer.Printer) error {
	cfg, err := hub.LoadConfig(c.Config)
	if err != nil {
		return err
	}
	since, err := sealOf(c.Since)
	if err != nil {
		return err
	}
	r, err := audit.Verify(ctx, hub.TrailFolder(cfg), since)
	data := map[string]any{"verified_to": r.Seal.N, "seal": r.Seal.String(), "files": r.Files, "bytes": r.Bytes, "torn_bytes": r.Torn}
	if b, broken := errors.AsType[*audit.BreakError](err); broken {
		data["break"] = map[string]any{"file": b.File, "line": b.Line, "n": b.N, "what": b.What}
		return &answer.Error{
			Code: answer.AuditBroken, Message: fmt.Sprintf("verified to %d; then %v", r.Seal.N, err), Data: data,
			Hint: "compare with a backup or an export that somebody kept; until the trail is set aside no command changes anything, nor does a hub from its next start on",
			Fix:  setAside(c.Config, c.Since),
		}
	}
	if err != nil {
		return err
	}
	text := fmt.Sprintf("verified to %d\t%d files\t%d bytes\t%s\n", r.Seal.N, r.Files, r.Bytes, r.Seal)
	if r.Torn > 0 {
		text += fmt.Sprintf("the last line is half, %d bytes: the next change cuts it off, and says so\n", r.Torn)
	}
	return p.Print(answer.Result{
		Data: data, Text: text,
		Next: answer.Command("plantmesh", "audit", "verify", "--config", c.Config, "--since", r.Seal.String()) + "   (later: keep this seal elsewhere)",
	})
}

// sealOf is a seal that was kept; nil: none.
func sealOf(text string) (since *audit.Seal, err error) {
	if text != "" {
		since = new(audit.Seal)
		if *since, err = audit.ParseSeal(text); err != nil {
			return nil, fmt.Errorf("%w: --since %w", hub.ErrUsage, err)
		}
	}
	return since, nil
}

// setAside is the command that has a broken trail go on.
func setAside(config, since string) string {
	words := []string{"plantmesh", "audit", "set-aside", "--config", config}
	if since != "" {
		words = append(words, "--since", since)
	}
	return answer.Command(append(words, "--reason")...) + " TEXT"
}

type auditSetAsideCmd struct {
	Config string `required:"" type:"path" help:"hub.yaml; its hub may run meanwhile."`
	Since  string `placeholder:"N:HASH" help:"A seal that was kept elsewhere, as the hub's log has it: where its entry is gone with the end of the trail, which nothing else shows."`
	Reason string `required:"" help:"What happened to it, as far as anybody knows; the trail keeps it."`
}

func (c *auditSetAsideCmd) Run(ctx context.Context, p *answer.Printer) error {
	cfg, err := mine(c.Config)
	if err != nil {
		return err
	}
	since, err := sealOf(c.Since)
	if err != nil {
		return err
	}
	a, err := hub.SetTrailAside(ctx, cfg, c.Reason, since)
	if err != nil {
		return err
	}
	at := filepath.Join(hub.TrailFolder(cfg), a.Folder)
	return p.Print(answer.Result{
		Data: map[string]any{
			"folder": at, "files": a.Files, "good": a.Good.String(), "seal": a.Seal.String(),
			"break": map[string]any{"file": a.Break.File, "line": a.Break.Line, "n": a.Break.N, "what": a.Break.What},
		},
		Text: fmt.Sprintf("set aside\t%s\t%d files\t%v\nstays\tto %s\ngoes on\twith %s\n", at, a.Files, a.Break, a.Good, a.Seal),
		Next: answer.Command("plantmesh", "audit", "verify", "--config", c.Config),
	})
}

type auditExportCmd struct {
	Config string `required:"" type:"path" help:"hub.yaml; its hub may run meanwhile."`
	Out    string `arg:"" type:"path" help:"A file that is not there yet."`
}

func (c *auditExportCmd) Run(ctx context.Context, p *answer.Printer) (err error) {
	cfg, err := hub.LoadConfig(c.Config)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(c.Out, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	switch {
	case errors.Is(err, fs.ErrExist):
		return &answer.Error{Code: answer.FileExists, Message: c.Out + " is there already", Hint: "name a file that is not"}
	case err != nil:
		return fmt.Errorf("%w: %w", hub.ErrUsage, err)
	}
	w := bufio.NewWriter(f)
	n, err := audit.Export(ctx, hub.TrailFolder(cfg), w)
	if err = errors.Join(err, w.Flush(), f.Sync(), f.Close()); err != nil {
		return errors.Join(err, os.Remove(c.Out))
	}
	return p.Print(answer.Result{
		Data: map[string]any{"file": c.Out, "entries": n}, Text: fmt.Sprintf("%s\t%d entries\n", c.Out, n),
	})
}
