// Command plantmesh-edge is the agent on a gateway.
package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/alecthomas/kong"

	"plantmesh/edge/agent"
	"plantmesh/edge/source"
	"plantmesh/proto/answer"
	"plantmesh/proto/systemd"
)

type cli struct {
	JSON bool `name:"json" help:"The answer as one JSON document on stdout; a command that runs on gives it at its end."`

	Run     runCmd     `cmd:"" help:"Run the agent."`
	Check   checkCmd   `cmd:"" help:"Find out what is wrong with this gateway, and what helps: clock, disk, configuration, token, hub, sources, buffer."`
	Status  statusCmd  `cmd:"" help:"Ask the running agent how it is."`
	Buffer  bufferCmd  `cmd:"" help:"Look at what waits on this gateway's disk, through the running agent."`
	Browse  browseCmd  `cmd:"" help:"Look at what an OPC UA server has: nodes, types, values, units."`
	Source  sourceCmd  `cmd:"" help:"Try a source file before the agent reads it; bring back a source that was set aside."`
	Cert    certCmd    `cmd:"" help:"The certificates of OPC UA: this gateway's, and the servers it trusts."`
	Enroll  enrollCmd  `cmd:"" help:"Have this gateway let in by a hub."`
	Keygen  keygenCmd  `cmd:"" help:"Make this gateway's key; prints the public half to enrol with."`
	Log     logCmd     `cmd:"" help:"What the running agent says."`
	Bundle  bundleCmd  `cmd:"" name:"support-bundle" help:"Gather in a file what somebody who helps needs: no values, no keys, no passwords. Sends nothing."`
	Dump    dumpCmd    `cmd:"" help:"Print what a file of records holds, a line of JSON for each sample."`
	Version versionCmd `cmd:"" help:"Say which build this is."`
	Worker  workerCmd  `cmd:"" hidden:"" help:"One source's process; the agent starts it."`
}

func logger(level slog.Leveler) *slog.Logger {
	return slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: level}))
}

type runCmd struct {
	Config  string `required:"" type:"path" help:"edge.yaml"`
	Verbose bool   `short:"v" help:"More narration."`
}

func (c *runCmd) Run(ctx context.Context) error {
	cfg, err := agent.LoadConfig(c.Config)
	if err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("where is this program? %w", err)
	}
	level := slog.LevelInfo
	if c.Verbose {
		level = slog.LevelDebug
	}
	cfg.Verbosity = agent.NewVerbosity(level)
	log := logger(cfg.Verbosity)
	if _, err := cfg.CheckToken(time.Now()); err != nil { // trouble with the hub never ends collecting
		log.Warn("the hub will not take this agent's token: collecting goes on", "err", err)
	}
	cfg.Manager = systemd.Of(os.Getenv, os.Getpid())
	return agent.Run(ctx, cfg, self, log)
}

type statusCmd struct {
	Config string `required:"" type:"path" help:"edge.yaml"`
}

func (c *statusCmd) Run(ctx context.Context, p *answer.Printer) error {
	cfg, err := agent.OpenConfig(c.Config, agent.Data)
	if err != nil {
		return err
	}
	s, err := agent.Status(ctx, cfg)
	if err != nil {
		return err
	}
	var text strings.Builder
	if err := s.Print(&text); err != nil {
		return err
	}
	r := answer.Result{Data: s, Text: text.String()}
	if !s.Hub.Connected {
		r.Next = answer.Command("plantmesh-edge", "check", "--config", c.Config)
	}
	return p.Print(r)
}

type keygenCmd struct {
	Path string `arg:"" type:"path" help:"Where the key is kept; it never leaves this gateway."`
}

func (c *keygenCmd) Run(p *answer.Printer) error {
	public, err := agent.Keygen(c.Path)
	if err != nil {
		return err
	}
	return p.Print(answer.Result{
		Data: map[string]string{"public_key": public, "path": c.Path},
		Text: public + "\n",
		Next: "plantmesh agents enroll --config hub.yaml --site SITE AGENT " + public + " > agent.jwt   (where the hub is)",
	})
}

type versionCmd struct{}

func (versionCmd) Run(p *answer.Printer) error {
	return p.Print(answer.Build().Result(p.Program))
}

type workerCmd struct{}

func (*workerCmd) Run(ctx context.Context) error {
	log := logger(slog.LevelInfo)
	if err := source.Confine(); err != nil {
		log.Warn("this worker's memory has no bound but the collector's", "err", err)
	}
	return agent.Work(ctx, os.Stdin, os.Stdout, log)
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:])
	stop()
	os.Exit(code)
}

func run(ctx context.Context, args []string) int {
	var c cli
	p := &answer.Printer{Program: "plantmesh-edge", JSON: slices.Contains(args, "--json"), Out: os.Stdout, Err: os.Stderr}
	parser, err := kong.New(&c, kong.Name(p.Program), kong.Description("Reads machines, keeps every sample until the hub has it."),
		kong.BindTo(ctx, (*context.Context)(nil)), kong.Bind(p))
	if err != nil {
		return p.Fail(fmt.Errorf("set up the command line: %w", err), nil)
	}
	k, err := parser.Parse(args)
	if err == nil {
		p.Command = k.Selected().Path()
		err = k.Run()
	}
	if err == nil || errors.Is(err, context.Canceled) {
		err = p.Done()
	}
	if err == nil {
		return 0
	}
	if state, ok := errors.AsType[plugin](err); ok {
		return int(state)
	}
	if _, misused := errors.AsType[*kong.ParseError](err); misused {
		err = answer.Misused(err, p.Program)
	}
	return p.Fail(err, c.rules())
}

// asked is the configuration of the command that asks a running agent.
func (c *cli) asked() string {
	return cmp.Or(c.Status.Config, c.Buffer.Status.Config, c.Buffer.Verify.Config, c.Buffer.Export.Config, c.Buffer.Compact.Config, c.Source.Resume.Config, c.Log.Debug.Config)
}

// rules are the agent's errors by their slugs.
func (c *cli) rules() []answer.Rule {
	return []answer.Rule{
		{Is: agent.ErrNotRunning, Code: answer.NotRunning, Fix: answer.Command("plantmesh-edge", "run", "--config", c.asked())},
		{Is: agent.ErrLocked, Code: answer.Locked},
		{Is: agent.ErrNetwork, Code: answer.Network},
		{Is: agent.ErrTaken, Code: answer.InUse, Fix: answer.Command("plantmesh-edge", "status", "--config", c.Source.Test.Config)},
		{Is: agent.ErrListen, Code: answer.Listen},
		{Is: agent.ErrNoSource, Code: answer.Usage},
		{Is: errDamaged, Code: answer.Damaged},
		{Is: errExists, Code: answer.FileExists},
	}
}
