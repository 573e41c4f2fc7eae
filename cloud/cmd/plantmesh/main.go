// Command plantmesh is the hub, and the operator's and consumer's tool.
package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"
	_ "time/tzdata" // sites keep their zone on machines without a zone database

	"plantmesh/cloud/hub"
	"plantmesh/deploy/demo"
	"plantmesh/proto/answer"
	"plantmesh/proto/systemd"
)

type cli struct {
	JSON bool `name:"json" help:"The answer as one JSON document on stdout; a command that runs on gives it at its end."`

	Serve     serveCmd     `cmd:"" help:"Run the hub."`
	Check     checkCmd     `cmd:"" help:"Read the configuration and the site file, and say what is wrong with them."`
	Demo      demoCmd      `cmd:"" help:"Run a simulated plant, an agent and a hub on this machine and open the page."`
	Agents    agentsCmd    `cmd:"" help:"Enrol, revoke and list agents."`
	Machines  machinesCmd  `cmd:"" help:"Register machines, and see what they are made of and what lacks."`
	Models    modelsCmd    `cmd:"" help:"What machines of one make have in common."`
	Calendars calendarsCmd `cmd:"" help:"Shifts, breaks, holidays and when days begin: of the site, of lines, of machines."`
	Readers   readersCmd   `cmd:"" help:"Programs that read products over NATS, and nothing else."`
	Users     usersCmd     `cmd:"" help:"Who may do what at this hub."`
	Tokens    tokensCmd    `cmd:"" help:"Tokens of programs that read from this hub."`
	Authority authorityCmd `cmd:"" help:"Print the certificate of the hub's own authority, for who is to trust its HTTPS."`
	Audit     auditCmd     `cmd:"" help:"Who has changed what."`
	Export    exportCmd    `cmd:"" help:"Write the samples of whole days as Parquet files."`
	Backup    backupCmd    `cmd:"" help:"Copy all that a hub keeps, while it runs or not."`
	Restore   restoreCmd   `cmd:"" help:"Put a backup into the data folder of a hub that doesn't run."`
	Version   versionCmd   `cmd:"" help:"Say which build this is."`
}

type serveCmd struct {
	Config  string `required:"" type:"path" help:"hub.yaml"`
	Verbose bool   `short:"v" help:"More narration."`
}

func (c *serveCmd) Run(ctx context.Context) error {
	cfg, err := hub.LoadConfig(c.Config)
	if err != nil {
		return err
	}
	cfg.Manager = systemd.Of(os.Getenv, os.Getpid())
	level := slog.LevelInfo
	if c.Verbose {
		level = slog.LevelDebug
	}
	return hub.Run(ctx, cfg, slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: level})))
}

type checkCmd struct {
	Config string `required:"" type:"path" help:"hub.yaml"`
}

func (c *checkCmd) Run(p *answer.Printer) error {
	cfg, err := hub.LoadConfig(c.Config)
	if err != nil {
		return err
	}
	if err := hub.MayListen(cfg); err != nil {
		return err
	}
	return p.Print(answer.Result{
		Data: map[string]any{"config": c.Config, "site_file": cfg.SiteFile, "data": cfg.Data},
		Text: fmt.Sprintf("%s: ok, with %s\n", c.Config, cfg.SiteFile),
		Next: answer.Command("plantmesh", "serve", "--config", c.Config),
	})
}

type demoCmd struct {
	Seed    uint64        `default:"1" help:"The same seed and start give the same plant."`
	Start   string        `placeholder:"RFC3339" help:"When the plant's history begins; default: counted back from now."`
	History time.Duration `default:"48h" help:"Plant time that is history when the demo begins; 24h to 48h."`
	Speed   float64       `default:"1" help:"Plant seconds in a second."`
	For     time.Duration `placeholder:"2h" help:"Plant time after the history; default: until Ctrl-C."`
	Fault   []string      `placeholder:"NAME" help:"Faults: kill-agent, kill-worker, kill-hub, restore-hub, outage, skew, late."`
	Assert  bool          `help:"At the end compare every product with the plant's truth and exit 7 if they differ."`
	Listen  string        `default:"127.0.0.1:8080" help:"The page's address."`
	Dir     string        `type:"path" help:"Keep all files in this empty folder; default: a folder that is removed at the end."`
}

func (c *demoCmd) Run(ctx context.Context, p *answer.Printer) error {
	o := demo.Options{Seed: c.Seed, History: c.History, Speed: c.Speed, For: c.For, Faults: c.Fault, Assert: c.Assert, Listen: c.Listen, Dir: c.Dir}
	if c.Start != "" {
		var err error
		if o.Start, err = time.Parse(time.RFC3339, c.Start); err != nil {
			return fmt.Errorf("%w: --start %q is no time such as 2026-03-01T04:00:00Z", demo.ErrUsage, c.Start)
		}
	}
	out := os.Stdout
	if p.JSON { // its lines are narration then
		out = os.Stderr
	}
	outcome, err := demo.Run(ctx, o, out, os.Stderr)
	if err != nil || !p.JSON {
		return err
	}
	return p.Print(answer.Result{Data: outcome})
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	code := run(ctx, os.Args[1:])
	stop()
	os.Exit(code)
}
