// Command firmware-sim is the devices of a plant that never was: it serves
// them over OPC UA and MQTT, keeps the ledger of what they promised, and says
// what every product must show.
package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"slices"
	"syscall"
	_ "time/tzdata" // a machine may have no zone files

	"github.com/alecthomas/kong"

	"plantmesh/proto/answer"
)

type cli struct {
	JSON bool `name:"json" help:"The answer as one JSON document on stdout: of run the last line, behind its events."`

	Run     runCmd     `cmd:"" help:"Serve the devices. Events on stdout, one JSON document a line; narration on stderr."`
	Truth   truthCmd   `cmd:"" help:"Write the rows every product must have, one JSON document a line."`
	Version versionCmd `cmd:"" help:"Say which build this is."`
}

type runCmd struct {
	Config  string `required:"" type:"path" help:"sim.yaml"`
	Verbose bool   `short:"v" help:"More narration."`
}

func (c *runCmd) Run(ctx context.Context) error {
	cfg, err := loadConfig(c.Config)
	if err != nil {
		return err
	}
	level := slog.LevelInfo
	if c.Verbose {
		level = slog.LevelDebug
	}
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: level}))
	slog.SetLogLoggerLevel(slog.LevelDebug) // libraries chat on the standard logger
	slog.SetDefault(log)
	return serve(ctx, cfg, newEvents(os.Stdout), log)
}

type versionCmd struct{}

func (versionCmd) Run(p *answer.Printer) error {
	return p.Print(answer.Build().Result(p.Program))
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:])
	stop()
	os.Exit(code)
}

func run(ctx context.Context, args []string) int {
	var c cli
	p := &answer.Printer{Program: "firmware-sim", JSON: slices.Contains(args, "--json"), Out: os.Stdout, Err: os.Stderr}
	parser, err := kong.New(&c, kong.Name(p.Program), kong.Description("The devices of a plant that never was."),
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
	if _, misused := errors.AsType[*kong.ParseError](err); misused {
		err = answer.Misused(err, p.Program)
	}
	return p.Fail(err, rules())
}

// rules are the simulator's errors by their slugs.
func rules() []answer.Rule {
	return []answer.Rule{{Is: errInUse, Code: answer.InUse}, {Is: errNetwork, Code: answer.Network}}
}
