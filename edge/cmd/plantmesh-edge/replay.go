package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"plantmesh/edge/agent"
	"plantmesh/edge/status"
	"plantmesh/proto/answer"
)

// replayCmd sends a window again that was delivered.
type replayCmd struct {
	windowFlags

	Config string `required:"" type:"path" short:"c" help:"edge.yaml"`
	Source string `help:"Of this source alone."`
	Rate   string `help:"How many samples a second go at most, on the average, as 500/s; without it as many as the hub takes."`
	DryRun bool   `help:"Only say what would be sent."`
}

// maxRate bounds --rate; more than that no hub takes.
const maxRate = 1_000_000

// rate is --rate as a number; 0: none was said.
func (c *replayCmd) rate() (int, error) {
	if c.Rate == "" {
		return 0, nil
	}
	n, err := strconv.Atoi(strings.TrimSuffix(c.Rate, "/s"))
	if err != nil || n < 1 || n > maxRate {
		return 0, &answer.Error{Code: answer.Usage, Message: fmt.Sprintf("--rate %s is no number of samples a second such as 500/s, from 1/s to %d/s", c.Rate, maxRate)}
	}
	return n, nil
}

func (c *replayCmd) Run(ctx context.Context, p *answer.Printer) error {
	if err := c.check(true); err != nil {
		return err
	}
	rate, err := c.rate()
	if err != nil {
		return err
	}
	cfg, err := agent.OpenConfig(c.Config, agent.Data)
	if err != nil {
		return err
	}
	r, err := agent.Replay(ctx, cfg, status.ReplayQuery{From: c.From, To: c.To, Source: c.Source, Rate: rate, DryRun: c.DryRun})
	if err != nil {
		return err
	}
	return p.Print(answer.Result{Data: r, Text: c.text(&r, rate)})
}

// text is what is sent again, in words.
func (c *replayCmd) text(r *status.Replayed, rate int) string {
	var text strings.Builder
	verb := "are sent again, behind all that waits"
	if c.DryRun {
		verb = "would be sent again"
	}
	if r.Records == 0 {
		text.WriteString("nothing is sent again: no record of the window is kept here that the hub has\n")
	} else {
		fmt.Fprintf(&text, "%d records with %d samples (%.1f MiB) that the hub has %s; it knows each by its position, and takes none twice\n", r.Records, r.Samples, float64(r.Bytes)/(1<<20), verb)
	}
	switch {
	case rate > 0 && r.Rate != rate:
		text.WriteString("the agent that runs is of before --rate: it sends as much as the hub takes\n")
	case rate > 0 && r.Records > 0:
		fmt.Fprintf(&text, "at %d samples a second that takes about %s\n", rate, time.Duration(float64(r.Samples)/float64(rate)*float64(time.Second)).Round(time.Second))
	}
	if r.Waiting > 0 {
		fmt.Fprintf(&text, "%d records more of the window wait for the hub, and go by themselves\n", r.Waiting)
	}
	if r.Earliest != "" {
		fmt.Fprintf(&text, "kept here is what was from %s on\n", r.Earliest)
	}
	if r.Missing != "" {
		fmt.Fprintf(&text, "%s\n", r.Missing)
	}
	if !r.Connected && r.Records > 0 && !c.DryRun {
		text.WriteString("the hub is not connected: it goes as soon as it is, unless the agent ends before\n")
	}
	return text.String()
}
