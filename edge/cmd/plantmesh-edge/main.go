// Command plantmesh-edge is the agent on a gateway.
package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
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
	"plantmesh/edge/status"
	"plantmesh/proto/answer"
	"plantmesh/proto/systemd"
)

type cli struct {
	globals

	Init       initCmd       `cmd:"" help:"Write an edge.yaml with comments, and the folders beside it."`
	Run        runCmd        `cmd:"" help:"Run the agent."`
	Check      checkCmd      `cmd:"" help:"Find out what is wrong with this gateway, and what helps: clock, disk, configuration, token, hub, sources, buffer."`
	Status     statusCmd     `cmd:"" help:"Ask the running agent how it is; ends with 7 where something was lost within 24 hours, or needs somebody."`
	Tap        tapCmd        `cmd:"" help:"Listen to what the running agent stores: a line for each sample, before it is sent."`
	Buffer     bufferCmd     `cmd:"" help:"Look at what waits on this gateway's disk, through the running agent."`
	Replay     replayCmd     `cmd:"" help:"Send a window again that was delivered: as far as it is still here, and without doubling anything."`
	Quarantine quarantineCmd `cmd:"" help:"What was set aside on this gateway, and what rules found."`
	Browse     browseCmd     `cmd:"" help:"Look at what an OPC UA server has: nodes, types, values, units. What a broker says shows source test mqtt://host:1883 --topic."`
	Source     sourceCmd     `cmd:"" help:"Try a source file before the agent reads it; bring back a source that was set aside."`
	Rules      rulesCmd      `cmd:"" help:"The quality rules: which there are, which look at a signal, and whether they find what their tests say."`
	Cert       certCmd       `cmd:"" help:"The certificates of OPC UA: this gateway's, and the servers it trusts."`
	Enroll     enrollCmd     `cmd:"" help:"Have this gateway let in by a hub."`
	Keygen     keygenCmd     `cmd:"" help:"Make this gateway's key; prints the public half to enrol with."`
	UI         uiCmd         `cmd:"" name:"ui" help:"Print a link that lets one browser look at this gateway, once."`
	Conf       configCmd     `cmd:"" name:"config" help:"The configuration: its files, what the hub wants of it, and the way back."`
	Hold       holdCmd       `cmd:"" help:"Have no configuration of the hub come into force for a while."`
	Release    releaseCmd    `cmd:"" help:"End a hold."`
	Log        logCmd        `cmd:"" help:"What the running agent says."`
	Bundle     bundleCmd     `cmd:"" name:"support-bundle" help:"Gather in a file what somebody who helps needs: no values, no keys, no passwords. Sends nothing."`
	Dump       dumpCmd       `cmd:"" help:"Print what a file of records holds, a line of JSON for each sample."`
	Cheat      cheatCmd      `cmd:"" help:"The commands for a day at a gateway, on one page."`
	Completion completionCmd `cmd:"" help:"Print what has a shell complete these commands."`
	Version    versionCmd    `cmd:"" help:"Say which build this is."`
	Worker     workerCmd     `cmd:"" hidden:"" help:"One source's process; the agent starts it."`

	config string // what --config is, of a command that has it
}

func logger(level slog.Leveler) *slog.Logger {
	return slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: level}))
}

type runCmd struct {
	Config string `required:"" type:"path" short:"c" help:"edge.yaml"`
}

func (c *runCmd) Run(ctx context.Context, p *answer.Printer) error {
	level := slog.LevelInfo
	switch {
	case p.Verbose:
		level = slog.LevelDebug
	case p.Quiet:
		level = slog.LevelWarn
	}
	verbosity := agent.NewVerbosity(level)
	log := logger(verbosity)
	cfg, err := agent.Boot(c.Config, log)
	if err != nil {
		return err
	}
	cfg.Verbosity = verbosity
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("where is this program? %w", err)
	}
	if _, err := cfg.CheckToken(time.Now()); err != nil { // trouble with the hub never ends collecting
		log.Warn("the hub will not take this agent's token: collecting goes on", "err", err)
	}
	cfg.Manager = systemd.Of(os.Getenv, os.Getpid())
	return agent.Run(ctx, cfg, self, log)
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
		kong.Bind(p, &c.globals), kong.Resolvers(configured(packaged)))
	if err != nil {
		return p.Fail(fmt.Errorf("set up the command line: %w", err), nil)
	}
	k, err := parser.Parse(args)
	if err == nil {
		p.Command, p.Quiet, p.Verbose = k.Selected().Path(), c.Quiet, c.Verbose
		c.config = configOf(k)
		err = c.handOver(p.Command, c.call(ctx, k, p))
	}
	if err != nil && ctx.Err() != nil && !runsOn(p.Command) { // whatever it says: a call that was broken off looks like a server that hangs
		err = &answer.Error{Code: answer.Interrupted, Message: "it was ended before it was done", Hint: "say the same command again"}
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
		err = mistyped(err, args)
	}
	return p.Fail(err, c.rules())
}

// call runs the command that was said.
func (c *cli) call(ctx context.Context, k *kong.Context, p *answer.Printer) error {
	within, cancel, err := c.bounds(ctx, k.Selected().Path())
	if err != nil {
		return err
	}
	defer cancel()
	k.BindTo(within, (*context.Context)(nil))
	steps(p).Debug("configuration", "file", c.config)
	return c.late(within, ended(within, k.Selected().Path(), k.Run))
}

// handOver gives the service's user what root has made, however the command ended.
func (c *cli) handOver(command string, ended error) error {
	writes := slices.ContainsFunc([]string{"browse", "cert", "source test", "source add"}, func(w string) bool { return strings.HasPrefix(command+" ", w+" ") })
	if c.config == "" || !writes {
		return ended
	}
	if err := agent.HandOver(c.config); err != nil {
		return errors.Join(ended, err)
	}
	return ended
}

// rules are the agent's errors by their slugs.
func (c *cli) rules() []answer.Rule {
	return []answer.Rule{
		{Is: agent.ErrNotAllowed, Code: answer.NotAllowed, Fix: theService},
		{Is: agent.ErrNotRunning, Code: answer.NotRunning, Fix: answer.Command("plantmesh-edge", "run", "--config", c.config)},
		{Is: status.ErrEnded, Code: answer.NotRunning, Fix: answer.Command("plantmesh-edge", "status", "--config", c.config)},
		{Is: agent.ErrLocked, Code: answer.Locked},
		{Is: agent.ErrNetwork, Code: answer.Network},
		{Is: agent.ErrTaken, Code: answer.InUse, Fix: answer.Command("plantmesh-edge", "status", "--config", c.config)},
		{Is: agent.ErrListen, Code: answer.Listen},
		{Is: agent.ErrNoSource, Code: answer.Usage},
		{Is: agent.ErrNoRule, Code: answer.Usage},
		{Is: agent.ErrNoExport, Code: answer.Damaged},
		{Is: agent.ErrPageOff, Code: answer.PageOff},
		{Is: agent.ErrNotAside, Code: answer.Usage},
		{Is: agent.ErrNotReleased, Code: answer.NotReleased},
		{Is: status.ErrRefused, Code: answer.Configure},
		{Is: status.ErrOlder, Code: answer.NotRunning, Fix: "sudo systemctl restart plantmesh-edge"},
		{Is: agent.ErrOfRevision, Code: answer.Configure},
		{Is: errDamaged, Code: answer.Damaged},
		{Is: errExists, Code: answer.FileExists},
		{Is: agent.ErrConfigThere, Code: answer.FileExists},
		{Is: agent.ErrSourceThere, Code: answer.FileExists},
		{Is: fs.ErrPermission, Code: answer.Data, Fix: theService},
		{Is: syscall.ENOSPC, Code: answer.Data},
	}
}

// theService is what helps whose rights don't reach.
const theService = "sudo -u plantmesh-edge plantmesh-edge ...   (the same command, as the user of the service)"
