package main

import (
	"context"
	"fmt"
	"time"

	"plantmesh/edge/agent"
	"plantmesh/edge/status"
	"plantmesh/proto/answer"
)

// logCmd is about what the running agent says.
type logCmd struct {
	Debug logDebugCmd `cmd:"" help:"Have the running agent say everything for a while; it falls back by itself."`
}

type logDebugCmd struct {
	Config string        `required:"" type:"path" short:"c" help:"edge.yaml"`
	For    time.Duration `default:"10m" help:"For how long, at most 2h; 0s: no longer."`
}

func (c *logDebugCmd) Run(ctx context.Context, p *answer.Printer) error {
	if c.For < 0 || c.For > status.MaxDebug {
		return &answer.Error{Code: answer.Usage, Message: fmt.Sprintf("--for must lie between 0s and %s", status.MaxDebug)}
	}
	cfg, err := agent.OpenConfig(c.Config, agent.Data)
	if err != nil {
		return err
	}
	t, err := agent.Debug(ctx, cfg, c.For)
	if err != nil {
		return err
	}
	text, next := "the agent says what it always says\n", ""
	if t.DebugUntil != "" {
		text, next = "the agent says everything until "+t.DebugUntil+"\n", "journalctl -u plantmesh-edge -f"
	}
	return p.Print(answer.Result{Data: t, Text: text, Next: next})
}
