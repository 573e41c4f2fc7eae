package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"syscall"

	"github.com/alecthomas/kong"

	"plantmesh/cloud/access"
	"plantmesh/cloud/audit"
	"plantmesh/cloud/hub"
	"plantmesh/cloud/registry"
	"plantmesh/deploy/demo"
	"plantmesh/proto/answer"
)

type versionCmd struct{}

func (versionCmd) Run(p *answer.Printer) error {
	return p.Print(answer.Build().Result(p.Program))
}

func run(ctx context.Context, args []string) int {
	var c cli
	p := &answer.Printer{Program: "plantmesh", JSON: slices.Contains(args, "--json"), Out: os.Stdout, Err: os.Stderr}
	parser, err := kong.New(&c, kong.Name(p.Program), kong.Description("Machine data from the plant floor to data products people trust."),
		kong.BindTo(ctx, (*context.Context)(nil)), kong.Bind(p))
	if err != nil {
		return p.Fail(fmt.Errorf("set up the command line: %w", err), nil)
	}
	k, err := parser.Parse(args)
	if err == nil {
		p.Command = k.Selected().Path()
		err = k.Run()
	}
	if first, _, _ := strings.Cut(strings.TrimSpace(p.Command), " "); err != nil && ctx.Err() != nil && first != "serve" && first != "demo" { // those run until somebody ends them
		err = &answer.Error{Code: answer.Interrupted, Message: "it was ended before it was done", Hint: "say the same command again"}
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

// rules are the hub's and the demo's errors by their slugs.
func rules() []answer.Rule {
	return []answer.Rule{
		{Is: demo.ErrUsage, Code: answer.Usage},
		{Is: hub.ErrUsage, Code: answer.Usage},
		{Is: demo.ErrFindings, Code: answer.DemoMismatch},
		{Is: syscall.EADDRINUSE, Code: answer.InUse},
		{Is: hub.ErrListen, Code: answer.Listen},
		{Is: audit.ErrBroken, Code: answer.AuditBroken, Fix: setAside("hub.yaml", "") + "   (plantmesh audit verify says where it is broken)"},
		{Is: hub.ErrDamaged, Code: answer.Damaged},
		{Is: hub.ErrData, Code: answer.Data},
		{Is: registry.ErrSealed, Code: answer.Data},
		{Is: registry.ErrGone, Code: answer.Data},
		{Is: demo.ErrInUse, Code: answer.InUse},
		{Is: hub.ErrIdentity, Code: answer.Rejected},
		{Is: hub.ErrConfigure, Code: answer.Configure},
		{Is: hub.ErrNoUsers, Code: answer.NoUsers},
		{Is: access.ErrRefused, Code: answer.AccessRefused},
		{Is: fs.ErrPermission, Code: answer.Data, Fix: "sudo -u plantmesh plantmesh ...   (the same command, as the user of the service)"},
		{Is: syscall.ENOSPC, Code: answer.Data},
	}
}
