package main

import (
	"context"
	"fmt"
	"strings"

	"plantmesh/edge/agent"
	"plantmesh/edge/status"
	"plantmesh/proto/answer"
)

type bufferCmd struct {
	Status  bufferStatusCmd  `cmd:"" help:"How full it is, and for how long it keeps everything without the hub."`
	Peek    bufferPeekCmd    `cmd:"" help:"Look at the records that wait, at the newest, or at those of a window, decoded."`
	Verify  bufferVerifyCmd  `cmd:"" help:"Read every record and its checksum; exit 7 where something can't be read."`
	Export  bufferExportCmd  `cmd:"" help:"Write what is kept to a file: all of it or a window, as records or a line for each sample."`
	Compact bufferCompactCmd `cmd:"" help:"Give the disk back what the hub has and need not be kept."`
}

type bufferStatusCmd struct {
	Config string `required:"" type:"path" short:"c" help:"edge.yaml"`
}

func (c *bufferStatusCmd) Run(ctx context.Context, p *answer.Printer) error {
	cfg, err := agent.OpenConfig(c.Config, agent.Data)
	if err != nil {
		return err
	}
	s, err := agent.Status(ctx, cfg)
	if err != nil {
		return err
	}
	var text strings.Builder
	if err := s.Buffer.Print(&text); err != nil {
		return err
	}
	return p.Print(answer.Result{Data: s.Buffer, Text: text.String()})
}

type bufferVerifyCmd struct {
	Config string `required:"" type:"path" short:"c" help:"edge.yaml"`
}

func (c *bufferVerifyCmd) Run(ctx context.Context, p *answer.Printer) error {
	cfg, err := agent.OpenConfig(c.Config, agent.Data)
	if err != nil {
		return err
	}
	var (
		all     []status.Segment
		text    strings.Builder
		records uint64
		bad     int
	)
	err = agent.VerifyBuffer(ctx, cfg, func(s status.Segment) error {
		all, records = append(all, s), records+s.Records
		said := "ok"
		if s.Bad() {
			bad++
			said = fmt.Sprintf("%d records can't be read", s.Damaged)
			if s.Error != "" {
				said = s.Error
			}
			if s.Received {
				said += " (the hub has them)"
			}
		}
		_, err := fmt.Fprintf(&text, "%s  %d records, %d set aside before: %s\n", s.Segment, s.Records, s.SetAside, said)
		return err
	})
	if err != nil {
		return err
	}
	if bad > 0 {
		p.Say("%s", text.String())
		return fmt.Errorf("%w: %d of %d segments hold what can't be read; the agent names it as a gap where the hub has not got it", errDamaged, bad, len(all))
	}
	fmt.Fprintf(&text, "%d segments, %d records: all can be read\n", len(all), records)
	return p.Print(answer.Result{Data: map[string]any{"segments": all, "records": records}, Text: text.String()})
}

type bufferCompactCmd struct {
	Config string `required:"" type:"path" short:"c" help:"edge.yaml"`
	All    bool   `help:"Also what the hub has and buffer.keep holds back: a hub restored from an older backup can't get that again."`
}

func (c *bufferCompactCmd) Run(ctx context.Context, p *answer.Printer) error {
	cfg, err := agent.OpenConfig(c.Config, agent.Data)
	if err != nil {
		return err
	}
	done, err := agent.CompactBuffer(ctx, cfg, c.All)
	if err != nil {
		return err
	}
	text := fmt.Sprintf("%.1f MiB given back\n", float64(done.Freed)/(1<<20))
	if done.Kept > 0 {
		text += fmt.Sprintf("%.1f MiB the hub has stay for buffer.keep; --all lets them go\n", float64(done.Kept)/(1<<20))
	}
	return p.Print(answer.Result{Data: done, Text: text})
}
