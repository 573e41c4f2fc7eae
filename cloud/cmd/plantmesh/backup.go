package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"time"

	"plantmesh/cloud/hub"
	"plantmesh/proto/answer"
)

type backupCmd struct {
	Config string `required:"" type:"path" help:"hub.yaml; its hub may run meanwhile."`
	To     string `arg:"" type:"path" help:"A folder that is not there yet, or one file if the name ends in .tar. It holds the hub's keys."`
}

func (c *backupCmd) Run(ctx context.Context, p *answer.Printer) error {
	cfg, err := hub.LoadConfig(c.Config)
	if err != nil {
		return err
	}
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	m, err := hub.Backup(ctx, cfg, c.To, log)
	if err != nil {
		return err
	}
	log.Info("the backup holds the hub's secret keys: whoever reads it can be this hub. Its files are readable by this user alone (0600): keep it so where it goes")
	log.Info("hub.yaml and the site file are not in it: keep them with it")
	return p.Print(answer.Result{
		Data: backedUp(c.To, m),
		Text: fmt.Sprintf("%s\t%d files\t%d bytes\tsite %s\n", c.To, len(m.Files), m.Bytes(), m.Site),
		Next: answer.Command("plantmesh", "restore", "--config", c.Config, "--check", c.To) + "   (reads it back and compares every byte)",
	})
}

// backedUp is what --json says of a backup.
func backedUp(path string, m hub.Manifest) map[string]any {
	return map[string]any{
		"path": path, "made": m.Made, "site": m.Site, "hub": m.Hub, "layout": m.Layout, "tip": m.Tip,
		"days": m.Days, "files": len(m.Files), "bytes": m.Bytes(), "faults": append([]string{}, m.Faults...),
	}
}

type restoreCmd struct {
	Config string `required:"" type:"path" help:"hub.yaml of the hub that is restored; it must not run."`
	From   string `arg:"" type:"path" help:"What plantmesh backup made."`
	Force  bool   `help:"Move what is in the data folder aside, into before-restore-TIME in it; nothing is deleted."`
	Check  bool   `help:"Only read the backup and compare every byte with its manifest."`
}

func (c *restoreCmd) Run(ctx context.Context, p *answer.Printer) error {
	cfg, err := hub.LoadConfig(c.Config)
	if err != nil {
		return err
	}
	if c.Check {
		m, err := hub.Verify(c.From)
		if err != nil {
			return err
		}
		return p.Print(answer.Result{
			Data: backedUp(c.From, m),
			Text: fmt.Sprintf("%s is whole: %d files, %d bytes, of %s, site %s\n", c.From, len(m.Files), m.Bytes(), m.Made.Format(time.RFC3339), m.Site),
		})
	}
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	r, err := hub.Restore(ctx, cfg, c.From, c.Force, log)
	if err != nil {
		return err
	}
	log.Info("agents send again by themselves what the backup has not; of what they keep no more they say which signals, when and how much")
	if r.Kept > 0 {
		log.Info("agents enrolled, keys revoked and a signing key made since the backup are kept", "entries", r.Kept)
	}
	if r.Alone {
		log.Warn("nothing was here of this hub: agents' keys revoked since the backup are good again, and so is a signing key that was replaced since. Revoke them again; after a theft of keys say plantmesh agents rotate --revoke-old now. Agents whose tokens are of a newer key ask by themselves, where their edge.yaml has hub.enroll; others are enrolled again")
	}
	data := backedUp(c.From, r.Manifest)
	data["aside"], data["kept"], data["alone"] = r.Aside, r.Kept, r.Alone
	return p.Print(answer.Result{
		Data: data,
		Text: fmt.Sprintf("%s\t%d files\t%d bytes\tof %s\n", cfg.Data, len(r.Files), r.Bytes(), r.Made.Format(time.RFC3339)),
		Next: answer.Command("plantmesh", "serve", "--config", c.Config),
	})
}
