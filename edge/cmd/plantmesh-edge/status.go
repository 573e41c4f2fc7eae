package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"plantmesh/edge/agent"
	"plantmesh/edge/status"
	"plantmesh/proto/answer"
)

type statusCmd struct {
	Config string        `required:"" type:"path" short:"c" help:"edge.yaml"`
	Watch  bool          `short:"w" help:"Go on and say it again, until Ctrl-C or --for; it then ends with 0, whatever it saw."`
	Every  time.Duration `default:"2s" help:"How often --watch asks."`
	For    time.Duration `help:"How long --watch goes on."`
}

func (c *statusCmd) Run(ctx context.Context, p *answer.Printer) error {
	if c.Every < 100*time.Millisecond {
		return &answer.Error{Code: answer.Usage, Message: "--every must be at least 100ms"}
	}
	if !c.Watch && c.For > 0 {
		return &answer.Error{Code: answer.Usage, Message: "--for is how long --watch goes on: say that too"}
	}
	cfg, err := agent.OpenConfig(c.Config, agent.Data)
	if err != nil {
		return err
	}
	s, err := agent.Status(ctx, cfg)
	if errors.Is(err, agent.ErrNotRunning) {
		return &answer.Error{
			Code: answer.NotRunning, Message: strings.ReplaceAll(err.Error(), "\n", "; "), Hint: cfg.LastKnown(),
			Fix: answer.Command("plantmesh-edge", "run", "--config", c.Config),
		}
	}
	if err != nil {
		return err
	}
	if c.Watch {
		if s, err = c.watch(ctx, p, cfg, s); err != nil || !p.JSON {
			return err
		}
	}
	var text strings.Builder
	if err := s.Print(&text); err != nil {
		return err
	}
	if len(s.Findings) > 0 && !c.Watch {
		return found(p, &s, text.String())
	}
	r := answer.Result{Data: s, Text: text.String()}
	if !s.Hub.Connected {
		r.Next = answer.Command("plantmesh-edge", "check", "--config", c.Config)
	}
	return p.Print(r)
}

// found prints the status, and ends with what was lost, or else with what needs somebody.
func found(p *answer.Printer, s *status.Snapshot, text string) error {
	if !p.JSON {
		if _, err := io.WriteString(p.Out, text); err != nil {
			return fmt.Errorf("write the result: %w", err)
		}
	}
	first := s.Findings[0]
	what := []string{first.What}
	for _, f := range s.Findings[1:] {
		what = append(what, f.What)
	}
	message := "it needs somebody: "
	if first.Code == answer.DataLost {
		message = "lost: "
	}
	return &answer.Error{Code: first.Code, Message: message + strings.Join(what, "; "), Fix: first.Fix, Data: s}
}

// watch says how the agent is again and again, and gives what it said last. An agent that
// answers no more may be on its way back: that is told, and it is asked again.
func (c *statusCmd) watch(ctx context.Context, p *answer.Printer, cfg agent.Config, s status.Snapshot) (status.Snapshot, error) {
	if c.For > 0 {
		var done context.CancelFunc
		ctx, done = context.WithTimeout(ctx, c.For)
		defer done()
	}
	tick := time.NewTicker(c.Every)
	defer tick.Stop()
	out := p.Out
	if p.JSON {
		out = io.Discard
	}
	for {
		if _, err := fmt.Fprintf(out, "%s\n", time.Now().Format(time.TimeOnly)); err != nil {
			return s, fmt.Errorf("write the result: %w", err)
		}
		if err := s.Print(out); err != nil {
			return s, err
		}
		var now status.Snapshot
		for answered := false; !answered; {
			select {
			case <-ctx.Done():
				return s, nil
			case <-tick.C:
			}
			var err error
			if now, err = agent.Status(ctx, cfg); err == nil {
				s, answered = now, true
			} else if ctx.Err() == nil {
				notes(p.Narration(), []string{err.Error()})
			}
		}
	}
}
